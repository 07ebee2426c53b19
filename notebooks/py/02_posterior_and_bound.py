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
# # 02 · The posterior and the bound
#
# Notebook 01 turned rooms into noise. Going back is the hard direction. This notebook derives what a network has to learn for it, and the number that says how well it has learned it.
#
# **After it you can**
#
# * say why the exact reverse step needs all of the data, and why a Gaussian will do for a small step;
# * derive the posterior (Eq. 9-11) with pencil and paper, and every term of the bound on the log-likelihood (Eq. 4-7), and compute them;
# * convert between a network that predicts the mean, the image, the noise or the velocity, and correct the report's Eq. 12;
# * say what is thrown away between the bound and the usual training loss;
# * recognise a score, the probability-flow ODE and flow matching as the same network in other clothes.
#
# **You need** [notebook 01](01_forward_noising.ipynb), the density of a normal distribution, and completing the square. **It takes** four to five hours with its code and the six exercises, in two sittings: rest after section 5. It runs in a minute. No network is trained.
#
# **Stuck in an exercise?** `exercises.hint("02-1")` prints a first step. Solutions stand in `notebooks/solutions/02_posterior_and_bound.ipynb`.
#
# **Where we work.** Two kinds of data take turns. One is our rooms. The other is a *small world*: a single number instead of an image, drawn from three Gaussian humps. There every density is known, so a statement can be compared with the truth.
#
# Previous: [01 · Forward noising](01_forward_noising.ipynb). Next: [03 · DDPM training](03_ddpm_training.ipynb).

# %% tags=["parameters"]
profile = None  # "smoke", "cpu", "released", "gpu" or "lsun"; None: "cpu", or in Colab "released"
seed = 0
out = None

# %%
import math
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
import torch
from scipy import stats

from bedgen_utils import exercises
from bedgen_utils.checks import check, check_fails, check_mean, check_zero, claim
from bedgen_utils.data import load_bedrooms, to_float
from bedgen_utils.diffusion import GaussianDiffusion, cosine_beta_schedule, linear_beta_schedule
from bedgen_utils.exact import Mixture
from bedgen_utils.report import save_figure, save_table, use_style
from bedgen_utils.run import start

run = start("02", profile, seed, out)
use_style()
g = torch.Generator().manual_seed(seed)
F64 = torch.float64
rooms = to_float(load_bedrooms(run.p.source, split="train", size=run.p.size, limit=run.p.rooms))
world = Mixture()  # the small world: three humps on a line
print(f"{len(rooms)} rooms; three humps at {world.means}, standard deviations {world.stds}")

# %% [markdown]
# ## 1. Why not simply run it backwards?
#
# To undo a step we want the distribution of $x_{t-1}$ given $x_t$. Bayes' rule gives it:
#
# <!-- eq:2.1 -->
# $$q(x_{t-1} \mid x_t) = \frac{q(x_t \mid x_{t-1})\; q(x_{t-1})}{q(x_t)}, \qquad q(x_{t-1}) = \int q(x_{t-1} \mid x_0)\, q(x_0)\, dx_0 \tag{2.1}$$
#
# It shows the trouble at once: $q(x_{t-1})$ is an average over *all* data. For bedrooms nobody has it. In the small world we do. Three Gaussian humps that are shrunk and blurred are again three Gaussian humps, so we can tabulate both factors on a grid and multiply them. The `softmax` divides each row by its sum: that is the division by $q(x_t)$.

# %%
line = torch.linspace(-6, 6, 1201, dtype=F64)  # the grid for x_{t-1}
dx = float(line[1] - line[0])
nodes = line[::3]  # for x_t, three times as coarse


def reverse_table(beta, before, xt):
    """q(x_{t-1} | x_t) by Eq. 2.1: a row for each x_t, a column for each number of `line`.

    `before` is abar_{t-1}, and beta the step from t-1 to t.
    """
    log_step = -0.5 * (xt[:, None] - math.sqrt(1 - beta) * line) ** 2 / beta
    return torch.softmax(log_step + world.log_prob(line, before), 1) / dx


def mean_and_variance(q):
    """Of each row of a table."""
    mean = (q * line).sum(1) * dx
    return mean, (q * (line - mean[:, None]) ** 2).sum(1) * dx


# %% [markdown]
# The check averages the reverse step over all $x_t$: $q(x_{t-1})$ must come out. It also averages $x_t$ times the reverse step. Since $x_t$ is $\sqrt{1-\beta}\,x_{t-1}$ plus fresh noise, $\sqrt{1-\beta}\,x_{t-1}$ times $q(x_{t-1})$ must come out. A table that ignores $x_t$ passes the first test and fails the second.

# %%
before = 0.9  # abar_{t-1} in this section
density, averages, wanted = world.log_prob(line, before).exp(), [], []
for beta in (0.5, 0.05):
    weights = world.log_prob(nodes, before * (1 - beta)).exp() * 3 * dx  # q(x_t) dx_t
    averages += torch.stack([weights, weights * nodes]) @ reverse_table(beta, before, nodes)
    wanted += [density, math.sqrt(1 - beta) * line * density]
averages, wanted = torch.stack(averages), torch.stack(wanted)
check("eq:2.1", averages, wanted, 1e-9, "two reverse steps, and x_t times them, averaged over x_t")

# %% [markdown]
# The report remarks that a Gaussian for the reverse step is a strong assumption, acceptable perhaps because of the very small steps. Is it? We fix the noise level at $t-1$ and vary the size $\beta$ of the step that follows. For each $x_t$ we compare the exact reverse step with
# the Gaussian of the same mean and variance. As in notebook 01 the distance is $D_{KL}(q\,\|\,p)=\mathbb E_q[\log q-\log p]$, in nats. $J(\beta)$ is its average over $x_t$.


# %%
def nats_from_gaussian(q):
    """The divergence of each row from the Gaussian of its own mean and variance."""
    mean, variance = (v[:, None] for v in mean_and_variance(q))
    log_gaussian = -0.5 * ((line - mean) ** 2 / variance + torch.log(2 * math.pi * variance))
    return (q * (q.clamp(min=1e-300).log() - log_gaussian)).sum(1) * dx


def J(beta, before):
    """The average over x_t, in nats."""
    weights = world.log_prob(nodes, before * (1 - beta)).exp() * 3 * dx
    return float(weights @ nats_from_gaussian(reverse_table(beta, before, nodes)))


# %% tags=["hide-input"]
at = torch.tensor([0.18], dtype=F64)
levels, sizes = (0.99, 0.9, 0.5), np.geomspace(1e-3, 0.9, 16)
curves = {level: [J(float(beta), level) for beta in sizes] for level in levels}


def gaussian(mean, variance):
    return torch.exp(-0.5 * (line - mean) ** 2 / variance) / (2 * math.pi * variance) ** 0.5


fig, axes = plt.subplots(2, 2, figsize=(8, 5.4))
axes = axes.ravel()
for ax, beta in zip(axes, (0.5, 0.1, 0.02), strict=False):
    q = reverse_table(beta, before, at)
    ax.plot(line, q[0], label="exact")
    ax.plot(line, gaussian(*mean_and_variance(q)), ls="--", label="Gaussian")
    ax.set(title=f"$\\beta$ = {beta}", xlabel="$x_{t-1}$", xlim=(-1.3, 1.5))
for ax in axes[:3]:
    ax.set(ylabel="density given $x_t$ = 0.18", ylim=(0, None))
axes[0].set(ylim=(0, 0.95))
axes[0].legend(fontsize=8, loc="upper left")
for (level, values), marker in zip(curves.items(), "osD", strict=True):
    axes[3].loglog(sizes, values, marker=marker, ms=3, label=f"$\\bar\\alpha_{{t-1}}$ = {level}")
cube = curves[0.9][0] * (sizes[:8] / sizes[0]) ** 3
axes[3].loglog(sizes[:8], cube, color="black", ls=":", label=r"falls as $\beta^3$")
axes[3].set(xlabel=r"step size $\beta$", ylabel="J (nats from Gaussian)", ylim=(1e-10, 1))
axes[3].legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb02_exact_reverse",
    "The exact reverse step in the small world (solid) and the Gaussian of the same mean and "
    "variance (dashed), for three sizes of the step at abar = 0.9. Last: their average distance J "
    "against the size of the step, at three noise levels. Dotted: the third power.",
    {"beta": list(sizes), "J": {str(level): v for level, v in curves.items()}},
)

# %% [markdown]
# Small steps are nearly Gaussian: half the step makes $J$ eight times smaller. Appendix A at the end derives this law (Eq. 2.2 and 2.3). At $\bar\alpha_{t-1} = 0.9$ a step of $\beta = 0.5$ is 0.024 nats from Gaussian. A step of 0.02, the largest of the linear schedule, is 400 times closer. At $\bar\alpha_{t-1} = 0.99$, near the data, the humps are still sharp, and small steps are needed most: there the step of 0.02 is farther
# off than the step of 0.5 was.

# %% tags=["hide-input"]
claim(run.profile, "half the step, an eighth of J", abs(J(2e-3, 0.9) / J(1e-3, 0.9) - 8) < 0.2)
claim(run.profile, "a step of 0.5 is 0.024 nats from Gaussian", round(J(0.5, 0.9), 3) == 0.024)
ratio = J(0.5, 0.9) / J(0.02, 0.9)
claim(run.profile, "a step of 0.02 is 400 times closer", round(ratio, -2) == 400)
claim(run.profile, "near the data 0.02 is farther off than that", J(0.02, 0.99) > J(0.5, 0.9))

# %% [markdown]
# **Move it.** The sliders need a running kernel; the figure above shows three of their positions. Let the step shrink and watch the Gaussian become right. Keep it small, take $\bar\alpha_{t-1} = 0.99$, where the humps are sharp, and move $x_t$ from one hump to the next: the Gaussian is worst in between.

# %% tags=["hide-input"]
import io

import ipywidgets as widgets
from IPython.display import display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

picture, words = widgets.Image(format="png", width=480), widgets.Label()
log_beta = widgets.FloatSlider(value=-0.3, min=-3, max=-0.05, step=0.05, description="log10 β")
position = widgets.FloatSlider(value=0.18, min=-1.5, max=1.5, step=0.02, description="x_t")
noise_level = widgets.Dropdown(options=levels, value=before, description="ᾱ_{t−1}")
figure = Figure(figsize=(6, 2.8), dpi=80, layout="none")
canvas = FigureCanvasAgg(figure)
axis = figure.add_axes((0.12, 0.18, 0.85, 0.77))
(exact_line,) = axis.plot(line, line, label="exact")
(gaussian_line,) = axis.plot(line, line, ls="--", label="Gaussian")
axis.set(xlabel="$x_{t-1}$", ylabel="density given $x_t$", xlim=(-2, 2))
axis.legend(fontsize=9, loc="upper left")


def redraw(_=None):
    q = reverse_table(
        10**log_beta.value, noise_level.value, torch.tensor([position.value], dtype=F64)
    )
    exact_line.set_ydata(q[0])
    gaussian_line.set_ydata(gaussian(*mean_and_variance(q)))
    axis.set_ylim(0, 1.15 * float(q.max()))
    buffer = io.BytesIO()
    canvas.print_png(buffer)  # savefig would lay the figure out anew, which takes time
    picture.value = buffer.getvalue()
    nats = float(nats_from_gaussian(q))
    words.value = f"β = {10**log_beta.value:.4f}: {nats:.1e} nats from Gaussian at this x_t"


for control in (log_beta, position, noise_level):
    control.observe(redraw, "value")
redraw()
display(widgets.VBox([log_beta, position, noise_level, picture, words]))

# %% [markdown]
# So the report's model is justified if the steps are small. A network with weights $\theta$ looks at $x_t$ and $t$ and names a Gaussian:
#
# <!-- eq:3 -->
# $$p_\theta(x_{t-1}\mid x_t) := \mathcal N\big(\mu_\theta(x_t,t),\;\Sigma_\theta(x_t,t)\big), \qquad p(x_T) := \mathcal N(0,\mathbf I) \tag{3}$$
#
# The covariance $\Sigma_\theta$ is diagonal here and in practice (what that costs stands in appendix A).
# Sampling draws $x_T$ from $p(x_T)$, then $x_{T-1}$ given $x_T$, and so on down to $x_0$.


# %%
def reverse_step(mean, variance, noise):
    """x_{t-1} drawn from Eq. 3."""
    return mean + torch.sqrt(variance) * noise


# %% [markdown]
# In the small world the table can play the network: it names the mean and variance of the exact reverse step. Now start from draws of $q(x_t)$ and take one step. Whatever the shape of the reverse step, the result must have the mean and the variance of $q(x_{t-1})$, and the covariance with $x_t$ that the forward step gives. We call
# it the test of *one exact step*; section 11 uses it without randomness, to find errors that samples do not show.


# %%
def q_moments(world, abar):
    """E x and E x^2 of a small world at noise level abar."""
    w, m, s = (torch.tensor(v, dtype=F64) for v in (world.weights, world.means, world.stds))
    return abar**0.5 * (w * m).sum(), abar * (w * (m**2 + s**2)).sum() + 1 - abar


def look_up(beta, before, xt):
    """Mean and variance of the reverse step at any x_t, from the table."""
    table = mean_and_variance(reverse_table(beta, before, nodes))
    return [torch.from_numpy(np.interp(xt, nodes, column)) for column in table]


n, beta = run.p.draws, 0.3
after = before * (1 - beta)
x0 = world.sample(n, g).flatten()
xt = math.sqrt(after) * x0 + math.sqrt(1 - after) * torch.randn(n, generator=g, dtype=F64)
noise = torch.randn(n, generator=g, dtype=F64)
drawn = reverse_step(*look_up(beta, before, xt), noise)
first, second = q_moments(world, before)
check_mean(
    "eq:3",
    torch.stack([drawn, drawn**2, drawn * xt], 1),
    torch.stack([first, second, math.sqrt(1 - beta) * second]),
    "moments after one step from q(x_t), and those of q(x_t-1); product with x_t",
)

# %% [markdown]
# A whole chain of such steps, started from pure noise, must lead to the data. It does, if the steps are small: with 30 steps the three humps appear, with three they are smeared. The measure is the KS distance (Kolmogorov and Smirnov's): the largest gap between two cumulative distributions.


# %%
def sample_by_table(T, count):
    """`count` samples of the small world, from N(0, 1) through T looked-up steps."""
    d = GaussianDiffusion(cosine_beta_schedule(T))
    x = torch.randn(count, generator=g, dtype=F64)
    for t in range(T, 0, -1):
        mean, variance = look_up(float(d.betas[t]), float(d.abar[t - 1]), x)
        x = reverse_step(mean, variance, torch.randn(count, generator=g, dtype=F64))
    return x


def distance(world, samples):
    """Kolmogorov and Smirnov's: the largest gap between the two cumulative distributions."""
    return float(stats.kstest(samples, lambda v: world.cdf(torch.tensor(v)).numpy()).statistic)


