"""The links of the texts lead somewhere, and a link that does not is noticed."""

import pytest

from tools import links


def test_every_link_leads_somewhere():
    texts = links.texts()
    assert {"README.md", "CONTRIBUTING.md", "01_forward_noising.py"} <= {p.name for p in texts}
    assert [row for path, base in texts.items() for row in links.wrong(path, base)] == []


@pytest.mark.parametrize(
    "text, reason",
    [
        ("[a](there.md)", None),
        ("[a](there.md#two-words)", None),
        ("[![badge](there.md)](gone.md)", "no such file"),
        ("[a](gone.md)", "no such file"),
        ("[a](there.md#three)", "no such heading"),
        ("[a](#own)", None),
        ("[a](#other)", "no such heading"),
        ("[a](http://example.org)", "not an https"),
        ("[a](https://doi.org/10.1016/S0019-9958(65)90241-X)", None),
        ("[a](https://example)", "not an https"),
        ("`[a](gone.md)`", None),
        ("[a](01_small.ipynb#one)", None),
        ("[a](01_small.ipynb#two)", "no such heading"),
    ],
)
def test_a_link_that_leads_nowhere_is_noticed(tmp_path, text, reason):
    (tmp_path / "there.md").write_text("# One\n\n## Two words\n")
    (tmp_path / "01_small.ipynb").write_text("{}")
    (tmp_path / "py").mkdir()
    (tmp_path / "py" / "01_small.py").write_text("# %% [markdown]\n# # One\n\n# %%\n# # Two\n")
    (tmp_path / "text.md").write_text(f"# Own\n\n{text}\n")
    found = links.wrong(tmp_path / "text.md", tmp_path)
    assert (found == []) if reason is None else (len(found) == 1 and reason in found[0])
