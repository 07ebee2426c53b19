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
# Notebook 01 turned rooms into noise. Going back is the hard direction, and this notebook derives what a network has to learn for it, and what
# number says how well it has learned it. After it you can
#
# * say why the exact reverse step needs the whole data distribution, and how small a step must be for a Gaussian to do;
# * derive the posterior (Eq. 9-11) with pencil and paper, and the bound on the log-likelihood (Eq. 4-7), and evaluate its every term;
# * convert between a network that predicts the mean, the image, the noise or the velocity, and correct the report's Eq. 12;
# * say exactly what is thrown away between the bound and the loss that everybody trains with.
#
# You need notebook 01, the density of a normal distribution and completing the square. No network is trained. The run takes about a minute on two
# cores (profile `cpu`). Each tagged equation is checked by the cell that follows it.

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
from bedgen_utils.data import load_bedrooms, to_float
from bedgen_utils.diffusion import (
    GaussianDiffusion,
    cosine_beta_schedule,
    ddim_step,
    ddpm_step,
    discretized_gaussian_nll,
    dpmpp_2m_step,
    linear_beta_schedule,
    normal_kl,
    normal_like,
)
from bedgen_utils.exact import Mixture
from bedgen_utils.report import save_figure, save_table, use_style
from bedgen_utils.run import start

run = start("02", profile, seed, out)
use_style()
rooms = to_float(load_bedrooms(run.p.source, split="train", size=run.p.size, limit=run.p.rooms))
g = torch.Generator().manual_seed(seed)
F64 = torch.float64
world = Mixture()  # the data of sections 1, 3, 5 and 10: three humps on a line
print(
    f"{len(rooms)} rooms; a world with means {world.means}, standard deviations {world.stds}, "
    f"weights {world.weights}"
)

# %% [markdown]
# ## 1. Why not simply run it backwards?
#
# To undo a step we want the distribution of $x_{t-1}$ given $x_t$. Bayes' rule gives it,
#
# <!-- eq:reverse -->
# $$q(x_{t-1} \mid x_t) = \frac{q(x_t \mid x_{t-1})\; q(x_{t-1})}{q(x_t)}, \qquad q(x_{t-1}) = \int q(x_{t-1} \mid x_0)\, q(x_0)\, dx_0 ,$$
#
# and shows the trouble at once: $q(x_{t-1})$ is an average over *all* data. For bedrooms nobody has it. In a one-dimensional world we can have it.
# Ours is a mixture of three Gaussians, for which $q(x_t)$ is a mixture as well, so the right-hand side can be tabulated on a grid.
#
# The report remarks that a Gaussian for the reverse step is a strong assumption, acceptable perhaps because of the very small steps. Let us make that precise.
# Fix the noise level at $t-1$ and vary the size $\beta$ of the step that follows. The figure shows $q(x_{t-1} \mid x_t)$ at an $x_t$ between two humps, with
# the Gaussian of the same mean and variance. To have a number, take the divergence ($D_{KL}(q\,\|\,p)=\mathbb E_q[\log q-\log p]$, in nats) from that Gaussian, averaged over $x_t$:
#
# <!-- eq:negentropy -->
# $$J(\beta) := \mathbb E_{x_t}\, D_{KL}\Big(q(x_{t-1}\mid x_t)\,\Big\|\,\mathcal N\big(\mathbb E[x_{t-1}\mid x_t],\operatorname{Var}[x_{t-1}\mid x_t]\big)\Big)
#  = \mathbb E_{x_t}\tfrac12\log\!\big(2\pi e \operatorname{Var}[x_{t-1}\mid x_t]\big) - H(x_{t-1}\mid x_t) .$$
#
# It is zero for a Gaussian and positive otherwise ($H(x)=-\mathbb E\log q(x)$ is the entropy, $H(x_{t-1}\mid x_t)=-\mathbb E\log q(x_{t-1}\mid x_t)$). How fast does it fall? For small $\beta$ the factor $q(x_t \mid x_{t-1})$ is a narrow Gaussian
# of variance about $\beta$, multiplied by $q(x_{t-1})$. Expand $\log q(x_{t-1})$ around the peak: the quadratic part leaves a Gaussian, the first part that
# does not is cubic and gives a skewness of $\beta^{3/2}\,(\log q)'''$. A density with small skewness $\gamma$ lies $\gamma^2/12$ nats from its Gaussian, so
#
# <!-- eq:negentropy-order -->
# $$J(\beta) = \frac{\beta^3}{12}\; \mathbb E\Big[\big(\partial_x^3 \log q(x_{t-1})\big)^2\Big] + O(\beta^4) .$$
#
# Halving the step makes $J$ eight times smaller. Twice as many steps are needed, so the total falls fourfold.


# %%
def reverse_density(beta, before, xt, x):
    """q(x_{t-1} = x | x_t = xt) by Bayes on the grid x, where q(x_{t-1}) has abar = before.

    Normalised by quadrature.
    """
    log_q = world.log_prob(x, before) - 0.5 * (xt - (1 - beta) ** 0.5 * x) ** 2 / beta
    q = torch.exp(log_q - log_q.max())
    return q / (q.sum() * (x[1] - x[0]))


def reverse_moments(beta, before, xt):
    """E and Var of x_{t-1} given x_t in closed form: Eq. 10 and 9 averaged over x_0 given x_t."""
    after = before * (1 - beta)
    mean0, var0 = world.posterior(xt, after)
    c0, ct = before**0.5 * beta / (1 - after), (1 - beta) ** 0.5 * (1 - before) / (1 - after)
    return c0 * mean0 + ct * xt, (1 - before) / (1 - after) * beta + c0**2 * var0


def divergence(beta, before, xt, grid, variance):
    """D_KL of the tabulated reverse step from the Gaussian of its own mean and of this variance."""
    q, mean = reverse_density(beta, before, xt, grid), reverse_moments(beta, before, xt)[0]
    inner = (
        torch.log(q.clamp(min=1e-300))
        + 0.5 * torch.log(2 * math.pi * variance)
        + 0.5 * (grid - mean) ** 2 / variance
    )
    return (q * inner).sum() * (grid[1] - grid[0])


def J(beta, before):
    """Eq. negentropy by one-dimensional quadrature.

    H(x_{t-1} | x_t) = H(x_{t-1}) + H(x_t | x_{t-1}) - H(x_t).
    """
    after = before * (1 - beta)
    x, w = world.grid(after)
    conditional = (
        world.entropy(before) + 0.5 * math.log(2 * math.pi * math.e * beta) - world.entropy(after)
    )
    return (
        float(
            (w * 0.5 * torch.log(2 * math.pi * math.e * reverse_moments(beta, before, x)[1])).sum()
        )
        - conditional
    )


before, at = 0.9, torch.tensor(0.18, dtype=F64)
x = torch.linspace(-3, 3, 6001, dtype=F64)
dx = float(x[1] - x[0])
for beta in (0.5, 0.05):
    q = reverse_density(beta, before, at, x)
    mean, var = reverse_moments(beta, before, at)
    check(
        "eq:reverse",
        [(q * x).sum() * dx, (q * (x - mean) ** 2).sum() * dx],
        [mean, var],
        1e-9,
        f"mean and variance of the tabulated reverse step, beta = {beta}, and in closed form",
    )
# J once by brute force: the inner divergence on a grid of x_{t-1} for every x_t.
xs, ws = world.grid(before * 0.7, 801)
inner = [divergence(0.3, before, v, x, reverse_moments(0.3, before, v)[1]) for v in xs]
check(
    "eq:negentropy",
    J(0.3, before),
    (ws * torch.stack(inner)).sum(),
    1e-8,
    "J(0.3) from entropies, and by integrating the divergence",
)

xg, wg = world.grid(before)
xg.requires_grad_(True)
d3 = world.log_prob(xg, before)
for _ in range(3):
    (d3,) = torch.autograd.grad(d3.sum(), xg, create_graph=True)
constant = float((wg * d3**2).sum().detach()) / 12
xg = xg.detach()
for beta in (1e-3, 5e-4):
    check(
        "eq:negentropy-order",
        J(beta, before) / (constant * beta**3),
        1,
        60 * beta,
        f"J / (beta^3 / 12 E[...]) at beta = {beta}",
    )

# %%
levels, betas = (0.99, 0.9, 0.5), np.geomspace(1e-3, 0.9, 25)
curves = {a: [J(float(beta), a) for beta in betas] for a in levels}
fig, axes = plt.subplots(1, 4, figsize=(12, 3), width_ratios=(1, 1, 1, 1.4))
for ax, beta in zip(axes, (0.5, 0.1, 0.02), strict=False):
    q, (mean, var) = reverse_density(beta, before, at, x), reverse_moments(beta, before, at)
    ax.plot(x, q, label="exact")
    ax.plot(
        x,
        torch.exp(-0.5 * (x - mean) ** 2 / var) / (2 * math.pi * var) ** 0.5,
        ls="--",
        label="Gaussian",
    )
    ax.set(title=f"$\\beta$ = {beta}", xlabel="$x_{t-1}$", xlim=(-1.3, 1.5))
axes[0].set_ylabel("density given $x_t$ = 0.18")
axes[0].legend(fontsize=7)
for (a, values), marker in zip(curves.items(), "osD", strict=True):
    axes[3].loglog(betas, values, marker=marker, ms=3, label=f"$\\bar\\alpha_{{t-1}}$ = {a}")
