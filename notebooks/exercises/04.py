"""GAN training: the exercises of notebook 04, in the order of its text."""

import math

import torch
import torch.nn.functional as F

from bedgen_utils.exercises import Exercise


def _densities() -> list[tuple]:
    p = torch.tensor([0.1, 0.5, 0.9, 0.02], dtype=torch.float64)
    q = torch.tensor([0.3, 0.4, 0.1, 0.7], dtype=torch.float64)
    return [(p, q, 0.2), (p, q, 0.7)]


def _logits() -> list[tuple]:
    """The second holds one that the sigmoid rounds to 0 in float32."""
    return [(torch.tensor([-3.0, -0.5, 2.0]),), (torch.tensor([-200.0, 1.0]),)]


def _curved(x: torch.Tensor) -> torch.Tensor:
    """A discriminator whose slope is x + ½ at each pixel."""
    return (0.5 * x.square() + 0.5 * x).flatten(1).sum(1)


def _images() -> list[tuple]:
    g = torch.Generator().manual_seed(3)
    sizes = ((2, 3, 4, 4), (5, 3, 2, 2))
    return [
        (_curved, torch.randn(size, generator=g), gamma)
        for size, gamma in zip(sizes, (0.1, 2), strict=True)
    ]


def _slope(d, x, of=torch.sum):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(of(d(x)), x, create_graph=True)[0].flatten(1)


def _squares(d, x):
    return _slope(d, x).square().sum(1)


def _moves() -> list[tuple]:
    """(p_aug, real, fake, step): each tells two wrong controllers apart."""
    flat = torch.tensor([-1.0, 1.0] * 5)  # as many as there are real ones
    near = torch.tensor([0.1] * 9 + [-50.0])  # nine of ten above, one far below
    some = torch.tensor([1.0] * 11 + [-1.0] * 9)  # r_t = 0.1
    most = torch.tensor([1.0] * 7 + [-1.0] * 3)  # r_t = 0.4
    return [
        (0.3, near, flat, 0.05),
        (0.78, torch.ones(10), flat, 0.05),
        (0.02, some, flat.repeat(2), 0.05),
        (0.4, some, flat.repeat(2), 0.05),
        (0.4, most, flat, 0.05),
        (0.4, torch.full((10,), 3.0), flat + 5, 0.05),  # all positive, all below the generated
    ]


def _controller(up, low=0.0, high=0.8):
    def move(p_aug, real, fake, step):
        return min(high, max(low, p_aug + step if up(real, fake) else p_aug - step))

    return move


def _r(real, fake):
    return float((real - fake.mean()).sign().mean())


