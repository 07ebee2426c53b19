"""The book: what its pages say, and what a browser makes of them.

What builds the site is in every environment; it is opened where Chromium is installed.
"""

import re
import runpy
import socket
from pathlib import Path
from urllib.parse import quote

import browser
import nbformat
import PIL.Image
import pytest
import yaml

from tools import book, bookpages, notebooks
from tools.crossref import Labels, labelled, linked, plain
from tools.pipeline import lock_folder, manifest

REPO = Path(__file__).resolve().parents[1]
CHAPTERS = bookpages.chapters()
WIDTHS = (390, 1400)


# ---- links within text


@pytest.fixture
def labels():
    found = Labels()
    found.learn("01", "## 7. A trap\n\n<!-- eq:1.6 -->\n$$x \\tag{1.6}$$\n\n### 7.1 More\n")
    found.learn("01", "<!-- eq:7-step-1 -->\n$$y \\tag{7a}$$\n\n<!-- eq:01-sum -->\n$$z$$")
    found.learn("02", "**Exercise 02-1** · easy · 5 minutes\n\nDo it.")
    found.figures["fig08"] = "fig08-curve"
    return found


def test_labels_are_found(labels):
    assert labels.equations == {"1.6": "eq-1.6", "7a": "eq-7-step-1", "01-sum": "eq-01-sum"}
    assert set(labels.sections) == {("01", "7"), ("01", "7.1")} and labels.exercises == {"02-1"}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("by Eq. 1.6.", "by Eq. [1.6](#eq-1.6)."),
        ("Eq. 1.6, 9 and 7a", "Eq. [1.6](#eq-1.6), 9 and [7a](#eq-7-step-1)"),
        ("Fig. 8 and Fig. 9", "[Fig. 8](#fig08-curve) and Fig. 9"),
        ("section 7", "section [7](#sec-01-7)"),
        ("sections 3, 7 and 7.1", "sections 3, [7](#sec-01-7) and [7.1](#sec-01-7.1)"),
        ("notebook 02, section 7", "notebook 02, section 7"),
        ("[02](b.ipynb), section 7; section 7", "[02](b.ipynb), section 7; section [7](#sec-01-7)"),
        ("Exercise 02-1, not 02-9", "Exercise [02-1](#exercise-02-1), not 02-9"),
        ("`Eq. 1.6` and $x$ and $Eq. 1.6$", "`Eq. 1.6` and $x$ and $Eq. 1.6$"),
        ("[Eq. 1.6](#there)", "[Eq. 1.6](#there)"),
        ("## Eq. 1.6\n\nEq. 1.6", "## Eq. 1.6\n\nEq. [1.6](#eq-1.6)"),
        ("```\nEq. 1.6\n```", "```\nEq. 1.6\n```"),
    ],
)
def test_what_text_speaks_of_is_linked(labels, text, expected):
    assert linked(text, labels, "01") == expected


def test_labels_stand_above_what_they_name():
    text = labelled("## 7. A trap\n\n<!-- eq:1.6 -->\n$$x \\tag{1.6}$$\n\nEnd.", "01")
    assert text == "(sec-01-7)=\n## 7. A trap\n\n(eq-1.6)=\n\n$$x \\tag{1.6}$$\n\nEnd."
    text = labelled("**Exercise 02-1** · easy\n\nDo it.\n", "02")
    assert text.startswith("(exercise-02-1)=\n:::{admonition} Exercise 02-1 · easy\n")
    assert text.endswith("\n\nDo it.\n:::")


def test_words_for_who_does_not_see():
    assert (
        plain("# *Walk* by $\\bar\\alpha_t$, [notebook 01](01.ipynb)")
        == "Walk by alpha_t, notebook 01"
    )


