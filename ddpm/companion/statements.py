"""What of a chapter's prose a slide shows: the equations, tables and lists, with the sentences that belong to them.

A slide that showed all would be read and not listened to. What is chosen stands together as it does in the chapter.
"""

import math
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

__all__ = ["Statement", "kind_of", "opening_of", "pages_of", "sentences_of", "statements_of"]

#: How many words of prose a slide has at most, in whole sentences: where a section begins, and beside an equation.
OPENING, BEFORE, AFTER = 45, 55, 30


class Statement(NamedTuple):
    """Paragraphs, Markdown, that are understood only together: an equation and the words beside it. Or words alone."""

    paragraphs: list[str]
    is_prose: bool


def statements_of(text: str, opens: bool) -> list[Statement]:
    """What is shown of a text; of one that opens a section, its first sentences as well."""
    statements: list[Statement] = []
    for paragraph, place in _chosen(text, opens):
        if not statements or (place != "after" and not statements[-1].is_prose):
            statements.append(Statement([], is_prose=True))
        paragraphs, is_prose = statements[-1]
        statements[-1] = Statement([*paragraphs, paragraph], is_prose and place != "itself")
    return statements


def _chosen(text: str, opens: bool) -> Iterator[tuple[str, str]]:
    """What is shown of a text, and whether it stands before or after an equation, a table or a list, or is that itself.

    Of the prose, these are the sentences that an equation stands between, and those that announce a list.
    """
    paragraphs = [each.strip() for each in text.split("\n\n") if each.strip()]
    kinds = ["", "", *map(kind_of, paragraphs), "", ""]
    said = ""  # the end of the paragraph before, if it is shown
    for i, paragraph in enumerate(paragraphs):
        earlier, before, kind, *following = kinds[i : i + 5]
        if kind in ("equation", "table"):
            yield paragraph, "after" if said[:1].islower() else "itself"  # the sentence goes on
            said = ""
        elif kind == "list" and (said or before == "equation"):
            yield paragraph, "after" if before == "equation" else "itself" if earlier == "equation" else "before"
        elif kind == "prose":
            head, said = _beside(sentences_of(paragraph), before, following, opens)
            if head:
                yield head, "after" if before == "equation" else "before"
            if said:
                yield said, "after" if said[0].islower() else "before"
            opens = False


def _beside(sentences: list[str], before: str, following: list[str], opens: bool) -> tuple[str, str]:
    """A paragraph's first sentences, which speak of what stands before it, and its last ones, which lead on; or "".

    Where all are shown, they are the last ones: nobody wants half of a paragraph on another slide.
    """
    first = last = 0
    if opens or before == "equation":
        first = _how_many(sentences, OPENING if opens else AFTER)
    if "equation" in (following[0], following[1] if following[0] == "list" else ""):
        last = _how_many(sentences[::-1], BEFORE)
    elif before == "equation" and following[0] == "list":
        last = 1
    rest = len(sentences) - last
    head, tail = sentences[: min(first, rest)], sentences[rest:]
    if before != "equation" and len(head) == rest:
        head, tail = [], sentences
    return " ".join(head), " ".join(tail)


def opening_of(paragraph: str) -> str:
    """The sentences with which a paragraph begins, as many as a slide has where a section begins."""
    sentences = sentences_of(paragraph)
    return " ".join(sentences[: _how_many(sentences, OPENING)])


def kind_of(paragraph: str) -> str:
    """What a paragraph of Markdown is: an equation, a table, a list, code or prose."""
    begins = {"$$": "equation", "|": "table", "- ": "list", "1. ": "list", "```": "code"}
    return next((kind for mark, kind in begins.items() if paragraph.startswith(mark)), "prose")


def sentences_of(paragraph: str) -> list[str]:
    """A paragraph's sentences; what is in brackets is not cut, nor are names that begin with an initial."""
    sentences: list[str] = []
    for part in re.split(r"(?:(?<=[.?!])|(?<=[.?!]\)))(?<!\b[A-Z]\.) (?=[A-Z*$`])", paragraph):
        last = re.sub(r"\$.+?\$", "", sentences[-1]) if sentences else ""
        if last.count("(") > last.count(")"):
            sentences[-1] += f" {part}"
        else:
            sentences.append(part)
    return sentences


def _how_many(sentences: list[str], words: int) -> int:
    """How many of these sentences have up to so many words in all, a formula being one; one at least."""
    lengths = [len(re.sub(r"\$.+?\$", "x", each).split()) for each in sentences]
    return max(1, sum(length <= words for length in accumulate(lengths)))


def pages_of(statements: list[Statement], lines: float = 16) -> Iterator[tuple[str, bool]]:
    """Statements on as few slides as hold them, Markdown, and whether a slide is words or a table alone."""
    pages: list[list[Statement]] = []
    for statement in statements:
        if pages and sum(map(_lines, pages[-1])) + _lines(statement) <= lines:
            pages[-1].append(statement)
        else:
            pages.append([statement])
    for page in pages:
        paragraphs = [paragraph for statement in page for paragraph in statement.paragraphs]
        is_extra = all(statement.is_prose or kind_of(statement.paragraphs[-1]) == "table" for statement in page)
        yield "\n\n".join(paragraphs), is_extra


def _lines(statement: Statement) -> float:
    """How many lines of a slide a statement takes, roughly."""
    lines = 0.0
    for paragraph in statement.paragraphs:
        if kind_of(paragraph) == "equation":
            lines += 2.5 + 2 * paragraph.count(r"\\")
        else:
            seen = [re.sub(r"\\[a-zA-Z]+|[\\{}$*]", "", line) for line in paragraph.splitlines()]
            lines += 0.5 + sum(math.ceil(len(line) / 72) for line in seen)
    return lines
