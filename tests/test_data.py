"""Images from folders, zips and the rendered set: geometry, colours, splits, what cannot be read,
and the cache."""

import contextlib
import csv
import errno
import hashlib
import http.server
import io
import itertools
import json
import multiprocessing
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

from bedgen_utils import data, sources
from bedgen_utils.data import decode, load_bedrooms, load_factors
from bedgen_utils.sources import dataset_sha256

REPO = Path(__file__).resolve().parents[1]
REAL = REPO.parent / "shared" / "data" / "real_bedrooms"
posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and byte names of POSIX")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("BEDGEN_CACHE", str(folder))
    return folder


def image(seed, size=(40, 40)):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


def encoded(what, kind="PNG", **options):
    what = what if isinstance(what, Image.Image) else image(what)
    buffer = io.BytesIO()
    what.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, depth, colour, rows, *chunks):
    """A PNG by hand, for depths and chunks that Pillow does not write. rows: packed bytes."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    more = b"".join(chunk(*c) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + more + body + chunk(b"IEND", b"")


@pytest.fixture
def folder(tmp_path):
    """Thirty images, nested, of several sizes and formats, beside files that are none."""
    root = tmp_path / "rooms"
    for i in range(30):
        below = root / ["", "a", "a/deep/er"][i % 3]
        below.mkdir(parents=True, exist_ok=True)
        kind = ["png", "jpg", "webp"][i % 3 - 1]
        image(i, (40 + i, 90 - i)).save(below / f"{i:02}.{kind}")
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_bytes(b"no image either")
    (root / ".thumbnails").mkdir()
    (root / ".thumbnails" / "0.png").write_bytes(encoded(0))
    return root


def zip_of(path, names, **options):
    with zipfile.ZipFile(path, "w", **options) as z:
        for i, name in enumerate(names):
            z.writestr(name, encoded(i))
    return path


def caches(cache):
    return sorted(cache.glob("*.npy"))


def rows(x):
    return {row.numpy().tobytes() for row in x}


def load_all(path, source="folder", size=16):
    """Number of images, and the text of all warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        n = len(load_bedrooms(source, "all", size, path=path))
    return n, " ".join(str(w.message) for w in caught)


# ---- uint8 and float


def test_uint8_and_float_are_inverse():
    levels = torch.arange(256, dtype=torch.uint8)
    x = data.to_float(levels)
    assert x.dtype == torch.float32 and x.min() == -1 and x.max() == 1
    assert x[51] == pytest.approx(51 / 127.5 - 1)
    assert torch.equal(data.to_uint8(x), levels)
    out = data.to_uint8(torch.tensor([-3.0, 3.0, float("inf"), -float("inf"), 0.999]))
    assert out.tolist() == [0, 255, 255, 0, 255]  # clamped, and rounded rather than cut


def test_numbers_of_few_bits_are_not_rounded_before_the_levels():
    x = torch.linspace(-1, 1, 999).bfloat16()
    assert torch.equal(data.to_uint8(x), data.to_uint8(x.float()))


def test_nan_and_other_types_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        data.to_uint8(torch.tensor([0.0, float("nan")]))
    for wrong in (torch.rand(3), torch.ones(3, dtype=torch.int64)):
        with pytest.raises(TypeError, match="uint8"):
            data.to_float(wrong)


@pytest.mark.slow
def test_import_is_light():
    heavy = {"matplotlib", "pandas", "lmdb", "datasets", "pyarrow", "huggingface_hub"}
    code = f"import sys, bedgen_utils.data; print(*{heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout.strip() == ""


# ---- replace_atomically


def test_replacing_keeps_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fails(temporary):
        temporary.write_text("ha")
        assert path.read_text() == "old"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        sources.replace_atomically(path, fails)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.txt"]
    sources.replace_atomically(path, lambda t: t.write_text("new"))
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["x.txt"]


def test_what_killed_writers_left_goes_with_the_next(tmp_path):
    path = tmp_path / "x [1].bin"
    for name, age in (
        (".x [1].bin.old.tmp", 4000),
        (".x [1].bin.new.tmp", 60),
        (".y.old.tmp", 4000),
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    sources.replace_atomically(path, lambda t: t.write_text("new"))
    assert sorted(os.listdir(tmp_path)) == [".x [1].bin.new.tmp", ".y.old.tmp", "x [1].bin"]


def test_two_writers_at_once(tmp_path):
    """Threads, or processes of two containers with one number: each has its own temporary file."""
    path, gate, errors = tmp_path / "x.txt", threading.Barrier(2), []

    def writer(letter):
        def write(temporary):
            gate.wait(5)
            temporary.write_text(letter * 10_000)
            gate.wait(5)

        try:
            sources.replace_atomically(path, write)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=writer, args=(letter,)) for letter in "ab"]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors and path.read_text() in ("a" * 10_000, "b" * 10_000)


@posix
def test_flushed_through_a_writable_handle(tmp_path, monkeypatch):
    """The rule of Windows: a read-only handle cannot be flushed. And flushed it must be."""
    import fcntl

    flushed = []

    def fsync(fd):
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "read-only")
        flushed.append(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    sources.replace_atomically(tmp_path / "x", lambda t: t.write_text("x"))
    assert flushed


# ---- geometry


@pytest.mark.parametrize("width, height", [(300, 200), (200, 300), (64, 64), (201, 513)])
def test_a_circle_stays_a_circle(width, height):
    page, radius = Image.new("RGB", (width, height), "black"), min(width, height) * 0.4
    x, y = width / 2, height / 2
    ImageDraw.Draw(page).ellipse([x - radius, y - radius, x + radius, y + radius], fill="white")
    disc = decode(encoded(page), 64)[0] / 255
    place, spread = np.arange(64) + 0.5, []
    for along in (disc.sum(0), disc.sum(1)):
        centre = (along * place).sum() / along.sum()
        assert centre == pytest.approx(32, abs=0.6)
        spread.append((along * (place - centre) ** 2).sum() / along.sum())
    # A disc of radius r has variance r^2/4 along each axis; here r = 0.4 * 64 pixels.
    assert spread[0] == pytest.approx((0.4 * 64) ** 2 / 4, rel=0.03)
    assert spread[1] == pytest.approx(spread[0], rel=0.02)


def test_the_centre_is_kept():
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, :32, 0], pixels[:, 32:64, 1], pixels[:, 64:, 2] = 255, 255, 255
    x = decode(encoded(Image.fromarray(pixels)), 32)
    assert (x[1] == 255).all() and (x[0] == 0).all() and (x[2] == 0).all()


def test_shrinking_averages():
    """A one-pixel checkerboard becomes even grey; a kernel that is not widened keeps black or
    white."""
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(decode(encoded(Image.fromarray(board)), 16) - 127.5).max() < 3


def test_what_is_resized_is_bicubic():
    page = image(5, (32, 32))
    right = np.asarray(page.resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(decode(encoded(page), 16).transpose(1, 2, 0), right)


@pytest.mark.parametrize("size", [(32, 32), (33, 32), (32, 45), (43, 32)])
def test_what_is_not_resized_is_exact(size):
    """The cut falls between pixels, also where the margins are odd."""
    page = image(3, size)
    left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
    right = np.asarray(page)[top : top + 32, left : left + 32]
    assert np.array_equal(decode(encoded(page), 32).transpose(1, 2, 0), right)


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation(turn):
    """One white quarter; where it belongs follows from the orientation alone."""
    page = Image.new("RGB", (40, 40), "black")
    page.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = turn
    x = decode(encoded(page, "JPEG", exif=exif, quality=95), 32)[0]
    corner = {
        1: (0, 0),
        2: (0, 1),
        3: (1, 1),
        4: (1, 0),
        5: (0, 0),
        6: (0, 1),
        7: (1, 1),
        8: (1, 0),
    }
    quarters = x.reshape(2, 16, 2, 16).mean((1, 3))
    row, column = corner[turn]
    assert quarters[row, column] > 240 and quarters.sum() - quarters[row, column] < 30


def test_exif_that_cannot_be_read_turns_nothing():
    """Pillow raises SyntaxError; browsers show the image as it lies."""
    plain = encoded(0)
    for exif in (b"garbage", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"):
        chunk = b"eXIf" + exif
        chunk = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        odd = plain[:33] + chunk + plain[33:]  # behind the header
        assert np.array_equal(decode(odd, 40), decode(plain, 40)) == (exif == b"garbage")


@pytest.mark.parametrize("start", [b"k\0\0", b"k\0\1\0\0\0"], ids=["zTXt", "iTXt"])
@pytest.mark.parametrize("place", ["before", "behind"])
def test_text_of_any_size_does_not_cost_the_image(start, place):
    """Pillow refuses what unpacks to more than 1 MB."""
    level = png(8, 8, 8, 0, [b"\x40" * 8] * 8)
    body = (b"zTXt" if len(start) == 3 else b"iTXt") + start + zlib.compress(bytes(3 << 20))
    text = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    at = 33 if place == "before" else len(level) - 12
    assert (decode(level[:at] + text + level[at:], 8) == 64).all()
    with pytest.raises(OSError, match="truncated"):
        decode(level[:33] + text + level[33:-30], 8)


def test_much_plain_text_does_not_cost_the_image_either(monkeypatch):
    """Pillow counts it, too, and refuses what is more than 64 MB in all."""
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 1000)
    chunks = [(b"tEXt", b"k%d\0" % i + b"x" * 600) for i in range(2)]
    assert (decode(png(8, 8, 8, 0, [b"\x40" * 8] * 8, *chunks), 8) == 64).all()


# ---- modes and colours


def modes():
    grey16 = [struct.pack(">H", 128 * 257) * 8] * 8
    key16 = struct.pack(">H", 128 * 257)
    pixel16 = struct.pack(">HHH", 180 * 257, 90 * 257, 60 * 257)
    white, grey = (255,) * 3, (128,) * 3
    yield "transparent", encoded(Image.new("RGBA", (8, 8), (200, 0, 0, 0))), white
    yield "half transparent", encoded(Image.new("RGBA", (8, 8), (200, 0, 0, 128))), (227, 127, 127)
    yield "grey", encoded(Image.new("L", (8, 8), 77)), (77,) * 3
    yield "grey and alpha", encoded(Image.new("LA", (8, 8), (77, 0))), white
    yield "one bit", encoded(Image.new("1", (8, 8), 1)), white
    yield "palette", encoded(Image.new("RGB", (8, 8), (9, 120, 200)).quantize(4)), (9, 120, 200)
    yield "CMYK", encoded(Image.new("CMYK", (8, 8), (255, 0, 255, 0)), "TIFF"), (0, 255, 0)
    yield (
        "16-bit TIFF",
        encoded(Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)), "TIFF"),
        grey,
    )
    twelve = encoded(Image.new("L", (8, 12), 0x55), "TIFF")  # 96 bytes: 8 x 8 numbers of 12 bits
    for key, kind, old, new in ((257, 4, 12, 8), (258, 3, 8, 12), (278, 4, 12, 8)):
        entry = [struct.pack("<HHII", key, kind, 1, value) for value in (old, new)]
        twelve = twelve.replace(*entry)
    yield "12-bit TIFF", twelve, (0x55,) * 3
    negative = Image.fromarray(np.full((8, 8), 100 * 257, np.uint16))
    yield "16-bit TIFF, 0 is white", encoded(negative, "TIFF", tiffinfo={262: 0}), (155,) * 3
    yield (
        "8-bit TIFF, 0 is white",
        encoded(Image.new("L", (8, 8), 100), "TIFF", tiffinfo={262: 0}),
        (100,) * 3,
    )
    yield "16-bit grey", png(8, 8, 16, 0, grey16), grey
    yield "16-bit grey, transparent", png(8, 8, 16, 0, grey16, (b"tRNS", key16)), white
    other = struct.pack(">H", 99 * 257)
    yield "16-bit grey, other transparent", png(8, 8, 16, 0, grey16, (b"tRNS", other)), grey
    yield "16-bit colour", png(8, 8, 16, 2, [pixel16 * 8] * 8), (180, 90, 60)
    yield "16-bit transparent", png(8, 8, 16, 2, [pixel16 * 8] * 8, (b"tRNS", pixel16)), white
    clear = (b"tRNS", struct.pack(">HHH", 180, 90, 60))  # no colour of the image
    yield "16-bit other transparent", png(8, 8, 16, 2, [pixel16 * 8] * 8, clear), (180, 90, 60)
    for depth, row in ((1, b"\xff"), (2, b"\xff\xff"), (4, b"\x55" * 4)):
        level = {1: 1, 2: 3, 4: 5}[depth]
        transparent = png(8, 8, depth, 0, [row] * 8, (b"tRNS", struct.pack(">H", level)))
        yield f"{depth}-bit transparent", transparent, white
    black = png(8, 8, 4, 0, [b"\x55" * 4] * 8, (b"tRNS", struct.pack(">H", 0)))
    yield "4-bit, other transparent", black, (85,) * 3
    lit = png(8, 8, 8, 0, [b"\x40" * 8] * 8, (b"gAMA", struct.pack(">I", 100_000)))
    yield "linear gamma", lit, (137,) * 3  # 64 / 255 of the light
    usual = png(8, 8, 8, 0, [b"\x40" * 8] * 8, (b"gAMA", struct.pack(">I", 45_455)))
    yield "usual gamma", usual, (64,) * 3
    both = (b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000))
    yield "gamma below sRGB", png(8, 8, 8, 0, [b"\x40" * 8] * 8, *both), (64,) * 3


