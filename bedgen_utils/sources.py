"""Where images lie: a folder, a zip file, LSUN's LMDB, parquet files on the Hugging Face hub.

A source gives the names of its images, the bytes of each, and a hash of all. Which image belongs to
which split follows from the names alone, by one rule for all sources (``choose``). Nothing here
knows what an image looks like; that is ``data``.
"""

import errno
import glob
import hashlib
import importlib
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import uuid
import weakref
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
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
LARGE = 10**9  # bytes that are not written without saying so, nor ever kept in memory instead

# The commit that added the last of the ten parquet files (287,968 + 15,157 images, 4.76 GB); later
# ones changed the description. Known from copies of the hub's pages: the hub could not be reached
# where this was written, and the tests download from a server of their own.
HUB = "pcuenq/lsun-bedrooms@274fa3dcfe3f703f5fe8c92c5a2d309d01452eec"


# ---- files of our own


def cache_folder() -> Path:
    """Where decoded images are kept: $BEDGEN_CACHE, else the platform's, for a user without a home
    the temporary folder. Delete it freely."""
    with suppress(RuntimeError):  # no home, as in a container that runs under any number
        chosen = os.environ.get("BEDGEN_CACHE")
        return Path(chosen or platformdirs.user_cache_dir("bedgen", appauthor=False)).expanduser()
    return Path(tempfile.gettempdir()) / "bedgen"


def replace_atomically(path: Path, write) -> None:
    """Let ``write(temporary_path)`` make a file, then put it in the place of ``path`` in one step:
    a reader sees the old file or the new one, never a part. Of two writers the last one wins. What
    a killed one left there is removed when it is an hour old."""
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > 3600:
                old.unlink()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(temporary)
        with open(temporary, "r+b") as f:  # Windows flushes only what it may write to
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def memo(kind: str, path, state) -> Path:
    """Where to keep what is known of ``path`` as long as its ``state`` stays."""
    key = json.dumps([os.path.realpath(path), state]).encode()
    return cache_folder() / kind / hashlib.sha256(key).hexdigest()


def keep(path: Path, write: Callable[[Path], Any]) -> None:
    """As ``replace_atomically``, for what can do without."""
    with suppress(OSError):  # only the time to find it out again is lost
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(path, write)


