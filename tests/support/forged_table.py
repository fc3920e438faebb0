"""All forged inputs by kind and name."""

from tests.support.forged import READERS, Change
from tests.support.forged_cache_files import CACHE, EXTRACTION
from tests.support.forged_data_files import HUB, JSONL, VQAV2
from tests.support.forged_model_files import TEXT, VISION
from tests.support.forged_pictures import PICTURES
from tests.support.forged_run_files import ASK, RUN, STATE, WEIGHTS_CASES
from tests.support.forged_settings import ANSWERS, CONFIG, SCORE, SWEEP

FORGED: dict[str, dict[str, Change]] = {
    "cache": CACHE,
    "extraction": EXTRACTION,
    "run": RUN,
    "weights": WEIGHTS_CASES,
    "state": STATE,
    "ask": ASK,
    "jsonl": JSONL,
    "picture": PICTURES,
    "vqav2": VQAV2,
    "hub": HUB,
    "vision": VISION,
    "text": TEXT,
    "config": CONFIG,
    "sweep": SWEEP,
    "answers": ANSWERS,
    "score": SCORE,
}
assert FORGED.keys() == READERS.keys()
