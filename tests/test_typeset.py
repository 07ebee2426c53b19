"""The report as a PDF: what goes into it, and what does not."""

import base64
import builtins
import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import notebooks, typeset

PIXEL = base64.b64encode(b"\x89PNG one pixel").decode()
TITLE = """# 08 · Our report: a small thing, measured

It takes a minute to run. Before: [07](07_next.ipynb).

## Abstract

It is small ([notebook 01](01_first.ipynb), section 2; [data](../data/README.md)).

## 1. Methods

<!-- eq:8.1 -->
$$L = \\big(a - b\\big)^2, \\qquad F = 1{,}280 \\tag{8.1}$$

By Eq. 8.1 and Fig. 4, not Fig. 9."""
CAPTIONED = """*Fig. 4. One. Tab. 1. Two. Fig. 5 and 6. Three and four.*

<details><summary>An aside</summary> folded </details>

Before: [07](07_next.ipynb). From the beginning: [01](01_first.ipynb).

Guess which is which."""
TABLE = "| | score | interval |\n| --- | --- | --- |\n| a | -0.5 | 1 [-2, 3] |\n\n*A caption.*"


def image(kind="image/png"):
    return new_output("display_data", {kind: PIXEL})


def text(kind, value):
    return new_output("display_data", {kind: value})


def said(value):
    return new_output("stream", text=value)


@pytest.fixture
def notebook(tmp_path):
    """The path of a small report."""
    table = text("text/markdown", TABLE)
    code = [
        [said("[claim] it is small: holds\n[claim] it is red: not judged, since one is missing\n")],
        [image(), text("text/markdown", "*Own.*"), table],
        [image("image/jpeg"), text("text/markdown", "| t |\n| --- |\n| 1 |"), image(), image()],
        [said("[eq:8.1] both sides: 2 numbers\n[eq:8.1] wrong: caught, as it should be (…)\n")],
    ]
    cells = [new_code_cell(f"secret_{n}()", outputs=outputs) for n, outputs in enumerate(code)]
    cells.insert(3, new_markdown_cell(CAPTIONED))
    cells.insert(4, new_code_cell("widgets.Button()"))
    cells.append(new_markdown_cell("**Exercise 08-1**", metadata={"tags": ["exercise"]}))
    nb = new_notebook(cells=[new_markdown_cell(TITLE), *cells])
    (tmp_path / "notebooks").mkdir()
    first = new_notebook(cells=[new_markdown_cell("# 01 · The first")])
    nbformat.write(first, tmp_path / "notebooks" / "01_first.ipynb")
    nbformat.write(nb, path := tmp_path / "notebooks" / "08_small.ipynb")
    return path


@pytest.fixture
def written(notebook, tmp_path):
    """Its text for pandoc."""
    nb, folder = nbformat.read(notebook, 4), tmp_path / "out"
    folder.mkdir()
    return typeset.markdown(nb, "8", folder, tmp_path / "figures")


def test_figures_and_tables_keep_their_order_and_share_their_captions(written):
    names = [line for line in written.split("\n") if line.startswith(("#exhibit", "**"))]
    assert names == [
        '#exhibit("fig-8.1")[', "**Fig.\u00a08.1.** Own.",
        '#exhibit("tab-8.1")[', "**Tab.\u00a08.1.** A caption.",
        '#exhibit("fig-4")[', "**Fig.\u00a04.** One.",
        '#exhibit("tab-1")[', "**Tab.\u00a01.** Two.",
        '#exhibit("fig-5")[', "**Fig.\u00a05 and 6.** Three and four.",
    ]  # fmt: skip
    assert '#plates("002.png", "003.png")' in written


def test_a_caption_with_other_numbers_than_figures_is_left_whole():
    assert typeset._shares("Fig. 1. One. Fig. 2. Two.", 3) == [("Fig. 1", "One. Fig. 2. Two.", 3)]


def test_a_caption_of_nothing_is_text(tmp_path):
    nb = new_notebook(cells=[new_code_cell(outputs=[text("text/markdown", "*Words.*")])])
    assert typeset.markdown(nb, "8", tmp_path, tmp_path).strip() == "Words."


def test_code_widgets_asides_and_what_was_printed_are_left_out(written):
    left_out = r"secret|widgets|Guess|aside|folded|Exercise|Before|minute|\[claim\]|\[eq:|<!--"
    assert not typeset.re.search(left_out, written)


def test_equations_are_numbered_and_stand_below_each_other(written):
    assert '#equation("eq-8.1")[' in written and r"\tag" not in written
    assert r"L &= \left(a - b\right)^2,\\ F &= \text{1,280}" in written


def test_no_link_is_dead(written, monkeypatch):
    assert "[notebook\u00a001](#notebook-01), section\u00a02; data)" in written
    assert "[Eq.\u00a08.1](#eq-8.1) and [Fig.\u00a04](#fig-4), not Fig. 9." in written
    monkeypatch.setattr(notebooks, "address", lambda: ("owner/name", "main"))
    link = typeset.RELATIVE.sub(typeset._link, "[data](../data/README.md)")
    assert link == "[data](https://github.com/owner/name/blob/main/data/README.md)"


