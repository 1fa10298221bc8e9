"""Where we keep what is the user's, on every platform."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def user_folder(name: str) -> Path:
    """A folder of the user's own; it survives updates of the extension and need not exist yet."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        given = Path(os.environ.get("XDG_DATA_HOME", ""))
        base = given if given.is_absolute() else Path.home() / ".local" / "share"  # as the specification says
    return base / "MedSegUncertainty" / name
