# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · Interpolation: walking between two bedrooms
#
# A generator turns a latent vector into an image. Walk from one latent to another and the image changes on the way.
# Is the walk smooth? Are the images in between still bedrooms? The report (section 2.3) answered by looking at one
# such walk. Here the answers are measured, for the GAN and for the diffusion model.
#
# Afterwards you will be able to
#
# - say why a straight line between two Gaussian latents leaves the region where the generator was trained, and by how
#   much;
# - derive spherical interpolation and check it against its own definition;
# - turn a real image into the noise of a diffusion model and back, and say how much is lost;
# - put numbers on "smooth" and on "still a bedroom", with intervals, and know what those numbers cannot tell.
#
# You need: expectation and variance, vectors and angles, a little PyTorch. The networks come from notebooks 03 and 04
# if you ran them, else they are the released ones; the cell below says which.

# %% tags=["parameters"]
profile = None  # "smoke", "cpu", "released" or "gpu"; None: "cpu", or in Colab "released"
seed = 0
out = None

# %%
import math
import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
import torch
from IPython.display import Markdown, display

from bedgen_utils.checks import check, check_fails, check_mean, check_zero
from bedgen_utils.data import load_bedrooms, to_float, to_uint8
from bedgen_utils.diffusion import GaussianDiffusion, ddim_step
from bedgen_utils.factors import FACTORS, load_classifier
from bedgen_utils.features import EfficientNetLite0, features
from bedgen_utils.interpolate import angle, ddim_encode, lerp, path, slerp, smoothness
from bedgen_utils.metrics import (
    PREPARED,
    Protocol,
    SmallSampleWarning,
    frechet_from_features,
    kernel_distance,
    precision_recall,
)
from bedgen_utils.models import load
from bedgen_utils.report import save_figure, save_table, show_images, use_style
from bedgen_utils.run import start

run = start("07", profile, seed, out)
use_style()
p = run.p
rng = torch.Generator().manual_seed(seed)
gan, ddpm = load("gan", run), load("ddpm", run)
size, D = gan.size, gan.generator.latent
if ddpm.size != size:
    raise ValueError(
        f"the GAN paints {size} px and the diffusion model {ddpm.size} px; run both training "
        "notebooks in one profile"
    )
validation_images = load_bedrooms(p.source, "validation", size)
if len(validation_images) < 2 * p.n_distance + p.rooms:
    raise ValueError(
        f"profile {run.profile} needs {2 * p.n_distance + p.rooms:,} validation images, there are "
        f"{len(validation_images):,}"
    )
reference, others = validation_images[: 2 * p.n_distance].split(p.n_distance)
rooms = validation_images[2 * p.n_distance :][: p.rooms]
# All Fréchet distances below are at equal N and beside their floor.
warnings.simplefilter("ignore", SmallSampleWarning)

display(
    Markdown(
        f"Profile **{run.profile}**: about {p.minutes:g} minutes on two CPU cores. GAN: {gan.source}, "
        f"{D} latent numbers. "
        f"Diffusion model: {ddpm.source}, {3 * size * size:,} latent numbers. Images: {size} px, "
        f"{len(validation_images):,} validation "
        "rooms."
    )
)

# %% [markdown]
# ## 1 · The straight line, and why it is short of something
#
# Let $z_0, z_1 \in \mathbb{R}^D$ be two latents, drawn from the standard normal distribution $\mathcal{N}(0, I)$ as in
# training, and let $s \in [0, 1]$ say how far we have walked. The obvious walk is the straight line, *lerp* for short:
#
# <!-- eq:7.1 -->
# $$z(s) = (1 - s)\, z_0 + s\, z_1 \tag{7.1}$$
#
# How long are these vectors? The squared length of a latent is a sum of $D$ independent squares $z_i^2$. Each has mean
# $\mathbb{E} z_i^2 = 1$ and variance $\mathbb{E} z_i^4 - (\mathbb{E} z_i^2)^2 = 3 - 1 = 2$, so
#
# <!-- eq:7.2 -->
# $$\mathbb{E}\,|z|^2 = D, \qquad \operatorname{Var} |z|^2 = 2D, \qquad
# |z| \approx \sqrt{D} \pm \tfrac{1}{\sqrt 2} \tag{7.2}$$
#
# The last step is the slope of the square root: a change $\delta$ of $|z|^2$ near $D$ changes $|z|$ by $\delta /
# (2\sqrt D)$, and $\sqrt{2D} / (2 \sqrt D) = 1/\sqrt 2$ **whatever $D$ is**. The shell's radius grows with $D$ and its
# thickness does not: Gaussian latents in many dimensions lie on a thin shell, and the generator has seen nothing else.
#
# Now the line. Each coordinate of $z(s)$ is a sum of two independent normal numbers of variance $(1-s)^2$ and $s^2$, so
# $z(s)$ is again normal, with the variances added:
#
# <!-- eq:7.3 -->
# $$z(s) \sim \mathcal{N}\big(0,\ ((1-s)^2 + s^2)\, I\big), \qquad \mathbb{E}\,|z(s)|^2 = D\,(1 - 2s + 2s^2), \qquad
# \mathbb{E}\,|z(\tfrac12)|^2 = \tfrac{D}{2} \tag{7.3}$$
#
# Halfway, the line is at $\sqrt{D/2} \approx 0.71 \sqrt D$. In units of the shell's thickness it misses the shell by
# $(\sqrt D - \sqrt{D/2}) / (1/\sqrt 2) = (\sqrt 2 - 1)\sqrt D$.

# %%
s_, z_ = sp.symbols("s z", real=True)
normal = sp.exp(-(z_**2) / 2) / sp.sqrt(2 * sp.pi)
second, fourth = (sp.integrate(z_**k * normal, (z_, -sp.oo, sp.oo)) for k in (2, 4))
check_zero(
    "eq:7.2", [second - 1, fourth - second**2 - 2], "E z² = 1 and Var z² = 2, by integration"
)
check_zero(
    "eq:7.3",
    [
        (1 - s_) ** 2 + s_**2 - (1 - 2 * s_ + 2 * s_**2),
        ((1 - s_) ** 2 + s_**2).subs(s_, sp.Rational(1, 2)) - sp.Rational(1, 2),
    ],
    "variance of a coordinate on the line, and its value halfway",
)


def normal_pair(n, d):
    return torch.randn(n, d, generator=rng, dtype=torch.float64), torch.randn(
        n, d, generator=rng, dtype=torch.float64
    )


z0, z1 = normal_pair(p.draws, D)
check(
    "eq:7.1",
    torch.stack([lerp(z0, z1, 0.0), lerp(z0, z1, 1.0)]),
    torch.stack([z0, z1]),
    0,
    "the line begins at z₀ and ends at z₁",
)
check_mean("eq:7.2", z0.square().sum(1), D, f"mean of |z|² over {p.draws:,} draws against D = {D}")
check_mean("eq:7.2", (z0.square().sum(1) - D) ** 2, 2 * D, f"variance of |z|² against 2D = {2 * D}")
for s in (0.25, 0.5):
    check_mean(
        "eq:7.3",
        lerp(z0, z1, s).square().sum(1),
        D * (1 - 2 * s + 2 * s**2),
        f"mean of |z({s})|² on the line",
    )

# %% [markdown]
# ## 2 · The great circle
#
# To stay on the shell, turn instead of cutting across. Two latents span a plane; in it, $z_0$ and $z_1$ enclose an
# angle $\Omega$:
#
# <!-- eq:7.4 -->
# $$\cos\Omega = \frac{z_0 \cdot z_1}{|z_0|\,|z_1|}, \qquad \mathbb{E}\cos\Omega = 0, \qquad
# \operatorname{Var}\cos\Omega = \frac1D \tag{7.4}$$
#
# (By symmetry we may turn $z_0$ onto the first axis; $\cos\Omega$ then is the first coordinate of a random direction,
# and the $D$ squared coordinates of a direction are alike and sum to 1.) Independent latents are therefore nearly at
# right angles, and the more so the larger $D$.
#
# Write $u, w$ for the directions of $z_0, z_1$. We look for a unit vector $x(s) = A\,u + B\,w$ in their plane that
# stands at the angle $s\Omega$ from $u$ and at $(1-s)\Omega$ from $w$. With $u \cdot u = w \cdot w = 1$ and $u \cdot w
# = \cos\Omega$ these are two linear equations for $A$ and $B$:
#
# <!-- eq:7.5-step-1 -->
# $$A + B\cos\Omega = \cos(s\Omega), \qquad A\cos\Omega + B = \cos((1-s)\Omega) \tag{7.5a}$$
#
# Solve them and use $\cos((1-s)\Omega) = \cos\Omega\cos s\Omega + \sin\Omega\sin s\Omega$:
#
# <!-- eq:7.5 -->
# $$x(s) = \frac{\sin((1-s)\Omega)}{\sin\Omega}\, u + \frac{\sin(s\Omega)}{\sin\Omega}\, w \tag{7.5}$$
#
# This is *slerp* (Shoemake, 1985). Three things follow, each checked below: it has length 1 for every $s$; its speed
# $|dx/ds|$ is $\Omega$, the same everywhere; and for $\Omega \to 0$ it becomes the straight line, which is why code
# must treat nearly parallel vectors with care.
#
# <!-- eq:7.6 -->
# $$|x(s)| = 1, \qquad \left|\frac{dx}{ds}\right| = \Omega, \qquad \lim_{\Omega\to0} x(s) = (1-s)\,u + s\,w \tag{7.6}$$
#
# Our two latents are not of exactly equal length, so we let the length run evenly from one to the other:
#
# <!-- eq:7.7 -->
# $$z(s) = \big((1-s)\,|z_0| + s\,|z_1|\big)\; x(s) \tag{7.7}$$
#
# What is the midpoint of two independent latents like? Its direction is that of $u + w$, and since nothing prefers any
# direction, it is uniform, like that of a fresh latent. Its length is the mean of two lengths. So **the middle of a
# great circle looks to the generator like any other draw**, but for a spread of lengths that is smaller by $\sqrt2$.
# For $\theta$ a uniform direction the moments of a coordinate are known, and the midpoint must have them:
#
# <!-- eq:7.8 -->
# $$\mathbb{E}\,\theta_i^2 = \frac1D, \qquad \mathbb{E}\,\theta_i^4 = \frac{3}{D(D+2)} \tag{7.8}$$

