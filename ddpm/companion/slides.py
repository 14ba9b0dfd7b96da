"""A deck of slides for each chapter, made of the chapter itself: its question, equations, figures, tables and verdicts.

Nothing is written twice, so that nothing on a slide can be out of date: a verdict is the output that the chapter's cell
holds, with the numbers it measured. The prose of a section is in the notes of its slides, which only the speaker sees.
"""

import base64
import hashlib
import html
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

from ddpm.companion.chapters import find_chapters
from ddpm.companion.notebook import read_notebook
from ddpm.companion.statements import Statement, kind_of, opening_of, pages_of, sentences_of, statements_of

__all__ = ["Slide", "deck_of", "write_decks"]

#: How the headings begin of sections that are worked on, or stand on slides of their own.
NOT_SHOWN = ("Predict first", "Questions", "Exercises", "Everything measured", "The claims of this")

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: slides</title>
<link rel="stylesheet" href="reveal.css">
<link rel="stylesheet" href="slides.css">
<script defer src="../_static/mathjax/tex-chtml.js"></script>
<script defer src="reveal.js"></script>
<script defer src="notes.js"></script>
<script defer src="slides.js"></script>
</head>
<body>
<main class="reveal"><div class="slides">
{slides}
</div></main>
</body>
</html>
"""


class Slide(NamedTuple):
    """What is shown, and what the speaker sees: HTML both."""

    shown: str
    notes: str
    is_extra: bool = False  # a talk of twenty minutes leaves it out


class Section(NamedTuple):
    """A heading of a chapter, and the cells below it; its Markdown cells are cut at headings."""

    heading: str
    cells: list[dict[str, Any]]

    @property
    def text(self) -> str:
        """Its prose, Markdown, without what is folded."""
        return _without_asides("\n\n".join(cell["source"] for cell in self.cells if cell["cell_type"] == "markdown"))


def deck_of(chapter: Path) -> tuple[str, list[Slide], dict[str, bytes]]:
    """A chapter's title, its slides, and the pictures that these show, by name.

    Raises:
        ValueError: the chapter cannot be read.
    """
    first, *others = _sections(read_notebook(chapter))  # a chapter begins with its title
    pictures: dict[str, bytes] = {}
    slides = [*_opening(first), *_prediction(others)]
    for section in others:
        if not section.heading.startswith(NOT_SHOWN):
            slides += _shown(section, pictures, is_about_code=chapter.name.startswith("00_"))
    slides += _questions(others)
    return first.heading, slides, pictures


def write_decks(notebooks: Path, folder: Path) -> list[Path]:
    """Write the deck of every chapter, NN_name.html, and its pictures into a folder; returns the decks.

    Raises:
        ValueError: there is no chapter, or one cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    decks = []
    for chapter in find_chapters(notebooks):
        title, slides, pictures = deck_of(chapter)
        sections = "\n".join(_element(slide) for slide in slides)
        decks.append(folder / f"{chapter.stem}.html")
        decks[-1].write_text(PAGE.format(title=html.escape(title), slides=sections), encoding="utf-8")
        for name, content in pictures.items():
            (folder / name).write_bytes(content)
    return decks


def _element(slide: Slide) -> str:
    notes = f'<aside class="notes mathjax_ignore">{slide.notes}</aside>'
    return f'<section class="{"extra" if slide.is_extra else ""}">\n{slide.shown}\n{notes}\n</section>'


def _sections(notebook: Any) -> list[Section]:
    """A chapter, cut at its headings."""
    sections = [Section("", [])]
    for cell in notebook["cells"]:
        if cell["cell_type"] != "markdown":
            sections[-1].cells.append(cell)
            continue
        for part in re.split(r"^(?=#{1,3} )", cell["source"], flags=re.MULTILINE):
            heading = re.match(r"#{1,3} (.+)\n?", part)
            if heading:
                sections.append(Section(heading[1].strip(), []))
                part = part[heading.end() :]
            if part.strip():
                sections[-1].cells.append(cell | {"source": part})
    return [section for section in sections if section.heading]


def _opening(section: Section) -> Iterator[Slide]:
    """The title with the chapter's question, or how it begins, and what students can do afterwards."""
    source = "\n\n".join(cell["source"] for cell in section.cells if cell["cell_type"] == "markdown")
    question = re.search(r"\*\*The question\.\*\*(.+?)(?:\n\n|$)", source, re.DOTALL)
    asked = _html(question[1] if question else opening_of(section.text.split("\n\n")[0]))
    needed = re.search(r"\*\*You need\*\*(.+?)\*\*", source, re.DOTALL)
    notes = _html(f"Students need {needed[1].strip(' :')}") if needed else ""
    yield Slide(f"<h1>{_inline(section.heading)}</h1>\n{asked}", notes)
    if afterwards := re.search(r"\*\*Afterwards you can\*\*(.+?)\*\*", source, re.DOTALL):
        skills = "\n".join(f"- {each.strip(' .')}" for each in re.split(r";\s+(?:and )?", afterwards[1].strip()))
        notes = "<p>Come back to this slide at the end.</p>"
        yield Slide(f"<h2>Afterwards you can</h2>\n{_html(skills)}", notes, is_extra=True)


