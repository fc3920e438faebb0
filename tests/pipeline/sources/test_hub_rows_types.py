"""Every type of Arrow in every place: what was written is read, or the type is refused."""

import datetime
import decimal
import json
import re
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import VqaExample
from frozen_vqa.pipeline.sources.hub import HubSource
from frozen_vqa.pipeline.sources.hub_files import Layout, TableRows
from tests.support.hub_data import png

DAY = datetime.date(2020, 1, 2)
MOMENT = datetime.datetime(2020, 1, 2, 3, 4)
INTS = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
INTS += [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
TEXTS += [pa.dictionary(pa.int32(), pa.large_string()), pa.run_end_encoded(pa.int16(), pa.string())]
BYTES = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int8(), pa.binary())]
PLAIN: list[tuple[pa.DataType, Any]] = [
    (pa.null(), None),
    (pa.bool_(), True),
    *((kind, 5) for kind in INTS),
    (pa.dictionary(pa.int8(), pa.int64()), 5),
    *((kind, 0.5) for kind in (pa.float16(), pa.float32(), pa.float64())),
    *((kind, decimal.Decimal("1.50")) for kind in (pa.decimal128(9, 2), pa.decimal256(9, 2))),
    *((kind, decimal.Decimal("1.50")) for kind in (pa.decimal32(9, 2), pa.decimal64(9, 2))),
    *((kind, "a text") for kind in TEXTS),
    *((kind, png("red")) for kind in BYTES),
    (pa.binary(4), b"abcd"),
    *((kind, DAY) for kind in (pa.date32(), pa.date64())),
    *((pa.timestamp(unit), MOMENT) for unit in ("s", "ms", "us", "ns")),
    (pa.timestamp("us", "UTC"), MOMENT),
    (pa.time32("s"), datetime.time(1, 2)),
    (pa.time64("us"), datetime.time(1, 2)),
    *((pa.duration(unit), datetime.timedelta(seconds=3)) for unit in ("s", "ns")),
    (pa.month_day_nano_interval(), pa.MonthDayNano([1, 2, 3])),
    (pa.map_(pa.string(), pa.string()), [("answer", "a")]),
    (pa.struct({"text": pa.string()}), {"text": "a"}),
    (pa.struct({"answer": pa.int64()}), {"answer": 1}),
    (pa.struct({"answer": pa.list_(pa.bool_())}), {"answer": [True]}),
    (pa.struct({"answer": pa.large_string(), "nr": pa.float16()}), {"answer": "a", "nr": 1.0}),
    (pa.struct({"answer": pa.large_list(pa.string())}), {"answer": ["a", "b"]}),
    (pa.struct({"bytes": pa.large_binary(), "path": pa.null()}), {"bytes": b"a", "path": None}),
    (pa.struct({"bytes": pa.list_(pa.uint8())}), {"bytes": [1]}),
    (pa.dense_union([pa.field("0", pa.string())]), "a"),
    (pa.sparse_union([pa.field("0", pa.string())]), "a"),
    (pa.uuid(), uuid.UUID(int=7).bytes),
    (pa.bool8(), 1),
    (pa.opaque(pa.string(), "a", "b"), "a"),
    (pa.fixed_shape_tensor(pa.int32(), [2]), [1, 2]),
    (pa.json_(), '"a text"'),
]
WRAPPERS: list[Callable[[pa.DataType], pa.DataType]] = [pa.list_, pa.large_list, pa.list_view]
WRAPPERS += [pa.large_list_view, lambda kind: pa.list_(kind, 2)]
LISTS = [
    (wrap(kind), [value, value])
    for wrap in WRAPPERS
    for kind, value in [
        (pa.string(), "a"),
        (pa.dictionary(pa.int8(), pa.string()), "a"),
        (pa.int64(), 1),
        (pa.timestamp("s"), MOMENT),
        (pa.list_(pa.string()), ["a"]),
        (pa.struct({"answer": pa.large_string()}), {"answer": "a"}),
        (pa.struct({"answer": pa.int8()}), {"answer": 1}),
        (pa.struct({"text": pa.string()}), {"text": "a"}),
        (pa.struct({"answer": pa.list_(pa.string())}), {"answer": ["a"]}),
    ]
]
CASES = PLAIN + LISTS
NOT_IN_PARQUET = {"run_end_encoded", "month_day_nano_interval", "dense_union", "sparse_union"}
FIELDS = ("question", "answers", "question_type", "answer_type", "question_id", "image_id", "image")


