"""What a million, 10⁸ and 10⁹ pictures take and cost, reckoned as all of VQAv2 is.

Each picture has one question. Stage one alone costs: training needs what VQAv2 needs for each
question. Prices are lists of one seller on one day; whoever pays others changes them here.
"""

from functools import partial

from benchmarks.rehearsal.book import Book, Look
from benchmarks.rehearsal.published import CARDS, CORES
from benchmarks.rehearsal.reckon import reckon_rates

COUNTS = (10**6, 10**8, 10**9)
"""Pictures."""

JOBS = "huggingface.co/docs/hub/jobs-pricing, read 30 November 2026"
STORAGE = "huggingface.co/docs/hub/storage-limits, private storage, read 30 November 2026"
FORMS = "docs/results.md, Smaller features"
SHEET = "NVIDIA's data sheet: bfloat16, dense"
RENTED: dict[str, tuple[float, int, float]] = {
    "L40S": (362.05e12, 8, 1.80),
    "A100 SXM": (312e12, 12, 2.50),
    "H200 SXM": (989.4e12, 23, 5.00),
}
"""Cards of Hub Jobs: operations a second at most, virtual cores beside one, dollars an hour."""


def reckon_scales(book: Book) -> None:
    """Reckon hours, terabytes and dollars; the book has what `reckon_all` needs."""
    book.note("chosen", "questions of a picture", 1, "", "VQAv2 has 5.3")
    book.note("published", "price of a terabyte", 25.0, "$ a month", STORAGE)
    for card, (peak, cores, price) in RENTED.items():
        book.note("published", f"peak of one {card}", peak, "operations/s", SHEET)
        book.note("published", f"cores beside one {card}", cores, "virtual cores", JOBS)
        book.note("published", f"price of one {card}", price, "$ an hour", JOBS)
        reckon_rates(book, card)
    for card in CARDS:
        if f"pictures encoded on one {card}" not in book.figures:  # `--gpu` has another card
            reckon_rates(book, card)
        book.note("chosen", f"cores beside one {card}", CORES, "", "a usual machine")
    book.reckon(
        "prefixes of a question", "", "as of the tried questions; more questions share more",
        lambda look: look("their distinct prefixes") / look("VQAv2's questions that were tried"),
    )  # fmt: skip
    for name, size in (("int8", 198_656), ("int8, pooled", 50_816)):
        book.note("measured", f"features of a picture, {name}", size, "bytes", FORMS)
    for count in COUNTS:
        _reckon_bytes(book, count)
        for card in (*CARDS, *RENTED):
            _reckon_hours(book, card, count)


def _reckon_bytes(book: Book, count: int) -> None:
    def questions(look: Look) -> float:
        prefixes = look("questions of a picture") * look("prefixes of a question")
        return count * prefixes * look("features of a prefix") / 1e12

    def each(look: Look, name: str) -> float:
        return count * look(name) / 1e12

    def price(look: Look, pictures: str) -> float:
        terabytes = look(pictures) + look(f"questions, {count:,} pictures")
        return terabytes * look("price of a terabyte")

    book.reckon(f"JPEGs, {count:,} pictures", "TB", "each", partial(each, name="a JPEG"))
    book.reckon(f"questions, {count:,} pictures", "TB", "each prefix, float16", questions)
    for form in ("", ", int8", ", int8, pooled"):
        name = f"features{form or ', float16'}, {count:,} pictures"
        book.reckon(name, "TB", "each", partial(each, name=f"features of a picture{form}"))
        how = "with the features of questions"
        book.reckon(f"a month of {name}", "$", how, partial(price, pictures=name))


def _reckon_hours(book: Book, card: str, count: int) -> None:
    name = f"{card}, {count:,} pictures"

    def hours(look: Look) -> float:
        encode = 1 / look(f"pictures encoded on one {card}")
        decode = look("decoding a picture") / look(f"cores beside one {card}")
        prefixes = look("questions of a picture") * look("prefixes of a question")
        text = prefixes / look(f"prefixes encoded on one {card}")
        return count * (max(encode, decode) + text) / 3600

    how = "decoding beside encoding, then questions; without starts and waiting"
    book.reckon(f"hours of {name}", "card-hours", how, hours)
    if card in RENTED:
        book.reckon(
            f"cost of {name}", "$", "hours by price",
            lambda look: look(f"hours of {name}") * look(f"price of one {card}"),
        )  # fmt: skip
