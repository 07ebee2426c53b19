"""Images of bedrooms as one uint8 tensor, whatever they come from.

An image of any width w and height h becomes size x size and keeps its proportions: the centred
square of side s = min(w, h) is cut out, then resampled with a bicubic kernel, widened by s/size
where it shrinks (antialiasing). A stretched image has narrow beds, and a kernel that is not widened
aliases; either can move a Fréchet distance by more than the models under comparison differ (Parmar
et al. 2022, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation").

Decoding happens once: a file in the user's cache folder, named by the content hash of what was
decoded, is memory-mapped.
"""

import csv
import hashlib
import io
import json
import os
import re
import threading
import time
import uuid
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import platformdirs
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

RENDERED = Path(__file__).resolve().parents[1] / "data" / "bedrooms64.zip"
SPLITS = ("train", "validation", "test", "all")
FOLDERS = {s: s for s in SPLITS[:3]} | dict(training="train", val="validation", valid="validation")
# Some of these Pillow may not read (.heic): such a file is named rather than passed over.
ENDINGS = tuple(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .bmp .dib .gif .tif .tiff .avif .heic .heif .jxl "
    ".jp2 .j2k .ppm .pgm .pbm .pnm .tga .mpo".split()
)
MAX_BYTES = 128 << 20  # of one encoded image: more is a mistake or an attack


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


