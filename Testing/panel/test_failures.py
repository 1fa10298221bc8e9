"""What the user reads when a run fails, and that the scene is then what it was, voxel by voxel."""

import os
import resource
import signal
import sys
import tempfile
from importlib import metadata

import pytest
import slicer
from slicer_stand_in import driving
from slicer_stand_in.contents import sceneContent

from ..unit.workers.conftest import REPLACE
from ..unit.workers.test_worker import GARBAGE
from .test_panel import SECONDS, idle, ready

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits are those of Linux")


@pytest.fixture
def waiting(panel, head):
    """The panel, ready to run, and what the scene holds."""
    slicer.util.setSliceViewerLayers(background=head, fit=True)
    ready(panel, head, samples=200)
    slicer.app.processEvents()
    return panel, sceneContent()


def message_of_a_run(panel, meanwhile=lambda worker: None):
    """Apply, do something to the process, and read what the panel says in the end."""
    driving.click(panel.ui.applyButton)
    if not idle(panel):
        meanwhile(panel.panel._running._worker)
    driving.waitUntil(lambda: idle(panel), SECONDS)
    slicer.app.processEvents()
    assert panel.ui.messageFrame.visible
    assert panel.ui.applyButton.enabled
    assert not panel.ui.progressFrame.visible
    return panel.ui.messageLabel.text


def until_a_preview(panel):
    driving.waitUntil(lambda: len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) > 1, SECONDS)


def test_a_process_that_is_killed_in_the_middle(waiting):
    panel, before = waiting

    def kill(worker):
        until_a_preview(panel)
        os.kill(worker._child.pid, signal.SIGKILL)

    assert message_of_a_run(panel, kill) == (
        "The process that computes was killed, most likely because memory ran out; close other programs or give a "
        "smaller region of interest, and try again."
    )
    assert sceneContent() == before


def test_a_full_disk_in_the_middle(waiting):
    panel, before = waiting

    def fill(worker):
        until_a_preview(panel)
        resource.prlimit(worker._child.pid, resource.RLIMIT_FSIZE, (1000, 1000))

    assert message_of_a_run(panel, fill) == (
        f"The disk is full in the folder for temporary files ({tempfile.gettempdir()}); free some space and try again."
    )
    assert sceneContent() == before


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (GARBAGE, "sent something that is no message"),
        ("def segment(*_, **__): raise MemoryError", "There is not enough memory for this image"),
        ("def segment(*_, **__): 1 / 0", "ZeroDivisionError: division by zero"),
        ("raise ModuleNotFoundError('No module named torch', name='torch')", "torch"),
    ],
    ids=["garbage", "memory", "defect", "setup"],
)
def test_a_process_that_goes_wrong(waiting, tmp_path, monkeypatch, code, sentence):
    panel, before = waiting
    folder = tmp_path / "sabotage"
    folder.mkdir()
    setup = f"import os, subprocess, sys, time\n{code}\n{REPLACE}"
    name = "torch.py" if code.startswith("raise") else "sitecustomize.py"
    (folder / name).write_text(code if code.startswith("raise") else setup, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    message = message_of_a_run(panel)
    assert sentence in message
    assert message.endswith(".")
    assert sceneContent() == before


def test_missing_torch_is_said_before_a_process_is_started(waiting, monkeypatch):
    (panel, before), known = waiting, metadata.version

    def version(name):
        if name == "torch":
            raise metadata.PackageNotFoundError
        return known(name)

    monkeypatch.setattr(metadata, "version", version)
    assert message_of_a_run(panel).startswith("PyTorch is missing; install the extension PyTorch")
    assert panel.panel._running._worker is None
    assert sceneContent() == before
