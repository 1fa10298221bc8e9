"""Which of the DICOM objects in a folder are the image that is meant."""

import shutil

import numpy as np
import pydicom
import pytest
from MedSegUncertaintyLib.volumes.reading import read_volume
from pydicom.uid import (
    ComprehensiveSRStorage,
    ImplicitVRLittleEndian,
    RTStructureSetStorage,
    SegmentationStorage,
    generate_uid,
)

from .conftest import DicomSeries, refusal


@pytest.fixture
def two(tmp_path, series):
    """A folder with the series "Thin slices" (number 3, 6 slices) and "Scout" (number 4, 1 slice) in subfolders."""
    other = DicomSeries()
    for dataset in other.slices:
        dataset.SeriesDescription, dataset.SeriesNumber = "Scout", 4
    other.slices = other.slices[:1]
    folder = tmp_path / "both"
    series.write(folder)
    other.write(folder / "second")
    return folder


def test_series_are_listed_with_numbers(two):
    sentence = refusal(two)
    assert "2 DICOM series (1: 'Thin slices', CT, 6 slices; 2: 'Scout', CT, 1 slice)" in sentence


def test_series_by_number_uid_or_description(two, series):
    for name in ("1", " 1 ", "Thin slices", "thin SLICES", series.slices[0].SeriesInstanceUID):
        assert read_volume(two, name).array.shape == (6, 8, 10)
    for name in ("2", "Scout"):
        assert read_volume(two, series=name).array.shape == (1, 8, 10)


@pytest.mark.parametrize("name", ["3", "0", "", "Thin", "1.2.3"])
def test_unknown_series_are_refused_with_the_list(two, name):
    sentence = refusal(two, name)
    assert "fits none" in sentence
    assert "2: 'Scout'" in sentence


def test_ambiguous_descriptions_are_refused(tmp_path, series):
    series.write(tmp_path / "CT")
    DicomSeries().write(tmp_path / "CT" / "again")
    assert "fits 2 of the folder" in refusal(tmp_path / "CT", "Thin slices")
    assert read_volume(tmp_path / "CT", "1").array.shape == (6, 8, 10)


def test_description_that_is_the_number_of_another_series(tmp_path, series):
    other = DicomSeries()
    for dataset in other.slices:
        dataset.SeriesDescription, dataset.SeriesNumber = "1", 4
    series.write(tmp_path / "CT")
    other.write(tmp_path / "CT")
    assert "fits 2 of the folder" in refusal(tmp_path / "CT", "1")


def test_only_series_may_be_named(tmp_path, series):
    folder = series.write(tmp_path / "CT")
    assert read_volume(folder, "1").array.shape == (6, 8, 10)
    assert "fits none" in refusal(folder, "Scout")


def test_series_in_subfolders(tmp_path, series):
    folder = series.write(tmp_path / "CT")
    expected = read_volume(folder)
    deep = tmp_path / "disk" / "study" / "part"
    deep.mkdir(parents=True)
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, deep if number % 2 else deep.parent)
    volume = read_volume(tmp_path / "disk")
    np.testing.assert_array_equal(volume.array, expected.array)
    assert volume.geometry.matches(expected.geometry)


@pytest.mark.parametrize("kind", [SegmentationStorage, RTStructureSetStorage, ComprehensiveSRStorage])
def test_other_objects_are_passed_over_but_never_taken_for_an_image(tmp_path, series, kind):
    folder = series.write(tmp_path / "CT")
    expected = read_volume(folder).array
    other = DicomSeries().slices[0]
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = kind
    other.save_as(folder / "0.dcm", enforce_file_format=True)
    (folder / "notes.txt").write_text("no DICOM")
    (folder / "empty").write_bytes(b"")
    np.testing.assert_array_equal(read_volume(folder).array, expected)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "0.dcm", alone)
    assert "but no DICOM image" in refusal(alone)
    assert "without an image" in refusal(alone / "0.dcm")


def test_damaged_file_is_not_passed_over(tmp_path, series):
    """It could be the last slice, which no gap would show."""
    folder = series.write(tmp_path / "CT")
    file = max(folder.iterdir())
    file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(Exception, match="damaged DICOM file") as caught:
        read_volume(folder)
    assert file.name in str(caught.value)


def test_files_without_preamble_are_found(tmp_path, series):
    folder = series.write(tmp_path / "CT")
    expected = read_volume(folder).array
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(file)
        data = file.read_bytes()
        file.write_bytes(data[data.index(b"\x08\0\x16\0") :])
    np.testing.assert_array_equal(read_volume(folder).array, expected)


def test_many_series_do_not_fill_the_screen(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    dataset = DicomSeries().slices[0]
    for number in range(40):
        dataset.SeriesInstanceUID, dataset.SeriesNumber = generate_uid(), number
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    sentence = refusal(folder)
    assert "30: 'Thin slices'" in sentence
    assert "31: " not in sentence
    assert "and 10 more" in sentence
