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
# # 07 · Interpolation
#
# Take two bedrooms that a generator has made, and walk from one to the other. Each step of the walk is an image. Does the room change evenly, or in jumps? Is every image on the way still a bedroom? This notebook builds such walks for a GAN and for a
# diffusion model, and then measures them.
#
# **After it you can**
#
# * say on which shell normal latents lie, and how far a straight line leaves it;
# * write spherical interpolation, and recognise wrong versions of it, one of them in wide use;
# * turn a real room into the noise of a diffusion model, and back;
# * measure how smooth a walk is and whether it stays among bedrooms, and say what such numbers depend on.
#
# **You need** vectors and angles, [notebook 01](01_forward_noising.ipynb), of [02](02_posterior_and_bound.ipynb) the exact denoisers (section 5) and DDIM (section 9), and of [06](06_evaluation.ipynb) features, distances, precision and recall. **It takes** an hour and a half to read, another hour for the code and five exercises, and about three
# minutes to run. Before section 10 is a good place to rest.
#
# **Stuck?** `exercises.hint("07-1")` gives a first step. Solutions stand in the folder `notebooks/solutions`.
#
# **Results in the text** are those of profile `cpu`. Other profiles have other figures and tables: `released`, with which Colab begins, has fewer pairs, fewer rooms and fewer steps. Under a paragraph with results stands a folded cell. In profile `cpu` its lines, marked `[claim]`, say that the results still hold.
#
# **The report** walked between two rooms of its GAN in a straight line (its Fig. 10). It found the transition smooth but perhaps not strong enough, and suspected that the two rooms were alike. Section 8 puts this to the test.
#
# Before: [06 · Evaluation](06_evaluation.ipynb). Next: [08 · Our report](08_report.ipynb).

# %% tags=["parameters"]
profile = None  # "smoke", "cpu", "released", "gpu" or "lsun"; None: "cpu", or in Colab "released"
seed = 0
out = None

# %%
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
import torch
from scipy import stats

from bedgen_utils import exercises
from bedgen_utils.checks import check, check_fails, check_mean, check_zero, claim
from bedgen_utils.data import load_bedrooms, to_float, to_uint8
from bedgen_utils.interpolate import path
from bedgen_utils.models import load
from bedgen_utils.report import mean_interval, save_figure, save_table, show_images, use_style
from bedgen_utils.run import start

run = start("07", profile, seed, out)
use_style()
g = torch.Generator().manual_seed(seed)

# %% [markdown]
# ## 1. A walk
#
# The repository brings a GAN trained on rooms of 64 x 64 pixels. Its generator turns a vector of normal numbers, the *latent* $z$, into an image. The next cell draws two latents, walks between them in eight steps, and shows the image of every place on the way.


# %%
def paint(gan, z):
    """The images of latents (..., D): floats (..., 3, size, size) in [-1, 1]."""
    device = next(gan.generator.parameters()).device
    batches = z.reshape(-1, z.shape[-1]).float().split(250)
    images = torch.cat([gan.generator(batch.to(device)).cpu() for batch in batches])
    return images.unflatten(0, z.shape[:-1])


released = load("gan")
z0, z1 = torch.randn(2, 1, released.generator.latent, generator=g)
fig, ax = plt.subplots(figsize=(9.5, 1.3))
show_images(ax, to_uint8(paint(released, path(z0, z1, 8))[0]), columns=9)
plt.show()

# %% [markdown]
# No latents were drawn for the rooms in the middle. How does `path` choose them? The obvious choice, a straight line, turns out to be the wrong one.
#
# ## 2. Where latents live
#
# A latent has $D$ coordinates $z_i$, independent and standard normal. Its squared length is a sum of $D$ squares. Each square has mean $\mathbb E z_i^2 = 1$ and variance $\mathbb E z_i^4 - (\mathbb E z_i^2)^2 = 3 - 1 = 2$ (the fourth moment is 3). So
#
# <!-- eq:7.1 -->
# $$\mathbb E\,|z|^2 = D, \qquad \operatorname{Var}|z|^2 = 2D, \qquad |z| \approx \sqrt D \pm \tfrac{1}{\sqrt 2} \tag{7.1}$$
#
# The last part is the slope of the square root: a change $\eta$ of $|z|^2$ near $D$ changes $|z|$ by $\eta/(2\sqrt D)$, and $\sqrt{2D}/(2\sqrt D) = 1/\sqrt 2$. This spread is the thickness of the shell, and it does not depend on $D$. In many dimensions normal latents lie on a thin shell. The generator
# was trained there and nowhere else.

# %%
gan, ddpm = load("gan", run), load("ddpm", run)  # of this run, or released weights of its size
size, D = gan.size, gan.generator.latent
print(f"GAN: {gan.source}, D = {D}. Diffusion model: {ddpm.source}, D = {3 * size**2}.")
a, b = torch.randn(2, run.p.draws, D, generator=g, dtype=torch.float64)
square = (a**2).sum(1)
check_mean(
    "eq:7.1",
    torch.stack([square, (square - D) ** 2], 1),
    [D, 2 * D],
    f"mean and variance of |z|^2 for D = {D}",
)
print(f"Spread of |z|: {a.norm(dim=1).std():.3f}; 1/sqrt(2) = {0.5**0.5:.3f}")

# %% [markdown]
# ## 3. The straight line leaves the shell
#
# Let $s \in [0, 1]$ say how far we have walked from $z_0$ to $z_1$. The straight line is called *lerp*, for linear interpolation:
#
# <!-- eq:7.2 -->
# $$z(s) = (1-s)\,z_0 + s\,z_1 \tag{7.2}$$


# %%
def lerp(a, b, s):
    """The place at fraction s of the straight line from a to b, Eq. 7.2."""
    return (1 - s) * a + s * b


from bedgen_utils import interpolate

check("eq:7.2", lerp(a, b, 0.3), interpolate.lerp(a, b, 0.3), 1e-14, "ours and the package's")

# %% [markdown] tags=["exercise"]
# **Exercise 07-1** · easy · 5 minutes
#
# Ends on the shell have length $\sqrt D$. How long is $z(s)$ on the straight line between two independent latents, in units of $\sqrt D$? (More exactly: the root of the mean of $|z(s)|^2/D$.) The answer stands below this exercise.


# %% tags=["exercise"]
def length_on_line(s): ...  # 1 at both ends


exercises.check("07-1", length_on_line)


# %% tags=["solution"]
def length_on_line(s):
    return math.sqrt((1 - s) ** 2 + s**2)  # variances add


exercises.check("07-1", length_on_line)

# %% [markdown]
# Each coordinate of $z(s)$ is a sum of two independent normal numbers with variances $(1-s)^2$ and $s^2$. So $z(s)$ is normal again, and variances add:
#
# <!-- eq:7.3 -->
# $$z(s) \sim \mathcal N\big(0,\ ((1-s)^2 + s^2)\,\mathbf I\big), \qquad \mathbb E\,|z(s)|^2 = D\,(1 - 2s + 2s^2), \qquad
# \mathbb E\,|z(\tfrac12)|^2 = \tfrac D2 \tag{7.3}$$
#
# Halfway the line passes at $\sqrt{D/2} \approx 0.71\sqrt D$. The shell is $1/\sqrt2$ thick, so the line misses it by $(\sqrt D - \sqrt{D/2})\big/(1/\sqrt 2) = (\sqrt 2 - 1)\sqrt D$ of its thicknesses: 3.3 for $D = 64$, 23 for $D = 3072$.

# %%
check_mean(
    "eq:7.3",
    torch.stack([(lerp(a, b, s) ** 2).sum(1) for s in (0.25, 0.5)], 1),
    [D * 0.625, D / 2],
    "mean of |z(s)|^2 on the line, a quarter of the way and halfway",
)

# %% [markdown]
# ## 4. The great circle
#
# To stay on the shell, turn instead of cutting across. Two latents span a plane, and in it they enclose an angle $\Omega$:
#
# <!-- eq:7.4 -->
# $$\cos\Omega = \frac{z_0\cdot z_1}{|z_0|\,|z_1|}, \qquad \mathbb E\cos\Omega = 0, \qquad \operatorname{Var}\cos\Omega = \frac1D \tag{7.4}$$
#
# (Why $1/D$? By symmetry we may rotate $z_0$ onto the first axis. Then $\cos\Omega$ is the first coordinate of a random direction. The squares of its $D$ coordinates sum to 1, and all have the same mean.) Independent latents are nearly at right angles, the more so the
# larger $D$.

# %%
cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
check_mean(
    "eq:7.4", torch.stack([cosine, cosine**2], 1), [0, 1 / D], "mean and variance of the cosine"
)
degrees = torch.rad2deg(torch.acos(cosine))
print(f"Angles: {degrees.mean():.1f} degrees on average, spread {degrees.std():.1f}")

# %% [markdown]
# Let $u = z_0/|z_0|$ and $w = z_1/|z_1|$ be the directions of the two latents. We look for a unit vector $v(s) = A\,u + B\,w$ that stands at the angle $s\,\Omega$ from $u$ and at $(1-s)\,\Omega$ from $w$. Since $u\cdot u = w\cdot w = 1$ and $u\cdot w = \cos\Omega$, these
# are two linear equations:
#
# <!-- eq:7.5 -->
# $$A + B\cos\Omega = \cos(s\,\Omega), \qquad A\cos\Omega + B = \cos((1-s)\,\Omega) \tag{7.5}$$
#
# Solve them with the help of $\cos((1-s)\Omega) = \cos\Omega\cos s\Omega + \sin\Omega\sin s\Omega$. The result is *slerp*, for spherical linear interpolation ([Shoemake, 1985](https://doi.org/10.1145/325165.325242)). [White (2016)](https://arxiv.org/abs/1609.04468) brought it to generators.
#
# <!-- eq:7.6 -->
# $$v(s) = \frac{\sin((1-s)\,\Omega)}{\sin\Omega}\;u + \frac{\sin(s\,\Omega)}{\sin\Omega}\;w \tag{7.6}$$
#
# It has length 1 everywhere. Its speed is the same everywhere. For small angles its weights become those of the straight line:
#
# <!-- eq:7.7 -->
# $$|v(s)| = 1, \qquad \left|\frac{dv}{ds}\right| = \Omega, \qquad \lim_{\Omega\to 0} \frac{\sin(s\,\Omega)}{\sin\Omega} = s \tag{7.7}$$

# %%
s, Om = sp.symbols("s Omega", positive=True)
A, B = sp.sin((1 - s) * Om) / sp.sin(Om), sp.sin(s * Om) / sp.sin(Om)
first = A + B * sp.cos(Om) - sp.cos(s * Om)
second = A * sp.cos(Om) + B - sp.cos((1 - s) * Om)


def times_sine(e, power=1):
    """e times a power of sin(Omega), written out so that sympy sees what cancels."""
    return sp.expand(sp.expand_trig(sp.expand(e * sp.sin(Om) ** power)))


def squared_length(A, B):
    return A**2 + B**2 + 2 * A * B * sp.cos(Om)


check_zero("eq:7.5", [times_sine(first), times_sine(second)], "A and B of Eq. 7.6 put in")
length = times_sine(squared_length(A, B) - 1, 2)
speed = times_sine(squared_length(A.diff(s), B.diff(s)) - Om**2, 2)
limits = [sp.limit(A, Om, 0) - (1 - s), sp.limit(B, Om, 0) - s]
check_zero("eq:7.7", [length, speed, *limits], "length, speed and limit")

# %% [markdown]
# Our two latents are not of exactly the same length. So we let the length run evenly from one to the other:
#
# <!-- eq:7.8 -->
# $$z(s) = \big((1-s)\,|z_0| + s\,|z_1|\big)\;v(s) \tag{7.8}$$

