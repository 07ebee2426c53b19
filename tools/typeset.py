"""The report, notebook 08, as a PDF: its text, figures and tables, without its code.

``python -m tools.typeset`` (``make report``) reads the notebook as it is stored and runs none of
it. pandoc turns its Markdown and TeX into Typst, ``typeset.typ`` beside this file lays that out,
and Typst compiles it, with the fonts that it brings: nothing is fetched. Both are in the extra
``book``.

What belongs to the screen is left out: what stands between title and abstract, folded asides
(``<details>``), exercises, widgets with the paragraph before them, the line to the next notebook.
Links to other notebooks lead to a list of them at the end. A figure that figures/ holds is taken
from there, where it is sharper. What the checks printed becomes an appendix.
"""

import argparse
import base64
import json
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath

from nbformat import NotebookNode

from .notebooks import NOTEBOOKS, REPO, on_github, pyproject, read, read_run, tags_of
from .pipeline import manifest, one_line_errors, put

TEMPLATE = Path(__file__).with_suffix(".typ")
WIDE = 200  # characters in a row; with more, a table is one of sentences, as wide as the page
BREAK = "⏎"  # a new line in a cell
CAPTION = re.compile(r"(?s)\*((?:Fig|Tab)\. \d.+?)\*(?:\n\n|\s*$)")
NUMBERED = re.compile(r"(Fig|Tab)\. (\d+)(?: and (\d+))?\. ")
REFERENCE = re.compile(r"\b(Fig|Tab|Eq)\. ((\d+(?:\.\d+)?)(?: and \d+)?)\b")
PASSED = re.compile(r"(?m)^\[claim\] (.+): holds$|^\[eq:(\S+)\] (?!.*: caught, as )(.+)$")
SCREEN = re.compile(r"(?ms)<details>.*?</details>|<!--.*?-->|^Before: [^\n]*$")
TABLE = re.compile(r"(?m)^\|.*\n\|[-| :]+\|\n(?:\|.*(?:\n|\Z))+")
TAGGED = re.compile(r"(?s)\$\$((?:(?!\$\$).)+?)\\tag\{([^}]+)\}\s*\$\$")
RELATIVE = re.compile(r"(?<!!)\[([^\[\]]+)\]\((?!https?:|#)([^()\s]+)\)")
UNBROKEN = re.compile(r"(\d|±|[Ss]ections?|[Nn]otebook|Eq\.|\[[-−\d.,]+,) (?=[±%\d−-]|px\b)")
# pandoc gives \! and \; a wrong width, \big( a bracket that stands too high, and takes the comma
# of 1{,}280 for one between arguments.
TEX = {
    r"\\!": "",
    r"\\[;:]": r"\\,\\,",
    r"\\(?:big|Big|bigg|Bigg)l?([(\[]|\\\{)": r"\\left\1",
    r"\\(?:big|Big|bigg|Bigg)r?([)\]]|\\\})": r"\\right\1",
    r"(\d+)\{,\}(\d+)": r"\\text{\1,\2}",
}


def pandoc(text: str, to: str, of: str = "markdown-citations-example_lists") -> str:
    options = ["--wrap=none", f"--columns={WIDE}", "--shift-heading-level-by=-1"]
    return libraries()[0].convert_text(text, to, of, extra_args=options)


def libraries() -> tuple:
    """pypandoc and typst; SystemExit that says what to install where one is missing."""
    try:
        import pypandoc
        import typst
    except ImportError as error:
        extra = pyproject()["project"]["optional-dependencies"]["book"]
        wanted = [name for name in extra if name.startswith(("pypandoc", "typst"))]
        install = " ".join([sys.executable, "-m pip install", *(f'"{name}"' for name in wanted)])
        raise SystemExit(f"the report needs {error.name}, which this installs: {install}") from None
    return pypandoc, typst


def raw(code: str) -> str:
    """A block of Typst, which pandoc hands on as it is."""
    return f"\n\n```{{=typst}}\n{code}\n```\n\n"