EXERCISES = {
    "04-1": Exercise(
        answer=lambda p, q, rho: rho * p / (rho * p + (1 - rho) * q),
        trials=_densities,
        mistakes={
            "That is the answer for equal numbers, ρ = ½.": lambda p, q, rho: p / (p + q),
            "That is the probability that the image is generated.": (
                lambda p, q, rho: (1 - rho) * q / (rho * p + (1 - rho) * q)
            ),
            "You weighted the numerator alone. A probability of 1 must come out where q = 0.": (
                lambda p, q, rho: rho * p / (p + q)
            ),
            "You swapped the shares: ρ belongs to the real images.": (
                lambda p, q, rho: (1 - rho) * p / ((1 - rho) * p + rho * q)
            ),
            "These are the odds of real to generated. A probability stays below 1.": (
                lambda p, q, rho: rho * p / ((1 - rho) * q)
            ),
        },
        hint="Maximise ρ p log y + (1 − ρ) q log(1 − y) over y.",
    ),
    "04-2": Exercise(
        answer=lambda fake: F.softplus(-fake).mean(),
        trials=_logits,
        mistakes={
            "That is Eq. 15, the loss that saturates: log(1 − D).": (
                lambda fake: -F.softplus(fake).mean()
            ),
            "At a logit of −200 this is infinite in float32: the sigmoid rounds to 0, or e²⁰⁰ "
            "overflows. Use softplus (Eq. 4.1).": (lambda fake: -fake.sigmoid().log().mean()),
            "That is what D lowers for generated images. G would learn to be caught.": (
                lambda fake: F.softplus(fake).mean()
            ),
            "The sign is wrong: log D is to rise, so its negative is to be lowered.": (
                lambda fake: -F.softplus(-fake).mean()
            ),
            "A small number inside the logarithm keeps it finite, but makes the loss flat just "
            "where G is losing: use softplus (Eq. 4.1).": lambda fake: (
                -(fake.sigmoid() + 1e-8).log().mean()
            ),
            "G has one loss for the batch: take the mean.": lambda fake: F.softplus(-fake),
        },
        hint="By Eq. 4.1, log D = −softplus(−a).",
    ),
    "04-3": Exercise(
        answer=lambda d, x, gamma: gamma / 2 * _squares(d, x).mean(),
        trials=_images,
        mistakes={
            "The factor ½ is missing.": lambda d, x, gamma: gamma * _squares(d, x).mean(),
            "You left out γ/2.": lambda d, x, gamma: _squares(d, x).mean(),
            "You averaged over pixels. The squared norm is their sum: a mean makes the penalty "
            "thousands of times weaker.": (
                lambda d, x, gamma: gamma / 2 * _slope(d, x).square().mean()
            ),
            "You added up the images. The expectation is their mean.": (
                lambda d, x, gamma: gamma / 2 * _squares(d, x).sum()
            ),
            "You summed over colours alone and averaged over places. The squared norm sums over "
            "all numbers of an image: flatten(1) first.": (
                lambda d, x, gamma: gamma / 2 * _squares(d, x).mean() / math.prod(x.shape[2:])
            ),
            "That is the length of the slope. R1 squares it.": (
                lambda d, x, gamma: gamma / 2 * _squares(d, x).sqrt().mean()
            ),
            "You took the gradient of the mean logit, so each slope is too small by the number of "
            "images.": lambda d, x, gamma: (
                gamma / 2 * _slope(d, x, torch.mean).square().sum(1).mean()
            ),
        },
        hint="torch.autograd.grad(d(x).sum(), x, create_graph=True) gives all slopes at once.",
    ),
    "04-4": Exercise(
        answer=lambda after, p_aug: (after - p_aug / 2) / (1 - p_aug),
        trials=lambda: [(0.58, 0.8), (0.35, 0.3)],
        mistakes={
            "You flipped once more. The way back must undo Eq. 4.10.": (
                lambda after, p_aug: (1 - p_aug / 2) * after + p_aug / 2 * (1 - after)
            ),
            "An applied flip mirrors with probability ½ only, so half of p_aug counts.": (
                lambda after, p_aug: (after - p_aug) / (1 - 2 * p_aug)
            ),
            "You took off what came from the right, but did not divide by what is left of the "
            "difference, 1 − p_aug.": lambda after, p_aug: after - p_aug / 2,
            "Nearly: the factor of π in Eq. 4.10 is 1 − p_aug, once from each of its two parts.": (
                lambda after, p_aug: (after - p_aug / 2) / (1 - p_aug / 2)
            ),
        },
        hint="Collect π in Eq. 4.10: π' = p_aug/2 + (1 − p_aug) π.",
    ),
    "04-5": Exercise(
        answer=_controller(lambda real, fake: _r(real, fake) > 0.6),
        trials=_moves,
        mistakes={
            "Your controller runs the wrong way: a D that is too sure needs more augmentation.": (
                _controller(lambda real, fake: _r(real, fake) < 0.6)
            ),
            "p_aug leaves the range from 0 to 0.8.": (
                _controller(lambda real, fake: _r(real, fake) > 0.6, -math.inf, math.inf)
            ),
            "You compared the logits with 0. In the relativistic game only differences mean "
            "something: take the mean logit of the generated images off.": (
                _controller(lambda real, fake: float(real.sign().mean()) > 0.6)
            ),
            "You averaged the logits and not their signs. One image that is far off then outweighs "
            "all others.": _controller(lambda real, fake: float((real - fake.mean()).mean()) > 0.6),
            "You compared pair by pair. Eq. 4.12 holds each real image against the mean generated "
            "one.": _controller(lambda real, fake: float((real - fake).sign().mean()) > 0.6),
            "0.6 is the target for the mean sign. You held the share above at 0.6; it should be "
            "0.8.": _controller(
                lambda real, fake: float((real > fake.mean()).float().mean()) > 0.6
            ),
            "The bound is 0.8, not 1.": (
                _controller(lambda real, fake: _r(real, fake) > 0.6, high=1.0)
            ),
            "Only the sign of r_t − 0.6 counts: every move has the size step.": (
                lambda p_aug, real, fake, step: min(
                    0.8, max(0.0, p_aug + step * (_r(real, fake) - 0.6))
                )
            ),
            "Your target is 0, where D cannot tell at all. It is 0.6.": (
                _controller(lambda real, fake: _r(real, fake) > 0)
            ),
        },
        hint="r_t is the mean of (real − fake.mean()).sign().",
    ),
}
