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
# # 06 · Evaluation
#
# The report ends on one number: FID 74. It does not say from how many samples, against which images, resized how, in
# which network's features; so
# nobody can measure it again. This notebook is about such numbers. After it you can
#
# * derive the Fréchet distance between Gaussians from optimal transport, and compute it without a complex number in
#   sight;
# * say what it reacts to and what it cannot see, and which of precision, recall and the kernel distance sees that;
# * tell how far such a number is off because the samples are few, and how far it would scatter if you drew them again;
# * spoil a comparison with nothing but a resize or a JPEG, and so recognise one that was spoiled;
# * read Fig. 8, the distance while our models learn: by training images seen.
#
# You need covariance matrices and eigenvalues, and notebooks 03 and 04 for what the two models are; their weights are
# loaded, nothing is trained. The
# run takes about four minutes on two cores (profile `cpu`).

# %% tags=["parameters"]
profile = None  # "smoke", "cpu", "released" or "gpu"; None: "cpu", or in Colab "released"
seed = 0
out = None

# %%
import io
import math
import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
import torch
from IPython.display import Markdown, display
from matplotlib.ticker import LogLocator, NullLocator
from PIL import Image
from scipy import integrate, optimize, stats
from scipy.cluster import vq
from torchvision.transforms.v2 import functional as tvf

from bedgen_utils.checks import check, check_mean, check_zero
from bedgen_utils.data import load_bedrooms, load_factors, to_uint8
from bedgen_utils.features import features
from bedgen_utils.metrics import (
    KERNEL_NAMES,
    NAMES,
    PREPARED,
    Moments,
    Protocol,
    ProtocolError,
    SmallSampleWarning,
    compare,
    distances,
    evaluate,
    frechet_bootstrap,
    frechet_distance,
    frechet_from_features,
    frechet_infinity,
    kernel_distance,
    moments,
    precision_recall,
)
from bedgen_utils.models import load
from bedgen_utils.report import save_figure, save_table, show_images, use_style
from bedgen_utils.run import start

run = start("06", profile, seed, out)
use_style()
p = run.p
rng = np.random.default_rng(seed)
g = torch.Generator().manual_seed(seed)
# Sets smaller than the feature dimension are what sections 4 and 5 are about; the warning would
# stand under every cell.
warnings.filterwarnings("ignore", category=SmallSampleWarning)

# Real images are those of the validation split; the test images wait for the final numbers,
# sections 9 to 11.
validation_images = load_bedrooms(p.source, "validation", p.size, limit=p.n_reference or None)
train_images = load_bedrooms(p.source, "train", p.size, limit=p.n_long)
gan, ddpm = load("gan", run), load("ddpm", run)
print(
    f"{len(validation_images):,} validation and {len(train_images):,} training images of {p.size} "
    f"x {p.size} pixels"
)
print(f"GAN weights: {gan.source}\nDDPM weights: {ddpm.source}")

# %% [markdown]
# ## 1. The distance between two Gaussians
#
# Let $P$ and $Q$ be two distributions on $\mathbb R^D$. Think of $P$ as a heap of sand and of $Q$ as the shape the
# heap should take. A **coupling** is a plan for moving it: a joint
# distribution of $(x, y)$ with $x \sim P$ and $y \sim Q$. Moving a grain from $x$ to $y$ costs $\|x - y\|^2$, and the
# squared **2-Wasserstein distance** is what the
# cheapest plan costs,
#
# <!-- eq:06-transport -->
# $$ W_2^2(P, Q) = \min_{x \sim P,\; y \sim Q} \mathbb E\, \| x - y \|^2 . $$
#
# ### One dimension
#
# On a line the cheapest plan keeps the order: paths that cross can be uncrossed, and get cheaper. So the grain at
# level $u$ of the distribution function $F$ of $P$
# goes to level $u$ of the distribution function $G$ of $Q$. With $P = \mathcal N(\mu_1, \sigma_1^2)$, $Q = \mathcal
# N(\mu_2, \sigma_2^2)$ the two places are
# $\mu_1 + \sigma_1 \xi$ and $\mu_2 + \sigma_2 \xi$ for the same standard normal $\xi$, and the mean of their squared
# difference, in which the term linear in $\xi$ averages to 0, is
#
# <!-- eq:06-line -->
# $$ W_2^2 = \int_0^1 \big(F^{-1}(u) - G^{-1}(u)\big)^2 \,du = (\mu_1 - \mu_2)^2 + (\sigma_1 - \sigma_2)^2 . $$

# %%
mu_1, mu_2, sigma_1, sigma_2 = 0.7, -1.1, 0.5, 1.6
closed = (mu_1 - mu_2) ** 2 + (sigma_1 - sigma_2) ** 2
quadrature = integrate.quad(
    lambda u: (stats.norm.ppf(u, mu_1, sigma_1) - stats.norm.ppf(u, mu_2, sigma_2)) ** 2,
    0,
    1,
    epsabs=1e-11,
)[0]
check(
    "eq:06-line",
    quadrature,
    closed,
    1e-8,
    "integral over quantiles, by quadrature, against the closed form",
)
check(
    "eq:06-line",
    frechet_distance([mu_1], [[sigma_1**2]], [mu_2], [[sigma_2**2]]),
    closed,
    1e-12,
    "the package against the closed form",
)
# That uncrossing pays: for 400 grains the plan that keeps the order costs as little as the best one
# a linear programme finds.
x, y = rng.normal(mu_1, sigma_1, 400), rng.normal(mu_2, sigma_2, 400)
cost = (x[:, None] - y[None]) ** 2
best = cost[optimize.linear_sum_assignment(cost)].mean()
check(
    "eq:06-transport",
    ((np.sort(x) - np.sort(y)) ** 2).mean(),
    best,
    1e-12,
    "order-keeping plan against linear programming, 400 grains",
)

# %% [markdown]
# ### Any dimension
#
# Write $\mu_1, \Sigma_1$ and $\mu_2, \Sigma_2$ for means and covariances, and $C = \mathbb E (x - \mu_1)(y -
# \mu_2)^\top$ for the one thing that the plan decides: which $x$
# goes with which $y$. Multiplying out,
#
# <!-- eq:06-expand -->
# $$ \mathbb E \|x - y\|^2 = \|\mu_1 - \mu_2\|^2 + \operatorname{Tr}\Sigma_1 + \operatorname{Tr}\Sigma_2 - 2
# \operatorname{Tr} C , $$
#
# so the cheapest plan has the largest $\operatorname{Tr} C$. Not every $C$ is possible: the covariance of the pair
# $(x, y)$,
# $\big(\begin{smallmatrix} \Sigma_1 & C \\ C^\top & \Sigma_2 \end{smallmatrix}\big)$, must not have a negative
# eigenvalue. That is the case exactly if $C = \Sigma_1^{1/2} K \Sigma_2^{1/2}$ with a
# matrix $K$ that lengthens no vector. Then $\operatorname{Tr} C = \operatorname{Tr} K \Sigma_2^{1/2} \Sigma_1^{1/2}$,
# and with the singular value decomposition
# $\Sigma_2^{1/2} \Sigma_1^{1/2} = U S V^\top$ this is $\operatorname{Tr}(V^\top K U) S = \sum_i (V^\top K U)_{ii}
# s_i$. No diagonal entry of a matrix that lengthens nothing exceeds 1. So
#
# <!-- eq:06-bound -->
# $$ \operatorname{Tr} C \;\le\; \sum_i s_i\big(\Sigma_2^{1/2} \Sigma_1^{1/2}\big) =
# \operatorname{Tr}\big(\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2}\big)^{1/2} , $$
#
# with equality for $K = V U^\top$. The last step: singular values are the square roots of the eigenvalues of $M^\top
# M$, and $M^\top M = \Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2}$ for
# $M = \Sigma_2^{1/2}\Sigma_1^{1/2}$. All together, the squared distance of two Gaussians. Everybody, and we from
# here on, calls $d^2$ itself, without a root, the **Fréchet distance**: features twice as far apart give four times the
# number.
#
# <!-- eq:06-frechet -->
# $$ d^2 = \|\mu_1 - \mu_2\|^2 + \operatorname{Tr}\Sigma_1 + \operatorname{Tr}\Sigma_2 - 2
# \operatorname{Tr}\big(\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2}\big)^{1/2} . $$