few, many = (sample_by_table(T, run.p.toy_samples).numpy() for T in (3, 30))

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.4, 3.2))
edges = np.linspace(-1.5, 1.5, 61)
for samples, name in ((few, "3 steps"), (many, "30 steps")):
    ax.hist(samples, edges, density=True, histtype="step", lw=1.5, label=name)
ax.plot(line, world.log_prob(line).exp(), color="black", lw=1, label="data")
ax.set(xlabel="$x_0$", ylabel="density", xlim=(-1.5, 1.5))
ax.legend(fontsize=9)
gaps = {"3 steps": distance(world, few), "30 steps": distance(world, many)}
save_figure(
    run,
    fig,
    "nb02_first_samples",
    f"{run.p.toy_samples} samples of the small world by 3 and by 30 Gaussian reverse steps, with "
    "the best mean and variance in each step. Bins 0.05 wide flatten the narrow hump. Black: the "
    "density of the data.",
    {"KS distance": gaps},
)
claim(
    run.profile,
    "3 steps smear the humps, 30 find them (KS distance)",
    gaps["3 steps"] > 3 * gaps["30 steps"],
)

# %% [markdown]
# ## 2. The reverse step when the image is known: Eq. 9-11
#
# For rooms there is no table. But in training we do know $x_0$. Given it, Bayes' rule needs no average over data any more, since by the Markov property $q(x_t\mid x_{t-1}, x_0) = q(x_t \mid x_{t-1})$:
#
# <!-- eq:2.4 -->
# $$q(x_{t-1}\mid x_t,x_0) = \frac{q(x_t\mid x_{t-1})\;q(x_{t-1}\mid x_0)}{q(x_t\mid x_0)} \tag{2.4}$$
#
# All three factors are Gaussians that we have (Eq. 2 and 8). The numbers of an image are independent in each, so take one of them and write $x = x_{t-1}$. As a function of $x$ the logarithm of the right-hand side is, up to a constant, $-\tfrac12$ times
#
# <!-- eq:2.5 -->
# $$\frac{(x_t-\sqrt{\alpha_t}\,x)^2}{\beta_t}+\frac{(x-\sqrt{\bar\alpha_{t-1}}\,x_0)^2}{1-\bar\alpha_{t-1}} = A\,x^2 - 2B\,x + C, \quad
# A = \frac{\alpha_t}{\beta_t}+\frac1{1-\bar\alpha_{t-1}},\quad B = \frac{\sqrt{\alpha_t}\,x_t}{\beta_t}+\frac{\sqrt{\bar\alpha_{t-1}}\,x_0}{1-\bar\alpha_{t-1}} \tag{2.5}$$
#
# where $C$ does not contain $x$. Complete the square:
#
# <!-- eq:2.6 -->
# $$A x^2 - 2Bx + C = A\left(x - \frac BA\right)^2 + C - \frac{B^2}{A} \tag{2.6}$$
#
# That is the exponent of a Gaussian of mean $B/A$ and variance $1/A$. In words: both factors say something about $x$, one by $x_t$, the other by $x_0$. Their *precisions* (one over variance) add up to $A$, and the mean is the average of what they say, weighted by precision.


# %%
def posterior_by_squares(x0, xt, alpha, before):
    """Mean and variance of x_{t-1} given x_t and x_0, by Eq. 2.5-2.6; `before` is abar_{t-1}."""
    A = alpha / (1 - alpha) + 1 / (1 - before)
    B = math.sqrt(alpha) * xt / (1 - alpha) + math.sqrt(before) * x0 / (1 - before)
    return B / A, 1 / A


# %% [markdown]
# With $\beta_t = 1-\alpha_t$ and $\bar\alpha_t = \alpha_t\bar\alpha_{t-1}$ the two fractions of $A$ add up to $(1-\bar\alpha_t)/(\beta_t(1-\bar\alpha_{t-1}))$. So
#
# <!-- eq:9 -->
# $$\tilde\beta_t := \frac1A = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t \tag{9}$$
#
# <!-- eq:10 -->
# $$\tilde\mu_t(x_t,x_0) := \frac BA = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0+\frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t \tag{10}$$
#
# <!-- eq:11 -->
# $$q(x_{t-1}\mid x_t,x_0)=\mathcal N\big(\tilde\mu_t(x_t,x_0),\;\tilde\beta_t\mathbf I\big) \tag{11}$$
#
# The symbols of sympy stand in one namespace, `sy`, so that names like `beta` and `x0` remain numbers.

# %%
sy = SimpleNamespace()
sy.alpha, sy.before = sp.symbols("alpha_t abar_{t-1}", positive=True)
sy.x0, sy.xt, sy.x, sy.eps = sp.symbols("x_0 x_t x epsilon", real=True)
sy.beta, sy.abar = 1 - sy.alpha, sy.alpha * sy.before
A = sy.alpha / sy.beta + 1 / (1 - sy.before)
B = sp.sqrt(sy.alpha) * sy.xt / sy.beta + sp.sqrt(sy.before) * sy.x0 / (1 - sy.before)
exponent = (sy.xt - sp.sqrt(sy.alpha) * sy.x) ** 2 / sy.beta
exponent += (sy.x - sp.sqrt(sy.before) * sy.x0) ** 2 / (1 - sy.before)
C = exponent.subs(sy.x, 0)
sy.small = (1 - sy.before) / (1 - sy.abar) * sy.beta  # beta-tilde
sy.c0 = sp.sqrt(sy.before) * sy.beta / (1 - sy.abar)  # the factors of Eq. 10
sy.ct = sp.sqrt(sy.alpha) * (1 - sy.before) / (1 - sy.abar)
sy.mu = sy.c0 * sy.x0 + sy.ct * sy.xt
check_zero("eq:2.5", sp.expand(exponent - (A * sy.x**2 - 2 * B * sy.x + C)), "both sides")
check_zero("eq:2.6", A * (sy.x - B / A) ** 2 + C - B**2 / A - exponent, "square and exponent")
check_zero("eq:9", 1 / A - sy.small, "1/A and beta-tilde")
check_zero("eq:10", B / A - sy.mu, "B/A and mu-tilde")

# %% [markdown]
# The algebra above started from the exponent. Eq. 2.4 itself, with the denominator and all constants, is checked by densities: at any points, the log of its right-hand side must be the log density of Eq. 11.


# %%
def log_normal(x, mean, variance):
    """log of the density of N(mean, variance)."""
    variance = torch.as_tensor(variance, dtype=F64)
    return -0.5 * (torch.log(2 * math.pi * variance) + (x - mean) ** 2 / variance)


def posterior(x0, xt, alpha, before):
    """Mean and variance of x_{t-1} given x_t and x_0, Eq. 9-11."""
    beta, after = 1 - alpha, alpha * before
    c0 = math.sqrt(before) * beta / (1 - after)
    ct = math.sqrt(alpha) * (1 - before) / (1 - after)
    return c0 * x0 + ct * xt, (1 - before) / (1 - after) * beta


x0, xt, x = torch.randn(3, 50, generator=g, dtype=F64)  # any points will do
a, A_ = 0.7, 0.6  # alpha_t and abar_{t-1}
bayes = log_normal(xt, a**0.5 * x, 1 - a) + log_normal(x, A_**0.5 * x0, 1 - A_)
bayes = bayes - log_normal(xt, (a * A_) ** 0.5 * x0, 1 - a * A_)
eq_11 = log_normal(x, *posterior(x0, xt, a, A_))
check("eq:2.4", bayes, eq_11, 1e-12, "log of the right-hand side, and log of Eq. 11")

# %% [markdown]
# On rooms the package must give the same. Its tables are Eq. 9 and 10, ours the completed square.

# %%
linear = GaussianDiffusion(linear_beta_schedule(1000))
ten = rooms[:10].double()
t = torch.tensor([2, 3, 10, 50, 100, 200, 400, 600, 900, 1000])
noisy = linear.q_sample(ten, t, torch.randn(ten.shape, generator=g, dtype=F64))
mean, variance = linear.q_posterior_mean_variance(ten, noisy, t)
ours = [
    posterior_by_squares(x, y, float(linear.alphas[s]), float(linear.abar[s - 1]))
    for x, y, s in zip(ten, noisy, t.tolist(), strict=True)
]
check("eq:11", mean, torch.stack([m for m, _ in ours]), 1e-9, "means of ten rooms, t = 2 to 1000")
check("eq:9", variance.flatten(), [v for _, v in ours], 1e-12, "variances of ten rooms")

# %% [markdown]
# At $t=1$ we have $\bar\alpha_0 = 1$. The completed square then divides by zero, while Eq. 9 and 10 do not: they give $\tilde\beta_1 = 0$ and $\tilde\mu_1 = x_0$, as it must be, for $x_0$ given $x_0$ is certain. This is a test of the convention $\bar\alpha_0 = 1$. With a product that
# begins at some $\alpha_0 < 1$, as the report's does, step 1 would keep a variance.

# %%
first = torch.ones(10, dtype=torch.int64)
mean, variance = linear.q_posterior_mean_variance(ten, noisy, first)
got, certain = torch.stack([mean, variance.expand_as(mean)]), torch.stack([ten, 0 * ten])
check("eq:10", got, certain, 1e-12, "at t = 1 the posterior has mean x_0 and variance 0")
small_1 = (1 - 0.99) / (1 - 0.99 * float(linear.alphas[1])) * float(linear.betas[1])
check_fails(
    "report",
    lambda: check("report", small_1, 0, 1e-9, "beta-tilde_1"),
    "a product that begins with alpha_0 = 0.99",
)

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.2))
steps = torch.arange(1, 1001)
axes[0].loglog(steps, linear.posterior_coef_x0[1:], label="of $x_0$")
axes[0].loglog(steps[1:], linear.posterior_coef_xt[2:], ls="--", label="of $x_t$ (0 at t = 1)")
axes[0].set(xlabel="step t", ylabel=r"factor in $\tilde\mu_t$", ylim=(1e-4, 2))
axes[0].legend(fontsize=9)
axes[1].loglog(steps[1:], linear.posterior_variance[2:], label=r"$\tilde\beta_t$ (given $x_0$)")
axes[1].loglog(steps, linear.betas[1:], ls="--", label=r"$\beta_t$ (forward)")
axes[1].set(xlabel="step t", ylabel="variance of a step")
axes[1].legend(fontsize=9)
save_figure(
    run,
    fig,
    "nb02_posterior",
    "The posterior of the linear schedule, T = 1000: factors of its mean (left) and its variance "
    "beside that of the forward step (right).",
)

# %% [markdown]
# Except for the first few steps the posterior mean is nearly $x_t$: at $t = 100$ it lies two per cent of the way to $x_0$. Later the factor of $x_0$ falls to almost nothing. The variance is nearly that of the forward step.

# %% tags=["hide-input"]
coef = float(linear.posterior_coef_x0[100])
claim(run.profile, "at t = 100 the factor of x_0 is two per cent", round(coef, 2) == 0.02)

# %% [markdown] tags=["exercise"]
# **Exercise 02-1** · easy · 10 minutes
#
# Two thermometers show $m_1$ and $m_2$; their errors are normal with variances $v_1$ and $v_2$. As a function of the true temperature, the product of the two densities is again a Gaussian curve. Return its mean and its variance.


# %% tags=["exercise"]
def product(m1, v1, m2, v2): ...  # mean, variance


exercises.check("02-1", product)


# %% tags=["solution"]
def product(m1, v1, m2, v2):
    precision = 1 / v1 + 1 / v2  # the A of Eq. 2.5
    return (m1 / v1 + m2 / v2) / precision, 1 / precision


exercises.check("02-1", product)

# %% [markdown]
# ## 3. The bound: Eq. 4-7
#
# We would like to maximise $\log p_\theta(x_0) = \log\int p_\theta(x_0,\ldots,x_T)\,dx_1\cdots dx_T$. For images nobody can do this integral over all paths. Multiply and divide by $q(x_1,\ldots,x_T\mid x_0)$ inside it: now it is the logarithm of an average over paths of the forward process, which
# we can draw. The logarithm is concave, so the logarithm of an average is at least the average of the logarithms (Jensen):
#
# <!-- eq:2.7 -->
# $$-\log p_\theta(x_0)\;\le\;L_{vlb}(x_0) := \mathbb E_{q}\left[\log\frac{q(x_1,\ldots,x_T\mid x_0)}{p_\theta(x_0,\ldots,x_T)}\right] \tag{2.7}$$
#
# Both densities are products of steps, but $q(x_t\mid x_{t-1})$ runs forwards and $p_\theta(x_{t-1}\mid x_t)$ backwards. Eq. 2.4 turns the first around:
#
# <!-- eq:2.8 -->
# $$q(x_t\mid x_{t-1}) = q(x_{t-1}\mid x_t,x_0)\;\frac{q(x_t\mid x_0)}{q(x_{t-1}\mid x_0)}, \qquad t \ge 2 \tag{2.8}$$
#
# In the product over $t = 2,\ldots,T$ the fractions cancel, except for the last numerator and the first denominator. The latter cancels against $q(x_1 \mid x_0)$:
#
# <!-- eq:2.9 -->
# $$\log\frac{q(x_1,\ldots,x_T\mid x_0)}{p_\theta(x_0,\ldots,x_T)} = \log\frac{q(x_T\mid x_0)}{p(x_T)} + \sum_{t=2}^{T}\log\frac{q(x_{t-1}\mid x_t,x_0)}{p_\theta(x_{t-1}\mid x_t)}
#  - \log p_\theta(x_0\mid x_1) \tag{2.9}$$
#
# Averaged over $q$,
#
# <!-- eq:4 -->
# $$L_{vlb} = \sum_{i=0}^{T} L_i \tag{4}$$
#
# <!-- eq:5 -->
# $$L_0 := -\log p_\theta(x_0\mid x_1) \tag{5}$$
#
# <!-- eq:6 -->
# $$L_{t-1} := D_{KL}\big(q(x_{t-1}\mid x_t,x_0)\,\big\|\,p_\theta(x_{t-1}\mid x_t)\big),\qquad t = 2,\ldots,T \tag{6}$$
#
# <!-- eq:7 -->
# $$L_T := D_{KL}\big(q(x_T\mid x_0)\,\big\|\,p(x_T)\big) \tag{7}$$
#
# where $L_0$ and $L_{t-1}$ are meant as averages over $x_t \sim q(x_t \mid x_0)$. There are $T+1$ terms. $T$ of them train the network. $L_T$ has no parameters; it is the number that notebook 01 computed.
#
# ### The divergence of two normals
#
# All terms but $L_0$ compare two Gaussians, for which the integral can be done. Substitute $z = (x-m_1)/s_1$, a standard normal variable under the first density; then only $\mathbb E z = 0$ and $\mathbb E z^2 = 1$ are needed:
#
# <!-- eq:2.10 -->
# $$D_{KL}\big(\mathcal N(m_1,s_1^2)\,\|\,\mathcal N(m_2,s_2^2)\big) = \log\frac{s_2}{s_1}+\frac{s_1^2+(m_1-m_2)^2}{2s_2^2}-\frac12 \tag{2.10}$$
#
# For images with independent noise the divergences of the single numbers add up.


