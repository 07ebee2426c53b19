"""The rendered bedrooms: the scene from a seed, resuming, and the packed data set.

Images are only rendered where Mitsuba is installed.
"""

import contextlib
import csv
import hashlib
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

DATA = Path(__file__).resolve().parents[1] / "data"
ZIP = DATA / "bedrooms64.zip"
sys.path.insert(0, str(DATA / "render"))
import render  # noqa: E402  (needs the line above)
import rooms  # noqa: E402

needs_mitsuba = pytest.mark.skipif(
    any(importlib.util.find_spec(m) is None for m in ("mitsuba", "pyoidn")),
    reason="mitsuba and pyoidn are not installed; only rendering needs them",
)
needs_zip = pytest.mark.skipif(
    not ZIP.exists(),
    reason="data/bedrooms64.zip is not there; python data/render/render.py makes it",
)


def test_same_seed_same_room():
    for seed in (3, 1_000_007):
        a, b = rooms.sample_room(seed), rooms.sample_room(seed)
        assert json.dumps(a.factors) == json.dumps(b.factors)
        assert a.finish == b.finish and a.flash == b.flash
        left, right = a.meshes(), b.meshes()
        assert left.keys() == right.keys()
        for bucket in left:
            assert all(
                x.tobytes() == y.tobytes()
                for x, y in zip(left[bucket], right[bucket], strict=False)
            )
    assert rooms.sample_room(3).factors != rooms.sample_room(4).factors


@pytest.mark.slow
def test_camera_stands_in_the_room_and_sees_the_bed():
    widths = []
    for seed in range(80):
        room = rooms.sample_room(seed)
        x, y, z = room.camera["origin"]
        assert 0.2 < x < room.width - 0.2 and 0.2 < y < room.depth - 0.2, seed
        assert 1.1 <= z <= 1.8 and z < float(room.ceiling(x)) - 0.3, seed
        assert not any(x0 < x < x1 and y0 < y < y1 for x0, x1, y0, y1 in room.footprints), seed
        assert 18 <= room.factors["lens_mm"] <= 35
        assert room.factors["bed_in_frame"] >= 0.3, seed
        assert room.factors["bed_frame_width"] >= 0.3, seed
        widths.append(room.factors["bed_frame_width"])
    assert 0.5 < np.median(widths) < 0.85


def test_meshes_are_finite_and_inside():
    for seed in range(1_000_000, 1_000_020):
        room = rooms.sample_room(seed)
        for bucket, (v, f, uv, atlas) in room.meshes().items():
            assert np.isfinite(v).all() and f.max() < len(v), (seed, bucket)
            assert uv.min() >= 0 and uv.max() <= 1 and atlas.min() >= 0, (seed, bucket)
            assert v[:, 2].min() > -0.1, (seed, bucket)


@needs_mitsuba
def test_same_seed_same_image():
    import camera_back

    first = camera_back.photograph(rooms.sample_room(11), 32, 4)
    other = camera_back.photograph(rooms.sample_room(12), 32, 4)
    again = camera_back.photograph(rooms.sample_room(11), 32, 4)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == (32, 32, 3) and first.std() > 4


@pytest.mark.slow
@needs_mitsuba
def test_an_interrupted_run_goes_on(tmp_path):
    script = str(DATA / "render" / "render.py")
    command = [sys.executable, script, "--train", "4", "--validation", "1", "--test", "1"]
    command += ["--workers", "1", "--size", "32", "--spp", "4", "--out", str(tmp_path)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = subprocess.Popen(command, start_new_session=True, **quiet)
    deadline = time.monotonic() + 180
    while not list(tmp_path.glob("train/*.png")) and run.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.glob("t*/*.png")}
    assert kept, "nothing was rendered before the interruption"
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items())
    archive = tmp_path / "bedrooms64.zip"
    with zipfile.ZipFile(archive) as z:
        assert len(z.namelist()) == 9 and sum(n.endswith(".jpg") for n in z.namelist()) == 6
    before = archive.read_bytes()
    archive.unlink()
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    assert archive.read_bytes() == before


