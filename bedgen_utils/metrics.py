"""How far are generated images from real ones?

A fixed network maps each image to features f in R^D (module ``features``), and the two clouds of
features are compared.

**Fréchet distance** (Dowson & Landau 1982; Heusel et al. 2017): the squared 2-Wasserstein distance
of Gaussians fitted to the clouds,

    d² = |μ₁ - μ₂|² + Tr Σ₁ + Tr Σ₂ - 2 Tr (Σ₁^½ Σ₂ Σ₁^½)^½

The matrix under the root is symmetric, so the trace of its root is the sum of √λᵢ over real
eigenvalues λᵢ ≥ 0: no imaginary parts to drop. The same λᵢ belong to RᵀΣ₂R for every R with
RRᵀ = Σ₁: a Cholesky factor, or, with N < D samples, the centred features themselves (N by N).

**Kernel distance** (Bińkowski et al. 2018): the squared maximum mean discrepancy under
k(x, y) = (xᵀy/D + 1)³.

**Precision and recall** (Kynkäänniemi et al. 2019): a ball around each point reaches its k-th
neighbour. Precision is the share of generated points inside some real ball (do they look real?),
recall the share of real points inside some generated ball (is everything covered?).

The numbers depend on sample size, network, resize, crop and reference set, so each travels with
its `Protocol` and refuses to be compared with one of another. The FID needs
`extractor="inception-2015"`; in the features of the default network the distance is no FID.

Arithmetic on features is float64 on the CPU: not every device has float64 (MPS).
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .features import DEFAULT, Images, Weights, check_images, features, network
from .sources import cache_folder, replace_atomically

NAMES = {
    DEFAULT: "Fréchet distance in EfficientNet-Lite0 features (FD-EffNet)",
    "inception-2015": "Fréchet Inception Distance (FID)",
}
KERNEL_NAMES = {
    DEFAULT: "kernel distance in EfficientNet-Lite0 features",
    "inception-2015": "Kernel Inception Distance (KID)",
}
OVERFLOW = "the distance: features are too large for float64"
PREPARED = "centre square, bicubic with antialiasing"  # what `load_bedrooms` makes of a file

Array = ArrayLike | Tensor  # features (N, D), a mean or a covariance


class SmallSampleWarning(UserWarning):
    """No more samples than feature dimensions: singular covariance, distance biased upwards."""


class ProtocolError(ValueError):
    """Two numbers, or a set of images and a reference, belong to different protocols."""


# ---- features, their mean and covariance


def _float64(x: Array) -> Tensor:
    # To the CPU first: a device without float64 cannot convert on the way.
    x = x.detach().cpu() if isinstance(x, Tensor) else x
    if x.is_complex() if isinstance(x, Tensor) else np.iscomplexobj(x):  # half would be dropped
        raise TypeError("complex numbers where real ones are expected")
    return torch.as_tensor(x, dtype=torch.float64)


def _cloud(feats: Array, dim: int | None = None) -> Tensor:
    """Finite features (N, D), with D = dim if it is given; else ValueError."""
    x = _float64(feats)
    if x.ndim != 2:
        raise ValueError(f"features must have shape (N, D), not {tuple(x.shape)}")
    if x.shape[1] != (dim or x.shape[1]):
        raise ValueError(f"features must have {dim} dimensions, not {x.shape[1]}: mixed networks?")
    _check_finite("features: look at the images or the weights that made them", x)
    return x


def _check_finite(what: str, *values: Tensor) -> None:
    if not all(torch.isfinite(v).all() for v in values):
        raise ValueError(f"NaN or infinity in {what}")


class Moments:
    """Mean (D,) and covariance (D, D) of a stream of features, in memory D², whatever N is.

    Batches are centred before they are merged (Chan, Golub & LeVeque 1979): nothing cancels where
    |mean| >> spread. space: what the features are, (resize, extractor, sha256 of the weights).
    """

    def __init__(self, dim: int, space: tuple[str, ...] = ()):
        self.n, self.space = 0, space
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64)

    def update(self, feats: Array) -> Moments:
        """Add features (N, D) and return self. ValueError for NaN or infinity, or another D."""
        x = _cloud(feats, len(self.mean))
        if len(x):
            n, centred, shift = self.n + len(x), x - x.mean(0), x.mean(0) - self.mean
            between = torch.outer(shift, shift) * (self.n * len(x) / n)
            self.scatter += centred.T @ centred + between
            self.mean, self.n = self.mean + shift * (len(x) / n), n
        return self

    def check(self) -> None:
        """ValueError for NaN or infinity."""
        _check_finite("moments: make them again from their images", self.mean, self.scatter)

    @property
    def covariance(self) -> Tensor:
        """Unbiased. ValueError below 2 samples or for NaN; warns as `frechet_from_features`."""
        self.check()
        _check_sample(self.n, self.mean, self.scatter.trace() / (self.n - 1))
        return self.scatter / (self.n - 1)

    def protocol(self, n: int, *, split: str = "unstated", crop: str = PREPARED) -> Protocol:
        """Of a distance of ``n`` generated images from these, which are of this ``split``."""
        return Protocol(n, self.n, split, crop, *self.space)


Cloud = Array | Moments  # features (N, D), or their moments
Reference = Images | Moments


def _check_sample(n: int, mean: Tensor, variance: Tensor) -> None:
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 samples, not N = {n}")
    if n <= len(mean):
        what = f"N = {n} in {len(mean)} dimensions: biased upwards, compare at equal N only"
        warnings.warn(what, SmallSampleWarning, stacklevel=3)
    # Equal images in different batches differ by rounding; a real set spreads as far as its mean.
    if variance <= 1e-9 * (mean**2).sum():
        what = "all features of a set are equal (constant or identical images?): covariance zero"
        warnings.warn(what, stacklevel=3)


def _as_moments(real: Cloud, dim: int) -> Moments:
    if not isinstance(real, Moments):
        return Moments(dim).update(real)
    if len(real.mean) != dim:
        raise ValueError(f"features of {dim} dimensions, a reference of {len(real.mean)}")
    return real


# ---- Fréchet distance


def frechet_distance(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array) -> float:
    """Squared 2-Wasserstein distance of Gaussians with means (D,) and covariances (D, D).

    ValueError for shapes that do not fit, NaN or infinity, or a covariance that is not symmetric
    and positive semi-definite.
    """
    m1, s1, m2, s2 = given = [_float64(a) for a in (mu1, sigma1, mu2, sigma2)]
    if m1.ndim != 1 or m1.shape != m2.shape or not s1.shape == s2.shape == m1.shape * 2:
        raise ValueError(f"shapes do not fit: {[tuple(a.shape) for a in given]}")
    _check_finite("a mean or covariance", *given)
    for s in (s1, s2):
        if not torch.allclose(s, s.T, rtol=1e-6, atol=1e-9 * float(s.abs().max())):
            raise ValueError("a covariance is not symmetric")
    s1, s2 = (s1 + s1.T) / 2, (s2 + s2.T) / 2
    _root(s2)  # raises unless semi-definite
    return _frechet(m1 - m2, _root(s1), s2)


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
    distance = (shift**2).sum() + traces
    _check_finite(OVERFLOW, distance)  # max(0, NaN) would be the best distance there is
    return max(0.0, float(distance))


def frechet_from_features(x: Cloud, y: Cloud) -> float:
    """Fréchet distance of features (N, D) and (M, D), or of their `Moments`.

    Several times faster than `frechet_distance` while N < D. Warns of N <= D and of a set whose
    features are all equal; ValueError for NaN or infinity on either side.
    """
    if not isinstance(x, Moments):
        x = _cloud(x)
        n, dim = x.shape
        if n <= dim:
            y, mean = _as_moments(y, dim), x.mean(0)
            root = (x - mean).T / (n - 1) ** 0.5
            _check_sample(n, mean, (root**2).sum())
            return _frechet(mean - y.mean, root, y.covariance)
        x = Moments(dim).update(x)
    y = _as_moments(y, len(x.mean))
    return frechet_distance(x.mean, x.covariance, y.mean, y.covariance)


# ---- kernel distance, precision and recall


class Estimate(NamedTuple):
    value: float
    error: float  # one standard error


class PrecisionRecall(NamedTuple):
    """Do the generated images look real, and do they cover what is real? Each in [0, 1]."""

    precision: float
    recall: float


def kernel_distance(x: Array, y: Array, chunk: int = 1000) -> Estimate:
    """Squared maximum mean discrepancy of features (N, D) and (M, D), with its standard error.

    The U-statistic over all pairs is unbiased: it may fall below zero. The error is the delete-one
    jackknife. Blocks of `chunk` rows bound the memory. ValueError below 3 samples a side.
    """
    x = _cloud(x)
    y = _cloud(y, x.shape[1])
    n, m = len(x), len(y)
    if min(n, m) < 3:
        raise ValueError(f"the kernel distance needs at least 3 samples a side, not {n} and {m}")

    def k(a: Tensor, b: Tensor) -> Tensor:  # row sums of the kernel
        return torch.cat([(rows @ b.T / b.shape[1] + 1).pow(3).sum(1) for rows in a.split(chunk)])

    # A point is no pair with itself.
    xx, yy = (k(a, a) - ((a * a).mean(1) + 1).pow(3) for a in (x, y))
    xy, yx = k(x, y), k(y, x)
    value = xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * xy.sum() / (n * m)
    without_x = (xx.sum() - 2 * xx) / ((n - 1) * (n - 2)) - 2 * (xy.sum() - xy) / ((n - 1) * m)
    without_y = (yy.sum() - 2 * yy) / ((m - 1) * (m - 2)) - 2 * (yx.sum() - yx) / ((m - 1) * n)
    variance = (n - 1) * without_x.var(correction=0) + (m - 1) * without_y.var(correction=0)
    _check_finite(OVERFLOW, value, variance)
    return Estimate(float(value), float(variance.sqrt()))


def precision_recall(real: Array, fake: Array, k: int = 3, chunk: int = 1000) -> PrecisionRecall:
    """Improved precision and recall of features `fake` (M, D) against `real` (N, D).

    Comparable at equal N and M only. ValueError unless each side has more than k samples.
    """
    real = _cloud(real)
    fake = _cloud(fake, real.shape[1])
    n, m = len(real), len(fake)
    if not 1 <= k < min(n, m):
        raise ValueError(f"k = {k} must lie from 1 to below the numbers of samples, {n} and {m}")
    # Far from the origin `distances` would round what is close to 0.
    centre = torch.cat([real, fake]).mean(0)
    real, fake = real - centre, fake - centre

    def covered(points: Tensor, centres: Tensor) -> float:
        # the nearest neighbour of a centre among the centres is itself, hence k + 1
        radii = [distances(c, centres).kthvalue(k + 1).values for c in centres.split(chunk)]
        reach = torch.cat(radii)
        _check_finite(OVERFLOW, reach)  # infinite balls hold everything
        inside = [(distances(p, centres) <= reach).any(1) for p in points.split(chunk)]
        return float(torch.cat(inside).double().mean())

    return PrecisionRecall(covered(fake, real), covered(real, fake))


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (N, M) of float64 points.

    By matrix products, eight times faster. They leave a rounding error of 1e-8 of the length
    between equal points, so what is below 1e-6 of the length counts as 0.
    """
    d = torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
    return d.masked_fill_(d < 1e-6 * a.norm(dim=1, keepdim=True), 0)


