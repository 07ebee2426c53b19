"""The line from notebooks to figures: what is out of date, publishing, the door to Snakemake.

A notebook is out of date when what it reads has other content than when it last ran: its source,
its profile's numbers, the seed, the data, the modules it imports, tables of studies, released
weights, and what other notebooks left for it. All but the last stands in RUN/NN.reads.json, an
input of the notebook's rule; RUN/NN.left.json, an output of one rule and an input of others, tells
what a notebook left. Snakemake compares both by checksum. After an earlier notebook has run again,
the later ones are started too, and end at once when it has left the same as before.

    RUN/NN/            what the notebook makes: figures, manifest, weights, checkpoints
    RUN/NN.ipynb       its executed copy, ready to be published
    RUN/NN.ran.json    what its last run read and made; without "made", that run has not ended

RUN is runs/PROFILE below the repository or below --out. Figures and notebooks are published in
--out, or else in the repository for profile cpu and in RUN/published for others.
"""

import argparse
import ast
import contextlib
import functools
import hashlib
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import psutil

REPO = Path(__file__).resolve().parents[1]
# Whose weights and numbers a notebook loads.
NEEDS = {
    "05": ["04"],
    "06": ["03", "04"],
    "07": ["03", "04"],
    "08": ["01", "03", "04", "05", "06", "07"],
}
# Released weights count for notebooks that import, directly or not, the module that loads them.
WEIGHTS = {"models": ["ddpm", "gan"], "factors": ["factors"]}
# Numbers of this name differ from run to run, and nothing is computed from them.
TIMES = re.compile(r"\b(seconds|minutes|hours)|/s\b")
# What `checks.claim` prints under a sentence that results do not bear out.
REFUTED = re.compile(r"(?m)^\[claim\] (.+): does not hold$")


@dataclass(frozen=True)
class Line:
    """What ``snakemake --config`` says: which notebooks, how, and where."""

    profile: str
    seed: int
    run: Path
    target: Path
    texts: dict[str, Path]  # every notebook's source by number
    chosen: list[str]
    force: bool

    def file(self, number: str, kind: str) -> Path:
        return self.run / f"{number}.{kind}"


def line(config: list[str]) -> Line:
    """Read ``config``, as in ["profile=cpu", "only=03,04"]; ValueError where it makes no sense."""
    given = dict(entry.split("=", 1) for entry in config)
    if unknown := given.keys() - {"profile", "seed", "out", "only", "force", "folder"}:
        raise ValueError(f"no setting {', '.join(sorted(unknown))}")
    profile, seed = given.get("profile", "cpu"), given.get("seed", "0")
    if not (seed.isdecimal() and int(seed) < 2**32):
        raise ValueError(f"seed must be a whole number from 0 to {2**32 - 1}, got {seed}")
    texts = sources(Path(given.get("folder", REPO / "notebooks")))
    only = [n.zfill(2) for n in re.split(r"[,\s]+", given["only"])] if "only" in given else texts
    if unknown := set(only) - texts.keys():
        raise ValueError(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(texts)}")
    out = Path(given["out"]).expanduser().resolve() if "out" in given else None
    run = (out or REPO) / "runs" / profile
    target = out or (REPO if profile == "cpu" else run / "published")
    chosen = [number for number in texts if number in only]
    force = given.get("force") in ("True", "true", "1")
    return Line(profile, int(seed), run, target, texts, chosen, force)


def sources(folder: Path) -> dict[str, Path]:
    """The reviewed sources in ``folder``/py in order, by number: {"01": …/py/01_name.py, …}."""
    found = {path.name[:2]: path for path in sorted((folder / "py").glob("[0-9][0-9]_*.py"))}
    if not found:
        raise FileNotFoundError(f"no notebooks in {folder / 'py'}: run from a checkout")
    return found


def lock_folder(run: Path) -> filelock.FileLock:
    """The right to work in ``run``; it goes with the process, however that ends."""
    run.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(f"another run is at work in {run}: wait, or give another --out") from None
    return lock


