"""The line from notebooks to figures, on small notebooks of its own in a temporary folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from bedgen_utils import figures
from bedgen_utils.__main__ import main
from bedgen_utils.figures import NotebookFailed, make_figures

REPO = Path(figures.__file__).resolve().parents[1]

# A notebook that leaves a count of its runs, one figure, its row, and the number in the figure.
NOTEBOOK = '''# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Notebook {number}

# %% tags=["parameters"]
profile = "cpu"
seed = 0
out = None

# %%
import hashlib, json, pathlib, sys
run = pathlib.Path(out)
state = run / "{number}"
state.mkdir(parents=True, exist_ok=True)
(run / "figures").mkdir(exist_ok=True)
times = len(list(state.glob("ran-*"))) + 1
(state / f"ran-{{times}}").touch()

# %%
value = {value}
{extra}

# %%
name = "nb{number}_figure.svg"
(run / "figures" / name).write_text(f"<svg>{{value}} {{profile}} {{seed}}</svg>")
manifest = run / "figures" / "manifest.json"
rows = json.loads(manifest.read_text()) if manifest.exists() else {{}}
rows["nb{number}_figure"] = {{
    "id": "nb{number}_figure", "notebook": "{number}", "numbers": {{"value": value, "times": times}},
    "files": {{name: hashlib.sha256((run / "figures" / name).read_bytes()).hexdigest()}}}}
manifest.write_text(json.dumps(rows))
print("wrote", run / "figures" / name, "with", sys.executable, "at home", pathlib.Path.home())
'''


class Bench:
    def __init__(self, root):
        self.folder, self.out = root / "notebooks", root / "out"
        (self.folder / "py").mkdir(parents=True)

    def write(self, number, value=1, extra=""):
        text = NOTEBOOK.format(number=number, value=value, extra=extra)
        (self.folder / "py" / f"{number}_small.py").write_text(text)

    def make(self, profile="smoke", **options):
        make_figures(profile, out=self.out, folder=self.folder, **options)

    def rows(self):
        return {k: v["numbers"] for k, v in json.loads((self.out / "figures" / "manifest.json").read_text()).items()}

    def published(self):
        """Every published file and its bytes."""
        return {p.relative_to(self.out): p.read_bytes() for below in ("figures", "notebooks")
                for p in sorted((self.out / below).glob("*"))}

    def run_ids(self):
        return {p.name[:2]: json.loads(p.read_text())["run"] for p in (self.out / "runs" / "smoke").glob("*.done.json")}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    b = Bench(tmp_path)
    for number in ("01", "03"):
        b.write(number)
    # An editor at work on the package must not change what these tests see; its own test is below.
    monkeypatch.setattr(figures, "_shared_inputs", dict)
    return b


def test_success_then_up_to_date(bench, capsys):
    bench.make(seed=7)
    assert bench.rows() == {f"nb{n}_figure": {"value": 1, "times": 1} for n in ("01", "03")}
    assert (bench.out / "figures" / "nb03_figure.svg").read_text() == "<svg>1 smoke 7</svg>"
    assert sorted(p.name for p in (bench.out / "notebooks").iterdir()) == ["01_small.ipynb", "03_small.ipynb"]
    assert list((bench.out / "runs" / "smoke" / "executed").iterdir()) == []
    printed = capsys.readouterr().out
    assert "01_small: " in printed and "2 notebooks, 2 figures and tables" in printed

    before, first = bench.published(), bench.run_ids()
    bench.make(seed=7)
    assert bench.published() == before and bench.run_ids() == first
    assert capsys.readouterr().out.count("up to date") == 2

    (bench.out / "figures" / "nb03_figure.svg").unlink()        # what is missing is made again, and only that
    bench.make(seed=7)
    (bench.out / "notebooks" / "01_small.ipynb").unlink()
    bench.make(seed=7)
    assert {k: v for k, v in bench.published().items() if k.suffix == ".svg"} == \
           {k: v for k, v in before.items() if k.suffix == ".svg"}
    assert sorted(bench.published()) == sorted(before)
    assert all(bench.run_ids()[n] != first[n] for n in first)


def test_a_study_makes_the_notebooks_stale_that_read_it(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "REPO", tmp_path)
    table = tmp_path / "figures" / "studies" / "long.csv"
    table.parent.mkdir(parents=True)
    bench.write("03", extra='if False:\n    read_study("long")')
    bench.make()
    first = bench.run_ids()
    table.write_text("seed,distance\n0,1\n")
    bench.make()
    assert bench.run_ids()["01"] == first["01"] and bench.run_ids()["03"] != first["03"]


def test_failure_changes_nothing_and_a_repeated_call_goes_on(bench):
    bench.write("06")
    bench.make()
    before, first = bench.published(), bench.run_ids()
    bench.write("01", value=2)
    bench.write("03", value=2, extra='detail = "x" * 3\nraise RuntimeError("the reason\\nin two lines")')
    with pytest.raises(NotebookFailed) as failed:
        bench.make()
    text = str(failed.value)
    copy = bench.out / "runs" / "smoke" / "executed" / "03_small.ipynb"
    assert "03_small failed in code cell 3 of 4" in text
    assert "    value = 2\n" in text and "RuntimeError: the reason" in text and "in two lines" in text
    assert str(copy) in text and "goes on from this notebook" in text and "\x1b" not in text
    assert "RuntimeError" in copy.read_text()
    # 01 was done before and is published; 03 and 06 are as they were.
    after = bench.published()
    changed = {str(name) for name in before if before[name] != after[name]}
    assert changed == {"figures/nb01_figure.svg", "figures/manifest.json", "notebooks/01_small.ipynb"}
    assert bench.rows()["nb03_figure"]["value"] == 1 and bench.rows()["nb01_figure"]["value"] == 2

    bench.write("03", value=3)
    done_01 = bench.run_ids()["01"]
    bench.make()
    again = bench.run_ids()
    assert again["01"] == done_01 != first["01"]                            # not run a third time
    assert again["03"] != first["03"] and again["06"] != first["06"]        # 06 loads what 03 made
    assert bench.rows()["nb03_figure"] == {"value": 3, "times": 1}


def test_interrupted_state_is_kept_only_for_the_same_code(bench):
    """A retry with the same source goes on with its checkpoints; a changed source begins afresh."""
    extra = 'if not (run / "repaired").exists(): raise OSError("no")'
    bench.write("03", extra=extra)
    for _ in range(2):
        with pytest.raises(NotebookFailed):
            bench.make(only=("03",))
    (bench.out / "runs" / "smoke" / "repaired").touch()
    bench.make(only=("03",))
    assert bench.rows()["nb03_figure"]["times"] == 3
    bench.write("03", value=2, extra=extra)
    bench.make(only=("03",))
    assert bench.rows()["nb03_figure"] == {"value": 2, "times": 1}


def test_only_force_and_seed(bench):
    bench.make(only=("03",))
    assert list(bench.rows()) == ["nb03_figure"]
    first = bench.run_ids()
    bench.make(only=("03",))
    assert bench.run_ids() == first
    bench.make(only=("03",), force=True)
    forced = bench.run_ids()
    assert forced["03"] != first["03"] and bench.rows()["nb03_figure"]["times"] == 1        # its state was removed
    bench.make(only=("03",), seed=1)
    assert bench.run_ids()["03"] != forced["03"]
    with pytest.raises(ValueError, match="no notebook 05; there are 01, 03"):
        bench.make(only=("03", "05"))


@pytest.mark.parametrize("change", ["package", "weights", "numbers", "data", "source", "needed run", "unneeded run"])
def test_fingerprint_follows_what_a_notebook_uses(tmp_path, monkeypatch, change):
    root, sha, numbers = tmp_path, ["0" * 64], {"source": "rendered", "steps": 5, "minutes": 3}
    for name in ("bedgen_utils/unet.py", "bedgen_utils/figures.py", "data/released/ddpm.safetensors", "py/06_x.py",
                 "py/03_x.py", "py/01_x.py", "01.done.json", "03.done.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text('{"run": "before"}')
    monkeypatch.setattr(figures, "REPO", root)
    monkeypatch.setattr(figures, "dataset_sha256", lambda source, path=None: sha[0])
    monkeypatch.setattr(figures, "profile_numbers", lambda profile, notebook: dict(numbers))

    def fingerprint():
        return figures._fingerprint("06", figures.nbs.sources(root), "smoke", 0, root)
    before = fingerprint()
    numbers["minutes"] = 9
    (root / "bedgen_utils" / "figures.py").write_text("the runner changes no result")
    assert fingerprint() == before
    if change == "data":
        sha[0] = "1" * 64
    elif change == "numbers":
        numbers["steps"] = 6
    else:
        name = {"package": "bedgen_utils/unet.py", "weights": "data/released/ddpm.safetensors", "source": "py/06_x.py",
                "needed run": "03.done.json", "unneeded run": "01.done.json"}[change]
        (root / name).write_text('{"run": "after"}')
    assert (fingerprint() == before) == (change == "unneeded run")


def test_a_figure_no_longer_made_goes_and_foreign_files_stay(bench):
    keep = bench.out / "figures" / "studies" / "ablation.csv"
    keep.parent.mkdir(parents=True)
    keep.write_text("a,b\n")
    row = {"id": "data01", "files": {}, "numbers": 1}
    (bench.out / "figures" / "manifest.json").write_text(json.dumps({"data01": row}))
    bench.make()
    source = bench.folder / "py" / "03_small.py"
    source.write_text(source.read_text().replace("nb03_figure", "nb03_renamed"))
    bench.make()
    assert set(bench.rows()) == {"data01", "nb01_figure", "nb03_renamed"} and keep.exists()
    assert not (bench.out / "figures" / "nb03_figure.svg").exists()
    assert (bench.out / "figures" / "nb01_figure.svg").exists()


def test_published_notebooks_name_no_machine(bench, tmp_path):
    bench.write("03", extra='print("user", out, "seed", seed); import warnings; warnings.warn("mind this")\n'
                            'from IPython.display import Markdown, display\n'
                            'display(Markdown(f"see `{out}/figures`"))\n'
                            'import ipywidgets; display(ipywidgets.IntSlider())')
    bench.make(only=("03",), seed=4)
    path = bench.out / "notebooks" / "03_small.ipynb"
    text, nb = path.read_text(), nbformat.read(path, 4)
    nbformat.validate(nb)
    for private in (str(tmp_path), str(REPO), sys.prefix, str(Path.home()), "injected", "papermill", "ipykernel_",
                    "widget-view", "widget-state"):
        assert private not in text, private
    assert "runs/smoke/figures" in text and "mind this" in text
    assert nb.metadata.kernelspec.name == "python3"
    cell = figures.nbs.parameters_cell(nb)
    assert cell.source == 'profile = "smoke"\nseed = 4\nout = None'
    assert all(c.execution_count for c in nb.cells if c.cell_type == "code")


def test_dead_kernel_is_reported(bench):
    bench.write("01", extra="import os; os._exit(3)")
    with pytest.raises(NotebookFailed, match="(?s)01_small failed in code cell 3 of 4.*DeadKernelError"):
        bench.make()


def test_a_folder_without_notebooks(tmp_path):
    with pytest.raises(FileNotFoundError, match="no notebooks"):
        make_figures("smoke", out=tmp_path, folder=tmp_path)


# ---- runs that are ended from outside, as processes of their own

def runner(bench):
    # A shell starts what it sends to the background with Ctrl-C ignored, and this child would inherit that.
    code = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from pathlib import Path; import sys; from bedgen_utils import figures\n"
            "figures._shared_inputs = dict\n"
            f"try: figures.make_figures('smoke', out={str(bench.out)!r}, folder=Path({str(bench.folder)!r}))\n"
            "except KeyboardInterrupt: sys.exit(130)\n"
            "except figures.NotebookFailed as e: print(e); sys.exit(1)\n")
    return subprocess.Popen([sys.executable, "-c", code], cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, start_new_session=True)


def wait_for(path, process, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, process.stdout.read()
        time.sleep(0.05)


SLOW = 'pathlib.Path(run / "kernel").write_text(str(__import__("os").getpid()))\n' \
       'if times == 1: __import__("time").sleep(600)'


def gone(pid, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_and_run_again(bench, how):
    (bench.folder / "py" / "01_small.py").unlink()
    bench.make()
    before = bench.published()
    bench.write("03", value=2, extra=SLOW)
    process = runner(bench)
    marker = bench.out / "runs" / "smoke" / "kernel"
    wait_for(marker, process)
    time.sleep(0.5)
    kernel = int(marker.read_text())
    process.send_signal(how)
    process.wait(timeout=60)
    assert process.returncode == (-9 if how == signal.SIGKILL else 130), process.stdout.read()
    assert bench.published() == before
    assert gone(kernel), "the kernel outlives its runner"
    bench.make()
    assert bench.rows()["nb03_figure"] == {"value": 2, "times": 2}      # it went on with the state it had


def test_two_runs_in_one_folder(bench):
    bench.write("01", extra=SLOW)
    process = runner(bench)
    try:
        wait_for(bench.out / "runs" / "smoke" / "kernel", process)
        with pytest.raises(NotebookFailed, match="another run is at work"):
            bench.make()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def test_another_python3_kernel_does_not_get_the_notebooks(bench, tmp_path, monkeypatch):
    """A kernelspec named python3 that starts something else is on Jupyter's path first; ours still runs."""
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": ["/bin/false", "{connection_file}"], "display_name": "Other",
                                                  "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    bench.make(only=("01",))
    assert "nb01_figure" in bench.rows()
    assert os.environ["JUPYTER_PATH"] == str(tmp_path / "jupyter")


