"""The pages of the book, as Sphinx reads them: made from the notebooks as they are stored.

A chapter is its notebook with labels, links, figures that have their captions, and words for who
does not see them. Other pages hold what the notebooks print or know: their exercises with
solutions, the wrong formulas that their checks catch, what their manifest says of each figure.
"""

import ast
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from posixpath import normpath, relpath

import nbformat
from nbformat import NotebookNode

from .crossref import (
    EXERCISE,
    SECTION,
    Labels,
    equation_label,
    escaped,
    labelled,
    linked,
    plain,
    section_label,
)
from .notebooks import NOTEBOOKS, REPO, in_colab, on_github, tags_of
from .pipeline import sources

ROW = re.compile(r"(?m)^\| (\d\d) \| \[([^\]]+)\]\(notebooks/(\S+)\.ipynb\)[^|]*\|(.+)\|$")
LINK = re.compile(r"(?<!\\)\]\((?!https?:|#|mailto:)([^()\s#]+)(#[^()\s]*)?\)")
CAUGHT = re.compile(r"(?m)^\[([^\]\n]+)\] (.*): caught, as it should be \((.*)\)$")


# ---- what the notebooks hold


def chapters(folder: Path = NOTEBOOKS) -> dict[str, Path]:
    """The stored notebooks by number."""
    return {n: folder / f"{source.stem}.ipynb" for n, source in sources(folder).items()}


def contents(readme: str) -> dict[str, dict[str, str]]:
    """By number, what the README's table says of each notebook."""
    names = ("about", "read", "run")
    return {
        number: {"title": title, "stem": stem}
        | dict(zip(names, (c.strip() for c in rest.split("|")), strict=True))
        for number, title, stem, rest in ROW.findall(readme)
    }


def section(text: str, heading: str) -> str:
    """What stands under ``## heading``; ValueError where there is no such heading."""
    parts = re.split(r"(?m)^## (.+)\n", text)
    try:
        return parts[parts.index(heading) + 1].strip()
    except ValueError:
        raise ValueError(f"there is no section {heading!r}") from None


def learn(books: dict[str, NotebookNode], rows: dict[str, dict]) -> Labels:
    """The labels of all notebooks; ``rows`` are those of the manifest."""
    labels = Labels()
    for number, nb in books.items():
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                labels.learn(number, cell.source)
            for name in figure_names(cell, number, rows):
                labels.figures[name.split("_")[0] if name.startswith("fig") else name] = label(name)
    return labels


def label(name: str) -> str:
    return name.replace("_", "-").lower()


def caption_of(output: NotebookNode) -> str:
    """The text of an output that is a caption, else ""."""
    text = output.get("data", {}).get("text/markdown", "").strip()
    return text[1:-1] if re.fullmatch(r"\*[^\n]+\*", text) else ""


def is_image(output: NotebookNode) -> bool:
    return any(kind.startswith("image/") for kind in output.get("data", {}))


def figure_names(cell: NotebookNode, number: str, rows: dict[str, dict]) -> list[str]:
    """The names under which notebook ``number`` saves the captioned figures of ``cell``."""
    captions = {row["caption"]: n for n, row in rows.items() if row["notebook"] == number}
    outputs = cell.get("outputs", [])
    pairs = zip(outputs, outputs[1:], strict=False)
    found = (captions.get(caption_of(b)) for a, b in pairs if is_image(a))
    return [name for name in found if name]


# ---- a chapter's page

CHECKS = {"code_prompt_show": "Show the checks", "code_prompt_hide": "Hide the checks"}


def page(nb: NotebookNode, number: str, labels: Labels, rows: dict[str, dict]) -> NotebookNode:
    """The notebook as Sphinx is to read it."""
    cells, before = [], ""
    for cell in nb.cells:
        if cell.id == "set-up":  # fetches the course, for who opens the notebook alone
            continue
        if cell.cell_type == "markdown":
            before = cell.source
            cell.source = prose(cell.source, number, labels)
            cells.append(cell)
        else:
            cells += with_figures(cell, number, rows, before)
            if "exercise" in tags_of(cell) and (name := asked(cell)):
                link = f"[Solution of {name}](#solution-{name})"
                cells.append(nbformat.v4.new_markdown_cell(link, id=f"solution-{name}"))
    title, path = cells[0], f"notebooks/{chapters()[number].name}"
    title.source = re.sub(r"\n+\[!\[Open in Colab\].*", "", title.source, count=1)
    title.source = re.sub(r"\n|$", f"\n\n{tools(path)}\n\n", title.source, count=1)
    return nbformat.v4.new_notebook(cells=cells, metadata=nb.metadata)


