"""How large a report is, and how soon Chromium paints it and shows its cards.

    python -m benchmarks.report_times REPORT.html

Needs the extra `browser` and Chromium.
"""

import argparse
from pathlib import Path

from benchmarks.screenshot import opened

TIMES = "[performance.getEntriesByType('paint').at(-1).startTime, performance.now()]"


def main() -> None:
    """Print size and times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("report", type=Path)
    report = parser.parse_args().report
    with opened(report) as page:
        painted, ready = page.evaluate(TIMES)
    size = report.stat().st_size / 1e6
    print(f"{size:.1f} MB, painted after {painted:.0f} ms, cards by {ready:.0f} ms")


if __name__ == "__main__":
    main()
