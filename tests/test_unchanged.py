"""What must stay the same from version to version: caches and runs of before depend on it.

A value here changes only together with the FORMAT of the file that it stands in.
"""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from frozen_vqa.cache.disk.folders import MARK
from frozen_vqa.cache.disk.staging import chunk_key
from frozen_vqa.cache.format.digests import digest, row_digests
from frozen_vqa.cache.format.hdf5 import Hdf5File
from frozen_vqa.cache.format.manifest import FORMAT, SINGLE
from frozen_vqa.cache.format.quantise import quantise
from frozen_vqa.cache.format.shards import (
    NewQuestions,
    describe_content,
    image_shard,
    names_digest,
    question_shard,
)
from frozen_vqa.cache.format.small_files import small_files
from frozen_vqa.cache.writer import own_cache
from frozen_vqa.pipeline.batches.plan import plan_batches
from frozen_vqa.pipeline.encoders.checkpoint import BLOCK_BYTES, SAMPLE_BLOCKS, weights_digest
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.evaluate.statistics import ENOUGH, mean_interval, sign_flip
from frozen_vqa.pipeline.extract import decoder
from frozen_vqa.pipeline.runs import state
from frozen_vqa.pipeline.runs.folder import claim_published, claim_run, claim_sweep_folder
from frozen_vqa.pipeline.runs.sealed import seal_json, tensors_digest
from frozen_vqa.pipeline.train.optimizer import learning_rate
from tests.support.caches import GRID, PATCHES, TEXT_DIM, VISION_DIM, make_spec, new_images
from tests.support.manifests import SMALL
from tests.support.pictures import encoded
from tests.support.trainings import small


def numbers(*shape: int) -> np.ndarray:
    """Multiples of 1/64, which every type of float holds."""
    return (np.arange(np.prod(shape)).reshape(shape) % 251 - 125).astype(np.float16) / 64


def test_the_digest_of_weights_of_every_size(tmp_path: Path) -> None:
    """Of files below and above one block, and of one that is read in part; it names encoders."""
    sizes = [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5]
    for number, size in enumerate(sizes):
        data = random.Random(number).randbytes(size)
        (tmp_path / f"model-{number}.safetensors").write_bytes(data)
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert weights_digest(tmp_path) == "xxh3:fc9110383a440b8a33ea64e56f169f91"
    with (tmp_path / "large.safetensors").open("wb") as file:
        file.truncate(SAMPLE_BLOCKS * BLOCK_BYTES + 100_000)
        for place in range(0, 60_000_000, 7_000_003):
            file.seek(place)
            file.write(random.Random(place).randbytes(9_000))
    assert weights_digest(tmp_path) == "xxh3:4c27fdca3a4294146079db7a190db4d3"


def test_digests_of_rows_files_names_and_chunks() -> None:
    spec = make_spec()
    assert digest(b"") == "99aa06d3014798d86001c324468d497f"
    assert digest(bytes(range(256)) * 100) == "6fdbcb494a285b4898276b6025d637ae"
    assert row_digests(numbers(2, 3, 4)).tolist() == [396026927271005704, 17405711828486736267]
    assert names_digest(["a", "é", ""]) == "df31518b8dfef036e787a6b6f1eb3ddd"
    assert chunk_key(spec, {"dataset": "shapes:5"}, ["1", "2"]) == "869a0cfc21290bb7"


