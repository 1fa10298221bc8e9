"""DICOM means what pydicom says, whatever the names, folders and encodings; the rest is refused in one sentence."""

import contextlib
import re
import zipfile

import numpy as np
import pydicom
import pytest
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import Geometry
from MedSegUncertaintyLib.volumes.reading import read_volume, write_volume
from pydicom.pixels import apply_modality_lut

from .conftest import dicom_slice, refusal, turned


def test_dicom_slices_are_sorted_by_position(tmp_path, series):
    volume = read_volume(series.write(tmp_path / "CT"))
    np.testing.assert_array_equal(volume.array, series.stored.astype(int) - 1024)
    expected = Geometry.from_parts((10, 8, 6), (0.6, 0.8, 2.5), (-5, -6, 7), np.diag([-1, -1, 1]) @ turned(20))
    np.testing.assert_allclose(volume.geometry.ijk_to_ras, expected.ijk_to_ras, atol=1e-6)
    assert volume.name == "CT"


def test_dicom_and_nifti_of_it_agree(tmp_path, series):
    volume = read_volume(series.write(tmp_path / "CT"))
    write_volume(tmp_path / "CT.nii.gz", volume.array, volume.geometry)
    again = read_volume(tmp_path / "CT.nii.gz")
    assert again.geometry.matches(volume.geometry)
    np.testing.assert_array_equal(again.array, volume.array)


def test_one_dicom_slice_gets_its_thickness(tmp_path, series):
    path = tmp_path / "slice.dcm"
    series.slices[2].save_as(path, enforce_file_format=True)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, series.stored[2:3].astype(int) - 1024)
    np.testing.assert_allclose(volume.geometry.spacing, (0.6, 0.8, 2.5))
    del series.slices[2].SliceThickness
    series.slices[2].save_as(path, enforce_file_format=True)
    assert "unknown thickness" in refusal(path)


def test_rescaling_differs_from_slice_to_slice(tmp_path, series):
    slopes = [1, 1.25, 0.1, 2, 3.5, 1]
    for dataset, slope in zip(series.slices, slopes, strict=True):
        dataset.RescaleSlope = slope
    expected = series.stored * np.array(slopes)[:, None, None] - 1024
    np.testing.assert_allclose(read_volume(series.write(tmp_path / "PET")).array, expected, atol=1e-3)


def test_folder_without_dicom(tmp_path):
    assert "holds no DICOM image" in refusal(tmp_path)


def remove_slice(series):
    del series.slices[2]


def duplicate_position(series):
    series.slices[3].ImagePositionPatient = series.slices[2].ImagePositionPatient


def halve_rows(series):
    series.slices[2].Rows = 4
    series.slices[2].PixelData = series.slices[2].PixelData[:80]


def turn_one(series):
    series.slices[2].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


def tilt_gantry(series):
    for k, dataset in enumerate(series.slices):
        shifted = np.array(dataset.ImagePositionPatient, float) + k * np.array(turned(20)[:, 1])
        dataset.ImagePositionPatient = [f"{number:.8f}" for number in shifted]


def drop_pixel_spacing(series):
    del series.slices[4].PixelSpacing


def drop_position(series):
    del series.slices[4].ImagePositionPatient


def shorten_pixels(series):
    series.slices[4].PixelData = series.slices[4].PixelData[:100]


def make_multiframe(series):
    series.slices = series.slices[:1]
    series.slices[0].NumberOfFrames = 3
    series.slices[0].PixelData *= 3


