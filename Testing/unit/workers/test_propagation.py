"""Propagation in a real child: slices come as they are found, edits take their place, images are sent once."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.request import ALL, PropagationRequest
from MedSegUncertaintyLib.volumes.geometry import Geometry, RegionOfInterest, Volume
from MedSegUncertaintyLib.workers.events import (
    Advanced,
    Canceled,
    Failed,
    Failure,
    Finished,
    Preview,
    SlicesFound,
    Started,
)
from MedSegUncertaintyLib.workers.jobs import Propagation, SentImages
from MedSegUncertaintyLib.workers.worker import Worker

from .test_worker import check_same, child_of, events_until, folder_of, last

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and /proc are those of Linux")

SHAPE = (14, 20, 24)
PAINTED = (4, 9)


def bright_box(geometry: Geometry | None = None, seed: int = 0) -> Volume:
    """A bright box in noise."""
    array = np.random.default_rng(seed).normal(100, 4, SHAPE)
    array[2:12, 5:15, 6:18] += 60
    return Volume(array.astype(np.float32), geometry or Geometry.from_parts(SHAPE[::-1], (1, 1, 1)), "box")


def painted(volume: Volume, *slices: int, axis: int = 0, label: int = 1, shift: int = 0) -> Example:
    """The box in some slices."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:12, 5 + shift : 15 + shift, 6:18] = label
    keep = np.zeros(SHAPE, bool)
    np.moveaxis(keep, axis, 0)[list(slices)] = True
    return Example(Volume(labels * keep, volume.geometry, "painted"), names={1: "Box", 2: "Other"})


@pytest.fixture(scope="module")
def by_example(tmp_path_factory: pytest.TempPathFactory, make_metadata: Callable[..., dict]) -> str:
    """A tiny network with random weights."""
    import torch
    from MedSegUncertaintyLib.models.universeg import UniverSeg
    from MedSegUncertaintyLib.packages.weights import save_package

    torch.manual_seed(0)
    structure = {"name": "Any", "label": 1, "color": [1, 0, 0], "terminology": {}}
    described = make_metadata(
        family="universeg", arguments={"encoder_blocks": [4, 4]}, structures=[structure], modality="any",
        intensity={"kind": "percentiles", "low": 0.5, "high": 99.5}, square={"pixels": 16},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "by-example"
    return str(save_package(folder, UniverSeg([4, 4]), described, "# Card\n", "CC0-1.0\n").folder)


@pytest.fixture
def ask_by_example(by_example: str) -> Callable[..., PropagationRequest]:
    def make(samples: int = 2, plane: str = "axial", absent: dict | None = None, **options: object):
        inference = InferenceRequest(by_example, samples=samples, device="cpu", **options)
        return PropagationRequest(inference, plane, absent or {})

    return make


Ask = Callable[..., PropagationRequest]


def expected(volume: Volume, examples: list[Example], request: PropagationRequest, **options: object):
    from MedSegUncertaintyLib.propagation.run import propagate

    return propagate(volume, examples, request, **options)


def found(events: list, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """All slices that were told, the newest of each, as a label map; 255 where none was."""
    labels = np.full(shape, 255, np.uint8)
    for event in events:
        if isinstance(event, SlicesFound):
            np.moveaxis(labels, event.axis, 0)[list(event.indices)] = event.labels
    return labels


def test_result_is_that_of_a_call_and_slices_come_before_it(warm_worker: Worker, ask_by_example: Ask) -> None:
    volume = replace(bright_box(), name="Kopf, 頭")
    examples, request = [painted(volume, *PAINTED)], ask_by_example(5, absent={ALL: (0,), "Box": (13,)})
    number = warm_worker.propagate(request, volume, examples, start=7)
    events = events_until(warm_worker, Finished, Failed)
    assert {event.run for event in events} == {number}
    assert isinstance(events[0], Started)
    result = expected(volume, examples, request)
    check_same(events[-1].result, result)
    assert {event.count for event in events if isinstance(event, Preview)} <= {2, 4}
    np.testing.assert_array_equal(found(events), result.samples[0])
    for index in PAINTED:
        np.testing.assert_array_equal(found(events)[index], examples[0].labels.array[index])
    assert "guidance" in events[-1].result.provenance["propagation"]
    stages = [event.progress.stage for event in events if isinstance(event, Advanced)]
    assert stages[-1] == "draw samples"
    assert [path.name for path in folder_of(warm_worker).iterdir()] == ["owner"]


def test_no_slice_is_lost_between_two_polls(warm_worker: Worker, ask_by_example: Ask) -> None:
    volume = bright_box()
    warm_worker.propagate(ask_by_example(), volume, [painted(volume, *PAINTED)])
    time.sleep(0.3)
    while warm_worker._run is None or not warm_worker._run.over:
        time.sleep(0.01)
    events = warm_worker.poll()
    assert [type(event) for event in events[-2:]] == [SlicesFound, Finished]
    assert sum(isinstance(event, SlicesFound) for event in events) == 1
    assert sorted(events[-2].indices) == list(range(SHAPE[0]))
    np.testing.assert_array_equal(found(events), events[-1].result.samples[0])


def test_merged_slices_are_the_newest_ones() -> None:
    first = SlicesFound(3, 1, (4, 5), np.array([[[1, 1]], [[2, 2]]], np.uint8))
    second = SlicesFound(3, 1, (5, 9), np.array([[[0, 1]], [[7, 7]]], np.uint8))
    merged = SlicesFound.merged([first, second])
    assert (merged.run, merged.axis, merged.indices) == (3, 1, (4, 5, 9))
    assert merged.labels.tolist() == [[[1, 1]], [[0, 1]], [[7, 7]]]


@pytest.mark.parametrize(("axis", "plane"), [(0, "axial"), (1, "coronal"), (2, "sagittal")])
@pytest.mark.parametrize("turn", ["flipped", "oblique", "permuted", "region"])
def test_slices_land_on_the_right_voxels(
    warm_worker: Worker, ask_by_example: Ask, axis: int, plane: str, turn: str
) -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    direction = {
        "flipped": np.diag([-1.0, 1, -1]),
        "oblique": np.array([[-c, -s, 0], [-s, c, 0], [0, 0, -1.0]]),
        "permuted": np.array([[0, 0, 1.0], [-1, 0, 0], [0, 1, 0]]),
        "region": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]),
    }[turn]
    geometry = Geometry.from_parts(SHAPE[::-1], (1, 1, 1), (5, 6, 7), direction)
    volume, options = bright_box(geometry), {}
    if turn == "region":
        options = {"roi": RegionOfInterest(tuple(geometry.to_ras(np.array([11.5, 9.5, 6.5]))), (19, 16, 12))}
    if turn == "permuted":  # I, J, K run along P, S, R
        axis = {"axial": 1, "coronal": 2, "sagittal": 0}[plane]
    slices = tuple(6 + axis * 2 + step for step in (-1, 2))
    examples, request = [painted(volume, *slices, axis=axis)], ask_by_example(1, plane, **options)
    warm_worker.propagate(request, volume, examples, start=slices[0] + 1)
    events = events_until(warm_worker, Finished, Failed)
    result = events[-1].result
    assert {event.axis for event in events if isinstance(event, SlicesFound)} == {axis}
    labels, box = found(events), result.box.slices_kji
    np.testing.assert_array_equal(labels[box], result.samples[0])
    told = np.moveaxis(labels, axis, 0)[box[axis]]
    whole = np.moveaxis(result.on_grid(result.samples[0]), axis, 0)[box[axis]]
    np.testing.assert_array_equal(told, whole)
    for index in slices:
        np.testing.assert_array_equal(
            np.take(whole, index - box[axis].start, axis=0),
            np.take(result.on_grid(examples[0].labels.array[box]), index, axis=axis)
            if turn != "region"
            else np.take(result.on_grid(result.samples[0]), index, axis=axis),
        )