axes[3].loglog(
    betas[:10], constant * betas[:10] ** 3, color="black", ls=":", label=r"$\beta^3$ law for 0.9"
)
axes[3].set(xlabel=r"step size $\beta$", ylabel="J, nats from Gaussian", ylim=(1e-10, 1))
axes[3].legend(fontsize=7)
save_figure(
    run,
    fig,
    "nb02_exact_reverse",
    "The exact reverse step in a one-dimensional world is far from Gaussian for large steps and "
    "approaches it with the third power of the step.",
    {"beta": list(betas), "J": {str(a): v for a, v in curves.items()}},
)
plt.show()
display(
    Markdown(
        "Averaged over $x_t$, a step of $\\beta = 0.5$ after $\\bar\\alpha = 0.9$ is "
        f"{J(0.5, before):.3f} nats from Gaussian, one of 0.1 is "
        f"{J(0.1, before):.1e}, and one of 0.02, the largest of the usual linear schedule, "
        f"{J(0.02, before):.1e}."
    )
)

# %% [markdown]
# This supports the model of the report, with two reservations. It is one-dimensional: for images $\Sigma_\theta$ is taken diagonal, and the correlations that this ignores,
# $\beta\,\partial_i\partial_j\log q$ to first order, cost nats of order $\beta^2$ a step, so that their total falls like $1/T$ only. And it needs a smooth $q(x_{t-1})$, which images of 256 levels
# lack at $t=1$ (section 4). A network looks at $x_t$ and $t$ and names a Gaussian:
#
# <!-- eq:3 -->
# $$p_\theta(x_{t-1}\mid x_t) := \mathcal N\big(\mu_\theta(x_t,t),\;\Sigma_\theta(x_t,t)\big), \qquad p(x_T) := \mathcal N(0,\mathbf I) \tag{3}$$
#
# ($\theta$: the network's weights; $\Sigma_\theta$ is diagonal here and in practice). Drawn one after the other, the variables have the joint density
# $p_\theta(x_0,\ldots,x_T) := p(x_T)\prod_{t=1}^T p_\theta(x_{t-1}\mid x_t)$. Sampling draws $x_T$ and then $x_{T-1}, \ldots, x_0$ from it. The check takes one step
# of the sampler and compares its draws with the mean and variance that the model names.

# %%
d10 = GaussianDiffusion(cosine_beta_schedule(10), "v", "learned")
trace = {}
d10.sample(
    world.denoiser(d10),
    torch.full((run.p.draws, 1), 0.4, dtype=F64),
    clip=False,
    generator=g,
    callback=lambda t, x, x0: trace.update({t: x}),
)
mean, variance, _, _ = d10.p_mean_variance(
    world.denoiser(d10), trace[10][:1], torch.tensor([10]), clip=False
)
check_mean("eq:3", trace[9], mean[0], "mean of the sampler's x_9 given x_10 = 0.4")
check_mean("eq:3", (trace[9] - mean) ** 2, variance[0], "its variance")

# %% [markdown]
# ## 2. The reverse step when the image is known: Eq. 9-11
#
# In training we do know $x_0$. Given it, Bayes' rule needs no average over data any more, since by the Markov property $q(x_t\mid x_{t-1}, x_0) = q(x_t \mid x_{t-1})$:
#
# <!-- eq:11-step-1 -->
# $$q(x_{t-1}\mid x_t,x_0) = \frac{q(x_t\mid x_{t-1})\;q(x_{t-1}\mid x_0)}{q(x_t\mid x_0)} .$$
#
# All three factors are Gaussians that we have (Eq. 2 and 8). Coordinates are independent, so take one of them and write $x = x_{t-1}$. As a function of $x$ the
# logarithm is, up to a constant, $-\tfrac12$ times
#
# <!-- eq:11-step-2 -->
# $$\frac{(x_t-\sqrt{\alpha_t}\,x)^2}{\beta_t}+\frac{(x-\sqrt{\bar\alpha_{t-1}}\,x_0)^2}{1-\bar\alpha_{t-1}} = A\,x^2 - 2B\,x + C, \qquad
# A = \frac{\alpha_t}{\beta_t}+\frac1{1-\bar\alpha_{t-1}},\quad B = \frac{\sqrt{\alpha_t}\,x_t}{\beta_t}+\frac{\sqrt{\bar\alpha_{t-1}}\,x_0}{1-\bar\alpha_{t-1}} .$$
#
# $C$ does not contain $x$. Completing the square,
#
# <!-- eq:11-step-3 -->
# $$A x^2 - 2Bx + C = A\left(x - \frac BA\right)^2 + C - \frac{B^2}{A} ,$$
#
# which is the exponent of a Gaussian of mean $B/A$ and variance $1/A$. Putting the two fractions of $A$ over one denominator, with $\beta_t = 1-\alpha_t$ and
# $\bar\alpha_t = \alpha_t\bar\alpha_{t-1}$, gives $A = (1-\bar\alpha_t)/(\beta_t(1-\bar\alpha_{t-1}))$, so
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
# At $t=1$ we have $\bar\alpha_0 = 1$, hence $\tilde\beta_1 = 0$ and $\tilde\mu_1 = x_0$, as it must be: $x_0$ given $x_0$ is certain. The model $p_\theta(x_0\mid x_1)$ needs a positive variance all
# the same; where the model's variance is fixed at $\tilde\beta_t$ our code gives its first step $\tilde\beta_2$.

# %%
alpha, abar, x0, xt, xs, eps, V = sp.symbols(
    "alpha_t abar_{t-1} x_0 x_t x epsilon sigma2", positive=True
)
beta, abar_t = 1 - alpha, alpha * abar
A, B = alpha / beta + 1 / (1 - abar), sp.sqrt(alpha) * xt / beta + sp.sqrt(abar) * x0 / (1 - abar)
beta_tilde = (1 - abar) / (1 - abar_t) * beta
mu_tilde = (
    sp.sqrt(abar) * beta / (1 - abar_t) * x0 + sp.sqrt(alpha) * (1 - abar) / (1 - abar_t) * xt
)


def log_normal(x, mean, variance):
    return -sp.log(2 * sp.pi * variance) / 2 - (x - mean) ** 2 / (2 * variance)


exponent = (xt - sp.sqrt(alpha) * xs) ** 2 / beta + (xs - sp.sqrt(abar) * x0) ** 2 / (1 - abar)
check_zero(
    "eq:11-step-2",
    [sp.expand(exponent).coeff(xs, 2) - A, sp.expand(exponent).coeff(xs, 1) + 2 * B],
    "coefficients of x^2 and x",
)
Cx = exponent.subs(xs, 0)
check_zero(
    "eq:11-step-3",
    A * (xs - B / A) ** 2 + Cx - B**2 / A - exponent,
    "the completed square and the exponent",
)
check_zero("eq:9", 1 / A - beta_tilde, "1/A and Eq. 9")
check_zero("eq:10", B / A - mu_tilde, "B/A and Eq. 10")
check_zero(
    "eq:9",
    [beta_tilde.subs(abar, 1), mu_tilde.subs(abar, 1) - x0],
    "boundary t = 1: no variance, mean x_0",
)
numbers = {
    alpha: sp.Rational(7, 10),
    abar: sp.Rational(3, 5),
    x0: sp.Rational(2, 5),
    xt: sp.Rational(9, 10),
    xs: sp.Rational(1, 3),
}
bayes = (
    log_normal(xt, sp.sqrt(alpha) * xs, beta)
    + log_normal(xs, sp.sqrt(abar) * x0, 1 - abar)
    - log_normal(xt, sp.sqrt(abar_t) * x0, 1 - abar_t)
)
check(
    "eq:11-step-1",
    float(bayes.subs(numbers).evalf(30)),
    float(log_normal(xs, mu_tilde, beta_tilde).subs(numbers).evalf(30)),
    1e-15,
    "log of Bayes' right-hand side, and log density of Eq. 11, at one point in exact arithmetic",
)
d6 = GaussianDiffusion(linear_beta_schedule(6, 0.05, 0.4))
for t in (2, 6):
    a_, b_ = float(d6.abar[t - 1]), float(d6.betas[t])
    line = torch.linspace(-9, 9, 6001, dtype=F64)
    q = torch.exp(
        -0.5 * (-0.3 - (1 - b_) ** 0.5 * line) ** 2 / b_
        - 0.5 * (line - a_**0.5 * 0.4) ** 2 / (1 - a_)
    )
    q = q / q.sum()
    m_, v_ = d6.q_posterior_mean_variance(
        torch.tensor([[0.4]], dtype=F64), torch.tensor([[-0.3]], dtype=F64), torch.tensor([t])
    )
    check(
        "eq:11",
        [m_.item(), v_.item()],
        [(q * line).sum(), (q * line**2).sum() - (q * line).sum() ** 2],
        1e-10,
        f"q_posterior_mean_variance at t = {t}, and quadrature of Bayes' rule",
    )

