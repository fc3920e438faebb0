"""Where this checkout and the real data lie."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FROZEN_VQA_DATA") or ROOT.parent / "shared" / "data")