def _prediction(sections: list[Section]) -> Iterator[Slide]:
    for section in sections:
        if section.heading.startswith("Predict first"):
            notes = "<p>Collect the guesses before you go on. The answer comes with its measurement.</p>"
            yield Slide(f"<h2>Predict first</h2>\n{_html(_for_a_room(section.text))}", notes)


def _shown(section: Section, pictures: dict[str, bytes], is_about_code: bool) -> Iterator[Slide]:
    """What a section says, then its figures, the tables that its code displays, and its verdicts."""
    heading, notes = f"<h2>{_inline(section.heading)}</h2>", _html(section.text)
    said_already = ""
    for part, is_extra in _text_slides(section, is_about_code):
        yield Slide(f"{heading}\n{_html(part)}", notes, is_extra)
        said_already += part
    for i, cell in enumerate(section.cells):
        if picture := next(_outputs(cell, "image/png"), ""):
            yield _figure(heading, cell, base64.b64decode(picture), notes, pictures)
        elif "hide-output" not in cell["metadata"].get("tags", []):
            for said in _outputs(cell, "text/markdown"):
                if said.startswith("|"):
                    above = _announcement(section.cells[:i])
                    yield from _table(heading, "" if above in said_already else above, said, notes)
                elif said.startswith(">"):
                    yield _verdict(heading, said, notes)


def _figure(heading: str, cell: dict[str, Any], content: bytes, notes: str, pictures: dict[str, bytes]) -> Slide:
    """A figure with its caption, which stands beside a tall one, so that both are large."""
    name = f"{hashlib.sha256(content).hexdigest()[:16]}.png"
    pictures[name] = content
    rendered = cell["metadata"].get("mystnb", {})
    alt = html.escape(rendered.get("image", {}).get("alt", ""), quote=True)
    caption = f'<p class="caption">{_inline(rendered.get("figure", {}).get("caption", ""))}</p>'
    width, height = struct.unpack(">II", content[16:24])  # of any PNG
    shape = "tall" if width < 1.5 * height else "wide"
    picture = f'<img src="{name}" alt="{alt}" width="{width}" height="{height}">'
    return Slide(f'{heading}\n<div class="figure {shape}">{picture}\n{caption}</div>', notes or caption)


def _verdict(heading: str, said: str, notes: str) -> Slide:
    """A verdict below what is claimed; it says which it is, so that it can have its colour."""
    if claim := re.match(r"> \*\*(\w+) · ([\w ]+)\.\*\* \*(.+?)\* ?", said):
        heading = f"<h2>{claim[1]}: &quot;{_inline(claim[3])}&quot;</h2>"
        said = f"> **{claim[1]} · {claim[2]}.** {said[claim.end() :]}"
    shown = re.sub(r"<blockquote>(?=\s*<p><strong>\w+ · ([\w ]+)\.)", r'<blockquote data-verdict="\1">', _html(said))
    return Slide(f"{heading}\n{shown}", notes)


