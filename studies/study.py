"""What every study shares: its table, its jobs, its command line.

A study is a question that takes hours, one file each. It names its jobs (one a row of its table)
and a function that measures one, and ends with ``study.main(__doc__, STUDY)``:

    python studies/recipes.py --list             the jobs, one a line
    python studies/recipes.py --missing          those whose rows results/recipes.csv lacks
    python studies/recipes.py JOB                measures this row and adds it, unless it is there
    python studies/recipes.py                    all missing rows, each in a process of its own
    python studies/recipes.py JOB --smoke --out DIR    tries the path in seconds, by profile smoke

Rows may be measured side by side: a lock for each row and one for each table lie beside the tables.
A study that is stopped loses the row it is at and no other. A row ends with where it comes from:
commit, profile, data, split, device.
"""

import argparse
import csv
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import filelock
import torch
from PIL import Image
from torch import Tensor

from bedgen_utils.data import load_bedrooms
from bedgen_utils.run import REPO, code_version, device, processor, profile_numbers
from bedgen_utils.sources import dataset_sha256, replace_atomically
from bedgen_utils.train import DDPMRecipe, GANRecipe

RESULTS = REPO / "studies" / "results"
Job = dict[str, Any]
T = TypeVar("T")

_options = SimpleNamespace(out=RESULTS, smoke=False)  # of the command line


@dataclass(frozen=True)
class Study:
    """One table, ``results/NAME.csv``.

    jobs: the columns that tell rows apart, with their values. measure: called with a job, returns
    the other columns. threads: how many PyTorch takes. smoke: values that ``--smoke`` puts into a
    job. absent: what a row means that was measured before a column existed. split: the images that
    judge, "" where none do. on_cpu: others' code in it does not use a GPU, so none may.
    """

    name: str
    jobs: Sequence[Job]
    measure: Callable[[Job], dict]
    threads: int = 1
    smoke: Job = field(default_factory=dict)
    absent: Job = field(default_factory=dict)
    split: str = "validation"
    on_cpu: bool = False

    @property
    def path(self) -> Path:
        return _options.out / f"{self.name}.csv"

    def find(self, job: Job) -> dict[str, str] | None:
        """The row of ``job`` if it has been measured, every value a string."""
        for row in rows(self.path):
            known = {key: row.get(key) or self.absent.get(key) for key in job}
            if all(str(known[key]) == str(value) for key, value in job.items()):
                return row
        return None

    def row(self, job: Job) -> dict[str, str]:
        """The row of ``job``, measured first if need be (other rows may ask for it)."""
        with lock(f"{self.name}-{job_name(job)}"):
            if found := self.find(job):
                print(f"{self.name}: {job_name(job)} is there", flush=True)
                return found
            torch.set_num_threads(job.get("threads", self.threads))
            if self.on_cpu and torch.cuda.is_available():
                raise SystemExit(f"{self.name} compares speeds on a CPU: set CUDA_VISIBLE_DEVICES=")
            began = time.monotonic()
            measured = job | self.measure(job)
            provenance = {
                "commit": code_version(),
                "profile": _profile(),
                "data_sha256": dataset_sha256("rendered") if self.split else "",
                "split": self.split,
                "device": device(),
                "processor": processor(),
                "torch": torch.__version__,
            }
            # What the measurement says of itself counts more than what is said of all.
            measured |= {key: value for key, value in provenance.items() if key not in measured}
            measured["run seconds"] = round(time.monotonic() - began)
            add(self.path, measured)
            print(f"{self.name}: {measured}", flush=True)
            return {key: str(value) for key, value in measured.items()}


# ---- tables


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none where there is no file. ValueError where its rows do not fit its
    columns, as with conflict markers of git or from a spreadsheet: adding a row would keep the mess
    for good, and what is not found would be measured again.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        table = list(reader)
    columns = "".join(reader.fieldnames or ())
    if ";" in columns or any(None in (*row, *row.values()) for row in table):
        raise ValueError(
            f"{path} is no table of a study: git checkout brings back the last good one"
        )
    return table


def add(path: Path, row: dict) -> None:
    """Add ``row`` in one step; columns that the table has not got stay empty in its older rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path.name):
        before = rows(path)
        write(path, [*before, row])


def write(path: Path, table: list[dict]) -> None:
    columns = list(dict.fromkeys(column for row in table for column in row))

    def to(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=columns, restval="")
            writer.writeheader()
            writer.writerows(table)

    replace_atomically(path, to)


def lock(name: str) -> filelock.FileLock:
    """A lock that goes with its process, among all who write to the same tables."""
    folder = _options.out / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    return filelock.FileLock(folder / f"{name}.lock")


# ---- jobs


def words(text: str) -> str:
    """``text`` as one word that needs no quotes in a shell and can be a file's name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")


