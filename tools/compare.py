"""Does a new run agree with the published one? Every number is put beside its twin.

    python -m tools.compare                  runs/cpu beside the manifest that was committed last
    python -m tools.compare RUN              any run folder, or the manifest of one
    python -m tools.compare RUN --published FILE        beside any other manifest
    python -m tools.compare --seeds RUN RUN …           runs of different seeds: what each came
                                             to goes into figures/seeds.json

Each number is

    same       equal to a relative difference of 1e-6;
    within     as far from the published one as two runs of one recipe lie apart 95 times in 100;
    outside    further: then it says by how many times that distance;
    unjudged   another one, and no scatter is stated.

The scatter of a number x is its standard error where one is stated beside it (``x_error`` in the
same row), or, with n runs of different seeds in seeds.json, their standard deviation s: two runs
then differ by at most t √2 s, with t the 97.5 % point of Student's t with n − 1 degrees of freedom.
One in twenty lies outside by chance. Times say which machine was faster and are not judged. Exit
status: 0 where no more numbers are outside than chance explains, 1 otherwise.
"""

import argparse
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev

from scipy import stats

from bedgen_utils.report import SEEDS, read_manifest, write_manifest
from bedgen_utils.run import REPO

PUBLISHED = REPO / "figures" / "manifest.json"
TIMES = ("second", "minute", "hour", "(s)", " ms", "ms ", "images/s", "began", "memory")
SAME = 1e-6


@dataclass(frozen=True)
class Verdict:
    """What became of one number."""

    figure: str
    name: str
    published: float
    new: float
    kind: str  # same, within, outside or unjudged
    times: float = math.nan  # the difference over the largest that scatter explains


def rows_of(run: Path) -> dict[str, dict]:
    """The manifest rows of a run folder (of all its notebooks) or of a manifest file.
    FileNotFoundError where there are none."""
    files = (
        [run]
        if run.is_file()
        else sorted({*run.glob("manifest.json"), *run.glob("*/manifest.json")})
    )
    rows = {figure: row for file in files for figure, row in read_manifest(file).items()}
    if not rows:
        raise FileNotFoundError(f"no manifest with figures in {run}: is this the folder of a run?")
    return rows


