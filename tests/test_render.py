"""The rendered bedrooms: the scene from a seed, resuming, and the packed data set.  Images are only rendered where
Mitsuba is installed."""

import csv
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DATA = Path(__file__).resolve().parents[1] / "data"
ZIP = DATA / "bedrooms64.zip"
sys.path.insert(0, str(DATA / "render"))
import rooms  # noqa: E402  (needs the line above, and numpy alone)

needs_mitsuba = pytest.mark.skipif(
    any(importlib.util.find_spec(m) is None for m in ("mitsuba", "pyoidn")),
    reason="mitsuba and pyoidn are not installed; pip install -e '.[render]' to render (using the data needs neither)",
)
needs_zip = pytest.mark.skipif(
    not ZIP.exists(), reason="data/bedrooms64.zip is not there; python data/render/render.py makes it"
)


def test_same_seed_same_room():
    for seed in (3, 1_000_007):
        a, b = rooms.sample_room(seed), rooms.sample_room(seed)
        assert json.dumps(a.factors) == json.dumps(b.factors)
        assert a.finish == b.finish and a.flash == b.flash
        left, right = a.meshes(), b.meshes()
        assert left.keys() == right.keys()
        for bucket in left:
            assert all(x.tobytes() == y.tobytes() for x, y in zip(left[bucket], right[bucket], strict=False))
    assert rooms.sample_room(3).factors != rooms.sample_room(4).factors


def test_camera_stands_in_the_room_and_sees_the_bed():
    widths = []
    for seed in range(200):
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


@needs_mitsuba
def test_an_interrupted_run_goes_on(tmp_path):
    command = [
        sys.executable,
        str(DATA / "render" / "render.py"),
        "--train",
        "4",
        "--test",
        "1",
        "--workers",
        "1",
        "--size",
        "32",
        "--spp",
        "4",
        "--out",
        str(tmp_path),
    ]
    run = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 180
    while not list(tmp_path.glob("train/*.png")) and run.poll() is None and time.monotonic() < deadline:
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
        assert z.namelist() == ["metadata.csv", "test/000000.jpg"] + [f"train/{i:06d}.jpg" for i in range(4)]
    before = archive.read_bytes()
    archive.unlink()
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    assert archive.read_bytes() == before


@pytest.fixture(scope="module")
def packed():
    with zipfile.ZipFile(ZIP) as z:
        rows = list(csv.DictReader(io.TextIOWrapper(z.open("metadata.csv"), "utf-8")))
        yield z, rows


@needs_zip
def test_zip_counts_seeds_and_size(packed):
    z, rows = packed
    split = {s: [r for r in rows if r["split"] == s] for s in ("train", "test")}
    assert len(split["train"]) == 12000 and len(split["test"]) == 3000 and len(rows) == 15000
    seeds = {s: {int(r["seed"]) for r in split[s]} for s in split}
    assert len(seeds["train"]) == 12000 and len(seeds["test"]) == 3000 and not seeds["train"] & seeds["test"]
    assert sorted(r["file_name"] for r in rows) == sorted(n for n in z.namelist() if n != "metadata.csv")
    assert all(r["file_name"].startswith(r["split"] + "/") for r in rows)
    assert ZIP.stat().st_size <= 60e6


@needs_zip
def test_zip_metadata_is_complete(packed):
    _, rows = packed
    wanted = {
        "file_name",
        "split",
        "seed",
        "bed_style",
        "bed_size",
        "wall_colour",
        "wall_rgb",
        "floor",
        "light",
        "windows",
        "camera_distance",
        "camera_height",
        "camera_angle",
        "lens_mm",
    }
    assert wanted <= rows[0].keys()
    assert all(v not in ("", None) for r in rows for v in r.values())
    for row in rows[::1500]:  # the columns are the scene's own factors
        made = rooms.sample_room(int(row["seed"])).factors
        assert {k: str(v) for k, v in made.items()} == {k: row[k] for k in made}


@needs_zip
def test_zip_images_are_pictures(packed):
    z, rows = packed
    for row in rows:
        with Image.open(io.BytesIO(z.read(row["file_name"]))) as image:
            assert image.size == (64, 64) and image.mode == "RGB", row["file_name"]
            pixels = np.asarray(image)
        assert pixels.mean() > 12 and pixels.std() > 4, row["file_name"]
