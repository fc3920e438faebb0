"""The SPEC of `--dataset`."""

import subprocess
import sys
from pathlib import Path

import pytest

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.official.vqav2 import Vqav2Source
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.sources.own.source import OwnSource
from frozen_vqa.pipeline.sources.shapes import ShapesSource


def test_the_forms_of_a_spec(tmp_path: Path) -> None:
    file = tmp_path / "a:b.jsonl"  # only the first colon divides
    file.write_text('{"image": "a.png", "question": "q?", "answer": "a"}\n')

    assert isinstance(open_source(f"vqav2:{tmp_path}"), Vqav2Source)
    assert isinstance(open_source(f"jsonl:{file}"), OwnSource)
    assert isinstance(open_source("shapes"), ShapesSource)
    assert isinstance(open_source("shapes:5"), ShapesSource)
    assert len({e.image_id for e in open_source("shapes:5").examples("train")}) == 5
    assert type(open_source("hub:some/name")).__name__ == "HubSource"


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # a shell leaves ~ alone after a colon
    (tmp_path / "data").mkdir()

    assert isinstance(open_source("vqav2:~/data"), Vqav2Source)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            "",
            "none of the forms jsonl:PATH, wds:PATTERN, hub:NAME.*or NAME:PATH of vqav2, okvqa",
        ),
        ("vqa2:/data", "Did you mean 'vqav2:/data'"),
        ("JSONL:x", "Did you mean 'jsonl:x'"),
        ("data/train.jsonl", "Did you mean 'jsonl:data/train.jsonl'"),
        ("coco:x", "none of the forms"),
        ("jsonl", "write jsonl:PATH"),
        ("hub:", "write hub:NAME_OR_PATH"),
        ("shapes:", r"write shapes\[:N\]"),
        ("shapes:many", "'many' is not a number of images"),
        ("shapes:0", "not a number"),
        ("shapes:-4", "not a number"),
        ("vqav2:/no/such/folder", "no such folder"),
        ("jsonl:/no/such/file", "no such file"),
        ("hub:/no/such/file", "no such file"),
        ("hub:../no", "no such file"),
        ("hub:sets/a.parquet", "no such file"),
    ],
)
def test_a_wrong_spec_says_what_is_needed(spec: str, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        open_source(spec)


def test_columns_are_for_hub_only() -> None:
    with pytest.raises(SourceError, match="--column is for hub:, jsonl: and wds"):
        open_source("shapes", columns={"question": "query"})


def test_datasets_is_imported_only_for_hub(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "a.png", "question": "q?"}\n')
    code = (
        "import sys; from frozen_vqa.pipeline.sources.open_source import open_source\n"
        f"open_source('jsonl:{tmp_path}').examples('a'); open_source('hub:some/name')\n"
        "print('datasets' in sys.modules, 'torch' in sys.modules)"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.split() == ["False", "False"]