# %%
Omega_ = sp.symbols("Omega", positive=True)
A, B = sp.sin((1 - s_) * Omega_) / sp.sin(Omega_), sp.sin(s_ * Omega_) / sp.sin(Omega_)


def dot(a, b):  # of vectors given by their coefficients of u and w
    return a[0] * b[0] + a[1] * b[1] + (a[0] * b[1] + a[1] * b[0]) * sp.cos(Omega_)


expand = lambda e: sp.expand(sp.expand_trig(sp.expand(e)))  # noqa: E731
check_zero(
    "eq:7.5-step-1",
    [
        expand((A + B * sp.cos(Omega_) - sp.cos(s_ * Omega_)) * sp.sin(Omega_)),
        expand((A * sp.cos(Omega_) + B - sp.cos((1 - s_) * Omega_)) * sp.sin(Omega_)),
    ],
    "A and B of Eq. 7.5 in both equations (times sin Ω)",
)
check_zero(
    "eq:7.6",
    [
        expand((dot((A, B), (A, B)) - 1) * sp.sin(Omega_) ** 2),
        expand(
            (dot((A.diff(s_), B.diff(s_)), (A.diff(s_), B.diff(s_))) - Omega_**2)
            * sp.sin(Omega_) ** 2
        ),
        sp.limit(A, Omega_, 0) - (1 - s_),
        sp.limit(B, Omega_, 0) - s_,
    ],
    "length 1, speed Ω, the limit of small angles",
)

Omega = angle(z0, z1)
check_mean("eq:7.4", Omega.cos(), 0, "mean of cos Ω")
check_mean("eq:7.4", Omega.cos() ** 2, 1 / D, f"variance of cos Ω against 1/D = {1 / D:.4f}")
check(
    "eq:7.5",
    torch.stack([slerp(z0, z1, 0.0), slerp(z0, z1, 1.0)]),
    torch.stack([z0, z1]),
    1e-12,
    "the circle begins at z₀ and ends at z₁",
)
check("eq:7.5", angle(z0, slerp(z0, z1, 0.3)), 0.3 * Omega, 1e-12, "angle from z₀ at s = 0.3")
check(
    "eq:7.7",
    slerp(z0, z1, 0.3).norm(dim=1),
    0.7 * z0.norm(dim=1) + 0.3 * z1.norm(dim=1),
    1e-12,
    "length at s = 0.3",
)
theta = slerp(z0, z1, 0.5)
theta = theta / theta.norm(dim=1, keepdim=True)
check_mean(
    "eq:7.8",
    (theta**4).mean(1),
    3 / (D * (D + 2)),
    "fourth moment of a coordinate of the midpoint's direction",
)

# Two mistakes that circulate: one angle for all pairs, and the two ends swapped.
check_fails(
    "eq:7.5",
    lambda: check(
        "eq:7.5",
        (math.sqrt(0.5) * (z0 + z1)).norm(dim=1),
        (z0.norm(dim=1) + z1.norm(dim=1)) / 2,
        1e-6,
        "length",
    ),
    "Ω = 90° for every pair",
)
check_fails(
    "eq:7.5", lambda: check("eq:7.5", slerp(z1, z0, 0.0), z0, 1e-6, "start"), "ends swapped"
)

# %%
fractions = np.linspace(0, 1, 21)
big = normal_pair(p.draws // 10, 3 * size * size)
fig, axes = plt.subplots(1, 2, figsize=(10, 3.4))
shell = {}
for (a, b), colour in (((z0, z1), "C0"), (big, "C1")):
    d = a.shape[1]
    ends, middle = (v.norm(dim=1).numpy() / d**0.5 for v in (torch.cat([a, b]), lerp(a, b, 0.5)))
    bins = np.linspace(0.4, 1.4, 101)
    axes[0].hist(ends, bins, density=True, color=colour, alpha=0.5, label=f"latents, D = {d:,}")
    axes[0].hist(
        middle,
        bins,
        density=True,
        color=colour,
        histtype="step",
        label=f"middle of lines, D = {d:,}",
    )
    for how, style in ((slerp, "-"), (lerp, "--")):
        r = torch.stack([how(a[:500], b[:500], float(s)).norm(dim=1) for s in fractions]) / d**0.5
        axes[1].plot(fractions, r.mean(1), style, color=colour, label=f"{how.__name__}, D = {d:,}")
        axes[1].fill_between(
            fractions, r.mean(1) - r.std(1), r.mean(1) + r.std(1), color=colour, alpha=0.2, lw=0
        )
    shell[d] = {"midpoint": float(middle.mean()), "spread": float(ends.std() * d**0.5)}
axes[1].plot(
    fractions, np.sqrt(1 - 2 * fractions + 2 * fractions**2), ":k", label=r"$\sqrt{1-2s+2s^2}$"
)
axes[0].set(xlabel="length / √D", ylabel="density", yscale="log", ylim=(0.02, None))
axes[1].set(
    xlabel="fraction s of the way", ylabel="length / √D", title="bands: one standard deviation"
)
axes[0].legend(fontsize=8), axes[1].legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb07_shell",
    "Lengths of Gaussian latents of the GAN and of the diffusion model, and along straight lines "
    "and great circles.",
    shell,
)
plt.show()
display(
    Markdown(
        "\n".join(
            f"- D = {d:,}: the spread of |z| is {v['spread']:.3f} (1/√2 = {math.sqrt(0.5):.3f}); "
            "lines pass at "
            f"{v['midpoint']:.3f} √D, which is {(math.sqrt(2) - 1) * math.sqrt(d):.1f} spreads "
            "inside the shell."
            for d, v in shell.items()
        )
    )
)

# %% [markdown]
# ## 3 · What the GAN paints on the way
#
# Three walks between the same two latents: the great circle, the straight line, and as a control the **cross-fade**,
# which mixes the two end *images* pixel by pixel and needs no generator. In pixels nothing can be smoother, all steps
# being equal, and yet it shows two beds at once: smoothness alone is not what we are after. The pairs
# shown are the first two drawn, not chosen ones.


# %%
@torch.no_grad()
def paint(z):
    """GAN latents (…, D) to uint8 images (…, 3, size, size)."""
    device = next(gan.generator.parameters()).device
    flat = torch.cat(
        [
            to_uint8(gan.generator(part.float().to(device))).cpu()
            for part in z.reshape(-1, D).split(500)
        ]
    )
    return flat.reshape(*z.shape[:-1], 3, size, size)


def cross_fade(first, last, steps):
    """uint8 images (N, 3, H, W) to (N, steps + 1, 3, H, W), mixed pixel by pixel."""
    return to_uint8(path(to_float(first), to_float(last), steps, lerp))


def features_of(images):
    """EfficientNet-Lite0 features (…, 1280) of uint8 images (…, 3, size, size)."""
    f = features(images.reshape(-1, 3, size, size))
    return f.reshape(*images.shape[:-3], -1)


