"""What the tests of whole commands share."""

from pathlib import Path

import pytest

from tests.support.command_lines import make_inputs
from tests.support.tiny_commands import at_home, extract, train


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache, a run, and files for every command (`working_lines`).

    Tests add evaluations to the run, and change nothing else.
    """
    place = tmp_path_factory.mktemp("place")
    with at_home(tmp_path_factory):
        for found in (extract(place, "--split", "train", "--split", "val"), train(place)):
            assert found.code == 0, found.err
    make_inputs(place)
    return place