def check_room(folder: Path, need: int, what: str) -> None:
    """Say beforehand that ``what`` takes much disk; OSError where ``folder`` has less."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    text = f"{what} takes {need / 1e9:,.1f} GB; {folder} has {free / 1e9:,.1f} GB free"
    if need > free:
        raise OSError(errno.ENOSPC, text)
    if need > LARGE:
        print(text, file=sys.stderr, flush=True)


# ---- sources


class Source:
    """What all sources have. A further one is a subclass and an entry in ``SOURCES``.

    place: what messages name. names: one for each image, relative, with "/"; folders in it decide
    its split. left_out: {name: why} of what is known to be unreadable. shuffled: whether images
    come in the order of the hashes of their names. files(): (name, path) of each file that holds
    images. read(name): the bytes of one image; many threads may call it.
    """

    place: Path
    names: Sequence[str]
    left_out: dict[str, str]
    shuffled = True  # sorted by something, as people's folders are, the first ones are no sample

    def files(self) -> Iterable[tuple[str, Path]]:
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        raise NotImplementedError

    def fetch(self, order: np.ndarray) -> Iterator[Callable[[], bytes]]:
        """For each position in ``order`` a function that gives the bytes of that image."""
        return (partial(self.read, self.names[i]) for i in order)

    def stamp(self) -> str:
        """Changes when a file does, and costs a look at each, not at its content."""
        state = hashlib.sha256()
        for name, path in self.files():
            state.update(_bytes(f"{stat(path)} {name}\n"))
        return state.hexdigest()

    def digest(self) -> str:
        """sha256 of what ``sha256sum`` prints for the files in this order; unreadable ones are left
        out."""
        listing = hashlib.sha256()
        for name, path in tqdm(self.files(), f"hashing {self.place.name}", delay=2, leave=False):
            try:
                listing.update(_bytes(f"{_sha256_of_file(path)}  {name}\n"))
            except OSError as error:
                self.left_out[name] = repr(error)
        return listing.hexdigest()

    def __reduce__(self):  # to a spawned process goes the place: no handle, no lock, no list
        return type(self), (self.place,)


class Folder(Source):
    """A folder and all below it. Links are followed, but no folder is read twice."""

    def __init__(self, place: Path):
        if not place.is_dir():
            raise FileNotFoundError(f"{place} is not a folder")
        self.place, self.left_out = place, {}
        found: list[str] = []
        errors: list[OSError] = []

        def below(path) -> str:
            return Path(path).relative_to(place).as_posix()

        starts, seen = [str(place)], set(map(str, place.resolve().parents))
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

    def files(self) -> Iterable[tuple[str, Path]]:
        return ((name, self.place / name) for name in self.names)

    def read(self, name: str) -> bytes:
        with open(self.place / name, "rb") as f:
            return _bounded(f.read, os.fstat(f.fileno()).st_size)


class Zip(Source):
    """A zip file. Backslashes in names count as ``/``; of two equal names the later one counts."""

    def __init__(self, place: Path):
        if place.exists() and not place.is_file():  # a pipe would be waited for
            raise ValueError(f"{place} is not a regular file")
        self.place, self.left_out = place, {}
        self.members: dict[str, zipfile.ZipInfo] = {}
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

    def files(self) -> Iterable[tuple[str, Path]]:
        return [("", self.place)]

    def digest(self) -> str:
        return _sha256_of_file(self.place)

    def read(self, name: str) -> bytes:
        with self.lock, self.file.open(self.members[name]) as f:
            return _bounded(f.read, self.members[name].file_size)


class Rendered(Zip):
    """Our rooms: independent of each other, in the order of their factors."""

    shuffled = False


class Lmdb(Source):
    """``bedroom_train_lmdb`` or ``bedroom_val_lmdb`` as LSUN gives them out, or the folder of both.

    A folder holds ``data.mdb``, in which a key names the bytes of an image file, WebP or JPEG. The
    names are "train/KEY" and "validation/KEY", as the folder is called, so an image has the same
    split whether both folders are there or one. Keys are kept in a file beside the cache: 40 bytes
    an image, mapped, found by the stamp of ``data.mdb``.
    """

    def __init__(self, place: Path):
        lsun = {FOLDERS[s]: place / f"bedroom_{s}_lmdb" for s in ("train", "val", "test")}
        word = next(filter(None, map(FOLDERS.get, place.name.lower().split("_"))), "train")
        folders = {word: place} if (place / "data.mdb").is_file() else lsun
        self.folders = {s: f for s, f in folders.items() if (f / "data.mdb").is_file()}
        if not self.folders:
            raise FileNotFoundError(f"{place} holds no data.mdb and no bedroom_train_lmdb with one")
        self.place, self.left_out, self.lock = place, {}, threading.Lock()
        self.names = _Names({s: self._keys(f) for s, f in self.folders.items()})
        self.reading: dict[str, Any] = {}  # a transaction for each folder, once it is read from

    def files(self) -> Iterable[tuple[str, Path]]:
        paths = [folder / "data.mdb" for folder in self.folders.values()]
        return sorted((path.relative_to(self.place).as_posix(), path) for path in paths)

    def read(self, name: str) -> bytes:
        split, _, key = name.partition("/")
        with self.lock:
            if split not in self.reading:
                self.reading[split] = _environment(self.folders[split]).begin(buffers=True)
            value = self.reading[split].get(key.encode(errors="surrogateescape"))
        return _bounded(lambda: bytes(value), len(value))  # the disk is waited for here, unlocked

    @staticmethod
    def _keys(folder: Path) -> np.ndarray:
        data = folder / "data.mdb"
        kept = memo("keys", data, stat(data)).with_suffix(".npy")
        with suppress(OSError, ValueError):
            return np.load(kept, mmap_mode="r")
        environment = _environment(folder)
        with _named(data), environment.begin() as transaction:
            count = transaction.stat()["entries"]
            bar = partial(tqdm, desc="listing keys", total=count, delay=2, leave=False)
            width = max(map(len, bar(transaction.cursor().iternext(values=False))), default=1)
            found = bar(transaction.cursor().iternext(values=False))
            keys = np.fromiter(found, f"S{width}", count)
        keep(kept, partial(_save, keys))
        return keys


def _save(keys: np.ndarray, path: Path) -> None:
    with open(path, "wb") as f:  # to a name, np.save would add its ending
        np.save(f, keys)


_environments: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_opening = threading.Lock()


def _environment(folder: Path):
    """The LMDB environment in ``folder``: lmdb opens none twice in a process, so all share one.
    Nothing is written there, no lock file either. ValueError where it is damaged or cut short."""
    lmdb, real = _extra("lmdb"), os.path.realpath(folder)
    with _opening:
        try:
            if (env := _environments.get(real)) is None:
                env = lmdb.open(real, readonly=True, lock=False, readahead=False)
                _environments[real] = env
        except lmdb.Error as error:
            raise ValueError(f"{folder} is no LMDB environment: {error}") from error
    pages, bytes_a_page = env.info()["last_pgno"] + 1, env.stat()["psize"]
    missing = pages * bytes_a_page - os.path.getsize(folder / "data.mdb")
    if missing > 0:  # reading there would kill the process
        raise ValueError(f"{folder}/data.mdb was cut short: it lacks {missing:,} bytes")
    return env


class Hub(Source):
    """Parquet files with a column "image": a folder of them, or OWNER/NAME@COMMIT on the Hugging
    Face hub. ``datasets`` says which file belongs to which split and streams the rows.

    Names are "train/0000000" and so on by the number of the row. The order is that of the rows,
    which can only be read one after the other; the rows of ``HUB`` were shuffled when it was made.
    """

    shuffled = False

    def __init__(self, place: Path):
        datasets, parquet = _extra("datasets"), _extra("pyarrow.parquet")
        self.place = (place if place.is_dir() else _download(place.as_posix())).resolve()
        self.left_out: dict[str, str] = {}
        builder = datasets.load_dataset_builder(str(self.place))
        self.paths = {str(s): list(map(Path, f)) for s, f in builder.config.data_files.items()}
        for path in (path for some in self.paths.values() for path in some):
            with _named(path):
                columns = parquet.read_schema(path).names if path.suffix == ".parquet" else []
            if "image" not in columns:
                raise ValueError(f'{path} is no parquet file with a column "image"')
        self.streams = builder.as_streaming_dataset()
        rows = {s: sum(parquet.read_metadata(p).num_rows for p in f) for s, f in self.paths.items()}
        self.rows = {split: range(count) for split, count in rows.items()}
        self.names = _Names(self.rows)

    def files(self) -> Iterable[tuple[str, Path]]:
        paths = [path for some in self.paths.values() for path in some]
        return sorted((path.relative_to(self.place).as_posix(), path) for path in paths)

    def fetch(self, order: np.ndarray) -> Iterator[Callable[[], bytes]]:
        """As in ``Source``, for an order that rises."""
        undecoded = _extra("datasets").Image(decode=False)
        first = 0
        for split, part in self.rows.items():
            mine = order[(order >= first) & (order < first + len(part))] - first
            if len(mine):
                stream = self.streams[split].select_columns("image").cast_column("image", undecoded)
                rows = enumerate(stream.skip(int(mine[0])), int(mine[0]))
                for wanted in mine.tolist():
                    with _named(f"{self.place}, row {wanted} of {split},"):
                        image = next(row["image"] for number, row in rows if number == wanted)
                    yield partial(_embedded, image)
            first += len(part)


def _embedded(image: dict | None) -> bytes:
    if not (image and image["bytes"]):
        raise ValueError("the row holds no image, at most the path of one")
    return image["bytes"]


def _download(name: str) -> Path:
    """The folder of the parquet files of OWNER/NAME@COMMIT, in the cache of the Hugging Face hub.

    Whoever asks for source "hub" asks for this; nothing else in the package uses the network. It
    goes over https, goes on where it was cut off, and each file must have the sha256 that the hub
    states for the commit (OSError). A file that has come once is not asked for again.
    """
    repo, _, commit = name.partition("@")
    if not (re.fullmatch(r"[\w.-]+/[\w.-]+", repo) and re.fullmatch("[0-9a-f]{40}", commit)):
        what = "neither a folder nor OWNER/NAME@COMMIT with all 40 digits (a branch would move)"
        raise FileNotFoundError(f"{name} is {what}")
    hub = _extra("huggingface_hub")
    cache = Path(hub.constants.HF_HUB_CACHE)
    complete = memo("hub", cache, [repo, commit])
    with suppress(OSError):
        if (folder := Path(complete.read_text(encoding="utf-8"))).is_dir():
            return folder
    listed = hub.HfApi().dataset_info(repo, revision=commit, files_metadata=True).siblings
    files = [file for file in listed if file.rfilename.endswith(".parquet")]
    if not files:
        raise ValueError(f"{name} holds no parquet files")
    where = {"repo_type": "dataset", "revision": commit}
    there = {f.rfilename: hub.try_to_load_from_cache(repo, f.rfilename, **where) for f in files}
    missing = sum(f.size for f in files if not there[f.rfilename])
    check_room(cache, missing, f"the download of {name}")
    for file in files:
        path = Path(hub.hf_hub_download(repo, file.rfilename, **where))
        if _sha256_of_file(path) != file.lfs.sha256:
            path.resolve().unlink()
            raise OSError(f"{file.rfilename} of {name} came damaged and was removed: try again")
    folder = path.parents[len(Path(files[-1].rfilename).parts) - 1]
    keep(complete, lambda new: new.write_text(str(folder), encoding="utf-8"))
    return folder


class _Names(Sequence):
    """SPLIT/KEY for each key of each split, made when it is asked for: millions take no room."""

    def __init__(self, parts: Mapping[str, Sequence | np.ndarray]):
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def __getitem__(self, i):
        for split, keys in self.parts.items():
            if i < len(keys):
                key = keys[i]
                text = key.decode(errors="surrogateescape") if isinstance(key, bytes) else None
                return f"{split}/{f'{key:07}' if text is None else text}"
            i -= len(keys)
        raise IndexError(i)


SOURCES: dict[str, type] = {
    "rendered": Rendered, "folder": Folder, "zip": Zip, "lsun": Lmdb, "hub": Hub
}  # fmt: skip
USUAL: dict[str, str | Path] = {"rendered": RENDERED, "hub": HUB}  # where no path is given


def open_source(source: str, path: str | Path | None, split: str = "all") -> Any:
    """The source of that name at ``path``. Errors as in ``data.load_bedrooms``."""
    if path is None and ":" in source:
        source, path = source.split(":", 1)
    for what, value, known in (("source", source, SOURCES), ("split", split, SPLITS)):
        if value not in known:
            raise ValueError(f"{what} {value!r} is unknown; choose one of {', '.join(known)}")
    if path == "" or (path is None and source not in USUAL):  # "" would be the working folder
        raise ValueError(f'source "{source}" needs path=, where the images are')
    place = Path(os.path.expanduser(USUAL[source] if path is None else path))
    opened = SOURCES[source](place)
    if not len(opened.names):
        raise ValueError(f"no images ({', '.join(ENDINGS)}) in {place}{listed(opened.left_out)}")
    return opened


def _extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{error}: pip install datasets lmdb") from error


@contextmanager
def _named(place: object) -> Iterator[None]:
    """ValueError that names ``place`` for whatever a library raises there."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{place} cannot be read, it is damaged or was cut short: {error!r}"
        ) from error


