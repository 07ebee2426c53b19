# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Forward noising
#
# A diffusion model learns to undo something. This notebook is about that something: a process that takes an image of a
# bedroom and, in many small steps, turns it into noise. Nothing is learned here; everything can be computed.
#
# After it you can
#
# * write the noising process down as a chain of single steps (Eq. 1, 2), and jump to any step at once (Eq. 8), with the proof;
# * read a noise schedule by its signal-to-noise ratio, and say in nats how far from pure noise it ends;
# * name the schedule mistake that makes many home-made diffusion models paint the wrong thing, and measure it.
#
# You need probability at the level of "a sum of independent normal variables is normal". The run takes about half a minute
# on two cores (profile `cpu`). Equation numbers are those of the report this course rebuilds.
#
# Every displayed equation carries a tag, and the cell below it checks the equation: symbolically with sympy, numerically in
# float64 against an independent computation, or by Monte Carlo with a tolerance of five standard errors.

# %% tags=["parameters"]
profile = None  # "smoke", "cpu", "released" or "gpu"; None: "cpu", or in Colab "released"
seed = 0
out = None

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
import torch
from IPython.display import Markdown, display
from scipy import stats

from bedgen_utils.checks import check, check_fails, check_mean, check_zero
from bedgen_utils.data import load_bedrooms, to_float, to_uint8
from bedgen_utils.diffusion import (
    GaussianDiffusion,
    cosine_beta_schedule,
    ddim_step,
    linear_beta_schedule,
)
from bedgen_utils.exact import Mixture
from bedgen_utils.report import save_figure, save_table, show_images, use_style
from bedgen_utils.run import start

run = start("01", profile, seed, out)
use_style()
rooms = load_bedrooms(run.p.source, split="train", size=run.p.size, limit=run.p.rooms)
x0 = to_float(rooms)
g = torch.Generator().manual_seed(seed)
print(
    f"{len(rooms)} rooms of {rooms.shape[-1]} x {rooms.shape[-1]} pixels, "
    f"mean {x0.mean():.3f}, standard deviation {x0.std():.3f} on the scale [-1, 1]"
)

# %% [markdown]
# ## 1. One step, and a chain of them
#
# An image is a vector $x_0$ of $D = 3 \cdot H \cdot W$ numbers in $[-1, 1]$ ($-1$ black, $1$ full intensity). Time runs
# $t = 1, \ldots, T$. Each step has a number $\beta_t \in (0, 1)$, small as a rule, and does two things: it shrinks what is
# there by $\sqrt{1 - \beta_t}$ and adds normal noise of variance $\beta_t$, independently in every coordinate:
#
# <!-- eq:2 -->
# $$q(x_t \mid x_{t-1}) := \mathcal N\!\left(\sqrt{1-\beta_t}\, x_{t-1},\; \beta_t \mathbf I\right) \tag{2}$$
#
# $\mathbf I$ is the identity matrix: the noise of one pixel says nothing about that of another. Written with a fresh standard
# normal vector $\epsilon_t$, the same step is $x_t = \sqrt{1-\beta_t}\, x_{t-1} + \sqrt{\beta_t}\, \epsilon_t$. It is
# $\sqrt{\beta_t}$ that multiplies the noise, since variances, not standard deviations, are what $\mathcal N$ names.
#
# Why shrink at all? Without the factor the variance would grow at each step. With it, a coordinate of variance 1 keeps variance 1:
#
# <!-- eq:2-variance -->
# $$\operatorname{Var}(x_{t-1}) = 1 \;\Rightarrow\; \operatorname{Var}(x_t) = (1-\beta_t)\cdot 1 + \beta_t = 1 .$$

# %%
beta = 0.3
previous = 0.8
draws = math.sqrt(1 - beta) * previous + math.sqrt(beta) * torch.randn(
    run.p.draws, generator=g, dtype=torch.float64
)
check_mean("eq:2", draws, math.sqrt(1 - beta) * previous, "mean of one noising step from x = 0.8")
check_mean("eq:2", (draws - math.sqrt(1 - beta) * previous) ** 2, beta, "its variance")
b = sp.symbols("beta", positive=True)
check_zero("eq:2-variance", (1 - b) * 1 + b - 1, "variance after a step, starting from 1")

