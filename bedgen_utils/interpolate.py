r"""Paths between two latents, and how even the images along them are.

A straight line (lerp) between a and b in R^D:

    x(s) = (1 − s) a + s b,   0 ≤ s ≤ 1

The length of a vector of D independent standard normal numbers is √D, give or take 1/√2. The
straight line between two of them leaves that shell: halfway its squared length is D/2. The great
circle (slerp; Shoemake 1985) stays. With directions u = a/|a| and w = b/|b|, and the angle Ω
between them taken anew for every pair,

    x(s) = ((1 − s)|a| + s|b|) · (sin((1 − s)Ω) u + sin(sΩ) w) / sin Ω

turns by the same angle in equal steps of s, and its length runs evenly from |a| to |b|. For |a| =
|b| this is Shoemake's formula. Put the vectors instead of the directions into that formula, as is
often done, and for unequal lengths the angle no longer grows evenly, and near Ω = π the length has
a pole.

A DDPM's latent of a given image is the x_T from which DDIM leads to it (``ddim_encode``).

What a path looks like is measured on features f_0 … f_K of its K + 1 images (Karras et al. 2019 for
the first):

    perceptual path length   K² mean_k |f_k − f_{k−1}|²: the mean squared speed in s
    length, chord, detour    Σ_k |f_k − f_{k−1}|,  |f_K − f_0|,  length / chord ≥ 1
    unevenness               standard deviation of the K steps over their mean

The images should be floats. Rounded to 256 levels, a value that should move by δ < 1 levels moves
by a whole one with probability δ: its mean square is δ, not δ². The path length of rounded images
then grows like K as the steps shrink; that of float images settles.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .diffusion import GaussianDiffusion, Model

Between = Callable[[Tensor, Tensor, float | Tensor], Tensor]  # (a, b, s) -> the point at s


def _working(x: Tensor) -> Tensor:
    # At least float32, and no float64 that was not there: not every device has it.
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _fraction(s: float | Tensor, a: Tensor, b: Tensor) -> Tensor:
    """s as (N or 1, 1, …, 1) in the working dtype, after the checks that lerp and slerp share."""
    if not (a.is_floating_point() and b.is_floating_point()):  # integers would be cut off
        raise TypeError(f"ends must be floating, got {a.dtype} and {b.dtype}")
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"ends must have one shape (N, …), got {(*a.shape,)} and {(*b.shape,)}")
    s = torch.as_tensor(s, dtype=torch.promote_types(a.dtype, torch.float32), device=a.device)
    if s.shape not in ((), a.shape[:1]) or not ((s >= 0) & (s <= 1)).all():
        raise ValueError(f"s must be one number in [0, 1], or one for each pair, got {s}")
    return s.reshape(-1, *[1] * (a.ndim - 1))


def lerp(a: Tensor, b: Tensor, s: float | Tensor) -> Tensor:
    """The point at fraction s of the straight line from a to b: a at s = 0, b at s = 1.

    a, b: (N, …) floating. s in [0, 1]: one number, or (N,), one for each pair. Returns the shape
    and dtype of a; ValueError where shapes or s do not fit.
    """
    s = _fraction(s, a, b)
    return ((1 - s) * _working(a) + s * _working(b)).to(a.dtype)


def angle(a: Tensor, b: Tensor) -> Tensor:
    """The angle Ω in [0, π] of each pair of vectors, (N,). a, b: (N, …), each sample one vector.

    2 atan2(|u − w|, |u + w|) for unit vectors (Kahan): accurate everywhere, where arccos(u·w) loses
    half its digits near 0 and π. A zero vector has no direction: ValueError.
    """
    u, w = _direction(a)[0], _direction(b)[0]
    return 2 * torch.atan2((u - w).norm(dim=1), (u + w).norm(dim=1))


def _direction(x: Tensor) -> tuple[Tensor, Tensor]:
    x = _working(x).flatten(1)
    length = x.norm(dim=1, keepdim=True)
    if not (length > 0).all():
        raise ValueError("a zero vector (or one with NaN) has no direction")
    return x / length, length


def slerp(a: Tensor, b: Tensor, s: float | Tensor) -> Tensor:
    """The point at fraction s of the great circle from a to b; arguments and answer as of ``lerp``.

    Each sample, of whatever shape, is one vector. Parallel vectors are joined by their straight
    line, which is the limit. Opposite ones (closer than √eps of their dtype) are joined by every
    great circle and by none more than by another: ValueError, as for zero vectors.
    """
    s = _fraction(s, a, b).flatten(1)
    (u, r_a), (w, r_b) = _direction(a), _direction(b)
    omega = angle(u, w)[:, None]
    if (math.pi - omega < math.sqrt(torch.finfo(a.dtype).eps)).any():
        raise ValueError("opposite vectors have no shortest great circle between them")
    # sin(sΩ)/sin Ω = s · sinc(sΩ/π)/sinc(Ω/π), and sinc(0) = 1: parallel vectors divide by no 0
    sinc = torch.sinc(omega / math.pi)
    to_u = (1 - s) * torch.sinc((1 - s) * omega / math.pi) / sinc
    to_w = s * torch.sinc(s * omega / math.pi) / sinc
    point = ((1 - s) * r_a + s * r_b) * (to_u * u + to_w * w)
    return point.reshape(a.shape).to(a.dtype)


def path(a: Tensor, b: Tensor, steps: int, how: Between = slerp) -> Tensor:
    """Points at s = 0, 1/steps … 1 between each pair: (N, steps + 1, …) for ends (N, …)."""
    return torch.stack([how(a, b, k / steps) for k in range(steps + 1)], dim=1)


@torch.no_grad()
def ddim_encode(
    d: GaussianDiffusion, model: Model, x0: Tensor, steps: int | None = None, refine: int = 1
) -> Tensor:
    """x_T from which d.sample(model, x_T, ddim_step, d.timesteps(steps), clip=False) leads to x0.

    DDIM's steps (Song et al. 2021, Eq. 12 with σ = 0) solved backwards. Each step is implicit in
    x_t: it starts from ε̂(x_s, t) and is iterated `refine` more times towards its solution.
    """
    x, abar = x0, d.abar.tolist()
    for s, t in pairwise(d.timesteps(steps)[::-1]):
        xt, at = x, torch.full((len(x),), t, device=x.device)
        for _ in range(1 + refine):
            x0_hat = d.predict_xstart(model(xt, at), xt, at)
            if abar[s] > 0.5:  # little noise: trust ε̂
                eps_hat = d.predict_eps_from_xstart(xt, at, x0_hat)
                x0_hat = (x - (1 - abar[s]) ** 0.5 * eps_hat) / abar[s] ** 0.5
            else:  # little image: trust x̂_0; each contracts where the other hardly does
                eps_hat = (x - abar[s] ** 0.5 * x0_hat) / (1 - abar[s]) ** 0.5
            xt = abar[t] ** 0.5 * x0_hat + (1 - abar[t]) ** 0.5 * eps_hat
        x = xt
    return x


@dataclass
class Smoothness:
    """One number a path, (N,), by the formulas of the module. Features give the units."""

    length: Tensor
    chord: Tensor
    unevenness: Tensor
    path_length: Tensor  # Karras et al.'s perceptual path length, squared distance per unit of s²

    @property
    def detour(self) -> Tensor:
        """length / chord: 1 for a straight line in feature space."""
        return self.length / self.chord


def smoothness(features: Tensor) -> Smoothness:
    """Measures of N paths from features (N, K + 1, D) of their images, K ≥ 2."""
    if features.ndim != 3 or features.shape[1] < 3:
        raise ValueError(f"features must be (N, K + 1, D) with K >= 2, got {(*features.shape,)}")
    f = _working(features)
    steps = f.diff(dim=1).norm(dim=2)
    return Smoothness(
        length=steps.sum(1),
        chord=(f[:, -1] - f[:, 0]).norm(dim=1),
        unevenness=steps.std(1, correction=0) / steps.mean(1),
        path_length=steps.shape[1] ** 2 * steps.square().mean(1),
    )
