"""Checks that stand under the equations of the notebooks.

Each takes the tag of its equation (``eq:10``, ``eq:10-step-3``), prints what it compared, and
raises AssertionError where the two sides differ; ``tests/test_equations.py`` fails for a tag that
no check names. Three kinds, and what each may use as its tolerance:

    symbolic      sympy simplifies the difference of the two sides to 0: no tolerance numeric
    two float64 computations of one number, by closed form, quadrature or autograd: a stated bound
    Monte Carlo   a mean of n draws against its expectation: `sigmas` standard errors, from the
    draws themselves
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy as sp


def _float64(x: Any) -> np.ndarray:
    # A tensor may lie on a device without float64 (MPS), or wait for a gradient.
    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x, dtype=np.float64)


def check(tag: str, got: Any, expected: Any, tol: float, how: str) -> None:
    """The largest |got − expected| of numbers, arrays or tensors must be at most tol."""
    got, expected = np.broadcast_arrays(_float64(got), _float64(expected))
    # inf − inf is nan, and nan compares as False: equal infinities count as equal, any nan fails.
    with np.errstate(invalid="ignore"):
        miss = np.where(got == expected, 0.0, np.abs(got - expected))
    worst = float(miss.max())
    shown = f"{got.size} numbers"
    if got.size == 1:
        shown = f"{got.flat[0]:.10g} against {expected.flat[0]:.10g}"
    print(f"[{tag}] {how}: {shown}, largest difference {worst:.2e} (allowed {tol:.0e})")
    _require(worst <= tol, f"{tag}: {how}: {worst:.3e} exceeds {tol:.1e}")


def check_zero(tag: str, expression: Any, how: str) -> None:
    """A sympy expression, or each of several, must simplify to exactly 0."""
    several = isinstance(expression, (Sequence, sp.MatrixBase)) and not isinstance(expression, str)
    parts = list(expression) if several else [expression]
    left = [sp.simplify(sp.sympify(part)) for part in parts]
    print(f"[{tag}] {how}: left − right simplifies to {', '.join(map(str, left))}")
    _require(all(part == 0 for part in left), f"{tag}: {how}: {left} is not 0")


def check_mean(tag: str, draws: Any, expected: Any, how: str, sigmas: float = 5.0) -> None:
    """The mean of draws (n, …) must lie within `sigmas` standard errors of expected."""
    draws, expected = _float64(draws), _float64(expected)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    z = np.abs(draws.mean(axis=0) - expected) / error
    worst = float(np.max(z))
    shown = f"{z.size} means"
    if draws.ndim == 1:
        shown = f"{draws.mean():.5f} against {float(expected):.5f}"
    print(
        f"[{tag}] {how}: {shown} over {len(draws)} draws, "
        f"largest miss {worst:.2f} standard errors ({sigmas:g} allowed)"
    )
    _require(worst <= sigmas, f"{tag}: {how}: {worst:.1f} standard errors")


def check_fails(tag: str, wrong: Callable[[], object], how: str) -> None:
    """A wrong formula must be caught: `wrong()` calls a check, and that check has to raise."""
    try:
        wrong()
    except AssertionError as error:
        print(f"[{tag}] {how}: caught, as it should be ({error})")
        return
    raise AssertionError(f"{tag}: {how}: the wrong formula passed its check")


def _require(holds: bool, message: str) -> None:
    # Not an assert statement: python -O would pass every check.
    if not holds:
        raise AssertionError(message)
