"""Leads from what is cited by authors and year, such as "Ho et al. (2020)", to its entry in the references.

A citation that fits no entry, or several, stays as it is.
"""

import re
import unicodedata

from docutils import nodes

NAME = r"[^\W\d_a-z][\w'’-]+"  # with a capital
CITATION = re.compile(
    rf"(?P<who>(?:(?P<initial>[A-Z])\. )?(?P<first>{NAME})"
    rf"(?:\set\sal\.|(?P<more>(?:,\s{NAME})*),?\s(?:&|and)\s(?P<last>{NAME}))(?:['’]s)?)"
    r",?\s(?P<opens>\()?(?P<year>(?:19|20)\d\d)\b(?P<closes>(?(opens)\)?))"
)
WITHOUT_LINKS = (nodes.reference, nodes.title, nodes.literal, nodes.literal_block, nodes.math, nodes.math_block)


def fits(citation, entry):
    """Whether an entry of pybtex has the authors and the year of a citation: all, or the first of three or more."""
    people = entry.persons.get("author", [])
    if not people:  # it has an editor only
        return False
    surnames = [plain(" ".join(map(str, person.rich_last_names))) for person in people]
    if citation["last"]:
        named = [citation["first"], *re.findall(NAME, citation["more"]), citation["last"]]
        right = [plain(name) for name in named] == surnames
    else:
        right = plain(citation["first"]) == surnames[0] and (len(surnames) > 2 or surnames[-1] == "others")
    given = " ".join(map(str, people[0].rich_first_names))  # "" of a company
    return right and citation["year"] == entry.fields.get("year") and given.startswith(citation["initial"] or "")


def plain(name):
    """A name without accents, which not everybody writes."""
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


def pieces(text, entries):
    """A text in pieces, each with the key of the entry that it leads to or None; entries by key."""
    end = 0
    for citation in CITATION.finditer(text):
        keys = [key for key, entry in entries.items() if fits(citation, entry)]
        if len(keys) == 1:
            is_whole = not citation["opens"] or citation["closes"]  # unlike "Ho et al. (2020, appendix B)"
            shown = citation[0] if is_whole else citation["who"]
            yield text[end : citation.start()], None
            yield shown, keys[0]
            end = citation.start() + len(shown)
    yield text[end:], None


def link(app, doctree, docname):
    """Make the citations of a page links."""
    citations = {citation.key: citation for citation in app.env.get_domain("cite").citations}
    entries = {key: citation.entry for key, citation in citations.items()}
    for text in list(doctree.findall(nodes.Text)):
        if CITATION.search(text) and not stands_in(text, WITHOUT_LINKS):
            new = []
            for piece, key in pieces(text, entries):
                if key:
                    page, target = citations[key].bibliography_key.docname, citations[key].citation_id
                    address = f"{app.builder.get_relative_uri(docname, page)}#{target}"
                    new.append(nodes.reference("", piece, internal=True, refuri=address))
                elif piece:
                    new.append(nodes.Text(piece))
            text.parent.replace(text, new)


def stands_in(node, kinds):
    """Whether a node lies in one of these kinds."""
    while node := node.parent:
        if isinstance(node, kinds):
            return True
    return False


def setup(app):
    """Register `link` with Sphinx."""
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