def replace_atomically(path: Path, write) -> None:
    """Let ``write(temporary_path)`` make a file, then put it in the place of ``path`` in one step:
    a reader sees the old file or the new one, never a part. Of two writers the last one wins."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(temporary)
        with open(temporary, "r+b") as f:  # Windows flushes only what it may write to
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# ---- sources: where images lie
# A source has a place, the relative names of its images (with "/") and what is left_out (name:
# why). stamp() says at low cost whether files changed, digest() hashes the content, read(name)
# gives the bytes of one image and may be called by many threads.


class Folder:
    """A folder and all below it. Links are followed, but no folder is read twice."""

    def __init__(self, place):
        if not place.is_dir():
            raise FileNotFoundError(f"{place} is not a folder")
        self.place, self.left_out, found, errors = place, {}, [], []

        def below(path) -> str:
            return Path(path).relative_to(place).as_posix()

        starts, seen = [place], set(map(str, place.resolve().parents))
        for start in starts:  # linked folders come last: a folder keeps its own name
            for at, folders, files in os.walk(start, onerror=errors.append, followlinks=True):
                if (real := os.path.realpath(at)) in seen:
                    self.left_out[below(at) + "/"] = "a folder that is read already, or one above"
                    folders.clear()
                    continue
                seen.add(real)
                visible = sorted(f for f in folders if not f.startswith("."))
                linked = [f for f in visible if os.path.islink(os.path.join(at, f))]
                folders[:] = [f for f in visible if f not in linked]
                starts += [os.path.join(at, f) for f in linked]
                found += filter(_is_image, (below(os.path.join(at, f)) for f in files))
        self.left_out |= {below(e.filename) + "/": repr(e) for e in errors}
        gone = {name for name in found if not os.path.isfile(place / name)}
        self.left_out |= dict.fromkeys(gone, "no regular file, or a link to nothing")
        self.names = sorted(set(found) - gone)

    def stamp(self) -> dict:
        return {name: _stat(self.place / name) for name in self.names}

    def digest(self) -> str:
        """sha256 of what ``sha256sum`` prints for its readable images, sorted by name."""
        listing = hashlib.sha256()
        for name in tqdm(self.names.copy(), f"reading {self.place.name}", delay=2, leave=False):
            try:
                listing.update(_bytes(f"{_sha256_of_file(self.place / name)}  {name}\n"))
            except OSError as error:
                self.left_out[name] = repr(error)
                self.names.remove(name)
        return listing.hexdigest()

    def read(self, name: str) -> bytes:
        with open(self.place / name, "rb") as f:
            return _bounded(f, os.fstat(f.fileno()).st_size)


class Zip:
    """A zip file. Backslashes in names count as ``/``; of two equal names the later one counts."""

    def __init__(self, place):
        if place.exists() and not place.is_file():  # a pipe would be waited for
            raise ValueError(f"{place} is not a regular file")
        self.place, self.left_out, self.members = place, {}, {}
        try:
            self.file, self.lock = zipfile.ZipFile(place), threading.Lock()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise ValueError(f"{place} is no zip file, or was cut short: {error}") from error
        for member in self.file.infolist():
            name = member.filename.replace("\\", "/")
            if name in self.members and _is_image(name):
                self.left_out[f"{name} (earlier)"] = "a later member has the same name"
            self.members[name] = member
        self.names = sorted(filter(_is_image, self.members))

    def stamp(self) -> dict:
        return {"": _stat(self.place)}

    def digest(self) -> str:
        return _sha256_of_file(self.place)

    def read(self, name: str) -> bytes:
        with self.lock, self.file.open(self.members[name]) as f:
            return _bounded(f, self.members[name].file_size)


# A further source is a class like the two above and an entry here.
SOURCES: dict[str, type] = {"rendered": Zip, "folder": Folder, "zip": Zip}


def _open(source: str, path, split: str = "all"):
    for what, value, known in (("source", source, SOURCES), ("split", split, SPLITS)):
        if value not in known:
            raise ValueError(f"{what} {value!r} is unknown; choose one of {', '.join(known)}")
    if path is None and source != "rendered":
        raise ValueError(f'source "{source}" needs path=, the {source} with the images')
    place = Path(RENDERED if path is None else path).expanduser()
    opened = SOURCES[source](place)
    if not opened.names:
        raise ValueError(f"no images ({', '.join(ENDINGS)}) in {place}{_listed(opened.left_out)}")
    return opened


def _is_image(name: str) -> bool:
    hidden = any(p.startswith((".", "__MACOSX")) and p not in (".", "..") for p in name.split("/"))
    return name.lower().endswith(ENDINGS) and not hidden


def _stat(path) -> list[int] | None:
    with suppress(OSError):
        s = os.stat(path)
        return [s.st_size, s.st_mtime_ns, s.st_ctime_ns]  # ctime sees what keeps size and mtime
    return None


def _bounded(f, size: int) -> bytes:
    if size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
    return f.read()


def _bytes(name: str) -> bytes:  # a name that is not UTF-8 on disk holds lone surrogates
    return name.encode("utf-8", "surrogatepass")


def _listed(left_out: dict[str, str]) -> str:
    some = [f"; {name} ({why})" for name, why in left_out.items()]
    some[10:] = ["; …"] if len(some) > 10 else []
    text = f"; {len(left_out)} cannot be read and are left out: {''.join(some)[2:]}"
    return text.encode("utf-8", "backslashreplace").decode() if left_out else ""


def _choose(opened, source: str, split: str) -> list[str]:
    """The names of ``split``, in the order in which ``load_bedrooms`` gives the images."""
    names, of = opened.names, {}
    key = {n: int.from_bytes(hashlib.sha256(_bytes(n)).digest()[:8], "big") for n in names}
    for name in names:
        known = map(FOLDERS.get, name.lower().split("/")[:-1])
        of[name] = next(filter(None, known), "train")
    for tenth, held_out in enumerate(("test", "validation")):
        if held_out not in of.values():
            of |= {n: held_out for n in names if of[n] == "train" and key[n] % 10 == tenth}
    chosen = [name for name in names if split in ("all", of[name])]
    if not chosen:
        raise ValueError(f'{opened.place}: none of the {len(names)} images is in split "{split}"')
    # Rendered rooms are independent and keep the order of their factors. Other people's folders are
    # sorted by something: shuffled, always alike, their first `limit` images are a fair sample.
    return chosen if source == "rendered" else sorted(chosen, key=key.__getitem__)


# ---- content hashes


def _sha256_of_file(path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _content_sha256(opened) -> tuple[str, dict]:
    """Hash of the bytes and stamp of the files. The hash is remembered until the stamp changes."""
    stamp = opened.stamp()
    known_as = json.dumps([os.path.realpath(opened.place), stamp]).encode()
    memo = cache_folder() / "hashes" / hashlib.sha256(known_as).hexdigest()
    with suppress(OSError, ValueError):
        if re.fullmatch("[0-9a-f]{64}", known := memo.read_text(encoding="ascii")):
            return known, stamp
    result = opened.digest()
    if opened.stamp() == stamp:  # nothing changed meanwhile, and every file could be read
        with suppress(OSError):  # only the time to hash again is lost
            memo.parent.mkdir(parents=True, exist_ok=True)
            replace_atomically(memo, lambda new: new.write_text(result, encoding="ascii"))
    return result, stamp


def dataset_sha256(source: str = "rendered", path: str | Path | None = None) -> str:
    """The content hash (64 hexadecimal digits) that figures and weights name their data by: the
    sha256 of a zip; for a folder, see ``Folder.digest``. Errors as in ``load_bedrooms``."""
    return _content_sha256(_open(source, path))[0]


# ---- decoding


def decode(data: bytes, size: int) -> np.ndarray:
    """One encoded image as uint8 (3, size, size): upright as EXIF says, in sRGB, centred square,
    antialiased resize; where nothing is to be resized the pixels stay as they are.

    Colours follow an embedded ICC profile or a PNG's gamma; transparent parts become white; of an
    animation the first frame counts. Raises ValueError for pixels of floating-point numbers or more
    than 16 bits, and what Pillow raises where ``data`` is no image, cut short or a bomb."""
    with Image.open(io.BytesIO(data)) as image:
        depth = data[24] if image.format == "PNG" else 8
        colours, alpha = _eight_bits(ImageOps.exif_transpose(image), depth)
        result = _srgb(colours, image.info)
    if alpha is not None:
        result = Image.composite(result, Image.new("RGB", result.size, "white"), alpha)
    if min(result.size) == size:  # cut between pixels, also where the margins are odd
        left, top = (result.width - size) // 2, (result.height - size) // 2
        result = result.crop((left, top, left + size, top + size))
    else:
        result = ImageOps.fit(result, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(result).transpose(2, 0, 1)


def _eight_bits(image: Image.Image, depth: int) -> tuple[Image.Image, Image.Image | None]:
    """Colours (L, RGB or CMYK) and opacity (L or None) of an image with ``depth`` bits a sample."""
    key = image.info.get("transparency")  # a PNG's transparent colour, in levels of its own depth
    if image.mode == "F":
        raise ValueError("the pixels are floating-point numbers, whose white is unknown")
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it at 255
        levels = np.asarray(image, np.float64)
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
        with suppress(ImageCms.PyCMSError, OSError, ValueError):  # damaged: browsers ignore it too
            srgb, profile = ImageCms.createProfile("sRGB"), ImageCms.getOpenProfile(io.BytesIO(icc))
            if profile.profile.xcolor_space.strip().replace("GRAY", "L") == image.mode:
                return ImageCms.buildTransform(profile, srgb, image.mode, "RGB").apply(image)
    image, gamma = image.convert("RGB"), info.get("gamma")
    if not gamma or "srgb" in info or 0.44 < gamma < 0.47:  # 1 / 2.2 stands for sRGB
        return image
    light = (np.arange(256) / 255) ** (1 / gamma)
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return image.point((255 * levels).round().astype(int).tolist() * 3)


def _decoded(opened, names: list[str], size: int, left_out: dict[str, str], strict: bool):
    """Yield the images in order. Those that cannot be read are named in ``left_out``; ``strict``
    raises OSError where the reason may pass: the disk, the network, too little memory."""

    def read(name):
        return decode(opened.read(name), size)

    Image.init()  # else threads race for the plugins, and one finds none for its image
    bar = tqdm(desc=f"decoding {opened.place.name}", total=len(names), delay=2, leave=False)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, bar:
        for start in range(0, len(names), 256):  # bounds the memory
            for name, job in [(n, pool.submit(read, n)) for n in names[start : start + 256]]:
                bar.update()
                try:
                    image = job.result()
                except Exception as error:  # Pillow and the decompressors raise many kinds
                    left_out[name] = repr(error)
                    if strict and (isinstance(error, MemoryError) or getattr(error, "errno", None)):
                        raise OSError(f"{name} cannot be read this time: {error!r}") from error
                else:
                    yield image


# ---- the cache
# A .npy file, then as JSON what was left out, then the CRC-32 of pixels and text.

CACHE_FORMAT = 2  # counted up when decode(), _choose() or the layout changes


def cache_folder() -> Path:
    """Where decoded images are kept: $BEDGEN_CACHE, else the platform's. Delete it freely."""
    usual = platformdirs.user_cache_dir("bedgen", appauthor=False)
    return Path(os.environ.get("BEDGEN_CACHE") or usual)


