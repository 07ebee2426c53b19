"""What a notebook shows and keeps: plot style, figures, tables, studies, intervals.

Every figure and table of a run is a file in ``run.own / "figures"`` and a row of ``run.own /
"manifest.json"``: what it shows, with its numbers, and which code, seed, data and machine made it.
"""

import hashlib
import io
import json
import re
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import torch
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure
from scipy import stats

from .run import REPO, Run
from .sources import replace_atomically

STUDIES = REPO / "studies" / "results"
SEEDS = REPO / "figures" / "seeds.json"

# Okabe & Ito (2008): eight colours that people with any colour vision tell apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
STYLE = {
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.size": 10,
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "legend.frameon": False,
}


def use_style() -> None:
    """Our plot style, and nothing of what a matplotlibrc on this machine says."""
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)


# ---- figures and tables


def save_figure(
    run: Run,
    fig: Figure,
    figure_id: str,
    caption: str,
    numbers: dict | None = None,
    protocol: Any = None,
    study: str | None = None,
) -> None:
    """Write ``fig`` as a PNG named ``figure_id``, add its row to the manifest, and show it with its
    caption.

    numbers: the values that the figure shows or the text quotes (anything JSON holds; arrays as
    lists). protocol: the ``metrics.Protocol`` of the distances among them, or several in a dict.
    study: the study it is drawn from.
    """
    path = run.own / "figures" / f"{figure_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    # No version and no date in the file: the same run gives the same bytes.
    options = {"format": "png", "metadata": {"Software": None}}
    replace_atomically(path, lambda temporary: fig.savefig(temporary, **options))
    fig.set_layout_engine("none")  # laid out once is enough
    _add_to_manifest(run, path, caption, numbers or {}, protocol, study)
    display(_inline(fig), Markdown(f"*{caption}*"))
    plt.close(fig)


def _inline(fig: Figure) -> Image:
    """What the page shows: a PNG, or a JPEG where that has less than half as many bytes."""
    png, jpeg = io.BytesIO(), io.BytesIO()
    fig.savefig(png, format="png", dpi=fig.dpi, bbox_inches="tight", metadata={"Software": None})
    PIL.Image.open(png).convert("RGB").save(jpeg, "jpeg", quality=85)  # drawn once is enough
    photograph = 2 * len(jpeg.getvalue()) < len(png.getvalue())
    return Image((jpeg if photograph else png).getvalue(), format="jpeg" if photograph else "png")


def save_table(
    run: Run,
    rows: list[dict] | pd.DataFrame,
    table_id: str,
    caption: str,
    protocol: Any = None,
    study: str | None = None,
) -> Markdown:
    """Write ``rows`` as CSV, add the manifest row, and return the table for display; the rest as in
    ``save_figure``.
    """
    table = pd.DataFrame(rows)
    path = run.own / "figures" / f"{table_id}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(
        path,
        lambda temporary: table.to_csv(
            temporary, index=False, lineterminator="\n", encoding="utf-8"
        ),
    )
    _add_to_manifest(run, path, caption, {"rows": table.to_dict("records")}, protocol, study)

    def line(cells: Any) -> str:
        return (
            "| " + " | ".join(f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells) + " |"
        )

    body = [line(row) for row in table.itertuples(index=False)]
    return Markdown(
        "\n".join(
            [line(table.columns), line(["---"] * len(table.columns)), *body, "", f"*{caption}*"]
        )
    )


def _add_to_manifest(
    run: Run, path: Path, caption: str, numbers: dict, protocol: Any, study: str | None
) -> None:
    manifest = run.own / "manifest.json"
    rows = read_manifest(manifest)
    if rows.get(path.stem, {}).get("file", path.name) != path.name:
        raise ValueError(f"{path.stem} is the name of a figure and of a table: one would be lost")
    row = {
        "id": path.stem,
        "file": path.name,
        "sha256": _sha256(path),
        "caption": caption,
        **run.provenance(),
    }
    if protocol:
        row["protocol"] = protocol
    if study:
        row["study"] = {
            "file": f"studies/results/{study}.csv",
            "sha256": _sha256(STUDIES / f"{study}.csv"),
            "commits": sorted(set(read_study(study)["commit"])),
        }
    write_manifest(manifest, rows | {path.stem: row | {"numbers": numbers}})


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_manifest(path: Path) -> dict[str, dict]:
    """The rows of a manifest by figure, none where there is no file. ValueError where it cannot be
    read (conflict markers, say): nothing is ever made of half a manifest.
    """
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is no manifest ({error}); git checkout brings back the last good one"
        ) from error


def write_manifest(path: Path, rows: dict[str, dict]) -> None:
    """Write ``rows`` in the order of their names; dataclasses, arrays and numbers of NumPy or torch
    as plain JSON.
    """

    def plain(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        return value.tolist() if hasattr(value, "tolist") else float(value)

    text = (
        json.dumps(dict(sorted(rows.items())), indent=1, ensure_ascii=False, default=plain) + "\n"
    )
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def numbers_from_run(run: Run, figure_id: str) -> dict | None:
    """The numbers of a figure or table that another notebook of this run made; None where it has
    not been made.
    """
    for manifest in sorted(run.folder.glob("*/manifest.json")):
        if row := read_manifest(manifest).get(figure_id):
            return row["numbers"]
    return None


def across_seeds(figure_id: str, number: str) -> np.ndarray:
    """What whole runs of profile ``cpu`` with seeds 0, 1, 2 came to: a number of a figure's row in
    the manifest, by the path that ``tools.compare`` prints. KeyError where it is not among those
    that differ (figures/seeds.json)."""
    return np.array(read_manifest(SEEDS)["numbers"][f"{figure_id}: {number}"])


def read_study(name: str) -> pd.DataFrame:
    """The rows of ``studies/results/NAME.csv``: what took hours and was measured once, by a script
    in ``studies/``.

    FileNotFoundError where it is not there, ValueError where git has left conflict markers in it.
    """
    path = STUDIES / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing; a script in studies/ makes it, git checkout brings it back"
        )
    if re.search(r"(?m)^(<{7}|={7}|>{7})", path.read_text(encoding="utf-8")):
        raise ValueError(f"{path} holds conflict markers of git: they would be read as rows")
    return pd.read_csv(path, dtype={"commit": str})


def show_images(ax: Any, images: torch.Tensor, columns: int = 8, title: str | None = None) -> None:
    """Draw uint8 ``images`` (N, 3, H, W) as a grid with one white pixel between them on the axes
    ``ax``.
    """
    from torchvision.utils import make_grid

    grid = make_grid(images, nrow=columns, padding=1, pad_value=255)
    ax.imshow(grid.permute(1, 2, 0).numpy())
    ax.set_axis_off()
    if title:
        ax.set_title(title)


# ---- intervals


class Interval(NamedTuple):
    """An estimate with the ends of its confidence interval."""

    value: float
    low: float
    high: float


def mean_interval(values: Any, level: float = 0.95) -> Interval:
    """The mean of independent values (n,), n >= 2, with Student's t interval."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"an interval needs at least two values, got shape {values.shape}")
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def share_interval(successes: int, trials: int, level: float = 0.95) -> Interval:
    """A share of independent trials, with the exact interval of Clopper and Pearson (1934)."""
    low, high = stats.binomtest(successes, trials).proportion_ci(level)
    return Interval(successes / trials, float(low), float(high))
