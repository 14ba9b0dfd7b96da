import pytest

from ddpm import data


@pytest.fixture(scope="session")
def test_split():
    """The 2,000 embedded test images."""
    return data.load("fashion-mnist-embedded", "test", quiet=True)