def _is_image(name: str) -> bool:
    # Resource forks of macOS, thumbnails of a Synology disk, the bin of Windows: nobody's images.
    of_the_system = (".", "__MACOSX", "@eaDir", "$RECYCLE.BIN")
    hidden = any(p.startswith(of_the_system) and p not in (".", "..") for p in name.split("/"))
    return name.lower().endswith(ENDINGS) and not hidden


def stat(path) -> list[int] | None:
    """What changes when a file does; None where there is none."""
    with suppress(OSError):
        s = os.stat(path)
        return [s.st_size, s.st_mtime_ns, s.st_ctime_ns]  # ctime sees what keeps size and mtime
    return None


def _bounded(read: Callable[[], bytes], size: int) -> bytes:
    if size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
    return read()


def _bytes(name: str) -> bytes:  # a name that is not UTF-8 on disk holds lone surrogates
    return name.encode("utf-8", "surrogatepass")


def listed(left_out: dict[str, str]) -> str:
    """What is left out, as the end of a sentence; of many the first ten."""
    some = [f"; {name} ({why})" for name, why in left_out.items()]
    some[10:] = ["; …"] if len(some) > 10 else []
    text = f"; {len(left_out)} cannot be read and are left out: {''.join(some)[2:]}"
    return text.encode("utf-8", "backslashreplace").decode() if left_out else ""