# %% [markdown]
# ## 3. The bound: Eq. 4-7
#
# We would like to maximise $\log p_\theta(x_0) = \log\int p_\theta(x_0,\ldots,x_T)\,dx_1\cdots dx_T$, an integral nobody can do. Multiply and divide by
# $q(x_1,\ldots,x_T\mid x_0)$ inside: it becomes the logarithm of an expectation, and since the logarithm is concave (Jensen),
#
# <!-- eq:jensen -->
# $$-\log p_\theta(x_0)\;\le\;L_{vlb}(x_0) := \mathbb E_{q}\left[\log\frac{q(x_1,\ldots,x_T\mid x_0)}{p_\theta(x_0,\ldots,x_T)}\right] .$$
#
# Now split both joint densities into steps. The step $q(x_t\mid x_{t-1})$ runs forwards and $p_\theta(x_{t-1}\mid x_t)$ backwards, so turn the first around with
# the Bayes rule that opens section 2 (given $x_0$):
#
# <!-- eq:4-step-1 -->
# $$q(x_t\mid x_{t-1}) = q(x_{t-1}\mid x_t,x_0)\;\frac{q(x_t\mid x_0)}{q(x_{t-1}\mid x_0)}, \qquad t \ge 2 .$$
#
# In the product over $t = 2,\ldots,T$ the fractions cancel but for the first denominator and last numerator, and $q(x_1 \mid x_0)$ cancels that denominator:
#
# <!-- eq:4-step-2 -->
# $$\log\frac{q(x_1,\ldots,x_T\mid x_0)}{p_\theta(x_0,\ldots,x_T)} = \log\frac{q(x_T\mid x_0)}{p(x_T)} + \sum_{t=2}^{T}\log\frac{q(x_{t-1}\mid x_t,x_0)}{p_\theta(x_{t-1}\mid x_t)}
#  - \log p_\theta(x_0\mid x_1) .$$
#
# Taking expectations, the first two kinds of terms are Kullback-Leibler divergences $D_{KL}(q\,\|\,p) = \mathbb E_q[\log q - \log p]$, and
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
# with an expectation over $x_t \sim q(x_t \mid x_0)$ understood in $L_0$ and $L_{t-1}$. There are $T+1$ terms; $T$ of them train the network, $L_T$ has no parameters (notebook 01 computed it).
#
# Each divergence is between two Gaussians. For one coordinate, with $z = (x-m_1)/s_1$ standard normal under the first,
#
# <!-- eq:kl -->
# $$D_{KL}\big(\mathcal N(m_1,s_1^2)\,\|\,\mathcal N(m_2,s_2^2)\big) = \log\frac{s_2}{s_1}+\frac{s_1^2+(m_1-m_2)^2}{2s_2^2}-\frac12 ,$$
#
# and coordinates add. The check integrates symbolically; the others simulate whole chains and compare the log-ratio, path by path, with the sum of terms.

# %%
z, m1, m2 = sp.symbols("z m_1 m_2", real=True)
s1, s2 = sp.symbols("s_1 s_2", positive=True)
log_ratio = log_normal(m1 + s1 * z, m1, s1**2) - log_normal(m1 + s1 * z, m2, s2**2)
integral = sp.integrate(
    sp.expand(log_ratio * sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)), (z, -sp.oo, sp.oo)
)
kl = sp.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - sp.Rational(1, 2)
check_zero(
    "eq:kl",
    sp.expand_log(integral - kl, force=True),
    "the integral of q (log q - log p) and the closed form",
)
check(
    "eq:kl",
    normal_kl(*(torch.tensor(v, dtype=F64) for v in (0.3, math.log(0.25), -1.0, math.log(4.0)))),
    float(kl.subs({m1: 0.3, s1: 0.5, m2: -1.0, s2: 2.0})),
    1e-12,
    "normal_kl of the package",
)


def log_density(x, mean, variance):
    return -0.5 * (
        np.log(2 * np.pi)
        + torch.log(torch.as_tensor(variance, dtype=F64))
        + (x - mean) ** 2 / variance
    )


# Whole chains of T = 8 steps from one x_0, by Eq. 2, and the model's densities along them.
d8, T, n = GaussianDiffusion(cosine_beta_schedule(8), "eps", "large"), 8, run.p.draws
model, start_x = world.denoiser(d8), torch.full((n, 1), 0.55, dtype=F64)
path = [start_x]
for t in range(1, T + 1):
    path.append(
        d8.alphas[t].sqrt() * path[-1]
        + d8.betas[t].sqrt() * torch.randn(n, 1, generator=g, dtype=F64)
    )
joint = -log_density(path[T], 0.0, 1.0)  # log q(x_1..x_T | x_0) - log p(x_0..x_T), by forward steps
parts = {"L_T": d8.q_mean_variance(start_x, torch.full((n,), T))}
parts["L_T"] = log_density(path[T], *parts["L_T"]) - log_density(path[T], 0.0, 1.0)
for t in range(1, T + 1):
    at_t = torch.full((n,), t)
    joint = joint + log_density(path[t], d8.alphas[t].sqrt() * path[t - 1], d8.betas[t])
    mean, var, _, _ = d8.p_mean_variance(model, path[t], at_t, clip=False)
    log_p = log_density(path[t - 1], mean, var)
    joint = joint - log_p
    post_mean, post_var = d8.q_posterior_mean_variance(start_x, path[t], at_t)
    parts[t - 1] = -log_p if t == 1 else log_density(path[t - 1], post_mean, post_var) - log_p
left = log_density(path[5], d8.alphas[5].sqrt() * path[4], d8.betas[5])
pm, pv = d8.q_posterior_mean_variance(start_x, path[5], torch.full((n,), 5))
right = (
    log_density(path[4], pm, pv)
    + log_density(path[5], *d8.q_mean_variance(start_x, torch.full((n,), 5)))
    - log_density(path[4], *d8.q_mean_variance(start_x, torch.full((n,), 4)))
)
check("eq:4-step-1", left, right, 1e-9, "log of both sides at t = 5 on every simulated path")
check(
    "eq:4-step-2",
    joint,
    sum(parts.values()),
    1e-8,
    "log ratio of the joint densities, and the sum of T + 1 terms, path by path",
)

bound = d8.vlb(model, start_x, generator=g, clip=False, bins=None)
nats = bound.terms * math.log(2)
check_mean(
    "eq:4",
    (joint - nats.sum(1, keepdim=True)).flatten(),
    0.0,
    "log ratio along paths minus vlb(): independent draws, equal means",
)
check_mean("eq:5", (parts[0].flatten() - nats[:, 0]), 0.0, "L_0 along paths minus vlb().L_0")
check_mean(
    "eq:6",
    torch.cat([parts[i] for i in range(1, T)], 1) - nats[:, 1:-1],
    torch.zeros(T - 1),
    "each L_{t-1} along paths minus vlb().L_t",
)
check_mean(
    "eq:7",
    parts["L_T"].flatten(),
    float(nats[0, -1]),
    "log q - log p at T along paths, and the closed form",
)
# p(x_0) itself, by importance sampling: the mean of p(path) / q(path).
# Its logarithm must lie below the bound.
weights = torch.exp(-joint.flatten())
log_likelihood, error = (
    math.log(float(weights.mean())),
    float(weights.std() / weights.mean() / n**0.5),
)
gap = float(nats.sum(1).mean()) + log_likelihood
print(
    f"-log p(x_0) = {-log_likelihood:.4f} ± {error:.4f} nats, the bound "
    f"{float(nats.sum(1).mean()):.4f}: the gap is {gap:.4f}"
)
line = torch.linspace(-6, 6, 1201, dtype=F64)
# p(x_T), then p(x_{T-1}), … down to p(x_0) at start_x.
density = torch.exp(log_density(line, 0.0, 1.0))
for t in range(T, 0, -1):
    mean, var, _, _ = d8.p_mean_variance(
        model, line[:, None], torch.full((len(line),), t), clip=False
    )
    to = start_x[:1] if t == 1 else line[None]
    density = (density[:, None] * torch.exp(log_density(to, mean, var))).sum(0) * float(
        line[1] - line[0]
    )
exact = float(density[0].log())
check(
    "eq:jensen",
    log_likelihood,
    exact,
    5 * error,
    "log p(x_0) by importance sampling, and by quadrature step by step",
)
check(
    "eq:jensen",
    max(0.0, -exact - float(nats.sum(1).mean())),
    0.0,
    5 * float(nats.sum(1).std()) / n**0.5,
    "how far the bound falls below the -log p(x_0) of the quadrature",
)

# %% [markdown]
# ## 4. $L_0$ for images: 256 bins
#
# An image is made of whole numbers. A density at a point could be made infinite by a model that puts spikes on the 256 possible values, so $L_0$ must be a
# *probability*. Level $k = 0,\ldots,255$ sits at $c_k = 2k/255-1$; its bin reaches $h = 1/255$ to either side, and the outer two bins are open:
#
# <!-- eq:5-bins -->
# $$P_k = \Phi\!\left(\frac{b_k-\mu}{\sigma}\right)-\Phi\!\left(\frac{a_k-\mu}{\sigma}\right),\qquad
# a_k = \begin{cases}-\infty & k=0\\ c_k-h & k>0\end{cases},\quad b_k=\begin{cases}c_k+h & k<255\\ +\infty & k=255\end{cases},\qquad \sum_{k=0}^{255} P_k = 1 .$$
#
# $\Phi$ is the distribution function of the standard normal, $\mu$ and $\sigma$ are what $p_\theta(x_0\mid x_1)$ names for this pixel, and $L_0 = -\log P_k$ for the level $k$ the
# pixel really has. The sum telescopes: each upper end is the next lower end. Close the outer bins, and mass is lost.

# %%
centres = torch.linspace(-1, 1, 256, dtype=F64)
for mu, sigma in ((0.2, 0.01), (-0.99, 0.05), (1.3, 0.4)):
    P = torch.exp(
        -discretized_gaussian_nll(
            centres, torch.tensor(mu, dtype=F64), torch.tensor(2 * math.log(sigma), dtype=F64)
        )
    )
    check(
        "eq:5-bins",
        P.sum(),
        1.0,
        1e-12,
        f"sum over the 256 bins at mean {mu}, standard deviation {sigma}",
    )
    edges = np.concatenate([[-np.inf], centres[:-1].numpy() + 1 / 255, [np.inf]])
    check(
        "eq:5-bins",
        P,
        np.diff(stats.norm.cdf(edges, mu, sigma)),
        1e-12,
        "each bin against scipy's normal distribution function",
    )
closed = np.diff(
    stats.norm.cdf(np.append(centres.numpy() - 1 / 255, 1 + 1 / 255), -0.99, 0.05)
).sum()
check_fails(
    "right",
    lambda: check("eq:5-bins", closed, 1.0, 1e-12, "sum with closed outer bins at mean -0.99"),
    "outer bins closed",
)

