"""The book: a static site from the notebooks as they are stored. Nothing is run.

``python -m tools.book`` (``make book``) writes what Sphinx reads: the notebooks, the texts of
book/, pages that ``bookpages`` makes. Sphinx makes the site of it, with warnings as errors; then
every link, anchor and image is looked at. All that a page loads lies in the site: a reader needs no
network. Sphinx, MyST-NB, Furo and a copy of MathJax come from the extra ``book``. Furo, because its
pages load 0.1 MB beside their text and MathJax, and a theme with Bootstrap and icon fonts ten times
as much.

All of this happens in book/_build/.building, from the beginning each time: Sphinx tells a warning
only once of a page that it keeps. What is right at the end takes the place of book/_build/html.

``playground`` copies the page of ``book/playground/`` into the site, and puts beside it what runs
there: the networks, and the runtime, which npm fetches.
``python -m tools.book --serve`` shows the site, and builds it first where it has not been built.
"""

import argparse
import hashlib
import http.server
import os
import re
import shutil
import time
from collections import Counter
from functools import partial
from html.parser import HTMLParser
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import PIL.Image
import PIL.ImageOps
from nbformat import NotebookNode

from . import bookpages as made
from . import playground
from .crossref import Labels, linked
from .notebooks import NOTEBOOKS, REPO, document, read_run
from .pipeline import lock_folder, manifest, one_line_errors, put, sources

BOOK = REPO / "book"
BUILD = BOOK / "_build"
WORK = ".building"  # where a site is made, beside the last one
LIMIT = 60e6  # bytes of the site, the playground left out
# tex-chtml.js of MathJax 3.2.2, as its npm package has it.
MATHJAX = "0a6ded5abbce13331658dd239f34382abd06492c74b71b61e8caa8112ec55fa5"
# The figure on the card of each chapter, and where in it the part that is shown lies: left, top,
# right, bottom, as shares of its width and height.
CARDS = {
    "01": ("fig01_forward_noising", (0.223, 0.085, 0.889, 1)),
    "02": ("nb02_paths", (0, 0, 0.447, 1)),
    "03": ("nb03_unet_inside", (0, 0, 1, 1)),
    "04": ("nb04_growth", (0.4, 0, 1, 0.94)),
    "05": ("nb05_film_cures", (0.567, 0, 1, 1)),
    "06": ("nb06_transport", (0, 0, 0.46, 1)),
    "07": ("fig10_interpolation", (0, 0, 0.59, 0.66)),
    "08": ("nb08_side_by_side", (0, 0, 0.667, 0.94)),
}
CARD = (600, 400)


# ---- what Sphinx reads


def write_sources(folder: Path) -> None:
    """Write every page to ``folder``; ValueError where a chapter has not been run."""
    rows = manifest(REPO / "figures")
    if not rows:
        path = REPO / "figures" / "manifest.json"
        raise ValueError(f"{path} holds no figures: `git checkout {path}` brings them back")
    books = {number: read_run(path) for number, path in made.chapters().items()}
    labels = made.learn(books, rows)
    texts = pages(rows, books, labels)
    for number, nb in books.items():
        name = f"notebooks/{made.chapters()[number].name}"
        texts[name] = nbformat.writes(made.page(nb, number, labels, rows))
    for name, text in texts.items():
        put(folder / name, text.encode())
    for image in ("data/sample_sheet.png", "figures/nb08_released.png"):
        put(folder / Path(image).name, (REPO / image).read_bytes())


def pages(rows: dict, books: dict[str, NotebookNode], labels: Labels) -> dict[str, str]:
    """By file name, the text of every page that is no notebook."""
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    makers = fragments(readme, rows, books, labels)
    texts = {
        path.name: linked(made.fill(made.relinked(text, "book", ""), makers), labels)
        for path in sorted(BOOK.glob("*.md"))
        if (text := path.read_text(encoding="utf-8"))
    }
    text = (NOTEBOOKS / "notation.md").read_text(encoding="utf-8")
    texts["notation.md"] = made.notation(text, labels)
    for name in ("data", "studies"):
        text = (REPO / name / "README.md").read_text(encoding="utf-8")
        text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
        texts[f"{name}.md"] = made.relinked(text, name, "")
    for number in filter(made.exercises_of, books):
        solved = document(sources(NOTEBOOKS)[number], solved=True)
        texts[f"solutions/{number}.md"] = made.solutions(number, solved, labels)
    # The page of that name is copied over what Sphinx makes of this.
    texts["playground/index.md"] = "# Playground\n\nBoth models, run by the browser.\n"
    return texts