def choose(opened: Source, split: str) -> np.ndarray:
    """Positions in ``opened.names`` of the images of ``split``, in the order they are given in.
    8 bytes an image: no list of names is made."""
    names, count = opened.names, len(opened.names)
    hashes = (hashlib.sha256(_bytes(n)).digest()[:8] for n in names)
    key = np.fromiter((int.from_bytes(h, "big") for h in hashes), np.uint64, count)
    of = np.fromiter((_split_by_folder(n, opened.left_out) for n in names), np.uint8, count)
    for tenth, held_out in ((0, "test"), (1, "validation")):
        if not (of == SPLITS.index(held_out)).any():
            of[(of == 0) & (key % np.uint64(10) == tenth)] = SPLITS.index(held_out)
    chosen = np.flatnonzero(of < 3 if split == "all" else of == SPLITS.index(split))
    if not len(chosen):
        raise ValueError(f'{opened.place}: none of the {count} images is in split "{split}"')
    return chosen[np.argsort(key[chosen], kind="stable")] if opened.shuffled else chosen


def _split_by_folder(name: str, left_out: Mapping[str, str]) -> int:
    """Index in SPLITS; 3, which is none of the three, for an image that is left out."""
    known = map(FOLDERS.get, name.lower().split("/")[:-1])
    return 3 if name in left_out else SPLITS.index(next(filter(None, known), "train"))