# %% [markdown]
# The whole process draws $x_1$ from $x_0$, $x_2$ from $x_1$, and so on. What came before $x_{t-1}$ plays no part in drawing $x_t$:
# the process is a Markov chain, and the joint density is a product of single steps,
#
# <!-- eq:1 -->
# $$q(x_1, \ldots, x_T \mid x_0) := \prod_{t=1}^{T} q(x_t \mid x_{t-1}) \tag{1}$$
#
# There is a second way to the same joint density, which uses no product: the variables are jointly normal, so means and covariances fix
# everything. Unrolling Eq. 2 gives, for $s \le t$, mean $\sqrt{\bar\alpha_t}\,x_0$ and covariance
# $\sqrt{\bar\alpha_t/\bar\alpha_s}\,(1-\bar\alpha_s)$, where $\bar\alpha_t = (1-\beta_1)(1-\beta_2)\cdots(1-\beta_t)$, the product of the squared shrinking factors (section 2).
# The check compares the two at random points: logarithm of the product against the logarithm of the joint normal density.

# %%
toy = GaussianDiffusion(linear_beta_schedule(6, 0.05, 0.4))
abar = toy.abar.numpy()
covariance = np.array(
    [
        [math.sqrt(abar[max(s, t)] / abar[min(s, t)]) * (1 - abar[min(s, t)]) for s in range(1, 7)]
        for t in range(1, 7)
    ]
)
joint = stats.multivariate_normal(np.sqrt(abar[1:]) * 0.8, covariance)
paths = np.random.default_rng(seed).normal(size=(50, 6))
steps = np.concatenate([np.full((50, 1), 0.8), paths], axis=1)
product = sum(
    stats.norm.logpdf(
        steps[:, t],
        np.sqrt(1 - float(toy.betas[t])) * steps[:, t - 1],
        np.sqrt(float(toy.betas[t])),
    )
    for t in range(1, 7)
)
check(
    "eq:1",
    product,
    joint.logpdf(paths),
    1e-9,
    "log of the product of six steps, and the joint normal density",
)

# %% [markdown]
# ## 2. From $x_0$ to any $x_t$ in one jump
#
# To train on step 700 one should not have to simulate 700 steps. Define $\alpha_t := 1 - \beta_t$ and
#
# <!-- eq:8-abar -->
# $$\bar\alpha_t := \prod_{s=1}^{t} \alpha_s, \qquad \bar\alpha_0 := 1 .$$
#
# (The report lets this product start at $s = 0$, although $\beta$ is defined for $t = 1, \ldots, T$ only. We take the empty product
# $\bar\alpha_0 = 1$: no noise at time 0. The code's tables have $T+1$ entries for this reason, with $\beta_0 = 0$ at index 0.) The claim is
#
# <!-- eq:8 -->
# $$q(x_t \mid x_0) = \mathcal N\!\left(\sqrt{\bar\alpha_t}\, x_0,\; (1-\bar\alpha_t)\, \mathbf I\right) \tag{8}$$
#
# **Proof by induction.** For $t = 1$ we have $\bar\alpha_1 = \alpha_1 = 1 - \beta_1$, and Eq. 8 is Eq. 2:
#
# <!-- eq:8-step-1 -->
# $$\sqrt{\bar\alpha_1} = \sqrt{1-\beta_1}, \qquad 1 - \bar\alpha_1 = \beta_1 .$$
#
# Suppose it holds for $t-1$, so $x_{t-1} = \sqrt{\bar\alpha_{t-1}}\,x_0 + \sqrt{1-\bar\alpha_{t-1}}\,\epsilon$. Put this into Eq. 2:
#
# <!-- eq:8-step-2 -->
# $$x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{\beta_t}\,\epsilon_t
#       = \sqrt{\alpha_t \bar\alpha_{t-1}}\;x_0 \;+\; \sqrt{\alpha_t(1-\bar\alpha_{t-1})}\;\epsilon + \sqrt{\beta_t}\;\epsilon_t .$$
#
# The factor of $x_0$ is $\sqrt{\bar\alpha_t}$ by definition. The two noises are independent normal vectors, so their sum is normal, with mean
# zero, and its variance is the sum of the variances:
#
# <!-- eq:8-step-3 -->
# $$\alpha_t(1-\bar\alpha_{t-1}) + \beta_t = \alpha_t - \bar\alpha_t + 1 - \alpha_t = 1 - \bar\alpha_t . \qquad\blacksquare$$

