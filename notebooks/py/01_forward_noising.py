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
# A diffusion model learns to undo something. This notebook is about that something: a process that takes an image of a bedroom and turns it into noise, in many small steps.
# Nothing is learned here, everything can be computed, and the whole course stands on it.
#
# **After it you can**
#
# * write the noising process as a chain of steps, and jump to any step at once, with the proof;
# * read a noise schedule by its signal-to-noise ratio;
# * say how far from pure noise a chain ends, and recognise the schedule that ends too early.
#
# **You need** densities and covariances, the rule that a sum of independent normal variables is normal, and a little PyTorch. **It takes** an hour and a half, the five exercises included, and half a minute to run.
#
# **The report.** This course rebuilds a student report on generating bedrooms. Its diffusion model ran out of computing time after three epochs; its GAN reached a Fréchet distance (FID, the usual distance between generated and real images; notebook 06) of 74 on about 1,000 images. We call it *the report*,
# keep the numbers of its equations, (1) to (15), and test its claims one by one; [notebook 08](08_report.ipynb) draws the balance. Equations of our own are numbered by chapter, as (1.1).
#
# **The checks.** Under each equation stands a cell that checks it: symbolically, by an independent computation, or by Monte Carlo with a tolerance of five standard errors. It prints one line. Lines marked `[claim]` check sentences. Numbers in the text are those of profile `cpu`, at 32 pixels; in Colab (`released`, 64 pixels) some differ. In the code `run.p` holds the numbers of the chosen profile: image size, number of draws. It is no probability.
#
# **Stuck in an exercise?** `exercises.hint("01-1")` prints a first step. Solutions stand in `notebooks/solutions/01_forward_noising.ipynb`.
#
# Next: [02 · Posterior and bound](02_posterior_and_bound.ipynb).

# %% tags=["parameters"]
profile = None  # "smoke", "cpu", "released", "gpu" or "lsun"; None: "cpu", or in Colab "released"
seed = 0
out = None

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
import torch
from IPython.display import display
from scipy import stats

from bedgen_utils import exercises
from bedgen_utils.checks import check, check_fails, check_mean, check_zero, claim
from bedgen_utils.data import load_bedrooms, to_float, to_uint8
from bedgen_utils.diffusion import GaussianDiffusion
from bedgen_utils.models import load
from bedgen_utils.report import save_figure, save_table, show_images, use_style
from bedgen_utils.run import start

run = start("01", profile, seed, out)
use_style()
g = torch.Generator().manual_seed(seed)

# %% [markdown]
# ## 1. Where this leads
#
# Before any theory, the result. The repository brings a diffusion model that was trained on rooms of 64 x 64 pixels. It starts from images of pure noise and removes noise twenty times. The next cell lets it make eight rooms
# that no one has ever rendered.

# %%
model = load("ddpm")
made = model.sample(run.p.shown, seed=seed)
fig, ax = plt.subplots(figsize=(9, 2.5))
show_images(ax, made, columns=8, title="made from noise by a diffusion model")
plt.show()
claim(run.profile, "its network saw over a million images", model.recipe.images > 1_000_000)

# %% [markdown]
# How can a network turn noise into a room? By having seen, over a million times, how a room turns into noise. That direction is ours to define, and it is the subject of this notebook.
#
# Our images are rendered rooms. As bytes their levels run from 0 to 255. The model sees them as numbers in $[-1, 1]$: level $k$ becomes $k/127.5 - 1$.

# %%
rooms = load_bedrooms(run.p.source, split="train", size=run.p.size, limit=run.p.rooms)
x0 = to_float(rooms)
print(
    f"{len(x0)} rooms of shape {tuple(x0.shape[1:])}: from {x0.min():.2f} to {x0.max():.2f}, "
    f"mean {x0.mean():.3f}, variance {x0.var():.3f}"
)

# %% [markdown]
# ## 2. One step, and a chain of them
#
# An image is a vector $x_0$ of $D = 3 \cdot H \cdot W$ numbers. Time runs $t = 1, \ldots, T$. Each step has a number $\beta_t \in (0, 1)$, small as a rule. The step shrinks what is there by $\sqrt{1 - \beta_t}$ and adds normal noise of
# variance $\beta_t$, independently in every number:
#
# <!-- eq:2 -->
# $$q(x_t \mid x_{t-1}) := \mathcal N\!\left(\sqrt{1-\beta_t}\, x_{t-1},\; \beta_t \mathbf I\right) \tag{2}$$
#
# Here $\mathcal N(m, V)$ is the normal distribution with mean $m$ and covariance $V$, and $\mathbf I$ the identity matrix: the noise of one number says nothing about that of another. In code, with $\epsilon_t$ a fresh draw from
# $\mathcal N(0, \mathbf I)$:


# %%
def noising_step(x, beta, noise):
    """x_t from x_{t-1}, Eq. 2."""
    return math.sqrt(1 - beta) * x + math.sqrt(beta) * noise


# %% [markdown]
# The noise is multiplied by $\sqrt{\beta_t}$, not by $\beta_t$: what stands in $\mathcal N$ is a variance, and a factor enters a variance squared. And why shrink at all? Without the factor the variance would grow with each step. With it, variance 1 stays 1, and any other comes closer to 1:
#
# <!-- eq:1.1 -->
# $$\operatorname{Var}(x_{t-1}) = 1 \;\Rightarrow\; \operatorname{Var}(x_t) = (1-\beta_t)\cdot 1 + \beta_t = 1 \tag{1.1}$$

# %%
noise = torch.randn(run.p.draws, generator=g, dtype=torch.float64)
from_point = noising_step(0.8, 0.3, noise)  # from x = 0.8, with beta = 0.3
mean = math.sqrt(0.7) * 0.8
check_mean(
    "eq:2",
    torch.stack([from_point, (from_point - mean) ** 2], 1),
    [mean, 0.3],
    "mean and variance of one step from x = 0.8",
)
unit = torch.randn(run.p.draws, generator=g, dtype=torch.float64)  # of variance 1
check_mean(
    "eq:1.1", noising_step(unit, 0.3, noise) ** 2, 1.0, "variance after a step from variance 1"
)

# %% [markdown]
# The whole process draws $x_1$ from $x_0$, then $x_2$ from $x_1$, and so on. To draw $x_t$ one needs $x_{t-1}$ and nothing older: the process is a *Markov chain*. So the joint density is a product of steps,
#
# <!-- eq:1 -->
# $$q(x_1, \ldots, x_T \mid x_0) := \prod_{t=1}^{T} q(x_t \mid x_{t-1}) \tag{1}$$

