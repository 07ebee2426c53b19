"""tools/mutants.py: each deliberate error still fits the source, and a child notices one."""

import ast
import os
import subprocess
import sys

import pytest

from tools import mutants


@pytest.mark.parametrize("name", mutants.MODULES)
def test_every_error_fits_the_source_and_can_be_compiled(name):
    source = mutants.source_of(name).read_text(encoding="utf-8")
    module, tree = mutants.MODULES[name], ast.dump(ast.parse(source))
    for mutant in module.mutants:
        assert ast.dump(ast.parse(mutants.mutate(source, mutant))) != tree, mutant.what
    assert len({mutant.what for mutant in module.mutants}) == len(module.mutants)
    assert all((mutants.REPO / test).exists() for test in module.tests)


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
