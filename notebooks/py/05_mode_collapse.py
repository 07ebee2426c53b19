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
# # 05 · Mode collapse, and what helps
#
# After this notebook you can
#
# * say what mode collapse is, and count it;
# * explain what a Wasserstein distance measures, why its critic needs a bounded slope, and what goes wrong without;
# * derive on one line why two players circle each other, and why looking ahead (Unrolled GAN) stops the circling;
# * compare four games and two controls over several seeds, and read a table that says how sure it is;
# * measure diversity on images.
#
# You need Eq. 13 to 15 from notebook 04. In profile `cpu` it takes about four minutes on two cores.

# %% tags=["parameters"]
profile = None  # "smoke", "cpu", "released" or "gpu"; None: "cpu", or in Colab "released"
seed = 0
out = None

# %%
import time
import warnings
from dataclasses import replace
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
import torch
from IPython.display import Markdown, display
from scipy import stats

from bedgen_utils import games
from bedgen_utils.checks import check, check_fails, check_mean, check_zero
from bedgen_utils.data import load_bedrooms
from bedgen_utils.factors import (
    FACTORS,
    KIND,
    SIZE,
    combined,
    labels,
    load_classifier,
    total_variation,
)
from bedgen_utils.features import features
from bedgen_utils.metrics import SmallSampleWarning, moments, precision_recall
from bedgen_utils.models import GAN, load
from bedgen_utils.report import (
    COLOURS,
    mean_interval,
    read_study,
    save_figure,
    save_table,
    share_interval,
    show_images,
    use_style,
)
from bedgen_utils.run import profile_numbers, start
from bedgen_utils.train import GANRecipe, train_gan

run = start("05", profile, seed, out)
use_style()
p = run.p
warnings.filterwarnings("ignore", category=SmallSampleWarning)

# %% [markdown]
# ## 1. Modes that can be counted
#
# A distribution of images has many *modes*: kinds of rooms, beds, lights. A generator that has *collapsed* paints
# only some of them, perhaps very well. Against a *fixed* $D$ nothing in Eq. 15 forbids it: each generated image is
# judged alone, and a batch of copies of one convincing image is judged as convincing. (Against the best answer to each
# $G$ only $q = p$ wins, notebook 04; but $D$ answers after $G$ has moved.) Images hide the loss, because nobody knows their
# modes. So we first play on the plane, with data made of narrow Gaussians (standard deviation $s$) whose centres we choose,
# on a circle of radius $R$:
#
# <!-- eq:05-ring -->
# $$ x = c_k + s\,\epsilon, \qquad k \text{ uniform on } 0 \dots 7, \quad \epsilon \sim \mathcal N(0, I_2), \qquad
#    c_k = R\,\big(\cos \tfrac{2\pi k}{8},\ \sin \tfrac{2\pi k}{8}\big) . $$
#
# Mind the angle: eight angles from `linspace(0, 2π, 8)` hold both 0 and 2π, which are one place. That "ring of 8" has
# seven modes, one of them twice as heavy, and a generator that finds all there are is then marked down.

# %%
ring, grid = games.ring(8, p.radius), games.grid(5, 1.0)


def different(centres):
    return len({(round(u, 4) + 0.0, round(v, 4) + 0.0) for u, v in centres.tolist()})


check("eq:05-ring", different(ring), 8, 0, "different centres on the ring")
angle = torch.linspace(0, 2 * np.pi, 8)
check_fails(
    "eq:05-ring",
    lambda: check(
        "eq:05-ring",
        different(torch.stack([angle.cos(), angle.sin()], 1)),
        8,
        0,
        "different centres by linspace(0, 2π, 8)",
    ),
    "both ends included",
)
check("eq:05-ring", different(grid), 25, 0, "different centres on the grid")

# %% [markdown]
# Two numbers describe a cloud of generated points. A point is **near** a mode if it lies within $3s$ of its centre; for
# true data that share is known, since $\|\epsilon\|^2/2$ is exponentially distributed:
#
# <!-- eq:05-near -->
# $$ P(\|\epsilon\| < 3) = 1 - e^{-9/2} \approx 0.989 . $$
#
# A mode is **found** if at least a fifth of $N/K$ points are near it, $N/K$ being its fair share of all $N$ points among $K$
# modes; a single stray point finds nothing. Read both together: points spread evenly over the square of the grid (5 x 5, with centres 1
# apart) have 7 % near a mode, and an even blob over its nine middle modes "finds" all nine.

# %%
true_points = games.sample_mixture(ring, (1, 100_000), p.std, torch.Generator().manual_seed(seed))
found, near = games.mode_statistics(true_points, ring, p.std)
check("eq:05-ring", found, 8, 0, "modes found in true data")
stray = torch.cat([ring[:1].expand(999, 2), ring[1:2]])[None]
check(
    "eq:05-ring",
    games.mode_statistics(stray, ring, p.std)[0],
    1,
    0,
    "modes found by 999 points on one centre and a stray one",
)
check(
    "eq:05-near",
    near.item(),
    1 - np.exp(-4.5),
    5 * (0.011 / 100_000) ** 0.5,
    "share of true points within 3 s of a centre",
)

# %% [markdown]
# ## 2. Why two players circle, and what looking ahead does
#
# Take the smallest game there is. The data sit at 0, the generator owns one number $\theta$ and paints the point
# $\theta$; the discriminator has one number $\psi$ and the logit $a(x) = \psi x$. Then Eq. 13 is
#
# <!-- eq:05-dirac -->
# $$ V(\psi, \theta) = \log \sigma(0) + \log\big(1 - \sigma(\psi\theta)\big) = -\log 2 -
#    \operatorname{softplus}(\psi\theta) . $$
#
# $D$ moves up $\partial V/\partial\psi = -\theta\,\sigma(\psi\theta)$, $G$ moves down $\partial V/\partial\theta =
# -\psi\,\sigma(\psi\theta)$. The only rest point is $(0, 0)$. Close to it $\sigma \approx \frac12$, and the flow
# $(\dot\psi, \dot\theta)$ is linear with the matrix
#
# <!-- eq:05-dirac-step-1 -->
# $$ J_0 = \begin{pmatrix} 0 & -\frac12 \\ \frac12 & 0 \end{pmatrix}, \qquad \text{eigenvalues } \pm \tfrac{i}{2} : $$
#
# a pure rotation. Imaginary eigenvalues alone decide nothing about the curved flow, but here it keeps the distance
# exactly: $\psi\dot\psi + \theta\dot\theta = -\psi\theta\,\sigma + \theta\psi\,\sigma = 0$. The players chase each
# other for ever. Steps of length $\rho$ taken at once multiply $\psi^2 + \theta^2$ by $1 + \rho^2 \sigma(\psi\theta)^2$ each
# time: they spiral outwards. (Players that take turns do not, near the rest point: their two steps together have
# determinant 1 and eigenvalues on the unit circle.) On the plane such a chase can show as a blob that hops from mode to
# mode (Metz et al., 2017).
#
# An **unrolled** generator (Metz et al., 2017) asks what $D$ *will answer*. Let $D$ take $k$ steps of length $\eta$ first,
# and let $G$ descend, with its own step length $\eta_G$, the value there, through these steps:
#
# <!-- eq:05-unrolled -->
# $$ \psi^{(0)} = \psi, \qquad
#    \psi^{(i+1)} = \psi^{(i)} + \eta\, \frac{\partial V}{\partial \psi}\big(\psi^{(i)}, \theta\big), \qquad
#    \theta \leftarrow \theta - \eta_G\, \frac{d}{d\theta} V\big(\psi^{(k)}(\psi, \theta), \theta\big) . $$
#
# With one step, $\psi^{(1)} \approx \psi - \frac\eta2\theta$, so near the rest point $V \approx \text{const} - \frac12
# (\psi - \frac{\eta}{2}\theta)\theta$: a term $+\frac\eta4\theta^2$ has appeared, a *spring* that pulls $\theta$ home:
#
# <!-- eq:05-dirac-step-2 -->
# $$ J_1 = \begin{pmatrix} 0 & -\frac12 \\ \frac12 & -\frac\eta2 \end{pmatrix},
#    \qquad \text{eigenvalues } \tfrac14\big(-\eta \pm \sqrt{\eta^2 - 4}\big), $$
#
# whose sum is $-\frac\eta2$ and whose product is $\frac14$: both real parts are negative for every $\eta > 0$. Near the rest
# point the players now meet. (More steps pull harder, near the rest point with $k$ times the spring; pulled too hard a
# player no longer swings home but creeps, so more is not always faster.)

