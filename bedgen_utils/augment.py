r"""Adaptive discriminator augmentation (Karras et al. 2020), written from the paper.

With 1,000 images a discriminator soon knows each by heart and its verdict no longer helps the
generator. So all that D is shown, real or generated, first goes through a random operation T. G is
trained by

    E_z[log(1 − D(T(G(z))))],        gradients running back through T,

and matches T(G(z)) with T(x) in distribution. That makes G(z) match x whenever T, seen as a linear
map on probability distributions, can be undone. Each operation below is skipped with probability 1
− p, so T = (1 − p) I + p S, and with p well below 1 the undisturbed part stays recognisable:
nothing leaks into the generated images. The paper's safe bound is p ≤ 0.8. How far D overfits is
read from its outputs on (augmented) real images, r_t = E[sign a(x)], and p follows it.

Geometry is one affine map per sample, sampled once; colour is one 4x4 matrix per sample acting on
(r, g, b, 1).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

GEOMETRY = ("flip", "shift", "scale", "tilt", "stretch", "slide")
COLOUR = ("brightness", "contrast", "hue", "saturation")
# A room has an up and a down. The 90-degree turns and full rotations of the paper would make D
# forget gravity, which is most of what tells a bedroom from its parts, and a luma flip turns lamps
# into holes: neither is in the default list.

# The projection v vᵀ on the luma axis v = (1, 1, 1)/√3, and v × (·): for Rodrigues' formula.
GREY = torch.full((3, 3), 1 / 3)
CROSS = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)


def _translation(x: Tensor, y: Tensor) -> Tensor:
    m = torch.eye(3).repeat(len(x), 1, 1)
    m[:, 0, 2], m[:, 1, 2] = x, y
    return m


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], 1))


def _rotation(angle: Tensor) -> Tensor:
    m = torch.eye(3).repeat(len(angle), 1, 1)
    m[:, 0, 0] = m[:, 1, 1] = angle.cos()
    m[:, 1, 0], m[:, 0, 1] = angle.sin(), -angle.sin()
    return m


class AugmentPipe:
    """T: square images (N, 3, S, S) in [-1, 1] and a probability p in [0, 1] -> images of that
    shape, differentiable.

    ops: which operations, from GEOMETRY + COLOUR, in this order; each is applied to each sample
    with probability p, drawn apart. Results may leave [-1, 1], as in the paper: clamping would kill
    gradients and cannot be undone. A `torch.Generator` on the CPU makes the draws repeatable.
    Raises ValueError for an unknown operation or a p outside [0, 1], or images that are not square.
    """

    def __init__(
        self, ops: Sequence[str] = GEOMETRY + COLOUR, generator: torch.Generator | None = None
    ):
        if unknown := set(ops) - set(GEOMETRY + COLOUR):
            raise ValueError(f"unknown operations {sorted(unknown)}; known: {GEOMETRY + COLOUR}")
        self.ops, self.generator = tuple(ops), generator

    def __call__(self, images: Tensor, p: float) -> Tensor:
        if not 0 <= p <= 1:
            raise ValueError(f"p is a probability, got {p}")
        if p == 0:
            return images
        n, _, side, width = images.shape
        if side != width:
            raise ValueError(f"images must be square, got {side}x{width}")
        if set(self.ops) & set(GEOMETRY):
            theta = self.affine(n, p, side)[:, :2].to(images)
            at = F.affine_grid(theta, list(images.shape), align_corners=False)
            # reflection: a black border would itself be a pattern that the generator could learn
            images = F.grid_sample(images, at, "bilinear", "reflection", align_corners=False)
        if set(self.ops) & set(COLOUR):
            m = self.colour(n, p).to(images)
            pixels = torch.baddbmm(m[:, :3, 3:], m[:, :3, :3], images.flatten(2))
            images = pixels.unflatten(2, (side, side))
        return images

    def _normal(self, n: int) -> Tensor:
        return torch.randn(n, generator=self.generator)

    def _uniform(self, n: int) -> Tensor:
        return 2 * torch.rand(n, generator=self.generator) - 1

    def _gate(self, n: int, p: float, value: Tensor, identity: float = 0.0) -> Tensor:
        """`value` with probability p, else the operation's neutral parameter."""
        drawn = torch.rand(n, generator=self.generator) < p
        return torch.where(drawn, value, torch.full((n,), identity))

    def affine(self, n: int, p: float, side: int) -> Tensor:
        """(N, 3, 3): where in the input each output place looks, in coordinates from -1 to 1."""
        m = torch.eye(3).repeat(n, 1, 1)
        for op in self.ops:
            if op in GEOMETRY:
                m = m @ self._move(op, n, p, side)
        return m

    def _move(self, op: str, n: int, p: float, side: int) -> Tensor:
        match op:
            case "flip":
                flipped = self._gate(n, p, (self._uniform(n) > 0).float())
                return _scaling(1 - 2 * flipped, torch.ones(n))
            case "shift":  # whole pixels, up to an eighth of the side
                x, y = ((self._uniform(n) * side / 8).round() * 2 / side for _ in range(2))
                keep = self._gate(n, p, torch.ones(n))
                return _translation(x * keep, y * keep)
            case "scale":
                s = self._gate(n, p, 2 ** (0.2 * self._normal(n)), 1.0)
                return _scaling(1 / s, 1 / s)
            case "tilt":  # about 10 degrees: a camera held askew, not a room on its side
                return _rotation(self._gate(n, p, math.radians(10) * self._normal(n)))
            case "stretch":
                s = self._gate(n, p, 2 ** (0.2 * self._normal(n)), 1.0)
                return _scaling(1 / s, s)
        # "slide", by fractions of a pixel: N(0, 1/8) of the side, that is 1/4 in these coordinates
        keep = self._gate(n, p, torch.ones(n))
        x, y = (0.25 * self._normal(n) for _ in range(2))
        return _translation(x * keep, y * keep)

    def colour(self, n: int, p: float) -> Tensor:
        """(N, 4, 4): the new (r, g, b, 1) from the old, in [-1, 1] where 0 is middle grey."""
        m = torch.eye(4).repeat(n, 1, 1)
        for op in self.ops:
            if op in COLOUR:
                m = self._tint(op, n, p) @ m
        return m

    def _tint(self, op: str, n: int, p: float) -> Tensor:
        step, eye = torch.eye(4).repeat(n, 1, 1), torch.eye(3)
        match op:
            case "brightness":
                step[:, :3, 3] = self._gate(n, p, 0.2 * self._normal(n))[:, None]
            case "contrast":
                gain = self._gate(n, p, 2 ** (0.5 * self._normal(n)), 1.0)[:, None, None]
                step[:, :3, :3] = gain * eye
            case "hue":  # a turn about the luma axis, any angle
                a = self._gate(n, p, math.pi * self._uniform(n))[:, None, None]
                step[:, :3, :3] = GREY + a.cos() * (eye - GREY) + a.sin() * CROSS
            case "saturation":
                gain = self._gate(n, p, 2 ** self._normal(n), 1.0)[:, None, None]
                step[:, :3, :3] = GREY + gain * (eye - GREY)
        return step


