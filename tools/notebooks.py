"""The two forms of a notebook, and running one.

``notebooks/py/NN_name.py``, in the py:percent format, is reviewed and edited;
``notebooks/NN_name.ipynb`` holds the same cells and their outputs. This module reads the one,
brings the other in line with it, says where they differ, runs it, and takes out of the executed
notebook what belongs to the machine: absolute paths, timestamps, widget state.

Two things stand in an ipynb alone, the same in all: the set-up cell (``set_up.py`` beside this
file), and below the title a badge that opens it in Colab. Both know the repository's address from
``[tool.bedgen]`` of pyproject.toml. Where that is empty there is no badge, never a dead one.
``python -m tools.notebooks --address OWNER/NAME BRANCH`` writes another one there.

Tags in a source: ``exercise`` marks what an exercise asks and the stub to be filled in,
``solution`` the code that stands in the stub's place in notebooks/solutions, ``hide-input`` what is
folded: plots and other plumbing.
"""

import argparse
import ast
import contextlib
import difflib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
import papermill
from nbformat import NotebookNode

from .pipeline import (
    NEEDS,
    REPO,
    Line,
    as_json,
    is_whole,
    left,
    made,
    manifest,
    put,
    read_json,
    sha256,
    sources,
)

NOTEBOOKS = REPO / "notebooks"
SET_UP = "set-up"  # the id of that cell
FOLDED = {"jupyter": {"source_hidden": True}, "cellView": "form"}  # in JupyterLab, in Colab
# An embedded image or film: base64 in which the name of a folder may turn up by chance.
EMBEDDED = re.compile(r"(data:[\w.+-]+/[\w.+-]+;base64,(?:[A-Za-z0-9+/=]|\\?\n)+)")


def document(source: Path, solved: bool = False) -> NotebookNode:
    """The notebook of ``source`` without outputs; the same source always gives the same file.
    ``solved``: with the solutions of its exercises instead of the stubs.

    It is not paired with its source in Jupytext's way: JupyterLab would then show the source's
    cells, without the set-up cell, or refuse to open the two because they differ.
    """
    nb = jupytext.read(source)
    nb.nbformat, nb.nbformat_minor = 4, 5
    kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nb.metadata = nbformat.from_dict(
        {"kernelspec": kernelspec, "language_info": {"name": "python"}}
    )
    for number, cell in enumerate(nb.cells):
        cell.id = f"cell-{number:03}"
        if "hide-input" in tags_of(cell):
            cell.metadata |= FOLDED
    nb.cells = [cell for cell in nb.cells if _belongs(cell, solved)]
    title = nb.cells[0]
    if solved:
        title.source = re.sub(r"(?m)^(# .*)$", r"\1, with solutions", title.source, count=1)
        for cell in nb.cells:
            cell.source = re.sub(r"\]\((\d\d_\w+\.ipynb\))", r"](../\1", cell.source)
    if link := badge(f"notebooks/{'solutions/' * solved}{source.stem}.ipynb"):
        title.source = re.sub(r"\n|$", f"\n\n{link}\n", title.source, count=1).rstrip("\n")
    first = next((i for i, c in enumerate(nb.cells) if c.cell_type == "code"), len(nb.cells))
    nb.cells.insert(first, set_up_cell())
    return nb