def test_the_bytes_of_a_cache() -> None:
    """Those of every kind of file; a rebuilt shard is compared with what was written before."""
    patches, cls = numbers(3, PATCHES, VISION_DIM), numbers(3, VISION_DIM)
    images = image_shard(make_spec(), new_images(["1", "2", "é"], patches, cls))
    states = numbers(2, TEXT_DIM)
    new = NewQuestions(["a", "a b"], [[0], [0, 1]], np.array([-1, 0]), np.array([7, 9]), states)
    questions = question_shard(make_spec(), new)
    assert GRID == (2, 3)
    assert vars(images.record) == {
        "file": "",
        "rows": 3,
        "bytes": 7400,
        "xxh3": "cb65740cafcadda7302e880ebca23971",
        "datasets": {
            "patch_embeddings": "float16 3x6x5 at 2048",
            "patch_embeddings_xxh3": "uint64 3 at 2228",
            "cls": "float16 3x5 at 2252",
            "cls_xxh3": "uint64 3 at 2282",
            "thumbnail": "uint8 192 at 2306",
            "thumbnail_xxh3": "uint64 1 at 2498",
            "content": "uint8 72 at 2506",
            "content_xxh3": "uint64 1 at 2578",
            "image_id_utf8": "uint8 4 at 2586",
            "image_id_utf8_xxh3": "uint64 1 at 2590",
            "image_id_offsets": "int64 4 at 2598",
            "image_id_offsets_xxh3": "uint64 1 at 2630",
        },
        "structure": "8278973274604d6a7b8baaa7647453bf",
        "names": "b529c5b65d0c232df167757a1fa07fd2",
        "prefixes": 0,
        "largest": 1.953125,
        "origin": {},
    }
    assert vars(questions.record) == {
        "file": "",
        "rows": 2,
        "bytes": 7944,
        "xxh3": "9d10b06ce7fba08bb5fe4c09acf1da05",
        "datasets": {
            "hidden_states": "float16 2x7 at 2048",
            "hidden_states_xxh3": "uint64 2 at 2076",
            "prefix_parent": "int64 2 at 2092",
            "prefix_parent_xxh3": "uint64 1 at 2108",
            "prefix_token": "int64 2 at 2116",
            "prefix_token_xxh3": "uint64 1 at 2132",
            "path_rows": "int64 3 at 2140",
            "path_rows_xxh3": "uint64 1 at 2164",
            "path_offsets": "int64 3 at 2172",
            "path_offsets_xxh3": "uint64 1 at 2196",
            "question_utf8": "uint8 4 at 2204",
            "question_utf8_xxh3": "uint64 1 at 2208",
            "question_offsets": "int64 3 at 2216",
            "question_offsets_xxh3": "uint64 1 at 2240",
        },
        "structure": "f886558c783719eb751778c0585709f4",
        "names": "ea876ba694a5c100e3175e2b3e1759e4",
        "prefixes": 2,
        "largest": 1.953125,
        "origin": {},
    }
    found = {name: digest(data) for name, data in small_files(SMALL).items()}
    assert (FORMAT, SINGLE) == (6, 5)  # this cache has one part of each feature
    assert found == {
        "cache.json": "8058987ae4c87d9e894deba9022e24ca",
        "cache.copy.json": "8058987ae4c87d9e894deba9022e24ca",
        "failures.jsonl": "910c28e4fb01668ef3425ee9a04f6e4f",
    }
    assert (
        describe_content(b"abc").tobytes().hex()
        == "030000000000000006b05ab6733a618578af5f94892f3950"
    )
    assert (
        Hdf5File(Path("x"), b"".join(images.pieces), images.record.datasets).texts("image_id")[2]
        == "é"
    )


def test_int8_numbers() -> None:
    rows = np.array([[0.5, -1.0, 0.003], [0, 0, 0], [1e-4, 7e-5, -3e-5], [65504, -3, 1]])
    integers, scales = quantise(rows)
    assert integers.tolist() == [[63, -127, 0], [0, 0, 0], [120, 84, -36], [127, 0, 0]]
    assert scales.view(np.uint16).tolist() == [8201, 32768, 14, 24584]


def test_digests_of_runs() -> None:
    tensors = {
        "b": torch.arange(6).reshape(2, 3).half(),
        "a": torch.tensor(2.5),
        "c": torch.tensor([True]),
    }
    assert (
        tensors_digest(tensors, {"epoch": 1, "files": {"é": "x"}})
        == "d24ff3ffcdc676a78781b07189755a61"
    )
    sealed = seal_json({"b": 1, "a": ["é", None, 0.1]}).decode()
    assert sealed == (
        '{\n "b": 1,\n "a": [\n  "é",\n  null,\n  0.1\n ],'
        '\n "xxh3": "58653892e7d85b72cee2bc700d1046ec"\n}'
    )