def test_the_notebooks_that_are_linked_are_listed(written, notebook, monkeypatch):
    row = "* [Notebook 01:]{#notebook-01} *The first*, `notebooks/01_first.ipynb`."
    assert row in typeset.notebooks(written, notebook.parent)
    monkeypatch.setattr(notebooks, "address", lambda: ("owner/name", "main"))
    there = "(https://github.com/owner/name/blob/main/notebooks/01_first.ipynb)"
    assert there in typeset.notebooks(written, notebook.parent)


def test_columns_of_numbers_stand_to_the_right_and_those_of_sentences_share_the_page(written):
    assert "| :--- | ---: | ---: |\n| a | −0.5 | 1 [−2,\u00a03] |" in written
    rule = typeset._aligned(f"| a | b |\n|---|---|\n| {'long ' * 60} | short |\n").split("\n")[1]
    assert typeset.re.fullmatch(r"\| -{100} \| -{45} \|", rule)


def test_what_passed_is_told(notebook):
    passed = [("1", "it is small"), ("(8.1)", "both sides: 2 numbers")]
    assert typeset.checks(nbformat.read(notebook, 4)) == passed


def test_the_published_figure_is_taken_by_its_number_or_caption(tmp_path):
    rows = {"nb08_own": {"file": "nb08_own.png", "caption": "Own."}}
    (tmp_path / "manifest.json").write_text(json.dumps(rows))
    for name in ("nb08_own.png", "fig06_six.png"):
        (tmp_path / name).write_bytes(name.encode())
    assert typeset._sharpest("Fig. 8.1", 0, "Own.", b"old", tmp_path) == b"nb08_own.png"
    assert typeset._sharpest("Fig. 5 and 6", 1, "", b"old", tmp_path) == b"fig06_six.png"
    assert typeset._sharpest("Fig. 5 and 6", 0, "", b"old", tmp_path) == b"old"


def test_a_notebook_that_has_not_run_is_refused(notebook, tmp_path):
    nb = nbformat.read(notebook, 4)
    for cell in nb.cells:
        cell.pop("outputs", None)
    nb.cells = [cell for cell in nb.cells if cell.cell_type == "markdown"]
    nbformat.write(nb, notebook)
    with pytest.raises(ValueError, match='has no outputs.* ARGS="--only 08"'):
        typeset.document(notebook, tmp_path)


def test_a_notebook_that_is_linked_and_missing_is_named(written, notebook):
    (notebook.parent / "01_first.ipynb").unlink()
    with pytest.raises(ValueError, match="links to notebook 01, which .* does not hold"):
        typeset.notebooks(written, notebook.parent)


def test_what_fails_is_said_in_a_line(notebook, monkeypatch):
    """No file, conflict markers in it, an image that Typst cannot read."""

    class Typst:
        class TypstError(RuntimeError):
            pass

        def compile(self, *_, **__):
            raise self.TypstError("failed to decode image")

    def said():
        with pytest.raises(SystemExit) as end:
            typeset.main()
        return end.value.code

    monkeypatch.setattr("sys.argv", ["typeset", "--notebook", str(notebook)])
    monkeypatch.setattr(typeset, "libraries", lambda: (None, Typst()))
    monkeypatch.setattr(typeset, "pandoc", lambda text, *_: text)
    wanted = (
        r"error: Typst cannot print \S+08_small.ipynb \(failed to decode image\): is an .*cut\?"
    )
    assert typeset.re.fullmatch(wanted, said())
    notebook.write_text(f"<<<<<<< HEAD\n{notebook.read_text()}")
    assert typeset.re.fullmatch(r"error: \S+08_small.ipynb is no notebook .*git checkout.*", said())
    notebook.unlink()
    assert typeset.re.fullmatch(r"error: .*No such file .*08_small.ipynb'", said())


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "typst":
            raise ImportError(name="typst")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setitem(typeset.sys.modules, "pypandoc", typeset)
    with pytest.raises(SystemExit, match='needs typst, .* -m pip install "pypandoc_binary.*"typst'):
        typeset.libraries()


@pytest.mark.slow
def test_the_report_is_made(tmp_path):
    """The real notebook: every heading, tagged equation and figure is in the PDF."""
    pytest.importorskip("pypandoc", reason="the extra book is not installed")
    typst = pytest.importorskip("typst", reason="the extra book is not installed")
    path = typeset.NOTEBOOKS / "08_report.ipynb"
    source = tmp_path / "main.typ"
    source.write_text(typeset.document(path, tmp_path), encoding="utf-8")
    nb = nbformat.read(path, 4)
    prose = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    headings = len(typeset.re.findall(r"(?m)^##+ ", prose)) + len(["Notebooks", "Appendix"])
    images = sum(
        "image/" in str(list(o.get("data", {}))) for c in nb.cells for o in c.get("outputs", [])
    )

    def count(selector):
        return len(json.loads(typst.query(source, selector, root=tmp_path)))

    assert count("heading") == headings
    assert count("math.equation.where(block: true)") == prose.count(r"\tag{")
    assert count("image") == images
    typeset.make(path, tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