def tags_of(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _belongs(cell: NotebookNode, solved: bool) -> bool:
    if "solution" in tags_of(cell):
        return solved
    return not (solved and cell.cell_type == "code" and "exercise" in tags_of(cell))


def set_up_cell() -> NotebookNode:
    """Folded in JupyterLab, in Colab (its title is seen there) and in the book."""
    text = (Path(__file__).parent / "set_up.py").read_text(encoding="utf-8").strip()
    wanted = pyproject()["project"]["dependencies"]
    repository, branch = address()
    for name, value in {
        "ADDRESS": repository and f"https://github.com/{repository}",
        "BRANCH": branch,
        "PACKAGES": " ".join(d for d in wanted if d.startswith("efficientnet")),
    }.items():
        text = text.replace(f"@{name}@", value)
    return nbformat.v4.new_code_cell(text, id=SET_UP, metadata=FOLDED | {"tags": ["hide-input"]})


def parameters_cell(nb: NotebookNode) -> NotebookNode:
    """The one cell tagged ``parameters``; ValueError where there is not exactly one."""
    cells = [c for c in nb.cells if "parameters" in tags_of(c)]
    if len(cells) != 1:
        raise ValueError(
            f"a notebook needs exactly one cell tagged parameters; this one has {len(cells)}"
        )
    return cells[0]


def set_parameters(nb: NotebookNode, **values) -> None:
    """Write ``values`` into the parameters cell, where each must be assigned already."""
    cell = parameters_cell(nb)
    for name, value in values.items():
        line = f"{name} = " + (json.dumps(value) if isinstance(value, str) else repr(value))
        cell.source, count = re.subn(rf"(?m)^{name}\s*=.*$", line.replace("\\", r"\\"), cell.source)
        if count != 1:
            raise ValueError(f"the parameters cell assigns {name} {count} times instead of once")


# ---- the repository's address


def pyproject() -> dict:
    return tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))


def address() -> tuple[str, str]:
    """OWNER/NAME, or "" where it is not set, and the branch."""
    given = pyproject()["tool"]["bedgen"]
    return given["repository"], given["branch"]


def on_github(path: str, site: str = "https://github.com") -> str:
    """Where ``path`` of this repository can be read; "" where the address is not set."""
    repository, branch = address()
    return f"{site}/{repository}/blob/{branch}/{path}" if repository else ""


def in_colab(path: str) -> str:
    """Where the notebook ``path`` opens in Colab; "" where the address is not set."""
    return on_github(path, "https://colab.research.google.com/github")


def badge(path: str) -> str:
    """A link that opens ``path`` of this repository in Colab; "" where the address is not set."""
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({image})]({place})" if (place := in_colab(path)) else ""


def with_badges(readme: str) -> str:
    """The README with a badge behind each notebook of its table, or with none."""

    def row(match: re.Match) -> str:
        return f"{match[1]} {badge(match[2])}".rstrip()

    link, old = r"^\| \d\d \| \[[^]]+\]\((\S+\.ipynb)\)", r" \[!\[Open in Colab\]\S+"
    return re.sub(rf"(?m)({link})({old})?", row, readme)


def set_address(repository: str, branch: str) -> None:
    path = REPO / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    for name, value in (("repository", repository), ("branch", branch)):
        text = re.sub(rf'(?m)^{name} = ".*?"', f'{name} = "{value}"', text, count=1)
    put(path, text.encode())


# ---- the two forms


