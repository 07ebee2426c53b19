"""Images of bedrooms as one uint8 tensor, whatever they come from.

An image of any width w and height h becomes size x size in two steps that keep its proportions:
the centred square of side s = min(w, h) is cut out, then resampled by size/s with a bicubic kernel,
widened by s/size where it shrinks, so that it averages over all pixels it covers (antialiasing).
Stretching the whole image to a square would make beds narrower than beds are, and a kernel that is
not widened would alias; either can move a Fréchet distance by more than the models under comparison
differ (Parmar et al. 2022, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation").

Decoding happens once: the result is kept in the user's cache folder and memory-mapped. The file's
name holds the content hash of what was decoded, so other images never get an old answer.
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
from contextlib import nullcontext
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
LARGE = 32_000_000  # pixels; images above are decoded one at a time
_one_large = threading.Lock()


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
    """Let ``write(temporary_path)`` make a file, then put it in the place of ``path`` in one step.

    A reader, or a run that is killed half-way, sees the old file or the new one and never a part
    of it. Of two writers at once the last one wins."""
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

    def __init__(self, path):
        self.place = _given(path, "folder")
        if not self.place.is_dir():
            raise FileNotFoundError(f"{self.place} is not a folder")
        self.names, self.left_out = [], {}
        seen = set(map(str, Path(os.path.realpath(self.place)).parents))
        plain, linked = [""], []  # linked folders come last: a folder keeps its own name
        while plain or linked:
            below = plain.pop() if plain else linked.pop(0)
            real = os.path.realpath(os.path.join(self.place, below))
            if real in seen:
                self.left_out[below] = "leads to a folder that is read already, or to one above"
                continue
            seen.add(real)
            try:
                with os.scandir(real) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                self.left_out[below or "."] = _reason(error)
                continue
            for entry in entries:
                name = below + entry.name
                try:
                    if entry.is_dir() and not entry.name.startswith("."):
                        (linked if entry.is_symlink() else plain).append(name + "/")
                    elif _is_image(name) and entry.is_file():
                        self.names.append(name)
                    elif _is_image(name) and not entry.is_dir():
                        self.left_out[name] = "no regular file, or a link to nothing"
                except OSError as error:  # a link to itself
                    self.left_out[name] = _reason(error)
        self.names.sort()

    def stamp(self) -> dict:
        return {name: _stat(os.path.join(self.place, name)) for name in self.names}

    def digest(self) -> str:
        """sha256 of what ``sha256sum`` prints for the images in the order of their names."""
        listing, all_names, self.names = hashlib.sha256(), self.names, []
        for name in tqdm(all_names, f"reading {self.place.name}", delay=2, leave=False):
            try:
                line = f"{_sha256_of_file(os.path.join(self.place, name))}  {name}\n"
            except OSError as error:
                self.left_out[name] = _reason(error)
                continue
            listing.update(_bytes(line))
            self.names.append(name)
        return listing.hexdigest()

    def read(self, name: str) -> bytes:
        with open(os.path.join(self.place, name), "rb") as f:
            return _bounded(f, os.fstat(f.fileno()).st_size)


class Zip:
    """A zip file. Backslashes in names count as ``/``; of two equal names the later one counts."""

    def __init__(self, path):
        self.place, self.left_out, self.members = _given(path, "zip"), {}, {}
        if not self.place.exists():
            raise FileNotFoundError(f"{self.place} is not there")
        try:
            if not self.place.is_file():  # a pipe would be waited for
                raise ValueError("not a regular file")
            self.file, self.lock = zipfile.ZipFile(self.place), threading.Lock()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise ValueError(f"{self.place} is no zip file, or was cut short: {error}") from error
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


def _rendered(path):
    return Zip(RENDERED if path is None else path)


# A further source is a class like the two above and an entry here.
SOURCES = {"rendered": _rendered, "folder": Folder, "zip": Zip}


def _open(source: str, path, split: str = "all"):
    for what, value, known in (("source", source, SOURCES), ("split", split, SPLITS)):
        if value not in known:
            raise ValueError(f"{what} {value!r} is unknown; choose one of {', '.join(known)}")
    opened = SOURCES[source](path)
    if not opened.names:
        listed = _listed(opened.left_out)
        raise ValueError(f"no images ({', '.join(ENDINGS)}) in {opened.place}{listed}")
    return opened


def _given(path, source: str) -> Path:
    if path is None:
        raise ValueError(f'source "{source}" needs path=, the {source} with the images')
    return Path(path).expanduser()


def _is_image(name: str) -> bool:
    parts = name.split("/")
    hidden = any(p.startswith((".", "__MACOSX")) and p not in (".", "..") for p in parts)
    return name.lower().endswith(ENDINGS) and not hidden


def _stat(path) -> list | None:
    try:
        s = os.stat(path)
    except OSError:
        return None
    return [s.st_size, s.st_mtime_ns, s.st_ctime_ns]  # ctime sees what keeps size and mtime


def _bounded(f, size: int) -> bytes:
    if size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
    return f.read()


def _bytes(name: str) -> bytes:  # a name that is not UTF-8 on disk holds lone surrogates
    return name.encode("utf-8", "surrogatepass")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _listed(left_out: dict[str, str]) -> str:
    some = "; ".join(f"{name} ({why})" for name, why in list(left_out.items())[:10])
    more = "; …" if len(left_out) > 10 else ""
    text = f"; {len(left_out)} cannot be read and are left out: {some}{more}" if left_out else ""
    return text.encode("utf-8", "backslashreplace").decode()


def _choose(opened, source: str, split: str) -> list[str]:
    """The names of ``split``, in the order in which ``load_bedrooms`` gives the images."""
    names = opened.names
    key = {n: int.from_bytes(hashlib.sha256(_bytes(n)).digest()[:8], "big") for n in names}
    chosen = names
    if split != "all":
        of = {}
        for name in names:
            parts = name.lower().split("/")[:-1]
            of[name] = next((FOLDERS[part] for part in parts if part in FOLDERS), "train")
        named = set(of.values())
        for tenth, held_out in enumerate(("test", "validation")):
            if held_out not in named:
                of |= {n: held_out for n in names if of[n] == "train" and key[n] % 10 == tenth}
        chosen = [name for name in names if of[name] == split]
    if not chosen:
        raise ValueError(f'{opened.place}: none of the {len(names)} images is in split "{split}"')
    # Rendered rooms are independent and keep the order of their factors. Other people's folders are
    # sorted by something: shuffled, always alike, their first `limit` images are a fair sample.
    return list(chosen) if source == "rendered" else sorted(chosen, key=lambda name: key[name])


# ---- content hashes


def _sha256_of_file(path) -> str:
    sha = hashlib.sha256()
    with open(path, "rb", buffering=0) as f:
        while block := f.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _content_sha256(opened) -> tuple[str, dict]:
    """Hash of the bytes and stamp of the files. The hash is remembered until the stamp changes."""
    stamp = opened.stamp()
    known_as = json.dumps([os.path.realpath(opened.place), stamp]).encode()
    memo = cache_folder() / "hashes" / hashlib.sha256(known_as).hexdigest()
    try:
        if re.fullmatch("[0-9a-f]{64}", known := memo.read_text(encoding="ascii")):
            return known, stamp
    except (OSError, ValueError):
        pass
    result = opened.digest()
    try:
        if opened.stamp() == stamp:  # nothing changed meanwhile, and every file could be read
            memo.parent.mkdir(parents=True, exist_ok=True)
            replace_atomically(memo, lambda new: new.write_text(result, encoding="ascii"))
    except OSError:
        pass  # only the time to hash again is lost
    return result, stamp


def dataset_sha256(source: str = "rendered", path: str | Path | None = None) -> str:
    """The content hash that figures and weights name their data by (64 hexadecimal digits).

    For a zip file (and the rendered set) the sha256 of the file; for a folder the sha256 of what
    ``sha256sum`` prints for its readable images in the order of their names. Errors as in
    ``load_bedrooms``."""
    return _content_sha256(_open(source, path))[0]


# ---- decoding


def decode(data: bytes, size: int) -> np.ndarray:
    """One encoded image as uint8 (3, size, size): upright as EXIF says, in sRGB, centred square,
    antialiased resize; where nothing is to be resized the pixels stay as they are.

    Colours follow an embedded ICC profile or a PNG's gamma; transparent parts become white; of an
    animation the first frame counts. Raises ValueError for pixels of floating-point numbers or more
    than 16 bits, and what Pillow raises where ``data`` is no image, cut short or a bomb."""
    with Image.open(io.BytesIO(data)) as image:
        with _one_large if image.width * image.height > LARGE else nullcontext():
            depth = data[24] if image.format == "PNG" else 8
            colours, alpha = _eight_bits(ImageOps.exif_transpose(image), depth)
            result = _srgb(colours, image.info)
        if alpha is not None:
            result = Image.composite(result, Image.new("RGB", result.size, "white"), alpha)
        side = min(result.size)
        left, top = (result.width - side) / 2, (result.height - side) / 2
        if side == size:
            result = result.crop((int(left), int(top), int(left) + side, int(top) + side))
        else:
            box = (left, top, left + side, top + side)
            result = result.resize((size, size), Image.Resampling.BICUBIC, box=box)
        return np.asarray(result).transpose(2, 0, 1)


def _eight_bits(image: Image.Image, depth: int) -> tuple[Image.Image, Image.Image | None]:
    """Colours (L, RGB or CMYK) and opacity (L or None) of an image with ``depth`` bits a sample."""
    key = image.info.get("transparency")  # a PNG's transparent colour, in levels of its own depth
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it at 255
        levels = np.asarray(image, np.float64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("the pixels have more than 16 bits")
        opaque = None if key is None else Image.fromarray(np.uint8(levels != key) * 255)
        return Image.fromarray((levels / 257).round().astype(np.uint8)), opaque
    if image.mode == "F":
        raise ValueError("the pixels are floating-point numbers, whose white is unknown")
    grey = image.mode in ("1", "L", "LA", "La")
    if key is not None and depth != 8 and image.mode in ("1", "L", "RGB"):
        image = image.convert("L" if grey else "RGB")
        scaled = [k >> 8 if depth == 16 else k * 255 // (2**depth - 1) for k in np.ravel(key)]
        image.info["transparency"] = int(scaled[0]) if grey else tuple(map(int, scaled))
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    return image if image.mode == "CMYK" else image.convert("L" if grey else "RGB"), alpha


def _srgb(image: Image.Image, info: dict) -> Image.Image:
    """An L, RGB or CMYK image as RGB in sRGB, by the ICC profile or the gamma in ``info``."""
    if icc := info.get("icc_profile"):
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            space = profile.profile.xcolor_space.strip().replace("GRAY", "L")
            if space == image.mode:  # else, and where it is damaged, it is ignored as browsers do
                srgb = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
                return converted or image.convert("RGB")
        except (ImageCms.PyCMSError, OSError):
            pass
    image, gamma = image.convert("RGB"), info.get("gamma")
    if not gamma or "srgb" in info or 0.44 < gamma < 0.47:  # 1 / 2.2 stands for sRGB
        return image
    light = (np.arange(256) / 255) ** (1 / gamma)
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return image.point((255 * levels).round().astype(int).tolist() * 3)


def _decoded(opened, names: list[str], size: int, left_out: dict, passing: set):
    """Yield the images in order. Those that cannot be read are named in ``left_out``, and also in
    ``passing`` where the reason may pass: the disk, the network, too little memory."""

    def attempt(name):
        try:
            return decode(opened.read(name), size)
        except Exception as error:  # Pillow and the decompressors raise many kinds
            return error

    Image.init()  # else threads race for the plugins, and one finds none for its image
    bar = tqdm(desc=f"decoding {opened.place.name}", total=len(names), delay=2, leave=False)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, bar:
        for start in range(0, len(names), 256):  # bounds the memory
            some = names[start : start + 256]
            for name, result in zip(some, pool.map(attempt, some), strict=True):
                bar.update()
                if not isinstance(result, Exception):
                    yield result
                    continue
                left_out[name] = _reason(result)
                if isinstance(result, MemoryError) or getattr(result, "errno", None) is not None:
                    passing.add(name)


# ---- the cache

CACHE_FORMAT = 2  # counted up when decode(), _choose() or the layout changes


def cache_folder() -> Path:
    """Where decoded images are kept: $BEDGEN_CACHE, else the platform's cache folder. Safe to
    delete at any time."""
    usual = platformdirs.user_cache_dir("bedgen", appauthor=False)
    return Path(os.environ.get("BEDGEN_CACHE") or usual)


def _stored(path: Path, size: int) -> tuple[np.ndarray, dict[str, str]] | None:
    """The images, memory-mapped, and what was left out; None for a file absent or damaged."""
    try:
        images = np.load(path, mmap_mode="c")  # a caller may change its tensor, the file stays
        with open(path, "rb") as f:
            f.seek(images.offset + images.nbytes)
            text, crc = (end := f.read())[:-8], end[-8:]
        good = zlib.crc32(text, zlib.crc32(images)) == int(crc, 16)
        if good and images.dtype == np.uint8 and images.shape[1:] == (3, size, size):
            return images, json.loads(text)
    except Exception:  # damaged headers raise many kinds
        pass
    return None


def _build(path: Path, opened, names, size: int, stamp: dict) -> tuple[np.ndarray, dict[str, str]]:
    """Decode ``names`` into the cache file ``path``, or into memory where that must not be."""
    left_out: dict[str, str] = {}
    passing: set[str] = set()

    def write(temporary):
        """A .npy file, then as JSON what was left out, then the checksum of pixels and text."""
        header = {"descr": "|u1", "fortran_order": False, "shape": (0, 3, size, size)}
        crc = count = 0
        with open(temporary, "wb") as f:
            np.lib.format.write_array_header_1_0(f, header)  # with room for any count
            for image in _decoded(opened, names, size, left_out, passing):
                f.write(pixels := image.tobytes())
                count, crc = count + 1, zlib.crc32(pixels, crc)
            f.write(text := json.dumps(left_out).encode())
            f.write(b"%08x" % zlib.crc32(text, crc))
            f.seek(0)
            np.lib.format.write_array_header_1_0(f, header | {"shape": (count, 3, size, size)})
        if passing:
            raise OSError(f"{len(passing)} of them could not be read this time")
        if any(stamp.get(key) != now for key, now in opened.stamp().items()):
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
    images = list(_decoded(opened, names, size, left_out, passing))
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

    source: "rendered" (the set in ``data/``; with ``path`` another zip of the same layout),
        "folder" (``path`` and all folders below) or "zip" (``path``). Files count whose ending says
        image; hidden ones do not.
    split: "train", "validation", "test" or "all". The first folder on an image's relative path
        named train or training, val, valid or validation, or test, in capitals or not, decides.
        Where no image has a validation (test) folder, the hash of the relative name holds a tenth
        out of the rest, always the same one.
    limit: only the first ``limit`` images. Rendered images come in the order of ``load_factors``,
        those of folders and zips in an order shuffled by the hash of their names.

    An image that cannot be read is left out and named in a warning (in the rendered set it is an
    error). The tensor maps a file in the cache folder (see ``cache_folder``); where that cannot be
    written, it lies in memory. Raises ValueError for an unknown source or split, an empty folder or
    split, and where no image can be read; FileNotFoundError where ``path`` is not there."""
    if size < 1 or (limit is not None and limit < 1):
        raise ValueError(f"size and limit must be positive, not {size} and {limit}")
    opened = _open(source, path, split)
    sha, stamp = _content_sha256(opened)
    names = _choose(opened, source, split)
    order = "" if source == "rendered" else "-shuffled"
    cached = cache_folder() / f"{sha}-{split}-{size}{order}-v{CACHE_FORMAT}.npy"
    found = _stored(cached, size) or _build(cached, opened, names, size, stamp)
    images, left_out = found[0], opened.left_out | found[1]
    if left_out:
        message = f"{opened.place}: {len(images)} images in split {split!r}{_listed(left_out)}"
        if source == "rendered" or not len(images):
            raise ValueError(message)
        warnings.warn(message, stacklevel=2)
    return torch.from_numpy(images[:limit])