@pytest.mark.parametrize(
    "repository, expected",
    [("", "the tests, [02](../notebooks/02_b.ipynb#x), [card](../data.md)"),
     ("me/it", "[the tests](https://github.com/me/it/blob/main/tests/test_book.py), "
      "[02](../notebooks/02_b.ipynb#x), [card](../data.md)")],
)  # fmt: skip
def test_links_to_files_of_the_repository(monkeypatch, repository, expected):
    monkeypatch.setattr(notebooks, "address", lambda: (repository, "main"))
    monkeypatch.setattr(bookpages, "chapters", lambda: {"02": Path("notebooks/02_b.ipynb")})
    text = "[the tests](../tests/test_book.py), [02](02_b.ipynb#x), [card](../data/README.md)"
    assert bookpages.relinked(text, "notebooks", "solutions") == expected


def test_a_page_is_found_or_named():
    assert bookpages.section("# A\n\n## B\n\nb\n\n## C\n\nc\n", "B") == "b"
    with pytest.raises(ValueError, match="'D'"):
        bookpages.section("# A\n\n## B\n", "D")
    assert bookpages.fill("<!-- made: a -->!", {"a": lambda: "b"}) == "b!"
    with pytest.raises(ValueError, match="made: other -->: nothing of that name"):
        bookpages.fill("<!-- made: other -->", {})


# ---- figures


def output(**data):
    kinds = {"png": "image/png", "markdown": "text/markdown"}
    return nbformat.v4.new_output("display_data", {kinds[k]: v for k, v in data.items()})


def test_each_figure_gets_caption_name_and_words():
    rows = {"nb01_a": {"caption": "First, $x_0$.", "notebook": "01"}}
    cell = nbformat.v4.new_code_cell('save_figure(run, fig, "nb01_a")', id="c")
    said = {"markdown": "*First, $x_0$.*"}, {"markdown": "| t |"}
    cell.outputs = [output(png="A"), output(**said[0]), output(png="B"), output(**said[1])]
    assert bookpages.figure_names(cell, "01", rows) == ["nb01_a"]
    one, two, three = bookpages.with_figures(cell, "01", rows, "A start. Then *eight* rooms.")
    assert one.metadata.mystnb == {
        "image": {"alt": "First, x_0."},
        "figure": {"caption": "First, $x_0$.", "name": "nb01-a"},
    }
    assert len(one.outputs) == 1 and one.source and two.source and three.source
    assert two.metadata.tags == three.metadata.tags == ["remove-input"]
    assert two.metadata.mystnb == {"image": {"alt": "Then eight rooms."}}
    assert [o.data["text/markdown"] for o in three.outputs] == ["| t |"]


def test_checks_that_a_notebook_folds_are_folded_with_what_they_print():
    def part(printed, tags, *others):
        cell = nbformat.v4.new_code_cell("claim()", id="c", metadata={"tags": tags})
        cell.outputs = [nbformat.v4.new_output("stream", text=printed), *others]
        return bookpages.with_figures(cell, "01", {}, "")[0].metadata

    checks = "[claim] it is small: holds\n[eq:1.1] both sides: 2 numbers\n"
    folded = part(checks, ["hide-input"])
    assert folded.tags == ["hide-cell"] and folded.mystnb["code_prompt_show"] == "Show the checks"
    assert part(checks, []).tags == []  # code that is shown keeps its output
    for printed, others in ((checks + "12\n", []), (checks, [output(markdown="| t |")]), ("", [])):
        assert part(printed, ["hide-input"], *others).tags == ["hide-input"]


# ---- pages


@pytest.fixture(scope="module")
def books():
    return {number: nbformat.read(path, 4) for number, path in CHAPTERS.items()}


@pytest.fixture(scope="module")
def texts(books):
    rows = manifest(REPO / "figures")
    return book.pages(rows, books, bookpages.learn(books, rows))


def test_every_page_is_there(texts, books):
    asked = {n for n in books if bookpages.exercises_of(n)}
    names = {
        f"{n}.md" for n in ("index", "errata", "measured", "notation", "solutions", "teaching")
    }
    wanted = names | {"data.md", "studies.md", "playground/index.md"}
    assert set(texts) == wanted | {f"solutions/{n}.md" for n in asked} and len(asked) == 8
    listed = "\n".join(texts.values())
    for path in CHAPTERS.values():
        assert re.search(rf"(?m)^notebooks/{path.stem}$", listed), f"{path.stem} is in no toctree"
    assert "<!-- made" not in listed


