"""What is wrong with either model is said before the first picture is encoded, in one sentence."""

import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.encoders.checkpoint import Checkpoint
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract.models import preflight
from tests.support.command import error_of, run_command
from tests.support.frozen import files
from tests.support.hub_stub import HubStub, hub_on_loopback, status
from tests.support.tiny_commands import at_home

EYES, WORDS = "org/eyes", "org/words"
WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with at_home(tmp_path_factory):
        yield


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubStub]:
    with hub_on_loopback(tmp_path / "hub") as hub:
        for name, part in ((EYES, "vision"), (WORDS, "text")):
            hub.push(name, tiny_checkpoint(part))
        yield hub


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batches of pictures that were encoded."""
    found: list[int] = []
    encode = ImageEncoder.encode
    monkeypatch.setattr(
        ImageEncoder, "encode", lambda self, x: found.append(len(x)) or encode(self, x)
    )
    return found


def extract(folder: Path, *words: object) -> str:
    """Run an extraction that has to fail, and return its sentence."""
    found = run_command(
        *("extract-features", "--dataset", "shapes:4", "--split", "val"),
        *("--cache", folder / "cache", "--vision-model", EYES, "--text-model", WORDS, *words),
    )
    return error_of(found)


def gated(hub: HubStub) -> None:
    """Only the weights, as where the small files were fetched before access was withdrawn."""
    refuse = status(403, error="GatedRepo")
    hub.faults[WEIGHTS] = lambda handler, data: WORDS in handler.path and refuse(handler, data)


def pickled(hub: HubStub) -> None:
    files = hub.commits[WORDS][hub.branches[WORDS]["main"]]
    files["pytorch_model.bin"] = files.pop(WEIGHTS)


def withdrawn(hub: HubStub) -> None:
    hub.commits[WORDS][hub.branches[WORDS]["main"]].pop(WEIGHTS)


def damaged(hub: HubStub) -> None:
    files = hub.commits[WORDS][hub.branches[WORDS]["main"]]
    files[WEIGHTS] = b"junk" * 1000


def looks_both_ways(hub: HubStub) -> None:
    files = hub.commits[WORDS][hub.branches[WORDS]["main"]]
    config = json.loads(files["config.json"]) | {"is_causal": False}
    files["config.json"] = json.dumps(config).encode()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (gated, f"{WORDS} is gated: request access at https://huggingface.co/{WORDS}"),
        (pickled, f"{WORDS} has no .safetensors file, and other formats are not read because a"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (withdrawn, f"{WORDS} has no file {WEIGHTS} on the Hub"),
                (damaged, "so these are no whole weights; download it again"),
                (looks_both_ways, f"{WORDS}: its config.json has is_causal false"),
            )
        ),
    ],
)
def test_a_fault_of_the_text_model_is_found_before_any_picture_is_encoded(
    fault: Callable[[HubStub], None],
    sentence: str,
    hub: HubStub,
    encoded: list[int],
    tmp_path: Path,
) -> None:
    fault(hub)
    assert sentence in extract(tmp_path)
    assert encoded == []


def test_the_disk_has_to_take_the_weights_and_the_features(
    hub: HubStub, encoded: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {
        name: len(hub.commits[name][hub.branches[name]["main"]][WEIGHTS]) for name in (EYES, WORDS)
    }
    monkeypatch.setattr(preflight, "free_bytes", lambda _: sum(sizes.values()))
    said = extract(tmp_path)
    assert said.startswith(f"{tmp_path / 'hub'}: the weights of {WORDS} and {EYES} need 5.3 MB and")
    assert "set HF_HOME to a folder on another disk" in said
    # On another disk than the cache there is just enough.
    monkeypatch.setattr(preflight, "_disk", lambda path: hash(path))
    monkeypatch.setattr(preflight, "_fit_together", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extract(tmp_path)
    assert encoded == []
    assert WEIGHTS not in hub.fetched()


def test_the_memory_has_to_take_each_model_and_a_batch(
    hub: HubStub, encoded: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "free_memory", lambda: 2 * 10**6)
    said = extract(tmp_path)
    assert said.startswith(f"the weights of {WORDS} need 2.4 MB of memory, and a batch at least ")
    assert "are free on cpu. Give a smaller model, --compute-dtype bfloat16, --quantize, a" in said
    assert encoded == []
    assert WEIGHTS not in hub.fetched()


class Loaded:
    """Notes which weights are in memory whenever that changes, and what a batch finds there."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now: list[str] = []
        self.log: list[str] = []
        load = Checkpoint.load

        def loaded(checkpoint: Checkpoint, *args: Any) -> torch.nn.Module:
            weights = load(checkpoint, *args)
            self.now.append(name := Path(checkpoint.place).name)
            self.log.append(f"load {name} ({len(self.now)})")
            weakref.finalize(weights, self.now.remove, name)
            return weights

        patch.setattr(Checkpoint, "load", loaded)
        for kind, name in ((ImageEncoder, "encode"), (TextEncoder, "encode_tree")):
            patch.setattr(kind, name, self.noting(kind, name))

    def noting(self, kind: Any, name: str) -> Any:
        real = getattr(kind, name)

        def encode(encoder: Any, *args: Any) -> Any:
            self.log.append(f"{name} by {' and '.join(self.now)}")
            return real(encoder, *args)

        return encode


