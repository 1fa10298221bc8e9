"""The shipped weights do what their cards say, on images made here."""

from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.evaluation.overlap import dice
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.packages.store import find_package
from MedSegUncertaintyLib.volumes.geometry import Geometry, RegionOfInterest, Volume
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

MODELS = Path(__file__).resolve().parents[3] / "MedSegUncertainty" / "Resources" / "Models"
MOST_BYTES = 20e6


@pytest.mark.parametrize("folder", sorted(MODELS.iterdir()), ids=lambda folder: folder.name)
def test_packages_are_small(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*")) < MOST_BYTES


def test_the_nodule_model_finds_a_nodule_on_an_oblique_grid() -> None:
    """A soft ball of 14 mm in noisy lung, Hounsfield units, voxels of 0.7 x 0.7 x 2.5 mm."""
    turn = Rotation.from_euler("xyz", [12, -8, 20], degrees=True).as_matrix() @ np.diag([-1.0, -1.0, 1.0])
    geometry = Geometry.from_parts((128, 128, 14), (0.7, 0.7, 2.5), (60.0, -20.0, 40.0), turn)
    k, j, i = np.indices(geometry.shape_kji)
    center = np.array([63.5, 63.5, 6.5])
    radius = np.sqrt((0.7 * (i - center[0])) ** 2 + (0.7 * (j - center[1])) ** 2 + (2.5 * (k - center[2])) ** 2)
    ball = radius < 7
    noise = gaussian_filter(np.random.default_rng(0).normal(0, 1, ball.shape), (0.3, 1, 1))
    hounsfield = -850 + 880 * gaussian_filter(ball.astype(float), (0.3, 1, 1)) + 120 * noise
    center_ras = geometry.to_ras(center[None])[0]
    roi = RegionOfInterest((center_ras[0], center_ras[1], center_ras[2]), (110.0, 110.0, 45.0))
    request = InferenceRequest(str(find_package("ssn-lidc-nodule-ct").folder), samples=8, roi=roi, device="cpu")
    result = segment(Volume(hounsfield.astype(np.float32), geometry, "Lung"), request)

    prediction = result.statistics.prediction == 1
    truth = ball[result.box.slices_kji]
    assert dice(prediction, truth, both_empty=1.0) > 0.75
    volumes = result.statistics.volumes_ml[:, 0]
    assert volumes.std() > 0.01
    far = radius[result.box.slices_kji] > 14
    assert result.statistics.mean[0][far].mean() < 0.02
