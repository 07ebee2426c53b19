"""Render the bedrooms and pack them:  python data/render/render.py --train 12000 --test 3000 --out DIR --workers 2

Image i of a split comes from one seed alone: i for training, 1,000,000 + i for test.  A run that was cut off
goes on where it stopped: each frame is one PNG (its scene factors inside, as text), moved into place when whole.
At the end everything is packed into bedrooms64.zip and the dataset card is brought up to date.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import multiprocessing as mp
import os
import sys
import time
import zipfile
from pathlib import Path

from PIL import Image, PngImagePlugin

sys.path.insert(0, str(Path(__file__).resolve().parent))

TEST_SEED = 1_000_000
SPP = 8  # 8 stratified paths a pixel, then denoised
# Bytes an image, measured on 200 frames: PNG 8306, lossless WebP 6209 (93 MB in all: over the 60 MB allowed),
# JPEG 4:4:4 at quality 92 / 95 / 97: 2365 / 2952 / 3716, at 38.0 / 40.2 / 42.7 dB.
ENCODERS = {
    "webp": ("webp", dict(lossless=True, method=4, quality=75)),
    "jpeg": ("jpg", dict(quality=95, subsampling=0, optimize=True)),
    "png": ("png", dict(optimize=True)),
}


def jobs(train, test):
    """All (split, index, seed), in order."""
    return [("train", i, i) for i in range(train)] + [("test", i, TEST_SEED + i) for i in range(test)]


def frame_path(out, split, index):
    return Path(out) / split / f"{index:06d}.png"


def render_one(job):
    """Renders one frame to its place; returns the seconds it took."""
    split, index, seed, out, size, spp = job
    import camera_back
    import rooms

    start = time.perf_counter()
    room = rooms.sample_room(seed)
    image = camera_back.photograph(room, size, spp)
    if image.std() < 4 or image.mean() < 12:
        raise RuntimeError(
            f"seed {seed}: the frame is all but black or constant (mean {image.mean():.1f}, "
            f"sd {image.std():.1f}); look at its lights in rooms.py"
        )
    info = PngImagePlugin.PngInfo()
    info.add_text("factors", json.dumps(room.factors))
    path = frame_path(out, split, index)
    part = path.with_suffix(f".{os.getpid()}.part")
    Image.fromarray(image).save(part, format="PNG", pnginfo=info)
    os.replace(part, path)
    return time.perf_counter() - start


def render(train, test, out, workers, size=64, spp=SPP):
    """Renders what is still missing under ``out``."""
    from tqdm.auto import tqdm

    for split in ("train", "test"):
        (Path(out) / split).mkdir(parents=True, exist_ok=True)
    todo = [(*job, str(out), size, spp) for job in jobs(train, test) if not frame_path(out, *job[:2]).exists()]
    if not todo:
        return
    total = train + test
    with (
        mp.get_context("spawn").Pool(workers, maxtasksperchild=1500) as pool,
        tqdm(total=total, initial=total - len(todo), unit="img", mininterval=5) as bar,
    ):
        for _ in pool.imap_unordered(render_one, todo, chunksize=4):
            bar.update()


def encode(image, codec):
    """Bytes of an image in the packed data set."""
    buffer = io.BytesIO()
    image.save(buffer, format={"jpeg": "JPEG", "webp": "WEBP", "png": "PNG"}[codec], **ENCODERS[codec][1])
    return buffer.getvalue()


def pack(train, test, out, target, codec):
    """Writes the zip: images by split and metadata.csv, sorted, fixed dates; equal frames give equal bytes."""
    from tqdm.auto import tqdm

    suffix, rows, files = ENCODERS[codec][0], [], []
    for split, index, seed in tqdm(jobs(train, test), unit="img", desc="pack", mininterval=5):
        path = frame_path(out, split, index)
        with Image.open(path) as image:
            factors = json.loads(image.text["factors"])
            name = f"{split}/{index:06d}.{suffix}"
            files.append((name, encode(image.convert("RGB"), codec)))
        if factors["seed"] != seed:
            raise RuntimeError(f"{path}: made from seed {factors['seed']}, wanted {seed}; delete it and run again")
        rows.append({"file_name": name, "split": split, **factors})
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.append(("metadata.csv", table.getvalue().encode()))
    part = Path(str(target) + ".part")
    with zipfile.ZipFile(part, "w") as z:
        for name, data in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED if name.endswith(".csv") else zipfile.ZIP_STORED
            entry.external_attr = 0o644 << 16
            z.writestr(entry, data)
    os.replace(part, target)
    return target


def main():
    here = Path(__file__).resolve().parent
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--train", type=int, default=12000)
    p.add_argument("--test", type=int, default=3000)
    p.add_argument("--out", type=Path, default=here / "out", help="folder of frames, kept between runs")
    p.add_argument("--workers", type=int, default=os.cpu_count())
    p.add_argument("--size", type=int, default=64, help="pixels")
    p.add_argument("--spp", type=int, default=SPP, help="paths a pixel, before denoising")
    p.add_argument(
        "--codec",
        choices=sorted(ENCODERS),
        default="jpeg",
        help="measured: lossless WebP 93 MB, JPEG 95 without chroma subsampling 44 MB (40 dB)",
    )
    p.add_argument(
        "--zip",
        type=Path,
        default=None,
        help="target; default OUT/bedrooms64.zip, or data/bedrooms64.zip for the full set",
    )
    p.add_argument("--no-pack", action="store_true", help="frames only")
    a = p.parse_args()
    render(a.train, a.test, a.out, a.workers, a.size, a.spp)
    if not a.no_pack:
        full = (a.train, a.test, a.size) == (12000, 3000, 64) and a.out.resolve() == here / "out"
        target = pack(a.train, a.test, a.out, a.zip or (here.parent if full else a.out) / "bedrooms64.zip", a.codec)
        print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
        if full:
            import card

            card.main()


if __name__ == "__main__":
    main()
