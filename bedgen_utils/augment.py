r"""Adaptive discriminator augmentation (Karras et al. 2020), written from the paper.

With 1,000 images a discriminator soon knows each by heart and its verdict no longer helps the generator. So all
that D is shown, real or generated, first goes through a random operation T. G is trained by

    E_z[log(1 - D(T(G(z))))],        gradients running back through T,

and matches T(G(z)) with T(x) in distribution. That makes G(z) match x whenever T, seen as a linear map on probability
distributions, can be undone. Each operation below is skipped with probability 1 - p, so T = (1-p) I + p S, and with p
well below 1 the undisturbed part stays recognisable: nothing leaks into the generated images. The paper's safe bound is
p <= 0.8. How far D overfits is read from its outputs on (augmented) real images, r_t = E[sign a(x)], and p follows it.

Geometry is one affine map per sample, sampled once; colour is one 4x4 matrix per sample acting on (r, g, b, 1).
"""

import math

import torch
import torch.nn.functional as F

GEOMETRY = ("flip", "shift", "scale", "tilt", "stretch", "slide")
COLOUR = ("brightness", "contrast", "hue", "saturation")
# A room has an up and a down. The 90-degree turns and full rotations of the paper would make D forget gravity, which is
# most of what tells a bedroom from its parts, and a luma flip turns lamps into holes: neither is in the default list.


def _translation(x, y):
    m = torch.eye(3).repeat(len(x), 1, 1)
    m[:, 0, 2], m[:, 1, 2] = x, y
    return m


def _scaling(x, y):
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], 1))


def _rotation(angle):
    m = torch.eye(3).repeat(len(angle), 1, 1)
    m[:, 0, 0] = m[:, 1, 1] = angle.cos()
    m[:, 1, 0], m[:, 0, 1] = angle.sin(), -angle.sin()
    return m


