"""Slicer imports our files when it starts and when the panel is opened: that must load nothing heavy."""

import subprocess
import sys
from pathlib import Path

import pytest

MODULE_FOLDER = Path(__file__).resolve().parents[3] / "MedSegUncertainty"

# Slicer's Python layer is not needed to see what the module file imports.
SLICER_STUBS = """
import sys, types
for name in ("", ".i18n", ".ScriptedLoadableModule", ".parameterNodeWrapper", ".util"):
    sys.modules["slicer" + name] = types.ModuleType("slicer" + name)
slicer = sys.modules["slicer"]
for name in ("ScalarVolume", "MarkupsROI", "Segmentation", "Slice"):
    setattr(slicer, f"vtkMRML{name}Node", object)
sys.modules["slicer.util"].VTKObservationMixin = type("VTKObservationMixin", (), {})
sys.modules["slicer.parameterNodeWrapper"].parameterNodeWrapper = lambda cls: cls
for name in ("Choice", "WithinRange"):
    setattr(sys.modules["slicer.parameterNodeWrapper"], name, lambda *_: None)
sys.modules["slicer.i18n"].tr = sys.modules["slicer.i18n"].translate = None
for name in ("", "Logic", "Test", "Widget"):
    setattr(sys.modules["slicer.ScriptedLoadableModule"], "ScriptedLoadableModule" + name, type("Base", (), {}))
"""

# Whatever the panel takes from Slicer and Qt is a class here, which can be called and derived from.
PANEL_STUBS = """
import sys, types
class Stub(types.ModuleType):
    __path__ = ()
    def __getattr__(self, name):
        return type(name, (), {"__init__": lambda *_: None})
for name in ("ctk", "qt", "slicer", "slicer.i18n", "slicer.util", "vtk", "vtk.util", "vtk.util.numpy_support"):
    sys.modules[name] = Stub(name)
"""


@pytest.mark.parametrize(
    ("setup", "module"),
    [
        ("", "MedSegUncertaintyLib"),
        ("", "MedSegUncertaintyLib.packages.store"),
        ("", "MedSegUncertaintyLib.models.registry"),
        ("", "MedSegUncertaintyLib.workers.worker"),
        (SLICER_STUBS, "MedSegUncertainty"),
    ],
    ids=lambda value: value if "\n" not in value else "stubs",
)
def test_import_loads_neither_torch_nor_monai(setup, module):
    code = f"{setup}\nimport sys, {module}\nprint(sorted({{'torch', 'monai'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=MODULE_FOLDER, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_panel_is_opened_without_what_only_runs_and_downloads_need():
    code = f"{PANEL_STUBS}\nimport MedSegUncertaintyLib.gui.panel\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=MODULE_FOLDER, capture_output=True, text=True, check=True)
    assert not {"SimpleITK", "ssl", "torch", "monai"} & set(run.stdout.split())