def load_factors(split: str = "train", path: str | Path | None = None) -> list[dict]:
    """The scene factors of the rendered rooms of ``split``: one dict an image, in the order of
    ``load_bedrooms``.

    They come from each ``metadata.csv`` or ``metadata.jsonl`` in the rendered zip (``path``:
    another of the same layout); ``file_name`` is relative to the table's folder there, to the zip
    in the result. A CSV column whose entries all read as whole numbers, numbers or true/false
    becomes that type; an empty entry becomes None. A CSV that a spreadsheet wrote again (byte order
    mark, semicolons, decimal commas, TRUE) reads alike. Raises ValueError for a table that is
    absent or cannot be read, KeyError where an image has no row."""
    opened = _open("rendered", path, split)
    tables: dict[str, list[dict]] = {"csv": [], "jsonl": []}
    for member in sorted(opened.members):
        folder, _, name = member.rpartition("/")
        if name not in ("metadata.csv", "metadata.jsonl"):
            continue
        try:
            text, kind = opened.read(member).decode("utf-8-sig"), name.split(".")[1]
            lines = filter(str.strip, text.split("\n"))
            for row in _csv_rows(text) if kind == "csv" else map(json.loads, lines):
                file_name = row["file_name"].replace("\\", "/")
                tables[kind].append(row | {"file_name": f"{folder}/{file_name}".lstrip("/")})
        except Exception as error:
            raise ValueError(f"{opened.place}: cannot read {member}: {_reason(error)}") from error
    rows = tables["csv"]
    for column in {key for row in rows for key in row} - {"file_name"}:  # one type in all tables
        for row, value in zip(rows, _typed([row.get(column, "") for row in rows]), strict=True):
            row[column] = value
    by_name = {row["file_name"]: row for row in tables["jsonl"] + rows}
    if not by_name:
        raise ValueError(f"{opened.place} holds neither metadata.csv nor metadata.jsonl")
    names = _choose(opened, "rendered", split)
    if missing := [name for name in names if name not in by_name]:
        raise KeyError(f"{opened.place}: no factors of {len(missing)} images, as {missing[0]}")
    return [by_name[name] for name in names]


def _csv_rows(text: str) -> list[dict[str, str]]:
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    point = "[.]" if delimiter == "," else ","  # 2,5 for 2.5, where there is room for it
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    rows = [
        {k: re.sub(rf"^([+-]?\d+){point}(\d+)$", r"\1.\2", row[k]) for k in table.fieldnames or ()}
        for row in table
    ]
    return [row for row in rows if any(row.values())]


def _typed(texts: list[str]) -> list:
    for kind in (int, float, lambda text: {"true": True, "false": False}[text.lower()]):
        try:
            return [None if text == "" else kind(text) for text in texts]
        except (ValueError, KeyError):
            continue
    return texts
