"""The rows of docs/bad-inputs.md about letters and spaces outside ASCII in answers: as in Python 2.

Each case scores one prediction against ten given answers, of which nine are one text.
"""

from collections.abc import Callable
from pathlib import Path

from frozen_vqa.pipeline.metrics.vqa_accuracy import Rules, question_score
from tests.support.bad_inputs import SCORED, Row


def letters(answer: str, given: str, why: str, *, same: bool = True) -> Callable[[Path], Row]:
    """A case of a prediction that counts as the given answer, or does not, in both rules."""

    def make(folder: Path) -> Row:
        rules: tuple[Rules, ...] = ("2021", "2017")
        for each in rules:
            assert question_score(answer, [given] * 9 + ["cat"], rules=each) == float(same)
        return SCORED, f"{'the same' if same else 'not the same'}: {why}"

    return make


def space(
    character: str, why: str = "it is a space", *, same: bool = True
) -> Callable[[Path], Row]:
    return letters(f"red{character}dog", "red dog", why, same=same)


LETTERS: dict[str, Callable[[Path], Row]] = {
    "capital sigma at the end of a word, small sigma": letters(
        "\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c3", "it has one small letter"
    ),
    "capital sigma at the end of a word, final sigma": letters(
        "\u039f\u0394\u039f\u03a3",
        "\u03bf\u03b4\u03bf\u03c2",
        "it has one small letter",
        same=False,
    ),
    "dotted capital I (U+0130), i": letters("\u0130stanbul", "istanbul", "it becomes i"),
    "dotted capital I, i with a combining dot": letters(
        "\u0130stanbul", "i\u0307stanbul", "it becomes i", same=False
    ),
    "dotless i, i": letters("\u0131", "i", "it is a small letter already", same=False),
    "capital sharp s, sharp s": letters("STRA\u1e9eE", "stra\u00dfe", "Unicode 5.2 has both"),
    "sharp s, ss": letters("stra\u00dfe", "strasse", "one letter stays one", same=False),
    "Kelvin sign, k": letters("\u212a", "k", "it becomes k"),
    "Angstrom sign, a with a ring": letters("\u212b", "\u00e5", "it becomes å"),
    "Roman numeral eight, small": letters("\u2167", "\u2177", "Unicode 5.2 has both"),
    "circled A, small": letters("\u24b6", "\u24d0", "Unicode 5.2 has both"),
    "full-width A, small": letters("\uff21", "\uff41", "Unicode 5.2 has both"),
    "full-width b, b": letters("\uff42", "b", "they are different letters", same=False),
    "Dz with caron in title case, small": letters("\u01c5", "\u01c6", "Unicode 5.2 has both"),
    "Deseret capital, small": letters("\U00010400", "\U00010428", "beyond 16 bits too"),
    "Georgian capital of 4.1, small": letters("\u10a0", "\u2d00", "Unicode 5.2 has both"),
    "Georgian capital of 6.1, small": letters(
        "\u10c7", "\u2d27", "Unicode 5.2 lacks it", same=False
    ),
    "Georgian capital of 11, small": letters(
        "\u1c90", "\u10d0", "Unicode 5.2 lacks it", same=False
    ),
    "Cherokee letter, small": letters(
        "\u13a0", "\uab70", "Unicode 5.2 has no small ones", same=False
    ),
    "Cyrillic capital of 6.0, small": letters(
        "\u0526", "\u0527", "Unicode 5.2 lacks it", same=False
    ),
    "Adlam capital, small": letters("\U0001e900", "\U0001e922", "Unicode 5.2 lacks it", same=False),
    "one letter with its accent, letter and accent": letters(
        "caf\u00e9", "cafe\u0301", "nothing is composed", same=False
    ),
    "no-break space (U+00A0)": space("\u00a0"),
    "next line (U+0085)": space("\x85"),
    "file separator (U+001C)": space("\x1c"),
    "vertical tab": space("\v"),
    "line separator (U+2028)": space("\u2028"),
    "ideographic space (U+3000)": space("\u3000"),
    "Mongolian vowel separator (U+180E)": space("\u180e", "it is a space until Unicode 6.2"),
    "zero width space (U+200B)": space("\u200b", "it is no space since Unicode 4.0.1", same=False),
    "byte order mark (U+FEFF)": space("\ufeff", "it is no space", same=False),
    "soft hyphen (U+00AD)": space("\u00ad", "it is no punctuation", same=False),
    "Mongolian vowel separator at the end": letters("red\u180e", "red", "it is stripped"),
    "typographic apostrophe": letters(
        "don\u2019t", "don't", "only the ASCII one is known", same=False
    ),
    "en dash between words": letters("t\u2013shirt", "t shirt", "it is no punctuation", same=False),
    "Arabic digits about a comma": letters(
        "\u0663,\u0663", "\u0663\u0663", "only 0 to 9 are digits", same=False
    ),
}