def prepare(line: Line) -> filelock.FileLock:
    """Write down what each notebook reads; what is no longer as it was left is to be made again.

    Returns the right to work in the run folder. Where ``line`` makes no sense, nothing is touched.
    """
    manifest(line.target / "figures")
    read = {number: reads(line, number) for number in line.chosen}
    lock = lock_folder(line.run)
    for number in line.chosen:
        put(line.file(number, "reads.json"), as_json(read[number]))
        whole = is_whole(line, number)
        if not whole:
            line.file(number, "left.json").unlink(missing_ok=True)
        if not whole or any(to_publish(line, number)):
            line.file(number, "published").unlink(missing_ok=True)
    return lock


def numbers(line: Line, number: str) -> dict:
    """What profiles.toml holds for the notebook in this profile."""
    from bedgen_utils.run import profile_numbers

    return profile_numbers(line.profile, number)


# ---- what a notebook reads


def reads(line: Line, number: str) -> dict:
    """All that a notebook's results depend on, but for what other notebooks leave for it."""
    text = line.texts[number].read_text(encoding="utf-8")
    code = "\n".join(row for row in text.splitlines() if not row.startswith("#"))
    table = numbers(line, number)
    table.pop("minutes", None)  # a guess for the reader
    for recipe in ("ddpm", "gan"):  # every notebook gets both
        if not re.search(rf"\b{recipe}\b", code):
            table.pop(recipe, None)
    names = modules(line.texts[number])
    studies = re.findall(r"""(?:read_study\(|study=)["'](\w+)["']""", code)
    files = [REPO / "bedgen_utils" / f"{name}.py" for name in names]
    files += [REPO / "studies" / "results" / f"{name}.csv" for name in studies]
    files.append(REPO / "notebooks" / "exercises" / f"{number}.py")
    for kind in sum((WEIGHTS[name] for name in names & WEIGHTS.keys()), []):
        files += (REPO / "data" / "weights").glob(f"{kind}*.safetensors")
    return {
        "profile": line.profile,
        "seed": line.seed,
        "numbers": table,
        "data": data_sha256(table.get("source", "rendered")),
        "source": sha256(line.texts[number]),
        "code": hashlib.sha256(code.encode()).hexdigest(),
        "files": {p.relative_to(REPO).as_posix(): sha256(p) for p in sorted(files) if p.exists()},
    }


@functools.cache
def data_sha256(source: str) -> str:
    from bedgen_utils.sources import dataset_sha256

    try:
        return dataset_sha256(source)
    except (ValueError, OSError, ImportError) as error:  # the notebook that needs it will say so
        return str(error)


def modules(source: Path) -> set[str]:
    """The modules of the package that ``source`` imports, and those that these import.

    Not ``__init__``: it holds the reading order, and nothing that computes.
    """
    found: set[str] = set()
    todo = [source]
    while todo:
        for node in ast.walk(ast.parse(todo.pop().read_text(encoding="utf-8"))):
            for name in _imported(node) - found:
                if (path := REPO / "bedgen_utils" / f"{name}.py").exists():
                    found.add(name)
                    todo.append(path)
    return found


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {a.name.split(".")[1] for a in node.names if a.name.startswith("bedgen_utils.")}
    module = getattr(node, "module", None) or ""
    if isinstance(node, ast.ImportFrom) and (node.level or module.startswith("bedgen_utils")):
        inner = module.removeprefix("bedgen_utils").strip(".")
        return {inner.split(".")[0]} if inner else {a.name for a in node.names}
    return set()


def sha256(path: Path, start: int = 0) -> str:
    with open(path, "rb") as file:
        file.seek(start)
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- what a notebook leaves