@pytest.mark.parametrize(
    "what, right", [(d, r) for _, d, r in modes()], ids=[n for n, *_ in modes()]
)
def test_modes(what, right):
    x = decode(what, 8)
    assert x.shape == (3, 8, 8) and x.dtype == np.uint8
    assert np.abs(x.astype(int) - np.array(right)[:, None, None]).max() <= 1


def test_all_levels_of_16_bits_are_rounded():
    levels = np.arange(1 << 16).reshape(256, 256)
    x = decode(png(256, 256, 16, 0, [row.astype(">u2").tobytes() for row in levels]), 256)
    assert (np.abs(x - levels / 257) <= 0.5).all()


def test_the_transparent_level_of_a_grey_gif_is_one_of_eight_bits():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    x = decode(encoded(Image.fromarray(levels), "GIF", transparency=100), 16)
    assert np.array_equal(x[0], np.where(levels == 100, 255, levels))


@pytest.mark.parametrize("gamma", [0.3, 0.43, 0.45, 0.46, 0.48, 1 / 1.8])
def test_each_level_of_a_gamma(gamma):
    def right(level):
        if gamma in (0.45, 0.46):
            return level  # near 1 / 2.2, which stands for sRGB
        light = (level / 255) ** (1 / gamma)
        return 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)

    chunk = (b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    x = decode(png(16, 16, 8, 0, [bytes(range(i, i + 16)) for i in range(0, 256, 16)], chunk), 16)
    assert np.abs(x[0].ravel() - np.array([right(i) for i in range(256)])).max() < 0.51


@pytest.mark.parametrize("pixels", [np.float32(0.5), np.int32(100_000), np.int32(-5)])
def test_pixels_without_a_known_white_are_refused(pixels):
    with pytest.raises(ValueError, match="pixels"):
        decode(encoded(Image.fromarray(np.full((8, 8), pixels)), "TIFF"), 8)


def icc_profile(columns, gamma):
    """A matrix profile by hand: columns are the XYZ (D50) of red, green and blue; none: of grey."""

    def fixed(*values):
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"cc0\0",
        b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249),
    }
    if not columns:
        tags[b"kTRC"] = curve
    for letter, column in zip(b"rgb" if columns else b"", columns, strict=True):
        tags[bytes([letter]) + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*column)
        tags[bytes([letter]) + b"TRC"] = curve
    return icc(b"mntrRGB XYZ " if columns else b"mntrGRAYXYZ ", tags)


def icc(kind, tags):
    """The file of a profile: its head, the table of its tags, and these."""
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    head = struct.pack(">I4sI", start + len(body), b"lcms", 0x02100000) + kind
    head = (head + struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp").ljust(68, b"\0")
    head = (head + struct.pack(">3i", 63190, 65536, 54061)).ljust(128, b"\0")  # D50
    return head + struct.pack(">I", len(tags)) + table + body


ADOBE = [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)]
SRGB = [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]


@pytest.mark.parametrize(
    "columns, gamma, right",
    # By hand: linearise, multiply by the columns and the inverse of those of sRGB, encode.
    [(ADOBE, 2.2, (205, 89, 56)), (SRGB, 1.0, (217, 160, 133)), (SRGB, 2.2, (180, 90, 58))],
    ids=["Adobe RGB", "linear", "near sRGB"],
)
@pytest.mark.parametrize(
    "mode, kind", [("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "TIFF")]
)
def test_colour_profiles(columns, gamma, right, mode, kind):
    page = Image.new("RGB", (16, 16), (180, 90, 60))
    page = page.quantize(4) if mode == "P" else page.convert(mode)
    x = decode(encoded(page, kind, icc_profile=icc_profile(columns, gamma)), 8)
    assert np.abs(x[:, 4, 4].astype(int) - right).max() <= 3


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_profile_of_grey(mode):
    page = Image.new("L", (8, 8), 64).convert(mode)
    x = decode(encoded(page, icc_profile=icc_profile((), 1.0)), 8)
    assert np.abs(x.astype(int) - 137).max() <= 1  # 64 / 255 of the light


def test_a_profile_of_inks():
    """One after which every mixture is the same grey, but paper is white and all inks are black."""
    curve, levels = bytes(range(256)), [255, *[137] * 14, 0]  # 100 / 255 L* each
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    lut += struct.pack(">9i", *(np.eye(3, dtype=int) * 65536).ravel().tolist())
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"cc0\0",
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061),
        b"A2B0": lut + curve * 4 + b"".join(bytes([v, 128, 128]) for v in levels) + curve * 3,
    }
    page = Image.new("CMYK", (8, 8), (255, 0, 255, 0))
    x = decode(encoded(page, "TIFF", icc_profile=icc(b"prtrCMYKLab ", tags)), 8)
    assert np.abs(x.astype(int) - 128).max() <= 2


def test_profile_of_srgb_changes_nothing_to_speak_of():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    page = image(0, (32, 32))
    x = decode(encoded(page, icc_profile=srgb), 32).transpose(1, 2, 0)
    assert np.abs(x.astype(int) - np.asarray(page)).max() <= 1


@pytest.mark.parametrize("icc", [b"no profile", icc_profile(ADOBE, 2.2)], ids=["damaged", "of RGB"])
def test_a_profile_that_does_not_fit_is_ignored(icc):
    """As browsers do: here an image of grey, which a profile of RGB says nothing about."""
    x = decode(encoded(Image.new("L", (8, 8), 90), icc_profile=icc), 8)
    assert (x == 90).all()


# ---- what is found


def test_folder_nested_and_complete(folder):
    x = load_bedrooms("folder", "all", size=32, path=folder)
    assert x.shape == (30, 3, 32, 32) and x.dtype == torch.uint8
    assert len(rows(x)) == 30
    some = load_bedrooms("folder", "all", size=32, limit=7, path=folder)
    assert len(some) == 7 and torch.equal(some, x[:7])


def test_first_images_are_a_fair_sample(tmp_path):
    for i in range(40):
        (tmp_path / ("dark" if i < 20 else "light")).mkdir(exist_ok=True)
        level = 0 if i < 20 else 255
        Image.new("RGB", (8, 8), (level,) * 3).save(
            tmp_path / ("dark" if i < 20 else "light") / f"{i}.png"
        )
    some = load_bedrooms("folder", "all", 8, limit=20, path=tmp_path).double().mean() / 255
    assert 0.2 < some < 0.8


@pytest.mark.parametrize("ending, kind", [("jfif", "JPEG"), ("JPE", "JPEG"), ("avif", "AVIF")])
def test_less_common_endings(tmp_path, ending, kind):
    (tmp_path / f"a.{ending}").write_bytes(encoded(0, kind))
    (tmp_path / "b.heic").write_bytes(b"what Pillow cannot read is named")
    n, said = load_all(tmp_path)
    assert n == 1 and "b.heic" in said


def test_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "rooms").mkdir()
    image(0).save(tmp_path / "rooms" / "0.png")
    zip_of(tmp_path / "rooms.zip", ["0.png"])
    assert load_all("~/rooms") == load_all("~/rooms.zip", "zip") == (1, "")


