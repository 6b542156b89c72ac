"""The captures are read as the wire tests read them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "wire"))
