"""Which Python is started: trees like those of Slicer's installations."""

from pathlib import Path

import pytest
from MedSegUncertaintyLib.workers.events import Failure, WorkerError
from MedSegUncertaintyLib.workers.interpreter import find_python


def tree(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


@pytest.mark.parametrize(
    "executable", ["Slicer", "bin/SlicerApp-real", "bin/PythonSlicer", "bin/python-real", "lib/Python/bin/python3.12"]
)
def test_slicer_on_linux(tmp_path: Path, executable: str) -> None:
    tree(tmp_path, "Slicer", "bin/SlicerApp-real", "bin/PythonSlicer", "bin/python-real", "lib/Python/bin/python3.12")
    assert find_python(tmp_path / executable, windows=False) == tmp_path / "bin" / "PythonSlicer"


@pytest.mark.parametrize("executable", ["MacOS/Slicer", "bin/PythonSlicer"])
def test_slicer_on_macos(tmp_path: Path, executable: str) -> None:
    contents = tmp_path / "Slicer.app" / "Contents"
    tree(contents, "MacOS/Slicer", "bin/PythonSlicer", "bin/python-real")
    assert find_python(contents / executable, windows=False) == contents / "bin" / "PythonSlicer"


@pytest.mark.parametrize("executable", ["Slicer.exe", "bin/SlicerApp-real.exe", "bin/PythonSlicer.exe"])
def test_slicer_on_windows(tmp_path: Path, executable: str) -> None:
    tree(tmp_path, "Slicer.exe", "bin/SlicerApp-real.exe", "bin/PythonSlicer.exe", "bin/python-real.exe")
    assert find_python(tmp_path / executable, windows=True) == tmp_path / "bin" / "python-real.exe"


def test_elsewhere_the_interpreter_that_runs(tmp_path: Path) -> None:
    tree(tmp_path, "bin/python3.12")
    assert find_python(tmp_path / "bin" / "python3.12", windows=False) == tmp_path / "bin" / "python3.12"


def test_an_application_without_python_is_one_sentence(tmp_path: Path) -> None:
    tree(tmp_path, "Slicer")
    with pytest.raises(WorkerError, match=r"PythonSlicer was not found near .*Slicer; install Slicer again") as caught:
        find_python(tmp_path / "Slicer", windows=False)
    assert caught.value.kind == Failure.SETUP