def left(own: Path) -> dict:
    """What others may read of a notebook: numbers and captions by figure, hashes of its weights.

    Times do not count, nor which machine and commit made it: that stands before the tensors.
    """
    rows = {
        name: [timeless(row.get(key)) for key in ("caption", "numbers", "protocol")]
        for name, row in manifest(own).items()
    }
    weights = sorted((own / "weights").glob("*.safetensors"))
    begins = [8 + int.from_bytes(path.read_bytes()[:8], "little") for path in weights]
    tensors = {p.name: sha256(p, start) for p, start in zip(weights, begins, strict=True)}
    return {"figures": rows, "weights": tensors}


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not TIMES.search(k)}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def made(line: Line, number: str) -> dict[str, str]:
    """Hashes of the files that a finished run is made of."""
    own = line.run / number
    files = [line.file(number, "ipynb"), own / "manifest.json"]
    files += sorted([*(own / "figures").glob("*"), *(own / "weights").glob("*")])
    return {p.relative_to(line.run).as_posix(): sha256(p) for p in files if p.is_file()}


def is_whole(line: Line, number: str) -> bool:
    """Whether the notebook's last run has come to its end, and all that it made is still there."""
    return read_json(line.file(number, "ran.json")).get("made") == made(line, number)


# ---- publishing


def to_publish(line: Line, number: str) -> tuple[dict[Path, bytes], list[Path]]:
    """What publishing the notebook's last run has to write and remove; the rest stays as it is."""
    own, figures = line.run / number, line.target / "figures"
    new, old = manifest(own), manifest(figures)
    rows = {name: row for name, row in old.items() if row["notebook"] != number} | new
    copy = line.target / "notebooks" / f"{line.texts[number].stem}.ipynb"
    files = {figures / r["file"]: (own / "figures" / r["file"]).read_bytes() for r in new.values()}
    files |= {copy: line.file(number, "ipynb").read_bytes()}
    files |= {figures / "manifest.json": as_json(dict(sorted(rows.items())))}
    gone = {r["file"] for r in old.values()} - {r["file"] for r in rows.values()}
    return (
        {path: data for path, data in files.items() if not holds(path, data)},
        [figures / name for name in gone if (figures / name).exists()],
    )


def publish(line: Line, number: str) -> None:
    with filelock.FileLock(line.run / ".publishing"):  # the manifest belongs to all notebooks
        files, gone = to_publish(line, number)
        for path, data in files.items():
            put(path, data)
        for path in gone:
            path.unlink()
    line.file(number, "published").touch()


def manifest(folder: Path) -> dict[str, dict]:
    """The rows of a manifest by figure; ValueError where it cannot be read: never half of it."""
    path = folder / "manifest.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): mend it, or delete it") from None


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def put(path: Path, data: bytes) -> bool:
    """Write ``data`` in one step; False, and nothing is touched, where the file holds it already.

    As ``bedgen_utils.sources.replace_atomically``, which cannot be imported where only what brings
    notebooks in line is installed (.github/workflows/address.yml).
    """
    if holds(path, data):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def refuted(line: Line) -> list[str]:
    """Sentences of the text that the results of this run do not bear out, by notebook."""
    found = []
    for number in line.chosen:
        for cell in read_json(line.file(number, "ipynb")).get("cells", []):
            printed = "".join("".join(o.get("text", "")) for o in cell.get("outputs", []))
            found += [f"{number}: {sentence}" for sentence in REFUTED.findall(printed)]
    return found


# ---- what the Snakefile asks


def minutes(line: Line, number: str) -> float:
    """How long the notebook took here, else what profiles.toml says."""
    took = read_json(line.file(number, "ran.json")).get("seconds")
    return took / 60 if took else numbers(line, number).get("minutes", 1.0)


def study_jobs() -> list[tuple[str, str]]:
    """The rows that studies have still to measure, as (study, job)."""
    jobs = []
    for script in sorted((REPO / "studies").glob("*.py")):
        if "study.main(" in script.read_text(encoding="utf-8"):
            asked = [sys.executable, str(script), "--list", "--missing"]
            listed = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True)
            jobs += [(script.stem, job) for job in listed.stdout.splitlines()]
    return jobs


