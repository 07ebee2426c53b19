"""What does it cost to prepare many images, and does its memory grow with their number?

LMDB environments in the format of LSUN are made for it: rooms of the rendered set, enlarged to 256
px as LSUN's are, as JPEG files of quality 75 with different bytes in each (the pixels of 64 of them
recur, which makes no difference to the work). ``load_bedrooms("lsun", …)`` then prepares them in a
process of its own, as at the first use:

    keys, hash, pass    seconds to list the keys, to hash the file, and for all else: decoding at
                        64 px and writing, until the tensor is there. images/s are those of the pass
    MB before, peak MB  memory of the process after its imports and at most (sampled), without
                        mapped files, which the system takes back when it needs the room
    reload seconds      the same call in another process
    batches             images/s of random batches of 64 as floats from that tensor, and (embedded)
                        from the rendered set prepared alike; the better of three rounds in turn,
                        everything in the system's file cache

Writes results/preparation.csv, a row a number of images. 10 GB of disk, deleted afterwards; on
two cores twenty minutes.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import study
import torch
from PIL import Image
from torch import Tensor

from bedgen_utils import sources
from bedgen_utils.data import load_bedrooms, to_float

SIZE = 64


def write_environment(folder: Path, count: int) -> None:
    """An LMDB environment of ``count`` JPEG files, 256 px, under random keys of 40 digits."""
    import lmdb

    pages = []
    for room in study.images("train", 64, limit=64).permute(0, 2, 3, 1).numpy():
        buffer = io.BytesIO()
        large = Image.fromarray(room).resize((256, 256), Image.Resampling.BICUBIC)
        large.save(buffer, "JPEG", quality=75)
        pages.append(buffer.getvalue())
    folder.mkdir(parents=True)
    keys = np.random.default_rng(0).bytes(20 * count)
    with lmdb.open(str(folder), map_size=64 << 30, sync=False) as env:
        for start in range(0, count, 10_000):
            with env.begin(write=True) as transaction:
                for i in range(start, min(start + 10_000, count)):
                    key = keys[20 * i : 20 * i + 20].hex().encode()
                    # What follows the end of a JPEG file is passed over.
                    transaction.put(key, pages[i % len(pages)] + b"%016d" % i)
        env.sync(True)


class Peak:
    """Most memory of this process in a ``with`` block, in MB, without mapped files."""

    def __enter__(self) -> "Peak":
        self.before = self.most = self.now()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.done.set()
        self.thread.join()

    def now(self) -> int:
        memory = psutil.Process().memory_info()
        return round((memory.rss - getattr(memory, "shared", 0)) / 1e6)

    def watch(self) -> None:
        while not self.done.wait(0.02):
            self.most = max(self.most, self.now())


def first_load(folder: Path) -> dict:
    began = time.monotonic()
    with Peak() as peak:
        opened = sources.Lmdb(folder)
        listed = time.monotonic()
        sources.content_sha256(opened)
        hashed = time.monotonic()
        count = len(load_bedrooms("lsun", "all", SIZE, path=folder))
        ready = time.monotonic()
    return {
        "GB of files": round((folder / "data.mdb").stat().st_size / 1e9, 2),
        "keys seconds": round(listed - began, 1),
        "hash seconds": round(hashed - listed, 1),
        "pass seconds": round(ready - hashed, 1),
        "images/s": round(count / (ready - hashed)),
        "MB before": peak.before,
        "peak MB": peak.most,
    }


def speed(images: Tensor, batches: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    began = time.perf_counter()
    for _ in range(batches):
        to_float(images[torch.randint(len(images), (64,), generator=generator)])
    return 64 * batches / (time.perf_counter() - began)


def reload(folder: Path, batches: int) -> dict:
    torch.set_num_threads(1)
    began = time.monotonic()
    prepared = load_bedrooms("lsun", "all", SIZE, path=folder)
    seconds = time.monotonic() - began
    both = {"batches images/s": prepared, "batches images/s embedded": study.images("train", SIZE)}
    best = dict.fromkeys(both, 0.0)
    for images in both.values():  # brings it into the file cache
        for some in images.split(1000):
            some.sum()
    for seed in range(3):
        for name, images in both.items():
            best[name] = max(best[name], speed(images, batches, seed))
    return {"reload seconds": round(seconds, 2)} | {k: round(v) for k, v in best.items()}


def alone(function: Callable[..., dict], folder: Path, *rest: int) -> dict:
    """``function(folder, *rest)`` in a fresh process, with a cache of its own beside ``folder``."""
    code = "import json, sys, pathlib, preparation as p; name, folder, *rest = sys.argv[1:]; "
    code += "print(json.dumps(getattr(p, name)(pathlib.Path(folder), *map(int, rest))))"
    call = [sys.executable, "-c", code, function.__name__, str(folder), *map(str, rest)]
    env = os.environ | {"BEDGEN_CACHE": str(folder.parent / "cache")}
    here = Path(__file__).parent
    done = subprocess.run(call, cwd=here, env=env, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(job: study.Job) -> dict:
    place = study.scratch("preparation") / str(job["images"])
    shutil.rmtree(place, ignore_errors=True)
    folder = place / "bedroom_train_lmdb"
    try:
        write_environment(folder, job["images"])
        batches = study.smaller(100, 10)
        measured = alone(first_load, folder) | alone(reload, folder, batches)
        return {"cores": os.cpu_count()} | measured
    finally:
        shutil.rmtree(place, ignore_errors=True)


STUDY = study.Study(
    "preparation",
    [{"images": count} for count in (30_000, 300_000)],
    measure,
    smoke={"images": 300},
    split="",
)

if __name__ == "__main__":
    study.main(__doc__, STUDY)
