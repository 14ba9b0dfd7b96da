import pytest

from tests.cli.commands import done, refusal

pytestmark = pytest.mark.long


def test_a_distance_comes_with_how_it_was_measured(trained):
    said = done("evaluate", "--model", trained, "--n", 65, "--steps", 1).stdout
    assert "ddim, eta 0, 1 steps, trailing grid, seed 0: Frechet distance" in said


def test_a_distance_says_which_model_guided(trained):
    said = done("evaluate", "--model", trained, "--n", 65, "--steps", 1, "--guide", "equal-diffusion").stdout
    assert "trailing grid, guided by equal-diffusion with weight 1.6, seed 0: Frechet distance" in said


def test_an_early_checkpoint_of_the_run_can_guide_it(trained):
    early = trained / "checkpoints" / "step-00000002"
    said = done("evaluate", "--model", trained, "--n", 65, "--steps", 1, "--guide", early, "--weight", 2).stdout
    assert f"trailing grid, guided by {early} with weight 2, seed 0: Frechet distance" in said


def test_a_model_that_draws_in_one_call_has_a_distance(vae):
    assert "one call, seed 0: Frechet distance" in done("evaluate", "--model", vae, "--n", 65).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", 10], "n is 10; a Frechet distance over 64 features needs more than that"),
        (["--model", "nowhere"], "model is 'nowhere'; legal are equal-autoencoder"),
        (["--sampler", "ddpm"], "did you mean ancestral?"),
        (["--guide", "equal-gan"], "only diffusion models guide and are guided"),
        (["--weight", 2], "weight is 2; it needs a --guide"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal(["evaluate", *arguments], tmp_path)
