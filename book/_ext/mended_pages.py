"""Mends what jupyter-book, autodoc and docutils put on a page.

Pages load thebe twice, even where it is switched off, and from a server elsewhere. The references have the role of a
list but no list items, which confuses a screen reader. A line may end between a formula and its full stop. The theme
fails where launch buttons are set and no repository is named, which is how the book is until it is forked. The page of
the package describes a named tuple's fields as "Alias for field number 0", gives protocols a constructor, and has no
words for the defaults of dataclasses that are made anew for each.
"""

import re

FORMULA_AND_STOP = re.compile(r'\(?<span class="math notranslate nohighlight">[^<]*</span>[.,;:?!)]+')


def mend(app, pagename, templatename, context, doctree):
    """Remove thebe's scripts and the references' role of a list; keep a formula and the stop behind it on one line."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {})}".lower()
    ]
    body = context.get("body", "").replace('role="list" class="citation-list"', 'class="citation-list"')
    context["body"] = FORMULA_AND_STOP.sub(r'<span class="together">\g<0></span>', body)


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
    app.connect("html-page-context", mend, priority=1000)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