# ---- how far it scatters


class Bootstrap(NamedTuple):
    """A distance, and how it scatters over other samples of the same model."""

    value: float  # of the set itself
    error: float  # standard deviation over resampled sets
    bias: float  # their mean minus value: what drawing N from N instead of from the model adds


def _all_distances(sets: Iterable[Tensor], real: Moments) -> list[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSampleWarning)  # small N is the purpose here
        return [frechet_from_features(x, real) for x in sets]


def frechet_bootstrap(fake: Array, real: Cloud, draws: int = 50, seed: int = 0) -> Bootstrap:
    """How far the Fréchet distance would scatter over other samples of the same model (Efron 1979).

    N of the N `fake` features are drawn with replacement, `draws` times. Such a set holds about
    63 % of them, so its distance is too large: the interval is value ± 2 error, not percentiles.
    ValueError below 2 draws, which have no scatter.
    """
    if draws < 2:
        raise ValueError(f"a scatter needs at least 2 draws, not {draws}")
    fake = _cloud(fake)
    real = _as_moments(real, fake.shape[1])
    g, n = torch.Generator().manual_seed(seed), len(fake)
    resampled = (fake[torch.randint(n, (n,), generator=g)] for _ in range(draws))
    d = torch.tensor(_all_distances(resampled, real), dtype=torch.float64)
    value = frechet_from_features(fake, real)
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
        differ = [f"{k} {v!r} against {theirs[k]!r}" for k, v in mine.items() if v != theirs[k]]
        if differ:
            what = "numbers of different protocols cannot be compared: "
            raise ProtocolError(what + "; ".join(differ))

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
        return NAMES[self.protocol.extractor]

    def __sub__(self, other: Score) -> float:
        self.protocol.require(other.protocol)
        return self.distance - other.distance

    def __lt__(self, other: Score) -> bool:
        return self - other < 0

    def __str__(self) -> str:
        return f"{self.name}: {self.distance:.1f} [{self.protocol}]"


