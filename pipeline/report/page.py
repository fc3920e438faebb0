"""Puts a report together: one HTML file that asks nothing of a network, and its place in the run.

    RUN/evaluation/<split>/report.html

Everything that comes from data or from names goes through `printable` and is escaped by jinja2, or
stands in JSON in which no "<" is left. A content security policy forbids the page every request and
every script but its own.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from frozen_vqa.cache import FeatureCache
from frozen_vqa.cache.disk.files import read_file, write_atomically
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.cache.format.parts import labels
from frozen_vqa.pipeline.answers.questions import given_answers
from frozen_vqa.pipeline.answers.targets import class_scores
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.evaluate.clusters import UNITS
from frozen_vqa.pipeline.evaluate.compare import Difference
from frozen_vqa.pipeline.evaluate.logits import WRITE_ADVICE
from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup
from frozen_vqa.pipeline.metrics.find import find_metric
from frozen_vqa.pipeline.report import plots
from frozen_vqa.pipeline.report.attention import Seen, see_split
from frozen_vqa.pipeline.report.deletion import SHARES, delete_patches
from frozen_vqa.pipeline.report.figures import calibrate, confuse, group_scores, read_curve
from frozen_vqa.pipeline.report.gallery import describe_cards, describe_maps
from frozen_vqa.pipeline.report.pictures import read_pictures
from frozen_vqa.pipeline.report.words import read_words
from frozen_vqa.pipeline.runs.card import strip_folders
from frozen_vqa.pipeline.runs.folder import LARGEST_TEXT, REPORT, writing_results
from frozen_vqa.pipeline.runs.run import Run, features_of
from frozen_vqa.pipeline.system.texts import printable, to_json

MAPS = 1_000
"""Questions whose maps are tested and shown; with the tiny encoders each takes 1/20 s of a core."""

BRIEF_MAPS = 250
"""The same where nobody asked for the report."""

MOST_CARDS = 20_000
SEED = 0
PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Side:
    """A head or several seeds of it, and how it differs from the first side of a report."""

    group: SeedGroup
    differences: Sequence[Difference] = ()


def write_report(
    run: Run, cache: FeatureCache, sides: Sequence[Side], *, maps: int = MAPS, seed: int = SEED
) -> Path:
    """Write the report of an evaluation beside its results, and return its path.

    Args:
        run: The head of the first evaluation of the first side.
        sides: What is compared. Those whose heads are variants have no answers on the cards.
        maps: Questions whose attention is tested and shown, at most.

    Raises:
        CacheError, RunError: if a feature cannot be read, or the file cannot be written; or if the
            head reads choices or several pictures.
    """
    run.require_no_needs("a report shows a question and one picture")
    first = sides[0].group.first
    assert first.results is not None
    path = first.results.with_name(REPORT)
    html = render(run, cache, sides, maps=maps, seed=seed).encode()
    with (
        writing_results(run.path, run.stamp) as own,
        explain_write_errors(path, RunError, WRITE_ADVICE),
    ):
        own.note(str(path.relative_to(run.path)))
        write_atomically(path, html)
    return path


def render(
    run: Run, cache: FeatureCache, sides: Sequence[Side], *, maps: int = MAPS, seed: int = SEED
) -> str:
    """Return the report as HTML."""
    first = sides[0].group.first
    table = first.table
    order = np.random.default_rng(seed).permutation(len(table))
    tested_rows, card_rows = sorted(order[:maps].tolist()), sorted(order[:MOST_CARDS].tolist())
    cache = features_of(run, cache)
    seen = see_split(run, cache, table, set(tested_rows))
    tested_rows = [row for row in tested_rows if row in seen.attended]
    tested = delete_patches(
        run.model,
        cache,
        table,
        tested_rows,
        [seen.attended[row].question_map() for row in tested_rows],
        [int(seen.classes[row, 0]) for row in tested_rows],
        seed=seed,
    )
    firsts = dict.fromkeys(table.image_rows[[*tested_rows, *card_rows]].tolist())
    pictures = read_pictures(cache, first.split, list(firsts))
    distinct = sorted({int(table.question_rows[row]) for row in tested_rows})
    words, amiss = read_words(cache, distinct)
    others = [side.group.first for side in sides[1:] if not side.group.first.variant]
    answers = run.vocabulary.answers
    data, uris = describe_cards(cache, first, others, seen, answers, card_rows, pictures)
    entries, places = describe_maps(
        tested_rows, seen.attended, words, tested, np.asarray(table.question_rows)
    )
    data |= {
        "grid": list(cache.spec.grid),
        "shares": SHARES,
        "map": [places.get(row, -1) for row in card_rows],
    }
    values = _describe(run, cache, sides, seen)
    values |= {
        "data": _json(data),
        "pictures": _json(uris),
        "maps": _json(entries),
        "shown": len(card_rows),
        "mapped": len(entries),
        "tested": len(tested_rows),
        "heads": plots.deletion_plots(tested, table.image_rows[tested_rows]),
        "notes": [note for note in (pictures.missing, amiss) if note],
    }
    return _fill(values)


def _describe(run: Run, cache: FeatureCache, sides: Sequence[Side], seen: Seen) -> dict[str, Any]:
    """Return the texts, numbers and plots of everything above the gallery."""
    first, table = sides[0].group.first, sides[0].group.first.table
    assert first.data is not None
    model = run.model.config
    values: dict[str, Any] = {
        "name": first.name,
        "split": first.split,
        "fusion": first.fusion,
        "dataset": strip_folders(first.data.dataset or ""),
        "vision": " + ".join(labels(cache.spec.vision_parts)),
        "text": " + ".join(labels(cache.spec.text_parts)),
        "caveats": first.caveats,
        "questions": len(table),
        "images": len(np.unique(table.image_rows)),
        "left_out": len(first.left_out),
        "layers": model.layers,
        "attention_heads": model.heads,
        "trained_on": first.data.trained_on,
        "chosen_on": first.data.chosen_on,
        "curves": plots.curve_plots(
            [(s.group.name, read_curve(s.group.first.run)) for s in _own(sides)]
        ),
    }
    if first.accuracy is None or first.scores is None:
        return values
    metric = find_metric(first.accuracy.metric)
    classes = class_scores(given_answers(table, metric), run.vocabulary, metric=metric)
    groups = group_scores([side.group for side in sides], classes, run.vocabulary.answers)
    calibration = calibrate(seen.probabilities[:, 0], first.scores)
    return values | {
        "sides": sides,
        "groups": groups,
        "overall": groups[0],
        "ceiling": first.ceiling,
        "metric": metric.rule,
        "unit": UNITS[first.cluster_by],
        "forest": plots.forest(groups[: plots.MOST_GROUPS], len(sides)),
        "calibration": calibration,
        "reliability": plots.reliability_plot(calibration),
        "confusion": confuse(first, metric),
    }


def _own(sides: Sequence[Side]) -> list[Side]:
    return [side for side in sides if not side.group.first.variant]


def _json(value: Any) -> Markup:
    """Return JSON for a script element, which only a "<" could end."""
    return Markup(to_json(value, separators=(",", ":")).replace("<", "\\u003c"))


def _fill(values: Mapping[str, Any]) -> str:
    """Fill the template, and allow its own style and script alone."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    style, script = (
        read_file(path, most=LARGEST_TEXT).decode()
        for path in (PAGE / "report.css", PAGE / "report.js")
    )
    environment = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    return environment.get_template("report.html").render(
        **values,
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src {_source(style)}; "
        f"script-src {_source(script)}; base-uri 'none'; form-action 'none'",
    )


def _source(text: str) -> str:
    """Return the source expression of a content security policy that allows this text alone."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
