"""The shipped recipe of SelfReg-UNet, shrunk to seconds, from data to samples of both kinds in a volume."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.packages.package import BLOCK, METADATA, ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler
from MedSegUncertaintyLib.training.loop import read_log
from MedSegUncertaintyLib.training.run import train
from MedSegUncertaintyLib.volumes.geometry import Geometry, RegionOfInterest, Volume
from PIL import Image

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "selfreg-lidc-nodule-ct.toml"
SMALL = {
    "training": '["train.npz"]',
    "score_every": "2",
    "steps": "25",
    "batch": "4",
    "rise": "5",
    "learning_rate": "1e-2",
    "average": "0.9",
    "patch": "[32, 32]",
    "shift_voxels": "4.0",
    "widths": "[6, 8, 8]",
    "features": "6",
    "precision": '"32-true"',
    "validate_every": "25",
}


def discs(radii: np.ndarray, size: int = 48) -> np.ndarray:
    """Masks (*radii.shape, size, size)."""
    y, x = np.indices((size, size)) - (size - 1) / 2
    return np.hypot(y, x) < radii[..., None, None]


def write_readers(path: Path, patients: list[int]) -> None:
    """Bright discs with two readers, one of whom draws a little less."""
    rng = np.random.default_rng(patients[0])
    masks = discs(rng.uniform(7, 12, len(patients))[:, None] * [1.0, 0.8])
    images = np.clip(60 + 120 * masks[:, 0] + rng.normal(0, 12, masks[:, 0].shape), 0, 255).astype(np.uint8)
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "WEBP", lossless=True)
        files.append(file.getvalue())
    np.savez(
        path,
        webp=np.frombuffer(b"".join(files), np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        masks_packed=np.packbits(masks.astype(np.uint8), axis=-1),
        patient=np.array(patients, np.int16),
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    folder = tmp_path_factory.mktemp("selfreg")
    write_readers(folder / "train.npz", [1, 2, 3, 4])
    write_readers(folder / "val.npz", [7, 8])
    text = RECIPE.read_text(encoding="utf-8")
    for key, value in SMALL.items():
        text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    return train(folder / "recipe.toml", folder, folder / "out")


def test_training_lowers_the_loss_and_the_package_has_its_figures(package: ModelPackage) -> None:
    first, last = read_log(package.folder.parent)
    assert (first["step"], last["step"]) == (25, 50)
    for term in ("cross entropy", "dice loss", "loss"):
        assert last[term] < 0.8 * first[term], term
    for row in (first, last):
        added = row["semantic consistency"] + row["feature distillation"]
        expected = 0.4 * row["cross entropy"] + 0.6 * row["dice loss"] + 0.015 * added
        assert row["loss"] == pytest.approx(expected, rel=1e-5)
    figures = package.evaluation["16_samples"]["figures"]
    assert figures["dice_empty_excluded"]["methods"]["model"]["value"] > 0.4
    assert figures["sample_diversity"]["methods"]["model"]["value"] > 0.0


@pytest.mark.parametrize("samples", ["dropout", "augmentation"])
def test_a_volume_is_walked_through_with_either_kind(package: ModelPackage, samples: str, tmp_path: Path) -> None:
    """The kind is one argument of the package; the weights serve both."""
    folder = tmp_path / "package"
    for file in package.folder.rglob("*"):
        if file.is_file():
            (folder / file.relative_to(package.folder)).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.relative_to(package.folder)).write_bytes(file.read_bytes())
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    metadata[BLOCK]["arguments"]["samples"] = samples
    (folder / METADATA).write_text(json.dumps(metadata), encoding="utf-8")
    kind = load_sampler(ModelPackage.from_folder(folder)).sample_kind
    assert kind == {"dropout": "Monte-Carlo dropout", "augmentation": "test-time augmentation"}[samples]

    ball = discs(np.array([8.0, 10.0, 8.0]))
    array = (60 + 120 * ball + np.random.default_rng(0).normal(0, 12, ball.shape)).astype(np.float32)
    geometry = Geometry.from_parts((48, 48, 3), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.diag([-1.0, -1.0, 1.0]))
    center = geometry.to_ras(np.array([23.5, 23.5, 1.0]))
    roi = RegionOfInterest((float(center[0]), float(center[1]), float(center[2])), (48.0, 48.0, 6.0))
    request = InferenceRequest(str(folder), samples=5, seed=3, roi=roi, device="cpu")
    result = segment(Volume(array, geometry, "ball"), request)
    maps = np.stack(list(result.samples))
    assert len({labels.tobytes() for labels in maps}) == 5
    overlaps = 2 * (maps & ball).sum(axis=(1, 2, 3)) / (maps.sum(axis=(1, 2, 3)) + ball.sum())
    assert overlaps.min() > 0.6
    again = segment(Volume(array, geometry, "ball"), request)
    assert np.array_equal(np.stack(list(again.samples)), maps)
