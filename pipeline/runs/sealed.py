"""Files that carry their own digest: tensors with a record, and JSON objects.

safetensors itself has no checksum: a flipped bit loads as another number. So each file of tensors
holds in its metadata, under `run`, one JSON object: the record, and the xxh3 digest of it and of
the name, type, shape and bytes of every tensor. Tensors and digest are one file, replaced in one
step, and any reader of safetensors loads it. It is no pickle. `LastTwo` keeps the file before it.

A digest tells accidents, and whoever forges a file forges its digest too. So every number in it is
finite and of a type that we write, and `require_fit` compares names and shapes with what is needed.
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from frozen_vqa.cache.disk.files import (
    TEMPORARY,
    memory_bytes,
    open_regular,
    read_file,
    sync_directory,
    write_atomically,
)
from frozen_vqa.cache.format.digests import Buffer, digest
from frozen_vqa.cache.format.finite import LARGEST
from frozen_vqa.cache.typed_json import NotFiniteNumberError, finite_json
from frozen_vqa.pipeline.errors import reason_of
from frozen_vqa.pipeline.system.library_files import read_safetensors_header

if TYPE_CHECKING:  # only tensors need torch
    from torch import Tensor

SUFFIX = ".safetensors"

DTYPES = {"int64": "I64", "float32": "F32", "bfloat16": "BF16", "float16": "F16", "uint8": "U8"}
"""Types of tensors that we write and their names in a file, in which they come in this order."""

TOGETHER = 1 << 20
"""Bytes up to which tensors are copied into one part, because each part is a call to write."""


def seal(tensors: Mapping[str, "Tensor"], record: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file that holds tensors, their record, and the digest of both."""
    return b"".join(seal_parts(tensors, record))


def seal_parts(tensors: Mapping[str, "Tensor"], record: Mapping[str, Any]) -> list[Buffer]:
    """Return what `seal` does in parts, most of which are the memory of tensors on the CPU.

    The bytes are those of `safetensors.torch.save`, which makes two copies of all tensors, during
    which no other thread can run Python.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    sealed = {**record, "xxh3": tensors_digest(tensors, record)}
    header: dict[str, Any] = {"__metadata__": {"run": json.dumps(sealed, sort_keys=True)}}
    types, end = list(DTYPES), 0
    names = sorted(tensors, key=lambda name: (types.index(_dtype(tensors[name])), name))
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        kind = DTYPES[_dtype(tensor)]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    memory = (_memory(tensors[name]) for name in names)
    return list(_join_small([len(text).to_bytes(8, "little") + text, *memory]))


def _memory(tensor: "Tensor") -> memoryview:
    """Return the bytes of a contiguous tensor on the CPU, without a copy."""
    import torch

    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _join_small(parts: Iterable[Buffer]) -> Iterator[Buffer]:
    """Yield parts of which small neighbours are joined."""
    small = bytearray()
    for part in parts:
        if small and len(small) + len(part) > TOGETHER:
            yield memoryview(small)
            small = bytearray()
        if len(part) > TOGETHER:
            yield part
        else:
            small += part
    if small:
        yield memoryview(small)


def read_sealed(path: Path, kind: str) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Return the tensors and the record of a file; messages call its content by `kind`.

    Raises:
        OSError: if it cannot be read.
        ValueError: if its content has changed since, or is none that we write; the message
            continues "FILE: ".
    """
    import safetensors.torch
    from safetensors import SafetensorError

    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    data = _read_told(path, kind)
    try:
        tensors = safetensors.torch.load(data)
        header = finite_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        why = reason_of(error)
        raise ValueError(f"does not fit the format of {kind} ({why}); it is damaged") from error
    for name, tensor in tensors.items():
        if (dtype := _dtype(tensor)) not in DTYPES:
            raise ValueError(f"holds {name!r:.80} as {dtype}, which {kind} never have")
    try:
        record = finite_json(header["__metadata__"]["run"])
        expected = record.pop("xxh3")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, NotFiniteNumberError):
            raise ValueError(f"does not fit the format of {kind} ({error})") from None
        raise ValueError(f"carries no digest, so it cannot be told from damaged {kind}") from None
    try:
        found = tensors_digest(tensors, record)
    except RecursionError:  # json reads deeper than it writes
        raise ValueError(f"does not fit the format of {kind}; its record is too deep") from None
    if expected != found:
        raise ValueError("does not fit its digest; it was changed or damaged")
    if bad := not_finite(tensors):
        raise ValueError(f"holds numbers in {bad[0]!r:.80} that are not finite or beyond 1e18")
    return tensors, record


