"""Images of bedrooms as one uint8 tensor, whatever they come from.

An image of any width w and height h becomes size x size and keeps its proportions: the centred
square of side s = min(w, h) is cut out, then resampled with a bicubic kernel, widened by s/size
where it shrinks (antialiasing). A stretched image has narrow beds, and a kernel that is not widened
aliases; either can move a Fréchet distance by more than the models under comparison differ (Parmar
et al. 2022, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation").

Decoding happens once: a file in the user's cache folder, named by the content hash of what was
decoded, is memory-mapped. A pass that was stopped goes on where it stood.
"""

import csv
import io
import json
import os
import re
import struct
import sys
import threading
import time
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path

import filelock
import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from .sources import (
    LARGE,
    Source,
    cache_folder,
    check_room,
    choose,
    content_sha256,
    keep,
    listed,
    memo,
    open_source,
    replace_atomically,
    stat,
)


def to_uint8(x: Tensor) -> Tensor:
    """Model range [-1, 1] to uint8, rounded to the nearest level; values outside are clamped.

    Raises ValueError for NaN: uint8 has none, and a black image would look valid."""
    if x.isnan().any():
        raise ValueError("the images hold NaN, which uint8 has not: the network has diverged")
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]: level k becomes k / 127.5 - 1. TypeError for any other type."""
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8 in [0, 255], not {images.dtype}")
    return images.float() / 127.5 - 1


# ---- decoding


def decode(data: bytes, size: int) -> np.ndarray:
    """One encoded image as uint8 (3, size, size): upright as EXIF says, in sRGB, centred square,
    antialiased resize; where nothing is to be resized the pixels stay as they are.

    Colours follow an embedded ICC profile or a PNG's gamma; transparent parts become white; of an
    animation the first frame counts. Raises ValueError for pixels of floating-point numbers or more
    than 16 bits, and what Pillow raises where ``data`` is no image, cut short or a bomb."""
    try:
        return _decode(data, size)
    except ValueError:
        if len(bare := _without_text(data)) == len(data):
            raise
        return _decode(bare, size)


# Small images are decoded side by side. Of those of hundreds of megabytes each has its turn, in a
# thread that ends with it, for the C library keeps what a thread has freed: eight of 25 million
# pixels take 0.2 GB instead of 1.2.
MANY_PIXELS = 1 << 24
_turn = threading.Lock()


def _decode(data: bytes, size: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        depth = data[24] if image.format == "PNG" else 8
        if image.mode == "I;16":  # a TIFF says it in a tag, and Pillow leaves 12 bits as they are
            depth = getattr(image, "tag_v2", {}).get(258, (depth,))[0]
        if image.width * image.height <= MANY_PIXELS:
            return _square(image, depth, size)
        with _turn, ThreadPoolExecutor(1) as one:
            return one.submit(_square, image, depth, size).result()


def _square(image: Image.Image, depth: int, size: int) -> np.ndarray:
    colours, alpha = _eight_bits(_upright(image), depth)
    if image.mode == "I;16" and getattr(image, "tag_v2", {}).get(262) == 0:
        colours = ImageOps.invert(colours)  # a TIFF with 0 for white: Pillow minds 8 bits alone
    result = _srgb(colours, image.info)
    if alpha is not None:
        result = Image.composite(result, Image.new("RGB", result.size, "white"), alpha)
    if min(result.size) == size:  # cut between pixels, also where the margins are odd
        left, top = (result.width - size) // 2, (result.height - size) // 2
        result = result.crop((left, top, left + size, top + size))
    else:
        result = ImageOps.fit(result, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(result).transpose(2, 0, 1)


def _without_text(data: bytes) -> bytes:
    """A PNG without its text, of which Pillow takes 1 MB; anything else as it is."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    at, kept = 8, [data[:8]]
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt"):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, struct.error, KeyError, TypeError, ValueError):
        return image  # its EXIF says nothing that can be read: browsers show it as it lies