class AugmentPipe:
    """T: square images (N, 3, S, S) in [-1, 1] and a probability p in [0, 1] -> images of that shape, differentiable.

    ops: which operations, from GEOMETRY + COLOUR, in this order; each is applied to each sample with probability p,
    drawn apart. Results may leave [-1, 1], as in the paper: clamping would kill gradients and cannot be undone.
    A `torch.Generator` makes the draws repeatable. Raises ValueError for an unknown operation or a p outside [0, 1], or
    images that are not square.
    """

    def __init__(self, ops=GEOMETRY + COLOUR, generator=None):
        if unknown := set(ops) - set(GEOMETRY + COLOUR):
            raise ValueError(f"unknown operations {sorted(unknown)}; known: {GEOMETRY + COLOUR}")
        self.ops, self.generator = tuple(ops), generator

    def _normal(self, n):
        return torch.randn(n, generator=self.generator)

    def _uniform(self, n, low=-1.0, high=1.0):
        return low + (high - low) * torch.rand(n, generator=self.generator)

    def _gate(self, n, p, value, identity=0.0):
        """`value` with probability p, else the operation's neutral parameter."""
        return torch.where(torch.rand(n, generator=self.generator) < p, value, torch.full((n,), identity))

    def affine(self, n, p, side):
        """(N, 3, 3): where in the input each output place looks, in coordinates that run from -1 to 1."""
        m = torch.eye(3).repeat(n, 1, 1)
        for op in self.ops:
            if op == "flip":
                m = m @ _scaling(1 - 2 * self._gate(n, p, (self._uniform(n) > 0).float()), torch.ones(n))
            elif op == "shift":  # whole pixels, up to an eighth of the side
                x, y = ((self._uniform(n) * side / 8).round() * 2 / side for _ in range(2))
                keep = self._gate(n, p, torch.ones(n))
                m = m @ _translation(x * keep, y * keep)
            elif op == "scale":
                s = self._gate(n, p, 2 ** (0.2 * self._normal(n)), 1.0)
                m = m @ _scaling(1 / s, 1 / s)
            elif op == "tilt":  # about 10 degrees: a camera held askew, not a room on its side
                m = m @ _rotation(self._gate(n, p, math.radians(10) * self._normal(n)))
            elif op == "stretch":
                s = self._gate(n, p, 2 ** (0.2 * self._normal(n)), 1.0)
                m = m @ _scaling(1 / s, s)
            elif op == "slide":  # fractional shift, N(0, 1/8) of the side, that is 1/4 in these coordinates
                keep = self._gate(n, p, torch.ones(n))
                m = m @ _translation(0.25 * self._normal(n) * keep, 0.25 * self._normal(n) * keep)
        return m

    def colour(self, n, p):
        """(N, 4, 4): the new (r, g, b, 1) from the old, in [-1, 1] where 0 is middle grey."""
        m = torch.eye(4).repeat(n, 1, 1)
        eye = torch.eye(3)
        grey = torch.full((3, 3), 1 / 3)  # projection on the luma axis v = (1, 1, 1)/sqrt(3), which is v v^T
        cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # v x (.), for Rodrigues' formula
        for op in self.ops:
            step = torch.eye(4).repeat(n, 1, 1)
            if op == "brightness":
                step[:, :3, 3] = self._gate(n, p, 0.2 * self._normal(n))[:, None]
            elif op == "contrast":
                step[:, :3, :3] = self._gate(n, p, 2 ** (0.5 * self._normal(n)), 1.0)[:, None, None] * eye
            elif op == "hue":  # a turn about the luma axis, any angle
                a = self._gate(n, p, math.pi * self._uniform(n))[:, None, None]
                step[:, :3, :3] = grey + a.cos() * (eye - grey) + a.sin() * cross
            elif op == "saturation":
                step[:, :3, :3] = grey + self._gate(n, p, 2 ** self._normal(n), 1.0)[:, None, None] * (eye - grey)
            else:
                continue
            m = step @ m
        return m

    def __call__(self, images, p):
        if not 0 <= p <= 1:
            raise ValueError(f"p is a probability, got {p}")
        if p == 0:
            return images
        n, _, side, width = images.shape
        if side != width:
            raise ValueError(f"images must be square, got {side}x{width}")
        if set(self.ops) & set(GEOMETRY):
            theta = self.affine(n, p, side)[:, :2].to(images)
            grid = F.affine_grid(theta, images.shape, align_corners=False)
            # reflection: a black border would itself be a pattern that the generator could learn
            images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        if set(self.ops) & set(COLOUR):
            m = self.colour(n, p).to(images)
            images = torch.baddbmm(m[:, :3, 3:], m[:, :3, :3], images.flatten(2)).unflatten(2, (side, side))
        return images


class AdaptiveP:
    """The controller: every `every` batches, p += sign(r_t - target) * images seen since / rise, kept in [0, bound].

    r_t = mean sign(logit of an augmented real image): 0 when D cannot tell, 1 when it calls every one real, however
    narrowly; 0.6 means 80 % of them are called real. `rise` is how many images p needs from 0 to 1: the paper's 500,000
    would outlast our whole training, so it is a quarter of the budget (in images) by default. The relativistic game and
    WGAN-GP fix logits only up to a constant: hand over logits less the mean logit of generated images there.
    """

    def __init__(self, budget, p=0.0, target=0.6, bound=0.8, share=0.25, every=4):
        self.p, self.target, self.bound, self.every = float(p), target, bound, every
        self.rise = share * budget
        self.r = 0.0
        self._sum, self._count, self._images, self._batches = 0.0, 0, 0, 0

    def update(self, real_logits, n_images):
        """Take in the logits (N,) of one batch of augmented real images, which stands for n_images; returns p."""
        self._sum = self._sum + real_logits.detach().sign().sum()  # a number on the device until it is asked for
        self._count += real_logits.numel()
        self._images += n_images
        self._batches += 1
        if self._batches == self.every:
            self.r = float(self._sum) / self._count
            step = math.copysign(self._images / self.rise, self.r - self.target)
            self.p = min(max(self.p + step, 0.0), self.bound)
            self._sum, self._count, self._images, self._batches = 0.0, 0, 0, 0
        return self.p

    def state_dict(self):
        return vars(self) | {"_sum": float(self._sum)}

    def load_state_dict(self, state):
        vars(self).update(state)