# %%
psi, theta, eta = sp.symbols("psi theta eta", real=True)


def softplus(u):
    return sp.log(1 + sp.exp(u))


value = -sp.log(2) - softplus(psi * theta)
w = sp.symbols("w", real=True)
gap = sp.log(1 - 1 / (1 + sp.exp(-w))) + softplus(w)
check_zero(
    "eq:05-dirac",
    [sp.diff(gap, w), gap.subs(w, 0)],
    "log(1 - sigmoid) = -softplus: equal slopes, and equal at 0",
)
check_zero(
    "eq:05-dirac-step-1",
    psi * sp.diff(value, psi) - theta * sp.diff(value, theta),
    "the flow keeps psi^2 + theta^2",
)
rho = sp.symbols("rho", positive=True)
turns = sp.Matrix([[1, 0], [rho / 2, 1]]) * sp.Matrix([[1, -rho / 2], [0, 1]])  # D first, then G
check_zero(
    "eq:05-dirac-step-1",
    [turns.det() - 1, turns.trace() - 2 + rho**2 / 4],
    "taking turns: determinant 1, trace 2 - rho^2/4",
)


def flow_matrix(k):
    """Linearised flow (psi', theta') at the rest point, G looking k steps ahead."""
    answer = psi
    for _ in range(k):
        answer = answer + eta * sp.diff(value, psi).subs(psi, answer)
    flow = sp.Matrix([sp.diff(value, psi), -sp.diff(value.subs(psi, answer), theta)])
    return flow.jacobian([psi, theta]).subs({psi: 0, theta: 0})


check_zero(
    "eq:05-dirac-step-1",
    flow_matrix(0) - sp.Matrix([[0, -sp.Rational(1, 2)], [sp.Rational(1, 2), 0]]),
    "flow matrix of the ordinary game",
)
J1 = flow_matrix(1)
check_zero(
    "eq:05-dirac-step-2",
    J1 - sp.Matrix([[0, -sp.Rational(1, 2)], [sp.Rational(1, 2), -eta / 2]]),
    "flow matrix, one step ahead",
)
lam = (-eta + sp.sqrt(eta**2 - 4)) / 4
check_zero("eq:05-dirac-step-2", sp.expand((J1 - lam * sp.eye(2)).det()), "its eigenvalue")


def trajectory(k, steps=400, rate=0.1, look=1.0):
    """Both step at once; D's foreseen steps have length `look`, and torch differentiates them."""
    at = torch.tensor([0.6, 0.6], dtype=torch.float64)

    def V(psi, theta):
        return -np.log(2) - torch.nn.functional.softplus(psi * theta)

    def unrolled(theta, psi):
        for _ in range(k):
            psi = psi + look * torch.func.grad(V)(psi, theta)
        return V(psi, theta)

    path = [at.tolist()]
    for _ in range(steps):
        up = torch.func.grad(V)(at[0], at[1])
        down = torch.func.grad(unrolled)(at[1], at[0])
        at = at + rate * torch.stack([up, -down])
        path.append(at.tolist())
    return np.array(path), unrolled


# the derivative through the steps, against a finite difference
_, unrolled3 = trajectory(3, steps=0)
at_psi, at_theta, h = (
    torch.tensor(0.4, dtype=torch.float64),
    torch.tensor(0.9, dtype=torch.float64),
    1e-6,
)
check(
    "eq:05-unrolled",
    torch.func.grad(unrolled3)(at_theta, at_psi).item(),
    ((unrolled3(at_theta + h, at_psi) - unrolled3(at_theta - h, at_psi)) / (2 * h)).item(),
    1e-8,
    "gradient through three steps of D against a finite difference",
)
small = 1e-4
near_rest = small * (-0.4 / 2 + 3 / 2 * 0.9)  # -psi/2 + k eta theta/2, with k = 3 and eta = 1
check(
    "eq:05-unrolled",
    torch.func.grad(unrolled3)(small * at_theta, small * at_psi).item(),
    near_rest,
    1e-10,
    "near the rest point: half of k eta theta from where D goes, half from how that depends on "
    "theta",
)


def held_fixed(theta, psi):
    """The gradient of V with respect to theta alone, D being three steps on."""
    for _ in range(3):
        psi = psi - theta * torch.sigmoid(psi * theta)
    return -psi * torch.sigmoid(psi * theta)


check_fails(
    "eq:05-unrolled",
    lambda: check(
        "eq:05-unrolled",
        held_fixed(small * at_theta, small * at_psi).item(),
        near_rest,
        1e-10,
        "D's answer held fixed",
    ),
    "no derivative through D's steps",
)

fig, ax = plt.subplots(figsize=(5.2, 4))
ends = {}
for k, style in ((0, "-"), (1, "--"), (5, ":")):
    path, _ = trajectory(k, p.dirac_steps)
    ends[k] = float(np.hypot(*path[-1]))
    ax.plot(path[:, 0], path[:, 1], style, label=f"k = {k}")
ax.plot(0.6, 0.6, "ko", ms=4)
ax.plot(0, 0, "k+", ms=10)
ax.set(xlabel="discriminator ψ", ylabel="generator θ", aspect="equal", title="The smallest game")
ax.legend(title="steps ahead", loc="upper left", bbox_to_anchor=(1, 1))
save_figure(
    run,
    fig,
    "nb05_smallest_game",
    "Both players of the smallest game step together from the dot; the cross is the rest point.",
    {"distance_at_end": ends},
)
plt.show()
display(
    Markdown(
        f"After {p.dirac_steps} steps the players are {ends[0]:.2f} from the rest point without "
        f"looking ahead (they began at {np.hypot(0.6, 0.6):.2f}), {ends[1]:.3f} with one step "
        f"ahead, {ends[5]:.3f} with five."
    )
)

# %% [markdown]
# ## 3. Another distance: Wasserstein
#
# The second cure of the report changes what is being minimised. Against the best $D$, the game of Eq. 13 minimises the
# Jensen-Shannon divergence. Let data sit at 0 and generated points at $\theta$. For any $\theta \ne 0$ the two do not
# overlap, so $\mathrm{JS} = \log 2$: *constant*. Near or far, no slope leads home. The **Wasserstein-1 distance** is
# the least work of moving one pile of sand onto the other, mass times distance:
#
# <!-- eq:05-wasserstein -->
# $$ W(P, Q) = \min_{\text{plans}} \mathbb E\,\|x - y\|,
#    \qquad \text{on a line: } \; W(P, Q) = \int_{-\infty}^{\infty} |F_P(x) - F_Q(x)|\, dx , $$
#
# A plan is a joint distribution of pairs $(x, y)$ with $x \sim P$ and $y \sim Q$: which sand goes where. $F_P$ and $F_Q$ are
# the distribution functions. For two points it is $|\theta|$: a slope everywhere. In high dimensions no one
# can minimise over plans, but *Kantorovich-Rubinstein duality* turns it round,
#
# <!-- eq:05-duality -->
# $$ W(P, Q) = \max_{f:\ |f(x) - f(y)| \le \|x - y\|}\; \mathbb E_{x \sim P}[f(x)] - \mathbb E_{y \sim Q}[f(y)] , $$
#
# read $f$ as a price list: moving sand from $y$ to $x$ earns $f(x) - f(y)$, but no more than the way is long. So no price list earns more than
# any plan costs: where one earns exactly what a plan costs, both are best. On a line the code below finds such a pair.
# The prices: $\mathbb E_P f - \mathbb E_Q f = \int f'(x)\,(F_Q(x) - F_P(x))\,dx$ by parts, and with $|f'| \le 1$ that is
# largest for $f' = \operatorname{sign}(F_Q - F_P)$. The plan: quantile to quantile. That a pair exists in general, for
# distributions with finite means, is the theorem. In a game a *critic* network plays $f$: it is trained to raise the difference of means, $G$ to
# lower it.

