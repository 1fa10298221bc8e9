"""The switches of scales: shown for models that have them, kept with the scene, part of the request."""

import json

import pytest
from MedSegUncertaintyLib.inference.request import Scale
from MedSegUncertaintyLib.packages.store import ENVIRONMENT_VARIABLE
from slicer_stand_in import driving

ARGUMENTS = {"spatial_dims": 3, "channels": 1, "classes": 3, "widths": [4, 6, 8, 8], "latents": [1, 1, 1]}


@pytest.fixture
def models(tmp_path, monkeypatch, make_metadata):
    """One model with scales and one without; neither has weights."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "models"))
    for name, own in {"Ladder": {"family": "hpunet", "arguments": ARGUMENTS}, "Plain": {}}.items():
        folder = tmp_path / "models" / name
        for part in ("configs", "models", "docs"):
            (folder / part).mkdir(parents=True)
        described = json.dumps({**make_metadata(**own), "name": name})
        (folder / "configs" / "metadata.json").write_text(described, encoding="utf-8")
        (folder / "models" / "model.safetensors").write_bytes(b"")
        (folder / "docs" / "README.md").write_text("# Card\n", encoding="utf-8")
        (folder / "LICENSE").write_text("Apache-2.0\n", encoding="utf-8")


def rows(panel):
    return panel.panel._inputs._scales._rows


def test_scales_are_under_the_user_s_hand(models, panel, head):
    panel.panel.enter()
    ui, inputs = panel.ui, panel.panel._inputs
    ui.inputVolumeSelector.setCurrentNode(head)
    driving.chooseItem(ui.modelList, "Plain")
    assert not ui.scalesGroup.visible
    assert ui.redrawButton.visible
    driving.chooseItem(ui.modelList, "Ladder")
    assert ui.scalesGroup.visible
    assert not ui.ssnGroup.visible
    assert ui.redrawButton.visible
    assert len(rows(panel)) == 3
    assert inputs.request().scales == ()

    coarse, middle, fine = rows(panel)
    coarse[0].currentIndex = 0
    middle[0].currentIndex = 2
    middle[1].value = 7
    fine[2].value = 0.5
    assert inputs.request().scales == (Scale(0.0), Scale(1.0, 6), Scale(0.5))
    assert middle[1].visible
    assert not coarse[1].visible
    assert not coarse[2].enabled
    ui.temperatureSlider.value = 0.3  # of another family
    assert inputs.request().temperature == 1.0

    parameters = panel.panel._parameters
    assert parameters.scales == ["0", "f7", "0.5"]  # saved with the scene
    panel.panel.setParameters(None)
    panel.panel.setParameters(parameters)
    assert inputs.request().scales == (Scale(0.0), Scale(1.0, 6), Scale(0.5))
    assert [row[0].currentIndex for row in rows(panel)] == [0, 2, 1]

    driving.chooseItem(ui.modelList, "Plain")
    driving.chooseItem(ui.modelList, "Ladder")
    assert inputs.request().scales == ()  # they belonged to another choice
