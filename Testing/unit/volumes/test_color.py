"""Color images come apart into red, green and blue; what is none, or damaged, is one sentence."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.itk import geometry_from_sitk
from MedSegUncertaintyLib.volumes.reading import read_color

from .conftest import oriented


def colors(*shape, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 250, (*shape, 3)).astype(dtype)


def write(path, array) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=array.ndim > 2), path)


def refusal(path) -> str:
    with pytest.raises(BadInputError) as caught:
        read_color(path)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_is_three_volumes_of_one_slice(tmp_path, suffix, dtype):
    array = colors(8, 9, dtype=dtype)
    write(tmp_path / f"left eye{suffix}", array)
    channels = read_color(str(tmp_path / f"left eye{suffix}"))
    for n, channel in enumerate(channels):
        np.testing.assert_array_equal(channel.array, array[np.newaxis, ..., n])
        assert channel.array.dtype == dtype
        assert channel.name == "left eye"
        assert not channel.scaled
    geometry = channels[0].geometry
    assert geometry.shape_ijk == (9, 8, 1)
    # Columns run to the patient's left and rows to the back: upright in an axial view, where left is on the right.
    np.testing.assert_array_equal(geometry.ijk_to_ras, np.diag([-1.0, -1.0, 1.0, 1.0]))


def test_a_jpeg_is_read_and_what_it_says_about_printing_is_not(tmp_path):
    j, i = np.indices((64, 64))
    smooth = np.stack([2 * i, 2 * j, i + j], axis=-1).astype(np.uint8)
    image = sitk.GetImageFromArray(smooth, isVector=True)
    image.SetSpacing((0.2, 0.4))
    sitk.WriteImage(image, tmp_path / "eye.jpg", useCompression=True, compressionLevel=95)
    red, green, blue = read_color(tmp_path / "eye.jpg")
    for channel, expected in zip((red, green, blue), np.moveaxis(smooth, -1, 0), strict=True):
        assert np.abs(channel.array[0].astype(int) - expected).mean() < 3
    np.testing.assert_array_equal(red.geometry.spacing, (1, 1, 1))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
def test_a_volume_of_colors_keeps_its_grid(tmp_path, suffix):
    geometry, array = oriented("PIR", 15), colors(*oriented("PIR", 15).shape_kji)
    image = sitk.GetImageFromArray(array, isVector=True)
    image.SetSpacing(geometry.spacing.tolist())
    image.SetOrigin((geometry.ijk_to_ras[:3, 3] * (-1, -1, 1)).tolist())
    image.SetDirection((np.diag([-1.0, -1, 1]) @ geometry.direction).ravel().tolist())
    assert geometry_from_sitk(image).matches(geometry)
    sitk.WriteImage(image, tmp_path / f"slides{suffix}")
    for n, channel in enumerate(read_color(tmp_path / f"slides{suffix}")):
        np.testing.assert_array_equal(channel.array, array[..., n])
        assert channel.geometry.matches(geometry)
        assert channel.name == "slides"
        assert channel.scaled


def test_opacity_is_dropped_only_where_nothing_shows_through(tmp_path):
    opaque = np.concatenate([colors(8, 9), np.full((8, 9, 1), 255, np.uint8)], axis=-1)
    write(tmp_path / "eye.png", opaque)
    for n, channel in enumerate(read_color(tmp_path / "eye.png")):
        np.testing.assert_array_equal(channel.array[0], opaque[..., n])
    opaque[2, 3, 3] = 254
    write(tmp_path / "eye.png", opaque)
    assert refusal(tmp_path / "eye.png") == "'eye.png' has transparent pixels; save it without transparency."


@pytest.mark.parametrize("name", ["gray.png", "gray.jpg", "gray.tif"])
def test_a_gray_picture_has_no_colors(tmp_path, name):
    write(tmp_path / name, colors(8, 9)[..., 0])
    assert refusal(tmp_path / name) == f"'{name}' has no red, green and blue; the model needs a color image."


def test_a_gray_or_complex_volume_has_no_colors(tmp_path):
    gray = colors(4, 5, 6)[..., 0]
    sitk.WriteImage(sitk.GetImageFromArray(gray), tmp_path / "gray.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(gray * (1 + 2j)), tmp_path / "complex.nii")
    write(tmp_path / "two.nrrd", colors(4, 5, 6)[..., :2])
    for name in ("gray.nii.gz", "complex.nii", "two.nrrd"):
        assert refusal(tmp_path / name) == f"'{name}' has no red, green and blue; the model needs a color image."


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.98])
def test_a_picture_that_was_cut_off(tmp_path, suffix, kept, capfd):
    path = tmp_path / f"eye{suffix}"
    write(path, colors(80, 90))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert refusal(path).startswith(f"'eye{suffix}' is ")
    assert "copy it again" in refusal(path) or "give PNG, JPEG or TIFF" in refusal(path)


def test_a_picture_cannot_claim_more_pixels_than_it_can_hold(tmp_path):
    write(tmp_path / "bomb.png", np.zeros((4000, 4000, 3), np.uint8))
    size = (tmp_path / "bomb.png").stat().st_size
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    (tmp_path / "bomb.png").write_bytes(data)
    said = refusal(tmp_path / "bomb.png")
    assert f"claims 60000 x 60000 voxels but holds {size} bytes" in said or "damaged" in said


def test_several_pictures_in_one_file(tmp_path):
    write(tmp_path / "stack.tif", colors(3, 8, 9))
    assert refusal(tmp_path / "stack.tif") == "'stack.tif' holds 3 pictures; save one of them alone."


def test_other_files_are_named(tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    assert refusal(tmp_path / "notes.png").endswith("not an image that can be read; give PNG, JPEG or TIFF.")
    assert "does not exist; check the path" in refusal(tmp_path / "missing.png")
    assert refusal(tmp_path).endswith("is DICOM or a folder; save the color image as PNG, JPEG or TIFF.")