# %%
def kl(mean1, variance1, mean2, variance2):
    """D_KL(N(mean1, variance1) || N(mean2, variance2)) in nats, elementwise, Eq. 2.10."""
    v1, v2 = (torch.as_tensor(v, dtype=F64) for v in (variance1, variance2))
    return 0.5 * (torch.log(v2 / v1) + (v1 + (mean1 - mean2) ** 2) / v2 - 1)


z = sp.symbols("z", real=True)
m1, m2 = sp.symbols("m_1 m_2", real=True)
s1, s2 = sp.symbols("s_1 s_2", positive=True)
kl_formula = sp.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - sp.Rational(1, 2)
log_ratio = -(z**2) / 2 - sp.log(s1) + (m1 + s1 * z - m2) ** 2 / (2 * s2**2) + sp.log(s2)
weight = sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
integral = sp.integrate(sp.expand(log_ratio * weight), (z, -sp.oo, sp.oo))
check_zero("eq:2.10", sp.expand_log(integral - kl_formula, force=True), "integral and formula")

# %%
from bedgen_utils.diffusion import normal_kl

a, b, v, w = torch.randn(4, 100, generator=g, dtype=F64)
theirs = normal_kl(a, v, b, w)  # it takes logs of variances
check("eq:2.10", theirs, kl(a, v.exp(), b, w.exp()), 1e-9, "the package's normal_kl, and ours")

# %% [markdown] tags=["exercise"]
# **Exercise 02-2** · medium · 10 minutes
#
# A divergence of images is quoted in *bits per dimension*: in bits instead of nats, averaged over the numbers of an image. Write it for batches of images of shape (N, C, H, W): means and variances in, one number an image out.


# %% tags=["exercise"]
def kl_bits(mean1, variance1, mean2, variance2): ...  # a tensor of N numbers


exercises.check("02-2", kl_bits)


# %% tags=["solution"]
def kl_bits(mean1, variance1, mean2, variance2):
    squared = (variance1 + (mean1 - mean2) ** 2) / variance2
    nats = 0.5 * (torch.log(variance2 / variance1) + squared - 1)
    return nats.flatten(1).mean(1) / math.log(2)


exercises.check("02-2", kl_bits)

# %% [markdown]
# ### The bound, path by path
#
# Eq. 2.9 holds for every single path and every model, so it can be checked on simulated paths with any model. The simplest model guesses $x_0$ by a straight line in $x_t$. For data of mean $m$ and variance $\tau^2$ the best line has the slope
# $\operatorname{Cov}(x_0,x_t)/\operatorname{Var}(x_t)$, as in any regression:
#
# <!-- eq:2.11 -->
# $$\hat x_0(x_t) = m + \frac{\sqrt{\bar\alpha_t}\,\tau^2}{\bar\alpha_t \tau^2 + 1-\bar\alpha_t}\,\big(x_t-\sqrt{\bar\alpha_t}\,m\big) \tag{2.11}$$
#
# The model step $p_\theta$ puts this guess into Eq. 10 and takes $\beta_t$ for its variance. (A model with variance $\tilde\beta_t$ takes $\tilde\beta_2$ at $t = 1$: there $\tilde\beta_t$ is zero, and $p_\theta(x_0\mid x_1)$ must have a density.)


# %%
def straight_line(xt, abar_t, m, tau2):
    """The best guess of x_0 that is a straight line in x_t, Eq. 2.11."""
    slope = math.sqrt(abar_t) * tau2 / (abar_t * tau2 + 1 - abar_t)
    return m + slope * (xt - math.sqrt(abar_t) * m)


m, square = (float(v) for v in q_moments(world, 1.0))
tau2 = square - m**2  # of the small world
x0 = world.sample(run.p.draws, g) + 1  # moved: the small world's own mean is nearly 0
xt = math.sqrt(0.6) * x0 + math.sqrt(0.4) * torch.randn(x0.shape, generator=g, dtype=F64)
miss = x0 - straight_line(xt, 0.6, m + 1, tau2)
check_mean(
    "eq:2.11",
    torch.cat([miss, miss * xt], 1),
    [0, 0],
    "the best line's error has mean 0 and is uncorrelated with x_t",
)

# %% [markdown]
# A chain of eight steps from $x_0 = 0.55$, by Eq. 2. Along each path we collect the logarithm on the left of Eq. 2.9, and the terms on its right.

# %%
d = GaussianDiffusion(linear_beta_schedule(8, 0.05, 0.5))  # index 0 is "no step yet"
alphas, betas, abar = d.alphas.tolist(), d.betas.tolist(), d.abar.tolist()
x0 = torch.full((run.p.draws, 1), 0.55, dtype=F64)
path = [x0]
for t in range(1, 9):
    noise = torch.randn(x0.shape, generator=g, dtype=F64)
    path.append(math.sqrt(alphas[t]) * path[-1] + math.sqrt(betas[t]) * noise)


def model_step(xt, t):
    """Mean and variance of p_theta(x_{t-1} | x_t) for the straight line."""
    guess = straight_line(xt, abar[t], m, tau2)
    return posterior(guess, xt, alphas[t], abar[t - 1])[0], betas[t]


def log_q(t):
    """log q(x_t | x_0) along the paths."""
    return log_normal(path[t], math.sqrt(abar[t]) * x0, 1 - abar[t])


# %%
log_prior = log_normal(path[8], 0, 1)
whole = -log_prior  # becomes log q(x_1 ... x_8 | x_0) - log p(x_0 ... x_8)
terms = [-log_normal(path[0], *model_step(path[1], 1))]  # L_0
for t in range(1, 9):
    forward = log_normal(path[t], math.sqrt(alphas[t]) * path[t - 1], betas[t])
    backward = log_normal(path[t - 1], *model_step(path[t], t))
    whole = whole + forward - backward
    if t > 1:
        turned = log_normal(path[t - 1], *posterior(x0, path[t], alphas[t], abar[t - 1]))
        terms.append(turned - backward)
        if t == 5:
            check("eq:2.8", forward, turned + log_q(5) - log_q(4), 1e-9, "logs at t = 5")
terms = torch.cat([*terms, log_q(8) - log_prior], 1)
check("eq:2.9", whole, terms.sum(1, keepdim=True), 1e-8, "whole ratio and nine terms, each path")

# %% [markdown]
# The average over paths of $p_\theta(x_0,\ldots)/q(x_1,\ldots\mid x_0)$ is $p_\theta(x_0)$; that was the first step of the derivation. In the small world $p_\theta(x_0)$ can also be had by integrating step by step over a grid, from $p(x_T)$ down to $x_0$. Both must agree, and
# the bound must lie above.

# %%
density = torch.exp(log_normal(line, 0.0, 1.0))  # p(x_8) on the grid
for t in range(8, 0, -1):
    mean, variance = model_step(line[:, None], t)
    to = x0[:1] if t == 1 else line[None]
    density = (density[:, None] * torch.exp(log_normal(to, mean, variance))).sum(0) * dx
nll = -float(torch.log(density[0]))
check_mean(
    "eq:2.7",
    torch.exp(nll - whole.flatten()),
    1.0,
    "average of p/q over paths, divided by p(x_0) from the grid",
)
print(f"-log p(x_0) = {nll:.3f} nats; the bound is {float(whole.mean()):.3f}")
claim(run.profile, "the bound lies above, by 0.2 nats at most", 0 < float(whole.mean()) - nll < 0.2)

# %% [markdown]
# ### The bound, in code
#
# Paths explain the bound, but to compute it they are wasteful. Eq. 6 needs no $x_{t-1}$: given $x_t$, the divergence is a formula. So one noisy $x_t$ for each $t$ will do.


# %%
def minus_log_density(x0, mean, variance):
    return -log_normal(x0, mean, variance)


def bound(guess, x0, noisy, d, first_term=minus_log_density):
    """L_0 ... L_T (N, T + 1) in nats per dimension; guess(x_t, t) is x0-hat, noisy[t] is x_t."""
    terms = []
    for t in range(1, d.T + 1):
        at = float(d.alphas[t]), float(d.abar[t - 1])
        mean, _ = posterior(guess(noisy[t], t), noisy[t], *at)  # of p_theta
        if t == 1:
            terms.append(first_term(x0, mean, d.betas[1]))  # Eq. 5
        else:
            terms.append(kl(*posterior(x0, noisy[t], *at), mean, d.betas[t]))  # Eq. 6
    abar_T = float(d.abar[-1])
    terms.append(kl(math.sqrt(abar_T) * x0, 1 - abar_T, 0, 1))  # Eq. 7
    return torch.stack([term.flatten(1).mean(1) for term in terms], 1)


# %% [markdown]
# The package's version is `GaussianDiffusion.vlb`. It calls any `model(x_t, t)` and reports bits. A process is told what the model answers, here `"x0"`, and its variance: `"small"` is $\tilde\beta_t$, `"large"` $\beta_t$, and `"learned"` leaves it to the model. We let it score 0.55 with the straight line. On the $x_t$ that it draws, our function must give the same numbers; its averages must be those of the paths, on which other noise was drawn.

# %%
d = GaussianDiffusion(linear_beta_schedule(8, 0.05, 0.5), "x0", "large")
noisy = {}


def answers(xt, t):
    """The straight line as the package calls it; keeps x_t."""
    noisy[int(t[0])] = xt
    return straight_line(xt, float(d.abar[int(t[0])]), m, tau2)


package = d.vlb(answers, x0, generator=g, clip=False, bins=None).terms * math.log(2)
ours = bound(lambda xt, t: straight_line(xt, float(d.abar[t]), m, tau2), x0, noisy, d)
check("eq:4", package, ours, 1e-9, "nine terms by the package and by ours, on the same x_t")
apart = (terms - ours)[:, :-1]
check_mean("eq:6", apart, torch.zeros(8), "L_0 and each L_{t-1}: along paths minus by formula")
q_8 = torch.exp(log_normal(line, math.sqrt(d.abar[8]) * 0.55, 1 - d.abar[8]))
wanted = (q_8 * (q_8.log() - log_normal(line, 0.0, 1.0))).sum() * dx
check("eq:7", ours[0, -1], wanted, 1e-8, "L_T by the formula, and its integral on the grid")

# %% [markdown]
# ## 4. $L_0$ for images: 256 bins
#
# An image is made of whole numbers. A density at a point could be made infinite by a model that puts spikes on the 256 possible values. So $L_0$ must be a *probability*. Level $k = 0,\ldots,255$ sits at $c_k = 2k/255-1$. Its bin reaches $h = 1/255$ to either side. The outer two bins are
# open, because a Gaussian has mass out there, too:
#
# <!-- eq:2.12 -->
# $$P_k = \Phi\!\left(\frac{b_k-\mu}{\sigma}\right)-\Phi\!\left(\frac{a_k-\mu}{\sigma}\right),\quad
# a_k = \begin{cases}-\infty & k=0\\ c_k-h & k>0\end{cases},\quad b_k=\begin{cases}c_k+h & k<255\\ +\infty & k=255\end{cases},\quad \sum_{k=0}^{255} P_k = 1 \tag{2.12}$$
#
# Here $\Phi$ is the distribution function of the standard normal, and $\mu$ and $\sigma$ are what $p_\theta(x_0\mid x_1)$ names for this number of the image. Then $L_0 = -\log P_k$ for the level $k$ that it really has.


# %%
def bin_probability(x0, mean, variance, bins=256):
    """P_k of Eq. 2.12 for the bin in which x0 lies."""
    h, sigma = 1 / (bins - 1), torch.sqrt(torch.as_tensor(variance, dtype=F64))
    a = torch.where(x0 < -1 + h, -math.inf, x0 - h)
    b = torch.where(x0 > 1 - h, math.inf, x0 + h)
    return torch.special.ndtr((b - mean) / sigma) - torch.special.ndtr((a - mean) / sigma)


levels256 = torch.linspace(-1, 1, 256, dtype=F64)
mean, sigma = -0.99, 0.05
P = bin_probability(levels256, mean, sigma**2)
edges = np.concatenate([[-np.inf], levels256[:-1].numpy() + 1 / 255, [np.inf]])
by_scipy = np.diff(stats.norm.cdf(edges, mean, sigma))
check("eq:2.12", P, by_scipy, 1e-12, "each of 256 bins, by scipy; mean -0.99")
edges[[0, -1]] = [-1 - 1 / 255, 1 + 1 / 255]
check_fails(
    "closed",
    lambda: check("closed", np.diff(stats.norm.cdf(edges, mean, sigma)).sum(), 1, 1e-12, "sum"),
    "outer bins closed: mass is lost",
)

# %% [markdown]
# The package's `discretized_gaussian_nll` gives $-\log P_k$. Near the mean both agree. Far from it $\Phi$ rounds to 0 or 1, our difference is 0, and its logarithm is infinite; the package takes the difference in logarithms.

# %%
from bedgen_utils.diffusion import discretized_gaussian_nll

some, sigma = rooms[:4].double(), 0.02
noise = torch.randn(some.shape, generator=g, dtype=F64)
means, log_variance = some + sigma * noise, torch.tensor(2 * math.log(sigma), dtype=F64)
check(
    "eq:5",
    discretized_gaussian_nll(some, means, log_variance),
    -torch.log(bin_probability(some, means, sigma**2)),
    1e-9,
    "L_0 of four rooms by the package and by ours",
)
far = torch.tensor([0.5], dtype=F64)
print(
    f"50 standard deviations away: ours {-float(torch.log(bin_probability(-far, far, 4e-4))):.1f}, "
    f"the package {float(discretized_gaussian_nll(-far, far, log_variance)):.1f} nats"
)

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.4, 3))
c16 = torch.linspace(-1, 1, 16, dtype=F64)
curve = torch.linspace(-1.7, 1.4, 400, dtype=F64)
for (mu, std), hatch, colour in (((0.15, 0.22), "", "#0072B2"), ((-1.0, 0.3), "//", "#D55E00")):
    P16 = bin_probability(c16, mu, std**2, bins=16)
    ax.bar(
        c16,
        P16,
        width=2 / 15,
        alpha=0.5,
        color=colour,
        hatch=hatch,
        edgecolor="white",
        label=f"mean {mu}, std {std}: sum {float(P16.sum()):.6f}",
    )
    ax.plot(curve, stats.norm.pdf(curve, mu, std) * 2 / 15, color=colour, lw=1)
ax.set(xlabel="value of a pixel", ylabel="probability of the bin", xlim=(-1.7, 1.4))
ax.legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb02_bins",
    "L_0 with 16 bins for show: bars are the probabilities of the bins, lines the densities "
    "times the width of a bin. The lowest bin takes all mass below, so a mean at the edge of the "
    "range costs little there.",
)

# %% [markdown]
# ## 5. An exact world: does the bound measure what it claims?
#
# For images one never knows the true negative log-likelihood. In the small world one does: on average it is the *entropy* $H(x_0)=-\mathbb E\log q(x_0)$. The best denoiser is known, too: the guess with the least squared error is the mean of $x_0$ given $x_t$. Given the hump $k$ (mean $m_k$, standard deviation $s_k$) from which $x_0$ came, the pair $(x_0, x_t)$ is jointly normal,
# so Eq. 2.11 for this hump is the mean of $x_0$ given $x_t$. Then average over the humps, weighted by how probable each is given $x_t$:
#
# <!-- eq:2.13 -->
# $$\mathbb E[x_0\mid x_t]=\sum_k p(k\mid x_t)\,\Big(m_k+g_k\,\big(x_t-\sqrt{\bar\alpha_t}\,m_k\big)\Big),\qquad g_k=\frac{\sqrt{\bar\alpha_t}\,s_k^2}{\bar\alpha_t s_k^2+1-\bar\alpha_t} \tag{2.13}$$