def test_folders_of_the_system_are_no_images(tmp_path):
    image(0).save(tmp_path / "0.png")
    for name in ("@eaDir/0.png/THUMB_M.png", "$RECYCLE.BIN/S-1/$R0.png", ".Trash-1000/files/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        image(1).save(tmp_path / name)
    assert load_all(tmp_path) == (1, "")


@posix
def test_a_hidden_link_does_not_take_a_folder_from_a_visible_one(tmp_path):
    root, other = tmp_path / "rooms", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    image(0).save(other / "0.png")
    for name in (".latest", "now"):
        (root / name).symlink_to(other)
    assert sources.Folder(root).names == ["now/0.png"] and not sources.Folder(root).left_out


@posix
def test_links(tmp_path):
    root, other = tmp_path / "rooms", tmp_path / "other"
    for below, first in ((root, 0), (root / "zz", 3), (other, 6)):
        below.mkdir()
        for i in range(first, first + 3):
            image(i).save(below / f"{i}.png")
    os.symlink(other, root / "more")
    assert load_all(root) == (9, "")  # followed, and nothing to tell
    os.symlink(root, root / "loop")
    os.symlink(tmp_path, root / "up")  # else all of the disk may be read
    os.symlink(root / "zz", root / "aa")
    os.symlink("self.png", root / "self.png")
    os.symlink("/nowhere/gone.png", root / "gone.png")
    os.symlink(other / "6.png", root / "linked.png")
    n, said = load_all(root)
    assert n == 10
    assert all(name in said for name in ("loop/", "up/", "aa/", "self.png", "gone.png"))
    assert "zz/" not in said and "linked" not in said and "5 cannot be read" in said


@posix
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path, kind):
    image(0).save(tmp_path / "0.png")
    if kind == "pipe":
        os.mkfifo(tmp_path / "x.png")
    else:
        here = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("x.png")
        os.chdir(here)
    n, said = load_all(tmp_path)
    assert n == 1 and "x.png" in said


@posix
def test_a_pipe_is_no_zip(tmp_path):
    os.mkfifo(tmp_path / "x.zip")
    with pytest.raises(ValueError, match="regular"):
        load_bedrooms("zip", path=tmp_path / "x.zip")


@posix
def test_name_that_is_not_utf8(tmp_path):
    try:
        with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb") as f:
            f.write(encoded(0))
    except OSError as error:
        pytest.skip(f"this file system has no such names: {error}")
    (tmp_path / "short.png").write_bytes(b"x")
    assert load_all(tmp_path)[0] == 1 and len(dataset_sha256("folder", tmp_path)) == 64
    os.rename(os.fsencode(tmp_path) + b"/caf\xe9.png", os.fsencode(tmp_path) + b"/0.png")
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb") as f:
        f.write(b"x")
    said = load_all(tmp_path)[1]
    assert "caf\\udce9.png" in said
    said.encode("utf-8")  # can be printed


def test_folder_that_cannot_be_listed(folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if Path(path).name == "deep":
            raise PermissionError(errno.EACCES, "not yours", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    n, said = load_all(folder)
    assert n == 20 and "a/deep/" in said and "not yours" in said


# ---- splits


def test_splits_are_disjoint_complete_and_stable(folder):
    parts = {s: rows(load_bedrooms("folder", s, 16, path=folder)) for s in sources.SPLITS}
    assert parts["train"] | parts["validation"] | parts["test"] == parts["all"]
    assert sum(len(parts[s]) for s in ("train", "validation", "test")) == 30
    image(99).save(folder / "new.png")  # one more image moves none of the others
    for split in ("train", "validation", "test"):
        assert parts[split] <= rows(load_bedrooms("folder", split, 16, path=folder))


def split_counts(tmp_path, names):
    path = zip_of(tmp_path / "names.zip", names)
    opened, found = sources.open_source("zip", path), {}
    for split in sources.SPLITS[:3]:
        try:
            found[split] = {opened.names[i] for i in sources.choose(opened, split)}
        except ValueError:
            found[split] = set()
    assert set.union(*found.values()) == set(opened.names)
    return found


def test_a_tenth_each_by_the_hash_of_the_name(tmp_path):
    found = split_counts(tmp_path, [f"{i}.png" for i in range(400)])
    assert 25 <= len(found["test"]) <= 55 and 25 <= len(found["validation"]) <= 55
    assert not found["test"] & found["validation"]
    # Fixed for ever: published numbers stand on them.
    assert sorted(found["test"], key=lambda n: int(n[:-4]))[:3] == ["1.png", "20.png", "21.png"]
    assert sorted(found["validation"], key=lambda n: int(n[:-4]))[:3] == [
        "4.png",
        "11.png",
        "19.png",
    ]


@pytest.mark.parametrize("train", ["train", "Training", "TRAIN"])
@pytest.mark.parametrize("validation", ["val", "Valid", "VALIDATION"])
@pytest.mark.parametrize("test", ["test", "TEST"])
def test_folders_decide(tmp_path, train, validation, test):
    names = [f"x/{f}/{i}.png" for f in (train, validation, test) for i in range(3)]
    found = split_counts(tmp_path, names)
    for split, folder in zip(sources.SPLITS, (train, validation, test), strict=False):
        assert found[split] == {n for n in names if f"/{folder}/" in n}


def test_what_has_no_folder_is_held_out_of_the_rest(tmp_path):
    names = [f"{f}/{i}.png" for f in ("train", "test", "other") for i in range(100)]
    found = split_counts(tmp_path, names)
    assert found["test"] == {n for n in names if n.startswith("test/")}
    assert 8 <= len(found["validation"]) <= 40
    assert not any(n.startswith("test/") for n in found["validation"] | found["train"])
    only = split_counts(
        tmp_path, [f"val/{i}.png" for i in range(9)] + [f"{i}.png" for i in range(99)]
    )
    assert only["validation"] == {f"val/{i}.png" for i in range(9)} and 3 <= len(only["test"]) <= 20


def test_the_first_part_decides_and_each_image_has_one_split(tmp_path):
    found = split_counts(
        tmp_path, ["train/test/a.png", "test/train/b.png", "val/c.png", "test.png"]
    )
    assert "train/test/a.png" in found["train"] and "test/train/b.png" in found["test"]
    assert sum(map(len, found.values())) == 4 and "test.png" in found["train"]  # no folder


def test_what_is_known_to_be_unreadable_is_in_no_split(tmp_path):
    opened = sources.open_source("zip", zip_of(tmp_path / "a.zip", ["a.png", "train/b.png"]))
    opened.left_out["train/b.png"] = "no permission"
    for split in ("all", "train"):
        assert "train/b.png" not in [opened.names[i] for i in sources.choose(opened, split)]


def test_of_many_that_are_left_out_ten_are_listed():
    said = [sources.listed({f"{i}.png": "why" for i in range(n)}) for n in (10, 11)]
    assert "9.png (why)" in said[0] and "…" not in said[0]
    assert said[1].startswith("; 11 cannot") and said[1].endswith("; 9.png (why); …")


def test_the_hash_of_a_file_is_that_of_all_of_it(tmp_path):
    content = np.random.default_rng(0).bytes((5 << 20) // 2)  # more than is read at once
    (tmp_path / "large").write_bytes(content)
    assert sources._sha256_of_file(tmp_path / "large") == hashlib.sha256(content).hexdigest()


def test_empty_split(tmp_path):
    path = zip_of(tmp_path / "a.zip", ["train/a.png", "test/b.png"])
    with pytest.raises(ValueError, match='none of the 2 images is in split "validation"'):
        load_bedrooms("zip", "validation", path=path)


# ---- what cannot be read


def test_unreadable_images_are_named_each_time(folder):
    (folder / "a" / "broken.png").write_bytes(b"this is text")
    (folder / "short.jpg").write_bytes(encoded(image(1), "JPEG")[:400])
    for _ in range(2):  # decoded, then from the cache
        n, said = load_all(folder)
        assert n == 30 and "2 cannot be read" in said
        assert "a/broken.png" in said and "short.jpg" in said and str(folder) in said
        assert " at 0x" not in said  # no addresses, which differ each time
    with pytest.warns(UserWarning, match="2 cannot be read") as caught:
        load_bedrooms("folder", "all", 16, path=folder)
    assert [w.filename for w in caught] == [__file__]  # at the line that called


def test_nothing_readable_is_an_error(tmp_path):
    (tmp_path / "only.png").write_bytes(b"text")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="only.png"):
            load_bedrooms("folder", "all", path=tmp_path)


def test_file_that_cannot_be_opened_is_named_until_it_can(folder, cache, monkeypatch):
    """root may open everything, so the disk is made to fail."""
    real = open

    def fails(path, *args, **kwargs):
        if str(path).endswith("00.webp"):
            raise OSError(errno.EIO, "the disk", str(path))
        return real(path, *args, **kwargs)

    with monkeypatch.context() as m:
        m.setattr("builtins.open", fails)
        for _ in range(2):
            n, said = load_all(folder)
            assert n == 29 and "00.webp" in said
    assert load_all(folder) == (30, "")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "the disk"), MemoryError()])
def test_errors_that_may_pass_are_not_cached(folder, monkeypatch, error):
    """Hashed while all was well; gone, or unreadable, when it came to decoding."""
    real = sources.Folder.read

    def fails(self, name):
        if name == "00.webp":
            raise error
        return real(self, name)

    with monkeypatch.context() as m:
        m.setattr(sources.Folder, "read", fails)
        n, said = load_all(folder)
        assert n == 29 and "00.webp" in said and "not kept" in said
    assert load_all(folder) == (30, "")


def test_what_changes_between_hash_and_decoding_is_not_cached(folder, cache, monkeypatch):
    real = data._decoded

    def decoded(*args):
        image(77, (40, 90)).save(folder / "00.webp")
        return real(*args)

    old = (folder / "00.webp").read_bytes()
    with monkeypatch.context() as m:
        m.setattr(data, "_decoded", decoded)
        with pytest.warns(UserWarning, match="changed while"):
            load_bedrooms("folder", "all", path=folder)
    assert not list(cache.glob(".*.part"))
    (folder / "00.webp").write_bytes(old)
    right = decode(old, 32).tobytes()
    assert right in rows(load_bedrooms("folder", "all", path=folder))