def prose(text: str, number: str, labels: Labels) -> str:
    return linked(relinked(labelled(text, number), "notebooks"), labels, number)


def asked(cell: NotebookNode) -> str:
    """The name of the exercise that a cell asks for or answers."""
    match = re.search(r'exercises\.check\("(\d\d-\d+)"', cell.source)
    return match[1] if match else ""


def tools(path: str, what: str = "the notebook") -> str:
    """The line below a title: what can be done with the notebook ``path``."""
    links = [f'<a href="{path.rpartition("/")[2]}" download>Download {what}</a>']
    if where := in_colab(path):
        links.append(f'<a href="{where}">Open in Colab</a>')
    return f'<p class="tools">{" ".join(links)}</p>'


def with_figures(
    cell: NotebookNode, number: str, rows: dict[str, dict], before: str
) -> list[NotebookNode]:
    """``cell``, and cells that show no source for what follows its first image or stands before it.

    Each image gets its caption, which then is no output of its own, a name to be linked by where
    this notebook saves it, and words for those who do not see it: the caption, or that of the file
    it shows, or else the sentence that leads to it (``before`` is the text above).
    """
    names = {row["caption"]: n for n, row in rows.items() if row["notebook"] == number}
    shown = [name for name in re.findall(r'"((?:fig|nb)\d\d_\w+)"', cell.source) if name in rows]
    cells, images = [], 0
    for k, (outputs, caption) in enumerate(parted(cell.outputs)):
        # A cell without any source would be left out, and its outputs with it.
        part = cell if not k else nbformat.v4.new_code_cell("# shown", id=f"{cell.id}-{k}")
        part.outputs = outputs
        if only_checks(part):
            part.metadata["tags"] = ["hide-cell"]
            part.metadata["mystnb"] = CHECKS
        if k:
            part.metadata["tags"] = ["remove-input"]
        if is_image(outputs[0]):
            of_file = rows[shown[images]]["caption"] if len(shown) > images else ""
            about = {"image": {"alt": plain(caption or of_file) or last(before)}}
            if caption:
                about["figure"] = {"caption": caption}
            if caption in names:
                about["figure"]["name"] = label(names[caption])
            part.metadata["mystnb"] = about
            images += 1
        cells.append(part)
    return cells or [cell]


def only_checks(cell: NotebookNode) -> bool:
    """Whether a cell that is folded in the notebook prints which checks and claims hold, only."""
    if "hide-input" not in tags_of(cell) or any(o.output_type != "stream" for o in cell.outputs):
        return False
    lines = "".join(o.text for o in cell.outputs).splitlines()
    return bool(lines) and all(line.startswith("[") for line in lines)


def parted(outputs: list[NotebookNode]) -> list[tuple[list[NotebookNode], str]]:
    """``outputs`` in groups: each image alone, with the caption that follows it, or with ""."""
    parts: list[tuple[list[NotebookNode], str]] = []
    for output in outputs:
        images = bool(parts) and is_image(parts[-1][0][0])
        if images and not parts[-1][1] and (caption := caption_of(output)):
            parts[-1] = parts[-1][0], caption
        elif parts and not images and not is_image(output):
            parts[-1][0].append(output)
        else:
            parts.append(([output], ""))
    return parts


def last(text: str) -> str:
    """The last sentence of a text."""
    line = plain(text.strip().splitlines()[-1]) if text.strip() else "Figure"
    return re.split(r"(?<=[.?!]) (?=[A-Z])", line)[-1]


# ---- links from one file of the repository to another


def place(path: str) -> str:
    """Where the book has a file of the repository; "" where it has none."""
    own = {
        "README.md": "index.md",
        "data/README.md": "data.md",
        "studies/README.md": "studies.md",
        "notebooks/notation.md": "notation.md",
        "data/sample_sheet.png": "sample_sheet.png",
        "book/playground/index.html": "playground/index.md",
    }
    if path in {f"notebooks/{file.name}" for file in chapters().values()}:
        return path
    return path[5:] if re.fullmatch(r"book/\w+\.md", path) else own.get(path, "")


def relinked(text: str, folder: str, at: str | None = None) -> str:
    """``text``, from a file in ``folder`` of the repository, for a page in ``at`` of the book.

    A link to what the book does not have leads to the repository, or is none where the address of
    that is not set.
    """
    at = folder if at is None else at

    def new(match: re.Match) -> str:
        path = normpath(f"{folder}/{match[1]}".lstrip("/"))
        anchor = match[2] or ""
        if found := place(path):
            return f"]({relpath(found, at or '.')}{anchor})"
        if not (REPO / path).exists():
            return match[0]
        there = on_github(path)
        return f"]({there}{anchor})" if there else "]()"

    text = LINK.sub(new, text)
    return re.sub(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\)", r"\1", text)


