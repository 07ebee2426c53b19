"""The environment that ``make`` works in, and the lock that it is made from. Standard library only.

``python tools/environment.py setup`` does what ``make setup`` does; ``--torch cpu`` takes PyTorch's
builds for machines without a GPU, from the index that uv knows: they are a tenth of the size.
``python3.13 tools/environment.py colab --venv FOLDER`` makes a folder hold what Colab's machines
hold, for tests/test_colab.py.
"""

import argparse
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
EXTRAS = ("run", "lab", "test")
CUDA = re.compile(r"(nvidia|cuda|triton)\b")  # packages that only a GPU of NVIDIA's needs


def python(folder: Path) -> str:
    return str(folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))


def setup(folder: Path, torch: str | None) -> None:
    """Make ``folder`` hold what the lock says, by content; without ``torch`` its kind stays."""
    state = folder / "installed.txt"
    before = state.read_text(encoding="utf-8") if state.exists() else ""
    kind = torch or (before.splitlines() or ["default"])[0]
    lock = (REPO / "requirements.lock").read_text(encoding="utf-8")
    wanted = f"{kind}\n{lock}{(REPO / 'pyproject.toml').read_text(encoding='utf-8')}"
    if before == wanted:
        return
    if not Path(python(folder)).exists():
        if not (3, 11) <= sys.version_info[:2] <= (3, 13):
            sys.exit(f"Python 3.11, 3.12 or 3.13 is needed; this is {sys.version.split()[0]}")
        print(f"setting up {folder} with Python {sys.version.split()[0]}", flush=True)
        venv.create(folder, clear=True, with_pip=True)
    print("installing the packages of requirements.lock (minutes, once)", flush=True)
    pip(folder, "uv")
    lines = [row for row in lock.splitlines() if kind != "cpu" or not CUDA.match(row)]
    (folder / "wanted.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    backend = ["--torch-backend", "cpu"] if kind == "cpu" else []
    uv(folder, "pip", "install", "--compile-bytecode", *backend, "-r", str(folder / "wanted.txt"))
    pip(folder, "--no-deps", "--no-build-isolation", "-e", str(REPO))
    state.write_text(wanted, encoding="utf-8")
    print(f"{folder} is ready", flush=True)


def extra(folder: Path, name: str) -> None:
    """Install the extra ``name`` beside what the lock pins, once for each of its contents."""
    text = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    state, wanted = folder / f"{name}.txt", "\n".join(extras[name]) + "\n"
    if state.exists() and state.read_text(encoding="utf-8") == wanted:
        return
    print(f"installing the packages of the extra {name} (once)", flush=True)
    pip(folder, "uv")
    uv(folder, "pip", "install", "--constraint", "requirements.lock", *extras[name])
    state.write_text(wanted, encoding="utf-8")


def lock() -> None:
    """Pin everything for Python 3.11 to 3.13 on any system; what is pinned and still fits stays."""
    folder = Path(sys.prefix)
    pip(folder, "uv")
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    uv(
        folder, "pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11",
        *extras, "--no-annotate", "--no-emit-index-url", "--quiet", "--output-file",
        "requirements.lock", "--custom-compile-command", "make lock (from pyproject.toml, with uv)",
    )  # fmt: skip


def colab(folder: Path) -> None:
    """Make ``folder``, anew, hold the versions that Colab has for the Python that runs this."""
    pins = REPO / "tests" / f"colab-{sys.version_info[0]}.{sys.version_info[1]}.txt"
    if not pins.exists():
        sys.exit(f"Colab has no Python {sys.version.split()[0]}: there is no {pins.name}")
    venv.create(folder, clear=True, with_pip=True)
    pip(folder, "-r", str(pins))


def pip(folder: Path, *arguments: str) -> None:
    quiet = ("--disable-pip-version-check", "--quiet")
    call([python(folder), "-m", "pip", "install", *quiet, *arguments])


def uv(folder: Path, *arguments: str) -> None:
    command, *rest = arguments
    where = ["--python", python(folder)] if rest[0] == "install" else []
    call([python(folder), "-m", "uv", command, rest[0], *where, *rest[1:]])


def call(command: list[str]) -> None:
    if status := subprocess.run(command, cwd=REPO).returncode:
        sys.exit(status)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["setup", "lock", "colab", "book"])
    parser.add_argument("--venv", type=Path, help="the folder (.venv beside pyproject.toml)")
    parser.add_argument("--torch", choices=["default", "cpu"], help="which builds of PyTorch")
    options = parser.parse_args()
    if options.what == "lock":
        lock()
    elif options.what == "book":
        extra(options.venv.resolve() if options.venv else Path(sys.prefix), "book")
    elif options.what == "setup":
        setup((options.venv or REPO / ".venv").resolve(), options.torch)
    elif options.venv:
        colab(options.venv.resolve())
    else:
        parser.error("colab wants a --venv of its own")