def test_large_files_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES", 1 << 20)
    path = zip_of(tmp_path / "bomb.zip", ["0.png"])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as z:
        z.writestr("bomb.png", bytes(64 << 20))  # 64 kB in the zip
    tracemalloc.start()
    n, said = load_all(path, "zip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n == 1 and "bomb.png" in said and "1 MiB" in said and peak < 16 << 20


def test_images_of_too_many_pixels_are_named(tmp_path):
    """A few bytes that promise 3.6 GB."""
    image(0).save(tmp_path / "0.png")
    (tmp_path / "bomb.png").write_bytes(png(30_000, 30_000, 8, 2, [bytes(90_000)] * 9))
    n, said = load_all(tmp_path)
    assert n == 1 and "bomb.png" in said and "DecompressionBomb" in said


@pytest.mark.parametrize("many, most", [(100, 1), (1 << 24, 4)])
def test_large_images_are_decoded_one_after_the_other(tmp_path, monkeypatch, many, most):
    """Eight of 100 million pixels at once would take 5 GB."""
    inside, seen, real = [], [], data._eight_bits

    def slow(*arguments):
        inside.append(1)
        time.sleep(0.02)
        seen.append(len(inside))
        inside.pop()
        return real(*arguments)

    for i in range(8):
        image(i).save(tmp_path / f"{i}.bmp")
    monkeypatch.setattr(data, "MANY_PIXELS", many)
    monkeypatch.setattr(data, "_eight_bits", slow)
    monkeypatch.setattr(data.os, "cpu_count", lambda: 4)
    assert load_all(tmp_path)[0] == 8
    assert max(seen) == 1 if most == 1 else 1 < max(seen) <= most


def test_few_encoded_images_are_in_memory_at_once(tmp_path):
    page = encoded(image(0, (600, 600)), "BMP")  # 1 MB
    for i in range(40):
        (tmp_path / f"{i}.bmp").write_bytes(page)
    tracemalloc.start()
    load_all(tmp_path, size=8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25 << 20


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda p: load_bedrooms("folder", path=p / "empty"), ValueError, "no images"),
        (lambda p: load_bedrooms("folder", path=p / "absent"), FileNotFoundError, "absent"),
        (lambda p: load_bedrooms("folder"), ValueError, "path="),
        (lambda p: load_bedrooms("zip"), ValueError, "path="),
        (lambda p: load_bedrooms("folder:"), ValueError, "path="),
        (lambda p: load_bedrooms("folder", path=""), ValueError, "path="),
        (lambda p: load_bedrooms("zip", path=p / "absent.zip"), FileNotFoundError, "absent"),
        (lambda p: load_bedrooms("zip", path=p / "text.zip"), ValueError, "no zip file"),
        (lambda p: load_bedrooms("zip", path=p / "empty"), ValueError, "regular"),
        (lambda p: load_bedrooms("rendered", path=p / "absent.zip"), FileNotFoundError, "absent"),
        (
            lambda p: load_bedrooms("folder", "dev", path=p / "rooms"),
            ValueError,
            "train, validation, test, all",
        ),
        (lambda p: load_bedrooms("folder", limit=0, path=p / "rooms"), ValueError, "positive"),
        (lambda p: load_bedrooms("folder", size=0, path=p / "rooms"), ValueError, "positive"),
        (lambda p: load_bedrooms("Rendered"), ValueError, "rendered, folder, zip"),
        (lambda p: dataset_sha256("lmdb"), ValueError, "rendered, folder, zip"),
    ],
)
def test_errors_say_what_is_wrong(tmp_path, folder, call, error, text):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(error, match=text):
        call(tmp_path)


# ---- zips


def test_zip_equals_folder(tmp_path, folder):
    archive = tmp_path / "rooms.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for file in folder.rglob("*"):
            z.write(file, file.relative_to(folder).as_posix())
        z.writestr("__MACOSX/00.png", b"resource fork")
    for split in sources.SPLITS:
        of_zip = load_bedrooms("zip", split, path=archive)
        assert torch.equal(of_zip, load_bedrooms("folder", split, path=folder))
    assert dataset_sha256("zip", archive) == sources._sha256_of_file(archive)


@pytest.mark.parametrize("method", ["STORED", "DEFLATED", "BZIP2", "LZMA"])
def test_damaged_member_is_named(tmp_path, method):
    path = zip_of(tmp_path / "a.zip", [f"{i}.png" for i in range(4)])
    path = zip_of(
        path, [f"{i}.png" for i in range(4)], compression=getattr(zipfile, f"ZIP_{method}")
    )
    content = bytearray(path.read_bytes())
    content[120:400] = bytes(280)
    path.write_bytes(content)
    for _ in range(2):
        n, said = load_all(path, "zip")
        assert n == 3 and "0.png" in said


def test_threads_read_a_zip_one_after_the_other(tmp_path):
    opened = sources.open_source("zip", zip_of(tmp_path / "a.zip", [f"{i}.png" for i in range(8)]))
    inside, most, really = [], [], opened.file.open

    @contextlib.contextmanager
    def slow(member):
        inside.append(member)
        most.append(len(inside))
        time.sleep(0.01)
        with really(member) as file:
            yield file
        inside.remove(member)

    opened.file.open = slow
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(opened.read, opened.names))
    assert len(most) == 8 and max(most) == 1


def test_member_that_ends_early_is_named(tmp_path):
    path = zip_of(tmp_path / "a.zip", [f"{i}.png" for i in range(4)])
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<II", 10**6, 10**6)
    path.write_bytes(content)
    n, said = load_all(path, "zip")
    assert n == 3 and "3.png" in said


def test_backslashes_in_names(tmp_path):
    path = tmp_path / "powershell.zip"
    with zipfile.ZipFile(path, "w") as z:
        for i in range(20):
            entry = zipfile.ZipInfo("x")
            entry.filename = ("train" if i < 8 else "test") + f"\\{i}.png"
            z.writestr(entry, encoded(i))
    assert len(load_bedrooms("zip", "test", path=path)) == 12


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_equal_names_the_later_counts(tmp_path):
    path = zip_of(tmp_path / "a.zip", ["a.png", "b.png", "a.png"])
    n, said = load_all(path, "zip", 40)
    assert n == 2 and "a.png (earlier)" in said
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = load_bedrooms("zip", "all", 40, path=path)
    assert rows(x) == {decode(encoded(i), 40).tobytes() for i in (1, 2)}


# ---- LSUN: its LMDB, the copy on Kaggle, the copy on the hub


KEYS = [hashlib.sha1(b"%d" % i).hexdigest() for i in range(60)]


def environment(folder, keys, values):
    """An LMDB environment as LSUN gives them out: keys of 40 digits, encoded images."""
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=1 << 28) as env, env.begin(write=True) as transaction:
        for key, value in zip(keys, values, strict=True):
            transaction.put(key if isinstance(key, bytes) else key.encode(), value)
    return folder


def page(i):
    """WebP and JPEG in turn, as LSUN has them."""
    return encoded(image(i, (48, 40 + i)), ["WEBP", "JPEG"][i % 2])


@pytest.fixture
def lsun(tmp_path):
    """A folder with 50 training images and 10 for validation."""
    pages = [page(i) for i in range(60)]
    environment(tmp_path / "lsun" / "bedroom_train_lmdb", KEYS[:50], pages[:50])
    environment(tmp_path / "lsun" / "bedroom_val_lmdb", KEYS[50:], pages[50:])
    return tmp_path / "lsun"


def pixels(numbers):
    return {decode(page(i), 32).tobytes() for i in numbers}


def test_lsun_splits(lsun):
    """Training and validation as the folders say; the test images by the hash of their keys."""
    test = {
        i
        for i in range(50)
        if int(hashlib.sha256(f"train/{KEYS[i]}".encode()).hexdigest()[:16], 16) % 10 == 0
    }
    assert 1 <= len(test) <= 12
    found = {s: rows(load_bedrooms("lsun", s, path=lsun)) for s in sources.SPLITS}
    assert found["train"] == pixels(set(range(50)) - test)
    assert found["validation"] == pixels(range(50, 60)) and found["test"] == pixels(test)
    assert found["all"] == pixels(range(60))
    alone = lsun / "bedroom_train_lmdb"  # no validation folder: another tenth
    assert rows(load_bedrooms("lsun", "test", path=alone)) == found["test"]
    validation = rows(load_bedrooms("lsun", "validation", path=alone))
    assert validation and validation < found["train"]
    assert rows(load_bedrooms("lsun", "train", path=alone)) == found["train"] - validation
    assert len(load_bedrooms("lsun", "validation", path=lsun / "bedroom_val_lmdb")) == 10
    with pytest.raises(ValueError, match='in split "train"'):
        load_bedrooms("lsun", "train", path=lsun / "bedroom_val_lmdb")


def test_lsun_equals_a_folder_of_its_files(lsun, tmp_path):
    """Same names, so same splits and the same order."""
    for i in range(60):
        below = tmp_path / "files" / ("train" if i < 50 else "validation")
        below.mkdir(parents=True, exist_ok=True)
        (below / KEYS[i]).with_suffix(".jpg").write_bytes(page(i))
    names = sources.Folder(tmp_path / "files").names
    assert [n.removesuffix(".jpg") for n in names] == list(sources.Lmdb(lsun).names)


def test_lsun_writes_only_into_the_cache(lsun, tmp_path, cache, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in lsun.rglob("*")}
    load_bedrooms("lsun", path=lsun)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in lsun.rglob("*")} == before
    assert os.listdir() == []
    (kept, other) = sorted((cache / "keys").glob("*.npy"), key=lambda p: p.stat().st_size)
    assert np.load(other).tolist() == sorted(k.encode() for k in KEYS[:50])
    assert np.load(kept).tolist() == sorted(k.encode() for k in KEYS[50:])


def test_lsun_that_was_replaced_has_its_own_keys(tmp_path):
    place = tmp_path / "bedroom_train_lmdb"
    for keys in (KEYS[:3], KEYS[3:8]):
        shutil.rmtree(place, ignore_errors=True)
        environment(place, keys, [page(i) for i in range(len(keys))])
        assert sorted(sources.Lmdb(place).names) == sorted(f"train/{key}" for key in keys)


def test_lsun_hash_sees_every_byte(lsun, cache):
    """It is what sha256sum says, and follows a change that keeps the size."""
    digests = {
        n: hashlib.sha256((lsun / n / "data.mdb").read_bytes()).hexdigest()
        for n in ("bedroom_train_lmdb", "bedroom_val_lmdb")
    }
    listing = "".join(f"{d}  {n}/data.mdb\n" for n, d in digests.items())
    before = dataset_sha256("lsun", lsun)
    assert before == hashlib.sha256(listing.encode()).hexdigest()
    pages = [page(i) for i in range(60)]
    old, new = encoded(Image.new("RGB", (8, 8)), "BMP"), encoded(image(1, (8, 8)), "BMP")
    first, second = (
        environment(lsun / n / "bedroom_train_lmdb", KEYS[:3], [value, *pages[:2]])
        for n, value in (("first", old), ("second", new))
    )
    assert len(old) == len(new) and dataset_sha256("lsun", first) != dataset_sha256("lsun", second)


def test_lsun_members_that_are_corrupt_are_named(tmp_path):
    values = [page(0), page(1)[:200], b"", b"text"]
    path = environment(tmp_path / "bedroom_train_lmdb", KEYS[:4], values)
    for _ in range(2):
        n, said = load_all(path, "lsun")
        assert n == 1 and "3 cannot be read" in said
        assert all(f"train/{key}" in said for key in KEYS[1:4])


