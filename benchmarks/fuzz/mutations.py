"""Random changes of bytes, of JSON, of lines and of tensors."""

import json
import random
from collections.abc import Callable, MutableMapping
from typing import Any

import torch

from tests.support.forged_values import VALUES

Rng = random.Random
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
SIZES = (0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
SMALL = {name: value for name, value in VALUES.items() if name != "a long text"}


def mutate_bytes(data: bytes, rng: Rng) -> bytes:
    """Change a few places: bits, bytes, whole numbers, cuts, repeats and moves."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, length = rng.randrange(len(changed) + 1), rng.choice((1, 4, 8, 16, 256))
        how = rng.randrange(8)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif how == 1 and at < len(changed):
            changed[at] = rng.choice(INTERESTING)
        elif how == 2:
            number = rng.choice(SIZES).to_bytes(8, "little")[: rng.choice((4, 8))]
            changed[at : at + len(number)] = number
        elif how == 3:
            del changed[at : at + length]
        elif how == 4:
            changed[at:at] = changed[at : at + length]
        elif how == 5:
            changed[at:at] = rng.randbytes(length)
        elif how == 6:
            del changed[at:]
        elif how == 7:
            start = rng.randrange(len(changed) + 1)
            changed[at : at + length] = changed[start : start + length]
    return bytes(changed)


def mutate_json(value: Any, rng: Rng) -> Any:
    """Change a few places of nested lists and objects; return the value, which may be another."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(value))
        if not places:
            return _other(value, rng)
        holder, key = rng.choice(places)
        how = rng.randrange(10)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, list):
            holder.append(holder[key])
        elif how == 1:
            holder[str(_other("", rng))[:300]] = holder[key]
        elif how == 2:
            other_holder, other = rng.choice(places)
            if not _holds(holder[key], other_holder):
                other_holder[other] = holder[key]
        elif how == 3 and isinstance(holder, dict):
            holder[rng.choice(("", "../secret/x", "\x1b[2J", "a\0", key.upper()))] = holder.pop(key)
        else:
            holder[key] = _other(holder[key], rng)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(found) < 5000:
        one = waiting.pop()
        keys = (
            list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        )
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found


def _holds(value: Any, part: Any) -> bool:
    """Whether a value is or holds a part, so that to put it there would make a ring."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if one is part:
            return True
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return False


def _other(value: Any, rng: Rng) -> Any:
    """Return a value near this one, or one of those that nobody expects."""
    if rng.random() < 0.5 and isinstance(value, int | float) and not isinstance(value, bool):
        return rng.choice((value + 1, -value, value * 2, value * 10**6, value / 2, str(value)))
    if rng.random() < 0.5 and isinstance(value, str) and value:
        at = rng.randrange(len(value))
        return (
            value[:at]
            + rng.choice(("", "/", "..", "\0", "\x1b[2J", "é", "9", "x" * 99))
            + value[at:]
        )
    made = rng.choice(list(SMALL.values()))
    return json.loads(json.dumps(made)) if isinstance(made, list | dict) else made


def mutate_lines(text: str, rng: Rng, change: Callable[[str], str]) -> str:
    """Change, drop, double or move lines of a file."""
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not lines:
            break
        at, how = rng.randrange(len(lines)), rng.randrange(6)
        if how == 0:
            del lines[at]
        elif how == 1:
            lines.insert(rng.randrange(len(lines) + 1), lines[at])
        else:
            lines[at] = change(lines[at])
    return "\n".join(lines) + rng.choice(("", "\n", "\r\n", "\n\n"))


def mutate_tensors(tensors: MutableMapping[str, torch.Tensor], rng: Rng) -> None:
    """Change numbers, types, shapes and names of tensors."""
    for _ in range(rng.choice((1, 1, 2))):
        if not tensors:
            return
        name = rng.choice(sorted(tensors))
        tensor, how = tensors[name].clone(), rng.randrange(8)
        if how == 0:
            del tensors[name]
        elif how == 1:
            tensors[rng.choice(("", "x", "\x1b[2J", f"{name}.more", name[:-1]))] = tensor
        elif how == 2:
            kinds = (torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64)
            tensors[name] = tensor.to(rng.choice(kinds))
        elif how == 3:
            tensors[name] = tensor.reshape(-1)[: rng.randrange(4)].contiguous()
        elif how == 4:
            tensors[name] = tensor[None].contiguous()
        elif how == 5:
            other = rng.choice(sorted(tensors))
            tensors[name] = tensors[other].clone()
        elif tensor.numel():
            bad = (float("nan"), float("inf"), 3e38, -1.0, 1e20, 0.0, 255.0)
            tensor.reshape(-1)[rng.randrange(tensor.numel())] = (
                rng.choice(bad[3:]) if not tensor.is_floating_point() else rng.choice(bad)
            )
            tensors[name] = tensor