# %%
def root(s):
    eigenvalues, vectors = np.linalg.eigh(s)
    return (vectors * np.sqrt(eigenvalues)) @ vectors.T


m1, m2 = np.array([0.0, 0.0]), np.array([2.5, 1.0])
S1, S2 = np.array([[1.0, 0.75], [0.75, 0.9]]), np.array([[0.8, -0.5], [-0.5, 1.4]])
U, s, Vt = np.linalg.svd(root(S2) @ root(S1))

# Multiplied out, entry by entry, for symbols: E (x - y)'(x - y) with second moments in place of
# expectations.
a1, a2, v1, v2, c = sp.symbols("mu1 mu2 v1 v2 c")
check_zero(
    "eq:06-expand",
    (v1 + a1**2) - 2 * (c + a1 * a2) + (v2 + a2**2) - ((a1 - a2) ** 2 + v1 + v2 - 2 * c),
    "one coordinate; the others add",
)
# 20,000 matrices that lengthen nothing (largest singular value 1): none beats the bound, the one of
# the proof reaches it.
K = rng.normal(size=(20_000, 2, 2))
K /= np.linalg.norm(K, 2, axis=(1, 2))[:, None, None]
traces = np.trace(root(S1) @ K @ root(S2), axis1=1, axis2=2)
assert traces.max() <= s.sum(), "a plan beats the bound"
print(f"[eq:06-bound] best of 20,000 random plans: Tr C = {traces.max():.4f}, bound {s.sum():.4f}")
check(
    "eq:06-bound",
    np.trace(root(S1) @ (Vt.T @ U.T) @ root(S2)),
    s.sum(),
    1e-12,
    "the plan K = V U' reaches the bound",
)
check(
    "eq:06-bound",
    np.trace(root(root(S1) @ S2 @ root(S1))),
    s.sum(),
    1e-12,
    "singular values against the trace of the root",
)
d2 = (m1 - m2) @ (m1 - m2) + np.trace(S1) + np.trace(S2) - 2 * s.sum()
check(
    "eq:06-frechet",
    frechet_distance(m1, S1, m2, S2),
    d2,
    1e-12,
    "the package against the derivation",
)

# %% [markdown]
# If $\Sigma_1$ has no eigenvalue 0, the best plan is a map: every $x$ goes to one $y$,
#
# <!-- eq:06-map -->
# $$ y = \mu_2 + A (x - \mu_1), \qquad A = \Sigma_1^{-1/2} \big(\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2}\big)^{1/2}
# \Sigma_1^{-1/2} , \qquad A \Sigma_1 A = \Sigma_2 . $$
#
# $A$ is symmetric with positive eigenvalues: it stretches along perpendicular axes and never turns, because turning is
# wasted motion. To test that nothing cheaper exists we let a linear
# programme pair 500 points $x$ with their own images $y$, forgetting which belongs to which. It must find exactly the
# map's pairs.

# %%
A = np.linalg.inv(root(S1)) @ root(root(S1) @ S2 @ root(S1)) @ np.linalg.inv(root(S1))
check("eq:06-map", A @ S1 @ A, S2, 1e-12, "the map sends the first covariance to the second")
assert np.linalg.eigvalsh((A + A.T) / 2).min() > 0 and np.allclose(A, A.T)
x = rng.multivariate_normal(m1, S1, p.n_transport)
y = m2 + (x - m1) @ A.T
check_mean(
    "eq:06-frechet", ((x - y) ** 2).sum(1), d2, "mean squared way under the map against the formula"
)
few = 500
cost = ((x[:few, None] - y[None, :few]) ** 2).sum(-1)
rows, columns = optimize.linear_sum_assignment(cost)
check(
    "eq:06-map",
    columns,
    np.arange(few),
    0,
    f"linear programming over all pairings of {few} points against the map's pairing",
)

# %% [markdown]
# ### What it takes for granted
#
# The formula knows means and covariances and nothing else. For Gaussians that is everything. Features of images are
# not Gaussian, and two distributions that share mean and covariance
# are at Fréchet distance 0, however different they are. The simplest such pair: two narrow humps against one wide one.

# %%
gap, narrow = 1.0, 0.25
wide = math.sqrt(gap**2 + narrow**2)  # the standard deviation of the two humps together
u = stats.norm.cdf(np.linspace(-6, 6, 4001))  # equal steps of the normal, so that the tails count
grid = np.linspace(-4, 4, 20_001)
humps = 0.5 * (stats.norm.cdf(grid, -gap, narrow) + stats.norm.cdf(grid, gap, narrow))
quantile = np.interp(u, humps, grid)
true_w2 = integrate.trapezoid((quantile - stats.norm.ppf(u, 0, wide)) ** 2, u)
density = 0.5 * (stats.norm.pdf(grid, -gap, narrow) + stats.norm.pdf(grid, gap, narrow))
mean = integrate.trapezoid(grid * density, grid)
variance = integrate.trapezoid((grid - mean) ** 2 * density, grid)
frechet_of_humps = frechet_distance([mean], [[variance]], [0.0], [[wide**2]])
check(
    "eq:06-frechet",
    frechet_of_humps,
    0.0,
    1e-12,
    "two humps and one Gaussian with the same mean and variance: Fréchet distance",
)

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=[1.2, 1])
left.plot(*x[:300].T, ".", ms=4, label="$x \\sim \\mathcal{N}(\\mu_1, \\Sigma_1)$")
left.plot(*y[:300].T, ".", ms=4, label="$y = \\mu_2 + A(x - \\mu_1)$")
for i in range(40):
    left.annotate("", y[i], x[i], arrowprops=dict(arrowstyle="->", color="0.5", lw=0.6))
left.set(
    xlabel="first coordinate",
    ylabel="second coordinate",
    title=f"Cheapest way: $d^2$ = {d2:.3f}",
    aspect="equal",
)
left.legend(loc="upper left", fontsize=8)
right.plot(grid, density, label="two humps")
right.plot(grid, stats.norm.pdf(grid, 0, wide), label="Gaussian, same mean and variance")
right.set(
    xlabel="x",
    ylabel="density",
    xlim=(-3.5, 3.5),
    ylim=(0, 1.15),
    title=f"Fréchet distance {abs(frechet_of_humps):.0f}, but $W_2^2$ = {true_w2:.3f}",
)
right.legend(fontsize=8)
save_figure(
    run,
    fig,
    "nb06_transport",
    "Left: the cheapest plan between two Gaussians, a stretch without a turn. Right: two "
    "distributions that the Fréchet distance cannot tell apart.",
    {"d2": d2, "w2_of_humps": true_w2},
)
plt.show()

# %% [markdown]
# ### Computing it
#
# $\Sigma_1 \Sigma_2$ has the same eigenvalues as $\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2}$, and much code takes the
# matrix root of the former. It is not symmetric; with fewer samples than dimensions it
# is singular as well, rounding makes some eigenvalues negative or complex, and the imaginary parts are dropped in the
# hope that they are small. No need for it: whenever $\Sigma_1 = R R^\top$,
#
# <!-- eq:06-roots -->
# $$ \operatorname{Tr}\big(\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2}\big)^{1/2} = \sum_i \sqrt{\lambda_i(R^\top \Sigma_2
# R)} , $$
#
# since $XY$ and $YX$ share their non-zero eigenvalues (take $X = R$, $Y = R^\top\Sigma_2$). $R$ may be a Cholesky
# factor. Or it may be the centred features of $N$ samples, $R = (f_1 - \bar f, \dots, f_N - \bar f)/\sqrt{N-1}$: then
# the matrix has $N$ rows
# instead of $D$, and for few samples the distance costs milliseconds.