def make_color(series):
    series.slices = series.slices[:1]
    dataset = series.slices[0]
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 0, "RGB"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    del dataset.RescaleSlope, dataset.RescaleIntercept
    dataset.PixelData = bytes(range(240))


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (remove_slice, r"gaps of 2\.5 to 5 mm between its 5 slices"),
        (duplicate_position, "two slices at one position"),
        (halve_rows, "different sizes"),
        (turn_one, "different directions"),
        (tilt_gantry, "tilted gantry"),
        (drop_pixel_spacing, "how large its pixels are"),
        (drop_position, "where its slice lies"),
        (shorten_pixels, "fewer pixels"),
        (make_multiframe, "3 frames"),
        (make_color, "color image"),
    ],
)
def test_broken_series(tmp_path, series, break_it, words):
    break_it(series)
    folder = series.write(tmp_path / "series")
    with pytest.raises(BadInputError, match=words):
        read_volume(folder)


def test_rounded_positions_are_no_gap(tmp_path, series):
    for dataset in series.slices:
        dataset.ImagePositionPatient = [f"{float(number):.2f}" for number in dataset.ImagePositionPatient]
    assert read_volume(series.write(tmp_path / "CT")).geometry.spacing[2] == pytest.approx(2.5, abs=0.01)


def test_helper_writes_valid_slices(tmp_path, series):
    stored = np.arange(80, dtype=np.int16).reshape(8, 10)
    dataset = dicom_slice(stored, {"study": "1.2", "series": "1.3", "frame": "1.4"}, 0)
    np.testing.assert_array_equal(dataset.pixel_array, stored)


# The reference data


def test_hippocampus_series_equals_its_nifti(shared):
    dicom = read_volume(shared / "data" / "dicom" / "mr_hippocampus_from_msd")
    nifti = read_volume(shared / "data" / "hippocampus_msd" / "images" / "hippocampus_033.nii.gz")
    # The series keeps another order of axes; compare at the same places in the patient.
    k, j, i = np.indices(dicom.array.shape)
    places = dicom.geometry.to_ras(np.stack([i, j, k], axis=-1))
    ijk = np.rint(nifti.geometry.to_ijk(places)).astype(int)
    np.testing.assert_allclose(nifti.geometry.to_ras(ijk), places, atol=1e-3)
    np.testing.assert_array_equal(dicom.array, nifti.array[ijk[..., 2], ijk[..., 1], ijk[..., 0]])
    assert sorted(dicom.array.shape) == sorted(nifti.array.shape)


def test_head_series(shared):
    volume = read_volume(shared / "data" / "dicom" / "ct_head_axial_64")
    assert volume.array.shape == (93, 64, 64)
    np.testing.assert_allclose(volume.geometry.spacing, (3.2, 3.2, 1.5), atol=1e-3)


DEFECTS = {
    "duplicate_position": "two slices at one position",
    "gantry_tilt_20deg": "tilted gantry",
    "missing_slice": "gaps of 2 to 6 mm",
    "mixed_size": "different sizes",
    "no_geometry": "where its slice lies",
    "no_pixel_data": "holds no pixels",
    "no_pixel_spacing": "how large its pixels are",
    "short_pixel_data": "fewer pixels",
}


@pytest.mark.parametrize("name", DEFECTS)
def test_synthetic_defects(shared, name):
    with pytest.raises(BadInputError, match=DEFECTS[name]):
        read_volume(shared / "data" / "dicom" / "synthetic_defects" / name)


@pytest.mark.parametrize(
    ("name", "words"),
    [("ct_ge_gantry_tilt_variable_spacing", "gaps of 1.08"), ("mr_sagittal_oblique_24slices", None)],
)
def test_zipped_series(shared, tmp_path, name, words):
    zipfile.ZipFile(shared / "data" / "dicom" / f"{name}.zip").extractall(tmp_path)
    folder = next(path for path in tmp_path.rglob("*") if path.is_file()).parent
    if words:
        with pytest.raises(BadInputError, match=words):
            read_volume(folder)
    else:
        assert read_volume(folder).array.shape == (24, 256, 256)