fig, ax = plt.subplots(figsize=(6.2, 2.9))
c16 = torch.linspace(-1, 1, 16, dtype=F64)
for (mu, sigma), hatch, colour in (((0.15, 0.22), "", "#0072B2"), ((-1.0, 0.3), "//", "#D55E00")):
    P = torch.exp(
        -discretized_gaussian_nll(
            c16, torch.tensor(mu, dtype=F64), torch.tensor(2 * math.log(sigma), dtype=F64), bins=16
        )
    )
    ax.bar(
        c16,
        P,
        width=2 / 15,
        alpha=0.5,
        color=colour,
        hatch=hatch,
        edgecolor="white",
        label=f"mean {mu}, std {sigma}: sum {float(P.sum()):.6f}",
    )
    ax.plot(
        x[(x > -1.7) & (x < 1.4)],
        stats.norm.pdf(x[(x > -1.7) & (x < 1.4)], mu, sigma) * 2 / 15,
        color=colour,
        lw=1,
    )
ax.set(xlabel="pixel value", ylabel="probability of the bin", xlim=(-1.7, 1.4))
ax.legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb02_bins",
    "L_0 with 16 bins for show: the lowest bin takes all mass below, so a mean at the edge of "
    "the range costs little there.",
)
plt.show()

# %% [markdown]
# ## 5. An exact world: does the bound measure what it claims?
#
# For images one never knows the true negative log-likelihood. In our small world one does: it is the entropy $H(x_0)$, and the best denoiser is known too. Given $x_t$ and the hump $k$
# (mean $m_k$, standard deviation $s_k$) from which $x_0$ came, the pair $(x_0, x_t)$ is jointly normal, so the mean of $x_0$ is a straight line in $x_t$; then average over the humps:
#
# <!-- eq:best-x0 -->
# $$\mathbb E[x_0\mid x_t]=\sum_k p(k\mid x_t)\,\Big(m_k+g_k\,\big(x_t-\sqrt{\bar\alpha_t}\,m_k\big)\Big),\qquad g_k=\frac{\sqrt{\bar\alpha_t}\,s_k^2}{\bar\alpha_t s_k^2+1-\bar\alpha_t} .$$
#
# $\operatorname{Var}[x_0\mid x_t]$ follows alike (`bedgen_utils.exact`). Averaging Eq. 11 over $x_0$ given $x_t$,
#
# <!-- eq:best-step -->
# $$\mathbb E[x_{t-1}\mid x_t]=\tilde\mu_t\big(x_t,\mathbb E[x_0\mid x_t]\big),\qquad \operatorname{Var}[x_{t-1}\mid x_t]=\tilde\beta_t+c_t^2\operatorname{Var}[x_0\mid x_t],\quad c_t=\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}$$
#
# (variance of a conditional mean plus mean of a conditional variance). The expected bound must then be
#
# <!-- eq:entropy-gap -->
# $$\mathbb E\,L_{vlb}=H(x_0)+D_{KL}\big(q(x_T)\,\|\,\mathcal N(0,1)\big)+\sum_{t=1}^{T}\mathbb E\,D_{KL}\big(q(x_{t-1}\mid x_t)\,\|\,p_\theta(x_{t-1}\mid x_t)\big) :$$
#
# what no model can avoid, what the start is wrong by, and what each step is wrong by. (Averaged over $x_0$ the bound is $H(x_0)$ plus the divergence between the whole paths
# $x_0,\ldots,x_T$ under $q$ and under $p_\theta$; write both joint densities backwards from $x_T$, and the divergence splits into its start and its steps.) That both sides agree is bookkeeping: the cross entropies are common to them and the entropies of
# $x_1,\ldots,x_T$ telescope, so it tests the constants only. Two further checks test the values: one gap is integrated by brute force, and `GaussianDiffusion.vlb`, the very code that scores
# images in the next notebook, must give $L_0$ to $L_{T-1}$ within five standard errors.

# %%
line = torch.linspace(-3, 3, 6001, dtype=F64)
for x_t, abar_ in ((-0.8, 0.9), (0.1, 0.5), (1.5, 0.05)):
    joint = torch.exp(world.log_prob(line) - 0.5 * (x_t - abar_**0.5 * line) ** 2 / (1 - abar_))
    check(
        "eq:best-x0",
        world.posterior(torch.tensor(x_t, dtype=F64), abar_)[0],
        (joint * line).sum() / joint.sum(),
        1e-9,
        f"mean of x_0 given x_t = {x_t}, and quadrature",
    )
check(
    "eq:best-step",
    [float(v) for v in reverse_moments(0.3, before, at)],
    [
        float((reverse_density(0.3, before, at, x) * x).sum() * dx),
        float(
            (reverse_density(0.3, before, at, x) * x**2).sum() * dx
            - (reverse_density(0.3, before, at, x) * x).sum() ** 2 * dx**2
        ),
    ],
    1e-9,
    "mean and variance of the best step, and of the tabulated reverse density",
)
H = world.entropy()
for T, variance in ((10, "small"), (30, "large"), (100, "learned")):
    d = GaussianDiffusion(cosine_beta_schedule(T), "v", variance)
    L, gaps = world.bound_terms(d)
    check(
        "eq:entropy-gap",
        L.sum(),
        H + gaps.sum(),
        1e-9,
        f"sum of L_i, and entropy plus gaps, T = {T}, variance {variance}",
    )
d = GaussianDiffusion(cosine_beta_schedule(10), "v", "small")
wide, (nodes, mass) = torch.linspace(-12, 12, 12_001, dtype=F64), world.grid(float(d.abar[5]), 801)
inner = [
    divergence(float(d.betas[5]), float(d.abar[4]), node, wide, d.posterior_variance[5])
    for node in nodes
]
check(
    "eq:entropy-gap",
    world.bound_terms(d)[1][4],
    (mass * torch.stack(inner)).sum(),
    1e-8,
    "gap of step 5 of 10 with variance beta-tilde, and the divergence from the tabulated reverse "
    "step",
)
d30 = GaussianDiffusion(cosine_beta_schedule(30), "v", "learned")
estimate = d30.vlb(
    world.denoiser(d30), world.sample(run.p.draws, g), generator=g, clip=False, bins=None
).terms * math.log(2)
exact30, gap30 = world.bound_terms(d30)
check_mean(
    "eq:entropy-gap",
    estimate[:, :-1],
    exact30[:-1],
    "every term L_0 … L_{T-1} of vlb() at T = 30, and its exact value",
)

# %%
bound_T = [5, 10, 20, 50, 100, 200] + ([500, 1000] if run.profile != "smoke" else [])
totals = {
    v: [
        float(world.bound_terms(GaussianDiffusion(cosine_beta_schedule(T), "v", v))[0].sum())
        for T in bound_T
    ]
    for v in ("small", "large", "learned")
}
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6))
t = np.arange(1, 30)
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
    label="vlb(), ± 2 s.e.",
)
axes[0].semilogy(
    np.arange(1, 31), gap30[:-1].clamp(min=1e-12), marker="s", ms=3, label="share of the gap"
)
axes[0].set(xlabel="t", ylabel="nats", title="T = 30, best variance")
axes[0].legend(fontsize=7)
for (name, values), marker in zip(totals.items(), "^so", strict=True):
    label = {
        "small": r"$\sigma^2=\tilde\beta_t$",
        "large": r"$\sigma^2=\beta_t$",
        "learned": "best variance",
    }[name]
    axes[1].loglog(bound_T, np.array(values) - H, marker=marker, ms=4, label=label)
axes[1].set(xlabel="number of steps T", ylabel="bound minus exact NLL (nats)")
axes[1].legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb02_exact_world",
    "Left: terms of the bound in the exact world. Right: the bound falls to the exact negative "
    "log-likelihood as T "
    "grows, if the variance is right.",
    {"entropy": H, "T": bound_T, "bound": totals},
)
plt.show()
slope = {
    name: float(np.polyfit(np.log(bound_T[-3:]), np.log(np.array(totals[name][-3:]) - H), 1)[0])
    for name in ("learned", "large")
}
display(
    Markdown(
        f"The exact NLL is {H:.4f} nats. At T = {bound_T[-1]} the bound is "
        f"{totals['learned'][-1]:.4f} with the best variance, "
        f"{totals['large'][-1]:.4f} with $\\beta_t$ and {totals['small'][-1]:.4f} with "
        f"$\\tilde\\beta_t$. The gap of the first two falls like $T^{{{slope['learned']:.2f}}}$ "
        "and "
        f"$T^{{{slope['large']:.2f}}}$; the former is section 1's $\\beta^3$ per step summed over "
        "$1/\\beta$ steps. With $\\tilde\\beta_t$ a gap of "
        f"{totals['small'][-1] - H:.3f} nats is left: in the first few steps "
        "$\\tilde\\beta_t/\\beta_t$ is far from 1 however large T is (question 1)."
    )
)
falls = [a > b > H for a, b in zip(totals["learned"][:-1], totals["learned"][1:], strict=True)]
check(
    "eq:entropy-gap",
    falls,
    True,
    0,
    "does the bound fall with each longer T and stay above the entropy (1 = yes)",
)
check(
    "eq:negentropy-order",
    slope["learned"],
    -2,
    0.35,
    "power of T with which the gap falls, against beta^3 per step times 1/beta steps",
)

# %% [markdown]
# The same code on rooms, in bits per dimension (nats divided by $D\log 2$). The simplest model without a network treats all pixels as independent normal variables: mean and variance of each pixel, over
# rooms other than those scored, give a closed-form denoiser. Uniform guessing among 256 levels costs 8 bits; what a trained U-Net costs is measured in notebook 03.

