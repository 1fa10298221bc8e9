"""Multi-frame objects, compressed and inverted pixels have the values and places that pydicom finds."""

import gzip
import zlib

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.dicom_elements import read_elements
from MedSegUncertaintyLib.volumes.reading import read_volume
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from .conftest import enhanced, refusal, turned

STORED = np.random.default_rng(5).integers(0, 2000, (4, 8, 10)).astype(np.int16)


def save(dataset, path):
    dataset.save_as(path, enforce_file_format=True)
    return path


# Multi-frame


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_frames_are_sorted_by_position(tmp_path, order):
    """ITK leaves the frames as they are stored and takes the first for the lowest."""
    volume = read_volume(save(enhanced(STORED, order), tmp_path / "enhanced.dcm"))
    np.testing.assert_array_equal(volume.array, STORED[np.argsort(order)].astype(int) - 1024)
    np.testing.assert_allclose(volume.geometry.spacing, (0.6, 0.8, 2.5), atol=1e-6)
    np.testing.assert_allclose(volume.geometry.direction, np.diag([-1, -1, 1]) @ turned(20), atol=1e-6)
    np.testing.assert_allclose(volume.geometry.to_ras((0, 0, 0)), (-5, -6, 7), atol=1e-6)


def test_one_frame_gets_its_thickness(tmp_path):
    volume = read_volume(save(enhanced(STORED[:1], [0]), tmp_path / "enhanced.dcm"))
    np.testing.assert_array_equal(volume.array, STORED[:1].astype(int) - 1024)
    np.testing.assert_allclose(volume.geometry.spacing, (0.6, 0.8, 2.5), atol=1e-6)


def test_implicit_vr_has_sequences_too(tmp_path):
    dataset = enhanced(STORED, [3, 1, 2, 0])
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    volume = read_volume(save(dataset, tmp_path / "enhanced.dcm"))
    np.testing.assert_array_equal(volume.array, STORED[[3, 1, 2, 0]].astype(int) - 1024)


@pytest.mark.parametrize(
    ("order", "words"),
    [([0, 1, 0, 1], "times or contrasts"), ([0, 1, 2, 4], r"gaps of 2\.5 to 5 mm")],
)
def test_frames_that_are_no_stack(tmp_path, order, words):
    path = save(enhanced(STORED, order), tmp_path / "enhanced.dcm")
    with pytest.raises(BadInputError, match=words):
        read_volume(path)


def test_rescaling_differs_from_frame_to_frame(tmp_path):
    dataset = enhanced(STORED, [0, 1, 2, 3])
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        rescaling = pydicom.Dataset()
        rescaling.RescaleSlope, rescaling.RescaleIntercept = 1 + number, 0
        frame.PixelValueTransformationSequence = [rescaling]
    del shared.PixelValueTransformationSequence
    assert "rescales its frames differently" in refusal(save(dataset, tmp_path / "enhanced.dcm"))


def test_rescaling_of_every_frame_alike(tmp_path):
    dataset = enhanced(STORED, [0, 1, 2, 3])
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        rescaling = pydicom.Dataset()
        rescaling.RescaleSlope, rescaling.RescaleIntercept = 2.5, -3
        frame.PixelValueTransformationSequence = [rescaling]
    del dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    volume = read_volume(save(dataset, tmp_path / "enhanced.dcm"))
    np.testing.assert_allclose(volume.array, STORED * 2.5 - 3)


def test_frames_without_places(tmp_path):
    dataset = enhanced(STORED, [0, 1, 2, 3])
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
    assert "where its slice lies" in refusal(save(dataset, tmp_path / "enhanced.dcm"))
    del dataset.PerFrameFunctionalGroupsSequence[2]
    assert "4 frames in one file without saying where" in refusal(save(dataset, tmp_path / "enhanced.dcm"))


def test_part_of_a_concatenation(tmp_path):
    dataset = enhanced(STORED, [0, 1, 2, 3])
    dataset.ConcatenationUID, dataset.InConcatenationTotalNumber = generate_uid(), 1
    assert read_volume(save(dataset, tmp_path / "whole.dcm")).array.shape == STORED.shape
    dataset.InConcatenationTotalNumber = 2
    assert "one part of several" in refusal(save(dataset, tmp_path / "part.dcm"))


def test_several_multiframe_files_of_one_series(tmp_path):
    folder = tmp_path / "times"
    folder.mkdir()
    dataset = enhanced(STORED, [0, 1, 2, 3])
    for time in range(2):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        save(dataset, folder / f"{time}.dcm")
    assert "2 multi-frame files, each a volume of its own" in refusal(folder)
    assert read_volume(folder / "0.dcm").array.shape == STORED.shape


# Inverted


@pytest.mark.parametrize(
    ("dtype", "bits", "slope", "intercept"),
    [
        (np.uint8, 8, 1, 0),
        (np.uint16, 16, 1, -1024),
        (np.uint16, 12, 1, 0),
        (np.uint16, 12, 0.5, -3.25),
        (np.int16, 16, 1, -1024),
        (np.int16, 16, 2.5, 1),
    ],
)
def test_inverted_pixels_keep_their_values(tmp_path, series, dtype, bits, slope, intercept):
    expected = []
    for dataset in series.slices:
        low, high = (0, 2**bits) if np.dtype(dtype).kind == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
        stored = np.random.default_rng(2).integers(low, high, (8, 10)).astype(dtype)
        stored[0, :2] = low, high - 1
        dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME1", int(low < 0)
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * stored.itemsize, bits, bits - 1
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.PixelData = stored.tobytes()
        expected.append(stored * float(slope) + intercept)
    np.testing.assert_array_equal(read_volume(series.write(tmp_path / "CT")).array, expected)