def test_two_structures_are_numbered_as_in_the_result(warm_worker: Worker, ask_by_example: Ask) -> None:
    volume = bright_box()
    labels = painted(volume, *PAINTED).labels.array.copy()
    labels[:, 10:15] *= 7
    examples = [Example(Volume(labels, volume.geometry), names={1: "Front", 7: "Back"})]
    warm_worker.propagate(ask_by_example(), volume, examples)
    events = events_until(warm_worker, Finished, Failed)
    assert [own.name for own in events[-1].result.structures] == ["Front", "Back"]
    for index in PAINTED:
        np.testing.assert_array_equal(found(events)[index], np.where(labels[index] == 7, 2, labels[index]))
    np.testing.assert_array_equal(found(events), events[-1].result.samples[0])
    assert set(events[-1].result.provenance["propagation"]["guidance"]["structures"]) == {"Front", "Back"}


def test_examples_of_another_volume(warm_worker: Worker, ask_by_example: Ask) -> None:
    volume, other = bright_box(), bright_box(seed=1)
    stranger = replace(painted(other, *PAINTED), image=other, absent={"Box": (0,)})
    for examples in ([painted(volume, 6), stranger], [stranger]):
        warm_worker.propagate(ask_by_example(), volume, examples)
        event = last(warm_worker)
        if isinstance(event, Finished):
            check_same(event.result, expected(volume, examples, ask_by_example()))
        else:  # random weights may find nothing where nothing was painted
            assert event.message.startswith("No sample found Box")
    marks = expected(volume, [painted(volume, 6), stranger], ask_by_example())
    assert marks.provenance["propagation"]["structures"]["Box"]["examples_elsewhere"] == 3