def test_every_chapter_has_a_card(texts):
    rows = bookpages.contents((REPO / "README.md").read_text(encoding="utf-8"))
    assert list(rows) == list(CHAPTERS) == list(book.CARDS)
    assert all(CHAPTERS[n].stem == row["stem"] for n, row in rows.items())
    assert texts["index.md"].count("<li>") == len(CHAPTERS)
    assert {figure for figure, _ in book.CARDS.values()} <= set(manifest(REPO / "figures"))
    for _, (left, top, right, bottom) in book.CARDS.values():
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def test_every_wrong_formula_is_among_the_errata(texts, books):
    said = "".join(
        o.get("text", "") for nb in books.values() for c in nb.cells for o in c.get("outputs", [])
    )
    count = said.count(": caught, as it should be (")
    assert count > 50
    rows = re.findall(r"(?m)^\| .+ \| .* \| .+ \|$", texts["errata.md"].partition("## Every")[2])
    assert len([r for r in rows if not r.startswith("| what is wrong")]) == count
    assert "[12](#eq-12)" in texts["errata.md"]


def test_every_exercise_has_hint_and_solution(texts, books):
    for number in books:
        module = REPO / "notebooks" / "exercises" / f"{number}.py"
        exercises = runpy.run_path(str(module))["EXERCISES"] if module.exists() else {}
        known = bookpages.exercises_of(number)
        assert {n: (e.hint, list(e.mistakes)) for n, e in exercises.items()} == known
        page = texts.get(f"solutions/{number}.md", "")
        for name in exercises:
            own = page.partition(f"(solution-{name})=")[2].partition("(solution-")[0]
            folds = re.findall(r"<details><summary>(.*?)</summary>", own)[-2:]
            assert folds == ["A first step", "The solution"] and f'exercises.check("{name}"' in own


def test_every_numbered_equation_can_be_linked(books):
    found = bookpages.learn(books, {}).equations
    for nb in books.values():
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                assert set(re.findall(r"\\tag\{([^}]+)\}", cell.source)) <= set(found)
    assert {str(n) for n in range(1, 16)} <= set(found)


def test_protocols_say_once_what_all_share():
    def row(size, n):
        return {"split": "test", "n_generated": n, "n_reference": 2000, "resize": size}

    rows = {
        "nb01_a": {"protocol": row("images 32x32 px, bilinear", 1000)},
        "nb01_b": {"protocol": {"x": row("images 32x32 px, bilinear", 1000),
                                "y": row("images 32x32 px, bilinear", 500)}},
        "nb01_c": {"protocol": None},
    }  # fmt: skip
    said, _, _, _, *lines = bookpages.protocols(rows, Labels(figures={"nb01_a": "nb01-a"})).split(
        "\n"
    )
    assert said.endswith(": bilinear.")
    assert lines == [
        "| test | 32x32 px | 500 | 2,000 | nb01_b |",
        "| test | 32x32 px | 1,000 | 2,000 | [nb01_a](#nb01-a), nb01_b |",
    ]
    rows["nb01_a"]["protocol"]["resize"] = "images 32x32 px, nearest"
    with pytest.raises(ValueError, match="resize in 2 ways"):
        bookpages.protocols(rows, Labels())


def test_the_badge_does_not_come_from_another_host(books, monkeypatch):
    monkeypatch.setattr(notebooks, "address", lambda: ("me/it", "main"))
    nb = nbformat.from_dict(books["01"])
    badge = "[![Open in Colab](https://colab.research.google.com/a.svg)](https://colab)"
    nb.cells[0].source = nb.cells[0].source.replace("\n", f"\n\n{badge}\n", 1)
    made = bookpages.page(nb, "01", Labels(), {}).cells[0].source
    assert "colab-badge" not in made and "![" not in made
    assert "/github/me/it/blob/main/notebooks/01_forward_noising.ipynb" in made


# ---- the site