# %% [markdown] tags=["exercise"]
# **Exercise 07-2** · medium · 15 minutes
#
# Write `my_slerp(a, b, s)` for two vectors `a` and `b` of shape `(D,)` by Eq. 7.4, 7.6 and 7.8. They need not be equally long, nor at right angles. Below the exercise stands a version for many pairs at once.


# %% tags=["exercise"]
def my_slerp(a, b, s): ...  # a at s = 0, b at s = 1


exercises.check("07-2", my_slerp)


# %% tags=["solution"]
def my_slerp(a, b, s):
    u, w = a / a.norm(), b / b.norm()
    omega = torch.acos(u @ w)
    v = (torch.sin((1 - s) * omega) * u + torch.sin(s * omega) * w) / torch.sin(omega)
    return ((1 - s) * a.norm() + s * b.norm()) * v


exercises.check("07-2", my_slerp)


# %%
def slerp(a, b, s):
    """The place at fraction s of the great circle, Eq. 7.6 and 7.8, for pairs (N, D)."""
    r_a, r_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    u, w = a / r_a, b / r_b
    omega = torch.acos((u * w).sum(1, keepdim=True))  # an angle for each pair
    v = (torch.sin((1 - s) * omega) * u + torch.sin(s * omega) * w) / torch.sin(omega)
    return ((1 - s) * r_a + s * r_b) * v


# %% [markdown]
# We try it on the latents of section 2, with `angle` of the package, which measures angles in a way that loses no digits. Then four wrong versions must fail. The first puts the latents themselves into Eq. 7.6, not their directions. For ends of equal length it is right; for others the angle does not grow evenly. (Normal latents are nearly equally long, so between most of them it errs little.) It is in wide use since
# [a discussion of 2016](https://github.com/soumith/dcgan.torch/issues/14).

# %%
from bedgen_utils.interpolate import angle

z, Omega = slerp(a, b, 0.3), angle(a, b)
lengths = (0.7 * a.norm(dim=1) + 0.3 * b.norm(dim=1))[:, None]
check("eq:7.6", angle(a, z), 0.3 * Omega, 1e-12, "angle from the start at s = 0.3")
check("eq:7.6", angle(z, b), 0.7 * Omega, 1e-12, "angle to the end")
check("eq:7.8", z.norm(dim=1), lengths[:, 0], 1e-12, "length at s = 0.3")


# %%
def sines(u, w, omega, s=0.3):
    """Eq. 7.6 on whatever it is given."""
    omega = omega[:, None]
    return (((1 - s) * omega).sin() * u + (s * omega).sin() * w) / omega.sin()


u, w = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
right_angle = torch.full_like(Omega, math.pi / 2)
wrong = {
    "latents instead of directions": sines(a, b, Omega),
    "90 degrees for every pair": lengths * sines(u, w, right_angle),
    "ends swapped": slerp(b, a, 0.3),
    "turning away from the end": lengths * sines(u, w, Omega, -0.3),
}
for name, x in wrong.items():
    check_fails(
        "wrong slerp",
        lambda x=x: check("eq:7.6", angle(x, b), 0.7 * Omega, 1e-6, "angle to the end"),
        name,
    )

# %% [markdown]
# The package's `slerp` gives the same numbers. It also survives what ours does not: nearly parallel latents, where $\sin\Omega$ is close to 0. And it takes one fraction for each pair. From here on we use it.

# %%
check("slerp", slerp(a, b, 0.3), interpolate.slerp(a, b, 0.3), 1e-11, "ours and the package's")
slerp = interpolate.slerp

# %% [markdown]
# ### The middle is an ordinary latent
#
# What does the generator see halfway? The direction of the midpoint is that of $u + w$. No direction is preferred, so it is uniform, as that of a fresh latent. Its length is the mean of two lengths. So the middle of a great circle between independent latents looks to the
# generator like any other draw. Only the spread of its length is smaller, by a factor of $\sqrt 2$.
#
# Length and direction of a latent $z = |z|\,\theta$ are independent, so $\mathbb E z_i^4 = \mathbb E|z|^4\;\mathbb E\theta_i^4$. On the left stands 3, and by Eq. 7.1 $\mathbb E|z|^4 = D^2 + 2D$. The midpoint must have these moments of $\theta$:
#
# <!-- eq:7.9 -->
# $$\mathbb E\,\theta_i^2 = \frac1D, \qquad \mathbb E\,\theta_i^4 = \frac{3}{D(D+2)} \tag{7.9}$$
#
# The figure divides lengths by $\sqrt D$: the larger $D$, the thinner its shells.

# %%
theta = slerp(a, b, 0.5)
theta = theta / theta.norm(dim=1, keepdim=True)
check_mean(
    "eq:7.9",
    torch.stack([theta[:, 0] ** 2, (theta**4).mean(1)], 1),
    [1 / D, 3 / (D * (D + 2))],
    "direction of the midpoint: second and fourth moment",
)

