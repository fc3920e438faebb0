"""Text as Python 2.7 lowers and splits it, because the official tool runs on Python 2.7.

Python 2.7 has the tables of Unicode 5.2 and maps one character to one, whatever stands beside it.
Python 3 has newer tables, which differ from version to version, and rules of context:

    character           Python 2.7          Python 3
    U+0130, dotted I    i                   i and a combining dot
    Σ that ends a word  σ                   ς
    U+180E              a space             none
    U+13A0, Cherokee    no lower case       a lower case, added after Unicode 5.2

These functions give what Python 2.7 gives, under every Python 3. The tables come from CPython 2.7.3
on Linux, where a character has 32 bits, and were compared with it on all 1,114,112 code points.
"""

import re

_SPACES = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_WORD = re.compile(f"[^{_SPACES}]+")

# Within these ranges, Unicode 5.2 and all later versions give each character the same lower case.
# In 5.2 no other character has one.
_CASED = """
    41-5a c0-d6 d8-de 100-1b8 1bc 1c4-24e 370-372 376 386 388-38a 38c 38e-3a1 3a3-3cf 3d8-3f4
    3f7-480 48a-524 531-556 10a0-10c5 1e00-1f0f 1f18-1f1d 1f28-1f3f 1f48-1f4d 1f59 1f5b 1f5d
    1f5f-1f6f 1f88-1faf 1fb8-1fbc 1fc8-1fcc 1fd8-1fdb 1fe8-1fec 1ff8-1ffc 2126 212a-212b 2132
    2160-216f 2183 24b6-24cf 2c00-2c2e 2c60-2c75 2c7e-2ce2 2ceb-2ced a640-a65e a662-a66c a680-a696
    a722-a76e a779-a786 a78b ff21-ff3a 10400-10427
"""
_LOWER = {
    code: chr(code).lower()
    for first, _, last in (part.partition("-") for part in _CASED.split())
    for code in range(int(first, 16), int(last or first, 16) + 1)
} | {0x130: "i"}


def strip(text: str) -> str:
    """Return `text` without the spaces at its ends: `unicode.strip` of Python 2.7."""
    return text.strip(_SPACES)


def lower_words(text: str) -> list[str]:
    """Return the words of `text` in lower case: `unicode.lower` and `split` of Python 2.7."""
    if text.isascii():
        return text.lower().split()
    return _WORD.findall(text.translate(_LOWER))
