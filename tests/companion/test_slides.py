"""Decks of slides are made of their chapters: what they show is what the chapters hold."""

import hashlib
import html
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ddpm.companion.chapters import find_chapters
from ddpm.companion.checks import read_record
from ddpm.companion.claims import load_claims
from ddpm.companion.notebook import read_notebook
from ddpm.companion.slides import NOT_SHOWN, _sections, deck_of, write_decks
from tests.checkout import ROOT

CHAPTERS = find_chapters(ROOT / "notebooks", None)
REVEAL = ROOT / "book" / "_ext" / "reveal.js"


def text(shown):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", shown)).split())


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_deck_shows_the_ledgers_numbers_in_the_words_of_its_verdicts(chapter):
    _, slides, _ = deck_of(chapter)
    shown = text(" ".join(slide.shown for slide in slides))
    record = read_record(read_notebook(chapter))
    claims = [claim for claim in load_claims().values() if f"{chapter.name}#{claim.id}-verdict" in str(claim.evidence)]
    claims += [claim for claim in load_claims().values() if claim.chapter == int(chapter.name[:2])]
    numbers = 0
    for claim in {claim.id: claim for claim in claims}.values():
        if f'verdict("{claim.id}")' not in chapter.read_text(encoding="utf-8").replace("\\", ""):
            continue
        assert f"{claim.id} · {claim.verdict}." in shown
        for name in claim.measured:
            if name in record:
                assert str(record[name]) in shown, (claim.id, name)
                numbers += 1
    assert numbers >= 5 or chapter.name.startswith("00")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_deck_has_every_figure_and_question_and_its_length(chapter):
    title, slides, pictures = deck_of(chapter)
    notebook = read_notebook(chapter)
    assert slides[0].shown.startswith("<h1>")
    assert text(slides[0].shown).startswith(re.sub(r"[$`*]", "", title)[:20])
    short = [slide for slide in slides if not slide.is_extra]
    assert [slide for slide in slides if " · " in slide.shown] == [slide for slide in short if " · " in slide.shown]
    assert short[0] == slides[0]
    assert sum("\\tag{" in slide.shown for slide in slides) == sum("\\tag{" in slide.shown for slide in short)
    named = [cell for cell in notebook["cells"] if "figure" in cell["metadata"].get("mystnb", {})]
    assert len(pictures) >= len(named)
    questions = [slide for slide in slides if "<h2>Question</h2>" in slide.shown]
    assert len(questions) == 3
    for slide in questions:
        assert slide.shown.count("<li>") == slide.notes.count("<li>") == 3
        assert len(re.findall(r"<li>\s*(?:<p>)?Yes", slide.notes)) == 1
        assert not re.search(r"<li>\s*(?:<p>)?Yes\.", slide.shown)
    assert all(slide.notes for slide in slides)
    written = " ".join(f"{slide.shown} {slide.notes}" for slide in slides)
    assert not re.search(r"\{[\w:-]+\}`|```\{|\]\(|\$\$", written)  # nothing that only a page understands
    for slide in slides:
        shown = re.sub(r"<[^>]+>", "", slide.shown).strip()
        assert not shown.endswith(":"), shown  # what is announced is there
        assert not re.search(r"next cell|folded cell|you have read|\b[Hh]ere is the", shown), shown


def test_the_page_says_how_long_decks_are():
    decks = [deck_of(chapter)[1] for chapter in CHAPTERS]
    whole = [len(slides) for slides in decks]
    short = [sum(not slide.is_extra for slide in slides) for slides in decks]
    page = " ".join((ROOT / "book" / "slides.md").read_text(encoding="utf-8").split())
    assert f"A deck for each chapter, of {min(whole)} to {max(whole)} slides" in page
    assert f"some twenty minutes {min(short)} to {max(short)} of them are left" in page
    assert max(short) <= 30  # in twenty minutes


def test_every_numbered_equation_of_a_chapter_is_shown_once():
    for chapter in CHAPTERS:
        _, slides, _ = deck_of(chapter)
        shown = " ".join(slide.shown for slide in slides)
        for section in _sections(read_notebook(chapter)):
            if not section.heading.startswith(NOT_SHOWN):
                for number in re.findall(r"\\tag\{(\w+)\}", section.text):
                    assert shown.count(rf"\tag{{{number}}}") == 1, (chapter.name, number)


def test_chapter_0_shows_its_code_in_parts_that_fit():
    _, slides, _ = deck_of(CHAPTERS[0])
    code = [slide.shown for slide in slides if "<pre>" in slide.shown]
    assert "alpha_bar" in code[0]
    assert max(part.count("\n") for part in code) < 26


