"""Leave out thebe: jupyter-book loads it even where it is switched off, twice, and it names a server."""


def drop(app, pagename, templatename, context, doctree):
    """Take its scripts off a page."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {})}".lower()
    ]


def setup(app):
    """Register with Sphinx, after those who add scripts."""
    app.connect("html-page-context", drop, priority=1000)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
