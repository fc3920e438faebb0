"""Lists and dictionaries that lie in files after a few values, as those of millions do."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from frozen_vqa.cache.large import lists


@contextmanager
def in_files(kept: int) -> Iterator[None]:
    """Let them move to a file beyond so many values, two of which are a block."""
    with patch.multiple(lists, KEPT=kept, AT_ONCE=1, BLOCK=2):
        yield
