"""What is kept between runs changes no sample, and is never that of another image or package."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.inference import kept as kept_module
from MedSegUncertaintyLib.inference.kept import Kept
from MedSegUncertaintyLib.inference.progress import Progress
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler, save_package
from MedSegUncertaintyLib.volumes.geometry import Volume

ARGUMENTS = {
    "backbone": {"name": "DynUNet", "widths": [4, 8, 8], "norm_name": "batch"},
    "spatial_dims": 3,
    "channels": 1,
    "features": 4,
    "classes": 3,
    "rank": 4,
}


def make_package(folder: Path, metadata: dict, seed: int) -> ModelPackage:
    torch.manual_seed(seed)
    return save_package(
        folder, registry.build("ssn", metadata["medseg_uncertainty"]["arguments"]), metadata, "# C\n", "CC0\n"
    )


@pytest.fixture
def metadata(make_metadata: Callable[..., dict]) -> dict:
    return make_metadata(arguments=ARGUMENTS)


def run(package: ModelPackage, volume: Volume, kept: Kept, **options: object) -> list[str]:
    """Stages of a run with what is kept, whose result is that of a run without."""
    request = InferenceRequest(str(package.folder), **{"samples": 3, "device": "cpu", **options})
    heard: list[Progress] = []
    got = segment(volume, request, progress=heard.append, kept=kept)
    expected = segment(volume, request)
    for one, other in zip(got.samples, expected.samples, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(got.statistics.mean, expected.statistics.mean)
    return list(dict.fromkeys(progress.stage for progress in heard))


BOTH = ["encode the image", "draw samples"]


def test_other_draws_need_no_other_encoding(tmp_path: Path, metadata: dict, blob_volume: Volume) -> None:
    package, kept = make_package(tmp_path / "one", metadata, 0), Kept()
    assert run(package, blob_volume, kept) == BOTH
    for options in ({"seed": 5}, {"temperature": 0.3}, {"samples": 7}):
        assert run(package, blob_volume, kept, **options) == ["draw samples"]
    other = Volume(blob_volume.array[::-1].copy(), blob_volume.geometry)
    assert run(package, other, kept) == BOTH
    assert run(package, blob_volume, kept) == BOTH


@pytest.mark.parametrize("correlation", [8.0, 2.0])
def test_slices_are_kept_too(tmp_path: Path, metadata: dict, blob_volume: Volume, correlation: float) -> None:
    metadata["medseg_uncertainty"] |= {
        "arguments": {**ARGUMENTS, "spatial_dims": 2},
        "walk": {"correlation_mm": correlation},
    }
    package, kept = make_package(tmp_path / "one", metadata, 0), Kept()
    assert run(package, blob_volume, kept) == BOTH
    assert run(package, blob_volume, kept, seed=1) == ["draw samples"]


def test_a_model_is_loaded_once_and_anew_when_its_package_changes(
    tmp_path: Path, metadata: dict, blob_volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    monkeypatch.setattr(
        kept_module, "load_sampler", lambda package: loaded.append(package.name) or load_sampler(package)
    )
    one, two, kept = make_package(tmp_path / "one", metadata, 0), make_package(tmp_path / "two", metadata, 1), Kept()
    for package in (one, one, two, two, one):
        run(package, blob_volume, kept)
    assert loaded == ["one", "two", "one"]
    changed = make_package(tmp_path / "one", metadata, 2)
    assert run(changed, blob_volume, kept) == BOTH
    assert loaded == ["one", "two", "one", "one"]


def test_previews_tell_of_the_samples_so_far(tmp_path: Path, metadata: dict, blob_volume: Volume) -> None:
    package = make_package(tmp_path / "one", metadata, 0)
    seen = {}

    def preview(stream, geometry):
        seen[stream.count] = (stream.mean, stream.variance, geometry)

    request = InferenceRequest(str(package.folder), samples=4, device="cpu")
    segment(blob_volume, request, preview=preview)
    assert list(seen) == [1, 2, 3]
    few = segment(blob_volume, InferenceRequest(str(package.folder), samples=2, device="cpu"))
    np.testing.assert_allclose(seen[2][0], few.statistics.mean, atol=1e-6)
    np.testing.assert_allclose(seen[2][1], few.statistics.variance, atol=1e-6)
    assert seen[2][2].matches(few.box_geometry)
