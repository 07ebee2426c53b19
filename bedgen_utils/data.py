"""Pictures of bedrooms as one uint8 tensor, whatever they come from.

A picture of any width w and height h becomes size x size in two steps that keep its proportions: the centred square of
side s = min(w, h) is cut out, then resampled by size/s with a bicubic kernel, widened by s/size where it shrinks: so it
averages over all pixels it covers (antialiasing). Stretching the whole picture to a square would make beds narrower
than beds are, and a kernel that is not widened would alias; either can move a Fréchet distance by more than the models
under comparison differ (Parmar et al. 2022, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation").

Decoding happens once: the result is kept in the user's cache folder and memory-mapped. The file's name holds the
content hash of what was decoded, so other pictures never get an old answer; its end holds a checksum, so a file cut
short or damaged is noticed and made again.
"""

import csv
import hashlib
import io
import json
import os
import sys
import time
import uuid
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

RENDERED = Path(__file__).resolve().parents[1] / "data" / "bedrooms64.zip"
SPLITS = ("train", "test", "all")
ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


# ---- sources: where pictures lie, without decoding any

@dataclass(frozen=True)
class Files:
    """Pictures in a folder or a zip file: their names (relative, with ``/``) and how to read one."""

    root: Path
    names: tuple[str, ...]
    in_zip: bool

    def open(self):
        """A context manager that gives ``read(name) -> bytes``."""
        return _ZipReader(self.root) if self.in_zip else _FolderReader(self.root)


class _FolderReader:
    def __init__(self, root):
        self.root = root

    def __enter__(self):
        return lambda name: (self.root / name).read_bytes()

    def __exit__(self, *error):
        pass


class _ZipReader:
    def __init__(self, root):
        self.file = zipfile.ZipFile(root)

    def __enter__(self):
        return self.file.read

    def __exit__(self, *error):
        self.file.close()


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in ENDINGS and not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _folder(path) -> Files:
    if path is None:
        raise ValueError('source "folder" needs path=, the folder with the pictures')
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    found = [Path(at, name).relative_to(root).as_posix() for at, _, names in os.walk(root) for name in names]
    names = tuple(sorted(filter(_is_picture, found)))
    if not names:
        raise ValueError(f"no pictures ({', '.join(sorted(ENDINGS))}) in {root} or the folders below it")
    return Files(root, names, in_zip=False)


def _zip(path) -> Files:
    if path is None:
        raise ValueError('source "zip" needs path=, the zip file with the pictures')
    root = Path(path)
    try:
        with zipfile.ZipFile(root) as file:
            names = tuple(sorted(filter(_is_picture, file.namelist())))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{root} is no zip file, or was cut short: {error}") from error
    if not names:
        raise ValueError(f"no pictures ({', '.join(sorted(ENDINGS))}) in {root}")
    return Files(root, names, in_zip=True)


def _rendered(path) -> Files:
    return _zip(RENDERED if path is None else path)


SOURCES = {"rendered": _rendered, "folder": _folder, "zip": _zip}


def _files(source: str, path) -> Files:
    if source not in SOURCES:
        planned = " (planned, not there yet)" if source in ("lsun", "hub") else ""
        raise ValueError(f"source {source!r} is not available{planned}; choose one of {', '.join(SOURCES)}")
    return SOURCES[source](path)


def _choose(files: Files, source: str, split: str) -> list[str]:
    """The names of ``split``, in the order in which ``load_bedrooms`` gives the pictures."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; choose one of {', '.join(SPLITS)}")
    key = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in files.names}
    if split == "all":
        chosen = list(files.names)
    else:
        below = {s: [n for n in files.names if s in PurePosixPath(n).parts[:-1]] for s in ("train", "test")}
        if below["train"] or below["test"]:
            chosen = below[split]
        else:
            chosen = [n for n in files.names if (key[n] % 10 == 0) == (split == "test")]
    if not chosen:
        raise ValueError(f'{files.root}: none of the {len(files.names)} pictures is in split "{split}"; try "all"')
    # Rendered rooms are independent and stay in the order of their factors. Other people's folders are sorted by
    # something, so the order is shuffled (the same way each time) and the first `limit` pictures are a fair sample.
    return chosen if source == "rendered" else sorted(chosen, key=key.get)


# ---- content hashes

def _sha256_of_file(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _content_sha256(files: Files) -> str:
    """Hash of the bytes; remembered under the files' names, sizes and times, made anew when one of these changes."""
    members = [files.root] if files.in_zip else [files.root / name for name in files.names]
    stats = [(str(m.resolve()), (s := m.stat()).st_size, s.st_mtime_ns) for m in members]
    memo = cache_folder() / "hashes" / hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    try:
        known = memo.read_text(encoding="ascii")
        if len(known) == 64 and set(known) <= set("0123456789abcdef"):
            return known
    except (OSError, ValueError):
        pass
    if files.in_zip:
        result = _sha256_of_file(files.root)
    else:
        # What `sha256sum` prints for the files in the order of their names, hashed once more.
        bar = tqdm(files.names, desc=f"reading {files.root.name}", unit=" files", delay=2, leave=False)
        lines = "".join(f"{_sha256_of_file(files.root / name)}  {name}\n" for name in bar)
        result = hashlib.sha256(lines.encode()).hexdigest()
    try:
        memo.parent.mkdir(parents=True, exist_ok=True)
        temporary = memo.with_name(f"{memo.name}.{uuid.uuid4().hex}.tmp")
        temporary.write_text(result, encoding="ascii")
        os.replace(temporary, memo)
    except OSError:
        pass    # only the time to hash again is lost
    return result


