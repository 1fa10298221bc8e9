"""NIfTI headers that ITK and other readers understand differently are refused; the rest is read as nibabel reads it."""

import nibabel
import numpy as np
import pytest
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.reading import read_volume

from .conftest import oriented, refusal

ARRAY = np.random.default_rng(1).integers(-900, 1500, (7, 6, 5)).astype(np.int16)
STRAIGHT = oriented("RAS").ijk_to_ras
FLIPPED = STRAIGHT @ np.array([[-1, 0, 0, 4], [0, -1, 0, 5], [0, 0, 1, 0], [0, 0, 0, 1]])
TURNED = oriented("RAS", 2).ijk_to_ras
SHEARED = STRAIGHT @ np.array([[1, 0.05, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def write(path, *, sform=(STRAIGHT, 1), qform=(STRAIGHT, 1), array=ARRAY, changes=()):
    """Write a NIfTI-1 file with these matrices and codes; ``changes`` overwrites numbers at places in the header."""
    image = nibabel.Nifti1Image(array, None, dtype=array.dtype)
    image.set_qform(*qform)
    image.set_sform(*sform)
    image.header.set_zooms(oriented("RAS").spacing)
    nibabel.save(image, path)
    data = bytearray(path.read_bytes())
    for place, numbers in changes:
        data[place : place + len(numbers.tobytes())] = numbers.tobytes()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("other", [FLIPPED, TURNED])
@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_scanner_sform_wins_over_any_qform(tmp_path, other, code):
    path = write(tmp_path / "image.nii", qform=(other, code))
    np.testing.assert_allclose(read_volume(path).geometry.ijk_to_ras, nibabel.load(path).affine, atol=1e-4)


@pytest.mark.parametrize("other", [FLIPPED, TURNED])
@pytest.mark.parametrize("sform_code", [2, 4])
@pytest.mark.parametrize("qform_code", [1, 2, 4])
def test_other_sforms_are_read_only_if_the_qform_agrees(tmp_path, other, sform_code, qform_code):
    """ITK and Slicer take the qform here, nibabel the sform."""
    path = write(tmp_path / "image.nii", sform=(STRAIGHT, sform_code), qform=(other, qform_code))
    assert "two different positions" in refusal(path)
    path = write(tmp_path / "image.nii", sform=(other, sform_code), qform=(other, qform_code))
    np.testing.assert_allclose(read_volume(path).geometry.ijk_to_ras, nibabel.load(path).affine, atol=1e-4)


@pytest.mark.parametrize("code", [0, 1])
def test_sheared_sform_is_not_replaced_by_the_qform(tmp_path, code):
    assert "not perpendicular" in refusal(write(tmp_path / "image.nii", sform=(SHEARED, 1), qform=(STRAIGHT, code)))


def test_qform_alone_is_enough(tmp_path):
    path = write(tmp_path / "image.nii", sform=(STRAIGHT, 0), qform=(TURNED, 1))
    np.testing.assert_allclose(read_volume(path).geometry.ijk_to_ras, TURNED, atol=1e-4)


def test_far_positions_are_compared_exactly(tmp_path):
    far = STRAIGHT.copy()
    far[:3, 3] = 123456.5, -98765.25, 54321.75
    path = write(tmp_path / "image.nii", sform=(far, 1), qform=(far, 1))
    np.testing.assert_allclose(read_volume(path).geometry.ijk_to_ras, far, atol=0.01)


@pytest.mark.parametrize("size", [0, -1, np.nan])
def test_voxel_sizes_must_be_stated(tmp_path, size):
    change = [(84, np.array(size, "<f4"))]
    assert "two different voxel sizes" in refusal(write(tmp_path / "image.nii", changes=change)) or size == -1
    path = write(tmp_path / "image.nii", sform=(STRAIGHT, 0), changes=change)
    assert "how large its voxels are" in refusal(path)


@pytest.mark.parametrize("units", [1, 3])
def test_units_other_than_mm(tmp_path, units):
    assert "in meters or micrometers" in refusal(write(tmp_path / "image.nii", changes=[(123, np.uint8(units))]))


@pytest.mark.parametrize(
    ("place", "number"),
    [
        (42, np.int16(0)),
        (44, np.int16(-6)),
        (70, np.int16(8)),  # int32 in 16 bits: ITK reads twice as much as there is
        (72, np.int16(8)),
        (108, np.float32(0)),
        (108, np.float32(128)),
        (108, np.float32(1e30)),
        (108, np.float32(np.nan)),
    ],
)
def test_impossible_fields(tmp_path, place, number):
    assert "impossible size, voxel type or offset" in refusal(write(tmp_path / "image.nii", changes=[(place, number)]))


@pytest.mark.parametrize(
    ("slope", "intercept", "readable"),
    [
        (0.5, -1024, True),
        (-2, 7, True),
        (0, 0, True),
        (np.nan, np.nan, True),
        (np.inf, 0, True),
        (0, 5, False),
        (np.nan, 5, False),
        (2, np.nan, False),
        (2, np.inf, False),
        (1e-30, 0, False),
    ],
)
def test_rescaling(tmp_path, slope, intercept, readable):
    path = write(tmp_path / "image.nii", changes=[(112, np.array([slope, intercept], "<f4"))])
    if readable:
        np.testing.assert_allclose(read_volume(path).array, nibabel.load(path).get_fdata().T, rtol=1e-6)
    else:
        assert "rescaling that makes no sense" in refusal(path)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_voxel_type_and_byte_order(tmp_path, dtype, order):
    array = (np.abs(ARRAY) % 100).astype(dtype)
    if np.dtype(dtype).itemsize == 8 and dtype != np.float64:
        array += dtype(2**60)
    image = nibabel.Nifti1Image(array, TURNED, nibabel.Nifti1Header(endianness=order), dtype=array.dtype)
    nibabel.save(image, tmp_path / "image.nii.gz")
    volume = read_volume(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(volume.array, array.T)
    assert volume.array.dtype == dtype


def test_header_extensions_are_skipped(tmp_path):
    image = nibabel.Nifti1Image(ARRAY, TURNED)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 1000))
    nibabel.save(image, tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "image.nii.gz").array, ARRAY.T)


def test_random_damage_is_refused_or_read_like_nibabel(tmp_path):
    path = write(tmp_path / "image.nii")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, 348, 2):
            damaged[place] = rng.choice([0, 1, 2, 4, 8, 64, 127, 255])
        path.write_bytes(damaged)
        try:
            volume = read_volume(path)
        except BadInputError:
            continue
        expected = nibabel.load(path)
        np.testing.assert_allclose(volume.array, expected.get_fdata().T.reshape(volume.array.shape), atol=1e-3)
        np.testing.assert_allclose(volume.geometry.ijk_to_ras, expected.affine, atol=0.1)