def end_with(parent: int) -> None:
    """End this process, and the kernel it has started, when the process ``parent`` ends."""
    watched = psutil.Process(parent)

    def watch() -> None:
        while watched.is_running() and watched.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.5)
        end_children()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_children() -> None:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()


def print_anything() -> None:
    """A log on Windows (cp1252) cannot hold all that a path or an error says: then a "?"."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """SystemExit with one line, and no traceback, where a file, an argument or a library is missing
    or wrong, or a training has diverged.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        what = f"{error.name or error} is missing"
        sys.exit(f"error: {what}: `make book` installs it, or `pip install` with the extra book")
    except (FloatingPointError, ImportError, OSError, SyntaxError, ValueError) as error:
        name = getattr(error, "filename", None) or "."
        if isinstance(error, FileNotFoundError) and Path(name).is_relative_to(REPO):
            sys.exit(f"error: {name} is missing: `git checkout {name}` brings it back")
        sys.exit(f"error: {' '.join(str(error).split())}")


def main() -> None:
    parser = argparse.ArgumentParser(description="A job of the Snakefile.")
    parser.add_argument("job", choices=["run", "publish"])
    parser.add_argument("number")
    parser.add_argument("config", nargs="*", help="as for snakemake --config")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="end with this process")
    parser.add_argument("--minutes", type=float, default=1.0, help="what it is expected to take")
    options = parser.parse_args()
    print_anything()
    end_with(options.parent)
    given = line(options.config)
    if options.job == "publish":
        publish(given, options.number)
    else:
        from .notebooks import run_notebook

        run_notebook(given, options.number, options.minutes)


# ---- the door


def make(given: dict, *targets: str) -> int:
    """Run Snakemake on ``given``, as in {"profile": "smoke"}; 2: a wrong call, 130: Ctrl-C."""
    from snakemake import cli
    from snakemake.common import get_appdirs

    print_anything()
    stopped = []

    def stop(*_) -> None:
        stopped.append(True)
        end_children()
        raise KeyboardInterrupt

    def is_news(record: logging.LogRecord) -> bool:
        """Of Snakemake's own log only errors, and none that repeats what a job has said."""
        text = f"{record.msg} {getattr(record, 'event', '')}"
        told = ("exit status 1.", "did not complete", "job execution failed", "job_error")
        return not stopped and record.levelno >= logging.ERROR and not any(t in text for t in told)

    if out := given.get("out"):
        given["out"] = out = str(Path(out).expanduser().resolve())
        if cli.parse_config([f"out={out}"]) != {"out": out}:  # a colon or quotes in odd places
            print(f"error: Snakemake cannot work in a folder of this name: {out}", file=sys.stderr)
            return 2
    try:
        os.makedirs(get_appdirs().user_cache_dir, exist_ok=True)
    except OSError:  # no home, or none to write in
        os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="bedgen-")
    config = [f"{key}={value}" for key, value in given.items()]
    command = ["--snakefile", str(REPO / "Snakefile"), *targets]
    command += ["--config", *config] if config else []
    command += ["--forceall"] if given.get("force") else []
    logging.getLogger("snakemake.logging").addFilter(is_news)
    before = {kind: signal.signal(kind, stop) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # which profile it uses
            parser, options = cli.parse_args(command)
        done = cli.args_to_api(options, parser)
    except SystemExit as end:
        print(end.code, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        done = False
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    if done and not targets:
        print_result(line(config))
    if stopped:
        print("\nstopped; the same command resumes here", file=sys.stderr)
    return 130 if stopped else int(not done)


def print_result(done: Line) -> None:
    """What there is after a run, and which sentences of the text it does not bear out."""
    place, count = done.target / "figures", len(manifest(done.target / "figures"))
    print(f"up to date: {', '.join(done.chosen)}; {count} figures and tables in {place}")
    if claims := refuted(done):
        print(f"{len(claims)} sentences of the text do not hold for the results of this run:")
        print("\n".join(f"    {claim}" for claim in claims))


if __name__ == "__main__":
    main()