def test_lsun_keys_of_other_kinds(tmp_path):
    """Of any length, with folders in them, and not UTF-8."""
    keys = [b"a", b"val/x.jpg", b"\xe9" * 30, b"0" * 200]
    path = environment(tmp_path / "rooms", keys, [page(i) for i in range(4)])
    assert rows(load_bedrooms("lsun", "all", path=path)) == pixels(range(4))
    assert {n[:6] for n in sources.Lmdb(path).names} == {"train/"}  # such a folder trains


def test_lsun_that_was_cut_short_is_an_error(lsun, tmp_path):
    """Reading beyond the end of the file would kill the process."""
    data_file = lsun / "bedroom_train_lmdb" / "data.mdb"
    content = data_file.read_bytes()
    for length, text in ((len(content) - 4096, "lacks 4,096 bytes"), (5000, ""), (0, "")):
        other = tmp_path / str(length) / "bedroom_train_lmdb"
        other.mkdir(parents=True)
        (other / "data.mdb").write_bytes(content[:length])
        with pytest.raises(ValueError, match=text or "no LMDB|cut short"):
            load_bedrooms("lsun", path=other)


def test_lsun_with_a_damaged_page_is_an_error(tmp_path):
    folder = tmp_path / "bedroom_train_lmdb"
    environment(folder, KEYS[:50], [page(i) for i in range(50)])
    path = folder / "data.mdb"
    content = bytearray(path.read_bytes())
    for at in range(2 * 4096, len(content), 4096):  # what is a leaf now claims to be none
        if content[at + 10] == 2:
            content[at + 10] = 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match="data.mdb cannot be read, it is damaged"):
        load_bedrooms("lsun", path=folder)


def test_lsun_in_threads(lsun, cache):
    """lmdb opens no environment twice in a process: the loads share it."""
    results, jobs = [], []
    for split in ("train", "validation", "test", "all"):
        job = threading.Thread(
            target=lambda s=split: results.append((s, len(load_bedrooms("lsun", s, path=lsun))))
        )
        jobs.append(job)
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    found = dict(results)
    assert found["all"] == 60 and found["validation"] == 10
    assert found["train"] + found["test"] == 50


class Rooms(torch.utils.data.Dataset):
    """Reads from the source, in whatever process."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source.names)

    def __getitem__(self, i):
        return torch.from_numpy(decode(self.source.read(self.source.names[i]), 32).copy())


class Prepared(torch.utils.data.Dataset):
    """Maps the prepared file in each worker, as ``load_bedrooms`` advises for large sets."""

    def __init__(self, path):
        self.path, self.images = path, None

    def __len__(self):
        return 60

    def __getitem__(self, i):
        if self.images is None:
            self.images = load_bedrooms("lsun", "all", path=self.path)
        return self.images[i]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tensor", "prepared", "lsun", "zip"])
def test_workers_under_spawn(lsun, tmp_path, kind):
    if kind == "lsun":
        of = Rooms(sources.Lmdb(lsun))
        of[0]  # an open environment must not travel
        expected = rows(load_bedrooms("lsun", "all", path=lsun))
    elif kind == "zip":
        of = Rooms(sources.Zip(zip_of(tmp_path / "a.zip", [f"{i}.png" for i in range(5)])))
        expected = {of[i].numpy().tobytes() for i in range(5)}
    else:
        images = load_bedrooms("lsun", "all", path=lsun)
        of = images if kind == "tensor" else Prepared(lsun)
        expected = rows(images)
    loader = torch.utils.data.DataLoader(
        of, batch_size=7, num_workers=2, multiprocessing_context="spawn"
    )
    assert rows(torch.cat(list(loader))) == expected


def test_the_folder_from_kaggle(tmp_path):
    """Nested by the first characters of the key; no folder says a split, so hashes hold out."""
    for i, key in enumerate(KEYS):
        below = tmp_path / "lsun_bedroom" / "data0" / "lsun" / "bedroom" / "/".join(key[:3])
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{key}.jpg").write_bytes(page(i))
    parts = [
        rows(load_bedrooms("folder", s, path=tmp_path / "lsun_bedroom")) for s in sources.SPLITS[:3]
    ]
    assert sum(map(len, parts)) == 60 and set.union(*parts) == pixels(range(60))
    assert all(1 <= len(part) <= 15 for part in parts[1:])


def write_parquet(path, numbers, of=page):
    """As ``datasets.push_to_hub`` writes it: a struct of bytes and path, row groups of 10."""
    import datasets

    features = datasets.Features({"image": datasets.Image()})
    images = [{"bytes": of(i), "path": None} for i in numbers]
    table = datasets.Dataset.from_dict({"image": images}, features=features)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(str(path), batch_size=10)


@pytest.fixture
def parquet(tmp_path, monkeypatch):
    """A copy of the hub's layout: 40 rows for training in two files, 20 for testing."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    root = tmp_path / "hub"
    write_parquet(root / "data" / "train-00000-of-00002-5beebd96eb33b02b.parquet", range(25))
    write_parquet(root / "data" / "train-00001-of-00002-5f4afcffcee57481.parquet", range(25, 40))
    write_parquet(root / "data" / "test-00000-of-00001-7c2280a6897e2462.parquet", range(40, 60))
    return root


def held_out(rows_of_training):
    """Numbers of the training rows that validate, by the rule for all sources."""
    return [
        i
        for i in range(rows_of_training)
        if int(hashlib.sha256(f"train/{i:07}".encode()).hexdigest()[:16], 16) % 10 == 1
    ]


def test_parquet_splits_and_order(parquet):
    validation = held_out(40)
    assert validation
    numbers = {"test": range(40, 60), "validation": validation}
    numbers["train"] = [i for i in range(40) if i not in validation]
    for split, right in numbers.items():
        x = load_bedrooms("hub", split, path=parquet)
        assert [r.numpy().tobytes() for r in x] == [decode(page(i), 32).tobytes() for i in right]
    assert len(load_bedrooms("hub", "all", path=parquet)) == 60
    assert torch.equal(load_bedrooms("hub", "train", 16, 5, parquet), x.new_tensor(
        np.stack([decode(page(i), 16) for i in numbers["train"][:5]])
    ))  # fmt: skip
    names = sorted(p.relative_to(parquet).as_posix() for p in parquet.rglob("*.parquet"))
    listing = "".join(f"{sources._sha256_of_file(parquet / n)}  {n}\n" for n in names)
    assert dataset_sha256("hub", parquet) == hashlib.sha256(listing.encode()).hexdigest()


def test_parquet_rows_that_are_corrupt_are_named(tmp_path):
    bad = {3: b"", 7: b"text", 12: page(12)[:200]}
    write_parquet(tmp_path / "train.parquet", range(20), lambda i: bad.get(i, page(i)))
    n, said = load_all(tmp_path, "hub")
    assert n == 17 and all(f"train/{i:07}" in said for i in bad)


def test_parquet_rows_without_an_image_are_named(tmp_path):
    import pyarrow.parquet

    rows = [{"bytes": page(i), "path": None} for i in range(9)]
    rows += [{"bytes": None, "path": "room.png"}, None]
    table = pyarrow.table({"image": rows})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    n, said = load_all(tmp_path, "hub")
    assert n == 9 and said.count("holds no image") == 2
    assert "train/0000009" in said and "train/0000010" in said


@pytest.mark.parametrize("damage", ["cut", "empty", "page"])
def test_damaged_parquet_is_named(tmp_path, damage):
    write_parquet(tmp_path / "train-00000-of-00002.parquet", range(20))
    path = tmp_path / "train-00001-of-00002.parquet"
    write_parquet(path, range(20))
    content = path.read_bytes()
    broken = content[:4] + bytes(60) + content[64:]  # the header of its first page
    path.write_bytes({"cut": content[:-9], "empty": b"", "page": broken}[damage])
    where = f"{tmp_path}, row 20 of train," if damage == "page" else str(path)
    with pytest.raises(ValueError, match=f"{re.escape(where)} cannot be read"):
        load_bedrooms("hub", path=tmp_path)


def test_folder_without_such_parquet(tmp_path):
    import pyarrow.parquet

    table = pyarrow.table({"text": ["a"]})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(ValueError, match='column "image"'):
        load_bedrooms("hub", path=tmp_path)