# %%
few_features, reference_features = rng.normal(size=(30, 80)), rng.normal(size=(200, 80)) * 1.3 + 0.2
S, T = np.cov(few_features.T), np.cov(reference_features.T)
R = (few_features - few_features.mean(0)).T / math.sqrt(29)
check("eq:06-roots", R @ R.T, S, 1e-12, "R R' is the covariance")
by_features = np.sqrt(np.clip(np.linalg.eigvalsh(R.T @ T @ R), 0, None)).sum()
by_symmetric = np.sqrt(np.clip(np.linalg.eigvalsh(root(T) @ S @ root(T)), 0, None)).sum()
check(
    "eq:06-roots",
    by_features,
    by_symmetric,
    1e-5,
    "30 x 30 problem against 80 x 80 (rounding of 50 zeros enters by its root)",
)
check(
    "eq:06-roots",
    frechet_from_features(few_features, reference_features),
    frechet_distance(few_features.mean(0), S, reference_features.mean(0), T),
    1e-5,
    "the package, by features against by moments",
)

# %% [markdown]
# ## 2. From images to features
#
# Pixels are a poor space for such a distance: a room moved by two pixels is the same room. So both sets first pass
# through a network trained to name objects in photographs, and
# the values of its last layer, averaged over the image, are the **features**. FID uses Inception, in the 2015
# version with 2,048 features. Its weights are a download, which this course must do
# without; by default we use EfficientNet-Lite0, whose weights come inside a Python package, with 1,280 features. The
# recipe is the same, the numbers are not, and so is the name: what
# follows is the *Fréchet distance in EfficientNet-Lite0 features*, FD-EffNet for short. It must not be set beside
# anyone's FID.
#
# A distance is only defined with its protocol. In `metrics.py` the two travel together, and numbers of different
# protocols refuse to be compared.