# %%
a, abar, X, e1, e2 = sp.symbols("alpha_t abar_{t-1} x_0 epsilon epsilon_t", positive=True)
check(
    "eq:8-abar",
    toy.abar,
    [math.prod(1 - float(v) for v in toy.betas[1 : t + 1]) for t in range(7)],
    1e-15,
    "table of abar and the product written out, index 0 to 6",
)
first_step = toy.q_mean_variance(torch.ones(1, 1, dtype=torch.float64), torch.tensor([1]))
check(
    "eq:8-step-1",
    [float(v) for v in first_step],
    [math.sqrt(1 - float(toy.betas[1])), float(toy.betas[1])],
    1e-15,
    "Eq. 8 at t = 1 from x_0 = 1 by the code, and Eq. 2",
)
step = sp.sqrt(a) * (sp.sqrt(abar) * X + sp.sqrt(1 - abar) * e1) + sp.sqrt(1 - a) * e2
unrolled = sp.sqrt(a * abar) * X + sp.sqrt(a * (1 - abar)) * e1 + sp.sqrt(1 - a) * e2
check_zero("eq:8-step-2", sp.expand(step - unrolled), "Eq. 2 after the induction hypothesis")
check_zero(
    "eq:8-step-3",
    step.coeff(e2) ** 2 + sp.expand(step).coeff(e1) ** 2 - (1 - a * abar),
    "summed variances and 1 - abar_t",
)