def dataset_sha256(source: str = "rendered", path: str | Path | None = None) -> str:
    """The content hash that figures and weights name their data by (64 hexadecimal digits).

    For a zip file (and the rendered set) the sha256 of the file; for a folder the sha256 of the listing that
    ``sha256sum`` gives of its pictures in the order of their names. Errors as in ``load_bedrooms``.
    """
    return _content_sha256(_files(source, path))


# ---- decoding

def decode(data: bytes, size: int) -> np.ndarray:
    """One encoded picture as uint8 (3, size, size): turned upright as EXIF says, centred square, antialiased resize.

    Transparent parts become white. Raises what Pillow raises where ``data`` is no picture or is cut short.
    """
    with Image.open(io.BytesIO(data)) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16") or image.mode == "I":      # 16-bit grey: convert() would clip it at 255
            image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        return np.asarray(image).transpose(2, 0, 1)


def _decoded(files: Files, names: list[str], size: int, skipped: dict[str, str]):
    """Yield the pictures in order; add those that cannot be read to ``skipped`` as name: reason."""
    def attempt(item):
        name, data = item
        try:
            return name, decode(data, size) if isinstance(data, bytes) else data
        except Exception as error:      # Pillow raises many kinds for damaged files
            return name, error

    def load(read, name):
        try:
            return name, read(name)
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:    # RuntimeError: encrypted
            return name, error

    with files.open() as read, ThreadPoolExecutor(os.cpu_count()) as pool, \
            tqdm(total=len(names), desc=f"decoding {files.root.name}", unit=" images", delay=2, leave=False) as bar:
        for some in (names[i:i + 256] for i in range(0, len(names), 256)):
            for name, result in pool.map(attempt, [load(read, name) for name in some]):
                if isinstance(result, Exception):
                    skipped[name] = f"{type(result).__name__}: {result}"
                else:
                    yield result
            bar.update(len(some))


# ---- the cache

CACHE_FORMAT = 1        # part of each file's name: count it up when decode(), _choose() or the layout changes
_HEADER = 128           # bytes before the pixels; .npy pads its header to a multiple of 64


