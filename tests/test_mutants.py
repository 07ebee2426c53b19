"""tools/mutants.py: each deliberate error still fits the source, and a child notices one."""

import ast
import os
import subprocess
import sys

import pytest

from tools import mutants

each_module = pytest.mark.parametrize("name", mutants.MODULES)


def mutated(name):
    """The module's source, and by what is wrong the source with that in it."""
    source = mutants.source_of(name).read_text(encoding="utf-8")
    return source, {m.what: mutants.mutate(source, m) for m in mutants.MODULES[name].mutants}


@each_module
def test_every_error_fits_the_source(name):
    module = mutants.MODULES[name]
    assert len(mutated(name)[1]) == len(module.mutants), "two errors have one name"
    assert all((mutants.REPO / test).exists() for test in module.tests)


@pytest.mark.slow
@each_module
def test_every_error_is_another_program(name):
    source, wrong = mutated(name)
    right = ast.dump(ast.parse(source))
    assert [what for what, text in wrong.items() if ast.dump(ast.parse(text)) == right] == []


def test_every_module_of_the_package_has_its_errors():
    modules = {path.stem for path in (mutants.REPO / mutants.PACKAGE).glob("*.py")}
    assert modules - mutants.MODULES.keys() == {"__init__", "__main__"}


def test_an_error_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match="wrong way: occurs 2 times"):
        mutants.mutate("a a", mutants.Mutant("wrong way", "a", "b"))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_tells_the_right_source_from_a_wrong_one():
    call = [sys.executable, "-m", "tools.mutants", "diffusion:1"]
    run = subprocess.run(call, cwd=mutants.REPO, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "| diffusion | 1 | 1 | 0 |" in run.stdout