def fragments(readme: str, rows: dict, books: dict[str, NotebookNode], labels: Labels) -> dict:
    """What may be asked for by ``<!-- made: NAME -->`` in a text of book/."""
    table, asked = made.contents(readme), [n for n in books if made.exercises_of(n)]
    stems = [f"notebooks/{row['stem']}" for row in table.values()]

    def readme_says(heading: str) -> str:
        return made.relinked(made.section(readme, heading), "", "")

    return {
        "path": partial(made.path_through, table),
        "chapters": lambda: "\n".join(stems[:-1]),
        "report": lambda: stems[-1],
        "solutions": lambda: "\n".join(f"solutions/{n}" for n in asked),
        "found": partial(readme_says, "What came out"),
        "measured": partial(readme_says, "What is measured, and what is not"),
        "times": partial(readme_says, "How long it took, in detail"),
        "caught": partial(made.errata, books),
        "errata": partial(made.errata_of_report, books["08"], labels),
        "mistakes": lambda: "\n\n".join(made.mistakes(n, labels) for n in asked),
        "timings": partial(made.timings, table, books),
        "provenance": partial(made.provenance, rows),
        "protocols": partial(made.protocols, rows, labels),
    }


# ---- what pages load


def write_static(folder: Path) -> None:
    """MathJax with its fonts, and the pictures of the front page."""
    found = {str(f): f for f in library("sphinx-mathjax-offline")}
    start = "sphinx-mathjax-offline/static/mathjax/"
    for name, file in found.items():
        inside = name.removeprefix(start)
        if inside == "tex-chtml.js" or inside.startswith("output/chtml/fonts/woff-v2/"):
            data = Path(file.locate()).read_bytes()
            if inside == "tex-chtml.js" and hashlib.sha256(data).hexdigest() != MATHJAX:
                raise ValueError(f"{name} is not the MathJax that is expected")
            put(folder / "mathjax" / inside, data)
    (folder / "cards").mkdir(parents=True)
    for number, (figure, part) in CARDS.items():
        image = card(REPO / "figures" / f"{figure}.png", part)
        image.save(folder / "cards" / f"{number}.jpg", quality=80)


def card(path: Path, part: tuple[float, float, float, float]) -> PIL.Image.Image:
    """The part of an image, padded to the size CARD; ValueError where there is no whole image."""
    try:
        with PIL.Image.open(path) as image:
            box = [round(share * image.size[k % 2]) for k, share in enumerate(part)]
            return PIL.ImageOps.pad(image.convert("RGB").crop(box), CARD, color="white")
    except (OSError, SyntaxError) as error:  # PIL's, for a chunk of a PNG that is broken
        why = f"{path} is no whole image ({error}): `git checkout {path}` brings it back"
        raise ValueError(why) from error


def library(name: str) -> list:
    try:
        return files(name) or []
    except PackageNotFoundError:
        raise SystemExit(
            f"{name} is missing: `make book` installs it, or `pip install` with the extra book"
        ) from None


# ---- the site


def renew(out: Path) -> Path:
    """Put a new site, with the networks, in the place of ``out``/html when all of it is right.

    The networks and the runtime of the old one are taken over where they are right. ValueError
    where ``out`` is not ours or another build is at work in it.
    """
    refuse_others(out)
    lock = lock_folder(out)
    try:
        site, work = out / "html", out / WORK
        if (work / "old").exists() and not site.exists():  # ended between the two steps below
            os.rename(work / "old", site)
        if work.exists():
            shutil.rmtree(work)
        new = work / "html"
        for name in ("models", "ort"):
            if (kept := site / "playground" / name).is_dir():
                shutil.copytree(kept, new / "playground" / name)
        playground.write_networks(new / "playground")
        build(work)
        if (large := size(new)) > LIMIT:
            raise ValueError(f"the site has {large / 1e6:.0f} MB, more than {LIMIT / 1e6:.0f}")
        if site.exists():
            os.rename(site, work / "old")
        os.rename(new, site)
        shutil.rmtree(work)
    finally:
        lock.release()
    return site


