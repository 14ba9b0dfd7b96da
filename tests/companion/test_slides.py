"""Decks of slides are made of their chapters: what they show is what the chapters hold."""

import base64
import hashlib
import html
import io
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

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
    assert all(slide in short for slide in slides if re.search("<blockquote|<img", slide.shown))
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
    written = re.sub("<pre>.+?</pre>", "", written, flags=re.DOTALL)
    assert not re.search(r"\{[\w:-]+\}`|```\{|\]\(|\$\$", written)  # nothing that only a page understands
    for slide in slides:
        shown = re.sub(r"<[^>]+>", "", slide.shown).strip()
        assert not re.search(r"[:,](?: *\\tag\{\w+\})?(?: *\\\])?$", shown), shown  # what is announced is there
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


#: A line of the code that a chapter writes out.
WRITTEN_OUT = {
    "00": "return left.sqrt() * x0 + (1 - left).sqrt() * eps",
    "01": "# eq. 2",
    "02": "def attention_by_hand(layer, x):",
    "03": "def ancestral_by_hand(denoise, x, times, noise):",
    "04": "def heun_step(denoise, x, t, s):",
    "05": "told = labels.masked_fill(is_dropped, null_label)",
    "06": "loss = F.mse_loss(said, eps - x0)",
}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_the_code_that_a_chapter_writes_out_is_shown_in_parts_that_fit(chapter):
    code = [slide for slide in deck_of(chapter)[1] if "<pre>" in slide.shown]
    assert max(slide.shown.count("\n") for slide in code) < 29
    assert any(WRITTEN_OUT[chapter.name[:2]] in text(slide.shown) for slide in code)
    assert not any("results_table(" in slide.shown or "verdict(" in slide.shown for slide in code)
    assert {slide.is_extra for slide in code} == {not chapter.name.startswith("00")}


#: The words that make a statement of an equation, and what marks that equation.
SAID = [
    ("01", r"\tag{4}", "The loss is the squared error of the answer"),
    ("01", r"\tag{7}", r"\(L_0\) is the cost of the last step back"),
    ("02", r"\tag{2}", "are the queries, keys and values of the pixels"),
    ("03", r"\nabla \log p_t(x_t) =", "Tweedie's formula"),
    ("03", r"\tag{2}", "with fresh noise"),
    ("03", r"\tag{3}", "DDIM"),
    ("03", r"\frac{dy}{d\sigma}", "this velocity is"),
    ("03", r"\tag{8}", "keeps the correlation"),
    ("03", r"\tag{9}", "an answer that looks like data costs at least"),
    ("04", r"\tag{4}", "is the standard deviation of"),
    ("05", r"\tag{1}", "is called the score"),
    ("06", r"\tag{5}", "These are two equations for"),
]


@pytest.mark.parametrize(("chapter", "equation", "words"), SAID)
def test_an_equation_stands_with_the_words_that_make_it_a_statement(chapter, equation, words):
    _, slides, _ = deck_of(CHAPTERS[int(chapter)])
    (slide,) = [slide for slide in slides if equation in slide.shown]
    assert words in text(slide.shown)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_no_equation_is_the_first_thing_that_a_slide_says(chapter):
    for slide in deck_of(chapter)[1]:
        for words in re.findall(r"</h2>(.*?)<div class=\"math\">", slide.shown, re.DOTALL):
            assert len(text(words).split()) > 5, slide.shown


def shown_of(cells, tmp_path, number="07"):
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Mine"), *cells]), tmp_path / f"{number}_mine.ipynb")
    return deck_of(tmp_path / f"{number}_mine.ipynb")[1][1:]


def test_an_equation_below_code_stays_there_with_the_sentences_around_it(tmp_path):
    cells = [
        new_markdown_cell("## All of it\n\nThese lines are all.\n\n$$ a $$"),
        new_code_cell("x = 1"),
        new_markdown_cell("It begins. The sampler goes back:\n\n$$ b $$\n\nThat is all."),
    ]
    around = r"It begins. The sampler goes back: \[ b \] That is all."
    shown = [text(slide.shown) for slide in shown_of(cells, tmp_path, "00")]
    assert shown == [r"All of it These lines are all. \[ a \]", "All of it x = 1", f"All of it {around}"]
    shown = [text(slide.shown) for slide in shown_of(cells, tmp_path)]  # which is not about code
    assert shown == [rf"All of it These lines are all. \[ a \] {around}"]


@pytest.mark.parametrize("source", ["def move(x):\n    return x", "class Move:\n    pass", "y = a * x  # eq. 2"])
def test_code_that_writes_something_out_is_shown_but_not_in_a_short_talk(source, tmp_path):
    cells = [new_markdown_cell("## First\n\nA sentence."), new_code_cell(source)]
    assert [slide.is_extra for slide in shown_of(cells, tmp_path) if "<pre>" in slide.shown] == [True]