# ---- the command

def test_command_line(tmp_path, capsys):
    assert main(["figures", "--profile", "smoke", "--only", "99", "--out", str(tmp_path)]) == 2
    assert "no notebook 99" in capsys.readouterr().err
    for wrong in (["figures", "--profile", "fast"], []):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
    helped = subprocess.run([sys.executable, "-m", "bedgen_utils", "figures", "--help"], cwd=REPO, capture_output=True,
                            text=True, check=True)
    assert all(option in helped.stdout for option in ("--only", "--force", "--profile", "--out", "--seed"))


def test_command_line_reports_failure(monkeypatch, capsys):
    def fail(*options):
        raise {"1": NotebookFailed("which cell"), "130": KeyboardInterrupt()}[options[2]]
    monkeypatch.setattr(figures, "make_figures", fail)
    assert main(["figures", "--out", "1"]) == 1 and "which cell" in capsys.readouterr().err
    assert main(["smoke", "--out", "130"]) == 130 and "goes on" in capsys.readouterr().err


def test_default_folders():
    assert figures.folders("cpu", None) == (REPO / "runs" / "cpu", REPO)
    assert figures.folders("smoke", None) == (REPO / "runs" / "smoke", REPO / "runs" / "smoke" / "published")
    assert figures.folders("cpu", "/x/y") == (Path("/x/y/runs/cpu"), Path("/x/y"))
