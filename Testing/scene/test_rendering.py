"""Whether rendering works is found out without ending this process."""

import subprocess
import sys

import pytest
from MedSegUncertaintyLib.scene import rendering


@pytest.fixture(autouse=True)
def fresh():
    rendering._renders.cache_clear()
    yield
    rendering._renders.cache_clear()


def test_a_crash_while_rendering_means_no(monkeypatch):
    monkeypatch.setattr(rendering, "PROBE", "import os; os.abort()")
    assert not rendering.isRenderingAvailable()


def test_a_render_that_hangs_means_no(monkeypatch):
    monkeypatch.setattr(rendering, "PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(rendering, "PROBE_SECONDS", 0.5)
    assert not rendering.isRenderingAvailable()


def test_no_slicer_means_no(monkeypatch):
    monkeypatch.setattr(rendering, "whyNoSlicer", lambda: "It is not here.")
    assert not rendering.isRenderingAvailable()


def test_asking_imports_neither_slicer_nor_vtk():
    code = (
        "import sys; from MedSegUncertaintyLib.scene.rendering import isRenderingAvailable; "
        "sys.exit(any(name in sys.modules for name in ('slicer', 'vtk', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
