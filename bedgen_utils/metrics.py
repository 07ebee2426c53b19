"""How far are generated images from real ones?

A fixed network maps an image to a feature vector f in R^D (``features``). Both sets of images
become clouds of features, and the clouds are compared.

**Fréchet distance** (Dowson & Landau 1982; Heusel et al. 2017). Fit a Gaussian to each cloud. The
squared 2-Wasserstein distance of two Gaussians is

    d² = |μ₁ - μ₂|² + Tr Σ₁ + Tr Σ₂ - 2 Tr (Σ₁^½ Σ₂ Σ₁^½)^½

The matrix under the root is symmetric and positive semi-definite, so the trace of its root is the
sum of √λᵢ over real eigenvalues λᵢ ≥ 0 (`eigvalsh`, clamped at 0): no imaginary parts to drop. The
same λᵢ belong to RᵀΣ₂R for every R with RRᵀ = Σ₁: a Cholesky factor, or, with N < D samples, the
centred features themselves, which leaves an N by N problem.

**Kernel distance** (Bińkowski et al. 2018): the unbiased estimate of the squared maximum mean
discrepancy under k(x, y) = (xᵀy/D + 1)³.

**Precision and recall** (Kynkäänniemi et al. 2019): around each point of a cloud lies a ball that
reaches its k-th neighbour. Precision is the share of generated points inside some real ball (do
they look real?), recall the share of real points inside some generated ball (is everything
covered?).

The estimated Fréchet distance is too large at finite N, by about c/N with c depending on the model
(Chong & Forsyth 2020), and it depends on network, resize, crop and reference set. So each number
travels with its `Protocol`, and numbers of different protocols refuse to be compared. The default
network is EfficientNet-Lite0; its distance is the "Fréchet distance in EfficientNet-Lite0 features
(FD-EffNet)" and is no FID. The FID needs `extractor="inception-2015"` and the weights that
everybody uses.

All arithmetic on features is float64 and on the CPU: not every device has float64 (MPS).
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .data import cache_folder, replace_atomically
from .features import FeatureNetwork, check_images, features, network

NAMES = {
    "efficientnet-lite0": "Fréchet distance in EfficientNet-Lite0 features (FD-EffNet)",
    "inception-2015": "Fréchet Inception Distance (FID)",
}
KERNEL_NAMES = {
    "efficientnet-lite0": "kernel distance in EfficientNet-Lite0 features",
    "inception-2015": "Kernel Inception Distance (KID)",
}
PREPARED = "centre square, bicubic with antialiasing"  # what `load_bedrooms` makes of a file

Images = Tensor | np.ndarray  # uint8 (N, 3, H, W)
Numbers = ArrayLike | Tensor  # features (N, D), a mean or a covariance


class SmallSampleWarning(UserWarning):
    """No more samples than feature dimensions: singular covariance, distance biased upwards."""


class ProtocolError(ValueError):
    """Two numbers, or a set of images and a reference, belong to different protocols."""


# ---- numbers that come in


def _float64(x: Numbers) -> Tensor:
    # To the CPU first: a device without float64 cannot convert on the way.
    x = x.detach().cpu() if isinstance(x, Tensor) else x
    return torch.as_tensor(x, dtype=torch.float64)


def _cloud(feats: Numbers) -> Tensor:
    """Features (N, D) as float64 on the CPU; ValueError for another shape, NaN or infinity."""
    x = _float64(feats)
    if x.ndim != 2:
        raise ValueError(f"features must have shape (N, D), not {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError(
            "features contain NaN or infinity: look at the images or the weights that made them"
        )
    return x


def _clouds(x: Numbers, y: Numbers) -> tuple[Tensor, Tensor]:
    x, y = _cloud(x), _cloud(y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"features of {x.shape[1]} and of {y.shape[1]} dimensions cannot be compared: "
            "take both from one network"
        )
    return x, y


def _finite(value: float, what: str) -> float:
    # Finite features may still overflow, and max(0, NaN) would be the best distance there is.
    if not math.isfinite(value):
        raise ValueError(f"the {what} is {value}: the features are too large for float64")
    return value


# ---- mean and covariance


class Moments:
    """Mean and covariance of a stream of features, in float64 and in memory D², whatever N is.

    Batches are centred before they are merged (Chan, Golub & LeVeque 1979): nothing cancels where
    |mean| >> spread. ``space`` says what the features are: (resize, extractor, sha256 of the
    weights).
    """

    def __init__(self, dim: int, space: tuple[str, ...] = ()):
        self.n, self.space = 0, space
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64)

    def update(self, feats: Numbers) -> Moments:
        """Add features (N, D) and return self. ValueError for NaN or infinity, or another D."""
        x = _cloud(feats)
        if x.shape[1] != len(self.mean):
            raise ValueError(f"features must have {len(self.mean)} dimensions, not {x.shape[1]}")
        if len(x):
            n, centred, shift = self.n + len(x), x - x.mean(0), x.mean(0) - self.mean
            between = torch.outer(shift, shift) * (self.n * len(x) / n)
            self.scatter += centred.T @ centred + between
            self.mean, self.n = self.mean + shift * (len(x) / n), n
        return self

    def check(self) -> None:
        """ValueError where mean or scatter hold NaN or infinity or have shapes that do not fit."""
        if self.mean.ndim != 1 or self.scatter.shape != self.mean.shape * 2:
            raise ValueError(
                f"moments of shapes {tuple(self.mean.shape)} and {tuple(self.scatter.shape)}"
            )
        if not (torch.isfinite(self.mean).all() and torch.isfinite(self.scatter).all()):
            raise ValueError(
                "moments contain NaN or infinity: make the reference again from its images"
            )

    @property
    def covariance(self) -> Tensor:
        """Unbiased (D, D). ValueError below 2 samples or for NaN, SmallSampleWarning up to D."""
        self.check()
        _check_count(self.n, len(self.mean))
        return self.scatter / (self.n - 1)

    def protocol(
        self, n_generated: int, *, split: str = "unstated", crop: str = PREPARED
    ) -> Protocol:
        """Of a distance of ``n_generated`` images from these, which are of this ``split``."""
        return Protocol(n_generated, self.n, split, crop, *self.space)


def _check_count(n: int, dim: int) -> None:
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 samples, not N = {n}")
    if n <= dim:
        warnings.warn(
            f"N = {n} in {dim} dimensions: the covariance is singular, the Fréchet distance biased "
            "upwards; compare at equal N only, and beside real against real",
            SmallSampleWarning,
            stacklevel=3,
        )


def _as_moments(real: Numbers | Moments, dim: int) -> Moments:
    reference = real if isinstance(real, Moments) else Moments(dim).update(real)
    if len(reference.mean) != dim:
        raise ValueError(
            f"features of {dim} dimensions, a reference of {len(reference.mean)}: "
            "take both from one network"
        )
    return reference


# ---- Fréchet distance


def frechet_distance(mu1: Numbers, sigma1: Numbers, mu2: Numbers, sigma2: Numbers) -> float:
    """Squared 2-Wasserstein distance of N(mu1, sigma1) and N(mu2, sigma2); means (D,), covariances
    (D, D).

    ValueError for shapes that do not fit, NaN or infinity, or a covariance that is not symmetric
    and positive semi-definite.
    """
    given = [_float64(a) for a in (mu1, sigma1, mu2, sigma2)]
    m1, s1, m2, s2 = given
    if m1.ndim != 1 or m1.shape != m2.shape or not s1.shape == s2.shape == m1.shape * 2:
        raise ValueError(f"shapes do not fit: {[tuple(a.shape) for a in given]}")
    if not all(torch.isfinite(a).all() for a in given):
        raise ValueError("a mean or covariance contains NaN or infinity")
    s1, s2 = _symmetric(s1), _symmetric(s2)
    return _frechet(m1 - m2, _root(s1), s2)


def _symmetric(sigma: Tensor) -> Tensor:
    if not torch.allclose(sigma, sigma.T, rtol=1e-6, atol=1e-9 * float(sigma.abs().max())):
        raise ValueError("a covariance is not symmetric")
    return (sigma + sigma.T) / 2


def _root(sigma: Tensor) -> Tensor:
    """R with RRᵀ = Σ."""
    root, failed = torch.linalg.cholesky_ex(sigma)
    if not failed:
        return root
    eigenvalues, vectors = torch.linalg.eigh(sigma)  # singular, so without a Cholesky factor
    if eigenvalues[0] < -1e-6 * eigenvalues[-1].abs():
        raise ValueError(f"a covariance has the negative eigenvalue {float(eigenvalues[0]):.3g}")
    return vectors * eigenvalues.clamp(min=0).sqrt()


def _frechet(shift: Tensor, root: Tensor, sigma2: Tensor) -> float:
    """The distance where Σ₁ = RRᵀ with R = `root` of shape (D, r)."""
    eigenvalues = torch.linalg.eigvalsh(root.T @ sigma2 @ root).clamp(min=0)
    traces = (root**2).sum() + sigma2.trace() - 2 * eigenvalues.sqrt().sum()
    return max(0.0, _finite(float((shift**2).sum() + traces), "Fréchet distance"))


def frechet_from_features(x: Numbers, y: Numbers | Moments) -> float:
    """Fréchet distance of features x (N, D) from features (M, D) or from their `Moments`.

    Several times faster than `frechet_distance` while N < D. Warns of N <= D and of a set whose
    features are all equal; ValueError for NaN or infinity on either side.
    """
    x = _cloud(x)
    y = _as_moments(y, x.shape[1])
    if len(x) > x.shape[1]:
        return _frechet_of_moments(Moments(x.shape[1]).update(x), y)
    _check_count(len(x), x.shape[1])
    sigma = y.covariance
    centred = x - x.mean(0)
    _check_spread((x.mean(0), (centred**2).sum() / (len(x) - 1)), (y.mean, sigma.trace()))
    return _frechet(x.mean(0) - y.mean, centred.T / (len(x) - 1) ** 0.5, sigma)


def _frechet_of_moments(x: Moments, y: Moments) -> float:
    of_x, of_y = x.covariance, y.covariance
    _check_spread((x.mean, of_x.trace()), (y.mean, of_y.trace()))
    return frechet_distance(x.mean, of_x, y.mean, of_y)


def _check_spread(*sets: tuple[Tensor, Tensor]) -> None:
    # Equal images in different batches differ by rounding; real sets spread as far as their mean is
    # long.
    if any(variance <= 1e-9 * (mean**2).sum() for mean, variance in sets):
        warnings.warn(
            "all features of a set are equal (constant or identical images?): covariance zero",
            UserWarning,
            stacklevel=4,
        )


# ---- kernel distance, precision and recall


class Estimate(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float


class PrecisionRecall(NamedTuple):
    """Do the generated images look real, and do they cover what is real? Each in [0, 1]."""

    precision: float
    recall: float


def kernel_distance(x: Numbers, y: Numbers, chunk: int = 1000) -> Estimate:
    """Squared maximum mean discrepancy of features (N, D) and (M, D) under (xᵀy/D + 1)³, with its
    standard error.

    The U-statistic over all pairs is unbiased, so it may fall below zero. The error is the
    delete-one jackknife, which takes row sums only; blocks of `chunk` rows bound the memory. At
    least 3 samples a side, else ValueError.
    """
    x, y = _clouds(x, y)
    n, m = len(x), len(y)
    if min(n, m) < 3:
        raise ValueError(
            f"the kernel distance needs at least 3 samples a side, not N = {n} and {m}"
        )

    def k(a: Tensor, b: Tensor) -> Tensor:  # row sums of the kernel
        return torch.cat([(rows @ b.T / b.shape[1] + 1).pow(3).sum(1) for rows in a.split(chunk)])

    # A point is no pair with itself.
    xx, yy = (k(a, a) - ((a * a).mean(1) + 1).pow(3) for a in (x, y))
    xy, yx = k(x, y), k(y, x)
    value = xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * xy.sum() / (n * m)
    without_x = (xx.sum() - 2 * xx) / ((n - 1) * (n - 2)) - 2 * (xy.sum() - xy) / ((n - 1) * m)
    without_y = (yy.sum() - 2 * yy) / ((m - 1) * (m - 2)) - 2 * (yx.sum() - yx) / ((m - 1) * n)
    variance = (n - 1) * without_x.var(correction=0) + (m - 1) * without_y.var(correction=0)
    return Estimate(_finite(float(value), "kernel distance"), float(variance.sqrt()))


def precision_recall(
    real: Numbers, fake: Numbers, k: int = 3, chunk: int = 1000
) -> PrecisionRecall:
    """Improved precision and recall of features `fake` (M, D) against `real` (N, D), by k-th
    neighbours.

    Comparable at equal N and M only. Moving both clouds alike changes nothing. ValueError unless
    each side has more than k samples.
    """
    real, fake = _clouds(real, fake)
    if k < 1 or min(len(real), len(fake)) <= k:
        raise ValueError(
            f"k = {k} must be at least 1 and below the number of samples, "
            f"{len(real)} and {len(fake)}"
        )
    # Far from the origin `distances` would round what is close to 0.
    centre = torch.cat([real, fake]).mean(0)
    real, fake = real - centre, fake - centre

    def covered(points: Tensor, centres: Tensor) -> float:
        # the nearest neighbour of a centre among the centres is itself, hence k + 1
        radii = [distances(c, centres).kthvalue(k + 1).values for c in centres.split(chunk)]
        reach = torch.cat(radii)
        inside = [(distances(p, centres) <= reach).any(1) for p in points.split(chunk)]
        return float(torch.cat(inside).double().mean())

    return PrecisionRecall(covered(fake, real), covered(real, fake))


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (N, M) of float64 points.

    By matrix products, which are eight times faster and leave a rounding error of 1e-8 of the
    length between equal points: what is below 1e-6 of the length counts as 0.
    """
    d = torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
    return d.masked_fill_(d < 1e-6 * a.norm(dim=1, keepdim=True), 0)


