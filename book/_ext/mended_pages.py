"""Mends what jupyter-book and docutils put on a page.

Pages load thebe twice, even where it is switched off, and from a server elsewhere. The references have the role of a
list but no list items, which confuses a screen reader.
"""


def mend(app, pagename, templatename, context, doctree):
    """Remove thebe's scripts from a page, and the role of a list from its references."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {})}".lower()
    ]
    context["body"] = context.get("body", "").replace('role="list" class="citation-list"', 'class="citation-list"')


def setup(app):
    """Register `mend` with Sphinx, to run after the extensions that add scripts."""
    app.connect("html-page-context", mend, priority=1000)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
