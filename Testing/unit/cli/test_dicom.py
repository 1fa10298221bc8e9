"""``segment --dicom``: DICOM in, DICOM out."""

import json

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from MedSegUncertaintyLib.cli import main
from MedSegUncertaintyLib.outputs import dicom_objects

from ..volumes.conftest import DicomSeries

highdicom = pytest.importorskip("highdicom", reason="needs highdicom (pip install medseg-uncertainty[dicom])")


@pytest.fixture
def model(weighing_package) -> str:
    return str(weighing_package({"ct": 1.0}).folder)


def test_dicom_comes_back_as_dicom(model, tmp_path, capsys):
    series = DicomSeries()
    for item, stored in zip(series.slices, series.stored, strict=True):
        stored[2:6, 3:7] = 1124  # 100 HU, the threshold of the model
        item.PixelData = stored.astype("<i2").tobytes()
    folder, out = series.write(tmp_path / "series"), tmp_path / "out"
    command = ["segment", str(folder), "--model", model, "--samples", "5", "--output", str(out), "--device", "cpu"]
    assert main([*command, "--dicom", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    names = {"median.seg.dcm", "contours.seg.dcm", "mean.seg.dcm", "variance_blob.dcm"}
    assert names <= set(answer["files"])
    assert answer["summary"]["left_out"].keys() <= {"scene.mrb"}
    mean = highdicom.seg.segread(out / "mean.seg.dcm")
    found = mean.get_volume(rescale_fractional=True).array[..., 0]
    wanted = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "mean_blob.nrrd")))
    # Files run along the slices in either direction.
    along = found if np.abs(found - wanted).max() < np.abs(found[::-1] - wanted).max() else found[::-1]
    np.testing.assert_allclose(along, wanted, atol=1 / 255)
    assert pydicom.dcmread(out / "median.seg.dcm").StudyInstanceUID == series.slices[0].StudyInstanceUID
    number = answer["summary"]["representatives"]["median_sample"]
    assert 1 <= number <= 5


def test_dicom_is_not_made_without_being_asked_for(model, tmp_path):
    folder = DicomSeries().write(tmp_path / "series")
    assert main(["segment", str(folder), "--model", model, "--samples", "2", "--output", str(tmp_path / "out")]) == 0
    assert not list((tmp_path / "out").glob("*.dcm"))


@pytest.fixture
def nothing_begins(monkeypatch):
    monkeypatch.setattr("MedSegUncertaintyLib.inference.run.segment", lambda *_, **__: pytest.fail("it was begun"))


def test_other_images_are_refused_before_the_work(nothing_begins, model, tmp_path, blob_volume, capsys):
    from MedSegUncertaintyLib.volumes.reading import write_volume

    write_volume(tmp_path / "head.nii.gz", blob_volume.array, blob_volume.geometry)
    command = ["--model", model, "--output", str(tmp_path / "out"), "--dicom"]
    assert main(["segment", str(tmp_path / "head.nii.gz"), *command]) == 3
    assert "'head.nii.gz' is not DICOM" in capsys.readouterr().err
    assert main(["segment", str(tmp_path / "nowhere"), *command]) == 3
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_named_before_the_work(nothing_begins, model, tmp_path, monkeypatch, capsys):
    folder = DicomSeries().write(tmp_path / "series")
    monkeypatch.setattr(dicom_objects.metadata, "version", lambda _: "0.27.0")
    assert main(["segment", str(folder), "--model", model, "--output", str(tmp_path / "out"), "--dicom"]) == 1
    assert "medseg-uncertainty[dicom]" in capsys.readouterr().err