class AdaptiveP:
    """The controller: every `every` batches, p += sign(r_t − target) · images seen since / rise,
    kept in [0, bound].

    r_t = mean sign(logit of an augmented real image): 0 when D cannot tell, 1 when it calls every
    one real, however narrowly; 0.6 means 80 % of them are called real. `rise` is how many images p
    needs from 0 to 1: the paper's 500,000 would outlast our whole training, so it is a quarter of
    the budget (in images) by default. The relativistic game and WGAN-GP fix logits only up to a
    constant: hand over logits less the mean logit of generated images there.
    """

    def __init__(
        self,
        budget: float,
        p: float = 0.0,
        target: float = 0.6,
        bound: float = 0.8,
        share: float = 0.25,
        every: int = 4,
    ):
        self.p, self.target, self.bound, self.every = float(p), target, bound, every
        self.rise = share * budget
        self.r = 0.0
        self._sum: float | Tensor = 0.0
        self._count = self._images = self._batches = 0

    def update(self, real_logits: Tensor, n_images: int) -> float:
        """Take in logits (N,) of augmented real images, which stand for n_images; returns p."""
        # a number on the device until it is asked for
        self._sum = self._sum + real_logits.detach().sign().sum()
        self._count += real_logits.numel()
        self._images += n_images
        self._batches += 1
        if self._batches == self.every:
            self.r = float(self._sum) / self._count
            step = math.copysign(self._images / self.rise, self.r - self.target)
            self.p = min(max(self.p + step, 0.0), self.bound)
            self._sum, self._count, self._images, self._batches = 0.0, 0, 0, 0
        return self.p

    def state_dict(self) -> dict[str, float]:
        """Plain numbers, for a checkpoint."""
        return vars(self) | {"_sum": float(self._sum)}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a ``state_dict``."""
        vars(self).update(state)
