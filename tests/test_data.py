"""Pictures from folders, zips and the rendered set: geometry, splits, what cannot be read, and the cache."""

import io
import json
import multiprocessing
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from bedgen_utils import data
from bedgen_utils.data import dataset_sha256, load_bedrooms, load_factors

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "real_bedrooms"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("BEDGEN_CACHE", str(folder))
    return folder


def picture(seed, size=(40, 40)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8), "RGB")


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Thirty pictures, nested, of several sizes and formats, beside files that are none."""
    root = tmp_path / "rooms"
    for i in range(30):
        below = root / ["", "a", "a/deep/er"][i % 3]
        below.mkdir(parents=True, exist_ok=True)
        kind = ["png", "jpg", "webp"][i % 3 - 1]
        picture(i, (40 + i, 90 - i)).save(below / f"{i:02}.{kind}")
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden.png").write_bytes(b"no picture either")
    return root


def caches(cache):
    return sorted(cache.glob("*.npy"))


# ---- geometry

@pytest.mark.parametrize("width, height", [(300, 200), (200, 300), (64, 64), (201, 513)])
def test_a_circle_stays_a_circle(tmp_path, width, height):
    image = Image.new("RGB", (width, height), "black")
    radius = min(width, height) * 0.4
    ImageDraw.Draw(image).ellipse([width / 2 - radius, height / 2 - radius, width / 2 + radius, height / 2 + radius],
                                  fill="white")
    image.save(tmp_path / "circle.png")
    x = load_bedrooms("folder", "all", size=64, path=tmp_path)[0, 0].double() / 255
    along_x, along_y = x.sum(0), x.sum(1)
    place = torch.arange(64) + 0.5
    spread = [float((along * (place - (along * place).sum() / along.sum()) ** 2).sum() / along.sum())
              for along in (along_x, along_y)]
    # A disc of radius r has variance r^2/4 along each axis; here r = 0.4 * 64 pixels after the crop.
    assert spread[0] == pytest.approx((0.4 * 64) ** 2 / 4, rel=0.03)
    assert spread[1] == pytest.approx(spread[0], rel=0.02)


def test_the_centre_is_kept(tmp_path):
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, :32, 0], pixels[:, 32:64, 1], pixels[:, 64:, 2] = 255, 255, 255
    Image.fromarray(pixels).save(tmp_path / "three.png")
    x = load_bedrooms("folder", "all", size=32, path=tmp_path)[0]
    assert (x[1] == 255).all() and (x[0] == 0).all() and (x[2] == 0).all()


def test_shrinking_averages(tmp_path):
    """A one-pixel checkerboard becomes even grey; sampling without a widened kernel would keep black or white."""
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).convert("RGB").save(tmp_path / "board.png")
    x = load_bedrooms("folder", "all", size=16, path=tmp_path)[0].double()
    assert (x - 127.5).abs().max() < 3


def test_no_resize_is_exact(tmp_path):
    picture(3, (32, 32)).save(tmp_path / "a.png")
    x = load_bedrooms("folder", "all", size=32, path=tmp_path)[0]
    assert np.array_equal(x.permute(1, 2, 0), picture(3, (32, 32)))


def test_exif_orientation(tmp_path):
    half = Image.new("RGB", (60, 40), "black")
    half.paste("white", (0, 0, 30, 40))
    exif = Image.Exif()
    exif[0x0112] = 6        # the camera was turned: the stored left side is the top
    half.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    x = load_bedrooms("folder", "all", size=32, path=tmp_path)[0].double()
    assert x[:, :12].mean() > 230 and x[:, 20:].mean() < 25


@pytest.mark.parametrize("make, expected", [
    (lambda: Image.new("RGBA", (20, 20), (200, 0, 0, 0)), (255, 255, 255)),
    (lambda: Image.new("L", (20, 20), 77), (77, 77, 77)),
    (lambda: Image.new("1", (20, 20), 1), (255, 255, 255)),
    (lambda: Image.fromarray(np.full((20, 20), 128 * 257, np.uint16)), (128, 128, 128)),
    (lambda: Image.new("RGB", (20, 20), (9, 120, 200)).quantize(4), (9, 120, 200)),
], ids=["transparent", "grey", "one-bit", "16-bit", "palette"])
def test_modes(make, expected):
    x = data.decode(encoded(make()), 8)
    assert x.shape == (3, 8, 8) and x.dtype == np.uint8
    assert np.abs(x.astype(int) - np.array(expected)[:, None, None]).max() <= 1


# ---- what is found, and what is not

def test_folder_nested_and_complete(folder):
    x = load_bedrooms("folder", "all", size=32, path=folder)
    assert x.shape == (30, 3, 32, 32) and x.dtype == torch.uint8
    assert len(load_bedrooms("folder", "all", size=32, limit=7, path=folder)) == 7
    assert torch.equal(load_bedrooms("folder", "all", size=32, limit=7, path=folder), x[:7])


def test_splits_are_disjoint_and_stable(folder):
    parts = {s: load_bedrooms("folder", s, size=16, path=folder) for s in ("train", "test", "all")}
    rows = {s: {p.numpy().tobytes() for p in part} for s, part in parts.items()}
    assert rows["train"] | rows["test"] == rows["all"] and not rows["train"] & rows["test"]
    assert len(rows["test"]) < len(rows["train"])
    (folder / "zz").mkdir()
    picture(99).save(folder / "zz" / "new.png")         # one more picture moves none of the others
    again = {p.numpy().tobytes() for p in load_bedrooms("folder", "test", size=16, path=folder)}
    assert rows["test"] <= again


def test_folders_named_train_and_test_decide(tmp_path):
    for i in range(12):
        below = tmp_path / "x" / ("test" if i < 5 else "train")
        below.mkdir(parents=True, exist_ok=True)
        picture(i).save(below / f"{i}.png")
    assert len(load_bedrooms("folder", "test", path=tmp_path)) == 5
    assert len(load_bedrooms("folder", "train", path=tmp_path)) == 7


def test_unreadable_pictures_are_named_each_time(folder):
    (folder / "a" / "broken.png").write_bytes(b"this is text")
    (folder / "short.jpg").write_bytes(encoded(picture(1), "JPEG")[:400])
    for _ in range(2):      # decoded, then from the cache
        with pytest.warns(UserWarning, match="2 of 32 pictures") as caught:
            x = load_bedrooms("folder", "all", path=folder)
        text = str(caught[0].message)
        assert "a/broken.png" in text and "short.jpg" in text and str(folder) in text
        assert len(x) == 30


def test_nothing_readable_is_an_error(tmp_path):
    (tmp_path / "only.png").write_bytes(b"text")
    with pytest.raises(ValueError, match="only.png"):
        load_bedrooms("folder", "all", path=tmp_path)


@pytest.mark.parametrize("call, error, text", [
    (lambda p: load_bedrooms("folder", path=p / "empty"), ValueError, "no pictures"),
    (lambda p: load_bedrooms("folder", path=p / "absent"), FileNotFoundError, "absent"),
    (lambda p: load_bedrooms("folder"), ValueError, "path="),
    (lambda p: load_bedrooms("zip"), ValueError, "path="),
    (lambda p: load_bedrooms("zip", path=p / "absent.zip"), FileNotFoundError, "absent"),
    (lambda p: load_bedrooms("zip", path=p / "text.zip"), ValueError, "no zip file"),
    (lambda p: load_bedrooms("rendered", path=p / "absent.zip"), FileNotFoundError, "absent"),
    (lambda p: load_bedrooms("folder", "validation", path=p / "rooms"), ValueError, "train, test, all"),
    (lambda p: load_bedrooms("folder", limit=0, path=p / "rooms"), ValueError, "positive"),
    (lambda p: load_bedrooms("lsun"), ValueError, "rendered, folder, zip"),
    (lambda p: load_bedrooms("hub"), ValueError, "rendered, folder, zip"),
    (lambda p: load_bedrooms("Rendered"), ValueError, "rendered, folder, zip"),
])
def test_errors_say_what_is_wrong(tmp_path, folder, call, error, text):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(error, match=text):
        call(tmp_path)


def test_empty_split(tmp_path):
    (tmp_path / "train").mkdir()
    picture(0).save(tmp_path / "train" / "a.png")
    with pytest.raises(ValueError, match='none of the 1 pictures is in split "test"'):
        load_bedrooms("folder", "test", path=tmp_path)


def test_zip_equals_folder(tmp_path, folder):
    archive = tmp_path / "rooms.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for file in folder.rglob("*"):
            if file.is_file():
                z.write(file, file.relative_to(folder).as_posix())
        z.writestr("__MACOSX/00.png", b"resource fork")
    for split in ("train", "test", "all"):
        assert torch.equal(load_bedrooms("zip", split, path=archive), load_bedrooms("folder", split, path=folder))


# ---- the rendered layout

@pytest.fixture
def rendered(tmp_path):
    archive = tmp_path / "bedrooms.zip"
    lines = ["file_name,seed,width_m,lamp,bed,note"]
    with zipfile.ZipFile(archive, "w") as z:
        for split, count in (("train", 11), ("test", 4)):
            for i in range(count):
                name = f"{split}/{i:06}.png"
                z.writestr(name, encoded(Image.new("RGB", (64, 64), (10 * i, i, 200 if split == "test" else 0))))
                lamp, bed = "true" if i % 2 else "false", "double" if i else "1"
                lines.append(f"{name},{i},{3 + i / 8},{lamp},{bed},{i or ''}")
        z.writestr("metadata.csv", "\n".join(lines[:1] + lines[:0:-1]))     # rows in any order
    return archive


def test_rendered_order_matches_factors(rendered):
    for split, count in (("train", 11), ("test", 4), ("all", 15)):
        x, factors = load_bedrooms("rendered", split, path=rendered), load_factors(split, path=rendered)
        assert len(x) == len(factors) == count
        assert [int(v) for v in x[:, 1, 0, 0]] == [f["seed"] for f in factors]
    assert factors[12] == {"file_name": "train/000008.png", "seed": 8, "width_m": 4.0, "lamp": False, "bed": "double",
                           "note": 8}
    assert factors[4]["bed"] == "1" and factors[4]["note"] is None      # one word makes a column text; empty is None


def test_factors_from_jsonl(tmp_path, rendered):
    again = tmp_path / "again.zip"
    with zipfile.ZipFile(rendered) as old, zipfile.ZipFile(again, "w") as new:
        for name in old.namelist():
            if name != "metadata.csv":
                new.writestr(name, old.read(name))
        new.writestr("metadata.jsonl", "".join(json.dumps(f) + "\n" for f in load_factors("all", path=rendered)))
    assert load_factors("test", path=again) == load_factors("test", path=rendered)


def test_damaged_rendered_set_is_an_error(tmp_path, rendered):
    with zipfile.ZipFile(rendered, "a") as z:
        z.writestr("train/000900.png", b"text")
    with pytest.raises(ValueError, match="000900"):
        load_bedrooms("rendered", path=rendered)


def test_the_shipped_set():
    for split, count in (("train", 12_000), ("test", 3_000)):
        x, factors = load_bedrooms("rendered", split, size=64), load_factors(split)
        assert x.shape == (count, 3, 64, 64) and len(factors) == count
        assert x[::50].double().std(dim=(1, 2, 3)).min() > 5       # no blank frame in the sample looked at
    assert dataset_sha256() == data._sha256_of_file(data.RENDERED)


@pytest.mark.skipif(not REAL.is_dir(), reason="the photographs of shared/data/real_bedrooms are not on this machine")
def test_photographs():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = load_bedrooms("folder", "all", size=32, path=REAL)
    assert x.shape == (401, 3, 32, 32)


# ---- the cache

def test_cache_is_used_and_equal(folder, cache, monkeypatch):
    first = load_bedrooms("folder", "all", path=folder)
    assert len(caches(cache)) == 1
    monkeypatch.setattr(data, "decode", None)       # decoding again would fail
    again = load_bedrooms("folder", "all", path=folder)
    assert torch.equal(first, again)
    again.fill_(0)      # a caller's change stays with the caller
    assert torch.equal(first, load_bedrooms("folder", "all", path=folder))
    assert np.array_equal(np.load(caches(cache)[0]), first)     # an ordinary .npy for other tools


def test_cache_follows_content_not_names(folder, cache):
    before, sha = load_bedrooms("folder", "all", path=folder), dataset_sha256("folder", folder)
    victim = folder / "00.webp"
    stat = victim.stat()
    picture(77, (40, 90)).save(victim)
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert dataset_sha256("folder", folder) != sha
    assert not torch.equal(before, load_bedrooms("folder", "all", path=folder))


def test_equal_content_elsewhere_has_the_same_hash(folder, tmp_path):
    moved = tmp_path / "moved"
    sha = dataset_sha256("folder", folder)
    folder.rename(moved)
    assert dataset_sha256("folder", moved) == sha


@pytest.mark.parametrize("damage", [
    lambda b: b[:len(b) // 2], lambda b: b[:-3], lambda b: b[:50], lambda b: b"", lambda b: b[:128],
    lambda b: b[:5000] + bytes([b[5000] ^ 1]) + b[5001:], lambda b: bytes(len(b)), lambda b: b[:-10] + b"x" * 10,
    lambda b: b[:128] + b[128 + 3 * 32 * 32:],
], ids=["half", "no end", "header cut", "empty", "header only", "one bit", "zeros", "end spoilt", "a picture less"])
def test_damaged_cache_is_made_again(folder, cache, damage):
    good = load_bedrooms("folder", "all", path=folder).clone()
    (file,) = caches(cache)
    whole = file.read_bytes()
    file.unlink()       # the old mapping keeps the old file
    file.write_bytes(damage(whole))
    assert torch.equal(load_bedrooms("folder", "all", path=folder), good)
    assert file.read_bytes() == whole


def test_damaged_hash_memo_is_made_again(folder, cache):
    sha = dataset_sha256("folder", folder)
    (memo,) = (cache / "hashes").iterdir()
    memo.write_text(sha[:20])
    assert dataset_sha256("folder", folder) == sha and memo.read_text() == sha


def test_cache_that_cannot_be_written(folder, tmp_path, monkeypatch):
    expected = load_bedrooms("folder", "all", path=folder)
    (tmp_path / "a file").write_text("where a folder should be")       # root may write anywhere, but not below a file
    monkeypatch.setenv("BEDGEN_CACHE", str(tmp_path / "a file" / "cache"))
    with pytest.warns(UserWarning, match="not kept"):
        assert torch.equal(load_bedrooms("folder", "all", path=folder), expected)


def test_a_killed_build_leaves_nothing_that_is_read(folder, cache, monkeypatch):
    def stop_half_way(*args):
        yield from [np.zeros((3, 32, 32), np.uint8)] * 5
        raise KeyboardInterrupt
    monkeypatch.setattr(data, "_decoded", stop_half_way)
    with pytest.raises(KeyboardInterrupt):
        load_bedrooms("folder", "all", path=folder)
    assert caches(cache) == [] and not list(cache.glob("*.tmp"))


def _load(folder, queue, gate):
    gate.wait()
    queue.put(load_bedrooms("folder", "all", path=folder).clone().numpy())


def test_processes_that_build_at_once(folder, cache):
    context = multiprocessing.get_context("spawn")
    queue, gate = context.Queue(), context.Barrier(3)
    workers = [context.Process(target=_load, args=(folder, queue, gate)) for _ in range(3)]
    for w in workers:
        w.start()
    results = [queue.get(timeout=120) for _ in workers]
    for w in workers:
        w.join()
        assert w.exitcode == 0
    assert all(np.array_equal(results[0], r) for r in results) and len(results[0]) == 30
    assert len(caches(cache)) == 1 and not list(cache.glob("*.tmp"))


def test_killed_process_then_another(folder, cache):
    """A process killed with SIGKILL while it writes: the next one finds no cache, builds it, and is right."""
    code = ("import sys, os, signal, bedgen_utils.data as d\n"
            "real = d._decoded\n"
            "def slow(*a):\n"
            "    for i, x in enumerate(real(*a)):\n"
            "        if i == 10: os.kill(os.getpid(), signal.SIGKILL)\n"
            "        yield x\n"
            "d._decoded = slow\n"
            f"d.load_bedrooms('folder', 'all', path={str(folder)!r})")
    died = subprocess.run([sys.executable, "-c", code], cwd=Path(data.__file__).parents[1])
    assert died.returncode == -9 and caches(cache) == [] and len(list(cache.glob("*.tmp"))) == 1
    assert len(load_bedrooms("folder", "all", path=folder)) == 30