# ---- packing, which needs no renderer


def frames(out, counts):
    """Frames as render_one leaves them, with noise for an image and the true factors."""
    for split, index, seed in render.jobs(counts):
        path = render.frame_path(out, split, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        info = PngImagePlugin.PngInfo()
        info.add_text("factors", json.dumps(rooms.sample_room(seed).factors))
        noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path, pnginfo=info)


def test_seeds_of_the_splits_are_apart():
    seeds = [seed for *_, seed in render.jobs(render.COUNTS)]
    assert len(set(seeds)) == len(seeds) == 18_000
    small = render.jobs({"train": 2, "validation": 1, "test": 1})
    assert small == [
        ("train", 0, 0),
        ("train", 1, 1),
        ("validation", 0, 10**6),
        ("test", 0, 2 * 10**6),
    ]


def test_packing_repeats_and_tells_a_frame_of_another_seed(tmp_path):
    counts = {"train": 2, "validation": 1, "test": 1}
    frames(tmp_path, counts)
    first = render.pack(counts, tmp_path, tmp_path / "a.zip", "png")
    second = render.pack(counts, tmp_path, tmp_path / "b.zip", "png")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as z:
        assert z.namelist() == [
            "test/000000.png",
            "test/metadata.csv",
            "train/000000.png",
            "train/000001.png",
            "train/metadata.csv",
            "validation/000000.png",
            "validation/metadata.csv",
        ]
        table = z.read("train/metadata.csv").decode().splitlines()
        assert table[0].startswith("file_name,split,seed,") and table[2].startswith(
            "000001.png,train,1,"
        )
        frame = render.frame_path(tmp_path, "train", 1)
        packed = Image.open(io.BytesIO(z.read("train/000001.png")))
        assert np.array_equal(packed, Image.open(frame))
    os.replace(frame, render.frame_path(tmp_path, "test", 0))
    frames(tmp_path, {"train": 2})
    with pytest.raises(RuntimeError, match="seed 1, wanted 2000000"):
        render.pack(counts, tmp_path, tmp_path / "c.zip", "png")


def test_images_are_taken_over_where_seed_and_factors_agree(tmp_path, monkeypatch):
    """A zip of the first layout (its test images are the validation images of today), one row of
    which is of an older room."""
    rows, content = [], {}
    for name, seed in (
        ("train/000000.jpg", 0),
        ("train/000001.jpg", 1),
        ("test/000000.jpg", 10**6),
    ):
        rows.append({"file_name": name, "split": name.split("/")[0], **render.factors_of(seed)})
        content[name] = b"bytes of " + name.encode()
    rows[1]["bed_size"] = "giant"
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    old = tmp_path / "old.zip"
    with zipfile.ZipFile(old, "w") as z:
        for name, data in content.items():
            z.writestr(name, data)
        z.writestr("metadata.csv", text.getvalue())
    counts = {"train": 2, "validation": 1, "test": 1}
    monkeypatch.setattr(render, "mp", NoProcesses)
    kept = render.taken_over(old, render.jobs(counts), 1)
    assert {key: data for key, (_, data) in kept.items()} == {
        ("train", 0): b"bytes of train/000000.jpg",
        ("validation", 0): b"bytes of test/000000.jpg",
    }
    frames(tmp_path, {"train": 2, "test": 1})
    os.unlink(render.frame_path(tmp_path, "train", 0))
    with zipfile.ZipFile(render.pack(counts, tmp_path, tmp_path / "new.zip", "jpeg", kept)) as z:
        assert z.read("validation/000000.jpg") == b"bytes of test/000000.jpg"
        assert z.read("train/000000.jpg") == b"bytes of train/000000.jpg"
        found = render.read_rows(z)
    made = [row for row in found if row["file_name"] == "validation/000000.jpg"]
    assert made == [rows[2] | {"file_name": "validation/000000.jpg", "split": "validation"}]


