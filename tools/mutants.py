"""Deliberate errors in the package, one at a time: do its tests notice each?

    python -m tools.mutants                    # all modules; exit status 1 if one survives
    python -m tools.mutants diffusion --jobs 4
    python -m tools.mutants diffusion:12 diffusion:40    # these alone, with what pytest printed

Each mutant (tests/mutants/MODULE.toml) replaces pieces of the module's source, each of which must
occur exactly once. A forked child imports the module with these replaced and runs the module's fast
tests until the first failure; some children run at a time. What is known is kept in runs/mutants: a
run that is stopped goes on where it was, and only what a change of the module, of its tests or of
what they import concerns is tried again. Needs os.fork (Linux, macOS).
"""

import argparse
import contextlib
import gc
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.pipeline import REPO, modules

PACKAGE = "bedgen_utils"
MUTANTS = REPO / "tests" / "mutants"  # one file a module
KNOWN = REPO / "runs" / "mutants"
LIMIT = 180  # seconds; a mutant that loops for ever is caught


@dataclass(frozen=True)
class Mutant:
    """An error: ``wrong`` code where the module has the ``right`` one, in one place or in more."""

    what: str
    right: str | list[str]
    wrong: str | list[str]


@dataclass(frozen=True)
class Module:
    """A module's mutants and the tests that should notice them: a file of MUTANTS."""

    tests: list[str]
    mutants: list[Mutant]

    @classmethod
    def read(cls, path: Path) -> "Module":
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return cls(table["tests"], [Mutant(**row) for row in table["mutants"]])


MODULES = {path.stem: Module.read(path) for path in sorted(MUTANTS.glob("*.toml"))}


def source_of(module: str) -> Path:
    return REPO / PACKAGE / f"{module}.py"


def mutate(source: str, mutant: Mutant) -> str:
    """``source`` with the error in it. ValueError where it does not fit the source."""
    one = isinstance(mutant.right, str)
    rights, wrongs = ([mutant.right], [mutant.wrong]) if one else (mutant.right, mutant.wrong)
    for right, wrong in zip(rights, wrongs, strict=True):
        if (count := source.count(right)) != 1:
            raise ValueError(f"{mutant.what}: occurs {count} times, not once: {right}")
        source = source.replace(right, wrong)
    return source


# ---- one mutant, in a child


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a module as if its file held another source."""

    source = ""

    def get_code(self, fullname: str):
        return compile(self.source, self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds one module, by a ``Loader`` with this source."""

    def __init__(self, module: str, source: str):
        self.name, self.path, self.source = f"{PACKAGE}.{module}", source_of(module), source

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        loader = Loader(name, str(self.path))
        loader.source = self.source
        return importlib.util.spec_from_file_location(name, self.path, loader=loader)


