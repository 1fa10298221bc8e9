"""A clean scene for every test, on real MRML from the slicer-core wheel; any error that VTK logs fails the test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.scene.rendering import whyNoSlicer
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.uncertainty.statistics import StatisticsStream
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry, Volume


class WithoutSlicer(pytest.Module):
    def collect(self) -> list[Any]:
        pytest.skip("needs slicer-core (pip install medseg-uncertainty[scene])", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> Any:
    """Skip every module of this folder, before it is imported, where slicer-core is not installed."""
    return None if whyNoSlicer() is None else WithoutSlicer.from_parent(parent, path=module_path)


@pytest.fixture
def scene() -> Iterator[Any]:
    import slicer
    import vtk
    from MedSegUncertaintyLib.scene.headless import ensureApplication

    scene = ensureApplication().mrmlScene()
    scene.Clear(0)
    window, log = vtk.vtkOutputWindow.GetInstance(), slicer.vtkTestingOutputWindow()
    vtk.vtkOutputWindow.SetInstance(log)
    yield scene
    scene.Clear(0)
    vtk.vtkOutputWindow.SetInstance(window)
    assert log.GetNumberOfLoggedErrorMessages() == 0, "VTK logged errors; run with -s to read them"


@pytest.fixture
def add_volume(scene: Any) -> Callable[[Volume], Any]:
    from MedSegUncertaintyLib.scene.bundle import addVolume

    return addVolume


@pytest.fixture
def volume_node(add_volume: Callable[[Volume], Any], blob_volume: Volume) -> Any:
    return add_volume(blob_volume)


@pytest.fixture
def result_on(package_folder: Any) -> Callable[..., InferenceResult]:
    """A result with four random, overlapping samples of two structures on any grid; the third sample is empty."""

    def make(geometry: Geometry, box: Box | None = None, samples: int = 4) -> InferenceResult:
        import torch

        box = box or geometry.whole()
        inside = geometry.cropped(box)
        rng = np.random.default_rng(5)
        stream, drawn = StatisticsStream(inside.voxel_volume_ml), SampleSet(inside.shape_kji)
        for sample in range(samples):
            probabilities = rng.dirichlet((2.0, 1.0, 1.0), inside.shape_kji).astype(np.float32)
            labels = probabilities.argmax(axis=-1).astype(np.uint8) * (sample != 2)
            stream.update(torch.from_numpy(probabilities).movedim(-1, 0), torch.from_numpy(labels))
            drawn.append(labels)
        request = InferenceRequest(package="two-blobs", samples=samples)
        package = ModelPackage.from_folder(package_folder)
        return InferenceResult(request, package, "random", geometry, box, drawn, stream.result(), {"device": "cpu"})

    return make
