"""The tables of long studies: one CSV file each, one row a run, added when the run ends and never run twice.

A row says what was run (the columns of its key), what came out, and where from: commit, profile, sha256 of the data,
seconds. A study that is stopped loses the run it is in and no other; called again it goes on behind the last row. The
notebooks read these files from ``figures/studies``.
"""

import csv
import time
from pathlib import Path

from bedgen_utils.data import dataset_sha256
from bedgen_utils.run import REPO, code_version

STUDIES = REPO / "figures" / "studies"


def rows(path: Path) -> list[dict]:
    """The rows of the table so far, every value a string; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def is_done(path: Path, key: dict) -> bool:
    """Has a run with these values of these columns left its row?"""
    return any(all(row.get(k) == str(v) for k, v in key.items()) for row in rows(path))


def run(path: Path, key: dict, function, profile: str = "cpu") -> None:
    """Add the row ``key | function() | provenance``, unless it is there."""
    name = ", ".join(f"{k} {v}" for k, v in key.items())
    if is_done(path, key):
        print(f"{path.stem}: {name}: already there", flush=True)
        return
    began = time.monotonic()
    row = key | function()
    row |= {"commit": code_version(), "profile": profile, "data_sha256": dataset_sha256("rendered")}
    row["run seconds"] = round(time.monotonic() - began)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
    print(f"{path.stem}: {row}", flush=True)