def differences(folder: Path = NOTEBOOKS) -> list[str]:
    """Where an ipynb no longer holds the cells of its source: one line each."""
    texts = sources(folder)
    stems = {source.stem for source in texts.values()}
    problems = [
        f"{path.name} has no source py/{path.stem}.py"
        for path in sorted(folder.glob("*.ipynb"))
        if path.stem not in stems
    ]
    problems += [
        f"solutions/{name} is not what its source makes"
        for name, nb in solutions(folder).items()
        if not (path := folder / "solutions" / name).exists()
        or path.read_text(encoding="utf-8") != as_text(nb)
    ]
    for source in texts.values():
        path = folder / f"{source.stem}.ipynb"
        if not path.exists():
            problems.append(f"{path.name} is missing")
            continue
        old, new = (
            [(c.cell_type, c.source.strip(), sorted(tags_of(c))) for c in nb.cells]
            for nb in (read(path), document(source))
        )
        if old != new:
            pairs = enumerate(zip(old, new, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(len(old), len(new)))
            problems.append(f"{path.name} differs from py/{source.name} from cell {at + 1} on")
    return problems


def sync(folder: Path = NOTEBOOKS) -> list[Path]:
    """Bring each ipynb in line with its source, keeping outputs of cells as they were."""
    changed = []
    for source in sources(folder).values():
        path, nb = folder / f"{source.stem}.ipynb", document(source)
        if path.exists():
            _take_outputs(nb.cells, read(path).cells)
        if write(nb, path):
            changed.append(path)
    solved = {folder / "solutions" / name: nb for name, nb in solutions(folder).items()}
    return changed + [path for path, nb in solved.items() if write(nb, path)]


def read(path: Path) -> NotebookNode:
    """ValueError, with what to do, where it is no notebook, as with conflict markers of git."""
    try:
        return nbformat.read(path, 4)
    except (ValueError, AttributeError, nbformat.ValidationError) as error:
        why = f"{path} is no notebook ({error!r:.60}): git checkout brings back the last good one"
        raise ValueError(why) from error


def read_run(path: Path) -> NotebookNode:
    """As ``read``; ValueError, with what to do, also where no cell has an output."""
    nb = read(path)
    if not any(cell.get("outputs") for cell in nb.cells):
        how = f'make figures ARGS="--only {path.name[:2]}"'
        raise ValueError(f"{path} has no outputs: {how} runs it and stores them")
    return nb


def solutions(folder: Path) -> dict[str, NotebookNode]:
    """By name, the notebooks with solutions of those that have exercises; without outputs."""
    return {
        f"{source.stem}.ipynb": document(source, solved=True)
        for source in sources(folder).values()
        if any("solution" in tags_of(cell) for cell in jupytext.read(source).cells)
    }


def as_text(nb: NotebookNode) -> str:
    return nbformat.writes(nb) + "\n"


def _take_outputs(cells: list[NotebookNode], old: list[NotebookNode]) -> None:
    before, now = ([(c.cell_type, c.source) for c in some] for some in (old, cells))
    for a, b, size in difflib.SequenceMatcher(
        a=before, b=now, autojunk=False
    ).get_matching_blocks():
        for had, cell in zip(old[a : a + size], cells[b : b + size], strict=True):
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = had.outputs, had.execution_count


def write(nb: NotebookNode, path: Path) -> bool:
    """Validate and write ``nb``; False where the file already says exactly this."""
    nbformat.validate(nb)
    return put(path, as_text(nb).encode())


# ---- what an executed notebook may show


def publishable(
    executed: NotebookNode, source: Path, folders: dict[Path, str], **parameters
) -> NotebookNode:
    """``source`` with the outputs of ``executed``, and nothing of the machine that ran it.

    The cell that papermill put in is gone; its values (``parameters``, without ``out``) stand in
    the parameters cell. Profile cpu does not: it is what the source means where none is chosen, and
    Colab, which opens what is published, is to choose another. ``folders`` maps absolute folders to
    what is written in their place. Widgets are dropped: their state is not stored, and each has a
    static figure beside it. ValueError where the cells are not those of ``source``.
    """
    nb = document(source)
    if parameters.get("profile") == "cpu":
        del parameters["profile"]
    set_parameters(nb, **parameters)
    ran = [c for c in executed.cells if "injected-parameters" not in tags_of(c)]
    if [c.cell_type for c in ran] != [c.cell_type for c in nb.cells]:
        raise ValueError(f"the executed copy of {source.name} has other cells than its source")
    known = {str(folder): name for folder, name in folders.items()} | {
        sys.prefix: "<environment>",
        str(REPO): ".",
        sys.base_prefix: "<python>",
        os.path.expanduser("~"): "~",
        tempfile.gettempdir(): "<temporary>",
    }
    for cell, done in zip(nb.cells, ran, strict=True):
        if cell.cell_type == "code":
            cell.execution_count = done.execution_count
            cell.outputs = [
                _without_paths(output, known)
                for output in done.outputs
                if "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
            ]
    return nb


def _without_paths(value, known: dict[str, str]):
    """``value`` with each folder of ``known`` replaced in all text that is no embedded image."""
    if isinstance(value, str):
        parts = EMBEDDED.split(value)  # text, image, text, …
        parts[::2] = [_replace(part, known) for part in parts[::2]]
        return "".join(parts)
    if isinstance(value, list):
        return [_without_paths(v, known) for v in value]
    if isinstance(value, dict):
        binary = ("image/png", "image/jpeg", "application/pdf", "audio/", "video/")
        return nbformat.from_dict(
            {
                k: v if str(k).startswith(binary) else _without_paths(v, known)
                for k, v in value.items()
            }
        )
    return value


def _replace(text: str, known: dict[str, str]) -> str:
    text = re.sub(r"\S*ipykernel_\d+[/\\]\d+\.py", "<cell>", text)
    for folder in sorted(known, key=len, reverse=True):
        if len(folder) > 1:  # never "/" alone
            text = text.replace(folder, known[folder])
    return text


def without_image(nb: NotebookNode) -> list[int]:
    """The numbers of the code cells that call ``plt.show()`` and show no image.

    Where another backend than the notebook's own is at work, the figures vanish without a word.
    """
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    return [
        number
        for number, cell in enumerate(code, 1)
        if _shows(cell.source)
        and not any(kind.startswith("image/") for o in cell.outputs for kind in o.get("data", {}))
    ]


def _shows(source: str) -> bool:
    """Whether a cell calls ``plt.show()`` in any case: not in a function, nor on a condition."""
    try:
        todo = list(ast.parse(source).body)
    except SyntaxError:  # a magic of IPython
        return False
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Expr) and ast.unparse(node).startswith("plt.show("):
            return True
        if isinstance(node, ast.For | ast.With):
            todo += node.body
    return False