def test_what_is_wrong_with_a_site_is_said(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="#here"></a><a href="#gone"></a><a href="b.html#x"></a>'
        '<a href="c.html"></a><a href="https://elsewhere.org"></a><img src="i.png">'
        '<script src="https://elsewhere.org/s.js"></script><img src="i.png" alt="">'
    )
    (tmp_path / "b.html").write_text('<p id="x"><a id="y" name="y"><i name="y"></i></a></p>')
    (tmp_path / "d.html").write_text('<p id="x"><a id="y"></a><i id="x"></i></p>')
    (tmp_path / "i.png").write_bytes(b"1234")
    assert book.problems(tmp_path) == [
        "a.html: #gone: there is no such anchor",
        "a.html: c.html is not there",
        "a.html: loads https://elsewhere.org/s.js",
        "a.html: the image i.png has no alt text",
        "d.html: 2 elements have the id x",
    ]
    (tmp_path / "playground").mkdir()
    (tmp_path / "playground" / "weights").write_bytes(bytes(1000))
    for name in ("a", "b", "d"):
        (tmp_path / f"{name}.html").write_text("")
    assert book.problems(tmp_path) == [] and book.size(tmp_path) == 4


def test_another_mathjax_is_refused(tmp_path, monkeypatch):
    other = tmp_path / "tex-chtml.js"
    other.write_text("other")

    class File(str):
        def locate(self):
            return other

    name = "sphinx-mathjax-offline/static/mathjax/tex-chtml.js"
    monkeypatch.setattr(book, "library", lambda _: [File(name)])
    with pytest.raises(ValueError, match="is not the MathJax"):
        book.write_static(tmp_path / "static")


def test_a_missing_library_is_named(monkeypatch):
    with pytest.raises(SystemExit, match="no-such-library is missing: `make book`"):
        book.library("no-such-library")


class Builds:
    """`book.renew`, where Sphinx and the networks take no time: the page says which build made it,
    and ``fails`` is what one ends with after it has written the page.
    """

    def __init__(self, out):
        self.out, self.fails = out, None

    def build(self, folder):
        (folder / "html" / "index.html").write_text(self.name)
        (folder / "html" / f"only_{self.name}.html").write_text("")
        if self.fails:
            raise self.fails

    def write_networks(self, folder):
        (folder / "models").mkdir(parents=True, exist_ok=True)
        (folder / "sampler.js").touch()
        made = folder / "models" / "made_by"
        made.write_text(made.read_text() if made.exists() else self.name)

    def renew(self, name, fails=None):
        self.name, self.fails = name, fails
        return book.renew(self.out)

    def shown(self):
        """The page, and what there is beside it."""
        site = self.out / "html"
        return (site / "index.html").read_text(), {p.name for p in site.glob("only_*")}


@pytest.fixture
def builds(tmp_path, monkeypatch):
    builds = Builds(tmp_path / "out")
    monkeypatch.setattr(book, "build", builds.build)
    monkeypatch.setattr(book.playground, "write_networks", builds.write_networks)
    return builds


def test_a_site_is_replaced_when_the_new_one_is_whole(builds, monkeypatch):
    """Nothing of an old page is left, networks are, and a failure or the end in its middle changes
    nothing of what is shown.
    """
    assert builds.renew("one") == builds.out / "html"
    for end in (SystemExit("a warning"), ValueError("no network"), KeyboardInterrupt()):
        with pytest.raises(type(end)):
            builds.renew("two", end)
        assert builds.shown() == ("one", {"only_one.html"})
        assert (builds.out / book.WORK / "html" / "only_two.html").exists()  # as after kill -9
    builds.renew("three")
    assert builds.shown() == ("three", {"only_three.html"})
    assert {p.name for p in builds.out.iterdir()} <= {"html", ".lock"}
    assert (builds.out / "html" / "playground" / "models" / "made_by").read_text() == "one"
    monkeypatch.setattr(book, "LIMIT", 1)
    with pytest.raises(ValueError, match="the site has 0 MB, more than 0"):
        builds.renew("four")
    assert builds.shown() == ("three", {"only_three.html"})


def test_a_site_that_was_set_aside_is_not_lost(builds):
    builds.renew("one")
    work = builds.out / book.WORK
    work.mkdir()
    (builds.out / "html").rename(work / "old")  # ended right here
    with pytest.raises(SystemExit):
        builds.renew("two", SystemExit("a warning"))
    assert builds.shown() == ("one", {"only_one.html"})