class NoProcesses:
    """In place of multiprocessing: the work is done here."""

    @staticmethod
    def get_context(kind):
        return NoProcesses

    @staticmethod
    @contextlib.contextmanager
    def Pool(workers):
        yield NoProcesses

    @staticmethod
    def imap(function, items, chunksize):
        return map(function, items)


# ---- the set that is shipped


@pytest.fixture(scope="module")
def packed():
    with zipfile.ZipFile(ZIP) as z:
        yield z, render.read_rows(z)


@needs_zip
def test_zip_counts_seeds_and_size(packed):
    z, rows = packed
    assert Counter(r["split"] for r in rows) == render.COUNTS
    for row in rows:
        split, name = row["file_name"].split("/")
        assert split == row["split"]
        assert int(row["seed"]) == render.SEEDS[split] + int(Path(name).stem)
    tables = [f"{split}/metadata.csv" for split in render.COUNTS]
    assert sorted([r["file_name"] for r in rows] + tables) == z.namelist()
    assert ZIP.stat().st_size <= 60e6


@needs_zip
def test_zip_metadata_is_complete(packed):
    _, rows = packed
    wanted = "bed_style bed_size wall_colour wall_rgb floor light windows camera_distance"
    wanted += " camera_height camera_angle lens_mm"
    assert set(wanted.split()) <= rows[0].keys()
    assert all(v not in ("", None) for r in rows for v in r.values())
    for row in rows[::1800]:  # the columns are the scene's own factors
        factors = render.factors_of(int(row["seed"]))
        assert factors == {k: row[k] for k in row if k not in ("file_name", "split")}


@needs_zip
def test_zip_images_are_sound_and_differ(packed):
    z, rows = packed
    seen = set()
    for k, row in enumerate(rows):
        content = z.read(row["file_name"])
        seen.add(hashlib.sha256(content).digest())
        if k % 6:
            continue
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (64, 64) and image.mode == "RGB", row["file_name"]
            pixels = np.asarray(image)
        assert pixels.mean() > 12 and pixels.std() > 4, row["file_name"]
    assert len(seen) == len(rows)


@needs_zip
def test_card_and_croissant_are_of_this_zip():
    sha = hashlib.sha256(ZIP.read_bytes()).hexdigest()
    card = (DATA / "README.md").read_text(encoding="utf-8")
    assert sha in card and "12,000 train, 3,000 validation, 3,000 test" in card
    croissant = json.loads((DATA / "croissant.json").read_text(encoding="utf-8"))
    assert croissant["distribution"][0]["sha256"] == sha
    assert [found["name"] for found in croissant["recordSet"]] == ["images", *render.SEEDS]


@needs_zip
@pytest.mark.slow
def test_croissant_is_valid_and_leads_to_the_factors(tmp_path, monkeypatch):
    mlcroissant = pytest.importorskip(
        "mlcroissant", reason="mlcroissant is not installed; pip install mlcroissant"
    )
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path))
    found = mlcroissant.Dataset(jsonld=str(DATA / "croissant.json"))
    assert not found.metadata.ctx.issues.errors
    row = next(iter(found.records("validation")))
    assert row["validation/file_name"] == b"000000.jpg"
    assert row["validation/seed"] == render.SEEDS["validation"]
    assert row["validation/bed_style"].decode() == render.factors_of(10**6)["bed_style"]


@needs_zip
@pytest.mark.slow
def test_hugging_face_reads_the_unpacked_folder(tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="datasets is not installed; pip install datasets")
    code = (
        "import sys; from datasets import load_dataset\n"
        "found = load_dataset('imagefolder', data_dir=sys.argv[1])\n"
        "for split, part in found.items():\n"
        "    assert set(part['split']) == {split} and 'label' not in part.features\n"
        "    assert 'bed_size' in part.features and part[0]['image'].size == (64, 64)\n"
        "print(sorted((split, len(part)) for split, part in found.items()))"
    )
    with zipfile.ZipFile(ZIP) as z:
        z.extractall(tmp_path / "rooms")
    offline = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, str(tmp_path / "rooms")]
    ran = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.strip() == "[('test', 3000), ('train', 12000), ('validation', 3000)]"