# %% tags=["hide-input"]
margins = {"left": 0.005, "right": 0.995, "bottom": 0.02, "top": 0.84, "wspace": 0.3}
fig, axes = plt.subplots(1, 5, figsize=(9.5, 1.9), gridspec_kw=margins)
x, chain = x0[0], {}
for t in range(1, 201):
    x = noising_step(x, 0.05, torch.randn(x.shape, generator=g))
    chain[t] = x
labels = {0: "$x_0$", 1: "$x_1$", 8: "$x_{t-1}$", 9: "$x_t$", 200: "$x_T$"}
for ax, (t, label) in zip(axes, labels.items(), strict=True):
    show_images(ax, to_uint8(x0[:1] if t == 0 else chain[t][None]), columns=1)
    ax.set_title(label, fontsize=13)
for left, right, known in zip(axes, axes[1:], (True, False, True, False), strict=False):
    a, b = left.get_position(), right.get_position()
    middle = (a.x1 + b.x0) / 2
    fig.text(middle, 0.6, "$q$\n→" if known else "…", ha="center", va="center", fontsize=15)
    fig.text(
        middle,
        0.26,
        "←\n$p_\\theta$" if known else "…",
        ha="center",
        va="center",
        fontsize=15,
        color="#D55E00",
    )
fig.set_layout_engine("none")
save_figure(
    run,
    fig,
    "nb01_chain",
    "A chain of T = 200 steps with beta = 0.05 each; shown are steps 0, 1, 8, 9 and 200. Values "
    "outside [-1, 1] are cut off. q adds noise (black). p_theta is the way back, which a network "
    "with weights theta will learn in notebooks 02 and 03 (orange).",
)

# %% [markdown] tags=["exercise"]
# **Exercise 01-1** · easy · 5 minutes
#
# Two steps with $\beta_1$ and $\beta_2$ do what one larger step would do. Which $\beta$ does that one step have?


# %% tags=["exercise"]
def one_step_for_two(beta_1, beta_2): ...  # your line


exercises.check("01-1", one_step_for_two)


# %% tags=["solution"]
def one_step_for_two(beta_1, beta_2):
    # What is left of the image is sqrt((1 - beta_1)(1 - beta_2)), and that is sqrt(1 - beta).
    return 1 - (1 - beta_1) * (1 - beta_2)


exercises.check("01-1", one_step_for_two)

# %% [markdown]
# ## 3. From $x_0$ to any $x_t$ in one jump
#
# To train on step 700 one should not have to simulate 700 steps. Define $\alpha_t := 1 - \beta_t$ and the product
#
# <!-- eq:1.2 -->
# $$\bar\alpha_t := \prod_{s=1}^{t} \alpha_s, \qquad \bar\alpha_0 := 1 \tag{1.2}$$
#
# **Erratum.** The report lets the product begin at $s = 0$ (a notation it shares with Dhariwal & Nichol 2021), though $\beta_t$ is defined for $t = 1, \ldots, T$ alone. An empty product is 1: at time 0 there is no noise. Our tables have $T + 1$ entries, so that index and formula agree.
#
# **The claim.** One draw takes the place of $t$ steps:
#
# <!-- eq:8 -->
# $$q(x_t \mid x_0) = \mathcal N\!\left(\sqrt{\bar\alpha_t}\, x_0,\; (1-\bar\alpha_t)\, \mathbf I\right) \tag{8}$$
#
# **Proof by induction.** For $t = 1$, Eq. 8 is Eq. 2, since
#
# <!-- eq:1.3 -->
# $$\sqrt{\bar\alpha_1} = \sqrt{1-\beta_1}, \qquad 1 - \bar\alpha_1 = \beta_1 \tag{1.3}$$
#
# Suppose it holds for $t-1$: then $x_{t-1} = \sqrt{\bar\alpha_{t-1}}\,x_0 + \sqrt{1-\bar\alpha_{t-1}}\,\epsilon$. Put this into Eq. 2:
#
# <!-- eq:1.4 -->
# $$x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{\beta_t}\,\epsilon_t
#       = \sqrt{\alpha_t \bar\alpha_{t-1}}\;x_0 \;+\; \sqrt{\alpha_t(1-\bar\alpha_{t-1})}\;\epsilon + \sqrt{\beta_t}\;\epsilon_t \tag{1.4}$$
#
# The factor of $x_0$ is $\sqrt{\bar\alpha_t}$ by definition. The two noises are independent and normal, so their sum is normal with mean zero, and its variance is the sum of the variances:
#
# <!-- eq:1.5 -->
# $$\alpha_t(1-\bar\alpha_{t-1}) + \beta_t = \alpha_t - \bar\alpha_t + 1 - \alpha_t = 1 - \bar\alpha_t \qquad\blacksquare \tag{1.5}$$

# %%
betas = [0.05, 0.12, 0.19, 0.26, 0.33, 0.40]  # a chain of six steps
toy = GaussianDiffusion(torch.tensor([0.0, *betas], dtype=torch.float64))  # the package's tables
check(
    "eq:1.2",
    toy.abar,
    [math.prod(1 - b for b in betas[:t]) for t in range(7)],
    1e-15,
    "the package's table and the product written out, t = 0 to 6",
)
one = torch.ones(1, 1, dtype=torch.float64)
first = torch.cat(toy.q_mean_variance(one, torch.tensor([1])))
check(
    "eq:1.3",
    first.flatten(),
    [math.sqrt(1 - betas[0]), betas[0]],
    1e-15,
    "Eq. 8 at t = 1 by the package, and Eq. 2",
)
a, A, X, e, e_t = sp.symbols("alpha_t abar_{t-1} x_0 epsilon epsilon_t", positive=True)
step = sp.sqrt(a) * (sp.sqrt(A) * X + sp.sqrt(1 - A) * e) + sp.sqrt(1 - a) * e_t
unrolled = sp.sqrt(a * A) * X + sp.sqrt(a * (1 - A)) * e + sp.sqrt(1 - a) * e_t
check_zero("eq:1.4", sp.expand(step - unrolled), "Eq. 2 after the assumption")
variance = sp.expand(step).coeff(e) ** 2 + step.coeff(e_t) ** 2
check_zero("eq:1.5", variance - (1 - a * A), "summed variances and 1 - abar_t")

# %% [markdown]
# The claim can be tried on pixels of a real room: six single steps, drawn many times, against the one jump. Means and variances must agree, and the noise of a pixel must be uncorrelated with that of the next one on the list, as the $\mathbf I$ of Eq. 8 says.

