"""The model's grid: right side, right place, right size, in every orientation, and exactly back."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry, RegionOfInterest, Volume
from MedSegUncertaintyLib.volumes.placement import GridRule, Placement
from MedSegUncertaintyLib.volumes.reading import read_volume

from .conftest import ORIENTATIONS, directions, oriented, turned

NATIVE = GridRule(None)
MM1 = GridRule((1.0, 1.0, 1.0))


def labels_on(geometry):
    return np.random.default_rng(5).integers(0, 200, geometry.shape_kji).astype(np.int16)


def gaussian_blob(geometry, center_ras, sigma_mm=6.0):
    """Smooth blob sampled at the voxel centers, peak 1."""
    k, j, i = np.indices(geometry.shape_kji)
    offsets = geometry.to_ras(np.stack([i, j, k], axis=-1)) - center_ras
    return np.exp(-0.5 * (offsets**2).sum(axis=-1) / sigma_mm**2)


def centroid_ijk(array):
    k, j, i = np.indices(array.shape)
    return np.array([(axis * array).sum() for axis in (i, j, k)]) / array.sum()


def round_trip(placement, array):
    """Input -> model -> box, float32."""
    model = placement.to_model(Volume(array, placement.input))
    return placement.soft_to_box(torch.from_numpy(model)).numpy()


# Orientation


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("degrees", [0, 15])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_goes_to_the_model_and_exactly_back(orientation, degrees):
    geometry = oriented(orientation, degrees)
    labels = labels_on(geometry)
    placement = Placement.plan(geometry, NATIVE)
    model = placement.to_model(Volume(labels, geometry))
    # The model's axes are the image's axes that point to R, A and S, turned with the image.
    np.testing.assert_allclose(placement.model.direction, turned(degrees), atol=1e-9)
    np.testing.assert_array_equal(round_trip(placement, labels), labels)
    # A landmark whose place in the patient is known is found there on the model's grid.
    mark = np.array([1, 4, 2])
    i, j, k = np.rint(placement.model.to_ijk(geometry.to_ras(mark))).astype(int)
    np.testing.assert_allclose(placement.model.to_ras((i, j, k)), geometry.to_ras(mark), atol=1e-9)
    assert model[k, j, i] == labels[2, 4, 1]
    assert model.dtype == np.float32
    assert model.flags.c_contiguous


@pytest.mark.parametrize("wanted", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "IRP", "ASL"])
def test_wanted_orientations_are_met(orientation, wanted):
    geometry = oriented(orientation, 15)
    labels = labels_on(geometry)
    placement = Placement.plan(geometry, GridRule(None, wanted))
    np.testing.assert_allclose(placement.model.direction, turned(15) @ directions(wanted), atol=1e-9)
    np.testing.assert_array_equal(round_trip(placement, labels), labels)


def test_known_array_in_known_orientation():
    # LPS, 2 x 1 x 1: voxel 0 lies on the right side of voxel 1, so RAS order is reversed.
    geometry = Geometry.from_parts((2, 1, 1), (1, 1, 1), (0, 0, 0), directions("LPS"))
    model = Placement.plan(geometry, NATIVE).to_model(Volume(np.array([[[5, 6]]]), geometry))
    np.testing.assert_array_equal(model, [[[6, 5]]])


@pytest.mark.parametrize("degrees", [44, 45, 46, 60])
def test_strongly_oblique_grids_use_every_axis_once(degrees):
    geometry = Geometry.from_parts((7, 6, 5), (1, 2, 3), (4, 5, 6), turned(degrees, (1, 1, 1)) @ directions("SPL"))
    labels = labels_on(geometry)
    placement = Placement.plan(geometry, NATIVE)
    assert sorted(placement.model.shape_ijk) == [5, 6, 7]
    np.testing.assert_array_equal(round_trip(placement, labels), labels)


def test_spacing_belongs_to_the_axes_of_the_model():
    geometry = oriented("SRA", shape=(10, 20, 30), spacing=(4.0, 1.0, 2.0))
    placement = Placement.plan(geometry, GridRule((2.0, 4.0, 8.0)))
    np.testing.assert_allclose(placement.model.spacing, (2, 4, 8))
    assert placement.model.shape_ijk == (10, 15, 5)


@pytest.mark.parametrize("orientation", ["RAS", "LPI"])
def test_nearly_equal_spacing_is_not_resampled(orientation):
    geometry = oriented(orientation, 15, spacing=(1.0005, 0.9995, 3.0))
    labels = labels_on(geometry)
    placement = Placement.plan(geometry, GridRule((1.0, 1.0, 3.0)))
    assert placement.model.shape_ijk == geometry.shape_ijk
    np.testing.assert_array_equal(round_trip(placement, labels), labels)


@pytest.mark.parametrize("orientation", ["RASS", "RA", "RRS", "XYZ", "ras"])
def test_wrong_orientation(orientation):
    with pytest.raises(ValueError, match="does not name three axes"):
        GridRule(None, orientation)


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf")])
def test_wrong_spacing(size):
    with pytest.raises(ValueError, match="not positive"):
        GridRule((1, size, 1))


# Resampling


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("rule", [MM1, GridRule((1.0, 1.0, 5.0)), GridRule((0.8, 0.7, 2.1))])
def test_thick_slices_round_trip(orientation, rule):
    geometry = oriented(orientation, 15, shape=(90, 80, 14), spacing=(0.5, 0.5, 5.0))
    blob = gaussian_blob(geometry, geometry.to_ras((41.3, 38.2, 6.4)), sigma_mm=7.0)
    back = round_trip(Placement.plan(geometry, rule), blob)
    assert back.sum() == pytest.approx(blob.sum(), rel=0.02)
    np.testing.assert_allclose(centroid_ijk(back), centroid_ijk(blob), atol=0.05)


@pytest.mark.parametrize("spacing", [0.5, 1.0, 1.7, 3.0, 4.0])
def test_model_grid_has_the_same_place_in_the_patient(spacing):
    geometry = oriented("LIP", 15, shape=(40, 44, 48), spacing=(1.0, 1.5, 2.0))
    center = geometry.to_ras((19.7, 21.4, 24.2))
    placement = Placement.plan(geometry, GridRule((spacing,) * 3))
    model = placement.to_model(Volume(gaussian_blob(geometry, center), geometry))
    found = placement.model.to_ras(centroid_ijk(model))
    np.testing.assert_allclose(found, geometry.to_ras(centroid_ijk(gaussian_blob(geometry, center))), atol=0.02)
    # Same middle, and no voxel of the image outside of the model's grid.
    middle = (np.array(placement.model.shape_ijk) - 1) / 2
    np.testing.assert_allclose(placement.model.to_ras(middle), geometry.to_ras((19.5, 21.5, 23.5)), atol=1e-9)
    corners = placement.model.to_ijk(geometry.to_ras(np.array([[-0.5] * 3, [39.5, 43.5, 47.5]])))
    assert corners.min() >= -0.5 - 0.02
    assert (corners.max(axis=0) <= np.array(placement.model.shape_ijk) - 0.5 + 0.02).all()


def test_upsampling_by_two_by_hand():
    geometry = Geometry.from_parts((3, 1, 1), (2, 1, 1))
    model = Placement.plan(geometry, MM1).to_model(Volume(np.array([[[0.0, 4, 8]]]), geometry))
    np.testing.assert_allclose(model, [[[0, 1, 3, 5, 7, 8]]])


def test_soft_fields_by_hand():
    geometry = Geometry.from_parts((4, 1, 1), (1, 1, 1))
    placement = Placement.plan(geometry, GridRule((2.0, 1, 1)))
    assert placement.model.shape_ijk == (2, 1, 1)
    back = placement.soft_to_box(torch.tensor([[[0.0, 8.0]]]))
    np.testing.assert_allclose(back, [[[0, 2, 6, 8]]])


def test_nyquist_checkerboard_becomes_flat():
    geometry = Geometry.from_parts((64, 64, 64), (1, 1, 1))
    k, j, i = np.indices(geometry.shape_kji)
    model = Placement.plan(geometry, GridRule((4.0, 4, 4))).to_model(Volume((i + j + k) % 2 * 100, geometry))
    assert model.shape == (16, 16, 16)
    np.testing.assert_allclose(model[2:-2, 2:-2, 2:-2], 50, atol=0.01)


def test_smoothing_follows_scikit_image_along_shrinking_axes_only():
    from scipy.ndimage import gaussian_filter, map_coordinates

    geometry = Geometry.from_parts((20, 18, 16), (1, 1, 1))
    array = np.random.default_rng(2).normal(size=geometry.shape_kji)
    model = Placement.plan(geometry, GridRule((2.0, 3.0, 0.5))).to_model(Volume(array, geometry))
    smooth = gaussian_filter(array, sigma=(0, 1, 0.5), mode="nearest", truncate=4)
    k, j, i = np.meshgrid(np.arange(32) / 2 - 0.25, np.arange(6) * 3 + 1, np.arange(10) * 2 + 0.5, indexing="ij")
    np.testing.assert_allclose(model, map_coordinates(smooth, [k, j, i], order=1, mode="nearest"), atol=1e-4)


def test_constant_images_stay_constant_at_the_border():
    geometry = oriented("PIR", 15, shape=(11, 9, 7))
    for spacing in (0.4, 5.0):
        placement = Placement.plan(geometry, GridRule((spacing,) * 3))
        model = placement.to_model(Volume(np.full(geometry.shape_kji, 1000), geometry))
        np.testing.assert_allclose(model, 1000, rtol=1e-5)


def test_probabilities_still_sum_to_one():
    geometry = oriented("ASL", 15, shape=(23, 21, 9), spacing=(0.5, 0.5, 5.0))
    placement = Placement.plan(geometry, MM1, RegionOfInterest(tuple(geometry.to_ras((11, 10, 4))), (9, 9, 30)))
    logits = torch.randn(2, 4, *placement.model.shape_kji, generator=torch.Generator().manual_seed(1))
    probabilities = placement.soft_to_box((5 * logits).softmax(dim=1))
    assert probabilities.shape == (2, 4, *placement.box.shape_ijk[::-1])
    assert probabilities.min() >= 0
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, *placement.box.shape_ijk[::-1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_soft_fields_keep_their_type_and_leading_dimensions(dtype):
    geometry = oriented("LPS", 15)
    for rule in (NATIVE, MM1):
        placement = Placement.plan(geometry, rule)
        for lead in ((), (3,), (2, 1, 3)):
            out = placement.soft_to_box(torch.ones(*lead, *placement.model.shape_kji, dtype=dtype))
            assert out.dtype == dtype
            assert out.shape == (*lead, *geometry.shape_kji)
            assert out.is_contiguous()
            assert (out == 1).all()


def test_leading_dimensions_do_not_mix():
    placement = Placement.plan(oriented("IPR", 15), GridRule((1.3, 0.9, 2.2)))
    fields = torch.randn(2, 3, *placement.model.shape_kji)
    together = placement.soft_to_box(fields)
    for a in range(2):
        for b in range(3):
            torch.testing.assert_close(together[a, b], placement.soft_to_box(fields[a, b]), rtol=0, atol=0)


def test_inputs_are_left_alone():
    geometry = oriented("LPS", 15)
    array = labels_on(geometry).astype(np.float32)
    for rule in (NATIVE, MM1):
        placement = Placement.plan(geometry, rule)
        placement.to_model(Volume(array, geometry))
        fields = torch.ones(placement.model.shape_kji)
        placement.soft_to_box(fields)
        np.testing.assert_array_equal(array, labels_on(geometry))
        assert (fields == 1).all()


@pytest.mark.parametrize("shape", [(1, 8, 9), (8, 1, 9), (8, 9, 1), (1, 1, 1)])
@pytest.mark.parametrize("rule", [NATIVE, MM1, GridRule((7.0, 7.0, 7.0))])
def test_single_slices_along_each_axis(shape, rule):
    geometry = oriented("PLS", 15, shape=shape, spacing=(0.5, 0.5, 5.0))
    array = np.full(geometry.shape_kji, 3.0)
    np.testing.assert_allclose(round_trip(Placement.plan(geometry, rule), array), array, rtol=1e-5)
    if rule is NATIVE:
        np.testing.assert_array_equal(
            round_trip(Placement.plan(geometry, rule), labels_on(geometry)), labels_on(geometry)
        )


def test_outliers_stay_where_they_are():
    geometry = oriented("RAS", shape=(12, 12, 12), spacing=(1.0, 1.0, 1.0))
    array = np.ones(geometry.shape_kji)
    array[6, 6, 6] = 1e30
    model = Placement.plan(geometry, GridRule((0.5, 0.5, 0.5))).to_model(Volume(array, geometry))
    assert np.isfinite(model).all()
    np.testing.assert_allclose(model[:9], 1, rtol=1e-6)


def test_tiny_and_far_grids(shared):
    for name in ("tiny_spacing", "far_origin", "tiny_3x3x3", "prime_dims", "extreme_anisotropy", "axes_permuted_PIR"):
        volume = read_volume(shared / "data" / "awkward" / f"{name}.nii.gz")
        placement = Placement.plan(volume.geometry, NATIVE)
        np.testing.assert_array_equal(round_trip(placement, volume.array.astype(np.float32)), volume.array)
        resampled = Placement.plan(volume.geometry, MM1)
        assert np.isfinite(round_trip(resampled, volume.array)).all()


@pytest.mark.parametrize("orientation", ["RAS", "PIR"])
def test_placed_files_are_where_the_phantom_is(shared, orientation):
    """The same phantom, stored in several ways, gives the same model input at the same places."""
    awkward = shared / "data" / "awkward"
    reference = read_volume(awkward / "ref_phantom.nii.gz")
    rule = GridRule(None, orientation)
    for name in ("big_endian", "slope_zero", "name with spaces ü 患者"):
        volume = read_volume(awkward / f"{name}.nii.gz")
        model = Placement.plan(volume.geometry, rule).to_model(volume)
        np.testing.assert_array_equal(model, Placement.plan(reference.geometry, rule).to_model(reference))


# Regions of interest


def test_region_of_an_axis_aligned_image():
    geometry = oriented("LPS", shape=(20, 20, 20), spacing=(1.0, 1.0, 1.0))
    corner, far = geometry.to_ras((3, 5, 7)), geometry.to_ras((9, 10, 12))
    roi = RegionOfInterest(tuple((corner + far) / 2), tuple(np.abs(far - corner) + 0.5))
    placement = Placement.plan(geometry, NATIVE, roi)
    assert placement.box == Box((3, 5, 7), (10, 11, 13))
    assert placement.inside_roi is None
    labels = labels_on(geometry)
    np.testing.assert_array_equal(round_trip(placement, labels), labels[7:13, 5:11, 3:10])


@pytest.mark.parametrize("degrees", [15, 45])
@pytest.mark.parametrize("orientation", ["RAS", "PIL"])
def test_region_of_an_oblique_image(orientation, degrees):
    geometry = oriented(orientation, degrees, shape=(30, 28, 26), spacing=(1.0, 1.2, 1.5))
    center = geometry.to_ras((15, 14, 13))
    roi = RegionOfInterest(tuple(center), (9.0, 11.0, 13.0))
    placement = Placement.plan(geometry, NATIVE, roi)
    k, j, i = np.indices(geometry.shape_kji)
    distance = np.abs(geometry.to_ras(np.stack([i, j, k], axis=-1)) - center)
    expected = (distance <= np.array(roi.size_mm) / 2).all(axis=-1)
    # The box is the smallest one, and inside it the mask says which voxels count.
    used = np.argwhere(expected)[:, ::-1]
    assert placement.box == Box(tuple(used.min(axis=0)), tuple(used.max(axis=0) + 1))
    np.testing.assert_array_equal(placement.inside_roi, expected[placement.box.slices_kji])
    assert not placement.inside_roi.all()
    labels = labels_on(geometry)
    np.testing.assert_array_equal(round_trip(placement, labels), labels[placement.box.slices_kji])


def test_region_partly_outside_is_clipped():
    geometry = Geometry.from_parts((10, 10, 10), (1, 1, 1))
    placement = Placement.plan(geometry, NATIVE, RegionOfInterest((0, 9, 5), (6.0, 6.0, 100.0)))
    assert placement.box == Box((0, 6, 0), (4, 10, 10))


def test_faces_of_the_region_belong_to_it():
    geometry = Geometry.from_parts((10, 10, 10), (0.1, 0.1, 0.1), (0.3, 0.3, 0.3))
    placement = Placement.plan(geometry, NATIVE, RegionOfInterest((0.7, 0.7, 0.7), (0.4, 0.4, 0.4)))
    assert placement.box == Box((2, 2, 2), (7, 7, 7))


@pytest.mark.parametrize("spacing", [0.4, 3.0])
def test_region_uses_the_image_around_it(spacing):
    geometry = oriented("LAS", 15, shape=(60, 60, 60), spacing=(1.0, 1.0, 1.0))
    array = np.random.default_rng(8).normal(size=geometry.shape_kji)
    roi = RegionOfInterest(tuple(geometry.to_ras((30, 30, 30))), (20.0, 20.0, 20.0))
    placement = Placement.plan(geometry, GridRule((spacing,) * 3), roi)
    model = placement.to_model(Volume(array, geometry))
    assert placement.model.shape_ijk == tuple(int(np.ceil(size / spacing)) for size in placement.box.shape_ijk)
    # Two voxels outside of the box the image still reaches the model when it is smoothed, and the next voxel always.
    far = array.copy()
    i = placement.box.slices_kji[2]
    far[:, :, : i.start - 1] += 100
    changed = np.abs(placement.to_model(Volume(far, geometry)) - model).max()
    assert (changed > 1) == (spacing == 3.0)
    far = array.copy()
    far[:, :, i.start - 1] += 100
    assert np.abs(placement.to_model(Volume(far, geometry)) - model).max() > 1


def test_region_outside():
    geometry = Geometry.from_parts((10, 10, 10), (1, 1, 1))
    with pytest.raises(BadInputError) as caught:
        Placement.plan(geometry, NATIVE, RegionOfInterest((100, 5, 5), (10.0, 10.0, 10.0)))
    assert str(caught.value) == (
        "The region of interest (R 95.0 to 105.0, A 0.0 to 10.0, S 0.0 to 10.0 mm) holds no voxel of the image "
        "(R -0.5 to 9.5, A -0.5 to 9.5, S -0.5 to 9.5 mm); move or enlarge it."
    )


def test_region_between_voxel_centers():
    with pytest.raises(BadInputError, match="holds no voxel"):
        Placement.plan(oriented("RAS"), NATIVE, RegionOfInterest((11.5, -22, 38), (0.2, 0.2, 0.2)))


def test_region_beside_an_oblique_image():
    geometry = oriented("RAS", 45, shape=(20, 20, 20), spacing=(1.0, 1.0, 1.0))
    corner = geometry.to_ras([[i, j, k] for i in (0, 19) for j in (0, 19) for k in (0, 19)]).max(axis=0)
    with pytest.raises(BadInputError, match="holds no voxel"):
        Placement.plan(geometry, NATIVE, RegionOfInterest(tuple(corner), (2.0, 2.0, 2.0)))


@pytest.mark.parametrize("size", [(0, 5, 5), (5, -5, 5), (5, 5, float("nan")), (float("inf"), 5, 5)])
def test_empty_region(size):
    with pytest.raises(BadInputError, match="make every edge longer than 0"):
        Placement.plan(oriented("RAS"), NATIVE, RegionOfInterest((11, -23, 37), size))


# Refusals


def test_absurd_model_grid():
    geometry = Geometry.from_parts((40, 36, 20), (50, 50, 100))
    with pytest.raises(BadInputError, match=r"7\.2e\+09 voxels; give a region of interest"):
        Placement.plan(geometry, MM1)
    assert Placement.plan(geometry, MM1, RegionOfInterest((100, 100, 100), (60.0, 60.0, 60.0))).model.shape_ijk


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]], "not perpendicular"),
        ([[1, 1, 0], [0, 0, 0], [0, 0, 1]], "do not span space"),
        ([[1, 0, 0], [0, 0, 0], [0, 0, 1]], "do not span space"),
        ([[1, 0, 0], [0, float("nan"), 0], [0, 0, 1]], "do not span space"),
    ],
)
def test_bad_geometry(matrix, words):
    affine = np.eye(4)
    affine[:3, :3] = matrix
    with pytest.raises(BadInputError, match=words):
        Placement.plan(Geometry((4, 4, 4), affine), NATIVE)


def test_another_grid_is_a_mistake_of_the_caller():
    placement = Placement.plan(oriented("RAS"), NATIVE)
    other = oriented("LAS")
    with pytest.raises(ValueError, match="not on the grid"):
        placement.to_model(Volume(labels_on(other), other))
    with pytest.raises(ValueError, match="do not end in"):
        placement.soft_to_box(torch.zeros(3, 3, 3))


def test_importing_the_room_does_not_load_torch():
    rooms = ", ".join(
        f"MedSegUncertaintyLib.volumes.{name}" for name in ("geometry", "reading", "placement", "intensity")
    )
    code = f"import sys, {rooms}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
