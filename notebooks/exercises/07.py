"""Interpolation: the exercises of notebook 07, in the order of its text."""

import math

import torch

from bedgen_utils.exercises import Exercise


def _vectors() -> list[tuple]:
    """Pairs of unequal length, 60 and 120 degrees apart, and a fraction that is not a half."""
    a = torch.tensor([1.2, 0.0, 0.0], dtype=torch.float64)  # a·b has an arccosine
    turned = [(math.cos(w), math.sin(w), 0.0) for w in (math.pi / 3, 2 * math.pi / 3)]
    ends = [1.5 * torch.tensor(v, dtype=torch.float64) for v in turned]
    return [(a, ends[0], 0.3), (a, ends[1], 0.8)]


def _lerp(a: torch.Tensor, b: torch.Tensor, s: float) -> torch.Tensor:
    return (1 - s) * a + s * b


def _length(a: torch.Tensor, b: torch.Tensor, s: float) -> torch.Tensor:
    return (1 - s) * a.norm() + s * b.norm()


def _arc(a: torch.Tensor, b: torch.Tensor, s: float, omega: float | None = None) -> torch.Tensor:
    """Shoemake's formula on what it is given, with the angle of a and b or another."""
    if omega is None:
        omega = math.acos(float(a @ b / a.norm() / b.norm()))
    return (math.sin((1 - s) * omega) * a + math.sin(s * omega) * b) / math.sin(omega)


def _unit_arc(a: torch.Tensor, b: torch.Tensor, s: float) -> torch.Tensor:
    return _arc(a / a.norm(), b / b.norm(), s)


def _fixed_arc(a: torch.Tensor, b: torch.Tensor, s: float) -> torch.Tensor:
    return _length(a, b, s) * _arc(a / a.norm(), b / b.norm(), s, math.pi / 2)


def _not_divided(a: torch.Tensor, b: torch.Tensor, s: float) -> torch.Tensor:
    omega = math.acos(float(a @ b / a.norm() / b.norm()))
    return _length(a, b, s) * math.sin(omega) * _unit_arc(a, b, s)


def _stretched_line(a: torch.Tensor, b: torch.Tensor, s: float) -> torch.Tensor:
    point = _lerp(a / a.norm(), b / b.norm(), s)
    return _length(a, b, s) * point / point.norm()


def _noisier() -> list[tuple]:
    x = torch.linspace(-1, 1, 6, dtype=torch.float64)
    eps = torch.tensor([0.3, -1.2, 0.7, 2.0, -0.4, 0.1], dtype=torch.float64)
    return [(x, eps, 0.9, 0.6), (x, eps, 1.0, 0.8)]


def _ddim(x, eps, abar, to, noise_at=None):  # from x at abar to the level `to`
    x0 = (x - math.sqrt(1 - abar) * eps) / math.sqrt(abar)
    return math.sqrt(to) * x0 + math.sqrt(1 - (to if noise_at is None else noise_at)) * eps