# %%
pixels = x0[0].flatten()[:: max(1, x0[0].numel() // 64)][:64].double()
x = pixels.repeat(run.p.draws // 10, 1)
for beta in betas:
    x = noising_step(x, beta, torch.randn(x.shape, generator=g, dtype=torch.float64))
abar = toy.abar
mean = abar[6].sqrt() * pixels
rest = x - mean  # the noise
check_mean(
    "eq:8",
    torch.cat([x, rest**2, rest[:, 1:] * rest[:, :-1]], 1),
    torch.cat([mean, (1 - abar[6]).expand(64), torch.zeros(63)]),
    "means, variances and covariances of 64 pixels after six steps, and of the jump",
)

# %% [markdown]
# The same proof, begun at $x_s$ instead of $x_0$, gives $x_t = \sqrt{\bar\alpha_t/\bar\alpha_s}\;x_s + \text{fresh noise}$ for $s \le t$. So, for a given $x_0$, the covariance of $x_s$ and $x_t$ is $\sqrt{\bar\alpha_t/\bar\alpha_s}$ times the variance of $x_s$, which is
# $1-\bar\alpha_s$. With it Eq. 1 can be checked without a product: the variables $x_1,\dots,x_T$ are jointly normal, so their means and covariances say all.

# %% tags=["hide-input"]
covariance = [
    [(abar[max(s, t)] / abar[min(s, t)]).sqrt() * (1 - abar[min(s, t)]) for s in range(1, 7)]
    for t in range(1, 7)
]
joint = stats.multivariate_normal(abar[1:].sqrt() * 0.8, covariance)
paths = np.random.default_rng(seed).normal(size=(50, 6))  # any points will do
before = np.column_stack([np.full(50, 0.8), paths[:, :-1]])
steps = stats.norm.logpdf(paths, np.sqrt(1 - np.array(betas)) * before, np.sqrt(betas))
check(
    "eq:1",
    steps.sum(1),
    joint.logpdf(paths),
    1e-9,
    "log of the product of six steps, and of the joint normal density",
)

# %% [markdown]
# In practice Eq. 8 is a recipe. Draw $\epsilon \sim \mathcal N(0, \mathbf I)$ once and set
#
# <!-- eq:1.6 -->
# $$x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon \tag{1.6}$$
#
# This is the most used line of the course. Each training step draws a $t$ and an $\epsilon$, makes $x_t$ by it, and asks the network for $\epsilon$ or an equivalent.


# %%
def q_sample(x0, abar_t, noise):
    """x_t in one jump, Eq. 1.6; abar_t is a number."""
    return math.sqrt(abar_t) * x0 + math.sqrt(1 - abar_t) * noise


noise = torch.randn(x0[:4].shape, generator=g)
check(
    "eq:1.6",
    q_sample(x0[:4], float(toy.abar[3]), noise),
    toy.q_sample(x0[:4], torch.tensor([3, 3, 3, 3]), noise),
    1e-6,
    "our line and the package's q_sample, float32",
)

# %% [markdown] tags=["exercise"]
# **Exercise 01-2** · medium · 10 minutes
#
# Write the table of $\bar\alpha_t$ for $t = 0, \ldots, T$. You are given $\beta_1, \ldots, \beta_T$ as a tensor of $T$ numbers.


# %% tags=["exercise"]
def abar_table(betas): ...  # a tensor of T + 1 numbers


exercises.check("01-2", abar_table)


# %% tags=["solution"]
def abar_table(betas):
    return torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)])


exercises.check("01-2", abar_table)

# %% [markdown]
# ## 4. Schedules, and the signal-to-noise ratio
#
# A *schedule* is the choice of $\beta_1, \ldots, \beta_T$. Two are classics. [Ho et al. (2020)](https://arxiv.org/abs/2006.11239) let $\beta_t$ rise evenly,
#
# <!-- eq:1.7 -->
# $$\beta_t = \beta_1 + \frac{t-1}{T-1}\,(\beta_T - \beta_1), \qquad \beta_1 = 10^{-4},\; \beta_T = 0.02,\; T = 1000 \tag{1.7}$$
#
# [Nichol & Dhariwal (2021)](https://arxiv.org/abs/2102.09672) prescribe $\bar\alpha_t$ instead and get $\beta_t$ from it,
#
# <!-- eq:1.8 -->
# $$\bar\alpha_t = \frac{f(t)}{f(0)}, \quad f(t) = \cos^2\!\left(\frac{t/T + s}{1+s}\cdot\frac{\pi}{2}\right),\quad s = 0.008,
# \qquad \beta_t = \min\!\left(1 - \frac{f(t)}{f(t-1)},\; 0.999\right) \tag{1.8}$$
#
# Since $f(T) = 0$, the last step would have $\beta_T = 1$, and later formulas would divide by zero. The cap prevents it: $\bar\alpha_T$ is then $0.001\,\bar\alpha_{T-1}$, and the first formula holds for $t < T$.


# %%
def linear_schedule(T, first=1e-4, last=0.02):
    """beta_0 = 0, then beta_1 ... beta_T, Eq. 1.7."""
    return torch.cat([torch.zeros(1), torch.linspace(first, last, T, dtype=torch.float64)])


def cosine_schedule(T, s=0.008):
    """beta_0 = 0, then beta_1 ... beta_T, Eq. 1.8."""
    f = torch.cos((torch.arange(T + 1).double() / T + s) / (1 + s) * math.pi / 2) ** 2
    return torch.cat([torch.zeros(1), (1 - f[1:] / f[:-1]).clamp(max=0.999)])


# %% [markdown]
# The package has both (`linear_beta_schedule`, `cosine_beta_schedule`); from here on its versions are used. Two checks do not share our code: $\sqrt{\bar\alpha_T}$ by Table 1 of Lin et al. (2023), for both schedules, and $2\cos^2 a = 1 + \cos 2a$ for the cosine one.

# %%
from bedgen_utils.diffusion import cosine_beta_schedule, linear_beta_schedule

T = 1000
linear = GaussianDiffusion(linear_beta_schedule(T))
cosine = GaussianDiffusion(cosine_beta_schedule(T))
check("eq:1.7", linear.betas, linear_schedule(T), 1e-15, "ours and the package's")
check("eq:1.8", cosine.betas, cosine_schedule(T), 1e-12, "ours and the package's")
left = linear.abar[-1].sqrt() * 1e3
check("eq:1.7", left, 6.353, 5e-4, "sqrt(abar_T) times 1,000, and Table 1 of Lin et al.")
angle = (torch.arange(T + 1).double() / T + 0.008) / 1.008 * math.pi  # twice that of Eq. 1.8
known = (1 + angle.cos()) / (1 + angle[0].cos())
known[-1] = known[-2] / 1000  # the cap
check("eq:1.8", cosine.abar / known, 1, 1e-9, "the table's abar over the formula's, t = 0 to T")
left = cosine.abar[-1].sqrt() * 1e5
check("eq:1.8", left, 4.92822, 1e-4, "sqrt(abar_T) times 100,000, and Table 1 of Lin et al.")

