"""The panel under the stand-in for Slicer's desktop; an exception in a slot or an error of VTK fails the test."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from MedSegUncertaintyLib.scene.rendering import isRenderingAvailable, whyNoSlicer

MODULE = Path(__file__).parents[2] / "MedSegUncertainty" / "MedSegUncertainty.py"
WINDOW_SIZE = (1200, 800)


@functools.cache
def why_no_panel() -> str | None:
    """Why there is no stand-in here, as a sentence; ``None`` where it works."""
    if whyNoSlicer() is not None:
        return whyNoSlicer()
    import slicer_stand_in

    try:
        slicer_stand_in.install()
    except ImportError as error:
        return f"The stand-in for Slicer needs PySide6 and its system libraries: {error}"
    return None if isRenderingAvailable() else "The stand-in for Slicer needs OpenGL, of Mesa or of a graphics card."


class WithoutStandIn(pytest.Module):
    def collect(self) -> list[Any]:
        pytest.skip(why_no_panel() or "", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> Any:
    """Let test modules import ``qt`` and ``ctk``; skip them where the stand-in does not work."""
    if why_no_panel() is not None:
        return WithoutStandIn.from_parent(parent, path=module_path)
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    return None


@pytest.fixture(autouse=True)
def application(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``slicer.app`` with an empty scene; other tests of the process get their own application back."""
    import slicer
    import slicer_stand_in
    import vtk
    from slicer_stand_in.connections import SLOT_ERRORS

    headless = getattr(slicer, "app", None)
    for name in ("app", "mrmlScene", "modules"):
        monkeypatch.setattr(slicer, name, getattr(slicer, name, None), raising=False)
    monkeypatch.setitem(sys.modules, "slicer.modules", None)
    application = slicer_stand_in.start()
    window, log = vtk.vtkOutputWindow.GetInstance(), slicer.vtkTestingOutputWindow()
    vtk.vtkOutputWindow.SetInstance(log)
    SLOT_ERRORS.clear()
    yield application
    application._reset()
    vtk.vtkOutputWindow.SetInstance(window)
    if headless is not None:
        application._lendFactories(headless.applicationLogic())
    assert not SLOT_ERRORS, "exceptions in slots, which Slicer only prints"
    assert log.GetNumberOfLoggedErrorMessages() == 0, "VTK logged errors; run with -s to read them"


@pytest.fixture
def slot_errors(application: Any) -> list[Any]:
    """Exceptions in slots so far. A test that expects some looks at them and empties the list."""
    from slicer_stand_in.connections import SLOT_ERRORS

    return SLOT_ERRORS


@pytest.fixture
def main_window(application: Any) -> Any:
    """The window, shown, with its views laid out."""
    import slicer

    window = slicer.util.mainWindow()
    window.resize(*WINDOW_SIZE)
    window.show()
    application.processEvents()
    return window


@pytest.fixture
def load_module(application: Any) -> Callable[..., Any]:
    """Loads a scripted module from its file; ours if no path is given."""
    from slicer_stand_in.modules import loadScriptedModule

    return lambda path=MODULE: loadScriptedModule(path)


@pytest.fixture
def own_folders(application: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that a developer has installed do not appear in the list."""
    import qt

    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    qt.QSettings().clear()


@pytest.fixture
def panel(own_folders: None, load_module: Callable[..., Any], main_window: Any) -> Any:
    """The panel, open; its widgets are ``panel.ui``."""
    import slicer

    main_window.resize(1400, 1100)
    load_module()
    slicer.util.selectModule("MedSegUncertainty")
    slicer.app.processEvents()
    return slicer.modules.MedSegUncertaintyWidget


def head_array() -> np.ndarray:
    """A bright blob in noise, 1 mm voxels, as MR would show it."""
    k, j, i = np.indices((64, 72, 64))
    inside = ((i - 32) / 7) ** 2 + ((j - 36) / 16) ** 2 + ((k - 32) / 7) ** 2 < 1
    array = 100 + 60 * inside + np.random.default_rng(0).normal(0, 5, inside.shape)
    return array.astype(np.float32)


@pytest.fixture
def head(application: Any) -> Any:
    """``head_array`` as a volume node."""
    import slicer

    return slicer.util.addVolumeFromArray(head_array(), None, "Head")


@pytest.fixture
def head_file(tmp_path: Path) -> Path:
    """``head_array`` as a file."""
    import SimpleITK

    path = tmp_path / "Head.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(head_array()), str(path))
    return path
