import csv
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MedSegUncertaintyLib.errors import BadInputError, CanceledError
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.outputs.appearance import hex_color
from MedSegUncertaintyLib.outputs.csv_files import write_structures
from MedSegUncertaintyLib.outputs.document import build_document, edge_warning
from MedSegUncertaintyLib.outputs.folder import UNFINISHED, check_target, staged_folder, write_outputs

FILES = {
    "samples.seg.nrrd",
    "contours.seg.nrrd",
    "mean_left_blob.nrrd",
    "mean_right_blob.nrrd",
    "variance_left_blob.nrrd",
    "variance_right_blob.nrrd",
    "entropy.nrrd",
    "volumes.csv",
    "structures.csv",
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
        assert found["slices"][plane]
        for entry in found["slices"][plane]:
            assert entry["axis"] == "IJK"[axis]
            assert totals[entry["index"]] > np.median(totals)
            assert entry["share_of_variance"] == pytest.approx(totals[entry["index"]] / totals.sum())
            ijk = blob_result.geometry.to_ijk(entry["center_ras"])
            assert ijk[axis] == pytest.approx(entry["index"])
    i, j, k = found["place"]["ijk"]
    assert variance[k - 1 : k + 2, j - 3 : j + 4, i - 3 : i + 4].max() > 0.5 * variance.max()
    np.testing.assert_allclose(found["place"]["ras"], blob_result.geometry.to_ras(np.array([i, j, k])))


def test_tables_hold_the_numbers_of_the_summary(tmp_path, blob_result: InferenceResult):
    paths = write_outputs(tmp_path / "out", blob_result)
    with paths["volumes.csv"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == [str(number) for number in range(1, 9)]
    assert [float(row["right_blob_ml"]) for row in rows] == blob_result.statistics.volumes_ml[:, 1].tolist()
    with paths["structures.csv"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, entry in zip(rows, blob_result.summary["structures"], strict=True):
        assert row["structure"] == entry["name"]
        assert float(row["volume_q05_ml"]) == entry["volume_ml"]["q05"]
        assert float(row["mean_pairwise_dice"]) == entry["mean_pairwise_dice"]
        assert float(row["entropy_outside_boundary_band_bits"]) == entry["entropy_bits"]["outside_boundary_band"]


def test_what_does_not_exist_is_an_empty_cell(tmp_path, blob_result: InferenceResult):
    blob_result.summary["structures"][0]["mean_pairwise_dice"] = None
    write_structures(tmp_path / "structures.csv", blob_result.summary)
    with (tmp_path / "structures.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["mean_pairwise_dice"] == ""


def test_equal_samples_have_no_most_uncertain_slice(tmp_path, blob_result: InferenceResult):
    blob_result.statistics.variance[:] = 0
    document = json.loads(write_outputs(tmp_path / "out", blob_result)["summary.json"].read_text(encoding="utf-8"))
    assert document["most_uncertain"]["slices"] == {"sagittal": [], "coronal": [], "axial": []}


def test_an_earlier_result_is_replaced(tmp_path, blob_result: InferenceResult):
    write_outputs(tmp_path / "out", blob_result, extras={"note.txt": lambda path, _: path.write_text("x") and None})
    assert (tmp_path / "out" / "note.txt").exists()
    write_outputs(tmp_path / "out", blob_result)
    assert not (tmp_path / "out" / "note.txt").exists()
    assert list(tmp_path.rglob(".*")) == []


def test_a_folder_that_exists_is_neither_renamed_nor_removed(tmp_path, blob_result, monkeypatch):
    """A mount point cannot be renamed, and the working directory must not be."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".hidden").write_text("mine")
    before = (tmp_path / "out").stat().st_ino

    def refuse(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", refuse)
    monkeypatch.setattr(Path, "rmdir", lambda path: os.rmdir(path) if path.suffix == ".partial" else refuse())
    monkeypatch.chdir(tmp_path / "out")
    for _ in range(2):
        paths = write_outputs(".", blob_result)
        assert all(path.is_absolute() and path.is_file() for path in paths.values())
        assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {".hidden"}
    assert (tmp_path / "out").stat().st_ino == before


@pytest.mark.parametrize("moved", range(len(FILES) + 1))
def test_a_kill_while_files_are_moved_leaves_no_false_summary(tmp_path, blob_result, monkeypatch, moved):
    write_outputs(tmp_path / "out", blob_result, extras={"note.txt": lambda path, _: path.write_text("x") and None})
    replace, count = os.replace, 0

    class KilledError(BaseException):
        pass

    def kill_after(source, target):
        nonlocal count
        if count == moved:
            raise KilledError
        count += 1
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill_after)
        patch.setattr(Path, "rmdir", lambda _: pytest.fail("not reached") if moved < len(FILES) else None)
        if moved < len(FILES):
            with pytest.raises(KilledError):
                write_outputs(tmp_path / "out", blob_result)
        else:
            write_outputs(tmp_path / "out", blob_result)
    assert (tmp_path / "out" / "summary.json").exists() == (moved == len(FILES))
    write_outputs(tmp_path / "out", blob_result)  # the rest is known as ours
    assert {path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."} == FILES
    assert not (tmp_path / "out" / UNFINISHED).exists()


def test_a_target_that_cannot_be_written_is_known_at_once_and_nothing_is_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInputError, match="cannot be written to"), staged_folder(tmp_path / "file" / "out"):
        pytest.fail("it was begun")
    with pytest.raises(CanceledError), staged_folder(tmp_path / "new" / "deep" / "out"):
        raise CanceledError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_moved_is_kept(tmp_path, blob_result, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EACCES, "Permission denied")

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(BadInputError, match="Permission denied") as error:
        write_outputs(tmp_path / "out", blob_result)
    (stage,) = (tmp_path / "out").glob(".*.partial")
    assert str(stage) in str(error.value)
    assert {path.name for path in stage.iterdir()} == FILES


def test_a_summary_from_elsewhere_cannot_name_files_outside_of_the_folder(tmp_path, blob_result):
    (tmp_path / "mine.txt").write_text("mine")
    paths = write_outputs(tmp_path / "out", blob_result)
    document = json.loads(paths["summary.json"].read_text(encoding="utf-8"))
    document["files"].append("../mine.txt")
    paths["summary.json"].write_text(json.dumps(document), encoding="utf-8")
    write_outputs(tmp_path / "out", blob_result)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_structure_that_may_be_cut_off_is_warned_of(blob_result):
    document = build_document(blob_result)
    entry = document["structures"][0]
    assert edge_warning(document, {**entry, "samples_touching_region_edge": 0}) == ""
    text = edge_warning(document, {**entry, "samples_touching_region_edge": 3})
    assert text.startswith("reaches the edge of the image in 3 of 8 samples")
    document["request"]["roi"] = {"center_ras": [0, 0, 0], "size_mm": [1, 1, 1]}
    text = edge_warning(document, {**entry, "samples_touching_region_edge": 3})
    assert text.startswith("reaches the edge of the segmented region in 3 of 8 samples: its volume may be cut off")


def test_colors_are_written_as_html_writes_them():
    assert hex_color((1.0, 0.5, 0.0)) == "#ff8000"


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
    assert list(tmp_path.rglob(".*")) == []


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
    assert [event.done for event in events] == list(range(len(FILES)))
    assert {event.total for event in events} == {len(FILES) - 1}