# %%
n = p.n
fake_gan = gan.sample(p.n_long, seed=seed + 1)
fake_ddpm = ddpm.sample(p.n_ddpm, seed=seed + 1, steps=p.steps)
f_validation, f_train, f_gan, f_ddpm = (
    features(images) for images in (validation_images, train_images, fake_gan, fake_ddpm)
)
reference = moments(validation_images, cache=True)
check(
    "eq:06-frechet",
    reference.covariance.diagonal(),
    f_validation.double().var(0),
    1e-6,
    "streamed variances against those of the features in hand",
)
floor, score_gan = (
    compare(train_images[:n], reference, split="validation"),
    compare(fake_gan[:n], reference, split="validation"),
)
print(floor)
print(score_gan)
hand = f_gan[:n].double().numpy()
# Another root, other eigenvalues:
exchanged = frechet_distance(reference.mean, reference.covariance, hand.mean(0), np.cov(hand.T))
check(
    "eq:06-frechet",
    score_gan.distance / exchanged,
    1,
    1e-3,
    "compare() over the formula with the two sides exchanged",
)
print(f"\nGAN above the floor: {score_gan - floor:.1f}")
try:
    print(score_gan < compare(fake_gan[: n // 2], reference, split="validation"))
except ProtocolError as error:
    print(f"\nWith half as many samples: {error}")

# %% [markdown]
# The first of the two numbers is the **floor**: real images (of the training set) against other real images, at
# the same number. It is what a perfect generator would score. It is not 0, and section 4
# explains why. Read every distance below against it.
#
# Two companions see what the Fréchet distance mixes together or misses. The **kernel distance** (called KID with
# Inception) compares all moments up to the third. It is the square of the **maximum mean discrepancy** (MMD): with
# $k(x, y) = (x^\top y / D + 1)^3$, where $D$ is the number of features (multiplied out, the cube holds all products of up to three features, so it is their means that are compared),
#
# <!-- eq:06-kernel -->
# $$ \mathrm{MMD}^2 = \mathbb E\, k(x, x') + \mathbb E\, k(y, y') - 2\, \mathbb E\, k(x, y), \qquad x, x' \sim P,\quad
# y, y' \sim Q \quad\text{independent} . $$
#
# Averages over pairs of *different* samples estimate each term without bias, at any $N$. **Precision** is the share of
# generated images that lie no farther from some real image than its third
# neighbour does, **recall** the same with the roles exchanged: do the images look real, and is everything covered?

# %%
# Unbiased, even from four samples against five: two distributions on three points each, whose MMD
# is a finite sum.
points = np.array([[0.0, 1.0], [1.0, 0.5], [2.0, -1.0]])
P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
kernel = (points @ points.T / 2 + 1) ** 3
exact = P @ kernel @ P + Q @ kernel @ Q - 2 * P @ kernel @ Q
draws = [
    kernel_distance(points[rng.choice(3, 4, p=P)], points[rng.choice(3, 5, p=Q)]).value
    for _ in range(p.n_kernel_draws)
]
check_mean(
    "eq:06-kernel", draws, exact, "mean of many small kernel distances against the exact value"
)

# %% [markdown]
# ## 3. What the numbers respond to
#
# Take real images, damage them a little more each time, and watch. Five kinds of damage: blur, noise, a shifted crop
# (rooms cut off at one side, the rest mirrored in), fading colour, and dropped modes: rooms of the most
# frequent wall colours are left out, which no single image shows. The grey band is what undamaged images score:
# four disjoint sets of the same size, lowest to highest. (All in EfficientNet-Lite0 features. Another network answers in its own way; with the weights of section 11 at hand, `evaluate(blur(base, 1.0), validation_images, split="validation", extractor="inception-2015")` says how Inception's does.)

# %%
if p.source == "rendered":
    mode = np.array([row[p.mode_factor] for row in load_factors("train")[: len(train_images)]])
    mode_name = p.mode_factor.replace("_", " ")
else:  # images without known factors: eight clusters of their features
    mode, mode_name = (
        vq.kmeans2(f_train.double().numpy(), 8, seed=seed, minit="++")[1],
        "cluster of features",
    )
modes, counts = np.unique(mode, return_counts=True)
modes, counts = modes[np.argsort(-counts)], np.sort(counts)[::-1]


def blur(images, sigma):
    return tvf.gaussian_blur(images, [13, 13], [sigma, sigma])


def noise(images, deviation):
    return (
        (
            images
            + deviation * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
        )
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
    )


def shift(images, pixels):
    padded = torch.nn.functional.pad(images.float(), (0, pixels, 0, 0), mode="reflect").to(
        torch.uint8
    )
    return padded[..., pixels:]


def fade(images, share):
    return tvf.adjust_saturation(images, 1 - share)


damages = {
    "blur": (blur, p.blur, "standard deviation / pixels"),
    "noise": (noise, p.noise, "standard deviation / levels of 255"),
    "shift": (shift, p.shift, "pixels"),
    "colour": (fade, p.fade, "saturation removed"),
}
m = p.n_response
base = train_images[:m]


def four_numbers(feats):
    pr = precision_recall(f_validation[:m], feats)
    return (
        frechet_from_features(feats, reference),
        kernel_distance(f_validation, feats).value,
        pr.precision,
        pr.recall,
    )


of_near = {
    "distances": reference.protocol(m, split="validation"),
    "precision and recall": Protocol(m, m, "validation", PREPARED, *reference.space),
}

bands = np.array([four_numbers(part) for part in f_train.split(m)[:4] if len(part) == m])
responses = {}
for name, (function, levels, label) in damages.items():
    responses[name] = (
        label,
        levels,
        [four_numbers(features(function(base, level))) for level in levels],
    )
missing, dropped = [], []
for share in p.drop:
    # So many modes, the most frequent first:
    gone = min(len(modes) - 1, 1 + int(np.searchsorted(np.cumsum(counts) / counts.sum(), share)))
    rows = np.flatnonzero(~np.isin(mode, modes[:gone]))
    missing.append(1 - len(rows) / len(mode))
    dropped.append(
        four_numbers(f_train[torch.from_numpy(rng.choice(rows, m, replace=len(rows) < m))])
    )
responses["dropped modes"] = (f"share of rooms left out, by {mode_name}", missing, dropped)

# %%
names = ["FD-EffNet / floor", "kernel distance", "precision", "recall"]
fig, axes = plt.subplots(4, 5, figsize=(12, 8), sharex="col", sharey="row")
for column, (name, (label, levels, rows)) in enumerate(responses.items()):
    for row, number in enumerate(names):
        ax = axes[row, column]
        unit = bands[:, 0].mean() if row == 0 else 1.0
        ax.axhspan(bands[:, row].min() / unit, bands[:, row].max() / unit, color="0.8")
        ax.plot(levels, [r[row] / unit for r in rows], "o-", color=f"C{row}", ms=4)
        if column == 0:
            ax.set_ylabel(number)
        if row == 0:
            ax.set_yscale("log")
            ax.yaxis.set(
                major_locator=LogLocator(subs=(1, 1.5, 2, 3, 5, 7)),
                minor_locator=NullLocator(),
                major_formatter="{x:g}",
            )
        elif row == 1:
            ax.set_yscale("symlog", linthresh=max(1e-6, 4 * np.abs(bands[:, 1]).max()))
        else:
            ax.set_ylim(-0.03, 1.03)
    axes[0, column].set_title(name)
    axes[3, column].set_xlabel(label, fontsize=8)
save_figure(
    run,
    fig,
    "nb06_responses",
    f"Response of four numbers to five kinds of damage, {m} images each against "
    f"{len(f_validation):,} validation images ({m} for precision and recall). Grey: undamaged "
    "images.",
    {name: {"levels": list(levels), "rows": rows} for name, (_, levels, rows) in responses.items()}
    | {"undamaged": bands.tolist()},
    of_near,
)
plt.show()
ratio = {name: rows[-1][0] / bands[:, 0].mean() for name, (_, _, rows) in responses.items()}
drop_p, drop_r = dropped[-1][2] - bands[:, 2].mean(), dropped[-1][3] - bands[:, 3].mean()
cheapest = min(
    (
        level
        for level, row in zip(p.blur, responses["blur"][2], strict=True)
        if row[0] > dropped[-1][0]
    ),
    default=None,
)
display(
    Markdown(
        "At the strongest damage shown the Fréchet distance is "
        + ", ".join(f"{ratio[name]:.1f} (" + name + ")" for name in ratio)
        + " times the floor. "
        f"Leaving out {100 * missing[-1]:.0f} % of the rooms by their {mode_name} changes "
        f"precision by {drop_p:+.2f} and recall by {drop_r:+.2f}"
        + (
            ": fewer modes, and recall says so. "
            if drop_r < min(-0.02, drop_p)
            else ": recall does not single it out. "
        )
        + f"The kernel distance is then {dropped[-1][1]:.2f}, where undamaged images reach "
        f"{bands[:, 1].max():.2f}"
        + (
            ": it notices. "
            if dropped[-1][1] > bands[:, 1].max()
            else ": it does not notice either. "
        )
        + (
            f"A blur of {cheapest:g} pixels costs more Fréchet distance than all those missing "
            "rooms. "
            if cheapest
            else ""
        )
        + "A distance answers to all of these at once and says of none which it was: reason "
        "enough never to report it alone."
    )
)

# %% [markdown]
# ## 4. The bias: few samples look bad
#
# Why is the floor not 0? Take the first term. Let $\hat\mu_1$ and $\hat\mu_2$ be the means of $N_1$ and $N_2$
# independent samples. They scatter around $\mu_1$ and $\mu_2$, and variances add:
#
# <!-- eq:06-bias -->
# $$ \mathbb E\, \|\hat\mu_1 - \hat\mu_2\|^2 = \|\mu_1 - \mu_2\|^2 + \frac{\operatorname{Tr}\Sigma_1}{N_1} +
# \frac{\operatorname{Tr}\Sigma_2}{N_2} . $$
#
# Of the covariance terms, $\operatorname{Tr}\hat\Sigma$ is right on average. The trace of the root is a concave function
# of $\hat\Sigma_1$, as $\sqrt{\cdot}$ is of a number, so it is too small on average (Jensen), and it is subtracted: once
# more the distance comes out too large. For normal samples, in one dimension and against a reference known exactly, $\mathbb E\,\hat\sigma_1 \approx \sigma_1 (1 - \tfrac{1}{4N})$,
# which adds $\sigma_1\sigma_2/(2N)$:
#
# <!-- eq:06-bias-line -->
# $$ \mathbb E\,\hat d^2 \approx d^2 + \frac{1}{N}\Big(\sigma_1^2 + \frac{\sigma_1\sigma_2}{2}\Big) . $$
#
# In general it is $c/N$ to leading order (Chong & Forsyth,
# 2020), and $c$ depends on $\Sigma_1$, that is, on the model: by the formula for the line, with half the spread of the data ($\sigma_1 = \sigma_2/2$) the bias is a third of that with all of it ($\sigma_2^2/2$ against $3\sigma_2^2/2$, over $N$). Two models measured with the same $N$ can therefore come
# out in the wrong order. The remedy: measure at several $N$, draw a straight line in $1/N$, and read it off at $1/N = 0$.
#
# But the law is an expansion for $N \gg D$, and here $D$ is 1,280. To see both sides we measure twice: in all
# features, and in the 32 directions in which the validation images vary most.

# %%
S1_small, shift_of_means = np.diag([1.0, 4.0, 0.25]), np.array([0.5, 0.0, -1.0])
hat = rng.multivariate_normal(np.zeros(3), S1_small, (p.n_bias_draws, 20)).mean(
    1
) - rng.multivariate_normal(shift_of_means, np.eye(3), (p.n_bias_draws, 50)).mean(1)
check_mean(
    "eq:06-bias",
    (hat**2).sum(1),
    shift_of_means @ shift_of_means + np.trace(S1_small) / 20 + 3 / 50,
    "squared difference of sample means, N = 20 and 50",
)

few = 40
samples = rng.normal(0, sigma_1, (p.n_bias_draws, few))
mean, deviation = samples.mean(1), samples.std(1, ddof=1)
measured = (mean - mu_2) ** 2 + (deviation - sigma_2) ** 2
# Of mean 0: takes scatter out and adds no bias.
measured += 2 * mu_2 * mean + (sigma_2 / sigma_1 - 1) * (deviation**2 - sigma_1**2)
# E of the estimated over the true deviation, exactly:
gamma_ratio = math.exp(math.lgamma(few / 2) - math.lgamma((few - 1) / 2))
gamma_ratio *= math.sqrt(2 / (few - 1))
check(
    "eq:06-bias-line",
    4 * few * (1 - gamma_ratio),
    1,
    0.05,
    f"the deviation of {few} normal samples is too small by 1/(4N): exact value times 4N",
)
check_mean(
    "eq:06-bias-line",
    measured,
    mu_2**2 + (sigma_1 - sigma_2) ** 2 + (sigma_1**2 + sigma_1 * sigma_2 / 2) / few,
    f"distance estimated from {few} samples in one dimension",
)

centred = f_validation.double() - f_validation.double().mean(0)
directions = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -32:]


def project(f):
    return (f.double() - f_validation.double().mean(0)) @ directions


# A third model: the same generator with its latents shortened (section 7 measures it).
with torch.no_grad():
    xi = torch.randn(
        p.n_long, gan.generator.latent, generator=torch.Generator().manual_seed(seed + 3)
    ).to(next(gan.generator.parameters()).device)
    f_short = torch.cat(
        [features(to_uint8(gan.generator(p.psi[0] * part)).cpu()) for part in xi.split(500)]
    )
short_name = f"GAN, latents times {p.psi[0]:g}"
sets = {"real (training images)": f_train, "GAN": f_gan, short_name: f_short}
small_sizes = [s for s in p.sizes_small if s <= p.n_long // 2]
fits_small = {
    name: frechet_infinity(
        project(f), project(f_validation), small_sizes, repeats=p.repeats, seed=seed
    )
    for name, f in sets.items()
}
fits, curves = {}, {}
for name, f in sets.items():
    few = [s for s in p.sizes if s <= len(f)]
    curves[name] = [
        (s, frechet_from_features(f[torch.randperm(len(f), generator=g)[:s]], reference))
        for s in few
    ]
    above = [s for s in p.sizes_fit if s <= len(f)]
    if len(above) > 1:
        fits[name] = frechet_infinity(f, reference, above, repeats=p.repeats_fit, seed=seed)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.8))
for i, (name, marker) in enumerate(zip(sets, "os^", strict=True)):
    fit = fits_small[name]
    sizes, d = np.array(fit.sizes), np.array(fit.distances)
    centre = np.array([d[sizes == s].mean() for s in small_sizes])
    spread = np.array([d[sizes == s].std() for s in small_sizes])
    left.errorbar(
        1 / np.array(small_sizes), centre, 2 * spread, fmt=marker, ms=4, color=f"C{i}", label=name
    )
    left.plot(
        [0, 1 / small_sizes[0]],
        [fit.value, fit.value + fit.slope / small_sizes[0]],
        color=f"C{i}",
        lw=1,
    )
    sizes, d = np.array(curves[name]).T
    right.plot(1 / sizes, d, marker + ":", ms=4, color=f"C{i}", label=name)
    if name in fits:
        right.plot(
            [0, 1 / min(fits[name].sizes)],
            [fits[name].value, fits[name].value + fits[name].slope / min(fits[name].sizes)],
            color=f"C{i}",
            lw=1.5,
        )
        right.errorbar(
            [0],
            [fits[name].value],
            [2 * fits[name].error],
            fmt=marker,
            mfc="white",
            color=f"C{i}",
            capsize=3,
        )
left.set(
    xlabel="1/N",
    ylabel="Fréchet distance",
    xlim=(0, None),
    ylim=(0, None),
    title="32 directions: N well above D",
)
right.set(
    xlabel="1/N", ylabel="FD-EffNet", xlim=(-1e-4, None), ylim=(0, None), title="all 1,280 features"
)
for ax in (left, right):
    ax.locator_params(axis="x", nbins=5)
right.axvline(1 / 1280, color="0.6", lw=0.8, ls="--")
right.text(1 / 1280, right.get_ylim()[1] * 0.04, " N = D", fontsize=8, color="0.4")
left.legend(fontsize=8)
numbers = {
    name: {
        "32 directions": fits_small[name]._asdict(),
        "all": fits[name]._asdict() if name in fits else None,
        "curve": curves[name],
    }
    for name in sets
}
save_figure(
    run,
    fig,
    "nb06_bias",
    "Fréchet distance against 1/N. Lines: least squares; open marks at 1/N = 0: the "
    "extrapolation, with two errors of the fit where it has more than two sizes "
    "(the subsets are nested: the scatter of the set itself is not in them). Dashed: N = D.",
    numbers,
    {"largest N": reference.protocol(p.n_long, split="validation")},
)
plt.show()


def slope_error(fit):
    inverse, d = 1 / np.array(fit.sizes), np.array(fit.distances)
    rest, lever = d - fit.value - fit.slope * inverse, inverse - inverse.mean()
    # Small sets scatter more, and pull on the slope most: so each point brings its own scatter
    # (White 1980).
    return math.sqrt(len(d) / max(1, len(d) - 2) * ((lever * rest) ** 2).sum()) / (lever**2).sum()


slopes = {name: (fit.slope, slope_error(fit)) for name, fit in fits_small.items()}
(gan_slope, gan_error), (short_slope, short_error) = slopes["GAN"], slopes[short_name]
apart, chance = gan_slope - short_slope, 2 * math.hypot(gan_error, short_error)
text = (
    "In 32 directions the slopes are "
    + ", ".join(
        f"{slope:.0f} ± {2 * error:.0f} ({name}, Tr Σ = {project(sets[name]).var(0).sum():.0f})"
        for name, (slope, error) in slopes.items()
    )
    + f" (two errors of the fit over {p.repeats} subsets of each size). "
    f"Full and shortened latents of one generator differ by {apart:.0f} ± {chance:.0f}: "
    + (
        "the slope is the model's own, and a correction made for one would be wrong for the other. "
        if abs(apart) > chance
        else "these subsets cannot tell the two slopes apart. "
    )
)
if "GAN" in fits:
    text += (
        f"In all features, the GAN's distance falls from {curves['GAN'][0][1]:.0f} at N = "
        f"{curves['GAN'][0][0]} to {curves['GAN'][-1][1]:.0f} at N = {curves['GAN'][-1][0]:,}, "
        "and to "
        f"{fits['GAN'].value:.0f} ± {2 * fits['GAN'].error:.0f} in the extrapolation; that of "
        f"real images from {curves['real (training images)'][0][1]:.0f} to "
        f"{fits['real (training images)'].value:.0f} ± "
        f"{2 * fits['real (training images)'].error:.0f} (errors of the fit alone: all subsets "
        "come from one set, whose own scatter, section 5, comes on top). "
        f"The {len(f_validation):,} reference images are a sample too. For real against real both "
        f"sides play the same part, so they add about slope/{len(f_validation):,} = "
        f"{fits['real (training images)'].slope / len(f_validation):.0f} there: "
        "what the extrapolation leaves of the floor is to be compared with that, and no "
        "extrapolation in N removes it."
    )
display(Markdown(text))

# %% [markdown]
# The law is a first-order one: it needs $N$ well above the number $D$ of features, left of the dashed line. Right of it, where most published numbers of small projects live, the
# covariance of the samples is singular and nothing promises a straight line. So extrapolate from $N > D$, or compare at equal $N$ beside the floor and say so.

# %% [markdown]
# ## 5. How far the number would scatter
#
# Draw other samples from the same model, and the distance changes. By how much, one set can tell: draw $N$ images
# from it with replacement, many times (the **bootstrap**). Each such set has only
# about 63 % different images, so its distance comes out too *large*: percentiles of the resampled distances would
# not even contain the value itself. Use their standard deviation. Value ± 2 errors says where other sets
# of the same $N$ would fall against the same reference; it does not reach the distance at $N = \infty$, because the bias
# of section 4 is far larger. The generator gives new sets for nothing, so we can hold the error against their true
# scatter, as well as a few sets tell it.

# %%
independent = [
    frechet_from_features(part, reference)
    for part in f_gan.split(p.n_boot)
    if len(part) == p.n_boot
]
boot = frechet_bootstrap(f_gan[: p.n_boot], reference, p.draws, seed)
scatter = np.std(independent, ddof=1)
k = len(independent)
low, high = (
    scatter * math.sqrt((k - 1) / stats.chi2.ppf(0.975, k - 1)),
    scatter * math.sqrt((k - 1) / stats.chi2.ppf(0.025, k - 1)),
)
display(
    Markdown(
        f"GAN, N = {p.n_boot}: distance {boot.value:.1f}, bootstrap error **{boot.error:.1f}**. "
        f"{k} independent sets scatter by {scatter:.1f} (95 % interval {low:.1f} to {high:.1f}). "
        f"The bootstrap error lies {'in' if low <= boot.error <= high else 'outside'} that "
        f"interval, which is wide because {k} sets are few. "
        f"The resampled distances are on average {boot.bias:.1f} above the value: "
        f"{boot.bias / boot.error:.1f} errors."
    )
)
boot_ddpm = frechet_bootstrap(f_ddpm, reference, p.draws, seed)

# %% [markdown]
# ## 6. Confounders: resize and JPEG
#
# The same validation rooms, at twice the size, are brought to it in several ways, or stored as JPEG before that (rendered rooms are kept at 64 px, so there the size is never above 32). Nothing is
# generated here; every *difference from the first row* comes from handling files. The reference is made as
# `load_bedrooms` makes it (bicubic with antialiasing). LSUN's photographs are JPEG files of quality 75, compressed before
# anybody shrinks them: who compares PNG samples with them measures the JPEG too.

# %%
side = min(p.size, 32) if p.source == "rendered" else p.size
large = load_bedrooms(p.source, "validation", 2 * side, limit=p.n_confound)


def shrink(images, method, **options):
    images = [Image.fromarray(i.permute(1, 2, 0).numpy()) for i in images]
    return torch.stack(
        [
            torch.from_numpy(np.array(i.resize((side, side), method, **options))).permute(2, 0, 1)
            for i in images
        ]
    )


def jpeg(images, quality):
    stored = []
    for i in images:
        file = io.BytesIO()
        Image.fromarray(i.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        stored.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(stored)


same = shrink(large, Image.BICUBIC)
variants = {
    "bicubic (as the reference)": same,
    "Lanczos": shrink(large, Image.LANCZOS),
    "box (mean of 2 x 2)": shrink(large, Image.BOX),
    "bilinear, antialiased": shrink(large, Image.BILINEAR),
    "nearest pixel": shrink(large, Image.NEAREST),
} | {f"JPEG, quality {q}": shrink(jpeg(large, q), Image.BICUBIC) for q in p.jpeg}
# Against the other validation images, so that no image meets itself.
f_plain, f_made = (
    (f_validation, f_gan[: p.n_confound])
    if side == p.size
    else (
        features(load_bedrooms(p.source, "validation", side, limit=len(f_validation))),
        features(shrink(fake_gan[: p.n_confound], Image.BICUBIC)),
    )
)
others = Moments(f_plain.shape[1]).update(f_plain[p.n_confound :])
rows = []
for name, images in variants.items():
    feats = features(images)
    rows.append(
        {
            "handling": name,
            "FD-EffNet": frechet_from_features(feats, others),
            "kernel distance": kernel_distance(f_plain[p.n_confound :], feats).value,
            "mean change / levels": (images.float() - same.float()).abs().mean().item(),
        }
    )
for row in rows:
    row["against plain"] = row["FD-EffNet"] - rows[0]["FD-EffNet"]
display(
    save_table(
        run,
        rows,
        "nb06_confounders",
        f"{p.n_confound} validation rooms handled differently, at {side} px, against the "
        f"{len(f_plain) - p.n_confound:,} others handled plainly; the first row is the floor.",
        Protocol(
            p.n_confound,
            len(f_plain) - p.n_confound,
            "validation",
            "as the rows say; the reference " + PREPARED,
            f"images {side}x{side} px, " + reference.space[0].split(", ", 1)[1],
            *reference.space[1:],
        ),
    )
)
worst = max(rows, key=lambda r: r["FD-EffNet"])
excess = frechet_from_features(f_made, others) - rows[0]["FD-EffNet"]
display(
    Markdown(
        f"The worst of these, {worst['handling']}, adds {worst['against plain']:.0f}. For scale: "
        f"as many samples of the GAN stand {excess:.0f} above the same floor. "
        "A comparison of two models needs the same handling of files on all sides before it needs "
        "anything else."
    )
)

# %% [markdown]
# ## 7. Quality against variety
#
# A generator can be steered: scale its latent vector, $z = \psi\, \xi$ with $\xi \sim \mathcal N(0, I)$. A small
# $\psi$ asks for the ordinary, a large one for the unusual. In a good generator precision then
# rises as recall falls. Whether it does here, the two numbers show, and one number could not.

# %%
with torch.no_grad():
    xi = torch.randn(m, gan.generator.latent, generator=torch.Generator().manual_seed(seed + 2)).to(
        next(gan.generator.parameters()).device
    )
    steered = {psi: to_uint8(gan.generator(psi * xi)).cpu() for psi in p.psi}
curve = {psi: four_numbers(features(images)) for psi, images in steered.items()}
points = {"training images": bands[0]} | (
    {"DDPM": four_numbers(f_ddpm[:m])} if len(f_ddpm) >= m else {}
)
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
left.plot(
    [c[3] for c in curve.values()],
    [c[2] for c in curve.values()],
    "o-",
    label="GAN, $z = \\psi\\,\\xi$",
)
for psi, c in curve.items():
    left.annotate(f"{psi:g}", (c[3], c[2]), xytext=(5, 4), textcoords="offset points", fontsize=8)
for (name, c), marker in zip(points.items(), "s^", strict=False):
    left.plot(c[3], c[2], marker, ms=8, label=name)
left.set(
    xlabel="recall",
    ylabel="precision",
    xlim=(-0.03, 1.03),
    ylim=(-0.03, 1.03),
    title=f"{m} images against {m}",
)
left.legend(fontsize=8)
right.plot(list(curve), [c[0] for c in curve.values()], "o-")
right.axhline(bands[:, 0].mean(), color="0.5", ls="--", lw=1)
right.text(p.psi[0], bands[:, 0].mean(), "floor", va="bottom", fontsize=8, color="0.4")
right.set(
    xlabel="ψ",
    ylabel="FD-EffNet",
    ylim=(0, None),
    title=f"{m} images against {len(f_validation):,}",
)
save_figure(
    run,
    fig,
    "nb06_quality_variety",
    "Left: precision and recall of the GAN as its latents are scaled (ψ beside the points), and "
    "of real images and the DDPM. Right: the Fréchet distance of the same images.",
    {
        "psi": {str(k): c for k, c in curve.items()},
        "others": {k: list(map(float, c)) for k, c in points.items()},
    },
    of_near,
)
plt.show()
best_psi = min(curve, key=lambda k: curve[k][0])
small = curve[min(curve)]
gain = small[2] - curve[1.0][2]
chance = 2 * math.sqrt(0.5 / m)  # at most: two errors of a difference of two shares
display(
    Markdown(
        f"From ψ = 1 to ψ = {min(curve):g} recall goes from {curve[1.0][3]:.2f} to {small[3]:.2f} "
        f"and precision from {curve[1.0][2]:.2f} to {small[2]:.2f} (chance alone: ± {chance:.2f}): "
        + (
            "variety is traded for quality"
            if gain > chance
            else "no quality is gained for the variety"
        )
        + f". The Fréchet distance is lowest at ψ = {best_psi:g}."
    )
)

# %% [markdown]
# ## 8. Memorising
#
# There is a generator that beats all others on the Fréchet distance: a drawer of training images. Its score *is* the
# floor. The number cannot tell a copy from a new image, because it never looks at pairs of images. Nearest
# neighbours do.
# For each sample, take the distance in feature space to the closest of the training images at hand, and hold against it what *validation*
# images show, which cannot be copies. To see whether the test would notice, we plant copies.

# %%
q = p.n_neighbours
pool = f_train.double()


def nearest(feats):
    d, i = distances(feats.double(), pool).min(1)
    return d.numpy(), i


near = {
    "validation images": nearest(f_validation[:q]),
    "GAN": nearest(f_gan[:q]),
    "DDPM": nearest(f_ddpm[:q]),
}
# One in ten samples is a training image with a trace of noise.
copies = noise(train_images[: max(2, q // 10)], 2.0)
planted = torch.cat([features(copies), f_gan[: q - len(copies)]])
near["GAN with 10 % copies"] = nearest(planted)
threshold = np.quantile(near["validation images"][0], 0.01)
suspects = {name: float((d < threshold).mean()) for name, (d, _) in near.items()}
fig = plt.figure(figsize=(11, 4))
left, right = fig.subplots(1, 2, width_ratios=[1, 1.35])
bins = np.linspace(0, max(d.max() for d, _ in near.values()), 50)
for (name, (d, _)), style in zip(near.items(), ["-", "-", "-", ":"], strict=True):
    left.hist(d, bins, histtype="step", density=True, lw=1.6, ls=style, label=name)
left.axvline(threshold, color="0.5", lw=1, ls="--")
left.set(
    xlabel="distance to the nearest training image",
    ylabel="density",
    title="dashed: 1 % of validation images lie below",
)
left.legend(fontsize=8)
order = np.argsort(near["GAN"][0])[:8]
order_ddpm = np.argsort(near["DDPM"][0])[:8]
pairs = torch.cat(
    [
        fake_gan[:q][order],
        train_images[near["GAN"][1][order]],
        fake_ddpm[:q][order_ddpm],
        train_images[near["DDPM"][1][order_ddpm]],
    ]
)
show_images(right, pairs, 8, "the 8 closest of each: GAN, its neighbour, DDPM, its neighbour")
save_figure(
    run,
    fig,
    "nb06_neighbours",
    f"Distance to the nearest of {len(pool):,} training images in feature space, and the closest "
    "pairs.",
    {
        "threshold": threshold,
        "share_below": suspects,
        "median": {k: float(np.median(d)) for k, (d, _) in near.items()},
    },
)
plt.show()
display(
    Markdown(
        "Below the threshold lie, by its definition for the validation images, "
        + ", ".join(f"{100 * share:.1f} % ({name})" for name, share in suspects.items())
        + ". "
        + (
            "The planted copies are found; "
            if suspects["GAN with 10 % copies"] > suspects["GAN"] + 0.05
            else "The planted copies are *not* found, so the test is blind here; "
        )
        + (
            "neither model's share is above what chance explains. "
            if max(suspects["GAN"], suspects["DDPM"]) <= 0.01 + 2 * math.sqrt(2 * 0.01 * 0.99 / q)
            else "a share well above 1 % asks for a look at the pairs on the right. "
        )
        + f"Two words of caution: only {len(pool):,} training images are compared here, and a "
        "copy of another one goes unnoticed; "
        "and smooth images are close to everything, so that a poor model can look like a copier."
    )
)

# %% [markdown]
# ## 9. Fig. 8: the distance while training
#
# The report's Fig. 8 shows its GAN's FID over 300 epochs, from about 300 down to 74. Its protocol is not stated; the
# code it used is most likely a StyleGAN2-ADA fork, whose
# "epochs" are ticks of 4,000 images, so that 300 of them are 1.2 million. Ours is another measure, on other
# images, at another size, so the report's two
# published values stand in a panel of their own.
#
# While a model learns it is measured on validation images, as everything so far. Its final numbers, from here to section 11, are measured on the test images, which nothing was chosen by: the diamonds in the figure.


# %%
def curve_of(history):
    rows = [r for r in history if "distance" in r]
    return (
        np.array([r["images"] for r in rows]),
        np.array([r["distance"] for r in rows]),
        [r.get("n") for r in rows],
    )


gan_seen, gan_distance, gan_n = curve_of(gan.history)
ddpm_seen, ddpm_distance, ddpm_n = curve_of(ddpm.history)


def band(distance, counts, b, b_n):
    """Two bootstrap errors, the same share of the distance as at the end; they fall as 1/√N."""
    return np.array(
        [
            2 * b.error / b.value * d * math.sqrt(b_n / (k or b_n))
            for d, k in zip(distance, counts, strict=True)
        ]
    )


gan_band, ddpm_band = (
    band(gan_distance, gan_n, boot, p.n_boot),
    band(ddpm_distance, ddpm_n, boot_ddpm, len(f_ddpm)),
)


def floor_at(counts):
    k = min(counts[-1] or n, len(f_train))
    return frechet_from_features(f_train[:k], reference)


test_images = load_bedrooms(p.source, "test", p.size, limit=p.n_reference or None)
on_test = moments(test_images, cache=True)


def end_on_test(feats, counts):
    """The last model against the test images, from as many samples as the curve's last point."""
    k = min(counts[-1] or n, len(feats))
    return {"n": k, "distance": frechet_from_features(feats[:k], on_test)}


gan_end, ddpm_end = end_on_test(f_gan, gan_n), end_on_test(f_ddpm, ddpm_n)

released = {"GAN": load("gan"), "DDPM": load("ddpm")}
# In profile released they are one and the same, shown once.
same = gan.source == released["GAN"].source and p.size == 64
fig, panels = plt.subplots(
    1 if same else 2,
    3,
    figsize=(12, 3.6 if same else 6.8),
    width_ratios=[1.3, 1.3, 0.8],
    squeeze=False,
)
axes, below = panels[0], panels[1:].flatten()
for ax, x, d, width, counts, end, colour in (
    (axes[0], gan_seen, gan_distance, gan_band, gan_n, gan_end, "C0"),
    (axes[1], ddpm_seen, ddpm_distance, ddpm_band, ddpm_n, ddpm_end, "C1"),
):
    ax.fill_between(x, d - width, d + width, color=colour, alpha=0.25, lw=0)
    ax.plot(x, d, "o-", ms=3, color=colour)
    level = floor_at(counts)
    ax.axhline(level, color="0.5", ls="--", lw=1)
    ax.text(x[-1], level, f"floor, {level:.0f}", ha="right", va="bottom", fontsize=8, color="0.4")
    if end["n"] == (counts[-1] or n):  # else it would compare with no point of the curve
        ax.plot(x[-1], end["distance"], "D", ms=6, mfc="white", color=colour, label="test images")
        ax.legend(fontsize=8)
    ax.set(xlabel="images seen", ylabel="FD-EffNet")
axes[0].set_title(f"this profile's GAN, {p.size} px, {gan_n[-1] or n} samples")
axes[1].set_title(f"this profile's DDPM, {p.size} px, {ddpm_n[-1] or n} samples")
# The released networks, 64 px: what their training measured, and as many real images at their size.
validation_64 = load_bedrooms("rendered", "validation", 64, limit=p.n_reference or None)
train_64 = load_bedrooms("rendered", "train", 64, limit=p.n_released)
floor_64 = compare(train_64, validation_64, split="validation")
released_curves = {}
for ax, name, colour in zip(below, ("GAN", "DDPM"), ("C0", "C1"), strict=False):
    x, d, counts = released_curves[name] = curve_of(released[name].history)
    ax.plot(x, d, "o-", ms=3, color=colour)
    ax.set(
        xlabel="images seen",
        ylabel="FD-EffNet",
        title=f"released {name}, 64 px, {counts[-1]:,} samples",
    )
    if (counts[-1], 3_000) == (floor_64.protocol.n_generated, floor_64.protocol.n_reference):
        ax.axhline(floor_64.distance, color="0.5", ls="--", lw=1)
        ax.text(
            x[-1],
            floor_64.distance,
            f"floor, {floor_64.distance:.0f}",
            ha="right",
            va="bottom",
            fontsize=8,
            color="0.4",
        )
for ax in below[2:]:
    ax.set_axis_off()
for ax in (*axes[:2], *below[:2]):  # a factor is a factor anywhere on the axis
    ax.locator_params(axis="x", nbins=4)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_yscale("log")
    ax.yaxis.set(
        major_locator=LogLocator(subs=(1, 2, 3, 5, 7)),
        minor_locator=NullLocator(),
        major_formatter="{x:,.0f}",
    )
axes[2].plot([0, 300], [300, 74], "s", color="C2")
axes[2].annotate("about 300", (0, 300), xytext=(6, -3), textcoords="offset points", fontsize=8)
axes[2].annotate("74", (300, 74), xytext=(-16, -3), textcoords="offset points", fontsize=8)
axes[2].set(
    xlabel="epoch (likely 4,000 images)",
    ylabel="FID, protocol unstated",
    ylim=(0, 330),
    xlim=(-15, 330),
    title="the report's GAN",
)
save_figure(
    run,
    fig,
    "fig08_fid_curve",
    "Fréchet distance in EfficientNet-Lite0 features (not FID) of validation images against "
    "training images seen; bands: two bootstrap errors, of the last model and scaled to the "
    "others; dashed: real against real at the same N; diamonds: the last model, as many samples, "
    "against test images. "
    "Below: the released networks, as their training measured them (no bands: their samples were "
    "not kept). Top right: the two FID values the report gives, under a protocol it does not "
    "state.",
    {
        "gan": {
            "images": gan_seen.tolist(),
            "distance": gan_distance.tolist(),
            "two_errors": gan_band.tolist(),
            "n": gan_n,
            "test": gan_end,
        },
        "ddpm": {
            "images": ddpm_seen.tolist(),
            "distance": ddpm_distance.tolist(),
            "two_errors": ddpm_band.tolist(),
            "n": ddpm_n,
            "test": ddpm_end,
        },
        "released": {
            name: {"images": x.tolist(), "distance": d.tolist(), "n": counts}
            for name, (x, d, counts) in released_curves.items()
        },
        "report": {"epoch": [0, 300], "fid": [300, 74]},
    },
    {
        "GAN": reference.protocol(gan_n[-1] or n, split="validation"),
        "DDPM": reference.protocol(ddpm_n[-1] or n, split="validation"),
        "GAN on test": on_test.protocol(gan_end["n"], split="test"),
        "DDPM on test": on_test.protocol(ddpm_end["n"], split="test"),
    }
    | {
        f"released {name}": replace(floor_64.protocol, n_generated=counts[-1], n_reference=3_000)
        for name, (_, _, counts) in released_curves.items()
    },
)
plt.show()
lowest = int(np.argmin(gan_distance))
display(
    Markdown(
        f"The GAN goes from {gan_distance[0]:.0f} after {gan_seen[0]:,} images to "
        f"{gan_distance[-1]:.0f} after {gan_seen[-1]:,}, a factor of "
        f"{gan_distance[0] / gan_distance[-1]:.1f}. (Not to be held against the report's "
        f"{300 / 74:.1f}: measure, budget and first evaluation differ, and so does the bias at "
        "finite N, which adds.) "
        + (
            f"Its lowest value, {gan_distance[lowest]:.0f}, was after {gan_seen[lowest]:,} images"
            + (
                "; the difference to the end is within the band. "
                if gan_distance[-1] - gan_distance[lowest] <= gan_band[-1]
                else ": it got worse after that. "
            )
            if lowest < len(gan_seen) - 1
            else "Its last value is its lowest. "
        )
        + f"The DDPM goes from {ddpm_distance[0]:.0f} after {ddpm_seen[0]:,} images to "
        f"{ddpm_distance[-1]:.0f} after {ddpm_seen[-1]:,}. "
        + f"Against the test images: GAN {gan_end['distance']:.0f} from {gan_end['n']:,} samples, "
        f"DDPM {ddpm_end['distance']:.0f} from {ddpm_end['n']:,}."
    )
)

# %% [markdown]
# ## 10. Fig. 9: what the GAN paints
#
# Sixty-four samples each of the GAN of this profile and of the released one, the first that the seed gives, none picked, none thrown away. The numbers above them have protocols of their own and do not compare with each other; each compares with its floor, on the test images. (In profile `released` the two are one, and shown once.)

# %%
floor = compare(train_images[:n], on_test, split="test")
score_gan = compare(fake_gan[:n], on_test, split="test")
fake_64 = released["GAN"].sample(p.n_released, seed=seed + 1)
test_64 = load_bedrooms("rendered", "test", 64, limit=p.n_reference or None)
floor_64, score_64 = (compare(x, test_64, split="test") for x in (train_64, fake_64))
panels = [
    (fake_gan, score_gan, floor, "this profile's GAN"),
    (fake_64, score_64, floor_64, "the released GAN"),
][: 1 if same else 2]
fig, axes = plt.subplots(1, len(panels), figsize=(5.75 * len(panels), 6.7), squeeze=False)
for ax, (images, score, real, which) in zip(axes[0], panels, strict=True):
    show_images(
        ax,
        images[:64],
        8,
        f"{which}, {images.shape[-1]} px\nFD-EffNet {score.distance:.0f} at N = "
        f"{score.protocol.n_generated:,}, floor {real.distance:.0f}",
    )
save_figure(
    run,
    fig,
    "fig09_gan_samples",
    f"64 samples each, not selected. Left: the GAN {gan.source}, {p.size} px; right: the GAN "
    "released with the repository, 64 px.",
    {
        "distance": score_gan.distance,
        "floor": floor.distance,
        "images": int(gan_seen[-1]),
        "seed": seed + 1,
        "released": {"distance": score_64.distance, "floor": floor_64.distance},
    },
    {"left": score_gan.protocol, "right": score_64.protocol},
)
plt.show()

# %% [markdown]
# ## 11. Both models in one table, and the canonical FID

# %%
f_test = features(test_images)
table = []
k = min(p.n_ddpm, n)
for name, feats in (("training images (floor)", f_train), ("GAN", f_gan), ("DDPM", f_ddpm)):
    b = frechet_bootstrap(feats[:k], on_test, p.draws, seed)
    kd, pr = kernel_distance(f_test, feats[:k]), precision_recall(f_test[:k], feats[:k])
    table.append(
        {
            "images": name,
            "N": k,
            "FD-EffNet": b.value,
            "± 2 errors": 2 * b.error,
            "kernel distance": kd.value,
            "± 2 errors (kernel)": 2 * kd.error,
            "precision": pr.precision,
            "recall": pr.recall,
        }
    )
shared = on_test.protocol(k, split="test")
display(
    save_table(
        run,
        table,
        "nb06_models",
        f"{NAMES['efficientnet-lite0']}, and its companions. Protocol: {shared}; precision and "
        f"recall against {k} of them, third neighbours.",
        shared,
    )
)

# %% [markdown]
# FID and KID proper need the Inception weights of 2015. If they lie where PyTorch keeps its downloads, the next cell computes
# FID twice, by torchmetrics and by this package, asserts that the two agree, and adds the KID (over all pairs at once; most tools average it over 100 subsets of 1,000: the same mean, and no less scatter); if not, it says what is missing. No
# other network is put in their place.

# %%
try:
    canonical = evaluate(
        fake_gan[: p.n_fid], test_images[: p.n_fid], split="test", extractor="inception-2015"
    )
except FileNotFoundError as missing:
    display(Markdown(f"**FID and KID were not computed.** {missing}."))
else:
    from torchmetrics.image.fid import FrechetInceptionDistance

    theirs = FrechetInceptionDistance(feature=2048, antialias=False)
    for images, real in ((test_images, True), (fake_gan, False)):
        for part in images[: p.n_fid].split(50):
            theirs.update(part, real=real)
    check(
        "eq:06-frechet",
        canonical.distance / float(theirs.compute()),
        1.0,
        1e-3,
        "FID: this package over torchmetrics, as a ratio",
    )
    display(
        Markdown(
            f"{NAMES['inception-2015']} {canonical.distance:.1f}, "
            f"{KERNEL_NAMES['inception-2015']} {canonical.kernel:.4f} ± "
            f"{2 * canonical.kernel_error:.4f} [{canonical.protocol}]"
        )
    )

# %% [markdown]
# ## Summary
#
# * The Fréchet distance is the cost of the cheapest way to move one Gaussian onto another. It knows means and
#   covariances, and through symmetric eigenvalues it takes one short formula.
# * It answers strongly to blur, noise, crops and colour, far less to missing rooms, and not at all to copying: section 3
#   measures how strongly and which other number notices, section 8 what nearest neighbours see instead.
# * It is biased upwards, for $N$ well above the number of features by $c/N$ with a $c$ of the model's own; it scatters; and it moves when files are handled
#   differently (section 6). So: protocol, floor, interval, or no number.
#
# **To think about.** (1) Which two sets of images, different to any eye, would have FD-EffNet 0? (2) The floor
# compares $N$ training images with $M$ test images. Which of the two should you enlarge to bring it down most
# cheaply, and by how much?
# (3) A model memorises half of the training set and never paints the other half. What do precision, recall and the
# neighbour test say? (4) Why is the kernel distance of the floor sometimes negative, and why must one not clip it at
# 0?
