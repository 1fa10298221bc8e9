"""Data that tests of several rooms share: a small volume, a package folder and a result with known samples."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.uncertainty.statistics import StatisticsStream
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry, Volume

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip("needs the reference data in ../shared, which is not here")
    return SHARED


def structure_json(name: str, label: int, color: list[float], code: str) -> dict:
    terminology = {"category": ["SCT", "123037004", "Anatomical Structure"], "type": ["SCT", code, name]}
    return {"name": name, "label": label, "color": color, "terminology": terminology}


def metadata(**overrides: object) -> dict:
    """Metadata of a two-structure package of the SSN family; keyword arguments replace keys of our own block."""
    own = {
        "family": "ssn",
        "arguments": {},
        "modality": "MR",
        "body_part": "Test",
        "structures": [
            structure_json("Left blob", 1, [0.9, 0.3, 0.2], "5366008"),
            structure_json("Right blob", 2, [0.2, 0.6, 0.9], "5366008"),
        ],
        "grid": {"spacing_mm": None, "orientation": "RAS"},
        "intensity": {"kind": "zscore"},
        "roi": {"required": False, "size_mm": None, "where": "Anywhere."},
        "weights": {"file": "models/model.safetensors", "sha256": "0" * 64, "bytes": 0},
        "training_data": {"name": "made by the tests", "license": "CC0-1.0", "cases": 0},
        "weights_license": "Apache-2.0",
        "limits": ["For tests only."],
        "evaluation": {},
    }
    own.update(overrides)
    tensor = {
        "type": "image",
        "format": "magnitude",
        "num_channels": 1,
        "spatial_shape": ["*", "*", "*"],
        "dtype": "float32",
        "value_range": [-10, 10],
    }
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "0.1.0",
        "monai_version": "1.5.0",
        "pytorch_version": "2.5.0",
        "numpy_version": "2.0.0",
        "required_packages_version": {},
        "name": "Two blobs",
        "task": "Segmentation of two blobs",
        "description": "A package for tests.",
        "authors": "MedSegUncertainty",
        "copyright": "MedSegUncertainty",
        "intended_use": "Tests.",
        "network_data_format": {"inputs": {"image": tensor}, "outputs": {"pred": tensor}},
        "medseg_uncertainty": own,
    }


@pytest.fixture(scope="session")
def make_metadata() -> Callable[..., dict]:
    """The function that makes the metadata of test packages."""
    return metadata


@pytest.fixture
def package_folder(tmp_path: Path) -> Path:
    """A package folder with metadata and card but without usable weights."""
    folder = tmp_path / "two-blobs"
    for part in ("configs", "models", "docs"):
        (folder / part).mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata()), encoding="utf-8")
    (folder / "models" / "model.safetensors").write_bytes(b"")
    (folder / "docs" / "README.md").write_text("# Two blobs\n\nA model card for tests.\n", encoding="utf-8")
    (folder / "LICENSE").write_text("Apache-2.0\n", encoding="utf-8")
    return folder


@pytest.fixture
def weighing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelPackage]:
    """Makes packages whose one structure is where the weighted sum of the channels, 100 taken off each, is positive.

    The function takes a weight per role, and further keys of our block of the metadata.
    """
    import sys
    import types

    import torch
    from MedSegUncertaintyLib.models import registry
    from MedSegUncertaintyLib.models.sampler import NoiseField
    from MedSegUncertaintyLib.packages.weights import save_package

    class Weighing(torch.nn.Module):
        spatial_dims = network_dims = 3
        classes, size_multiple, blendable, controls = 2, 1, True, frozenset()

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.channels = channels
            self.weights = torch.nn.Parameter(torch.zeros(channels))

        def encode(self, image):
            return {"logit": torch.einsum("c,bcxyz->bxyz", self.weights, image - 0.5).unsqueeze(1)}

        def noise(self, encoding):
            return {"w": NoiseField(1, "global")}

        def draw(self, encoding, noise):
            logit = encoding["logit"] + 0.2 * noise["w"].view(-1, 1, 1, 1, 1)
            return torch.cat([torch.zeros_like(logit), logit], dim=1)

    family = types.ModuleType("weighing_family")
    family.build = lambda arguments: Weighing(**arguments)
    monkeypatch.setitem(sys.modules, "weighing_family", family)
    monkeypatch.setitem(registry.FAMILIES, "weighing", "weighing_family")

    def make(weights: dict[str, float], **own: object) -> ModelPackage:
        model = Weighing(len(weights))
        model.weights.data = torch.tensor(list(weights.values()))
        described = metadata(
            family="weighing",
            arguments={"channels": len(weights)},
            structures=[structure_json("Blob", 1, [0.9, 0.3, 0.2], "5366008")],
            intensity={"kind": "window", "low": 0, "high": 200},
            channels=[{"role": role, "name": f"{role.upper()} image"} for role in weights],
            **own,
        )
        return save_package(tmp_path / "packages" / "weighing", model, described, "# Card\n", "CC0-1.0\n")

    return make


@pytest.fixture(scope="session")
def bell() -> Callable[..., Volume]:
    """Makes images of a smooth hill, 200 high and 0 far away, as any grid sees it."""

    def make(geometry: Geometry, center_ras: tuple[float, float, float], name: str = "bell") -> Volume:
        k, j, i = np.indices(geometry.shape_kji)
        distance = np.linalg.norm(geometry.to_ras(np.stack([i, j, k], axis=-1)) - center_ras, axis=-1)
        return Volume((200 * np.exp(-0.5 * (distance / 8) ** 2)).astype(np.float32), geometry, name)

    return make


def blob(geometry: Geometry, center_ijk: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    """Signed distance to a sphere, mm, positive inside, (K, J, I)."""
    k, j, i = np.indices(geometry.shape_kji)
    offsets = np.stack([i, j, k], axis=-1) - np.asarray(center_ijk)
    return radius_mm - np.linalg.norm(offsets @ geometry.ijk_to_ras[:3, :3].T, axis=-1)


@pytest.fixture(scope="session")
def oblique_geometry() -> Geometry:
    """40 x 36 x 20 voxels of 1 x 1 x 2 mm, turned by 15 degrees about S."""
    c, s = np.cos(np.radians(15)), np.sin(np.radians(15))
    direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    return Geometry.from_parts((40, 36, 20), (1.0, 1.0, 2.0), (-12.0, 7.0, -20.0), direction)


@pytest.fixture
def blob_volume(oblique_geometry: Geometry) -> Volume:
    """Two bright spheres on a noisy background."""
    rng = np.random.default_rng(0)
    array = rng.normal(100, 5, oblique_geometry.shape_kji).astype(np.float32)
    array[blob(oblique_geometry, (12, 18, 10), 6.0) > 0] += 80
    array[blob(oblique_geometry, (28, 18, 10), 7.0) > 0] += 60
    return Volume(array, oblique_geometry, "Two blobs")


@pytest.fixture
def blob_result(package_folder: Path, oblique_geometry: Geometry) -> InferenceResult:
    """Eight samples of two touching spheres whose radii grow together, on a box inside the volume."""
    import torch

    box = Box((2, 3, 1), (38, 33, 19))
    geometry = oblique_geometry.cropped(box)
    stream = StatisticsStream(geometry.voxel_volume_ml)
    samples = SampleSet(geometry.shape_kji)
    for growth in np.linspace(-1.5, 1.5, 8):
        left = blob(geometry, (10, 15, 9), 6.0 + growth)
        right = blob(geometry, (22, 15, 9), 7.0 + growth)
        logits = torch.from_numpy(np.stack([np.zeros_like(left), left, right])).float()
        labels = logits.argmax(dim=0).to(torch.uint8)
        stream.update(logits.softmax(dim=0), labels)
        samples.append(labels.numpy())
    request = InferenceRequest(package="two-blobs", samples=8)
    package = ModelPackage.from_folder(package_folder)
    provenance = {"device": "cpu", "seconds": 1.0}
    return InferenceResult(request, package, "Two blobs", oblique_geometry, box, samples, stream.result(), provenance)