def test_the_order_of_batches_and_the_rates_of_steps() -> None:
    """A resumed training takes the batches and rates that it would have taken before."""
    images = np.array([3, 1, 3, 2, 2, 3, 9, 1, 0, 3, 2, 2])
    found = {
        (grouped, epoch): [
            [list(map(int, entry)) for entry in grid]
            for grid in plan_batches(images, batch_size=4, grouped=grouped, shuffle=(5, epoch))
        ]
        for grouped in (True, False)
        for epoch in (0, 1)
    }
    assert found == {
        (True, 0): [[[11, 3, 4, 10]], [[8], [6], [1, 7]], [[9, 2, 0, 5]]],
        (True, 1): [[[6], [8], [7, 1]], [[9, 5, 2, 0]], [[4, 11, 10, 3]]],
        (False, 0): [[[2], [4], [6], [7]], [[9], [11], [1], [3]], [[0], [10], [5], [8]]],
        (False, 1): [[[2], [4], [7], [0]], [[6], [9], [5], [8]], [[11], [10], [3], [1]]],
    }
    rates = [learning_rate(step, steps=8, config=small(warmup=0.25)) for step in range(8)]
    assert state.FORMAT == 8
    assert [round(rate, 9) for rate in rates] == [
        0.005,
        0.01,
        0.01,
        0.009330127,
        0.0075,
        0.005,
        0.0025,
        0.000669873,
    ]


def test_intervals_and_tests() -> None:
    """Scores in papers: of pictures with uneven numbers of questions, and of two heads."""
    i = np.arange(900)
    pictures, ours, theirs = i * i % 331, np.where(i * 37 % 100 < 70, 90.0, 0), i * 53 % 101 % 61
    of_one = mean_interval(ours, pictures, least=0, largest=100).bounds
    of_two = mean_interval(ours - theirs, pictures, least=-100, largest=100).bounds
    assert of_one is not None
    assert of_two is not None
    assert [round(bound, 9) for bound in (*of_one, *of_two)] == [
        61.32166068,
        64.647497806,
        35.193653324,
        39.237670134,
    ]
    found = sign_flip(ours, theirs + 34.0, pictures)
    assert (found.ours_better, found.theirs_better, found.p) == (600, 294, 0.00195)
    assert ENOUGH == 75  # what docs/results.md measures


def test_thumbnails_and_when_they_differ() -> None:
    """A cache keeps those of its pictures; others would be taken for another data set."""
    pixels = (np.arange(24 * 32 * 3).reshape(24, 32, 3) * 7 % 256).astype(np.uint8)
    encoder: Any = SimpleNamespace(pixels=np.asarray, reading=Reading())
    source: Any = SimpleNamespace(picture=lambda image_id: encoded(Image.fromarray(pixels)))
    found = decoder.PictureDecoder(source, encoder).decode(7)
    assert digest(found.thumbnail.tobytes()) == "ec61f5b9c8139c1fc4c45706fd375516"
    assert found.thumbnail[:8].tolist() == [113, 130, 138, 115, 129, 134, 123, 125]
    assert (decoder.SPOT_CHECKS, decoder.DIFFERENT) == (8, 16)


def test_the_marks_of_folders(tmp_path: Path) -> None:
    """A folder with another mark is somebody else's, and a file that it does not name too."""
    claims: dict[str, Callable[[Path], object]] = {
        "a cache": lambda path: own_cache(path).claim(),
        "a run": claim_run,
        "the runs of a sweep": claim_sweep_folder,
        "a published run": claim_published,
    }
    assert MARK == ".frozen-vqa"
    for purpose, claim in claims.items():
        claim(tmp_path / purpose)
        line, *_ = (tmp_path / purpose / ".frozen-vqa").read_text().splitlines()
        assert line == f"Written by frozen-vqa, which made this folder for: {purpose}"
    own_cache(tmp_path / "a cache").note("b/c.h5", "a.json")
    found = (tmp_path / "a cache" / ".frozen-vqa").read_text()
    assert found.split("\n", 1)[1] == "a.json\nb/c.h5\n"