# %% [markdown]
# What counts about a schedule is how much image it leaves against how much noise. For data of variance 1 their ratio of variances is the *signal-to-noise ratio*
#
# <!-- eq:1.9 -->
# $$\mathrm{SNR}(t) = \frac{\bar\alpha_t}{1-\bar\alpha_t} \tag{1.9}$$
#
# It falls with every step, since $\bar\alpha_t$ falls. Engineers give it in decibels, $10 \log_{10} \mathrm{SNR}$: at 0 dB image and noise are equally strong. Schedules pass through much the same noise levels, and differ in how
# many steps they spend at each.
#
# The check measures an SNR as one would in a laboratory, knowing neither $\bar\alpha_t$ nor $\epsilon$: fit $x_t = c\,x_0 + \text{rest}$ by least squares and compare $c^2$ with the variance of the rest.

# %%
x, t = x0[:200].double(), 50
x_t = linear.q_sample(
    x, torch.full((len(x),), t), torch.randn(x.shape, generator=g, dtype=torch.float64)
)
c = (x * x_t).sum() / (x * x).sum()
rest = (x_t - c * x).var()
check(
    "eq:1.9", c**2 / rest / linear.snr[t], 1.0, 0.01, f"measured SNR at t = {t} over the formula's"
)

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.1))
t_all = torch.arange(1, T + 1)
for name, d in (("linear", linear), ("cosine", cosine)):
    axes[0].plot(t_all, d.betas[1:], label=name)
    axes[1].plot(t_all, d.abar[1:])
    axes[2].plot(t_all, 10 * torch.log10(d.snr[1:]))
axes[0].set(xlabel="step t", ylabel=r"step size $\beta_t$", yscale="log")
axes[1].set(xlabel="step t", ylabel=r"share of signal $\bar\alpha_t$")
axes[2].set(xlabel="step t", ylabel="SNR (dB)", ylim=(-60, 45))
variance = float(x0.var())
axes[2].axhline(0, color="black", lw=0.8, ls=":", label="data of variance 1 = noise")
axes[2].axhline(-10 * math.log10(variance), color="black", lw=0.8, ls="--", label="rooms = noise")
axes[0].legend()
axes[2].legend(fontsize=9, loc="lower left")
louder = {
    name: int((d.snr[1:] * variance >= 1).sum())
    for name, d in (("linear", linear), ("cosine", cosine))
}
save_figure(
    run,
    fig,
    "nb01_schedules",
    "Linear and cosine schedule at T = 1000: step size, share of signal, signal-to-noise ratio. On "
    "the dotted line data of variance 1 are as strong as the noise, on the dashed line our rooms.",
    {"variance_of_rooms": variance, "steps_with_more_room_than_noise": louder},
)

# %% [markdown]
# Our rooms have a variance of about 0.2, which multiplies the ratio. So room and noise are equally strong where the SNR is about 5. That moment comes early: both schedules spend most of their steps on images in which the noise is louder than the room. The linear one gets there
# twice as fast as the cosine one.

# %% tags=["hide-input"]
claim(
    run.profile,
    "the linear schedule has half as many steps with more room than noise",
    abs(louder["cosine"] / louder["linear"] - 2) < 0.1 and max(louder.values()) < 0.5 * T,
)

# %% [markdown]
# Figure 1 of the report shows one image drowning. Here are four rooms under the linear schedule. All columns of a row share one $\epsilon$. A real path draws fresh noise at every step.
#
# Noise leaves $[-1, 1]$, a screen does not. Values are cut off at both ends, so noise looks like neon. The last two columns look alike because they nearly are: the same $\epsilon$, and little of the room.

# %% tags=["hide-input"]
times = [0, 10, 25, 50, 100, 200, 350, 600, 1000]


def noised(d, x, noise, ts):
    """x_t for each t of ts from one x and one noise; t = 0 is x itself."""
    return torch.stack([x if t == 0 else q_sample(x, float(d.abar[t]), noise) for t in ts])


shown = x0[torch.linspace(0, len(x0) - 1, 4).long()]
noise = torch.randn(shown.shape, generator=g)
strip = torch.cat(
    [to_uint8(noised(linear, x, n, times)) for x, n in zip(shown, noise, strict=True)]
)
fig, ax = plt.subplots(figsize=(9, 4.4))
show_images(ax, strip, columns=len(times))
side = rooms.shape[-1] + 1
for i, t in enumerate(times):
    label = f"t = {t}\n$\\bar\\alpha_t$ = {float(linear.abar[t]):.3g}"
    ax.text((i + 0.5) * side, -2, label, ha="center", va="bottom", fontsize=9)
save_figure(
    run,
    fig,
    "fig01_forward_noising",
    "Forward noising of four rendered rooms by Eq. 8: linear schedule, T = 1000, one noise "
    "image a row. Values outside [-1, 1] are cut off.",
    {"t": times, "abar": [float(linear.abar[t]) for t in times]},
)

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(9, 2.2))
both = torch.cat([to_uint8(noised(d, shown[0], noise[0], times)) for d in (linear, cosine)])
show_images(ax, both, columns=len(times))
for i, t in enumerate(times):
    ax.text((i + 0.5) * side, -2, f"t = {t}", ha="center", va="bottom", fontsize=9)
for row, name in enumerate(("linear", "cosine")):
    ax.text(-3, (row + 0.5) * side, name, ha="right", va="center", fontsize=10)
save_figure(
    run,
    fig,
    "nb01_schedules_by_eye",
    "One room and one noise under two schedules. At t = 350 the linear one leaves a little less of "
    "the room than the cosine one at t = 600. Values outside [-1, 1] are cut off.",
)

# %% [markdown] tags=["exercise"]
# **Exercise 01-3** · medium · 10 minutes
#
# At which step does the noise become louder than the image? Given the table $\bar\alpha_0, \ldots, \bar\alpha_T$ and the variance of the data, return the first $t \ge 1$ with $\mathrm{SNR}(t)\cdot\text{variance} < 1$. Then try it on `linear.abar` and `variance`.


# %% tags=["exercise"]
def first_drowned(abar, variance): ...  # a whole number


exercises.check("01-3", first_drowned)


# %% tags=["solution"]
def first_drowned(abar, variance):
    snr = abar[1:] / (1 - abar[1:])  # entry 0 belongs to t = 1
    return int((snr * variance >= 1).sum()) + 1


exercises.check("01-3", first_drowned)