# ---- pages that are made


def fill(text: str, makers: dict[str, Callable[[], str]]) -> str:
    """``text`` with what is made in the place of each ``<!-- made: NAME -->``; ValueError for an
    unknown one.
    """

    def made(match: re.Match) -> str:
        if match[1] not in makers:
            raise ValueError(f"{match[0]}: nothing of that name; there are {', '.join(makers)}")
        return makers[match[1]]()

    return re.sub(r"<!-- made: ([\w-]+) -->", made, text)


def path_through(rows: dict[str, dict[str, str]]) -> str:
    """The chapters as a list of cards."""
    cards = [
        f'<li><a href="notebooks/{row["stem"]}.html">'
        f'<img src="_static/cards/{number}.jpg" alt="" loading="lazy" width="600" height="400">'
        f"<b><span>{number}</span> {row['title']}</b><i>{row['about']}</i>"
        f"<small>{row['read']} minutes to read</small></a></li>"
        for number, row in rows.items()
    ]
    return '<ol class="path">\n' + "\n".join(cards) + "\n</ol>"


def solutions(number: str, nb: NotebookNode, labels: Labels) -> str:
    """A page with the exercises of a notebook, a hint and the solution of each folded."""
    parts, at = [], ""
    for cell in nb.cells:
        tags = tags_of(cell)
        if cell.cell_type == "markdown" and "exercise" in tags:
            name = re.match(r"\*\*Exercise (\d\d-\d+)\*\*(.*)", cell.source)
            at = name[1]
            text = cell.source.partition("\n")[2].strip()
            text = linked(relinked(text, "notebooks", "solutions"), labels, number)
            title = f"(solution-{at})=\n## Exercise {at}{name[2]}"
            hint = escaped(exercises_of(number)[at][0])
            parts += [f"{title}\n\n{text}", folded("A first step", hint)]
            parts.append(f"[The exercise in its chapter](#exercise-{at})")
        elif cell.cell_type == "code" and "solution" in tags and at:
            code = f"```python\n{cell.source.strip()}\n```"
            parts.insert(-1, folded("The solution", code))
    path = f"notebooks/solutions/{chapters()[number].name}"
    head = f"# {number} · Solutions\n\n{tools(path, 'the notebook with its solutions')}"
    return "\n\n".join([head, *parts]) + "\n"


def folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def exercises_of(number: str) -> dict[str, tuple[str, list[str]]]:
    """By exercise its hint, and what is said of the mistakes it knows; no code of it is run."""
    path = NOTEBOOKS / "exercises" / f"{number}.py"
    found = {}
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for node in ast.walk(ast.parse(text, filename=str(path))):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "EXERCISES":
            for key, call in zip(node.value.keys, node.value.values, strict=True):
                given = {k.arg: k.value for k in call.keywords}
                said = [ast.literal_eval(k) for k in given["mistakes"].keys]
                found[key.value] = ast.literal_eval(given["hint"]), said
    return found


def mistakes(number: str, labels: Labels) -> str:
    """Folded, the wrong answers that the exercises of a chapter know and what they say to them."""
    lines = [
        f"* [{name}](#exercise-{name})\n"
        + "".join(f"  * {linked(escaped(text), labels, number)}\n" for text in said)
        for name, (_, said) in exercises_of(number).items()
    ]
    return folded(f"Chapter {number}", "\n".join(lines))


