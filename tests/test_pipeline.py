"""The line from notebooks to figures, on tiny notebooks in a checkout of their own."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest
from checkout import SLOW, Checkout, wait_for
from safetensors.numpy import save_file

from tools import notebooks as nbs
from tools import pipeline

# ---- out of date by content


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / "repo", {"01": "data", "04": "gan", "05": "games", "08": "data"})


def read_by(checkout, number, *config):
    """What a notebook reads, asked in a process of its own: it imports the checkout's package."""
    code = (
        "import json, sys; from tools import pipeline\n"
        "print(json.dumps(pipeline.reads(pipeline.line(sys.argv[2:]), sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, number, *config]
    done = subprocess.run(command, cwd=checkout.root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_what_a_notebook_reads(checkout):
    checkout.write("studies/results/long.csv", "seed\n")
    checkout.write("studies/results/other.csv", "seed\n")
    checkout.write("data/weights/gan32.safetensors", "")
    checkout.notebook("08", "models", extra='if False: read_study("long")')
    assert set(read_by(checkout, "05")["files"]) == {
        f"bedgen_utils/{m}.py" for m in ("games", "gan")
    }
    assert set(read_by(checkout, "08")["files"]) == {
        "bedgen_utils/models.py",
        "data/weights/gan32.safetensors",
        "studies/results/long.csv",
    }
    numbers = read_by(checkout, "01")["numbers"]
    assert numbers == {"source": "rendered", "rooms": 5}  # no minutes, no recipe of a network
    checkout.notebook("01", extra="p.ddpm")
    assert read_by(checkout, "01")["numbers"] == numbers | {"ddpm": {"rate": 1}}


CHANGES = {  # what changes, and whether notebook 05 is then out of date
    "its source": ("notebooks/py/05_small.py", "value = 1", "value = 2", True),
    "its numbers": ("bedgen_utils/profiles.toml", "[nb04]", "[nb05]\nx = 1\n[nb04]", True),
    "another's numbers": ("bedgen_utils/profiles.toml", "rooms = 6", "rooms = 7", False),
    "a recipe": ("bedgen_utils/profiles.toml", "rate = 1", "rate = 3", False),
    "minutes": ("bedgen_utils/run.py", "0.1", "0.2", False),
    "data": ("data/bedrooms.zip", "images", "image", True),
    "a docstring in its module": ("bedgen_utils/games.py", "from", '"""Games."""\nfrom', True),
    "a docstring further down": ("bedgen_utils/gan.py", "GANs", "Games", True),
    "a docstring elsewhere": ("bedgen_utils/metrics.py", "\n", '"""Distances."""\n', False),
    "the reading order": ("bedgen_utils/__init__.py", "The package", "A package", False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_out_of_date_by_content(checkout, change):
    name, old, new, stale = CHANGES[change]
    before = read_by(checkout, "05")
    path = checkout.root / name
    os.utime(path, (1e9, 1e9))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert (read_by(checkout, "05") != before) == stale


def test_seed_and_profile_are_read(checkout):
    seen = [read_by(checkout, "05", *c) for c in ((), ("seed=1",), ("profile=smoke",))]
    assert all(seen.count(s) == 1 for s in seen)


def test_what_a_notebook_leaves(tmp_path):
    (tmp_path / "weights").mkdir()

    def left(numbers, tensor=1.0, **row):
        rows = {"nb03": {"caption": "c", "numbers": numbers, "sha256": str(row)} | row}
        (tmp_path / "manifest.json").write_text(json.dumps(rows))
        file = tmp_path / "weights" / "ddpm.safetensors"
        save_file({"w": np.full(3, tensor)}, file, metadata={"commit": str(row)})
        return pipeline.left(tmp_path)

    first = left({"fd": 1.5, "rows": [{"seconds": 3}]}, commit="a", device="cpu")
    assert left({"fd": 1.5, "rows": [{"seconds": 4}]}, commit="b", device="gpu") == first
    assert left({"fd": 1.6, "rows": [{"seconds": 3}]}) != first
    assert left({"fd": 1.5, "rows": [{"seconds": 3}]}, tensor=2.0) != first
    assert left({"fd": 1.5, "rows": [{"seconds": 3}]}, caption="d") != first


# ---- publishing, without running


@pytest.fixture
def line(tmp_path):
    (tmp_path / "py").mkdir()
    for number in ("01", "03"):
        (tmp_path / "py" / f"{number}_small.py").touch()
    return pipeline.line([f"folder={tmp_path}", f"out={tmp_path / 'out'}", "profile=smoke"])


def leave(line, number, *names):
    """As if a notebook had run and made these figures."""
    own = line.run / number
    shutil.rmtree(own, ignore_errors=True)
    (own / "figures").mkdir(parents=True)
    for name in names:
        (own / "figures" / f"{name}.png").write_text(name)
    rows = {name: {"notebook": number, "file": f"{name}.png", "numbers": 1} for name in names}
    (own / "manifest.json").write_text(json.dumps(rows))
    line.file(number, "ipynb").write_text(f"notebook {names}")


def published(line):
    files = sorted(p for below in ("figures", "notebooks") for p in (line.target / below).glob("*"))
    return {path.name: (path.read_text(), path.stat().st_mtime_ns) for path in files}


def test_publishing_replaces_only_what_is_this_notebooks(line):
    leave(line, "01", "a", "b")
    leave(line, "03", "c")
    for number in ("01", "03"):
        pipeline.publish(line, number)
    (line.target / "figures" / "studies.csv").write_text("not ours")
    before = published(line)
    assert set(before) == {"a.png", "b.png", "c.png", "studies.csv", "manifest.json"} | {
        "01_small.ipynb", "03_small.ipynb"}  # fmt: skip
    leave(line, "01", "a", "d")
    pipeline.publish(line, "01")
    after = published(line)
    assert set(before) - set(after) == {"b.png"} and set(after) - set(before) == {"d.png"}
    assert set(json.loads(after["manifest.json"][0])) == {"a", "c", "d"}
    assert all(after[k] == before[k] for k in ("a.png", "c.png", "studies.csv", "03_small.ipynb"))
    pipeline.publish(line, "01")
    assert published(line) == after and not any(pipeline.to_publish(line, "01"))


def test_a_damaged_target_is_noticed(line):
    leave(line, "01", "a")
    for damage in (Path.unlink, lambda path: path.write_text("")):
        for name in ("figures/a.png", "figures/manifest.json", "notebooks/01_small.ipynb"):
            pipeline.publish(line, "01")
            assert not any(pipeline.to_publish(line, "01"))
            damage(line.target / name)
            if name.endswith("manifest.json") and (line.target / name).exists():
                with pytest.raises(ValueError, match="manifest.json cannot be read"):
                    pipeline.to_publish(line, "01")
                (line.target / name).unlink()
            assert list(pipeline.to_publish(line, "01")[0]) == [line.target / name]


# ---- files and settings


@pytest.mark.parametrize(
    "wrong", ["only=,", "only=99", "seed=-1", "seed=4294967296", "seed=x", "sed=1"]
)
def test_wrong_settings_are_refused(line, wrong):
    messages = {"only": "no notebook .*; there are 01, 03", "seed": "seed must be"}
    message = messages.get(wrong.split("=")[0], "no setting sed")
    with pytest.raises(ValueError, match=message):
        pipeline.line([f"folder={line.texts['01'].parents[1]}", wrong])


def test_images_that_cannot_be_asked_for_are_left_to_the_notebook(monkeypatch, tmp_path):
    """Before a run each source of images is hashed; one that is absent is no traceback there."""
    monkeypatch.setitem(sys.modules, "lmdb", None)
    (tmp_path / "data.mdb").touch()
    assert "pip install" in pipeline.data_sha256(f"lsun:{tmp_path}")
    assert "is not a folder" in pipeline.data_sha256("folder:~nobody-here/rooms")


def test_folders(monkeypatch, tmp_path):
    repo = pipeline.REPO
    for profile, target in (("cpu", repo), ("smoke", repo / "runs" / "smoke" / "published")):
        given = pipeline.line([f"profile={profile}"])
        assert (given.run, given.target) == (repo / "runs" / profile, target)
    monkeypatch.setenv("HOME", str(tmp_path))
    given = pipeline.line(["out=~/x", "only=3,04"])
    assert (given.run, given.target) == (tmp_path / "x" / "runs" / "cpu", tmp_path / "x")
    assert given.chosen == ["03", "04"]


def test_two_writers_of_one_file(tmp_path, monkeypatch):
    """Threads have one process number; so have processes on two machines that share a volume."""
    gate, real = threading.Barrier(2), os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (gate.wait(5), real(fd)))
    path = tmp_path / "x"
    threads = [threading.Thread(target=pipeline.put, args=(path, c * 10_000)) for c in (b"a", b"b")]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert path.read_bytes() in (b"a" * 10_000, b"b" * 10_000) and os.listdir(tmp_path) == ["x"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs fcntl")
def test_fsync_gets_a_handle_that_windows_takes(tmp_path, monkeypatch):
    import fcntl

    def as_on_windows(fd):
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(os, "fsync", as_on_windows)
    assert pipeline.put(tmp_path / "x", b"1") and not pipeline.put(tmp_path / "x", b"1")


def test_a_second_run_in_one_folder(tmp_path):
    lock = pipeline.lock_folder(tmp_path)
    with pytest.raises(ValueError, match="another run is at work"):
        pipeline.lock_folder(tmp_path)
    lock.release()
    pipeline.lock_folder(tmp_path)


def test_errors_in_one_line():
    def said(error):
        with pytest.raises(SystemExit) as end, pipeline.one_line_errors():
            raise error
        return end.value.code

    gone = str(pipeline.REPO / "figures" / "gone.png")
    missing = FileNotFoundError(2, "No such file", gone)
    assert said(missing) == f"error: {gone} is missing: `git checkout {gone}` brings it back"
    assert said(FileNotFoundError(2, "No such", "/else")) == "error: [Errno 2] No such: '/else'"
    assert said(ValueError("two\n lines")) == "error: two lines"
    assert said(ModuleNotFoundError("", name="onnx")).startswith("error: onnx is missing: `make b")
    with pytest.raises(RuntimeError), pipeline.one_line_errors():  # nobody has thought of it
        raise RuntimeError


def test_progress_in_a_log_of_windows(checkout, monkeypatch):
    import io

    progress = nbs.Progress(checkout.root / "notebooks" / "py" / "01_small.py", 5)
    progress.began -= 150
    for encoding, bar in (("cp1252", "########........"), ("utf-8", "████████········")):
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert progress._line() == f"01_small  cell 0/5  {bar}  2:30 of about 5:00"


# ---- what a published notebook shows


def executed(*outputs, source="x"):
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source, outputs=list(outputs))]
    )


def test_embedded_images_are_not_touched():
    data = "iVBORw0K/tmp" + "QUJD" * 4 + "/tmp"
    html = f'<img src="data:image/png;base64,{data}"> /tmp/x '
    html += '<video src="data:video/mp4;base64,AA/tmp\nBB/tmp">'
    known = {"/tmp": "<temporary>"}
    assert nbs._without_paths(html, known) == html.replace(" /tmp/x ", " <temporary>/x ")
    output = {"data": {"image/png": data, "image/svg+xml": "/tmp", "text/plain": ["/tmp/y"]}}
    assert nbs._without_paths(output, known)["data"] == {
        "image/png": data,
        "image/svg+xml": "<temporary>",
        "text/plain": ["<temporary>/y"],
    }


def test_a_cell_without_its_image():
    image = nbformat.v4.new_output("display_data", {"image/png": "AA"})
    text = nbformat.v4.new_output("stream", text="<Figure size>")
    for source in ("plt.show()", "for i in (1,):\n    plt.plot()\n    plt.show()"):
        assert nbs.without_image(executed(text, source=source)) == [1]
        assert nbs.without_image(executed(image, source=source)) == []
    for source in ("def f():\n    plt.show()", "if x:\n    plt.show()", "%magic", "x"):
        assert nbs.without_image(executed(text, source=source)) == []


# ---- the whole line; each call starts kernels

slow = pytest.mark.slow


@slow
def test_line_by_content(tmp_path):
    """What runs again, and what does not, when something has changed."""
    checkout = Checkout(tmp_path / "repo", {"01": "data", "05": "games", "08": "data"})

    def runs(text):
        return re.findall(r"(?m)^(\d\d)_small: \d", text)

    assert runs(checkout.make()) == ["01", "05", "08"]
    before = checkout.state()
    text = checkout.make()
    assert not runs(text) and checkout.state() == before
    assert "up to date: 01, 05, 08; 3 figures and tables in" in text
    assert "sentences of the text" not in text

    for name in ("nb01_figure.svg", "manifest.json"):  # made again without running anything
        (checkout.published / "figures" / name).unlink()
    assert not runs(checkout.make())
    assert {k: v[0] for k, v in checkout.state().items()} == {k: v[0] for k, v in before.items()}

    games = checkout.root / "bedgen_utils" / "games.py"
    games.write_text('"""Games on the plane."""\n' + games.read_text())
    text = checkout.make()
    assert runs(text) == ["05"] and "08_small: nothing that it reads has changed" in text
    (checkout.run / "01" / "figures" / "nb01_figure.svg").write_text("")
    checkout.notebook("05", "games", value=2)
    assert runs(checkout.make()) == ["01", "05", "08"]
    said = ["it is small: holds", "it is red: does not hold", "it is round: does not hold"]
    checkout.notebook(
        "05", "games", value=3, extra="; ".join(f"print('[claim] {s}')" for s in said)
    )
    text = checkout.make("smoke", "--only", "05")
    assert runs(text) == ["05"]
    refuted = "2 sentences of the text do not hold for the results of this run:\n"
    assert f"{refuted}    05: it is red\n    05: it is round\n" in text
    assert runs(checkout.make()) == ["08"]
    text = checkout.root / "notebooks" / "py" / "05_small.py"
    text.write_text(text.read_text().replace("# # Notebook 05", "# # In other words"))
    assert runs(checkout.make("smoke", "--only", "05")) == ["05"]
    assert checkout.times()["nb05_figure"] == (3, 2)  # other prose: its checkpoints are kept
    assert runs(checkout.make("smoke", "--only", "1", "--force")) == ["01"]
    assert checkout.times()["nb01_figure"] == (1, 1)  # from the beginning


@slow
def test_failure_changes_nothing_and_a_repeated_call_goes_on(tmp_path):
    checkout = Checkout(tmp_path / "repo", {"01": "data", "04": "gan", "08": "data"})
    checkout.make()
    before = checkout.state()
    checkout.notebook("01", value=2)
    repaired = checkout.root / "repaired"
    error = 'RuntimeError("the reason\\nin two lines")'
    broken = f"if not os.path.exists({str(repaired)!r}): raise {error}"
    checkout.notebook("04", "gan", value=2, extra=broken)
    text = checkout.make(status=1)
    assert "04_small failed in code cell 4 of 5, which begins\n    value = 2\n" in text
    assert "RuntimeError: the reason" in text and "in two lines" in text and "\x1b" not in text
    copy = checkout.run / "executed" / "04_small.ipynb"
    assert f"executed copy: {copy}" in text and "RuntimeError" in copy.read_text()
    assert "Traceback" in text and "Snakefile" not in text
    after = checkout.state()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"nb01_figure.svg", "manifest.json", "01_small.ipynb"}
    assert len(after) == len(before)
    assert checkout.times()["nb01_figure"] == (2, 1) and checkout.times()["nb04_figure"] == (1, 1)

    repaired.touch()
    assert re.findall(r"(?m)^(\d\d)_small: \d", checkout.make()) == ["04", "08"]
    assert checkout.times()["nb04_figure"] == (2, 2)  # it went on with what the failed run had
    checkout.notebook("04", "gan", value=3, name="nb04_renamed")
    checkout.make("smoke", "--only", "04")
    assert checkout.times()["nb04_renamed"] == (3, 1)  # another source begins anew
    assert not {"nb04_figure", "nb04_figure.svg"} & {*checkout.times(), *checkout.state()}

    checkout.notebook("04", "gan", extra="os._exit(3)")
    assert "DeadKernelError" in checkout.make("smoke", "--only", "04", status=1)


@slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_and_run_again(tmp_path, how):
    checkout = Checkout(tmp_path / "repo", {})
    checkout.notebook("03", extra=SLOW)
    process = checkout.start("smoke")
    wait_for(checkout.run / "here", process)
    kernel = psutil.Process(int((checkout.run / "here").read_text()))
    process.send_signal(how)
    text = process.communicate(timeout=60)[0].decode()
    assert process.returncode == (-9 if how == signal.SIGKILL else 130), text
    if how == signal.SIGINT:
        assert text.splitlines()[-1] == "stopped; the same command resumes here"
        assert "Traceback" not in text and len(text.splitlines()) < 5, text
    psutil.wait_procs([kernel], timeout=20)
    assert not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE, "the kernel lives on"
    assert checkout.state() == {}
    checkout.make()
    assert checkout.times()["nb03_figure"] == (1, 2)  # it went on with the state it had


@slow
def test_the_second_of_two_runs_says_so(tmp_path):
    checkout = Checkout(tmp_path / "repo", {})
    checkout.notebook("03", extra=SLOW)
    process = checkout.start("smoke")
    try:
        wait_for(checkout.run / "here", process)
        text = checkout.make("smoke", "--seed", "1", status=2)
        assert text.startswith("error: another run is at work in") and text.count("\n") == 1
        assert json.loads((checkout.run / "03.reads.json").read_text())["seed"] == 0
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.mark.slow
def test_a_manifest_with_conflict_markers_is_an_error(checkout):
    """Before anything is touched, and in one line."""
    name = "runs/smoke/published/figures/manifest.json"
    manifest = checkout.write(name, "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n")
    text = checkout.make("smoke", "--force", status=2)
    assert f"error: {manifest} cannot be read" in text and text.count("\n") == 1
    assert not list(checkout.run.glob("*.json")) and list(checkout.state()) == ["manifest.json"]


