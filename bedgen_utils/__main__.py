"""``python -m bedgen_utils COMMAND``: what ``make COMMAND`` calls, for those without make."""

import argparse
import shutil
import subprocess
import sys
from os import environ
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PY = sys.executable
# Two workers with one thread each: two tests that both use every core would wait for each other.
TEST = [PY, "-m", "pytest", "-n", "2", "--dist", "loadgroup"]
RUFF = [PY, "-m", "ruff"]
COMMANDS = {
    "test": ("all tests; options go to pytest, as in: test -k data -x", [TEST]),
    "lab": ("open the notebooks in JupyterLab", [[PY, "-m", "jupyterlab", "notebooks"]]),
    "compare": ("put a run beside the published one", [[PY, "-m", "tools.compare"]]),
    "report": (
        "notebook 08, as it is stored, as a PDF in runs/; needs the extra book",
        [[PY, "-m", "tools.typeset"]],
    ),
    "book": (
        "the notebooks, as they are stored, as a site in book/_build/html; installs the extra book",
        [[PY, "-m", "tools.environment", "book"], [PY, "-m", "tools.book"]],
    ),
    "mutants": ("which small edits of the package no test notices", [[PY, "-m", "tools.mutants"]]),
    "notebooks": (
        "bring notebooks/*.ipynb in line with their sources, keeping outputs of unchanged cells",
        [[PY, "-m", "tools.notebooks"]],
    ),
    "lint": (
        "ruff, spelling, links and mypy",
        [
            [*RUFF, "check"],
            [*RUFF, "format", "--check"],
            [PY, "-m", "codespell_lib"],
            [PY, "-m", "tools.links"],
            [PY, "-m", "mypy"],
        ],
    ),
    "setup": ("install requirements.lock", [[PY, "-m", "tools.environment", "setup"]]),
    "lock": ("make requirements.lock anew", [[PY, "-m", "tools.environment", "lock"]]),
}
RUNS = {"figures": "cpu", "smoke": "smoke", "released": "released"}  # command: profile
# What clean removes; that of the Makefile, which needs no Python, removes the same.
LEFT_BEHIND = "runs book/_build .snakemake .pytest_cache .ruff_cache .mypy_cache".split()


def command_line() -> argparse.ArgumentParser:
    """The commands and their options; those of ``COMMANDS`` are for the programs behind them."""
    parser = argparse.ArgumentParser(prog="python -m bedgen_utils", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, profile in RUNS.items():
        about = f"run the notebooks in profile {profile} and publish their figures"
        p = commands.add_parser(name, help=about, description=about)
        p.add_argument(
            "--profile",
            default=profile,
            help="how much to compute: a name in bedgen_utils/profiles.toml (%(default)s)",
        )
        p.add_argument("--out", metavar="DIR", help="where figures/, notebooks/ and runs/ go")
        p.add_argument("--only", metavar="03[,04]", help="only these notebooks")
        p.add_argument("--seed", help="seed of every notebook (0)")
        p.add_argument("--force", action="store_true", help="run also what is up to date, anew")
    commands.add_parser("studies", help="measure what studies have not measured yet: hours")
    commands.add_parser("clean", help="remove runs/ and caches")
    for name, (about, _) in COMMANDS.items():
        commands.add_parser(name, help=about, add_help=False)
    return parser


def main(arguments: list[str] | None = None) -> int:
    parser = command_line()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in COMMANDS:
        parser.error(f"unknown: {' '.join(rest)}")
    if not (REPO / "Snakefile").exists():
        parser.error("run it from a checkout of the repository")
    sys.path.insert(0, str(REPO))
    if options.command == "clean":
        for name in LEFT_BEHIND:
            shutil.rmtree(REPO / name, ignore_errors=True)
        return 0
    if options.command in RUNS or options.command == "studies":
        from tools.pipeline import make

        given = {
            k: v for k, v in vars(options).items() if k != "command" and v not in (None, False)
        }
        return make(given, *(["studies"] if options.command == "studies" else []))
    steps = [list(step) for step in COMMANDS[options.command][1]]
    steps[-1] += rest
    env = {"OMP_NUM_THREADS": "1"} | environ if options.command == "test" else None
    failed = False
    for step in steps:
        failed |= subprocess.run(step, cwd=REPO, env=env).returncode != 0
        if failed and options.command != "lint":  # which tells all that it finds
            break
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