# %%
d100 = GaussianDiffusion(cosine_beta_schedule(100), "x0", "large")
fitted = rooms[run.p.scored :]
pixel_mean, pixel_var = fitted.mean(0), fitted.var(0).clamp(min=1e-3)


def per_pixel(xt, t):
    """E[x_0 | x_t] if pixels were independent normal variables."""
    abar_t = float(d100.abar[int(t[0])])
    gain = abar_t**0.5 * pixel_var / (abar_t * pixel_var + 1 - abar_t)
    return pixel_mean + gain * (xt - abar_t**0.5 * pixel_mean)


few = d100.vlb(per_pixel, rooms[: run.p.scored], generator=g)
bits = {
    "total": float(few.total.mean()),
    "L_0": float(few.L_0.mean()),
    "sum of L_{t-1}": float(few.L_t.sum(1).mean()),
    "L_T": float(few.L_T.mean()),
}
save_table(
    run,
    [{"term": k, "bits/dim": v} for k, v in bits.items()],
    "nb02_bits_per_dim",
    f"The bound for a per-pixel Gaussian on {run.p.scored} rooms, T = 100, before any network is "
    "trained.",
)

# %% [markdown]
# ## 6. What should the network output? Four answers and the maps between them
#
# $\mu_\theta$ can be had from any of four outputs. The mean itself; $\hat x_0$, put into Eq. 10; the noise $\epsilon$ of Eq. 8; or the *velocity*
#
# <!-- eq:v -->
# $$v := \sqrt{\bar\alpha_t}\,\epsilon-\sqrt{1-\bar\alpha_t}\,x_0 .$$
#
# Solving Eq. 8 for $x_0$ gives what the report's Eq. 12 is meant to say:
#
# <!-- eq:12 -->
# $$x_0=\frac1{\sqrt{\bar\alpha_t}}\left(x_t-\sqrt{1-\bar\alpha_t}\;\epsilon\right) \tag{12, corrected}$$
#
# Seen as vectors, $(x_t, v)$ is $(x_0,\epsilon)$ turned by the angle whose cosine is $\sqrt{\bar\alpha_t}$, so the way back is the opposite turn:
#
# <!-- eq:v-inverse -->
# $$x_0=\sqrt{\bar\alpha_t}\,x_t-\sqrt{1-\bar\alpha_t}\,v,\qquad \epsilon=\sqrt{1-\bar\alpha_t}\,x_t+\sqrt{\bar\alpha_t}\,v .$$
#
# No division occurs: $v$ is well behaved at both ends, while dividing by $\sqrt{\bar\alpha_T}\approx 0$ amplifies an error in $\epsilon$. Putting the corrected Eq. 12 into Eq. 10,
#
# <!-- eq:mean-of-eps -->
# $$\tilde\mu_t=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\epsilon\right) .$$

# %%
xt_of = sp.sqrt(abar_t) * x0 + sp.sqrt(1 - abar_t) * eps
v = sp.sqrt(abar_t) * eps - sp.sqrt(1 - abar_t) * x0
check_zero(
    "eq:12",
    (xt_of - sp.sqrt(1 - abar_t) * eps) / sp.sqrt(abar_t) - x0,
    "corrected Eq. 12 with the noise that made x_t, and x_0",
)
check_zero(
    "eq:v-inverse",
    [
        sp.sqrt(abar_t) * xt_of - sp.sqrt(1 - abar_t) * v - x0,
        sp.sqrt(1 - abar_t) * xt_of + sp.sqrt(abar_t) * v - eps,
    ],
    "turned there and back",
)
right_hand_side = (xt - beta / sp.sqrt(1 - abar_t) * eps) / sp.sqrt(alpha)
check_zero(
    "eq:mean-of-eps",
    mu_tilde.subs(x0, (xt - sp.sqrt(1 - abar_t) * eps) / sp.sqrt(abar_t)) - right_hand_side,
    "Eq. 10 of the corrected Eq. 12",
)
ten = rooms[:10].double()
t10 = torch.linspace(1, 1000, 10).round().long()
noise = torch.randn(ten.shape, generator=g, dtype=F64)
for prediction in ("v", "eps", "x0", "mean"):
    d = GaussianDiffusion(linear_beta_schedule(1000), prediction)
    x_t = d.q_sample(ten, t10, noise)
    back = d.predict_xstart(d.target(ten, x_t, t10, noise), x_t, t10)
    check("eq:v", back, ten, 1e-6, f'ten rooms to "{prediction}" and back, t = 1 … 1000')

# %% [markdown]
# ### The report's Eq. 12 is the posterior mean
#
# As printed in the report, Eq. 12 reads $x_0 = \frac{1}{\sqrt{\alpha_t}}\big(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\epsilon\big)$. Its right-hand side is the last equation above, letter by letter. It is the mean of
# $x_{t-1}$, and not $x_0$:
#
# <!-- eq:12-report -->
# $$\frac{1}{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\epsilon\right) = \tilde\mu_t(x_t, x_0) \;\ne\; x_0 \qquad (t > 1).$$
#
# By how much does it miss? Substituting Eq. 8, the misses are $x_0$ times a factor and $\epsilon$ times another; over data and noise,
#
# <!-- eq:12-miss -->
# $$\mathbb E\Big\|\text{Eq. 12} - x_0\Big\|^2 = \big(1-\sqrt{\bar\alpha_{t-1}}\big)^2\,\mathbb E\|x_0\|^2 + \frac{\alpha_t\,(1-\bar\alpha_{t-1})^2}{1-\bar\alpha_t}\; D .$$
#
# Only at $t=1$ are the two the same. Section 11 runs a sampler that believes the formula.

# %%
miss = sp.expand(sp.simplify(right_hand_side.subs(xt, xt_of) - x0))
check_zero(
    "eq:12-report",
    right_hand_side.subs(xt, xt_of) - mu_tilde.subs(xt, xt_of),
    "the printed right-hand side and the posterior mean of Eq. 10",
)
check_zero(
    "eq:12-miss",
    [
        sp.simplify(sp.diff(miss, x0)) - (sp.sqrt(abar) - 1),
        sp.simplify(sp.diff(miss, eps)) ** 2 - alpha * (1 - abar) ** 2 / (1 - abar_t),
    ],
    "factors of x_0 and of the noise in the miss",
)
d = GaussianDiffusion(linear_beta_schedule(1000), "eps")


def eq12_as_printed(x_t, t, eps):
    t_ = t.reshape(-1, 1, 1, 1)
    return (x_t - d.betas[t_] / (1 - d.abar[t_]).sqrt() * eps) / d.alphas[t_].sqrt()


many = rooms[: min(200, len(rooms))].double()
rms = {"printed": [], "corrected": [], "predicted": []}
ts = [1, 2, 5, 10, 20, 50, 100, 200, 400, 600, 800, 1000]
for t_ in ts:
    t = torch.full((len(many),), t_)
    noise = torch.randn(many.shape, generator=g, dtype=F64)
    x_t = d.q_sample(many, t, noise)
    rms["printed"].append(float(((eq12_as_printed(x_t, t, noise) - many) ** 2).mean().sqrt()))
    rms["corrected"].append(
        float(((d.predict_xstart_from_eps(x_t, t, noise) - many) ** 2).mean().sqrt())
    )
    a1, a = float(d.abar[t_ - 1]), float(d.abar[t_])
    rms["predicted"].append(
        math.sqrt(
            (1 - a1**0.5) ** 2 * float((many**2).mean())
            + float(d.alphas[t_]) * (1 - a1) ** 2 / (1 - a)
        )
    )
check(
    "eq:12-miss",
    rms["printed"],
    rms["predicted"],
    0.01,
    "root-mean-square miss on rooms at twelve t, and the formula",
)
check("eq:12", rms["corrected"], 0.0, 1e-9, "the corrected Eq. 12 on the same rooms")
check_fails(
    "errata 1",
    lambda: check("errata 1", rms["printed"][6], 0, 1e-9, "Eq. 12 as printed at t = 100"),
    "the report's Eq. 12 taken for x_0",
)
fig, ax = plt.subplots(figsize=(6, 3.2))
ax.semilogx(ts, rms["printed"], marker="o", ms=4, label="Eq. 12 as printed in the report")
ax.semilogx(ts, rms["predicted"], color="black", lw=1, ls="--", label="its miss, computed")
ax.semilogx(ts, rms["corrected"], marker="s", ms=4, label="Eq. 12 corrected")
ax.axhline(float(many.std()), color="grey", lw=0.8, ls=":", label="standard deviation of the rooms")
ax.set(xlabel="t (linear schedule, T = 1000)", ylabel="root-mean-square distance to $x_0$")
ax.legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb02_eq12",
    "What the report's Eq. 12 returns instead of x_0, given the very noise that made x_t.",
    {"t": ts, **rms},
)
plt.show()