FIGURE = """import matplotlib.pyplot as plt, warnings; from IPython.display import Markdown, display
assert "user_file" not in globals() and not plt.rcParams["text.usetex"]
import bedgen_utils; assert bedgen_utils.__doc__ == "The package."
plt.plot([1, 2]); plt.show()
print(profile, seed, out); warnings.warn("mind this"); display(Markdown(f"see `{out}/figures`"))
import ipywidgets; display(ipywidgets.IntSlider())"""


@slow
def test_a_hostile_place(tmp_path):
    """Settings of the user, odd names and encodings; no path of the machine is published."""
    home = tmp_path / "home"
    files = {
        "jupyter/kernels/python3/kernel.json": '{"argv": ["/bin/false"], "display_name": "x"}',
        ".ipython/profile_default/startup/1.py": "user_file = 1",
        ".config/matplotlib/matplotlibrc": "text.usetex: True",
        "startup.py": "user_file = 2",
    }  # fmt: skip
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    env = {
        "MPLBACKEND": "agg",
        "HOME": str(home),
        "JUPYTER_PATH": str(home / "jupyter"),
        "PYTHONIOENCODING": "cp1252",
    }
    env |= {
        "PYTHONSTARTUP": str(home / "startup.py"),
        "MATPLOTLIBRC": str(home / ".config" / "matplotlib"),
    }
    checkout = Checkout(tmp_path / "a {place} of 'Ω'", {})
    checkout.notebook("03", extra=FIGURE)
    out = home / "out {x} Ω"
    checkout.make("figures", "--profile", "smoke", "--out", "~/out {x} Ω", "--seed", "4", env=env)
    path = out / "notebooks" / "03_small.ipynb"
    text, nb = path.read_text(), nbformat.read(path, 4)
    nbformat.validate(nb)
    private = (str(tmp_path), str(pipeline.REPO), sys.prefix, str(Path.home()))
    for word in (*private, "injected", "papermill", "ipykernel_", "widget-view", "widget-state"):
        assert word not in text, word
    assert "runs/smoke/figures" in text and "mind this" in text
    assert any("image/png" in o.get("data", {}) for c in nb.cells for o in c.get("outputs", []))
    assert nbs.parameters_cell(nb).source == 'profile = "smoke"\nseed = 4\nout = None'
    assert nb.metadata.kernelspec.name == "python3"
    assert all(c.execution_count for c in nb.cells if c.cell_type == "code")
    checkout.notebook("03", extra='import matplotlib; matplotlib.use("agg")\n' + FIGURE)
    text = checkout.make(
        "figures", "--profile", "smoke", "--out", str(out), status=1, env=env | {"HOME": "/proc/no"}
    )
    assert "no image in the output of code cell" in text


