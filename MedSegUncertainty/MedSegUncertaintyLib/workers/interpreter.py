"""Which Python runs the child, and with which environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from MedSegUncertaintyLib.workers.events import Failure, WorkerError

LIBRARY = Path(__file__).resolve().parents[2]
"""Folder that holds the package MedSegUncertaintyLib."""

# The folder comes as an argument because launchers may replace PYTHONPATH.
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from MedSegUncertaintyLib.workers.child import main; sys.exit(main())"
)


def command() -> list[str]:
    """The command line of the child, without a shell.

    Raises:
        WorkerError: There is no Python to run it with.
    """
    return [str(find_python(Path(sys.executable or "Slicer"), os.name == "nt")), "-c", _START, str(LIBRARY)]


def find_python(executable: Path, windows: bool) -> Path:
    """The Python interpreter for the process whose ``sys.executable`` is given.

    Slicer embeds Python, and its executable is then Slicer, PythonSlicer or a file in ``lib/Python``; PythonSlicer is
    in its folder ``bin``. On Windows PythonSlicer is a launcher that keeps its standard input to itself, so there the
    interpreter behind it is taken, for which the environment of a running Slicer suffices.

    Args:
        executable: Value of ``sys.executable``.
        windows: Whether this is Windows.

    Raises:
        WorkerError: The executable is no Python, and PythonSlicer is not near it.
    """
    names = ("python-real.exe", "PythonSlicer.exe") if windows else ("PythonSlicer",)
    near = [folder for parent in list(executable.parents)[:4] for folder in (parent, parent / "bin")]
    for name in names:
        for folder in near:
            if (folder / name).is_file():
                return folder / name
    if executable.name.lower().startswith("python"):
        return executable
    raise WorkerError(Failure.SETUP, f"PythonSlicer was not found near {executable}; install Slicer again.")


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Environment of the child: that of this process, with text as UTF-8 and the stack of a crash in the log."""
    # With a safe path, a file torch.py in the current folder is not taken for torch.
    return {**base, "PYTHONUTF8": "1", "PYTHONFAULTHANDLER": "1", "PYTHONSAFEPATH": "1"}
