"""The chapters' explorers: the strips are what the models draw, and what the chapters say of them is so."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.companion import explorers
from ddpm.companion.explorers import EXPLORERS
from tests.checkout import ROOT

FOLDER = ROOT / "book" / "explorers"
SIDE, COLUMNS, LINE, GAP = 32, 4, 4, 4
#: The settings that are drawn again: those that take little time.
AGAIN = {"walk": (1000, 950), "between": (50,), "told-time": (1, 300), "depth": (300,), "calls": (1, 3, 9)}
AGAIN |= {"weight": (3,), "class": (3,), "few-calls": (1, 4)}


def blocks(strip, settings):
    """The grey levels of a strip: (settings, rows, columns, height, width), from -1 to 1."""
    pixels = torch.from_numpy(np.array(strip, dtype=np.float32)) / 127.5 - 1
    lines, right = -(-settings // LINE), COLUMNS * SIDE + GAP
    down = (len(pixels) + GAP) // lines
    corners = [(i // LINE * down, i % LINE * right) for i in range(settings)]
    parts = [pixels[top : top + down - GAP, left : left + right - GAP] for top, left in corners]
    return torch.stack(parts).unflatten(2, (COLUMNS, SIDE)).unflatten(1, (-1, SIDE)).transpose(2, 3)


def shown(name):
    """The rows of an explorer: each (settings, columns, height, width)."""
    return blocks(Image.open(FOLDER / f"{name}.png"), len(EXPLORERS[name].settings)).unbind(1)


def at(name, setting):
    return list(EXPLORERS[name].settings).index(setting)


@pytest.mark.long
@pytest.mark.parametrize("name", EXPLORERS)
def test_a_strip_is_what_the_models_draw(name):
    explorer = EXPLORERS[name]
    with torch.no_grad():
        drawn = blocks(explorers.strip(explorer.draw(AGAIN[name])), len(AGAIN[name]))
    kept = torch.stack(shown(name), dim=1)[[at(name, setting) for setting in AGAIN[name]]]
    assert (drawn - kept).abs().max() < 3 / 127.5  # levels: they differ by machine


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_strip_is_small_and_the_page_knows_what_it_shows(name):
    facts = json.loads((FOLDER / "explorers.json").read_text(encoding="utf-8"))
    assert facts.keys() == EXPLORERS.keys()
    assert facts[name] == EXPLORERS[name].facts()
    assert facts[name]["block"] == [COLUMNS * SIDE, SIDE * len(facts[name]["rows"])]
    lines = -(-len(facts[name]["settings"]) // LINE)
    height = lines * (facts[name]["block"][1] + GAP) - GAP
    assert Image.open(FOLDER / f"{name}.png").size == (LINE * (COLUMNS * SIDE + GAP) - GAP, height)
    assert (FOLDER / f"{name}.png").stat().st_size < 300_000


def test_every_chapter_has_an_explorer():
    found = {
        path.name: re.findall(r"\(\.\./book/explorers/([\w-]+)\.png\)", path.read_text(encoding="utf-8"))
        for path in (ROOT / "notebooks").glob("*.ipynb")
    }
    assert all(found.values())
    assert sorted(name for names in found.values() for name in names) == sorted(EXPLORERS)


def test_a_name_that_is_none_is_refused_before_anything_is_drawn():
    with pytest.raises(ValueError, match="name is 'depths'; legal are walk, between"):
        explorers.main(["walk", "depths"])


# What the chapters say of them.


def likeness(a, b):
    """Correlation between the pixels of paired pictures."""
    a, b = (x.flatten(-2) - x.flatten(-2).mean(-1, keepdim=True) for x in (a, b))
    return torch.nn.functional.cosine_similarity(a, b, dim=-1)


def roughness(pictures):
    """Mean squared step from a pixel to the one below it, for each picture."""
    return pictures.diff(dim=-2).square().mean((-2, -1))


def test_at_first_the_network_sees_one_blur_in_all_four():
    _, seen = shown("walk")
    others = seen.roll(1, 1)
    assert likeness(seen[0], others[0]).min() > 0.99
    assert likeness(seen[-1], others[-1]).max() < 0.8
    assert roughness(seen[0]).max() < roughness(seen[-1]).min() / 3


def test_told_too_early_it_leaves_noise_in_and_told_too_late_it_takes_more_away():
    noised, seen = shown("told-time")
    rough = roughness(seen).mean(1)
    assert rough[0] > 0.8 * roughness(noised)[0].mean()
    assert torch.equal(rough, rough.sort(descending=True).values)


def test_with_its_own_noise_a_garment_comes_back_from_every_depth():
    before, _, fresh, own = shown("depth")
    assert likeness(before, own).min() > 0.95
    assert likeness(before, fresh)[0].min() > 0.95
    assert likeness(before, fresh)[-1].median() < 0.6


def test_deterministic_samplers_settle_and_ancestral_sampling_does_not():
    one, most = at("calls", 1), at("calls", 99)
    every = torch.stack(shown("calls"))
    assert likeness(every[:, one], every[:1, one]).min() > 0.999
    ancestral, *deterministic = every
    for pictures in deterministic:
        changes = (1 - likeness(pictures[1:], pictures[:-1])).mean(1)
        assert changes[-1] < changes[1] < changes[0]
        assert likeness(pictures[at("calls", 15)], pictures[most]).min() > 0.9
    assert likeness(ancestral[at("calls", 15)], ancestral[most]).median() < 0.7


def test_a_small_weight_adds_contrast_and_a_large_one_makes_another_picture():
    little, large = at("weight", 1.6), at("weight", 8)
    for pictures in shown("weight"):
        assert pictures[little].std() > pictures[0].std()
        assert likeness(pictures[little], pictures[0]).mean() > 0.7 > 0.5 > likeness(pictures[large], pictures[0]).min()


def test_a_student_asked_for_more_calls_draws_speckles():
    teacher, student = shown("few-calls")
    four, most = at("few-calls", 4), at("few-calls", 32)
    assert (roughness(student[most]) / roughness(student[four])).min() > 1.3
    assert (roughness(teacher[most]) / roughness(student[most])).max() < 0.8


def test_asked_for_more_loudly_garments_grow_light_and_alike():
    def variety(pictures):
        return (pictures[:, :, None] - pictures[:, None]).square().mean((-2, -1)).sum((1, 2)) / 12

    for name in ("T-shirt", "ankle boot"):
        pictures = shown("class")[explorers.ASKED.index(name)]
        light = torch.stack([garments[garments > -0.8].mean() for garments in pictures])
        assert torch.equal(light, light.sort().values)
        assert variety(pictures)[at("class", 8)] < 0.7 * variety(pictures)[at("class", 1)]
    second = shown("class")[0][:, 1, 10:22, 10:22]
    rough = roughness(second)
    assert rough[at("class", 8)] < rough[at("class", 1)] / 4