# %%
x = np.linspace(-12, 12, 48_001)
dx = x[1] - x[0]
density_P = 0.5 * stats.norm.pdf(x, -2, 0.6) + 0.5 * stats.norm.pdf(x, 1.5, 0.8)
density_Q = stats.norm.pdf(x, 0.5, 1.5)
F_P = 0.5 * stats.norm.cdf(x, -2, 0.6) + 0.5 * stats.norm.cdf(x, 1.5, 0.8)
F_Q = stats.norm.cdf(x, 0.5, 1.5)
W = np.abs(F_P - F_Q).sum() * dx
price = np.cumsum(np.sign(F_Q - F_P)) * dx
check(
    "eq:05-duality",
    ((density_P - density_Q) * price).sum() * dx,
    W,
    1e-3,
    "best price list against the integral of |F_P - F_Q|",
)
others = [
    ((density_P - density_Q) * f).sum() * dx
    for f in (x, -x, np.abs(x), np.sin(x), -np.abs(x - 0.5), np.tanh(x))
]
assert max(others) < W
print(
    f"[eq:05-duality] six other functions of slope at most 1 earn less than {W:.4f}: "
    f"{np.round(others, 3)}"
)
# a plan: quantile to quantile. It costs what the prices earn, so neither can be improved
u = (np.arange(40_000) + 0.5) / 40_000
check(
    "eq:05-wasserstein",
    np.abs(np.interp(u, F_P, x) - np.interp(u, F_Q, x)).mean(),
    W,
    1e-3,
    "cost of matching quantile to quantile",
)

# %% [markdown]
# **The slope must be bounded.** If $f$ may be steep, multiply it by a thousand and the difference of means is a
# thousand times as large: the maximum does not exist. Three wrong ideas circulate: to bound nothing; to punish the
# slope at real points only and call it WGAN-GP (real points have no say about what lies between them and the generated
# ones); to use a hinge, $\max(0, 1 - f)$ on real and $\max(0, 1 + f)$ on generated points, and call it Wasserstein (it is
# content with every $f$ that is at least 1 on the real and at most −1 on the generated points, wherever these lie: a
# difference of 2 costs as little as one of 100, and what is reported depends on the start and the optimizer).
#
# <!-- eq:05-hinge -->
# $$ \mathbb E_x \max\big(0,\, 1 - f(x)\big) + \mathbb E_z \max\big(0,\, 1 + f(G(z))\big) = 0
#    \quad\text{for all such } f . $$
#
# **WGAN-GP** (Gulrajani et al., 2017) punishes slopes that differ from 1 at random points *between* a real and a
# generated one. The reason: where the cheapest plan moves sand from $y$ to $x$, the best $f$ earns the whole $\|x - y\|$,
# and with slope at most 1 it can do so only with slope exactly 1 all along the way. (The formula draws its pairs at
# random, not by the plan, so it asks for slope 1 also where the best $f$ is flatter: question 3.)
#
# <!-- eq:05-gp -->
# $$ L_f = \mathbb E_z\, f(G(z)) - \mathbb E_x\, f(x) + \lambda\; \mathbb E_{x,\,z,\ u \sim U(0,1)}
#    \Big(\big\|\nabla f\big(u\,x + (1-u)\,G(z)\big)\big\| - 1\Big)^2 , \qquad \lambda > 0 \text{ a chosen weight} . $$
#
# Try it: real points around $(2, 0)$, generated ones around $(-2, 0)$, so $W = 4$. A critic is trained under each rule.
# Even the right rule does not quite return 4: a critic of slope $g$ along the way reports $4g$ and pays $\lambda (g -
# 1)^2$, and the best bargain is
#
# <!-- eq:05-gp-step-1 -->
# $$ g^* = 1 + \frac{W}{2\lambda}, \qquad
#    \text{reported: } \; W + \frac{W^2}{2\lambda} = 4.8 \;\text{ for } W = 4,\ \lambda = 10 . $$