def _eight_bits(image: Image.Image, depth: int) -> tuple[Image.Image, Image.Image | None]:
    """Colours (L, RGB or CMYK) and opacity (L or None) of an image with ``depth`` bits a sample."""
    key = image.info.get("transparency")  # a PNG's transparent colour, in levels of its own depth
    if image.mode == "F":
        raise ValueError("the pixels are floating-point numbers, whose white is unknown")
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it at 255
        levels = np.asarray(image, np.float64) * (65535 / 4095 if depth == 12 else 1)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("the pixels have more than 16 bits")
        opaque = None if key is None else Image.fromarray(np.uint8(levels != key) * 255)
        return Image.fromarray((levels / 257).round().astype(np.uint8)), opaque
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if key is not None and depth != 8 and image.mode in ("1", "L", "RGB"):
        image, keys = image.convert(mode), np.ravel(key).tolist()
        scaled = [k >> 8 if depth == 16 else k * 255 // (2**depth - 1) for k in keys]
        image.info["transparency"] = scaled[0] if mode == "L" else tuple(scaled)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    return image if image.mode == "CMYK" else image.convert(mode), alpha


def _srgb(image: Image.Image, info: dict) -> Image.Image:
    """An L, RGB or CMYK image as RGB in sRGB, by the ICC profile or the gamma in ``info``."""
    if icc := info.get("icc_profile"):
        # One that is damaged, or of other colours than the image: browsers ignore it too.
        with suppress(ImageCms.PyCMSError, OSError, ValueError):
            srgb, profile = ImageCms.createProfile("sRGB"), ImageCms.getOpenProfile(io.BytesIO(icc))
            return ImageCms.buildTransform(profile, srgb, image.mode, "RGB").apply(image)
    image, gamma = image.convert("RGB"), info.get("gamma")
    if not gamma or "srgb" in info or 0.44 < gamma < 0.47:  # 1 / 2.2 stands for sRGB
        return image
    light = (np.arange(256) / 255) ** (1 / gamma)
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return image.point((255 * levels).round().astype(int).tolist() * 3)


def _decoded(opened: Source, order, size: int, left_out: dict[str, str], strict: bool):
    """Yield the images in order. Those that cannot be read are named in ``left_out``; ``strict``
    raises OSError where the reason may pass: the disk, the network, too little memory."""

    def read(get: Callable[[], bytes]) -> np.ndarray:
        return decode(get(), size)

    Image.init()  # else threads race for the plugins, and one finds none for its image
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        pairs = zip(order, opened.fetch(order), strict=True)
        jobs = ((opened.names[i], pool.submit(read, get)) for i, get in pairs)
        ahead = deque(islice(jobs, 8 * workers))  # bounds the memory
        while ahead:
            name, job = ahead.popleft()
            try:
                image = job.result()
            except Exception as error:  # Pillow and the decompressors raise many kinds
                left_out[name] = re.sub(" at 0x[0-9a-f]+", "", repr(error))
                if strict and (isinstance(error, MemoryError) or getattr(error, "errno", None)):
                    raise OSError(f"{name} cannot be read this time: {error!r}") from error
            else:
                yield image
            ahead.extend(islice(jobs, 1))


# ---- the cache
# A .npy file, then as JSON what was left out, then the CRC-32 of pixels and text. While it is made:
# the same file without its end (.part), and a note of how far it is good (.json). Images lie in the
# order they are given in, so every part is the beginning of the whole, and nothing is kept of N.

CACHE_FORMAT = 4  # counted up when decode(), choose() or the layout changes
HEADER = 128  # bytes before the pixels, with room for any count
NOTE_EVERY = 1024  # images


def _stored(path: Path, size: int) -> tuple[np.ndarray, dict[str, str]] | None:
    """The images, memory-mapped, and what was left out; None for a file absent or damaged.

    All of it is read once, to compare the checksum, and again when its size or times change."""
    with suppress(Exception):  # damaged headers raise many kinds
        whole = memo("whole", path, stat(path))
        images = np.load(path, mmap_mode="c")  # a caller may change its tensor, the file stays
        with open(path, "rb") as f:
            f.seek(HEADER + images.nbytes)
            text, crc = (end := f.read())[:-8], end[-8:]
        if images.dtype != np.uint8 or images.shape[1:] != (3, size, size):
            return None
        if not whole.exists():
            if _crc(path, HEADER + images.nbytes + len(text)) != int(crc, 16):
                return None
            keep(whole, Path.touch)
        return images, json.loads(text)
    return None


def _crc(path: Path, end: int) -> int:
    """CRC-32 of a file from the end of the header to ``end``, in pieces."""
    crc = 0
    with open(path, "rb") as f:
        f.seek(HEADER)
        while piece := f.read(min(1 << 20, end - f.tell())):
            crc = zlib.crc32(piece, crc)
    return crc


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time make ``path``. A lock goes with its process, however it ends."""
    folder = path.parent / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / path.name)
    try:
        lock.acquire(timeout=2)
    except filelock.Timeout:
        print("another process is preparing these images: waiting", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _prepare(path: Path, opened: Source, order, size: int, most: int, stamp: str) -> None:
    """Decode up to ``most`` images into the cache file ``path``, from where an earlier call was
    stopped: its images count as far as a note vouches for them and for the files they are from."""
    part, note = (path.with_name(f".{path.name}.{end}") for end in ("part", "json"))
    one, done, crc, left_out = 3 * size * size, 0, 0, {}
    with suppress(OSError, ValueError, KeyError):
        noted = json.loads(note.read_text(encoding="utf-8"))
        good = _crc(part, HEADER + noted["done"] * one) == noted["crc"]
        if good and noted["stamp"] == stamp:
            done, crc, left_out = noted["done"], noted["crc"], noted["left_out"]
    check_room(path.parent, (most - done) * one, f"preparing {most - done:,} images")
    images = _decoded(opened, order[done + len(left_out) :], size, left_out, True)
    with open(part, "r+b" if done else "w+b") as f, closing(images):
        f.seek(HEADER + done * one)
        f.truncate()
        for image in _with_bar(images, opened, most, done):
            f.write(pixels := image.tobytes())
            done, crc = done + 1, zlib.crc32(pixels, crc)
            if done % NOTE_EVERY == 0:
                f.flush()
                noted = {"done": done, "crc": crc, "left_out": left_out, "stamp": stamp}
                replace_atomically(note, partial(_write, json.dumps(noted)))
        text = json.dumps(left_out).encode()
        f.write(text + b"%08x" % zlib.crc32(text, crc))
        f.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (done, 3, size, size)}
        np.lib.format.write_array_header_1_0(f, header)
        f.flush()
        os.fsync(f.fileno())
    if opened.stamp() != stamp:
        part.unlink()
        raise OSError(f"files of {opened.place} changed while they were read: call again")
    os.replace(part, path)
    note.unlink(missing_ok=True)


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def _with_bar(images: Iterable[np.ndarray], opened: Source, most: int, done: int = 0):
    rest = islice(images, most - done)
    bar = f"decoding {opened.place.name}"
    return tqdm(rest, bar, total=most, initial=done, delay=2, leave=False)


def _build(
    path: Path, opened: Source, order, size: int, most: int, stamp: str
) -> tuple[np.ndarray, dict[str, str]]:
    """The first ``most`` images of ``order`` from the cache file ``path``, which is made. Where it
    cannot be, they lie in memory, unless they are ``LARGE``: then OSError."""
    large = most * 3 * size * size > LARGE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for end, age in (("tmp", 3600), ("part", 7 * 86400)):  # from processes that were killed
            for old in path.parent.glob(f".*.{end}"):
                with suppress(OSError):  # by now another process may have put it in its place
                    if time.time() - old.stat().st_mtime > age:
                        old.unlink()
        with _alone(path):
            if not _stored(path, size):  # else another process was quicker
                _prepare(path, opened, order, size, most, stamp)
        if found := _stored(path, size):
            return found
        if large:
            raise OSError(f"{path} was written and does not read back")
    except (OSError, NotImplementedError) as error:
        if large:
            raise
        warnings.warn(f"decoded images are not kept in {path.parent}: {error}", stacklevel=3)
    left_out: dict[str, str] = {}
    with closing(_decoded(opened, order, size, left_out, False)) as decoded:
        images = list(_with_bar(decoded, opened, most))
    return np.array(images, np.uint8).reshape(-1, 3, size, size), left_out


# ---- what others call


def load_bedrooms(
    source: str = "rendered",
    split: str = "train",
    size: int = 32,
    limit: int | None = None,
    path: str | Path | None = None,
) -> Tensor:
    """Images of bedrooms as uint8 (N, 3, size, size) in [0, 255].

    source: "rendered" (the set in ``data/``, or another at ``path``), "folder" (``path`` and all
        below it, as the set on Kaggle), "zip" (``path``), "lsun" (``path``: LSUN's
        bedroom_train_lmdb, or the folder that holds it and bedroom_val_lmdb) or "hub"
        (``sources.HUB``, which is downloaded once, 4.8 GB; another OWNER/NAME@COMMIT or a folder of
        parquet files at ``path``). Or both in one word, as in "folder:PATH". Files count by their
        ending; hidden ones do not.
    split: "train", "validation", "test" or "all". The first folder on an image's relative path that
        is named train or training, val, valid or validation, or test, in any case, decides. Where
        no image has a validation (test) folder, the hash of the name holds out a tenth of the rest.
    limit: only the first ``limit`` images, and no more than these are decoded. Rendered ones come
        in the order of ``load_factors``, those of the hub in its order, others shuffled by the hash
        of their names.

    An image that cannot be read is left out and named in a warning (rendered: an error). The tensor
    maps a file in ``cache_folder()``; where that cannot be written, it lies in memory, but OSError
    for more than a gigabyte. A spawned process is sent a copy of a tensor: where it is large, let
    the workers of a DataLoader call this function themselves. ValueError for an unknown source or
    split, where there are no images, and for a damaged LMDB; FileNotFoundError for no path;
    ImportError where "lsun" or "hub" lacks its packages (``pip install datasets lmdb``)."""
    if size < 1 or (limit is not None and limit < 1):
        raise ValueError(f"size and limit must be positive, not {size} and {limit}")
    opened = open_source(source, path, split)
    sha, stamp = content_sha256(opened)
    name = f"{sha}-{split}-{size}{'-shuffled' if opened.shuffled else ''}"
    whole, first = (
        cache_folder() / f"{name}{part}-v{CACHE_FORMAT}.npy" for part in ("", f"-first{limit}")
    )
    found = _stored(whole, size) or (_stored(first, size) if limit else None)
    if found is None:
        order = choose(opened, split)
        most = min(len(order), limit or len(order))
        file = whole if most == len(order) else first
        found = _build(file, opened, order, size, most, stamp)
    images, unread = found
    if left_out := opened.left_out | unread:
        message = f"{opened.place}: {len(images)} images in split {split!r}{listed(left_out)}"
        if source.startswith("rendered") or not len(images):
            raise ValueError(message)
        warnings.warn(message, stacklevel=2)
    return torch.from_numpy(images[:limit])


def load_factors(split: str = "train", path: str | Path | None = None) -> list[dict]:
    """Scene factors of the rendered rooms: one dict an image, in the order of ``load_bedrooms``.

    They come from each ``metadata.csv`` or ``metadata.jsonl`` in the zip, where ``file_name`` is
    relative to the table's folder. A CSV column that reads as whole numbers, numbers or true/false
    becomes that type, an empty entry None; what a spreadsheet made of it (byte order mark,
    semicolons, decimal commas, TRUE) reads alike. ValueError for a table that is absent or cannot
    be read, KeyError where an image has no row."""
    opened = open_source("rendered", path, split)
    rows: list[dict] = []
    typed: list[dict] = []
    for member in sorted(opened.members):
        folder, _, table = member.rpartition("/")
        if table not in ("metadata.csv", "metadata.jsonl"):
            continue
        try:
            text = opened.read(member).decode("utf-8-sig")
            if table == "metadata.csv":
                rows += (found := _csv_rows(text))
            else:
                typed += (found := [json.loads(s) for s in text.split("\n") if s.strip()])
            for row in found:
                row["file_name"] = f"{folder}/{row['file_name']}".replace("\\", "/").lstrip("/")
        except Exception as error:
            raise ValueError(f"{opened.place}: cannot read {member}: {error!r}") from error
    for column in {key for row in rows for key in row} - {"file_name"}:  # one type in all tables
        for row, value in zip(rows, _typed([row.get(column, "") for row in rows]), strict=True):
            row[column] = value
    by_name = {row["file_name"]: row for row in typed + rows}
    if not by_name:
        raise ValueError(f"{opened.place} holds neither metadata.csv nor metadata.jsonl")
    names = [opened.names[i] for i in choose(opened, split)]
    if missing := [name for name in names if name not in by_name]:
        raise KeyError(f"{opened.place}: no factors of {len(missing)} images, as {missing[0]}")
    return [by_name[name] for name in names]


# As spreadsheets write them in English, German, French, Italian, Spanish, Dutch.
TRUTH = dict.fromkeys(("true", "wahr", "vrai", "vero", "verdadero", "waar"), True)
TRUTH |= dict.fromkeys(("false", "falsch", "faux", "falso", "onwaar"), False)


def _csv_rows(text: str) -> list[dict[str, str]]:
    text = re.sub(r"^sep=.\r?\n", "", text)  # how Excel is told the delimiter
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    columns = [name for name in table.fieldnames or () if name]  # others a spreadsheet left empty
    rows = [{k: row[k] for k in columns} for row in table]
    if delimiter == ",":
        return rows
    number = re.compile(r"^([+-]?\d+),(\d+)$")  # there is room for 2,5 in the place of 2.5
    return [{k: number.sub(r"\1.\2", v) for k, v in row.items()} for row in rows]


def _typed(texts: list[str]) -> list:
    for kind in (int, float, lambda text: TRUTH[text.lower()]):
        try:
            return [None if text == "" else kind(text) for text in texts]
        except (ValueError, KeyError):
            continue
    return texts