@pytest.mark.parametrize("name", ["absent", "owner/name", "owner/name@main", "owner/name@274fa3d"])
def test_what_names_no_commit_is_not_downloaded(name, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(FileNotFoundError, match="OWNER/NAME@COMMIT"):
        load_bedrooms("hub", path=name)


def test_only_the_hub_uses_the_network(folder, lsun, parquet, rendered, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network is used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    archive = zip_of(tmp_path / "a.zip", [f"{i}.png" for i in range(20)])
    for source, path in {
        "rendered": rendered, "folder": folder, "zip": archive, "lsun": lsun, "hub": parquet,
    }.items():  # fmt: skip
        load_bedrooms(source, "train", path=path)
    with pytest.raises(Exception, match="network|connect|offline"):
        load_bedrooms("hub")


@pytest.mark.parametrize("source, package", [("lsun", "lmdb"), ("hub", "datasets")])
def test_a_package_that_is_not_installed_is_named(source, package, lsun, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="pip install datasets lmdb"):
        load_bedrooms(source, path=lsun)


COMMIT = "274fa3dcfe3f703f5fe8c92c5a2d309d01452eec"


class HubServer(http.server.BaseHTTPRequestHandler):
    """The few answers of the Hugging Face hub that a download needs, for the files in ``root``.
    ``cut`` answers end after 1,000 bytes, as where a line breaks; ``spoilt`` has one wrong bit."""

    root, cut, spoilt, log = Path(), 0, False, []

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        kind, start = type(self), 0
        kind.log.append((self.command, self.path, self.headers.get("Range")))
        if self.path.startswith(f"/api/datasets/owner/rooms/revision/{COMMIT}"):
            siblings = [{"rfilename": ".gitattributes", "size": 3, "blobId": "0" * 40}]
            for path in sorted(self.root.rglob("*.parquet")):
                lfs = {"size": path.stat().st_size, "sha256": self.sha(path), "pointerSize": 134}
                name = path.relative_to(self.root).as_posix()
                siblings.append({"rfilename": name, "size": lfs["size"], "lfs": lfs})
            answer = {"id": "owner/rooms", "sha": COMMIT, "siblings": siblings}
            return self.answer(200, json.dumps(answer).encode(), {})
        prefix = f"/datasets/owner/rooms/resolve/{COMMIT}/"
        path = self.root / self.path.removeprefix(prefix)
        if not (self.path.startswith(prefix) and path.is_file()):
            return self.answer(404, b"", {})
        body = path.read_bytes()
        headers = {"ETag": f'"{self.sha(path)}"', "X-Repo-Commit": COMMIT}
        headers["Accept-Ranges"] = "bytes"
        if self.spoilt:
            body = body[:500] + bytes([body[500] ^ 1]) + body[501:]
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.answer(206 if asked else 200, body[start:], headers)

    @staticmethod
    def sha(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def answer(self, status, body, headers):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            if "ETag" in headers and type(self).cut > 0:
                type(self).cut -= 1
                body = body[:1000]
                self.close_connection = True
            self.wfile.write(body)


@pytest.fixture
def hub(parquet, tmp_path):
    """A call of ``load_bedrooms("hub", …)`` in a process whose hub is a server of our own."""
    kind = type("Served", (HubServer,), {"root": parquet, "log": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "no_proxy": "127.0.0.1",
        }
        code = (
            "import sys, hashlib; from bedgen_utils.data import load_bedrooms as f;"
            f"x = f('hub', 'all', path='owner/rooms@{COMMIT}');"
            "print(len(x), hashlib.sha256(x.numpy().tobytes()).hexdigest())"
        )

        def call(before=""):
            return subprocess.run(
                [sys.executable, "-c", before + code],
                cwd=REPO,
                env=env,
                capture_output=True,
                text=True,
            )

        yield kind, call
        server.shutdown()


def test_a_download_that_is_not_what_the_hub_states_is_removed(tmp_path, monkeypatch):
    from types import SimpleNamespace as Fake

    content, folder = b"PAR1 and more", tmp_path / "hub" / "snapshot"
    stated = Fake(sha256="0" * 64)
    listed = [Fake(rfilename="data/a.parquet", size=len(content), lfs=stated)]

    def fetch(repo, name, **where):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return str(path)

    fake = Fake(
        constants=Fake(HF_HUB_CACHE=str(tmp_path / "hub")),
        HfApi=lambda: Fake(dataset_info=lambda *_, **__: Fake(siblings=listed)),
        try_to_load_from_cache=lambda *_, **__: None,
        hf_hub_download=fetch,
    )
    monkeypatch.setattr(sources, "_extra", lambda module: fake)
    with pytest.raises(OSError, match=r"data/a\.parquet of owner/rooms.* came damaged"):
        sources._download(f"owner/rooms@{COMMIT}")
    assert not (folder / "data" / "a.parquet").exists()
    stated.sha256 = hashlib.sha256(content).hexdigest()
    assert sources._download(f"owner/rooms@{COMMIT}") == folder


@pytest.mark.slow
def test_download_from_the_hub(hub, parquet, cache, tmp_path):
    kind, call = hub
    right = load_bedrooms("hub", "all", path=parquet)
    expected = f"60 {hashlib.sha256(right.numpy().tobytes()).hexdigest()}"
    shutil.rmtree(cache)
    first = call()
    assert first.stdout.strip() == expected, first.stderr
    assert sum(c == "GET" and "/resolve/" in p for c, p, _ in kind.log) == 3
    kind.log.clear()
    assert call().stdout.strip() == expected and kind.log == []  # no network the second time


@pytest.mark.slow
def test_download_that_is_cut_off_goes_on(hub):
    kind, call = hub
    kind.cut = 1
    done = call("import huggingface_hub.constants as c; c.DOWNLOAD_CHUNK_SIZE = 500;")
    for _ in range(3):  # the client may try again by itself
        if done.returncode == 0:
            break
        done = call()
    assert done.stdout.startswith("60 "), done.stderr
    assert "bytes=1000-" in [asked for _, _, asked in kind.log]


@pytest.mark.slow
def test_download_that_comes_damaged_is_refused(hub):
    kind, call = hub
    kind.spoilt = True
    done = call()
    assert done.returncode != 0 and "came damaged" in done.stderr
    kind.spoilt = False
    assert call().stdout.startswith("60 ")


# ---- the rendered layout


@pytest.fixture
def rendered(tmp_path):
    """Three splits, each with its table; the rows of a table stand in any order."""
    archive = tmp_path / "bedrooms.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for split, count in (("train", 11), ("validation", 3), ("test", 4)):
            lines = ["file_name,seed,width_m,lamp,bed,note"]
            for i in range(count):
                name = f"{i:06}.png"
                blue = {"train": 0, "validation": 100, "test": 200}[split]
                z.writestr(
                    f"{split}/{name}", encoded(Image.new("RGB", (64, 64), (10 * i, i, blue)))
                )
                lamp, bed = "True" if i % 2 else "false", "double" if i else "1"
                lines.append(f"{name},{i},{3 + i / 8},{lamp},{bed},{i or ''}")
            z.writestr(f"{split}/metadata.csv", "\n".join(lines[:1] + lines[:0:-1]))
    return archive


def rewritten(archive, change):
    """A copy of a zip; change(name, bytes) gives (name, bytes) or None."""
    copy = archive.with_name("copy.zip")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            if (changed := change(name, old.read(name))) is not None:
                new.writestr(*changed)
    return copy


def test_rendered_order_matches_factors(rendered):
    for split, count in (("train", 11), ("validation", 3), ("test", 4), ("all", 18)):
        load_bedrooms("zip", split, path=rendered)  # the same file, shuffled: another entry
        x, factors = load_bedrooms("rendered", split, path=rendered), load_factors(split, rendered)
        assert len(x) == len(factors) == count
        assert [int(v) for v in x[:, 1, 0, 0]] == [f["seed"] for f in factors]
    assert {int(v) for v in load_bedrooms("rendered", "test", path=rendered)[:, 2, 0, 0]} == {200}
    factors = load_factors("train", rendered)
    right = {"file_name": "train/000008.png", "seed": 8, "width_m": 4.0, "lamp": False}
    assert factors[8] == right | {"bed": "double", "note": 8}
    assert factors[0]["bed"] == "1"  # one word makes a column text, in every table
    assert factors[0]["note"] is None and factors[1]["lamp"] is True
    assert type(factors[8]["seed"]) is type(factors[8]["note"]) is int
    assert load_factors(path=rendered) == factors
    assert torch.equal(
        load_bedrooms(path=rendered), load_bedrooms("rendered", "train", 32, None, rendered)
    )


def test_a_column_of_one_table_is_typed(rendered):
    def change(name, content):
        if name != "train/metadata.csv":
            return name, content
        first, *others = content.splitlines()
        return name, b"\n".join([first + b",windows", *(row + b",2" for row in others)])

    changed = rewritten(rendered, change)
    assert {row["windows"] for row in load_factors("train", changed)} == {2}


def test_one_table_at_the_top_is_read_too(rendered):
    """The layout of the first version: metadata.csv at the top, its names relative to the zip."""
    lines = [list(f) for f in [load_factors("all", rendered)[0]]]
    for factors in load_factors("all", rendered):
        lines.append(["" if v is None else str(v) for v in factors.values()])
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    old = rewritten(rendered, lambda n, b: None if n.endswith("csv") else (n, b))
    with zipfile.ZipFile(old, "a") as z:
        z.writestr("metadata.csv", text.getvalue())
    assert load_factors("test", old) == load_factors("test", rendered)
    old = old.rename(old.with_name("old.zip"))  # where the next copy is written
    windows = rewritten(old, lambda n, b: (n, b.replace(b"/", b"\\") if n.endswith("csv") else b))
    assert load_factors("test", windows) == load_factors("test", rendered)


def test_factors_from_jsonl(rendered):
    def change(name, content):
        if not name.endswith(".csv"):
            return name, content
        split = name.split("/")[0]
        table = [
            f | {"file_name": f["file_name"].split("/")[1]} for f in load_factors(split, rendered)
        ]
        return f"{split}/metadata.jsonl", "".join(json.dumps(row) + "\n" for row in table)

    assert load_factors("all", rewritten(rendered, change)) == load_factors("all", rendered)


def factors_of(tmp_path, text, table="metadata.csv"):
    """Those of two images, whose names are 0.png and 1.png."""
    path = zip_of(tmp_path / "table.zip", ["0.png", "1.png"])
    with zipfile.ZipFile(path, "a") as z:
        z.writestr(table, text)
    return [{k: v for k, v in row.items() if k != "file_name"} for row in load_factors("all", path)]


def test_a_json_table_with_odd_line_ends(tmp_path):
    """A byte order mark, empty lines, and within a text what elsewhere ends a line."""
    first, second = '{"file_name": "0.png", "a": "x\u2028y"}', '{"file_name": "1.png", "a": 2}'
    found = factors_of(tmp_path, f"\ufeff{first}\r\n\n \n{second}\n", "metadata.jsonl")
    assert found == [{"a": "x\u2028y"}, {"a": 2}]


@pytest.mark.parametrize(
    "text, right",
    [
        ("file_name;a\n0.png;-2,5\n1.png;+3,25\n", [-2.5, 3.25]),
        ("file_name;a\n0.png;1,2 and 3,4\n1.png;2,3,4\n", ["1,2 and 3,4", "2,3,4"]),
        ("file_name;a\n0.png;a, b, c, d\n1.png;e, f\n", ["a, b, c, d", "e, f"]),
        ("file_name;a\n0.png;7\n1.png\n", [7, None]),
        ("file_name,a\n0.png,7\n1.png\n", [7, None]),
        ("file_name,a\r0.png,7\r1.png,8\r", [7, 8]),
        ("file_name,a\n0.png,7\n1.png,8.0\n", [7.0, 8.0]),
    ],
    ids="signs,numbers in a text,commas in a text,short,short row,old Mac,a float".split(","),
)
def test_cells_of_a_table(tmp_path, text, right):
    found = [row["a"] for row in factors_of(tmp_path, text)]
    assert found == right and [type(v) for v in found] == [type(v) for v in right]


def test_tables_with_other_columns(rendered):
    """What one table lacks is None there, as an empty entry is."""

    def change(name, content):
        if name != "test/metadata.csv":
            return name, content
        return name, b"".join(line + b",1\n" for line in content.splitlines()).replace(
            b"note,1", b"note,more"
        )

    found = load_factors("all", rewritten(rendered, change))
    for row in found:
        assert row["more"] == (1 if row["file_name"].startswith("test/") else None)
    assert len(found) == 18


@pytest.mark.parametrize("delimiter, comma", [(";", ","), ("\t", ","), (",", ".")])
def test_a_table_that_a_spreadsheet_wrote(rendered, delimiter, comma):
    """Byte order mark, other delimiter, decimal comma, TRUE, CR LF, an empty line of delimiters."""

    def change(name, content):
        if not name.endswith(".csv"):
            return name, content
        text = content.decode().replace("True", "TRUE").replace("false", "FALSE")
        lines = [
            delimiter.join(
                p.replace(".", comma) if p[0:1].isdigit() and "png" not in p else p
                for p in line.split(",")
            )
            for line in text.split("\n")
        ]
        return name, "\ufeff" + "\r\n".join([*lines, delimiter * 5, ""])

    assert load_factors("all", rewritten(rendered, change)) == load_factors("all", rendered)


@pytest.mark.parametrize(
    "yes, no",
    [("WAHR", "FALSCH"), ("Vrai", "Faux"), ("VERO", "FALSO")]
    + [("verdadero", "falso"), ("Waar", "Onwaar")],
)
def test_a_table_in_another_language(rendered, yes, no):
    """And the line that tells Excel the delimiter, and columns that nobody filled in."""

    def change(name, content):
        if not name.endswith(".csv"):
            return name, content
        text = content.decode().replace("True", yes).replace("false", no).replace(",", ";")
        return name, "sep=;\r\n" + text.replace("\n", ";;\r\n") + ";;"

    assert load_factors("all", rewritten(rendered, change)) == load_factors("all", rendered)


def test_factors_that_are_missing_are_an_error(rendered):
    short = rewritten(rendered, lambda n, b: (n, b.replace(b"000003.png", b"9.png")))
    with pytest.raises(KeyError, match="no factors of 1 images, as train/000003.png"):
        load_factors("train", short)
    none = rewritten(rendered, lambda n, b: None if n.endswith("csv") else (n, b))
    with pytest.raises(ValueError, match="neither"):
        load_factors("train", none)
    for damage in (b"\xff\xfe", b"a,b\n1,2\n"):
        bad = rewritten(rendered, lambda n, b, d=damage: (n, d if n == "test/metadata.csv" else b))
        with pytest.raises(ValueError, match="test/metadata.csv"):
            load_factors("test", bad)


def test_damaged_rendered_set_is_an_error(rendered):
    with zipfile.ZipFile(rendered, "a") as z:
        z.writestr("train/000900.png", b"text")
    for source, path in (("rendered", rendered), (f"rendered:{rendered}", None)):
        with pytest.raises(ValueError, match="000900"):
            load_bedrooms(source, path=path)


@pytest.mark.slow
def test_the_shipped_set():
    counts = {"train": 12_000, "validation": 3_000, "test": 3_000}
    seen = Counter()
    for split, count in counts.items():
        x, factors = load_bedrooms("rendered", split, size=64), load_factors(split)
        assert x.shape == (count, 3, 64, 64) and len(factors) == count
        assert x[::50].double().std(dim=(1, 2, 3)).min() > 5  # no blank frame in those looked at
        assert all(f["file_name"].startswith(split) for f in factors)
        seen.update(f["seed"] for f in factors)
    assert max(seen.values()) == 1 and len(seen) == 18_000
    assert dataset_sha256() == sources._sha256_of_file(sources.RENDERED)


@pytest.mark.skipif(not REAL.is_dir(), reason="shared/data/real_bedrooms is not on this machine")
def test_photographs():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = load_bedrooms("folder", "all", size=32, path=REAL)
    assert x.shape == (401, 3, 32, 32)


# ---- the cache


def test_cache_is_used_and_equal(folder, cache, monkeypatch):
    first = load_bedrooms("folder", "all", path=folder)
    assert len(caches(cache)) == 1
    monkeypatch.setattr(data, "decode", None)  # decoding again would fail
    again = load_bedrooms("folder", "all", path=folder)
    assert torch.equal(first, again)
    again.fill_(0)  # a caller's change stays with the caller
    assert torch.equal(first, load_bedrooms("folder", "all", path=folder))
    assert np.array_equal(np.load(caches(cache)[0]), first)  # an ordinary .npy for other tools


def test_each_size_has_its_cache(folder, cache):
    for size in (32, 16, 32):
        assert load_bedrooms("folder", "all", size, path=folder).shape[-1] == size
    assert len(caches(cache)) == 2


def test_hash_is_what_sha256sum_says(folder, cache, monkeypatch):
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("[0-9]*.[pjw]*"))
    names.remove(".thumbnails/0.png")
    digests = [hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names]
    listing = "".join(f"{d}  {n}\n" for d, n in zip(digests, names, strict=True))
    sha = dataset_sha256("folder", folder)
    assert sha == hashlib.sha256(listing.encode()).hexdigest()
    monkeypatch.setattr(sources, "_sha256_of_file", None)  # hashing again would fail
    assert dataset_sha256("folder", folder) == sha


def test_cache_follows_content_under_equal_size_and_time(folder):
    victim = folder / "a" / "01.png"
    page = Image.new("RGB", (40, 40), (1, 2, 3))
    victim.write_bytes(encoded(page, "BMP"))
    before, sha = load_bedrooms("folder", "all", path=folder), dataset_sha256("folder", folder)
    stat = victim.stat()
    page.paste((200, 100, 50), (0, 0, 40, 20))
    victim.write_bytes(encoded(page, "BMP"))
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert victim.stat().st_size == stat.st_size
    if os.name == "posix":
        assert dataset_sha256("folder", folder) != sha
        assert not torch.equal(before, load_bedrooms("folder", "all", path=folder))


def test_equal_content_elsewhere_has_the_same_hash(folder, tmp_path):
    moved = tmp_path / "moved"
    sha = dataset_sha256("folder", folder)
    folder.rename(moved)
    assert dataset_sha256("folder", moved) == sha
    (moved / "a" / "01.png").rename(moved / "a" / "renamed.png")
    assert dataset_sha256("folder", moved) != sha


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[: len(b) // 2],
        lambda b: b[:-3],
        lambda b: b[:50],
        lambda b: b"",
        lambda b: b[:128],
        lambda b: b[:5000] + bytes([b[5000] ^ 1]) + b[5001:],
        lambda b: bytes(len(b)),
        lambda b: b[:-10] + b"x" * 10,
        lambda b: b[:128] + b[128 + 3 * 32 * 32 :],
        lambda b: b.replace(b"|u1", b"|i1", 1),
        lambda b: b.replace(b"(30, 3, 32, 32)", b"(30, 3, 64, 16)", 1),
        lambda b: b"PK\x03\x04" + b[4:],
    ],
    ids="half,no end,header cut,empty,header only,one bit,zeros,end spoilt,an image less,"
    "type,shape,another kind".split(","),
)
def test_damaged_cache_is_made_again(folder, cache, damage):
    good = load_bedrooms("folder", "all", path=folder).clone()
    (file,) = caches(cache)
    whole = file.read_bytes()
    assert damage(whole) != whole
    file.unlink()  # the old mapping keeps the old file
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
    (tmp_path / "a file").write_text("where a folder should be")  # holds for root too
    monkeypatch.setenv("BEDGEN_CACHE", str(tmp_path / "a file" / "cache"))
    with pytest.warns(UserWarning, match="not kept") as caught:
        assert torch.equal(load_bedrooms("folder", "all", path=folder), expected)
    assert [w.filename for w in caught] == [__file__]  # at the line that called
    real, calls = data.decode, []
    monkeypatch.setattr(data, "decode", lambda *a: calls.append(1) or real(*a))
    monkeypatch.setattr(data.os, "cpu_count", lambda: None)  # unknown: one by one, 8 read ahead
    monkeypatch.setattr(data, "LARGE", 3 * 3 * 32 * 32)  # may just be kept in memory
    with pytest.warns(UserWarning, match="not kept"):
        some = load_bedrooms("folder", "all", limit=3, path=folder)
    assert torch.equal(some, expected[:3]) and len(calls) <= 11
    with pytest.raises(OSError, match="a file"):
        load_bedrooms("folder", "all", limit=4, path=folder)


def test_a_disk_without_locks_costs_the_cache_and_not_the_images(folder, cache, monkeypatch):
    def acquire(*args, **kwargs):
        raise NotImplementedError("this file system has no locks")

    monkeypatch.setattr(data.filelock.FileLock, "acquire", acquire)
    n, said = load_all(folder)
    assert n == 30 and "not kept" in said and "no locks" in said


def test_what_does_not_read_back_is_an_error_if_it_is_large(folder, monkeypatch):
    monkeypatch.setattr(data, "_stored", lambda *args: None)
    assert load_all(folder)[0] == 30
    monkeypatch.setattr(data, "LARGE", 1000)
    with pytest.raises(OSError, match="does not read back"):
        load_bedrooms("folder", "all", path=folder)


def test_what_another_process_made_meanwhile_is_taken(folder, cache, monkeypatch):
    right = load_bedrooms("folder", "all", path=folder).clone()
    (file,) = caches(cache)
    made = file.read_bytes()
    file.unlink()

    @contextlib.contextmanager
    def alone(path):
        path.write_bytes(made)  # while we waited
        yield

    monkeypatch.setattr(data, "_alone", alone)
    monkeypatch.setattr(data, "_prepare", None)
    assert torch.equal(load_bedrooms("folder", "all", path=folder), right)


def test_another_format_of_the_cache_is_another_entry(folder, cache, monkeypatch):
    load_bedrooms("folder", "all", path=folder)
    monkeypatch.setattr(data, "CACHE_FORMAT", 99)
    load_bedrooms("folder", "all", path=folder)
    assert len(caches(cache)) == 2


@posix
def test_a_cache_is_flushed_to_the_disk(folder, cache, monkeypatch):
    flushed, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.fstat(fd).st_ino) or real(fd))
    load_bedrooms("folder", "all", path=folder)
    assert caches(cache)[0].stat().st_ino in flushed