# %%
def critic(rule, steps, rate=3e-3, weight=10.0):
    """What a critic reports as the distance of two clouds 4 apart: (step, difference of means).

    Before the update of every tenth step, the first and the last.
    """
    rng = torch.Generator().manual_seed(seed)
    d = [q.requires_grad_(True) for q in games.mlp_parameters(1, (2, 64, 64, 1), rng)]
    optimizer = torch.optim.Adam(d, rate)
    reported = []
    for step in range(steps):
        real, fake = (
            c + 0.05 * torch.randn(1, 128, 2, generator=rng)
            for c in (torch.tensor([2.0, 0]), torch.tensor([-2.0, 0]))
        )
        f_real, f_fake = games.mlp(d, real), games.mlp(d, fake)
        difference = f_real.mean() - f_fake.mean()
        loss = -difference
        if rule == "between":
            loss = loss + weight * games.penalty(d, real, fake, rng).sum()
        elif rule == "real only":
            loss = loss + weight * games.penalty(d, real, real, rng).sum()
        elif rule == "hinge":
            loss = (1 - f_real).clamp(min=0).mean() + (1 + f_fake).clamp(min=0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0 or step == steps - 1:
            reported.append((step + 1, difference.item()))
    return reported


fig, ax = plt.subplots(figsize=(6.4, 3))
reports = {
    rule: critic(rule, p.critic_steps) for rule in ("no bound", "real only", "hinge", "between")
}
for (rule, values), style in zip(reports.items(), ("-", "--", ":", "-."), strict=True):
    ax.plot(
        *np.array(values).T,
        style,
        label={
            "no bound": "nothing bounds the slope",
            "real only": "penalty at real points only",
            "hinge": "hinge",
            "between": "WGAN-GP: penalty between",
        }[rule],
    )
ax.axhline(4, color="k", lw=0.8, ls=":", label="the distance, 4")
ax.set(
    xlabel="step of the critic",
    ylabel="reported difference of means",
    yscale="log",
    ylim=(1, None),
    title="What a critic reports as distance",
)
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
save_figure(
    run,
    fig,
    "nb05_critics",
    "The distance that a critic reports between two clouds four apart, under four rules.",
    {k: v[-1][1] for k, v in reports.items()},
)
plt.show()
slope, distance, weight = sp.symbols("g W lambda", positive=True)
best = 1 + distance / (2 * weight)
check_zero(
    "eq:05-gp-step-1",
    [
        sp.diff(distance * slope - weight * (slope - 1) ** 2, slope).subs(slope, best),
        distance * best - distance - distance**2 / (2 * weight),
    ],
    "the best bargain of slope and penalty, and what it reports",
)
linear = [torch.tensor([[[3.0], [0.0]]]), torch.zeros(1, 1, 1)]
check(
    "eq:05-gp",
    games.penalty(linear, torch.randn(1, 8, 2), torch.randn(1, 8, 2)).item(),
    4,
    1e-5,
    "penalty, without its weight, of a function of slope 3",
)
bent = [
    torch.tensor([[[2.0], [0.0]]]),
    torch.zeros(1, 1, 1),
    torch.ones(1, 1, 1),
    torch.zeros(1, 1, 1),
]  # tanh(2 x_1)
at_right, at_left = (c * torch.tensor([1.0, 0.0]).expand(1, 100_000, 2) for c in (1, -1))
rng = torch.Generator().manual_seed(seed)
on_the_way = (
    2 / np.cosh(2 * np.linspace(-1, 1, 100_001)) ** 2 - 1
) ** 2  # (slope - 1)^2 from -1 to 1
bound = 5 * on_the_way.std() / 100_000**0.5
check(
    "eq:05-gp",
    games.penalty(bent, at_right, at_left, rng).item(),
    on_the_way.mean(),
    bound,
    "tanh(2 x): steep in the middle, flat at the ends; the mean over the way from -1 to 1",
)
check_fails(
    "eq:05-gp",
    lambda: check(
        "eq:05-gp",
        games.penalty(bent, at_right, at_right, rng).item(),
        on_the_way.mean(),
        bound,
        "at real points",
    ),
    "penalty at real points only",
)
for far, steep in (
    (2, 0.5),
    (2, 25.0),
    (200, 0.005),
):  # real points at +far, generated at -far, f(x) = steep * x
    check(
        "eq:05-hinge",
        max(0, 1 - steep * far) + max(0, 1 + steep * -far),
        0,
        1e-12,
        f"the hinge's loss of a critic that reports {2 * steep * far:g} where the distance is "
        f"{2 * far}",
    )
display(
    Markdown(
        "At the end the critics report "
        + ", ".join(f"{values[-1][1]:.4g} ({rule})" for rule, values in reports.items())
        + "; the distance is 4."
    )
)
if p.critic_steps >= 200:  # enough to converge
    check(
        "eq:05-gp-step-1",
        reports["between"][-1][1],
        4.8,
        0.3,
        "WGAN-GP's trained critic against the formula",
    )
    check_fails(
        "eq:05-gp-step-1",
        lambda: check(
            "eq:05-gp-step-1", reports["no bound"][-1][1], 4.8, 0.3, "critic without a bound"
        ),
        "nothing bounds the slope",
    )
    check_fails(
        "eq:05-gp-step-1",
        lambda: check(
            "eq:05-gp-step-1",
            reports["real only"][-1][1],
            4.8,
            0.3,
            "critic bounded at real points",
        ),
        "penalty at real points only",
    )
    check_fails(
        "eq:05-gp-step-1",
        lambda: check(
            "eq:05-gp-step-1", reports["hinge"][-1][1], 4.8, 0.3, "critic trained on the hinge"
        ),
        "a hinge called Wasserstein",
    )

# %% [markdown]
# ## 4. The games, over seeds
#
# Now the games themselves, in the spirit of the toy experiment of Metz et al. (2017), only smaller. All have the same two
# networks (perceptrons with two hidden layers and tanh), the same latents and the same optimizer (Adam), by whose rates $G$
# steps five times as far as $D$: a discriminator that follows and does not lead. Both rates fall over the last 40 % of the steps, as they
# do in training on images, for at full rates even a game that has found all modes may jump away from them just before one looks. All begin alike: $G$ paints a small blob in
# the middle, so where the points go from there is the game's doing. A unit of $D$'s first layer is $\tanh(w \cdot x + b)$
# and switches on the line $w \cdot x + b = 0$. We draw $b$ at random, so that these lines lie all over the data (with $b = 0$
# they would all go through the origin), and multiply $w$ and $b$ by a *steepness*: 0.4 on the ring, 2 on a grid of 25,
# whose modes lie closer. It leaves the lines where they are and says how sharply the units switch, hence how fine a structure $D$ sees at
# first. Flat, $D$ begins by telling one side of the plane from the other, and $G$ need only run to the other side. These settings
# were chosen, after trials, so that minimax does badly. The intervals below say what other seeds would give, not what other settings would.
#
# The games differ in what this notebook is about, the loss, the penalty, the look ahead, and in what these bring
# with them: WGAN-GP takes five critic steps for one of $G$, so that its critic does not lag, and $\lambda = 0.1$ (its authors, too, use that on
# the plane; two heaps $W$ apart are then reported as $W + 5W^2$, no longer the distance, but still 0 only where they meet).
# The unrolled generator foresees $k$ steps of the discriminator's real optimizer (Adam), not of plain gradient
# descent, whose steps are unbounded: $G$ could win by placing points so far out that $D$'s foreseen answer overshoots.
#
# A game's outcome hangs on chance, so each is played from several seeds. (All seeds of one game are computed in one
# batched product; they share no weight and no random number.) The same seed begins with the same networks in every game. As everywhere in this
# course, what counts are the images, here points, of the *averaged* generator, whose weights are an exponentially weighted mean of $G$'s with
# a memory of about $1/0.001 = 1000$ steps; the film shows $G$ as it is at that step. (The grid is only shown here; the study below counts on it.)

# %%
GAMES = {
    "minimax": dict(name="minimax"),
    "non-saturating": dict(name="non_saturating"),
    "WGAN-GP": dict(name="wgan_gp", critic_steps=5),
    **{f"unrolled, k = {k}": dict(name="minimax", unrolled=k) for k in p.unrolled},
}
PLANES = {
    "ring of 8": dict(centres=ring, seeds=p.seeds, steps=p.ring_steps, steepness=p.ring_steepness),
    "grid of 25": dict(centres=grid, seeds=1, steps=p.grid_steps, steepness=p.grid_steepness),
}


def mean_and_half(values):
    """Mean and half-width of the 95 % t interval over seeds."""
    interval = mean_interval(values)
    return interval.value, interval.high - interval.value


def outcome(found, near, modes, base=None):
    """The columns of a game's row, from modes found and share of points near one, seed by seed.

    base: the modes that minimax found from the same seeds; None: this game is minimax.
    """
    whole = sum(f == modes for f in found)
    _, low, high = share_interval(whole, len(found))
    return {
        "modes found": " ".join(str(f) for f in found),
        "all found": f"{whole}/{len(found)} [{low:.2f}, {high:.2f}]",
        "more than minimax": ""
        if base is None
        else "{:+.1f} ± {:.1f}".format(*mean_and_half(np.subtract(found, base))),
        "share near a mode": "{:.2f} ± {:.2f}".format(*mean_and_half(near)),
    }


films, rows, base, within = {}, [], None, []
for plane, board in PLANES.items():
    for name, settings in GAMES.items():
        began = time.monotonic()
        game = games.Game(
            steps=board["steps"],
            steepness=board["steepness"],
            hidden=p.hidden,
            latent=p.latent,
            batch=p.batch,
            g_rate=p.g_rate,
            d_rate=p.d_rate,
            **settings,
        )
        film = films[plane, name] = games.play(
            game,
            board["centres"],
            p.std,
            seeds=board["seeds"],
            seed=seed,
            snapshots=[max(1, round(game.steps * f)) for f in (0.1, 0.15, 0.2, 0.3, 0.5, 0.75)],
        )
        if plane == "ring of 8":
            points = film[p.ring_steps]
            found, near = (
                values.tolist() for values in games.mode_statistics(points[1], ring, p.std)
            )
            within.append(
                (torch.stack(list(film.values())).norm(dim=-1) < 2 * p.radius)
                .float()
                .mean(-1)
                .min()
                .item()
            )
            rows.append(
                {
                    "game": name,
                    **outcome(found, near, len(ring), base),
                    "seconds": round(time.monotonic() - began, 1),
                }
            )
            base = base or found  # minimax is played first
display(
    save_table(
        run,
        rows,
        "nb05_games",
        f"The ring of 8, {p.ring_steps:,} steps of G, {p.seeds} seeds, averaged generators. Modes "
        "found: seed by seed. All found: seeds that found every mode, with the 95 % interval of "
        "the chance (Clopper-Pearson). More than minimax: mean difference from the same seeds, ± "
        "the 95 % interval (t).",
    )
)


# %%
def film_strip(plane, name, which=0):
    """What G paints on the plane in game number `which`, in every game."""
    board = PLANES[plane]
    reach = 1.6 * board["centres"].norm(dim=1).max().item()
    real = games.sample_mixture(
        board["centres"], (1000,), p.std, torch.Generator().manual_seed(seed)
    )
    strips = {game: film for (where, game), film in films.items() if where == plane}
    columns = len(next(iter(strips.values()))) + 2
    fig, axes = plt.subplots(
        len(strips), columns, figsize=(1.4 * columns, 1.5 * len(strips)), squeeze=False
    )
    for row, (game, film) in zip(axes, strips.items(), strict=True):
        clouds = [*((f"step {s:,}", cloud[0, which], 0) for s, cloud in film.items())]
        clouds += [("averaged", list(film.values())[-1][1, which], 2), ("data", real, 1)]
        for ax, (title, cloud, colour) in zip(row, clouds, strict=True):
            ax.plot(*cloud.T, ".", ms=1, alpha=0.5, color=COLOURS[colour], rasterized=True)
            ax.plot(*board["centres"].T, "k+", ms=5, mew=0.6)
            ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
            ax.set_title(title, fontsize=8)
            ax.grid(False)
        row[0].set_ylabel(game, fontsize=8)
    save_figure(
        run,
        fig,
        name,
        f"One seed of each game on the {plane} (number {which + 1} of {p.seeds}): what G paints "
        "while it learns, and what its average paints at the end. Crosses: the modes.",
        {"rows": rows} if plane == "ring of 8" else {},
    )
    plt.show()


film_strip("ring of 8", "nb05_film", which=int(np.argmin(base)))  # where minimax finds fewest
film_strip("grid of 25", "nb05_film_grid")
display(
    Markdown(
        f"In the worst game and seed, at the worst of these moments, {100 * min(within):.0f} % of "
        "the points on the ring lie within twice its radius"
        + (": nobody runs away." if min(within) > 0.9 else ".")
    )
)

# %% [markdown]
# Collapse as one pictures it is to be seen on the grid, where minimax and the non-saturating game begin (the film of the ring shows a seed from which minimax ends with the fewest modes, be they all eight): the points gather in a few heaps and threads, and these *move*. $D$ learns that
# heaps are generated there, $G$ runs to where $D$ has not yet looked, $D$ follows. That is the circle of section 2, on the
# plane. Averaging the *weights* over such a dance gives a network that $G$ never was; most often it paints near few modes (the *share
# near a mode*), so an average alone cures nothing while the dance goes on. It does help a generator that only trembles about the right answer.
# Smaller steps calm the dance, but what is lost they bring back only in part: on the grid modes are still missing at the end (table below).
#
# **More seeds, and with controls.** A *study*, a computation that runs apart from the notebooks (`studies/mode_collapse.py`;
# `make studies`), plays the same games from ten seeds on ring and grid. It holds two controls. Whoever looks $k$ steps ahead, or takes
# five critic steps, also asks $D$ more often: would more steps of $D$ alone do? So minimax is played once more with five steps of $D$ for
# each of $G$. And once with a $D$ whose first layer begins twice as steep. The milliseconds a step, for all ten seeds of a game at once on one core, say what each game costs.
#
# How to read the table: the modes stand there seed by seed, at the end of the game, by the averaged generator. A count at the end mixes three
# things, never found, found late, found and lost again; so *throughout* counts the seeds that held all modes at each of five moments in the second half of the
# game, and *by G itself* those whose generator, not averaged, holds all at the end; the curves tell more. Where nearly all differences from minimax are equal, the t interval, made for normal numbers,
# says little: there read *all found* with its interval. All games take the same number of steps of $G$, not the same time; whether minimax would catch up in
# equal time, the table does not say. And mind what such games do not show: on images, Lucic et al.
# (2018) found no loss that consistently beats the non-saturating one once all are tuned.

# %%
IN_ORDER = [
    "minimax",
    "minimax, 5 steps of D",
    "minimax, D steeper",
    "non-saturating",
    "WGAN-GP",
    "unrolled, k = 1",
    "unrolled, k = 5",
    "unrolled, k = 10",
]
played = read_study("mode_collapse")
played = played[played["seed"] == 0].to_dict("records")
played.sort(key=lambda r: (r["data"] != "ring of 8", IN_ORDER.index(r["game"])))
of_cpu = profile_numbers("cpu", "05")  # the study's settings
for row in played:
    board = row["data"].split()[0]
    steeper = 2 if row["game"] == "minimax, D steeper" else 1
    assert row["steps"] == of_cpu[f"{board}_steps"]
    assert row["steepness"] == steeper * of_cpu[f"{board}_steepness"]
    assert (row["rate of G"], row["rate of D"]) == (of_cpu["g_rate"], of_cpu["d_rate"])
MOMENTS = [k.removeprefix("found ") for k in played[0] if k.startswith("found ") and "now" not in k]


def modes_found(row, moment):
    return [int(count) for count in row[f"found {moment}"].split()]


def share_of_game(moment):
    return 1.0 if moment == "end" else float(Fraction(moment))


def holding(row, *moments):
    """How many seeds hold all modes at each of these moments."""
    return int((np.array([modes_found(row, m) for m in moments]) == row["modes"]).all(0).sum())


study = {(row["data"], row["game"]): row for row in played}
SECOND_HALF = [m for m in MOMENTS if share_of_game(m) >= 0.5]

long_rows = []
for row in played:
    near = [float(share) for share in row["near end"].split()]
    base = modes_found(study[row["data"], "minimax"], "end")
    long_rows.append(
        {
            "data": row["data"],
            "game": row["game"],
            **outcome(
                modes_found(row, "end"),
                near,
                row["modes"],
                None if row["game"] == "minimax" else base,
            ),
            "throughout": f"{holding(row, *SECOND_HALF)}/{row['games']}",
            "by G itself": f"{holding(row, 'now end')}/{row['games']}",
            "ms a step": row["ms a step"],
        }
    )
lengths = {row["data"]: (row["steps"], row["games"]) for row in played}
display(
    save_table(
        run,
        long_rows,
        "nb05_games_long",
        "The study: "
        + "; ".join(
            f"{data}, {steps:,} steps of G, {n} seeds" for data, (steps, n) in lengths.items()
        )
        + ". Columns as above and in the text. From commit "
        f"{', '.join(sorted({r['commit'] for r in played}))}.",
        study="mode_collapse",
    )
)
fig, axes = plt.subplots(1, len(lengths), figsize=(1.5 + 4.2 * len(lengths), 3.2), squeeze=False)
for ax, (data, (steps, _)) in zip(axes[0], lengths.items(), strict=True):
    for row in (r for r in played if r["data"] == data):
        i = IN_ORDER.index(row["game"])
        ax.plot(
            [share_of_game(m) * steps for m in MOMENTS],
            [holding(row, m) for m in MOMENTS],
            "os^Dvx*P"[i] + ("-" if i < 3 else "--" if i < 5 else ":"),
            ms=4,
            label=row["game"],
            color=COLOURS[i % len(COLOURS)],
        )
    ax.set(
        xlabel="step of the generator",
        ylabel="seeds that hold all modes",
        ylim=(-0.2, row["games"] + 0.3),
        title=data.capitalize(),
    )
axes[0, -1].legend(
    *axes[0, 0].get_legend_handles_labels(), fontsize=8, loc="upper left", bbox_to_anchor=(1, 1)
)
save_figure(
    run,
    fig,
    "nb05_modes_long",
    "The study: how many of ten seeds hold all modes, by the averaged generator, at seven moments. "
    "Dotted: unrolled games.",
    {"rows": long_rows},
    study="mode_collapse",
)
plt.show()


def verdict(data):
    """What the ends of the games say, with Fisher's exact test (two-sided) for three questions."""
    n = lengths[data][1]
    mine, lasting = (
        {game: holding(row, *moments) for (plane, game), row in study.items() if plane == data}
        for moments in (["end"], SECOND_HALF)
    )

    def against(one, other):
        table = [[mine[game], n - mine[game]] for game in (one, other)]
        return (
            f"{mine[one]} against {mine[other]} of {n} (p = {stats.fisher_exact(table).pvalue:.2g})"
        )

    return (
        f"* **{data.capitalize()}**, seeds that find all modes by the end. WGAN-GP against "
        f"minimax: {against('WGAN-GP', 'minimax')}; unrolled, k = 5, against minimax: "
        f"{against('unrolled, k = 5', 'minimax')}. Is it only that D is asked more often? "
        "Unrolled, k = 5, against minimax with five steps of D: "
        f"{against('unrolled, k = 5', 'minimax, 5 steps of D')}. How much hangs on how D begins: "
        f"minimax with a steeper D {mine['minimax, D steeper']}. Throughout the second half: "
        f"minimax {lasting['minimax']}, k = 5 {lasting['unrolled, k = 5']}, k = 10 "
        f"{lasting['unrolled, k = 10']}, WGAN-GP {lasting['WGAN-GP']}."
    )


display(
    Markdown(
        "\n".join(verdict(data) for data in lengths)
        + "\n\n(Fisher's exact test asks how often two games with one and the same chance would "
        "differ so much; six such questions, so a p of 0.05 is no rarity.)"
    )
)

# %% [markdown]
# ## 5. Diversity of images
#
# On bedrooms there are no centres to count. A fixed network turns each image into a vector, its *features* (notebook
# 06), and three measures work on these. **Precision**: the share of generated images that lie within reach of some real
# one, where a real image reaches as far as its third nearest real neighbour. **Coverage** (Naeem et al., 2020): the share of real images that have some generated one within their
# reach. And the mean **pairwise distance** of features among generated images. (The usual *recall* draws its balls
# around generated images instead; images repeated at least four times then have balls of radius 0, and count for nothing.)
#
# Before trusting a measure, calibrate it on a collapse that one has made oneself: let the generator paint from only $m$
# latents, over and over. It is then collapsed to $m$ images, each as good as before. What the measures should say can
# partly be worked out. If both sets of images come from one distribution, a real one of $N$ is left out only if its
# three nearest among all others, $N - 1$ real and $M$ generated ones, are real:
#
# <!-- eq:05-coverage -->
# $$ \mathbb E\,\text{coverage} = 1 - \prod_{i=0}^{2} \frac{N-1-i}{N-1+M-i} \approx \tfrac78 \quad (N = M) . $$
#
# And copies lie at distance 0 from each other, so that $m$ images with the mean distance $\bar d_m$, repeated until they
# are $n$ (a multiple of $m$), have the pairwise distance
#
# <!-- eq:05-pairwise -->
# $$ \tfrac{n}{n-1}\,\big(1 - \tfrac1m\big)\,\bar d_m : $$
#
# thirty images lose a thirtieth. It sees only a collapse to very few.

# %%
validation_images = load_bedrooms(p.source, "validation", p.size, limit=2 * p.n_images)
n = len(validation_images) // 2
gan = load("gan", run)
print(f"generator: {gan.source}")
real_features, other_real = (features(part) for part in validation_images[: 2 * n].split(n))
fake_features = features(gan.sample(n, seed=5))


def coverage(real, generated, k=3):
    """Share of real points with a generated one no farther than their k-th real neighbour."""
    reach = torch.cdist(real, real).kthvalue(k + 1, dim=1).values  # the first is the point itself
    return (torch.cdist(real, generated).min(1).values <= reach).float().mean().item()


def pairwise(f):
    """Mean distance of two different members."""
    return (torch.cdist(f, f).sum() / (len(f) * (len(f) - 1))).item()


same_law = torch.Generator().manual_seed(seed)
clouds = [torch.randn(2, 200, 8, generator=same_law, dtype=torch.float64) for _ in range(100)]
by_chance = 1 - np.prod([(199 - i) / (399 - i) for i in range(3)])
check_mean(
    "eq:05-coverage",
    [coverage(*pair) for pair in clouds],
    by_chance,
    "coverage of one cloud by another of the same law",
)
check_fails(
    "eq:05-coverage",
    lambda: check_mean(
        "eq:05-coverage",
        [coverage(*pair, k=2) for pair in clouds],
        by_chance,
        "one neighbour fewer",
    ),
    "a point counted as its own neighbour",
)
some = torch.randn(10, 5, generator=same_law, dtype=torch.float64)
check(
    "eq:05-pairwise",
    pairwise(some.repeat(50, 1)),
    500 / 499 * 0.9 * pairwise(some),
    1e-5,
    "ten points, fifty times each",
)


def measure(f):
    precision, _ = precision_recall(real_features, f)
    return {
        "precision": precision,
        "coverage": coverage(real_features, f),
        "pairwise distance": pairwise(f),
    }


few = [m for m in (1, 3, 10, 30, 100, 300) if m < n] + [n]
measured = [{"images": m, **measure(fake_features[torch.arange(n) % m])} for m in few]
floor = measure(other_real)
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3))
for key, style in (("coverage", "o-"), ("precision", "s--")):
    left.semilogx(few, [r[key] for r in measured], style, label=f"{key}, generated")
    left.axhline(
        floor[key],
        color=left.lines[-1].get_color(),
        ls=":",
        lw=1,
        label=f"{key}, {n} other real images",
    )
