import pytest

from tests.cli.commands import TRAIN, alone, done


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a run with checkpoints after its steps 2 and 4. No test may write into it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    alone(*TRAIN, "--base-channels", 32, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def vae(tmp_path_factory):
    """The folder of a variational autoencoder's run. No test may write into it."""
    folder = tmp_path_factory.mktemp("vae") / "run"
    done(*TRAIN, "--model", "vae", "--base-channels", 8, "--latent-dim", 4, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def conditional(tmp_path_factory):
    """The folder of a model that was told classes. No test may write into it."""
    folder = tmp_path_factory.mktemp("conditional") / "run"
    done(*TRAIN, "--conditional", "--base-channels", 8, "--track", "none", "--out", folder)
    return folder
