# @title Set-up: fetches the course where it is not installed, as in Colab
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("bedgen_utils") is None:
    given, clone, part = os.environ.get("BEDGEN_REPOSITORY"), Path("bedrooms"), Path("clone.part")
    if not (address := given or "@ADDRESS@"):
        raise RuntimeError(
            "bedgen_utils is not installed, and its address is not set: `pip install -e .` in a "
            "checkout, or `%env BEDGEN_REPOSITORY=https://github.com/OWNER/NAME` in a cell above"
        )
    packages = "@PACKAGES@".split()
    steps = [[sys.executable, "-m", "pip", "install", "-q", "--no-deps", *packages]]
    if not (clone / "bedgen_utils").exists():
        shutil.rmtree(part, ignore_errors=True)  # a clone that was interrupted
        branch = [] if given else ["--branch", "@BRANCH@"]
        steps.insert(0, ["git", "clone", "-q", "--depth", "1", *branch, address, str(part)])
    for step in steps:
        try:
            subprocess.run(step, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            why = f"{error}\n{getattr(error, 'stderr', '')}"
            raise RuntimeError(f"set-up needs a network, git and {address}: {why}") from None
    if part.exists():
        part.rename(clone)
    importlib.invalidate_caches()
    sys.path.insert(0, str(clone.resolve()))
    os.environ.setdefault("BEDGEN_PROFILE", "released")  # unless one is chosen: no training
    print(f"fetched the course into {clone.resolve()}")