def test_the_second_of_two_builds_says_so(builds):
    builds.renew("one")
    lock = lock_folder(builds.out)
    with pytest.raises(ValueError, match="another run is at work in .*out"):
        builds.renew("two")
    lock.release()
    builds.renew("three")
    assert builds.shown()[0] == "three"


def test_a_folder_of_others_is_left_alone(builds):
    builds.out.write_text("mine")
    with pytest.raises(ValueError, match="out is no folder"):
        builds.renew("one")
    assert builds.out.read_text() == "mine"
    builds.out.unlink()
    (builds.out / "html").mkdir(parents=True)
    (builds.out / "html" / "index.html").write_text("mine")
    with pytest.raises(ValueError, match="out holds no book but html: remove that"):
        builds.renew("one")
    assert [p.name for p in builds.out.rglob("*")] == ["html", "index.html"]
    assert builds.shown()[0] == "mine"


def test_what_fails_is_said_in_a_line(builds, monkeypatch):
    def call(*options):
        monkeypatch.setattr("sys.argv", ["book", "--out", str(builds.out), *options])
        book.main()

    builds.renew("one")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit, match=f"^error: port {port} cannot be had .*in use"):
            call("--serve", port)
    with pytest.raises(SystemExit, match="^error: port 99999 cannot be had"):
        call("--serve", "99999")
    builds.name, builds.fails = "two", ValueError("several\n  lines")
    with pytest.raises(SystemExit, match="^error: several lines$"):
        call()


