"""Files mean what SimpleITK and nibabel agree on; what would be read wrongly is refused in one sentence."""

import gzip
import os
import re
import zipfile

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.itk import image_to_sitk, volume_from_sitk
from MedSegUncertaintyLib.volumes.reading import read_labels, read_volume, write_volume

from .conftest import ORIENTATIONS, oriented, refusal


def noise(shape_kji, dtype=np.int16):
    return np.random.default_rng(1).integers(-900, 1500, shape_kji).astype(dtype)


# Files that are read


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "LIP", "SRA"])
def test_written_volumes_come_back(tmp_path, suffix, orientation):
    geometry = oriented(orientation, 15)
    array = noise(geometry.shape_kji)
    write_volume(tmp_path / f"img.v2{suffix}", array, geometry)
    volume = read_volume(tmp_path / f"img.v2{suffix}")
    assert volume.geometry.matches(geometry)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.int16
    assert volume.name == "img.v2"


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5])
def test_nifti_has_the_affine_of_nibabel(tmp_path, orientation):
    geometry = oriented(orientation, 15)
    array = noise(geometry.shape_kji, np.float32)
    path = tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array.T, geometry.ijk_to_ras), path)
    volume = read_volume(str(path))
    np.testing.assert_allclose(volume.geometry.ijk_to_ras, geometry.ijk_to_ras, atol=1e-4)
    np.testing.assert_array_equal(volume.array, array)


@pytest.mark.parametrize("shape", [(1, 8, 9), (8, 1, 9), (8, 9, 1)])
def test_single_slices_are_volumes(tmp_path, shape):
    geometry = oriented("LPS", shape=shape)
    write_volume(tmp_path / "slice.nii.gz", noise(geometry.shape_kji), geometry)
    assert read_volume(tmp_path / "slice.nii.gz").array.shape == shape[::-1]


@pytest.mark.parametrize("name", ["名前 mit Ümlaut.nii.gz", "名前 mit Ümlaut.nrrd", "a b'c\".mha"])
def test_any_file_name(tmp_path, name):
    geometry = oriented("RAS")
    write_volume(tmp_path / name, noise(geometry.shape_kji), geometry)
    assert read_volume(tmp_path / name).array.shape == geometry.shape_kji


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_voxel_types_are_kept(tmp_path, dtype):
    geometry = oriented("RAS")
    array = np.abs(noise(geometry.shape_kji)).astype(dtype)
    write_volume(tmp_path / "image.nrrd", array, geometry)
    volume = read_volume(tmp_path / "image.nrrd")
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, array)


def test_bool_is_written_as_numbers(tmp_path):
    geometry = oriented("RAS")
    array = noise(geometry.shape_kji) > 0
    write_volume(tmp_path / "mask.nii.gz", array, geometry)
    volume = read_labels(tmp_path / "mask.nii.gz")
    assert volume.array.dtype == np.int64
    np.testing.assert_array_equal(volume.array, array)


def test_nifti_rescaling_is_applied(tmp_path):
    image = nibabel.Nifti1Image(noise((4, 5, 6)), np.eye(4))
    image.header.set_slope_inter(0.5, -1024)
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    expected = nibabel.load(tmp_path / "scaled.nii.gz").get_fdata().T
    np.testing.assert_allclose(read_volume(tmp_path / "scaled.nii.gz").array, expected, atol=1e-3)


def test_sitk_helpers_are_inverse():
    geometry = oriented("PIR", 30)
    array = noise(geometry.shape_kji)
    image = image_to_sitk(array, geometry)
    point = image.TransformIndexToPhysicalPoint((1, 2, 3))
    np.testing.assert_allclose(geometry.to_ras((1, 2, 3)), np.array(point) * (-1, -1, 1))
    volume = volume_from_sitk(image, "name")
    assert volume.geometry.matches(geometry)
    np.testing.assert_array_equal(volume.array, array)
    with pytest.raises(ValueError, match="does not fit"):
        image_to_sitk(array[1:], geometry)


def test_big_endian_floats_are_read(tmp_path):
    array = noise((4, 5, 6), ">f4")
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4), nibabel.Nifti1Header(endianness=">")), tmp_path / "big.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "big.nii").array, array.T)


def test_labels_may_be_empty_but_not_between_whole_numbers(tmp_path):
    geometry = oriented("RAS")
    empty = np.zeros(geometry.shape_kji, np.float32)
    write_volume(tmp_path / "labels.nii.gz", empty, geometry)
    assert not read_labels(tmp_path / "labels.nii.gz").array.any()
    write_volume(tmp_path / "labels.nii.gz", empty + 0.5, geometry)
    with pytest.raises(BadInputError, match="not whole numbers"):
        read_labels(tmp_path / "labels.nii.gz")


