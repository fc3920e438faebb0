"""What tests of several modules share."""

import os

import pytest
from caches import Made, make_scenes


def pytest_configure() -> None:
    """Compute on one thread unless told otherwise: for tensors this small, several only wait.

    Runs before any test module imports torch, which reads the variable once.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A cache whose answers can be learned, with splits train, val and test (without answers)."""
    return make_scenes(tmp_path_factory.mktemp("scenes"), train=64, val=16)
