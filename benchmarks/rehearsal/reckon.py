"""What all of VQAv2 takes, train and val, reckoned from measured and published figures."""

from collections.abc import Sequence
from functools import partial
from math import log, prod

from benchmarks.harness import Json
from benchmarks.rehearsal.book import Book, Look
from benchmarks.rehearsal.published import CARDS, COUNTS

BOTH = ("train", "val")


def reckon_all(book: Book, gpu: Json | None) -> None:
    """Reckon disk, memory and time; the time for the cards of `CARDS`, or for the one of `gpu`.

    Args:
        book: Has the measured and the published figures.
        gpu: What `benchmarks.gpu` wrote, if there is such a file.
    """
    _reckon_counts(book)
    _reckon_disk(book)
    _reckon_memory(book)
    if gpu:
        card = str(gpu["machine"]["gpu"])
        _note_gpu(book, card, gpu)
        cards = [card]
    else:
        cards = list(CARDS)
        for card in cards:
            reckon_rates(book, card)
    for card in cards:
        for number in COUNTS:
            _reckon_time(book, card, number)


def _add(look: Look, names: Sequence[str]) -> float:
    return sum(map(look, names))


def _multiply(look: Look, names: Sequence[str], by: float) -> float:
    return prod(map(look, names)) * by


def _prefixes(look: Look) -> float:
    some, few = look("VQAv2's questions that were tried"), look("half of these questions")
    rows, rows_of_few = look("their distinct prefixes"), look("the distinct prefixes of a half")
    power = log(rows / rows_of_few) / log(some / few)
    return float(rows * (look("questions of VQAv2") / some) ** power)


def _reckon_counts(book: Book) -> None:
    for what in ("pictures", "questions"):
        splits = (f"{what} of {split}" for split in BOTH)
        book.reckon(f"{what} of VQAv2", "", "train + val", partial(_add, names=tuple(splits)))
    how = "growing as from a half of the tried questions to all; the growth slows down"
    book.reckon("distinct prefixes of VQAv2", "", how, _prefixes)


def _reckon_disk(book: Book) -> None:
    archives, parts = "archives of the pictures", []
    for name, how, factors in (
        ("the pictures", "as large as their archives, which hold JPEGs", (archives,)),
        ("questions and answers", "each", ("text of a question", "questions of VQAv2")),
        ("weights of both encoders", "as written here", ("files of both encoders",)),
        ("features of pictures", "each, float16", ("features of a picture", "pictures of VQAv2")),
        (
            "features of questions",
            "each prefix, float16",
            ("features of a prefix", "distinct prefixes of VQAv2"),
        ),
        ("the runs", "each head", ("a run", "heads")),
    ):
        book.reckon(name, "GB on disk", how, partial(_multiply, names=factors, by=1e-9))
        parts.append(name)
    book.reckon("all that stays", "GB on disk", "sum", partial(_add, names=tuple(parts)))
    unpacking = ("the pictures", "the pictures", "questions and answers")
    how = "pictures and archives at once, before there are features"
    book.reckon("most during the download", "GB on disk", how, partial(_add, names=unpacking))


def _reckon_memory(book: Book) -> None:
    gb = "GB of memory"

    def all_features(look: Look, share: float) -> float:
        return share * look("features of pictures") + look("features of questions")

    def on_card(look: Look, share: float) -> float:
        train = look("pictures of train") / look("pictures of VQAv2")
        return share * look("features of pictures") * train

    for kind, share in (("float16", 1.0), ("int8", 0.5)):
        how = "pictures of train and val, and all questions; else files stay mapped"
        name = f"all features, {kind}"
        book.reckon(name, gb, how, partial(all_features, share=share))
        how = "its share of the pictures"
        book.reckon(f"pictures of train, {kind}", gb, how, partial(on_card, share=share))

    def weights(look: Look) -> float:
        return 2e-9 * (look("weights of the vision model") + look("weights of the text model"))

    book.reckon("both encoders on a card", gb, "2 bytes a weight", weights)


def reckon_rates(book: Book, card: str) -> None:
    """What a card may reach: the share of its peak that another encoder reaches on another card."""
    book.figures.get("share of the peak") or book.reckon(
        "share of the peak", "", "that DINOv3-B reaches on an RTX 4090",
        lambda look: look("DINOv3-B on an RTX 4090") * look("operations of DINOv3-B")
        / look("peak of one RTX 4090"),
    )  # fmt: skip

    def rate(look: Look, operations: str, share: str) -> float:
        return look(f"peak of one {card}") * look(share) / look(operations)

    for name, unit, operations, share in (
        ("pictures encoded", "pictures/s", "operations of a picture", "share of the peak"),
        ("prefixes encoded", "tokens/s", "operations of a token", "share of the peak"),
        ("training", "questions/s", "operations of a question, training", "share in training"),
        ("evaluation", "questions/s", "operations of a question, evaluation", "share in training"),
    ):
        book.reckon(
            f"{name} on one {card}", unit, "share of the peak by operations",
            partial(rate, operations=operations, share=share),
        )  # fmt: skip


def _note_gpu(book: Book, card: str, gpu: Json) -> None:
    """Note what was measured on a card; what was not is reckoned from its share of the peak."""
    source, two = "`make gpu`, default head", gpu["stage_two default"]
    speed = gpu["stage_one"]["extraction"]["images_per_second"]
    book.note("measured", f"pictures encoded on one {card}", speed, "pictures/s", source)
    for name, part in (("training", "training"), ("evaluation", "validation")):
        speed = two[part]["questions_per_second"]
        book.note("measured", f"{name} on one {card}", speed, "questions/s", source)
    book.reckon(
        f"prefixes encoded on one {card}", "tokens/s", "with the share of the peak of pictures",
        lambda look: look(f"pictures encoded on one {card}") * look("operations of a picture")
        / look("operations of a token"),
    )  # fmt: skip


def _reckon_time(book: Book, card: str, number: int) -> None:
    """Reckon both stages for so many cards that share the work evenly."""
    name, cards = (
        f"{number} x {card}",
        "cards share the work evenly, but not the start; without waiting",
    )

    def stage_one(look: Look) -> float:
        pictures = look("pictures of VQAv2")
        encode = pictures / look(f"pictures encoded on one {card}")
        decode = pictures * look("decoding a picture") / look("cores beside each card")
        text = look("distinct prefixes of VQAv2") / look(f"prefixes encoded on one {card}")
        return (look("start of extract-features") + (max(encode, decode) + text) / number) / 60

    def stored(look: Look) -> float:
        return look("features of pictures") / (60 * look(f"stage one, {name}"))

    def training(look: Look) -> float:
        trained = look("questions of train") / look(f"training on one {card}")
        answered = look("questions of val") / look(f"evaluation on one {card}")
        epochs = look("epochs") * (trained + answered) / number
        return look("heads") * (look("start of train-head") + epochs) / 60

    book.reckon(f"stage one, {name}", "minutes", f"decoding beside encoding; {cards}", stage_one)
    book.reckon(f"the disk, {name}", "GB/s", "what stage one stores in that time", stored)
    book.reckon(f"four heads, {name}", "minutes", f"as if all cost what co-attention does; {cards}",
                training)  # fmt: skip