def test_cache_folder_of_the_platform(monkeypatch, tmp_path):
    import platformdirs

    assert sources.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("BEDGEN_CACHE")
    assert sources.cache_folder() == Path(platformdirs.user_cache_dir("bedgen", appauthor=False))


@posix
def test_a_tilde_and_a_user_without_a_home(monkeypatch, tmp_path):
    """As in a container that runs under a number the system does not know."""
    import pwd
    import tempfile

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BEDGEN_CACHE", "~/kept")  # .env files are read by no shell
    assert sources.cache_folder() == tmp_path / "kept"
    with pytest.raises(FileNotFoundError, match="~nobody-here"):
        load_bedrooms("folder", path="~nobody-here/rooms")

    def unknown(_):
        raise KeyError("no such number")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "BEDGEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert sources.cache_folder() == Path(tempfile.gettempdir()) / "bedgen"


def test_bars_leave_it_to_the_environment(tmp_path, monkeypatch):
    """disable=False would overrule TQDM_DISABLE."""
    given, real = [], sources.tqdm
    recorder = lambda *a, **k: given.append(k.get("disable")) or real(*a, **k)  # noqa: E731
    monkeypatch.setattr(sources, "tqdm", recorder)
    (tmp_path / "x").write_bytes(b"12")
    sources._sha256_of_file(tmp_path / "x")
    monkeypatch.setattr(sources, "LARGE", 1)
    sources._sha256_of_file(tmp_path / "x")
    assert given == [True, None]


