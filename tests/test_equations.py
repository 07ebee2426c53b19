"""Every tagged equation of the notebooks is named by a check in a later code cell; every displayed
one carries a tag.

A tag is the comment `<!-- eq:10 -->` before a displayed equation; a check is a call of
bedgen_utils.checks whose first argument is that tag. That the checks pass is seen when the
notebooks run (tests of the notebooks, `make figures`).
"""

import ast
import re
from pathlib import Path

import jupytext
import numpy as np
import pytest
import sympy as sp

from bedgen_utils import checks

SOURCES = sorted((Path(__file__).parents[1] / "notebooks" / "py").glob("[0-9][0-9]_*.py"))
TAG = re.compile(r"<!--\s*(eq:[^\s>]+)\s*-->")
CHECKS = {"check", "check_zero", "check_mean"}  # check_fails shows that a wrong one fails


def cells(path):
    return [(c.cell_type, c.source) for c in jupytext.read(path).cells]


def checked_tags(code):
    """Tags that are the literal first argument of a call of a check."""
    tree = ast.parse(
        "\n".join("" if line.startswith(("%", "!")) else line for line in code.splitlines())
    )
    calls = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and getattr(n.func, "id", None) in CHECKS
    ]
    return {n.args[0].value for n in calls if n.args and isinstance(n.args[0], ast.Constant)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_every_tag_is_checked_after_it_stands(path):
    contents = cells(path)
    missing, seen = [], set()
    for i, (kind, text) in enumerate(contents):
        if kind != "markdown":
            continue
        later = set().union(*[checked_tags(code) for k, code in contents[i + 1 :] if k == "code"])
        for tag in TAG.findall(text):
            if tag in seen:
                missing.append(f"{tag} (tagged twice)")
            seen.add(tag)
            if tag not in later:
                missing.append(tag)
    assert not missing, f"{path.name}: no check names {', '.join(missing)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_every_check_names_a_tag_that_exists(path):
    contents = cells(path)
    tags = {tag for kind, text in contents if kind == "markdown" for tag in TAG.findall(text)}
    named = set().union(*[checked_tags(code) for kind, code in contents if kind == "code"])
    assert not {n for n in named if isinstance(n, str) and n.startswith("eq:")} - tags


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_every_displayed_equation_is_tagged(path):
    r"""A display has its own comment right before it; one with \tag{n} that of its number."""
    for kind, text in cells(path):
        if kind == "markdown":
            assert text.count("$$") % 2 == 0, f"{path.name}: an odd number of $$"
            for comment, body in re.findall(r"(<!--[^>]*-->)?\s*\$\$(.*?)\$\$", text, flags=re.S):
                assert TAG.fullmatch(comment), f"{path.name}: a display without a tag: {body}"
                for number, step in re.findall(r"\\tag\{(\d+(?:\.\d+)?)([a-z]?)\}", body):
                    wanted = (
                        f"eq:{number}-step-{ord(step) - ord('a') + 1}" if step else f"eq:{number}"
                    )  # 7.5a: step 1
                    assert comment == f"<!-- {wanted} -->", (
                        f"{path.name}: Eq. {number} has no tag before it"
                    )


def test_equations_1_to_15_of_the_report_are_all_there():
    tags = {
        tag
        for path in SOURCES
        for kind, text in cells(path)
        if kind == "markdown"
        for tag in TAG.findall(text)
    }
    written = {p.stem[:2] for p in SOURCES}
    wanted = {"01": {1, 2, 8}, "02": {3, 4, 5, 6, 7, 9, 10, 11, 12}, "04": {13, 14, 15}}
    missing = {f"eq:{n}" for nb, numbers in wanted.items() if nb in written for n in numbers} - tags
    assert not missing, f"not displayed: {sorted(missing)}"


# ---- the checks themselves can fail


def test_check_compares_every_element_and_refuses_nan():
    checks.check("t", [1.0, 2.0], [1.0, 2.0 + 1e-9], 1e-8, "close")
    checks.check("t", [np.inf], [np.inf], 0, "equal infinities")
    for got, expected in (
        ([1.0, 2.0], [1.0, 2.1]),
        ([np.nan], [np.nan]),
        ([np.inf], [1.0]),
        ([0.0], [np.nan]),
    ):
        with pytest.raises(AssertionError, match="t: "):
            checks.check("t", got, expected, 0.05, "different")


def test_check_zero_simplifies_and_refuses():
    x = sp.symbols("x")
    checks.check_zero("t", [sp.sin(x) ** 2 + sp.cos(x) ** 2 - 1, 0], "identity")
    with pytest.raises(AssertionError):
        checks.check_zero("t", [0, x - x**2], "no identity")


def test_check_mean_uses_the_standard_error():
    draws = np.random.default_rng(0).normal(0.3, 2.0, size=(4000, 3))
    checks.check_mean("t", draws, 0.3, "right")
    with pytest.raises(AssertionError):
        checks.check_mean("t", draws, 0.3 + 7 * 2.0 / 4000**0.5, "seven standard errors off")


def test_check_fails_wants_a_failure():
    checks.check_fails("t", lambda: checks.check("t", 1, 2, 0.1, "wrong"), "a wrong number")
    with pytest.raises(AssertionError, match="passed its check"):
        checks.check_fails("t", lambda: checks.check("t", 1, 1, 0.1, "right"), "a right number")
