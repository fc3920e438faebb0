"""Reading annotation and results files of any official layout.

    JSON         a list of entries, the list under a key, or an object of entries by id
    JSON lines   an entry a line, whatever the file is called
    other text   a line each, such as CSV

One bad entry refuses the file, because a score must be of exactly the questions that were asked.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from frozen_vqa.cache.disk.files import open_regular, read_file
from frozen_vqa.cache.typed_json import UnfitValueError, decode
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.metrics.metric import Annotation, Layout
from frozen_vqa.pipeline.sources.example import Id
from frozen_vqa.pipeline.sources.strict_json import LARGEST, NotJsonError, parse_json, read_json
from frozen_vqa.pipeline.sources.validation import shown

SHOWN = 5
_HEAD = 1 << 16
LINES = (".jsonl", ".ndjson")
"""Files whose only line is a list of one object, and not the object."""

_RIGHT_FILE = "Check that this is the right file."


def read_content(path: Path) -> Any:
    """Return the value of a JSON file, the list of those of JSON lines, or the lines of a text.

    Lines stay texts, in a tuple, so that they are told from a list of texts in JSON.

    Raises:
        SourceError: if the file cannot be read as what its first bytes say it is.
    """
    head = _head(path).removeprefix(b"\xef\xbb\xbf").lstrip()
    first, _, rest = head.partition(b"\n")
    if head[:1] in (b"[", b"{", b"\x1f", b'"', b""):  # \x1f: gzip
        several = rest.strip() or path.suffix.lower() in LINES  # one line may be all lines
        if not (several and _is_object(first)):
            return read_json(path)
        return [_parse(path, i, line) for i, line in enumerate(_lines(path), 1) if line.strip()]
    return tuple(_lines(path))


def _head(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(_HEAD)
    except (OSError, ValueError):  # ValueError: a path with a NUL
        return b""  # `read_json` says what is wrong


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line.decode()), dict)
    except ValueError:  # NotJsonError, UnicodeDecodeError
        return False


def _lines(path: Path) -> list[str]:
    try:
        text = read_file(path, most=LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path}: byte {error.start} is not UTF-8; a text in UTF-8 is needed. Save it as UTF-8."
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"{path}: reading failed ({reason}); a readable file is needed. Check the path."
        ) from error
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines  # the last line may end or not


def _parse(path: Path, number: int, line: str) -> Any:
    try:
        return parse_json(line)
    except NotJsonError as error:
        raise SourceError(
            f"{path}: line {number}: {error}; JSON lines are needed. {error.remedy}"
        ) from None


def entries_of(content: Any, layout: Layout) -> Sequence[Any] | None:
    """Return the entries of an annotation file as this layout has them; None if it is another."""
    if isinstance(content, tuple):
        return layout.lines(content) if layout.lines else None
    if layout.lines:
        return None
    if layout.place:
        content = content.get(layout.place) if isinstance(content, dict) else None
    elif isinstance(content, dict):
        content = [
            {**entry, layout.id_key: name}
            for name, entry in content.items()
            if isinstance(entry, dict)
        ]
    if not isinstance(content, list):
        return None
    if layout.parts:
        try:
            return [part for one in content for part in layout.parts(one)]
        except (TypeError, KeyError, AttributeError):
            return None
    return content


def find_layout(content: Any, layouts: Sequence[Layout]) -> Layout | None:
    """Return the layout whose required keys the first entry has; the one with most of them."""
    found: list[tuple[int, Layout]] = []
    for layout in layouts:
        entries = entries_of(content, layout)
        keys = layout.form.__required_keys__
        if entries and isinstance(entries[0], dict) and keys <= entries[0].keys():
            found.append((len(keys), layout))
    return max(found, key=lambda one: one[0])[1] if found else None


def annotations_of(path: Path, content: Any, layout: Layout) -> list[Annotation]:
    """Return the annotations of a file in their order.

    Raises:
        SourceError: if an entry does not fit the layout, an id occurs twice, or there is none.
    """
    entries = entries_of(content, layout)
    if not entries:
        place = f" under {layout.place!r}" if layout.place else ""
        raise SourceError(
            f"{path}: there are no entries{place}; an annotation file of {layout.metric} is "
            f"needed. {_RIGHT_FILE}"
        )
    known = layout.form.__annotations__

    def read(entry: Any) -> Annotation:
        some = {k: v for k, v in entry.items() if k in known} if isinstance(entry, dict) else entry
        return layout.annotation(decode(layout.form, some))

    found = each(path, entries, read, f"entries in the layout of {layout.metric} are")
    if not layout.id_key:
        found = [_at(one, place) for place, one in enumerate(found)]
    require_once(path, [one.question_id for one in found])
    return found


def _at(annotation: Annotation, place: int) -> Annotation:
    return replace(annotation, question_id=place)


def each(
    path: Path, entries: Sequence[Any], read: Callable[[Any], Annotation], need: str
) -> list[Annotation]:
    """Return what `read` makes of each entry; raise `SourceError` that shows the first faults."""
    found, faults = [], []
    for place, entry in enumerate(entries):
        try:
            found.append(read(entry))
        except (UnfitValueError, ValueError, LookupError) as error:
            faults.append(f"entry {place}: {error}")
    if faults:
        refuse(path, faults, len(entries), need)
    return found


def refuse(path: Path, faults: Sequence[str], entries: int, need: str) -> None:
    """Raise `SourceError` for the faults of some entries."""
    more = ", …" if len(faults) > SHOWN else ""
    raise SourceError(
        f"{path}: {len(faults):,} of {entries:,} entries cannot be used: "
        f"{', '.join(faults[:SHOWN])}{more}; {need} needed. Correct these entries (counted from 0)."
    )


def require_once(path: Path | str, ids: Sequence[Id]) -> None:
    """Raise `SourceError` if an id occurs twice, as text."""
    names = set(map(str, ids))
    if len(names) == len(ids):
        return
    counts = Counter(map(str, ids))
    twice = list({str(i): i for i in ids if counts[str(i)] > 1}.values())
    raise SourceError(
        f"{path}: {len(twice)} question ids occur more than once: {some(twice)}; each id "
        "once is needed. Remove the repeats."
    )


def some(items: Sequence[object]) -> str:
    """Return the first items for a message."""
    listed = ", ".join(f"{item!r:.80}" for item in items[:SHOWN])
    return f"{listed}, …" if len(items) > SHOWN else listed


def results_of(path: Path, content: Any, layout: Layout) -> list[tuple[Id, Mapping[str, Any]]]:
    """Return id and entry of each prediction in a results file, in its order.

    Raises:
        SourceError: if the file or an entry is in no form that the layout has.
    """
    if isinstance(content, tuple):
        if layout.line is None:
            raise SourceError(f"{path}: {_need(layout, 'lines that are no JSON')}")
        content = [layout.line(line) for line in content]
    if isinstance(content, dict):
        content = [
            {
                **(value if isinstance(value, dict) else {layout.answer_key: value}),
                layout.id_key: name,
            }
            for name, value in content.items()
        ]
    if not isinstance(content, list):
        raise SourceError(f"{path}: {_need(layout, shown(content))}")
    pairs: list[tuple[Id, Mapping[str, Any]]] = []
    faults = []
    for place, entry in enumerate(content):
        if not layout.id_key and not isinstance(entry, dict):
            entry = {layout.answer_key: entry}
        name = (
            entry.get(layout.id_key, entry.get("question_id")) if isinstance(entry, dict) else None
        )
        name = place if name is None and not layout.id_key else name
        if not isinstance(entry, dict) or type(name) not in (int, str):
            faults.append(f"entry {place} is {shown(entry)} without {layout.id_key!r}")
        pairs.append((cast(Id, name), cast(Mapping[str, Any], entry)))
    if faults:
        refuse(path, faults, len(content), f"an object with {layout.id_key!r} is")
    return pairs


def _need(layout: Layout, found: str) -> str:
    return (
        f"found {found}; a results file of {layout.metric or 'VQAv2'} is needed. "
        "Write the official results format."
    )