def array_of(kind: pa.DataType, value: Any) -> pa.Array:
    """Two equal values of a type that pyarrow may not make from Python."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, array_of(kind.storage_type, value))
    if pa.types.is_run_end_encoded(kind):
        return pa.RunEndEncodedArray.from_arrays(pa.array([2], kind.run_end_type), [value])
    if pa.types.is_union(kind):
        child, types = pa.array([value] * 2), pa.array([0, 0], pa.int8())
        if kind.mode == "dense":
            return pa.UnionArray.from_dense(types, pa.array([0, 1], pa.int32()), [child], ["0"])
        return pa.UnionArray.from_sparse(types, [child], ["0"])
    return pa.array([value] * 2, kind)


def read(folder: Path, table: pa.Table, *, mapped: bool) -> tuple[list[VqaExample], HubSource]:
    """Read a table from parquet, or as an Arrow file gives it."""
    source = HubSource(str(folder))
    if mapped:
        source._layout = Layout(["train"], lambda split: [TableRows("a.arrow", table, {})])
    else:
        pq.write_table(table, folder / "train.parquet")
    return source.examples("train"), source


def expected(field: str, kind: pa.DataType, value: Any) -> Any:
    """Return what a field holds, or None if its type does not fit."""
    plain = kind.value_type if kind.id in (29, 38) else kind  # dictionary, run-end encoded
    is_text = plain in (pa.string(), pa.large_string(), pa.string_view())
    if field == "image":
        if isinstance(value, dict):
            return value["bytes"] if value.get("bytes") == b"a" else None
        return value.encode() if is_text else value if kind in BYTES else None
    if isinstance(kind, pa.JsonType):
        value, is_text = "a text", True
    if field in ("question_id", "image_id"):
        return value if is_text or plain in INTS else None
    if field != "answers":
        return "" if kind == pa.null() and field != "question" else value if is_text else None
    if kind == pa.null():
        return ()
    if isinstance(value, dict):
        value = value.get("answer")
        value = [value] if isinstance(value, str) else value
    elif is_text:
        value = [value]
    if isinstance(value, list):
        texts = [one.get("answer") if isinstance(one, dict) else one for one in value]
        return tuple(texts) if all(isinstance(one, str) for one in texts) else None
    return None


def is_in_parquet(kind: pa.DataType) -> bool:
    """Whether pyarrow writes a type to parquet; the others only an Arrow file can hold."""
    return str(kind).split("<")[0] not in NOT_IN_PARQUET


def test_parquet_lacks_these_types_and_no_others() -> None:
    for kind, value in CASES:
        table = pa.table({"a": array_of(kind, value)})
        with nullcontext() if is_in_parquet(kind) else pytest.raises(pa.ArrowNotImplementedError):
            pq.write_table(table, pa.BufferOutputStream())


def test_the_table_has_every_type_of_arrow() -> None:
    made = {kind.id for kind, _ in CASES}
    lacking = {"INTERVAL_MONTHS", "INTERVAL_DAY_TIME"}  # pyarrow cannot make them
    names = [n for n in dir(pa.lib) if n.startswith("Type_") and n != "Type_MAX_ID"]
    assert {n for n in names if getattr(pa.lib, n) not in made} <= {f"Type_{n}" for n in lacking}


@pytest.mark.parametrize("mapped", [False, True], ids=["parquet", "arrow"])
@pytest.mark.parametrize("field", FIELDS)
def test_each_type_is_read_as_written_or_refused_by_name(
    tmp_path: Path, field: str, mapped: bool
) -> None:
    for number, (kind, value) in enumerate(CASES):
        if not (mapped or is_in_parquet(kind)):
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        columns = {"question": ["q?"] * 2, "answers": ["x"] * 2, "image": [png("red")] * 2}
        columns |= {"question_id": [1, 2], "image_id": [1, 1]}
        table = pa.table({**columns, field: array_of(kind, value)})
        want, error = expected(field, kind, value), ""
        try:
            examples, source = read(folder, table, mapped=mapped)
        except SourceError as refused:
            error = str(refused)
        if want is None:
            held = kind if mapped else pq.read_schema(folder / "train.parquet").field(field).type
            assert re.search(rf"column '{field}' of .*\S holds {re.escape(str(held))}, ", error)
        else:
            content = source._pictures["train"].content(0)
            assert (content if field == "image" else getattr(examples[0], field)) == want, kind


def test_other_columns_may_have_any_type(tmp_path: Path) -> None:
    columns = {"question": ["q?"] * 2, "answers": ["x"] * 2, "image": [png("red")] * 2}
    others = {f"c{number}": array_of(*case) for number, case in enumerate(CASES)}
    assert len(read(tmp_path, pa.table({**columns, **others}), mapped=True)[0]) == 2


CLASSES = ["ant", "bee", "cat"]


@st.composite
def nested(draw: st.DrawFn) -> tuple[pa.DataType, Any, list[Any], list[tuple[str, ...]]]:
    """A column of answers: its type, its note of `datasets`, its values, and what they mean.

    The storage may differ from the one that the note implies.
    """
    classes = draw(st.booleans())
    storage = draw(st.sampled_from([*INTS, pa.dictionary(pa.int8(), pa.int16())]))
    kind = storage if classes else draw(st.sampled_from(TEXTS[:2] + TEXTS[3:5]))
    note: Any = {"_type": "ClassLabel", "names": CLASSES} if classes else {"dtype": "string"}
    note = note if classes else {"_type": "Value", **note}
    size = draw(st.integers(1, 3))
    rows = draw(st.lists(st.lists(st.integers(0, 2), min_size=size, max_size=size), min_size=1))
    meant = [tuple(CLASSES[number] for number in row) for row in rows]
    values: list[Any] = rows if classes else [list(row) for row in meant]
    form = draw(st.sampled_from(["one", "list", "records", "record of list", "record"]))
    if form in ("one", "record"):
        meant, values = [row[:1] for row in meant], [row[0] for row in values]
    if form in ("records", "record"):
        kind = pa.struct({"nr": pa.float32(), "answer": kind})
        note = {"answer": note, "nr": {"_type": "Value", "dtype": "float32"}}
        wrap = lambda one: {"answer": one, "nr": 0.5}  # noqa: E731
        values = [[wrap(one) for one in row] if form == "records" else wrap(row) for row in values]
    if form in ("list", "records", "record of list"):
        kind = draw(st.sampled_from([pa.list_, pa.large_list, lambda one: pa.list_(one, size)]))(
            kind
        )
        old = [note] if form != "record of list" else {"_type": "Sequence", "feature": note}
        new = {"_type": draw(st.sampled_from(["List", "LargeList", "Sequence"])), "feature": note}
        note = old if draw(st.booleans()) else new
        if form == "records" and isinstance(note, dict) and note["_type"] == "Sequence":
            note = {**note, "_type": "List"}
    if form == "record of list":
        old = {"_type": "Sequence", "feature": {"answer": note["feature"]}}
        note = old if draw(st.booleans()) else {"answer": note}
        kind, values = pa.struct({"answer": kind}), [{"answer": row} for row in values]
    return kind, note, values, meant


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(column=nested())
def test_classes_are_their_names_wherever_they_are_nested(
    tmp_path: Path, column: tuple[pa.DataType, Any, list[Any], list[tuple[str, ...]]]
) -> None:
    kind, note, values, meant = column
    rows = {"question": ["q?"] * len(values), "image": [png("red")] * len(values)}
    table = pa.table({**rows, "answers": pa.array(values, kind)})
    notes = json.dumps({"info": {"features": {"answers": note}}})
    table = table.replace_schema_metadata({"huggingface": notes})

    examples, _ = read(tmp_path, table, mapped=False)

    assert [example.answers for example in examples] == meant
