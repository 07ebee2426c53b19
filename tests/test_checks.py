"""checks.py: a check passes what is right, prints one line, and fails what is wrong."""

import math

import numpy as np
import pytest
import sympy as sp
import torch

from bedgen_utils.checks import check, check_fails, check_mean, check_zero, claim


def test_check_allows_exactly_its_tolerance(capsys):
    check("eq:1", 1.25, 1.0, 0.25, "a quarter off")
    assert (
        "[eq:1] a quarter off: 1.25 against 1, largest difference 2.50e-01"
        in capsys.readouterr().out
    )
    with pytest.raises(AssertionError, match="eq:1: a quarter off"):
        check("eq:1", 1.25, 1.0, 0.2499, "a quarter off")
    with pytest.raises(AssertionError):
        check("eq:1", 0.75, 1.0, 0.2499, "to the other side")


def test_check_takes_arrays_tensors_and_broadcasts_and_the_worst_counts(capsys):
    check("eq:2", torch.ones(2, 3, requires_grad=True), np.ones(3), 0, "six ones")
    assert "6 numbers" in capsys.readouterr().out
    with pytest.raises(AssertionError):
        check("eq:2", [1.0, 1.0, 3.0], 1.0, 1.5, "one of three is off")


def test_imaginary_parts_are_not_dropped():
    for numbers in (1 + 5j, np.array([1 + 5j]), torch.tensor([1 + 5j])):
        with pytest.raises(TypeError, match="complex"):
            check("eq:2", numbers, 1.0, 1e-6, "half of it")


def test_infinities_are_equal_to_themselves_only_and_nan_to_nothing():
    check("eq:3", [math.inf, -math.inf], [math.inf, -math.inf], 0, "infinities")
    for got, expected in ((math.inf, -math.inf), (math.inf, 1.0), (math.nan, math.nan)):
        with pytest.raises(AssertionError):
            check("eq:3", got, expected, 1e300, "not equal")


def test_of_nothing_nothing_is_shown():
    with pytest.raises(AssertionError, match="eq:4"):
        check("eq:4", torch.zeros(0), torch.zeros(0), 1.0, "no numbers")


def test_check_zero_simplifies_every_part():
    x = sp.symbols("x")
    zero = sp.sin(x) ** 2 + sp.cos(x) ** 2 - 1
    check_zero("eq:4", zero, "Pythagoras")
    check_zero("eq:4", [zero, 0], "both")
    check_zero("eq:4", sp.Matrix([zero, zero]), "a vector")
    for wrong in (x, [zero, x], sp.Matrix([zero, x]), []):
        with pytest.raises(AssertionError, match="is not 0"):
            check_zero("eq:4", wrong, "x")


def test_check_mean_counts_standard_errors(capsys):
    draws = np.array([1.0, -1.0] * 50)  # mean 0, standard error sqrt(100 / 99) / 10 = 0.1005
    check_mean("eq:5", draws, 0.5, "five", sigmas=4.98)  # 4.975 of them
    assert "largest miss 4.97 standard errors (4.98 allowed)" in capsys.readouterr().out
    for expected in (0.5, -0.5):
        with pytest.raises(AssertionError, match="standard errors"):
            check_mean("eq:5", draws, expected, "five", sigmas=4.97)
    check_mean("eq:5", draws, 0.502, "5 by default")
    with pytest.raises(AssertionError):
        check_mean("eq:5", draws, 0.504, "5 by default")
    with pytest.raises(AssertionError):  # of several means the worst counts
        check_mean("eq:5", np.stack([draws, draws + 1], 1), 0, "two")
    check_mean("eq:5", torch.tensor(np.stack([draws, draws + 1], 1)), [0, 1], "two")


def test_check_fails_wants_a_failing_check(capsys):
    check_fails("eq:6", lambda: check("eq:6", 1, 2, 0.5, "wrong"), "one is two")
    assert "caught, as it should be" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="the wrong formula passed"):
        check_fails("eq:6", lambda: check("eq:6", 1, 1, 0, "right"), "one is one")
    with pytest.raises(ZeroDivisionError):  # a crash is not a check that failed
        check_fails("eq:6", lambda: 1 / 0, "a crash")


def test_a_claim_is_judged_in_the_profile_it_was_written_for(capsys):
    claim("cpu", "two is even", True)
    claim("smoke", "two is odd", False)
    claim("cpu", "two is odd", False)  # says so, and does not stop the notebook
    said = "[claim] two is even: holds\n[claim] two is odd: does not hold\n"
    assert capsys.readouterr().out == said
