"""Do the links of every text lead somewhere?  python -m tools.links

Follows the links of all committed Markdown and of the notebooks' text: a relative one must name a
file of the repository and, behind a #, one of its headings; an address must be a well-formed https
one, and is not visited.
"""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jupytext

REPO = Path(__file__).resolve().parents[1]
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)[^()]*\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def text_of(path: Path) -> str:
    """The Markdown in ``path``; in a notebook's source that is what its comments say."""
    if path.suffix == ".py":
        prose = (cell.source for cell in jupytext.read(path).cells if cell.cell_type == "markdown")
        return CODE.sub("", "\n".join(prose))
    return CODE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """What may stand behind a #: GitHub's form of each heading."""
    words = (re.sub(r"[^\w\- ]", "", h.lower()) for h in HEADING.findall(text_of(path)))
    return {word.replace(" ", "-") for word in words}


def wrong(path: Path, base: Path) -> list[str]:
    """What is wrong with the links of ``path``, which is read in folder ``base``."""
    found = []
    for link in LINK.findall(text_of(path)):
        parts = urlsplit(link)
        target = base / unquote(parts.path) if parts.path else path
        source = base / "py" / target.with_suffix(".py").name if target.suffix == ".ipynb" else None
        headings = source if source and source.exists() else target
        if parts.scheme or parts.netloc:
            if parts.scheme != "https" or "." not in parts.netloc:
                found.append(f"{link}: not an https address")
        elif not target.exists():
            found.append(f"{link}: there is no such file")
        elif parts.fragment and parts.fragment not in anchors(headings):
            found.append(f"{link}: there is no such heading")
    return [f"{path.relative_to(REPO) if path.is_relative_to(REPO) else path}: {w}" for w in found]


def texts() -> dict[Path, Path]:
    """Every text, and the folder that its links start from."""
    names = ["*.md", "notebooks/py/*.py"]
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *names],
        cwd=REPO, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    paths = [path for name in listed if (path := REPO / name).exists()]
    return {p: p.parent.parent if p.parent.name == "py" else p.parent for p in paths}


if __name__ == "__main__":
    sys.exit("\n".join(row for path, base in texts().items() for row in wrong(path, base)) or None)