def test_an_equation_below_code_stays_there_with_the_sentence_that_announces_it(tmp_path):
    cells = [
        new_markdown_cell("# Mine\n\n## All of it\n\nThese lines are all.\n\n$$ a $$"),
        new_code_cell("x = 1"),
        new_markdown_cell("It begins. The sampler goes back:\n\n$$ b $$\n\nThat is all."),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "00_mine.ipynb")
    nbformat.write(new_notebook(cells=cells), tmp_path / "07_mine.ipynb")
    shown = [text(slide.shown) for slide in deck_of(tmp_path / "00_mine.ipynb")[1][1:]]
    announced = r"All of it The sampler goes back: \[ b \]"
    assert shown == [r"All of it These lines are all. \[ a \]", "All of it x = 1", announced]
    shown = [text(slide.shown) for slide in deck_of(tmp_path / "07_mine.ipynb")[1][1:]]  # whose slides have no code
    assert shown == [r"All of it These lines are all. \[ a \] \[ b \]"]


def test_a_chapter_without_the_usual_boxes_has_a_deck_too(tmp_path):
    cells = [new_code_cell("x = 1"), new_markdown_cell("# Mine\n\n## First\n\nA sentence.\n\n$$ a = b $$")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "07_mine.ipynb")
    title, slides, _ = deck_of(tmp_path / "07_mine.ipynb")
    assert title == "Mine"
    assert [text(slide.shown) for slide in slides] == ["Mine", r"First A sentence. \[ a = b \]"]


@pytest.mark.parametrize(("words", "sentences"), [(10, 4), (30, 1), (60, 1)])
def test_a_slide_has_a_paragraphs_first_sentences_up_to_45_words(words, sentences, tmp_path):
    sentence = " ".join(["Noise", *["falls"] * (words - 1)]) + "."
    cells = [new_markdown_cell("# Mine\n\n## First\n\n" + " ".join([sentence] * 8))]
    nbformat.write(new_notebook(cells=cells), tmp_path / "07_mine.ipynb")
    _, slides, _ = deck_of(tmp_path / "07_mine.ipynb")
    assert text(slides[1].shown) == "First " + " ".join([sentence] * sentences)


def test_a_verdict_says_which_it_is(tmp_path):
    said = new_output("display_data", {"text/markdown": "> **C1 · holds when.** *So it is.*"})
    cell = new_code_cell("verdict('C1')", metadata={"tags": ["C1-verdict"]}, outputs=[said])
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Mine\n\n## First"), cell]), tmp_path / "07_mine.ipynb")
    _, slides, _ = deck_of(tmp_path / "07_mine.ipynb")
    assert '<blockquote data-verdict="holds when">' in slides[1].shown


def test_decks_and_their_pictures_are_written(tmp_path):
    decks = write_decks(ROOT / "notebooks", tmp_path / "slides")
    assert [deck.stem for deck in decks] == [chapter.stem for chapter in CHAPTERS]
    for deck in decks:
        for name in re.findall(r'<img src="(.+?)"', deck.read_text(encoding="utf-8")):
            assert (tmp_path / "slides" / name).read_bytes().startswith(b"\x89PNG")


def test_the_page_of_slides_leads_to_every_deck():
    page = (ROOT / "book" / "slides.md").read_text(encoding="utf-8")
    links = re.findall(r'<a href="\.\./slides/(\w+)\.html">(.+?)</a>', page)
    assert [name for name, _ in links] == [chapter.stem for chapter in CHAPTERS]
    short = re.findall(r'<a href="\.\./slides/(\w+)\.html\?short">(.+?), in twenty minutes</a>', page)
    assert short == links
    for (_, said), chapter in zip(links, CHAPTERS, strict=True):
        assert deck_of(chapter)[0].startswith(said)


def test_what_shows_the_slides_is_the_file_of_its_package():
    listed = dict(re.findall(r"`(?:plugin/)?([\w.]+)` \| `(\w+)`", (REVEAL / "README.md").read_text(encoding="utf-8")))
    assert listed == {
        name: hashlib.sha256((REVEAL / name).read_bytes()).hexdigest()
        for name in ("reveal.js", "reveal.css", "notes.js")
    }
    assert "MIT" in (REVEAL / "README.md").read_text(encoding="utf-8")
    assert (REVEAL / "LICENSE").read_text(encoding="utf-8").startswith("Copyright (C) 2011-2026 Hakim El Hattab")
