"""The rows of docs/bad-inputs.md about pictures at URLs: a case for each reads one from memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from frozen_vqa.cache.errors import StoreError
from frozen_vqa.pipeline.encoders import preprocess
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ImageError, SourceError
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support import stores
from tests.support.bad_inputs import LEFT_OUT, STORED, Row
from tests.support.frozen import picture
from tests.support.stores import Flaky, memory

BAD, GOOD, STOPPED = "memory://bucket/bad.png", "memory://bucket/good.png", "refused"


def put(url: str, data: bytes) -> None:
    """Put an object into the memory."""
    with pytest.MonkeyPatch.context() as patch, memory(patch) as files:
        files.pipe_file(f"/{url.partition('://')[2]}", data, chunksize=0)


def table(folder: Path, *urls: str) -> Path:
    """Write a table of a question about each picture; return it."""
    rows = [f'{url},"what is it?",a thing' for url in urls]
    (folder / "train.csv").write_text("\n".join(["image,question,answer", *rows]))
    return folder / "train.csv"


def at(url: str, data: bytes | None = None, flaky: Flaky | None = None) -> Callable[[Path], Row]:
    """A case of a table that names a good picture and this one."""

    def case(folder: Path) -> Row:
        stores.forget()
        put(GOOD, picture(0))
        if data is not None:
            put(BAD, data)
        with pytest.MonkeyPatch.context() as patch, memory(patch, flaky):
            patch.setattr(preprocess, "BIG_FILE", 1000)
            patch.setattr(preprocess, "MAX_BYTES", 2000)
            try:
                return read(table(folder, GOOD, url))
            except StoreError as error:
                return STOPPED, str(error)
            finally:
                stores.forget()

    return case


def read(file: Path) -> Row:
    """Read the pictures of a table."""
    source = open_source(f"jsonl:{file}")
    examples = source.examples("train")
    for left_out in source.left_out("train"):
        return LEFT_OUT, f"{left_out.where}: {left_out.reason}"
    for example in examples:
        try:
            load_rgb(source.picture(example.image_id))
        except ImageError as error:
            return LEFT_OUT, f"{source.where(example.image_id)}: {error}"
    return STORED, "as if it were a file here"


def questions(spec: str) -> Callable[[Path], Row]:
    """A case of a data set whose questions are at a URL."""

    def case(folder: Path) -> Row:
        with pytest.raises(SourceError) as found:
            open_source(spec)
        return STOPPED, str(found.value)

    return case


PICTURES_AT_URLS = {
    "a table at a URL": questions("jsonl:s3://key:secret@bucket/train.csv"),
    "a picture in a bucket": at(BAD, picture(1)),
    "a store that fails now and then": at(BAD, picture(1), Flaky(fails=0.2, seed=1)),
    "one that is gone": at(BAD),
    "one that is empty": at(BAD, b""),
    "one that is no picture": at(BAD, b"<html>not found</html>"),
    "one that is too large": at(BAD, bytes(3000)),
    "one that alone is refused": at(BAD, picture(1), Flaky(refuses=("bad.png",))),
    "a store that refuses everything": at(BAD, picture(1), Flaky(refuses=(".png",))),
    "a store that never answers": at(BAD, picture(1), Flaky(fails=1.0)),
    "an address of the web": at("https://example.org/a.png"),
    "a file of this machine as a URL": at("file:///etc/passwd"),
    "a URL with a password": at("s3://key:secret@bucket/a.png"),
    "a signed URL": at("s3://bucket/a.png?X-Amz-Signature=0123"),
    "a URL that leads out of its bucket": at("s3://bucket/../other/a.png"),
    "a bucket without a name in it": at("s3://bucket"),
    "a data set of the Hub without a file": at("hf://datasets/user/name"),
    "a model of the Hub": at("hf://user/name/a.png"),
}
