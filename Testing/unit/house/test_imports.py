"""Slicer imports our files when it starts: that must load neither torch nor MONAI."""

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
slicer.vtkMRMLScalarVolumeNode = slicer.vtkMRMLMarkupsROINode = slicer.vtkMRMLSegmentationNode = object
sys.modules["slicer.util"].VTKObservationMixin = type("VTKObservationMixin", (), {})
sys.modules["slicer.parameterNodeWrapper"].parameterNodeWrapper = lambda cls: cls
for name in ("Choice", "WithinRange"):
    setattr(sys.modules["slicer.parameterNodeWrapper"], name, lambda *_: None)
sys.modules["slicer.i18n"].tr = sys.modules["slicer.i18n"].translate = None
for name in ("", "Logic", "Test", "Widget"):
    setattr(sys.modules["slicer.ScriptedLoadableModule"], "ScriptedLoadableModule" + name, type("Base", (), {}))
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
