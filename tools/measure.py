"""How large is the house?  python tools/measure.py [FOLDER] [--tests]

Prints, for a checkout in FOLDER (this one by default): lines of the package (and how many are left
without empty ones, comments and docstrings), its longest function and the one with the most
arguments, lines of source over 100 columns, the longest visible cell and the widest line of the
notebooks, the seconds that `import bedgen_utils.train` takes, the megabytes of a shallow clone and
of this environment, and with --tests the seconds of the fast tests.
"""

import argparse
import ast
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HIDDEN = {"hide-input", "remove-input", "hide-cell", "remove-cell"}


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def code_lines(path: Path) -> int:
    """Lines that are neither empty, nor a comment, nor part of a docstring."""
    rows, said = lines(path), set()
    for node in ast.walk(ast.parse("\n".join(rows))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            said.update(range(node.lineno, node.end_lineno + 1))
    told = (
        number in said or not row.strip() or row.lstrip().startswith("#")
        for number, row in enumerate(rows, 1)
    )
    return len(rows) - sum(told)


def functions(folder: Path) -> list[tuple[int, int, str]]:
    """(lines, arguments, module:name) of every function of the package."""
    found = []
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs)
                size = node.end_lineno - node.lineno + 1
                found.append((size, count, f"{path.stem}:{node.name}"))
    return found


def visible_cells(folder: Path) -> list[list[str]]:
    """The non-empty lines of each code cell that a reader sees."""
    cells = []
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            meta = cell["metadata"]
            hidden = meta.get("jupyter", {}).get("source_hidden") or HIDDEN & set(
                meta.get("tags", [])
            )
            if cell["cell_type"] == "code" and not hidden:
                cells.append([row for row in "".join(cell["source"]).splitlines() if row.strip()])
    return cells


def seconds(*command: str, cwd: Path) -> float:
    began = time.monotonic()
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)
    return time.monotonic() - began


def megabytes(folder: Path) -> float:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


def shallow_clone(repository: Path) -> tuple[float, float]:
    """Megabytes of .git and of the whole of ``git clone --depth 1``."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "clone"
        source = repository.resolve().as_uri()
        seconds("git", "clone", "--depth", "1", source, str(copy), cwd=repository)
        return megabytes(copy / ".git"), megabytes(copy)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).resolve().parents[1])
    parser.add_argument("--tests", action="store_true")
    options = parser.parse_args()
    here = options.folder.resolve()
    package, known = here / "bedgen_utils", functions(here / "bedgen_utils")
    modules = list(package.glob("*.py"))
    print(
        f"lines of the package       {sum(len(lines(p)) for p in modules)}, "
        f"of them code {sum(map(code_lines, modules))}"
    )
    print("longest function           {0} lines, {2}".format(*max(known)))
    print("most arguments             {1}, {2}".format(*max(known, key=lambda f: f[1])))
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=here, check=True, capture_output=True, text=True
    )
    sources = [here / name for name in listed.stdout.split() if (here / name).exists()]
    wide = {name: sum(len(row) > 100 for row in lines(name)) for name in sources}
    in_notebooks = sum(n for path, n in wide.items() if "notebooks" in path.parts)
    print(f"lines over 100 columns     {sum(wide.values())}, of them in notebooks {in_notebooks}")
    cells = visible_cells(here / "notebooks")
    widest = max(len(row) for cell in cells for row in cell)
    print(f"longest visible cell       {max(map(len, cells))} lines; widest line {widest} columns")
    imported = [
        seconds(sys.executable, "-c", "import bedgen_utils.train", cwd=here) for _ in range(3)
    ]
    print(f"import bedgen_utils.train  {min(imported):.1f} s")
    of_git, whole = shallow_clone(here)
    print(f"a shallow clone            {whole:.0f} MB, of them .git {of_git:.0f} MB")
    print(f"this environment           {megabytes(Path(sys.prefix)):.0f} MB")
    if options.tests:
        fast = [sys.executable, "-m", "bedgen_utils", "test", "-q", "-m", "not slow"]
        print(f"the fast tests             {seconds(*fast, cwd=here):.0f} s")


if __name__ == "__main__":
    main()
