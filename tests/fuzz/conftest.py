"""The made fixtures of the builders' own tests are the seeds here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