# ---- from N samples to the model


class Bootstrap(NamedTuple):
    """A distance, and how it scatters over other samples of the same model."""

    value: float  # of the set itself
    error: float  # standard deviation over resampled sets
    bias: float  # their mean minus value: what drawing N from N instead of from the model adds


class Extrapolation(NamedTuple):
    """The line distance = value + slope/N and the points through which it was laid."""

    value: float  # at N = infinity
    error: float  # of the intercept, without the set's own scatter; NaN for two points
    slope: float
    sizes: list[int]
    distances: list[float]


def frechet_infinity(
    fake: Numbers,
    real: Numbers | Moments,
    sizes: Sequence[int] | None = None,
    repeats: int = 1,
    seed: int = 0,
) -> Extrapolation:
    """Fréchet distance at infinitely many generated samples (Chong & Forsyth 2020); `real` stays as
    it is.

    Fits distance = value + slope/N over random subsets of `fake`, `repeats` of each size; sizes
    default to six from a quarter of the samples to all. The law holds for N well above D; the bias
    of a finite `real` stays.
    """
    fake = _cloud(fake)
    wanted = np.linspace(len(fake) / 4, len(fake), 6) if sizes is None else sizes
    sizes = [int(s) for s in wanted]
    if len(set(sizes)) < 2 or min(sizes) < 2 or max(sizes) > len(fake):
        raise ValueError(
            f"sizes must hold two different numbers or more, from 2 to N = {len(fake)}, not {sizes}"
        )
    g = torch.Generator().manual_seed(seed)
    reference = _as_moments(real, fake.shape[1])
    n = np.repeat(sizes, repeats)
    subsets = (fake[torch.randperm(len(fake), generator=g)[:s]] for s in n.tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSampleWarning)  # small N is the purpose here
        d = np.array([frechet_from_features(subset, reference) for subset in subsets])
    design = np.stack([np.ones(len(n)), 1 / n], 1)
    value, slope = np.linalg.lstsq(design, d)[0]
    residual = np.sum((d - design @ (value, slope)) ** 2)
    noise = residual / (len(d) - 2) if len(d) > 2 else np.nan
    error = (noise * np.linalg.inv(design.T @ design)[0, 0]) ** 0.5
    return Extrapolation(float(value), float(error), float(slope), n.tolist(), d.tolist())


