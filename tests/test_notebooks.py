"""The eight notebooks agree with their sources, run alone and in one line, leave every figure."""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from PIL import Image

from tools import notebooks as nbs
from tools.pipeline import REFUTED, REPO, sources

SOURCES = sources(nbs.NOTEBOOKS)
FIGURES = [
    "fig01_forward_noising",
    "fig02_ddpm_epoch_1",
    "fig03_ddpm_epoch_3",
    "fig04_predicted_noise",
    "fig05_generator",
    "fig06_discriminator",
    "fig07_augmentation",
    "fig08_fid_curve",
    "fig09_gan_samples",
    "fig10_interpolation",
    "tab01_epoch_times",
]
PARAMETERS = """\
profile = None  # "smoke", "cpu", "released", "gpu" or "lsun"; None: "cpu", or in Colab "released"
seed = 0
out = None"""
MACHINE = re.compile(
    r"(?<![\w.:/~>])/(home|root|Users|work|tmp|private|opt|var|usr|mnt|content)/\w|[A-Z]:\\\\?Users"
)

each_source = pytest.mark.parametrize("source", SOURCES.values(), ids=lambda path: path.stem)


def texts_of(nb):
    """All text in a notebook but images."""
    for cell in nb.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield json.dumps(
                {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
            )
            yield json.dumps([output.get("text"), output.get("traceback"), output.get("metadata")])
    yield json.dumps(nb.metadata)


# ---- as they are stored


def test_the_eight_are_there():
    assert [path.stem for path in SOURCES.values()][:8] == [
        "01_forward_noising",
        "02_posterior_and_bound",
        "03_ddpm_training",
        "04_gan_training",
        "05_mode_collapse",
        "06_evaluation",
        "07_interpolation",
        "08_report",
    ]


def test_notebooks_agree_with_their_sources():
    assert nbs.differences() == [], "run `make notebooks`"


@each_source
def test_parameters_cell(source):
    assert nbs.parameters_cell(nbs.document(source)).source == PARAMETERS


@each_source
def test_stored_notebook(source):
    path = REPO / "notebooks" / f"{source.stem}.ipynb"
    assert path.stat().st_size < 2e6
    nb = nbformat.read(path, 4)
    nbformat.validate(nb)
    assert nbs.parameters_cell(nb).source == PARAMETERS
    for text in texts_of(nb):
        assert not MACHINE.search(text), MACHINE.search(text)
    # The set-up cell is no result of a run: its text changes with the repository's address.
    ran = [c for c in nb.cells if c.cell_type == "code" and c.id != nbs.SET_UP]
    counts = [c.execution_count for c in ran]
    assert None not in counts, "a cell changed after the last run: run `make figures`"
    assert counts == sorted(counts)
    assert not any(o.output_type == "error" for c in nb.cells for o in c.get("outputs", []))
    assert any(c.get("outputs") for c in nb.cells)


@each_source
def test_what_the_text_says_holds_for_the_published_run(source):
    nb = nbformat.read(REPO / "notebooks" / f"{source.stem}.ipynb", 4)
    said = 0
    for cell in nb.cells:
        printed = "".join(o.get("text", "") for o in cell.get("outputs", []))
        assert not REFUTED.findall(printed), "rewrite the sentence"
        if re.search(r"(?m)^claim\(", cell.source) and cell.cell_type == "code":
            assert "[claim] " in printed
            said += 1
    assert said


# ---- the rules of a notebook

FRAME = ("After it you can", "You need", "It takes", "## Summary", "## References")
OF_A_REPORT = ("## Abstract", "Data", "Methods", "Results", "Limits", "## References")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def prose(nb):
    return [c.source for c in nb.cells if c.cell_type == "markdown"]


@pytest.mark.parametrize("number", SOURCES)
def test_cells_are_small_and_prose_is_prose(number):
    nb = nbs.document(SOURCES[number])
    for cell in (c for c in nb.cells if c.cell_type == "code"):
        assert max(map(len, cell.source.splitlines())) <= 100
        assert "Markdown(" not in cell.source, "a person writes the text, no cell does"
        if "hide-input" not in nbs.tags_of(cell):
            assert len(cell.source.splitlines()) <= 30, cell.source
    for text in prose(nb):
        for paragraph in re.split(r"\n\s*\n|\$\$.*?\$\$|\n(?:\*|\||\d+\.) ", text, flags=re.S):
            assert len(paragraph.split()) <= 120, paragraph


@pytest.mark.parametrize("number", SOURCES)
def test_a_notebook_has_its_frame(number):
    nb = nbs.document(SOURCES[number])
    text = "\n".join(prose(nb))
    for part in OF_A_REPORT if number == "08" else FRAME:
        assert part in text, part
    for link in LINK.findall(text):
        assert (REPO / "notebooks" / link).exists(), link
    displayed = re.findall(r"\$\$(.*?)\$\$", text, flags=re.S)
    assert displayed and all("\\tag{" in equation for equation in displayed)
    assert "widgets" in "".join(c.source for c in nb.cells if c.cell_type == "code")


def test_the_report_counts_its_verdicts():
    text = "\n".join(prose(nbs.document(SOURCES["08"])))
    claims = text[text.index("### 4.1") : text.index("### 4.2")]
    rows = [row.split(" | ") for row in re.findall(r"(?m)^\| (?!claim of).*", claims)]
    verdicts = [re.match(r"\*\*(.*?)\.?\*\*", row[2])[1] for row in rows]
    counts = [verdicts.count(kind) for kind in ("Holds", "In part", "Does not hold", "Open")]
    assert sum(counts) == len(rows)
    words = "zero one two three four five six seven eight nine ten".split()
    said = "Of the {} claims {} hold, {} hold in part, {} do not hold, {} stay open."
    assert said.format(len(rows), *(words[n] for n in counts)) in claims


# ---- alone, in an empty folder


@pytest.mark.slow
@each_source
def test_each_notebook_alone_by_nbmake(source, tmp_path):
    """As a reader opens it, with nothing of the others there: released weights must stand in."""
    nb = nbs.document(source)
    nbs.set_parameters(nb, profile="smoke", out=str(tmp_path / "run"))
    nbs.write(nb, tmp_path / "alone" / f"{source.stem}.ipynb")
    options = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    with nbs.kernel() as name:
        options += ["--nbmake", "--nbmake-kernel", name, "--nbmake-timeout", "300"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, f"{source.stem}.ipynb"],
            cwd=tmp_path / "alone",
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "1 passed" in done.stdout


@pytest.mark.slow
def test_papermill_alone_from_any_folder(tmp_path):
    """papermill notebooks/NN_….ipynb out.ipynb -p profile smoke, as its manual says."""
    stored = REPO / "notebooks" / f"{SOURCES['01'].stem}.ipynb"
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(stored),
        "out.ipynb",
        "-p",
        "profile",
        "smoke",
    ]
    done = subprocess.run(
        [*command, "-p", "out", str(tmp_path / "run")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert (tmp_path / "out.ipynb").exists() and list(
        (tmp_path / "run" / "01" / "figures").iterdir()
    )


# ---- all, in one line


line_test = pytest.mark.xdist_group("line")


# Every Python of the line, its kernels too, begins with this: only the machine itself is reached.
NO_NETWORK = """
import socket

def only_here(real, host_of):
    def call(*given, **named):
        if host_of(*given) not in (None, "", "localhost", "127.0.0.1", "::1"):
            raise AssertionError(f"the network is used: {given}")
        return real(*given, **named)
    return call

socket.getaddrinfo = only_here(socket.getaddrinfo, lambda host, *_: host)
host_of = lambda _, address: address[0] if isinstance(address, tuple) else None
socket.socket.connect = only_here(socket.socket.connect, host_of)
"""


@pytest.fixture(scope="module")
def line(request, tmp_path_factory):
    if "PYTEST_XDIST_WORKER" in os.environ:  # else each worker makes a line of its own: minutes
        assert any(item.nodeid.endswith("@line") for item in request.session.items)
    out = tmp_path_factory.mktemp("line")
    command = [sys.executable, "-m", "bedgen_utils", "smoke", "--out", str(out)]
    offline = tmp_path_factory.mktemp("offline")
    (offline / "sitecustomize.py").write_text(NO_NETWORK)
    options = {"cwd": REPO, "env": os.environ | {"PYTHONPATH": str(offline)}}
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    again = subprocess.run(command, capture_output=True, text=True, **options)
    return out, json.loads((out / "figures" / "manifest.json").read_text()), again


def not_blank(path):
    image = Image.open(path).convert("RGB")
    pixels = image.width * image.height
    assert min(image.size) >= 100
    counts = [count for count, _ in image.getcolors(pixels)]
    # Something is drawn: more than thin frames around nothing, in more than two colours.
    drawn = len(counts) > 20 and max(counts) < 0.985 * pixels
    assert drawn and np.asarray(image).std() > 8, path.name


@pytest.mark.slow
@line_test
def test_line_makes_every_figure(line):
    out, manifest, _ = line
    assert set(FIGURES) <= set(manifest)
    assert {path.name for path in (out / "figures").iterdir()} == {"manifest.json"} | {
        row["file"] for row in manifest.values()
    }
    for figure_id, row in manifest.items():
        assert row["id"] == figure_id and row["caption"].strip()
        path = out / "figures" / row["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"], path.name
        if path.suffix == ".png":
            not_blank(path)
        else:
            assert path.suffix == ".csv"
            with open(path, newline="", encoding="utf-8") as f:
                rows = list(csv.reader(f))
            assert len(rows) >= 2 and all(len(r) == len(rows[0]) for r in rows)


def keys(value):
    """All keys of nested dicts and lists."""
    if isinstance(value, dict):
        yield from value
    for part in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from keys(part)


def protocols(value):
    return (
        [value] if "extractor" in value else [p for part in value.values() for p in protocols(part)]
    )


@pytest.mark.slow
@line_test
def test_every_distance_in_the_manifest_has_its_protocol(line):
    _, manifest, _ = line
    measured = {
        "distance",
        "distances",
        "minutes_distance_n",
        "kernel",
        "kernel distance",
        "FD-EffNet",
        "recall",
    }
    with_distance = [
        row for row in manifest.values()
        if any(k in measured or k.startswith("Fréchet distance") for k in keys(row["numbers"]))
    ]  # fmt: skip
    assert len(with_distance) > 20
    for row in with_distance:
        assert row.get("protocol"), row["id"]
        for protocol in protocols(row["protocol"]):
            assert all(protocol.values()), (row["id"], protocol)
            assert protocol["n_generated"] > 1 and protocol["n_reference"] > 1


@pytest.mark.slow
@line_test
def test_line_manifest_says_what_made_each(line):
    _, manifest, _ = line
    for row in manifest.values():
        assert row["profile"] == "smoke" and row["seed"] == 0 and row["notebook"] in SOURCES
        assert row["device"] and row["processor"] and row["versions"]["torch"]
        assert re.fullmatch(r"[0-9a-f]{64}", row["data_sha256"]) and row["commit"]
        assert "numbers" in row
    assert {row["notebook"] for row in manifest.values()} == set(SOURCES)


@pytest.mark.slow
@line_test
def test_line_leaves_clean_notebooks(line):
    out, _, _ = line
    assert sorted(p.stem for p in (out / "notebooks").glob("*.ipynb")) == [
        p.stem for p in SOURCES.values()
    ]
    for path in (out / "notebooks").glob("*.ipynb"):
        nb = nbformat.read(path, 4)
        assert nbs.parameters_cell(nb).source == 'profile = "smoke"\nseed = 0\nout = None'
        for text in texts_of(nb):
            assert str(out) not in text and str(REPO) not in text and sys.prefix not in text
            assert not MACHINE.search(text), MACHINE.search(text)


@pytest.mark.slow
@line_test
def test_line_repeated_runs_nothing(line):
    *_, again = line
    assert again.returncode == 0 and again.stdout.startswith("up to date: 01")


# ---- the tools, on a notebook of their own


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "py").mkdir()
    (tmp_path / "py" / "01_small.py").write_text(
        "# %% [markdown]\n# # Title\n\n"
        '# %% tags=["parameters"]\nprofile = "cpu"\nseed = 0\nout = None\n\n'
        "# %%\nprint(1)\n\n# %%\nprint(2)\n"
    )
    nbs.sync(tmp_path)
    nb = nbformat.read(tmp_path / "01_small.ipynb", 4)
    code = [c for c in nb.cells if c.cell_type == "code" and c.id != nbs.SET_UP]
    for number, cell in enumerate(code):
        cell.execution_count = number + 1
        cell.outputs = [nbformat.v4.new_output("stream", text=f"output {number}")]
    nbformat.write(nb, tmp_path / "01_small.ipynb")
    return tmp_path


def edit(folder, old, new):
    source = folder / "py" / "01_small.py"
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new))


