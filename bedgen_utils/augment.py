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
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# A room has an up and a down. The 90-degree turns and full rotations of the paper would make D
# forget gravity, which is most of what tells a bedroom from its parts, and a luma flip turns lamps
# into holes: none of these is here.
GEOMETRY = ("flip", "shift", "scale", "tilt", "stretch", "slide")
COLOUR = ("brightness", "contrast", "hue", "saturation")

# The projection v vᵀ on the luma axis v = (1, 1, 1)/√3, and v × (·): for Rodrigues' formula.
GREY = torch.full((3, 3), 1 / 3)
CROSS = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)


class AugmentPipe:
    """T: square images (N, 3, S, S) in [-1, 1] and a probability p in [0, 1] -> images of that
    shape, differentiable.

    ops: from GEOMETRY + COLOUR, done in the order given, geometry first, each on each sample with
    probability p, drawn independently by the CPU `generator`. Results may leave [-1, 1], as in the
    paper: clamping would kill gradients and cannot be undone. ValueError for an unknown operation,
    a p outside [0, 1] or images that are not square.
    """

    def __init__(
        self, ops: Sequence[str] = GEOMETRY + COLOUR, generator: torch.Generator | None = None
    ):
        if unknown := set(ops) - set(GEOMETRY + COLOUR):
            raise ValueError(f"unknown operations {sorted(unknown)}; known: {GEOMETRY + COLOUR}")
        self.generator = generator
        self.moves = [op for op in ops if op in GEOMETRY]
        self.tints = [op for op in ops if op in COLOUR]

    def __call__(self, images: Tensor, p: float) -> Tensor:
        if not 0 <= p <= 1:
            raise ValueError(f"p is a probability, got {p}")
        if p == 0:
            return images
        return self.apply(images, *self.draw(len(images), p, images.shape[-1]))

    def draw(self, n: int, p: float, side: int) -> tuple[Tensor, Tensor]:
        """What happens to n images: their maps of `affine` and of `colour`."""
        return self.affine(n, p, side), self.colour(n, p)

    def apply(self, images: Tensor, affine: Tensor, colour: Tensor) -> Tensor:
        """What these maps make of the images."""
        side, width = images.shape[2:]
        if side != width:
            raise ValueError(f"images must be square, got {side}x{width}")
        if self.moves:
            theta = affine[:, :2].to(images)
            at = F.affine_grid(theta, list(images.shape), align_corners=False)
            # reflection: a black border would itself be a pattern that the generator could learn
            images = F.grid_sample(images, at, "bilinear", "reflection", align_corners=False)
        if self.tints:
            m = colour.to(images)
            pixels = torch.baddbmm(m[:, :3, 3:], m[:, :3, :3], images.flatten(2))
            images = pixels.unflatten(2, (side, side))
        return images

    def affine(self, n: int, p: float, side: int) -> Tensor:
        """(N, 3, 3): where in the input each output place looks, in coordinates from -1 to 1."""
        m = torch.eye(3).repeat(n, 1, 1)
        for op in self.moves:
            m = m @ self._move(op, n, p, side)
        return m

    def colour(self, n: int, p: float) -> Tensor:
        """(N, 4, 4): the new (r, g, b, 1) from the old, in [-1, 1] where 0 is middle grey."""
        m = torch.eye(4).repeat(n, 1, 1)
        for op in self.tints:
            m = self._tint(op, n, p) @ m
        return m

    def _normal(self, n: int) -> Tensor:
        return torch.randn(n, generator=self.generator)

    def _uniform(self, n: int) -> Tensor:
        return 2 * torch.rand(n, generator=self.generator) - 1

    def _gate(self, p: float, value: Tensor, identity: float = 0.0) -> Tensor:
        """`value` with probability p, else the operation's neutral parameter."""
        drawn = torch.rand(len(value), generator=self.generator) < p
        return value.where(drawn, identity)

    def _move(self, op: str, n: int, p: float, side: int) -> Tensor:
        m = torch.eye(3).repeat(n, 1, 1)
        match op:
            case "flip":
                m[:, 0, 0] = 1 - 2 * self._gate(p, (self._uniform(n) > 0).float())
            case "shift":  # whole pixels, up to an eighth of the side
                x, y = ((self._uniform(n) * side / 8).round() * 2 / side for _ in range(2))
                m[:, :2, 2] = torch.stack([x, y], 1) * self._gate(p, torch.ones(n))[:, None]
            case "scale":
                s = self._gate(p, 2 ** (0.2 * self._normal(n)), 1.0)
                m[:, 0, 0] = m[:, 1, 1] = 1 / s
            case "tilt":  # about 10 degrees: a camera held askew, not a room on its side
                a = self._gate(p, math.radians(10) * self._normal(n))
                m[:, 0, 0] = m[:, 1, 1] = a.cos()
                m[:, 1, 0], m[:, 0, 1] = a.sin(), -a.sin()
            case "stretch":
                s = self._gate(p, 2 ** (0.2 * self._normal(n)), 1.0)
                m[:, 0, 0], m[:, 1, 1] = 1 / s, s
            case "slide":  # N(0, 1/8) of the side, which is 1/4 here, not in whole pixels
                keep = self._gate(p, torch.ones(n))[:, None]
                m[:, :2, 2] = 0.25 * torch.stack([self._normal(n), self._normal(n)], 1) * keep
        return m

    def _tint(self, op: str, n: int, p: float) -> Tensor:
        m, eye = torch.eye(4).repeat(n, 1, 1), torch.eye(3)
        match op:
            case "brightness":
                m[:, :3, 3] = self._gate(p, 0.2 * self._normal(n))[:, None]
            case "contrast":
                m[:, :3, :3] *= self._gate(p, 2 ** (0.5 * self._normal(n)), 1.0)[:, None, None]
            case "hue":  # a turn about the luma axis, any angle
                a = self._gate(p, math.pi * self._uniform(n))[:, None, None]
                m[:, :3, :3] = GREY + a.cos() * (eye - GREY) + a.sin() * CROSS
            case "saturation":
                gain = self._gate(p, 2 ** self._normal(n), 1.0)[:, None, None]
                m[:, :3, :3] = GREY + gain * (eye - GREY)
        return m


@dataclass
class AdaptiveP:
    """The controller: every `every` batches, p += sign(r_t − target) · images seen since / rise,
    kept in [0, bound].

    r_t = mean sign(logit of an augmented real image): 0 when D cannot tell, 1 when it calls every
    one real, however narrowly; 0.6 means 80 % of them are called real. `rise` is how many images p
    needs from 0 to 1: the paper's 500,000 would outlast our whole training, so it is a `share` of
    the budget (in images). The relativistic game and WGAN-GP fix logits only up to a constant: hand
    over logits less the mean logit of generated images there.
    """

    budget: float
    p: float = 0.0
    target: float = 0.6
    bound: float = 0.8
    share: float = 0.25
    every: int = 4

    def __post_init__(self) -> None:
        self.rise, self.r = self.share * self.budget, 0.0
        self._start()

    def _start(self) -> None:
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
            self._start()
        return self.p

    def state_dict(self) -> dict[str, float]:
        """Plain numbers, for a checkpoint."""
        return vars(self) | {"_sum": float(self._sum)}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a ``state_dict``."""
        vars(self).update(state)