# %% [markdown]
# ## 7. From the bound to a squared error, with the constant kept
#
# Let $p_\theta$ have variance $\sigma_t^2$ and mean $\tilde\mu_t(x_t,\hat x_0)$. The two means in Eq. 6 differ by $c_t(x_0-\hat x_0)$, so by the divergence of two Gaussians, per coordinate,
#
# <!-- eq:6-x0 -->
# $$L_{t-1}=\underbrace{\frac12\left(\log\frac{\sigma_t^2}{\tilde\beta_t}+\frac{\tilde\beta_t}{\sigma_t^2}-1\right)}_{\text{constant}}+\frac{c_t^2}{2\sigma_t^2}\,(x_0-\hat x_0)^2 ,$$
#
# and, since $x_0-\hat x_0=-\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}\,(\epsilon-\hat\epsilon)$ by Eq. 12 corrected,
#
# <!-- eq:6-eps -->
# $$L_{t-1}=\text{constant}+\frac{\beta_t^2}{2\sigma_t^2\,\alpha_t\,(1-\bar\alpha_t)}\,(\epsilon-\hat\epsilon)^2 .$$
#
# For $\sigma_t^2=\tilde\beta_t$ the constant is zero and the weight of the error in $x_0$ is a difference of signal-to-noise ratios:
#
# <!-- eq:6-snr -->
# $$L_{t-1}=\tfrac12\big(\mathrm{SNR}(t-1)-\mathrm{SNR}(t)\big)\,(x_0-\hat x_0)^2 .$$
#
# For every other variance "the bound equals a weighted squared error" is wrong by the constant. As long as $\sigma_t^2$ is fixed it does not move the weights of the network, but it counts in bits per dimension.
# Ho et al. (2020) then drop the weight too:
#
# <!-- eq:simple -->
# $$L_{simple}=\mathbb E_{t,x_0,\epsilon}\,\|\epsilon-\hat\epsilon(x_t,t)\|^2 .$$
#
# (Our code divides it, like the bound it is added to in section 8, by the number $D$ of coordinates.) Up to the constants and a common factor $1/T$ it is the bound with term $t$ multiplied by $2\sigma_t^2\alpha_t(1-\bar\alpha_t)/\beta_t^2$: nearly noise-free steps are turned down by a large factor (the
# figure says by how much). On CIFAR-10 Ho et al. (2020, Table 1) report a far better FID for it than for the bound, 3.2 against 13.5, and slightly more bits per dimension, 3.75 against 3.70.

# %%
x_hat, eps_hat = sp.symbols("xhat_0 epsilonhat", real=True)
c = sp.sqrt(abar) * beta / (1 - abar_t)
# A symbol of its own lets sympy know that beta-tilde is positive.
Bt = sp.symbols("betatilde_t", positive=True)
constant_part = (sp.log(V / Bt) + Bt / V - 1) / 2
check_zero(
    "eq:6-x0",
    mu_tilde - mu_tilde.subs(x0, x_hat) - c * (x0 - x_hat),
    "the two means differ by c_t (x_0 - xhat_0)",
)
kl_step = kl.subs({s1: sp.sqrt(Bt), s2: sp.sqrt(V), m1: m2 + c * (x0 - x_hat)})
check_zero(
    "eq:6-x0",
    sp.expand_log(kl_step - constant_part, force=True) - c**2 / (2 * V) * (x0 - x_hat) ** 2,
    "divergence of the two steps",
)
weight_eps = beta**2 / (2 * V * alpha * (1 - abar_t))
check_zero(
    "eq:6-eps",
    c**2 / (2 * V) * (1 - abar_t) / abar_t - weight_eps,
    "weight of the error in x_0, and in the noise",
)
check_zero(
    "eq:6-snr",
    [
        c**2 / (2 * beta_tilde) - (abar / (1 - abar) - abar_t / (1 - abar_t)) / 2,
        constant_part.subs(V, Bt),
    ],
    "weight as a difference of SNRs; no constant",
)
d = GaussianDiffusion(linear_beta_schedule(1000), "eps", "large")
t = torch.tensor([2, 10, 100, 500, 999, 1000] * 4)
one, noise = torch.rand(24, 1, generator=g, dtype=F64), torch.randn(24, 1, generator=g, dtype=F64)
x_t, guess = d.q_sample(one, t, noise), torch.randn(24, 1, generator=g, dtype=F64)
mean, var, logvar, _ = d.p_mean_variance(lambda *_: guess, x_t, t, clip=False)
true_mean, true_var = d.q_posterior_mean_variance(one, x_t, t)
constants = 0.5 * (var.log() - true_var.log() + true_var / var - 1)
weight = d.betas[t] ** 2 / (2 * d.betas[t] * d.alphas[t] * (1 - d.abar[t]))
direct = normal_kl(true_mean, true_var.log(), mean, logvar)
check(
    "eq:6-eps",
    constants + weight[:, None] * (noise - guess) ** 2,
    direct,
    1e-9,
    "constant plus weighted squared error, and normal_kl, variance beta",
)
check(
    "eq:simple",
    d.training_loss(lambda *_: guess, one, t, noise),
    ((noise - guess) ** 2)[:, 0],
    1e-12,
    "training_loss and the squared error",
)
images, n3 = ten[:2], torch.randn(ten[:2].shape, generator=g, dtype=F64)
check(
    "eq:simple",
    d.training_loss(lambda x, t: torch.zeros_like(x), images, torch.tensor([5, 500]), n3),
    (n3**2).flatten(1).sum(1) / n3[0].numel(),
    1e-12,
    "training_loss on two rooms, and the squared norm divided by D",
)
check_fails(
    "errata 13",
    lambda: check(
        "errata 13",
        weight[:, None] * (noise - guess) ** 2,
        direct,
        1e-3,
        "weighted squared error alone",
    ),
    "the constant dropped",
)

# %%
t = torch.arange(2, 1001)
fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.3))
dropped = {}
for name, make in (("linear", linear_beta_schedule), ("cosine", cosine_beta_schedule)):
    d = GaussianDiffusion(make(1000))
    axes[0].loglog(
        t,
        d.betas[t] ** 2 / (2 * d.posterior_variance[t] * d.alphas[t] * (1 - d.abar[t])),
        label=f"{name}, variance $\\tilde\\beta_t$",
    )
    axes[0].loglog(
        t,
        d.betas[t] / (2 * d.alphas[t] * (1 - d.abar[t])),
        ls="--",
        label=f"{name}, variance $\\beta_t$",
    )
    ratio = d.posterior_variance[t] / d.betas[t]
    cost = 0.5 * (-ratio.log() + ratio - 1) / math.log(2)
    dropped[name] = float(cost.sum())
    axes[1].loglog(t, cost, label=f"{name}: sum {dropped[name]:.3f} bits/dim")
axes[0].axhline(1, color="black", lw=0.8, ls=":", label="$L_{simple}$")
axes[0].set(xlabel="t", ylabel=r"weight of $(\epsilon-\hat\epsilon)^2$ in $L_{t-1}$")
axes[1].set(xlabel="t", ylabel=r"constant at variance $\beta_t$ (bits/dim)")
for ax in axes:
    ax.legend(fontsize=7)
save_figure(
    run,
    fig,
    "nb02_weights",
    "What L_simple changes (weights, left) and what is lost if the constant is dropped (right).",
    {"constant_bits": dropped},
)
plt.show()

# %% [markdown]
# ## 8. Learned variances
#
# Which $\sigma_t^2$ is best? Setting the derivative of $L_{t-1}$ to zero, averaged over $x_0$ given $x_t$ with $e^2=\mathbb E(x_0-\hat x_0)^2$,
#
# <!-- eq:best-variance -->
# $$\sigma_t^{2\,\star}=\tilde\beta_t+c_t^2\,e^2 .$$
#
# The two usual fixed choices belong to two extreme kinds of data. If $x_0$ is certain, $e^2=0$ and it is $\tilde\beta_t$. If $x_0$ were standard normal noise, then $e^2=\operatorname{Var}[x_0\mid x_t]=1-\bar\alpha_t$, and
#
# <!-- eq:large -->
# $$\tilde\beta_t+c_t^2\,(1-\bar\alpha_t)=\beta_t .$$
#
# Averaged over $x_t$, data of variance $v\le1$ lie between the two, since even the best straight-line guess of $x_0$ has error $v(1-\bar\alpha_t)/(\bar\alpha_t v+1-\bar\alpha_t)\le1-\bar\alpha_t$;
# at a single $x_t$ between two humps the best value can exceed even $\beta_t$ (the cell shows one). Nichol & Dhariwal (2021) let the network
# choose, by a second output $o$ that is $-1$ for the one and $+1$ for the other, in logarithms since both are small numbers,
#
# <!-- eq:learned -->
# $$\sigma_t^2=\exp\!\big(w\log\beta_t+(1-w)\log\tilde\beta_t\big),\qquad w=\tfrac12(1+o) ,$$
#
# and train with $L_{simple}$, which does not see $\sigma$, plus a little of the bound, which does:
#
# <!-- eq:hybrid -->
# $$L_{hybrid}=L_{simple}+\lambda\,L_{vlb},\qquad\lambda=0.001 ,$$
#
# where no gradient flows from $L_{vlb}$ into the mean. One $t$ drawn evenly from $1,\ldots,T$ per sample estimates $L_{vlb}-L_T$ as $T\,L_{t-1}$ ($L_T$ trains nothing; in our
# code in nats per dimension).