def test_a_part_of_code_ends_where_a_definition_does(tmp_path):
    move = "\n".join(["def move(x):", *["    x = x + 1"] * 8, "", *["    x = x - 1"] * 6])
    first, second = shown_of([new_markdown_cell("## First"), new_code_cell(f"{move}\n\n\n{move}")], tmp_path)
    assert text(first.shown) == text(second.shown)


def test_code_of_a_definition_that_is_too_long_is_cut_at_an_empty_line(tmp_path):
    half = "\n".join(["    x = x + 1"] * 14)
    cells = [new_markdown_cell("## First"), new_code_cell(f"def move(x):\n{half}\n\n{half}")]
    assert [text(slide.shown).count("x + 1") for slide in shown_of(cells, tmp_path)] == [14, 14]


def test_around_an_equation_are_the_nearest_sentences_and_what_is_between_is_left_out(tmp_path):
    long = " ".join(["Noise", *["falls"] * 39]) + "."
    before = f"A start. {long} {long} {long} Here J. Song et al. (2021) say"
    (slide,) = shown_of([new_markdown_cell(f"## First\n\n{before}\n\n$$ a $$\n\n{long} Not.")], tmp_path)
    paragraphs = [text(each) for each in re.split("</p>|</div>|</h2>", slide.shown) if text(each)]
    assert paragraphs == ["First", f"A start. {long}", f"{long} Here J. Song et al. (2021) say", r"\[ a \]", long]


def test_a_sentence_that_goes_on_below_an_equation_stays_on_its_slide(tmp_path):
    rows = r" \\ ".join(["a"] * 8)
    cells = [new_markdown_cell(f"## First\n\nLet it be\n\n$$ {rows}, $$\n\nwhere\n\n$$ {rows}. $$\n\nNow\n\n$$ b $$")]
    shown = [text(slide.shown).replace(rows, "A") for slide in shown_of(cells, tmp_path)]
    assert shown == [r"First Let it be \[ A, \] where \[ A. \]", r"First Now \[ b \]"]


def test_a_list_that_follows_an_equation_or_leads_to_one_is_shown(tmp_path):
    follows = "## First\n\nIt is\n\n$$ a $$\n\nPeople differ. We compare two.\n\n- One.\n- Two.\n\nThey end."
    (slide,) = shown_of([new_markdown_cell(follows)], tmp_path)
    assert text(slide.shown) == r"First It is \[ a \] People differ. We compare two. One. Two."
    leads = "## First\n\nA start.\n\nIn steps?\n\n1. One.\n2. Two:\n\n$$ a $$"
    (slide,) = shown_of([new_markdown_cell(leads)], tmp_path)
    assert text(slide.shown) == r"First A start. In steps? One. Two: \[ a \]"


def displaying(table, tags=()):
    said = new_output("display_data", {"text/markdown": table})
    return new_code_cell("show()", metadata={"tags": list(tags)}, outputs=[said])


def test_a_table_that_code_displays_is_shown_unless_the_output_is_hidden(tmp_path):
    table = "| size | A |\n| --- | --- |\n| map | 8 |\n\nOf one network."
    cells = [
        new_markdown_cell("## First\n\nThe sizes. Bold ones agree."),
        displaying(table, ["sizes", "hide-input"]),
        displaying(table.replace("map", "secret"), ["sizes", "hide-output"]),
    ]
    prose, slide = shown_of(cells, tmp_path)
    assert text(slide.shown) == "First size A map 8"  # the sentence before it stands on the slide before
    assert "Of one network." in slide.notes
    assert (prose.is_extra, slide.is_extra) == (True, True)
    cells[1] = displaying(table.replace("map", "C23, down"), ["sizes"])
    assert not shown_of(cells, tmp_path)[1].is_extra  # it is a verdict, too
    cells[0] = new_markdown_cell(f"## First\n\nThe sizes. {'A word. ' * 60}Bold ones of the table agree. An end.")
    assert text(shown_of(cells, tmp_path)[1].shown).startswith("First Bold ones of the table agree. size")


@pytest.mark.parametrize(("rows", "lengths"), [(1, [1]), (9, [9]), (12, [6, 6]), (19, [6, 6, 7])])
def test_a_long_table_is_cut_into_slides_of_about_one_length(rows, lengths, tmp_path):
    table = "\n".join(["| row |", "| --- |", *(f"| line {i} |" for i in range(rows))])
    shown = [text(slide.shown) for slide in shown_of([new_markdown_cell("## First"), displaying(table)], tmp_path)]
    assert [each.count("line") for each in shown] == lengths
    assert all(each.startswith("First row line") for each in shown)


def test_chapter_2_answers_its_question_and_says_what_its_conventions_are():
    _, slides, _ = deck_of(CHAPTERS[2])
    short = [text(slide.shown) for slide in slides if not slide.is_extra]
    conventions, sizes, verdict = (
        next(i for i, shown in enumerate(short) if said in shown)
        for said in ("B is the network of the figure", "C28, up", "It holds under B")
    )
    assert conventions < sizes < verdict
    assert all(f"C{i}, " in short[sizes] for i in range(23, 30))