@dataclass(frozen=True)
class Evaluation:
    """Fréchet and kernel distance (with its standard error), precision and recall of one set."""

    distance: float
    kernel: float
    kernel_error: float
    precision: float
    recall: float
    protocol: Protocol


def _space(
    images: Images, extractor: str = DEFAULT, weights: Weights = None, **_: Any
) -> tuple[int, tuple[str, str, str]]:
    """Dimension of the features of these images, and what they are."""
    (height, width), net = check_images(images).shape[2:], network(extractor, weights)
    return net.dim, (f"images {height}x{width} px, {net.resize}", extractor, net.sha256)


def moments(images: Images, *, cache: bool = False, **how: Any) -> Moments:
    """`Moments` of the features of uint8 images (N, 3, H, W), streamed.

    how: extractor, batch and weights, as in `features`. cache, meant for reference sets: keep them
    in `sources.cache_folder`. Damaged entries are made again; of a disk that is full or read-only
    it warns.
    """
    images = check_images(images)
    m = Moments(*_space(images, **how))
    path = _entry(images, m.space) if cache else None
    if path and _read(path, m, len(images)):
        return m
    for part in images.split(16 * how.get("batch", 32)):
        m.update(features(part, **how))
    if path:
        _write(path, m)
    return m


def _entry(images: Tensor, space: tuple[str, ...]) -> Path:
    """Where the moments of these images are kept."""
    key = hashlib.sha256(repr((space, tuple(images.shape))).encode())
    key.update(images.cpu().contiguous().numpy().data)
    return cache_folder() / "moments" / f"{key.hexdigest()}.npz"


