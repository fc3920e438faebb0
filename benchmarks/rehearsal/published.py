"""Figures that others published, and those that we measured elsewhere; each with its source.

None of them is of DINOv2 and Llama 3 on VQAv2: nobody has published one that we found.
"""

from benchmarks.rehearsal.book import Book
from benchmarks.rehearsal.data import PICTURES, QUESTIONS, SOURCE
from frozen_vqa.pipeline.download.catalogue import DATA_SETS

TIMM = (
    "huggingface/pytorch-image-models, results/benchmark-infer-amp-nchw-pt291-cu128-4090.csv: "
    "vit_base_patch16_dinov3 at 256 pixels (261 tokens; DINOv2-base at 224 has 257), batches of "
    "1,024, AMP, not compiled"
)
PREFIXES = "`make test-data`, test_prefixes_real_text.py, with Llama 3's tokenizer"
CARDS = {
    "RTX 4090": (
        165.2e12,
        "NVIDIA Ada GPU Architecture, appendix A: bfloat16, dense, float32 sums",
    ),
    "H100 SXM": (989.4e12, "NVIDIA H100 data sheet: bfloat16, half of the sparse 1,979"),
}
"""Operations a second at most."""

CORES = 8
"""Of the processor, for each card; a choice that whoever has other machines changes."""
HEADS, EPOCHS = 4, 15
TRAINING = 0.2
"""The share of its peak that a card reaches in training."""
COUNTS = (1, 8, 64)
"""Cards."""


def note_published(book: Book) -> None:
    """Note all of them in a book."""
    for split in ("train", "val"):
        book.note("published", f"pictures of {split}", PICTURES[split], "", SOURCE)
        book.note("published", f"questions of {split}", QUESTIONS[split], "", SOURCE)
    archives = sum(file.bytes or 0 for file in DATA_SETS["coco2014"].files)
    where = "TensorFlow Datasets, as in pipeline/download/catalogue.py"
    book.note("published", "archives of the pictures", archives, "bytes", where)
    book.note("published", "DINOv3-B on an RTX 4090", 1340.21, "pictures/s", TIMM)
    book.note("published", "operations of DINOv3-B", 2 * 23.6e9, "a picture", TIMM)
    for card, (peak, source) in CARDS.items():
        book.note("published", f"peak of one {card}", peak, "operations/s", source)
    book.note("chosen", "cores beside each card", CORES, "", "a usual machine; change CORES")
    book.note("chosen", "share in training", TRAINING, "", "a low guess: no GPU was at hand")
    book.note("chosen", "heads", HEADS, "", "co-attention, text-to-image, concat, question-only")
    book.note("chosen", "epochs", EPOCHS, "", "the default of train-head")
    for name, value in (
        ("VQAv2's questions that were tried", 48_061),
        ("their distinct prefixes", 137_382),
        ("half of these questions", 48_061 / 2),
        ("the distinct prefixes of a half", (76_893 + 78_143) / 2),
    ):
        book.note("measured", name, value, "", PREFIXES)