def frechet_bootstrap(
    fake: Numbers, real: Numbers | Moments, draws: int = 50, seed: int = 0
) -> Bootstrap:
    """How far the Fréchet distance would scatter over other samples of the same model (Efron 1979).

    `fake` (N, D) is drawn N times with replacement, `draws` times over, against `real`, features or
    `Moments`, kept as it is. Resampled sets hold only about 63 % different samples, so their
    distances come out too large; the interval therefore is value ± 2 error and not a pair of
    percentiles.
    """
    fake = _cloud(fake)
    real = _as_moments(real, fake.shape[1])
    g, n = torch.Generator().manual_seed(seed), len(fake)
    resampled = (fake[torch.randint(n, (n,), generator=g)] for _ in range(draws))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSampleWarning)  # once, for the value itself, is enough
        found = [frechet_from_features(sample, real) for sample in resampled]
    value, d = frechet_from_features(fake, real), torch.tensor(found, dtype=torch.float64)
    return Bootstrap(value, float(d.std()), float(d.mean()) - value)


# ---- numbers that carry their protocol


@dataclass(frozen=True)
class Protocol:
    """What a reader needs to measure the same number again."""

    n_generated: int
    n_reference: int
    split: str
    crop: str  # how files became images
    resize: str  # how images become the network's input
    extractor: str
    weights_sha256: str

    def require(self, other: Protocol) -> None:
        """ProtocolError that names each field in which `other` differs."""
        mine, theirs = asdict(self), asdict(other)
        differ = [
            f"{key} {mine[key]!r} against {theirs[key]!r}"
            for key in mine
            if mine[key] != theirs[key]
        ]
        if differ:
            raise ProtocolError(
                "numbers of different protocols cannot be compared: " + "; ".join(differ)
            )

    def __str__(self) -> str:
        return (
            f"{self.n_generated:,} generated against {self.n_reference:,} reference images "
            f"(split {self.split}), crop {self.crop}, {self.resize}, {self.extractor}, "
            f"weights {self.weights_sha256[:8]}"
        )