# The claim itself, on pixels of a real room: simulate Eq. 2 step by step and compare with the jump.
pixels = x0[0].flatten()[:: max(1, x0[0].numel() // 64)][:64].double()
chain = pixels.repeat(run.p.draws // 10, 1)
for t in range(1, 7):
    chain = toy.alphas[t].sqrt() * chain + toy.betas[t].sqrt() * torch.randn(
        chain.shape, generator=g, dtype=torch.float64
    )
mean, variance = toy.q_mean_variance(pixels[None], torch.tensor([6]))
check_mean("eq:8", chain, mean[0], "mean of 64 pixels after six single steps, and of the jump")
check_mean("eq:8", (chain - mean) ** 2, variance[0], "their variance")

# %% [markdown]
# In practice Eq. 8 is used as a recipe. Draw $\epsilon \sim \mathcal N(0, \mathbf I)$ once and set
#
# <!-- eq:8-sample -->
# $$x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon ,$$
#
# which is the one line of `GaussianDiffusion.q_sample`. Figure 1 shows it on rooms of our data set. The same $\epsilon$ is used in all
# columns of a row, which makes them easy to compare. Each column alone is distributed as Eq. 8 says; the row is not a path of the chain, in which fresh
# noise enters at every step.

# %%
T = 1000
linear, cosine = (
    GaussianDiffusion(linear_beta_schedule(T)),
    GaussianDiffusion(cosine_beta_schedule(T)),
)
times = [0, 10, 25, 50, 100, 200, 350, 600, 1000]


def noised(d, x, noise, ts):
    """x_t for each t of ts from one x and one noise; t = 0 is x itself."""
    return torch.stack(
        [x if t == 0 else d.q_sample(x[None], torch.tensor([t]), noise[None])[0] for t in ts]
    )


shown = x0[torch.linspace(0, len(x0) - 1, 4).long()]
noise = torch.randn(shown.shape, generator=g)
check(
    "eq:8-sample",
    linear.q_sample(shown, torch.full((4,), 300), noise),
    float(linear.abar[300]) ** 0.5 * shown + (1 - float(linear.abar[300])) ** 0.5 * noise,
    1e-6,
    "q_sample and the formula, float32",
)

fig, axes = plt.subplots(1, 1, figsize=(9, 4.4))
strip = torch.cat(
    [to_uint8(noised(linear, x, n, times)) for x, n in zip(shown, noise, strict=True)]
)
show_images(axes, strip, columns=len(times))
size = rooms.shape[-1] + 1
for i, t in enumerate(times):
    axes.text(
        (i + 0.5) * size,
        -2,
        f"t = {t}\n$\\bar\\alpha_t$ = {float(linear.abar[t]):.3g}",
        ha="center",
        va="bottom",
        fontsize=8,
    )
save_figure(
    run,
    fig,
    "fig01_forward_noising",
    "Forward noising of four rendered rooms by Eq. 8: linear schedule, T = 1000, one noise image "
    "per row.",
    {"t": times, "abar": [float(linear.abar[t]) for t in times]},
)
plt.show()

# %% [markdown]
# ## 3. Schedules and the signal-to-noise ratio
#
# A *schedule* is the choice of $\beta_1, \ldots, \beta_T$. Two are in general use. Ho et al. (2020) let $\beta$ rise evenly,
#
# <!-- eq:linear -->
# $$\beta_t = \beta_1 + \frac{t-1}{T-1}\,(\beta_T - \beta_1), \qquad \beta_1 = 10^{-4},\; \beta_T = 0.02,\; T = 1000 ;$$
#
# Nichol & Dhariwal (2021) prescribe $\bar\alpha_t$ instead and derive $\beta_t$ from it,
#
# <!-- eq:cosine -->
# $$\bar\alpha_t = \frac{f(t)}{f(0)}, \quad f(t) = \cos^2\!\left(\frac{t/T + s}{1+s}\cdot\frac{\pi}{2}\right),\quad s = 0.008,
# \qquad \beta_t = \min\!\left(1 - \frac{f(t)}{f(t-1)},\; 0.999\right).$$
#
# The cap is needed because $f(T) = 0$ would make $\beta_T = 1$ and divide by zero later; so the first formula holds for $t < T$, and $\bar\alpha_T$ is the product with the capped $\beta_T$.
# What matters about a schedule is how much of the image is left against how much noise. Their ratio of variances, for data of variance 1, is the
# *signal-to-noise ratio*
#
# <!-- eq:snr -->
# $$\mathrm{SNR}(t) = \frac{\bar\alpha_t}{1-\bar\alpha_t} .$$
#
# It falls with every step, since $\bar\alpha_t$ falls. Its logarithm is the natural clock: $\log\mathrm{SNR} = 0$ is where image and noise are
# equally strong. Two schedules that pass through the same SNR at different $t$ show the network the same noisy images, only in other proportions.

# %%
t_all = torch.arange(1, T + 1)
check(
    "eq:linear",
    linear.betas[1:],
    [1e-4 + (t - 1) / (T - 1) * (0.02 - 1e-4) for t in range(1, T + 1)],
    1e-15,
    "linear betas",
)
f = torch.cos((torch.arange(T + 1).double() / T + 0.008) / 1.008 * math.pi / 2) ** 2
check(
    "eq:cosine",
    cosine.abar[:-1],
    (f / f[0])[:-1],
    1e-12,
    "abar of the cosine schedule up to T - 1, where the cap is not yet felt",
)
check(
    "eq:cosine",
    cosine.betas[1:],
    (1 - f[1:] / f[:-1]).clamp(max=0.999),
    1e-12,
    "its betas, the last one capped",
)
pair = x0[:2].double()
n2 = torch.randn(pair.shape, generator=g, dtype=torch.float64)
signal, unit = (
    linear.q_sample(pair, torch.tensor([500, 500]), 0 * n2),
    linear.q_sample(0 * pair, torch.tensor([500, 500]), n2),
)
check(
    "eq:snr",
    (signal**2).mean() / (unit**2).mean() / ((pair**2).mean() / (n2**2).mean()),
    linear.snr[500],
    1e-9,
    "power of the image part over that of the noise part at t = 500, both brought to power 1",
)

room_variance = float(x0.var())
half = {
    name: int((d.snr[1:] * room_variance >= 1).sum())
    for name, d in (("linear", linear), ("cosine", cosine))
}
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.1))
for name, d in (("linear", linear), ("cosine", cosine)):
    axes[0].plot(t_all, d.betas[1:], label=name)
    axes[1].plot(t_all, d.abar[1:])
    axes[2].plot(t_all, 10 * torch.log10(d.snr[1:]))
axes[0].set(xlabel="step t", ylabel=r"$\beta_t$", yscale="log")
axes[1].set(xlabel="step t", ylabel=r"$\bar\alpha_t$ (share of signal variance)")
axes[2].set(xlabel="step t", ylabel="SNR (decibel)", ylim=(-60, 45))
axes[2].axhline(0, color="black", lw=0.8, ls=":")
axes[0].legend()
save_figure(
    run,
    fig,
    "nb01_schedules",
    "Linear and cosine schedules at T = 1000: step size, signal share, signal-to-noise ratio.",
    {"variance_of_rooms": room_variance, "steps_with_more_room_than_noise": half},
)
plt.show()

fig, ax = plt.subplots(figsize=(9, 2.6))
both = torch.cat([to_uint8(noised(d, shown[0], noise[0], times)) for d in (linear, cosine)])
show_images(ax, both, columns=len(times))
for i, t in enumerate(times):
    ax.text((i + 0.5) * size, -2, f"t = {t}", ha="center", va="bottom", fontsize=8)
for row, name in enumerate(("linear", "cosine")):
    ax.text(-3, (row + 0.5) * size, name, ha="right", va="center", fontsize=9)
save_figure(
    run,
    fig,
    "nb01_schedules_by_eye",
    "One room, one noise, two schedules: the linear one is done long before T.",
)
plt.show()
display(
    Markdown(
        f"Our rooms have a variance of {room_variance:.2f}, not 1, so room and noise are equally "
        f"strong where the SNR is {1 / room_variance:.1f}. "
        f"The linear schedule keeps more room than noise for {half['linear']} of its {T} steps, "
        "the cosine schedule for "
        f"{half['cosine']}. The linear one spends its last "
        f"{T - int((linear.snr[1:] >= 0.01).sum())} steps below an SNR of 1/100, "
        "where single pixels are all but pure noise (what is still decided there, section 5 shows)."
    )
)

# %% [markdown]
# ### What goes first: the fine or the coarse?
#
# Noise has the same power at every spatial frequency; images do not. Their power falls with frequency, so as $t$ grows the fine detail
# sinks below the noise first, the large shapes last. Run backwards, this is why a diffusion model lays out a room before it paints
# the folds of the blanket. The figure measures it: the average power spectrum of our rooms, times $\bar\alpha_t$, against the flat
# noise level $(1 - \bar\alpha_t)/3$ (a third, since grey is the mean of three channels).

# %%
grey = x0.mean(1) - x0.mean((1, 2, 3))[:, None, None]
power = (torch.fft.fft2(grey.double(), norm="ortho").abs() ** 2).mean(0)
freq = torch.fft.fftfreq(grey.shape[-1]).double() * grey.shape[-1]
radius = (freq[:, None] ** 2 + freq[None] ** 2).sqrt().round().long()
k = torch.arange(1, grey.shape[-1] // 2 + 1)
spectrum = torch.stack([power[radius == i].mean() for i in k])
fig, ax = plt.subplots(figsize=(6, 3.4))
ax.loglog(k, spectrum, color="black", label="rooms ($t=0$)")
drowned = {}
for t, colour in zip(
    (50, 200, 400, 700), plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False
):
    abar_t = float(linear.abar[t])
    ax.loglog(k, abar_t * spectrum, color=colour, label=f"signal at $t={t}$")
    ax.axhline((1 - abar_t) / 3, color=colour, ls=":")
    drowned[t] = next(
        (int(i) for i, s in zip(k, spectrum, strict=True) if abar_t * s < (1 - abar_t) / 3), None
    )
ax.set(
    xlabel="spatial frequency (cycles per image width)",
    ylabel="power per coefficient",
    ylim=(1e-4, 30),
)
ax.legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb01_spectrum",
    "Power spectrum of the rooms' grey values under the linear schedule; dotted, the noise level "
    "of the "
    "same colour (a third of 1 - abar, as grey is the mean of three channels).",
    {"first_drowned_frequency": drowned},
)
plt.show()
display(
    Markdown(
        "First frequency (cycles per image width) below the noise: "
        + ", ".join(f"{v if v else 'none'} at t = {t}" for t, v in drowned.items())
        + "."
    )
)

# %% [markdown]
# ## 4. How far from pure noise does it end?
#
# Sampling will start from $p(x_T) = \mathcal N(0, \mathbf I)$, a draw that knows nothing of any image. That is right if
# the distribution $q(x_T)$ of noised rooms is close to it, and it certainly is if $q(x_T \mid x_0)$ is close to it whatever $x_0$ was (the divergence of an
# average is at most the average divergence). The distance is measured by the Kullback-Leibler divergence $D_{KL}(q\,\|\,p)=\mathbb E_q[\log q-\log p]$,
# which is zero only if $q=p$; with natural logarithms its unit is the *nat*. (Notebook 02 derives it for normal distributions, and a bound on
# $-\log p_\theta(x_0)$ of which this is a term, $L_T$.) With $x_{0,i}$ the coordinates of $x_0$ and $D$ their number,
#
# <!-- eq:7-closed -->
# $$\frac{L_T}{D} = \frac1D\, D_{KL}\big(q(x_T\mid x_0)\,\|\,\mathcal N(0,\mathbf I)\big)
# = \frac12\left(\bar\alpha_T \frac1D\sum_i x_{0,i}^2 - \bar\alpha_T - \log(1-\bar\alpha_T)\right)\ \text{nats per dimension.}$$
#
# For small $\bar\alpha_T$ the logarithm is $-\bar\alpha_T - \bar\alpha_T^2/2 - \ldots$, so $L_T/D \approx \tfrac12\bar\alpha_T \overline{x_0^2}$ with
# $\overline{x_0^2}=\frac1D\sum_i x_{0,i}^2$:
#
# <!-- eq:7-small -->
# $$\lim_{\bar\alpha_T \to 0} \frac{L_T/D}{\bar\alpha_T} = \tfrac12\, \overline{x_0^2} .$$

# %%
A, S = sp.symbols("A S", positive=True)
L_T = (A * S - A - sp.log(1 - A)) / 2
check_zero("eq:7-small", sp.limit(L_T / A, A, 0) - S / 2, "limit of L_T / abar_T")
short = GaussianDiffusion(linear_beta_schedule(200))
abar_T, value = float(short.abar[-1]), 0.6
grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
log_q = stats.norm.logpdf(grid, abar_T**0.5 * value, (1 - abar_T) ** 0.5)
by_quadrature = np.trapezoid(np.exp(log_q) * (log_q - stats.norm.logpdf(grid)), grid)
check(
    "eq:7-closed",
    short.prior_kl(torch.tensor([[value]], dtype=torch.float64)),
    by_quadrature,
    1e-10,
    "L_T of one pixel of value 0.6 at T = 200 by the code, and by quadrature of q log(q/p)",
)
check(
    "eq:7-closed",
    short.prior_kl(x0[:8]),
    0.5 * (abar_T * (x0[:8].double() ** 2).mean((1, 2, 3)) - abar_T - math.log(1 - abar_T)),
    1e-10,
    "the same for eight rooms, code and formula",
)

# %%
second_moment = float((x0.double() ** 2).mean())
Ts = [10, 20, 50, 100, 200, 300, 500, 1000, 2000]
families = {
    "linear, betas as for T = 1000": linear_beta_schedule,
    "linear, betas times 1000/T": lambda T: linear_beta_schedule(T, scaled=True),
    "cosine": cosine_beta_schedule,
}
curves = {
    name: [float(GaussianDiffusion(make(T)).prior_kl(x0[:100]).mean()) for T in Ts]
    for name, make in families.items()
}
fig, ax = plt.subplots(figsize=(6.4, 3.6))
for (name, values), marker in zip(curves.items(), "osD", strict=True):
    ax.loglog(Ts, values, marker=marker, ms=4, label=name)
ax.set(xlabel="number of steps T", ylabel="$L_T$ (nats per dimension)")
ax.legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb01_prior_kl",
    "Distance of q(x_T | x_0) from N(0, I), mean over 100 rooms, against the number of steps.",
    {"T": Ts, **curves},
)
plt.show()
D = x0[0].numel()
rows = [
    {
        "T": T,
        "schedule": "linear, unscaled",
        "abar_T": float(GaussianDiffusion(linear_beta_schedule(T)).abar[-1]),
        "signal left, sqrt(abar_T)": float(GaussianDiffusion(linear_beta_schedule(T)).abar[-1])
        ** 0.5,
        "L_T nats/dim": v,
        "L_T nats/room": v * D,
    }
    for T, v in zip(Ts, curves["linear, betas as for T = 1000"], strict=True)
    if T in (50, 200, 300, 1000)
]
save_table(
    run,
    rows,
    "nb01_short_T",
    "What the linear schedule leaves of the image when T is shortened but beta is not rescaled.",
)