# %%
def best_guess(xt, abar_t):
    """E[x_0 | x_t] in the small world, Eq. 2.13; xt is a vector."""
    w, m, s = (torch.tensor(v, dtype=F64) for v in (world.weights, world.means, world.stds))
    xt = xt[:, None]
    spread = torch.sqrt(abar_t * s**2 + 1 - abar_t)  # of x_t within each hump
    log_p = torch.log(w) + log_normal(xt, math.sqrt(abar_t) * m, spread**2)
    return (torch.softmax(log_p, 1) * straight_line(xt, abar_t, m, s**2)).sum(1)


points, ours, grid, theirs = torch.tensor([-0.8, 0.1, 1.5], dtype=F64), [], [], []
for abar_t in (0.9, 0.5, 0.05):
    log_joint = world.log_prob(line) + log_normal(points[:, None], abar_t**0.5 * line, 1 - abar_t)
    ours.append(best_guess(points, abar_t))
    grid.append((torch.softmax(log_joint, 1) * line).sum(1))
    theirs.append(world.posterior(points, abar_t)[0])
others = torch.stack([torch.cat(grid), torch.cat(theirs)])
check(
    "eq:2.13", torch.cat(ours), others, 1e-12, "mean of x_0 given x_t, on a grid and by the package"
)

# %% [markdown]
# `world.posterior` also gives $\operatorname{Var}[x_0\mid x_t]$. Average Eq. 11 over $x_0$ given $x_t$. The mean is linear in $x_0$. The variance is the mean of the variance, plus the variance of the mean:
#
# <!-- eq:2.14 -->
# $$\mathbb E[x_{t-1}\mid x_t]=\tilde\mu_t\big(x_t,\mathbb E[x_0\mid x_t]\big),\qquad \operatorname{Var}[x_{t-1}\mid x_t]=\tilde\beta_t+c_t^2\operatorname{Var}[x_0\mid x_t],\quad c_t=\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t} \tag{2.14}$$
#
# So a network that guesses $x_0$ well knows the mean of the reverse step, and no table is needed. The tables of section 1 must agree.


# %%
def best_step(world, xt, alpha, before):
    """Mean and variance of x_{t-1} given x_t, Eq. 2.14."""
    guess, left_open = world.posterior(xt, alpha * before)
    mean, small = posterior(guess, xt, alpha, before)
    c = math.sqrt(before) * (1 - alpha) / (1 - alpha * before)
    return mean, small + c**2 * left_open


betas = (0.3, 0.05)
ours = torch.cat([torch.cat(best_step(world, points, 1 - beta, before)) for beta in betas])
tables = (mean_and_variance(reverse_table(beta, before, points)) for beta in betas)
tables = torch.cat([torch.cat(table) for table in tables])
check("eq:2.14", ours, tables, 1e-9, "means and variances of two best steps, and of the table")

# %% [markdown]
# What should the bound be on average over the data? Eq. 2.7, averaged, is $H(x_0)$ plus the divergence between whole paths $x_0,\ldots,x_T$ under $q$ and under $p_\theta$. Write both path densities backwards, from $x_T$ to $x_0$; read so, $q$ is a Markov chain, too. The divergence splits into that of the start and that of
# each step:
#
# <!-- eq:2.15 -->
# $$\mathbb E\,L_{vlb}=H(x_0)+D_{KL}\big(q(x_T)\,\|\,\mathcal N(0,1)\big)+\sum_{t=1}^{T}\mathbb E\,D_{KL}\big(q(x_{t-1}\mid x_t)\,\|\,p_\theta(x_{t-1}\mid x_t)\big) \tag{2.15}$$
#
# In words: the entropy of the data, plus the mismatch of the start, plus the mismatch of each step. What exceeds the entropy is the *gap*.
#
# The package computes both sides in the small world (`Mixture.bound_terms`). We test their values: one share of the gap by table, and every term but $L_T$ by `vlb`, the code that will score images in notebook 03.

# %%
d = GaussianDiffusion(cosine_beta_schedule(10), "v", "small")
beta, at = float(d.betas[5]), float(d.abar[4])
q = reverse_table(beta, at, nodes)
mean, variance = (column[:, None] for column in mean_and_variance(q))
wanted = log_normal(line, mean, d.posterior_variance[5])  # variance beta-tilde instead of the best
shares = (q * (q.clamp(min=1e-300).log() - wanted)).sum(1) * dx
weights = world.log_prob(nodes, float(d.abar[5])).exp() * 3 * dx
terms_10, gaps_10 = world.bound_terms(d)
total = world.entropy() + gaps_10.sum()
both = [weights @ shares, total]
check(
    "eq:2.15", [gaps_10[4], terms_10.sum()], both, 1e-9, "step 5 of 10 by table; the sum of terms"
)

d30 = GaussianDiffusion(cosine_beta_schedule(30), "v", "learned")
scored = world.sample(run.p.draws, g)
estimate = d30.vlb(world.denoiser(d30), scored, generator=g, clip=False, bins=None)
estimate = estimate.terms * math.log(2)
exact30, gap30 = world.bound_terms(d30)
check_mean("eq:2.15", estimate[:, :-1], exact30[:-1], "each term of vlb, T = 30, and its integral")

# %% [markdown]
# **Why $L_T$ counts.** As the report says, $L_T$ does not depend on $\theta$ and is close to zero if the chain is long enough. If it is not, leaving it out breaks the bound. A single hump and a chain that is too short show it: there each reverse step *is* Gaussian, so with the exact variance the sum in Eq. 2.15 is zero, and the rest is a formula. Without $L_T$ the terms miss it.

# %%
one = Mixture((1.0,), (0.0,), (0.5,))
short = GaussianDiffusion(linear_beta_schedule(200), "v", "learned")
spread = float(short.abar[-1]) * 0.25 + 1 - float(short.abar[-1])  # variance of x_T
truth = 0.5 * math.log(2 * math.pi * math.e * 0.25) + float(kl(0, spread, 0, 1))
L = one.bound_terms(short)[0]
check("right", L.sum(), truth, 1e-9, "L_0 + ... + L_T, one hump, and entropy plus start")
check_fails(
    "common error",
    lambda: check("common error", L[:-1].sum(), truth, 1e-9, "L_0 + ... + L_{T-1}"),
    "L_T left out",
)
below = float(one.entropy() - L[:-1].sum())
claim(run.profile, "without L_T the terms fall below the entropy: no bound", below > 0.01)

# %% [markdown]
# With the exact denoiser, the mean of each step is the best there is. What remains is its shape (section 1) and its variance. The figure compares three variances: the exact one of Eq. 2.14 and the two simple choices $\beta_t$ and $\tilde\beta_t$.

# %% tags=["hide-input"]
H = world.entropy()
chains = [5, 10, 30, 100] + ([300, 1000] if run.profile != "smoke" else [])
names = {
    "small": r"variance $\tilde\beta_t$",
    "large": r"variance $\beta_t$",
    "learned": "exact variance",
}
totals = {
    v: [
        float(world.bound_terms(GaussianDiffusion(cosine_beta_schedule(T), "v", v))[0].sum())
        for T in chains
    ]
    for v in names
}
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.6))
axes[0].semilogy(np.arange(2, 31), exact30[1:-1], marker="o", ms=4, label="$L_{t-1}$, exact")
error = estimate.std(0) / len(estimate) ** 0.5
axes[0].errorbar(
    np.arange(2, 31),
    estimate.mean(0)[1:-1],
    yerr=2 * error[1:-1],
    fmt=".",
    color="black",
    ms=3,
    lw=1,
    label="vlb, ± 2 standard errors",
)
shares = torch.where(gap30[:-1] > 1e-12, gap30[:-1], math.nan)  # below it all is rounding
axes[0].semilogy(np.arange(1, 31), shares, marker="s", ms=3, label="share of the gap")
axes[0].set(xlabel="step t", ylabel="nats", title="T = 30, exact variance")
axes[0].legend(fontsize=8)
for (name, values), marker in zip(totals.items(), "^so", strict=True):
    axes[1].loglog(chains, np.array(values) - H, marker=marker, ms=4, label=names[name])
axes[1].set(xlabel="number of steps T", ylabel="gap: bound minus entropy (nats)")
axes[1].legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb02_exact_world",
    "Left: terms of the bound in the small world, their estimates by vlb, and each step's share of "
    "the gap, where it is above rounding. Right: as T grows the bound falls to the entropy for the "
    "exact variance and for beta_t, not for beta-tilde_t.",
    {"entropy": H, "T": chains, "bound": totals},
)

# %% [markdown]
# With the exact variance the gap falls about like $1/T^2$: the $\beta^3$ of section 1 a step, times $1/\beta$ steps. With $\beta_t$ a step costs order $\beta^2$, and the gap falls like $1/T$. With $\tilde\beta_t$ half a nat remains even at $T = 1000$. (Why? That is a question at the end.) Note the left panel, too: the terms
# themselves are far larger than the gap. A term of the bound is not an error of the model: most of it is what $x_{t-1}$ tells about $x_0$ and $x_t$ does not.

# %% tags=["hide-input"]
slope = {
    v: float(np.polyfit(np.log(chains[-3:]), np.log(np.array(totals[v][-3:]) - H), 1)[0])
    for v in names
}
claim(
    run.profile,
    "gaps fall like 1/T^2 (exact variance) and 1/T (beta)",
    abs(slope["learned"] + 2) < 0.2 and abs(slope["large"] + 1) < 0.1,
)
claim(run.profile, "beta-tilde keeps half a nat", round(totals["small"][-1] - H, 1) == 0.5)

# %% [markdown] tags=["exercise"]
# **Exercise 02-3** · a small experiment · 10 minutes
#
# By which factor does the gap fall from $T = 100$ to $T = 200$ steps, if the variance is fixed at $\beta_t$? Measure it with the package: `Mixture()` has the methods `entropy()` and `bound_terms(process)`, whose first result holds the terms. The stub makes the process of 100 steps and variance $\beta_t$; `"v"` makes no difference here (section 6).

# %% tags=["exercise"]
process = GaussianDiffusion(cosine_beta_schedule(100), "v", "large")
factor = ...  # a number
exercises.check("02-3", factor)

# %% tags=["solution"]
gap = {}
for T in (100, 200):
    process = GaussianDiffusion(cosine_beta_schedule(T), "v", "large")
    gap[T] = float(Mixture().bound_terms(process)[0].sum()) - Mixture().entropy()
factor = gap[100] / gap[200]
exercises.check("02-3", factor)

# %% [markdown]
# ### The same on rooms
#
# Now 256 bins, rooms, and bits per dimension. The simplest model without a network treats all numbers of an image as independent and normal: mean and variance of each, over rooms other than those scored, make Eq. 2.11 a denoiser. (Notebook 03 measures a trained network.)

# %%
d100 = GaussianDiffusion(cosine_beta_schedule(100), "x0", "large")
fitted, scored = rooms[run.p.scored :], rooms[: run.p.scored]
pixel_mean, pixel_variance = fitted.mean(0), fitted.var(0).clamp(min=1e-3)
noisy = {}


def per_pixel(xt, t):
    noisy[int(t[0])] = xt
    return straight_line(xt, float(d100.abar[int(t[0])]), pixel_mean, pixel_variance)


package = d100.vlb(per_pixel, scored[:4].double(), generator=g)  # clips x0-hat to [-1, 1]
ours = bound(
    lambda xt, t: per_pixel(xt, torch.tensor([t])).clamp(-1, 1),
    scored[:4].double(),
    noisy,
    d100,
    first_term=lambda *a: -torch.log(bin_probability(*a)),
)
check("eq:4", package.terms, ours / math.log(2), 1e-9, "101 terms on four rooms, package and ours")

# %%
few = d100.vlb(per_pixel, scored, generator=g)
probability = bin_probability(scored.double(), pixel_mean.double(), pixel_variance.double())
bits = {
    "L_0": few.L_0,
    "sum of L_{t-1}": few.L_t.sum(1),
    "L_T": few.L_T,
    "total": few.total,
    "scored without diffusion": -torch.log2(probability).flatten(1).mean(1),
}
bits["lost by a hundred steps"] = bits["total"] - bits["scored without diffusion"]
table = [
    {"term": k, "bits/dim": float(v.mean()), "standard error": float(v.std() / len(v) ** 0.5)}
    for k, v in bits.items()
]
save_table(
    run,
    table,
    "nb02_bits_per_dim",
    f"The bound for independent normal pixels on {run.p.scored} rooms, T = 100, and the same model "
    "scored without diffusion. No network is trained.",
)

# %% [markdown]
# On the same rooms the same Gaussians scored without diffusion cost 7.68 bits: a hundred steps lose 0.02. Guessing evenly among 256 levels costs 8. So a model that knows nothing of neighbours saves only a third of a bit.
#
# **A place to rest.** The bound is complete: derived, computed, and shown to measure what it claims. The second half asks what the network should output, which loss trains it, and how to sample faster.

# %% tags=["hide-input"]
direct, through = (float(bits[name].mean()) for name in ("scored without diffusion", "total"))
claim(
    run.profile,
    "7.68 bits without diffusion; a hundred steps lose 0.02; guessing costs a third of a bit more",
    round(direct, 2) == 7.68 and 0.01 < through - direct < 0.04,
)

# %% [markdown]
# ## 6. What should the network output? Four answers and the maps between them
#
# The mean of the reverse step can be had from any of four outputs: the mean itself; the image $\hat x_0$, put into Eq. 10; the noise $\epsilon$ of Eq. 8; or the *velocity* (Salimans & Ho 2022)
#
# <!-- eq:2.16 -->
# $$v := \sqrt{\bar\alpha_t}\,\epsilon-\sqrt{1-\bar\alpha_t}\,x_0 \tag{2.16}$$
#
# A network that predicts the noise must be able to say which image it means. That is the next exercise; the cells after it give it away.

# %% [markdown] tags=["exercise"]
# **Exercise 02-4** · easy · 5 minutes
#
# Given $x_t$ and the noise $\epsilon$ that made it, return $x_0$. You get both $\alpha_t$ and $\bar\alpha_t$.


# %% tags=["exercise"]
def x0_from_noise(xt, eps, alpha_t, abar_t): ...  # your line


exercises.check("02-4", x0_from_noise)


# %% tags=["solution"]
def x0_from_noise(xt, eps, alpha_t, abar_t):
    # Eq. 8 solved for x_0. The alpha of a single step has no part in it.
    return (xt - math.sqrt(1 - abar_t) * eps) / math.sqrt(abar_t)


exercises.check("02-4", x0_from_noise)

