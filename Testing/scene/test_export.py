"""A result in the scene as files, also after the scene was saved and loaded."""

import csv
import types

import numpy as np
import pytest
import slicer
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.outputs.dicom_objects import DicomContent
from MedSegUncertaintyLib.scene import export
from MedSegUncertaintyLib.scene.export import (
    INSTANCES,
    dicomContentInSteps,
    exportDicom,
    exportTables,
    exportVolumes,
    sourceFiles,
)
from MedSegUncertaintyLib.scene.headless import saveScene
from MedSegUncertaintyLib.scene.nodes import addResult, findResults
from MedSegUncertaintyLib.volumes.geometry import Box
from MedSegUncertaintyLib.volumes.reading import read_volume

from ..unit.volumes.conftest import DicomSeries


@pytest.fixture
def nodes(scene, volume_node, blob_result):
    return addResult(blob_result, volume_node)


@pytest.fixture
def reloaded(scene, nodes, tmp_path):
    saveScene(tmp_path / "scene.mrb")
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    return findResults(scene)[0]


@pytest.fixture
def database(monkeypatch):
    """Stands for ``slicer.dicomDatabase``, a Qt class: instances and the files that hold them."""
    known: dict[str, str] = {}
    stand_in = types.SimpleNamespace(isOpen=True, fileForInstance=lambda uid: known.get(uid, ""))
    monkeypatch.setattr(slicer, "dicomDatabase", stand_in, raising=False)
    return known


def test_tables_are_written(reloaded, blob_result, tmp_path):
    paths = exportTables(reloaded, tmp_path)
    with paths["volumes.csv"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = [[float(row[name]) for name in ("left_blob_ml", "right_blob_ml")] for row in rows]
    np.testing.assert_allclose(found, blob_result.statistics.volumes_ml)
    with paths["structures.csv"].open(newline="", encoding="utf-8") as file:
        assert [row["structure"] for row in csv.DictReader(file)] == ["Left blob", "Right blob"]


def test_samples_contours_and_maps_are_written_and_the_scene_stays_as_it_is(scene, nodes, blob_result, tmp_path):
    before = {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}
    paths = exportVolumes(nodes, tmp_path)
    assert {"samples.seg.nrrd", "contours.seg.nrrd", "variance_left_blob.nrrd", "entropy.nrrd"} <= set(paths)
    variance = read_volume(paths["variance_left_blob.nrrd"])
    np.testing.assert_array_equal(variance.array, blob_result.statistics.variance[0])
    assert variance.geometry.matches(blob_result.box_geometry)
    assert all(path.stat().st_size > 0 for path in paths.values())
    assert {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())} == before


def test_a_loaded_result_holds_what_goes_into_dicom(reloaded, blob_result):
    found, wanted = export._last(dicomContentInSteps(reloaded)), DicomContent.of(blob_result)
    for name in ("median", "mean", "variance"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    for level, masks in wanted.contours.items():
        np.testing.assert_array_equal(found.contours[level], masks)
    assert found.grid.matches(wanted.grid)
    assert (found.algorithm, found.version, found.parameters) == (wanted.algorithm, wanted.version, wanted.parameters)
    assert found.structures == wanted.structures


def test_dicom_is_written_for_a_volume_from_the_database(scene, add_volume, result_on, database, tmp_path):
    highdicom = pytest.importorskip("highdicom", reason="needs highdicom (pip install medseg-uncertainty[dicom])")
    series = DicomSeries()
    folder = series.write(tmp_path / "series")
    files = {highdicom.imread(path).SOPInstanceUID: str(path) for path in folder.iterdir()}
    database.update(files)
    volume = read_volume(folder)
    node = add_volume(volume)
    node.SetAttribute(INSTANCES, " ".join(files))
    assert sorted(map(str, sourceFiles(node))) == sorted(files.values())
    result = result_on(volume.geometry, Box((1, 1, 1), (9, 7, 5)))
    paths = exportDicom(addResult(result, node), tmp_path)
    found = highdicom.imread(paths["variance_left_blob.dcm"]).get_volume(apply_real_world_transform=False)
    wanted = np.zeros((4, 8, 10), np.float32)
    wanted[:, 1:7, 1:9] = result.statistics.variance[0]
    assert any(np.array_equal(array, wanted) for array in (found.array, found.array[::-1]))


def test_what_did_not_come_from_dicom_is_refused(nodes, volume_node, database, tmp_path):
    with pytest.raises(BadInputError, match="was not loaded from DICOM"):
        exportDicom(nodes, tmp_path)
    volume_node.SetAttribute(INSTANCES, "1.2.3 1.2.4")
    database["1.2.3"] = str(tmp_path / "gone.dcm")
    with pytest.raises(BadInputError, match="2 of 2 DICOM files of Two blobs are gone"):
        exportDicom(nodes, tmp_path)
    slicer.dicomDatabase.isOpen = False
    with pytest.raises(BadInputError, match="DICOM database is not open"):
        exportDicom(nodes, tmp_path)
    nodes.scene.RemoveNode(volume_node)
    with pytest.raises(BadInputError, match="no longer in the scene"):
        exportDicom(nodes, tmp_path)


def test_maps_that_were_not_kept_are_named(scene, volume_node, blob_result):
    nodes = addResult(blob_result, volume_node, maps=("entropy",))
    with pytest.raises(BadInputError, match="no map of the mean of Left blob"):
        export._last(dicomContentInSteps(nodes))
