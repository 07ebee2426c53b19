"""One run of one notebook: its profile, its seed, its folder, and where its results come from.

A notebook opens with ``run = start("03", profile, seed, out)``. All notebooks of a run share
``run.folder``; what notebook 03 makes (figures, weights, checkpoints) goes below ``run.own``, which
is ``run.folder / "03"``.

PyTorch takes seconds to import and is imported where it is needed: the pipeline reads profiles
here.
"""

import os
import platform
import subprocess
import tomllib
from collections import ChainMap
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from .sources import dataset_sha256

REPO = Path(__file__).resolve().parents[1]
PROFILES = ("smoke", "cpu", "released", "gpu", "lsun")
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pillow",
    "matplotlib",
)  # what numbers and figures depend on


@dataclass
class Run:
    """What ``start`` returns. ``p`` holds the profile's numbers, ``folder`` is shared by all
    notebooks of this run.
    """

    notebook: str
    profile: str
    seed: int
    folder: Path
    p: SimpleNamespace

    @property
    def own(self) -> Path:
        """The folder of what this notebook makes."""
        return self.folder / self.notebook

    def provenance(self) -> dict:
        """Which code, seed and data a result of this run comes from, and which machine."""
        import torch

        return {
            "notebook": self.notebook,
            "profile": self.profile,
            "seed": self.seed,
            "commit": code_version(),
            "data_sha256": dataset_sha256(self.p.source),
            "device": device(),
            "processor": processor(),
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in PACKAGES}
            | {"torch": torch.__version__},
        }


def profile_numbers(profile: str, notebook: str) -> dict:
    """The numbers of ``profile`` for ``notebook`` ("01" … "08") in profiles.toml.

    The notebook's section over the profile's common keys, and both recipes as tables. What another
    profile leaves out, in whatever place, comes from the profile that it is ``like``, then from
    profile cpu; the recipes of "released" are those of the profile that makes what is released.
    $BEDGEN_IMAGES, as in folder:PATH, is a ``source`` of one's own. ValueError for an unknown
    profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile {profile!r} is unknown; choose one of {', '.join(PROFILES)}")
    tables = tomllib.loads((Path(__file__).parent / "profiles.toml").read_text(encoding="utf-8"))

    def layers(name: str) -> list[dict]:
        """What holds in the profile of that name, the last word last."""
        own = tables[name]
        return [tables["cpu"], tables.get(own.get("like"), {}), own]

    def section(key: str, of: str) -> dict:
        return dict(ChainMap(*(layer.get(key, {}) for layer in reversed(layers(of)))))

    numbers = {key: value for layer in layers(profile) for key, value in layer.items()}
    common = {key: value for key, value in numbers.items() if not isinstance(value, dict)}
    common.pop("like", None)
    maker = common.pop("recipes", profile)
    common["source"] = os.environ.get("BEDGEN_IMAGES") or common["source"]
    recipes = {name: section(name, maker) for name in ("ddpm", "gan")}
    return common | recipes | section(f"nb{notebook}", profile)


def start(
    notebook: str, profile: str | None = None, seed: int = 0, out: str | Path | None = None
) -> Run:
    """Open a run of ``notebook`` in ``profile``: seed the generators, make the folder, and print
    which profile it is and how long that takes.

    profile: None where the reader has not chosen; then $BEDGEN_PROFILE, which the set-up cell of a
    notebook sets where the course was not installed (Colab), and "cpu" without it.
    out: the folder shared by the notebooks of the run; None means ``runs/<profile>`` in the
    repository. ValueError for an unknown profile or notebook, or a seed that NumPy cannot take (it
    wants 0 … 2^32 - 1).
    """
    import torch

    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to {2**32 - 1}, got {seed!r}")
    chosen = profile is not None
    profile = profile if profile is not None else os.environ.get("BEDGEN_PROFILE") or "cpu"
    numbers = profile_numbers(profile, notebook)
    folder = Path(out).expanduser().resolve() if out else REPO / "runs" / profile
    torch.manual_seed(seed)
    np.random.seed(seed)
    run = Run(notebook, profile, seed, folder, SimpleNamespace(**numbers))
    run.own.mkdir(parents=True, exist_ok=True)
    print(how_long(notebook, profile) + ("" if chosen else offer(notebook, profile)))
    return run


def how_long(notebook: str, profile: str) -> str:
    """One sentence: the profile, and what its table says that it takes."""
    numbers = profile_numbers(profile, notebook)
    if not (minutes := numbers.get("minutes")):
        raise ValueError(
            f"profiles.toml has no minutes for notebook {notebook!r}, as it has for '01': "
            "a new notebook needs a table [cpu.nbNN]"
        )
    duration = f"{60 * minutes:.0f} seconds" if minutes < 1 else f"{minutes:g} minutes"
    machine = "a data-centre GPU (an estimate)" if numbers["gpu"] else "two cores"
    return f"Profile {profile}: about {duration} on {machine}."


def offer(notebook: str, profile: str) -> str:
    """What a reader who has not chosen a profile is told of the machine's GPU, if it has one."""
    import torch

    if profile != "released" or not torch.cuda.is_available():
        return ""
    found = f"This machine has a GPU ({torch.cuda.get_device_name()})"
    return f' {found}: choose profile = "gpu" to use it. {how_long(notebook, "gpu")}'


def device() -> str:
    """The accelerator's name, or "cpu": what ``train.accelerator`` takes."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "mps" if torch.backends.mps.is_available() else "cpu"


def processor() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def code_version() -> str:
    """The commit of the code that runs, with ``+changes`` where tracked source differs from it.

    "unknown" outside git, and where the files lie inside another project's repository.
    """

    # In a hook of any repository GIT_DIR names that one.
    env = {k: v for k, v in os.environ.items() if k[:4] != "GIT_" or k[:10] == "GIT_CONFIG"}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPO), *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if not os.path.samefile(git("rev-parse", "--show-toplevel"), REPO):
            return "unknown"
        # What a run itself writes (figures, executed notebooks) does not make the code a different
        # one.
        sources = ("bedgen_utils", "notebooks/py", "data", "studies/*.py")
        changed = git("status", "--porcelain", "--untracked-files=all", "--", *sources)
        # of what git does not know, only programs are code
        ours = [s for s in changed.splitlines() if not s.startswith("??") or s.endswith(".py")]
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if ours else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