# %% [markdown]
# Solving Eq. 8 for $x_0$ gives what the report's Eq. 12 is meant to say:
#
# <!-- eq:12 -->
# $$x_0=\frac1{\sqrt{\bar\alpha_t}}\left(x_t-\sqrt{1-\bar\alpha_t}\;\epsilon\right) \qquad\text{(corrected)} \tag{12}$$
#
# Seen as vectors, $(x_t, v)$ is $(x_0,\epsilon)$ turned by the angle whose cosine is $\sqrt{\bar\alpha_t}$. The way back is the opposite turn:
#
# <!-- eq:2.17 -->
# $$x_0=\sqrt{\bar\alpha_t}\,x_t-\sqrt{1-\bar\alpha_t}\,v,\qquad \epsilon=\sqrt{1-\bar\alpha_t}\,x_t+\sqrt{\bar\alpha_t}\,v \tag{2.17}$$
#
# A turn divides by nothing, so $v$ is well behaved at both ends. Eq. 12 divides by $\sqrt{\bar\alpha_t}$, which near $t = T$ is almost zero: a small error in $\epsilon$ becomes a large one in $x_0$. Put the corrected Eq. 12 into Eq. 10, and the posterior mean in terms of the noise is
#
# <!-- eq:2.18 -->
# $$\tilde\mu_t=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\epsilon\right) \tag{2.18}$$


# %%
def x0_from_eps(xt, eps, abar_t):
    """Eq. 12, corrected."""
    return (xt - torch.sqrt(1 - abar_t) * eps) / torch.sqrt(abar_t)


def x0_from_v(xt, v, abar_t):
    """Eq. 2.17."""
    return torch.sqrt(abar_t) * xt - torch.sqrt(1 - abar_t) * v


t = torch.linspace(1, 1000, 10).round().long()
eps = torch.randn(ten.shape, generator=g, dtype=F64)
xt, at = linear.q_sample(ten, t, eps), linear.abar[t].reshape(-1, 1, 1, 1)
v = linear.velocity(ten, eps, t)
check("eq:12", x0_from_eps(xt, eps, at), ten, 1e-10, "ten rooms from x_t and the noise")
check("eq:2.16", v, at.sqrt() * eps - (1 - at).sqrt() * ten, 1e-12, "the package's velocity")
back = torch.stack([x0_from_v(xt, v, at), (1 - at).sqrt() * xt + at.sqrt() * v])
check(
    "eq:2.17", back, torch.stack([ten, eps]), 1e-12, "ten rooms and their noise from the velocity"
)
printed = (sy.xt - sy.beta / sp.sqrt(1 - sy.abar) * sy.eps) / sp.sqrt(sy.alpha)
corrected = (sy.xt - sp.sqrt(1 - sy.abar) * sy.eps) / sp.sqrt(sy.abar)
check_zero("eq:2.18", sy.mu.subs(sy.x0, corrected) - printed, "Eq. 10 of Eq. 12, corrected")

# %% [markdown]
# The package has a process for each of the four: what a network should answer (`target`), and back (`predict_xstart`).

# %%
guesses = []
for prediction in ("v", "eps", "x0", "mean"):
    d = GaussianDiffusion(linear_beta_schedule(1000), prediction)
    guesses.append(d.predict_xstart(d.target(ten, xt, t, eps), xt, t))
check("eq:12", torch.stack(guesses), ten, 1e-6, "ten rooms back from each of the four targets")

# %% [markdown]
# ### The report's Eq. 12 is the posterior mean
#
# **Erratum.** As printed in the report, Eq. 12 reads $x_0 = \frac{1}{\sqrt{\alpha_t}}\big(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\epsilon\big)$. Its right-hand side is Eq. 2.18, letter by letter. It is the mean of $x_{t-1}$, and not $x_0$:
#
# <!-- eq:2.19 -->
# $$\frac{1}{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\epsilon\right) = \tilde\mu_t(x_t, x_0) \;\ne\; x_0 \qquad (t > 1) \tag{2.19}$$
#
# By how much does it miss? Substitute Eq. 8. The miss is $x_0$ times one factor plus $\epsilon$ times another, so on average over data and noise
#
# <!-- eq:2.20 -->
# $$\mathbb E\Big\|\text{Eq. 12 as printed} - x_0\Big\|^2 = \big(1-\sqrt{\bar\alpha_{t-1}}\big)^2\,\mathbb E\|x_0\|^2 + \frac{\alpha_t\,(1-\bar\alpha_{t-1})^2}{1-\bar\alpha_t}\; D \tag{2.20}$$
#
# with $D$ the number of values in an image. Only at $t=1$ are the two the same. Section 11 runs a sampler that believes the formula.


# %%
def x0_as_printed(xt, eps, alpha_t, abar_t):
    """The report's Eq. 12."""
    return (xt - (1 - alpha_t) / torch.sqrt(1 - abar_t) * eps) / torch.sqrt(alpha_t)


mean, _ = linear.q_posterior_mean_variance(ten, xt, t)
wrong = x0_as_printed(xt, eps, linear.alphas[t].reshape(-1, 1, 1, 1), at)
check("eq:2.19", wrong, mean, 1e-9, "ten rooms: Eq. 12 as printed, and the posterior mean")
sy.noised = sp.sqrt(sy.abar) * sy.x0 + sp.sqrt(1 - sy.abar) * sy.eps
miss = sp.expand(printed.subs(sy.xt, sy.noised) - sy.x0)
factors = [sp.sqrt(sy.before) - 1, sy.alpha * (1 - sy.before) ** 2 / (1 - sy.abar)]
check_zero(
    "eq:2.20",
    [sp.simplify(sp.diff(miss, sy.x0)) - factors[0], sp.diff(miss, sy.eps) ** 2 - factors[1]],
    "factors of x_0 and of the noise in the miss",
)
check_fails(
    "report",
    lambda: check("report", wrong, ten, 1e-10, "ten rooms"),
    "the report's Eq. 12 taken for x_0",
)

# %% tags=["hide-input"]
shown = rooms[: min(200, len(rooms))].double()
rms = {"printed": [], "corrected": [], "predicted": []}
times = [1, 2, 5, 10, 20, 50, 100, 200, 400, 600, 800, 1000]
for s in times:
    a, abar_s, abar_before = linear.alphas[s], linear.abar[s], linear.abar[s - 1]
    noise = torch.randn(shown.shape, generator=g, dtype=F64)
    x_s = linear.q_sample(shown, torch.full((len(shown),), s), noise)
    for name, guess in (
        ("printed", x0_as_printed(x_s, noise, a, abar_s)),
        ("corrected", x0_from_eps(x_s, noise, abar_s)),
    ):
        rms[name].append(float(((guess - shown) ** 2).mean().sqrt()))
    of_x0 = (1 - abar_before.sqrt()) ** 2 * (shown**2).mean()
    rms["predicted"].append(float((of_x0 + a * (1 - abar_before) ** 2 / (1 - abar_s)).sqrt()))
check("eq:2.20", rms["printed"], rms["predicted"], 0.005, "root-mean-square miss at twelve t")
fig, ax = plt.subplots(figsize=(6.4, 3.3))
ax.semilogx(times, rms["printed"], marker="o", ms=4, label="Eq. 12 as printed in the report")
ax.semilogx(times, rms["predicted"], color="black", lw=1, ls="--", label="its miss by Eq. 2.20")
ax.semilogx(times, rms["corrected"], marker="s", ms=4, label="Eq. 12 corrected")
ax.axhline(
    float(shown.std()), color="grey", lw=0.8, ls=":", label="standard deviation of the rooms"
)
ax.set(xlabel="step t (linear schedule, T = 1000)", ylabel="root-mean-square distance to $x_0$")
ax.legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb02_eq12",
    f"What the report's Eq. 12 returns instead of x_0, given the very noise that made x_t; "
    f"{len(shown)} rooms. Its miss (circles) follows Eq. 2.20 (dashed); Eq. 12 corrected has none.",
    {"t": times, **rms},
)

# %% [markdown]
# Between $t = 100$ and $200$ the printed formula begins to miss $x_0$ by more than the rooms' own standard deviation.

# %% tags=["hide-input"]
claim(
    run.profile,
    "at t = 100 it misses by less than the rooms' standard deviation, at t = 200 by more",
    rms["printed"][6] < float(shown.std()) < rms["printed"][7],
)

# %% [markdown]
# ## 7. From the bound to a squared error, with the constant kept
#
# Let $p_\theta$ have variance $\sigma_t^2$ and mean $\tilde\mu_t(x_t,\hat x_0)$. The two means in Eq. 6 differ by $c_t(x_0-\hat x_0)$, with the $c_t$ of Eq. 2.14. So Eq. 2.10 gives for each number of the image
#
# <!-- eq:2.21 -->
# $$L_{t-1}=\underbrace{\frac12\left(\log\frac{\sigma_t^2}{\tilde\beta_t}+\frac{\tilde\beta_t}{\sigma_t^2}-1\right)}_{\text{constant}}+\frac{c_t^2}{2\sigma_t^2}\,(x_0-\hat x_0)^2 \tag{2.21}$$
#
# By the corrected Eq. 12, $x_0-\hat x_0=-\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}\,(\epsilon-\hat\epsilon)$. Hence
#
# <!-- eq:2.22 -->
# $$L_{t-1}=\text{constant}+\frac{\beta_t^2}{2\sigma_t^2\,\alpha_t\,(1-\bar\alpha_t)}\,(\epsilon-\hat\epsilon)^2 \tag{2.22}$$
#
# For $\sigma_t^2=\tilde\beta_t$ the constant is zero, and the weight of the error in $x_0$ is a difference of signal-to-noise ratios (Kingma et al. 2021 build on this):
#
# <!-- eq:2.23 -->
# $$L_{t-1}=\tfrac12\big(\mathrm{SNR}(t-1)-\mathrm{SNR}(t)\big)\,(x_0-\hat x_0)^2 \tag{2.23}$$
#
# For every other variance "the bound equals a weighted squared error" is wrong by the constant. While $\sigma_t^2$ is fixed the constant trains nothing, but it counts in bits per dimension.


# %%
def weight_of_eps(d, t, sigma2):
    """The factor of (eps - eps_hat)^2 in Eq. 2.22."""
    return d.betas[t] ** 2 / (2 * sigma2 * d.alphas[t] * (1 - d.abar[t]))


def constant_term(d, t, sigma2):
    """The constant of Eq. 2.21."""
    ratio = d.posterior_variance[t] / sigma2
    return 0.5 * (ratio - 1 - torch.log(ratio))


t = torch.tensor([2, 10, 100, 500, 999, 1000])
x0, eps, eps_hat = torch.randn(3, 6, generator=g, dtype=F64)  # numbers, and a network's answers
xt, alpha_t, before_t = linear.q_sample(x0, t, eps), linear.alphas[t], linear.abar[t - 1]
x0_hat = x0_from_eps(xt, eps_hat, linear.abar[t])
c = before_t.sqrt() * linear.betas[t] / (1 - linear.abar[t])
six, by_x0, by_eps = {}, {}, {}  # Eq. 6, 2.21 and 2.22 by the variance of p_theta
for name, sigma2 in (("beta", linear.betas[t]), ("beta-tilde", linear.posterior_variance[t])):
    rows = zip(x0, x0_hat, xt, alpha_t.tolist(), before_t.tolist(), sigma2, strict=True)
    direct = [kl(*posterior(x, y, a, b), posterior(h, y, a, b)[0], s) for x, h, y, a, b, s in rows]
    six[name] = torch.stack(direct)
    constant = constant_term(linear, t, sigma2)
    by_x0[name] = constant + c**2 / (2 * sigma2) * (x0 - x0_hat) ** 2
    by_eps[name] = constant + weight_of_eps(linear, t, sigma2) * (eps - eps_hat) ** 2
over_x0, over_eps = (torch.stack([q[name] / six[name] for name in six]) for q in (by_x0, by_eps))
check("eq:2.21", over_x0, 1, 1e-9, "over Eq. 6 at six t, variances beta and beta-tilde")
check("eq:2.22", over_eps, 1, 1e-9, "over Eq. 6 at six t, variances beta and beta-tilde")
by_snr = (linear.snr[t - 1] - linear.snr[t]) / 2 * (x0 - x0_hat) ** 2
check("eq:2.23", by_snr / six["beta-tilde"], 1, 1e-6, "over Eq. 6 at six t, variance beta-tilde")

# %% [markdown]
# **A common error:** the constant is dropped, and the bound is called equal to the rest. With variance $\beta_t$ the same comparison catches it.

# %%
by_eps = weight_of_eps(linear, t, linear.betas[t]) * (eps - eps_hat) ** 2
check_fails(
    "common error",
    lambda: check("common error", by_eps, six["beta"], 1e-9, "weighted squared error"),
    "the constant dropped",
)

# %% [markdown]
# Ho et al. (2020) then drop the weight, too:
#
# <!-- eq:2.24 -->
# $$L_{simple}=\mathbb E_{t,x_0,\epsilon}\,\|\epsilon-\hat\epsilon(x_t,t)\|^2 \tag{2.24}$$
#
# Most diffusion models are trained with it or a relative. On CIFAR-10 it gave Ho et al. a Fréchet distance (FID, smaller is better; notebook 06) of 3.2 where the bound gave 13.5, at slightly more bits per dimension, 3.75 against 3.70 (their Table 1).


# %%
def simple_loss(network, x0, t, eps, d):
    """Eq. 2.24 for one t and one noise an image, averaged over an image's numbers."""
    xt = d.q_sample(x0, t, eps)
    return ((eps - network(xt, t)) ** 2).flatten(1).mean(1)


def network(xt, t):  # as good as any for a comparison
    return torch.tanh(xt)


d = GaussianDiffusion(linear_beta_schedule(1000), "eps")
t = torch.linspace(1, 1000, 10).round().long()
eps = torch.randn(ten.shape, generator=g, dtype=F64)
check(
    "eq:2.24",
    simple_loss(network, ten, t, eps, d),
    d.training_loss(network, ten, t, eps),
    1e-12,
    "ours and the package's training_loss on ten rooms",
)

# %% tags=["hide-input"]
t = torch.arange(2, 1001)
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.6))
dropped, bound_weights = {}, {}
schedules = {"linear": linear_beta_schedule, "cosine": cosine_beta_schedule}
for (name, make), colour in zip(schedules.items(), ("#0072B2", "#D55E00"), strict=True):
    d = GaussianDiffusion(make(1000))
    for sigma2, label, style in (
        (d.posterior_variance[t], r"\tilde\beta_t", "-"),
        (d.betas[t], r"\beta_t", "--"),
    ):
        weight = weight_of_eps(d, t, sigma2)
        axes[0].loglog(t, weight, color=colour, ls=style, label=f"{name}, variance ${label}$")
        bound_weights.setdefault(name, weight)  # with beta-tilde, from t = 2
    cost = constant_term(d, t, d.betas[t]) / math.log(2)
    dropped[name] = float(cost.sum())
    axes[1].loglog(t, cost, color=colour, label=f"{name}: sum {dropped[name]:.3f} bits/dim")
