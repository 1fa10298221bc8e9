"""The steps of a diffusion: shown for models that have them, kept with the scene, part of the request and its cost."""

import json

import pytest
from MedSegUncertaintyLib.gui.estimate import wholeSamples
from MedSegUncertaintyLib.packages.store import ENVIRONMENT_VARIABLE
from slicer_stand_in import driving


@pytest.fixture
def models(tmp_path, monkeypatch, make_metadata):
    """Two models with steps and one without; none has weights."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "models"))
    families = {
        "Short": {"family": "hidiff", "arguments": {"steps": 4}},
        "Long": {"family": "hidiff", "arguments": {}},
        "Plain": {},
    }
    for name, own in families.items():
        folder = tmp_path / "models" / name
        for part in ("configs", "models", "docs"):
            (folder / part).mkdir(parents=True)
        described = json.dumps({**make_metadata(**own), "name": name})
        (folder / "configs" / "metadata.json").write_text(described, encoding="utf-8")
        (folder / "models" / "model.safetensors").write_bytes(b"")
        (folder / "docs" / "README.md").write_text("# Card\n", encoding="utf-8")
        (folder / "LICENSE").write_text("Apache-2.0\n", encoding="utf-8")


def test_steps_are_under_the_user_s_hand(models, panel, head):
    panel.panel.enter()
    ui, inputs, box = panel.ui, panel.panel._inputs, panel.ui.stepsSpinBox
    ui.inputVolumeSelector.setCurrentNode(head)
    driving.chooseItem(ui.modelList, "Plain")
    assert not ui.stepsGroup.visible
    ui.temperatureSlider.value = 0.3
    driving.chooseItem(ui.modelList, "Short")
    assert ui.stepsGroup.visible
    assert not ui.ssnGroup.visible
    assert ui.redrawButton.visible
    assert (box.minimum, box.maximum, box.value, box.text) == (1, 4, 4, "4 of 4")
    assert inputs.request().steps is None
    assert inputs.request().temperature == 1.0  # the slider is of another family

    parameters = panel.panel._parameters
    box.value = 3
    assert (inputs.request().steps, parameters.steps) == (3, 3)
    assert wholeSamples(inputs.package, 8, inputs.steps) == 6
    panel.panel.setParameters(None)
    panel.panel.setParameters(parameters)
    assert (box.value, inputs.request().steps) == (3, 3)  # saved with the scene
    box.value = 4
    assert (inputs.request().steps, parameters.steps) == (None, 0)
    assert wholeSamples(inputs.package, 8, inputs.steps) == 8

    box.value = 1
    driving.chooseItem(ui.modelList, "Long")
    assert (box.maximum, box.value) == (10, 10)
    assert inputs.request().steps is None  # they belonged to another model


def test_steps_that_a_model_does_not_have_are_not_asked_for(models, panel, head):
    panel.panel.enter()
    panel.ui.inputVolumeSelector.setCurrentNode(head)
    driving.chooseItem(panel.ui.modelList, "Short")
    panel.panel._parameters.steps = 7  # of a scene made with another version of the model
    assert panel.ui.stepsSpinBox.value == 4
    assert panel.panel._inputs.request().steps is None
