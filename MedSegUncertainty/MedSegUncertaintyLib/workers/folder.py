"""The private folder through which arrays pass; it disappears in every case."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PREFIX = "medseg-uncertainty-worker-"
_OWNER = "owner"
_SETTLED_SECONDS = 60.0


class PrivateFolder:
    """A new folder in the folder for temporary files that only this user can read (mode 0700).

    A file in it stays open and locked as long as this process lives, which is how others see that it is in use.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._owner = (self.path / _OWNER).open("wb")
        if sys.platform != "win32":  # where an open file cannot be removed, which serves as well
            fcntl.flock(self._owner, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove the folder and all that is in it; more than once does no harm."""
        self._owner.close()
        remove_tree(self.path)


def remove_tree(path: Path) -> None:
    """Remove a folder although a dying process may still be writing into it."""
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.05)


def remove_abandoned() -> None:
    """Remove folders of this user whose process is gone and that nobody removed, as after a power failure."""
    for path in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        with contextlib.suppress(OSError):
            if _is_abandoned(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_abandoned(path: Path) -> bool:
    """Whether a folder is nobody's any more.

    Raises:
        OSError: It is gone, or it is someone's.
    """
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or time.time() - status.st_mtime < _SETTLED_SECONDS:
        return False  # a new one may not be locked yet
    if sys.platform == "win32":
        (path / _OWNER).unlink(missing_ok=True)
    elif status.st_uid != os.getuid():
        return False
    elif (path / _OWNER).exists():
        with (path / _OWNER).open("rb") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True
