"""The README's code runs as it is printed."""

import re

import pytest
from PIL import Image

from tests.checkout import ROOT

pytestmark = pytest.mark.long

BLOCKS = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_there_is_code():
    assert len(BLOCKS) == 2


@pytest.mark.parametrize("block", BLOCKS, ids=["five lines", "the oracle"])
def test_a_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    if "garments.png" in block:
        image = Image.open(tmp_path / "garments.png").convert("L")
        assert image.size == (8 * 34 + 2, 8 * 34 + 2)
        assert 20 < sum(image.getdata()) / (image.width * image.height) < 120


def test_no_placeholder_is_left():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not re.findall(r"\b[A-Z]+_TIME\b|\bRESULTS\b", readme)