# %% [markdown]
# ## 5. The short-T trap
#
# Many tutorials shorten the chain to $T = 200$ or $300$ to save time and keep $\beta$ from $10^{-4}$ to $0.02$. The table above shows the result: at
# $T = 200$ more than a third of the image's amplitude is still there at the end. Nothing fails visibly in training. But sampling then starts
# from $\mathcal N(0, \mathbf I)$, a distribution that the network never saw at step $T$.
#
# How wrong do the samples get? Look at one coordinate: the overall brightness of a room, in units in which its noise is standard normal. If $x_0$ has $D$
# numbers, that coordinate is the projection of $x_0$ on the constant vector of length one,
#
# <!-- eq:brightness -->
# $$b_0 = \frac{1}{\sqrt D}\sum_i x_{0,i}, \qquad b_t = \sqrt{\bar\alpha_t}\,b_0 + \sqrt{1-\bar\alpha_t}\;\epsilon_b, \quad \epsilon_b\sim\mathcal N(0,1) .$$
#
# All $D$ numbers add up in it. If they were independent, its SNR would be that of one number; if they all moved together, $D$ times as much. The cell prints where
# rooms stand. A coordinate with so high a ratio is among the last things that noise destroys, so a short chain shows its error there. Taking $b_0$ as normal with the mean and spread measured on our
# rooms, the best possible denoiser is known in closed form (notebook 02, section 5). We sample with that perfect denoiser and DDIM, a sampler that adds no noise
# (notebook 02, section 9), so no network is to blame; what the sampler's finite steps contribute can be read off the schedules that end in noise. The distance to the true
# distribution is that of Kolmogorov and Smirnov, the largest gap between two cumulative distributions.