left.set(
    xlabel="different images m", ylabel="share", ylim=(-0.02, 1.02), title="Coverage and precision"
)
left.legend(fontsize=7)
right.semilogx(few, [r["pairwise distance"] for r in measured], "o-", label="generated")
right.axhline(floor["pairwise distance"], color="k", ls=":", lw=1, label="real images")
right.set(
    xlabel="different images m",
    ylabel="mean distance of features",
    ylim=(0, None),
    title="Pairwise distance",
)
right.legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb05_pictures",
    f"{n} images from a generator held to m different ones: coverage, precision and pairwise "
    "feature distance.",
    {"rows": measured, "real": floor},
    near := moments(validation_images[:n], cache=True).protocol(n, split="validation"),
)
plt.show()
display(
    Markdown(
        f"Our generator: coverage {measured[-1]['coverage']:.2f} (other real images: "
        f"{floor['coverage']:.2f}), precision {measured[-1]['precision']:.2f} ± "
        f"{1.96 * (measured[-1]['precision'] * (1 - measured[-1]['precision']) / n) ** 0.5:.2f} "
        f"(95 % interval, the real images held fixed; {floor['precision']:.2f}), pairwise distance "
        f"{measured[-1]['pairwise distance']:.1f} ({floor['pairwise distance']:.1f}). Collapsed by "
        f"hand to {few[1]} images: coverage {measured[1]['coverage']:.3f}, precision "
        f"{measured[1]['precision']:.2f} (an average of {few[1]} yes-or-no answers, whose "
        "expectation does not depend on how few they are; coverage is not blind to it). Both "
        "scatter with the images drawn: section 6 measures the same generator from other latents."
    )
)