# %% tags=["hide-input"]
fractions = np.linspace(0, 1, 21)
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.4))
shell = {}
for d, colour in ((D, "C0"), (3 * size**2, "C1")):
    u, v = torch.randn(2, max(200, run.p.draws // 10), d, generator=g, dtype=torch.float64)
    label = f"D = {d:,}"
    for x, fill in ((torch.cat([u, v]), True), (lerp(u, v, 0.5), False)):
        height, edges = np.histogram(x.norm(dim=1) / d**0.5, np.linspace(0.4, 1.4, 101))
        options = {"color": colour, "alpha": 0.5, "label": label} if fill else {"color": colour}
        axes[0].stairs(height / height.max(), edges, fill=fill, **options)
    for how in (slerp, lerp):
        some = u[:200], v[:200]
        r = torch.stack([how(*some, float(s)).norm(dim=1) for s in fractions]) / d**0.5
        axes[1].plot(fractions, r.mean(1), color=colour)
        low, high = r.mean(1) - r.std(1), r.mean(1) + r.std(1)
        axes[1].fill_between(fractions, low, high, color=colour, alpha=0.25, lw=0)
    middle = lerp(u, v, 0.5).norm(dim=1)
    shell[d] = {"midpoint": float(middle.mean()) / d**0.5, "spread": float(u.norm(dim=1).std())}
axes[1].plot(fractions, np.sqrt(1 - 2 * fractions + 2 * fractions**2), ":k", lw=1)
for x, text in ((0.707, "middle of lines\n(outline)"), (1.0, "latents\n(filled)")):
    axes[0].text(x, 1.04, text, ha="center", va="bottom", fontsize=9)
axes[1].text(0.5, 1.08, "great circle", ha="center", va="bottom", fontsize=9)
axes[1].text(0.5, 0.79, "straight line", ha="center", va="bottom", fontsize=9)
axes[0].set(xlabel="length / √D", ylabel="count / largest count", ylim=(0, 1.3))
axes[1].set(xlabel="fraction s of the way", ylabel="length / √D", ylim=(0.6, 1.18))
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
save_figure(
    run,
    fig,
    "nb07_shell",
    "Lengths of normal latents with as many numbers as those of the GAN and of the diffusion "
    "model. Left: latents (filled) and the middles of straight lines between them (outlines). "
    "Right: lengths along great circles and straight lines, mean over 200 pairs; bands are one "
    "standard deviation, the dotted line is Eq. 7.3.",
    shell,
)

# %% [markdown] tags=["exercise"]
# **Exercise 07-3** · easy · 5 minutes
#
# Which fractions $s$ belong to a walk of `steps` equal steps, both ends included? Return them as a list or tensor.


# %% tags=["exercise"]
def fractions_of(steps): ...  # from 0 to 1


exercises.check("07-3", fractions_of)


# %% tags=["solution"]
def fractions_of(steps):
    return torch.linspace(0, 1, steps + 1)


exercises.check("07-3", fractions_of)

# %% [markdown] tags=["exercise"]
# **Exercise 07-4** · medium · 10 minutes
#
# Here is another walk: $z(s) = \sqrt{1-s}\;z_0 + \sqrt s\;z_1$. Variances add to 1, so each of its places has exactly the distribution of a latent. What is wrong with it? Let $z_0$ and $z_1$ be at right angles and equally long. By how many degrees has the walk turned at $s = 0.01$?
# Give three digits. (With even steps it is 0.9.)

# %% tags=["exercise"]
turned = ...  # degrees
exercises.check("07-4", turned)

# %% tags=["solution"]
turned = math.degrees(math.atan(math.sqrt(0.01) / math.sqrt(0.99)))
# It is the same great circle, unevenly walked: at both ends the speed is infinite.
exercises.check("07-4", turned)

# %% [markdown]
# ## 5. What the GAN paints on the way
#
# We compare three walks between the same two rooms. The *great circle* and the *straight line* pass through latents. The *cross-fade* mixes the two end images pixel by pixel and needs no generator. It changes evenly by construction, and halfway it shows two rooms at once. It is our
# control.
#
# From here on the GAN is that of this run, except in the square of section 6. The film strips show the first two of 64 pairs, not chosen ones.

# %%
K = run.p.path_steps
z0, z1 = torch.randn(2, run.p.pairs, D, generator=g)
walks = {
    "great circle": paint(gan, path(z0, z1, K)),
    "straight line": paint(gan, path(z0, z1, K, lerp)),
}
ends = walks["great circle"][:, 0], walks["great circle"][:, -1]
walks["cross-fade"] = path(*ends, K, lerp)  # of images, not of latents
print(f"{run.p.pairs} pairs, {K} steps, images of shape {tuple(ends[0].shape[1:])}")

# %% tags=["hide-input"]
WAYS = {"great circle": "C0", "straight line": "C1", "cross-fade": "C2"}


def strips(walks, shown=2):
    """Film strips of the first pairs; walks: {name: float images (N, K + 1, 3, H, W)}."""
    fig, axes = plt.subplots(len(walks) * shown, 1, figsize=(8.4, 1.02 * len(walks) * shown))
    for i, ax in enumerate(axes.flat):
        pair, name = i // len(walks), list(walks)[i % len(walks)]
        images = to_uint8(walks[name][pair])
        show_images(ax, images, len(images))
        label = f"pair {pair + 1}\n{name}"
        ax.text(-0.01, 0.5, label, transform=ax.transAxes, ha="right", va="center", fontsize=9)
    return fig


def along(walks, run, figure_id, caption):
    """Contrast and detail along the walks: the figure, and the middle over the ends."""
    fig, axes = plt.subplots(1, 2, figsize=(9.5, 2.9))
    found = {}
    for name, images in walks.items():
        levels = 127.5 * (images.clamp(-1, 1) + 1)
        grey = (levels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(-3)
        detail = (grey[..., 1:] - grey[..., :-1]).abs().mean((-1, -2))
        for ax, label, v in zip(
            axes, ("contrast", "detail"), (grey.flatten(-2).std(-1), detail), strict=True
        ):
            at, m, e = np.linspace(0, 1, v.shape[1]), v.mean(0), 2 * v.std(0) / len(v) ** 0.5
            ax.plot(at, m, label=name, color=WAYS[name])
            ax.fill_between(at, m - e, m + e, alpha=0.2, lw=0, color=WAYS[name])
            ax.set(xlabel="fraction s of the way", ylabel=f"{label} / levels")
            both, middle = (v[:, 0] + v[:, -1]) / 2, v[:, v.shape[1] // 2]
            r = middle.mean() / both.mean()
            error = ((middle - r * both) / both.mean()).std() / len(v) ** 0.5
            found[f"{name}: {label}"] = (float(r), float(error))
    axes[0].legend(fontsize=9)
    save_figure(run, fig, figure_id, caption, found)
    return found


# %% tags=["hide-input"]
fig = strips(walks)
save_figure(
    run,
    fig,
    "nb07_gan_strips",
    "GAN: great circle, straight line and cross-fade between the same two pairs of latents.",
)

# %% [markdown]
# Two statistics say what the eye sees. *Contrast* is the standard deviation of brightness over the pixels of an image. *Detail* is the mean absolute difference of pixels side by side. Both are given in levels of 0 to 255.

# %% tags=["hide-input"]
along_gan = along(
    walks,
    run,
    "nb07_gan_along",
    f"GAN: contrast and detail along the walks, mean over {run.p.pairs} pairs of latents; bands "
    "are two standard errors.",
)

# %% [markdown]
# On the great circle contrast and detail stay at their level. The middle of the straight line has lost about three tenths of the contrast and a third of the detail. The cross-fade loses a quarter of the contrast, but only a sixth of the detail. So it is above all the detail that sets the line apart.
#
# Why does a short latent cost detail? The first layer of the
# generator is linear. The shorter the latent, the closer the output of this layer comes to its bias, which is the same for all rooms. Done on purpose, this is a kind of *truncation* ([Brock et al., 2019](https://arxiv.org/abs/1809.11096), who draw large coordinates again): it gives up variety and hopes for typical images. Whether it gets them is measured in section 9.

# %% tags=["hide-input"]
middle = {name: value for name, (value, error) in along_gan.items()}
claim(
    run.profile,
    "the great circle keeps contrast and detail within 5 %",
    all(abs(middle[f"great circle: {v}"] - 1) < 0.05 for v in ("contrast", "detail")),
)
claim(
    run.profile,
    "line: contrast down by about 0.3, detail by a third; cross-fade: by a quarter, a sixth",
    abs(middle["straight line: contrast"] - 0.7) < 0.04
    and abs(middle["cross-fade: contrast"] - 0.76) < 0.03
    and abs(middle["straight line: detail"] - 0.67) < 0.06
    and abs(middle["cross-fade: detail"] - 0.83) < 0.06,
)

# %% [markdown]
# ## 6. The square between four corners
#
# With four corners $z_{00}, z_{01}, z_{10}, z_{11}$ one can fill a square. Walk along its top and bottom edges first, and then between them:
#
# <!-- eq:7.10 -->
# $$z(r, c) = \operatorname{slerp}\big(\operatorname{slerp}(z_{00}, z_{01}; c),\ \operatorname{slerp}(z_{10}, z_{11}; c);\ r\big) \tag{7.10}$$
#
# On straight lines the order does not matter: rows first or columns first, the sum is the same. On great circles it does, because turns in different planes do not commute.


# %%
def between_corners(corners, r, c):
    """The latent (1, D) at row r and column c, both in [0, 1], Eq. 7.10; corners: (4, D)."""
    top = slerp(corners[0:1], corners[1:2], c)
    bottom = slerp(corners[2:3], corners[3:4], c)
    return slerp(top, bottom, r)


corners = torch.randn(4, released.generator.latent, generator=torch.Generator().manual_seed(seed))
n = run.p.grid
top, bottom = path(corners[0:1], corners[1:2], n - 1), path(corners[2:3], corners[3:4], n - 1)
square = path(top[0], bottom[0], n - 1).transpose(0, 1)  # (row, column, D)
places = [(0, 0), (0, n - 1), (n - 1, 0), (n - 1, n - 1), (1, n // 2)]
ours = [between_corners(corners, r / (n - 1), c / (n - 1))[0] for r, c in places]
theirs = torch.stack([square[r, c] for r, c in places])
check("eq:7.10", torch.stack(ours), theirs, 1e-5, "by `path`: four corners, a place inside")
swapped = between_corners(corners[[0, 2, 1, 3]], n // 2 / (n - 1), 1 / (n - 1))[0]
check_fails(
    "order",
    lambda: check("eq:7.10", swapped, theirs[-1], 1e-3, "the place inside"),
    "columns first",
)

# %% [markdown]
# To measure how much an image changes we need a distance that follows what we see. Pixels are a poor choice: a bed moved by two pixels is far away. So a fixed network, EfficientNet-Lite0, maps each image to 1,280 numbers, its *features* ([notebook 06](06_evaluation.ipynb)), and we take the distance of
# features. One detail will matter: the function below takes images as floats, not rounded to the 256 levels of a file.

# %%
from bedgen_utils.features import DEFAULT, features, network

eye = network(DEFAULT)
device = next(eye.parameters()).device


def features_of(x):
    """Features (..., 1280) of float images (..., 3, H, W) in [-1, 1]."""
    levels = 127.5 * (x.clamp(-1, 1) + 1)
    batches = levels.reshape(-1, *x.shape[-3:]).split(32)
    return torch.cat([eye(batch.to(device)).cpu() for batch in batches]).unflatten(0, x.shape[:-3])


stored = to_uint8(ends[0][:4])
check("features", features_of(to_float(stored)), features(stored), 1e-2, "ours and the package's")

# %% [markdown]
# Our version of the report's Fig. 10 uses the released GAN of 64 x 64 pixels. The corners are its first four latents. The diagonal from top left to bottom right is framed; the report walked between such corners, in a straight line.

# %% tags=["hide-input"]
images = paint(released, square)
diagonal = features_of(images[range(n), range(n)])
steps = diagonal.diff(dim=0).norm(dim=1)
others = features_of(paint(released, torch.randn(24, corners.shape[1], generator=g)))
apart = torch.pdist(others)
fig, axes = plt.subplots(1, 2, figsize=(10, 6.2), width_ratios=[1.75, 1])
show_images(axes[0], to_uint8(images.flatten(0, 1)), n)
side = released.size + 1
for i in range(n):
    corner = (i * side, i * side)
    axes[0].add_patch(plt.Rectangle(corner, side, side, fill=False, ec="C1", lw=2))
places = np.arange(n)
axes[1].plot(places, (diagonal - diagonal[0]).norm(dim=1), "o-", label="to the top left")
axes[1].plot(places, (diagonal - diagonal[-1]).norm(dim=1), "s-", label="to the bottom right")
axes[1].bar(places[:-1] + 0.5, steps, width=0.9, color="C5", alpha=0.5, label="to the next")
low, high = float(apart.mean() - apart.std()), float(apart.mean() + apart.std())
axes[1].axhspan(low, high, color="0.85", lw=0, zorder=0, label="two random rooms")
axes[1].axhline(float(apart.mean()), ls=":", color="k", lw=1)
axes[1].set(
    xlabel="place on the diagonal",
    ylabel="distance in features",
    ylim=(0, 1.3 * max(high, float((diagonal - diagonal[0]).norm(dim=1).max()))),
)
axes[1].set_xticks(places)
axes[1].legend(fontsize=9, loc="upper center")
middle_swapped = between_corners(corners[[0, 2, 1, 3]], 0.5, 0.5)
middle_square = between_corners(corners, 0.5, 0.5)
save_figure(
    run,
    fig,
    "fig10_interpolation",
    "Great circles between four latents of the released GAN (64 x 64 pixels, first four draws). "
    "Right: distances in EfficientNet-Lite0 features along the framed diagonal, from each image to "
    "the first, to the last and to the next (bars). Dotted line and band: mean and standard "
    "deviation of the distances between 24 random rooms of this GAN.",
    {
        "diagonal_ends": float((diagonal[-1] - diagonal[0]).norm()),
        "random_pairs_mean": float(apart.mean()),
        "diagonal_steps": steps.tolist(),
        "largest_step_share": float(steps.max() / steps.sum()),
        "order_difference": float((middle_square - middle_swapped).norm() / middle_square.norm()),
    },
)

# %% [markdown]
# The walk winds through feature space: the steps along the diagonal add up to more than three times the distance of its ends. Sections 7 and 8 take that up.
#
# Move about in the square yourself (this needs a running kernel; the figure above shows some of the places). Choose the straight line and watch the length of the latent, and the contrast, sink in the middle.

# %% tags=["hide-input"]
import io

import ipywidgets as widgets
from IPython.display import display
from PIL import Image

picture, words = widgets.Image(format="png", width=256), widgets.Label()
down = widgets.FloatSlider(value=0.5, min=0, max=1, step=0.02, description="row r")
right = widgets.FloatSlider(value=0.5, min=0, max=1, step=0.02, description="column c")
way = widgets.Dropdown(options=["great circle", "straight line"], description="walk")
draw = widgets.IntSlider(value=seed, min=0, max=99, description="seed")


def update(_=None):
    four = torch.randn(4, corners.shape[1], generator=torch.Generator().manual_seed(draw.value))
    if way.value == "great circle":
        z = between_corners(four, down.value, right.value)
    else:
        top, bottom = (lerp(four[i : i + 1], four[i + 1 : i + 2], right.value) for i in (0, 2))
        z = lerp(top, bottom, down.value)
    x = to_uint8(paint(released, z))[0]
    buffer = io.BytesIO()
    big = Image.fromarray(x.permute(1, 2, 0).numpy()).resize((256, 256), Image.Resampling.NEAREST)
    big.save(buffer, "png")
    picture.value = buffer.getvalue()
    words.value = f"length of the latent: {float(z.norm()) / z.numel() ** 0.5:.2f} √D"


for control in (down, right, way, draw):
    control.observe(update, "value")
update()
display(widgets.VBox([down, right, way, draw, picture, words]))
claim(
    run.profile,
    "the diagonal's steps add up to more than three times the distance of its ends",
    float(steps.sum()) > 3 * float((diagonal[-1] - diagonal[0]).norm()),
)

# %% [markdown]
# ## 7. Smoothness as a number
#
# A generator made of continuous layers is continuous whatever it has learned. So the question is not whether it jumps but how fast and how evenly it changes. Let $G$ be the generator and $f$ the features of an image. *Perceptual path length*
# ([Karras et al., 2019](https://arxiv.org/abs/1812.04948)) is the mean squared speed of the features, for a small step $h$ in $s$, averaged over pairs of latents and over $s$:
#
# <!-- eq:7.11 -->
# $$\mathrm{PPL}_h = \mathbb E\;\frac{\big|f(G(z(s+h))) - f(G(z(s)))\big|^2}{h^2} \tag{7.11}$$
#
# They use the features of another network, so their values and ours cannot be compared.


# %%
def squared_speed(f, f_next, h):
    """Of features (N, F) a step h apart, Eq. 7.11 before averaging."""
    return ((f_next - f) ** 2).sum(-1) / h**2


u, w = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)  # G and f the identity
chord = 2 * torch.sin(0.25 * angle(u, w) / 2)  # of a quarter of the arc
ours = squared_speed(slerp(u, w, 0.5), slerp(u, w, 0.75), 0.25)
check("eq:7.11", ours, (chord / 0.25) ** 2, 1e-10, "a quarter of an arc, whose chord is known")

# %% [markdown]
# How small should $h$ be? Too large a step cuts the corners of a winding path. There is a trap at the small end, too. Images in files have 256 levels. Suppose a pixel of level $\ell$ should change by $\delta = 0.1$ levels. After rounding it changes by a whole level in one case out of ten, so its mean squared change
# is 0.1 and not 0.01:
#
# <!-- eq:7.12 -->
# $$\mathbb E\,\big(\operatorname{round}(\ell+\delta) - \operatorname{round}(\ell)\big)^2 = |\delta| \qquad\text{for } |\delta|\le 1,\ \ell \text{ uniform between two levels} \tag{7.12}$$
#
# As $\delta$ shrinks like $h$, division by $h^2$ makes the rounded value grow like $1/h$ once $\delta$ is small, and without limit. So we measure both: images as floats, and images rounded to levels.

# %%
level = 100 * torch.rand(run.p.draws, generator=g, dtype=torch.float64)
moved = torch.stack([((level + x).round() - level.round()) ** 2 for x in (0.1, 0.5)], 1)
check_mean("eq:7.12", moved, [0.1, 0.5], "mean squares of a rounded value moved by 0.1 and 0.5")

p0, p1 = torch.randn(2, run.p.ppl_latents, D, generator=g)
at = (1 - max(run.p.ppl_steps)) * torch.rand(run.p.ppl_latents, generator=g)


def path_lengths(stored):
    """Squared speeds (N,) for each step; stored: what happens to an image before it is seen."""
    here = features_of(stored(paint(gan, slerp(p0, p1, at))))
    return {
        h: squared_speed(here, features_of(stored(paint(gan, slerp(p0, p1, at + h)))), h)
        for h in run.p.ppl_steps
    }


speeds = {
    "floats": path_lengths(lambda x: x),
    "256 levels": path_lengths(lambda x: to_float(to_uint8(x))),
}

# %% tags=["hide-input"]
rows = [
    {
        "images": kind,
        "step": h,
        "N": len(v),
        "PPL": float(v.mean()),
        "standard error": float(v.std() / len(v) ** 0.5),
    }
    for kind, values in speeds.items()
    for h, v in values.items()
]
fig, ax = plt.subplots(figsize=(6.4, 3.4))
for kind, mark in (("floats", "o-"), ("256 levels", "s--")):
    part = [r for r in rows if r["images"] == kind]
    bars = [2 * r["standard error"] for r in part]
    at_h, values = [r["step"] for r in part], [r["PPL"] for r in part]
    ax.errorbar(at_h, values, bars, fmt=mark, capsize=3, label=kind)
ax.set(xscale="log", yscale="log", xlabel="step h (fraction of the way)")
ax.set_xticks(run.p.ppl_steps, [f"1/{1 / h:.0f}" for h in run.p.ppl_steps])
ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
ax.set_ylabel("PPL (squared feature distance)")
ax.legend(title="images seen as", fontsize=9, title_fontsize=9)
save_figure(
    run,
    fig,
    "nb07_path_length",
    f"GAN: perceptual path length against its step, {run.p.ppl_latents} places on great circles; "
    "bars are two standard errors. Images as floats, and rounded to 256 levels.",
    {"rows": rows},
)
as_read = [r | {"step": f"1/{1 / r['step']:.0f}"} for r in rows]
what = "GAN: perceptual path length by step and storage."
display(save_table(run, as_read, "nb07_path_lengths", what))

# %% [markdown]
# With floats the value settles: the last division of $h$ by four changes it by 1 to 10 % (three runs, seeds 0 to 2). With rounded images it never does: at $h = 1/1024$ it is more than ten times too large, and still rising. So perceptual path length has a value, here a few times $10^5$, if images stay floats and
# $h$ is $1/256$ or less. The step matters at the large end as well. At $h = 1/4$ one sees less than a fifth of the value, because such steps cut the corners. (The errors are those of 64 places on as many walks, the same places at each step.)

# %% tags=["hide-input"]
by_float, by_level = (np.array([r["PPL"] for r in rows if r["images"] == k]) for k in speeds)
claim(
    run.profile,
    "floats: the last division by four changes the value by 1 to 10 %; a few times 1e5",
    abs(by_float[-1] / by_float[-2] - 1) < 0.14 and 1.5e5 < by_float[-1] < 5e5,
)
claim(
    run.profile,
    "256 levels: more than ten times too large at 1/1024, and rising",
    by_level[-1] > 10 * by_float[-1] and by_level[-1] > 3 * by_level[-2],
)
claim(
    run.profile,
    "a step of 1/4 sees less than a fifth",
    by_float[0] / by_float[-1] < 0.2,
)

# %% [markdown]
# Two more measures describe a walk as a whole. Write $f_k$ for the features at $s = k/K$, $L_k = |f_k - f_{k-1}|$ for the length of a step, $L$ for the sum of all steps, and $d = |f_K - f_0|$ for the distance of the ends. *Unevenness* is the coefficient of variation of the steps. *Detour* is the length of the walk over the distance of its ends:
#
# <!-- eq:7.13 -->
# $$\mathrm{CV} = \frac{\operatorname{sd}_k(L_k)}{\operatorname{mean}_k(L_k)}, \qquad
# \mathrm{detour} = \frac{L}{d} = \frac{\sum_k L_k}{|f_K - f_0|} \ge 1 \tag{7.13}$$
#
# A walk that changes in one jump out of $K$ steps has $\mathrm{CV} = \sqrt{K-1}$. The length of a winding walk grows with $K$, as finer steps follow more of its bends. So detours compare at equal $K$ only. The package computes all of this in `smoothness`.

# %%
from bedgen_utils.interpolate import smoothness

jump = torch.zeros(1, K + 1, 3, dtype=torch.float64)
jump[:, 1:] = 1
arc = smoothness(path(u[:200], w[:200], K))
Omega = angle(u[:200], w[:200])
detour = K * torch.sin(Omega / (2 * K)) / torch.sin(Omega / 2)
check(
    "eq:7.13",
    torch.cat([smoothness(jump).unevenness, arc.unevenness, arc.detour]),
    torch.cat([Omega.new_tensor([math.sqrt(K - 1)]), 0 * Omega, detour]),
    1e-10,
    f"one jump in {K} steps, and 200 arcs",
)


# %%
def smoothness_row(name, f):
    """A row of the table: means over pairs with their standard errors."""
    m = smoothness(f)
    row = {"walk": name, "pairs": len(f), "distance of ends": float(m.chord.mean())}
    for label, v in (("detour", m.detour), ("unevenness", m.unevenness)):
        row |= {label: float(v.mean()), f"± {label}": float(v.std() / len(v) ** 0.5)}
    return row


walk_features = {name: features_of(x) for name, x in walks.items()}
smooth_rows = [smoothness_row(f"GAN, {name}", f) for name, f in walk_features.items()]
save_table(
    run,
    smooth_rows,
    "nb07_smoothness_gan",
    f"GAN: walks of {K} steps in EfficientNet-Lite0 features (± one standard error over pairs).",
)

# %% [markdown]
# All three walks are about equally even, and far from a jump. All three wind: even the cross-fade, which is straight in pixels, is three times as long as the distance of its ends. The features bend what is straight in the image. Any verdict on the generator has to take the cross-fade as its yardstick. Beside it, the great circle is longer by 21 to 27 % (three runs).

# %% tags=["hide-input"]
claim(
    run.profile,
    "unevenness within 0.05; cross-fade three times d, great circle longer by about a quarter",
    max(r["unevenness"] for r in smooth_rows) - min(r["unevenness"] for r in smooth_rows) < 0.05
    and 2.7 < smooth_rows[2]["detour"] < 3.8
    and 1.15 < smooth_rows[0]["detour"] / smooth_rows[2]["detour"] < 1.33,
)

# %% [markdown]
# ## 8. Was the report's transition smooth, and was it weak?
#
# **Smooth?** Walk again with steps half as long. If the walk is smooth and its steps are short enough to follow it, each step splits into two halves, and the largest step shrinks to 0.5 of its size. A jump stays, and so does any change too sudden to be split: 1. In between lies a walk whose steps know nothing of each other. For two independent
# fine steps $\Delta$ and $\Delta'$ of mean 0, squares add:
#
# <!-- eq:7.14 -->
# $$\mathbb E\,|\Delta + \Delta'|^2 = \mathbb E\,|\Delta|^2 + \mathbb E\,|\Delta'|^2 \tag{7.14}$$
#
# For equal steps that makes $1/\sqrt 2 \approx 0.71$. Our steps are not equal, and two large ones are rarely neighbours. So the largest shrinks less. We compute this yardstick from the walk at hand: shuffle its fine steps and set each pair at right angles.


# %%
def largest(steps):
    return steps.max(1).values


def halving(f, K):
    """The largest of 2K steps over the largest of K, (N,), for features (N, places, F)."""
    fine = f[:, :: (f.shape[1] - 1) // (2 * K)]
    return largest(fine.diff(dim=1).norm(dim=2)) / largest(fine[:, ::2].diff(dim=1).norm(dim=2))


def unrelated(f, K, draws=100):
    """What `halving` would give if the 2K steps came in random order at right angles, (N,)."""
    fine = f[:, :: (f.shape[1] - 1) // (2 * K)].diff(dim=1).norm(dim=2)
    ratios = []
    for _ in range(draws):
        order = torch.rand(fine.shape, generator=g).argsort(1)
        pairs = fine.gather(1, order).unflatten(1, (-1, 2))
        ratios.append(largest(fine) / largest(pairs.norm(dim=2)))
    return torch.stack(ratios).mean(0)


step, next_step = torch.randn(2, run.p.draws, 16, generator=g, dtype=torch.float64)
check_mean("eq:7.14", ((step + next_step) ** 2).sum(1), 32, "squared length of a sum of two steps")
even_walk = torch.zeros(1, 2 * K + 1, 3).index_fill(2, torch.tensor(0), 1).cumsum(1)
check("yardstick", halving(even_walk, K), 0.5, 1e-6, "even steps on a straight line")
check("yardstick", unrelated(even_walk, K, 1), 0.5**0.5, 1e-6, "even steps, unrelated")
state, one_jump = g.get_state(), torch.zeros(1, 2 * K + 1, 3)
one_jump[:, K:, 0] = 1
check("yardstick", unrelated(one_jump, K, 1), 1, 1e-6, "a walk of one jump, unrelated")
g.set_state(state)

# %%
first, last, finest = z0[: run.p.halved], z1[: run.p.halved], run.p.finest
fine_images = paint(gan, path(first, last, finest))
fine_features = {
    "great circle": features_of(fine_images),
    "straight line": features_of(paint(gan, path(first, last, finest, lerp))),
    "cross-fade": features_of(path(fine_images[:, 0], fine_images[:, -1], finest, lerp)),
}
Ks = [k for k in (4, 8, 16, 32, 64, 128) if K <= k <= run.p.finest // 2]
ratios = {name: {k: halving(f, k) for k in Ks} for name, f in fine_features.items()}
yardstick = {k: unrelated(fine_features["great circle"], k) for k in Ks}

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(8, 3.5))
curves = {name: [mean_interval(v) for v in by_k.values()] for name, by_k in ratios.items()}
for (name, mark), shift in zip(
    (("great circle", "o-"), ("straight line", "D-"), ("cross-fade", "s-")),
    (0.97, 1, 1.03),
    strict=True,
):
    m, at = np.array(curves[name]), shift * np.array(Ks)
    ax.errorbar(at, m[:, 0], (m[:, 2] - m[:, 0]), fmt=mark, color=WAYS[name], capsize=3, label=name)
ax.plot(Ks, [float(v.mean()) for v in yardstick.values()], "^:k", ms=5, label="unrelated steps")
ax.axhline(0.5, color="0.5", lw=1)
ax.text(Ks[0], 0.505, "smooth, and resolved by its steps", va="bottom", fontsize=9)
ax.set(xscale="log", xlabel="steps K", ylabel="largest of 2K steps / largest of K")
ax.set_xticks(Ks, Ks)
ax.minorticks_off()
ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
ax.set_ylim(0.48, None)
save_figure(
    run,
    fig,
    "nb07_halving",
    f"GAN: how far the largest step shrinks when steps are halved, mean over {len(first)} pairs of "
    "latents; bars are 95 % intervals of that mean (Student's t). Dotted: the great circle's steps "
    "in random order and at right angles. Grey line: 0.5.",
    {
        "K": Ks,
        **curves,
        "unrelated": [float(v.mean()) for v in yardstick.values()],
    },
)
gaps = {
    name: mean_interval(ratios[name][K] - ratios["cross-fade"][K])
    for name in ("great circle", "straight line")
}
gap = gaps["great circle"]
print(
    f"K = {K}: unrelated {yardstick[K].mean():.2f}, cross-fade {curves['cross-fade'][0].value:.2f}"
)
for name, (value, low, high) in gaps.items():
    print(
        f"{name} {curves[name][0].value:.2f}, less cross-fade {value:.3f} "
        f"(95 % {low:.3f} to {high:.3f})"
    )

# %% [markdown]
# In eight steps the GAN's walk is less smooth than a cross-fade, and smoother than unrelated steps would be. That holds for the great circle and for the straight line, which the report walked. Both lie above the cross-fade at every $K$. But as steps get finer all three ratios fall towards 0.5, while that of unrelated steps would rise. So nothing here
# looks like a jump: eight steps are too few to follow the walk, and what seems to jump between two of nine images may be a bend.
#
# **Weak because alike?** That is a claim about many pairs. Take the length $L$ of a walk for its strength, and $d$ for how unlike its ends are. If the report is right, close ends (small $d$) have short walks (small $L$). Independent latents are all about equally far apart, as those of the report must have been. To see near and far ends,
# too, we turn $z_0$ by a chosen angle $\omega$ in a random direction $q$:
#
# <!-- eq:7.15 -->
# $$z_1 = \cos\omega\;z_0 + \sin\omega\;|z_0|\;q, \qquad q\perp z_0,\ |q| = 1 \tag{7.15}$$
#
# Then $z_1$ is as long as $z_0$, so as likely a latent, but not independent of it.


# %%
def turn(z0, omega):
    """z_1 at the angle omega (N,) from z0 (N, D), Eq. 7.15."""
    q = torch.randn(z0.shape, generator=g, dtype=z0.dtype)
    q = q - (q * z0).sum(1, keepdim=True) / (z0**2).sum(1, keepdim=True) * z0  # at right angles
    q = q / q.norm(dim=1, keepdim=True)
    return omega.cos()[:, None] * z0 + omega.sin()[:, None] * z0.norm(dim=1, keepdim=True) * q


start_at = torch.randn(run.p.angle_pairs, D, generator=g, dtype=torch.float64)
omega = torch.deg2rad(torch.linspace(10, 170, len(start_at), dtype=torch.float64))
turned_by = turn(start_at, omega)
check(
    "eq:7.15",
    torch.stack([angle(start_at, turned_by), turned_by.norm(dim=1)]),
    torch.stack([omega, start_at.norm(dim=1)]),
    1e-10,
    "the angle asked for, the length kept",
)
independent = smoothness(walk_features["great circle"])
chosen = smoothness(features_of(paint(gan, path(start_at, turned_by, K))))

# %% tags=["hide-input"]


def correlation(x, y):
    """Pearson's r with its 95 % interval (Fisher's z)."""
    r = stats.pearsonr(x, y)
    return [float(r.statistic), *map(float, r.confidence_interval(0.95))]


fig, axes = plt.subplots(1, 3, figsize=(11, 3.6))
answers = {"length L": correlation(chosen.chord, chosen.length)}
answers["unevenness (CV)"] = correlation(chosen.chord, chosen.unevenness)
alone = correlation(independent.chord, independent.length)
by_angle = correlation(omega, chosen.length)
far = "distance d of the end images"


def pairs_on(ax, x, y, x_alone, y_alone, xlabel, ylabel):
    """One mark a pair: chosen angles as dots, independent latents as crosses."""
    dots = ax.scatter(x, y, c=torch.rad2deg(omega), s=14, label="chosen angle")
    ax.scatter(x_alone, y_alone, s=16, marker="x", color="C1", label="independent latents")
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, None), ylim=(0, None))
    return dots


alone_at = torch.rad2deg(angle(z0, z1))
one, many = chosen, independent
pairs_on(axes[0], one.chord, one.length, many.chord, many.length, far, "length L of the walk")
pairs_on(
    axes[1],
    torch.rad2deg(omega),
    one.length,
    alone_at,
    many.length,
    "angle of the latents / degrees",
    "length L of the walk",
)
dots = pairs_on(
    axes[2], one.chord, one.unevenness, many.chord, many.unevenness, far, "unevenness of the walk"
)
axes[0].plot([0, 80], [0, 80], ":k", lw=1, label="L = d")
axes[0].legend(fontsize=9, loc="upper left")
fig.colorbar(dots, ax=axes, label="chosen angle ω / degrees")
save_figure(
    run,
    fig,
    "nb07_strength",
    f"GAN: walks of {K} steps in EfficientNet-Lite0 features, one mark a pair: {len(omega)} pairs "
    f"at chosen angles, {len(alone_at)} pairs of independent latents. Length against the distance "
    "of the ends (dotted: the shortest possible, L = d) and against the angle; unevenness against "
    "the distance.",
    {
        "pairs": run.p.angle_pairs,
        "halving_pairs": len(first),
        "steps": K,
        "correlation_95": answers,
        "correlation_95_independent": alone,
        "correlation_95_angle": by_angle,
        "halving_mean": curves["great circle"][0].value,
        "halving_95": curves["great circle"][0][1:],
        "halving_cross_fade": curves["cross-fade"][0].value,
        "halving_less_cross_fade_95": gap[1:],
        "halving_unrelated": float(yardstick[K].mean()),
        "halving_line": curves["straight line"][0].value,
        "halving_line_less_cross_fade_95": gaps["straight line"][1:],
        "unevenness_mean": float(chosen.unevenness.mean()),
    },
)
for name, (r, low, high) in {
    "independent pairs, d and L": alone,
    "chosen angles, d and L": answers["length L"],
    "chosen angles, ω and L": by_angle,
    "chosen angles, d and unevenness": answers["unevenness (CV)"],
}.items():
    print(f"{name}: r = {r:.2f} (95 % {low:.2f} to {high:.2f})")

# %% [markdown]
# Independent latents all stand at about 90 degrees. Among them, more distant ends do go with longer walks (crosses on the left; $r = 0.36$, 95 % 0.13 to 0.56, in this run; 0.45 and 0.34 with seeds 1 and 2). The share of the variance of $L$ that goes with $d$ is $r^2$: 0.13 here, 0.21 and 0.12 there. (The same run on another processor, which rounds otherwise and so trains another network, had $r = 0.66$.)
#
# Over pairs at chosen angles $r$ is higher, 0.79. But that is no stronger evidence for the report, because the angle moves both $d$ and $L$. The panel in the middle shows that $L$ follows $\omega$, and more closely ($r = 0.93$) than it follows $d$. From angles of 60 to 90 degrees to those above 135, $d$ grows by less than a fifth and $L$ by nearly a half. So a walk is long in the first place
# because the latent travels far. Between independent latents, likeness of the ends can be a part of why a transition looks weak, not the whole.
#
# How evenly a walk changes is another question. Between $d$ and the unevenness no relation is visible ($r = 0.03$, 95 % −0.21 to 0.28). A single pair answers neither.

# %% tags=["hide-input"]
claim(
    run.profile,
    "K = 8: great circle and line less smooth than a cross-fade, smoother than unrelated steps",
    all(x.low > 0 for x in gaps.values())
    and all(curves[name][0].high < float(yardstick[K].mean()) for name in gaps),
)
claim(
    run.profile,
    "great circle and line stay behind the cross-fade at every K",
    all(
        mean_interval(sum(ratios[name][k] - ratios["cross-fade"][k] for k in Ks)).low > 0
        and all(x.value > y.value for x, y in zip(curves[name], curves["cross-fade"], strict=True))
        for name in gaps
    ),
)
claim(
    run.profile,
    "with finer steps all three ratios fall towards 0.5, and that of unrelated steps rises",
    all(x[0].value > x[-1].value + 0.05 and x[-1].value < 0.65 for x in curves.values())
    and float(yardstick[Ks[-1]].mean()) > float(yardstick[K].mean()),
)
claim(
    run.profile,
    "independent pairs: L rises with d, with r between 0.2 and 0.8",
    0.18 < alone[0] < 0.82,
)
claim(
    run.profile,
    "chosen angles: L follows ω (r = 0.93) more closely than d (0.8)",
    by_angle[0] > answers["length L"][0] + 0.05
    and abs(by_angle[0] - 0.93) < 0.04
    and abs(answers["length L"][0] - 0.8) < 0.06,
)
some, wide = (omega > math.pi / 3) & (omega < math.pi / 2), omega > 3 * math.pi / 4
grows = {
    k: float(getattr(chosen, k)[wide].mean() / getattr(chosen, k)[some].mean())
    for k in ("chord", "length")
}
claim(
    run.profile,
    "from 60-90 degrees to 135-170: d grows by less than a fifth, L by nearly a half",
    grows["chord"] < 1.2 and 1.3 < grows["length"] < 1.6,
)
claim(
    run.profile,
    "between d and the unevenness no relation is visible",
    answers["unevenness (CV)"][1] < 0 < answers["unevenness (CV)"][2],
)

# %% [markdown]
# ## 9. Do the walks stay among bedrooms?
#
# A cross-fade is smooth, and in its middle stands no bedroom. So smoothness is not enough. We take many pairs, keep only the *midpoints* of the walks, and compare this set of images with real validation rooms, as [notebook 06](06_evaluation.ipynb) does for samples.
#
# The main measure is the *kernel distance*: by how much more alike, in features, images are within each of two sets than between the sets. It is unbiased (0 on average for two sets of
# real rooms, so now and then negative) and comes with an error. Beside it stand the Fréchet distance in excess of what other real rooms score at the same number of images, precision (the share of midpoints close to real rooms) and recall (the share of real rooms close to midpoints).

# %%
import warnings

from bedgen_utils.features import EfficientNetLite0
from bedgen_utils.metrics import (
    PREPARED,
    Protocol,
    SmallSampleWarning,
    frechet_from_features,
    kernel_distance,
    precision_recall,
)

warnings.simplefilter("ignore", SmallSampleWarning)  # Fréchet distances: the excess at equal N
real = load_bedrooms(run.p.source, "validation", size)
n = min(run.p.n_distance, (len(real) - run.p.rooms) // 2)  # a set of one's own may be small
reference, other, rooms = real[:n], real[n : 2 * n], real[2 * n :][: run.p.rooms]


def protocol(generated, reference):
    """Everything that a reader needs to measure the same again."""
    images = f"images {size}x{size} px, {EfficientNetLite0.resize}"
    weights = EfficientNetLite0.sha256
    return Protocol(generated, reference, "validation", PREPARED, images, DEFAULT, weights)


# %%
def against_rooms(sets, target):
    """A row for each set of features; the first set holds real rooms and is the floor."""
    rows = []
    for name, f in sets.items():
        kernel = kernel_distance(f, target)
        share = precision_recall(target[: len(f)], f)
        rows.append(
            {
                "images": name,
                "N": len(f),
                "kernel distance": kernel.value,
                "± kernel": kernel.error,
                "precision": share.precision,
                "recall": share.recall,
            }
        )
    return rows


a, b = torch.randn(2, n, D, generator=g)
a_images, b_images = paint(gan, a), paint(gan, b)
target = features(reference)
sets = {
    "other real rooms (floor)": other,
    "GAN, ends": to_uint8(a_images),
    "GAN, middle of great circles": to_uint8(paint(gan, slerp(a, b, 0.5))),
    "GAN, middle of straight lines": to_uint8(paint(gan, lerp(a, b, 0.5))),
    "middle of cross-fades": to_uint8((a_images + b_images) / 2),
}
sets = {name: features(images) for name, images in sets.items()}  # images as they are stored

# %%
gan_rows = against_rooms(sets, target)
distances = [frechet_from_features(f, target) for f in sets.values()]
for row, distance in zip(gan_rows, distances, strict=True):
    row["Fréchet distance over the floor"] = distance - distances[0]
save_table(
    run,
    gan_rows,
    "nb07_midpoints_gan",
    f"Midpoints of the GAN's walks against real validation rooms (floor: Fréchet distance "
    f"{distances[0]:.0f} at this N). {protocol(n, n)}.",
    protocol(n, n),
)

# %% [markdown]
# The middles of great circles score like the ends. They had to: by Eq. 7.9 they are all but ordinary draws, so this says nothing beyond what samples say. The straight line, which leaves the shell, was the open question. Its middles lie farther from real rooms, with less recall (by 0.05 to 0.11 in three runs). Their precision differs by no more than chance allows, about 0.05. Here such truncation gives up variety and
# gains nothing. The middles of cross-fades are the farthest, though precision hardly notices: a blurred double exposure still falls near some real room.

# %% tags=["hide-input"]
ends_, circle, line, fade = gan_rows[1:]


def farther(x, y, errors=2):
    error = math.hypot(x["± kernel"], y["± kernel"])
    return x["kernel distance"] - y["kernel distance"] > errors * error


claim(
    run.profile,
    "great circles like the ends; lines farther; cross-fades farthest",
    not farther(circle, ends_)
    and not farther(ends_, circle)
    and farther(line, ends_)
    and farther(fade, line),
)
claim(
    run.profile,
    "lines: less recall; precision of lines and cross-fades within 0.07 of that of the ends",
    line["recall"] < ends_["recall"]
    and all(abs(x["precision"] - ends_["precision"]) < 0.07 for x in (line, fade)),
)

# %% [markdown]
# ## 10. The diffusion model: from a room to its noise
#
# The GAN has no direct way back from an image to its latent. A diffusion model has one, if it is sampled by *DDIM* ([Song et al., 2021](https://arxiv.org/abs/2010.02502); notebook 02, section 9). Its step leads from time $t$ down to an earlier time $t'$ and adds no fresh noise. The network looks at $x_t$ and estimates the noise $\hat\epsilon$ in it, and
# with it the image $\hat x_0$ below. The step then mixes the same two anew, as Eq. 1.6 does, for the time $t'$:
#
# <!-- eq:7.16 -->
# $$x_{t'} = \sqrt{\bar\alpha_{t'}}\;\hat x_0 + \sqrt{1-\bar\alpha_{t'}}\;\hat\epsilon, \qquad
# \hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\hat\epsilon}{\sqrt{\bar\alpha_t}} \tag{7.16}$$


# %%
def mix(x0, eps, abar):
    """Eq. 1.6: image and noise at a time with this abar."""
    return abar**0.5 * x0 + (1 - abar) ** 0.5 * eps


def seen(d, model, x, t):
    """What the network sees in images x at time t: (x0_hat, eps_hat)."""
    at = torch.full((len(x),), t, device=x.device)
    x0_hat = d.predict_xstart(model(x, at), x, at)
    return x0_hat, d.predict_eps_from_xstart(x, at, x0_hat)


def decode(d, model, x, steps):
    """From noise x_T to images x_0, Eq. 7.16 at evenly spaced times."""
    for t_high, t_low in pairwise(d.timesteps(steps)):
        x = mix(*seen(d, model, x, t_high), float(d.abar[t_low]))
    return x


# %% [markdown]
# Why can one walk this way upwards, too? Divide the step by $\sqrt{\bar\alpha_{t'}}$. Write $y_t = x_t/\sqrt{\bar\alpha_t}$ for the noisy image without its shrinking, and $\varsigma_t = \sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$ for its ratio of noise to signal. Then
#
# <!-- eq:7.17 -->
# $$y_{t'} = y_t + (\varsigma_{t'} - \varsigma_t)\,\hat\epsilon \tag{7.17}$$
#
# This is a step of Euler's method for the differential equation $dy/d\varsigma = \hat\epsilon(y, \varsigma)$. Such an equation runs in both directions. From $\varsigma = 0$ upwards it turns an image into noise, and down again into the same image, up to the error of finite steps.

# %%
xt, eps, low, high = sp.symbols("x_t epsilon abar_low abar_high", positive=True)
x0_hat = (xt - sp.sqrt(1 - low) * eps) / sp.sqrt(low)
step = sp.sqrt(high) * x0_hat + sp.sqrt(1 - high) * eps
euler = xt / sp.sqrt(low) + (sp.sqrt((1 - high) / high) - sp.sqrt((1 - low) / low)) * eps
check_zero("eq:7.17", sp.expand(step / sp.sqrt(high) - euler), "DDIM's step, and Euler's")

# %% [markdown] tags=["exercise"]
# **Exercise 07-5** · medium · 10 minutes
#
# One step upwards. Given `x` at a time with $\bar\alpha$ = `abar`, and the noise `eps` that is in it, write the image at a later time, at which $\bar\alpha$ is `abar_next`, a smaller number.


# %% tags=["exercise"]
def step_up(x, eps, abar, abar_next): ...  # no fresh noise


exercises.check("07-5", step_up)


# %% tags=["solution"]
def step_up(x, eps, abar, abar_next):
    x0 = (x - math.sqrt(1 - abar) * eps) / math.sqrt(abar)
    return math.sqrt(abar_next) * x0 + math.sqrt(1 - abar_next) * eps


exercises.check("07-5", step_up)

# %% [markdown]
# Upwards there is a catch. To undo the step from $t$ to $t'$ exactly, one needs what the network sees in $x_t$, the place one wants to reach. So the step is an equation for $x_t$, not a formula. We solve it by iteration ([Meiri et al., 2023](https://arxiv.org/abs/2312.12540)): guess $x_t = x_{t'}$, ask the network, move, ask again.
#
# One more choice. The network's answer gives both $\hat x_0$ and $\hat\epsilon$, and $x_{t'}$ must be a mix of the two. We keep one and compute the other from $x_{t'}$. With little noise in the image we keep $\hat\epsilon$; with little image in the noise we keep $\hat x_0$. The iteration converges fast where the kept one has a small
# weight and changes little with $x_t$.


# %%
def step_up_from(d, model, x, t_low, t_high, rounds=2):
    """From x at t_low, the text's t', up to t_high, its t: the DDIM step solved by iteration."""
    abar_low, abar_high = float(d.abar[t_low]), float(d.abar[t_high])
    guess = x
    for _ in range(rounds):
        x0_hat, eps_hat = seen(d, model, guess, t_high)
        if abar_low > 0.5:  # little noise: keep eps_hat
            x0_hat = (x - (1 - abar_low) ** 0.5 * eps_hat) / abar_low**0.5
        else:  # little image: keep x0_hat
            eps_hat = (x - abar_low**0.5 * x0_hat) / (1 - abar_low) ** 0.5
        guess = mix(x0_hat, eps_hat, abar_high)
    return guess


def encode(d, model, x, steps, rounds=2):
    """From images x_0 to their noise x_T: `decode` undone."""
    for t_low, t_high in pairwise(reversed(d.timesteps(steps))):
        x = step_up_from(d, model, x, t_low, t_high, rounds)
    return x


# %% [markdown]
# Before we trust the code with rooms, we try it on data for which everything is known. For normal data, $x_0\sim\mathcal N(\mu, \tau^2\,\mathbf I)$, the best denoiser is a formula ([notebook 02](02_posterior_and_bound.ipynb), section 5), and the differential equation can be solved. The standardised value never changes:
#
# <!-- eq:7.18 -->
# $$\frac{x_t - \sqrt{\bar\alpha_t}\,\mu}{\sqrt{\bar\alpha_t \tau^2 + 1 - \bar\alpha_t}} = \frac{x_0 - \mu}{\tau} \qquad\text{for all } t \tag{7.18}$$
#
# Euler's method misses the solution by an error that shrinks like the step. It hides mistakes of the same size: a network that is asked at a time off by one, say. Twice the result with small steps less the result with steps twice as large (*Richardson's extrapolation*) is free of this part of the error, and can be compared sharply.

# %%
from bedgen_utils.diffusion import GaussianDiffusion, ddim_step

exact = GaussianDiffusion(ddpm.diffusion.betas, prediction="x0")
mu, tau = 0.4, 0.3


def best_denoiser(x, t):
    """The mean of x_0 given x_t, for normal data."""
    abar = exact.abar[t][:, None]
    return mu + abar.sqrt() * tau**2 / (abar * tau**2 + 1 - abar) * (x - abar.sqrt() * mu)


def sharp(walk, x, steps=exact.T // 2):
    """Where `walk`, decode or encode, leads, without the error that is of the order of a step."""
    return 2 * walk(exact, best_denoiser, x, steps) - walk(exact, best_denoiser, x, steps // 2)


x0 = mu + tau * torch.randn(200, 8, generator=g, dtype=torch.float64)
abar_T = float(exact.abar[-1])
x_T = abar_T**0.5 * mu + (abar_T * tau**2 + 1 - abar_T) ** 0.5 * (x0 - mu) / tau
check("eq:7.16", sharp(decode, x_T), x0, 2e-3, "downwards, to the solution")
check("eq:7.18", sharp(encode, x0), x_T, 3e-3, "upwards, to the solution")
loop = decode(exact, best_denoiser, encode(exact, best_denoiser, x0, 20, 10), 20)
check("loop", loop, x0, 1e-6, "up and down in 20 steps, ten rounds a step")

# %% [markdown]
# Now real rooms from the validation split, which the model has never seen. The network is asked alone, without the early network that guides it in notebook 03. The package's versions are `ddim_encode`, and `sample` with `ddim_step`.

# %%
from bedgen_utils.interpolate import ddim_encode

d, denoiser = ddpm.diffusion, ddpm.network
device = next(denoiser.parameters()).device
some = to_float(rooms[:2]).to(device)
up = encode(d, denoiser, some, 4)
# refine=1: one round more, so two
check("encode", up, ddim_encode(d, denoiser, some, 4, refine=1), 1e-4, "ours and the package's")
theirs = d.sample(denoiser, up, ddim_step, d.timesteps(4), clip=False)
check("decode", decode(d, denoiser, up, 4), theirs, 1e-4, "ours and the package's")

# %% [markdown]
# How much is lost on the way there and back? We give the root mean square error in levels of 0 to 255.

# %%
subjects = rooms[: run.p.recon_rooms]
rows, returned = [], {}
for rounds in (1, 2):
    for steps in run.p.recon_steps:
        noise = encode(d, denoiser, to_float(subjects).to(device), steps, rounds)
        returned[steps] = to_uint8(decode(d, denoiser, noise, steps)).cpu()
        error = (returned[steps].double() - subjects.double()).square().flatten(1).mean(1).sqrt()
        rows.append(
            {
                "steps": steps,
                "rounds": rounds,
                "evaluations": steps * (1 + rounds),
                "error / levels": float(error.mean()),
                "± error": float(error.std() / len(error) ** 0.5),
            }
        )
save_table(
    run,
    rows,
    "nb07_ddim_reconstructions",
    f"Image to noise and back by DDIM: root mean square error over {len(subjects)} validation "
    "rooms (± one standard error).",
)

# %% tags=["hide-input"]
mean_room = reference.double().mean(0)
blind = float((subjects.double() - mean_room).square().flatten(1).mean(1).sqrt().mean())
fig, axes = plt.subplots(1, 2, figsize=(10, 4.3), width_ratios=[1, 1.45])
for rounds, mark in ((1, "o-"), (2, "s-")):
    part = [r for r in rows if r["rounds"] == rounds]
    axes[0].errorbar(
        [r["steps"] for r in part],
        [r["error / levels"] for r in part],
        [2 * r["± error"] for r in part],
        fmt=mark,
        capsize=3,
        label=f"{rounds} round{'s' if rounds > 1 else ''} a step",
    )
axes[0].axhline(blind, ls=":", color="k", label="mean room instead")
axes[0].set(xscale="log", yscale="log", xlabel="DDIM steps, each way", ylabel="error / levels")
axes[0].set_xticks(run.p.recon_steps, run.p.recon_steps)
axes[0].set_yticks([1, 3, 10, 30], ["1", "3", "10", "30"])
axes[0].tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
axes[0].legend(fontsize=9)
shown = [subjects[:8], *(images[:8] for images in returned.values())]
show_images(axes[1], torch.cat(shown), len(shown[0]))
names = ["validation\nrooms", *(f"{k} steps,\n2 rounds" for k in returned)]
for i, name in enumerate(names):
    at = 1 - (i + 0.5) / len(names)
    axes[1].text(-0.02, at, name, transform=axes[1].transAxes, ha="right", va="center", fontsize=9)
save_figure(
    run,
    fig,
    "nb07_ddim_reconstruction",
    f"Left: error of image to noise to image against the number of DDIM steps, mean over "
    f"{len(subjects)} validation rooms; bars are two standard errors, the dotted line is the error "
    "of the mean room. Right: the rooms, and what returns from their noise.",
    {"rows": rows, "mean_room": blind},
)

# %% [markdown]
# At 5 steps the second round does harm. From 10 on it helps: at 20 steps it cuts the error to about a third, and is then better than 40 steps with one round, which ask the network more often. Is what comes out at the top really noise? White noise has the length $\sqrt D$, and neighbouring pixels in it are uncorrelated.

# %%
S = run.p.ddim_steps
latents = encode(d, denoiser, to_float(rooms).to(device), S).cpu()
white = torch.randn(latents.shape, generator=g)
noise_rows = []
for name, x in (("encoded rooms", latents), ("white noise", white)):
    x = x.double()
    square = (x**2).flatten(1).mean(1)
    neighbours = (x[..., 1:] * x[..., :-1]).flatten(1).mean(1) / square
    row = {"noise": name, "N": len(x)}
    for label, v in (("length / √D", square.sqrt()), ("correlation of neighbours", neighbours)):
        row |= {label: float(v.mean()), f"± {label}": float(v.std() / len(v) ** 0.5)}
    noise_rows.append(row)
save_table(
    run,
    noise_rows,
    "nb07_noise",
    f"Noise of validation rooms, {S} DDIM steps, and white noise (± one standard error).",
)

# %% [markdown]
# Not quite. The noise of real rooms is a sixth to a fifth too short (three runs), and neighbouring pixels in it are clearly correlated. Some of the room is left in it, and `decode` needs that to find the way back. Finitely many steps and rounds may be the reason, or an imperfect network; this table cannot tell which.

# %% tags=["hide-input"]
error = {(r["steps"], r["rounds"]): r["error / levels"] for r in rows}
claim(
    run.profile,
    "the second round: harm at 5 steps; at 20 the error falls to a third, below that of 40 by 1",
    {(5, 1), (10, 1), (20, 1), (40, 1)} <= set(error)
    and error[5, 2] > error[5, 1]
    and error[10, 2] < error[10, 1]
    and 0.2 < error[20, 2] / error[20, 1] < 0.45
    and error[20, 2] < 0.8 * error[40, 1],
)
claim(
    run.profile,
    "encoded rooms: a sixth to a fifth too short, neighbours correlated",
    0.76 < noise_rows[0]["length / √D"] < 0.88
    and noise_rows[0]["correlation of neighbours"]
    > 5 * noise_rows[0]["± correlation of neighbours"],
)

# %% [markdown]
# ## 11. Between two real rooms
#
# The ends of the next walks are real validation rooms, by way of their noise. What should the straight line give? For normal data Eq. 7.18 makes the map $\Phi$ from $x_T$ to $x_0$ affine. Then the straight line through noise is the cross-fade of images:
#
# <!-- eq:7.19 -->
# $$\Phi\big((1-s)\,x_T + s\,x_T'\big) = (1-s)\,\Phi(x_T) + s\,\Phi(x_T') \tag{7.19}$$
#
# Halfway that leaves $1/\sqrt2$ of an image's departure from the mean image: washed out, and two rooms at once. The great circle keeps the departure at full size. Rooms are not normal, and a network's map is not affine. The film strips show what becomes of it.

# %%
partner = x_T.roll(1, 0)
check(
    "eq:7.19",
    decode(exact, best_denoiser, lerp(x_T, partner, 0.5), 20),
    lerp(decode(exact, best_denoiser, x_T, 20), decode(exact, best_denoiser, partner, 20), 0.5),
    1e-12,
    "normal data: middle of the line in noise, and of the cross-fade",
)


def images_of(x_T):
    """Float images of noise (..., 3, size, size), by DDIM."""
    x = decode(d, denoiser, x_T.reshape(-1, 3, size, size).to(device), S)
    return x.cpu().reshape(x_T.shape).clamp(-1, 1)


here, there = latents, latents.roll(-1, 0)  # room i and room i + 1
m = run.p.ddpm_pairs
room_walks = {
    "great circle": images_of(path(here[:m], there[:m], K)),
    "straight line": images_of(path(here[:m], there[:m], K, lerp)),
}
ends = room_walks["great circle"][:, 0], room_walks["great circle"][:, -1]
room_walks["cross-fade"] = path(*ends, K, lerp)

# %% tags=["hide-input"]
fig = strips(room_walks)
middles = {name: 127.5 * x[:, K // 2] for name, x in room_walks.items()}
off = {
    name: float((middles[name] - middles["cross-fade"]).square().mean().sqrt())
    for name in ("great circle", "straight line")
}
save_figure(
    run,
    fig,
    "nb07_ddim_strips",
    f"Diffusion model: walks between the noise of real validation rooms ({S} DDIM steps), and the "
    "cross-fade.",
    {"rms levels from the cross-fade, halfway": off},
)
along_ddpm = along(
    room_walks,
    run,
    "nb07_ddim_along",
    f"Diffusion model: contrast and detail along the walks, mean over {m} pairs of rooms; bands "
    "are two standard errors. Neighbouring pairs share a room, so the bands are too narrow, by at "
    "most √2.",
)

# %%
smooth_rows += [smoothness_row(f"DDPM, {name}", features_of(x)) for name, x in room_walks.items()]
save_table(
    run,
    smooth_rows,
    "nb07_smoothness",
    f"Walks of {K} steps in EfficientNet-Lite0 features (± one standard error over pairs; those of "
    "the DDPM, whose neighbouring pairs share a room, are too small, by a factor of at most √2).",
)

# %% [markdown]
# The straight line loses far more than the cross-fade: nearly half of the contrast, and two thirds of the detail. So the network's map is far from affine. From a short latent it paints a grey room with little but a bed in it. On the great circle these few pairs show no loss beyond their errors. In features these walks wind much as the GAN's do (table).
#
# Now the square of section 6 between real rooms: in its corners stand the first four that were encoded above. Inside it the rooms are plainly paler. So the right length alone does not keep the contrast.

# %% tags=["hide-input"]
n_square = run.p.ddim_grid
top = path(latents[0:1], latents[1:2], n_square - 1)[0]
bottom = path(latents[2:3], latents[3:4], n_square - 1)[0]
square = path(top, bottom, n_square - 1).transpose(0, 1)
fig, ax = plt.subplots(figsize=(5.2, 5.4))
painted = images_of(square)
show_images(ax, to_uint8(painted).flatten(0, 1), n_square)
save_figure(
    run,
    fig,
    "nb07_ddim_square",
    "Diffusion model: great circles between the noise of four real validation rooms (corners), "
    f"{S} DDIM steps.",
)
grey = (127.5 * (painted + 1) * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(-3)
contrast, edge = grey.flatten(-2).std(-1), n_square - 1
claim(
    run.profile,
    "inside the square: less than three quarters of the corners' contrast",
    float(contrast[1:-1, 1:-1].mean()) < 0.75 * float(contrast[::edge, ::edge].mean()),
)

# %% [markdown]
# Do these walks stay among bedrooms? Here a good midpoint is not a matter of course: nothing obliges the noise of real rooms to fill the sphere evenly. The ends are real rooms that the model did not choose. The last row is a control: rooms from white noise, in the same steps.

# %%
sets = {
    "real rooms encoded here (floor)": rooms,
    "DDPM, ends": to_uint8(images_of(here)),
    "DDPM, middle of great circles": to_uint8(images_of(slerp(here, there, 0.5))),
    "DDPM, middle of straight lines": to_uint8(images_of(lerp(here, there, 0.5))),
    "middle of cross-fades": to_uint8((to_float(rooms) + to_float(rooms.roll(-1, 0))) / 2),
    "DDPM, from white noise": to_uint8(images_of(white)),
}
ddpm_rows = against_rooms({name: features(x) for name, x in sets.items()}, target)
kinds = {
    "precision and recall": protocol(len(rooms), len(rooms)),
    "kernel distance": protocol(len(rooms), n),
}
save_table(
    run,
    ddpm_rows,
    "nb07_midpoints_ddpm",
    "Midpoints between encoded real rooms against other validation rooms. Kernel distance: "
    f"{kinds['kernel distance']}. Precision and recall against {len(rooms)} of them.",
    kinds,
)

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(8, 3.3))
short = [
    "other real rooms",
    "ends",
    "middle of\ngreat circles",
    "middle of\nlines",
    "middle of\nfades",
]
for shift, label, mark, part in (
    (-0.1, f"GAN, N = {n}", "o", gan_rows),
    (0.1, f"diffusion model, N = {len(rooms)}", "s", ddpm_rows[:5]),
):
    ax.errorbar(
        np.arange(5) + shift,
        [r["kernel distance"] for r in part],
        [2 * r["± kernel"] for r in part],
        fmt=mark,
        capsize=3,
        label=label,
    )
ax.axhline(0, color="0.5", lw=1)
ax.set_xticks(range(5), short)
ax.set(ylabel="kernel distance to real rooms")
ax.legend(fontsize=9, loc="upper left")
save_figure(
    run,
    fig,
    "nb07_midpoints",
    f"Ends and midpoints of walks against {n} real validation rooms; bars are two standard errors. "
    "The floor is what other real rooms score; 0 is its expectation. Bars of the diffusion model's "
    "midpoints are too short, by a factor of at most √2: neighbours share a room.",
    {"gan": gan_rows, "ddpm": ddpm_rows},
    {"gan": protocol(n, n), "ddpm": protocol(len(rooms), n)},
)

# %% [markdown]
# The ends score like real rooms, since they are real rooms, decoded. The middles of great circles lie farther away (2.4 to 2.9 in three runs): no farther than the GAN's samples (about 4), and nearer than cross-fades (7.4). The middles of straight lines are the farthest by a wide margin, and few real rooms have one of them near (recall 0.02 to 0.13). For the GAN the line beats the cross-fade; here it loses to it. (Neighbouring
# midpoints share a room, so these errors are too small, by a factor of at most $\sqrt 2$. The order stands even so.)
#
# Is the middle of a great circle a bad room, then? The control says no. What this model paints from white noise, in as many steps of DDIM and without guidance, lies at about 7: no nearer, if anything farther.

# %% tags=["hide-input"]
_, ends_, circle, line, fade, own = ddpm_rows
claim(
    run.profile,
    "the line loses nearly half of the contrast and two thirds of the detail, more than the fade",
    all(
        along_ddpm[f"straight line: {v}"][0] < along_ddpm[f"cross-fade: {v}"][0] - 0.1
        for v in ("contrast", "detail")
    )
    and 0.4 < along_ddpm["straight line: contrast"][0] < 0.65
    and 0.2 < along_ddpm["straight line: detail"][0] < 0.45,
)
claim(
    run.profile,
    "the great circle keeps contrast and detail within two standard errors",
    all(
        abs(along_ddpm[f"great circle: {v}"][0] - 1) < 2 * along_ddpm[f"great circle: {v}"][1]
        for v in ("contrast", "detail")
    ),
)
claim(
    run.profile,
    "ends as real rooms; great circles farther; fades farther; lines farthest, recall under 0.2",
    abs(ends_["kernel distance"]) < 2 * ends_["± kernel"]
    and farther(circle, ends_, 2 * 2**0.5)
    and farther(fade, circle, 2 * 2**0.5)
    and farther(line, fade, 2 * 2**0.5)
    and line["recall"] < 0.2,
)
claim(
    run.profile,
    "the DDPM's walks wind much as the GAN's",
    all(
        abs(x["detour"] / y["detour"] - 1) < 0.2
        for x, y in zip(smooth_rows[3:], smooth_rows[:3], strict=True)
    ),
)
claim(
    run.profile,
    "middles of the diffusion model's great circles: no farther than the GAN's samples",
    not farther(circle, gan_rows[1]),
)
claim(
    run.profile,
    "the model's own rooms, from white noise in as many steps, lie no nearer: about 7",
    not farther(circle, own) and abs(own["kernel distance"] - 6.8) < 2,
)

# %% [markdown]
# ## Summary
#
# * Normal latents lie on a shell of radius $\sqrt D$ and thickness $1/\sqrt2$ (Eq. 7.1). Straight lines leave it, to $\sqrt{D/2}$ halfway (Eq. 7.3). Great circles stay, and their middles are all but ordinary draws (Eq. 7.9).
# * Halfway along straight lines the GAN has lost three tenths of the contrast and a third of the detail. These images lie farther from real rooms than its samples do: kernel distance 7.0 to 8.5 against 3.8 to 4.4 (three runs).
# * Perceptual path length has a value, a few times $10^5$ for our GAN, if images stay floats. Rounded to 256 levels, it grows without limit as the step shrinks.
# * In eight steps the GAN's walk is less smooth than a cross-fade. When steps are halved, the largest shrinks to 0.71 of its size, that of the cross-fade to 0.65; unrelated steps would give 0.82, a smooth walk 0.5. With finer steps both fall towards 0.5: eight are too few to follow the walk.
# * That the report's transition looked weak because its rooms were alike is possible, in part. Among independent pairs, more distant ends go with longer walks ($r$ of 0.36, 0.45 and 0.34 in three runs). But when the angle of the latents varies, the length of the walk follows the angle more closely than the distance of the ends.
# * DDIM runs in both directions. In 20 steps each way, with two rounds a step, a room returns with an error of about 4 levels of 255. Between real rooms the great circle is the way to walk; the straight line paints grey rooms.

# %% tags=["hide-input"]
claim(
    run.profile,
    "kernel distance of the GAN: 7.0 to 8.5 at the middle of lines, 3.8 to 4.4 at the ends",
    abs(gan_rows[3]["kernel distance"] - 7.75) < 1
    and abs(gan_rows[1]["kernel distance"] - 4.1) < 0.6,
)
claim(
    run.profile,
    "halving at 8 steps: 0.71, cross-fade 0.65, unrelated 0.82",
    abs(curves["great circle"][0].value - 0.71) < 0.04
    and abs(curves["cross-fade"][0].value - 0.65) < 0.04
    and abs(float(yardstick[K].mean()) - 0.82) < 0.04,
)
claim(
    run.profile,
    "there and back in 20 steps: about 4 levels",
    3 < error.get((20, 2), 0) < 5,
)

# %% [markdown]
# <details><summary><b>Four more questions, with answers</b></summary>
#
# *Suppose latents were drawn uniformly from a ball instead. What of sections 2 to 4 survives?* Nearly all. In many dimensions almost the whole volume of a ball lies close to its surface, so there is a shell again. Directions are uniform, so independent latents are nearly at right angles, and the middle of a line lies at about 0.71 of the
# radius. The ball does contain that place, but the part of the ball so far inside has a share of $2^{-D/2}$ of the volume: for $D = 64$, less than one latent in a billion. The generator has not seen it.
#
# *A generator paints the same image for every latent. Its perceptual path length is 0, the best there is. Which measures of this notebook notice?* The distance of the ends is 0. Detour and unevenness are 0/0. Recall is close to 0, and the kernel distance is large.
#
# *Which iteration for the step upwards settles quickly, and where?* Keep $\hat\epsilon$, and the new guess contains it with the weight $\sqrt{\bar\alpha_t}\,(\varsigma_t - \varsigma_{t'})$. That is small where there is little noise. Keep $\hat x_0$, and its weight is $\sqrt{1-\bar\alpha_t}\,(1/\varsigma_{t'} - 1/\varsigma_t)$ in size. That is small
# where there is little image. A round multiplies an error in the guess by this weight times the slope of what is kept: by how much it changes with $x_t$. The iteration settles where the product is well below 1. A small weight alone is not enough.
#
# *Would smaller steps make a film that shows a jump look smooth?* No. A jump keeps its size however small the steps are, and the ratio of section 8 stays at 1.
#
# </details>
#
# ## Appendix: what changes on the way?
#
# The rendered rooms have known factors: from where one looks, what lies on the floor, how the wall is painted. [Notebook 05](05_mode_collapse.ipynb) has a network that reads such factors from an image, and says how often it is right. Here it reads every image of walks between the latents of section 9.
#
# Take one factor, and a walk whose two ends read differently. If the reading changes once on the way, from the one class to the other, the walk is *direct* in this factor. More changes mean that it wavers or passes through a third class. (The three views lie in a row, so a turn through the middle one counts as direct.) The
# cross-fade of the same ends is the control.

# %%
from bedgen_utils.factors import FACTORS, labels, load_classifier
from bedgen_utils.report import Interval, share_interval

reader = load_classifier()


def read(images):
    """What the network reads in float images (N, K + 1, ...): classes (N, K + 1, factors)."""
    answers = reader.read(to_uint8(images).flatten(0, 1))
    return answers.reshape(*images.shape[:2], -1)


def direct(readings):
    """Of walks: (their ends differ, the change between them is direct), each (N, factors)."""
    steps = readings.diff(dim=1)
    across = readings[:, -1] - readings[:, 0]
    once = (steps != 0).sum(1) == 1
    view = list(FACTORS).index("view")  # for it, never turning back is enough
    once[:, view] = steps[..., view].abs().sum(1) == across[:, view].abs()
    return across != 0, once


circles = paint(gan, path(a[:1000], b[:1000], K))
readings = {
    "great circle": read(circles),
    "cross-fade": read(path(circles[:, 0], circles[:, -1], K, lerp)),
}
found = {name: direct(r) for name, r in readings.items()}

# %% tags=["hide-input"]
factor_rows = []
for k, factor in enumerate(FACTORS):
    differ = found["great circle"][0][:, k]
    count = int(differ.sum())
    row = {"factor": factor.replace("_", " "), "walks with other ends": count}
    for name, (_, once) in found.items():
        short = name.split("-")[-1].split()[-1]  # circle, fade
        known = Interval(math.nan, 0, 1)  # without a walk, nothing
        share = share_interval(int(once[differ, k].sum()), count) if count else known
        row |= {
            f"direct, {name}": share.value,
            f"{short} from": share.low,
            f"{short} to": share.high,
        }
    factor_rows.append(row)
fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
for ax, (name, r) in zip(axes, readings.items(), strict=True):
    for i, factor in enumerate(("view", "lamps_on", "floor", "wall_colour")):
        k = list(FACTORS).index(factor)
        differ = r[r[:, 0, k] != r[:, -1, k]][..., k]
        if not len(differ):
            continue
        alike = (differ == differ[:, -1:]).sum(0)
        share = np.array([share_interval(int(x), len(differ)) for x in alike])
        ax.errorbar(
            np.linspace(0, 1, K + 1) + 0.008 * (i - 1.5),
            share[:, 0],
            [share[:, 0] - share[:, 1], share[:, 2] - share[:, 0]],
            fmt="os^D"[i] + "-",
            ms=4,
            lw=1,
            label=f"{factor.replace('_', ' ')} ({len(differ)} walks)",
        )
    ax.set(xlabel="fraction s of the way", title=f"GAN, {name}", ylim=(-0.03, 1.03))
axes[0].set_ylabel("share that reads as the end does")
axes[1].legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
save_figure(
    run,
    fig,
    "nb07_factors",
    f"GAN: share of walks whose image reads, in one factor, as the image at the end does; "
    f"{len(circles)} pairs of latents, of which those count whose ends differ in the factor. Bars: "
    "95 % intervals of Clopper and Pearson.",
    {"rows": factor_rows},
)
save_table(
    run,
    factor_rows,
    "nb07_factor_changes",
    f"GAN: how often a factor that differs at the ends changes directly, in walks of {K} steps; "
    "95 % intervals of Clopper and Pearson.",
)

# %% [markdown]
# A straight curve in the figure means that a factor is as likely to change anywhere; an S, mostly near the middle. A curve that sags, as the wall colour's, means third readings on the way.
#
# Is the great circle as direct as the cross-fade? Both walk between the same ends. So we count for each pair the factors that change on a detour, and take the difference. The intervals of the table ignore this pairing; whether they overlap would be a weak test.

# %%
few = [k for k, name in enumerate(FACTORS) if len(FACTORS[name]) <= 3]
colours = [k for k, name in enumerate(FACTORS) if len(FACTORS[name]) > 3]


def detours(name, factors):
    """Of each pair: how many of these factors change on a detour."""
    differ, once = found[name]
    return (differ & ~once)[:, factors].sum(1).double()


extra = {
    kind: mean_interval(detours("great circle", part) - detours("cross-fade", part))
    for kind, part in (("few classes", few), ("colours", colours))
}
for kind, (value, low, high) in extra.items():
    print(f"{kind}: {value:.3f} more detours on a great circle (95 % {low:.3f} to {high:.3f})")

# %% [markdown]
# Factors with two or three classes change directly in more than three walks out of four. The cross-fade is the more direct, as far as the network can be trusted on images of either kind: it has learned from neither. Colours have many classes, and their readings change directly in fewer than half of the walks, again less often on the great circle. But the network
# misreads a third of the colours, and a misreading counts as a detour. So how many walks really pass through third colours, we cannot say.

# %% tags=["hide-input"]
misread = (reader.read(reference) != labels("validation")[: len(reference)]).double().mean(0)
claim(
    run.profile,
    "direct on the great circle: over 75 % with few classes, under 50 % for colours",
    all(factor_rows[k]["direct, great circle"] > 0.75 for k in few)
    and all(factor_rows[k]["direct, great circle"] < 0.5 for k in colours),
)
claim(
    run.profile,
    "pair by pair the cross-fade is the more direct: few classes, and colours as they are read",
    all(difference.low > 0 for difference in extra.values()),
)
claim(
    run.profile,
    "the network misreads about a third of the colours",
    all(abs(float(misread[k]) - 1 / 3) < 0.1 for k in colours),
)

# %% [markdown]
# ## References
#
# * Shoemake (1985), *Animating rotation with quaternion curves*, SIGGRAPH, [doi:10.1145/325165.325242](https://doi.org/10.1145/325165.325242): slerp.
# * White (2016), *Sampling Generative Networks*, [arXiv:1609.04468](https://arxiv.org/abs/1609.04468): great circles instead of lines between latents.
# * Karras, Laine & Aila (2019), *A Style-Based Generator Architecture for Generative Adversarial Networks*, [arXiv:1812.04948](https://arxiv.org/abs/1812.04948): perceptual path length.
# * Brock, Donahue & Simonyan (2019), *Large Scale GAN Training for High Fidelity Natural Image Synthesis*, [arXiv:1809.11096](https://arxiv.org/abs/1809.11096): truncation.
# * Meiri et al. (2023), *Fixed-point Inversion for Text-to-Image Diffusion Models*, [arXiv:2312.12540](https://arxiv.org/abs/2312.12540): the step upwards solved by iteration.
# * Song, Meng & Ermon (2021), *Denoising Diffusion Implicit Models*, [arXiv:2010.02502](https://arxiv.org/abs/2010.02502): DDIM, its differential equation, encoding, and interpolation by slerp.
#
# Before: [06 · Evaluation](06_evaluation.ipynb). Next: [08 · Our report](08_report.ipynb), where the balance is drawn.
