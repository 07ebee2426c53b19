"""Render the bedrooms and pack them:  python data/render/render.py --out DIR --workers 2

Image i of a split comes from one seed alone: i for training, 1,000,000 + i for validation,
2,000,000 + i for test. A run that was cut off goes on where it stopped: each frame is one PNG (its
scene factors inside, as text), moved into place when whole. At the end everything is packed into
bedrooms64.zip and the dataset card is brought up to date.

Another processor or library rounds some pixels differently. So images that the present zip holds
already, under the same seed and with the same factors, are taken over byte for byte instead of
being rendered again; a frame in DIR comes before them, and --anew renders everything.
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

SEEDS = {"train": 0, "validation": 1_000_000, "test": 2_000_000}  # of image 0 of a split
COUNTS = {"train": 12_000, "validation": 3_000, "test": 3_000}
HERE = Path(__file__).resolve().parent
SPP = 8  # 8 stratified paths a pixel, then denoised
# Bytes an image, measured on 200 frames: PNG 8306, lossless WebP 6209 (93 MB in all: over the 60 MB
# allowed), JPEG 4:4:4 at quality 92 / 95 / 97: 2365 / 2952 / 3716, at 38.0 / 40.2 / 42.7 dB.
ENCODERS = {
    "webp": ("webp", dict(lossless=True, method=4, quality=75)),
    "jpeg": ("jpg", dict(quality=95, subsampling=0, optimize=True)),
    "png": ("png", dict(optimize=True)),
}


def jobs(counts):
    """All (split, index, seed) of {split: count}, in order."""
    return [(split, i, SEEDS[split] + i) for split, count in counts.items() for i in range(count)]


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


def render(todo, out, workers, size=64, spp=SPP):
    """Renders the jobs ``todo`` to their places under ``out``."""
    from tqdm.auto import tqdm

    for split in SEEDS:
        (Path(out) / split).mkdir(parents=True, exist_ok=True)
    if not todo:
        return
    with (
        mp.get_context("spawn").Pool(workers, maxtasksperchild=1500) as pool,
        tqdm(total=len(todo), unit="img", desc="render", mininterval=5) as bar,
    ):
        work = [(*job, str(out), size, spp) for job in todo]
        for _ in pool.imap_unordered(render_one, work, chunksize=4):
            bar.update()


def read_rows(archive):
    """The rows of every metadata.csv in an open zip; ``file_name`` becomes relative to the zip."""
    rows = []
    for name in archive.namelist():
        folder, _, file = name.rpartition("/")
        if file == "metadata.csv":
            with archive.open(name) as f:
                table = list(csv.DictReader(io.TextIOWrapper(f, "utf-8", newline="")))
            rows += [
                row | {"file_name": f"{folder}/{row['file_name']}".lstrip("/")} for row in table
            ]
    return rows


def factors_of(seed):
    """What metadata.csv says of the room of a seed: {column: text}."""
    import rooms

    return {key: str(value) for key, value in rooms.sample_room(seed).factors.items()}


def taken_over(path, todo, workers):
    """{(split, index): (factors, JPEG bytes)} for those jobs whose image the zip ``path`` holds
    under the same seed and with the same factors, in whatever split it stood there. Checking takes
    20 ms an image: the room is drawn again.
    """
    from tqdm.auto import tqdm

    with zipfile.ZipFile(path) as z, mp.get_context("spawn").Pool(workers) as pool:
        rows = {int(row["seed"]): row for row in read_rows(z) if row["file_name"].endswith(".jpg")}
        candidates = [job for job in todo if job[2] in rows]
        made = pool.imap(factors_of, [seed for *_, seed in candidates], chunksize=50)
        kept = {}
        for (split, index, seed), factors in zip(
            candidates, tqdm(made, total=len(candidates), unit="img", desc="compare", mininterval=5)
        ):
            row = rows[seed]
            if factors == {key: row[key] for key in row if key not in ("file_name", "split")}:
                kept[split, index] = factors, z.read(row["file_name"])
    return kept


def encode(image, codec):
    """Bytes of an image in the packed data set."""
    buffer = io.BytesIO()
    image.save(
        buffer, format={"jpeg": "JPEG", "webp": "WEBP", "png": "PNG"}[codec], **ENCODERS[codec][1]
    )
    return buffer.getvalue()


def pack(counts, out, target, codec, kept=None):
    """Writes the zip: for each split a folder of images and its metadata.csv, sorted, fixed dates;
    equal frames give equal bytes. ``kept``: what ``taken_over`` found, for the jobs without a
    frame.
    """
    from tqdm.auto import tqdm

    suffix, rows, files = ENCODERS[codec][0], {}, []
    for split, index, seed in tqdm(jobs(counts), unit="img", desc="pack", mininterval=5):
        path, name = frame_path(out, split, index), f"{index:06d}.{suffix}"
        if path.exists():
            with Image.open(path) as image:
                factors = json.loads(image.text["factors"])
                data = encode(image.convert("RGB"), codec)
        else:
            factors, data = kept[split, index]
        if int(factors["seed"]) != seed:
            raise RuntimeError(
                f"{path}: made from seed {factors['seed']}, wanted {seed}; delete it and run again"
            )
        files.append((f"{split}/{name}", data))
        rows.setdefault(split, []).append({"file_name": name, "split": split, **factors})
    for split, table in rows.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        files.append((f"{split}/metadata.csv", text.getvalue().encode()))
    part = Path(str(target) + ".part")
    with zipfile.ZipFile(part, "w") as z:
        for name, data in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))
            entry.compress_type = (
                zipfile.ZIP_DEFLATED if name.endswith(".csv") else zipfile.ZIP_STORED
            )
            entry.external_attr = 0o644 << 16
            z.writestr(entry, data)
    os.replace(part, target)
    return target


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for split, count in COUNTS.items():
        p.add_argument(
            f"--{split}", type=int, default=count, help=f"images of split {split} (default {count})"
        )
    p.add_argument(
        "--out", type=Path, default=HERE / "out", help="folder of frames, kept between runs"
    )
    p.add_argument("--workers", type=int, default=os.cpu_count())
    p.add_argument("--size", type=int, default=64, help="pixels")
    p.add_argument("--spp", type=int, default=SPP, help="paths a pixel, before denoising")
    p.add_argument(
        "--codec",
        choices=sorted(ENCODERS),
        default="jpeg",
        help="on 15,000 images: lossless WebP 93 MB, JPEG 95 with full chroma 44 MB (40 dB)",
    )
    p.add_argument(
        "--zip",
        type=Path,
        default=None,
        help="target; default data/bedrooms64.zip for the full set, else OUT/bedrooms64.zip",
    )
    p.add_argument("--anew", action="store_true", help="take nothing over from data/bedrooms64.zip")
    p.add_argument("--no-pack", action="store_true", help="frames only")
    a = p.parse_args()
    counts = {split: getattr(a, split) for split in COUNTS}
    usual = (a.size, a.spp, a.codec) == (64, SPP, "jpeg")
    shipped = HERE.parent / "bedrooms64.zip"
    todo = [job for job in jobs(counts) if not frame_path(a.out, *job[:2]).exists()]
    kept = (
        taken_over(shipped, todo, a.workers)
        if usual and shipped.exists() and todo and not a.anew
        else {}
    )
    render([job for job in todo if job[:2] not in kept], a.out, a.workers, a.size, a.spp)
    if a.no_pack:
        return
    full = usual and counts == COUNTS
    target = pack(
        counts, a.out, a.zip or (shipped if full else a.out / "bedrooms64.zip"), a.codec, kept
    )
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, {len(kept):,} images taken over")
    if target == shipped:
        import card

        card.main()


if __name__ == "__main__":
    main()