# %%
b0 = x0.double().flatten(1).sum(1) / D**0.5
fresh = torch.randn(2000, *x0.shape[1:], generator=g).double()
unit = fresh.flatten(1).sum(1) / D**0.5
check_mean("eq:brightness", unit**2, 1.0, "variance of the noise in this coordinate")
b_t = linear.q_sample(x0[:8].double(), torch.full((8,), 300), fresh[:8]).flatten(1).sum(1) / D**0.5
abar_t = float(linear.abar[300])
check(
    "eq:brightness",
    b_t,
    abar_t**0.5 * b0[:8] + (1 - abar_t) ** 0.5 * unit[:8],
    1e-9,
    "brightness of eight noised rooms, and the formula",
)
print(
    f"SNR of the brightness: {float(b0.var() / x0.double().var(0).mean()):.0f} times that of one "
    f"number of the image (D = {D})"
)
world = Mixture((1.0,), (float(b0.mean()),), (float(b0.std()),))
n = run.p.toy_samples
level = stats.kstwo.isf(1e-3, n)


def brightness(T, make):
    """n samples of b_0 by DDIM with the exact denoiser, and their KS distance to the true world."""
    d = GaussianDiffusion(make(T))
    begin = torch.randn(n, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    times = d.timesteps(min(T, 200))
    sample = d.sample(world.denoiser(d), begin, ddim_step, times, clip=False).flatten()
    return sample, float(
        stats.kstest(sample.numpy(), lambda v: world.cdf(torch.tensor(v)).numpy()).statistic
    )


short_Ts = [50, 200, 300, 1000]
unscaled, scaled = "linear, betas as for T = 1000", "linear, betas times 1000/T"
samples = {
    (name, T): brightness(T, families[name]) for name in (unscaled, scaled) for T in short_Ts
}
distance = {name: [samples[name, T][1] for T in short_Ts] for name in (unscaled, scaled)}
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.3))
for (name, values), marker in zip(distance.items(), "os", strict=True):
    axes[0].plot(short_Ts, values, marker=marker, label=name)