EXERCISES = {
    "07-1": Exercise(
        answer=lambda s: math.sqrt((1 - s) ** 2 + s**2),
        trials=lambda: [(0.5,), (0.2,)],
        mistakes={
            "That is the squared length, and so the variance: take its root.": (
                lambda s: (1 - s) ** 2 + s**2
            ),
            "Then the line would stay on the shell. If you added lengths: independent latents are "
            "nearly at right angles, so their squares add. If you added 1 − s and s under the "
            "root: the variance of (1 − s) z is (1 − s)².": lambda s: 1.0,
            "One of the two squares is missing: the variances are (1 − s)² and s².": (
                lambda s: math.sqrt((1 - s) + s**2)  # the same as (1 - s)**2 + s
            ),
            "That is the length halfway, whatever s is.": lambda s: math.sqrt(0.5),
        },
        hint="What is the variance of one coordinate of (1 − s) z₀ + s z₁?",
    ),
    "07-2": Exercise(
        answer=lambda a, b, s: _length(a, b, s) * _unit_arc(a, b, s),
        trials=_vectors,
        mistakes={
            "That is the straight line (lerp): it cuts across the shell.": _lerp,
            "You took 90° for every pair. Measure the angle of the pair at hand.": _fixed_arc,
            "You took 90° for every pair, and a and b themselves in place of their directions.": (
                lambda a, b, s: _arc(a, b, s, math.pi / 2)
            ),
            "You forgot to divide by sin Ω: at the ends it must be a and b.": _not_divided,
            "Your ends are swapped: at s = 0 it must be a.": (
                lambda a, b, s: _length(b, a, s) * _unit_arc(b, a, s)
            ),
            "The length is right, but the two weights are swapped: at s = 0 all of it lies on a, "
            "so sin((1 − s) Ω) belongs to a.": (
                lambda a, b, s: _length(a, b, s) * _unit_arc(b, a, s)
            ),
            "The direction is right, but the length runs from |b| to |a|.": (
                lambda a, b, s: _length(b, a, s) * _unit_arc(a, b, s)
            ),
            "The direction is right and the length is 1: bring the length back (Eq. 7.8).": (
                _unit_arc
            ),
            "You put a and b themselves into Eq. 7.6. It is made for unit vectors: with unequal "
            "lengths the angle does not grow evenly.": _arc,
            "You took the arccosine of a·b itself: the cosine is a·b divided by |a| |b|.": (
                lambda a, b, s: (
                    _length(a, b, s) * _arc(a / a.norm(), b / b.norm(), s, math.acos(float(a @ b)))
                )
            ),
            "You took the arccosine of a·b itself, and a and b in place of their directions.": (
                lambda a, b, s: _arc(a, b, s, math.acos(float(a @ b)))
            ),
            "That is the straight line, stretched to the right length. Its ends are right, but it "
            "turns faster in the middle.": _stretched_line,
        },
        hint="First the two directions a/|a| and b/|b|, then their angle by torch.acos.",
    ),
    "07-3": Exercise(
        answer=lambda steps: [k / steps for k in range(steps + 1)],
        trials=lambda: [(4,), (10,)],
        mistakes={
            "The end is missing: K steps have K + 1 places.": (
                lambda steps: [k / steps for k in range(steps)]
            ),
            "These are K places, so K − 1 steps: linspace counts the posts, not the gaps.": (
                lambda steps: torch.linspace(0, 1, steps)
            ),
            "Your steps are too short: the last place must be 1.": (
                lambda steps: [k / (steps + 1) for k in range(steps + 1)]
            ),
        },
        hint="A fence of four gaps has five posts.",
    ),
    "07-4": Exercise(
        answer=math.degrees(math.asin(0.1)),
        mistakes={
            "That is what the great circle turns in a hundredth of the way.": 0.9,
            "That is the straight line: here the weights are roots.": math.degrees(
                math.atan(0.01 / 0.99)
            ),
            "That is the angle in radians.": math.asin(0.1),
            "You took 0.1 for the angle: it is the sine of it.": math.degrees(0.1),
            "The cosine is the weight of z₀, which is a root: √0.99.": math.degrees(
                math.acos(0.99)
            ),
            "The first latent has shrunk, too, to √0.99 of its length.": math.degrees(
                math.atan(0.1)
            ),
        },
        hint="Both latents at right angles and equally long: the tangent of the angle is the ratio "
        "of the two weights.",
        tolerance=1e-3,  # 5.74 is right; 5.73 and 5.71 are not
    ),
    "07-5": Exercise(
        answer=_ddim,
        trials=_noisier,
        mistakes={
            "The noise must grow: its weight is √(1 − ᾱ) of the new time, and you took the old.": (
                lambda x, eps, abar, to: _ddim(x, eps, abar, to, abar)
            ),
            "You took x for x₀: first take the noise out that is in it.": (
                lambda x, eps, abar, to: math.sqrt(to) * x + math.sqrt(1 - to) * eps
            ),
            "After taking the noise out, divide by √ᾱ: x₀ was shrunk.": (
                lambda x, eps, abar, to: (
                    math.sqrt(to) * (x - math.sqrt(1 - abar) * eps) + math.sqrt(1 - to) * eps
                )
            ),
            "That is a step of the noising process, which takes ε for fresh noise. Here ε is the "
            "noise that is in x already.": (
                lambda x, eps, abar, to: math.sqrt(to / abar) * x + math.sqrt(1 - to / abar) * eps
            ),
            "The two ᾱ are swapped: `abar` belongs to x, and `abar_next` to the answer.": (
                lambda x, eps, abar, to: _ddim(x, eps, to, abar)
            ),
            "You left the roots out: ᾱ is a variance, and images are multiplied by its root.": (
                lambda x, eps, abar, to: to * (x - (1 - abar) * eps) / abar + (1 - to) * eps
            ),
        },
        hint="Two lines: x₀ from x and ε, then Eq. 1.6 at the new time with the same ε.",
    ),
}