# ---- what the notebook holds, in its order


def parts(nb: NotebookNode) -> Iterator[tuple[str, str | bytes]]:
    """``("text", Markdown)``, ``("Fig", image)``, ``("Tab", Markdown)`` and the ``("caption",
    Markdown)`` of the figures or tables before it.
    """
    for cell, following in zip(nb.cells, [*nb.cells[1:], None], strict=True):
        if cell.cell_type == "markdown" and "exercise" not in tags_of(cell):
            text = cell.source.strip()
            if following and re.search(r"\bwidgets\.", following.source):
                text = text.rpartition("\n\n")[0]
            if caption := CAPTION.match(text):
                yield "caption", caption[1]
                text = text[caption.end() :]
            yield "text", text
        for output in cell.get("outputs", []):
            yield from _shown(output.get("data", {}))


def _shown(data: dict) -> Iterator[tuple[str, str | bytes]]:
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            yield "Fig", base64.b64decode(data[kind])
    if "<table" in data.get("text/html", ""):
        yield "Tab", pandoc(data["text/html"], "gfm", "html")
    for block in data.get("text/markdown", "").strip().split("\n\n"):
        if block.startswith("|"):
            yield "Tab", block
        elif block:
            yield "caption", block.strip("*")


def checks(nb: NotebookNode) -> list[tuple[str, str]]:
    """What each check printed that passed, behind its section or the number of its equation."""
    found, section = [], ""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            section = (re.findall(r"(?m)^##+ ([\d.]*\d)", cell.source) or [section])[-1]
        printed = "".join(output.get("text", "") for output in cell.get("outputs", []))
        for claim, number, check in PASSED.findall(printed):
            found.append((f"({number})", check) if number else (section, claim))
    return found


# ---- as one text for pandoc


def markdown(nb: NotebookNode, chapter: str, folder: Path, published: Path) -> str:
    """The whole text; its images are written into ``folder``.

    A caption of several figures, "Fig. 5 and 6. … Fig. 7. …", is shared out among them. Those
    without such a number are counted in the chapter's way, Fig. 8.1.
    """
    text, waiting, counts = "", [], {"Fig": 0, "Tab": 0}
    for kind, content in parts(nb):
        if kind in counts:
            waiting.append((kind, content))
        elif kind == "caption" and waiting:
            for name, said, size in _shares(content, len(waiting)):
                taken, waiting = waiting[:size], waiting[size:]
                kind = taken[0][0]
                if not name:
                    counts[kind] += 1
                    name = f"{kind}. {chapter}.{counts[kind]}"
                text += exhibit(name, said, taken, folder, published)
        else:
            text += "".join(exhibit("", "", [one], folder, published) for one in waiting)
            text, waiting = f"{text}\n\n{content}", []
    return finished(text)


def _shares(caption: str, waiting: int) -> list[tuple[str, str, int]]:
    """Number, caption, and how many figures or tables it is of."""
    found = list(NUMBERED.finditer(caption))
    if not found:
        return [("", caption, waiting)]
    ends = [m.start() for m in found[1:]] + [len(caption)]
    shares = [
        (m[0].strip(". "), caption[m.end() : end].strip(), 2 if m[3] else 1)
        for m, end in zip(found, ends, strict=True)
    ]
    if sum(size for *_, size in shares) != waiting:
        return [(shares[0][0], caption[found[0].end() :], waiting)]
    return shares


def exhibit(name: str, caption: str, taken: list, folder: Path, published: Path) -> str:
    """A block for typeset.typ: one or more images or a table, with their caption."""
    label = re.sub(r"^(\w+)\. ([\d.]+).*", r"\1-\2", name).lower()
    tables = [content for kind, content in taken if kind == "Tab"]
    files = []
    for number, image in enumerate(content for kind, content in taken if kind == "Fig"):
        image = _sharpest(name, number, caption, image, published)
        suffix = "png" if image.startswith(b"\x89PNG") else "jpg"
        files.append(f"{len(list(folder.iterdir())):03}.{suffix}")
        (folder / files[-1]).write_bytes(image)
    plates = [raw(f"#plates({', '.join(json.dumps(f) for f in files)})")] if files else []
    body = "\n\n".join([*tables, *plates])
    said = f"**{name.replace(' ', chr(160), 1)}.** {caption}" if name else ""
    return raw(f'#exhibit("{label}")[') + body + raw("][") + said + raw("]")


