"""Exercises of the notebooks: each knows its answer, and the mistakes that are usually made.

    check("01-2", my_function)      not attempted | right | wrong, and which mistake it was
    hint("01-2")

The answer to an exercise is a number or a function. A function is tried on a few arguments beside
the right one. Typical mistakes are written down as answers, too: whoever gives one is told which.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

NOT_ATTEMPTED, RIGHT, WRONG = "not attempted", "right", "wrong"


@dataclass(frozen=True)
class Exercise:
    """A number or a function to find; ``mistakes`` holds, by what is to be said of them, the wrong
    answers one meets. ``trials`` makes the arguments that functions are tried on.
    """

    answer: Any
    mistakes: dict[str, Any]
    hint: str
    trials: Callable[[], Sequence[tuple]] = lambda: [()]
    tolerance: float = 1e-4  # relative, of each number


class Verdict(NamedTuple):
    """What ``check`` found: NOT_ATTEMPTED, RIGHT or WRONG, and why."""

    exercise: str
    kind: str
    why: str = ""

    def __repr__(self) -> str:
        return f"Exercise {self.exercise}: {self.kind}" + (f". {self.why}" if self.why else ".")


def check(name: str, answer: Any = None) -> Verdict:
    """Say how ``answer`` does in exercise ``name``. ValueError for a name that there is not."""
    exercise = _exercise(name)
    if answer is None or answer is ...:
        return Verdict(name, NOT_ATTEMPTED)
    if callable(answer) != callable(exercise.answer):
        wanted = "A function" if callable(exercise.answer) else "A number"
        return Verdict(name, WRONG, f"{wanted} is asked for.")
    try:
        got = _outcomes(answer, exercise)
    except NotImplementedError:
        return Verdict(name, NOT_ATTEMPTED)
    except Exception as error:  # whatever a student's function raises
        return Verdict(name, WRONG, f"It raises {type(error).__name__}: {error}")
    if all(value is None or value is ... for value in got):
        return Verdict(name, NOT_ATTEMPTED)
    expected = _outcomes(exercise.answer, exercise)
    if _agree(got, expected, exercise.tolerance):
        return Verdict(name, RIGHT)
    for mistake, wrong in exercise.mistakes.items():
        if _agree(got, _outcomes(wrong, exercise), exercise.tolerance):
            return Verdict(name, WRONG, mistake)
    return Verdict(name, WRONG, _difference(got, expected))


def hint(name: str) -> str:
    """A first step towards the answer."""
    return _exercise(name).hint


def _exercise(name: str) -> Exercise:
    if name not in EXERCISES:
        raise ValueError(f"there is no exercise {name!r}; there are {', '.join(EXERCISES)}")
    return EXERCISES[name]


def _outcomes(answer: Any, exercise: Exercise) -> list:
    """What the answer gives on each trial; a number is its own outcome."""
    if not callable(answer):
        return [answer]
    outcomes = []
    for arguments in exercise.trials():
        torch.manual_seed(0)  # a function that draws draws alike
        outcomes.append(answer(*arguments))
    return outcomes


def _numbers(outcome: Any) -> np.ndarray:
    if isinstance(outcome, torch.Tensor):
        outcome = outcome.detach().cpu()
    return np.asarray(outcome, dtype=np.float64)


def _agree(got: list, expected: list, tolerance: float) -> bool:
    try:
        pairs = [(_numbers(a), _numbers(b)) for a, b in zip(got, expected, strict=True)]
    except (TypeError, ValueError):
        return False
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=tolerance * _scale(b))
        for a, b in pairs
    )


def _scale(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0)) * 1e-2


def _difference(got: list, expected: list) -> str:
    """The first difference in words, when no known mistake explains it."""
    for outcome, wanted in zip(got, expected, strict=True):
        try:
            a, b = _numbers(outcome), _numbers(wanted)
        except (TypeError, ValueError):
            return f"It gives {type(outcome).__name__} where numbers are expected."
        if a.shape != b.shape:
            return f"It gives shape {a.shape} where {b.shape} is expected."
        if a.size == 1:
            return f"It gives {a.item():.5g}, which is not it."
        far = np.abs(a - b)
        if not np.allclose(a, b):
            return f"{(far > 1e-4).mean():.0%} of the numbers are off, by up to {far.max():.3g}."
    return "It is not it."


# ---- 01 forward noising


def _betas() -> list[tuple]:
    return [(torch.linspace(0.01, 0.3, steps, dtype=torch.float64),) for steps in (5, 9)]


def _abar(betas: torch.Tensor) -> torch.Tensor:
    return torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)])


def _tables() -> list[tuple]:
    return [(_abar(betas), variance) for (betas,) in _betas() for variance in (0.2, 0.7)]


def _first(drowned: torch.Tensor) -> int:
    return int(drowned.int().argmax())


FORWARD = {
    "01-1": Exercise(
        answer=lambda b1, b2: 1 - (1 - b1) * (1 - b2),
        trials=lambda: [(0.1, 0.2), (0.3, 0.05)],
        mistakes={
            "The variances of the two noises do not just add up: the first noise is shrunk by the "
            "second step.": lambda b1, b2: b1 + b2,
            "That is how much of the image is left, 1 − β.": lambda b1, b2: (1 - b1) * (1 - b2),
            "Amplitudes shrink by the root of 1 − β, and their product is the root of what you "
            "want.": lambda b1, b2: 1 - math.sqrt((1 - b1) * (1 - b2)),
            "β₁β₂ is smaller than either: two steps would make less noise than one.": (
                lambda b1, b2: b1 * b2
            ),
        },
        hint="What factor stands before x_0 after both steps?",
    ),
    "01-2": Exercise(
        answer=_abar,
        trials=_betas,
        mistakes={
            "Entry 0 belongs to t = 0, where nothing has happened: it is 1, and the table has one "
            "entry more than there are steps.": lambda betas: torch.cumprod(1 - betas, 0),
            "You multiplied the β. What is left of the image is a product of 1 − β.": (
                lambda betas: torch.cat([betas.new_ones(1), torch.cumprod(betas, 0)])
            ),
            "You added the β up. That holds to first order only: factors multiply.": (
                lambda betas: torch.cat([betas.new_ones(1), 1 - torch.cumsum(betas, 0)])
            ),
            "That is the root of it, the factor of x_0.": lambda betas: _abar(betas).sqrt(),
        },
        hint="torch.cumprod makes running products; torch.cat puts a number before them.",
    ),
    "01-3": Exercise(
        answer=lambda abar, v: _first(abar[1:] / (1 - abar[1:]) * v < 1) + 1,
        trials=_tables,
        mistakes={
            "One too early: abar[1:] begins with t = 1, so that its index 0 is step 1.": (
                lambda abar, v: _first(abar[1:] / (1 - abar[1:]) * v < 1)
            ),
            "You left out the variance of the data: the SNR of Eq. 1.9 is meant for variance 1.": (
                lambda abar, v: _first(abar[1:] / (1 - abar[1:]) < 1) + 1
            ),
            "You compared ᾱ with 1 − ᾱ by their roots against the variance: the SNR is a ratio of "
            "variances, not of amplitudes.": (
                lambda abar, v: _first((abar[1:] / (1 - abar[1:])).sqrt() * v < 1) + 1
            ),
        },
        hint="Compute the SNR for t = 1 … T at once, and count how often it is still large enough.",
    ),
    "01-4": Exercise(
        answer=1 - 4e-5 ** (1 / 1000),
        mistakes={
            "That is −log(ᾱ)/1000, which is β to first order only; here it is half a per cent "
            "off.": -math.log(4e-5) / 1000,
            "That is α = 1 − β.": 4e-5 ** (1 / 1000),
            "(1 − β) is multiplied a thousand times: take the thousandth root, do not divide.": (
                (1 - 4e-5) / 1000
            ),
        },
        hint="ᾱ_1000 = (1 − β)^1000. Solve for β.",
    ),
    "01-5": Exercise(
        answer=64,
        mistakes={
            "That is the factor of the amplitudes. The SNR is a ratio of variances.": 8,
            "The noise of the 64 pixels is independent: in their mean most of it cancels.": 1,
            "It is the other way round: averaging helps the signal.": 1 / 64,
        },
        hint="What is the variance of the mean of 64 independent numbers of variance 1?",
    ),
}


# ---- 02 posterior and bound


def _product(m1: float, v1: float, m2: float, v2: float) -> tuple[float, float]:
    variance = 1 / (1 / v1 + 1 / v2)
    return variance * (m1 / v1 + m2 / v2), variance


def _bits(m1: torch.Tensor, v1: torch.Tensor, m2: torch.Tensor, v2: torch.Tensor) -> torch.Tensor:
    nats = 0.5 * ((v2 / v1).log() + (v1 + (m1 - m2) ** 2) / v2 - 1)
    return nats.flatten(1).mean(1) / math.log(2)


def _two_normals() -> list[tuple]:
    g = torch.Generator().manual_seed(2)
    draw = [torch.randn(3, 2, 4, 4, generator=g, dtype=torch.float64) for _ in range(4)]
    return [(draw[0], draw[1].exp(), draw[2], draw[3].exp())]


def _noisy() -> list[tuple]:
    g = torch.Generator().manual_seed(2)
    xt, eps = (torch.randn(2, 3, generator=g, dtype=torch.float64) for _ in range(2))
    return [(xt, eps, 0.9, 0.6), (xt, eps, 0.97, 0.2)]  # alpha_t and abar_t


def _snr(abar: float) -> float:
    return abar / (1 - abar)


POSTERIOR = {
    "02-1": Exercise(
        answer=_product,
        trials=lambda: [(0.4, 0.5, -0.3, 0.1), (1.0, 2.0, 3.0, 0.5)],
        mistakes={
            "Variances add for a sum of two variables. Here densities are multiplied, and the "
            "result is narrower than either.": lambda m1, v1, m2, v2: (m1 + m2, v1 + v2),
            "Each mean is weighted by the variance of its own density. The narrower one must count "
            "more.": lambda m1, v1, m2, v2: (
                (v1 * m1 + v2 * m2) / (v1 + v2),
                _product(m1, v1, m2, v2)[1],
            ),
            "The variance is right. The mean is the plain average only if both variances are "
            "equal.": lambda m1, v1, m2, v2: ((m1 + m2) / 2, _product(m1, v1, m2, v2)[1]),
            "That is A, the precision. The variance is 1/A.": lambda m1, v1, m2, v2: (
                _product(m1, v1, m2, v2)[0],
                1 / v1 + 1 / v2,
            ),
        },
        hint="Add the two exponents, collect x² and x, and complete the square.",
    ),
    "02-2": Exercise(
        answer=_bits,
        trials=_two_normals,
        mistakes={
            "That is in nats. Divide by log 2 for bits.": lambda *a: _bits(*a) * math.log(2),
            "The arguments are swapped: the divergence is an average under the first normal.": (
                lambda m1, v1, m2, v2: _bits(m2, v2, m1, v1)
            ),
            "You summed over the numbers of an image. Per dimension means the average.": (
                lambda *a: _bits(*a) * a[0][0].numel()
            ),
            "The logarithm is of the ratio of standard deviations, so of variances it is half of "
            "that.": lambda m1, v1, m2, v2: (
                _bits(m1, v1, m2, v2) + (v2 / v1).log2().flatten(1).mean(1) / 2
            ),
            "The −1/2 is missing: two equal normals must come to zero.": (
                lambda *a: _bits(*a) + 0.5 / math.log(2)
            ),
        },
        hint="Write Eq. 2.10 with variances. Then x.flatten(1).mean(1) averages over an image.",
    ),
    "02-3": Exercise(
        answer=1.931,
        tolerance=2e-3,
        mistakes={
            'That is the factor for the best variance: say "large" where you make the '
            "process.": 3.412,
            'That is the factor for the variance β̃: say "large" where you make the '
            "process.": 1.0608,
            "That is the ratio of the bounds. Subtract the entropy from each first.": 1.0855,
            "It is the other way round: the longer chain has the smaller gap.": 1 / 1.931,
        },
        hint="Mixture().bound_terms(d) gives the terms of the bound and the shares of the gap.",
    ),
    "02-4": Exercise(
        answer=lambda xt, eps, alpha, abar: (xt - math.sqrt(1 - abar) * eps) / math.sqrt(abar),
        trials=_noisy,
        mistakes={
            "That is Eq. 12 as printed in the report: the mean of x_{t-1}, not x_0.": (
                lambda xt, eps, alpha, abar: (
                    (xt - (1 - alpha) / math.sqrt(1 - abar) * eps) / math.sqrt(alpha)
                )
            ),
            "You divided by √α_t, what one step leaves of the image. All t steps leave √ᾱ_t.": (
                lambda xt, eps, alpha, abar: (xt - math.sqrt(1 - abar) * eps) / math.sqrt(alpha)
            ),
            "1 − ᾱ_t is the variance of the noise. Its amplitude is the root.": (
                lambda xt, eps, alpha, abar: (xt - (1 - abar) * eps) / math.sqrt(abar)
            ),
            "The image is multiplied by √ᾱ_t, so divide by the root.": (
                lambda xt, eps, alpha, abar: (xt - math.sqrt(1 - abar) * eps) / abar
            ),
        },
        hint="Start from x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε. Not all four arguments are needed.",
    ),
    "02-5": Exercise(
        answer=lambda before, abar: (_snr(before) - _snr(abar)) * (1 - abar) / 2,
        trials=lambda: [(0.9, 0.8), (0.35, 0.3)],
        mistakes={
            "That is the weight of the error in x_0. An error in v is another number: square the "
            "factor between them.": lambda before, abar: (_snr(before) - _snr(abar)) / 2,
            "The factor between the two errors is √(1 − ᾱ_t). A squared error takes its square.": (
                lambda before, abar: (_snr(before) - _snr(abar)) * math.sqrt(1 - abar) / 2
            ),
            "That is the weight of the error in the noise.": (
                lambda before, abar: (_snr(before) - _snr(abar)) * (1 - abar) / abar / 2
            ),
            "The factor 1/2 of Eq. 2.23 is missing.": (
                lambda before, abar: (_snr(before) - _snr(abar)) * (1 - abar)
            ),
        },
        hint="By Eq. 2.17, what does an error in v make of x_0? Put that into Eq. 2.23.",
    ),
}


# ---- 07 interpolation


def _vectors() -> list[tuple]:
    """Pairs of unequal length, 60 and 120 degrees apart, and a fraction that is not a half."""
    a = torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64)
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


INTERPOLATION = {
    "07-1": Exercise(
        answer=lambda s: math.sqrt((1 - s) ** 2 + s**2),
        trials=lambda: [(0.5,), (0.2,)],
        mistakes={
            "That is the squared length, and so the variance: take its root.": (
                lambda s: (1 - s) ** 2 + s**2
            ),
            "You added the lengths of the two parts. Independent latents are nearly at right "
            "angles, so their squares add.": lambda s: 1.0,
            "You added the squares of the roots: the variance of (1 − s) z is (1 − s)².": (
                lambda s: math.sqrt((1 - s) + s**2)
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
            "Your ends are swapped: at s = 0 it must be a.": (
                lambda a, b, s: _length(b, a, s) * _unit_arc(b, a, s)
            ),
            "The direction is right and the length is 1: bring the length back (Eq. 7.8).": (
                _unit_arc
            ),
            "You put a and b themselves into Eq. 7.6. It is made for unit vectors: with unequal "
            "lengths the angle does not grow evenly.": _arc,
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
            "The first latent has shrunk, too, to √0.99 of its length.": math.degrees(
                math.atan(0.1)
            ),
        },
        hint="Both latents at right angles and equally long: the tangent of the angle is the ratio "
        "of the two weights.",
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
            "You left the roots out: ᾱ is a variance, and images are multiplied by its root.": (
                lambda x, eps, abar, to: to * (x - (1 - abar) * eps) / abar + (1 - to) * eps
            ),
        },
        hint="Two lines: x₀ from x and ε, then Eq. 1.6 at the new time with the same ε.",
    ),
}

EXERCISES: dict[str, Exercise] = FORWARD | POSTERIOR | INTERPOLATION