# ---- content hashes


def _sha256_of_file(path) -> str:
    state, size = hashlib.sha256(), os.path.getsize(path)
    quiet = {"disable": True} if size < LARGE else {}  # disable=False would overrule TQDM_DISABLE
    bar = tqdm(
        desc=f"hashing {Path(path).name}", total=size, unit="B", unit_scale=True,
        leave=False, **quiet,
    )  # fmt: skip
    with open(path, "rb") as f, bar:
        while piece := f.read(1 << 20):
            state.update(piece)
            bar.update(len(piece))
    return state.hexdigest()


def content_sha256(opened: Source) -> tuple[str, str]:
    """Hash of the bytes and stamp of the files. The hash is remembered until the stamp changes."""
    stamp, known_bad = opened.stamp(), len(opened.left_out)
    kept = memo("hashes", opened.place, stamp)
    with suppress(OSError, ValueError):
        if re.fullmatch("[0-9a-f]{64}", known := kept.read_text(encoding="ascii")):
            return known, stamp
    result = opened.digest()
    if opened.stamp() == stamp and len(opened.left_out) == known_bad:
        keep(kept, lambda new: new.write_text(result, encoding="ascii"))
    return result, stamp


def dataset_sha256(source: str = "rendered", path: str | Path | None = None) -> str:
    """The content hash (64 hexadecimal digits) that figures and weights name their data by.

    It sees every byte: the sha256 of a zip; for other sources the sha256 of what ``sha256sum``
    prints for their files (images, ``data.mdb``, parquet), named relative to ``path`` and sorted.
    That takes as long as reading them, once for each copy: the hash is remembered until size or
    times of a file change. Errors as in ``data.load_bedrooms``."""
    return content_sha256(open_source(source, path))[0]