def _sharpest(name: str, number: int, caption: str, image: bytes, published: Path) -> bytes:
    """The file of a figure, by its number or else its caption; where there is none, ``image``."""
    rows = manifest(published).values()
    paths = [published / row["file"] for row in rows if row["caption"] == caption]
    if own := re.match(r"Fig\. (\d+)(?!\.?\d)", name):
        paths = list(published.glob(f"fig{int(own[1]) + number:02}_*.png"))
    return paths[0].read_bytes() if len(paths) == 1 and paths[0].is_file() else image


def finished(text: str) -> str:
    """With mended TeX, numbered equations, links that lead somewhere, and blocks for the abstract
    and the references.
    """
    text = re.sub(r"(?ms)\A.*?(?=^## )", "", text)  # the title, and how to run it
    text = SCREEN.sub("", text)
    text = TABLE.sub(lambda m: _aligned(m[0]) + "\n", text)
    for wrong, right in TEX.items():
        text = re.sub(wrong, right, text)
    text = TAGGED.sub(_equation, text)
    names = set(re.findall(r'#(?:exhibit|equation)\("(\S+)"\)', text))
    text = REFERENCE.sub(lambda m: _reference(m, names), text)
    text = RELATIVE.sub(_link, text)
    text = UNBROKEN.sub("\\1\u00a0", text)
    text = re.sub(r"([α-ω])_(\w)\b", r"$\1_\2$", text)  # in captions
    for name in ("Abstract", "References"):
        block = f"{raw(f'#{name.lower()}[')}## {name}\n\\1{raw(']')}"
        text = re.sub(rf"(?ms)^## {name}\n(.*?)(?=^## |\Z)", block, text)
    return text


def _aligned(table: str) -> str:
    """A table of results: numbers stand to the right, with true minus signs, and heads are short
    lines. One of sentences: its columns are as wide as what they say.
    """
    head, _, *body = [_cells(row) for row in table.strip().split("\n")]
    columns = list(zip(*body, strict=True))
    if max(map(len, table.split("\n"))) > WIDE:
        said = [sum(len(re.sub(r"\]\([^)]*\)", "", x)) for x in column) for column in columns]
        rule = ["-" * max(45, round(100 * (n / max(said)) ** 0.5)) for n in said]
    else:
        numbers = [all(re.fullmatch(r"[-\d.,±\[\] ]*", x) for x in column) for column in columns]
        rule = ["---:" if right else ":---" for right in numbers]
        body = [[re.sub(r"(?<![\w.])-(?=\d)", "−", cell) for cell in row] for row in body]
        head = [_short(name, 16 if len(head) < 8 else 9) for name in head]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def _short(name: str, width: int) -> str:
    """``name`` in lines of at most ``width`` characters, if words allow, and of like lengths."""
    lines = [textwrap.wrap(name, w, break_long_words=False) for w in range(1, width + 1)]
    return BREAK.join(next(x for x in lines if len(x) == len(lines[-1])))


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip())[1:-1]]


def _equation(match: re.Match) -> str:
    """Several equations on one line, parted by \\qquad, go below each other, aligned at their =."""
    lines = [line.strip().replace("=", "&=", 1) for line in match[1].split(r"\qquad")]
    tex = r"\begin{aligned}" + r"\\ ".join(lines) + r"\end{aligned}" if lines[1:] else match[1]
    return f'`#equation("eq-{match[2]}")[`{{=typst}} $${tex}$$ `]`{{=typst}}'