# %% [markdown]
# ## 6. What is in the rooms
#
# Features see with the eyes of a network trained on photographs of everything, and their distances have no names. What is in our rooms has names: each was rendered from known *factors* (how the wall is painted, what lies on the floor, from where one looks, …).
# A small network has learnt to read those of them that can be told at 32 pixels (`factors.py`); its *answer* is the class it finds likeliest. How well does it read? On the validation images, which it has not seen:

# %%
reader = load_classifier()
truth = labels("validation")
rooms = load_bedrooms("rendered", "validation", SIZE)
answers = reader.read(rooms)
factor_rows = []
for k, (name, classes) in enumerate(FACTORS.items()):
    right = (answers[:, k] == truth[:, k]).double().mean().item()
    commonest = truth[:, k].bincount().max().item() / len(truth)
    half_width = 1.96 * (right * (1 - right) / len(truth)) ** 0.5
    factor_rows.append(
        {
            "factor": name,
            "classes": len(classes),
            "right": f"{right:.3f} ± {half_width:.3f}",
            "always the commonest class": round(commonest, 3),
        }
    )
display(
    save_table(
        run,
        factor_rows,
        "nb05_reader",
        f"Share of {len(truth):,} validation images whose factor the network reads rightly, with "
        "its 95 % interval, beside the share that one answer for all would get right.",
    )
)

