"""The tables of long studies: one CSV file each, one row a run, added when the run ends and never run twice.

A row says what was run (the columns of its key), what came out, and where from: commit, profile, sha256 of the data,
seconds. A study that is stopped loses the run it is in and no other; called again it goes on behind the last row. The
notebooks read these files from ``figures/studies``.
"""

import argparse
import csv
import time
from pathlib import Path

import torch

from bedgen_utils.data import dataset_sha256, load_bedrooms
from bedgen_utils.run import REPO, code_version

STUDIES = REPO / "figures" / "studies"


def real_rooms(n: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    """``n`` different training pictures, uint8 (n, 3, size, size): what no model should be closer than, the floor."""
    train = load_bedrooms("rendered", "train", size)
    return train[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:n]]


def options(doc: str, table: str, choices: list[str], seeds: list[int], **extra) -> argparse.Namespace:
    """The command line of a study: which runs, which seeds, how many threads, and ``extra`` names with defaults.

    Sets the number of threads.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds)
    parser.add_argument("--only", nargs="+", choices=choices, default=choices)
    parser.add_argument("--out", type=Path, default=STUDIES / table)
    for name, default in extra.items():
        kind = {"action": "store_true"} if default is False else {"type": type(default), "default": default}
        parser.add_argument(f"--{name}", **kind)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


def rows(path: Path) -> list[dict]:
    """The rows of the table so far, every value a string; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def is_done(path: Path, key: dict) -> bool:
    """Has a run with these values of these columns left its row?"""
    return any(all(row.get(k) == str(v) for k, v in key.items()) for row in rows(path))


def run(path: Path, key: dict, function) -> None:
    """Add the row ``key | function() | provenance``, unless it is there."""
    name = ", ".join(f"{k} {v}" for k, v in key.items())
    if is_done(path, key):
        print(f"{path.stem}: {name}: already there", flush=True)
        return
    began = time.monotonic()
    row = key | function()
    # What the function says of itself comes before what is said of all.
    row |= {"commit": code_version(), "profile": "cpu", "data_sha256": dataset_sha256("rendered")} | row
    row["run seconds"] = round(time.monotonic() - began)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = rows(path)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(before[0] if before else row))  # other columns: ValueError
        if not before:
            writer.writeheader()
        writer.writerow(row)
    print(f"{path.stem}: {row}", flush=True)