def numbers_of(value: object, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number below ``value``, by the path that leads to it."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from numbers_of(below, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from numbers_of(below, f"{name}[{index}]")
    elif isinstance(value, int | float):
        yield name, float(value)


def is_time(name: str) -> bool:
    """Is this a time, or another number that is the machine's?"""
    return any(word in name for word in TIMES)


def allowed_by_error(name: str, numbers: dict[str, float]) -> float | None:
    """How far two runs may differ by the standard error that stands beside a number."""
    for ending in ("_error", " error"):
        if name + ending in numbers:
            return stats.norm.ppf(0.975) * math.sqrt(2) * numbers[name + ending]
    return None


def allowed_by_seeds(values: list[float]) -> float:
    """How far two runs differ 95 times in 100, by the values of runs of different seeds."""
    return stats.t.ppf(0.975, len(values) - 1) * math.sqrt(2) * stdev(values)


def judge(figure: str, published: dict, new: dict, seeds: dict[str, list]) -> Iterator[Verdict]:
    """The verdict on every number that both rows hold and that is not a time."""
    mine, theirs = (dict(numbers_of(row["numbers"])) for row in (published, new))
    for name, a in mine.items():
        if name not in theirs or is_time(name):
            continue
        b = theirs[name]
        if a == b or math.isclose(a, b, rel_tol=SAME) or (math.isnan(a) and math.isnan(b)):
            yield Verdict(figure, name, a, b, "same")
            continue
        values = seeds.get(f"{figure}: {name}")
        allowed = allowed_by_seeds(values) if values else allowed_by_error(name, mine)
        if allowed is None:
            yield Verdict(figure, name, a, b, "unjudged")
            continue
        times = abs(a - b) / allowed if allowed else math.inf
        yield Verdict(figure, name, a, b, "within" if times <= 1 else "outside", times)


def compare(published: dict, new: dict, seeds: dict[str, list[float]]) -> list[Verdict]:
    """All verdicts, figure by figure. ValueError for runs of different profiles."""
    shared = sorted(published.keys() & new.keys())
    for figure in shared:
        a, b = published[figure]["profile"], new[figure]["profile"]
        if a != b:
            raise ValueError(f"{figure}: profile {a!r} cannot be compared with profile {b!r}")
    return [v for figure in shared for v in judge(figure, published[figure], new[figure], seeds)]


def across(runs: list[dict]) -> dict:
    """What ``runs`` of different seeds came to, number by number where they differ, and what made
    them. ValueError below two runs."""
    if len(runs) < 2:
        raise ValueError("seeds can be compared from two runs on")
    found: dict[str, list[float]] = {}
    for run in runs:
        for figure, row in run.items():
            for name, value in numbers_of(row["numbers"]):
                if math.isfinite(value):
                    found.setdefault(f"{figure}: {name}", []).append(float(f"{value:.8g}"))
    made_by = [
        {key: sorted({str(row[key]) for row in run.values()}) for key in ("seed", "commit")}
        for run in runs
    ]
    differ = {k: v for k, v in found.items() if len(v) == len(runs) and len(set(v)) > 1}
    return {"numbers": differ, "runs": made_by}


def report(published: dict, new: dict, verdicts: list[Verdict], every: bool) -> bool:
    """Print what was found; True where the runs agree."""
    for figure in sorted(published.keys() - new.keys()):
        print(f"{figure}: not in the new run")
    for figure in sorted(new.keys() - published.keys()):
        print(f"{figure}: not published")
    for key in ("seed", "data_sha256", "device", "processor"):
        a, b = ({str(row.get(key)) for row in rows.values()} for rows in (published, new))
        if a != b:
            print(f"{key}: {', '.join(sorted(a))} published, {', '.join(sorted(b))} here")
    for v in verdicts:
        if every or v.kind != "same":
            by = f", {v.times:.2g} times what scatter explains" if math.isfinite(v.times) else ""
            print(f"{v.kind:8}  {v.figure}: {v.name}  {v.published:.6g} -> {v.new:.6g}{by}")
    kinds = Counter(v.kind for v in verdicts)
    judged = kinds["within"] + kinds["outside"]
    # as many outside as chance leaves at most in 95 of 100 comparisons of runs that agree
    chance = int(stats.binom.ppf(0.95, judged, 0.05)) if judged else 0
    agree = bool(verdicts) and kinds["outside"] <= chance
    counts = ", ".join(
        f"{kinds[kind]} {kind}" for kind in ("same", "within", "outside", "unjudged")
    )
    print(f"{len(verdicts)} numbers: {counts}; chance puts up to {chance} of {judged} outside")
    differ = "the runs differ by more than their scatter" if verdicts else "nothing was compared"
    print("the runs agree" if agree else differ)
    return agree


def committed() -> dict[str, dict]:
    """The published rows as they were committed last: a run may have overwritten the file since."""
    show = ["git", "-C", str(REPO), "show", f"HEAD:{PUBLISHED.relative_to(REPO).as_posix()}"]
    try:
        return json.loads(subprocess.run(show, capture_output=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return rows_of(PUBLISHED)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="*", default=[REPO / "runs" / "cpu"])
    parser.add_argument("--published", type=Path, help="instead of figures/manifest.json at HEAD")
    parser.add_argument("--seeds", action="store_true", help="write seeds.json from these runs")
    parser.add_argument("--all", action="store_true", help="print also what is the same")
    options = parser.parse_args(arguments)
    try:
        runs = [rows_of(run) for run in options.run]
        if options.seeds:
            write_manifest(SEEDS, across(runs))
            print(f"wrote {SEEDS}")
            return 0
        published = rows_of(options.published) if options.published else committed()
        verdicts = compare(published, runs[0], read_manifest(SEEDS).get("numbers", {}))
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if report(published, runs[0], verdicts, options.all) else 1


if __name__ == "__main__":
    sys.exit(main())
