"""Every exercise: a stub is not attempted, its solution is right, each typical mistake is named."""

import ast
import math
import re
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch

from bedgen_utils import exercises
from bedgen_utils.exercises import NOT_ATTEMPTED, RIGHT, WRONG, Exercise, check, hint

SOURCES = sorted((Path(__file__).parents[1] / "notebooks" / "py").glob("[0-9][0-9]_*.py"))
EXERCISES = {
    name: exercise
    for source in SOURCES
    for name, exercise in exercises.of_notebook(source.stem[:2]).items()
}


def cells(source):
    for cell in jupytext.read(source).cells:
        yield cell.cell_type, cell.source, cell.metadata.get("tags", [])


def imports(source):
    """What a notebook imports, as a namespace in which its stubs and solutions can run."""
    code = "\n".join(text for kind, text, _ in cells(source) if kind == "code")
    lines = [n for n in ast.parse(code).body if isinstance(n, ast.Import | ast.ImportFrom)]
    namespace = {}
    exec(compile(ast.Module(lines, []), str(source), "exec"), namespace)
    return namespace


def verdicts(source, tag):
    """What each code cell of this tag comes to, {exercise: verdict}."""
    namespace, found = imports(source), {}
    for kind, text, tags in cells(source):
        if kind == "code" and tag in tags:
            *body, last = ast.parse(text).body
            exec(compile(ast.Module(body, []), str(source), "exec"), namespace)
            verdict = eval(compile(ast.Expression(last.value), str(source), "eval"), namespace)
            found[verdict.exercise] = verdict
    return found


def in_text(source):
    statements = "\n".join(t for kind, t, tags in cells(source) if "exercise" in tags)
    return re.findall(r"\*\*Exercise (\d\d-\d)\*\*", statements)


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_stubs_are_not_attempted_and_solutions_are_right(source):
    known = list(exercises.of_notebook(source.stem[:2]))
    assert in_text(source) == known
    for tag, kind in (("exercise", NOT_ATTEMPTED), ("solution", RIGHT)):
        found = verdicts(source, tag)
        assert {name: v.kind for name, v in found.items()} == dict.fromkeys(known, kind), found


@pytest.mark.parametrize("name", EXERCISES)
def test_each_mistake_is_named(name):
    exercise = EXERCISES[name]
    assert len(exercise.mistakes) >= 2 and hint(name)
    assert check(name, exercise.answer).kind == RIGHT
    for mistake, wrong in exercise.mistakes.items():
        assert check(name, wrong) == (name, WRONG, mistake)


def test_signed_shares_in_single_precision_are_named():
    """Their differences sum to 0 but for rounding, which has no scale to be compared with."""

    def signed(a, b, count):
        shares = [x.bincount(minlength=count) / len(x) for x in (a, b)]
        assert shares[0].dtype == torch.float32
        return (shares[0] - shares[1]).sum().abs() / 2

    assert check("08-3", signed).why.startswith("You kept the signs")


@pytest.mark.parametrize("name", EXERCISES)
def test_any_other_answer_is_wrong_without_a_reason_of_ours(name):
    other = (lambda *_: 12345.678) if callable(EXERCISES[name].answer) else 12345.678
    verdict = check(name, other)
    assert verdict.kind == WRONG and verdict.why and verdict.why not in EXERCISES[name].mistakes


# ---- the checker itself, on exercises of its own


@pytest.fixture
def small(monkeypatch):
    def trials():
        return [(torch.tensor([1.0, 2.0]),), (torch.tensor([3.0, 5.0]),)]

    double = Exercise(lambda x: 2 * x, {"halved": lambda x: x / 2}, "twice", trials)
    draws = Exercise(
        lambda n: torch.randn(n), {"flat": lambda n: torch.rand(n)}, "", lambda: [(5,), (5,)]
    )
    half_a_turn = Exercise(3.14159, {"degrees": 180}, "half a turn")
    root = Exercise(lambda x: x**0.5, {"squared": lambda x: x**2}, "", lambda: [(4.0,), (2.0,)])
    known = {"f": double, "draws": draws, "pi": half_a_turn, "root": root}
    monkeypatch.setattr(exercises, "of_notebook", lambda number: known)


def empty(x): ...


def unwritten(x):
    raise NotImplementedError


@pytest.mark.parametrize("answer", [None, ..., empty, unwritten])
def test_not_attempted(small, answer):
    assert check("f", answer) == ("f", NOT_ATTEMPTED, "")


@pytest.mark.parametrize(
    "answer, why",
    [
        (lambda x: x / 2, "halved"),
        (lambda x: x / 0.0 if False else x[:1], "shape (1,) where (2,)"),
        (lambda x: [1, "a"], "numbers are expected"),
        (lambda x: 10**400, "too large for float64"),
        (lambda x: 2 * x + 5j, "real numbers"),  # which NumPy would cut down to the right answer
        (lambda x: x.nothing, "raises AttributeError"),
        (lambda: 1, "raises TypeError"),
        (3.0, "A function is asked for"),
        (lambda x: 2 * x + torch.tensor([0.0, 1.0]), "1 of 2 numbers are off, by up to 1"),
        # right on the first trial alone
        (lambda x: torch.tensor([2.0, 4.0]), "2 of 2 numbers are off"),
        (lambda x: x * torch.tensor([1.0, float("nan")]), "50% of the numbers are infinite or NaN"),
    ],
)
def test_wrong_functions(small, answer, why):
    verdict = check("f", answer)
    assert verdict.kind == WRONG and why in verdict.why


def test_right_in_any_form(small):
    for answer in (lambda x: x + x, lambda x: (2 * x).tolist(), lambda x: np.asarray(x) * 2):
        assert check("f", answer) == ("f", RIGHT, "")
    ahead = torch.ones(2, requires_grad=True)
    assert check("f", lambda x: list(2 * x * ahead)).kind == RIGHT
    assert check("f", lambda x: (2 * x).bfloat16()).kind == RIGHT
    first_alone = check("root", lambda x: x**0.5 if x > 3 else 7.0)
    assert first_alone.why == "It gives 7, which is not it."  # not the first trial's right 2
    for sqrt in (math.sqrt, np.sqrt, torch.sqrt):
        assert check("root", sqrt).kind == RIGHT
    assert check("draws", lambda n: torch.randn(n)).kind == RIGHT
    assert check("draws", lambda n: torch.randn(n + 2)[:n]).kind == RIGHT  # each trial begins anew
    assert check("draws", lambda n: torch.rand(n)).why == "flat"
    assert check("pi", np.pi).kind == check("pi", torch.tensor(np.pi)).kind == RIGHT
    assert check("pi", 180).why == "degrees" and "3.2, which is not it" in check("pi", 3.2).why
    assert check("pi", lambda: 3).why.startswith("A number")


def test_a_check_leaves_the_notebooks_draws_alone(small):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    check("draws", lambda n: torch.randn(n))
    assert torch.equal(torch.rand(3), expected)


def test_what_a_reader_sees(small):
    stuck = ' Stuck? exercises.hint("f"), or notebooks/solutions/.'
    assert repr(check("f", 2)) == f"Exercise f: wrong. A function is asked for.{stuck}"
    assert repr(check("f")) == f"Exercise f: not attempted.{stuck}"
    assert repr(check("pi", np.pi)) == "Exercise pi: right."
    with pytest.raises(ValueError, match="no exercise 'g'; there are f, draws, pi, root"):
        check("g", 1)


@pytest.mark.parametrize("name", [None, 1, empty])
def test_what_is_no_name_is_said_to_be_none(name):
    with pytest.raises(ValueError, match="there is no exercise"):
        check(name, "01-1")
