"""What tests of several modules share."""

import pytest
from caches import Made, make_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A cache whose answers can be learned, with splits train, val and test (without answers)."""
    return make_scenes(tmp_path_factory.mktemp("scenes"), train=64, val=16)
