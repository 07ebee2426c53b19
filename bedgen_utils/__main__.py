"""``python -m bedgen_utils COMMAND``: what ``make`` calls, for any environment that has the packages."""

import argparse
import os
import subprocess
import sys

from .run import PROFILES, REPO


def _numbers(text: str) -> tuple[str, ...]:
    return tuple(part.strip().zfill(2) for part in text.split(",") if part.strip())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bedgen_utils", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (("figures", "run the notebooks and rewrite figures/"),
                        ("smoke", "the same in profile smoke: every cell, tiny sizes")):
        p = commands.add_parser(name, help=about, description=about)
        p.add_argument("--profile", choices=PROFILES, default="smoke" if name == "smoke" else "cpu",
                       help="how much to compute (default: %(default)s)")
        p.add_argument("--out", metavar="DIR", help="where figures/, notebooks/ and runs/ go (default: the repository "
                       "for profile cpu, runs/PROFILE/published in it for others)")
        p.add_argument("--only", metavar="03[,04]", type=_numbers, default=(), help="only these notebooks")
        p.add_argument("--force", action="store_true", help="run also what is up to date, from the beginning")
        p.add_argument("--seed", type=int, default=0, help="seed of every notebook (default: 0)")
    p = commands.add_parser("notebooks", help="compare notebooks/*.ipynb with their sources notebooks/py/*.py")
    p.add_argument("--sync", action="store_true", help="and bring them in line, keeping outputs of unchanged cells")
    p = commands.add_parser("test", help="all tests, the notebooks in profile smoke included")
    p.add_argument("pytest", nargs=argparse.REMAINDER, help="options for pytest, as in: test -k data -x")
    options = parser.parse_args(arguments)
    return {"figures": _figures, "smoke": _figures, "notebooks": _notebooks, "test": _test}[options.command](options)


def _figures(options) -> int:
    from .figures import NotebookFailed, make_figures
    try:
        make_figures(options.profile, options.seed, options.out, options.only, options.force)
    except NotebookFailed as error:
        print(error, file=sys.stderr)
        return 1
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _notebooks(options) -> int:
    from . import notebooks
    if options.sync:
        for path in notebooks.sync():
            print(f"wrote {path.relative_to(REPO)}")
    problems = notebooks.differences()
    print("\n".join(problems) or "each notebook agrees with its source")
    return 1 if problems else 0


def _test(options) -> int:
    # Two workers with one thread each: two tests that both use every core would wait for each other.
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", *options.pytest]
    return subprocess.run(command, cwd=REPO, env={"OMP_NUM_THREADS": "1"} | os.environ).returncode


if __name__ == "__main__":
    sys.exit(main())
