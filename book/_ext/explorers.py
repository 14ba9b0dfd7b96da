"""Makes explorers of the strips that `ddpm.companion.explorers` has drawn: tells the page what they show.

A chapter shows a strip as a plain picture, so that it is seen in JupyterLab and without scripts, too.
"""

import html
import json
import re
from pathlib import Path

STRIPS = Path(__file__).parents[1] / "explorers" / "explorers.json"
PICTURE = re.compile(r'<img (?=[^>]*src="[^"]*_images/([\w-]+)\.png")')


def describe(app, pagename, templatename, context, doctree):
    """Write beside each strip of a page what it shows, and add the script that makes an explorer of it."""
    strips = json.loads(STRIPS.read_text(encoding="utf-8"))

    def described(picture):
        facts = strips.get(picture[1])
        return picture[0] if facts is None else f'<img data-explorer="{html.escape(json.dumps(facts))}" '

    body = context.get("body", "")
    context["body"] = PICTURE.sub(described, body)
    if context["body"] != body:
        app.add_js_file("explorer.js", loading_method="defer")


def setup(app):
    """Register with Sphinx."""
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