axes[0].axhline(1, color="black", lw=0.8, ls=":", label="$L_{simple}$")
axes[0].annotate(
    "cosine, t = T", (1000, 499), (90, 150), fontsize=9, arrowprops={"arrowstyle": "->"}
)
axes[0].set(xlabel="step t", ylabel=r"weight of $(\epsilon-\hat\epsilon)^2$ in $L_{t-1}$")
axes[1].set(xlabel="step t", ylabel=r"constant at variance $\beta_t$ (bits/dim)")
for ax in axes:
    ax.legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb02_weights",
    "T = 1000. Left: the weight of the squared error of the noise in the bound, for two schedules "
    "(colours) and two variances (solid, dashed), and in L_simple (dotted). Right: what each step "
    "loses if the constant is dropped.",
    {"constant_bits": dropped},
)

# %% [markdown]
# What does $L_{simple}$ change? Only ratios between steps matter: a factor common to all changes no minimum. At variance $\tilde\beta_t$ both schedules give step 2 more than a hundred times the weight of step 500 in the bound. $L_{simple}$ turns it down by that factor. But under the cosine schedule the bound gives by far
# the most weight to the last step, whose $\beta_T$ is 0.999: about 500. So what $L_{simple}$ turns down most is the *noisiest* step. Which steps gain and which lose depends on the schedule.

# %% tags=["hide-input"]
of = {name: {k: float(w[k - 2]) for k in (2, 500, 1000)} for name, w in bound_weights.items()}
claim(
    run.profile,
    "variance beta-tilde: t = 2 has over a hundred times the weight of t = 500, both schedules",
    all(w[2] / w[500] > 100 for w in of.values()),
)
claim(
    run.profile,
    "the largest weight is at t = 2 (linear), and at t = T, near 500 (cosine)",
    float(bound_weights["linear"].max()) == of["linear"][2]
    and float(bound_weights["cosine"].max()) == of["cosine"][1000]
    and round(of["cosine"][1000], -1) == 500,
)

# %% [markdown] tags=["exercise"]
# **Exercise 02-5** · hard · 15 minutes
#
# Notebook 03 trains a network that predicts $v$. Which factor stands before $(v-\hat v)^2$ in $L_{t-1}$, if the variance is $\tilde\beta_t$? Return it as a function of $\bar\alpha_{t-1}$ and $\bar\alpha_t$.


# %% tags=["exercise"]
def weight_of_v(abar_before, abar_t): ...  # a number


exercises.check("02-5", weight_of_v)


# %% tags=["solution"]
def weight_of_v(abar_before, abar_t):
    # By Eq. 2.17 an error in v makes one in x_0 that is sqrt(1 - abar_t) times as large.
    snr_before, snr = abar_before / (1 - abar_before), abar_t / (1 - abar_t)
    return 0.5 * (snr_before - snr) * (1 - abar_t)


exercises.check("02-5", weight_of_v)

# %% [markdown]
# ## 8. Learned variances
#
# Which $\sigma_t^2$ is best? Average $L_{t-1}$ of Eq. 2.21 over $x_0$ given $x_t$, write $e^2=\mathbb E[(x_0-\hat x_0)^2\mid x_t]$, and set the derivative with respect to $\sigma_t^2$ to zero:
#
# <!-- eq:2.25 -->
# $$\sigma_t^{2\,\star}=\tilde\beta_t+c_t^2\,e^2 \tag{2.25}$$
#
# For the best denoiser $e^2 = \operatorname{Var}[x_0\mid x_t]$, and this is the exact variance of Eq. 2.14. (Bao et al. 2022 estimate its average over $x_t$ from a trained network.) The two usual choices belong to two extreme kinds of data (Ho et al. 2020). If $x_0$ is certain, then $e^2=0$, and the best is $\tilde\beta_t$. If $x_0$ is standard normal noise, then
# $\operatorname{Var}[x_0\mid x_t]=1-\bar\alpha_t$, and the best is $\beta_t$:
#
# <!-- eq:2.26 -->
# $$\tilde\beta_t+c_t^2\,(1-\bar\alpha_t)=\beta_t \tag{2.26}$$
#
# Data of variance up to 1 lie between the two on average over $x_t$, since already the straight line's mean squared error is at most $1-\bar\alpha_t$. At a single $x_t$ between two humps the best variance can exceed even $\beta_t$.

# %%
sy.V, sy.e2 = sp.symbols("V e2", positive=True)  # sigma_t^2, and the error
sy.Bt, sy.c = sp.symbols("betatilde_t c_t", positive=True)
averaged = (sp.log(sy.V / sy.Bt) + sy.Bt / sy.V - 1) / 2 + sy.c**2 / (2 * sy.V) * sy.e2
slope = sp.diff(averaged, sy.V).subs(sy.V, sy.Bt + sy.c**2 * sy.e2)
check_zero("eq:2.25", slope, "derivative at the best variance")
check_zero("eq:2.26", sy.small + sy.c0**2 * (1 - sy.abar) - sy.beta, "left minus right")
between = torch.tensor([-0.3], dtype=F64)
_, best = best_step(world, between, 1 - 0.05, before)
print(f"between two humps, at x_t = -0.3, the best variance is {float(best) / 0.05:.2f} times beta")
claim(run.profile, "it exceeds beta there", float(best) > 0.05)

# %% [markdown]
# Nichol & Dhariwal (2021) let the network choose. A second output $o$ goes between the two, evenly in the logarithm: $o = -1$ says $\tilde\beta_t$, $o = +1$ says $\beta_t$:
#
# <!-- eq:2.27 -->
# $$\sigma_t^2=\exp\!\big(w\log\beta_t+(1-w)\log\tilde\beta_t\big),\qquad w=\tfrac12(1+o) \tag{2.27}$$
#
# $L_{simple}$ does not see $\sigma_t$, so they add a little of the bound, which does:
#
# <!-- eq:2.28 -->
# $$L_{hybrid}=L_{simple}+\lambda\,L_{vlb},\qquad\lambda=0.001 \tag{2.28}$$
#
# No gradient flows from $L_{vlb}$ into the mean: it trains the variance alone. With one $t$ drawn evenly from $1,\ldots,T$ for each image, $T\,L_{t-1}$ estimates the bound without $L_T$.


# %%
def hybrid_loss(output, x0, t, eps, d):
    """Eq. 2.28 for t >= 2 with T L_{t-1} for the bound; output holds eps_hat and o, (N, 2)."""
    eps_hat, o = output[:, :1], output[:, 1:]
    xt, small, large = d.q_sample(x0, t, eps), d.posterior_variance[t, None], d.betas[t, None]
    sigma2 = torch.exp((1 + o) / 2 * large.log() + (1 - o) / 2 * small.log())  # Eq. 2.27
    guess = d.predict_xstart_from_eps(xt, t, eps_hat.detach())  # detach: trains no mean
    mean, _ = d.q_posterior_mean_variance(guess, xt, t)
    true_mean, _ = d.q_posterior_mean_variance(x0, xt, t)
    simple = (eps - eps_hat) ** 2
    return (simple + 0.001 * d.T * kl(true_mean, small, mean, sigma2))[:, 0], sigma2


d, t = GaussianDiffusion(linear_beta_schedule(8, 0.02, 0.3), "eps", "learned"), torch.arange(2, 9)
x0, eps = torch.randn(2, 7, 1, generator=g, dtype=F64)
output = torch.randn(7, 2, generator=g, dtype=F64).tanh().requires_grad_(True)
ours, sigma2 = hybrid_loss(output, x0, t, eps, d)
theirs = d.training_loss(lambda *_: output, x0, t, eps, bins=None)
_, variance, _, _ = d.p_mean_variance(lambda *_: output, d.q_sample(x0, t, eps), t)
check("eq:2.27", sigma2, variance, 1e-12, "variances, ours and the package's, t = 2 to 8")
both = []
for loss in (ours, theirs):
    (gradient,) = torch.autograd.grad(loss.sum(), output)
    both.append(torch.cat([loss.detach()[:, None], gradient], 1))
check("eq:2.28", *both, 1e-12, "losses and gradients, ours and the package's, t = 2 to 8")

# %% [markdown]
# ## 9. DDIM: other processes with the same marginals
#
# $L_{simple}$ uses $q(x_t\mid x_0)$ and nothing else of the process. So any process with these marginals fits the same network, and we may choose one that is faster to run backwards (Song, Meng & Ermon 2021). Take two times $s<t$ and a number $\sigma$ with $0\le\sigma^2\le1-\bar\alpha_s$, and let
#
# <!-- eq:2.29 -->
# $$x_s=\sqrt{\bar\alpha_s}\,x_0+\sqrt{1-\bar\alpha_s-\sigma^2}\;\epsilon+\sigma z,\qquad \epsilon=\frac{x_t-\sqrt{\bar\alpha_t}\,x_0}{\sqrt{1-\bar\alpha_t}},\quad z\sim\mathcal N(0,\mathbf I) \tag{2.29}$$
#
# If $x_t$ has the marginal of Eq. 8, then $\epsilon$ is standard normal. The variances of the two noises add up to $1-\bar\alpha_s$, whatever $\sigma$ is. So $x_s$ has the marginal of Eq. 8, too. With $s=t-1$ and $\sigma^2=\tilde\beta_t$ this is the posterior of Eq. 11, since then
#
# <!-- eq:2.30 -->
# $$\sqrt{\bar\alpha_{t-1}}\,x_0+\sqrt{1-\bar\alpha_{t-1}-\tilde\beta_t}\;\epsilon=\tilde\mu_t(x_t,x_0) \tag{2.30}$$
#
# DDPM's sampler is thus one member of the family. With $\sigma=0$ there is no noise but that of the start. This is *DDIM*, and it may take long leaps in $t$.


# %%
def leap(xt, x0, abar_t, abar_s, sigma, noise):
    """x_s from x_t and x_0 (or a guess of it), Eq. 2.29."""
    eps = (xt - math.sqrt(abar_t) * x0) / math.sqrt(1 - abar_t)
    return math.sqrt(abar_s) * x0 + math.sqrt(1 - abar_s - sigma**2) * eps + sigma * noise


x0 = world.sample(run.p.draws, g)
eps, noise = torch.randn(2, *x0.shape, generator=g, dtype=F64)
xt = math.sqrt(0.3) * x0 + math.sqrt(0.7) * eps
moments = []  # of x_s - sqrt(abar_s) x_0: mean, variance, product with x_0
for sigma2 in (0.0, 0.1, 0.18):
    rest = leap(xt, x0, 0.3, 0.8, math.sqrt(sigma2), noise) - math.sqrt(0.8) * x0
    moments += [rest, rest**2, rest * x0]
wanted = [0, 0.2, 0] * 3
check_mean("eq:2.29", torch.cat(moments, 1), wanted, "x_s - sqrt(abar_s) x_0, three sigma^2")
one_x0, one_xt = torch.tensor([0.4], dtype=F64), torch.tensor([-0.3], dtype=F64)
mean, small = posterior(one_x0, one_xt, 0.7, 0.6)
no_noise = leap(one_xt, one_x0, 0.42, 0.6, math.sqrt(small), 0.0)
check("eq:2.30", no_noise, mean, 1e-12, "mean of the leap with beta-tilde, and Eq. 10")

# %% [markdown]
# A sampler does not know $x_0$; it puts in the network's guess $\hat x_0$. The loop below goes down a list of times. The number $\eta$ leads from DDIM (0) to DDPM (1): $\sigma^2=\eta^2\tilde\beta$, where $\tilde\beta$ is Eq. 9 for the step from $t$ to $s$.


# %%
def sample(guess, x, d, times, eta, generator):
    """Down the times from T to 0 by Eq. 2.29; guess(x_t, abar_t) is x0-hat."""
    for t, s in zip(times, times[1:], strict=False):
        abar_t, abar_s = float(d.abar[t]), float(d.abar[s])
        _, small = posterior(0, 0, abar_t / abar_s, abar_s)  # beta-tilde of this step
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = leap(x, guess(x, abar_t), abar_t, abar_s, eta * math.sqrt(small), noise)
    return x


# %% [markdown]
# The package's `GaussianDiffusion.sample` is such a loop, and takes a function for the step: `ddim_step`, `ddpm_step`, or `dpmpp_2m_step`. The last is a *second-order* solver, DPM-Solver++ (Lu et al. 2022): it extrapolates $\hat x_0$ from the network's last two answers. From the same seed, ours and the
# package's give the same numbers. The world here has slightly wider humps, so that the samplers and not the humps decide.

# %%
from bedgen_utils.diffusion import ddim_step, ddpm_step, dpmpp_2m_step

smooth = Mixture(stds=(0.15, 0.12, 0.2))
d = GaussianDiffusion(cosine_beta_schedule(run.p.sampler_T))  # its variance is beta-tilde


def best_of_smooth(x, abar_t):
    return smooth.posterior(x, abar_t)[0]


begin = torch.randn(100, 1, generator=g, dtype=F64)
ours, theirs = [], []
for step, eta in ((ddim_step, 0.0), (ddpm_step, 1.0)):
    draws = [torch.Generator().manual_seed(seed) for _ in range(2)]
    ours.append(sample(best_of_smooth, begin, d, d.timesteps(), eta, draws[0]))
    theirs.append(d.sample(smooth.denoiser(d), begin, step, clip=False, generator=draws[1]))
ours, theirs = torch.stack(ours), torch.stack(theirs)
check("eq:2.29", ours, theirs, 1e-8, "100 samples of DDIM and of DDPM, by ours and by the package")