# %% [markdown] tags=["exercise"]
# **Exercise 01-4** · medium · 5 minutes
#
# Suppose $\beta$ were the same in all of $T = 1000$ steps. Which $\beta$ ends at $\bar\alpha_{1000} = 4\cdot 10^{-5}$, about where the linear schedule ends? Give at least four significant digits.

# %% tags=["exercise"]
beta = ...  # a number
exercises.check("01-4", beta)

# %% tags=["solution"]
beta = 1 - 4e-5 ** (1 / 1000)  # from (1 - beta)^1000 = 4e-5
exercises.check("01-4", beta)

# %% [markdown]
# ## 5. What goes first: the fine or the coarse?
#
# An image is a sum of waves. One of *spatial frequency* $k$ swings $k$ times across it. Its *power* is its mean square, here times the number of pixels: noise of variance 1 then has power 1 at every frequency. Such noise is *white*. The power of images falls with frequency. So as $t$ grows, fine detail sinks below the noise first and large shapes last,
# and a diffusion model lays out the room before it paints the folds of a blanket
# ([Dieleman 2024](https://sander.ai/2024/09/02/spectral-autoregression.html)). The order comes from the noise: noise with another spectrum removes it, and images can be as good ([Falck et al. 2025](https://arxiv.org/abs/2505.11278)).
#
# The figure measures it on grey values. Solid lines are the average power spectrum of our rooms, multiplied by $\bar\alpha_t$; dotted lines of the same colour are the noise, and a dot marks where the two cross. The noise has the level $(1 - \bar\alpha_t)/3$, because grey is the mean of three channels with independent noise.

# %% tags=["hide-input"]
grey = x0.mean(1) - x0.mean((1, 2, 3))[:, None, None]
power = (torch.fft.fft2(grey.double(), norm="ortho").abs() ** 2).mean(0)
freq = torch.fft.fftfreq(grey.shape[-1]).double() * grey.shape[-1]
radius = (freq[:, None] ** 2 + freq[None] ** 2).sqrt().round().long()
k = torch.arange(1, grey.shape[-1] // 2 + 1)
spectrum = torch.stack([power[radius == i].mean() for i in k])
fig, ax = plt.subplots(figsize=(6.4, 3.8))
ax.loglog(k, spectrum, color="0.7", lw=5, label="rooms ($t=0$)")
drowned = {}
for t, colour in zip(
    (50, 200, 400, 700), plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False
):
    signal, level = float(linear.abar[t]) * spectrum, (1 - float(linear.abar[t])) / 3
    ax.loglog(k, signal, color=colour, label=f"signal at $t={t}$")
    drowned[t] = next((int(i) for i, s in zip(k, signal, strict=True) if s < level), None)
    logs = torch.log(signal / level).flip(0).numpy()  # rising, as np.interp wants it
    cross = float(np.exp(np.interp(0, logs, np.log(k.flip(0).numpy()))))
    ax.hlines(level, max(1, cross / 1.5), min(int(k[-1]), cross * 1.5), color=colour, ls=":", lw=2)
    if drowned[t] > 1:
        ax.plot(cross, level, "o", color=colour, ms=6)
ax.set(
    xlabel="spatial frequency (cycles per image width)",
    ylabel="power per coefficient",
    ylim=(1e-4, 30),
)
ax.set_xticks([i for i in (1, 2, 4, 8, 16, 32) if i <= int(k[-1])])
ax.xaxis.set_major_formatter("{x:.0f}")
ax.xaxis.set_minor_formatter("")
ax.legend(fontsize=9)
save_figure(
    run,
    fig,
    "nb01_spectrum",
    f"Power spectrum of the grey values of {len(x0)} rooms under the linear schedule. Dotted, near "
    "the crossing only: the noise level of the same colour. At t = 700 noise is louder at every "
    "frequency.",
    {"first_drowned_frequency": drowned},
)
claim(
    run.profile,
    "the later, the lower the frequency at which noise takes over",
    drowned[50] > drowned[200] > drowned[400] > drowned[700],
)

# %% [markdown] tags=["exercise"]
# **Exercise 01-5** · easy, an experiment in thought · 5 minutes
#
# At 256 x 256 pixels the pixels of a patch of 8 x 8 are nearly equal. Replace the patch by its mean. By which factor is the SNR of that mean larger than that of a single pixel? (It is why large images need more noise at the same $t$.)

# %% tags=["exercise"]
factor = ...  # a number
exercises.check("01-5", factor)

# %% tags=["solution"]
factor = 64  # the signal stays; the noise of a mean of 64 has 1/64 of the variance
exercises.check("01-5", factor)

# %% [markdown]
# ## 6. How far from pure noise does it end?
#
# Sampling will start from a draw of $p(x_T) = \mathcal N(0, \mathbf I)$, which knows nothing of any image. That is right if the noised rooms $q(x_T)$ look like such draws. How far they are from it is measured by the *Kullback-Leibler divergence*
# $D_{KL}(q\,\|\,p)=\mathbb E_q[\log q-\log p]$. It is zero only if $q=p$; with natural logarithms its unit is the *nat*.
#
# We compute it for each $x_0$. The divergence of an average is at most the average divergence: if $q(x_T \mid x_0)$ is close to $\mathcal N(0, \mathbf I)$ for every room, so is $q(x_T)$. The converse may fail; section 7 looks at $q(x_T)$ itself. With $x_{0,i}$ the numbers of $x_0$, and $D$ how many there are,
#
# <!-- eq:1.10 -->
# $$\frac{L_T}{D} := \frac1D\, D_{KL}\big(q(x_T\mid x_0)\,\|\,\mathcal N(0,\mathbf I)\big)
# = \frac12\left(\bar\alpha_T\, \overline{x_0^2} - \bar\alpha_T - \log(1-\bar\alpha_T)\right), \qquad \overline{x_0^2}=\frac1D\sum_i x_{0,i}^2 \tag{1.10}$$
#
# (Notebook 02 derives this formula, and meets $L_T$ again as the last term of a bound.) For small $\bar\alpha_T$ the logarithm is $-\bar\alpha_T - \bar\alpha_T^2/2 - \ldots$, so
#
# <!-- eq:1.11 -->
# $$\lim_{\bar\alpha_T \to 0} \frac{L_T/D}{\bar\alpha_T} = \tfrac12\, \overline{x_0^2} \tag{1.11}$$
#
# which is about a tenth for our rooms.


# %%
def prior_kl(x0, abar_T):
    """L_T / D of each image (N, ...), in nats per dimension, Eq. 1.10."""
    square = (x0.double() ** 2).flatten(1).mean(1)
    return (abar_T * square - abar_T - math.log1p(-abar_T)) / 2  # log1p: exact for tiny abar_T


abar_T = 0.13  # what the linear schedule leaves at T = 200
grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)  # one pixel of value 0.6
log_q = stats.norm.logpdf(grid, abar_T**0.5 * 0.6, (1 - abar_T) ** 0.5)
quadrature = np.trapezoid(np.exp(log_q) * (log_q - stats.norm.logpdf(grid)), grid)
check(
    "eq:1.10",
    prior_kl(torch.tensor([[0.6]], dtype=torch.float64), abar_T),
    quadrature,
    1e-8,
    "one pixel of value 0.6: the formula, and the integral of q log(q/p)",
)
one = torch.ones(1, 1, dtype=torch.float64)
check(
    "eq:1.10",
    prior_kl(one, 1e-15) * 2e15,
    1,
    1e-9,
    "abar_T = 1e-15, over the limit: log1p, not log",
)
A, S = sp.symbols("A S", positive=True)
check_zero("eq:1.11", sp.limit((A * S - A - sp.log(1 - A)) / 2 / A, A, 0) - S / 2, "the limit")