def test_an_image_is_sent_once(tmp_path: Path, ask_by_example: Ask) -> None:
    volume, other, sent = bright_box(), bright_box(seed=1), SentImages()

    def files(number: int, image: Volume, *examples: Example) -> dict[str, int]:
        folder = tmp_path / str(number)
        folder.mkdir()
        Propagation(ask_by_example(), image, examples, None).message(folder, sent, lambda: None)
        return {path.name: path.stat().st_size for path in folder.iterdir()}

    stranger = replace(painted(other, *PAINTED), image=other)
    first = files(0, volume, painted(volume, 4), stranger)
    assert set(first) == {"image-0.npy", "image-1.npy", "labels-0.npy", "labels-1.npy"}
    assert first["image-0.npy"] > volume.array.nbytes
    again = files(1, volume, painted(volume, 4, 9), stranger)
    assert set(again) == {"labels-0.npy", "labels-1.npy"}
    assert max(again.values()) < 1000  # the box of what was painted
    assert set(files(2, volume, painted(volume, 4))) == {"labels-0.npy"}
    assert set(files(3, volume, stranger)) == {"image-2.npy", "labels-0.npy"}, "what a run leaves out is forgotten"
    assert set(files(4, replace(volume, array=volume.array.copy()), painted(volume, 4))) == {
        "image-3.npy",
        "labels-0.npy",
    }


def test_edits_use_the_image_that_the_child_has(warm_worker: Worker, ask_by_example: Ask, ask, blob_volume) -> None:
    volume, request = bright_box(), ask_by_example()
    for slices in ((4,), (4, 9), (9,)):
        warm_worker.propagate(request, volume, [painted(volume, *slices)])
        check_same(last(warm_worker).result, expected(volume, [painted(volume, *slices)], request))
    child = child_of(warm_worker)
    warm_worker.start(ask(), blob_volume)
    assert isinstance(last(warm_worker), Finished)
    warm_worker.propagate(request, volume, [painted(volume, *PAINTED)])
    check_same(last(warm_worker).result, expected(volume, [painted(volume, *PAINTED)], request))
    assert child_of(warm_worker) == child


def test_an_edit_during_a_run_leaves_no_stale_slices(warm_worker: Worker, ask_by_example: Ask) -> None:
    volume, request = bright_box(), ask_by_example()
    warm_worker.propagate(request, volume, [painted(volume, *PAINTED)])
    events_until(warm_worker, Finished)
    child = child_of(warm_worker)
    for pause in range(6):
        warm_worker.propagate(ask_by_example(1000), volume, [painted(volume, *PAINTED, label=2)], start=3)
        if pause:
            events_until(warm_worker, SlicesFound)
        time.sleep(0.03 * pause)
    examples = [painted(volume, *PAINTED, shift=2)]
    number = warm_worker.propagate(request, volume, examples)
    events = events_until(warm_worker, Finished, Failed)
    assert {event.run for event in events} == {number}
    np.testing.assert_array_equal(found(events), events[-1].result.samples[0])
    check_same(events[-1].result, expected(volume, examples, request))
    assert child_of(warm_worker) == child, "edits must not cost the warm process"


def test_cancel_ends_it_within_a_second(warm_worker: Worker, ask_by_example: Ask) -> None:
    volume = bright_box()
    warm_worker.propagate(ask_by_example(1000), volume, [painted(volume, *PAINTED)])
    events_until(warm_worker, Preview)
    started = time.monotonic()
    warm_worker.cancel()
    events = events_until(warm_worker, Canceled)
    assert time.monotonic() - started < 1.0
    assert isinstance(events[-1], Canceled)


def test_a_killed_child_is_one_sentence_and_the_image_is_sent_anew(warm_worker: Worker, ask_by_example: Ask) -> None:
    volume, request = bright_box(), ask_by_example()
    warm_worker.propagate(ask_by_example(1000), volume, [painted(volume, *PAINTED)])
    events_until(warm_worker, SlicesFound)
    os.kill(child_of(warm_worker), signal.SIGKILL)
    failed = last(warm_worker)
    assert isinstance(failed, Failed)
    assert failed.kind == Failure.CRASH
    assert failed.message.startswith("The process that computes was killed")
    warm_worker.propagate(request, volume, [painted(volume, *PAINTED)])
    check_same(last(warm_worker).result, expected(volume, [painted(volume, *PAINTED)], request))


def test_bad_examples_are_the_same_sentence_as_in_a_call(warm_worker: Worker, ask_by_example: Ask) -> None:
    volume = bright_box()
    nothing = Example(Volume(np.zeros(SHAPE, np.uint8), volume.geometry, "painted"))
    warm_worker.propagate(ask_by_example(), volume, [nothing])
    failed = last(warm_worker)
    assert (failed.kind, failed.message) == (
        Failure.INPUT,
        "The support 'painted' is empty; outline each structure in at least one slice.",
    )
    warm_worker.propagate(ask_by_example(), volume, [painted(volume, *PAINTED)])
    assert isinstance(last(warm_worker), Finished), "the image was kept although the run failed"


def test_the_parent_does_not_import_torch() -> None:
    import subprocess

    from MedSegUncertaintyLib.workers.interpreter import LIBRARY

    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import MedSegUncertaintyLib.workers.worker; "
        "import MedSegUncertaintyLib.propagation.support_set; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(LIBRARY)]).returncode == 0
