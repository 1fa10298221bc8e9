"""The file that Slicer loads, on stand-ins for the classes that only Slicer has."""

import importlib.util
import sys
import types
import unittest
from pathlib import Path

import pytest
from MedSegUncertaintyLib.inference import run
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.packages.store import ENVIRONMENT_VARIABLE

MODULE = Path(__file__).resolve().parents[2] / "MedSegUncertainty" / "MedSegUncertainty.py"


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent


@pytest.fixture
def module(monkeypatch):
    translations, scripted = types.ModuleType("slicer.i18n"), types.ModuleType("slicer.ScriptedLoadableModule")
    translations.tr = lambda text: text
    translations.translate = lambda context, text: text
    scripted.ScriptedLoadableModule = ScriptedLoadableModule
    scripted.ScriptedLoadableModuleLogic = scripted.ScriptedLoadableModuleWidget = type("Base", (), {})
    scripted.ScriptedLoadableModuleTest = unittest.TestCase
    parameters = types.ModuleType("slicer.parameterNodeWrapper")
    parameters.Choice = parameters.WithinRange = lambda *_: None
    parameters.parameterNodeWrapper = lambda cls: cls
    for stand_in in (translations, scripted, parameters):
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    spec = importlib.util.spec_from_file_location("MedSegUncertaintyOfSlicer", MODULE)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_logic_passes_everything_on(module, volume_node, blob_result, package_folder, monkeypatch):
    asked = []
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(package_folder.parent))
    monkeypatch.setattr(run, "segment", lambda volume, request, **more: asked.append((request, more)) or blob_result)
    token = CancelToken()
    nodes = module.MedSegUncertaintyLogic().segment(
        volume_node, "two-blobs", samples=5, seed=7, device="cpu", progress=print, cancel=token
    )
    ((request, more),) = asked
    assert (request.package, request.samples, request.seed, request.device) == ("two-blobs", 5, 7, "cpu")
    assert more == {"channels": {}, "progress": print, "cancel": token}
    assert nodes.samples.GetSegmentation().GetNumberOfSegments() == 16


def test_the_module_is_described(module):
    parent = types.SimpleNamespace()
    assert module.MedSegUncertainty(parent).parent is parent
    assert parent.title == "MedSeg Uncertainty"
    assert module.HOMEPAGE in parent.helpText
    assert parent.categories == ["Segmentation"]
