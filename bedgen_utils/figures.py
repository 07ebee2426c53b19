"""Every figure by one command: the notebooks in order, each through papermill, then what they made is published.

A notebook writes into the run folder and touches nothing else. Only when it has run to its end are its figures, its
manifest rows and its executed copy put in place of those of the last run, so a notebook that fails changes nothing that
was there. A notebook is run again when its fingerprint changes: the hash of its source, the package, its profile's
numbers, the seed, the data, and the runs of the notebooks whose weights it loads.

    DIR/notebooks/NN_name.ipynb     executed copies         DIR is the repository for profile cpu; what no --out is
    DIR/figures/                    figures, manifest       given for otherwise goes to runs/PROFILE/published
    RUN/figures, RUN/weights, RUN/NN, RUN/NN.done.json      RUN is runs/PROFILE below the repository or below --out
"""

import contextlib
import hashlib
import json
import logging
import re
import shutil
import sys
import threading
import time
import uuid
from pathlib import Path

import filelock
import nbformat
import papermill

from . import notebooks as nbs
from .data import dataset_sha256
from .run import REPO, profile_numbers, replace_atomically

# Which notebooks' weights and numbers a notebook loads when they are there.
NEEDS = {"05": ("04",), "06": ("03", "04"), "07": ("03", "04"), "08": ("03", "04", "05", "06", "07")}
# The runner itself changes no result.
NOT_IN_FINGERPRINT = {"figures.py", "notebooks.py", "__main__.py"}


class NotebookFailed(Exception):
    """A notebook did not run to its end; the text says which cell, why, and where its copy lies."""


def folders(profile: str, out: str | Path | None) -> tuple[Path, Path]:
    """(run folder, publishing folder) of ``profile`` for the ``--out`` that was given."""
    if out is not None:
        return Path(out).resolve() / "runs" / profile, Path(out).resolve()
    run = REPO / "runs" / profile
    return run, REPO if profile == "cpu" else run / "published"


def make_figures(profile: str = "cpu", seed: int = 0, out: str | Path | None = None, only: tuple[str, ...] = (),
                 force: bool = False, folder: Path = nbs.NOTEBOOKS) -> None:
    """Run the notebooks of ``folder`` that are not up to date, in order, and publish what each made.

    only: the numbers ("03") of those to consider; all others are left alone. force: run also what is up to date, from
    the beginning. Raises NotebookFailed at the first notebook that fails, ValueError for a number that is not there.
    """
    texts = nbs.sources(folder)
    if unknown := set(only) - set(texts):
        raise ValueError(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(texts)}")
    chosen = [number for number in texts if not only or number in only]
    run, target = folders(profile, out)
    run.mkdir(parents=True, exist_ok=True)
    try:
        # The lock goes with the process, however it ends.
        lock = filelock.FileLock(run / ".lock").acquire(timeout=0)
    except filelock.Timeout:
        raise NotebookFailed(f"another run is at work in {run}; wait for it or give another --out") from None
    with lock, nbs.kernel(), _Progress(run, profile, [texts[n] for n in chosen]) as progress:
        for number in chosen:
            _one(number, texts, profile, seed, run, target, force, progress)
        rows = _rows(target / "figures")
        progress.say(f"{len(chosen)} notebooks, {len(rows)} figures and tables in {target / 'figures'}, "
                     f"{_clock(progress.seconds())}")


def _one(number, texts, profile, seed, run, target, force, progress) -> None:
    source = texts[number]
    done, started = run / f"{number}.done.json", run / f"{number}.started.json"
    fingerprint = _fingerprint(number, texts, profile, seed, run)
    if not force and _is_current(done, fingerprint, target):
        progress.skip(source)
        return
    # Checkpoints of an interrupted run are gone on with, but only by the code, numbers and data that wrote them.
    if force or _json(started).get("fingerprint") != fingerprint:
        shutil.rmtree(run / number, ignore_errors=True)
    done.unlink(missing_ok=True)
    _write_json(started, {"fingerprint": fingerprint})
    _forget_figures(run / "figures", number)

    copy = run / "executed" / f"{source.stem}.ipynb"
    copy.parent.mkdir(exist_ok=True)
    progress.begin(source)
    nb = _execute(source, copy, {"profile": profile, "seed": seed, "out": str(run)}, progress)
    seconds = progress.end()

    rows = {i: row for i, row in _rows(run / "figures").items() if row.get("notebook") == number}
    _publish_figures(rows, number, run / "figures", target / "figures")
    short = {run: f"runs/{profile}", target: "."}
    published = target / "notebooks" / f"{source.stem}.ipynb"
    nbs.write(nbs.publishable(nb, source, short, profile=profile, seed=seed), published)
    copy.unlink()
    _write_json(done, {"fingerprint": fingerprint, "run": uuid.uuid4().hex, "seconds": round(seconds, 1),
                       "notebook": published.name, "figures": sorted(f for row in rows.values() for f in row["files"])})
    progress.say(f"{source.stem}: {_clock(seconds)}, {len(rows)} figures and tables")