def timings(table: dict[str, dict[str, str]], books: dict[str, NotebookNode]) -> str:
    """By chapter, minutes to read, for its exercises, and to run in two profiles."""
    numbers = tomllib.loads((REPO / "bedgen_utils" / "profiles.toml").read_text(encoding="utf-8"))
    lines = []
    for number, nb in books.items():
        asked = [match[2] for cell in nb.cells if (match := EXERCISE.match(cell.source))]
        minutes = [int(m[1]) for m in (re.search(r"(\d+) minutes", about) for about in asked) if m]
        stated = numbers["cpu"][f"nb{number}"] | numbers["released"].get(f"nb{number}", {})
        row = table[number]
        cells = (
            f"[{number} · {row['title']}](notebooks/{row['stem']}.ipynb)",
            row["read"],
            f"{sum(minutes)} ({len(asked)})" if asked else "none",
            f"{stated['minutes']:g}",
            row["run"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    head = "| chapter | to read | exercises (how many) | to run, `released` | to run, `cpu` |"
    return "\n".join([head, "|---" * 5 + "|", *lines])


def caught(nb: NotebookNode, number: str) -> list[tuple[str, str, str, str]]:
    """Each wrong formula that a notebook refutes: where (Markdown), what, and what gave it away."""
    rows, at = [], ""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for _, name in SECTION.findall(cell.source):
                word = name if name.startswith("A") else f"section {name}"
                at = f"[{word}](#{section_label(number, name)})"
        for output in cell.get("outputs", []):
            for tag, what, why in CAUGHT.findall(output.get("text", "")):
                where = f"[{tag.replace('eq:', 'Eq. ')}](#{equation_label(tag)})"
                rows.append((where if tag.startswith("eq:") else at, what, why.split(": ")[-1]))
    return rows


def errata(books: dict[str, NotebookNode]) -> str:
    """By chapter, a table of the wrong formulas and the checks that catch them."""
    parts = []
    for number, nb in books.items():
        if rows := caught(nb, number):
            title = nb.cells[0].source.splitlines()[0].strip("# ")
            lines = [f"| {escaped(what)} | {where} | {escaped(why)} |" for where, what, why in rows]
            head = [
                "| what is wrong | where it is caught | what the check found |",
                "|---|---|---|",
            ]
            parts.append("\n".join([f"### {title}", "", *head, *lines]))
    return "\n\n".join(parts)


def errata_of_report(nb: NotebookNode, labels: Labels) -> str:
    """Section 4.2 of the report, without its heading."""
    (text,) = (c.source for c in nb.cells if re.match(r"### 4\.2 Errata", c.source))
    text = text.partition("\n")[2].partition("\n## ")[0].strip()
    return linked(relinked(text, "notebooks", ""), labels, "08")


def provenance(rows: dict[str, dict]) -> str:
    """What made the figures and tables of each notebook, as a table."""
    lines = []
    for number in sorted({row["notebook"] for row in rows.values()}):
        own = [row for row in rows.values() if row["notebook"] == number]

        def values(find: Callable[[dict], object], own=own) -> str:
            return ", ".join(sorted({str(find(row)) for row in own}))

        cells = [
            number,
            len(own),
            values(lambda r: r["profile"]),
            values(lambda r: r["seed"]),
            values(lambda r: r["commit"]),
            values(lambda r: r.get("processor", r.get("device", ""))),
            values(lambda r: r.get("versions", {}).get("torch", "")),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    head = "| notebook | figures and tables | profile | seed | commit | machine | PyTorch |"
    return "\n".join([head, "|---" * 7 + "|", *lines])


def protocols(rows: dict[str, dict], labels: Labels) -> str:
    """Every protocol by which a distance was measured, with the figures that use it.

    How images are resized is said once, above the table; ValueError where it differs among them.
    """
    used: dict[tuple, set[str]] = {}
    ways = set()
    for name, row in rows.items():
        given = row.get("protocol") or {}
        for protocol in [given] if "split" in given else given.values():
            size, _, how = protocol["resize"].removeprefix("images ").partition(", ")
            key = (protocol["split"], size, protocol["n_generated"], protocol["n_reference"])
            used.setdefault(key, set()).add(name)
            ways.add(how)
    if len(ways) != 1:
        raise ValueError(f"the protocols of the manifest resize in {len(ways)} ways: say so here")
    (way,) = ways
    linkable = labels.figures.values()
    lines = []
    for (split, size, generated, reference), names in sorted(used.items()):
        places = [f"[{n}](#{label(n)})" if label(n) in linkable else n for n in sorted(names)]
        cells = (split, size, f"{generated:,}", f"{reference:,}", ", ".join(places))
        lines.append(f"| {' | '.join(cells)} |")
    head = "| split | images | generated | reference | in |"
    said = f"Images of either size come to the ruler alike: {way}."
    return "\n".join([said, "", head, "|---" * 5 + "|", *lines])


def notation(text: str, labels: Labels) -> str:
    """The page of notation, with links to where each symbol is first met."""
    stems = {number: path.name for number, path in chapters().items()}
    where = labels.equations

    def first(match: re.Match) -> str:
        cell = re.sub(
            r"\((\d+(?:\.\d+)?)\)",
            lambda m: f"[{m[0]}](#{where[m[1]]})" if m[1] in where else m[0],
            match[1],
        )
        cell = re.sub(r"^(\d\d)$", lambda m: f"[{m[1]}](notebooks/{stems[m[1]]})", cell)
        return f"| {cell} |"

    return re.sub(r"\| ([^|]+) \|$", first, text, flags=re.MULTILINE)