def strips(walks, shown, columns):
    """Film strips of the first `shown` pairs; `walks` maps a name to images (N, K + 1, 3, H, W)."""
    fig, axes = plt.subplots(
        len(walks) * shown, 1, figsize=(10, 1.25 * len(walks) * shown), squeeze=False
    )
    for i, ax in enumerate(axes.flat):
        name = list(walks)[i % len(walks)]
        show_images(ax, walks[name][i // len(walks)], columns)
        ax.text(
            -0.01,
            0.5,
            f"pair {i // len(walks) + 1}\n{name}",
            transform=ax.transAxes,
            ha="right",
            va="center",
            fontsize=9,
        )
    return fig


K = p.path_steps
z0, z1 = torch.randn(p.pairs, D, generator=rng), torch.randn(p.pairs, D, generator=rng)
walks = {"great circle": paint(path(z0, z1, K)), "straight line": paint(path(z0, z1, K, lerp))}
walks["cross-fade"] = cross_fade(walks["great circle"][:, 0], walks["great circle"][:, -1], K)
fig = strips(walks, 2, K + 1)
save_figure(
    run,
    fig,
    "nb07_gan_strips",
    "GAN: great circle, straight line and cross-fade between the same two pairs of latents.",
)
plt.show()

# %% [markdown]
# To see what the eye sees as numbers, take two statistics of an image: **contrast**, the standard deviation of its
# brightness over pixels, and **detail**, the mean absolute difference of neighbouring pixels. Both are in levels of 0 …
# 255. The mean over pairs is drawn along the walk, with a band of two standard errors.


# %%
def contrast_and_detail(images):
    """Two numbers in grey levels, (2, …), of uint8 images (…, 3, H, W)."""
    grey = (images.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(-3)
    return torch.stack(
        [grey.flatten(-2).std(-1), (grey[..., 1:] - grey[..., :-1]).abs().mean((-1, -2))]
    )


def draw_along(walks):
    """The figure of contrast and detail along the walks, and middle over ends with its error."""
    fig, axes = plt.subplots(1, 2, figsize=(10, 3))
    ratios = {}
    for name, images in walks.items():
        values = contrast_and_detail(images)
        for ax, v, label in zip(axes, values, ("contrast", "detail"), strict=True):
            m, e = v.mean(0), 2 * v.std(0) / len(v) ** 0.5
            ax.plot(np.linspace(0, 1, len(m)), m, label=name)
            ax.fill_between(np.linspace(0, 1, len(m)), m - e, m + e, alpha=0.2, lw=0)
            ax.set(xlabel="fraction s of the way", ylabel=f"{label} / levels")
            ends, middle = (v[:, 0] + v[:, -1]) / 2, v[:, (len(m) - 1) // 2]
            ratios[f"{name}: {label}"] = (
                float(middle.mean() / ends.mean()),
                # to first order, with the scatter of the ends: the ratio of two means over the same
                # pairs
                float(
                    ((middle - middle.mean() / ends.mean() * ends) / ends.mean()).std()
                    / len(v) ** 0.5
                ),
            )
    axes[0].legend(fontsize=8)
    return fig, ratios


fig, along_gan = draw_along(walks)
save_figure(
    run,
    fig,
    "nb07_gan_along",
    "GAN: contrast and detail along the walks; bands are two standard errors over pairs.",
    along_gan,
)
plt.show()
display(
    Markdown(
        f"Middle over ends, {p.pairs} pairs (± one standard error): "
        + "; ".join(f"{k} {m:.2f} ± {e:.2f}" for k, (m, e) in along_gan.items())
        + (
            ". To a GAN a shorter latent is not a noisier or cleaner one: the first layer is "
            "linear, so it moves "
            "towards its bias, the same for all latents. Used on purpose this is known as "
            "truncation, which is meant to "
            "trade variety for typical images; section 6 measures both."
        )
    )
)

# %% [markdown]
# ## 4 · The square between four corners
#
# The report's Fig. 10 walks from a room in the top left to one in the bottom right. With four corners $z_{00}, z_{01},
# z_{10}, z_{11}$ we fill the square by walking along the top and bottom edges first and then between them:
#
# <!-- eq:7.9 -->
# $$z(r, c) = \operatorname{slerp}\big(\operatorname{slerp}(z_{00}, z_{01}; c),\
# \operatorname{slerp}(z_{10}, z_{11}; c);\ r\big) \tag{7.9}$$
#
# With lines instead of circles, rows first or columns first is the same (both give the bilinear sum). With circles it
# is not, since turns in different planes do not commute; the cell prints by how much the two differ in the middle. The
# report suspected that its two rooms were too alike. So that nobody has to wonder here, the corners are chosen far
# apart: of a pool of latents, the two with the greatest distance in features become top left and bottom right, and each
# other corner is the one whose nearest chosen corner is farthest.

# %%
pool = torch.randn(p.pool, D, generator=rng)
pool_features = features_of(paint(pool))
distances = torch.cdist(pool_features, pool_features)
corners = [int(i) for i in np.unravel_index(int(distances.argmax()), distances.shape)]
while len(corners) < 4:
    corners.append(int(distances[corners].min(0).values.argmax()))
top_left, bottom_right, top_right, bottom_left = (pool[i : i + 1] for i in corners)
n = p.grid
left, right = path(top_left, bottom_left, n - 1)[0], path(top_right, bottom_right, n - 1)[0]
top, bottom = path(top_left, top_right, n - 1)[0], path(bottom_left, bottom_right, n - 1)[0]
square = path(top, bottom, n - 1).transpose(0, 1)  # (row, column, D), Eq. 7.9
check(
    "eq:7.9",
    square[[0, 0, -1, -1], [0, -1, 0, -1]],
    torch.cat([top_left, top_right, bottom_left, bottom_right]),
    1e-5,
    "the corners stand where they should",
)
columns_first = path(left, right, n - 1)
m = n // 2
corner_walks = (
    slerp(top_left, top_right, m / (n - 1)),
    slerp(bottom_left, bottom_right, m / (n - 1)),
)
by_hand = slerp(*corner_walks, 1 / (n - 1))[0]
check("eq:7.9", square[1, m], by_hand, 1e-5, "a place inside, turn by turn")
check_fails(
    "eq:7.9",
    lambda: check("eq:7.9", columns_first[1, m], by_hand, 1e-5, "the same place"),
    "columns first",
)
a, b, c, d, r_, c_ = sp.symbols("a b c d r c_")
mix = lambda x, y, s: (1 - s) * x + s * y  # noqa: E731
check_zero(
    "eq:7.9",
    sp.expand(mix(mix(a, b, c_), mix(c, d, c_), r_) - mix(mix(a, c, r_), mix(b, d, r_), c_)),
    "with lines, the order does not matter",
)
order = float((square[m, m] - columns_first[m, m]).norm() / square[m, m].norm())

images = paint(square)
diagonal = features_of(images[range(n), range(n)])
steps = (diagonal[1:] - diagonal[:-1]).norm(dim=1)
typical = float(distances[~torch.eye(p.pool, dtype=bool)].mean())
fig, axes = plt.subplots(1, 2, figsize=(10, 5), width_ratios=[1.25, 1])
show_images(axes[0], images.reshape(-1, 3, size, size), n)
for i in range(n):
    axes[0].add_patch(
        plt.Rectangle(
            (i * (size + 1), i * (size + 1)), size + 1, size + 1, fill=False, ec="C1", lw=1.5
        )
    )
axes[1].plot(
    range(n), (diagonal - diagonal[0]).norm(dim=1), "o-", label="to the room in the top left"
)
axes[1].plot(
    range(n), (diagonal - diagonal[-1]).norm(dim=1), "s-", label="to the room in the bottom right"
)
axes[1].bar(np.arange(n - 1) + 0.5, steps, width=0.9, color="C5", alpha=0.5, label="to the next")
axes[1].axhline(
    typical,
    ls=":",
    color="k",
    label=f"two random rooms, mean of {p.pool * (p.pool - 1) // 2:,} pairs",
)
axes[1].set(
    xlabel="place on the diagonal",
    ylabel="distance in EfficientNet-Lite0 features",
    ylim=(0, 1.45 * float(distances.max())),
)
axes[1].set_xticks(range(n))
axes[1].legend(fontsize=8, loc="upper center")
fig10 = {
    "diagonal_ends": float(distances.max()),
    "random_pairs_mean": typical,
    "diagonal_steps": steps.tolist(),
    "largest_step_share": float(steps.max() / steps.sum()),
    "order_difference": order,
}
save_figure(
    run,
    fig,
    "fig10_interpolation",
    "Spherical interpolation of the GAN's latents between four corners. Framed: from top left to "
    "bottom right, the "
    "diagonal that the report's Fig. 10 walked in a straight line; right: feature distances along "
    "it.",
    fig10,
)
plt.show()
display(
    Markdown(
        f"The two ends of the diagonal are {fig10['diagonal_ends']:.2f} apart, "
        f"{fig10['diagonal_ends'] / typical:.2f} "
        f"times as far as two random rooms. The largest of the {n - 1} steps is "
        f"{100 * fig10['largest_step_share']:.0f} % of the way ({100 / (n - 1):.0f} % would be "
        "perfectly even). "
        f"Columns first instead of rows first moves the latent in the middle by {100 * order:.0f} "
        "% of its length."
    )
)

# %% [markdown]
# ## 5 · Smoothness as numbers
#
# Let $G$ be the generator and $f(x)$ the features of an image $x$ in a fixed network. We use EfficientNet-Lite0, whose weights come with a
# package; Karras et al. (2019) use another network, so their values and ours are not comparable. Write $f_k$ for the
# features at $s = k/K$, $k = 0 \dots K$, and $\delta_k = |f_k - f_{k-1}|$.
#
# **Perceptual path length** is the mean squared speed along the path, $\epsilon$ a small step in $s$, averaged over pairs of latents and
# over $s$:
#
# <!-- eq:7.10 -->
# $$\mathrm{PPL}_\epsilon = \mathbb{E}\, \frac{|f(G(z(s + \epsilon))) - f(G(z(s)))|^2}{\epsilon^2} \tag{7.10}$$
#
# It has a catch: images are stored in 256 levels. A pixel whose value $x$ should change by $\delta = 0.1$ levels
# changes by a whole level in one case of ten, so its mean square is 0.1 and not 0.01:
#
# <!-- eq:7.10-step-1 -->
# $$\mathbb{E}\,\big(\operatorname{round}(x + \delta) - \operatorname{round}(x)\big)^2
# = |\delta| \quad\text{for } |\delta| \le 1,\ x \text{ spread evenly over a level} \tag{7.10a}$$
#
# As $\delta$ shrinks like $\epsilon$, division by $\epsilon^2$ lets the measured value grow like $1/\epsilon$ without
# limit. So $\epsilon$ must be small enough for the path to be straight over it, and large enough for the change to
# exceed rounding. Whether there is such a window, the next cell measures instead of assuming.
#
# **Unevenness** is the coefficient of variation of the steps, **detour** the length of the path over the distance of
# its ends (at least 1, by the triangle inequality):
#
# <!-- eq:7.11 -->
# $$\mathrm{CV} = \frac{\operatorname{sd}_k(\delta_k)}{\operatorname{mean}_k(\delta_k)}, \qquad
# \mathrm{detour} = \frac{\sum_k \delta_k}{|f_K - f_0|} \ge 1 \tag{7.11}$$
#
# Their scale: a path that changes in one jump out of $K$ steps has $\mathrm{CV} = \sqrt{K-1}$.

# %%
# With features equal to latents everything is known: an arc of radius r in K steps has chords of 2
# r sin(Ω/2K).
u, w = (v / v.norm(dim=1, keepdim=True) for v in normal_pair(200, D))
arc, Omega = smoothness(path(u, w, K)), angle(u, w)
check(
    "eq:7.10",
    arc.path_length,
    (2 * K * torch.sin(Omega / (2 * K))) ** 2,
    1e-12,
    f"PPL of an arc with ε = 1/{K}, G and f the identity",
)
check(
    "eq:7.11",
    torch.stack([arc.unevenness, arc.detour]),
    torch.stack([0 * Omega, K * torch.sin(Omega / (2 * K)) / torch.sin(Omega / 2)]),
    1e-10,
    "unevenness and detour of that arc",
)
jump = torch.zeros(1, K + 1, 3, dtype=torch.float64)
jump[:, 1:] = 1
check(
    "eq:7.11",
    smoothness(jump).unevenness,
    math.sqrt(K - 1),
    1e-10,
    f"unevenness of one jump in {K} steps",
)

x = 100 * torch.rand(p.draws, generator=rng, dtype=torch.float64)
check_mean(
    "eq:7.10-step-1",
    ((x + 0.1).round() - x.round()).square(),
    0.1,
    "mean squared change of a rounded value moved by 0.1",
)

a, b = torch.randn(p.ppl_latents, D, generator=rng), torch.randn(p.ppl_latents, D, generator=rng)
s = (1 - max(p.epsilons)) * torch.rand(p.ppl_latents, generator=rng)
here = paint(slerp(a, b, s))
here_features = features_of(here)
ppl, squares = [], []
for eps in p.epsilons:
    there = paint(slerp(a, b, s + eps))
    squared = (features_of(there) - here_features).double().square().sum(1) / eps**2
    squares.append(squared)
    ppl.append(
        {
            "epsilon": eps,
            "N": p.ppl_latents,
            "PPL": float(squared.mean()),
            "standard error": float(squared.std() / len(squared) ** 0.5),
            "pixels changed": float((there != here).double().mean()),
        }
    )
display(
    save_table(
        run,
        ppl,
        "nb07_path_lengths",
        "Perceptual path length of the GAN on great circles between random latents, for several ε.",
    )
)
fig, ax = plt.subplots(figsize=(5.5, 3))
ax.errorbar(
    [r["epsilon"] for r in ppl],
    [r["PPL"] for r in ppl],
    [2 * r["standard error"] for r in ppl],
    fmt="o-",
    capsize=3,
)
ax.set(xscale="log", yscale="log", xlabel="step ε in s", ylabel="PPL / squared feature distance")
save_figure(
    run,
    fig,
    "nb07_path_length",
    "Perceptual path length against its step ε (bars: two standard errors). A window in which ε "
    "does not matter would be flat. "
    "Two effects make it rise towards small ε: large steps cut the corners of a winding path, "
    "small ones are ruled by rounding to 256 levels.",
    {"rows": ppl},
)
plt.show()

differences = [
    x - y for x, y in zip(squares, squares[1:], strict=False)
]  # latent by latent: all ε share them
flat = [
    (p.epsilons[i], p.epsilons[i + 1])
    for i, v in enumerate(differences)
    if abs(float(v.mean())) < 2 * float(v.std()) / len(v) ** 0.5
]
display(
    Markdown(
        (
            "Between ε = "
            + " and between ".join(f"{a:g} and {b:g}" for a, b in flat)
            + " the values, latent by latent, cannot be told apart (two errors): a window may lie "
            "there. "
            if flat
            else "Any two neighbouring values differ, latent by latent, by more than two errors: "
            f"from ε = {ppl[0]['epsilon']:g} to {ppl[-1]['epsilon']:g} the value changes by a "
            f"factor of {ppl[-1]['PPL'] / ppl[0]['PPL']:.1f}. No window is seen, and the "
            "perceptual path length has no value of its own here, only one for a stated ε. "
        )
        + f"At the smallest ε, {100 * ppl[-1]['pixels changed']:.0f} % of the colour values "
        "change at all."
    )
)

# %% [markdown]
# If there is no such window, the length and the detour of a walk have no value of their own either: they grow with $K$
# and compare only at equal $K$.
#
# Now the same measures for the three walks of section 3. The diffusion model joins the table in section 7.


# %%
def bootstrap(statistic, *columns, draws=2000):
    """95 % percentile interval of `statistic` when rows (pairs) are drawn with replacement."""
    pick = np.random.default_rng(seed)
    columns = [np.asarray(c, dtype=float) for c in columns]
    chosen = (pick.integers(len(columns[0]), size=len(columns[0])) for _ in range(draws))
    return np.nanpercentile([statistic(*(c[i] for c in columns)) for i in chosen], [2.5, 97.5])


def smoothness_row(name, walk_features):
    m = smoothness(walk_features)
    row = {"walk": name, "pairs": len(m.chord), "distance of ends": float(m.chord.mean())}
    for label, v in (
        ("detour", m.detour),
        ("unevenness", m.unevenness),
        (f"PPL, ε = 1/{K}", m.path_length),
    ):
        row |= {label: float(v.mean()), f"± {label}": float(v.std() / len(v) ** 0.5)}
    return row


walk_features = {name: features_of(w) for name, w in walks.items()}
smooth_rows = [smoothness_row(f"GAN, {name}", f) for name, f in walk_features.items()]
display(
    save_table(
        run,
        smooth_rows,
        "nb07_smoothness_gan",
        f"Smoothness of the GAN's walks in EfficientNet-Lite0 features, {K} steps (± one standard "
        "error over pairs).",
    )
)

# %% [markdown]
# ### The report's question
#
# The report found its transition smooth "but perhaps not strong enough", and put that down to two rooms being alike.
# Two remarks first. The report walked in a straight line, which washes out the middle (section 3): that too can look
# weak. And it took smoothness for continuity; a generator made of continuous layers is continuous whatever it has learnt,
# so only how fast and how evenly it changes is in question.
#
# Weak because alike is a claim about many pairs, so let us make many, near and far. From a latent $z_0$ we turn by an angle $\omega$
# between 10° and 170° in a random plane; $z_1$ is then as likely a latent as $z_0$, only not independent of it:
#
# <!-- eq:7.12 -->
# $$z_1 = \cos\omega\; z_0 + \sin\omega\; |z_0|\, q, \qquad q \perp z_0,\ |q| = 1 \tag{7.12}$$
#
# For each pair we have the distance $d$ of the end images, the length $L$ of the walk (its *strength*: how much
# changes in all), and how evenly the change is spread. If alike ends make weak walks, $L$ rises with $d$. Some of that
# is forced, as $L \ge d$; the unevenness is free of this; the detour $L/d$ is not quite, as a large $d$ by chance makes it small. And the angle is behind both: a longer
# way between latents makes farther ends and a longer walk. So the correlation is also taken over the independent pairs
# of section 3, whose angles are all near 90°, as those of the report's pair must have been. A jump, if there is one,
# betrays itself when we walk in steps half as long: the largest step of a smooth walk shrinks to about half, that of a
# jump stays, and steps that have nothing to do with each other shrink to $1/\sqrt2$. The features themselves wander, so
# the cross-fades of the same ends are the control.

# %%
z0 = torch.randn(p.angle_pairs, D, generator=rng, dtype=torch.float64)
q = torch.randn(p.angle_pairs, D, generator=rng, dtype=torch.float64)
q = q - (q * z0).sum(1, keepdim=True) / z0.square().sum(1, keepdim=True) * z0
q = q / q.norm(dim=1, keepdim=True)
omega = torch.deg2rad(torch.linspace(10, 170, p.angle_pairs, dtype=torch.float64))
z1 = omega.cos()[:, None] * z0 + omega.sin()[:, None] * z0.norm(dim=1, keepdim=True) * q
check("eq:7.12", angle(z0, z1), omega, 1e-12, "the angle is the one asked for")
check(
    "eq:7.12",
    z1.norm(dim=1),
    z0.norm(dim=1),
    1e-12,
    "z₁ is exactly as long as z₀, so equally likely",
)

f = features_of(paint(path(z0, z1, K)))
m = smoothness(f)
half = slice(0, None, max(1, p.angle_pairs // p.halved))
fine = features_of(paint(path(z0[half], z1[half], 2 * K)[:, 1::2]))
# Even places from the first walk, odd ones from the second.
both = torch.stack([f[half, :-1], fine], 2).flatten(1, 2)
both = torch.cat([both, f[half, -1:]], 1)
largest = [(g[:, 1:] - g[:, :-1]).norm(dim=2).max(1).values for g in (f[half], both)]
halving = (largest[1] / largest[0]).numpy()
ends = paint(torch.stack([z0[half], z1[half]], 1))
faded = features_of(cross_fade(ends[:, 0], ends[:, 1], 2 * K))
fade_largest = [(g[:, 1:] - g[:, :-1]).norm(dim=2).max(1).values for g in (faded[:, ::2], faded)]
of_fades = (fade_largest[1] / fade_largest[0]).numpy()

correlation = lambda x, y: np.corrcoef(x, y)[0, 1]  # noqa: E731
chord, answers = m.chord.numpy(), {}
fig, axes = plt.subplots(1, 3, figsize=(11, 3.3))
for ax, (label, v) in zip(
    axes,
    {"length L": m.length, "detour L / d": m.detour, "unevenness (CV)": m.unevenness}.items(),
    strict=True,
):
    v = v.numpy()
    answers[label] = (correlation(chord, v), *bootstrap(correlation, chord, v))
    points = ax.scatter(chord, v, c=np.degrees(omega.numpy()), s=16)
    ax.set(
        xlabel="distance d of the end images",
        ylabel=label,
        title="r = {:.2f} [{:.2f}, {:.2f}]".format(*answers[label]),
    )
random = smoothness(walk_features["great circle"])
axes[0].scatter(
    random.chord, random.length, s=12, marker="x", color="C1", label="independent latents"
)
alone = (
    correlation(random.chord, random.length),
    *bootstrap(correlation, random.chord, random.length),
)
axes[0].plot([0, chord.max()], [0, chord.max()], ":k", label="L = d")
axes[0].legend(fontsize=8)
fig.colorbar(points, ax=axes, label="angle ω of the latents / degrees")
numbers = {
    "pairs": p.angle_pairs,
    "steps": K,
    "correlation_95": answers,
    "correlation_95_independent": alone,
    "halving_mean": float(halving.mean()),
    "halving_95": bootstrap(np.mean, halving).tolist(),
    "halving_cross_fade": float(of_fades.mean()),
    "halving_less_cross_fade_95": bootstrap(np.mean, halving - of_fades).tolist(),
    "unevenness_mean": float(m.unevenness.mean()),
}
save_figure(
    run,
    fig,
    "nb07_strength",
    "GAN: strength, detour and unevenness of walks against the distance of their ends in "
    "features, one dot a pair; r "
    "with its 95 % bootstrap interval.",
    numbers,
)
plt.show()


def verdict(name, r, low, high, pairs=p.angle_pairs):
    if low > 0 or high < 0:
        return (
            f"{name} {'rises' if r > 0 else 'falls'} with the distance of the ends (r = {r:.2f}, "
            f"95 % [{low:.2f}, "
            f"{high:.2f}])"
        )
    return (
        f"{name} shows no dependence on the distance of the ends that {pairs} pairs could tell "
        "from none (r = "
        f"{r:.2f}, 95 % [{low:.2f}, {high:.2f}])"
    )


worse, (low, high) = float((halving - of_fades).mean()), numbers["halving_less_cross_fade_95"]
smooth = (
    "**undecided**: these pairs cannot tell the walks from the cross-fades of their ends, which "
    "change evenly in pixels"
    if low < 0 < high
    else f"**less smooth than a cross-fade**, by {worse:.2f} in this ratio"
    + (
        ", but by less than unrelated steps would be"
        if numbers["halving_95"][1] < 0.5**0.5
        else "; these pairs do not tell them from unrelated steps (0.71)"
        if numbers["halving_95"][0] < 0.5**0.5
        else "; their largest steps shrink even less than unrelated ones would"
    )
    if low >= 0
    else "**yes**: smoother even than the cross-fades of their ends"
)
largest_share = ((f[:, 1:] - f[:, :-1]).norm(dim=2).max(1).values / m.length).mean()
display(
    Markdown(
        f"**Is the transition smooth?** The largest of {K} steps holds {100 * largest_share:.0f} "
        "% of a walk on "
        f"average ({100 / K:.1f} % if even, 100 % for a jump); the unevenness is "
        f"{m.unevenness.mean():.2f}, that of a "
        f"jump {math.sqrt(K - 1):.2f}. Halving the steps takes the largest to "
        f"{halving.mean():.2f} of its size (95 % "
        f"[{numbers['halving_95'][0]:.2f}, {numbers['halving_95'][1]:.2f}]; 0.5 for a smooth walk "
        "that its steps "
        "resolve, 0.71 for unrelated steps, 1 for a jump); for the cross-fades of the same ends "
        f"it is {of_fades.mean():.2f}. "
        "Only a walk that does worse than the cross-fade can be blamed on the generator; pair by "
        f"pair the difference is {worse:+.2f} (95 % [{low:.2f}, {high:.2f}]). So: {smooth}."
        "\n\n**Was it weak because the rooms were alike?** "
        f"{verdict('The length of the walk', *answers['length L'])}: but the angle, which we set, "
        "drives "
        f"both, so this number describes our choice of angles. Over the {p.pairs} "
        f"independent pairs alone, {verdict('the length', *alone, p.pairs)}. Apart from that, "
        f"{verdict('the detour', *answers['detour L / d'])}, and "
        f"{verdict('the unevenness', *answers['unevenness (CV)'])}. So the report's guess "
        + (
            "holds in part: over independent pairs nearer ends go with shorter walks (some of it "
            "forced by L ≥ d), and the distance of the ends accounts for "
            f"{100 * alone[0] ** 2:.0f} % of the variance of the length."
            if alone[1] > 0
            else "is neither borne out nor excluded by these independent pairs."
        )
        + " How much has to change and whether it changes evenly are two questions, and a single "
        "pair answers neither."
    )
)

# %% [markdown]
# ## 6 · Do the walks stay among bedrooms?
#
# Smooth is not enough: the cross-fade is smooth too. Take many pairs, keep only the **midpoints**, and compare the
# cloud of their features with that of real validation rooms, as notebook 06 does for samples: Fréchet distance, kernel
# distance (unbiased, so it can be compared across sample sizes, with its standard error), precision (the share of
# midpoints close to real rooms) and recall (the share of real rooms close to midpoints). The ends of the walks, equally
# many, are the yardstick, and other real rooms the floor.


# %%
def protocol(n):
    return Protocol(
        n,
        n,
        "validation",
        PREPARED,
        f"images {size}x{size} px, {EfficientNetLite0.resize}",
        "efficientnet-lite0",
        EfficientNetLite0.sha256,
    )


def cloud_rows(sets, target):
    """Sets of features against as many of `target`, the (unbiased) kernel distance against all."""
    rows = []
    for name, x in sets.items():
        kernel, share = kernel_distance(x, target), precision_recall(target[: len(x)], x)
        rows.append(
            {
                "images": name,
                "N": len(x),
                "Fréchet distance": frechet_from_features(x, target[: len(x)]),
                "kernel distance": kernel.value,
                "± kernel": kernel.error,
                "precision": share.precision,
                "recall": share.recall,
            }
        )
    return rows


target = features_of(reference)
a, b = torch.randn(p.n_distance, D, generator=rng), torch.randn(p.n_distance, D, generator=rng)
first, last = paint(a), paint(b)
clouds = {
    "other real rooms (floor)": others,
    "GAN, ends": first,
    "GAN, middle of great circles": paint(slerp(a, b, 0.5)),
    "GAN, middle of straight lines": paint(lerp(a, b, 0.5)),
    "middle of cross-fades": cross_fade(first, last, 2)[:, 1],
}
clouds = {name: features_of(x) for name, x in clouds.items()}
gan_rows = cloud_rows(clouds, target)
display(
    save_table(
        run,
        gan_rows,
        "nb07_midpoints_gan",
        f"Midpoints of the GAN's walks against real validation rooms. {protocol(p.n_distance)}.",
        protocol(p.n_distance),
    )
)
ends, circle, line, fade = gan_rows[1:]


def compared(row, other):
    gap, error = (
        row["kernel distance"] - other["kernel distance"],
        math.hypot(row["± kernel"], other["± kernel"]),
    )
    side = "as far from the real rooms, within two standard errors, as"
    if abs(gap) > 2 * error:
        side = f"{'farther from' if gap > 0 else 'nearer to'} the real rooms than"
    return (
        f"{side} the {other['images'].split(', ')[1]} (kernel distance "
        f"{row['kernel distance']:.3g} against "
        f"{other['kernel distance']:.3g}, difference {gap:.2g} ± {error:.1g})"
    )


display(
    Markdown(
        f"The middles of great circles are {compared(circle, ends)}. Those of straight lines are "
        f"{compared(line, ends)}; recall goes from {ends['recall']:.2f} at the ends to "
        f"{line['recall']:.2f}, and "
        f"precision from {ends['precision']:.2f} to {line['precision']:.2f}. Those of cross-fades "
        "are "
        f"{compared(fade, ends)}. Great-circle midpoints had to do as the ends do: by Eq. 7.8 "
        "they are all but "
        "ordinary draws. So their score says nothing about the model beyond what its samples say; "
        "the straight line, "
        "which leaves the shell, is the harder question."
    )
)

# %% [markdown]
# ## 7 · The diffusion model: from a real room to noise, and across
#
# The GAN has no way back from an image to its latent. A diffusion model sampled by DDIM (Song et al., 2021) has one.
# Its step from time $t$ down to $s < t$, with no fresh noise, is (here $s$ is a time, not the fraction of the way, and
# $\bar\alpha_t$ as in notebook 01: $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$)
#
# <!-- eq:7.13-step-1 -->
# $$x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s}\,\hat\varepsilon, \qquad
# \hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}} \tag{7.13a}$$
#
# with $\hat\varepsilon$ the noise that the network sees in $x_t$. Divide by $\sqrt{\bar\alpha_s}$ and write $y_t =
# x_t/\sqrt{\bar\alpha_t}$ for the image without its shrinking and $\sigma_t = \sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$
# for its noise-to-signal ratio:
#
# <!-- eq:7.13 -->
# $$y_s = y_t + (\sigma_s - \sigma_t)\,\hat\varepsilon
# \qquad\text{a step of Euler's method for}\qquad \frac{dy}{d\sigma} = \hat\varepsilon(y, \sigma) \tag{7.13}$$
#
# A differential equation runs in both directions. From $\sigma = 0$ upwards it turns an image into noise, and from
# there down again into the same image, up to the error of finite steps. For data that are themselves Gaussian, $x_0
# \sim \mathcal N(\mu, c^2 I)$, the best denoiser is known and the equation can be solved: the standardised value never
# changes,
#
# <!-- eq:7.14 -->
# $$\frac{x_t - \sqrt{\bar\alpha_t}\,\mu}{\sqrt{\bar\alpha_t c^2 + 1 - \bar\alpha_t}}
# = \frac{x_0 - \mu}{c} \quad\text{for all } t \tag{7.14}$$
#
# which tests the code against the formula before we trust it with images.

# %%
xt_, eps_, abars_, abart_ = sp.symbols("x_t epsilon abar_s abar_t", positive=True)
x0_ = (xt_ - sp.sqrt(1 - abart_) * eps_) / sp.sqrt(abart_)
y_s = (sp.sqrt(abars_) * x0_ + sp.sqrt(1 - abars_) * eps_) / sp.sqrt(abars_)
check_zero(
    "eq:7.13",
    sp.expand(
        y_s
        - (
            xt_ / sp.sqrt(abart_)
            + (sp.sqrt(1 - abars_) / sp.sqrt(abars_) - sp.sqrt(1 - abart_) / sp.sqrt(abart_)) * eps_
        )
    ),
    "DDIM's step is Euler's in y and σ",
)
# Eq. 7.14 solves the equation: y = μ + k sqrt(c² + σ²), and the best ε̂ is σ (y − μ)/(c² + σ²).
sigma_, k_, c_, mu_ = sp.symbols("sigma k c mu", positive=True)
y_ = mu_ + k_ * sp.sqrt(c_**2 + sigma_**2)
check_zero(
    "eq:7.14",
    y_.diff(sigma_) - sigma_ * (y_ - mu_) / (c_**2 + sigma_**2),
    "the derivative of the solution is ε̂ along it",
)

mu, c = 0.4, 0.3
exact = GaussianDiffusion(ddpm.diffusion.betas, prediction="x0")


def best_denoiser(x, t):
    abar = exact.abar[t][:, None]
    return mu + abar.sqrt() * c**2 / (abar * c**2 + 1 - abar) * (x - abar.sqrt() * mu)


x0 = mu + c * torch.randn(200, 8, generator=rng, dtype=torch.float64)
abar_T = float(exact.abar[-1])
x_T = abar_T**0.5 * mu + (abar_T * c**2 + 1 - abar_T) ** 0.5 * (x0 - mu) / c
many = exact.T // 2
down, up = (
    exact.sample(best_denoiser, x_T, ddim_step, exact.timesteps(many), clip=False),
    ddim_encode(exact, best_denoiser, x0, many),
)
check(
    "eq:7.13-step-1", down, x0, 0.03, f"DDIM in {many} steps against the exact solution, downwards"
)
check("eq:7.14", up, x_T, 0.05, "and upwards")

# %% [markdown]
# Now real rooms, from the validation split, which the model has not seen. Upwards each step needs $\hat\varepsilon$ at its
# *far* end, which is not known yet; the encoder guesses it from the near end and may refine the guess. The error of
# image → noise → image is given as root mean square in levels of 0 … 255 and as peak signal-to-noise ratio,
# $\mathrm{PSNR} = 20 \log_{10}(255/\mathrm{rms})$ in decibels. The network is asked alone here, without the early network of notebook
# 03, and at even times, so that both directions solve the same equation; its images are not those of notebooks 03, 06
# and 08.

# %%
latent_shape = (3, size, size)
device = next(ddpm.network.parameters()).device


def encode(images, steps, refine=1, batch=64):
    return torch.cat(
        [
            ddim_encode(
                ddpm.diffusion, ddpm.network, to_float(part).to(device), steps=steps, refine=refine
            ).cpu()
            for part in images.split(batch)
        ]
    )


def develop(x_T, steps, batch=64):
    """Noise (…, 3, size, size) to uint8 images, by DDIM without clipping: `encode` undone."""
    times = ddpm.diffusion.timesteps(steps)
    parts = [
        ddpm.diffusion.sample(ddpm.network, part.to(device), ddim_step, times, clip=False)
        for part in x_T.reshape(-1, *latent_shape).split(batch)
    ]
    return to_uint8(torch.cat(parts)).cpu().reshape(x_T.shape)


subjects = rooms[: p.recon_rooms]
recon = []
for refine in (0, 1):
    for steps in p.recon_steps:
        back = develop(encode(subjects, steps, refine), steps)
        rms = (back.double() - subjects.double()).square().flatten(1).mean(1).sqrt()
        recon.append(
            {
                "steps": steps,
                "refined": refine,
                "evaluations": steps * (2 + refine),
                "rms / levels": float(rms.mean()),
                "± rms": float(rms.std() / len(rms) ** 0.5),
                "PSNR / dB": float((20 * torch.log10(255 / rms)).mean()),
            }
        )
display(
    save_table(
        run,
        recon,
        "nb07_ddim_reconstructions",
        f"Image to noise and back by DDIM, {p.recon_rooms} validation rooms (± one standard "
        "error).",
    )
)
guess = float(
    (subjects.double() - reference.double().mean(0)).square().flatten(1).mean(1).sqrt().mean()
)
fig, axes = plt.subplots(1, 2, figsize=(10, 3.2), width_ratios=[1, 1.4])
for refine, label in ((0, "first guess"), (1, "refined once")):
    part = [r for r in recon if r["refined"] == refine]
    axes[0].errorbar(
        [r["steps"] for r in part],
        [r["rms / levels"] for r in part],
        [2 * r["± rms"] for r in part],
        fmt="o-",
        capsize=3,
        label=label,
    )
axes[0].axhline(guess, ls=":", color="k", label="mean room")
axes[0].set(
    xscale="log", yscale="log", xlabel="DDIM steps, each way", ylabel="error / levels (rms)"
)
axes[0].set_xticks(p.recon_steps, p.recon_steps)
axes[0].minorticks_off()
axes[0].legend(fontsize=8)
show_images(
    axes[1],
    torch.cat([subjects, back]),
    p.recon_rooms,
    f"real rooms; back from noise, {steps} steps",
)
save_figure(
    run,
    fig,
    "nb07_ddim_reconstruction",
    "Error of image → noise → image against the number of DDIM steps (bars: two standard errors), "
    "and the "
    "images at the largest number.",
    {"rows": recon},
)
plt.show()

# %%
S = p.ddim_steps
latents = encode(rooms, S)
pixels = 3 * size * size


def noise_statistics(x):
    """Length / √D and correlation of horizontal neighbours: mean and standard error."""
    length = x.double().flatten(1).norm(dim=1) / pixels**0.5
    neighbours = (x[..., 1:] * x[..., :-1]).double().flatten(1).mean(
        1
    ) / x.double().square().flatten(1).mean(1)
    return [(float(v.mean()), float(v.std() / len(v) ** 0.5)) for v in (length, neighbours)]


white = torch.randn(latents.shape, generator=rng)
stats = {
    name: noise_statistics(x) for name, x in (("encoded rooms", latents), ("white noise", white))
}
angles = torch.rad2deg(angle(latents, latents.roll(1, 0)))
display(
    Markdown(
        f"Is the encoded room really noise? With {S} steps, over {len(rooms)} rooms: "
        + "; ".join(
            f"**{name}** length {length[0]:.3f} ± {length[1]:.3f} √D, correlation of neighbouring "
            "pixels "
            f"{near[0]:.3f} ± {near[1]:.3f}"
            for name, (length, near) in stats.items()
        )
        + (
            f". Angles between encoded rooms: {angles.mean():.1f}° ± {angles.std():.1f}° "
            "(standard deviation); "
            f"between independent noise they would be 90° ± {math.degrees(1 / pixels**0.5):.1f}°. "
            "Where these depart from "
            "white noise, finitely many steps or an imperfect network have left something of the "
            "room; which of the two, "
            "this does not tell."
        )
    )
)

# %% [markdown]
# ### Between two real rooms
#
# The ends below are real validation rooms, decoded from their noise. Halfway, the straight line has about $1/\sqrt2$ of the
# length of its ends. Those are themselves shorter than white noise (above), by many spreads of the shell, and still lead
# back to their rooms: so a miss in spreads proves nothing by itself, and what the middles are worth is measured.
#
# Eq. 7.14 says what to expect. Where the data are Gaussian, the map $g$ from $x_T$ to $x_0$ is affine, so the straight
# line in noise **is** the cross-fade in pixels:
#
# <!-- eq:7.15 -->
# $$g\big((1-s)\,x_T + s\,x_T'\big) = (1-s)\,g(x_T) + s\,g(x_T') \tag{7.15}$$
#
# Halfway between two independent images that has $1/\sqrt2$ of an image's departure from the mean: washed out, and
# two rooms at once. The great circle keeps the departure at full size. Real rooms are not Gaussian; how far the
# network's map is from affine is seen in how far its straight-line images are from the cross-fade, which the cell
# below prints beside the distance for the great circle.

# %%
other_T = x_T.roll(1, 0)
times = exact.timesteps(20)
decode = lambda x: exact.sample(best_denoiser, x, ddim_step, times, clip=False)  # noqa: E731
check(
    "eq:7.15",
    decode(lerp(x_T, other_T, 0.5)),
    lerp(decode(x_T), decode(other_T), 0.5),
    1e-12,
    "Gaussian data: middle of the line in noise, and of the cross-fade",
)
kept = (
    (decode(slerp(x_T, other_T, 0.5)) - mu).square().mean() / (decode(x_T) - mu).square().mean()
).sqrt()
faded = (
    (decode(lerp(x_T, other_T, 0.5)) - mu).square().mean() / (decode(x_T) - mu).square().mean()
).sqrt()
print(
    f"departure from the mean image, middle over ends: great circle {kept:.3f}, straight line "
    f"{faded:.3f}"
)

# %%
first, last = latents, latents.roll(-1, 0)  # room i and room i + 1
few = slice(0, p.ddpm_pairs)
walk = {
    "great circle": path(first[few], last[few], K),
    "straight line": path(first[few], last[few], K, lerp)[:, 1:-1],
}
developed = {name: develop(x, S) for name, x in walk.items()}
developed["straight line"] = torch.cat(
    [
        developed["great circle"][:, :1],
        developed["straight line"],
        developed["great circle"][:, -1:],
    ],
    1,
)
developed["cross-fade"] = cross_fade(
    developed["great circle"][:, 0], developed["great circle"][:, -1], K
)
fig = strips(developed, 2, K + 1)
save_figure(
    run,
    fig,
    "nb07_ddim_strips",
    f"Diffusion model: walks between the noise of real validation rooms ({S} DDIM steps), and the "
    "cross-fade.",
)
plt.show()
fig, along_ddpm = draw_along(developed)
save_figure(
    run,
    fig,
    "nb07_ddim_along",
    "Diffusion model: contrast and detail along the walks; bands are two standard errors over "
    "pairs.",
    along_ddpm,
)
plt.show()
off_fade = {
    name: float(
        (developed[name][:, K // 2].double() - developed["cross-fade"][:, K // 2].double())
        .square()
        .mean()
        .sqrt()
    )
    for name in walk
}
display(
    Markdown(
        f"Middle over ends, {p.ddpm_pairs} pairs (± one standard error): "
        + "; ".join(f"{k} {m:.2f} ± {e:.2f}" for k, (m, e) in along_ddpm.items())
        + (
            f". Halfway, the straight line is {off_fade['straight line']:.1f} levels (rms) from "
            "the cross-fade, and "
            f"the great circle {off_fade['great circle']:.1f}."
        )
    )
)

# %% [markdown]
# The square of section 4, between real rooms: in its corners the noise of the first four of the rooms encoded above, not chosen; in between Eq. 7.9.

# %%
corner = [latents[i : i + 1] for i in range(4)]
top, bottom = (
    path(corner[0], corner[1], p.ddim_grid - 1)[0],
    path(corner[2], corner[3], p.ddim_grid - 1)[0],
)
square = path(top, bottom, p.ddim_grid - 1).transpose(0, 1)
fig, ax = plt.subplots(figsize=(5.2, 5.4))
show_images(ax, develop(square, S).reshape(-1, 3, size, size), p.ddim_grid)
save_figure(
    run,
    fig,
    "nb07_ddim_square",
    "Diffusion model: spherical interpolation between the noise of four real validation rooms "
    f"(corners), {S} DDIM steps.",
)
plt.show()

# %%
developed_features = {name: features_of(x) for name, x in developed.items()}
smooth_rows += [smoothness_row(f"DDPM, {name}", f) for name, f in developed_features.items()]
display(
    save_table(
        run,
        smooth_rows,
        "nb07_smoothness",
        f"Smoothness of all walks in EfficientNet-Lite0 features, {K} steps (± one standard error "
        "over pairs).",
    )
)

middles = {
    "real rooms encoded here (floor)": rooms,
    "DDPM, ends": develop(latents, S),
    "DDPM, middle of great circles": develop(slerp(first, last, 0.5), S),
    "DDPM, middle of straight lines": develop(lerp(first, last, 0.5), S),
    "middle of cross-fades": cross_fade(rooms, rooms.roll(-1, 0), 2)[:, 1],
}
middle_rows = cloud_rows({name: features_of(x) for name, x in middles.items()}, target)
display(
    save_table(
        run,
        middle_rows,
        "nb07_midpoints_ddpm",
        "Midpoints between encoded real rooms against other validation rooms. Few images: the "
        "Fréchet distance is to be "
        f"read only within this table. {protocol(len(rooms))}; kernel distance against "
        f"{p.n_distance:,}.",
        {
            "all but the kernel distance": protocol(len(rooms)),
            "kernel distance": replace(protocol(len(rooms)), n_reference=p.n_distance),
        },
    )
)
_, ends, circle, line, fade = middle_rows
display(
    Markdown(
        f"The middles of great circles are {compared(circle, ends)}. Those of straight lines are "
        f"{compared(line, ends)}. Those of cross-fades are {compared(fade, ends)}. Unlike in "
        "section 6, the ends here "
        "are real rooms that the model did not choose, so a good midpoint is not a matter of "
        "course: nothing obliges "
        "the noise of real rooms to fill the sphere evenly. (Neighbouring midpoints share a room, "
        "so these errors are "
        "a little too small.)"
    )
)

# %% [markdown]
# ## 8 · What changes on the way?
#
# The rendered rooms come with their scene: from where one looks, what lies on the floor, how the wall is painted. Notebook 05 has a network that reads such factors from an image, and says how often it is right. Here it reads every image of a walk. Take one
# factor, and a walk whose two ends read differently. If the answer changes once on the way, from the one class to the other, the walk is *direct* in this factor; more changes mean that it wavers or passes through a third class. (The three views lie in a row, so
# a turn through the middle one counts as one change.) The cross-fade of the same ends is the control: its images are double exposures, so it shows what a walk without rooms in between would give.


# %%
def changes(readings):
    """Of walks (N, K + 1, factors): how often each answer changes, and whether the ends differ."""
    steps = readings[:, 1:] - readings[:, :-1]
    across = readings[:, -1] - readings[:, 0]
    count = (steps != 0).sum(1)
    view = list(FACTORS).index("view")
    count[:, view] = 1 + steps[..., view].abs().sum(1) - across[:, view].abs()
    return count.double(), across != 0


def ratio(total, number):
    """sum total / sum number over walks (N,), and its standard error for independent walks.

    (The factors of one walk are not independent; neighbouring walks of the DDPM share a room, so
    their error is somewhat too small.)
    """
    r = total.sum() / number.sum()
    m = len(total)
    return r.item(), (
        (total - r * number).square().sum() * m / (m - 1)
    ).sqrt().item() / number.sum().item()


if p.source == "rendered":
    reader = load_classifier()

    def read(images):
        return reader.read(images.reshape(-1, 3, size, size)).reshape(*images.shape[:2], -1)

    readings = {
        f"{model}, {name}": read(of[name])
        for model, of in (("GAN", walks), ("DDPM", developed))
        for name in ("great circle", "cross-fade")
    }
    counted = {name: changes(a) for name, a in readings.items()}

    def cell(name, which):
        count, differ = counted[name]
        return (
            "{:.2f} ± {:.2f}".format(
                *ratio((count * differ)[:, which].sum(1), differ[:, which].sum(1).double())
            )
            if differ[:, which].any(1).sum() >= 5
            else ""
        )

    rows = [
        {
            "factor": factor,
            "differing ends (GAN)": int(counted["GAN, great circle"][1][:, k].sum()),
            **{name: cell(name, [k]) for name in counted},
        }
        for k, factor in enumerate(FACTORS)
    ]
    everything = list(range(len(FACTORS)))
    rows.append(
        {
            "factor": "all",
            "differing ends (GAN)": int(counted["GAN, great circle"][1].sum()),
            **{name: cell(name, everything) for name in counted},
        }
    )
    display(
        save_table(
            run,
            rows,
            "nb07_factor_changes",
            f"How often what the network reads changes in {K} steps, where the ends read "
            f"differently; 1 is direct. ± one standard error over {len(walks['great circle'])} "
            f"walks of the GAN and {p.ddpm_pairs} of the DDPM; in the last row every factor that "
            "differs counts. Empty where fewer than five walks differ.",
        )
    )
    fig, axes = plt.subplots(1, 2, figsize=(10, 3), sharey=True)
    for ax, name in zip(axes, ("great circle", "cross-fade"), strict=True):
        a = readings[f"GAN, {name}"]
        for i, factor in enumerate(("view", "lamps_on", "floor", "wall_colour")):
            k = list(FACTORS).index(factor)
            differ = a[a[:, 0, k] != a[:, -1, k]][..., k]
            if len(differ):
                ax.plot(
                    np.linspace(0, 1, K + 1),
                    (differ == differ[:, -1:]).double().mean(0),
                    "os^D"[i] + "-",
                    ms=4,
                    label=f"{factor} ({len(differ)} walks)",
                )
        ax.set(xlabel="fraction s of the way", title=f"GAN, {name}", ylim=(-0.03, 1.03))
    axes[0].set_ylabel("share that reads as the end does")
    axes[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(
        run,
        fig,
        "nb07_factors",
        "Share of the GAN's walks whose image reads, in one factor, as the image at the end, "
        "along the way.",
        {"rows": rows},
    )
    plt.show()
    said = []
    for model in ("GAN", "DDPM"):
        (on_circle, differ), (on_fade, _) = (
            counted[f"{model}, great circle"],
            counted[f"{model}, cross-fade"],
        )
        if differ.any():
            more, error = ratio(((on_circle - on_fade) * differ).sum(1), differ.sum(1).double())
            said.append(
                f"{model}: {100 * (on_circle[differ] == 1).double().mean():.0f} % of the "
                f"{int(differ.sum())} differences are crossed directly on the great circle, "
                f"{100 * (on_fade[differ] == 1).double().mean():.0f} % on the cross-fade; changes "
                f"on the circle less those on the cross-fade, for each difference: {more:+.2f} ± "
                f"{error:.2f} (one standard error), so "
                + (
                    "the great circle is the more direct"
                    if more < -2 * error
                    else "the cross-fade is the more direct"
                    if more > 2 * error
                    else "neither is clearly the more direct"
                )
            )
    display(Markdown(". ".join(said) + "."))
else:
    print("these images come without scene factors")

# %% [markdown]
# ## 9 · By hand
#
# In a running notebook the slider walks along the first pair of section 3. (The figures above hold without it.)

# %%
import io

import ipywidgets as widgets
from PIL import Image

image = widgets.Image(format="png")
slider = widgets.IntSlider(K // 2, 0, K, description="step")


def look(change=None):
    row = (
        torch.cat([walks[name][0, slider.value] for name in walks], dim=-1).permute(1, 2, 0).numpy()
    )
    file = io.BytesIO()
    Image.fromarray(row).resize(
        (5 * row.shape[1], 5 * row.shape[0]), Image.Resampling.NEAREST
    ).save(file, "PNG")
    image.value = file.getvalue()


slider.observe(look, "value")
look()
display(widgets.Label("circle, line, cross-fade"), widgets.VBox([slider, image]))

# %% [markdown]
# ## Summary
#
# In general:
#
# - Gaussian latents live on a shell of radius $\sqrt D$ and of thickness $1/\sqrt2$. Straight lines leave it, to a
#   radius of $\sqrt{D/2}$ halfway; great circles between independent Gaussian latents do not, and their midpoints are all
#   but ordinary draws; the noise of encoded rooms need not be Gaussian, and then neither holds by itself.
# - A straight line through a diffusion model's noise would be a cross-fade of images if its map were affine; for a GAN it is
#   a row of shorter latents, and whether those give typical rooms (truncation at its best) or washed-out ones must be
#   measured.
# - "Smooth" has at least three meanings (short, even, without jumps), and none of them asks whether the images on the
#   way are rooms. That needs a measure of its own.
# - How much changes on a walk, and how evenly, are two questions; one pair of rooms answers neither.
#
# In this run:


# %%
def listed(rows):
    return " / ".join(f"{r['kernel distance']:.3g} ± {r['± kernel']:.1g}" for r in rows[1:])


def even(row):
    return f"unevenness {row['unevenness']:.2f}, detour {row['detour']:.2f}"


best, (length, near) = recon[-1], stats["encoded rooms"]
findings = [
    f"**Evenness.** GAN, great circles: {even(smooth_rows[0])}. DDPM, great circles: "
    f"{even(smooth_rows[3])}. "
    f"Cross-fades of the GAN's ends: {even(smooth_rows[2])}. One jump in {K} steps: unevenness "
    f"{math.sqrt(K - 1):.2f}.",
    "**Weak because alike?** Over independent pairs, "
    f"{verdict('the length of the GAN walk', *alone, p.pairs)}; over "
    f"pairs at chosen angles (which drive both) r = {answers['length L'][0]:.2f}; "
    f"{verdict('its unevenness', *answers['unevenness (CV)'])}.",
    "**Still rooms?** Kernel distance to real rooms, for ends / great circles / straight lines / "
    "cross-fades: GAN "
    f"{listed(gan_rows)}; DDPM, between real rooms, {listed(middle_rows)}.",
    f"**There and back.** A validation room through {best['steps']} DDIM steps up and down "
    "returns with an error of "
    f"{best['rms / levels']:.1f} levels ({best['PSNR / dB']:.1f} dB). With {S} steps its noise "
    f"has {length[0]:.3f} of "
    f"the expected length, and neighbouring pixels in it correlate by {near[0]:.3f}, where white "
    "noise has 0.",
]
display(Markdown("\n".join(f"- {finding}" for finding in findings)))

# %% [markdown]
# ## Questions to think about
#
# 1. Take $z(s) = \sqrt{1-s}\,z_0 + \sqrt{s}\,z_1$. Show that it has the distribution of a latent exactly, for every
#    $s$. What does it give up against slerp? (Look at its speed near the ends.)
# 2. The GAN's latents could be drawn uniformly from a ball instead. Which of the arguments of sections 1 and 2 survive?
# 3. Perceptual path length is low for a generator that paints the same image for every latent. Which of the other
#    measures of this notebook would notice?
# 4. Downwards, DDIM's step is a formula; upwards, the same step is an equation, with $x_t$ on both sides. Write it as a
#    fixed point, once with $\hat\varepsilon(x_t)$ and once with $\hat x_0(x_t)$ on the right. Which of the two
#    iterations settles quickly where there is little noise, and which where there is little image?
