"""How far are the rendered bedrooms from photographs?  python data/render/calibrate.py PHOTOS_DIR

Compares rendered images with a folder of photographs, of which nothing is kept but numbers: colour,
brightness, saturation, contrast, profiles of brightness and of edges over rows and columns (where
the bed stands), and the kernel distance in EfficientNet-Lite0 features.  Writes calibration.json
and calibration.png, which holds curves and no images.

Scenes and development are tuned on the validation split, so all statistics are of validation
images.  With --test the test split is looked at too, once, for what the card publishes: its kernel
distance to the photographs and to the validation split.

Protocol of the distances: centre square, bicubic with antialiasing to 64 px, all images of a split,
all photographs; unbiased estimate with the kernel (x.y/1280 + 1)^3 and its jackknife standard error
(bedgen_utils.metrics).  The yardstick is one half of the photographs, drawn by the hash of their
names, against the other.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
LUMA = np.array([0.299, 0.587, 0.114])
SIZE = 64


def distance(a, b):
    """Kernel distance of two sets of features, for calibration.json."""
    from bedgen_utils.metrics import kernel_distance

    value, error = kernel_distance(a, b)[:2]
    return {"value": round(value, 3), "standard_error": round(error, 3), "images": [len(a), len(b)]}


def describe(images):
    """Scalars, histograms and profiles of uint8 (n, 3, 64, 64)."""
    x = images.numpy().transpose(0, 2, 3, 1) / 255
    luma, mean = x @ LUMA, x.mean((1, 2))
    saturation = (x.max(-1) - x.min(-1)) / np.maximum(x.max(-1), 1e-3)
    edges = np.abs(np.diff(luma, axis=1))[:, :, :-1] + np.abs(np.diff(luma, axis=2))[:, :-1]
    bins = np.linspace(0, 1, 33)

    def quantiles(v):
        return np.quantile(v, [0.1, 0.5, 0.9]).round(4).tolist()

    return {
        "images": len(x),
        "channel_mean": mean.mean(0).round(4).tolist(),
        "channel_sd_between_images": mean.std(0).round(4).tolist(),
        "pixel_sd": x.std((0, 1, 2)).round(4).tolist(),
        "luma_of_image_10_50_90": quantiles(luma.mean((1, 2))),
        "contrast_of_image_10_50_90": quantiles(luma.std((1, 2))),
        "saturation_of_image_10_50_90": quantiles(saturation.mean((1, 2))),
        "red_minus_green_10_50_90": quantiles(mean[:, 0] - mean[:, 1]),
        "green_minus_blue_10_50_90": quantiles(mean[:, 1] - mean[:, 2]),
        "clipped_share": round(float((luma > 0.98).mean()), 4),
        "dark_share": round(float((luma < 0.05).mean()), 4),
        "edge_mean": round(float(edges.mean()), 4),
        "histograms": {
            "red": np.histogram(x[..., 0], bins)[0] / x[..., 0].size,
            "green": np.histogram(x[..., 1], bins)[0] / luma.size,
            "blue": np.histogram(x[..., 2], bins)[0] / luma.size,
            "luma": np.histogram(luma, bins)[0] / luma.size,
            "saturation": np.histogram(saturation, bins)[0] / luma.size,
        },
        "profiles": {
            "luma_by_row": luma.mean((0, 2)),
            "luma_by_column": luma.mean((0, 1)),
            "edges_by_row": edges.mean((0, 2)),
            "edges_by_column": edges.mean((0, 1)),
        },
    }


def figure(real, made, path, title):
    """Histograms and profiles side by side; solid for photographs, dashed for rendered rooms."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    centres, at = (np.arange(32) + 0.5) / 32, (np.arange(64) + 0.5) / 64
    rooms = (0.0, 0.447, 0.698)  # Okabe-Ito blue and vermilion: told apart by all
    photo = (0.835, 0.369, 0.0)
    panels = [
        (
            "histograms",
            k,
            k.capitalize() + (" value" if k != "saturation" else ""),
            "share of pixels",
        )
        for k in ("red", "green", "blue", "luma", "saturation")
    ]
    panels += [
        ("profiles", "luma_by_row", "height in the image (0 top, 1 bottom)", "mean luma"),
        ("profiles", "luma_by_column", "across (0 left, 1 right)", "mean luma"),
        ("profiles", "edges_by_row", "height in the image (0 top, 1 bottom)", "mean edge strength"),
    ]
    fig, axes = plt.subplots(2, 4, figsize=(13, 6), constrained_layout=True)
    for ax, (group, key, xlabel, ylabel) in zip(axes.flat, panels, strict=False):
        for data, colour, style, name in (
            (real, photo, "-", "photographs"),
            (made, rooms, "--", "rendered"),
        ):
            y = np.asarray(data[group][key])
            x = centres if len(y) == 32 else at[: len(y)]
            ax.plot(x, y, style, color=colour, lw=2, label=name)
        ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
        ax.grid(alpha=0.25)
    axes[0, 0].legend()
    fig.suptitle(title)
    fig.savefig(path, dpi=110)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("photos", type=Path)
    p.add_argument("--zip", type=Path, default=HERE.parent / "bedrooms64.zip")
    p.add_argument("--images", type=Path, help="compare a folder of frames instead of the zip")
    p.add_argument("--test", action="store_true", help="look at the test split too")
    p.add_argument("--out", type=Path, default=HERE)
    a = p.parse_args()
    if not a.photos.is_dir():
        raise SystemExit(f"{a.photos}: not a folder; give the folder of photographs")
    if not a.images and not a.zip.exists():
        raise SystemExit(f"{a.zip}: not there; run data/render/render.py first, or give --images")
    from bedgen_utils.data import load_bedrooms
    from bedgen_utils.features import features

    photographs = load_bedrooms("folder", "all", SIZE, path=a.photos)
    if a.images:
        rendered = load_bedrooms("folder", "all", SIZE, path=a.images)
    else:
        rendered = load_bedrooms("rendered", "validation", SIZE, path=a.zip)
    f_photos, f_rendered, half = features(photographs), features(rendered), len(photographs) // 2
    distances = {
        "photographs_to_photographs": distance(f_photos[:half], f_photos[half:]),
        "validation_to_photographs": distance(f_rendered, f_photos),
    }
    if a.test and not a.images:
        f_test = features(load_bedrooms("rendered", "test", SIZE, path=a.zip))
        distances["test_to_photographs"] = distance(f_test, f_photos)
        distances["test_to_validation"] = distance(f_test, f_rendered)
    real, made = describe(photographs), describe(rendered)
    result = {
        "protocol": "kernel distance in EfficientNet-Lite0 features; centre square, bicubic with "
        f"antialiasing to {SIZE} px; unbiased, jackknife standard error",
        "kernel_distance": distances,
        "photographs": real,
        "rendered": made,
    }
    near, floor = (
        "{value:.2f} ± {standard_error:.2f}".format(**distances[key])
        for key in ("validation_to_photographs", "photographs_to_photographs")
    )
    title = f"Rendered bedrooms and photographs: kernel distance {near}; "
    figure(real, made, a.out / "calibration.png", f"{title}two halves of the photographs {floor}")
    text = json.dumps(result, indent=1, default=lambda v: [round(float(e), 5) for e in v])
    (a.out / "calibration.json").write_text(text + "\n")
    print(json.dumps(distances, indent=1))
    print("wrote", a.out / "calibration.json", "and calibration.png")


if __name__ == "__main__":
    main()
