"""Mend what jupyter-book and docutils put on a page.

Thebe is loaded even where it is switched off, twice, and names a server. References are a list without items to those
who have the page read to them.
"""


def mend(app, pagename, templatename, context, doctree):
    """Take thebe's scripts off a page, and the role of a list off its references."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {})}".lower()
    ]
    context["body"] = context.get("body", "").replace('role="list" class="citation-list"', 'class="citation-list"')


def setup(app):
    """Register with Sphinx, after those who add scripts."""
    app.connect("html-page-context", mend, priority=1000)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
