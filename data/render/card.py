"""Brings what describes the data set up to date:  python data/render/card.py

From bedrooms64.zip (and calibration.json) it rewrites everything between the two marks in
data/README.md, the sheet of sample images, and croissant.json, which describes files and columns to
machines (MLCommons Croissant 1.0).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from render import SEEDS, read_rows

HERE = Path(__file__).resolve().parent
VERSION, DATE = "2.0.0", "2026-11-30"  # 2: three splits, 3,000 fresh test images
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

DISTANCES = {
    "validation_to_photographs": "validation images to photographs",
    "test_to_photographs": "test images to photographs",
    "photographs_to_photographs": "one half of the photographs to the other",
    "test_to_validation": "test images to validation images",
}
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def type_of(values):
    """The schema.org type of a column's texts."""
    if set(values) <= {"True", "False"}:
        return "sc:Boolean"
    for kind, name in ((int, "sc:Integer"), (float, "sc:Float")):
        try:
            list(map(kind, values))
            return name
        except ValueError:
            pass
    return "sc:Text"


def croissant(path):
    """The Croissant description of the zip: a record set of all images, and one of each split's
    factors.

    They are not joined: mlcroissant 1.1 cannot join two things that lie in one archive. An image's
    path is the split and the ``file_name`` of its row.
    """
    with zipfile.ZipFile(path) as z:
        rows = read_rows(z)
    types = {key: type_of([row[key] for row in rows]) for key in rows[0]}
    inside = {"containedIn": {"@id": path.name}}

    def field(record_set, name, kind, source):
        start = {"@type": "cr:Field", "@id": f"{record_set}/{name}", "name": name}
        return start | {"dataType": kind, "source": source}

    def of_file(what, **transform):
        return {"fileSet": {"@id": "jpg"}, "extract": {"fileProperty": what}} | transform

    archive = {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/zip",
        "sha256": sha256(path),
    }
    files, tables = [archive], []
    for split, first in SEEDS.items():
        table, count = f"{split}/metadata.csv", sum(row["split"] == split for row in rows)
        start = {"@type": "cr:FileObject", "@id": table, "name": table, "contentUrl": table}
        files.append(start | inside | {"encodingFormat": "text/csv"})
        columns = [
            field(split, key, kind, {"fileObject": {"@id": table}, "extract": {"column": key}})
            for key, kind in types.items()
        ]
        tables.append(
            {
                "@type": "cr:RecordSet",
                "@id": split,
                "name": split,
                "description": f"Scene factors of {count:,} images, seeds from {first:,}.",
                "key": {"@id": f"{split}/file_name"},
                "field": columns,
            }
        )
    jpg = {"@type": "cr:FileSet", "@id": "jpg", "name": "jpg", "encodingFormat": "image/jpeg"}
    files.append(jpg | inside | {"includes": "*/*.jpg"})
    folder = {"transform": {"regex": r".*?(train|validation|test)[\\/][^\\/]*$"}}
    images = {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": f"{len(rows):,} images of 64 x 64 pixels, with split and file name.",
        "field": [
            field("images", "image", "sc:ImageObject", of_file("content")),
            field("images", "split", "sc:Text", of_file("fullpath", **folder)),
            field("images", "file_name", "sc:Text", of_file("filename")),
        ],
    }
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "rendered-bedrooms-64",
        "description": f"{len(rows):,} path-traced images of bedrooms, 64 x 64 px, with factors "
        "of every scene.",
        "license": "https://creativecommons.org/publicdomain/zero/1.0/",
        "version": VERSION,
        "datePublished": DATE,
        "creator": {"@type": "sc:Organization", "name": "The bedroom notebook authors"},
        "keywords": ["synthetic", "bedrooms", "path tracing", "scene factors"],
        "citeAs": f"The bedroom notebook authors: Rendered bedrooms, 64 px, version {VERSION}.",
        "isLiveDataset": False,
        "distribution": files,
        "recordSet": [images, *tables],
    }