def job_name(job: Job) -> str:
    """How a job is called on the command line: batch-8_seed-0_minutes-2.5_threads-1."""
    return "_".join(
        words(value) if isinstance(value, str) else f"{words(key)}-{value:g}"
        for key, value in job.items()
    )


def main(doc: str, *studies: Study, arguments: list[str] | None = None) -> None:
    """The command line of a script that holds these studies."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, formatter_class=formatter)
    parser.add_argument("job", nargs="?", help="a line of --list; without it all missing rows")
    parser.add_argument("--list", action="store_true", help="print the jobs, one a line")
    parser.add_argument("--missing", action="store_true", help="of them those without a row")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables")
    parser.add_argument("--smoke", action="store_true", help="tiny numbers, to try the path")
    given = parser.parse_args(arguments)
    if given.smoke and given.out.resolve() == RESULTS:
        parser.error("--smoke measures nothing of worth: give it an --out of its own")
    _options.out, _options.smoke = given.out.resolve(), given.smoke
    jobs = {job_name(job): (study, job) for study in studies for job in study.jobs}
    try:
        missing = [name for name, (study, job) in jobs.items() if not study.find(job)]
    except ValueError as error:
        parser.error(str(error))
    if given.list or given.missing:
        for name in missing if given.missing else jobs:
            print(name)
    elif given.job is None:
        _all(missing, given)
    elif given.job not in jobs:
        parser.error(f"no job {given.job!r}; --list prints them")
    else:
        study, job = jobs[given.job]
        study.row(job | study.smoke if given.smoke else job)


def _all(missing: list[str], given: argparse.Namespace) -> None:
    """Each row in a process of its own, so that its memory and its threads are its own."""
    call = [sys.executable, sys.argv[0], "--out", str(given.out)]
    call += ["--smoke"] if given.smoke else []
    failed = [name for name in missing if subprocess.run([*call, name]).returncode]
    if failed:
        sys.exit("these rows failed: " + " ".join(failed))


# ---- numbers


def smaller(full: T, tiny: T) -> T:
    """``full``, or under ``--smoke`` ``tiny``."""
    return tiny if _options.smoke else full


def _profile() -> str:
    return smaller("cpu", "smoke")


def numbers(notebook: str) -> SimpleNamespace:
    """What profile ``cpu`` (under ``--smoke``: smoke) says for a notebook."""
    return SimpleNamespace(**profile_numbers(_profile(), notebook))


def ddpm_recipe() -> DDPMRecipe:
    """The recipe of profile ``cpu``."""
    return DDPMRecipe(**numbers("03").ddpm)


def gan_recipe() -> GANRecipe:
    """The recipe of profile ``cpu``."""
    return GANRecipe(**numbers("04").gan)


def scratch(name: str) -> Path:
    """Where a study keeps what is too large for its table."""
    return (REPO if _options.out == RESULTS else _options.out) / "runs" / name


# ---- images, and what is said of them


def images(split: str, size: int = 32, limit: int | None = None) -> Tensor:
    """Rendered rooms, uint8 (N, 3, size, size)."""
    return load_bedrooms("rendered", split, size, smaller(limit, 64))


def real_rooms(n: int, size: int = 32, seed: int = 0) -> Tensor:
    """``n`` different training images, which no model should be closer than: the floor."""
    train = images("train", size)
    return train[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:n]]


def save_sheet(samples: Tensor, path: Path) -> None:
    """The first 64 of uint8 samples (N, 3, S, S), in whole rows of sixteen; ValueError below 16."""
    shown = samples[: min(64, len(samples) // 16 * 16)]
    if not len(shown):
        raise ValueError(f"a sheet has rows of 16 samples, there are {len(samples)}")
    n, _, side, _ = shown.shape
    sheet = shown.reshape(n // 16, 16, 3, side, side).permute(0, 3, 1, 4, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.reshape(n // 16 * side, 16 * side, 3).numpy()).save(path)


def sheet_path(study: Study, job: Job, *more: str) -> Path:
    """Where the sheet of samples of a contestant lies."""
    contestant = job["contestant"].replace(", ", "-").replace(" ", "-")
    name = "-".join([contestant, str(job["seed"]), *more])
    return study.path.with_suffix("") / f"{name}.png"


def images_in(seconds: float, history: list[dict], first: int = 0) -> int:
    """How many training images fit, at the speed between row ``first`` and the last of a short run.

    The first steps are slower: memory is allocated, kernels are chosen.
    """
    a, b = history[first], history[-1]
    return max(1, int(seconds * (b["images"] - a["images"]) / (b["seconds"] - a["seconds"])))
