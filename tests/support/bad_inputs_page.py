"""docs/bad-inputs.md from its cases; `python -m tests.support.bad_inputs_page` writes its tables.

A case makes one input in a folder and returns the row's outcome and its sentence. On the page the
folder is written as DATA, the text encoder as MODEL, and words that are a library's as "…".
"""

import re
import tempfile
from pathlib import Path

import datasets
import pytest

from tests.support.bad_answers import ANSWERS
from tests.support.bad_asked import ASKED
from tests.support.bad_caches import CACHES
from tests.support.bad_clusters import CLUSTERS
from tests.support.bad_columns import COLUMNS
from tests.support.bad_downloads import DOWNLOADS
from tests.support.bad_fields import FIELDS
from tests.support.bad_files import FILES
from tests.support.bad_folders import FOLDERS
from tests.support.bad_forged import FORGED
from tests.support.bad_gpu_jpegs import GPU_JPEGS
from tests.support.bad_grey_pictures import GREY_PICTURES
from tests.support.bad_inputs import SCORED, STORED, Row
from tests.support.bad_large import LARGE
from tests.support.bad_letters import LETTERS
from tests.support.bad_machines import SEVERAL_MACHINES
from tests.support.bad_metrics import METRICS
from tests.support.bad_models import MODELS
from tests.support.bad_official import OFFICIAL
from tests.support.bad_options import OPTIONS
from tests.support.bad_orientations import ORIENTATIONS
from tests.support.bad_pages import PAGES
from tests.support.bad_parts import PARTS
from tests.support.bad_picture_modes import MODES
from tests.support.bad_pictures import PICTURES
from tests.support.bad_plugins import CODE
from tests.support.bad_predictions import RESULTS
from tests.support.bad_processors import PROCESSORS
from tests.support.bad_questions import QUESTIONS
from tests.support.bad_reports import REPORTS
from tests.support.bad_runs import CACHES_AND_RUNS
from tests.support.bad_same_pictures import SAME
from tests.support.bad_several import SEVERAL
from tests.support.bad_shared import SHARED
from tests.support.bad_sizes import SIZES
from tests.support.bad_special_files import SPECIAL
from tests.support.bad_storage import MACHINES, STORAGE
from tests.support.bad_stored_pictures import PICTURES_AT_URLS
from tests.support.bad_stores import AT_URLS
from tests.support.bad_system import SYSTEM
from tests.support.bad_tables import TABLES
from tests.support.bad_tiffs import TIFFS
from tests.support.bad_watched import WATCHED
from tests.support.bad_wds import WEBDATASETS
from tests.support.frozen import Text
from tests.support.repository import ROOT

PAGE = ROOT / "docs" / "bad-inputs.md"
SECTIONS = {
    "Pictures": PICTURES,
    "Orientation": ORIENTATIONS,
    "Kinds of pictures": MODES,
    "Kinds of TIFF": TIFFS,
    "Deep, medical and new kinds": GREY_PICTURES,
    "JPEGs on a GPU": GPU_JPEGS,
    "Image processors": PROCESSORS,
    "Models and sizes of pictures": MODELS,
    "Questions and answers": QUESTIONS,
    "Own tables and pictures": TABLES,
    "Forms of answers": ANSWERS,
    "Typed columns": COLUMNS,
    "Data sets in their authors' files": OFFICIAL,
    "Files and splits": FILES,
    "Folders": FOLDERS,
    "Downloads": DOWNLOADS,
    "Forged runs and caches": FORGED,
    "Sizes": SIZES,
    "Special files, links and names": SPECIAL,
    "Fields of a wrong type": FIELDS,
    "Damaged caches": CACHES,
    "Caches and runs": CACHES_AND_RUNS,
    "Caches at a URL": AT_URLS,
    "Links, leases and shared folders": SHARED,
    "Pictures at a URL": PICTURES_AT_URLS,
    "WebDatasets": WEBDATASETS,
    "Caches of several encoders and layers": PARTS,
    "Caches of many shards": PAGES,
    "How features are stored": STORAGE,
    "Small machines": MACHINES,
    "Millions of questions": LARGE,
    "Reports": REPORTS,
    "Choices and several pictures": SEVERAL,
    "Pictures under several names": SAME,
    "Predictions": RESULTS,
    "Metrics of other data sets": METRICS,
    "Options": OPTIONS,
    "What is asked, and lists of runs": ASKED,
    "Code of your own": CODE,
    "Clusters": CLUSTERS,
    "Several machines": SEVERAL_MACHINES,
    "Figures for Prometheus": WATCHED,
    "The system": SYSTEM,
    "Letters and spaces of answers": LETTERS,
}


def stay_offline(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let `datasets` keep its files in a folder of the test, and ask nobody."""
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def make_row(section: str, name: str, folder: Path) -> Row:
    """Run a case in a new folder and return its outcome and sentence, as the page has them."""
    folder.mkdir()
    outcome, sentence = SECTIONS[section][name](folder)
    assert "\n" not in sentence
    sentence = sentence.replace(str(folder), "DATA").replace(Text.name, "MODEL")
    return outcome, re.sub(r"(damaged|cannot be read|not a TOML file) \(.*\)$", r"\1 (…)", sentence)


def write_line(name: str, row: Row) -> str:
    """Return the line of a table; what a command prints stands as code."""
    outcome, sentence = row
    if outcome not in (STORED, SCORED):
        ticks = "``" if "`" in sentence else "`"
        space = " " if "`" in sentence else ""
        sentence = f"{ticks}{space}{sentence}{space}{ticks}"
    cells = [cell.replace("|", r"\|") for cell in (name, outcome, sentence)]
    return "| " + " | ".join(cells) + " |"


def lines_of(section: str) -> list[str]:
    """Return the lines of a section's table on the page, without the two of its head."""
    (body,) = re.findall(
        rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)",
        PAGE.read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    return re.findall(r"^\| .* \|$", body, re.MULTILINE)[1:]


def write_page() -> None:
    """Write the table of each section anew; the page's words around them stay."""
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        stay_offline(patch, Path(made) / "datasets")
        for number, (section, cases) in enumerate(SECTIONS.items()):
            rows = [
                write_line(name, make_row(section, name, Path(made) / f"{number}-{row}"))
                for row, name in enumerate(cases)
            ]
            table = "\n".join(["| input | outcome | sentence |", "|---|---|---|", *rows])
            page = re.sub(
                rf"(^## {re.escape(section)}\n(?:(?!^## ).*\n)*?)(?:\|.*\n)+",
                lambda found, table=table: f"{found[1]}{table}\n",  # type: ignore[misc]
                page,
                count=1,
                flags=re.MULTILINE,
            )
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write_page()
