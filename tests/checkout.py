"""A checkout in a temporary folder: our pipeline, a package of a few lines, tiny notebooks."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]

RUN = '''"""Profiles."""
import tomllib
from pathlib import Path

from . import sources


def profile_numbers(profile, notebook):
    if profile not in ("smoke", "cpu", "gpu"):
        raise ValueError(f"profile {profile!r} is unknown")
    tables = tomllib.loads((Path(__file__).parent / "profiles.toml").read_text())
    recipes = {"ddpm": tables["ddpm"], "gan": tables["gan"], "source": "rendered", "minutes": 0.1}
    return recipes | tables.get(f"nb{notebook}", {})
'''
SOURCES = '''"""Where images come from."""
import hashlib
from pathlib import Path


def dataset_sha256(source):
    data = Path(__file__).parents[1] / "data" / "bedrooms.zip"
    return hashlib.sha256(data.read_bytes()).hexdigest()
'''
PROFILES = "[ddpm]\nrate = 1\n[gan]\nrate = 2\n[nb01]\nrooms = 5\n[nb04]\nrooms = 6\n"

# It counts its runs in this folder of its own, and leaves one figure and its row.
NOTEBOOK = """# %% [markdown]
# # Notebook {number}

# %% tags=["parameters"]
profile = "cpu"
seed = 0
out = None

# %%
import hashlib, json, os, pathlib, sys, time
import bedgen_utils.{module}
own = pathlib.Path(out) / "{number}"
(own / "figures").mkdir(parents=True, exist_ok=True)
times = len(list(own.glob("ran-*"))) + 1
(own / f"ran-{{times}}").touch()

# %%
value = {value}
{extra}

# %%
file = own / "figures" / "{name}.svg"
file.write_text(f"<svg>{{value}} {{profile}} {{seed}}</svg>")
row = dict(id="{name}", notebook="{number}", file=file.name, caption="A figure.")
row["commit"] = str(time.time())
row["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
row["numbers"] = dict(value=value, times=times, seconds=time.time())
(own / "manifest.json").write_text(json.dumps({{"{name}": row}}))
print("wrote", file, "with", sys.executable, "at home", pathlib.Path.home())
"""
# Once, in the middle of a notebook: say that we are here, and stay.
SLOW = '(own.parent / "here").write_text(str(os.getpid()))\nif times == 1: time.sleep(600)'


class Checkout:
    def __init__(self, root: Path, notebooks: dict[str, str]):
        """notebooks: number and the module of the package that each imports."""
        self.root, self.run = root, root / "runs" / "smoke"
        self.published = self.run / "published"
        for name in ("tools", "profiles"):
            shutil.copytree(REPO / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Snakefile", "pyproject.toml"):
            shutil.copy(REPO / name, root)
        files = {
            "__init__": '"""The package."""',
            "run": RUN,
            "data": '"""Images."""\nfrom . import sources\n',
            "sources": SOURCES,
            "games": "from . import gan",
        }
        files |= {"gan": '"""GANs."""', "models": "", "metrics": ""}
        for name, text in files.items():
            self.write(f"bedgen_utils/{name}.py", text + "\n")
        shutil.copy(REPO / "bedgen_utils" / "__main__.py", root / "bedgen_utils")
        self.write("bedgen_utils/profiles.toml", PROFILES)
        self.write("data/bedrooms.zip", "images")
        for number, module in notebooks.items():
            self.notebook(number, module)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def notebook(
        self, number: str, module: str = "data", value=1, extra: str = "", name: str = ""
    ) -> None:
        name = name or f"nb{number}_figure"
        text = NOTEBOOK.format(number=number, module=module, value=value, extra=extra, name=name)
        self.write(f"notebooks/py/{number}_small.py", text)

    def start(self, *arguments: str, env: dict | None = None) -> subprocess.Popen:
        """The command, where Ctrl-C is not ignored, as it is in the background of a shell."""
        code = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from bedgen_utils.__main__ import main; sys.exit(main(sys.argv[1:]))"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=self.root, env=os.environ | (env or {}),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def make(self, *arguments: str, status: int = 0, env: dict | None = None) -> str:
        """Run the command to its end; what it printed."""
        process = self.start(*(arguments or ("smoke",)), env=env)
        text = process.communicate(timeout=300)[0].decode(errors="replace")
        assert process.returncode == status, f"status {process.returncode}\n{text}"
        return text

    def times(self) -> dict[str, tuple[int, int]]:
        """By figure: its value, and how often its notebook has run in this state."""
        rows = json.loads((self.published / "figures" / "manifest.json").read_text())
        return {i: (row["numbers"]["value"], row["numbers"]["times"]) for i, row in rows.items()}

    def state(self) -> dict[str, tuple[bytes, int]]:
        """Every published file with its bytes and the time it was written."""
        return {
            path.name: (path.read_bytes(), path.stat().st_mtime_ns)
            for below in ("figures", "notebooks")
            for path in sorted((self.published / below).glob("*"))
        }


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists() or not path.read_bytes():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.05)