def _stored(path: Path, size: int) -> tuple[np.ndarray, dict[str, str]] | None:
    """The images, memory-mapped, and what was left out; None for a file absent or damaged."""
    with suppress(Exception):  # damaged headers raise many kinds
        images = np.load(path, mmap_mode="c")  # a caller may change its tensor, the file stays
        with open(path, "rb") as f:
            f.seek(images.offset + images.nbytes)
            text, crc = (end := f.read())[:-8], end[-8:]
        good = zlib.crc32(text, zlib.crc32(images)) == int(crc, 16)
        if good and images.dtype == np.uint8 and images.shape[1:] == (3, size, size):
            return images, json.loads(text)
    return None


def _build(path: Path, opened, names, size: int, stamp: dict) -> tuple[np.ndarray, dict[str, str]]:
    """Decode ``names`` into the cache file ``path``, or into memory where that must not be."""
    left_out: dict[str, str] = {}

    def write(temporary: Path) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (0, 3, size, size)}
        crc = count = 0
        with open(temporary, "wb") as f:
            np.lib.format.write_array_header_1_0(f, header)  # with room for any count
            for image in _decoded(opened, names, size, left_out, True):
                f.write(pixels := image.tobytes())
                count, crc = count + 1, zlib.crc32(pixels, crc)
            text = json.dumps(left_out).encode()
            f.write(text + b"%08x" % zlib.crc32(text, crc))
            f.seek(0)
            np.lib.format.write_array_header_1_0(f, header | {"shape": (count, 3, size, size)})
        if not opened.stamp().items() <= stamp.items():
            raise OSError("they changed while they were read")

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(".*.tmp"):  # from a process that was killed
            if time.time() - old.stat().st_mtime > 3600:
                old.unlink(missing_ok=True)
        replace_atomically(path, write)
        if found := _stored(path, size):
            return found
    except OSError as error:
        warnings.warn(f"decoded images are not kept in {path.parent}: {error}", stacklevel=3)
    left_out.clear()
    images = list(_decoded(opened, names, size, left_out, False))
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

    source: "rendered" (the set in ``data/``, or another at ``path``), "folder" (``path`` and
        all below it) or "zip" (``path``). Files count by their ending; hidden ones do not.
    split: "train", "validation", "test" or "all". The first folder on an image's relative path that
        is named train or training, val, valid or validation, or test, in any case, decides. Where
        no image has a validation (test) folder, the hash of the name holds out a tenth of the rest.
    limit: only the first ``limit`` images. Rendered ones come in the order of ``load_factors``,
        others shuffled by the hash of their names.

    An image that cannot be read is left out and named in a warning (rendered: an error). The tensor
    maps a file in ``cache_folder()``; where that cannot be written, it lies in memory. ValueError
    for an unknown source or split and where there are no images; FileNotFoundError for no path."""
    if size < 1 or (limit is not None and limit < 1):
        raise ValueError(f"size and limit must be positive, not {size} and {limit}")
    opened = _open(source, path, split)
    sha, stamp = _content_sha256(opened)
    order = "" if source == "rendered" else "-shuffled"
    cached = cache_folder() / f"{sha}-{split}-{size}{order}-v{CACHE_FORMAT}.npy"
    names = _choose(opened, source, split)
    images, unread = _stored(cached, size) or _build(cached, opened, names, size, stamp)
    if left_out := opened.left_out | unread:
        message = f"{opened.place}: {len(images)} images in split {split!r}{_listed(left_out)}"
        if source == "rendered" or not len(images):
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
    opened = _open("rendered", path, split)
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
    names = _choose(opened, "rendered", split)
    if missing := [name for name in names if name not in by_name]:
        raise KeyError(f"{opened.place}: no factors of {len(missing)} images, as {missing[0]}")
    return [by_name[name] for name in names]


def _csv_rows(text: str) -> list[dict[str, str]]:
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    point = "[.]" if delimiter == "," else ","  # 2,5 for 2.5, where there is room for it
    number = re.compile(rf"^([+-]?\d+){point}(\d+)$")
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    rows = ({k: number.sub(r"\1.\2", row[k]) for k in table.fieldnames or ()} for row in table)
    return [row for row in rows if any(row.values())]


def _typed(texts: list[str]) -> list:
    for kind in (int, float, lambda text: {"true": True, "false": False}[text.lower()]):
        try:
            return [None if text == "" else kind(text) for text in texts]
        except (ValueError, KeyError):
            continue
    return texts
