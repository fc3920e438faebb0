"""The picture of a dashboard in the manual: both stages in small, as `--prometheus` shows them.

    python -m benchmarks.monitoring docs/monitoring.svg [--pictures 600]

Runs stage one on generated scenes and stage two on its cache, each with a file for Prometheus that
is written every second, and draws what the files said. Takes about three minutes on 2 cores.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from markupsafe import Markup
from prometheus_client.parser import text_string_to_metric_families

from frozen_vqa.pipeline.config import make_config
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.extract.speed.throughput import PHASES
from frozen_vqa.pipeline.report.plots import Axis, Line, chart
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.train.train import train
from frozen_vqa.pipeline.watch import prometheus
from frozen_vqa.pipeline.watch.figures import PREFIX
from frozen_vqa.pipeline.watch.prometheus import prometheus_file

Samples = list[tuple[float, Mapping[str, float]]]
"""Seconds since the start, and the figures by name and the label that differs."""

WIDTH, HEIGHT, TITLE = 340, 230, 26
COLOURS = ("#1f77b4", "#d9822b", "#2a9d5c", "#8a5bb5")
STYLE = (
    "text{font:11px sans-serif;fill:#333}.title{font-weight:bold;font-size:12px}"
    ".grid{stroke:#ddd}.axis{stroke:#888}.line{fill:none;stroke-width:1.5}"
    + "".join(f".s{i}{{stroke:{one}}}.n{i}{{fill:{one}}}" for i, one in enumerate(COLOURS))
)


@contextmanager
def watched(path: Path, command: str, folder: Path) -> Iterator[Samples]:
    """Yield what the file of `--prometheus` says, each time that it has changed."""
    found: Samples = []
    over, began = threading.Event(), time.time()

    def read() -> None:
        values = {}
        for family in text_string_to_metric_families(path.read_text()):
            for one in family.samples:
                label = one.labels.get("phase", one.labels.get("kind", ""))
                values[f"{one.name.removeprefix(PREFIX)} {label}".strip()] = one.value
        found.append((path.stat().st_mtime - began, values))

    def look() -> None:
        while not over.wait(0.2):
            if path.exists() and path.stat().st_mtime - began > (found[-1][0] if found else 0):
                read()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        with prometheus_file(path, command, folder):
            yield found
    finally:
        over.set()
        thread.join()
    read()


def run(place: Path, pictures: int) -> tuple[Samples, Samples]:
    """Run both stages and return what their files said."""
    cache, source = place / "cache", open_source(f"shapes:{pictures}")
    images, text = ImageEncoder("tiny"), TextEncoder("tiny")
    plan = make_plan(source, splits=["train", "val"], text=text)
    with watched(place / "extract.prom", "extract-features", cache) as one:
        extract(source, plan, cache=cache, images=images, text=text, shard_bytes=1 << 21)
    config = make_config({"epochs": 12, "width": 64, "min_answer_count": 1, "lr": 1e-3})
    with watched(place / "train.prom", "train-head", place / "run") as two:
        train(cache, place / "run", config=config)
    return one, two


def panel(title: str, label: str, samples: Samples, names: Mapping[str, str], rate: bool) -> Markup:
    """Draw figures, each with its name for people, over time; or how fast they grow."""
    lines, high = [], 0.0
    for i, (figure, name) in enumerate(names.items()):
        points = [(at, values[figure]) for at, values in samples if figure in values]
        if rate:
            pairs = zip(points, points[2:], strict=False)  # over two samples, as Grafana does
            points = [(b[0], (b[1] - a[1]) / (b[0] - a[0])) for a, b in pairs]
        high = max([high, *(value for _, value in points)])
        lines.append(Line(name, points, f"s{i}"))
    x = Axis("seconds since the start", 0, samples[-1][0])
    plot = chart(title, lines, x, Axis(label, 0, 1.05 * high or 1), width=WIDTH, height=HEIGHT)
    legend = Markup(" ").join(
        Markup('<tspan class="n{}">■</tspan> {}').format(i, name)
        for i, name in enumerate(names.values())
    )
    head = Markup('<text class="title" x="48" y="12">{}</text><text x="48" y="26">{}</text>')
    size = Markup('<svg y="{}" height="{}" class="plot"').format(TITLE, HEIGHT)
    return head.format(title, legend) + Markup(plot.replace(Markup('<svg class="plot"'), size, 1))


def draw(one: Samples, two: Samples) -> Markup:
    """Return all panels as one SVG."""
    shares = {f"extract_phase_seconds_total {phase}": phase for phase in PHASES}
    stored = {"extract_pictures_total": "pictures", "extract_questions_total": "questions"}
    left = {"extract_pictures_left": "pictures", "extract_questions_left": "questions"}
    loss = {"train_loss": "of the last epoch"}
    steps = {"train_steps_total": "done", "train_steps_planned": "planned"}
    ratios = {"train_accuracy_ratio": "last epoch", "train_best_accuracy_ratio": "best"}
    chunks = {
        "extract_chunks_left images": "of pictures",
        "extract_chunks_left questions": "of questions",
    }
    panels = [
        panel("Left to store", "pictures, questions", one, left, False),
        panel("Stored a second", "1/s", one, stored, True),
        panel("Share of time by phase", "seconds per second", one, shares, True),
        panel("Shards left", "shards", one, chunks, False),
        panel("Steps", "steps", two, steps, False),
        panel("Steps a second", "1/s", two, {"train_steps_total": "steps"}, True),
        panel("Loss", "mean loss", two, loss, False),
        panel("Accuracy on val", "ratio", two, ratios, False),
    ]
    across, down = WIDTH + 10, TITLE + HEIGHT + 10
    placed = [
        Markup('<g transform="translate({} {})">{}</g>').format(i % 4 * across, i // 4 * down, one)
        for i, one in enumerate(panels)
    ]
    box = Markup('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}">').format(
        4 * across, 2 * down
    )
    paper = Markup('<style>{}</style><rect width="100%" height="100%" fill="#fff"/>')
    return Markup("").join([box, paper.format(Markup(STYLE)), *placed, Markup("</svg>\n")])


def main() -> None:
    """Run both stages and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=600)
    options = parser.parse_args()
    prometheus.EVERY = 1.0
    with tempfile.TemporaryDirectory() as place:
        options.out.write_text(draw(*run(Path(place), options.pictures)), encoding="utf-8")


if __name__ == "__main__":
    main()
