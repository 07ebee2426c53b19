"""Exercises of the notebooks: each knows its answer, and the mistakes that are usually made.

    check("01-2", my_function)      not attempted | right | wrong, and which mistake it was
    hint("01-2")

The answer to an exercise is a number or a function. A function is tried on a few arguments beside
the right one. Typical mistakes are written down as answers, too: whoever gives one is told which.
The exercises themselves stand beside the notebooks: those of 01 in ``notebooks/exercises/01.py``.
"""

import functools
import runpy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from .checks import float64
from .run import REPO

NOT_ATTEMPTED, RIGHT, WRONG = "not attempted", "right", "wrong"


@dataclass(frozen=True)
class Exercise:
    """A number or a function to find; ``mistakes`` holds, by what is to be said of them, the wrong
    answers one meets. ``trials`` makes the arguments that functions are tried on; a float among
    them arrives as a tensor of no dimension, which math, NumPy and torch all take.
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
        said = f"Exercise {self.exercise}: {self.kind}." + (f" {self.why}" if self.why else "")
        help = f' Stuck? exercises.hint("{self.exercise}"), or notebooks/solutions/.'
        return said + (help if self.kind != RIGHT else "")


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
    return Verdict(name, WRONG, _difference(got, expected, exercise.tolerance))


def hint(name: str) -> str:
    """A first step towards the answer."""
    return _exercise(name).hint


@functools.cache
def of_notebook(number: str) -> dict[str, Exercise]:
    """By name, the exercises of notebook ``number`` ("03"); none where it has none."""
    path = REPO / "notebooks" / "exercises" / f"{number}.py"
    return runpy.run_path(str(path))["EXERCISES"] if path.exists() else {}


def _exercise(name: str) -> Exercise:
    known = of_notebook(str(name)[:2])  # whatever stands in its place, as the answer
    if name not in known:
        there = f"; there are {', '.join(known)}" if known else ""
        raise ValueError(f"there is no exercise {name!r}{there}")
    return known[name]


def _outcomes(answer: Any, exercise: Exercise) -> list:
    """What the answer gives on each trial; a number is its own outcome."""
    if not callable(answer):
        return [answer]
    outcomes = []
    with torch.random.fork_rng(devices=[]):  # the notebook's own draws go on as they would have
        for arguments in exercise.trials():
            torch.manual_seed(0)  # a function that draws draws alike
            outcomes.append(answer(*map(_any_library, arguments)))
    return outcomes


def _any_library(x: Any) -> Any:
    return torch.tensor(x, dtype=torch.float64) if isinstance(x, float) else x


def _agree(got: list, expected: list, tolerance: float) -> bool:
    try:
        pairs = [(float64(a), float64(b)) for a, b in zip(got, expected, strict=True)]
    except (OverflowError, TypeError, ValueError):
        return False
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=tolerance * _scale(b))
        for a, b in pairs
    )


def _scale(values: np.ndarray) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0)) * 1e-2


def _difference(got: list, expected: list, tolerance: float) -> str:
    """The first difference in words, when no known mistake explains it."""
    for outcome, wanted in zip(got, expected, strict=True):
        if _agree([outcome], [wanted], tolerance):
            continue
        try:
            a, b = float64(outcome), float64(wanted)
        except (TypeError, ValueError):
            return f"It gives {type(outcome).__name__} where real numbers are expected."
        except OverflowError:
            return "It gives a number too large for float64."
        if a.shape != b.shape:
            return f"It gives shape {a.shape} where {b.shape} is expected."
        if a.size == 1:
            return f"It gives {a.item():.5g}, which is not it."
        if not np.isfinite(a).all():
            return f"{(~np.isfinite(a)).mean():.0%} of the numbers are infinite or NaN."
        off = ~np.isclose(a, b, rtol=tolerance, atol=tolerance * _scale(b))
        far = np.abs(a - b).max()
        return f"{off.sum()} of {off.size} numbers are off, by up to {far:.3g}."
    return "It is not it."