def refuse_others(out: Path) -> None:
    """ValueError where ``out`` is no folder, or has other things in it and no book."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is no folder: give --out one")
    others = {path.name for path in out.glob("*")} - {".lock", WORK}
    if others and not playground.is_ours(out / "html" / "playground"):
        why = f"{out} holds no book but {min(others)}"
        raise ValueError(f"{why}: remove that, or give --out a new folder")


def build(folder: Path) -> Path:
    """The site without the networks, in ``folder``/html, where nothing is yet of what it writes.
    SystemExit where Sphinx or a link complains.
    """
    from sphinx.cmd.build import build_main  # seconds, and only where the extra is installed

    write_static(folder / "static")
    write_sources(folder / "source")
    site = folder / "html"
    options = ["-W", "--keep-going", "-q", "-c", str(BOOK), "-d", str(folder / "doctrees")]
    options += ["-D", f"html_static_path=static,{folder / 'static'}"]
    if status := build_main([*options, "-b", "html", str(folder / "source"), str(site)]):
        raise SystemExit(status)
    for path in made.chapters().values():
        shutil.copy2(path, site / "notebooks")
    for path in (NOTEBOOKS / "solutions").glob("*.ipynb"):
        shutil.copy2(path, site / "solutions")
    playground.write_page(site / "playground")
    if wrong := problems(site):
        raise SystemExit("\n".join(wrong))
    return site


class Links(HTMLParser):
    """What a page defines and what it asks for."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: list[str] = []
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.unseen: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.ids += filter(None, [given.get("id")])
        self.names |= {value for key in ("id", "name") if (value := given.get(key))}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(given.get("href") or "")
        elif tag in ("script", "img", "iframe", "source", "video", "audio") and given.get("src"):
            self.loads.append(given["src"] or "")
        if tag == "img" and "alt" not in given:
            self.unseen.append(given.get("src") or "")


def problems(site: Path) -> list[str]:
    """Links, anchors and files that are not there, what other hosts are asked for, an id of two
    elements, and images without a word for those who do not see them.
    """
    read = {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    found = []
    for path, page in read.items():
        name = path.relative_to(site)
        found += [f"{name}: the image {src[:80]} has no alt text" for src in page.unseen]
        found += [
            f"{name}: {n} elements have the id {i}" for i, n in Counter(page.ids).items() if n > 1
        ]
        for link in page.loads:
            if urlsplit(link).scheme not in ("", "data") or link.startswith("//"):
                found.append(f"{name}: loads {link}")
        for link in {*page.links, *page.loads}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            there = read.get(target)
            if not target.exists():
                found.append(f"{name}: {link} is not there")
            elif parts.fragment and there and unquote(parts.fragment) not in there.names:
                found.append(f"{name}: {link}: there is no such anchor")
    return sorted(found)


def size(folder: Path, but: str = "playground") -> int:
    """Bytes of the files in ``folder``, those below ``but`` left out."""
    paths = (p for p in folder.rglob("*") if p.is_file())
    return sum(p.stat().st_size for p in paths if p.relative_to(folder).parts[0] != but)


def serve(site: Path, port: int) -> None:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    try:
        listening = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise ValueError(f"port {port} cannot be had ({error}): give another to --serve") from error
    with listening as server:
        print(f"http://127.0.0.1:{port}/ shows {site}; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the book: book/_build/html.")
    parser.add_argument("--out", type=Path, default=BUILD, help="the folder to build in")
    parser.add_argument("--serve", type=int, nargs="?", const=8000, metavar="PORT")
    options = parser.parse_args()
    site = options.out.resolve() / "html"
    with one_line_errors():
        if options.serve is None or not (site / "index.html").exists():
            began = time.monotonic()
            renew(site.parent)
            took, large = time.monotonic() - began, size(site)
            print(f"{site}: {large / 1e6:.0f} MB in {took:.0f} s; python -m tools.book --serve")
        if options.serve is not None:
            serve(site, options.serve)


if __name__ == "__main__":
    main()