def outputs(folder):
    nb = nbformat.read(folder / "01_small.ipynb", 4)
    return {c.source: [o.text for o in c.outputs] for c in nb.cells if c.cell_type == "code"}


def test_sync_keeps_outputs_of_unchanged_cells(folder):
    assert nbs.differences(folder) == [] and nbs.sync(folder) == []
    edit(folder, "print(1)", "print(11)")
    edit(folder, "# Title", "# Another title\n#\n# and text")
    assert nbs.differences(folder) == ["01_small.ipynb differs from py/01_small.py from cell 1 on"]
    assert [p.name for p in nbs.sync(folder)] == ["01_small.ipynb"]
    assert nbs.differences(folder) == []
    assert outputs(folder)["print(2)"] == ["output 2"] and outputs(folder)["print(11)"] == []


def test_sync_when_cells_come_and_go(folder):
    edit(folder, "# %%\nprint(1)", "# %%\nprint(0)\n\n# %%\nprint(1)")
    nbs.sync(folder)
    assert outputs(folder)["print(0)"] == [] and outputs(folder)["print(1)"] == ["output 1"]
    edit(folder, "# %%\nprint(1)\n", "")
    nbs.sync(folder)
    assert "print(1)" not in outputs(folder) and outputs(folder)["print(2)"] == ["output 2"]


