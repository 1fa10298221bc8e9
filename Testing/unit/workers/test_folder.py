"""The private folder goes away, also that of a process that could not remove its own."""

import os
import stat
from pathlib import Path

import pytest
from MedSegUncertaintyLib.workers.folder import PREFIX, PrivateFolder, remove_abandoned


@pytest.fixture
def old(temporary: Path) -> Path:
    """A folder that was left behind an hour ago."""
    folder = temporary / f"{PREFIX}left"
    folder.mkdir()
    (folder / "owner").touch()
    (folder / "image.npy").write_bytes(b"secret")
    os.utime(folder, (os.stat(folder).st_mtime - 3600,) * 2)
    return folder


def test_only_the_user_can_read_it(temporary: Path) -> None:
    folder = PrivateFolder()
    assert folder.path.parent == temporary
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    (folder.path / "image.npy").touch()
    for _ in range(2):
        folder.remove()
        assert not folder.path.exists()


def test_what_was_left_behind_is_removed(old: Path) -> None:
    remove_abandoned()
    assert not old.exists()


def test_what_is_in_use_or_new_stays(old: Path, temporary: Path) -> None:
    used = PrivateFolder()
    os.utime(used.path, (os.stat(used.path).st_mtime - 3600,) * 2)
    (temporary / f"{PREFIX}new").mkdir()
    (temporary / "other").mkdir()
    os.utime(temporary / "other", (0, 0))
    (temporary / f"{PREFIX}link").symlink_to(temporary / "other")
    remove_abandoned()
    assert not old.exists()
    assert {path.name for path in temporary.iterdir()} == {used.path.name, f"{PREFIX}new", "other", f"{PREFIX}link"}
    used.remove()
