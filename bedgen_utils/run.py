"""One run of one notebook: its profile, its seed, its folder, and the figures it leaves.

A notebook opens with ``run = start("03", profile, seed, out)``. Everything it makes goes below ``run.folder``:
``figures/`` with ``manifest.json`` (one row per figure: what it shows, and which code, seed and data made it),
``weights/`` (what later notebooks load) and ``NN/`` (checkpoints of notebook NN).
"""

import csv
import hashlib
import json
import os
import subprocess
import time
import tomllib
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import torch

REPO = Path(__file__).resolve().parents[1]
PROFILES = ("smoke", "cpu", "released", "gpu")

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
    "svg.hashsalt": "bedrooms",
}


@dataclass
class Run:
    """What ``start`` returns. ``p`` holds the profile's numbers, ``folder`` is where this profile's results lie."""

    notebook: str
    profile: str
    seed: int
    folder: Path
    p: SimpleNamespace
    began: float = field(default_factory=time.monotonic)

    def provenance(self) -> dict:
        """Which code, seed and data a result of this run comes from."""
        from .data import dataset_sha256

        return {
            "notebook": self.notebook,
            "profile": self.profile,
            "seed": self.seed,
            "commit": code_version(),
            "data_sha256": dataset_sha256(self.p.source),
        }


def profile_numbers(profile: str, notebook: str) -> dict:
    """The numbers of ``profile`` for ``notebook`` ("01" … "08") in profiles.toml.

    The notebook's section over the profile's common keys; what [PROFILE.nbNN] leaves out comes from [cpu.nbNN].
    """
    if profile not in PROFILES:
        raise ValueError(f"profile {profile!r} is unknown; choose one of {', '.join(PROFILES)}")
    table = tomllib.loads((Path(__file__).parent / "profiles.toml").read_text(encoding="utf-8"))
    section = f"nb{notebook}"
    common = {k: v for k, v in table[profile].items() if not isinstance(v, dict)}
    return common | table["cpu"].get(section, {}) | table[profile].get(section, {})


def start(notebook: str, profile: str = "cpu", seed: int = 0, out: str | Path | None = None) -> Run:
    """Open a run of ``notebook`` in ``profile``: seed the generators, set the plot style, make the folder.

    ``out`` is the run folder; None means ``runs/<profile>`` in the repository.
    """
    numbers = profile_numbers(profile, notebook)
    folder = Path(out) if out else REPO / "runs" / profile
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    np.random.seed(seed)
    matplotlib.rcParams.update(STYLE)
    return Run(notebook, profile, seed, folder, SimpleNamespace(**numbers))


def replace_atomically(path: Path, write) -> None:
    """Let ``write(temporary_path)`` make a file, then put it in the place of ``path`` in one step.

    A reader, or a run that is killed half-way, sees the old file or the new one and never a part of it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def code_version() -> str:
    """The commit of the code that runs, with ``+changes`` where tracked source differs from it; "unknown" outside
    git."""

    def git(*args):
        return subprocess.run(
            ["git", "-C", str(REPO), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # What a run itself writes (figures, executed notebooks) does not make the code a different one.
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "bedgen_utils", "notebooks/py", "data")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _add_to_manifest(run: Run, figure_id: str, files: list[Path], caption: str, numbers: dict, protocol) -> None:
    manifest = run.folder / "figures" / "manifest.json"
    rows = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
    rows[figure_id] = {
        "id": figure_id,
        "files": {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files},
        "caption": caption,
        **run.provenance(),
        "seconds": round(time.monotonic() - run.began, 1),
        **({"protocol": protocol} if protocol else {}),
        "numbers": numbers,
    }

    def plain(value):
        return asdict(value) if is_dataclass(value) else float(value)

    text = json.dumps(dict(sorted(rows.items())), indent=1, ensure_ascii=False, default=plain) + "\n"
    replace_atomically(manifest, lambda t: t.write_text(text, encoding="utf-8"))


def save_figure(run: Run, fig, figure_id: str, caption: str, numbers: dict | None = None, protocol=None) -> None:
    """Write ``fig`` as PNG and SVG under ``figure_id`` and add its row to the manifest.

    ``numbers`` are the values the figure shows or the text quotes (anything JSON holds; arrays as lists), ``protocol``
    the `metrics.Protocol` of the distances among them, or several in a dict. ``seconds`` in the row counts from the
    notebook's start.
    """
    folder = run.folder / "figures"
    files = [folder / f"{figure_id}.{ending}" for ending in ("png", "svg")]
    for path in files:
        # No date in the file: the same run gives the same bytes.
        meta = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        replace_atomically(path, lambda t, p=path, m=meta: fig.savefig(t, format=p.suffix[1:], metadata=m))
    _add_to_manifest(run, figure_id, files, caption, numbers or {}, protocol)


def save_table(run: Run, rows: list[dict], table_id: str, caption: str, protocol=None):
    """Write ``rows`` (dicts with the same keys) as CSV, add the manifest row, and return the table for display.

    ``protocol`` as in ``save_figure``.
    """
    from IPython.display import Markdown

    path = run.folder / "figures" / f"{table_id}.csv"

    def write(temporary):
        with open(temporary, "w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    replace_atomically(path, write)
    _add_to_manifest(run, table_id, [path], caption, {"rows": rows}, protocol)
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += [
        "| " + " | ".join(f"{r[k]:.4g}" if isinstance(r[k], float) else str(r[k]) for k in head) + " |" for r in rows
    ]
    return Markdown("\n".join(lines) + f"\n\n*{caption}*")


def read_study(name: str) -> list[dict]:
    """The rows, all values strings, of figures/studies/NAME.csv: what took hours and was measured once, by
    a script in benchmarks/. FileNotFoundError if it is not there."""
    path = REPO / "figures" / "studies" / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; a script in benchmarks/ makes it, git checkout brings it back")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def show_images(ax, images: torch.Tensor, columns: int = 8, title: str | None = None) -> None:
    """Draw uint8 ``images`` (N, 3, H, W) as a grid with one white pixel between them on ``ax``."""
    from torchvision.utils import make_grid

    grid = make_grid(images, nrow=columns, padding=1, pad_value=255)
    ax.imshow(grid.permute(1, 2, 0).numpy())
    ax.set_axis_off()
    if title:
        ax.set_title(title)


def to_uint8(x: torch.Tensor) -> torch.Tensor:
    """Model range [-1, 1] to uint8, rounded to the nearest level; values outside are clamped."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 images to float32 in [-1, 1]: level k becomes k / 127.5 - 1."""
    return images.float() / 127.5 - 1