@pytest.mark.parametrize("name", ["RLE", "bigendian", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"])
def test_encodings_of_one_image_agree(shared, name):
    folder = shared / "data" / "dicom" / "pydicom_variants"
    plain, other = read_volume(folder / "MR_small.dcm"), read_volume(folder / f"MR_small_{name}.dcm")
    np.testing.assert_array_equal(other.array, plain.array)
    assert other.geometry.matches(plain.geometry)


def modality_values(dataset):
    """What pydicom decodes and rescales, (frames, rows, columns)."""
    values = apply_modality_lut(dataset.pixel_array, dataset)
    return values if values.ndim == 3 else values[None]


READABLE = {
    "pydicom_variants": {
        *("693_J2KI", "CT_small", "MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_implicit"),
        *("MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_padded"),
    },
    "pydicom_malformed": {"J2K_pixelrep_mismatch"},
    "enhanced_multiframe": {"Siemens_XA10_6_1", "Siemens_XA10_6_2"},
    "highdicom_seg": {"ct_image"},
}


@pytest.mark.filterwarnings("ignore:The pixel data is 8320 bytes long")
@pytest.mark.parametrize("name", READABLE)
def test_single_files_are_read_like_pydicom_or_refused(shared, name):
    read = set()
    for path in sorted((shared / "data" / "dicom" / name).iterdir()):
        try:
            volume = read_volume(path)
        except BadInputError:
            continue
        read.add(path.stem)
        with contextlib.suppress(RuntimeError):  # no decoder for JPEG-LS
            np.testing.assert_array_equal(volume.array, modality_values(pydicom.dcmread(path)))
    assert read == READABLE[name]


def test_enhanced_frames_lie_where_pydicom_says(shared):
    path = shared / "data" / "dicom" / "enhanced_multiframe" / "Siemens_XA10_6_1.dcm"
    volume = read_volume(path)
    frames = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    for number, frame in enumerate(frames):
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float) * (-1, -1, 1)
        np.testing.assert_allclose(volume.geometry.to_ras((0, 0, number)), position, atol=1e-3)
    np.testing.assert_allclose(volume.geometry.spacing, (3.375, 3.375, 2.4), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("enhanced_multiframe/Philips_IM_0027_fMAP.dcm", "times or contrasts"),
        ("enhanced_multiframe/eCT_Supplemental.dcm", "mixes gray values with colors"),
        ("ct_3slice_liver_with_seg/liver.dcm", "without an image .segmentation"),
        ("highdicom_seg/seg_image_ct_true_fractional.dcm", "without an image .segmentation"),
        ("highdicom_seg/sm_image.dcm", "color image|without saying where"),
        ("pydicom_variants/rtdose.dcm", "radiotherapy dose"),
        ("pydicom_variants/rtstruct.dcm", "radiotherapy structure set"),
        ("pydicom_variants/test-SR.dcm", "without an image .report"),
        ("pydicom_variants/JPGExtended.dcm", "unusual way"),
        ("pydicom_variants/examples_palette.dcm", "color image"),
        ("pydicom_malformed/MR_truncated.dcm", "no readable DICOM image"),
        ("pydicom_malformed/rtplan_truncated.dcm", "damaged DICOM"),
    ],
)
def test_what_is_no_gray_stack_is_refused_by_name(shared, name, words):
    assert re.search(words, refusal(shared / "data" / "dicom" / name))


def test_image_beside_its_segmentations(shared):
    assert read_volume(shared / "data" / "dicom" / "ct_3slice_liver_with_seg").array.shape == (3, 512, 512)


def test_inverted_series_has_its_true_values(shared):
    folder = shared / "data" / "dicom" / "synthetic_defects"
    plain, inverted = read_volume(folder / "ok"), read_volume(folder / "monochrome1")
    slices = sorted((pydicom.dcmread(path) for path in (folder / "monochrome1").iterdir()), key=position_along_z)
    np.testing.assert_array_equal(inverted.array, [apply_modality_lut(item.pixel_array, item) for item in slices])
    assert inverted.geometry.matches(plain.geometry)


def position_along_z(dataset):
    return float(dataset.ImagePositionPatient[2])