def measure(path):
    """Markdown of the measured section."""
    with zipfile.ZipFile(path) as z:
        rows = read_rows(z)
        sums, squares, lumas, n = np.zeros(3), np.zeros(3), [], 0
        for row in rows:
            image = Image.open(io.BytesIO(z.read(row["file_name"])))
            x = np.asarray(image, np.float64).reshape(-1, 3) / 255
            sums, squares, n = sums + x.sum(0), squares + (x**2).sum(0), n + len(x)
            lumas.append(float((x @ [0.299, 0.587, 0.114]).mean()))
        suffix = Path(rows[0]["file_name"]).suffix
    mean, split = sums / n, Counter(r["split"] for r in rows)
    counts = ", ".join(f"{split[s]:,} {s}" for s in SEEDS)
    out = [
        f"- Images: {counts}; `{suffix}`, 64 x 64 px, RGB.",
        f"- File: {path.stat().st_size:,} bytes, sha256 `{sha256(path)}`.",
        "- Mean of red, green, blue in [0, 1]: {:.4f}, {:.4f}, {:.4f}; "
        "standard deviation {:.4f}, {:.4f}, {:.4f}.".format(*mean, *np.sqrt(squares / n - mean**2)),
        "- Mean luma of an image, 5 / 50 / 95 %: {:.2f} / {:.2f} / {:.2f}.".format(
            *np.quantile(lumas, [0.05, 0.5, 0.95])
        ),
        "",
    ]
    out += ["| factor | share |", "|---|---|"]
    for key in CLASSES:
        count = Counter(r[key] for r in rows)
        out.append(
            f"| `{key}` | "
            + ", ".join(f"{k} {100 * v / len(rows):.1f} %" for k, v in count.most_common())
            + " |"
        )
    out.append(
        "| present | "
        + ", ".join(f"`{k}` {100 * np.mean([r[k] == 'True' for r in rows]):.0f} %" for k in FLAGS)
        + " |"
    )
    out += ["", "| factor | 5 % | median | 95 % |", "|---|---|---|---|"]
    out += [
        "| `{}` | {:.2f} | {:.2f} | {:.2f} |".format(
            k, *np.quantile([float(r[k]) for r in rows], [0.05, 0.5, 0.95])
        )
        for k in NUMBERS
    ]
    calibration = HERE / "calibration.json"
    if calibration.exists():
        c = json.loads(calibration.read_text())
        out += [
            "",
            "Kernel distance in EfficientNet-Lite0 features at 64 px, with its standard error "
            "(unbiased; "
            "`calibrate.py` says how):",
            "",
            "| | images | kernel distance |",
            "|---|---|---|",
        ]
        for key, text in DISTANCES.items():
            if found := c["kernel_distance"].get(key):
                n, m = found["images"]
                value = f"{found['value']:.2f} ± {found['standard_error']:.2f}"
                out.append(f"| {text} | {n:,} and {m:,} | {value} |")
        out += ["", "| measured at 64 px | photographs | rendered |", "|---|---|---|"]
        for key, value in c["photographs"].items():
            if key not in ("histograms", "profiles"):
                show = [
                    ", ".join(map(str, v)) if isinstance(v, list) else str(v)
                    for v in (value, c["rendered"][key])
                ]
                out.append(f"| {key.replace('_', ' ')} | {show[0]} | {show[1]} |")
    return "\n".join(out)


def sheet(path, target, split="validation", columns=10, lines=4):
    """The first images of a split, 64 px each, in one image."""
    with zipfile.ZipFile(path) as z:
        names = sorted(n for n in z.namelist() if n.startswith(split + "/") and n.endswith(".jpg"))
        page = Image.new("RGB", (columns * 66 - 2, lines * 66 - 2), "white")
        for k, name in enumerate(names[: columns * lines]):
            image = Image.open(io.BytesIO(z.read(name)))
            page.paste(image, (k % columns * 66, k // columns * 66))
    page.save(target, optimize=True)


def main(argv=()):
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--zip", type=Path, default=HERE.parent / "bedrooms64.zip")
    a = p.parse_args(argv)
    if not a.zip.exists():
        raise SystemExit(f"{a.zip}: not there; run python data/render/render.py first")
    card = HERE.parent / "README.md"
    text = card.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{card}: the two marks are gone; put back '{BEGIN}' and '{END}'")
    section = f"{BEGIN}\n{measure(a.zip)}\n{END}"
    card.write_text(
        re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: section, text, flags=re.S)
    )
    sheet(a.zip, HERE.parent / "sample_sheet.png")
    text = json.dumps(croissant(a.zip), indent=1)
    (HERE.parent / "croissant.json").write_text(text + "\n")
    print("wrote", card, "sample_sheet.png and croissant.json")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
