"""Brings the measured part of the dataset card and the sample sheet up to date:  python data/render/card.py

Everything between the two marks in data/README.md is rewritten from bedrooms64.zip (and calibration.json).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- measured: begin (data/render/card.py writes this) -->", "<!-- measured: end -->"
CLASSES = (
    "bed_size",
    "bed_style",
    "wall_colour",
    "floor",
    "light",
    "ceiling",
    "blanket",
    "window_dressing",
    "overhead",
    "windows",
    "nightstands",
)
FLAGS = (
    "headboard",
    "footboard",
    "throw",
    "bed_skirt",
    "lamps_on",
    "ceiling_light_on",
    "door",
    "closet",
    "mirror",
    "dresser",
    "wardrobe",
    "chair",
    "bench",
    "plant",
    "rug",
    "television",
    "crown",
    "accent_wall",
    "window_behind_bed",
)
NUMBERS = (
    "camera_height",
    "camera_distance",
    "camera_angle",
    "camera_tilt",
    "lens_mm",
    "bed_frame_width",
    "room_width",
    "room_depth",
    "room_height",
    "pillows",
    "cushions",
    "pictures",
    "lamps",
)


def measure(path):
    """Markdown of the measured section."""
    with zipfile.ZipFile(path) as z:
        rows = list(csv.DictReader(io.TextIOWrapper(z.open("metadata.csv"), "utf-8")))
        sums, squares, lumas, n = np.zeros(3), np.zeros(3), [], 0
        for row in rows:
            x = np.asarray(Image.open(io.BytesIO(z.read(row["file_name"]))), np.float64).reshape(-1, 3) / 255
            sums, squares, n = sums + x.sum(0), squares + (x**2).sum(0), n + len(x)
            lumas.append(float((x @ [0.299, 0.587, 0.114]).mean()))
        suffix = Path(rows[0]["file_name"]).suffix
    mean = sums / n
    split = Counter(r["split"] for r in rows)
    out = [
        f"- Images: {split['train']:,} training and {split['test']:,} test, `{suffix}`, 64 x 64 px, RGB.",
        f"- File: {path.stat().st_size:,} bytes, sha256 `{hashlib.sha256(path.read_bytes()).hexdigest()}`.",
        "- Mean of red, green, blue in [0, 1]: {:.4f}, {:.4f}, {:.4f}; "
        "standard deviation {:.4f}, {:.4f}, {:.4f}.".format(
            *mean, *np.sqrt(squares / n - mean**2)
        ),
        "- Mean luma of an image, 5 / 50 / 95 %: {:.2f} / {:.2f} / {:.2f}.".format(
            *np.quantile(lumas, [0.05, 0.5, 0.95])
        ),
        "",
    ]
    out += ["| factor | share |", "|---|---|"]
    for key in CLASSES:
        count = Counter(r[key] for r in rows)
        out.append(
            f"| `{key}` | " + ", ".join(f"{k} {100 * v / len(rows):.1f} %" for k, v in count.most_common()) + " |"
        )
    out.append(
        "| present | " + ", ".join(f"`{k}` {100 * np.mean([r[k] == 'True' for r in rows]):.0f} %" for k in FLAGS) + " |"
    )
    out += ["", "| factor | 5 % | median | 95 % |", "|---|---|---|---|"]
    out += [
        "| `{}` | {:.2f} | {:.2f} | {:.2f} |".format(k, *np.quantile([float(r[k]) for r in rows], [0.05, 0.5, 0.95]))
        for k in NUMBERS
    ]
    calibration = HERE / "calibration.json"
    if calibration.exists():
        c = json.loads(calibration.read_text())
        if c["frechet"]:
            f = c["frechet"]
            out += [
                "",
                "Fréchet distance in EfficientNet-Lite0 features at 32 px (not an FID; see `calibrate.py` for the "
                f"protocol): {f['rendered_images']} rendered test "
                f"images to 201 photographs **{f['rendered_200_to_photographs_201']:.0f}**; "
                f"200 photographs to the other 201 {f['photographs_200_to_201']:.0f}.",
            ]
        out += ["", "| measured at 64 px | photographs | rendered |", "|---|---|---|"]
        for key, value in c["photographs"].items():
            if key not in ("histograms", "profiles"):
                show = [", ".join(map(str, v)) if isinstance(v, list) else str(v) for v in (value, c["rendered"][key])]
                out.append(f"| {key.replace('_', ' ')} | {show[0]} | {show[1]} |")
    return "\n".join(out)


def sheet(path, target, columns=10, lines=4):
    """The first test images, 64 px each, in one picture."""
    with zipfile.ZipFile(path) as z:
        names = sorted(n for n in z.namelist() if n.startswith("test/"))[: columns * lines]
        picture = Image.new("RGB", (columns * 66 - 2, lines * 66 - 2), "white")
        for k, name in enumerate(names):
            picture.paste(Image.open(io.BytesIO(z.read(name))), (k % columns * 66, k // columns * 66))
    picture.save(target, optimize=True)


def main(argv=()):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--zip", type=Path, default=HERE.parent / "bedrooms64.zip")
    a = p.parse_args(argv)
    if not a.zip.exists():
        raise SystemExit(f"{a.zip}: not there; run python data/render/render.py first")
    card = HERE.parent / "README.md"
    text = card.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{card}: the two marks are gone; put back '{BEGIN}' and '{END}'")
    section = f"{BEGIN}\n{measure(a.zip)}\n{END}"
    card.write_text(re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: section, text, flags=re.S))
    sheet(a.zip, HERE.parent / "sample_sheet.png")
    print("wrote", card, "and sample_sheet.png")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
