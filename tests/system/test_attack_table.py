"""Every forged input of `forged_table.py`: refused in a sentence, or used without any harm."""

from pathlib import Path

import pytest

from tests.support import tiny_commands
from tests.support.forged import run_case
from tests.support.forged_table import FORGED

_home = tiny_commands._home  # a fixture that is in force in every test

CASES = [(kind, name) for kind, cases in FORGED.items() for name in cases]
EVERY = 120
"""One in so many runs by default, all of them under the marker `slow`."""


def test_there_are_many() -> None:
    assert len(CASES) >= 400


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, name, marks=[] if at % EVERY == 0 else pytest.mark.slow)
        for at, (kind, name) in enumerate(CASES)
    ],
)
def test_a_forged_input_does_no_harm(kind: str, name: str, tmp_path: Path) -> None:
    run_case(kind, FORGED[kind][name], tmp_path)
