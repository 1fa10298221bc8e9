"""Pictures of README: each that it shows is there, and none lies around."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PICTURES = "Resources/Screenshots/"


def test_readme_shows_every_picture_and_names_no_other():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(rf"!\[[^\]]+\]\({PICTURES}([^)]+)\)", readme)
    assert sorted(shown) == sorted(path.name for path in (ROOT / PICTURES).iterdir())
