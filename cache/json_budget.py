"""How many values a JSON text may hold: in memory a value takes up to a hundred bytes."""

FREE_VALUES = 2_000_000
"""Values that any text may hold, whatever its length."""


class TooManyValuesError(ValueError):
    """JSON holds more values than its length lets expect."""


def require_few_values(text: str | bytes, *, bytes_each: int) -> None:
    """Raise `TooManyValuesError` if values have fewer than `bytes_each` bytes on average.

    Brackets and commas are counted, those within texts too, because each value needs one. A file of
    63 MB that is nothing but brackets would take two gigabytes.
    """
    if len(text) <= FREE_VALUES:
        return
    most = FREE_VALUES + len(text) // bytes_each
    if isinstance(text, str):
        found = sum(text.count(mark) for mark in "[{,")
    else:
        found = sum(text.count(mark) for mark in b"[{,")
    if found > most:
        raise TooManyValuesError(
            f"it holds {found:,} values, and a text of this length may hold {most:,}"
        )