def _read(path: Path, m: Moments, n: int) -> bool:
    """Fill the empty ``m`` from the file, if it holds the moments of n images."""
    try:
        with np.load(path) as z:
            mean, scatter = _float64(z["mean"]), _float64(z["scatter"])
            if (z["n"], mean.shape, scatter.shape) != (n, m.mean.shape, m.scatter.shape):
                raise ValueError("it holds something else")
        _check_finite("it", mean, scatter)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except Exception as error:  # zipfile, zlib and numpy each have their own words for damage
        warnings.warn(f"{path} is unreadable ({error}) and is made again", stacklevel=3)
        return False
    m.n, m.mean, m.scatter = n, mean, scatter
    return True


def _write(path: Path, m: Moments) -> None:
    file = io.BytesIO()
    np.savez(file, n=m.n, mean=m.mean.numpy(), scatter=m.scatter.numpy())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(path, lambda temporary: temporary.write_bytes(file.getbuffer()))
    except OSError as error:
        what = f"moments are not kept ({error}); BEDGEN_CACHE names another folder"
        warnings.warn(what, stacklevel=3)


def compare(
    fake: Images, real: Reference, *, split: str = "unstated", crop: str = PREPARED, **how: Any
) -> Score:
    """Fréchet distance of generated uint8 images (N, 3, H, W) from reference images or `Moments`.

    `split` and `crop` say which reference images these are, for the protocol; their moments are
    cached. how: as in `moments`. ProtocolError where image sizes, network or weights differ.
    """
    dim, space = _space(fake, **how)
    if not isinstance(real, Moments):
        real = moments(real, cache=True, **how)
    if space != real.space:
        raise ProtocolError(f"the reference was measured as {real.space}, the images as {space}")
    cloud = moments(fake, **how) if len(fake) > dim else features(fake, **how)
    protocol = real.protocol(len(fake), split=split, crop=crop)
    return Score(frechet_from_features(cloud, real), protocol)


def evaluate(
    fake: Images, real: Images, *, split: str = "unstated", crop: str = PREPARED, **how: Any
) -> Evaluation:
    """All numbers of generated images (N, 3, H, W) against real ones (M, 3, H, W); both uint8.

    The distances take all images; precision and recall (k = 3) the first min(N, M) of both, since
    balls around fewer points are larger. Options as in `compare`; ProtocolError for two sizes.
    """
    fake, real = check_images(fake), check_images(real)
    size, other = tuple(fake.shape[2:]), tuple(real.shape[2:])
    if size != other:
        raise ProtocolError(f"reference images of {other}, generated of {size}")
    f, r = features(fake, **how), features(real, **how)
    n, (_, space) = min(len(f), len(r)), _space(fake, **how)
    near, protocol = precision_recall(r[:n], f[:n]), Protocol(len(f), len(r), split, crop, *space)
    return Evaluation(frechet_from_features(f, r), *kernel_distance(f, r), *near, protocol)
