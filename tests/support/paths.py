"""Where the repository's folders lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGS, EXAMPLES = ROOT / "configs", ROOT / "examples"
