import pytest

from tests.training.garments import first_images


@pytest.fixture(scope="session")
def images():
    return first_images(50)