# ---- running one


def run_notebook(line: Line, number: str, minutes: float) -> None:
    """Run the notebook, unless it is up to date; SystemExit with a report where it fails."""
    source, own, state = line.texts[number], line.run / number, line.file(number, "ran.json")
    now = read_json(line.file(number, "reads.json"))
    needed = [line.file(n, "left.json") for n in NEEDS.get(number, ())]
    now["needs"] = {path.name: sha256(path) for path in needed if path.exists()}
    ran = read_json(state)
    if not line.force and ran.get("reads") == now and is_whole(line, number):
        print(f"{source.stem}: nothing that it reads has changed", flush=True)
    else:
        # Checkpoints are gone on with only by the code, numbers and data that wrote them; what
        # stands between the cells of code is not among these.
        if line.force or but_for_prose(ran.get("reads", {})) != but_for_prose(now):
            shutil.rmtree(own, ignore_errors=True)
        put(state, as_json({"reads": now}))
        shutil.rmtree(own / "figures", ignore_errors=True)  # some it may no longer make
        (own / "manifest.json").unlink(missing_ok=True)
        with Progress(source, minutes) as progress:
            write(execute(line, number, progress), line.file(number, "ipynb"))
        seconds = progress.seconds()
        ran = {"reads": now, "made": made(line, number), "seconds": round(seconds)}
        put(state, as_json(ran))
        count = len(manifest(own))
        print(f"{source.stem}: {clock(seconds)}, {count} figures and tables", flush=True)
    put(line.file(number, "left.json"), as_json(left(own)))


def but_for_prose(reads: dict) -> dict:
    return {key: value for key, value in reads.items() if key != "source"}


def execute(line: Line, number: str, progress: "Progress") -> NotebookNode:
    """The executed notebook as it may be published; SystemExit where it fails."""
    source = line.texts[number]
    copy = line.run / "executed" / f"{source.stem}.ipynb"
    copy.parent.mkdir(parents=True, exist_ok=True)
    nb = document(source)
    parameters_cell(nb)  # ValueError: without it papermill would set nothing
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it would log is in our report
    try:
        with kernel() as name:
            nb.metadata.kernelspec.name = name
            done = papermill.execute_notebook(
                nb,
                str(copy).replace("{", "{{").replace("}", "}}"),  # papermill formats it
                {"profile": line.profile, "seed": line.seed, "out": str(line.run)},
                kernel_name=name,
                cwd=source.parents[1],
                progress_bar=False,
                start_timeout=180,
                store_widget_state=False,
                on_cell_start=progress.cell,
            )
        if cells := without_image(done):
            raise ValueError(f"no image in the output of code cell {cells}, which calls plt.show()")
        short = {line.run: f"runs/{line.profile}", line.target: "."}
        clean = publishable(done, source, short, profile=line.profile, seed=line.seed)
    except papermill.PapermillExecutionError as error:
        trace = "\n".join(error.traceback).splitlines()[-15:]
        raise SystemExit(
            progress.report([f"{error.ename}: {error.evalue}", *trace], copy)
        ) from None
    except Exception as error:  # the kernel died or did not start, the disk is full
        why = [f"{type(error).__name__}: {error}"]
        raise SystemExit(progress.report(why, copy)) from error
    copy.unlink()
    return clean