# %% tags=["hide-input"]
Ts = [10, 20, 50, 100, 200, 300, 500, 1000, 2000]
unscaled, scaled = "linear, betas as for T = 1000", "linear, betas times 1000/T"
families = {
    unscaled: linear_beta_schedule,
    scaled: lambda T: linear_beta_schedule(T, scaled=True),
    "cosine": cosine_beta_schedule,
}
curves = {
    name: [float(prior_kl(x0[:100], float(GaussianDiffusion(make(T)).abar[-1])).mean()) for T in Ts]
    for name, make in families.items()
}
fig, ax = plt.subplots(figsize=(6.4, 3.8))
for (name, values), marker in zip(curves.items(), "osD", strict=True):
    ax.loglog(Ts, values, marker=marker, ms=4, label=name)
ax.annotate(
    "here $\\beta$ is no longer small\n(at most 0.999, the cap)",
    (20, curves[scaled][1]),
    (40, 2e-11),
    fontsize=9,
    arrowprops={"arrowstyle": "->"},
)
ax.set(xlabel="number of steps T", ylabel="$L_T/D$ (nats per dimension)", ylim=(1e-12, 10))
ax.legend(fontsize=9, loc="upper right")
save_figure(
    run,
    fig,
    "nb01_prior_kl",
    "Distance of q(x_T | x_0) from N(0, I), mean over 100 rooms, against the number of steps. The "
    "point of the scaled schedule at T = 10, about 1e-18, lies below the axis.",
    {"T": Ts, **curves},
)

# %% [markdown]
# Two of the three families end in noise at every length. The linear schedule with its usual $\beta$ does so at $T = 1000$, for which it was made, and not below. Times $1000/T$, the $\beta$ keep their sum, and with it $\bar\alpha_T \approx e^{-\sum_t \beta_t}$, as long as
# each is small. At $T = 10$ and 20 they are not: they reach 1 or more and are capped at 0.999. Such a step leaves a thousandth of the variance: nothing is left to undo in small steps. In numbers:

# %%
claim(
    run.profile,
    "cosine and scaled end in noise at every length, unscaled linear below 1000 does not",
    max(curves["cosine"] + curves[scaled]) < 1e-5 and min(curves[unscaled][:7]) > 1e-4,
)
rows = []
for T_short in (50, 200, 300, 1000):
    abar_T = float(GaussianDiffusion(linear_beta_schedule(T_short)).abar[-1])
    L_T = float(prior_kl(x0[:100], abar_T).mean())
    rows.append(
        {
            "T": T_short,
            "schedule": "linear, unscaled",
            "abar_T": abar_T,
            "signal left, sqrt(abar_T)": abar_T**0.5,
            "L_T nats/dim": L_T,
            "L_T nats/room": L_T * x0[0].numel(),
        }
    )
save_table(
    run,
    rows,
    "nb01_short_T",
    "What the linear schedule leaves of the image when T is shortened and beta is not changed "
    "(mean over 100 rooms).",
)

# %% tags=["hide-input"]
claim(
    run.profile,
    "L_T / D is about a tenth of abar_T where that is small",
    abs(rows[3]["L_T nats/dim"] / rows[3]["abar_T"] - 0.1) < 0.01,
)

# %% [markdown]
# ## 7. The short-T trap
#
# To save time it is tempting to shorten the chain and to keep $\beta$ from $10^{-4}$ to $0.02$. A widely read tutorial does so with $T = 300$, in an earlier version 200 ([The Annotated Diffusion Model](https://huggingface.co/blog/annotated-diffusion)). By the table, a fifth of the image's amplitude is
# then left at the end; at $T = 200$ it is more than a third. Nothing fails visibly in training. But sampling starts from $\mathcal N(0, \mathbf I)$, which the network never saw at step $T$.
#
# How wrong do samples get? Look at one number of a room: its overall brightness, scaled so that its noise is standard normal,
#
# <!-- eq:1.12 -->
# $$b_0 = \frac{1}{\sqrt D}\sum_i x_{0,i}, \qquad b_t = \sqrt{\bar\alpha_t}\,b_0 + \sqrt{1-\bar\alpha_t}\;\epsilon_b, \quad \epsilon_b\sim\mathcal N(0,1) \tag{1.12}$$
#
# All $D$ numbers of a room add up in $b_0$, and they move together, so its SNR is far above that of a pixel. Noise destroys it last. This is where a chain that is too short shows.

# %%
D = x0[0].numel()


def brightness(x):
    return x.double().flatten(1).sum(1) / D**0.5


fresh = torch.randn(2000, *x0.shape[1:], generator=g)
b0 = brightness(x0)
c = 0.6**0.5 * float(b0[0])
b = brightness(q_sample(x0[:1], 0.6, fresh))
check_mean(
    "eq:1.12",
    torch.stack([b, (b - c) ** 2], 1),
    [c, 0.4],
    "brightness of one room noised 2,000 times: mean and variance",
)
ratio = float(b0.var() / x0.double().var(0).mean())
print(f"SNR of the brightness: {ratio:.0f} times that of a single number of the image")

# %% [markdown]
# We want to blame the schedule and not a network. So suppose the brightness were one normal number, with the mean $m$ and the standard deviation $\tau$ of the rooms. Then all is known: by Eq. 1.12, $b_T$ is normal with mean $\sqrt{\bar\alpha_T}\,m$ and variance $\bar\alpha_T \tau^2 + 1 - \bar\alpha_T$. A perfect sampler
# that adds no noise on its way keeps each number at its percentile: what starts at the 30th percentile of $b_T$ ends at the 30th of $b_0$ (notebook 02, section 10, shows why). For normal numbers this means
#
# <!-- eq:1.13 -->
# $$b_0 = m + \tau\;\frac{b_T - \sqrt{\bar\alpha_T}\,m}{\sqrt{\bar\alpha_T\,\tau^2 + 1 - \bar\alpha_T}} \tag{1.13}$$