# %%
count, T = run.p.toy_samples, d.T
level = stats.kstwo.isf(1e-4, count)
begin = torch.randn(count, 1, generator=g, dtype=F64)
second = d.sample(smooth.denoiser(d), begin, dpmpp_2m_step, d.timesteps(40), clip=False)
choices = {
    "DDPM (eta = 1)": (T, 1.0),
    "eta = 0.5": (T, 0.5),
    "DDIM (eta = 0)": (T, 0.0),
    "DDIM, a quarter of the steps": (T // 4, 0.0),
    "DDIM, 10 steps": (10, 0.0),
}
drawn = {
    name: (n, sample(best_of_smooth, begin, d, d.timesteps(n), eta, g))
    for name, (n, eta) in choices.items()
} | {"second order, 40 steps": (40, second)}
table = [
    {"sampler": name, "network calls": n, "KS distance": distance(smooth, x.flatten().numpy())}
    for name, (n, x) in drawn.items()
]
for row in table:
    row["runs of exact draws that lie farther"] = float(stats.kstwo.sf(row["KS distance"], count))
save_table(
    run,
    table,
    "nb02_samplers",
    f"Samplers with the exact denoiser, {count} samples, T = {T}. Critical value: one run of exact "
    f"draws in 10,000 lies farther than {level:.4f}. Last column: the share of "
    "runs that lie farther than the row's distance.",
)

# %% [markdown]
# All but one lie below the critical value: a test that cries wolf once in 10,000 cannot tell them from exact draws. Their order is chance: of these five, DDPM lies farthest here (seed 0), but nearest but one with seed 1, and nearest with seed 2. (The half nat that its variance $\tilde\beta_t$ costs in section 5 measures whole paths; their ends hardly show it.) Ten steps of DDIM are too few even with a perfect denoiser: not one run of exact draws in a million lies farther.

# %% tags=["hide-input"]
gaps = {row["sampler"]: row["KS distance"] for row in table}
claim(
    run.profile,
    "only DDIM with 10 steps is told from exact draws",
    [name for name, gap in gaps.items() if gap > level] == ["DDIM, 10 steps"],
)
claim(
    run.profile,
    "not one run of exact draws in a million lies farther than DDIM with 10 steps",
    float(stats.kstwo.sf(gaps["DDIM, 10 steps"], count)) < 1e-6,
)

# %% [markdown]
# ## 10. The same network in other clothes
#
# ### Scores
#
# The network is known elsewhere as a *score model*. The score is the gradient of the log density of noisy data. It is the expected noise, up to a factor:
#
# <!-- eq:2.31 -->
# $$\nabla_{x_t}\log q(x_t)=-\frac{\mathbb E[\epsilon\mid x_t]}{\sqrt{1-\bar\alpha_t}} \tag{2.31}$$
#
# *Proof.* Differentiate $q(x_t)=\int q(x_t\mid x_0)\,q(x_0)\,dx_0$ under the integral. The gradient of the Gaussian is itself times $-(x_t-\sqrt{\bar\alpha_t}x_0)/(1-\bar\alpha_t)=-\epsilon/\sqrt{1-\bar\alpha_t}$. Divide by $q(x_t)$: the integral becomes an average over $q(x_0\mid x_t)$. $\blacksquare$
#
# Solved for the image this is *Tweedie's formula*:
#
# <!-- eq:2.32 -->
# $$\mathbb E[x_0\mid x_t]=\frac{1}{\sqrt{\bar\alpha_t}}\big(x_t+(1-\bar\alpha_t)\,\nabla\log q(x_t)\big) \tag{2.32}$$
#
# So the best denoiser takes a step uphill in the density of noisy images. Whoever can denoise knows where images are.

# %%
points, found, wanted = torch.linspace(-2, 2, 81, dtype=F64).requires_grad_(True), [], []
for abar_t in (0.97, 0.5, 0.03):
    (score,) = torch.autograd.grad(world.log_prob(points, abar_t).sum(), points)
    xt = points.detach()
    guess = best_guess(xt, abar_t)
    mean_eps = (xt - abar_t**0.5 * guess) / (1 - abar_t) ** 0.5
    found.append(torch.stack([score, (xt + (1 - abar_t) * score) / abar_t**0.5]))
    wanted.append(torch.stack([-mean_eps / (1 - abar_t) ** 0.5, guess]))
found, wanted = torch.stack(found, 1), torch.stack(wanted, 1)
how = "gradient by autograd, and the denoiser, 81 points at three abar"
check("eq:2.31", found[0], wanted[0], 1e-8, how)
check("eq:2.32", found[1], wanted[1], 1e-8, how)

# %% [markdown]
# ### The probability-flow ODE
#
# Divide $x_t$ by $\sqrt{\bar\alpha_t}$: with $\bar x := x_t/\sqrt{\bar\alpha_t}$ and $\varsigma := \sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$, Eq. 8 reads $\bar x = x_0 + \varsigma\,\epsilon$. In these variables a step of DDIM is just
#
# <!-- eq:2.33 -->
# $$\bar x_s = \bar x_t + (\varsigma_s - \varsigma_t)\;\hat\epsilon \tag{2.33}$$
#
# That is Euler's method. With ever more steps it follows a differential equation, the *probability-flow ODE* of Song et al. (2021):
#
# <!-- eq:2.34 -->
# $$\frac{d\bar x}{d\varsigma} = \mathbb E[\epsilon\mid x_t] = \frac{\bar x - \mathbb E[x_0\mid x_t]}{\varsigma} \tag{2.34}$$
#
# It moves points without any noise, and yet carries $q(x_T)$ into $q(x_0)$. Why? In one dimension, let $q$ be the density of $\bar x$, and a prime the derivative by $\bar x$. As $\varsigma$ grows, $q$ spreads by the heat equation: $\partial q/\partial\varsigma = \varsigma\,q'' = -\big(q\cdot(-\varsigma\,(\log q)')\big)'$. So it changes as if points moved with velocity $-\varsigma\,(\log q)'$. By Eq. 2.31 that is $\mathbb E[\epsilon\mid x_t]$.
#
# On a line paths cannot cross. So whoever starts at the 30th percentile must stay at the 30th percentile all the way. That is a sharp check.

# %%
from scipy.integrate import solve_ivp


def flow(sigma, x):
    """Eq. 2.34 in the small world."""
    abar = 1 / (1 + sigma**2)
    return (x - best_guess(torch.from_numpy(x) * abar**0.5, abar).numpy()) / sigma


sigmas = [19.0, 3.0, 1.0, 0.3, 0.05]
starts = np.linspace(-38, 38, 41)
paths = solve_ivp(flow, (19, 0.05), starts, t_eval=sigmas, rtol=1e-9, atol=1e-10).y.T
ranks = []
for sigma, x in zip(sigmas, paths, strict=True):
    abar = 1 / (1 + sigma**2)
    ranks.append(world.cdf(torch.from_numpy(x) * abar**0.5, abar).numpy())
check(
    "eq:2.34", ranks[1:], ranks[0], 1e-6, "percentile of 41 points at four times, and at the start"
)
d = GaussianDiffusion(cosine_beta_schedule(100), "eps")
abar_t, abar_s = float(d.abar[60]), float(d.abar[30])
x = torch.linspace(-2, 2, 9, dtype=F64)[:, None]
eps_hat = world.denoiser(d)(x, torch.full((9,), 60))
leapt = d.sample(world.denoiser(d), x, ddim_step, [60, 30], clip=False)
gain = math.sqrt(1 / abar_s - 1) - math.sqrt(1 / abar_t - 1)
euler = x / abar_t**0.5 + gain * eps_hat
check("eq:2.33", leapt / abar_s**0.5, euler, 1e-10, "the package's ddim_step, and Euler's step")

# %% tags=["hide-input"]
smooth_d = GaussianDiffusion(cosine_beta_schedule(100))
ends = torch.linspace(-1.9, 1.9, 15, dtype=F64)[:, None]
fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True, width_ratios=(1, 1, 0.35))
for ax, (name, step) in zip(axes, (("DDPM", ddpm_step), ("DDIM", ddim_step)), strict=False):
    kept = []
    last = smooth_d.sample(
        smooth.denoiser(smooth_d),
        ends,
        step,
        clip=False,
        generator=torch.Generator().manual_seed(seed),
        callback=lambda t, x, x0, kept=kept: kept.append(x),
    )
    ax.plot(np.arange(100, -1, -1), torch.cat([*kept, last], 1).T, lw=1)
    ax.set(xlabel="step t", title=f"{name}: {'noise' if name == 'DDPM' else 'no noise'} on the way")
    ax.invert_xaxis()
axes[0].set_ylabel("$x_t$")
axes[2].plot(smooth.log_prob(line).exp(), line, color="black", lw=1)
axes[2].set(xlabel="density of $x_0$", ylim=(-2.3, 2.3))
save_figure(
    run,
    fig,
    "nb02_paths",
    "Fifteen starts, from noise (left of each panel) to data (right), by DDPM and by DDIM with the "
    "exact denoiser. DDIM's paths follow the probability-flow ODE and do not cross. Some of DDPM's "
    "leave the panel.",
)

# %% [markdown]
# ### Flow matching
#
# *Flow matching* and *rectified flow* (Lipman et al. 2023; Liu et al. 2023) start from something simpler than a chain: a straight line from the image to the noise, $u \in [0, 1]$. Up to a factor, its points are our $x_t$ under another schedule:
#
# <!-- eq:2.35 -->
# $$x_u = (1-u)\,x_0 + u\,\epsilon = \sqrt{(1-u)^2+u^2}\;\Big(\sqrt{\bar\alpha}\,x_0+\sqrt{1-\bar\alpha}\;\epsilon\Big),\qquad \bar\alpha = \frac{(1-u)^2}{(1-u)^2+u^2} \tag{2.35}$$
#
# The network learns the direction of the line, $\epsilon - x_0$, by least squares: a fifth name for the same output, as $x_u$ and $\epsilon - x_0$ fix $x_0$. Sampling follows that direction backwards:
#
# <!-- eq:2.36 -->
# $$\frac{dx_u}{du} = \mathbb E[\epsilon - x_0\mid x_u] \tag{2.36}$$
#
# This is Eq. 2.34 once more, with $\varsigma = u/(1-u)$ and $\bar x = x_u/(1-u)$. So flow matching with straight lines is a choice of schedule and of target, and the weights that come with them. The check solves both equations from the same start, and must arrive at the same place.

# %% [markdown] tags=["exercise"]
# **Exercise 02-6** · easy · 5 minutes
#
# A network for flow matching has looked at `xu` at time `u` and answers with the direction $\epsilon - x_0$. Return the clean image that this answer means.


# %% tags=["exercise"]
def clean(xu, direction, u): ...


exercises.check("02-6", clean)


# %% tags=["solution"]
def clean(xu, direction, u):
    return xu - u * direction  # x_u = x_0 + u (eps - x_0)


exercises.check("02-6", clean)


# %%
def straight_flow(u, x):
    """Eq. 2.36 in the small world."""
    size = math.hypot(1 - u, u)
    guess = best_guess(torch.from_numpy(x) / size, ((1 - u) / size) ** 2).numpy()
    eps_hat = (x - (1 - u) * guess) / u
    return eps_hat - guess


begin, end = 19.0 / 20.0, 0.05 / 1.05  # the u of sigma = 19 and of 0.05
ours = solve_ivp(straight_flow, (begin, end), starts * (1 - begin), rtol=1e-9, atol=1e-10).y[:, -1]
check("eq:2.36", ours / (1 - end), paths[-1], 1e-6, "ends of both equations, 41 starts")
sy.u = sp.symbols("u", positive=True)
sy.size = sp.sqrt((1 - sy.u) ** 2 + sy.u**2)
sy.A = (1 - sy.u) ** 2 / sy.size**2  # abar
miss = [sy.size * sp.sqrt(sy.A) - (1 - sy.u), sy.size * sp.sqrt(1 - sy.A) - sy.u]
at_two = [m.subs(sy.u, u) for m in miss for u in (sp.Rational(1, 5), sp.Rational(3, 4))]
check_zero("eq:2.35", at_two, "both factors at u = 1/5 and 3/4")

# %% [markdown]
# ## 11. Common errors, and what sees them
#
# A wrong sampler runs without complaint, and its samples may look right. Is there a test that sees every error? The usual one draws samples and compares them with the truth. Here it meets the right sampler and five with one error each: the network is told $t+1$ or $t-1$; Eq. 12 is taken as printed; $\sqrt{\bar\alpha_t}$ stands for $\sqrt{\alpha_t}$ in Eq. 10; noise is multiplied by $\beta_t$. Noise of variance $\beta_t$ enters at each step, the last one excepted.


# %%
def step_mean(x, t, d, error=None):
    """Mean of x_{t-1} by Eq. 12 and 10 with the exact noise of the smooth world, and one error."""
    alpha, before, after = float(d.alphas[t]), float(d.abar[t - 1]), float(d.abar[t])
    told = t + {"t + 1": 1, "t - 1": -1}.get(error, 0)  # the time that the network is told
    abar_told = float(d.abar[min(max(told, 1), d.T)])
    eps = (x - abar_told**0.5 * smooth.posterior(x, abar_told)[0]) / (1 - abar_told) ** 0.5
    x0_hat = (x - math.sqrt(1 - after) * eps) / math.sqrt(after)
    if error == "Eq. 12 as printed":
        x0_hat = (x - (1 - alpha) / math.sqrt(1 - after) * eps) / math.sqrt(alpha)
    mean, _ = posterior(x0_hat, x, alpha, before)
    if error == "sqrt(abar_t) in Eq. 10":
        factor = (1 - before) / (1 - after)
        mean = mean + (math.sqrt(after) - math.sqrt(alpha)) * factor * x
    return mean


def sampled(d, error):
    """KS distance of toy_samples samples by that sampler."""
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(run.p.toy_samples, generator=gen, dtype=F64)
    for t in range(d.T, 0, -1):
        noise = torch.randn(len(x), generator=gen, dtype=F64) if t > 1 else 0.0
        beta = float(d.betas[t])
        size = beta if error == "noise times beta_t" else math.sqrt(beta)
        x = step_mean(x, t, d, error) + size * noise
    return distance(smooth, x.numpy())


# %% [markdown]
# The other test is that of section 1, one exact step, now without randomness. Take $x_t$ from the exact $q(x_t)$ on a grid. Take one step, with the exact variance. Compare $\mathbb E x_{t-1}$, $\mathbb E x_{t-1}^2$ and $\mathbb E x_{t-1}x_t$ with what they must be. All are integrals on a line, so the only
# error is that of rounding, and nothing is forgiven.


# %%
def one_exact_step(d, error):
    """The largest miss of three moments, over every fifth t and the last."""
    worst = 0.0
    for t in [*range(1, d.T, 5), d.T]:
        x, weights = smooth.grid(float(d.abar[t]), 401)
        mean = step_mean(x, t, d, error)
        _, variance = best_step(smooth, x, float(d.alphas[t]), float(d.abar[t - 1]))
        first, second = q_moments(smooth, float(d.abar[t - 1]))
        got = torch.stack([mean, mean**2 + variance, mean * x]) @ weights
        wanted = torch.stack([first, second, d.alphas[t].sqrt() * second])
        worst = max(worst, float((got - wanted).abs().max()))
    return worst


# %%
d = GaussianDiffusion(cosine_beta_schedule(run.p.sampler_T))
formulas = ["Eq. 12 as printed", "sqrt(abar_t) in Eq. 10"]
errors = [None, "t + 1", "t - 1", *formulas, "noise times beta_t"]
table = [
    {
        "error": error or "none",
        "KS distance of samples": sampled(d, error),
        "miss of one exact step": one_exact_step(d, error),
    }
    for error in errors
]
save_table(
    run,
    table,
    "nb02_errors",
    f"Samplers with one error each, T = {d.T}. Critical value: one run in 10,000 of "
    f"{run.p.toy_samples} exact draws has a KS distance above {level:.4f}. Without an error one "
    "exact step misses by rounding alone.",
)

# %% [markdown]
# Both tests see the two wrong formulas. A network that is told a $t$ off by one makes samples that this test of 4,000 cannot tell from the truth; one exact step shows the error, at least a million times larger than rounding. Noise times $\beta_t$ instead of $\sqrt{\beta_t}$ is seen by samples alone.
#
# So each test has a blind spot. Samples miss a shifted $t$. One exact step brings its own variance and misses a wrong noise scale; and it needs the exact denoiser.

# %% tags=["hide-input"]
misses = {row["error"]: row["miss of one exact step"] for row in table}
gaps = {row["error"]: row["KS distance of samples"] for row in table}
check("right", misses["none"], 0, 1e-9, "one exact step with the right sampler")
for error in errors[1:-1]:
    check_fails(
        "common error",
        lambda error=error: check("common error", misses[error], 0, 1e-9, "one exact step"),
        error,
    )