def test_what_does_not_fit_together_is_in_memory_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text model is checked first, freed, and loaded again; the features are the same."""
    words = ("extract-features", "--dataset", "shapes:4", "--split", "val", "--cache")
    tiny = ("--vision-model", "tiny", "--text-model", "tiny", "--batch-size", "2")
    loaded = Loaded(monkeypatch)
    assert run_command(*words, tmp_path / "together", *tiny).code == 0
    both = ["encode by text and vision", "encode_tree by text and vision"]
    assert loaded.log == ["load text (1)", "load vision (2)", *both]

    loaded.log.clear()
    monkeypatch.setattr(preflight, "free_memory", lambda: 5 * 10**6)
    found = run_command(*words, tmp_path / "by turns", *tiny)
    assert (found.code, loaded.log) == (
        0,
        [
            *("load text (1)", "load vision (1)", "encode by vision"),
            *("encode_tree by ", "load text (1)"),  # with the first tree
        ],
    )
    assert (
        "tiny do not fit the memory of cpu together: each is loaded when it is needed" in found.err
    )
    assert files(tmp_path / "by turns") == files(tmp_path / "together")


def test_on_a_gpu_its_own_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU is not here, so its free memory is made up."""
    images = ImageEncoder("tiny", compute_dtype=torch.float16)
    images.device = torch.device("cuda", 0)
    need = 2 * images.checkpoint.count_weights(images.config) + 2 * 8 * images.dim * 64
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (need, 10**12))
    assert preflight._fit_together([[(images, 64)]])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (need - 1, 10**12))
    with pytest.raises(ModelError, match=r"are free on cuda:0\. Give a smaller model"):
        preflight._fit_together([[(images, 64)]])


def test_the_count_of_the_memory_is_that_of_the_weights() -> None:
    """Of the encoders that are loaded, and of none that is."""
    images = ImageEncoder("tiny")
    need = preflight.weight_bytes(images)
    assert need == sum(one.nbytes for one in images.weights.parameters())
    assert preflight._fit_together([[(images, 10**12)]])


def test_a_model_without_work_is_not_looked_at(
    hub: HubStub, encoded: list[int], tmp_path: Path
) -> None:
    words = ("extract-features", "--dataset", "shapes:4", "--split", "val", "--cache")
    words = (*words, str(tmp_path / "cache"), "--vision-model", EYES, "--text-model", WORDS)
    assert run_command(*words).code == 0
    assert FeatureCache(tmp_path / "cache").manifest.image_rows == 1
    for weights in (tmp_path / "hub").rglob(WEIGHTS):
        weights.unlink()
    hub.faults[WEIGHTS] = status(500)
    before = len(encoded)
    assert run_command(*words).code == 0
    assert len(encoded) == before