# %%
m, tau = float(b0.mean()), float(b0.std())


def perfect_return(b_T, abar_T):
    """The b_0 at the percentile of b_T, Eq. 1.13."""
    return m + tau * (b_T - abar_T**0.5 * m) / (abar_T * tau**2 + 1 - abar_T) ** 0.5


true_b0 = m + tau * torch.randn(run.p.draws, generator=g, dtype=torch.float64)
eps_b = torch.randn(run.p.draws, generator=g, dtype=torch.float64)
b_T = 0.13**0.5 * true_b0 + 0.87**0.5 * eps_b
back = perfect_return(b_T, 0.13)
check_mean(
    "eq:1.13",
    torch.stack([back, (back - m) ** 2], 1),
    [m, tau**2],
    "noised by Eq. 1.12 and returned: mean and variance, as at the start",
)
check("eq:1.13", back.argsort(), b_T.argsort(), 0, "order of the draws, before and after")

# %% [markdown]
# The trap: sampling starts from $\mathcal N(0, 1)$ instead of that $b_T$. We send its percentiles, $z$, through Eq. 1.13. Distance from the truth is measured as Kolmogorov and Smirnov do (KS), by the largest gap between two cumulative distributions.

# %%
n = run.p.toy_samples
z = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)  # of N(0, 1)


def sampled_brightness(T, make):
    """b_0 by a perfect sampler that starts from N(0, 1), and its distance from the truth."""
    sample = perfect_return(z, float(GaussianDiffusion(make(T)).abar[-1]))
    return sample, float(stats.kstest(sample.numpy(), stats.norm(m, tau).cdf).statistic)


short_Ts = [50, 100, 200, 300, 500, 1000]
samples = {
    (name, T): sampled_brightness(T, families[name])
    for name in (unscaled, scaled)
    for T in short_Ts
}

# %% tags=["hide-input"]
distance = {name: [samples[name, T][1] for T in short_Ts] for name in (unscaled, scaled)}
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.4))
for (name, values), marker in zip(distance.items(), "os", strict=True):
    axes[0].plot(short_Ts, values, marker=marker, label=name)
axes[0].set(
    xscale="log", xlabel="number of steps T", ylabel="KS distance from the truth", ylim=(0, 0.75)
)
axes[0].set_xticks(short_Ts, short_Ts)
axes[0].minorticks_off()
axes[0].legend(fontsize=9)
line = torch.linspace(m - 4.5 * tau, m + 4.5 * tau, 300, dtype=torch.float64)
for name in (unscaled, scaled):
    axes[1].hist(
        samples[name, 200][0] / D**0.5,
        bins=np.linspace(line[0], line[-1], 50) / D**0.5,
        density=True,
        histtype="step",
        lw=1.5,
        label=f"T = 200, {name}",
    )
axes[1].plot(
    line / D**0.5,
    stats.norm.pdf(line, m, tau) * D**0.5,
    color="black",
    lw=1,
    label="normal fitted to the rooms",
)
axes[1].set(
    xlabel="mean value of an image, scale [-1, 1]",
    ylabel="density",
    ylim=(0, 1.35 * axes[1].get_ylim()[1]),
)
axes[1].legend(fontsize=9)
spreads = {name: float(samples[name, 200][0].std()) / D**0.5 for name in (unscaled, scaled)}
save_figure(
    run,
    fig,
    "nb01_short_T_trap",
    f"Brightness in the one-number model, by a perfect sampler that starts from N(0, 1); {n} "
    "percentiles, nothing is drawn. With unscaled betas and T = 200 (blue) all images come out "
    "nearly equally bright.",
    {
        "T": short_Ts,
        **distance,
        "spread_T200": spreads,
        "spread_data": tau / D**0.5,
    },
)

# %% [markdown]
# In this one-number model, with unscaled $\beta$ and $T = 200$, mean values spread about a quarter as far as those of real rooms, and around 0 instead of 0.07. (A perfect sampler that does add noise keeps a third.) In a real room brightness is tied to the rest of the image, which the model leaves out. Scaled to
# the length of the chain, the same schedule gives the right spread.
#
# [Lin et al. (2023)](https://arxiv.org/abs/2305.08891) found the same in Stable Diffusion, whose chain ends too early (at $\sqrt{\bar\alpha_T} = 0.068$): its images are all of medium brightness.

# %% tags=["hide-input"]
a = float(GaussianDiffusion(families[unscaled](200)).abar[-1])
variance_T = a * tau**2 + 1 - a  # of b_T; Eq. 2.11 and 2.13 of notebook 02 give the next line
noisy_way = (a * tau**2 / variance_T**2 + (1 - a) / variance_T) ** 0.5
claim(
    run.profile,
    "unscaled betas at T = 200 keep 0.26 of the spread, 0.35 if the sampler adds noise",
    abs(spreads[unscaled] / (tau / D**0.5) - 0.26) < 0.02 and abs(noisy_way - 0.35) < 0.02,
)
claim(
    run.profile,
    "scaled betas keep it to a fiftieth",
    abs(spreads[scaled] / (tau / D**0.5) - 1) < 0.02,
)
claim(
    run.profile,
    "unscaled betas at T = 200 move the mean from 0.07 to 0",
    abs(float(samples[unscaled, 200][0].mean()) / D**0.5) < 0.01 and abs(m / D**0.5 - 0.07) < 0.005,
)
check_fails(
    "common error",
    lambda: check("common error", distance[unscaled][2], 0, 0.02, "KS distance"),
    "T = 200 with betas made for T = 1000",
)
check("right", distance[unscaled][-1], 0, 0.02, "KS distance with these betas at T = 1000")

# %% [markdown]
# ## 8. Try it
#
# Move the sliders (this needs a running kernel; the figures of section 4 show some positions). The image is Eq. 1.6 and nothing else. At which $t$ do you stop seeing the bed? How does that move with the schedule? (The SNR there should not: Eq. 1.6 knows $t$ by $\bar\alpha_t$ alone.)

# %% tags=["hide-input"]
import io

import ipywidgets as widgets
from PIL import Image

image, words = widgets.Image(format="png", width=256), widgets.Label()
slider = widgets.IntSlider(value=200, min=1, max=T, description="t")
which = widgets.Dropdown(options={"linear": linear, "cosine": cosine}, description="schedule")
room = widgets.IntSlider(value=0, min=0, max=len(shown) - 1, description="room")