check_fails(
    "common error",
    lambda: check("common error", gaps["noise times beta_t"], 0, level, "KS distance"),
    "noise times beta_t",
)
claim(
    run.profile,
    "samples show the wrong formulas and the noise scale, and neither shift of t",
    max(gaps["none"], gaps["t + 1"], gaps["t - 1"]) < level
    and min(gaps[error] for error in errors[3:]) > 3 * level,
)
claim(
    run.profile,
    "one exact step shows a shift a million times above rounding",
    min(misses["t + 1"], misses["t - 1"]) > 1e6 * misses["none"],
)

# %% [markdown]
# ## Summary
#
# * The exact reverse step depends on all data. It is not Gaussian, but it approaches a Gaussian with the third power of the step (appendix A): at $\bar\alpha_{t-1} = 0.9$ a step of 0.5 is 0.024 nats off, a step of 0.02 is 400 times closer.
# * Given $x_0$, the reverse step *is* Gaussian (Eq. 9-11). Completing a square shows it: precisions add.
# * The bound is a sum of $T+1$ terms, all of them formulas but $L_0$, which is the probability of a bin. In a world where the truth is known, the bound equals the entropy plus a gap, which falls like $1/T^2$ with the exact variance and like $1/T$ with $\beta_t$; with $\tilde\beta_t$ 0.44 nats stay however long the chain.
# * Mean, image, noise and velocity are four names of one output. The report's Eq. 12 confuses two of them.
# * The training loss is the bound with other weights and without a constant. At $T = 1000$ and variance $\beta_t$ the constant is worth nearly half a bit per dimension.
# * The noise is the score up to a factor. DDIM is Euler's method for the probability-flow ODE, and flow matching is the same ODE in another schedule.
# * At $T = 300$, 4,000 samples do not show $t$ off by one; one exact step does, where the exact denoiser is known. It does not show a wrong noise scale; samples do.

# %% tags=["hide-input"]
claim(
    run.profile,
    "the dropped constant is nearly half a bit per dimension",
    all(0.42 < bits < 0.5 for bits in dropped.values()),
)

# %% [markdown]
# <details><summary><b>Five questions, with answers</b></summary>
#
# *Why does the gap with $\sigma^2=\tilde\beta_t$ not vanish as $T\to\infty$?* Look at the first steps. There $\beta$ is nearly constant and the density flat on the scale of a step. So $x_{t-1}$ given $x_t$ has variance $\beta$, as the step forwards has. But with $\bar\alpha_t \approx 1 - t\beta$,
# $\tilde\beta_t \approx \beta\,(t-1)/t$. By Eq. 2.10, step $t \ge 2$ then costs $\tfrac12\big(\tfrac1{t-1} - \log\tfrac t{t-1}\big)$ nats, whatever $\beta$ is. Over all steps these sum to half of Euler's constant, 0.289. Step 1, which has $\tilde\beta_2 = \beta/2$, adds $\tfrac12(1-\log 2) = 0.153$. In all 0.44 nats remain.
# At $T=1000$ the figure shows 0.51, on its way down. With $\sigma^2 = \beta_t$ these steps cost nothing.
#
# *For which schedule would the weight of $(v-\hat v)^2$ in $L_{t-1}$ (exercise 02-5) be the same at all $t$?* It simplifies to $\tfrac12(\bar\alpha_{t-1}-\bar\alpha_t)/(1-\bar\alpha_{t-1})$. If that is a constant $k$, then $1-\bar\alpha_t = (1+2k)(1-\bar\alpha_{t-1})$: the variance of the noise grows by the same factor in each step, from a first value up to 1.
#
# *What is $J(\beta)$ if the data are a single Gaussian?* Zero, for any step: Eq. 2.1 multiplies Gaussians. One step with the right mean and variance would do. The less Gaussian the data, the more steps are needed; and noise makes all data more Gaussian, so the small steps are needed near $t = 0$.
#
# *A colleague reports 2.1 bits/dim, with $L_0$ taken as a density on $[-1, 1]$ instead of a bin's probability. What is wrong, and in which direction?* A bin is $2/255$ wide, and a probability is about density times width. So the number is too low by $\log_2(255/2) = 6.99$ bits; it should be 9.1, more than guessing costs. It could be made
# as low as one likes by putting spikes on the levels.
#
# *Take images with two levels only, $-1$ and $+1$, and a model that names mean 0.9 and standard deviation 1.2. What does a pixel of $+1$ cost?* Its bin reaches from 0 to infinity, so $P = \Phi(0.9/1.2) = 0.77$, which is 0.37 bits. Whoever closes the bin at 2 gets 0.75 bits, and the two probabilities no longer sum to 1.
#
# </details>

# %% tags=["hide-input"]
steps = np.arange(2, 100_000)
answer = 0.5 * np.sum(1 / (steps - 1) - np.log(steps / (steps - 1))) + 0.5 * (1 - math.log(2))
claim(run.profile, "beta-tilde costs 0.44 nats however long the chain", round(answer, 2) == 0.44)
check("answers", 2.1 + math.log2(255 / 2), 9.1, 0.05, "the colleague's bits per dimension")
open_bin, closed_bin = stats.norm.cdf(0.75), stats.norm.cdf(1.1 / 1.2) - stats.norm.cdf(-0.75)
check("answers", -np.log2([open_bin, closed_bin]), [0.37, 0.75], 5e-3, "bits of one pixel")

# %% [markdown]
# ## Appendix A. The third power
#
# Why does half the step bring the reverse step eight times closer to a Gaussian? The measure of section 1 is
#
# <!-- eq:2.2 -->
# $$J(\beta) := \mathbb E_{x_t}\, D_{KL}\Big(q(x_{t-1}\mid x_t)\,\Big\|\,\text{its Gaussian}\Big)
#  = \mathbb E_{x_t}\tfrac12\log\!\big(2\pi e \operatorname{Var}[x_{t-1}\mid x_t]\big) - H(x_{t-1}\mid x_t) \tag{2.2}$$
#
# Here $H(x_{t-1}\mid x_t)=-\mathbb E\log q(x_{t-1}\mid x_t)$ is the entropy of the step. The logarithm in Eq. 2.2 is the entropy of the Gaussian, so $J$ says by how much that exceeds the exact one. The check computes the second form.
# It needs $H(x_{t-1}\mid x_t) = H(x_{t-1}) + H(x_t\mid x_{t-1}) - H(x_t)$, which is Eq. 2.1 after taking logarithms and averages.

# %% tags=["hide-input"]
after = 0.9 * (1 - 0.3)
weights = world.log_prob(nodes, after).exp() * 3 * dx
variance = mean_and_variance(reverse_table(0.3, 0.9, nodes))[1]
step_entropy = 0.5 * math.log(2 * math.pi * math.e * 0.3)  # of q(x_t | x_{t-1})
entropy = world.entropy(0.9) + step_entropy - world.entropy(after)
check(
    "eq:2.2",
    J(0.3, 0.9),
    weights @ (0.5 * torch.log(2 * math.pi * math.e * variance)) - entropy,
    1e-9,
    "J(0.3) by integrating the divergence, and from entropies",
)

# %% [markdown]
# How fast does $J$ fall with $\beta$?
#
# * In Eq. 2.1, $q(x_t\mid x_{t-1})$ is for small $\beta$ a narrow Gaussian in $x_{t-1}$, of variance about $\beta$. It is multiplied by $q(x_{t-1})$.
# * Expand $\log q(x_{t-1})$ around the narrow peak. The linear term moves the peak, the quadratic one changes its width. Both leave a Gaussian. The first term that does not is the cubic one.
# * Let $z$ be the distance from the peak in units of $\sqrt\beta$. The cubic term is then $\gamma z^3/6$ with $\gamma = \beta^{3/2}\,\partial_x^3\log q$. To first order in $\gamma$, the density over the Gaussian of its own mean and variance is $1+\tfrac\gamma6(z^3-3z)$.
# * The divergence of such a ratio is half the mean square of its second term, and $\mathbb E(z^3-3z)^2=6$ for a normal $z$. That makes $\gamma^2/12$ nats.
#
# Averaged,
#
# <!-- eq:2.3 -->
# $$J(\beta) = \frac{\beta^3}{12}\; \mathbb E\Big[\big(\partial_x^3 \log q(x_{t-1})\big)^2\Big] + O(\beta^4) \tag{2.3}$$
#
# Half the step makes $J$ eight times smaller. It takes twice as many steps, so their sum falls fourfold.
#
# Two reservations remain. In images the numbers of $x_{t-1}$ are correlated, and a diagonal $\Sigma_\theta$ leaves that out; it costs nats of order $\beta^2$ a step, so the sum falls like $1/T$ only. And the argument needs a smooth $q(x_{t-1})$, which images of 256 levels do not have at $t=1$ (section 4).

# %%
x, mass = world.grid(0.9)  # nodes and weights of an average over x_{t-1}
x.requires_grad_(True)
derivative = world.log_prob(x, 0.9)
for _ in range(3):
    (derivative,) = torch.autograd.grad(derivative.sum(), x, create_graph=True)
constant = float((mass * derivative.detach() ** 2).sum()) / 12
small_steps = torch.tensor([1e-3, 5e-4], dtype=F64)
over = torch.tensor([J(beta, 0.9) for beta in small_steps.tolist()]) / (constant * small_steps**3)
check("eq:2.3", (over - 1) / small_steps, 0, 60, "J over its leading term, less 1, per beta")

# %% [markdown]
# ## Appendix B. Two more errors of samplers
#
# **Noise added at the last step.** The last step returns a mean, so from the same $x_1$ it must give the same image for any seed. Noise of variance $\beta_1 = 10^{-4}$ would add 1.3 grey levels of grain to every image, and $\sqrt2$ times that between two seeds.


# %%
def noisy_last_step(step):
    noise = torch.randn(step.x.shape, generator=step.generator, dtype=step.x.dtype)
    return ddpm_step(step) + math.sqrt(step.diffusion.betas[step.t]) * noise


d = GaussianDiffusion(linear_beta_schedule(1000), "x0")
x1 = d.q_sample(ten, torch.ones(10).long(), torch.randn(ten.shape, generator=g, dtype=F64))


def two_seeds(step):
    """Root-mean-square difference of two last steps, in grey levels."""
    a, b = (
        d.sample(lambda x, t: x, x1, step, [1, 0], generator=torch.Generator().manual_seed(s))
        for s in (1, 2)
    )
    return float((a - b).square().mean().sqrt()) * 127.5


check("right", two_seeds(ddpm_step), 0, 0, "the package's last step, two seeds, grey levels")
check_fails(
    "common error",
    lambda: check("common error", two_seeds(noisy_last_step), 0, 0, "two seeds, grey levels"),
    "noise added at the last step",
)

# %% [markdown]
# **No clamp under the cosine schedule.** Errors in the noise cost most at $t = T$. Take a useless network that always answers 0. By Eq. 12 its guess is $x_t/\sqrt{\bar\alpha_t}$, and a step of DDIM multiplies $x_t$ by $\sqrt{\bar\alpha_s/\bar\alpha_t}$. The first step alone gives
# $1/\sqrt{\alpha_T} = 31.6$. Over the chain the factors multiply to $1/\sqrt{\bar\alpha_T}$, which at $T = 50$ is a thousand. A clamp of $\hat x_0$ to $[-1, 1]$ stops it at once.

# %%
d = GaussianDiffusion(cosine_beta_schedule(50), "eps")
begin = torch.randn(500, 3, generator=g, dtype=F64)


def silent(x, t):
    return torch.zeros_like(x)


seen = []
ends = {
    clip: d.sample(
        silent, begin, ddim_step, clip=clip, callback=lambda t, x, x0: seen.append((t, x))
    )
    for clip in (False, True)
}
first = seen[1][1] / begin  # without the clamp, after one step
check("right", first, 1 / float(d.alphas[50]) ** 0.5, 1e-9, "factor of the first step")
whole = ends[False] / begin
check("right", whole * float(d.abar[50]) ** 0.5, 1, 1e-9, "factor of the chain, times sqrt(abar_T)")
check("right", ends[True].abs().max().clamp(min=1), 1, 1e-12, "largest end with the clamp, or 1")
check_fails(
    "common error",
    lambda: check("common error", ends[False].abs().max().clamp(min=1), 1, 1e-12, "largest end"),
    "no clamp",
)
claim(
    run.profile,
    "31.6 in the first step, a thousand over the chain",
    round(float(first.mean()), 1) == 31.6 and round(float(whole.mean()), -2) == 1000,
)

# %% [markdown]
# ## References
#
# * Sohl-Dickstein et al. (2015), *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, [arXiv:1503.03585](https://arxiv.org/abs/1503.03585): the reverse chain and its bound.
# * Kingma & Welling (2013), *Auto-Encoding Variational Bayes*, [arXiv:1312.6114](https://arxiv.org/abs/1312.6114): the variational bound.
# * Ho, Jain & Abbeel (2020), *Denoising Diffusion Probabilistic Models*, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): $L_{simple}$, the bins of $L_0$, the two fixed variances.
# * Nichol & Dhariwal (2021), *Improved Denoising Diffusion Probabilistic Models*, [arXiv:2102.09672](https://arxiv.org/abs/2102.09672): learned variances.
# * Bao et al. (2022), *Analytic-DPM*, [arXiv:2201.06503](https://arxiv.org/abs/2201.06503): the best variance.
# * Song, Meng & Ermon (2021), *Denoising Diffusion Implicit Models*, [arXiv:2010.02502](https://arxiv.org/abs/2010.02502): DDIM.
# * Song et al. (2021), *Score-Based Generative Modeling through Stochastic Differential Equations*, [arXiv:2011.13456](https://arxiv.org/abs/2011.13456): the probability-flow ODE.
# * Kingma et al. (2021), *Variational Diffusion Models*, [arXiv:2107.00630](https://arxiv.org/abs/2107.00630): the bound as a function of the signal-to-noise ratio.
# * Salimans & Ho (2022), *Progressive Distillation for Fast Sampling of Diffusion Models*, [arXiv:2202.00512](https://arxiv.org/abs/2202.00512): predicting $v$.
# * Lu et al. (2022), *DPM-Solver++*, [arXiv:2211.01095](https://arxiv.org/abs/2211.01095): the second-order solver.
# * Efron (2011), *Tweedie's Formula and Selection Bias*, [doi:10.1198/jasa.2011.tm11181](https://doi.org/10.1198/jasa.2011.tm11181): the formula and its history.
# * Lipman et al. (2023), *Flow Matching for Generative Modeling*, [arXiv:2210.02747](https://arxiv.org/abs/2210.02747), and Liu, Gong & Liu (2023), *Flow Straight and Fast*, [arXiv:2209.03003](https://arxiv.org/abs/2209.03003): straight lines from data to noise.
#
# Previous: [01 · Forward noising](01_forward_noising.ipynb). Next: [03 · DDPM training](03_ddpm_training.ipynb), where a network takes the place of the exact denoiser.