# ---- what is up to date

def _fingerprint(number, texts, profile, seed, run) -> str:
    numbers = profile_numbers(profile, number)
    try:
        data = dataset_sha256(numbers.get("source", "rendered"), numbers.get("path"))
    except (ValueError, OSError) as error:      # the notebook itself will say so where it needs the data
        data = str(error)
    # Not what these notebooks would give, but the very run that left its weights here.
    needed = {n: _json(run / f"{n}.done.json").get("run") for n in NEEDS.get(number, ()) if n in texts}
    numbers.pop("minutes", None)        # a guess for the reader, used for nothing else
    text = texts[number].read_text(encoding="utf-8")
    parts = [text, _shared_inputs(), _studies(text), numbers, profile, seed, data, needed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _shared_inputs() -> dict[str, str]:
    """Hashes of what any notebook may use: the package and the released weights."""
    used = [p for p in (REPO / "bedgen_utils").glob("*.py") if p.name not in NOT_IN_FINGERPRINT]
    return _hashes([*used, *(REPO / "data").rglob("*.safetensors")])


def _studies(text: str) -> dict[str, str]:
    """Hashes of the tables of long studies that this notebook reads."""
    return _hashes(p for p in (REPO / "figures" / "studies").glob("*.csv") if f'read_study("{p.stem}")' in text)


def _hashes(paths) -> dict[str, str]:
    return {str(p.relative_to(REPO)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(paths)}


def _is_current(done: Path, fingerprint: str, target: Path) -> bool:
    state = _json(done)
    return (state.get("fingerprint") == fingerprint and (target / "notebooks" / state["notebook"]).is_file()
            and all((target / "figures" / name).is_file() for name in state["figures"]))


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write_json(path: Path, value) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    replace_atomically(path, lambda t: t.write_text(text, encoding="utf-8"))


# ---- figures

def _rows(folder: Path) -> dict:
    return _json(folder / "manifest.json")


def _forget_figures(staged: Path, number: str) -> None:
    """Drop what an earlier run of this notebook staged: a figure it no longer makes must not be published."""
    rows = _rows(staged)
    for row in [r for r in rows.values() if r.get("notebook") == number]:
        for name in row["files"]:
            (staged / name).unlink(missing_ok=True)
        del rows[row["id"]]
    if staged.is_dir():
        _write_json(staged / "manifest.json", rows)


def _publish_figures(new: dict, number: str, staged: Path, target: Path) -> None:
    """Put the files of the rows ``new`` into ``target``, then the manifest; figures of other notebooks stay."""
    target.mkdir(parents=True, exist_ok=True)
    for row in new.values():
        for name in row["files"]:
            replace_atomically(target / name, lambda t, n=name: shutil.copyfile(staged / n, t))
    old = _rows(target)
    kept = {i: row for i, row in old.items() if i not in new and row.get("notebook") != number}
    _write_json(target / "manifest.json", dict(sorted((kept | new).items())))
    still = {name for row in (kept | new).values() for name in row["files"]}
    for row in old.values():
        for name in set(row["files"]) - still:
            (target / name).unlink(missing_ok=True)


# ---- running one notebook

def _execute(source: Path, copy: Path, parameters: dict, progress) -> nbformat.NotebookNode:
    nb = nbs.document(source)
    nbs.set_parameters(nb)
    nb.metadata.kernelspec.name = nbs.KERNEL
    logging.getLogger("papermill").setLevel(logging.CRITICAL)      # what it would log is in our report
    try:
        return papermill.execute_notebook(
            nb, copy, parameters, kernel_name=nbs.KERNEL, cwd=source.parents[1], progress_bar=False,
            start_timeout=180, store_widget_state=False, on_cell_start=progress.cell)
    except papermill.PapermillExecutionError as error:
        trace = [_plain(line) for line in "\n".join(error.traceback).splitlines()]
        why = "\n".join(["    " + line for line in trace[-15:]])
        raise NotebookFailed(progress.where(f"{error.ename}: {_plain(error.evalue)}\n{why}", copy)) from None
    except Exception as error:      # the kernel died (out of memory, killed), did not start, or the disk is full
        raise NotebookFailed(progress.where(f"{type(error).__name__}: {_plain(str(error))}", copy)) from error


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# ---- telling how far it is

class _Progress:
    """One line on a terminal, kept current by a thread; in a log one line a minute. Expected times are those that this
    folder's last run took, else those of profiles.toml times how much slower than them this machine has been so far."""

    def __init__(self, run: Path, profile: str, chosen: list[Path]):
        self.times, self.names = run / "times.json", [p.stem for p in chosen]
        self.measured = _json(self.times)
        self.expected = {p.stem: self.measured.get(p.stem, 60 * profile_numbers(profile, p.name[:2])["minutes"])
                         for p in chosen}
        self.took, self.current, self.cells, self.cell_at, self.source = {}, None, 0, 0, ""
        self.began = self.began_notebook = time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.stop, self.writing = threading.Event(), threading.Lock()

    def __enter__(self):
        self.thread = threading.Thread(target=self._keep_current, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        self.thread.join()
        self._clear()

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def begin(self, source: Path) -> None:
        nb = nbs.document(source)
        self.cells, self.cell_at, self.source = sum(c.cell_type == "code" for c in nb.cells), 0, ""
        self.began_notebook, self.current = time.monotonic(), source.stem
        if not self.terminal:
            self.say(self._line())

    def cell(self, cell, cell_index) -> None:
        """Called by papermill's client before each cell."""
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", []):
            self.cell_at, self.source = self.cell_at + 1, cell.source

    def end(self) -> float:
        name, self.current = self.current, None
        self.took[name] = time.monotonic() - self.began_notebook
        self.measured[name] = round(self.took[name], 1)
        _write_json(self.times, self.measured)
        return self.took[name]

    def skip(self, source: Path) -> None:
        self.expected.pop(source.stem)
        self.say(f"{source.stem}: up to date")

    def where(self, why: str, copy: Path) -> str:
        """The report on a failure in the current cell."""
        name, self.current = self.current, None
        lines = [line for line in self.source.splitlines() if line.strip()][:4]
        cell = "\n".join("    " + line for line in lines)
        return (f"{name} failed in code cell {self.cell_at} of {self.cells}, which begins\n{cell}\n{why}\n"
                f"executed copy: {copy}\nFigures and notebooks already there stay as they were. "
                "The same command goes on from this notebook.")

    def say(self, text: str) -> None:
        with self.writing:
            self._clear()
            print(text, flush=True)

    def _clear(self) -> None:
        if self.terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _total(self) -> float:
        """Expected seconds of the whole line: what is over, and the rest at the pace so far."""
        usual = sum(self.expected[name] for name in self.took)
        pace = sum(self.took.values()) / usual if usual > 20 else 1.0
        here = time.monotonic() - self.began_notebook
        over = {*self.took, self.current}
        rest = sum(seconds * pace for name, seconds in self.expected.items() if name not in over)
        now = max(here, self.expected[self.current] * pace) if self.current else 0
        return self.seconds() - (here if self.current else 0) + now + rest

    def _line(self) -> str:
        at, total = self.names.index(self.current) + 1, self._total()
        width = 16
        full = round(width * min(1.0, self.seconds() / max(total, 1e-9)))
        return (f"[{at}/{len(self.names)}] {self.current}  cell {self.cell_at}/{self.cells}  "
                f"{'█' * full}{'·' * (width - full)}  {_clock(self.seconds())} of about {_clock(total)}")

    def _keep_current(self) -> None:
        last = time.monotonic()
        while not self.stop.wait(0.5):
            if self.current is None:
                continue
            # The notebook may end between the question and the line.
            with contextlib.suppress(KeyError, ValueError):
                if self.terminal:
                    line = self._line()[:shutil.get_terminal_size().columns - 1]
                    with self.writing:
                        sys.stderr.write("\r\x1b[K" + line)
                        sys.stderr.flush()
                elif time.monotonic() - last > 60:
                    last = time.monotonic()
                    self.say(self._line())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
