"""Checks that stand under the equations of the notebooks.

Each takes the tag of its equation (``eq:10``, ``eq:10-step-3``), prints what it compared, and raises AssertionError
where the two sides differ; ``tests/test_equations.py`` fails for a tag that no check names. Three kinds, and what each
may use as its tolerance:

    symbolic      sympy simplifies the difference of the two sides to 0: no tolerance
    numeric       two float64 computations of one number, by closed form, quadrature or autograd: a stated bound
    Monte Carlo   a mean of n draws against its expectation: `sigmas` standard errors, from the draws themselves
"""

import numpy as np
import sympy as sp


def check(tag, got, expected, tol, how):
    """The largest |got − expected| must be at most tol. Numbers, arrays or tensors; `how` says what they are."""
    got, expected = np.broadcast_arrays(np.asarray(got, dtype=np.float64), np.asarray(expected, dtype=np.float64))
    # inf − inf is nan, and nan compares as False: equal infinities count as equal, any nan fails.
    with np.errstate(invalid="ignore"):
        miss = np.where(got == expected, 0.0, np.abs(got - expected))
    worst = float(miss.max())
    shown = f"{got.flat[0]:.10g} against {expected.flat[0]:.10g}" if got.size == 1 else f"{got.size} numbers"
    print(f"[{tag}] {how}: {shown}, largest difference {worst:.2e} (allowed {tol:.0e})")
    assert worst <= tol, f"{tag}: {how}: {worst:.3e} exceeds {tol:.1e}"


def check_zero(tag, expression, how):
    """A sympy expression, or each of several, must simplify to exactly 0."""
    parts = list(expression) if isinstance(expression, (list, tuple, sp.MatrixBase)) else [expression]
    left = [sp.simplify(sp.sympify(part)) for part in parts]
    print(f"[{tag}] {how}: left − right simplifies to {', '.join(map(str, left))}")
    assert all(part == 0 for part in left), f"{tag}: {how}: {left} is not 0"


def check_mean(tag, draws, expected, how, sigmas=5.0):
    """The mean of draws (n, …) over the first axis must lie within `sigmas` standard errors of expected."""
    draws = np.asarray(draws, dtype=np.float64)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    z = np.abs(draws.mean(axis=0) - np.asarray(expected, dtype=np.float64)) / error
    worst = float(np.max(z))
    shown = f"{draws.mean():.5f} against {float(expected):.5f}" if draws.ndim == 1 else f"{z.size} means"
    print(
        f"[{tag}] {how}: {shown} over {len(draws)} draws, largest miss {worst:.2f} standard errors ({sigmas:g} allowed)"
    )
    assert worst <= sigmas, f"{tag}: {how}: {worst:.1f} standard errors"


def check_fails(tag, wrong, how):
    """A wrong formula must be caught: `wrong()` calls a check, and that check has to raise."""
    try:
        wrong()
    except AssertionError as error:
        print(f"[{tag}] {how}: caught, as it should be ({error})")
        return
    raise AssertionError(f"{tag}: {how}: the wrong formula passed its check")
