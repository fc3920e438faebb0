"""What tests of several modules share."""

import os
import signal

import pytest

from tests.support.caches import Made, make_scenes


def pytest_configure() -> None:
    """Compute on one thread unless told otherwise: for tensors this small, several only wait.

    Runs before any test module imports torch, which reads the variable once. And heed Ctrl-C, which
    a shell lets what runs behind a & ignore: children are sent it, and have this from here.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A cache whose answers can be learned, with splits train, val and test (without answers)."""
    return make_scenes(tmp_path_factory.mktemp("scenes"), train=64, val=16)
