"""A model whose samples are drawn in steps, with fewer of them than it has."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import BadInputError, PackageError
from MedSegUncertaintyLib.inference.kept import Kept
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.models.hidiff.network import HiDiff
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import save_package
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume

TAPS = ["down_1", "down_2", "down_3", "down_4"]
ARGUMENTS = {
    "segmentor": {"name": "BasicUNet", "widths": [8, 8, 16, 16, 32], "taps": TAPS},
    "channels": 1,
    "classes": 2,
    "steps": 5,
    "coherence": 0.9,
}


@pytest.fixture
def package(make_metadata: Callable[..., dict], tmp_path: Path) -> ModelPackage:
    """Random weights with a refiner that says something else than one half."""
    torch.manual_seed(0)
    model = registry.build("hidiff", ARGUMENTS)
    for parameter in model.refiner.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    metadata = make_metadata(family="hidiff", arguments=ARGUMENTS, walk={"correlation_mm": 4.0})
    del metadata["medseg_uncertainty"]["structures"][1:]
    return save_package(tmp_path / "steps", model, metadata, "# Card\n", "CC0\n")


@pytest.fixture
def volume() -> Volume:
    array = np.random.default_rng(0).normal(100, 20, (2, 32, 32)).astype(np.float32)
    return Volume(array, Geometry.from_parts((32, 32, 2), (1.0, 1.0, 2.0)), "noise")


def ask(package: ModelPackage, steps: int | None = None) -> InferenceRequest:
    return InferenceRequest(str(package.folder), samples=3, seed=3, device="cpu", steps=steps)


def means(result: InferenceResult) -> np.ndarray:
    return result.statistics.mean


def test_the_number_of_steps_is_known_without_the_weights(package: ModelPackage) -> None:
    assert package.steps == 5
    unsaid = {name: value for name, value in ARGUMENTS.items() if name != "steps"}
    assert registry.steps("hidiff", unsaid) == len(registry.build("hidiff", unsaid).diffusion) == 10
    assert registry.steps("ssn", {}) == 0
    with pytest.raises(PackageError, match='The model family "hidiff" does not take these arguments'):
        registry.steps("hidiff", {"steps": "many"})
    code = "from MedSegUncertaintyLib.models import registry; import sys; "
    code += f"registry.steps('hidiff', {ARGUMENTS!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_requests_are_checked_against_the_package(package: ModelPackage, package_folder: Path, volume: Volume) -> None:
    asked = ask(package, 2)
    assert InferenceRequest.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    with pytest.raises(BadInputError, match="The number of steps must be at least 1, not 0"):
        ask(package, 0)
    with pytest.raises(BadInputError, match="The samples of steps are drawn in 1 to 5 steps, not 6"):
        segment(volume, ask(package, 6))
    other = ModelPackage.from_folder(package_folder)
    with pytest.raises(BadInputError, match="The samples of two-blobs are not drawn in steps; leave the number"):
        other.check_steps(2)


def test_fewer_steps_take_fewer_passes_and_no_other_encoding(
    package: ModelPackage, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, encoded, kept = HiDiff.encode, [], Kept()
    monkeypatch.setattr(HiDiff, "encode", lambda self, image: encoded.append(image) or encode(self, image))
    passes: list[int] = []
    kept.model(package).refiner.register_forward_hook(lambda *_: passes.append(1))
    every = segment(volume, ask(package), kept=kept)
    assert (len(encoded), len(passes)) == (2, 3 * 2 * 5)  # of two slices, in five steps for each of three samples
    passes.clear()
    np.testing.assert_array_equal(means(segment(volume, ask(package, 5), kept=kept)), means(every))
    passes.clear()
    fewer = segment(volume, ask(package, 2), kept=kept)
    assert (len(encoded), len(passes)) == (2, 3 * 2 * 2)
    assert np.abs(means(fewer) - means(every)).max() > 1e-3
    np.testing.assert_array_equal(means(segment(volume, ask(package, 2))), means(fewer))