axes[0].axhline(
    level, color="black", ls=":", lw=1, label=f"1 in 1000 exact runs lies above ({n} samples)"
)
axes[0].set(
    xscale="log", xlabel="number of steps T", ylabel="KS distance to the data", ylim=(0, None)
)
axes[0].set_xticks(short_Ts, short_Ts)
axes[0].legend(fontsize=7)
centre, spread = world.means[0], world.stds[0]
line = torch.linspace(centre - 4.5 * spread, centre + 4.5 * spread, 300, dtype=torch.float64)
for name in (unscaled, scaled):
    axes[1].hist(
        samples[name, 200][0] / D**0.5,
        bins=np.linspace(line[0], line[-1], 50) / D**0.5,
        density=True,
        histtype="step",
        lw=1.5,
        label=f"T = 200, {name}",
    )
axes[1].plot(line / D**0.5, world.log_prob(line).exp() * D**0.5, color="black", lw=1, label="data")
axes[1].set(
    xlabel="mean value of an image, scale [-1, 1]",
    ylabel="density",
    ylim=(0, 1.35 * axes[1].get_ylim()[1]),
)
axes[1].legend(fontsize=7)
spreads = {name: float(samples[name, 200][0].std()) / D**0.5 for name in (unscaled, scaled)}
save_figure(
    run,
    fig,
    "nb01_short_T_trap",
    "Brightness of samples by a perfect denoiser under shortened linear schedules: with unscaled "
    "betas "
    "nearly all images come out equally bright.",
    {
        "T": short_Ts,
        **distance,
        "ks_level_1e-3": level,
        "spread_T200": spreads,
        "spread_data": spread / D**0.5,
    },
)
plt.show()
display(
    Markdown(
        "At T = 200 the perfect denoiser makes images whose mean values spread by "
        f"{spreads[unscaled]:.3f} under unscaled betas and "
        f"{spreads[scaled]:.3f} under scaled ones; our rooms spread by {spread / D**0.5:.3f}."
    )
)
check_fails(
    "errata 6",
    lambda: check(
        "errata 6", distance[unscaled][1], 0, 2 * level, "KS distance at T = 200, betas unscaled"
    ),
    "T = 200 with betas made for T = 1000",
)
check(
    "right",
    distance[unscaled][3],
    0,
    2 * level,
    "KS distance at T = 1000, the T these betas were made for",
)

# %% [markdown]
# ## 6. Try it
#
# Move the sliders (with a live kernel). The image is Eq. 8 and nothing else.

# %%
import io

import ipywidgets as widgets
from PIL import Image

image = widgets.Image(format="png", width=256)
words = widgets.Label()
slider = widgets.IntSlider(value=200, min=1, max=T, description="t")
which = widgets.Dropdown(options={"linear": linear, "cosine": cosine}, description="schedule")
room = widgets.IntSlider(value=0, min=0, max=len(shown) - 1, description="room")