@dataclass(frozen=True)
class Score:
    """A Fréchet distance with its protocol; ProtocolError where two do not compare."""

    distance: float
    protocol: Protocol

    @property
    def name(self) -> str:
        """What the distance is called in these features."""
        return NAMES[self.protocol.extractor]

    def __sub__(self, other: Score) -> float:
        self.protocol.require(other.protocol)
        return self.distance - other.distance

    def __lt__(self, other: Score) -> bool:
        return self - other < 0

    def __str__(self) -> str:
        return f"{self.name}: {self.distance:.1f} [{self.protocol}]"

    def row(self) -> dict:
        """A flat dict, for tables and the manifest."""
        return {"metric": self.name, "distance": self.distance} | asdict(self.protocol)


@dataclass(frozen=True)
class Evaluation:
    """Fréchet and kernel distance (with its standard error), precision and recall of one set."""

    distance: float
    kernel: float
    kernel_error: float
    precision: float
    recall: float
    protocol: Protocol


def _space(images: Tensor, net: FeatureNetwork, extractor: str) -> tuple[str, str, str]:
    """What the features of these images are: (resize, extractor, sha256 of the weights)."""
    return (
        f"images {images.shape[2]}x{images.shape[3]} px, {net.resize}",
        extractor,
        net.sha256,
    )


