"""Checks that stand under the equations of the notebooks.

Each check takes the tag of its equation (``eq:10``, ``eq:10-step-3``), prints what it compared, and
raises AssertionError where the two sides differ; ``tests/test_equations.py`` fails for a tag that
no check names. (`claim`, under a sentence, does not raise.) Three kinds, and the tolerance of each:

    symbolic      sympy simplifies the difference of the two sides to 0: none
    numeric       two float64 computations of one number: a stated bound
    Monte Carlo   a mean of n draws against its expectation: `sigmas` of its standard errors
"""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp
import torch


def check(tag: str, got: Any, expected: Any, tol: float, how: str) -> None:
    """The largest |got − expected| of numbers, arrays or tensors must be at most tol."""
    got, expected = np.broadcast_arrays(float64(got), float64(expected))
    # Equal infinities are equal (inf − inf is nan); any nan fails, as nan compares as False.
    miss = np.subtract(got, expected, out=np.zeros(got.shape), where=got != expected)
    worst = np.abs(miss).max() if got.size else np.nan  # of nothing, nothing is shown
    shown = f"{got.size} numbers"
    if got.size == 1:
        shown = f"{got.item():.10g} against {expected.item():.10g}"
    found = f"{shown}, largest difference {worst:.2e} (allowed {tol:.0e})"
    _report(tag, how, found, worst <= tol, f"{worst:.3e} exceeds {tol:.1e}")


def check_zero(tag: str, expression: Any, how: str) -> None:
    """A sympy expression, or each of several, must simplify to exactly 0."""
    several = isinstance(expression, (list, tuple, sp.MatrixBase))
    left = [sp.simplify(part) for part in (expression if several else [expression])]
    found = f"left − right simplifies to {', '.join(map(str, left))}"
    # Of nothing, nothing is shown.
    _report(tag, how, found, left != [] and all(part == 0 for part in left), f"{left} is not 0")


def check_mean(tag: str, draws: Any, expected: Any, how: str, sigmas: float = 5.0) -> None:
    """The mean of draws (n, …) must lie within `sigmas` standard errors of expected."""
    draws, expected = float64(draws), float64(expected)
    z = np.abs(draws.mean(axis=0) - expected) / (draws.std(axis=0, ddof=1) / np.sqrt(len(draws)))
    worst, shown = np.max(z), f"{z.size} means"
    if draws.ndim == 1:
        shown = f"{draws.mean():.5f} against {float(expected):.5f}"
    found = f"{shown} over {len(draws)} draws, largest miss {worst:.2f} standard errors"
    found += f" ({sigmas:g} allowed)"
    _report(tag, how, found, worst <= sigmas, f"{worst:.1f} standard errors")


def check_fails(tag: str, wrong: Callable[[], object], how: str) -> None:
    """A wrong formula must be caught: `wrong()` calls a check, and that check has to raise."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # one line is enough, the one below
            wrong()
    except AssertionError as error:
        print(f"[{tag}] {how}: caught, as it should be ({error})")
    else:
        raise AssertionError(f"{tag}: {how}: the wrong formula passed its check")


def claim(profile: str, sentence: str, holds: bool) -> None:
    """What a sentence of the text says of results, judged in profile cpu, to whose published run
    the text was written. Another machine or seed may find otherwise: the line then says so, and
    nothing stops. `make figures` lists such lines, and no published notebook may have one.
    """
    if profile == "cpu":
        print(f"[claim] {sentence}: {'holds' if holds else 'does not hold'}")


def float64(x: Any) -> np.ndarray:
    """A number, array or tensor, or a list of them, in float64; TypeError for complex numbers."""
    if isinstance(x, torch.Tensor):  # one on a device without float64 (MPS), or with a gradient
        x = x.detach().cpu()
        x = x.float() if x.dtype == torch.bfloat16 else x  # which NumPy has not got
    elif isinstance(x, list | tuple):
        x = [float64(part) for part in x]
    values = np.asarray(x)
    if np.iscomplexobj(values):  # NumPy would drop the imaginary part: anything may stand there
        raise TypeError("complex numbers cannot be checked: check real and imaginary part")
    return values.astype(np.float64)


def _report(tag: str, how: str, found: str, holds: bool, wrong: str) -> None:
    print(f"[{tag}] {how}: {found}")
    if not holds:  # not an assert statement: python -O would pass every check
        raise AssertionError(f"{tag}: {how}: {wrong}")