@pytest.mark.parametrize(
    "old, new, cell",
    [
        ("print(2)", "print(3)", 5),
        ('tags=["parameters"]', "", 3),
        ("# %%\nprint(2)\n", "", 5),
        ("# # Title", "# # Name", 1),
    ],
)
def test_drift_is_noticed(folder, old, new, cell):
    edit(folder, old, new)
    assert nbs.differences(folder) == [
        f"01_small.ipynb differs from py/01_small.py from cell {cell} on"
    ]


def test_orphans_and_missing_are_noticed(folder):
    (folder / "01_small.ipynb").rename(folder / "02_other.ipynb")
    assert nbs.differences(folder) == [
        "02_other.ipynb has no source py/02_other.py",
        "01_small.ipynb is missing",
    ]


def test_conflict_markers_are_named_and_outputs_are_not_lost(folder):
    path = folder / "01_small.ipynb"
    text = path.read_text()
    path.write_text(f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> theirs\n")
    before = path.read_bytes()
    for call in (nbs.sync, nbs.differences):
        with pytest.raises(ValueError, match="01_small.ipynb is no notebook.*git checkout"):
            call(folder)
    assert path.read_bytes() == before


def test_bringing_in_line_ends_with_0_where_nothing_differs(monkeypatch):
    monkeypatch.setattr(nbs, "sync", list)
    monkeypatch.setattr(nbs, "put", lambda *_: False)
    monkeypatch.setattr(sys, "argv", ["notebooks"])
    for found, status in (([], None), (["01_small.ipynb is missing"], "01_small.ipynb is missing")):
        monkeypatch.setattr(nbs, "differences", lambda found=found: found)
        with pytest.raises(SystemExit) as end:
            nbs.main()
        assert end.value.code == status


def test_parameters_must_be_there(folder):
    nb = nbs.document(folder / "py" / "01_small.py")
    nbs.set_parameters(nb, profile='a "b" \\d', out=None)
    assert nbs.parameters_cell(nb).source == 'profile = "a \\"b\\" \\\\d"\nseed = 0\nout = None'
    with pytest.raises(ValueError, match="size 0 times"):
        nbs.set_parameters(nb, size=3)
    edit(folder, 'tags=["parameters"]', "")
    with pytest.raises(ValueError, match="exactly one cell"):
        nbs.parameters_cell(nbs.document(folder / "py" / "01_small.py"))


# ---- the repository's address


def test_every_notebook_begins_with_the_same_folded_cell():
    cells = [
        next(c for c in nbformat.read(path, 4).cells if c.cell_type == "code")
        for path in sorted((REPO / "notebooks").glob("*.ipynb"))
    ]
    assert len(cells) >= 8 and len({cell.source for cell in cells}) == 1
    for cell in cells:
        assert cell.id == nbs.SET_UP and "@" not in cell.source.removeprefix("# @title")
        assert cell.metadata.jupyter.source_hidden and cell.metadata.cellView == "form"
        assert cell.metadata.tags == ["hide-input"] and cell.source.startswith("# @title ")
        assert max(map(len, cell.source.splitlines())) <= 100 and not cell.outputs
    for source in SOURCES.values():
        assert "importlib.util" not in source.read_text(encoding="utf-8")


def test_badges_follow_the_address(tmp_path, monkeypatch):
    """None where it is not set; with it, README and notebooks lead to this repository's files."""
    for name in ("pyproject.toml", "README.md"):
        (tmp_path / name).write_bytes((REPO / name).read_bytes())
    monkeypatch.setattr(nbs, "REPO", tmp_path)
    given, source = nbs.address(), SOURCES["03"]
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert nbs.with_badges(readme) == readme
    nbs.set_address("", "main")
    bare = nbs.with_badges(readme)
    assert "Open in Colab" not in bare + nbs.document(source).cells[0].source
    nbs.set_address("someone/rooms", "trunk")
    assert nbs.address() == ("someone/rooms", "trunk")
    full = nbs.with_badges(bare)
    place = "https://colab.research.google.com/github/someone/rooms/blob/trunk/notebooks/"
    for at in SOURCES.values():
        title, blank, badge, *_ = nbs.document(at).cells[0].source.splitlines()
        assert title.startswith("# ") and blank == ""
        assert badge.endswith(f"({place}{at.stem}.ipynb)") and full.count(badge) == 1
    assert nbs.with_badges(full) == full
    nbs.set_address(*given)
    assert nbs.with_badges(full) == readme
    assert (tmp_path / "pyproject.toml").read_bytes() == (REPO / "pyproject.toml").read_bytes()
