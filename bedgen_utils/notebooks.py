"""Notebooks as text and as documents: ``notebooks/py/NN_name.py`` is the source of ``notebooks/NN_name.ipynb``.

The py:percent file is reviewed and edited; the ipynb holds the same cells and their outputs. This module reads the
one, brings the other in line with it, says where they differ, and takes out of an executed notebook what belongs to the
machine that ran it: absolute paths, timestamps, widget state.
"""

import contextlib
import difflib
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat

from .run import REPO, replace_atomically

NOTEBOOKS = REPO / "notebooks"
KERNEL = "bedgen"       # the name under which `kernel` offers this interpreter


def sources(folder: Path = NOTEBOOKS) -> dict[str, Path]:
    """The reviewed sources in ``folder``/py in order, by number: {"01": …/py/01_name.py, …}."""
    found = {path.name[:2]: path for path in sorted((folder / "py").glob("[0-9][0-9]_*.py"))}
    if not found:
        raise FileNotFoundError(f"no notebooks NN_name.py in {folder / 'py'}: run from a checkout of the repository")
    return found


def document(source: Path) -> nbformat.NotebookNode:
    """The notebook of ``source`` without outputs, cells numbered so that the same source gives the same file."""
    nb = jupytext.read(source)
    nb.nbformat, nb.nbformat_minor = 4, 5
    nb.metadata = nbformat.from_dict({
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "jupytext": {"formats": "ipynb,py//py:percent"},
    })
    for number, cell in enumerate(nb.cells):
        cell.id = f"cell-{number:03}"
    return nb


def parameters_cell(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The one cell tagged ``parameters``; ValueError where there is not exactly one."""
    cells = [c for c in nb.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"a notebook needs exactly one cell tagged parameters; this one has {len(cells)}")
    return cells[0]


def set_parameters(nb: nbformat.NotebookNode, **values) -> None:
    """Write ``values`` into the parameters cell, in place of what it says; each name must be assigned there."""
    cell = parameters_cell(nb)
    for name, value in values.items():
        line = f"{name} = " + (json.dumps(value) if isinstance(value, str) else repr(value))
        cell.source, count = re.subn(rf"(?m)^{name}\s*=.*$", lambda _, line=line: line, cell.source)
        if count != 1:
            raise ValueError(f"the parameters cell assigns {name} {count} times instead of once")


# ---- the two forms

def differences(folder: Path = NOTEBOOKS) -> list[str]:
    """Where an ipynb no longer holds the cells of its source: one line each, empty when none has drifted."""
    problems = []
    texts = sources(folder)
    for path in sorted(folder.glob("*.ipynb")):
        if path.stem not in {source.stem for source in texts.values()}:
            problems.append(f"{path.name} has no source py/{path.stem}.py")
    for source in texts.values():
        path = folder / f"{source.stem}.ipynb"
        if not path.exists():
            problems.append(f"{path.name} is missing")
            continue
        old, new = ([(c.cell_type, c.source.strip(), sorted(c.metadata.get("tags", []))) for c in nb.cells]
                    for nb in (nbformat.read(path, 4), document(source)))
        if old != new:
            at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
            problems.append(f"{path.name} differs from py/{source.name} from cell {at + 1} on")
    return problems


def sync(folder: Path = NOTEBOOKS) -> list[Path]:
    """Bring each ipynb in line with its source, keeping outputs of unchanged code cells; returns what was written."""
    changed = []
    for source in sources(folder).values():
        path, nb = folder / f"{source.stem}.ipynb", document(source)
        if path.exists():
            old = nbformat.read(path, 4).cells
            same = difflib.SequenceMatcher(a=[(c.cell_type, c.source) for c in old],
                                           b=[(c.cell_type, c.source) for c in nb.cells], autojunk=False)
            for a, b, size in same.get_matching_blocks():
                for had, cell in zip(old[a:a + size], nb.cells[b:b + size], strict=True):
                    if cell.cell_type == "code":
                        cell.outputs, cell.execution_count = had.outputs, had.execution_count
        if write(nb, path):
            changed.append(path)
    return changed


def write(nb: nbformat.NotebookNode, path: Path) -> bool:
    """Validate and write ``nb`` in one step; False where the file already says exactly this."""
    nbformat.validate(nb)
    text = nbformat.writes(nb) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, lambda t: t.write_text(text, encoding="utf-8"))
    return True


# ---- what an executed notebook may show

def publishable(executed: nbformat.NotebookNode, source: Path, folders: dict[Path, str], **parameters
                ) -> nbformat.NotebookNode:
    """``source`` with the outputs of ``executed``, and nothing of the machine that ran it.

    The cell that papermill put in is gone; its values (``parameters``, without ``out``) stand in the parameters cell.
    ``folders`` maps absolute folders to what is written in their place. Widgets are dropped: their state is not stored,
    and each has a static figure beside it. Raises ValueError where the cells are not those of ``source``.
    """
    nb = document(source)
    set_parameters(nb, **parameters)
    ran = [c for c in executed.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    if [c.cell_type for c in ran] != [c.cell_type for c in nb.cells]:
        raise ValueError(f"the executed copy of {source.name} has other cells than its source")
    known = {str(k): v for k, v in folders.items()} | {sys.prefix: "<environment>", str(REPO): ".",
             sys.base_prefix: "<python>", str(Path.home()): "~", tempfile.gettempdir(): "<temporary>"}
    for cell, done in zip(nb.cells, ran, strict=True):
        if cell.cell_type == "code":
            cell.execution_count = done.execution_count
            cell.outputs = [_without_paths(output, known) for output in done.outputs
                            if "application/vnd.jupyter.widget-view+json" not in output.get("data", {})]
    return nb


def _without_paths(value, known: dict[str, str]):
    """``value`` with each folder of ``known`` replaced, longest first, in all text but that of pictures."""
    if isinstance(value, str):
        value = re.sub(r"\S*ipykernel_\d+/\d+\.py", "<cell>", value)
        for folder in sorted(known, key=len, reverse=True):
            if len(folder) > 1:     # never "/" alone
                value = value.replace(folder, known[folder])
        return value
    if isinstance(value, list):
        return [_without_paths(v, known) for v in value]
    if isinstance(value, dict):
        return nbformat.from_dict({k: v if str(k).startswith(("image/png", "image/jpeg")) else _without_paths(v, known)
                                   for k, v in value.items()})
    return value


# ---- the interpreter that runs them

@contextlib.contextmanager
def kernel():
    """While open, Jupyter knows this interpreter under the name ``KERNEL``, for this process and those it starts.

    A kernel called ``python3`` that some other program registered for this user would run another Python, without the
    packages; this one is ``sys.executable`` and finds the same ``bedgen_utils`` that is running now.
    """
    with tempfile.TemporaryDirectory(prefix="bedgen-kernel-") as folder:
        place = Path(folder) / "kernels" / KERNEL
        place.mkdir(parents=True)
        path = os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH")]))
        (place / "kernel.json").write_text(json.dumps({
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"],
            "display_name": "Python 3", "language": "python", "env": {"PYTHONPATH": path}}))
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, before]))
        try:
            yield KERNEL
        finally:
            if before is None:
                del os.environ["JUPYTER_PATH"]
            else:
                os.environ["JUPYTER_PATH"] = before
