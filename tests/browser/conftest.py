"""Chromium with the network off, and the pages of the built book in it."""

import shutil
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import sync_playwright

from tests.checkout import ROOT

HTML = ROOT / "_build" / "html"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
FAULTS_ALONE = {"preload": False, "resultTypes": ["violations"]}  # axe takes twice as long to name what is right, too
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as playwright:
        installed = shutil.which("chromium") or shutil.which("google-chrome")  # else the one that playwright installs
        browser = playwright.chromium.launch(executable_path=installed, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Open a page of the book offline; what it asks the network for and what it complains of fails the test."""
    contexts, trouble = [], []

    def open_page(name, viewport=DESKTOP, theme="light", query="", **options):
        context = chromium.new_context(viewport=viewport, offline=True, color_scheme=theme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: left_the_machine(request.url))
        page.on("pageerror", lambda error: trouble.append(f"{name}: {error}"))
        page.on("console", lambda said: trouble.append(f"{name}: {said.text}") if said.type == "error" else None)
        page.goto((HTML / f"{name}.html").as_uri() + query)
        page.wait_for_function("!window.MathJax || (MathJax.startup && MathJax.startup.promise)")
        page.evaluate("window.MathJax && MathJax.startup.promise")
        return page

    def left_the_machine(url):
        if urlsplit(url).scheme not in ("file", "data", "blob"):
            trouble.append(f"asked for {url}")

    yield open_page
    for context in contexts:
        context.close()
    assert not trouble
