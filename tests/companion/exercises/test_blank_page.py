"""The exercise on an empty page must know a model that learns from what only looks like one."""

import pytest
import torch
from torch import nn

from ddpm.companion.exercises import grade_model
from ddpm.companion.exercises.blank_page import blobs

T = 1000
BETA = torch.linspace(1e-4, 0.02, T)
ALPHA_BAR = torch.cumprod(1 - BETA, dim=0)


def one_step_of_training():
    weight = nn.Parameter(torch.zeros(1))
    weight.square().sum().backward()
    torch.optim.SGD([weight], 0.1).step()


def said(capsys, model, seed=0):
    grade_model(model, seed=seed)
    return capsys.readouterr().out.removeprefix("exercise, a diffusion model on an empty page: ").strip()


def trained(data, n, fresh_noise=True, steps=2000):
    """Chapter 0's model, in short."""
    network = nn.Sequential(nn.Linear(34, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)

    def guess(x, t):
        angles = t[:, None] * 10_000 ** (-torch.arange(16) / 16)
        return x + network(torch.cat([x, angles.sin(), angles.cos()], dim=1))

    for _ in range(steps):
        x0, t = data[torch.randint(len(data), (256,))], torch.randint(T, (256,))
        eps, left = torch.randn_like(x0), ALPHA_BAR[t][:, None]
        optimiser.zero_grad()
        (eps - guess(left.sqrt() * x0 + (1 - left).sqrt() * eps, t)).square().mean().backward()
        optimiser.step()
    x = torch.randn(n, 2)
    with torch.no_grad():
        for t in reversed(range(T)):
            x = (x - BETA[t] / (1 - ALPHA_BAR[t]).sqrt() * guess(x, torch.full((n,), t))) / (1 - BETA[t]).sqrt()
            if t > 0 and fresh_noise:
                x = x + BETA[t].sqrt() * torch.randn_like(x)
    return x


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_that_learns_is_right_wherever_the_blobs_are(seed, capsys):
    before = torch.get_rng_state()
    assert said(capsys, trained, seed) == "right"
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.long
def test_a_model_that_is_not_trained_or_draws_no_noise_is_not(capsys):
    assert "of its points lie on the blobs" in said(capsys, lambda data, n: trained(data, n, steps=1))
    assert said(capsys, lambda data, n: trained(data, n, fresh_noise=False)).startswith("not yet")


def with_training(points):
    def model(data, n):
        one_step_of_training()
        return points(data, n)

    return model


WRONG = {
    "These are points of the data themselves": lambda data, n: data[:n],
    "of its points lie on the blobs, where 96 %": lambda data, n: data.mean(0) + data.std(0) * torch.randn(n, 2),
    "Hardly a point lies on the blob": lambda data, n: data[data[:, 0] > 0][:n] + 1e-3,
    "All points lie in one place": lambda data, n: data[:1].expand(n, 2) + 1e-3,
    "Some of its points are not finite": lambda data, n: torch.full((n, 2), torch.nan),
    "has shape (20000, 2); asked for is a tensor of shape (1000, 2)": lambda data, n: data,
    "has type list": lambda data, n: data[:n].tolist(),
    "It raises ZeroDivisionError": lambda data, n: 1 / 0,
}


@pytest.mark.parametrize("hint", WRONG)
def test_what_only_looks_like_a_model_is_told_why(hint, capsys):
    answer = said(capsys, with_training(WRONG[hint]))
    assert answer.startswith("not yet. ")
    assert hint in answer
    assert "1 step of training" in answer


def test_points_without_a_training_are_not_right(capsys):
    jittered = said(capsys, lambda data, n: data[:n] + 0.05 * torch.randn(n, 2))
    assert jittered.startswith("not yet. No optimiser has made a step")
    assert said(capsys, lambda data, n: None) == "not written yet"
    silent = said(capsys, lambda data, n: print(end=""))
    assert silent.startswith("not yet. It returns nothing: is there a `return` on every way through it?")


def test_blobs_move_with_the_seed_and_hold_the_data():
    places = {tuple(blobs(seed)[1].flatten().tolist()) for seed in range(10)}
    assert len(places) == 10
    data, centres = blobs(3)
    near = torch.cdist(data, centres) < 0.5
    assert near.any(1).float().mean() == pytest.approx(0.956, abs=0.01)
    assert near.float().mean(0) == pytest.approx(torch.full((len(centres),), 0.956 / len(centres)), abs=0.02)