# %% [markdown]
# It errs, on colours often. That need not hurt. Let a factor have the classes $a$ with shares $\pi_a$ in some set of images, and let $C_{ab} = P(\text{answer } b \mid \text{class } a)$. Then the answers have the shares
#
# <!-- eq:05-answers -->
# $$ q_b = \sum_a \pi_a\, C_{ab} . $$
#
# Two sets with the same shares of classes and the same $C$ have the same shares of answers, so we compare answers with answers: those on generated images with those on validation images. The difference of two lists of shares is measured by their **total variation distance**,
#
# <!-- eq:05-tv -->
# $$ \mathrm{TV}(p, q) = \tfrac12 \sum_c |p_c - q_c| = \max_A \big(p(A) - q(A)\big) , $$
#
# the largest difference of probability that any set $A$ of classes can show: take in exactly the classes with $p_c > q_c$; what $p$ has more there it has less elsewhere, so each side holds half of the sum.
#
# Three cautions. From $N$ images each, equal shares $q$ do not give 0 but about
#
# <!-- eq:05-tv-bias -->
# $$ \mathbb E\,\mathrm{TV} \approx \sum_c \sqrt{\frac{q_c\,(1-q_c)}{\pi\, N}} \qquad (\pi = 3.14\dots) , $$
#
# because $p_c - q_c$ is then nearly normal with variance $2 q_c (1-q_c)/N$, and $\mathbb E|\xi| = \sigma\sqrt{2/\pi}$ for $\xi \sim \mathcal N(0, \sigma^2)$. So not 0 is the yardstick, but what two sets of real images give. Second, with one $C$ for both, errors of reading only shrink the distance of the shares themselves,
# since $\tfrac12\sum_b |\sum_a (\pi_a - \pi'_a)\, C_{ab}| \le \tfrac12 \sum_a |\pi_a - \pi'_a|$ (the rows of $C$ sum to 1): beyond what chance gives, what the answers show is there at least, and what they do not show may be. Third, all this takes $C$ to be the same, but it is an average over everything else in the rooms,
# and on images that are no rooms the network must answer too; that is why precision stands beside.

# %%
half = len(truth) // 2
k, cream = list(FACTORS).index("wall_colour"), FACTORS["wall_colour"].index("cream")
C = torch.zeros(15, 15, dtype=torch.float64)
C.index_put_(
    (truth[:half, k], answers[:half, k]), torch.ones(half, dtype=torch.float64), accumulate=True
)
each = C.sum(1, keepdim=True)
C /= each
later = torch.arange(half, len(truth))
few_creams = later[truth[later, k] != cream]  # no cream walls: other shares, the same network
pi = truth[few_creams, k].bincount(minlength=15).double() / len(few_creams)
q = answers[few_creams, k].bincount(minlength=15).double() / len(few_creams)
variance = C * (1 - C)
error = (
    pi @ variance / len(few_creams) + (pi**2 / each[:, 0]) @ variance
).sqrt()  # of q, and of C, which comes from other images
check(
    "eq:05-answers",
    (q - pi @ C) / error,
    torch.zeros(15, dtype=torch.float64),
    5,
    "shares of answers about the wall less the formula, in standard errors",
)
check_fails(
    "eq:05-answers",
    lambda: check(
        "eq:05-answers",
        (q - pi) / error,
        torch.zeros(15, dtype=torch.float64),
        5,
        "shares of answers less those of the walls",
    ),
    "answers taken for the factors",
)
p_shares, q_shares = (
    part[:, k].bincount(minlength=15).double() / half for part in (answers[:half], truth[:half])
)
sets = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 15)
check(
    "eq:05-tv",
    total_variation(answers[:half, k], truth[:half, k], 15),
    (sets @ (p_shares - q_shares)).max(),
    1e-12,
    f"all {len(sets):,} sets of 15 wall colours tried",
)
dice = torch.Generator().manual_seed(seed)
pairs = [
    torch.multinomial(q_shares, 2000, replacement=True, generator=dice).split(1000)
    for _ in range(500)
]
tv = torch.tensor([total_variation(*pair, 15) for pair in pairs], dtype=torch.float64)
by_formula = (q_shares * (1 - q_shares) / (np.pi * 1000)).sqrt().sum().item()
check(
    "eq:05-tv-bias",
    tv.mean(),
    by_formula,
    0.02 * by_formula + 5 * tv.std().item() / 500**0.5,
    "mean over 500 pairs of draws of 1,000 from one list of shares (2 % for shares so small that "
    "they are not normal)",
)
display(
    Markdown(
        f"Of the cream walls the network calls {100 * C[cream, cream]:.0f} % cream, "
        f"{100 * C[cream, -1]:.0f} % white and {100 * C[cream, 0]:.0f} % beige."
    )
)

# %% [markdown]
# Five factors together have $3 \cdot 2 \cdot 2 \cdot 2 \cdot 3 = 72$ combinations (three views, window behind the bed or not, lamps on or off, a footboard or none, carpet, wood or tiles). How many of them does a generator paint, and how evenly? For the second we take
#
# <!-- eq:05-evenly -->
# $$ e^{H} , \qquad H = -\sum_c q_c \log q_c , $$
#
# the number of equally frequent combinations that have the same entropy $H$: $m$ classes of share $1/m$ have $H = \log m$.
# These are combinations of *answers*. A misread image can add one that no room has, and the inequality above is about TV, not about $H$: neither number counts rooms, and each says something only beside that of as many validation images.
#
# We read the images of the GAN of notebook 04, and of a run that was set up to go wrong: the two networks and the 1,000 images of notebook 04 in profile `cpu`, but the non-saturating game, three times the rate, no $R_1$ penalty, a momentum of 0.9 (Adam's default), no augmentation but mirrored images, and few epochs. Which of these does the harm, one run cannot say. (If the GAN is the released one or comes from another profile, see *generator* in section 5, the two also differ in width, images or rate. Profile `released`, which trains nothing, leaves it out.)


# %%
def evenly(q):
    return torch.special.entr(q).sum().exp().item()


check(
    "eq:05-evenly",
    evenly(torch.full((7,), 1 / 7, dtype=torch.float64)),
    7,
    1e-12,
    "seven equal shares",
)
check(
    "eq:05-evenly",
    evenly(torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)),
    2**1.5,
    1e-12,
    "shares 1/2, 1/4, 1/4",
)