def _table(heading: str, above: str, displayed: str, notes: str, most: int = 9) -> Iterator[Slide]:
    """A table that code has displayed, up to so many rows a slide. A talk keeps it if its rows are claims."""
    head, line, *rows = re.findall(r"^\|.*", displayed, re.MULTILINE)
    below = _html(re.sub(r"^\|.*\n?", "", displayed, flags=re.MULTILINE))
    are_claims = any(re.match(r"\| [A-Z]\d", row) for row in rows)
    slides = math.ceil(len(rows) / most)
    for i in range(slides):
        part = "\n".join([head, line, *rows[len(rows) * i // slides : len(rows) * (i + 1) // slides]])
        yield Slide(f"{heading}\n{_html(above)}\n{_html(part)}", below + notes, is_extra=not are_claims)


def _text_slides(section: Section, is_about_code: bool) -> Iterator[tuple[str, bool]]:
    """What a section's first slides say, Markdown, and whether a short talk leaves that out.

    Of a chapter that is not about code, the code is shown that writes something out, and not in a short talk.
    """
    if section.heading == "In short":
        text = _for_a_room(section.text)
        table = re.search(r"(?:^\|.*\n?)+", text, re.MULTILINE)
        yield table[0] if table else text, not table
        return
    statements: list[Statement] = []
    opens = True
    for cell in section.cells:
        if cell["cell_type"] == "markdown" and (text := _for_a_room(_without_asides(cell["source"]))):
            statements += statements_of(text, opens)
            opens = False
        elif cell["cell_type"] == "code" and _is_seen(cell) and (is_about_code or _writes_out(cell["source"])):
            yield from pages_of(statements)
            yield from ((f"```\n{part}\n```", not is_about_code) for part in _parts_of(cell["source"]))
            statements = []
    yield from pages_of(statements)


def _is_seen(cell: dict[str, Any]) -> bool:
    tags = cell["metadata"].get("tags", [])
    return not {"hide-input", "parameters", "exercises"} & set(tags) and "my_guess" not in cell["source"]


def _writes_out(source: str) -> bool:
    """Whether code makes a function or a class, or names an equation."""
    return bool(re.search(r"^(def|class) |# eq\. \d", source, re.MULTILINE))


def _parts_of(source: str, lines: int = 20) -> list[str]:
    """Code in parts of up to so many lines, cut at empty lines, within a definition only if that is longer."""
    blocks = []
    for definition in re.split(r"\n{2,}(?=\S)", source.strip()):
        blocks += re.split(r"\n{2,}", definition) if definition.count("\n") >= lines else [definition]
    parts = [""]
    for block in blocks:
        if parts[-1] and parts[-1].count("\n") + block.count("\n") + 3 > lines:
            parts.append("")
        parts[-1] = f"{parts[-1]}\n\n{block}".strip()
    return parts


def _for_a_room(text: str) -> str:
    """Markdown without the sentences that speak to a reader at a notebook."""
    to_a_reader = r"\b(?:next cell|folded cell|boxes below|Here is|If you have read)\b"
    return re.sub(rf"(?:(?<=[.?!:] )|^)(?=[A-Z*])[^.?!]*{to_a_reader}[^.?!]*[.?!] ?", "", text, flags=re.MULTILINE)


def _announcement(cells: list[dict[str, Any]]) -> str:
    """Of the prose with which these cells end, the last sentence that speaks of a table, or else the last; or ""."""
    text = _for_a_room(_without_asides(cells[-1]["source"])) if cells and cells[-1]["cell_type"] == "markdown" else ""
    paragraphs = [paragraph.strip() for paragraph in text.split("\n\n") if kind_of(paragraph.strip()) == "prose"]
    sentences = [sentence for paragraph in paragraphs for sentence in sentences_of(paragraph)]
    return ([each for each in sentences if "table" in each.lower()] or sentences or [""])[-1]


def _questions(sections: list[Section]) -> Iterator[Slide]:
    """A slide for each question at a chapter's end; its answers are in the notes."""
    for section in sections:
        if section.heading != "Questions":
            continue
        source = section.cells[0]["source"]
        for question in re.split(r"^\*\*\d+\.\*\*", source, flags=re.MULTILINE)[1:]:
            asked, *answers = question.split('<details class="answer">')
            found = [re.match(r"<summary>(.+?)</summary>(.+?)</details>", each, re.DOTALL) for each in answers]
            options = "\n".join(f"1. {each[1].strip()}" for each in found if each)
            said = "\n".join(f"1. {' '.join(each[2].split())}" for each in found if each)
            yield Slide(f"<h2>Question</h2>\n{_html(asked)}\n{_html(options)}", _html(said), is_extra=True)


def _outputs(cell: dict[str, Any], kind: str) -> Iterator[str]:
    """The outputs of this kind of a code cell."""
    for output in cell.get("outputs", []):
        if found := output.get("data", {}).get(kind):
            yield found


def _without_asides(source: str) -> str:
    """Markdown without boxes (block quotes and folds) and the paragraphs about sliders, which only a page has."""
    source = re.sub(r"^>.*\n?", "", source, flags=re.MULTILINE)
    source = re.sub(r"<details.+?</details>", "", source, flags=re.DOTALL)
    source = re.sub(r"^\*\*Turn the knob\.\*\*.+?(?:\n\n|$)", "", source, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"!\[.*?\]\(.*?\)|^\(.+\)=$", "", source, flags=re.MULTILINE).strip()


_MARKDOWN = (
    MarkdownIt("commonmark", {"html": False})
    .enable("table")
    .use(dollarmath_plugin, renderer=lambda content, options: content, allow_labels=False)
)
_MARKDOWN.add_render_rule(
    "math_inline", lambda self, tokens, i, *_: rf'<span class="math">\({html.escape(tokens[i].content)}\)</span>'
)
_MARKDOWN.add_render_rule(
    "math_block", lambda self, tokens, i, *_: rf'<div class="math">\[{html.escape(tokens[i].content)}\]</div>'
)


def _html(source: str) -> str:
    """Markdown as HTML: links and MyST's roles are their texts."""
    source = re.sub(r"\{[\w:-]+\}`([^`<]+?)\s*(?:<[^>]*>)?`", r"\1", source)
    source = re.sub(r"(?<!!)\[([^\]]+)\]\([^)\s]+\)", r"\1", source)
    rendered: str = _MARKDOWN.render(source)
    return re.sub(r'(<span class="math">[^<]+</span>)([.,;:?!)]+)', r'<span class="kept">\1\2</span>', rendered)


def _inline(source: str) -> str:
    """A line of Markdown as HTML, without a paragraph around it."""
    return _html(source).strip().removeprefix("<p>").removesuffix("</p>")