def test_inverted_slices_with_rescaling_of_their_own(tmp_path, series):
    slopes = [1, 1.25, 0.5, 2, 3.5, 1]
    for dataset, slope in zip(series.slices, slopes, strict=True):
        dataset.RescaleSlope, dataset.PhotometricInterpretation = slope, "MONOCHROME1"
    expected = series.stored * np.array(slopes)[:, None, None] - 1024
    np.testing.assert_allclose(read_volume(series.write(tmp_path / "PET")).array, expected, atol=1e-2)


def test_partly_inverted_series(tmp_path, series):
    series.slices[3].PhotometricInterpretation = "MONOCHROME1"
    assert "only some are inverted" in refusal(series.write(tmp_path / "CT"))


def test_inverted_and_compressed(tmp_path, series):
    series.slices[0].PhotometricInterpretation = "MONOCHROME1"
    series.slices[0].compress(RLELossless)
    assert "inverted (MONOCHROME1) and compressed" in refusal(save(series.slices[0], tmp_path / "slice.dcm"))


# Encodings


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_encodings(tmp_path, series, syntax):
    for dataset in series.slices:
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
            dataset["PixelData"].VR = "OW"
    volume = read_volume(series.write(tmp_path / "CT"))
    np.testing.assert_array_equal(volume.array, series.stored.astype(int) - 1024)


def test_rle_equals_pydicom_and_is_refused_when_cut_off(tmp_path, series):
    for dataset in series.slices:
        dataset.compress(RLELossless)
    folder = series.write(tmp_path / "CT")
    np.testing.assert_array_equal(read_volume(folder).array, series.stored.astype(int) - 1024)
    file = max(folder.iterdir())
    file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(BadInputError, match="damaged DICOM file"):
        read_volume(folder)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_lossless_encodings_of_gdcm(tmp_path, series, compressor):
    """Equal to what was compressed, and to pydicom where it has a decoder."""
    series.slices[0].RescaleIntercept = 0
    path = save(series.slices[0], tmp_path / "plain.dcm")
    plain = read_volume(path)
    image = sitk.ReadImage(str(path))
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(tmp_path / "packed.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.KeepOriginalImageUIDOn()
    writer.Execute(image)
    packed = pydicom.dcmread(tmp_path / "packed.dcm")
    assert packed.file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(read_volume(tmp_path / "packed.dcm").array, plain.array)


def test_untested_encodings(tmp_path, series):
    series.slices[0].compress(RLELossless)
    series.slices[0].file_meta.TransferSyntaxUID = HTJ2KLossless
    assert "unusual way" in refusal(save(series.slices[0], tmp_path / "slice.dcm"))


def test_claimed_size_is_compared_with_the_file(tmp_path, series):
    series.slices[0].Rows = series.slices[0].Columns = 60000
    assert "fewer pixels" in refusal(save(series.slices[0], tmp_path / "slice.dcm"))
    series.slices[1].compress(RLELossless)
    series.slices[1].Rows = series.slices[1].Columns = 60000
    assert "fewer pixels" in refusal(save(series.slices[1], tmp_path / "slice.dcm"))


def test_modality_table(tmp_path, series):
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [2, 0, 16], "HU", b"\0\0\1\0"
    for dataset in series.slices:
        dataset.ModalityLUTSequence = [table]
    with pytest.raises(BadInputError, match="modality LUT"):
        read_volume(series.write(tmp_path / "CT"))


def test_directions_must_be_unit_vectors(tmp_path, series):
    for dataset in series.slices:
        dataset.ImageOrientationPatient = [2, 0, 0, 0, 1, 0]
    assert "no unit vectors" in refusal(series.write(tmp_path / "CT"))


# The header reader


def test_elements_are_those_of_pydicom(tmp_path):
    path = save(enhanced(STORED, [0, 1, 2, 3]), tmp_path / "enhanced.dcm")
    elements, expected = read_elements(path), pydicom.dcmread(path)
    assert elements.text(0x0020000E) == expected.SeriesInstanceUID
    assert elements.pixel_bytes == STORED.nbytes
    assert len(elements.sequences[0x52009230]) == 4
    position = elements.sequences[0x52009230][2].group(0x00209113).numbers(0x00200032, 3)
    frame = expected.PerFrameFunctionalGroupsSequence[2]
    np.testing.assert_allclose(position, np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float))


@pytest.mark.parametrize(
    "data", [b"", b"\x08\0", b"\x08\0" * 200, gzip.compress(b"text", mtime=0), zlib.compress(b"text")]
)
def test_other_bytes_are_no_dicom(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    assert read_elements(tmp_path / "file") is None


def test_any_cut_through_the_header_is_noticed(tmp_path, series):
    path = save(series.slices[0], tmp_path / "slice.dcm")
    whole = path.read_bytes()
    for length in range(133, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(BadInputError):
            read_volume(path)


def test_random_damage_never_crashes(tmp_path):
    path = save(enhanced(STORED, [0, 1, 2, 3]), tmp_path / "enhanced.dcm")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(132, len(whole) - STORED.nbytes, 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            volume = read_volume(path)
        except BadInputError:
            continue
        assert volume.array.shape == volume.geometry.shape_kji