def start(module: str, source: str, show: bool) -> tuple[int, int]:
    """Run the module's tests on ``source`` in a child; its process id, and where it will tell how
    they went."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    signal.alarm(LIMIT)
    text = io.StringIO()
    try:
        import pytest

        sys.meta_path.insert(0, Finder(module, source))
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            options = [
                "-x",
                "-q",
                "-m",
                "not slow",
                "--no-header",
                "-p",
                "no:cacheprovider",
                "--tb=line",
            ]
            tests = [str(REPO / test) for test in MODULES[module].tests]
            status = int(pytest.main([*options, "--rootdir", str(REPO), *tests]))
    except BaseException as error:  # a mutant that cannot even be imported is caught too
        status = 1
        text.write(f"\nFAILED import: {error!r}")
    lines = text.getvalue().splitlines()
    failed = next((line for line in lines if line.startswith(("FAILED", "ERROR"))), "")
    if show:
        os.write(2, text.getvalue().encode())
    os.write(write, f"{status} {failed.split('::')[-1][:90]}".encode())
    os._exit(0)


def caught(module: str, sources: dict[str, str], jobs: int, show: bool) -> Iterator[tuple]:
    """Yields (name, was it caught, by which test, seconds) for each of the named sources as it
    ends."""
    waiting = dict(sources)
    running: dict[int, tuple[str, int, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            name = next(iter(waiting))
            child, read = start(module, waiting.pop(name), show)
            running[child] = name, read, time.monotonic()
        child, ended = os.wait()
        name, read, began = running.pop(child)
        status, _, test = os.read(read, 4096).decode().partition(" ")
        os.close(read)
        if os.WIFSIGNALED(ended):
            status, test = "1", f"ended by signal {os.WTERMSIG(ended)}"
        # 5: no tests were run, which notices nothing.
        yield name, status not in ("0", "5"), test, round(time.monotonic() - began)


# ---- all of a module


def try_module(module: str, numbers: list[int], jobs: int) -> list[dict]:
    """A row for each mutant (of these numbers, else of all). Prints them as they end."""
    source = source_of(module).read_text(encoding="utf-8")
    mutants = MODULES[module].mutants
    chosen = numbers or range(1, len(mutants) + 1)
    mutated = {str(i): mutate(source, mutants[i - 1]) for i in chosen}
    path = KNOWN / f"{module}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    around = surroundings(module)
    keys = {
        name: hashlib.sha256((around + text).encode()).hexdigest()
        for name, text in ({"0": source} | mutated).items()
    }
    todo = {name: mutated[name] for name in mutated if numbers or keys[name] not in known}
    if todo and keys["0"] not in known:
        (unmutated,) = caught(module, {"0": source}, 1, bool(numbers))
        if unmutated[1]:
            raise SystemExit(f"{module}: without any mutation {unmutated[2]} fails")
        known[keys["0"]] = list(unmutated[1:])
    for name, dead, test, seconds in caught(module, todo, jobs, bool(numbers)):
        known[keys[name]] = [dead, test, seconds]
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(known, indent=0), encoding="utf-8")
        os.replace(temporary, path)
        what = mutants[int(name) - 1].what
        print(
            f"{module}:{name:3} {'caught  ' if dead else 'SURVIVED'} {what}  [{test}]", flush=True
        )
    row = ("caught", "test", "seconds")
    return [
        {"number": int(name), "what": mutants[int(name) - 1].what}
        | dict(zip(row, known[keys[name]], strict=True))
        for name in mutated
    ]


def surroundings(module: str) -> str:
    """A checksum of all that decides, beside the module itself, whether a mutant is caught: its
    tests, and the rest of the package as far as they or the module import it."""
    tests = [REPO / test for test in MODULES[module].tests]
    names = set().union(*(modules(path) for path in (source_of(module), *tests))) - {module}
    files = [*map(source_of, sorted(names)), *tests, REPO / "tests" / "conftest.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def prepare() -> None:
    """Load once what each child would load anew for seconds."""
    for name in ("diffusers", "IPython.display", "matplotlib.pyplot", "pandas", "pytest"):
        importlib.import_module(name)
    for name in ("accelerate", "scipy.stats", "torch_fidelity", "torchmetrics", "torchvision"):
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)  # a forked child must not inherit worker threads
    one = torch.ones(1)
    torch.testing.assert_close(one, torch.func.jacrev(lambda x: x)(one)[0])
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = (
        "1"  # loading nbmake takes longer than most tests
    )
    gc.freeze()  # else each child looks through all of this again and again


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", nargs="*", default=list(MODULES), help="MODULE or MODULE:NUMBER")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="children at a time")
    given = parser.parse_args()
    chosen: dict[str, list[int]] = {}
    for name, _, number in (which.partition(":") for which in given.which):
        if name not in MODULES:
            parser.error(f"no mutants of {name!r}; there are {', '.join(MODULES)}")
        chosen.setdefault(name, []).extend([int(number)] if number else [])

    prepare()
    sys.path.insert(0, str(REPO))
    table = {name: try_module(name, numbers, given.jobs) for name, numbers in chosen.items()}
    print("\n| module | mutants | caught | survived | seconds |\n|---|---|---|---|---|")
    for name, rows in table.items():
        dead, seconds = sum(row["caught"] for row in rows), sum(row["seconds"] for row in rows)
        print(f"| {name} | {len(rows)} | {dead} | {len(rows) - dead} | {seconds} |")
    survivors = [
        f"{name}:{row['number']} {row['what']}"
        for name, rows in table.items()
        for row in rows
        if not row["caught"]
    ]
    print("\n".join(["", "survived:", *survivors]) if survivors else "\nnone survived")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
