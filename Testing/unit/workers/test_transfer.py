"""Arrays and results through files."""

import json
from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.errors import CanceledError
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume
from MedSegUncertaintyLib.workers.transfer import (
    disk_sentence,
    read_array,
    read_result,
    read_volume,
    write_array,
    write_result,
    write_volume,
)


def go_on() -> None:
    pass


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.int16).reshape(2, 3, 4),
        np.arange(24, dtype=">f4").reshape(2, 3, 4),
        np.asfortranarray(np.random.default_rng(0).random((3, 4, 5))),
        np.arange(60).reshape(3, 4, 5)[::-1, ::2],
        np.ones((2, 2), dtype=bool),
        np.zeros((0, 3), dtype=np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_survive(array: np.ndarray, tmp_path: Path) -> None:
    write_array(tmp_path / "a.npy", array, go_on)
    got = read_array(tmp_path / "a.npy")
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype
    assert list(tmp_path.iterdir()) == []


def test_objects_are_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_array(tmp_path / "a.npy")


def test_volumes_survive(tmp_path: Path) -> None:
    grid = Geometry.from_parts((4, 3, 2), (1, 2, 3))
    volume = Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), grid, "頭", scaled=False)
    data = json.loads(json.dumps(write_volume(volume, tmp_path / "v.npy", go_on)))
    got = read_volume(data)
    np.testing.assert_array_equal(got.array, volume.array)
    assert got.geometry.matches(volume.geometry)
    assert (got.name, got.scaled) == (volume.name, volume.scaled)


def test_results_survive(blob_result: InferenceResult, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    got = read_result(json.loads(json.dumps(write_result(blob_result, folder, go_on))), go_on)
    assert list(folder.iterdir()) == []
    assert got.summary == blob_result.summary
    for one, other in zip(got.samples, blob_result.samples, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(got.samples.intersections(1), blob_result.samples.intersections(1))
    np.testing.assert_array_equal(got.statistics.variance, blob_result.statistics.variance)
    assert got.package.structures == blob_result.package.structures
    assert (got.request, got.box, got.provenance) == (blob_result.request, blob_result.box, blob_result.provenance)


def test_a_transfer_can_be_stopped(tmp_path: Path) -> None:
    def stop() -> None:
        raise CanceledError

    with pytest.raises(CanceledError):
        write_array(tmp_path / "a.npy", np.zeros(10), stop)


def test_a_folder_that_cannot_be_written_is_named() -> None:
    assert disk_sentence(PermissionError(13, "Permission denied"), Path("/t")) == (
        "Files cannot be written to the folder for temporary files (/t): Permission denied; make it writable and try "
        "again."
    )