# Photographs would be read by a reader of renderings, and other sizes are halved first: alike on
# both sides, if less often rightly.
compared = (
    answers
    if p.source == "rendered" and p.size == SIZE
    else reader.read(load_bedrooms(p.source, "validation", p.size))
)
n_read = min(p.n_read, len(compared) // 2)
sets_of_rooms = {"GAN of notebook 04": gan.sample(n_read, seed=6)}
if p.collapse_images:
    recipe = GANRecipe(
        size=p.size,
        images=p.collapse_images,
        batch=32,
        rate=3e-3,
        betas=(0.9, 0.99),
        game="non_saturating",
        gamma=0.0,
        augment="none",
        mirror=True,
        ema=0.998,
        seed=seed,
    )
    generator, discriminator = recipe.build()
    spoilt = GAN(generator, recipe)
    train_images = load_bedrooms(p.source, "train", p.size, limit=1000)
    list(train_gan(spoilt, discriminator, train_images, recipe, run.own))
    sets_of_rooms["run set up to fail"] = spoilt.sample(n_read, seed=6)


def spread(a, reference):
    """TV to the reference, by factor and for the combinations; how many of these, how evenly."""
    row = {
        name: total_variation(a[:, k], reference[:, k], len(classes))
        for k, (name, classes) in enumerate(FACTORS.items())
    }
    (mine, count), (theirs, _) = combined(a, KIND), combined(reference, KIND)
    q = mine.bincount(minlength=count).double() / len(mine)
    return row | {
        "combinations": total_variation(mine, theirs, count),
        "found": int((q > 0).sum()),
        "evenly": evenly(q),
    }


splits = [
    torch.randperm(len(compared), generator=dice)[: 2 * n_read].split(n_read) for _ in range(50)
]
between_real = [spread(compared[i], compared[j]) for i, j in splits]
typical = {key: np.mean([r[key] for r in between_real]) for key in between_real[0]}
# What collapse makes large must be compared with large values among real images, what it makes
# small with small ones.
unusual = {
    key: np.quantile([r[key] for r in between_real], 0.05 if key in ("found", "evenly") else 0.95)
    for key in typical
}
# Parts of one finite set scatter about its mean by sqrt(1 - n/N), new images by sqrt(1 + n/N). TV,
# of two parts that share no image, is right as it is.
share_drawn = n_read / len(compared)
for key in ("found", "evenly"):
    unusual[key] = typical[key] - ((1 + share_drawn) / (1 - share_drawn)) ** 0.5 * (
        typical[key] - unusual[key]
    )
reference = compared[splits[0][0]]


def quality(f):
    m = min(len(f), len(real_features))
    return {
        "precision": f"{precision_recall(real_features[:m], f[:m])[0]:.2f}",
        "coverage": f"{coverage(real_features[:m], f[:m]):.2f}",
    }


spread_rows = [
    {
        "images": "other validation images",
        **{key: f"{typical[key]:.2f} ({unusual[key]:.2f})" for key in typical},
        **quality(other_real[:n_read]),
    }
]
readings = {name: reader.read(made) for name, made in sets_of_rooms.items()}
for name, made in sets_of_rooms.items():
    got = spread(readings[name], reference)
    spread_rows.append(
        {
            "images": name,
            **{key: str(value) if key == "found" else f"{value:.2f}" for key, value in got.items()},
            **quality(features(made[:n])),
        }
    )
display(
    save_table(
        run,
        spread_rows,
        "nb05_spread",
        f"What {n_read:,} images show, read by the network: total variation distance to {n_read:,} "
        "validation images for each factor and for the combinations of five; combinations found; "
        "as how many equally frequent ones they spread. First row: mean over 50 random splits of "
        "the validation images, in brackets the value that 95 % of the splits stay below (*found* "
        "and *evenly*: above, widened since all splits share one set of images). One in twenty a "
        "column: among so many columns one beyond it is not rare. Precision and coverage of "
        f"{min(n, n_read)} images as in section 5.",
        {
            "precision and coverage": replace(
                near, n_generated=min(n, n_read), n_reference=min(n, n_read)
            )
        },
    )
)

# %%
fig, axes = plt.subplots(
    len(sets_of_rooms), 1, figsize=(10, 1.9 * len(sets_of_rooms)), squeeze=False
)
for ax, (name, made) in zip(axes[:, 0], sets_of_rooms.items(), strict=True):
    show_images(ax, made[:24], columns=12, title=f"{name[0].upper()}{name[1:]}")
save_figure(
    run, fig, "nb05_two_runs", f"The first 24 images of {' and of the '.join(sets_of_rooms)}.", {}
)
plt.show()
fig, axes = plt.subplots(1, 2, figsize=(11, 3.2), width_ratios=[3, 15])
for ax, name in zip(axes, ("view", "wall_colour"), strict=True):
    k, classes = list(FACTORS).index(name), FACTORS[name]
    shown = {"validation images": compared, **readings}
    for i, (label, a) in enumerate(shown.items()):
        share = a[:, k].bincount(minlength=len(classes)) / len(a)
        ax.bar(
            np.arange(len(classes)) + 0.27 * (i - (len(shown) - 1) / 2),
            share,
            0.27,
            label=label,
            color=COLOURS[i],
        )
    ax.set_xticks(range(len(classes)), classes, rotation=45, ha="right", fontsize=8)
    ax.set(
        ylabel="share of answers", title={"view": "Camera angle / °", "wall_colour": "Wall"}[name]
    )
axes[1].legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb05_factors",
    f"What the network reads in {len(compared):,} validation images and in {n_read:,} images of "
    "each generator: the view and the colour of the wall.",
    {"rows": spread_rows},
)
plt.show()
display(
    Markdown(
        "\n".join(
            f"* **{row['images']}**: {row['found']} combinations of answers (as many validation "
            f"images: {typical['found']:.0f}, rarely below {unusual['found']:.0f}), spread like "
            f"{row['evenly']} equally frequent ones ({typical['evenly']:.1f}, rarely below "
            f"{unusual['evenly']:.1f}); total variation {row['combinations']} "
            f"({typical['combinations']:.2f}, rarely above {unusual['combinations']:.2f}); "
            f"precision {row['precision']}, coverage {row['coverage']} (real images: "
            f"{spread_rows[0]['precision']}, {spread_rows[0]['coverage']})."
            for row in spread_rows[1:]
        )
        + "\n\nWhere precision is far below that of real images, many readings may be answers "
        "about no rooms. Then neither the classes nor their sameness proves anything, since a "
        "network may give one answer to different images: look at them."
    )
)

# %% [markdown]
# ## Summary
#
# * Collapse is lost modes; it can be counted on a mixture, estimated on images by coverage, and compared with validation images by what a network reads in both.
# * The smallest game circles: its flow keeps the distance. One step of foresight adds a spring there.
# * Wasserstein has a slope where Jensen-Shannon is flat, at the price of a critic whose own slope must be bounded
#   *between* the clouds.
# * A claim about GANs needs seeds and an interval.
#
# ## Questions
#
# 1. For which $k\eta$ do the players of the smallest game come home fastest? Check with `flow_matrix(2)`.
# 2. Let $D$ in the smallest game descend an $R_1$ penalty $\frac\gamma2\psi^2$ as well. What are the eigenvalues now?
#    Compare with unrolling.
# 3. WGAN-GP asks for slope exactly 1, not at most 1. For mixtures on a line, where must a smooth, nearly best critic have
#    a slope below 1?
# 4. A generator repeats each of 1,000 training images exactly. What are its precision, its coverage and its pairwise
#    distance? Which measure of notebook 04 would notice?
# 5. Play the unrolled game with `d_rate=1e-2`, ten times as much. What happens to the modes, and why? Plot the foreseen
#    discriminator beside the one that is there five steps later.
# 6. Take the line out of `games.play` that lets the rates fall. Which games lose modes at the end, by $G$ itself and by its
#    average? Why would smaller steps calm a dance?