def test_a_chapter_that_has_not_run_is_named(tmp_path, monkeypatch):
    """It would be a page without numbers or figures."""
    nb = nbformat.read(CHAPTERS["02"], 4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    path = tmp_path / CHAPTERS["02"].name
    nbformat.write(nb, path)
    monkeypatch.setattr(bookpages, "chapters", lambda: CHAPTERS | {"02": path})
    with pytest.raises(ValueError, match="02_posterior.* has no outputs: make figures .*02"):
        book.write_sources(tmp_path / "source")
    assert not (tmp_path / "source").exists()


def test_a_missing_manifest_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(book, "manifest", lambda _: manifest(tmp_path))
    with pytest.raises(ValueError, match="manifest.json holds no figures: `git checkout"):
        book.write_sources(tmp_path / "source")


def test_a_figure_that_is_missing_or_cut_is_named(tmp_path):
    path, part = tmp_path / "fig.png", (0, 0, 1, 1)
    PIL.Image.effect_noise((90, 90), 60).save(path)
    assert book.card(path, part).size == book.CARD
    whole = path.read_bytes()
    for damaged in (whole[:4000], whole[:20], whole[:60] + bytes(60) + whole[120:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"fig\.png is no whole image .*git checkout"):
            book.card(path, part)
    path.unlink()
    with pytest.raises(ValueError, match=r"fig\.png is no whole image .*No such file"):
        book.card(path, part)


def test_the_workflow_builds_what_make_builds():
    flow = yaml.safe_load((REPO / ".github" / "workflows" / "book.yml").read_text())
    runs = [step.get("run", "") for job in flow["jobs"].values() for step in job["steps"]]
    assert any("make book" in run for run in runs) and any("test_book" in run for run in runs)
    assert "book/_build/" in (REPO / ".gitignore").read_text()


# ---- the site in a browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return book.build(tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="module")
def served(site):
    with browser.Server(site) as server:
        yield f"{server.address}/"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if not browser.find():
        pytest.skip("no Chromium is installed")
    with browser.Page(tmp_path_factory.mktemp("profile")) as page:
        yield page


def read(page, address, width=1400):
    """Open ``address`` and wait for all its formulas."""
    page.resize(width)
    page.open(address)
    page.evaluate("window.MathJax?.startup?.promise.then(() => true)")


def widen(page, width):
    """As a reader does who turns a telephone, or the size of a window."""
    page.resize(width)
    page.evaluate("new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")


SEEN = """(async () => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  for (const image of document.images) image.loading = 'eager';
  await Promise.all([...document.images].map((image) => image.decode().catch(() => 0)));
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), raw = [];
  while (texts.nextNode()) {
    const node = texts.currentNode;
    if (node.parentElement.closest('pre, code, script, style, mjx-container')) continue;
    if (/\\$\\$|\\\\\\(|\\\\\\[|\\\\(tag|frac|bar|mathbb)\\b/.test(node.data)) raw.push(node.data);
  }
  const name = (e) => `${e.tagName} ${e.className} ${e.textContent.slice(0, 40)}`;
  return {
    wide: document.documentElement.scrollWidth - innerWidth,
    unread: all('.math').filter((e) => !e.querySelector('mjx-container')).map(name),
    broken: all('mjx-merror, [data-mjx-error]').map(name),
    raw,
    lost: [...document.images].filter((i) => !i.naturalWidth).map((i) => i.src),
    cut: [...document.images].filter((i) => i.getBoundingClientRect().right > innerWidth + 1)
      .map((i) => i.src),
    open: all('details[open]').map(name),
    shown: all('div.cell_input').filter((e) => !e.closest('details')).length,
  };
})()"""


@pytest.mark.slow
@pytest.mark.xdist_group("book")
def test_site_is_small_and_holds_all(site):
    """Every chapter, and every image that a notebook stores, where its caption is with its name."""
    assert book.size(site) < book.LIMIT
    assert book.problems(site) == []
    rows = manifest(REPO / "figures")
    for path in CHAPTERS.values():
        assert (site / "notebooks" / path.name).read_bytes() == path.read_bytes()
        text = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        nb = nbformat.read(path, 4)
        stored = [o for c in nb.cells for o in c.get("outputs", []) if bookpages.is_image(o)]
        assert text.count("<img ") >= len(stored), path.name
        for cell in nb.cells:
            for name in bookpages.figure_names(cell, path.name[:2], rows):
                assert f'id="{bookpages.label(name)}"' in text, f"{name} is not shown"


@pytest.mark.slow
@pytest.mark.xdist_group("book")
def test_every_page_in_a_browser(site, served, page):
    """At either width no formula is left as text, nothing is wider than the screen, no figure is
    cut or lost, the console is silent, and no other host is asked.
    """
    wrong, paths = [], sorted(p.relative_to(site) for p in site.rglob("*.html"))
    assert len(paths) > 20
    for path in paths:
        if path.parts[0] == "playground":  # has tests of its own
            continue
        read(page, f"{served}{path}", WIDTHS[0])
        for width in WIDTHS:
            widen(page, width)
            seen = page.evaluate(SEEN)
            shown = seen.pop("shown")
            if path.parts[0] == "notebooks" and path.name[:2] in CHAPTERS and path.name[:2] != "08":
                assert shown > 10, f"{path} shows {shown} cells"
            if seen.pop("wide") > 0:
                wrong.append(f"{path}: wider than {width} pixels")
            wrong += [f"{path}, {width}: {what}: {f[:3]}" for what, f in seen.items() if f]
        wrong += [f"{path}: {error}" for error in page.errors]
        asked = (url for url in page.requests if not url.startswith((served, "data:")))
        wrong += [f"{path} asks {url}" for url in asked]
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.xdist_group("book")
def test_search_finds_a_term(served, page):
    read(page, f"{served}search.html?q=slerp")
    page.wait("document.querySelector('#search-results a[href*=\"07_interpolation\"]')")
    assert page.errors == []


@pytest.mark.slow
@pytest.mark.xdist_group("book")
@pytest.mark.parametrize("asked", ["2.17", "Eq. 2.17", "(2.17)", "velocity 2.17"])
def test_search_puts_an_equation_first(served, page, asked):
    read(page, f"{served}search.html?q={quote(asked)}")
    page.wait("document.querySelector('#search-results .found-equation a')", timeout=20)
    link = page.evaluate("document.querySelector('#search-results a').href")
    read(page, link)
    assert page.evaluate("document.querySelector(':target mjx-container') !== null")
    assert link.endswith("#eq-2-17") and "notebooks/02" in link and page.errors == []


@pytest.mark.slow
@pytest.mark.xdist_group("book")
def test_search_promises_no_equation_that_is_not_there(served, page):
    for asked in ("slerp 2.99", "slerp 0.05", "slerp 3.2.17", "slerp 12.17"):
        read(page, f"{served}search.html?q={quote(asked)}")
        page.wait("/found|match/.test(document.querySelector('.search-summary').innerText)")
        page.evaluate("new Promise((go) => setTimeout(go, 500))")
        assert page.evaluate("document.querySelectorAll('.found-equation').length") == 0, asked


@pytest.mark.slow
@pytest.mark.xdist_group("book")
def test_the_folder_is_read_without_a_server(site, page):
    """Chapters and search work as files; the playground says what it needs."""
    read(page, f"{site.as_uri()}/notebooks/01_forward_noising.html", WIDTHS[0])
    seen = page.evaluate(SEEN)
    assert page.errors == [] and not seen["unread"] + seen["broken"] + seen["lost"]
    read(page, f"{site.as_uri()}/search.html?q=slerp")
    page.wait("document.querySelector('#search-results a[href*=\"07_interpolation\"]')")
    read(page, f"{site.as_uri()}/search.html?q=7.6")
    page.wait("document.querySelector('.found-equation a[href$=\"#eq-7-6\"]')")
    assert page.errors == []
    read(page, f"{site.as_uri()}/playground/index.html")
    assert "http.server" in page.evaluate("document.getElementById('cannot').innerText")


@pytest.mark.slow
@pytest.mark.xdist_group("book")
def test_a_link_to_an_equation_shows_it(served, page):
    read(page, f"{served}notebooks/02_posterior_and_bound.html#eq-12")
    at = "document.getElementById('eq-12').getBoundingClientRect().top"
    page.wait(f"0 <= {at} && {at} < 900", timeout=30)  # the page jumps once its formulas are set


@pytest.mark.slow
@pytest.mark.xdist_group("book")
def test_a_formula_wider_than_a_telephone_shows_that_it_goes_on(served, page):
    """It is of the size of the text, scrolls to its number, and has a shadow at its edge."""
    read(page, f"{served}notebooks/03_ddpm_training.html", WIDTHS[0])
    look = """[...document.querySelectorAll('div.math')]
      .filter((e) => !e.closest('details, .admonition')).map((e) => {
        e.scrollLeft = 1e4;
        const last = e.querySelector('mjx-mtd:last-child, mjx-mtr');
        const edge = e.getBoundingClientRect().right - last.getBoundingClientRect().right;
        const size = getComputedStyle(e.querySelector('mjx-container')).fontSize;
        const shade = getComputedStyle(e).backgroundImage.split('gradient').length - 1;
        return [e.scrollWidth > e.clientWidth, parseFloat(size), shade, edge > -2] })"""
    narrow = page.evaluate(look)
    assert sum(wide for wide, *_ in narrow) > 5
    assert all(size <= 16 and shade == 4 and seen for _, size, shade, seen in narrow), narrow
    widen(page, WIDTHS[1])
    assert all(size > 16 and not shade for _, size, shade, _ in page.evaluate(look))


@pytest.mark.slow
@pytest.mark.xdist_group("book")
def test_light_and_dark(served, page):
    read(page, f"{served}index.html")
    shade = """(theme) => { document.body.dataset.theme = theme;
      return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number) }"""
    light, dark = (page.evaluate(f"({shade})('{theme}')") for theme in ("light", "dark"))
    assert min(light[:3]) > 230 and max(dark[:3]) < 50
    assert page.evaluate("document.querySelectorAll('.theme-toggle').length") >= 1
    # What is chosen here holds in the playground.
    page.evaluate("document.body.dataset.theme = 'auto'")
    seen = set()
    for _ in range(3):
        page.evaluate("document.querySelector('.theme-toggle').click()")
        chosen = page.evaluate("document.body.dataset.theme")
        read(page, f"{served}playground/index.html")
        shade = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        seen.add((chosen, int(shade) < 50))
        read(page, f"{served}index.html")
    assert {("light", False), ("dark", True)} < seen