def moments(
    images: Images,
    extractor: str = "efficientnet-lite0",
    batch: int = 32,
    weights: str | Path | None = None,
    cache: bool = False,
) -> Moments:
    """`Moments` of the features of uint8 images (N, 3, H, W), streamed.

    With `cache`, meant for reference sets, they are kept in `data.cache_folder`, keyed by the
    images' bytes and by what the features are. An entry that cannot be read, or is not what it
    should be, is made again; a folder that cannot be written costs a warning and nothing else.
    """
    images, net = check_images(images), network(extractor, weights)
    m = Moments(net.dim, _space(images, net, extractor))
    path = _entry(images, m.space) if cache else None
    if path and _read(path, m, len(images)):
        return m
    for part in images.split(16 * batch):
        m.update(features(part, extractor, batch, weights))
    if path:
        _write(path, m)
    return m


def _entry(images: Tensor, space: tuple[str, ...]) -> Path:
    """Where the moments of these images are kept."""
    key = hashlib.sha256(repr((space, tuple(images.shape))).encode())
    for part in images.split(4096):
        key.update(part.cpu().contiguous().numpy())
    return cache_folder() / "moments" / f"{key.hexdigest()}.npz"


def _read(path: Path, m: Moments, n: int) -> bool:
    """Fill ``m`` from the file, if it holds the moments of n images in as many dimensions."""
    try:
        with np.load(path) as z:
            found = Moments(0, m.space)
            found.n, found.mean, found.scatter = (
                int(z["n"]),
                _float64(z["mean"]),
                _float64(z["scatter"]),
            )
        found.check()
        if found.n != n or found.mean.shape != m.mean.shape:
            raise ValueError(f"{found.n} images in {len(found.mean)} dimensions")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except Exception as error:  # zipfile, zlib and numpy each have their own words for damage
        warnings.warn(f"{path} is unreadable ({error}) and is made again", stacklevel=3)
        return False
    m.n, m.mean, m.scatter = found.n, found.mean, found.scatter
    return True


