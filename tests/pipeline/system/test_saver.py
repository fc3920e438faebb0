"""What a save writes is what it was given, whatever happens to the tensors while it is written."""

import threading
from collections.abc import Mapping
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frozen_vqa.pipeline.system import saver
from frozen_vqa.pipeline.system.saver import Saver
from tests.support.clocks import Clock


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_every_save_has_the_tensors_of_its_moment(sizes: list[int]) -> None:
    """Of any changing shapes; in the order of the saves, each by the thread, in the same memory."""
    written: list[tuple[list[float], bool, int]] = []
    main, one = threading.get_ident(), Saver()
    for number, size in enumerate(sizes):
        tensor, held = torch.full((size,), float(number)), threading.Event()

        def write(found: Mapping[str, Tensor], held: threading.Event = held) -> None:
            held.wait(10)
            x = found["x"]
            written.append((x.tolist(), threading.get_ident() != main, x.data_ptr()))

        one.save({"x": tensor}, write, behind=True)
        assert one.busy
        tensor.fill_(-1)
        held.set()
    one.wait()
    one.close()
    assert [numbers for numbers, *_ in written] == [[float(i)] * n for i, n in enumerate(sizes)]
    assert all(in_thread for _, in_thread, _ in written)
    if len(set(sizes)) == 1:
        assert len({place for *_, place in written}) == 1


@pytest.mark.parametrize("how", ["check", "wait", "save"])
def test_what_a_thread_raises_comes_once_to_the_one_who_trains(how: str) -> None:
    one = Saver()

    def fail(_: object) -> None:
        raise OSError(28, "No space left on device")

    one.save({}, fail, behind=True)
    assert one._thread is not None
    one._thread.submit(lambda: None).result()
    calls = {
        "check": one.check,
        "wait": one.wait,
        "save": lambda: one.save({}, lambda _: None, behind=False),
    }
    with pytest.raises(OSError, match="No space left"):
        calls[how]()
    one.check()
    one.wait()
    one.close()


@pytest.mark.parametrize(("free", "behind", "copies"), [(99, True, 0), (100, True, 1), (400, 0, 0)])
def test_without_room_for_a_copy_it_saves_in_place(
    free: int, behind: bool, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "free_memory", lambda: free)
    found: list[tuple[Tensor, str]] = []
    one, tensor = Saver(), torch.zeros(50, dtype=torch.uint8)
    one.save(
        {"x": tensor},
        lambda given: found.append((given["x"], threading.current_thread().name)),
        behind=behind,
    )
    one.wait()
    one.close()
    ((given_one, name),) = found
    assert (given_one is not tensor) == copies == name.startswith(saver.THREAD)
    assert len(one._room) == copies


@given(held=st.floats(0, 50), used=st.floats(0, 50), waited=st.floats(0, 1e4), free=st.booleans())
def test_saves_take_a_hundredth_of_the_time_at_most(
    held: float, used: float, waited: float, free: bool
) -> None:
    """Of what holds the training up, and of processor time; not of waiting for a slow disk."""
    with pytest.MonkeyPatch.context() as patch:
        clock, of_thread = Clock(patch, saver), [0.0]
        saver.time.thread_time = lambda: of_thread[0]
        monkey_copy = Saver._copy

        def copy(*args: object) -> object:
            clock.now += held
            return monkey_copy(*args) if free else None  # type: ignore[arg-type]

        def write(_: object) -> None:
            clock.now += waited
            of_thread[0] += used

        patch.setattr(Saver, "_copy", copy)
        one = Saver()
        one.save({}, write, behind=True)
        one.wait()
        one.close()
    assert one.cost == pytest.approx(held + (used if free else waited), abs=1e-6)
    assert one.pause * 0.01 == pytest.approx(one.cost)


def test_a_gpu_copies_between_two_steps_and_only_the_thread_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a tensor that claims to be on a GPU: pinned memory, no wait, an event of its stream."""
    done: list[str] = []

    class OnGpu(Tensor):
        is_cuda = True  # type: ignore[assignment]

    event = SimpleNamespace(synchronize=lambda: done.append(threading.current_thread().name))
    stream = SimpleNamespace(record_event=lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    empty, copy = torch.empty, Tensor.copy_

    def pinned(*shape: object, pin_memory: bool, **how: object) -> Tensor:
        done.append(f"pinned {pin_memory}")
        return empty(*shape, **how)  # type: ignore[call-overload, no-any-return]

    def copied(self: Tensor, other: Tensor, non_blocking: bool = False) -> Tensor:
        done.append(f"asked for {non_blocking}")
        return copy(self, other.as_subclass(Tensor))

    monkeypatch.setattr(torch, "empty", pinned)
    monkeypatch.setattr(Tensor, "copy_", copied)
    one = Saver()
    one.save({"x": torch.ones(2).as_subclass(OnGpu)}, lambda _: done.append("written"), behind=True)
    one.wait()
    one.close()
    assert done[:2] == ["pinned True", "asked for True"]
    assert done[2].startswith(saver.THREAD)
    assert done[3:] == ["written"]
