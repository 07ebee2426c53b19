"""What a page of the book may point to, and the links that lead there.

In the notebooks an equation stands under a comment, ``<!-- eq:1.6 -->``, a section under a numbered
heading, and a figure is named by what saves it. Text speaks of them as of "Eq. 1.6", "section 7",
"notebook 02, section 9" and "Fig. 8". Here the first become labels, the second links.
"""

import re
from dataclasses import dataclass, field

EQUATION = re.compile(r"<!-- (eq:\S+) -->\n(\$\$.*?\$\$)", re.DOTALL)
TAG = re.compile(r"\\tag\{([^}]*)\}")
SECTION = re.compile(r"(?m)^(#{2,4}) (\d+(?:\.\d+)*|Appendix [A-Z])(?=[. ])")
EXERCISE = re.compile(r"\A\*\*Exercise (\d\d-\d+)\*\*(.*)\n")
# What is left alone: code, mathematics, comments, HTML, headings, labels, links.
KEPT = (
    r"```.*?```|`[^`\n]+`|\$\$.*?\$\$|\$[^$]+\$|<!--.*?-->|<[^<>\n]+>"
    r"|^#+ [^\n]*$|^\([^\n]*\)=$|^:::[^\n]*$"
    r"|!?\[(?:[^\[\]]|\[[^\]]*\])*\]\([^()\s]*(?:\([^()]*\))?[^()]*\)"
)
NUMBER = r"\d+(?:\.\d+)?[a-z]?"
SPOKEN = re.compile(
    rf"(?P<chapter>\[(?:notebook )?(?P<there>\d\d)\]\([^()]*\), "
    rf"|(?:notebook )?\b(?P<other>\d\d), )?"
    rf"(?:(?P<word>[Ss]ections? )(?P<sections>\d+(?:\.\d+)*(?:(?:, | and | to )\d+(?:\.\d+)*)*)"
    rf"|(?P<appendix>[Aa]ppendix [A-Z])\b)"
    rf"|(?P<eq>\bEq\. )(?P<equations>{NUMBER}(?:(?:, | and | to |-){NUMBER})*)"
    rf"|\bFig\. (?P<figure>\d+)\b|\b(?P<exercise>\d\d-\d)\b"
    rf"|(?P<kept>{KEPT})",
    re.DOTALL | re.MULTILINE,
)


@dataclass
class Labels:
    """Equations by number ("1.6", "7a"), sections by chapter and number, figures by name."""

    equations: dict[str, str] = field(default_factory=dict)
    sections: dict[tuple[str, str], str] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    exercises: set[str] = field(default_factory=set)

    def learn(self, chapter: str, text: str) -> None:
        """Take up what ``text``, a markdown cell of ``chapter``, defines."""
        for tag, body in EQUATION.findall(text):
            for number in TAG.findall(body) or [tag[3:]]:
                self.equations[number] = equation_label(tag)
        for _, number in SECTION.findall(text):
            self.sections[chapter, number] = section_label(chapter, number)
        if match := EXERCISE.match(text):
            self.exercises.add(match[1])


def equation_label(tag: str) -> str:
    return tag.replace(":", "-")


def section_label(chapter: str, number: str) -> str:
    return f"sec-{chapter}-{number.lower().replace(' ', '-')}"


def labelled(text: str, chapter: str) -> str:
    """``text`` with a label above each equation, numbered section and exercise."""
    text = EQUATION.sub(lambda m: f"({equation_label(m[1])})=\n\n{m[2]}", text)
    text = SECTION.sub(lambda m: f"({section_label(chapter, m[2])})=\n{m[0]}", text)
    if match := EXERCISE.match(text):
        title = f":::{{admonition}} Exercise {match[1]}{match[2]}\n:class: exercise\n"
        text = f"(exercise-{match[1]})=\n{title}{text[match.end() :].rstrip()}\n:::"
    return text


def linked(text: str, labels: Labels, chapter: str = "") -> str:
    """``text``, of ``chapter``, with a link wherever it speaks of something that has a label."""

    def numbers(text: str, pattern: str, find) -> str:
        def link(match: re.Match) -> str:
            label = find(match[0])
            return f"[{match[0]}](#{label})" if label else match[0]

        return re.sub(pattern, link, text)

    def replace(match: re.Match) -> str:
        if match["kept"]:
            return match[0]
        if match["eq"]:
            return match["eq"] + numbers(match["equations"], NUMBER, labels.equations.get)
        if name := match["exercise"]:
            return f"[{name}](#exercise-{name})" if name in labels.exercises else name
        if match["figure"]:
            label = labels.figures.get(f"fig{int(match['figure']):02}")
            return f"[{match[0]}](#{label})" if label else match[0]
        where = match["there"] or match["other"] or chapter
        if name := match["appendix"]:
            label = labels.sections.get((where, name[0].upper() + name[1:]))
            found = f"[{name}](#{label})" if label else name
            return (match["chapter"] or "") + found
        found = numbers(
            match["sections"], r"\d+(?:\.\d+)*", lambda n: labels.sections.get((where, n))
        )
        return (match["chapter"] or "") + match["word"] + found

    return SPOKEN.sub(replace, text)


def plain(text: str) -> str:
    """``text`` without marks of Markdown and TeX: what a screen reader is to say of a figure."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\\(?:bar|hat|tilde|mathrm|mathbf|text|operatorname)\b", "", text)
    text = re.sub(r"\\([a-zA-Z]+)", r"\1", text)
    return " ".join(re.sub(r"[*`${}\\]|^#+ ", "", text, flags=re.MULTILINE).split())


def escaped(text: str) -> str:
    """``text`` as it is to be read, whatever Markdown makes of its marks."""
    return re.sub(r"([\\`*_{}\[\]<>|$#~])", r"\\\1", text)
