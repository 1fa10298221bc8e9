import json

import numpy as np
import pytest
import SimpleITK as sitk
from MedSegUncertaintyLib.errors import BadInputError, CanceledError
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.outputs.folder import check_target, write_outputs

FILES = {
    "samples.seg.nrrd",
    "contours.seg.nrrd",
    "mean_left_blob.nrrd",
    "mean_right_blob.nrrd",
    "variance_left_blob.nrrd",
    "variance_right_blob.nrrd",
    "entropy.nrrd",
    "summary.json",
}


def test_maps_lie_on_the_grid_of_the_input(tmp_path, blob_result: InferenceResult):
    paths = write_outputs(tmp_path / "out", blob_result)
    assert set(paths) == FILES == {path.name for path in (tmp_path / "out").iterdir()}
    geometry, statistics = blob_result.geometry, blob_result.statistics
    maps = {
        "mean_right_blob.nrrd": statistics.mean[1],
        "variance_left_blob.nrrd": statistics.variance[0],
        "entropy.nrrd": statistics.entropy,
    }
    for name, array in maps.items():
        image = sitk.ReadImage(str(paths[name]))
        assert image.GetPixelID() == sitk.sitkFloat32
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), blob_result.on_grid(array))
        lps = image.TransformIndexToPhysicalPoint([5, 7, 3])
        np.testing.assert_allclose(np.array(lps) * (-1, -1, 1), geometry.to_ras(np.array([5, 7, 3])), atol=1e-6)


def test_summary_says_what_was_run_on_what(tmp_path, blob_result: InferenceResult):
    document = json.loads(write_outputs(tmp_path / "out", blob_result)["summary.json"].read_text(encoding="utf-8"))
    assert document["notice"] == "Not a medical device. For research only."
    assert document["request"] == blob_result.request.to_json()
    assert document["structures"] == blob_result.summary["structures"]
    assert document["package"]["name"] == "two-blobs"
    assert document["package"]["weights_sha256"] == "0" * 64
    assert document["image"]["geometry"] == blob_result.geometry.to_json()
    assert document["box"] == {"start_ijk": [2, 3, 1], "stop_ijk": [38, 33, 19]}
    assert document["provenance"]["device"] == "cpu"
    assert {"medseg-uncertainty", "python", "numpy", "torch"} <= set(document["software"])
    assert set(document["files"]) == FILES
    assert document["left_out"] == {}


def test_most_uncertain_slices_are_where_the_variance_is(tmp_path, blob_result: InferenceResult):
    document = json.loads(write_outputs(tmp_path / "out", blob_result)["summary.json"].read_text(encoding="utf-8"))
    variance = blob_result.on_grid(blob_result.statistics.variance.sum(axis=0)).astype(np.float64)
    found = document["most_uncertain"]
    assert set(found["slices"]) == {"sagittal", "coronal", "axial"}
    for axis, plane in enumerate(("sagittal", "coronal", "axial")):  # the grid is turned by 15 degrees about S
        totals = variance.sum(axis=tuple(n for n in range(3) if n != 2 - axis))
        for rank, entry in enumerate(found["slices"][plane]):
            assert entry["axis"] == "IJK"[axis]
            assert totals[entry["index"]] == pytest.approx(np.sort(totals)[::-1][rank])
            assert entry["share_of_variance"] == pytest.approx(totals[entry["index"]] / totals.sum())
            ijk = blob_result.geometry.to_ijk(entry["center_ras"])
            assert ijk[axis] == pytest.approx(entry["index"])
    i, j, k = found["place"]["ijk"]
    assert variance[k - 1 : k + 2, j - 3 : j + 4, i - 3 : i + 4].max() > 0.5 * variance.max()
    np.testing.assert_allclose(found["place"]["ras"], blob_result.geometry.to_ras(np.array([i, j, k])))


def test_equal_samples_have_no_most_uncertain_slice(tmp_path, blob_result: InferenceResult):
    blob_result.statistics.variance[:] = 0
    document = json.loads(write_outputs(tmp_path / "out", blob_result)["summary.json"].read_text(encoding="utf-8"))
    assert document["most_uncertain"]["slices"] == {"sagittal": [], "coronal": [], "axial": []}


def test_an_earlier_result_is_replaced(tmp_path, blob_result: InferenceResult):
    write_outputs(tmp_path / "out", blob_result, extras={"note.txt": lambda path, _: path.write_text("x") and None})
    assert (tmp_path / "out" / "note.txt").exists()
    write_outputs(tmp_path / "out", blob_result)
    assert not (tmp_path / "out" / "note.txt").exists()
    assert list(tmp_path.glob(".*")) == []


def test_foreign_files_are_never_removed(tmp_path, blob_result: InferenceResult):
    write_outputs(tmp_path / "out", blob_result)
    (tmp_path / "out" / "my notes.txt").write_text("mine")
    with pytest.raises(BadInputError, match="my notes"):
        write_outputs(tmp_path / "out", blob_result)
    with pytest.raises(BadInputError, match="is a file"):
        check_target(tmp_path / "out" / "my notes.txt")
    assert (tmp_path / "out" / "my notes.txt").read_text() == "mine"


def test_canceling_leaves_nothing_and_keeps_the_earlier_result(tmp_path, blob_result: InferenceResult):
    def cancel(event):
        if event.done == 3:
            raise CanceledError

    with pytest.raises(CanceledError):
        write_outputs(tmp_path / "new", blob_result, progress=cancel)
    assert list(tmp_path.glob("new*")) == list(tmp_path.glob(".new*")) == []

    write_outputs(tmp_path / "old", blob_result)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "old").iterdir()}
    with pytest.raises(CanceledError):
        write_outputs(tmp_path / "old", blob_result, progress=cancel)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "old").iterdir()} == before
    assert list(tmp_path.glob(".old*")) == []


def test_a_failing_extra_does_not_cost_the_samples(tmp_path, blob_result: InferenceResult):
    def fail(path, document):
        path.write_text("half")
        raise RuntimeError("no paper")

    paths = write_outputs(
        tmp_path / "out", blob_result, extras={"report.html": fail}, left_out={"scene.mrb": "No Slicer here."}
    )
    document = json.loads(paths["summary.json"].read_text(encoding="utf-8"))
    assert set(paths) == FILES == {path.name for path in (tmp_path / "out").iterdir()}
    assert document["left_out"]["scene.mrb"] == "No Slicer here."
    assert "no paper" in document["left_out"]["report.html"]


def test_progress_counts_every_file(tmp_path, blob_result: InferenceResult):
    events = []
    write_outputs(tmp_path / "out", blob_result, progress=events.append)
    assert [event.done for event in events] == list(range(8))
    assert {event.total for event in events} == {7}