# ---- Snakemake itself


def snakemake(checkout, *arguments):
    command = [sys.executable, "-m", "snakemake", "--dry-run", *arguments]
    done = subprocess.run(command, cwd=checkout.root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@slow
def test_plain_snakemake(checkout):
    text = snakemake(checkout, "--config", "profile=smoke", "only=05,08")
    assert re.search(r"notebook +2\n", text) and re.search(r"publish +2\n", text)


@slow
@pytest.mark.parametrize(
    ("asked", "threads"), [("", os.cpu_count()), ("3", 3), ("4,2", 4), ("all", os.cpu_count())]
)
def test_a_notebook_takes_the_machine_and_the_threads_that_are_asked_for(
    checkout, monkeypatch, asked, threads
):
    """Tests ask for one thread: two workers with two each would wait for each other."""
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    text = snakemake(checkout, "--config", "profile=smoke", "only=05", "--cores", "8")
    assert text.count("machine=1") == 1
    assert f"threads: {threads}\n" in text


@slow
def test_on_a_cluster(checkout):
    """As far as a dry run goes: no cluster is at hand."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="its plugin is not installed")
    text = snakemake(checkout, "--workflow-profile", "profiles/slurm", "--config", "profile=gpu")
    assert text.count("gpu=1") == 4 and text.count("slurm_partition=gpu") == 4


@slow
def test_studies_are_jobs(checkout):
    checkout.write("studies/peers.py", "")
    checkout.write("studies/long.py", 'print("seed-0\\nseed-1_threads-2")  # study.main(...)')
    text = snakemake(checkout, "studies", "--printshellcmds")
    assert re.search(r"study +2\n", text) and "long.py seed-1_threads-2" in text