def _write(path: Path, m: Moments) -> None:
    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, n=m.n, mean=m.mean.numpy(), scatter=m.scatter.numpy())

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(path, write)
    except OSError as error:
        warnings.warn(
            f"moments are not kept ({error}); BEDGEN_CACHE names another folder",
            stacklevel=3,
        )


def compare(
    fake: Images,
    real: Images | Moments,
    *,
    split: str = "unstated",
    crop: str = PREPARED,
    extractor: str = "efficientnet-lite0",
    batch: int = 32,
    weights: str | Path | None = None,
) -> Score:
    """Fréchet distance of generated images `fake` from reference images `real`, uint8 (N, 3, H, W),
    or `Moments`.

    `split` and `crop` say which reference images these are; they are recorded in the protocol. The
    reference's moments are cached. ProtocolError where image sizes, network or weights differ.
    """
    fake, net = check_images(fake), network(extractor, weights)
    reference = real
    if not isinstance(reference, Moments):
        reference = moments(reference, extractor, batch, weights, cache=True)
    space = _space(fake, net, extractor)
    if space != reference.space:
        raise ProtocolError(
            f"the reference was measured as {reference.space}, the generated images as {space}"
        )
    protocol = reference.protocol(len(fake), split=split, crop=crop)
    if len(fake) <= net.dim:
        feats = features(fake, extractor, batch, weights)
        return Score(frechet_from_features(feats, reference), protocol)
    of_fake = moments(fake, extractor, batch, weights)
    return Score(_frechet_of_moments(of_fake, reference), protocol)


def evaluate(
    fake: Images,
    real: Images,
    *,
    split: str = "unstated",
    crop: str = PREPARED,
    extractor: str = "efficientnet-lite0",
    batch: int = 32,
    weights: str | Path | None = None,
) -> Evaluation:
    """Fréchet and kernel distance, precision and recall of images `fake` (N, 3, H, W) against
    `real` (M, 3, H, W).

    Both uint8 and of one size, else ProtocolError. The distances take all images; precision and
    recall (k = 3) take the first min(N, M) of both, since balls around fewer points are larger.
    `split` and `crop` as in `compare`.
    """
    fake, real, net = check_images(fake), check_images(real), network(extractor, weights)
    if fake.shape[1:] != real.shape[1:]:
        raise ProtocolError(
            f"reference images of {tuple(real.shape[2:])}, generated of {tuple(fake.shape[2:])}"
        )
    f, r = (features(images, extractor, batch, weights) for images in (fake, real))
    kernel, n = kernel_distance(f, r), min(len(f), len(r))
    near = precision_recall(r[:n], f[:n])
    protocol = Protocol(len(f), len(r), split, crop, *_space(fake, net, extractor))
    return Evaluation(frechet_from_features(f, r), *kernel, *near, protocol)