# %%
e2 = sp.symbols("e2", positive=True)
averaged = constant_part + c**2 / (2 * V) * e2
check_zero(
    "eq:best-variance",
    sp.diff(averaged, V).subs(V, Bt + c**2 * e2),
    "derivative of L_{t-1} at the best variance",
)
check_zero(
    "eq:large",
    beta_tilde + c**2 * (1 - abar_t) - beta,
    "best variance for standard normal data, and beta_t",
)
# Between two humps of the world of section 1, whose reverse step the grid there knows exactly.
between = torch.tensor(-0.3, dtype=F64)
q = reverse_density(0.05, before, between, x)
variance = float((q * x**2).sum() * dx - ((q * x).sum() * dx) ** 2)
check(
    "eq:best-variance",
    float(reverse_moments(0.05, before, between)[1]),
    variance,
    1e-9,
    "best variance at x_t = -0.3, beta = 0.05, and that of the tabulated reverse step",
)
print(f"there it is {variance / 0.05:.3f} times beta")
d = GaussianDiffusion(linear_beta_schedule(8, 0.02, 0.3), "eps", "learned")
t = torch.arange(1, 9)
x_t, noise = torch.randn(8, 1, generator=g, dtype=F64), torch.randn(8, 1, generator=g, dtype=F64)
output = torch.randn(8, 2, generator=g, dtype=F64).tanh().requires_grad_(True)
_, var, _, _ = d.p_mean_variance(lambda *_: output, x_t, t)
w = (1 + output[:, 1:]) / 2
check(
    "eq:learned",
    var[1:].detach(),
    (d.betas[t, None] ** w * d.posterior_variance[t, None] ** (1 - w))[1:].detach(),
    1e-12,
    "variance of p_mean_variance, t = 2 … 8",
)
x_0 = torch.rand(8, 1, generator=g, dtype=F64) * 2 - 1
loss = d.training_loss(lambda *_: output, x_0, t, noise, bins=None)
simple = ((output[:, :1] - noise) ** 2)[:, 0]
x_t = d.q_sample(x_0, t, noise)
mean, var, logvar, _ = d.p_mean_variance(lambda *_: output, x_t, t, clip=False)
pm, pv = d.q_posterior_mean_variance(x_0, x_t, t)
terms = normal_kl(pm, pv.log(), mean, logvar)[:, 0]
check(
    "eq:hybrid",
    (loss - simple)[1:].detach(),
    (0.001 * 8 * terms)[1:].detach(),
    1e-12,
    "training_loss minus L_simple, and 0.001 T L_{t-1}, t = 2 … 8",
)
(by_loss,) = torch.autograd.grad(loss.sum(), output, retain_graph=True)
(by_simple,) = torch.autograd.grad(simple.sum(), output)
check(
    "eq:hybrid",
    by_loss[:, 0],
    by_simple[:, 0],
    1e-12,
    "gradient with respect to the mean's output, and that of L_simple alone",
)

# %% [markdown]
# ## 9. DDIM: other processes with the same marginals
#
# $L_{simple}$ only ever uses $q(x_t\mid x_0)$ (the $L_{vlb}$ in the hybrid loss, which trains the variance alone, uses Eq. 11 as well). Any joint process with these marginals fits the same network, and one may choose one that is faster to run backwards. Take two times $s<t$ and
#
# <!-- eq:ddim -->
# $$x_s=\sqrt{\bar\alpha_s}\,x_0+\sqrt{1-\bar\alpha_s-\sigma^2}\;\epsilon+\sigma z,\qquad \epsilon=\frac{x_t-\sqrt{\bar\alpha_t}\,x_0}{\sqrt{1-\bar\alpha_t}},\quad z\sim\mathcal N(0,\mathbf I),\quad 0\le\sigma^2\le1-\bar\alpha_s .$$
#
# If $x_t$ has the marginal of Eq. 8 then $\epsilon$ is standard normal, and the two noises have variances adding up to
#
# <!-- eq:ddim-marginal -->
# $$(1-\bar\alpha_s-\sigma^2)+\sigma^2=1-\bar\alpha_s ,$$
#
# whatever $\sigma$. With $s=t-1$ and $\sigma^2=\tilde\beta_t$ this is the posterior of Eq. 11, so DDPM's sampler is one member:
#
# <!-- eq:ddim-ddpm -->
# $$\sqrt{\bar\alpha_{t-1}}\,x_0+\sqrt{1-\bar\alpha_{t-1}-\tilde\beta_t}\;\epsilon=\tilde\mu_t(x_t,x_0) .$$
#
# $\sigma=0$ is DDIM (Song et al. 2021): no noise but the starting one. Then $t$ may take long leaps. `GaussianDiffusion.sample` calls one function for each of them, with $\hat x_0$ for $x_0$: `ddim_step` is this formula with $\sigma=0$, and `ddpm_step` has $\sigma^2=\tilde\beta$, where $\tilde\beta$ is Eq. 9
# for the step from $t$ to $s$. The cell adds a function of its own, `eta_step`: $\sigma^2=\eta^2\tilde\beta$, where $\eta\in[0,1]$ leads from DDIM (0) to DDPM (1).
# (Where the model's variance is larger than $\tilde\beta$ only the noise $z$ is widened: $\hat x_0$ is a mean and not a draw, and the wider noise makes up for it.) The *second-order* solver in the table,
# DPM-Solver++ (Lu et al. 2022; `dpmpp_2m_step`), extrapolates $\hat x_0$ from the network's last two answers, linearly in $\tfrac12\log\mathrm{SNR}$.

# %%
check_zero("eq:ddim-marginal", (1 - abar - V) + V - (1 - abar), "variance of x_s given x_0")
eps_of = (xt - sp.sqrt(abar_t) * x0) / sp.sqrt(1 - abar_t)
check_zero(
    "eq:ddim-ddpm",
    sp.simplify((1 - abar - beta_tilde) - alpha * (1 - abar) ** 2 / (1 - abar_t)),
    "1 - abar_{t-1} - beta-tilde is a square",
)
check_zero(
    "eq:ddim-ddpm",
    sp.sqrt(abar) * x0 + sp.sqrt(alpha) * (1 - abar) / sp.sqrt(1 - abar_t) * eps_of - mu_tilde,
    "DDIM's mean with that square root, and Eq. 10",
)
d = GaussianDiffusion(cosine_beta_schedule(50))
x_0 = torch.full((run.p.draws, 1), 0.6, dtype=F64)
x_t = d.q_sample(x_0, torch.full((len(x_0),), 40), torch.randn(x_0.shape, generator=g, dtype=F64))
noise = d.predict_eps_from_xstart(x_t, torch.full((len(x_0),), 40), x_0)
for share in (0.0, 0.5, 1.0):
    a_s = float(d.abar[10])
    sigma2 = share * (1 - a_s)
    x_s = (
        a_s**0.5 * x_0
        + (1 - a_s - sigma2) ** 0.5 * noise
        + sigma2**0.5 * torch.randn(x_0.shape, generator=g, dtype=F64)
    )
    check_mean(
        "eq:ddim",
        (x_s - a_s**0.5 * x_0) ** 2,
        1 - a_s,
        f"variance of x_10 from x_40 with sigma^2 = {share} (1 - abar)",
    )

smooth = Mixture(stds=(0.15, 0.12, 0.2))
d = GaussianDiffusion(cosine_beta_schedule(run.p.sampler_T), "v", "learned")
level = stats.kstwo.isf(1e-4, run.p.toy_samples)


def eta_step(step, eta=0.5):
    """From x_t to x_s with sigma = eta times the root of beta-tilde."""
    a_t, a_s = step.abar
    large = 1 - a_t / a_s  # beta of the step from t to s, and beta-tilde
    small = (1 - a_s) / (1 - a_t) * large
    eps = (step.x - a_t**0.5 * step.x0_hat) / (1 - a_t) ** 0.5
    mean = a_s**0.5 * step.x0_hat + (1 - a_s - eta**2 * small) ** 0.5 * eps
    if step.s == 0:
        return mean
    std = eta * small**0.5 * (large / small) ** (0.5 * step.fraction)
    return mean + std * normal_like(step.x, step.generator)


