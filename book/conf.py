"""Sphinx's settings for the book; ``tools/book.py`` says what is built, and calls it."""

from docutils import nodes
from sphinx.transforms import SphinxTransform

project = "Bedrooms: diffusion models and GANs"
author = "The bedroom notebook authors"
copyright = author  # its licence stands in the repository
language = "en"
extensions = ["myst_nb"]
exclude_patterns = []
smartquotes = False

# Outputs are those that are stored.
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_ipywidgets_js = {}  # from another host

myst_enable_extensions = ["attrs_block", "colon_fence", "dollarmath"]
myst_heading_anchors = 4

# MathJax lies in the site. Its menu would load parts that do not.
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {
    "options": {"enableMenu": False},
    "chtml": {"mtextInheritFont": True},
}

html_theme = "furo"
html_title = project
html_static_path = ["static"]  # and a folder with MathJax, named by tools/book.py
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_favicon = "static/favicon.svg"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#00558a",
        "color-brand-content": "#00619e",
        "content-padding": "2.5em",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7cc4f5",
        "color-brand-content": "#7cc4f5",
    },
    "navigation_with_keys": True,
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"


class Equations(SphinxTransform):
    """A displayed equation is handed to MathJax as it is, so that \\tag may stand in it; one that
    can be linked to shows a link beside it.
    """

    default_priority = 700

    def apply(self, **kwargs) -> None:
        for node in list(self.document.findall(nodes.math_block)):
            node["no-wrap"] = True
            text = nodes.Text(rf"\[{node.astext()}\]")
            node.children = [text]
            text.parent = node
            if node["ids"]:
                link = f'<a class="to-equation" href="#{node["ids"][0]}" title="Link to this">#</a>'
                box = nodes.container("", classes=["equation"])
                node.replace_self(box)  # which gives it the ids as well
                node["ids"] = []
                box += [node, nodes.raw("", link, format="html")]


def setup(app) -> None:
    app.add_transform(Equations)