def _read_told(path: Path, kind: str) -> bytes:
    """Return the bytes of a file; its header alone if no library could read on from there."""
    with open_regular(path, most=memory_bytes()) as file:  # which does not wait for a pipe
        size = os.fstat(file.fileno()).st_size
        head, told = read_safetensors_header(file)
        if told is None:
            return head  # safetensors says why
        if size > told:
            raise ValueError(
                f"does not fit the format of {kind} (it has {size:,} bytes, and its header tells "
                f"of {told:,}); it is damaged"
            )
        file.seek(0)
        return file.readall()


def not_finite(tensors: Mapping[str, "Tensor"]) -> list[str]:
    """Return the names of tensors that hold NaN, infinity or a number beyond `LARGEST`."""
    import torch

    floats = {
        name: tensor.detach() for name, tensor in tensors.items() if tensor.is_floating_point()
    }
    norm = partial(torch.linalg.vector_norm, dtype=torch.float32)  # many times as fast as isfinite
    return [name for name, tensor in floats.items() if not norm(tensor).item() <= LARGEST]


def require_fit(found: Mapping[str, "Tensor"], needed: Mapping[str, "Tensor"]) -> None:
    """Raise `ValueError` unless tensors have the names, shapes and types of those in `needed`.

    To be called before any library sees them: torch does not check all, and may crash.
    """
    for name in (*needed, *found):
        if name not in found:
            raise ValueError(f"{name} is missing")
        if name not in needed:
            raise ValueError(f"{name!r:.80} is not known")
        has, needs = (f"{_dtype(t)} {tuple(t.shape)}" for t in (found[name], needed[name]))
        if has != needs:
            raise ValueError(f"{name} is {has}, and {needs} is needed")


def _dtype(tensor: "Tensor") -> str:
    return str(tensor.dtype).removeprefix("torch.")


def tensors_digest(tensors: Mapping[str, "Tensor"], record: Mapping[str, Any]) -> str:
    """Return the digest of tensors on the CPU and their record."""
    names = sorted(tensors)
    shapes = [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in names]
    found = xxhash.xxh3_128(json.dumps([record, shapes], sort_keys=True).encode())
    for name in names:
        found.update(_memory(tensors[name]))
    return found.hexdigest()


def seal_json(value: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file that holds a JSON object, and its digest under "xxh3"."""
    return json_bytes({**value, "xxh3": digest_json(value)})


def json_bytes(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """Return the bytes of a file of JSON that people may read; raise `ValueError` for NaN.

    A path that is not UTF-8 is kept as Python's JSON reads it again.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace")


def unseal_json(value: Any) -> dict[str, Any]:
    """Return the object that was sealed; raise `ValueError` if it does not fit its digest."""
    if not isinstance(value, dict):
        raise ValueError("a JSON object is needed")
    content = {name: part for name, part in value.items() if name != "xxh3"}
    if value.get("xxh3") != digest_json(content):
        raise ValueError("does not fit its digest; it was changed or damaged")
    return content


def digest_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return the digest of plain values, in whatever order their names stand."""
    return digest(json.dumps(value, sort_keys=True).encode())


def why_unreadable(error: OSError | ValueError) -> str:
    """Return what is wrong with a file that `read_sealed` refused; it continues "FILE: "."""
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)


@dataclass(frozen=True)
class LastTwo:
    """A file that ends in .safetensors, and the version of it before."""

    current: Path

    @property
    def previous(self) -> Path:
        return self.current.with_suffix(".previous" + SUFFIX)

    @property
    def coming(self) -> Path:
        """A whole new version without its name; only a killed process leaves it."""
        return self.current.with_suffix(".next" + SUFFIX)

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """All files that there can be."""
        return self.current, self.previous, self.coming

    def replace(self, *parts: Buffer) -> None:
        """Put a new version in place. A kill leaves a whole one, an `OSError` changes nothing."""
        write_atomically(self.coming, *parts)
        try:
            if self.current.exists():
                self._keep()
            self.coming.replace(self.current)
        except BaseException:
            self.coming.unlink(missing_ok=True)
            raise
        sync_directory(self.current.parent)

    def _keep(self) -> None:
        aside = self.previous.with_name(self.previous.name + TEMPORARY)
        aside.unlink(missing_ok=True)  # it may be a link to the current file: never write into it
        try:
            os.link(self.current, aside)
        except OSError:  # not every file system has hard links
            write_atomically(self.previous, read_file(self.current))
            return
        try:
            aside.replace(self.previous)
        finally:
            aside.unlink(missing_ok=True)  # a rename does nothing if both names link to one file

    def go_back(self) -> None:
        """Put the version before in the place of the current one."""
        self.previous.replace(self.current)
        sync_directory(self.current.parent)

    def remove(self) -> None:
        """Remove both, and leftovers of a killed process."""
        for path in self.paths:
            path.unlink(missing_ok=True)
            path.with_name(path.name + TEMPORARY).unlink(missing_ok=True)