@contextlib.contextmanager
def kernel(name: str = "bedgen") -> Iterator[str]:
    """While open, Jupyter knows this interpreter as the kernel ``name``, without user settings.

    A kernel called ``python3`` that another program registered would run another Python, without
    the packages; MPLBACKEND, a matplotlibrc or a startup file of IPython would change the figures,
    or lose them.
    """
    with tempfile.TemporaryDirectory(prefix="bedgen-", ignore_cleanup_errors=True) as folder:
        place = Path(folder) / "kernels" / name
        place.mkdir(parents=True)
        launch = ["-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
        spec = {"argv": [sys.executable, *launch], "display_name": "Python 3", "language": "python"}
        (place / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        (Path(folder) / "matplotlibrc").touch()
        before = dict(os.environ)
        os.environ.pop("PYTHONSTARTUP", None)
        for variable, value in (("JUPYTER_PATH", folder), ("PYTHONPATH", str(REPO))):
            os.environ[variable] = os.pathsep.join(filter(None, [value, before.get(variable)]))
        for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MATPLOTLIBRC"):
            os.environ[variable] = folder
        os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
        try:
            yield name
        finally:
            os.environ.clear()
            os.environ |= before


class Progress:
    """Which cell, how far, how long: a line kept current on a terminal, one a minute in a log."""

    def __init__(self, source: Path, minutes: float):
        self.name, self.expected = source.stem, 60 * minutes
        self.cells = sum(c.cell_type == "code" for c in document(source).cells)
        self.at, self.source, self.began = 0, "", time.monotonic()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._keep_current, daemon=True)

    def __enter__(self) -> "Progress":
        self.thread.start()
        return self

    def __exit__(self, *error) -> None:
        self.stop.set()
        self.thread.join()

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def cell(self, cell: NotebookNode, cell_index: int) -> None:
        """Called by papermill's client before each cell."""
        if cell.cell_type == "code" and "injected-parameters" not in tags_of(cell):
            self.at, self.source = self.at + 1, cell.source

    def report(self, why: list[str], copy: Path) -> str:
        begins = [row for row in self.source.splitlines() if row.strip()][:4]
        return "\n".join(
            [
                f"{self.name} failed in code cell {self.at} of {self.cells}, which begins",
                *(f"    {row}" for row in begins),
                *(re.sub(r"\x1b\[[0-9;]*m", "", row) for row in why),
                f"executed copy: {copy}",
                "Figures and notebooks already there stay as they were. "
                "The same command resumes at this notebook.",
            ]
        )

    def _line(self) -> str:
        seconds, full = self.seconds(), round(16 * min(1, self.seconds() / max(self.expected, 1)))
        bar = "█" * full + "·" * (16 - full)
        try:
            bar.encode(sys.stderr.encoding or "ascii")
        except UnicodeEncodeError:  # a log on Windows
            bar = "#" * full + "." * (16 - full)
        times = f"{clock(seconds)} of about {clock(max(seconds, self.expected))}"
        return f"{self.name}  cell {self.at}/{self.cells}  {bar}  {times}"

    def _keep_current(self) -> None:
        terminal, width = sys.stderr.isatty(), shutil.get_terminal_size().columns - 1
        again = True
        while again:
            text = "\r" + self._line()[:width].ljust(width) if terminal else self._line() + "\n"
            print(text, end="", file=sys.stderr, flush=True)
            again = not self.stop.wait(0.5 if terminal else 60)
        if terminal:
            print("\r" + " " * width + "\r", end="", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Bring notebooks in line with their sources.")
    parser.add_argument("--address", nargs=2, metavar=("OWNER/NAME", "BRANCH"))
    options = parser.parse_args()
    if options.address:
        set_address(*options.address)
    changed = sync()
    readme = REPO / "README.md"
    if put(readme, with_badges(readme.read_text(encoding="utf-8")).encode()):
        changed.append(readme)
    for path in changed:
        print(f"wrote {path.relative_to(REPO)}")
    sys.exit("\n".join(differences()) or None)  # "" would count as a failure


if __name__ == "__main__":
    main()
