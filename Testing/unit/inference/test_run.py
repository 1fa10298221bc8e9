"""From a volume to a result with a package of random weights: grid, region, seeds, devices, refusals."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import BadInputError, CanceledError, MemoryExhaustedError, PackageError
from MedSegUncertaintyLib.inference.device import choose_device, why_not
from MedSegUncertaintyLib.inference.progress import CancelToken
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler, save_package
from MedSegUncertaintyLib.uncertainty.statistics import StatisticsStream
from MedSegUncertaintyLib.volumes.geometry import Geometry, RegionOfInterest, Volume
from scipy.spatial.transform import Rotation

ARGUMENTS = {
    "backbone": {"name": "DynUNet", "widths": [4, 8, 8], "norm_name": "batch"},
    "spatial_dims": 3,
    "channels": 1,
    "features": 4,
    "classes": 3,
    "rank": 4,
}


@pytest.fixture
def package(package_folder: Path) -> ModelPackage:
    """The test package with random weights of a tiny SSN."""
    return make_package(package_folder, ARGUMENTS)


def make_package(folder: Path, arguments: dict) -> ModelPackage:
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    metadata["medseg_uncertainty"]["arguments"] = arguments
    torch.manual_seed(0)
    return save_package(folder, registry.build("ssn", arguments), metadata, "# Card\n", "CC0\n")


def change(package: ModelPackage, **own: object) -> None:
    path = package.folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    metadata["medseg_uncertainty"].update(own)
    path.write_text(json.dumps(metadata), encoding="utf-8")


def request(package: ModelPackage, **options: object) -> InferenceRequest:
    return InferenceRequest(str(package.folder), **{"samples": 3, "device": "cpu", **options})


def test_result_lies_on_the_input_grid(package: ModelPackage, blob_volume: Volume) -> None:
    result = segment(blob_volume, request(package))
    assert result.geometry.matches(blob_volume.geometry)
    assert len(result.samples) == 3
    assert result.samples[0].shape == blob_volume.array.shape
    assert result.statistics.mean.shape == (2, *blob_volume.array.shape)
    assert result.statistics.variance.max() > 0
    for index, structure in enumerate(result.structures):
        voxels = [(labels == structure.label).sum() for labels in result.samples]
        np.testing.assert_allclose(
            result.statistics.volumes_ml[:, index], np.array(voxels) * blob_volume.geometry.voxel_volume_ml
        )


def test_same_seed_same_samples_other_seed_others(package: ModelPackage, blob_volume: Volume) -> None:
    first, again = (segment(blob_volume, request(package, seed=5)) for _ in range(2))
    more = segment(blob_volume, request(package, seed=5, samples=5))
    other = segment(blob_volume, request(package, seed=6))
    for index in range(3):
        np.testing.assert_array_equal(first.samples[index], again.samples[index])
        np.testing.assert_array_equal(first.samples[index], more.samples[index])
    assert (first.samples[0] != other.samples[0]).any()


def test_temperature_zero_has_no_spread(package: ModelPackage, blob_volume: Volume) -> None:
    result = segment(blob_volume, request(package, temperature=0.0))
    assert not result.statistics.variance.any()
    assert not result.statistics.mutual_information.any()
    np.testing.assert_array_equal(result.samples[0], result.samples[2])
    np.testing.assert_array_equal(result.samples[0], result.statistics.prediction)


@pytest.mark.parametrize("spacing", [None, [1.5, 1.5, 1.5]])
@pytest.mark.parametrize("flip", [False, True])
def test_storage_order_of_the_voxels_does_not_matter(
    package: ModelPackage, blob_volume: Volume, spacing: list[float] | None, flip: bool
) -> None:
    """The same anatomy stored with permuted and flipped axes gives the same mean at every place."""
    change(package, grid={"spacing_mm": spacing, "orientation": "RAS"})
    straight = segment(blob_volume, request(package, temperature=0.0))
    array, matrix = blob_volume.array.transpose(1, 2, 0), blob_volume.geometry.ijk_to_ras[:, [2, 0, 1, 3]]
    if flip:
        array, matrix = array[::-1], matrix.copy()
        matrix[:3, 3] += matrix[:3, 2] * (array.shape[0] - 1)
        matrix[:3, 2] *= -1
    turned = Volume(np.ascontiguousarray(array), Geometry(array.shape[::-1], matrix))
    got = segment(turned, request(package, temperature=0.0)).statistics.mean
    back = (got[:, ::-1] if flip else got).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(back, straight.statistics.mean, atol=1e-5)


def test_class_weights_move_one_structure(package: ModelPackage, blob_volume: Volume) -> None:
    as_trained = segment(blob_volume, request(package))
    ones = segment(blob_volume, request(package, class_weights=(1.0, 1.0)))
    np.testing.assert_array_equal(ones.statistics.variance, as_trained.statistics.variance)
    wild = segment(blob_volume, request(package, class_weights=(1.0, 8.0)))
    assert wild.statistics.variance[1].mean() > 2 * as_trained.statistics.variance[1].mean()
    with pytest.raises(BadInputError, match="two-blobs has 2 structures and needs a class weight for each, not 1"):
        segment(blob_volume, request(package, class_weights=(1.0,)))


def test_a_model_without_class_weights_says_so(
    weighing_package: Callable[..., ModelPackage], blob_volume: Volume
) -> None:
    package = weighing_package({"t1": 1.0})
    with pytest.raises(BadInputError, match=f"The samples of {package.name} have no class weights; leave them out"):
        segment(blob_volume, request(package, class_weights=(1.0,)))


def test_region_of_interest_limits_the_output(package: ModelPackage, blob_volume: Volume) -> None:
    change(package, roi={"required": True, "size_mm": [16, 16, 16], "where": "On the left blob."})
    with pytest.raises(BadInputError, match=r"The model two-blobs needs a region of interest\. On the left blob\."):
        segment(blob_volume, request(package))
    center = blob_volume.geometry.to_ras(np.array([12.0, 18.0, 10.0]))
    roi = RegionOfInterest(tuple(center), (16.0, 16.0, 16.0))
    result = segment(blob_volume, request(package, roi=roi))
    k, j, i = np.indices(blob_volume.array.shape)
    places = blob_volume.geometry.to_ras(np.stack([i, j, k], axis=-1))
    outside = (np.abs(places - center) > 8.0 + 1e-6).any(axis=-1)
    for labels in result.samples:
        assert not result.on_grid(labels)[outside].any()
    assert not result.on_grid(result.statistics.mean[0])[outside].any()
    assert result.statistics.mean.max() > 0


def test_single_slice(package: ModelPackage) -> None:
    array = np.random.default_rng(0).normal(100, 20, (1, 24, 32)).astype(np.float32)
    volume = Volume(array, Geometry.from_parts((32, 24, 1), (0.5, 0.5, 5.0)))
    assert segment(volume, request(package)).samples[0].shape == (1, 24, 32)


def test_cancel(package: ModelPackage, blob_volume: Volume) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(CanceledError):
        segment(blob_volume, request(package), cancel=token)


def test_a_network_with_other_channels_than_its_package_names_is_refused(
    package_folder: Path, blob_volume: Volume
) -> None:
    package = make_package(package_folder, {**ARGUMENTS, "channels": 2})
    with pytest.raises(PackageError, match="takes 2 images, but its metadata names 1; nothing was loaded"):
        segment(blob_volume, request(package))


def test_a_2d_model_without_correlation_length_is_refused(package_folder: Path, blob_volume: Volume) -> None:
    package = make_package(package_folder, {**ARGUMENTS, "spatial_dims": 2})
    with pytest.raises(PackageError, match="gives no correlation length to walk through a volume"):
        segment(blob_volume, request(package))


@pytest.mark.parametrize("orientation", ["RAS", "ASR"])
def test_a_2d_model_walks_through_a_volume(package_folder: Path, blob_volume: Volume, orientation: str) -> None:
    package = make_package(package_folder, {**ARGUMENTS, "spatial_dims": 2})
    grid = {"spacing_mm": None, "orientation": orientation}
    change(package, grid=grid, walk={"correlation_mm": 8.0})
    result = segment(blob_volume, request(package, samples=4))
    assert result.samples[0].shape == blob_volume.array.shape
    assert result.statistics.variance.max() > 0
    again = segment(blob_volume, request(package, samples=2))
    np.testing.assert_array_equal(again.samples[1], result.samples[1])
    still = segment(blob_volume, request(package, temperature=0.0))
    assert not still.statistics.variance.any()


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_a_2d_model_sees_the_slices_of_an_oblique_anisotropic_volume_as_they_are(
    package_folder: Path, flips: tuple[int, int, int]
) -> None:
    package = make_package(package_folder, {**ARGUMENTS, "spatial_dims": 2})
    window = {"kind": "window", "low": 0, "high": 1}
    change(package, grid={"spacing_mm": None, "orientation": "LPS"}, walk={"correlation_mm": 8.0}, intensity=window)
    turn = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix() * flips
    geometry = Geometry.from_parts((40, 32, 6), (0.7, 0.8, 5.0), (40.0, -25.0, 310.0), turn)
    array = np.random.default_rng(0).random(geometry.shape_kji, np.float32)
    result = segment(Volume(array, geometry, "Oblique"), request(package, samples=2, temperature=0.0))

    model = load_sampler(package)
    # The package wants columns to the left and rows to the back; a direction of +1 is to the right or to the front.
    step_i, step_j = -flips[0], -flips[1]
    with torch.inference_mode():
        for k in range(geometry.shape_ijk[2]):
            seen = torch.from_numpy(array[k, ::step_j, ::step_i].copy())
            probabilities = model(seen[None, None]).mean[0].softmax(dim=0)[1:].numpy()[:, ::step_j, ::step_i]
            np.testing.assert_allclose(result.statistics.mean[:, k], probabilities, atol=1e-5)
    assert result.geometry.matches(geometry)
    assert np.ptp(result.statistics.mean) > 0.01


def test_a_network_with_other_classes_than_structures_is_refused(package_folder: Path, blob_volume: Volume) -> None:
    package = make_package(package_folder, {**ARGUMENTS, "classes": 4})
    with pytest.raises(PackageError, match="names 2 structures, but its network tells 4 classes apart"):
        segment(blob_volume, request(package))


def test_maps_that_do_not_fit_are_one_sentence(
    package: ModelPackage, blob_volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def update(*_: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(StatisticsStream, "update", update)
    with pytest.raises(MemoryExhaustedError, match="not enough memory for the maps of this volume"):
        segment(blob_volume, request(package))


def test_a_structure_cut_by_the_region_is_counted(package: ModelPackage, blob_volume: Volume) -> None:
    result = segment(blob_volume, request(package))
    for index, structure in enumerate(result.structures):
        faces = [
            np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel(), labels[:, :, [0, -1]].ravel()])
            for labels in result.samples
        ]
        touching = sum(structure.label in face for face in faces)
        assert result.summary["structures"][index]["samples_touching_region_edge"] == touching > 0


def test_volumes_of_scripts_are_checked_like_files(package: ModelPackage, blob_volume: Volume) -> None:
    array = blob_volume.array.copy()
    array[3, 4, 5] = np.nan
    with pytest.raises(BadInputError, match="1 of 28800 voxels of 'Two blobs' are NaN or infinite"):
        segment(Volume(array, blob_volume.geometry, "Two blobs"), request(package))


def test_request_survives_json() -> None:
    roi = RegionOfInterest((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    asked = InferenceRequest("some-package", samples=7, seed=3, roi=roi, temperature=0.5, class_weights=(1.0, -2.0))
    assert InferenceRequest.from_json(json.loads(json.dumps(asked.to_json()))) == asked


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"samples": 0}, "The number of samples must be between 1 and 1000, not 0."),
        ({"seed": -1}, "The seed must be between 0 and 4294967295, not -1."),
        ({"temperature": 11.0}, "The temperature must be between 0 and 10, not 11."),
        ({"class_weights": (11.0,)}, "Class weights must be between -10 and 10."),
    ],
)
def test_bad_requests_are_one_sentence(options: dict, sentence: str) -> None:
    with pytest.raises(BadInputError) as caught:
        InferenceRequest("some-package", **options)
    assert str(caught.value) == sentence


def test_devices_are_tried_before_they_are_believed() -> None:
    assert why_not(torch.device("cpu")) is None
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(BadInputError, match="The device 'tpu' is not known; use auto, cpu, cuda, cuda:N or mps"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(BadInputError, match=r"The device cuda:7 cannot be used \(.+\); choose auto or cpu\."):
            choose_device("cuda:7")
