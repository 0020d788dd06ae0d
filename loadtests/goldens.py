"""The golden weights and pictures, which lie with the tests: the one place that reaches there.

Everything else in this package imports as packages do. `from loadtests import goldens` first, then what it makes
importable: `golden_clips`, `rebuild_weights`, `causal_golden`.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
_MODELS = ROOT / "tests" / "models"
sys.path += [str(each) for each in (_MODELS, _MODELS / "networks", GOLDEN / "fclipscore", GOLDEN / "qualiclip")]
