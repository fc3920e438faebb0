"""Random changes of the files of each kind, whose digests are made anew or not."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from safetensors.torch import load_file, save_file

from benchmarks.fuzz.mutations import Rng, mutate_bytes, mutate_json, mutate_lines, mutate_tensors
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.hdf5 import Hdf5File
from frozen_vqa.cache.format.shards import FEATURES
from tests.support.forged_cache_files import edit_manifest, staged
from tests.support.forged_runs import forge
from tests.support.forged_settings import TOML
from tests.support.heads import seal

Mutate = Callable[[Path, Rng], object]
"""Changes a file in its place."""


def raw(path: Path, rng: Rng) -> None:
    """Change bytes, whatever the digests say."""
    path.write_bytes(mutate_bytes(path.read_bytes(), rng))


def structured(edit: Callable[[Path, Callable[[Any], Any]], object], path: Path, rng: Rng) -> None:
    """Change the structure of JSON, whose digests `edit` makes anew."""
    edit(path, lambda value: mutate_json(value, rng))


def plain_text(change: Callable[[str, Rng], str], path: Path, rng: Rng) -> None:
    """Change lines of a text."""
    text = mutate_lines(path.read_text(), rng, lambda line: change(line, rng))
    path.write_bytes(text.encode(errors="surrogatepass"))


def change_json_line(line: str, rng: Rng) -> str:
    """Change the JSON of a line, or else its letters."""
    try:
        return json.dumps(mutate_json(json.loads(line), rng))
    except (ValueError, RecursionError):
        return mutate_bytes(line.encode(), rng).decode(errors="replace")


def change_setting(line: str, rng: Rng) -> str:
    """Change the value of a setting."""
    name = line.partition("=")[0]
    return f"{name}= {rng.choice(list(TOML.values()))}"


def change_text(line: str, rng: Rng) -> str:
    """Change letters."""
    return mutate_bytes(line.encode(errors="surrogatepass"), rng).decode(errors="replace")


def sealed_settings(path: Path, rng: Rng) -> None:
    """Change config.toml of a run, and let the weights carry its digest."""
    plain_text(change_setting, path, rng)
    seal(path.parent)


def sealed_bytes(path: Path, rng: Rng) -> None:
    """Change bytes of a file that the weights carry the digest of."""
    raw(path, rng)
    seal(path.parent)


def tensors(path: Path, rng: Rng) -> None:
    """Change tensors or the record of a sealed file."""
    if rng.random() < 0.5:
        forge(path, lambda found, record: mutate_tensors(found, rng))
    else:
        forge(path, lambda found, record: mutate_json(record, rng))


def state(path: Path, rng: Rng) -> None:
    """Change a state, and leave none before it."""
    tensors(path, rng)
    path.with_name("state.previous.safetensors").unlink()


def raw_state(path: Path, rng: Rng) -> None:
    """Change bytes of a state, and leave none before it."""
    raw(path, rng)
    path.with_name("state.previous.safetensors").unlink()


def recorded(path: Path, rng: Rng) -> None:
    """Change bytes of a shard or split, and let the manifest record them as they are."""
    data = mutate_bytes(path.read_bytes(), rng)
    path.write_bytes(data)
    cache = path.parents[1]
    file = f"{path.parent.name}/{path.name}"

    def record(found: Any) -> None:
        records = (*found["images"], *found["questions"], *found["splits"].values())
        one = next(one for one in records if one["file"] == file)
        one.update(bytes=len(data), xxh3=digest(data))
        if "structure" in one:
            kind = path.parent.name
            try:
                opened = Hdf5File(path, memoryview(data), one["datasets"])
                one["structure"] = opened.structure_digest(FEATURES[kind])  # type: ignore[index]
            except Exception:  # it then has that of before
                return

    edit_manifest(cache / "cache.json", record)


def staged_record(path: Path, rng: Rng) -> None:
    """Change the record of a staged chunk, and seal it again."""
    staged(lambda record: mutate_json(record, rng))(path.parents[3])


def column(path: Path, rng: Rng) -> None:
    """Change the rows of a parquet."""
    rows = mutate_json(pq.read_table(path).to_pylist(), rng)
    try:
        made = pa.Table.from_pylist(rows)
        pq.write_table(made, path)
    except Exception:  # pyarrow writes no such rows
        raw(path, rng)


def packed(path: Path, rng: Rng) -> None:
    """Leave a file as gzip, whose bytes change before or after it is packed."""
    data = path.read_bytes()
    data = mutate_bytes(gzip.compress(data), rng) if rng.random() < 0.5 else data
    data = data if data[:2] == b"\x1f\x8b" else gzip.compress(mutate_bytes(data, rng))
    path.write_bytes(data)


def listed(path: Path, rng: Rng) -> None:
    """Change questions of one's own that are entries of a JSON list."""
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    path.with_suffix(".json").write_text(json.dumps(mutate_json(entries, rng)))
    path.unlink()


def arrow(path: Path, rng: Rng) -> None:
    """Leave an Arrow file with changed bytes in the place of a parquet.

    It is not compressed, because one that is may unpack to any size (docs/security.md).
    """
    made = path.with_suffix(".arrow")
    if rng.random() < 0.5:
        pyarrow.feather.write_feather(pq.read_table(path), str(made), compression="uncompressed")
    else:
        with pa.ipc.new_stream(made, (table := pq.read_table(path)).schema) as stream:
            stream.write_table(table)
    path.unlink()
    raw(made, rng)


def front_matter(path: Path, rng: Rng) -> None:
    """Leave a card that says which files a data set has, and of what types its columns are."""
    if rng.random() < 0.5:
        (path.parent / "train.parquet").unlink()
    (path.parent / "b.csv").write_text("question,answers,image\nq,a,b.png\n")
    configs = [{"config_name": "default", "data_files": [{"split": "train", "path": "b.csv"}]}]
    front = {"configs": configs, "dataset_info": {"features": [{"name": "q", "dtype": "string"}]}}
    text = json.dumps(mutate_json(front, rng))  # which is YAML too
    path.write_text(f"---\n{text}\n---\n")


def indexed(path: Path, rng: Rng) -> None:
    """Leave an index of the weights of a model."""
    names = load_file(path.with_name("model.safetensors"))
    found = {"metadata": {}, "weight_map": dict.fromkeys(names, "model.safetensors")}
    path.write_text(json.dumps(mutate_json(found, rng)))
    path.with_name("model.safetensors").rename(path.with_name("x.safetensors"))
    if rng.random() < 0.5:
        path.write_text(path.read_text().replace("model.safetensors", "x.safetensors"))


def model_tensors(path: Path, rng: Rng) -> None:
    """Change the tensors of a model."""
    found = load_file(path)
    mutate_tensors(found, rng)
    save_file(found, path, {"format": "pt"})