def test_left_overs_of_killed_processes_are_removed(folder, cache):
    cache.mkdir()
    day = 86400  # a pass that was stopped may go on for a week
    ages = {".old.npy.1.tmp": 7200, ".young.npy.1.tmp": 60}
    ages |= {".old.npy.part": 8 * day, ".young.npy.part": 6 * day}
    for name, age in ages.items():
        (cache / name).write_text("half")
        then = os.stat(cache / name).st_mtime - age
        os.utime(cache / name, (then, then))
    load_bedrooms("folder", "all", path=folder)
    assert sorted(p.name for p in cache.glob(".*")) == [".young.npy.1.tmp", ".young.npy.part"]


@posix
def test_a_left_over_that_is_gone_meanwhile_costs_no_cache(folder, cache):
    cache.mkdir()
    os.symlink(cache / "renamed", cache / ".other.npy.1.tmp")  # is listed, and is not there
    with warnings.catch_warnings(action="error"):
        load_bedrooms("folder", "all", path=folder)
    assert list(cache.glob("*.npy"))


def stop_after(count, monkeypatch, **asked):
    """A pass over a folder, interrupted when ``count`` images are decoded."""
    real = data._decoded

    def decoded(*args):
        yield from itertools.islice(real(*args), count)
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(data, "_decoded", decoded)
        with pytest.raises(KeyboardInterrupt):
            load_bedrooms("folder", "all", 16, **asked)


def test_a_stopped_pass_goes_on(folder, cache, monkeypatch):
    """Stopped twice; what is decoded is decoded once, and the file is as if nothing had been."""
    monkeypatch.setattr(data, "NOTE_EVERY", 4)
    (folder / "zz.png").write_bytes(b"text")  # what cannot be read is not forgotten
    right = load_all(folder)
    (file,) = caches(cache)
    undisturbed = file.read_bytes()
    file.unlink()
    real, calls = data.decode, []

    def decode(encoded, size):
        calls.append(encoded)
        return real(encoded, size)

    monkeypatch.setattr(data, "decode", decode)
    monkeypatch.setattr(data.os, "cpu_count", lambda: 1)
    for count in (10, 7):  # 8 are noted, then 4 more
        stop_after(count, monkeypatch, path=folder)
        assert caches(cache) == []
    calls.clear()
    assert load_all(folder) == right
    assert file.read_bytes() == undisturbed
    assert len(calls) <= 31 - 12 and not list(cache.glob(".*.part")) + list(cache.glob(".*.json"))


def test_a_stopped_limit_prepares_what_is_left_of_it(folder, cache, monkeypatch):
    monkeypatch.setattr(data, "NOTE_EVERY", 4)
    asked, room = [], data.check_room
    stop_after(9, monkeypatch, limit=20, path=folder)
    monkeypatch.setattr(data, "check_room", lambda *a: asked.append(a[1:]) or room(*a))
    assert len(load_bedrooms("folder", "all", 16, 20, folder)) == 20
    assert asked == [(12 * 3 * 16 * 16, "preparing 12 images")]
    assert len(np.load(caches(cache)[0])) == 20  # no more than were asked for


@pytest.mark.parametrize("damage", ["pixels", "short", "note", "source"])
def test_a_part_that_is_not_vouched_for_is_made_again(folder, cache, monkeypatch, damage):
    monkeypatch.setattr(data, "NOTE_EVERY", 4)
    right = load_bedrooms("folder", "all", 16, path=folder).clone()
    (file,) = caches(cache)
    undisturbed = file.read_bytes()
    file.unlink()
    stop_after(9, monkeypatch, path=folder)
    (part,), (note,) = cache.glob(".*.part"), cache.glob(".*.json")
    content = part.read_bytes()
    if damage == "pixels":
        part.write_bytes(content[:900] + bytes([content[900] ^ 1]) + content[901:])
    elif damage == "short":  # the note reached the disk and the images did not
        part.write_bytes(content[:1000])
    elif damage == "note":
        note.write_text("{")
    else:  # of files that were others for a while: here the note vouches for other pixels
        part.write_bytes(content[:128] + bytes(8 * 3 * 16 * 16))
        noted = json.loads(note.read_text())
        assert noted["done"] == 8
        note.write_text(json.dumps(noted | {"crc": zlib.crc32(bytes(8 * 3 * 16 * 16))}))
        (folder / "a" / "01.png").touch()
    assert torch.equal(load_bedrooms("folder", "all", 16, path=folder), right)
    assert file.read_bytes() == undisturbed


def test_what_a_limit_does_not_ask_for_is_not_decoded(folder, cache, monkeypatch):
    real, calls = data.decode, []
    monkeypatch.setattr(data.os, "cpu_count", lambda: 1)  # 8 are read ahead

    def decode(encoded, size):
        calls.append(encoded)
        return real(encoded, size)

    monkeypatch.setattr(data, "decode", decode)
    some = load_bedrooms("folder", "all", limit=3, path=folder).clone()
    assert len(some) == 3 and len(calls) <= 11
    calls.clear()
    assert torch.equal(load_bedrooms("folder", "all", limit=3, path=folder), some) and not calls
    assert len(load_bedrooms("folder", "all", limit=5, path=folder)) == 5  # another entry
    everything = load_bedrooms("folder", "all", limit=100, path=folder)
    assert torch.equal(everything[:3], some) and len(everything) == 30
    calls.clear()
    assert torch.equal(load_bedrooms("folder", "all", limit=7, path=folder), everything[:7])
    assert torch.equal(load_bedrooms("folder", "all", path=folder), everything) and not calls


def test_a_large_set_says_what_it_takes(folder, cache, monkeypatch, capsys):
    load_bedrooms("folder", "all", 16, path=folder)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(data, "LARGE", 30 * 3 * 32 * 32 - 1)
    monkeypatch.setattr(sources, "LARGE", 30 * 3 * 32 * 32 - 1)
    load_bedrooms("folder", "all", 32, path=folder)
    said = capsys.readouterr().err
    assert "preparing 30 images takes 0.0 GB" in said and str(cache) in said and "free" in said


def test_a_disk_that_is_too_small_is_named_before_anything_is_decoded(folder, cache, monkeypatch):
    usage = shutil.disk_usage(folder)._replace(free=30 * 3 * 32 * 32 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with monkeypatch.context() as m:
        m.setattr(data, "LARGE", 1000)
        m.setattr(data, "decode", None)
        with pytest.raises(OSError, match="preparing 30 images takes.*GB free"):
            load_bedrooms("folder", "all", 32, path=folder)
    with pytest.warns(UserWarning, match="not kept"):  # a small set fits in memory
        assert len(load_bedrooms("folder", "all", 32, path=folder)) == 30
    assert caches(cache) == []


def test_memory_does_not_grow_with_the_array(tmp_path):
    """1,500 images are 18 MB at 64 px; what is held at once is a few of them."""
    keys = [hashlib.sha1(b"%d" % i).hexdigest() for i in range(1500)]
    small = encoded(image(0, (64, 64)), "JPEG")
    path = environment(tmp_path / "bedroom_train_lmdb", keys, [small] * 1500)
    tracemalloc.start()
    assert len(load_bedrooms("lsun", "all", 64, path=path)) == 1500
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 << 20


def test_millions_of_names_take_little_room(tmp_path):
    """Not 50 bytes an image, where a list of the names alone takes more than 90."""
    count = 20_000
    opened = sources.Lmdb(
        environment(tmp_path / "rooms", [b"%040d" % i for i in range(count)], [b"x"] * count)
    )
    tracemalloc.start()
    order = sources.choose(opened, "train")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(order.tolist())) == len(order) > 0.7 * count and peak < 50 * count


def test_a_cached_file_is_checksummed_once(folder, cache, monkeypatch):
    load_bedrooms("folder", "all", path=folder)
    monkeypatch.setattr(data, "_crc", None)  # a second time would fail, and be built again
    monkeypatch.setattr(data, "decode", None)
    assert len(load_bedrooms("folder", "all", path=folder)) == 30


def _load(folder, queue, gate):
    gate.wait()
    queue.put(load_bedrooms("folder", "all", path=folder).clone().numpy())


@pytest.mark.slow
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
    assert len(caches(cache)) == 1 and not list(cache.glob(".*.tmp"))


KILLED = """
import sys, os, signal, bedgen_utils.data as d
source, path = sys.argv[1:]
d.NOTE_EVERY = 8
real = d._decoded
def dies(*a):
    for i, x in enumerate(real(*a)):
        if i == 20: os.kill(os.getpid(), signal.SIGKILL)
        yield x
d._decoded = dies
d.load_bedrooms(source, "all", path=path)
"""


def killed(source, path):
    done = subprocess.run([sys.executable, "-c", KILLED, source, str(path)], cwd=REPO)
    assert done.returncode == -9


@pytest.mark.slow
@posix
@pytest.mark.parametrize("source", ["folder", "lsun", "hub"])
def test_killed_process_then_another(source, folder, lsun, parquet, cache, monkeypatch):
    """Killed with SIGKILL while it writes, twice: the next one goes on, and the file is right."""
    path = {"folder": folder, "lsun": lsun, "hub": parquet}[source]
    right = load_bedrooms(source, "all", path=path).clone()
    (file,) = caches(cache)
    undisturbed = file.read_bytes()
    file.unlink()
    for noted in (16, 32)[: len(right) // 20]:
        killed(source, path)
        assert caches(cache) == []
        (note,) = cache.glob(".*.json")
        assert json.loads(note.read_text())["done"] == noted
    assert torch.equal(load_bedrooms(source, "all", path=path), right)
    assert file.read_bytes() == undisturbed


@pytest.mark.slow
def test_many_small_files(tmp_path):
    """20,000 files, listed and hashed in seconds and, when known, faster still."""
    page, root = encoded(Image.new("RGB", (8, 8)), "JPEG"), tmp_path / "many"
    for i in range(20_000):
        below = root / f"{i // 1000}"
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{i}.jpg").write_bytes(page)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        dataset_sha256("folder", root)
        seconds.append(time.perf_counter() - start)
    assert seconds[0] < 10 and seconds[1] < 2