def update(_=None):
    abar_t = float(which.value.abar[slider.value])
    x = to_uint8(q_sample(shown[room.value], abar_t, noise[room.value]))
    buffer = io.BytesIO()
    picture = Image.fromarray(x.permute(1, 2, 0).numpy())
    picture.resize((256, 256), Image.Resampling.NEAREST).save(buffer, "png")
    image.value = buffer.getvalue()
    decibel = 10 * math.log10(abar_t / (1 - abar_t))
    words.value = f"signal {abar_t**0.5:.3f}, noise {(1 - abar_t) ** 0.5:.3f}, SNR {decibel:.1f} dB"


for control in (slider, which, room):
    control.observe(update, "value")
update()
display(widgets.VBox([slider, which, room, image, words]))

# %% [markdown]
# ## 9. Six common errors
#
# Each of these runs without complaint. Five must fail the test that the right formula passes: mean, variance and shape after the six steps of section 3. The sixth shows in the darkest level. First the right one:

# %%
draws = run.p.draws
point = torch.full((draws,), 0.8, dtype=torch.float64)
eps = torch.randn(draws, generator=g, dtype=torch.float64)
true_mean, true_variance = 0.8 * float(abar[6]) ** 0.5, 1 - float(abar[6])


def like_eq_8(x, tag, how):
    check_mean(tag, torch.stack([x, (x - true_mean) ** 2], 1), [true_mean, true_variance], how)
    gap = stats.kstest(x.numpy(), stats.norm(true_mean, true_variance**0.5).cdf).statistic
    check(tag, gap, 0, stats.kstwo.isf(1e-6, draws), f"{how}: KS distance from the normal of Eq. 8")


like_eq_8(q_sample(point, float(abar[6]), eps), "right", "q_sample at t = 6")

# %% tags=["hide-input"]
a6, a5 = float(abar[6]), float(abar[5])
x5 = q_sample(point, a5, torch.randn(draws, generator=g, dtype=torch.float64))
flat = torch.rand(draws, generator=g, dtype=torch.float64)
wrong = {
    "noise times 1 - abar, not its square root": a6**0.5 * point + (1 - a6) * eps,
    "a single step q(x_t | x_{t-1}) written with abar": a6**0.5 * x5 + (1 - a6) ** 0.5 * eps,
    "t shifted by one": q_sample(point, a5, eps),
    "torch.rand instead of torch.randn": q_sample(point, a6, flat),
    "torch.rand, brought to mean 0 and variance 1": q_sample(point, a6, (flat - 0.5) * 12**0.5),
}
for what, x in wrong.items():
    check_fails("common error", lambda x=x, what=what: like_eq_8(x, "common error", what), what)

# %% tags=["hide-input"]
darkest = float(rooms[:8].min())
check("right", to_uint8(to_float(rooms[:8])).min(), darkest, 0, "darkest level, there and back")
check_fails(
    "common error",
    lambda: check(
        "common error", float(to_uint8(rooms[:8] / 255).min()), darkest, 0, "darkest level"
    ),
    "data scaled to [0, 1] where [-1, 1] is meant: black becomes grey",
)

# %% [markdown]
# ## Summary
#
# * One step shrinks the image and adds noise (Eq. 2). The chain is a product of steps (Eq. 1). Any $x_t$ can be drawn in one jump (Eq. 8), because variances of independent noises add up, and here they add up to $1 - \bar\alpha_t$.
# * A schedule is best read by its signal-to-noise ratio. Under the linear one the noise is louder than our rooms from step 130 of 1000 on, under the cosine one from step 261.
# * Fine detail drowns first. Undoing white noise therefore paints the large shapes first.
# * The mean of $L_T$ over the rooms bounds how far the end is from pure noise, and depends on no network. At $T = 200$ unscaled $\beta$ leave 56 nats a room (0.013 at $T = 1000$), and in the one-number model the brightness varies a quarter as much as it should.

# %% tags=["hide-input"]
claim(
    run.profile,
    "noise is louder than rooms from step 130 (linear) and 261 (cosine) on",
    louder == {"linear": 129, "cosine": 260},
)
claim(
    run.profile,
    "56 nats a room at T = 200, 0.013 at T = 1000",
    round(rows[1]["L_T nats/room"]) == 56 and round(rows[3]["L_T nats/room"], 3) == 0.013,
)

# %% [markdown]
# <details><summary><b>Three more questions, with answers</b></summary>
#
# *Does the order of the steps matter?* Not for $q(x_T\mid x_0)$: $\bar\alpha_T$ is a product, and factors commute. It matters for everything in between, and so for what the network sees.
#
# *Our rooms have variance 0.2. What would rescaling them to variance 1 change?* At every step the room would be five times stronger against the noise, as if the noise came later. One can rescale the images or choose another schedule: up to a factor of $x_t$, both do the same.
#
# *Why might a constant $\beta$ (exercise 01-4) train worse than the linear schedule?* Its first step already has $\beta = 0.01$, a hundred times that of the linear schedule, so the SNR starts at 20 dB instead of 40. The faint noise in which the last details are decided is skipped.
#
# </details>
#
# ## References
#
# * Ho, Jain & Abbeel (2020), *Denoising Diffusion Probabilistic Models*, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): the linear schedule, Eq. 8 as a training recipe.
# * Nichol & Dhariwal (2021), *Improved Denoising Diffusion Probabilistic Models*, [arXiv:2102.09672](https://arxiv.org/abs/2102.09672): the cosine schedule.
# * Sohl-Dickstein et al. (2015), *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, [arXiv:1503.03585](https://arxiv.org/abs/1503.03585): where the idea comes from.
# * Dhariwal & Nichol (2021), *Diffusion Models Beat GANs on Image Synthesis*, [arXiv:2105.05233](https://arxiv.org/abs/2105.05233).
# * Lin et al. (2023), *Common Diffusion Noise Schedules and Sample Steps Are Flawed*, [arXiv:2305.08891](https://arxiv.org/abs/2305.08891): the short-T trap in a model in wide use.
# * Dieleman (2024), [*Diffusion is spectral autoregression*](https://sander.ai/2024/09/02/spectral-autoregression.html), and Falck et al. (2025), *A Fourier Space Perspective on Diffusion Models*, [arXiv:2505.11278](https://arxiv.org/abs/2505.11278): coarse before fine, and that it need not be so.
# * Hoogeboom, Heek & Salimans (2023), *simple diffusion*, [arXiv:2301.11093](https://arxiv.org/abs/2301.11093): why large images need more noise.
#
# Next: [02 · Posterior and bound](02_posterior_and_bound.ipynb), how one step can be undone.
