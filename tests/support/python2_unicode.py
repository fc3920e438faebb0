"""Print what the running Python does to each code point, as the official tool uses it.

The golden file of `tests/pipeline/metrics/test_python2_text.py` is the output of Python 2.7:

    python2.7 tests/support/python2_unicode.py > tests/pipeline/metrics/python2_unicode.json

Runs of code points that differ by `step` and are lowered by the same shift stand as [first, last,
step, shift]; shift 0 does not occur.
"""

import json
import re
import sys
import unicodedata

try:
    character = unichr
except NameError:  # Python 3
    character = chr

lower, spaces, digits = [], [], []
for code in range(sys.maxunicode + 1):
    text = character(code)
    lowered = text.lower()
    # Neither the letters nor the spaces of Python 2 depend on what stands beside them.
    inside = character(97) + text + character(98)
    assert inside.lower() == character(97) + lowered + character(98)
    assert (character(97) + text).lower() == character(97) + lowered
    if text.isspace():
        spaces.append(code)
    assert text.isspace() == (not text.strip()) == (not text.split()) == (len(inside.split()) == 2)
    if re.match(r"\d", text):
        digits.append(code)
    shift = ord(lowered) - code  # `ord` refuses more than one character
    if not shift:
        continue
    run = lower[-1] if lower else [0, 0, 0, 0]
    step = code - run[1]
    if run[3] == shift and step <= 2 and (step == run[2] or run[0] == run[1]):
        run[1:3] = code, step
    else:
        lower.append([code, code, 1, shift])

found = {"python": sys.version.split()[0], "unicode": unicodedata.unidata_version}
found.update({"last": sys.maxunicode, "lower": lower, "spaces": spaces, "digits": digits})
print(json.dumps(found, sort_keys=True))