choices = {
    "DDPM, all steps": (ddpm_step, d.T),
    "DDIM, all steps": (ddim_step, d.T),
    "between (eta = 0.5)": (eta_step, d.T),
    "DDIM, 1/4 of the steps": (ddim_step, d.T // 4),
    "second order, 40 steps": (dpmpp_2m_step, 40),
    "DDIM, 10 steps": (ddim_step, 10),
}
rows, drawn = [], {}
for name, (sampler, steps) in choices.items():
    begin = torch.randn(run.p.toy_samples, 1, generator=g, dtype=F64)
    sample = d.sample(
        smooth.denoiser(d), begin, sampler, d.timesteps(steps), clip=False, generator=g
    )
    drawn[name] = sample.flatten().numpy()
    D = float(stats.kstest(drawn[name], lambda v: smooth.cdf(torch.tensor(v)).numpy()).statistic)
    rows.append(
        {
            "sampler": name,
            "network calls": steps,
            "KS distance": D,
            "below the 1e-4 level": bool(D < level),
        }
    )
    if name != "DDIM, 10 steps":
        check(
            "eq:ddim",
            D,
            0.0,
            level,
            f"{name}: KS distance of {run.p.toy_samples} samples to the exact distribution",
        )
save_table(
    run,
    rows,
    "nb02_samplers",
    f"Samplers with the exact denoiser; exact draws stay below {level:.4f} in all but one of "
    "10,000 runs.",
)

# %% [markdown]
# ## 10. Scores
#
# The same network is known elsewhere as a *score model*. The score is the gradient of the log density of noisy data, and
#
# <!-- eq:score -->
# $$\nabla_{x_t}\log q(x_t)=-\frac{\mathbb E[\epsilon\mid x_t]}{\sqrt{1-\bar\alpha_t}} .$$
#
# Proof: $q(x_t)=\int q(x_t\mid x_0)\,q(x_0)\,dx_0$. Differentiate under the integral; the gradient of the Gaussian is itself times $-(x_t-\sqrt{\bar\alpha_t}x_0)/(1-\bar\alpha_t)=-\epsilon/\sqrt{1-\bar\alpha_t}$;
# dividing by $q(x_t)$ turns the integral into an average over $q(x_0\mid x_t)$. Solved for the image this is Tweedie's formula:
#
# <!-- eq:tweedie -->
# $$\mathbb E[x_0\mid x_t]=\frac{1}{\sqrt{\bar\alpha_t}}\big(x_t+(1-\bar\alpha_t)\,\nabla\log q(x_t)\big) .$$
#
# *Minus* a perfect noise prediction therefore points uphill in the density of noisy images, and taking noise away is a step in that direction.

# %%
d = GaussianDiffusion(cosine_beta_schedule(50), "eps")
points = torch.linspace(-2, 2, 81, dtype=F64)[:, None].requires_grad_(True)
for t_ in (5, 25, 45):
    t = torch.full((81,), t_)
    abar_ = float(d.abar[t_])
    (score,) = torch.autograd.grad(world.log_prob(points, abar_).sum(), points)
    mean_eps = world.denoiser(d)(points.detach(), t)
    check(
        "eq:score",
        score,
        -mean_eps / (1 - abar_) ** 0.5,
        1e-8,
        f"gradient of log q(x_t) by autograd, and the denoiser, t = {t_}",
    )
    check(
        "eq:tweedie",
        (points.detach() + (1 - abar_) * score) / abar_**0.5,
        world.posterior(points.detach(), abar_)[0],
        1e-8,
        f"Tweedie, t = {t_}",
    )

# %% [markdown]
# ## 11. Errors one meets in the wild
#
# The wrong version runs; the check that the right one passes must fail on it. All errors that we know teaching material to repeat are treated so somewhere in this course:
#
# | the error | where it runs and is caught |
# |---|---|
# | the report's Eq. 12 taken for $x_0$ | section 6, and in a sampler below |
# | $\bar\alpha_t$ as a product from $s=0$ | below |
# | $L_T$ left out of Eq. 4, or thought to train something | below |
# | Eq. 14 descended, Eq. 15 ascended; $\log D$ taken of generated images | notebook 04, section 2 |
# | saturation looked for near $D(G(z))=1$; "the same descent" | notebook 04, section 3 |
# | short $T$ with the betas of $T=1000$ | notebook 01, section 5 |
# | no clamp at the cosine schedule's last step | below |
# | noise added at the last reverse step | below |
# | $t$ off by one | notebook 01, section 7, and below |
# | $\sqrt{\bar\alpha_t}$ for $\sqrt{\alpha_t}$, $\bar\alpha$ in a single step, noise scaled by its variance | notebook 01, section 7, and below |
# | uniform noise; data in $[0,1]$ | notebook 01, section 7 |
# | the constant dropped from $L_{t-1}$ | section 7 |
# | a critic without a bound on its slope, or bounded at real points only; a hinge called Wasserstein | notebook 05, section 3 |
# | a ring of eight with seven modes | notebook 05, section 1 |
# | one angle for all pairs in spherical interpolation; ends swapped | notebook 07, section 2 |
# | numbers of different protocols compared | notebook 06, section 2 |

# %%
d = GaussianDiffusion(cosine_beta_schedule(50), "eps", "small")
model = smooth.denoiser(d)

# Errata 2: were the product to begin with some alpha_0 < 1, step 1 would keep a variance.
check("right", d.posterior_variance[1], 0.0, 0.0, "beta-tilde_1 with abar_0 = 1")
check_fails(
    "errata 2",
    lambda: check(
        "errata 2",
        (1 - 0.99) / (1 - 0.99 * float(d.alphas[1])) * float(d.betas[1]),
        0.0,
        1e-9,
        "beta-tilde_1 with alpha_0 = 0.99",
    ),
    "a product for abar that starts with alpha_0 = 0.99",
)

# Errata 3: L_T is a term of the bound, though it trains nothing.
x_0 = torch.rand(4, 1)
first, second = (
    d.vlb(
        lambda x, t, c=c: x * 0 + c,
        x_0,
        generator=torch.Generator().manual_seed(seed),
        clip=False,
        bins=None,
    )
    for c in (0.3, 0.6)
)
check("right", first.L_T, second.L_T, 0.0, "L_T under two different networks")
check(
    "right",
    (first.terms[:, :-1] != second.terms[:, :-1]).double(),
    1,
    0,
    "do L_0 … L_{T-1} differ between them (1 = yes)",
)
whole = float(-weights.log().mean())  # the mean log ratio along the paths of section 3
check("right", float(sum(parts.values()).mean()), whole, 1e-8, "L_0 + … + L_T along those paths")
check_fails(
    "errata 3",
    lambda: check(
        "errata 3",
        float(sum(parts[i] for i in range(d8.T)).mean()),
        whole,
        1e-8,
        "the same without L_T",
    ),
    "L_T left out of Eq. 4",
)

# Errata 7: the cosine schedule's last step multiplies an error in the noise by
# 1/sqrt(alpha_T) = 31.6.
sizes = {}
for clip in (True, False):
    sizes[clip] = 0.0

    def watch(t, x, x0, clip=clip):
        sizes[clip] = max(sizes[clip], float(x.abs().max()))

    begin = torch.randn(500, 3, generator=torch.Generator().manual_seed(seed))
    d.sample(lambda x, t: torch.zeros_like(x), begin, ddim_step, clip=clip, callback=watch)
check("right", 1 / float(d.alphas[50]) ** 0.5, 31.6, 0.03, "1 / sqrt(alpha_T)")
check(
    "right",
    max(0.0, sizes[True] - 6),
    0.0,
    0.0,
    "excess of |x_t| over 6 with a useless network and clamped x_0",
)
check_fails(
    "errata 7",
    lambda: check("errata 7", max(0.0, sizes[False] - 6), 0.0, 0.0, "the same without the clamp"),
    "no clamp at the cosine schedule's last step",
)


# Errata 8, 9, 10: samplers with one line wrong, judged by the distribution they produce.
def ancestral(noise_at_last_step=False, time_shift=0, coefficient="alpha", eq12_as_printed=False):
    x = torch.randn(run.p.toy_samples, 1, generator=torch.Generator().manual_seed(seed), dtype=F64)
    gen = torch.Generator().manual_seed(seed + 1)
    dd = GaussianDiffusion(cosine_beta_schedule(run.p.sampler_T), "eps", "large")
    net = smooth.denoiser(dd)
    for t_ in range(dd.T, 0, -1):
        t = torch.full((len(x),), t_)
        eps = net(x, (t - time_shift).clamp(1, dd.T))
        a_t, a_s, beta_t = dd.abar[t_], dd.abar[t_ - 1], dd.betas[t_]
        x0_hat = (
            (x - beta_t / (1 - a_t).sqrt() * eps) / (1 - beta_t).sqrt()
            if eq12_as_printed
            else dd.predict_xstart_from_eps(x, t, eps)
        )
        root = (1 - beta_t).sqrt() if coefficient == "alpha" else a_t.sqrt()
        mean = a_s.sqrt() * beta_t / (1 - a_t) * x0_hat + root * (1 - a_s) / (1 - a_t) * x
        added = (
            beta_t.sqrt() * torch.randn(x.shape, generator=gen, dtype=F64)
            if t_ > 1 or noise_at_last_step
            else 0.0
        )
        x = mean + added
    distance = float(
        stats.kstest(x.flatten().numpy(), lambda v: smooth.cdf(torch.tensor(v)).numpy()).statistic
    )
    return distance, float(
        (x - x0_hat).square().mean().sqrt()
    ) * 127.5  # the second: noise left on x_0, in grey levels


check("right", ancestral()[0], 0.0, level, "ancestral sampler: KS distance")
check("right", ancestral()[1], 0.0, 1e-9, "noise left on its result, in grey levels of 0 … 255")
check_fails(
    "eq:12-report",
    lambda: check(
        "errata 1", ancestral(eq12_as_printed=True)[0], 0.0, level, "x_0 from Eq. 12 as printed"
    ),
    "the report's Eq. 12 in the sampler",
)
check_fails(
    "errata 8",
    lambda: check(
        "errata 8", ancestral(noise_at_last_step=True)[1], 0.0, 1e-9, "noise left, in grey levels"
    ),
    "noise added at the last reverse step",
)
check_fails(
    "errata 9",
    lambda: check(
        "errata 9",
        ancestral(time_shift=-run.p.sampler_T // 5)[0],
        0.0,
        level,
        "network told a t that is T/5 later",
    ),
    "t of sampling not that of training",
)
check_fails(
    "errata 10",
    lambda: check(
        "errata 10", ancestral(coefficient="abar")[0], 0.0, level, "sqrt(abar_t) in Eq. 10"
    ),
    "posterior mean with sqrt(abar_t) for sqrt(alpha_t)",
)

# %% [markdown]
# ## Summary
#
# * The exact reverse step depends on all data and is not Gaussian, but its distance from Gaussian falls with the cube of the step; in one dimension and with the best variance; small steps are what makes Eq. 3 acceptable.
# * Given $x_0$, the reverse step is exactly Gaussian: Eq. 9-11, by completing a square.
# * The bound is a sum of $T+1$ terms, each of which we evaluated; in an exact world it equals entropy plus gap and falls to the true negative log-likelihood, provided the variance is right.
# * Mean, image, noise and velocity are four names for one output. The report's Eq. 12 confuses two of them.
# * The training loss is the bound with other weights and without a constant.
#
# ## Questions
#
# 1. Why does the gap with $\sigma^2=\tilde\beta_t$ not vanish as $T\to\infty$, while with $\sigma^2=\beta_t$ it does? (Take $\beta$ constant over the first steps and the density of the data flat on their scale. What is
#    the variance of $x_{t-1}$ given $x_t$? Sum the divergences; Euler's constant appears.)
# 2. Derive the weight of $(v-\hat v)^2$ in $L_{t-1}$. For which schedule would it be constant?
# 3. In section 1 replace the world by a single Gaussian. What is $J(\beta)$, and what does this say about choosing $T$ for data that are nearly Gaussian?
# 4. A colleague reports 2.1 bits/dim with $L_0$ taken as a density rather than as a bin's probability. What is wrong with the number, and in which direction?
