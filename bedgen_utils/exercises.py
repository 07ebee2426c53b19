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


# ---- 03 DDPM training


def _noised() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, 4, 4, generator=g), torch.randn(2, 3, 4, 4, generator=g)


def _x0_from_v(x: torch.Tensor, v: torch.Tensor, abar: float) -> torch.Tensor:
    return abar**0.5 * x - (1 - abar) ** 0.5 * v


def _ddim(x: torch.Tensor, x0: torch.Tensor, abar_t: float, abar_s: float) -> torch.Tensor:
    eps = (x - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5
    return abar_s**0.5 * x0 + (1 - abar_s) ** 0.5 * eps


TRAINING = {
    "03-1": Exercise(
        answer=_x0_from_v,
        trials=lambda: [(*_noised(), 0.3), (*_noised(), 0.8)],
        mistakes={
            "That is how x_0 follows from the noise ε. v is another mixture of x_0 and ε.": (
                lambda x, v, abar: (x - (1 - abar) ** 0.5 * v) / abar**0.5
            ),
            "The sign: v = √ᾱ ε − √(1 − ᾱ) x_0, so x_0 enters v with a minus.": (
                lambda x, v, abar: abar**0.5 * x + (1 - abar) ** 0.5 * v
            ),
            "That is ε, the other of the two: √(1 − ᾱ) x_t + √ᾱ v.": (
                lambda x, v, abar: (1 - abar) ** 0.5 * x + abar**0.5 * v
            ),
            "The factors are the roots of ᾱ and of 1 − ᾱ.": (
                lambda x, v, abar: abar * x - (1 - abar) * v
            ),
        },
        hint="x_t and v are x_0 and ε turned by one angle. Turn back: multiply x_t by √ᾱ, v by "
        "√(1 − ᾱ), and subtract.",
    ),
    "03-2": Exercise(
        answer=_ddim,
        trials=lambda: [(*_noised(), 0.3, 0.6), (*_noised(), 0.6, 1.0)],
        mistakes={
            "Fresh noise makes it another sampler: DDIM uses the ε that x_t and x̂_0 imply.": (
                lambda x, x0, abar_t, abar_s: (
                    abar_s**0.5 * x0 + (1 - abar_s) ** 0.5 * torch.randn_like(x0)
                )
            ),
            "You mixed with ᾱ_t again, and stay where you are. Mix for the time s.": (
                lambda x, x0, abar_t, abar_s: x
            ),
            "x_t is not ε: take out √ᾱ_t x̂_0 and divide by √(1 − ᾱ_t) first.": (
                lambda x, x0, abar_t, abar_s: abar_s**0.5 * x0 + (1 - abar_s) ** 0.5 * x
            ),
            "You found ε with ᾱ_s. x_t was mixed with ᾱ_t.": (
                lambda x, x0, abar_t, abar_s: (
                    abar_s**0.5 * x0
                    + (1 - abar_s) ** 0.5 * (x - abar_s**0.5 * x0) / max(1 - abar_s, 1e-12) ** 0.5
                )
            ),
        },
        hint="Which noise ε, together with x̂_0, gives x_t by Eq. 8? Use the same ε at time s.",
    ),
    "03-3": Exercise(
        answer=0.9999**10_000,
        mistakes={
            "That is the share of the steps since; what is left of the start is the rest.": (
                1 - 0.9999**10_000
            ),
            "The decay acts at each step: it is multiplied 10,000 times, not once.": 0.9999,
            "1 − 10,000 · 0.0001 is 0 to first order only: shares multiply.": 0.0,
        },
        hint="After one step 0.9999 of the start is left, after two 0.9999².",
    ),
}

EXERCISES: dict[str, Exercise] = FORWARD | TRAINING