def test_itk_does_not_talk(tmp_path, capfd):
    image = nibabel.Nifti1Image(noise((4, 5, 6)), np.diag([1, 1, 2, 1]))
    image.header["pixdim"][1:4] = 1
    nibabel.save(image, tmp_path / "image.nii")
    path = tmp_path / "two.nii"
    data = bytearray((tmp_path / "image.nii").read_bytes())
    data[80:92] = np.array([1, 1, 7], "<f4").tobytes()
    path.write_bytes(data)
    assert "two different voxel sizes" in refusal(path)
    assert capfd.readouterr() == ("", "")
    assert sitk.ProcessObject.GetGlobalWarningDisplay()


# Files that are refused


def test_missing_file(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nothing.nii.gz")


@pytest.mark.parametrize("content", [b"", b"This is a text, not an image.", b"\x1f\x8b nonsense"])
def test_not_an_image(tmp_path, content):
    path = tmp_path / "image.nii.gz"
    path.write_bytes(content)
    assert "not an image" in refusal(path)


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg", "picture.tif"])
def test_pictures(tmp_path, name):
    sitk.WriteImage(sitk.GetImageFromArray(noise((8, 9), np.uint8)), tmp_path / name)
    assert re.search(r"is a (PNG|JPEG|TIFF) file; give NIfTI", refusal(tmp_path / name))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_2d_medical_pictures(tmp_path, suffix):
    sitk.WriteImage(sitk.GetImageFromArray(noise((8, 9))), tmp_path / f"flat{suffix}")
    assert "2D picture" in refusal(tmp_path / f"flat{suffix}")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_4d(tmp_path, suffix):
    sitk.WriteImage(sitk.GetImageFromArray(noise((3, 4, 5, 6)), isVector=False), tmp_path / f"time{suffix}")
    assert "4 dimensions (6 x 5 x 4 x 3)" in refusal(tmp_path / f"time{suffix}")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_color_and_vectors(tmp_path, suffix, dtype):
    sitk.WriteImage(sitk.GetImageFromArray(noise((4, 5, 6, 3), dtype), isVector=True), tmp_path / f"rgb{suffix}")
    assert "color, vector or complex" in refusal(tmp_path / f"rgb{suffix}")


def test_complex(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(noise((4, 5, 6)) * (1 + 2j)), tmp_path / "complex.nii")
    assert "color, vector or complex" in refusal(tmp_path / "complex.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_inf_are_counted(tmp_path, suffix, dtype):
    geometry = oriented("RAS")
    array = noise(geometry.shape_kji, dtype)
    array[0, 0, :4] = np.nan, np.inf, -np.inf, np.nan
    write_volume(tmp_path / f"bad{suffix}", array, geometry)
    assert refusal(tmp_path / f"bad{suffix}").startswith("4 of 210 voxels")


def test_constant(tmp_path):
    geometry = oriented("RAS")
    write_volume(tmp_path / "flat.nii.gz", np.full(geometry.shape_kji, 7.5), geometry)
    assert "have the value 7.5" in refusal(tmp_path / "flat.nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".raw"])
@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_truncated(tmp_path, suffix, kept):
    geometry = oriented("RAS", shape=(20, 20, 20))
    path = tmp_path / ("image.mhd" if suffix == ".raw" else f"image{suffix}")
    sitk.WriteImage(image_to_sitk(noise(geometry.shape_kji), geometry), path, useCompression=suffix == ".nii.gz")
    cut = path.with_suffix(".raw") if suffix == ".raw" else path
    cut.write_bytes(cut.read_bytes()[: int(cut.stat().st_size * kept)])
    assert re.search("cut-off|bytes of voxels|incomplete", refusal(path))


def test_gzip_with_wrong_checksum(tmp_path):
    geometry = oriented("RAS", shape=(60, 60, 60))
    path = tmp_path / "image.nii.gz"
    write_volume(path, noise(geometry.shape_kji), geometry)
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF
    path.write_bytes(data)
    assert "damaged or cut-off gzip" in refusal(path)


@pytest.mark.parametrize("name", ["header.nii", "header.nii.gz"])
def test_header_only(tmp_path, name):
    geometry = oriented("RAS")
    write_volume(tmp_path / "full.nii", noise(geometry.shape_kji), geometry)
    header = (tmp_path / "full.nii").read_bytes()[:352]
    (tmp_path / name).write_bytes(gzip.compress(header) if name.endswith("gz") else header)
    assert "holds 0 of 420 bytes" in refusal(tmp_path / name)


def test_impossible_size(tmp_path):
    write_volume(tmp_path / "huge.nii", noise((4, 5, 6)), oriented("RAS", shape=(6, 5, 4)))
    data = bytearray((tmp_path / "huge.nii").read_bytes())
    data[42:48] = np.array([30000] * 3, "<i2").tobytes()
    (tmp_path / "huge.nii").write_bytes(data)
    assert "of 54000000000000 bytes" in refusal(tmp_path / "huge.nii")


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_missing_data_file(tmp_path, suffix):
    write_volume(tmp_path / f"image{suffix}", noise((5, 6, 7)), oriented("RAS"))
    for data in [*tmp_path.glob("*.raw"), *tmp_path.glob("*.zraw"), *tmp_path.glob("*.raw.gz")]:
        data.unlink()
    assert "damaged or incomplete" in refusal(tmp_path / f"image{suffix}")


@pytest.mark.parametrize("suffix", [".nii", ".nrrd"])
def test_shear(tmp_path, suffix):
    matrix = np.eye(4)
    matrix[0, 1] = 0.2
    path = tmp_path / f"sheared{suffix}"
    if suffix == ".nii":
        nibabel.save(nibabel.Nifti1Image(noise((6, 5, 4)), matrix), path)
    else:
        header = "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\nencoding: raw\n"
        header += "space directions: (1,0,0) (.2,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
        path.write_bytes(header.encode() + bytes(range(8)))
    assert "not perpendicular" in refusal(path)


def test_unknown_orientation(tmp_path):
    image = nibabel.Nifti1Image(noise((6, 5, 4)), None)
    nibabel.save(image, tmp_path / "image.nii.gz")
    assert "how its voxels lie" in refusal(tmp_path / "image.nii.gz")
    header = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n"
    (tmp_path / "image.nrrd").write_bytes(header + bytes(range(8)))
    assert "how its voxels lie" in refusal(tmp_path / "image.nrrd")


def test_analyze(tmp_path):
    nibabel.save(nibabel.Spm99AnalyzeImage(noise((6, 5, 4)), np.eye(4)), tmp_path / "image.hdr")
    assert "Analyze or two-file" in refusal(tmp_path / "image.hdr")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_nifti2(tmp_path, suffix, endianness):
    header = nibabel.Nifti2Header(endianness=endianness)
    nibabel.save(nibabel.Nifti2Image(noise((6, 5, 4)), np.eye(4), header), tmp_path / f"image{suffix}")
    assert "save it as NIfTI-1" in refusal(tmp_path / f"image{suffix}")


def test_other_files_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        archive.writestr("one.dcm", "text")
    assert "zip archive; unpack it" in refusal(tmp_path / "series.zip")
    nibabel.save(nibabel.MGHImage(noise((6, 5, 4)).astype(np.int32), np.eye(4)), tmp_path / "brain.mgz")
    assert "mri_convert" in refusal(tmp_path / "brain.mgz")
    geometry = oriented("RAS")
    write_volume(tmp_path / "image.nii.gz", noise(geometry.shape_kji), geometry)
    (tmp_path / "image.nii.gz").rename(tmp_path / "image.nii")
    assert "name it .nii.gz" in refusal(tmp_path / "image.nii")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe.nii")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_unreadable_file(tmp_path):
    (tmp_path / "image.nii").write_bytes(b"1")
    (tmp_path / "image.nii").chmod(0)
    assert "cannot be opened" in refusal(tmp_path / "image.nii")


def test_files_have_no_series(tmp_path):
    geometry = oriented("RAS")
    write_volume(tmp_path / "image.nrrd", noise(geometry.shape_kji), geometry)
    assert "single file" in refusal(tmp_path / "image.nrrd", "1")


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_one_point_in_time_is_a_volume(tmp_path, suffix):
    array = noise((1, 4, 5, 6))
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=False), tmp_path / f"time{suffix}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"time{suffix}").array, array[0])


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_impossible_size_is_found_before_it_is_allocated(tmp_path, suffix, encoding):
    """30000 voxels in each direction would need 27 TB."""
    local = suffix in (".nrrd", ".mha")
    if suffix in (".nrrd", ".nhdr"):
        header = "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 30000 30000 30000\n"
        header += f"space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: {encoding}\n"
        header += "\n" if local else "data file: voxels.raw\n\n"
    else:
        header = "ObjectType = Image\nNDims = 3\nDimSize = 30000 30000 30000\nElementType = MET_UCHAR\n"
        header += (
            f"ElementSpacing = 1 1 1\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nCompressedData = {encoding == 'gzip'}\n"
        )
        header += f"ElementDataFile = {'LOCAL' if local else 'voxels.raw'}\n"
    (tmp_path / "voxels.raw").write_bytes(bytes(1000))
    (tmp_path / f"huge{suffix}").write_bytes(header.encode() + (bytes(1000) if local else b""))
    assert "claims 30000 x 30000 x 30000 voxels" in refusal(tmp_path / f"huge{suffix}")


def test_metaimage_without_geometry(tmp_path):
    header = b"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    (tmp_path / "image.mha").write_bytes(header + bytes(range(8)))
    assert "how its voxels lie" in refusal(tmp_path / "image.mha")


def test_unwritable(tmp_path):
    geometry = oriented("RAS")
    for name in ("missing/image.nii.gz", "image.unknown"):
        with pytest.raises(BadInputError, match="cannot be written"):
            write_volume(tmp_path / name, noise(geometry.shape_kji), geometry)


# The reference data


AWKWARD = {
    "all_nan.nii.gz": "2048 of 2048 voxels",
    "analyze75.hdr": "Analyze",
    "broken_bitflip.nii.gz": "damaged",
    "broken_gz_named_nii.nii": "name it .nii.gz",
    "broken_header_only.nii": "holds 0 of 57600 bytes",
    "broken_huge_dims.nii": "holds 0 of",
    "broken_missing_raw.mhd": "how its voxels lie",
    "broken_missing_raw.nhdr": "incomplete",
    "broken_text.nii.gz": "not an image",
    "broken_truncated.nii.gz": "cut-off gzip",
    "broken_zero_byte.nii.gz": "is empty",
    "constant_float.nii.gz": "value 7.5",
    "empty_all_zero.nii.gz": "value 0",
    "freesurfer.mgz": "mri_convert",
    "nan_inf.nii.gz": "2028 of 28800 voxels",
    "nifti2.nii.gz": "save it as NIfTI-1",
    "nifti_2d.nii.gz": "2D picture",
    "no_space.nrrd": "how its voxels lie",
    "pic_gray8.png": "PNG",
    "pic_rgba.png": "PNG",
    "pic_cmyk.jpg": "JPEG",
    "pic_multipage.tif": "TIFF",
    "real_4d_3slices_nibabel.nii": "4 dimensions",
    "real_4d_huge_slice_sct_dmri.nii.gz": "4 dimensions",
    "real_4d_oblique_nibabel.nii.gz": "4 dimensions",
    "real_nonorthonormal_sform_dipy.nii.gz": "not perpendicular",
    "rgb_volume.nrrd": "color",
    "real_nifti2_nibabel.nii.gz": "save it as NIfTI-1",
    "sheared.nrrd": "not perpendicular",
    "sheared_sform.nii.gz": "not perpendicular",
    "single_voxel.nii.gz": "value 169",
    "singular_sform.nii.gz": "not perpendicular",
    "vector3_float.nrrd": "color, vector",
    "vol4d.nii.gz": "4 dimensions",
    "zero_pixdim.nii.gz": "two different voxel sizes",
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_files_are_refused(shared, name):
    assert AWKWARD[name] in refusal(shared / "data" / "awkward" / name)


@pytest.mark.parametrize(
    "name",
    [
        "axes_permuted_PIR.nii.gz",
        "big_endian.nii.gz",
        "extreme_anisotropy.nii.gz",
        "far_origin.nii.gz",
        "float64.nii.gz",
        "huge_spacing.nii.gz",
        "int16_rescale_0.5_-1024.nii.gz",
        "oblique_30_20_15.nii.gz",
        "outlier_1e30.nii.gz",
        "prime_dims.nii.gz",
        "qform_sform_disagree.nii.gz",
        "real_oblique35deg_aniso_dipy.nii.gz",
        "ref_phantom.nii.gz",
        "single_sagittal_column.nii.gz",
        "single_slice.nii.gz",
        "slope_nan.nii.gz",
        "slope_zero.nii.gz",
        "tiny_3x3x3.nii.gz",
        "tiny_spacing.nii.gz",
        "uint16_full_range.nii.gz",
        "uint8_binary.nii.gz",
        "name with spaces ü 患者.nii.gz",
    ],
)
def test_awkward_files_are_read_like_nibabel(shared, name):
    path = shared / "data" / "awkward" / name
    volume, expected = read_volume(path), nibabel.load(path)
    np.testing.assert_allclose(volume.array, expected.get_fdata().T, rtol=1e-6)
    np.testing.assert_allclose(volume.geometry.ijk_to_ras, expected.affine, rtol=1e-5, atol=2e-3)


def test_left_handed_nrrd(shared):
    volume = read_volume(shared / "data" / "awkward" / "left_handed_flip.nrrd")
    assert np.linalg.det(volume.geometry.direction) == pytest.approx(-1)
