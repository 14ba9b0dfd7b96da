"""Mends what jupyter-book, autodoc and docutils put on a page.

Pages load thebe twice, even where it is switched off, and from a server elsewhere. The references have the role of a
list but no list items, which confuses a screen reader; and it calls every folded cell "Toggle hidden content", whatever
the cell's own words are. A line may end between a formula and its full stop, or between a number and its per cent sign
or its spread. HTML that stands in a chapter keeps straight apostrophes. The first page has the book's title twice, and
no page says to search engines what it is about. Next and previous are those of the contents, which number the chapters,
and not those of the order in which they are to be read. A chapter's title does not say which chapter it is. The book's
own address is a redirection without a title. The theme fails where launch buttons are set and no repository is named,
which is how the book is until it is forked. The page of the package describes a named tuple's fields as "Alias for
field number 0", gives protocols a constructor, and has no words for the defaults of dataclasses that are made anew for
each.
"""

import html
import re
from pathlib import Path

from docutils import nodes

FORMULA_AND_STOP = re.compile(r'\(?<span class="math notranslate nohighlight">[^<]*</span>[.,;:?!)]+')
#: The chapters in the order in which they are to be read, as `book/start.md` says.
READ = (
    "notebooks/00_from_nothing",
    "notebooks/03_round_trip",
    "notebooks/04_samplers",
    "notebooks/01_generative_models",
    "notebooks/02_unet_dimensions",
    "notebooks/05_guidance",
    "notebooks/06_flows",
)
VERDICT = re.compile(r"<blockquote>(?=\s*<div><p><strong>\w+ · ([\w ]+)\.</strong>)")
#: Code, scripts, formulas and tags, which stay as they are, or the text between two tags.
PIECE = re.compile(
    r'<(?P<name>pre|code|script|style)\b.*?</(?P=name)>|<(?P<math>span|div) class="math\b.*?</(?P=math)>|<[^>]*>'
    r"|(?P<text>[^<]+)",
    re.DOTALL,
)


def mend(app, pagename, templatename, context, doctree):
    """Remove thebe's scripts, a role and a label; mend the text, the first page's title and the description."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {})}".lower()
    ]
    body = context.get("body", "").replace('role="list" class="citation-list"', 'class="citation-list"')
    body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    body = FORMULA_AND_STOP.sub(r'<span class="together">\g<0></span>', body)
    body = VERDICT.sub(r'<blockquote data-verdict="\1">', body)
    context["body"] = PIECE.sub(lambda piece: mended_text(piece[0]) if piece["text"] else piece[0], body)
    if chapter := number(pagename):
        context["title"] = f"{chapter}. {context['title']}"
        context["body"] = context["body"].replace("<h1>", f'<p class="chapter">Chapter {chapter}</p>\n<h1>', 1)
    if pagename == context.get("root_doc"):
        context["docstitle"] = ""
    about = description(doctree) if doctree else ""
    if about and 'name="description"' not in context["metatags"]:
        context["metatags"] += f'\n<meta name="description" content="{html.escape(about)}" />'
        title = html.escape(html.unescape(re.sub("<[^>]*>", "", context["title"])))
        for name, content in (("title", title), ("description", html.escape(about)), ("type", "article")):
            context["metatags"] += f'\n<meta property="og:{name}" content="{content}" />'


def lead(app, pagename, templatename, context, doctree):
    """Lead from chapter to chapter in the order in which they are to be read."""
    if pagename not in READ or not set(READ) <= set(app.env.titles):  # a fork may have other chapters
        return
    for name, step in (("prev", -1), ("next", 1)):
        place = READ.index(pagename) + step
        if 0 <= place < len(READ):  # else it stays the page before or after all chapters
            title = app.builder.render_partial(app.env.titles[READ[place]])["title"]
            link = app.builder.get_relative_uri(pagename, READ[place])
            context[name] = {"link": link, "title": f"{number(READ[place])}. {title}"}


def number(pagename):
    """The number of a chapter, "0" and so on, or None of a page that is no chapter."""
    chapter = re.fullmatch(r"notebooks/0?(\d+)_\w+", pagename)
    return chapter and chapter[1]


def write_start(app, error):
    """Give the book's own address, which leads to the first page, a title, a language and a description."""
    if error is None and app.builder.name == "html":
        title, first = html.escape(app.config.html_title or app.config.project), f"{app.config.root_doc}.html"
        about = html.escape(description(app.env.get_doctree(app.config.root_doc)))
        (Path(app.outdir) / "index.html").write_text(
            f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<meta name="description" content="{about}">
<meta property="og:title" content="{title}">
<meta property="og:description" content="{about}">
<meta http-equiv="refresh" content="0; url={first}">
<link rel="canonical" href="{first}">
<a href="{first}">{title}</a>
""",
            encoding="utf-8",
        )


def mended_text(text):
    """Text whose numbers keep their per cent sign and their spread on one line, and whose apostrophes are curly."""
    text = re.sub(r"(?<=\d)\s(?=%)|\s(?=±)|(?<=±)\s", "\u00a0", text)
    return re.sub(r"(?<=\w)'(?=\w)", "’", text)


def description(doctree, length=300):
    """The first sentences, up to so many characters, of the first paragraph below a page's title, or ""."""
    section = doctree.next_node(nodes.section)
    for paragraph in section.children if section else []:
        if isinstance(paragraph, nodes.paragraph) and not any(paragraph.findall(nodes.math)):
            shown = ""
            for sentence in re.split(r"(?<=[.?!]) ", " ".join(paragraph.astext().split())):
                if sentence.endswith(":") or (shown and len(shown) + len(sentence) > length):
                    break
                shown = f"{shown} {sentence}".strip()
            return shown
    return ""


def leave_out_buttons(app, config):
    """Without a repository there is nothing for launch buttons to open."""
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options.pop("launch_buttons", None)


def is_left_out(app, kind, name, member, skip, options):
    """Whether a member stays off the page of the package, as a named tuple's field does; None for no opinion."""
    return (getattr(member, "__doc__", None) or "").startswith("Alias for field number") or None


def mended_signature(app, kind, name, member, options, signature, returned):
    """What is shown as a signature: none of a protocol, "..." for a default made anew; None for no change."""
    if getattr(member, "_is_protocol", False):
        return "", returned
    return (signature.replace("<factory>", "..."), returned) if "<factory>" in (signature or "") else None


def setup(app):
    """Register with Sphinx: `mend` runs after the extensions that add scripts."""
    app.connect("autodoc-process-signature", mended_signature)
    app.connect("autodoc-skip-member", is_left_out)
    app.connect("config-inited", leave_out_buttons)
    app.connect("html-page-context", lead)
    app.connect("html-page-context", mend, priority=1000)
    app.connect("build-finished", write_start, priority=1000)  # after the redirection is written
    return {"parallel_read_safe": True, "parallel_write_safe": True}