def _reference(match: re.Match, names: set[str]) -> str:
    kind, numbers, first = match.groups()
    label = f"{kind.lower()}-{first}"
    return f"[{kind}.\u00a0{numbers}](#{label})" if label in names else match[0]


def _link(match: re.Match) -> str:
    text, target = match.groups()
    if notebook := re.match(r"(\d\d)_\w+\.ipynb", target):
        return f"[{'notebook ' * text.isdigit()}{text}](#notebook-{notebook[1]})"
    return f"[{text}]({there})" if (there := on_github(normpath(f"notebooks/{target}"))) else text


# ---- as Typst, and as a PDF


def notebooks(text: str, folder: Path) -> str:
    """The list of notebooks that ``text`` links to."""
    rows = []
    for number in sorted(set(re.findall(r"\(#notebook-(\d\d)\)", text))):
        path = next(folder.glob(f"{number}_*.ipynb"), None)
        if path is None:
            raise ValueError(f"the report links to notebook {number}, which {folder} does not hold")
        title = re.match(r"# (?:\d\d · )?(.+)", read(path).cells[0].source)[1]
        there = on_github(f"notebooks/{path.name}")
        where = f"[`notebooks/{path.name}`]({there})" if there else f"`notebooks/{path.name}`"
        rows.append(f"* [Notebook {number}:]{{#notebook-{number}}} *{title}*, {where}.")
    return "\n".join(["## Notebooks", "", raw("#references["), *rows, raw("]")]) if rows else ""


def document(path: Path, folder: Path) -> str:
    """The whole of ``path`` in Typst; its images and the template go into ``folder``."""
    nb, number, published = read_run(path), path.name[:2], path.parents[1] / "figures"
    text = markdown(nb, str(int(number)), folder, published)
    body = pandoc(f"{text}\n\n{notebooks(text, path.parent)}", "typst")
    for name in set(re.findall(r"\\operatorname\{(\w+)\}", text)):
        body = body.replace(f'"{name}"', f'op("{name}")')
    body = body.replace(BREAK, "#linebreak();").replace("columns: (", "stroke: ruled, columns: (")
    shutil.copy(TEMPLATE, folder / "report.typ")
    facts = json.dumps(_facts(nb, number, published))
    (folder / "facts.json").write_text(facts, encoding="utf-8")
    return f'#import "report.typ": *\n#show: report.with(..json("facts.json"))\n\n{body}'


def _facts(nb: NotebookNode, number: str, published: Path) -> dict:
    """What stands below the title and in the appendix."""
    title = re.match(r"# (?:\d\d · )?(?:Our report: )?(.+)", nb.cells[0].source)[1]
    project, rows = pyproject()["project"], manifest(published)
    commits = {row["commit"] for name, row in rows.items() if name.startswith(f"nb{number}_")}
    return {
        "title": title[0].upper() + title[1:],
        "author": project["authors"][0]["name"],
        "edition": f"version {project['version']}, notebook {number}"
        + (f", run at commit {min(commits)}" if len(commits) == 1 else ""),
        "checks": checks(nb),
    }


def make(path: Path, pdf: Path) -> None:
    """Write ``path`` as ``pdf``; ValueError where Typst cannot read what the notebook makes."""
    _, typst = libraries()
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "main.typ")
        source.write_text(document(path, source.parent), encoding="utf-8")
        try:
            made = typst.compile(source, root=name, ignore_system_fonts=True)
        except typst.TypstError as error:
            figures = path.parents[1] / "figures"
            why = f"Typst cannot print {path} ({error}): is an image of it, or in {figures}, cut?"
            raise ValueError(why) from error
        put(pdf, made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--notebook", type=Path, default=NOTEBOOKS / "08_report.ipynb")
    parser.add_argument("--out", type=Path, default=REPO / "runs" / "report.pdf", metavar="PDF")
    options = parser.parse_args()
    with one_line_errors():
        make(options.notebook.resolve(), options.out)
    print(options.out)


if __name__ == "__main__":
    main()