def update(_=None):
    x = to_uint8(noised(which.value, shown[room.value], noise[room.value], [slider.value]))[0]
    buffer = io.BytesIO()
    Image.fromarray(x.permute(1, 2, 0).numpy()).resize((256, 256), Image.Resampling.NEAREST).save(
        buffer, "png"
    )
    image.value = buffer.getvalue()
    abar_t = float(which.value.abar[slider.value])
    decibel = 10 * math.log10(abar_t / (1 - abar_t))
    words.value = f"signal {abar_t**0.5:.3f}, noise {(1 - abar_t) ** 0.5:.3f}, SNR {decibel:.1f} dB"


for control in (slider, which, room):
    control.observe(update, "value")
update()
display(widgets.VBox([slider, which, room, image, words]))

# %% [markdown]
# ## 7. Errors one meets in the wild
#
# Each of these runs without complaint. The check that passes for the right formula is applied to the wrong one, and must fail.

# %%
m = run.p.draws
one = torch.full((m, 1), 0.8, dtype=torch.float64)
t6, eps = torch.full((m,), 6), torch.randn(m, 1, generator=g, dtype=torch.float64)
true_mean, true_var = 0.8 * float(toy.abar[6]) ** 0.5, 1 - float(toy.abar[6])


def like_eq_8(x, tag, how):
    check_mean(tag, x.flatten(), true_mean, f"{how}: mean at t = 6")
    check_mean(tag, (x.flatten() - true_mean) ** 2, true_var, f"{how}: variance at t = 6")


like_eq_8(toy.q_sample(one, t6, eps), "right", "q_sample")
abar6 = float(toy.abar[6])
check_fails(
    "errata 10",
    lambda: like_eq_8(
        abar6**0.5 * one + (1 - abar6) * eps, "errata 10", "noise times the variance"
    ),
    "noise scaled by 1 - abar, not by its square root",
)
x5 = toy.q_sample(one, t6 - 1, torch.randn(m, 1, generator=g, dtype=torch.float64))
like_eq_8(toy.alphas[6].sqrt() * x5 + toy.betas[6].sqrt() * eps, "right", "a single step from x_5")
check_fails(
    "errata 10",
    lambda: like_eq_8(
        abar6**0.5 * x5 + (1 - abar6) ** 0.5 * eps, "errata 10", "step from x_5 with abar"
    ),
    "a single step q(x_t | x_{t-1}) written with abar",
)
check_fails(
    "errata 9",
    lambda: like_eq_8(toy.q_sample(one, t6 - 1, eps), "errata 9", "t shifted by one"),
    "off by one between two conventions of t",
)
check_fails(
    "errata 11",
    lambda: like_eq_8(
        toy.q_sample(one, t6, torch.rand(m, 1, generator=g, dtype=torch.float64)),
        "errata 11",
        "torch.rand",
    ),
    "uniform instead of normal noise",
)
darkest = float(rooms[:8].min())
check(
    "right",
    float(to_uint8(x0[:8]).min()),
    darkest,
    0,
    "darkest level of eight rooms after [-1, 1] and back",
)
check_fails(
    "errata 12",
    lambda: check(
        "errata 12", float(to_uint8(rooms[:8] / 255).min()), darkest, 0, "the same through [0, 1]"
    ),
    "data scaled to [0, 1] where [-1, 1] is assumed: black becomes grey",
)

# %% [markdown]
# ## Summary
#
# * One step shrinks and adds noise (Eq. 2); the chain is a product of steps (Eq. 1); any $x_t$ can be drawn in one jump (Eq. 8), because independent
#   normal variables add up to a normal variable and the variances telescope to $1 - \bar\alpha_t$.
# * A schedule is best read by its signal-to-noise ratio. The linear one has single pixels drowned long before its end, the cosine one spreads the work.
# * $L_T$ says how far the end is from pure noise. It depends on no network. Where it is large, as for rooms at $T = 200$ with unscaled betas, even a
#   perfect denoiser started from $\mathcal N(0,\mathbf I)$ gives wrong samples.
#
# ## Questions
#
# 1. Show that the order of the steps does not matter for $q(x_T\mid x_0)$: any permutation of the $\beta_t$ gives the same. What does it change?
# 2. Our rooms have a standard deviation well below 1. How does that move the time at which image and noise are equally strong, and what would you change?
# 3. Find $\beta$ constant in $t$ with $\bar\alpha_{1000} = 4\cdot10^{-5}$. Plot its SNR. Why might it train worse than the linear schedule?
# 4. At 256 x 256 pixels neighbouring pixels say almost the same. Average 8 x 8 of them: what is the SNR of the average, and what does this mean for
#    using one schedule at all resolutions?