#: Where each chapter answers its prediction: words of a slide, or of a figure's alternative text.
ANSWERS = [
    "it lies little above a horizontal grey line",
    "with momentum 0.9 are smeared out away from most of them",
    "agree 4 of 7",
    r"2\,\text{MMSE}. \tag{4}",
    "share in the large bump, plain Langevin in 2 dimensions: 0.5",
    "mean by the flow, w = 4: 1.67",
    "variance after one step: 3.16e-32",
]


@pytest.mark.parametrize(("chapter", "answer"), zip(CHAPTERS, ANSWERS, strict=True), ids=lambda each: str(each)[-20:])
def test_a_short_deck_has_the_answer_to_its_prediction(chapter, answer):
    short = [slide.shown for slide in deck_of(chapter)[1] if not slide.is_extra]
    asked = next(i for i, shown in enumerate(short) if "<h2>Predict first</h2>" in shown)
    assert any(answer in f"{text(shown)} {shown}" for shown in short[asked + 1 :])


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


def test_a_title_stands_over_the_chapters_question_or_how_it_begins():
    titles = [text(deck_of(chapter)[1][0].shown) for chapter in CHAPTERS]
    assert titles[0].startswith("A diffusion model from nothing A diffusion model learns to do one small thing")
    assert all(title.endswith("?") for title in titles[1:])


def test_a_verdict_stands_under_its_claim_and_says_which_it_is(tmp_path):
    cells = [
        new_markdown_cell("## Another claim's section"),
        displaying("> **C4 · holds when.** *The $w$ is two.* So it is.\n>\n> Measured here:", ["C4-verdict"]),
        displaying("> **C5**: not checked in this tier.", ["C5-verdict"]),
    ]
    told, untold = shown_of(cells, tmp_path)
    assert text(told.shown) == r'C4: "The \(w\) is two." C4 · holds when. So it is. Measured here:'
    assert '<blockquote data-verdict="holds when">' in told.shown
    assert text(untold.shown) == "Another claim's section C5 : not checked in this tier."


def test_a_formulas_full_stop_stays_with_it(tmp_path):
    (slide,) = shown_of([new_markdown_cell("## First\n\nCall $x$ the code and the noising $q$. So.")], tmp_path)
    assert r'<span class="kept"><span class="math">\(q\)</span>.</span> So.' in slide.shown
    assert slide.shown.count("kept") == 1


def test_the_caption_of_a_tall_figure_stands_beside_it(tmp_path):
    shapes = {}
    for shape in ((1344, 600), (900, 600), (800, 600)):
        picture = io.BytesIO()
        Image.new("L", shape).save(picture, "png")
        said = new_output("display_data", {"image/png": base64.b64encode(picture.getvalue()).decode()})
        (slide,) = shown_of([new_markdown_cell("## First"), new_code_cell("draw()", outputs=[said])], tmp_path)
        assert f'width="{shape[0]}" height="{shape[1]}"' in slide.shown
        shapes[shape] = re.search(r'class="figure (\w+)"', slide.shown)[1]
    assert list(shapes.values()) == ["wide", "wide", "tall"]


def test_decks_and_their_pictures_are_written(tmp_path):
    decks = write_decks(ROOT / "notebooks", tmp_path / "slides")
    assert [deck.stem for deck in decks] == [chapter.stem for chapter in CHAPTERS]
    for deck in decks:
        for name in re.findall(r'<img src="(.+?)"', deck.read_text(encoding="utf-8")):
            assert (tmp_path / "slides" / name).read_bytes().startswith(b"\x89PNG")


def test_the_page_of_slides_leads_to_every_deck():
    page = (ROOT / "book" / "slides.md").read_text(encoding="utf-8")
    decks = re.findall(r"<li>(.+?): (.+)</li>", page)
    for (said, links), (number, chapter) in zip(decks, enumerate(CHAPTERS), strict=True):
        assert deck_of(chapter)[0].startswith(said)
        assert re.findall(r'<a href="\.\./slides/(\S+)" aria-label="(.+?)">(.+?)</a>', links) == [
            (f"{chapter.stem}.html", f"Chapter {number}, whole deck", "whole deck"),
            (f"{chapter.stem}.html?short", f"Chapter {number}, twenty minutes", "twenty minutes"),
        ]


def test_what_shows_the_slides_is_the_file_of_its_package():
    listed = dict(re.findall(r"`(?:plugin/)?([\w.]+)` \| `(\w+)`", (REVEAL / "README.md").read_text(encoding="utf-8")))
    assert listed == {
        name: hashlib.sha256((REVEAL / name).read_bytes()).hexdigest()
        for name in ("reveal.js", "reveal.css", "notes.js")
    }
    assert "MIT" in (REVEAL / "README.md").read_text(encoding="utf-8")
    assert (REVEAL / "LICENSE").read_text(encoding="utf-8").startswith("Copyright (C) 2011-2026 Hakim El Hattab")