def cache_folder() -> Path:
    """Where decoded pictures are kept: $BEDGEN_CACHE, else the platform's cache folder. Safe to delete at any time."""
    if chosen := os.environ.get("BEDGEN_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "bedgen"


def _npy_header(count: int, size: int) -> bytes:
    text = repr({"descr": "|u1", "fortran_order": False, "shape": (count, 3, size, size)})
    return b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + text.ljust(_HEADER - 11).encode() + b"\n"


def _write_cache(path: Path, pictures, size: int, skipped: dict[str, str]) -> None:
    """Stream ``pictures`` into ``path``: a .npy file, then one JSON line that says what must stand before it.

    The file appears under its name in one step and whole. Two processes that build it at once each write their own
    and the last one wins; both are the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{path.name}.*.tmp"):       # from a process that was killed
        if time.time() - left.stat().st_mtime > 3600:
            left.unlink(missing_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as f:
            f.write(bytes(_HEADER))
            count, crc = 0, 0
            for picture in pictures:
                pixels = picture.tobytes()
                f.write(pixels)
                count, crc = count + 1, zlib.crc32(pixels, crc)
            f.write(json.dumps({"count": count, "crc32": crc, "skipped": skipped}).encode() + b"\n")
            f.seek(0)
            f.write(_npy_header(count, size))
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_cache(path: Path) -> tuple[np.ndarray, dict[str, str]] | None:
    """The pictures, memory-mapped, and what was skipped; None where the file is absent, cut short or damaged."""
    try:
        with open(path, "rb") as f:
            np.lib.format.read_magic(f)
            shape, _, _ = np.lib.format.read_array_header_1_0(f)
            f.seek(_HEADER + int(np.prod(shape)))
            end = json.loads(f.readline())
        # Copy on write: a caller may change its tensor, the file stays as it is.
        pictures = np.memmap(path, np.uint8, mode="c", offset=_HEADER, shape=shape)
        if end["count"] == len(pictures) and end["crc32"] == zlib.crc32(pictures):
            return pictures, end["skipped"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, SyntaxError):
        pass
    return None


# ---- what others call

def load_bedrooms(source: str = "rendered", split: str = "train", size: int = 32, limit: int | None = None,
                  path: str | Path | None = None) -> torch.Tensor:
    """Pictures of bedrooms as uint8 (N, 3, size, size) in [0, 255].

    source: "rendered" (the set in ``data/``; with ``path`` another zip of the same layout), "folder" (``path`` and all
        folders below it) or "zip" (``path``).
    split: "train", "test" or "all". Where pictures lie below folders named ``train`` or ``test``, these decide. Where
        there are none, the hash of a picture's relative name sends one in ten to "test", always the same ones.
    limit: only the first ``limit`` pictures. Rendered pictures come in the order of ``load_factors``; those of folders
        and zips in an order shuffled by the hash of their names.

    A picture that cannot be read is left out and named in a warning (in the rendered set it is an error). The tensor
    maps a file in the cache folder (see ``cache_folder``); where that cannot be written, it lies in memory.

    Raises ValueError for an unknown source or split, an empty folder or split, and where no picture can be read;
    FileNotFoundError where ``path`` is not there.
    """
    if size < 1 or (limit is not None and limit < 1):
        raise ValueError(f"size and limit must be positive, not {size} and {limit}")
    files = _files(source, path)
    names = _choose(files, source, split)
    order = "" if source == "rendered" else "-shuffled"
    cached = cache_folder() / f"{_content_sha256(files)}-{split}-{size}{order}-v{CACHE_FORMAT}.npy"

    found = _read_cache(cached)
    if found is None:
        skipped = {}
        try:
            _write_cache(cached, _decoded(files, names, size, skipped), size, skipped)
            found = _read_cache(cached)
        except OSError as error:
            warnings.warn(f"decoded pictures are not kept, {cached.parent} cannot be written: {error}", stacklevel=2)
        if found is None:
            skipped = {}
            pictures = list(_decoded(files, names, size, skipped))
            found = np.stack(pictures) if pictures else np.empty((0, 3, size, size), np.uint8), skipped
    pictures, skipped = found

    if skipped:
        listed = "; ".join(f"{name} ({why})" for name, why in list(skipped.items())[:10])
        message = (f"{len(skipped)} of {len(names)} pictures in {files.root} cannot be read and are left out: {listed}"
                   + ("; …" if len(skipped) > 10 else ""))
        if source == "rendered" or not len(pictures):
            raise ValueError(message)
        warnings.warn(message, stacklevel=2)
    return torch.from_numpy(pictures[:limit])


def load_factors(split: str = "train", path: str | Path | None = None) -> list[dict]:
    """The scene factors of the rendered rooms of ``split``: one dict a picture, in the order of ``load_bedrooms``.

    They come from ``metadata.csv`` or ``metadata.jsonl`` in the rendered zip (``path``: another of the same layout). A
    CSV column whose entries all read as whole numbers, numbers or true/false becomes that type; an empty entry becomes
    None. Raises KeyError where a picture has no row.
    """
    files = _rendered(path)
    with zipfile.ZipFile(files.root) as file:
        if "metadata.jsonl" in file.namelist():
            rows = [json.loads(line) for line in file.read("metadata.jsonl").decode().splitlines() if line.strip()]
        elif "metadata.csv" in file.namelist():
            rows = list(csv.DictReader(io.StringIO(file.read("metadata.csv").decode(), newline="")))
            for column in set(rows[0]) - {"file_name"}:
                for row, value in zip(rows, _typed([row[column] for row in rows]), strict=True):
                    row[column] = value
        else:
            raise ValueError(f"{files.root} holds neither metadata.csv nor metadata.jsonl")
    by_name = {row["file_name"]: row for row in rows}
    return [by_name[name] for name in _choose(files, "rendered", split)]


def _typed(texts: list[str]) -> list:
    for kind in (int, float, {"true": True, "false": False, "True": True, "False": False}.__getitem__):
        try:
            return [None if text == "" else kind(text) for text in texts]
        except (ValueError, KeyError):
            continue
    return texts
