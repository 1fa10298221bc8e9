"""Real child processes: the result is that of a call, and whatever happens to the child is one sentence."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.volumes.geometry import Geometry, RegionOfInterest, Volume
from MedSegUncertaintyLib.workers.events import (
    Advanced,
    Canceled,
    Event,
    Failed,
    Failure,
    Finished,
    Last,
    Preview,
    Started,
)
from MedSegUncertaintyLib.workers.interpreter import LIBRARY
from MedSegUncertaintyLib.workers.worker import Worker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, limits and /proc are those of Linux")

Ask = Callable[..., InferenceRequest]
Sabotage = Callable[[str], None]

LONG = {"samples": 1000}

SLOW = """
def segment(volume, request, *, cancel, progress, **_):
    from MedSegUncertaintyLib.errors import BadInputError
    from MedSegUncertaintyLib.inference.progress import Progress
    if request.samples < 10:
        raise BadInputError("Too few.")
    for number in range(6000):
        cancel.check()
        progress(Progress("draw samples", number, 6000, None))
        time.sleep(0.01)
"""
"""A run without torch that takes a minute; a short one ends at once."""

GARBAGE = """
def segment(*_, **__):
    pipe = sys._getframe(1).f_locals["self"]._answers
    pipe.write(b"\\xff{]\\n")
    pipe.flush()
    time.sleep(60)
"""


def events_until(worker: Worker, *kinds: type, seconds: float = 60.0) -> list[Event]:
    """Poll as a window does until an event of one of the kinds comes."""
    events: list[Event] = []
    deadline = time.monotonic() + seconds
    while not any(isinstance(event, kinds) for event in events):
        assert time.monotonic() < deadline, f"nothing more after {events}"
        events += worker.poll()
        time.sleep(0.005)
    return events


def last(worker: Worker, seconds: float = 60.0) -> Event:
    return events_until(worker, Finished, Failed, Canceled, seconds=seconds)[-1]


def child_of(worker: Worker) -> int:
    return worker._child.pid


def folder_of(worker: Worker) -> Path:
    return worker._child.folder


def is_gone(pid: int, seconds: float = 2.0) -> bool:
    """Whether a process ends within some time and leaves no zombie."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def check_same(got: InferenceResult, expected: InferenceResult) -> None:
    assert got.request == expected.request
    assert got.package.folder == expected.package.folder
    assert got.package.metadata == expected.package.metadata
    assert (got.image_name, got.box) == (expected.image_name, expected.box)
    np.testing.assert_array_equal(got.geometry.ijk_to_ras, expected.geometry.ijk_to_ras)
    assert len(got.samples) == len(expected.samples)
    for one, other in zip(got.samples, expected.samples, strict=True):
        np.testing.assert_array_equal(one, other)
    for field in fields(got.statistics):
        one, other = getattr(got.statistics, field.name), getattr(expected.statistics, field.name)
        np.testing.assert_array_equal(one, other)
        assert np.asarray(one).dtype == np.asarray(other).dtype
    assert got.summary == expected.summary
    assert {**got.provenance, "seconds": 0} == {**expected.provenance, "seconds": 0}


def test_result_is_that_of_a_call_and_the_process_stays_warm(
    warm_worker: Worker, ask: Ask, blob_volume: Volume
) -> None:
    volume = replace(blob_volume, name="Kopf, 頭")
    number = warm_worker.start(ask(samples=6), volume)
    events = events_until(warm_worker, Finished, Failed)
    assert {event.run for event in events} == {number}
    assert isinstance(events[0], Started)
    assert events[0].device.startswith("CPU, ")
    assert [event.progress.stage for event in events if isinstance(event, Advanced)][-1] == "draw samples"
    check_same(events[-1].result, segment(volume, ask(samples=6)))
    assert [path.name for path in folder_of(warm_worker).iterdir()] == ["owner"]

    child = child_of(warm_worker)
    assert warm_worker.start(ask(seed=8, temperature=0.5), volume) == number + 1
    events = events_until(warm_worker, Finished, Failed)
    stages = {event.progress.stage for event in events if isinstance(event, Advanced)}
    assert stages == {"draw samples"}, "the image was encoded again"
    check_same(events[-1].result, segment(volume, ask(seed=8, temperature=0.5)))

    other = Volume(blob_volume.array[::-1].copy(), blob_volume.geometry)
    warm_worker.start(ask(), other)
    check_same(last(warm_worker).result, segment(other, ask()))
    assert child_of(warm_worker) == child


def test_previews_come_before_the_result_and_get_better(warm_worker: Worker, ask: Ask, blob_volume: Volume) -> None:
    warm_worker.start(ask(samples=300), blob_volume)
    events = events_until(warm_worker, Finished, Failed)
    previews = [event for event in events if isinstance(event, Preview)]
    assert [preview.count for preview in previews] == sorted({preview.count for preview in previews})
    assert {preview.count for preview in previews} <= {2, 4, 8, 16, 32, 64, 128, 256}
    preview = previews[0]
    expected = segment(blob_volume, ask(samples=preview.count))
    np.testing.assert_allclose(preview.mean, expected.statistics.mean, atol=1e-6)
    np.testing.assert_allclose(preview.variance, expected.statistics.variance, atol=1e-6)
    assert preview.geometry.matches(expected.box_geometry)


def test_cancel_takes_less_than_a_second_and_the_process_stays(
    warm_worker: Worker, ask: Ask, blob_volume: Volume
) -> None:
    warm_worker.start(ask(**LONG), blob_volume)
    events_until(warm_worker, Preview)
    child, started = child_of(warm_worker), time.monotonic()
    warm_worker.cancel()
    assert isinstance(last(warm_worker), Canceled)
    assert time.monotonic() - started < 1.0
    assert [path.name for path in folder_of(warm_worker).iterdir()] == ["owner"]
    warm_worker.start(ask(), blob_volume)
    assert isinstance(last(warm_worker), Finished)
    assert child_of(warm_worker) == child


def test_a_process_that_does_not_listen_is_killed_within_a_second(
    worker: Worker, ask: Ask, blob_volume: Volume, sabotage: Sabotage
) -> None:
    sabotage(SLOW)
    worker.start(ask(**LONG), blob_volume)
    events_until(worker, Advanced)
    child, started = child_of(worker), time.monotonic()
    os.kill(child, signal.SIGSTOP)
    worker.cancel()
    assert isinstance(last(worker), Canceled)
    assert time.monotonic() - started < 1.5
    assert is_gone(child)
    worker.start(ask(), blob_volume)
    assert last(worker).message == "Too few."


def test_what_the_process_started_dies_with_it(
    worker: Worker, ask: Ask, blob_volume: Volume, sabotage: Sabotage, tmp_path: Path
) -> None:
    sabotage(f"""
def segment(*_, **__):
    child = subprocess.Popen(["sleep", "1000"])
    open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
    child.wait()
""")
    worker.start(ask(), blob_volume)
    events_until(worker, Started)
    time.sleep(0.3)
    worker.cancel()
    assert isinstance(last(worker), Canceled)
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_a_result_that_was_not_polled_is_dropped_by_cancel(warm_worker: Worker, ask: Ask, blob_volume: Volume) -> None:
    warm_worker.start(ask(), blob_volume)
    deadline = time.monotonic() + 60
    while not warm_worker._run.over:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    warm_worker.cancel()
    assert isinstance(last(warm_worker), Canceled)
    warm_worker.cancel()
    assert warm_worker.poll() == []


def test_a_new_run_takes_the_place_of_the_old_one(
    worker: Worker, ask: Ask, blob_volume: Volume, sabotage: Sabotage
) -> None:
    sabotage(SLOW)
    worker.start(ask(**LONG), blob_volume)
    events_until(worker, Advanced)
    child = child_of(worker)
    for pause in range(5):
        worker.start(ask(**LONG), blob_volume)
        time.sleep(0.02 * pause)
    number = worker.start(ask(), blob_volume)
    events = events_until(worker, Finished, Failed, Canceled)
    assert {event.run for event in events} == {number}
    assert events[-1].message == "Too few."
    assert child_of(worker) == child


def test_bad_input_is_the_same_sentence_as_in_a_call(warm_worker: Worker, ask: Ask, blob_volume: Volume) -> None:
    for bad, sentence in (
        (ask(device="tpu"), "The device 'tpu' is not known; use auto, cpu, cuda, cuda:N or mps."),
        (replace(ask(), package="nothing"), 'No model package is named "nothing"'),
    ):
        warm_worker.start(bad, blob_volume)
        failed = last(warm_worker)
        assert isinstance(failed, Failed)
        assert failed.kind == Failure.INPUT
        assert failed.message.startswith(sentence)
    child = child_of(warm_worker)
    warm_worker.start(ask(), blob_volume)
    assert isinstance(last(warm_worker), Finished)
    assert child_of(warm_worker) == child


def test_kill_9_is_one_sentence_and_the_next_run_works(warm_worker: Worker, ask: Ask, blob_volume: Volume) -> None:
    warm_worker.start(ask(**LONG), blob_volume)
    events_until(warm_worker, Preview)
    folder = folder_of(warm_worker)
    os.kill(child_of(warm_worker), signal.SIGKILL)
    failed = last(warm_worker)
    assert isinstance(failed, Failed)
    assert failed.kind == Failure.CRASH
    assert failed.message == (
        "The process that computes was killed, most likely because memory ran out; close other programs or give a "
        "smaller region of interest, and try again."
    )
    assert not folder.exists()
    assert is_gone(child_of(warm_worker))
    warm_worker.start(ask(), blob_volume)
    assert isinstance(last(warm_worker), Finished)


def test_death_between_runs_is_not_noticed(
    worker: Worker, ask: Ask, blob_volume: Volume, sabotage: Sabotage, temporary: Path
) -> None:
    sabotage(SLOW)
    worker.start(ask(), blob_volume)
    assert last(worker).message == "Too few."
    os.kill(child_of(worker), signal.SIGKILL)
    assert is_gone(child_of(worker))
    time.sleep(0.3)
    assert list(temporary.iterdir()) == []
    assert worker.poll() == []
    worker.start(ask(), blob_volume)
    assert last(worker).message == "Too few."


@pytest.mark.parametrize(
    ("code", "kind", "sentence", "log"),
    [
        ("def segment(*_, **__): os.abort()", Failure.CRASH, "died (SIGABRT)", "Fatal Python error: Aborted"),
        ("def segment(*_, **__): os._exit(7)", Failure.CRASH, "died (exit code 7)", ""),
        ("def segment(*_, **__): raise MemoryError", Failure.MEMORY, "There is not enough memory for this image", ""),
        (GARBAGE, Failure.CRASH, "sent something that is no message ('", ""),
        ("def segment(*_, **__): 1 / 0", Failure.DEFECT, "ZeroDivisionError: division by zero", "Traceback"),
        ("def segment(*_, **__): raise OSError(28, 'full')", Failure.DISK, "The disk is full in the folder for", ""),
        ("os._exit(3)", Failure.SETUP, "Python could not start (exit code 3)", ""),
        ("print('no', flush=True); sys.exit('no license')", Failure.SETUP, "Python could not start", "no license"),
    ],
)
def test_whatever_goes_wrong_is_one_sentence(
    worker: Worker,
    ask: Ask,
    blob_volume: Volume,
    sabotage: Sabotage,
    temporary: Path,
    code: str,
    kind: Failure,
    sentence: str,
    log: str,
) -> None:
    sabotage(code)
    worker.start(ask(), blob_volume)
    failed = last(worker)
    assert isinstance(failed, Failed)
    assert failed.kind == kind
    assert sentence in failed.message
    assert failed.message.endswith(".")
    assert log in failed.log
    assert list(temporary.iterdir()) == []
    assert is_gone(child_of(worker))


def test_prints_of_libraries_go_to_the_log(worker: Worker, ask: Ask, blob_volume: Volume, sabotage: Sabotage) -> None:
    sabotage("""
print("greeting before the start")
def segment(*_, **__):
    print("from Python")
    os.write(1, b"from C\\n")
    os.system("echo from a shell; cat")
    from MedSegUncertaintyLib.errors import BadInputError
    raise BadInputError("Enough.")
""")
    worker.start(ask(), blob_volume)
    failed = last(worker)
    assert failed.message == "Enough."
    for text in ("greeting before the start", "from Python", "from C", "from a shell"):
        assert text in failed.log


def test_channels_arrive_by_role(worker: Worker, ask: Ask, blob_volume: Volume, sabotage: Sabotage) -> None:
    sabotage("""
def segment(volume, request, *, channels, **_):
    from MedSegUncertaintyLib.errors import BadInputError
    raise BadInputError(" ".join(f"{role}={image.name}:{image.array.sum()}" for role, image in channels.items()))
""")
    ones = Volume(np.ones((2, 3, 4), dtype=np.int16), Geometry.from_parts((4, 3, 2), (1.0, 1.0, 1.0)), "second")
    worker.start(ask(), blob_volume, {"t2": ones, "flair": replace(ones, name="third")})
    assert last(worker).message == "t2=second:24 flair=third:24"


def test_the_log_has_an_end(worker: Worker, ask: Ask, blob_volume: Volume, sabotage: Sabotage) -> None:
    sabotage("""
def segment(*_, **__):
    for number in range(100_000):
        print("line", number, file=sys.stderr)
    sys.stderr.flush()
    1 / 0
""")
    worker.start(ask(), blob_volume)
    log = last(worker).log
    assert len(log) <= 64 * 1024
    assert "line 99999" in log
    assert log.rstrip().endswith("ZeroDivisionError: division by zero")


def test_missing_torch_is_one_sentence_and_installing_it_helps(
    worker: Worker, ask: Ask, blob_volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = tmp_path / "torch.py"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for code in ("raise ModuleNotFoundError('No module named torch', name='torch')", "raise OSError('WinError 1114')"):
        torch.write_text(code, encoding="utf-8")
        worker.start(ask(), blob_volume)
        failed = last(worker)
        assert failed.kind == Failure.SETUP
        assert failed.message.startswith("The Python package torch is missing or cannot be loaded (")
    torch.unlink()
    worker.start(ask(), blob_volume)
    assert isinstance(last(worker), Finished)


def test_memory_that_runs_out_is_one_sentence(warm_worker: Worker, ask: Ask, blob_volume: Volume) -> None:
    warm_worker.start(ask(), blob_volume)
    assert isinstance(last(warm_worker), Finished)
    used = int(Path(f"/proc/{child_of(warm_worker)}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(child_of(warm_worker), resource.RLIMIT_AS, (used + 40 * 2**20,) * 2)
    array = np.random.default_rng(0).normal(100, 5, (160, 160, 160)).astype(np.float32)
    warm_worker.start(ask(), Volume(array, Geometry.from_parts((160, 160, 160), (1.0, 1.0, 1.0))))
    failed = last(warm_worker)
    assert failed.kind == Failure.MEMORY
    assert failed.message.startswith("There is not enough memory ")
    warm_worker.start(ask(), blob_volume)
    assert isinstance(last(warm_worker), Finished)


def test_a_full_disk_is_one_sentence(warm_worker: Worker, ask: Ask, blob_volume: Volume) -> None:
    warm_worker.start(ask(), blob_volume)
    assert isinstance(last(warm_worker), Finished)
    resource.prlimit(child_of(warm_worker), resource.RLIMIT_FSIZE, (150_000,) * 2)  # room for the image, not for maps
    warm_worker.start(ask(), blob_volume)
    failed = last(warm_worker)
    assert failed.kind == Failure.DISK
    assert failed.message == (
        f"The disk is full in the folder for temporary files ({tempfile.gettempdir()}); free some space and try again."
    )
    assert not folder_of(warm_worker).exists()

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # not even for the image
    try:
        warm_worker.start(ask(), blob_volume)
        assert last(warm_worker).message == failed.message
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    warm_worker.start(ask(), blob_volume)
    assert isinstance(last(warm_worker), Finished)


def test_large_images_do_not_keep_the_caller(warm_worker: Worker, ask: Ask) -> None:
    array = np.random.default_rng(0).normal(100, 5, (256, 256, 256)).astype(np.float32)
    volume = Volume(array, Geometry.from_parts((256, 256, 256), (1.0, 1.0, 1.0)))
    request = ask(roi=RegionOfInterest((100.0, 100.0, 100.0), (24.0, 24.0, 24.0)))
    longest, start = 0.0, time.monotonic()
    warm_worker.start(request, volume)
    longest = time.monotonic() - start
    events: list[Event] = []
    while not any(isinstance(event, Last) for event in events):
        begin = time.monotonic()
        events += warm_worker.poll()
        longest = max(longest, time.monotonic() - begin)
        time.sleep(0.002)
    check_same(events[-1].result, segment(volume, request))
    assert longest < 0.1, "the thread of a window was kept waiting"


PARENT = """
import sys, time
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume
from MedSegUncertaintyLib.workers.worker import Worker
import tempfile
tempfile.tempdir = sys.argv[3]
worker = Worker()
array = np.random.default_rng(0).normal(100, 5, (20, 36, 40)).astype(np.float32)
volume = Volume(array, Geometry.from_parts((40, 36, 20), (1, 1, 1)))
worker.start(InferenceRequest(sys.argv[2], 1000, device="cpu"), volume)
while not any(type(event).__name__ == "Advanced" for event in worker.poll()):
    time.sleep(0.01)
print(worker._child.pid, flush=True)
if sys.argv[4] == "wait":
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["killed", "ends"])
def test_the_child_does_not_outlive_its_parent(
    temporary: Path, tmp_path: Path, ask: Ask, sabotage: Sabotage, how: str
) -> None:
    sabotage(SLOW)
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    arguments = [str(LIBRARY), ask().package, str(temporary), "wait" if how == "killed" else "end"]
    with subprocess.Popen([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        if how == "killed":
            assert len(list(temporary.iterdir())) == 1
            parent.kill()
        parent.wait(5)
    deadline = time.monotonic() + 3
    while list(temporary.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(temporary.iterdir()) == []
    state = Path(f"/proc/{child}/stat")  # where nobody reaps orphans, it may stay as a zombie
    assert is_gone(child, 1.0) or state.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_close_ends_a_run(worker: Worker, ask: Ask, blob_volume: Volume, sabotage: Sabotage, temporary: Path) -> None:
    sabotage(SLOW)
    worker.start(ask(**LONG), blob_volume)
    events_until(worker, Advanced)
    started = time.monotonic()
    worker.close()
    assert time.monotonic() - started < 1.0
    assert is_gone(child_of(worker))
    assert list(temporary.iterdir()) == []
    assert isinstance(last(worker), Canceled)
    worker.close()
    with pytest.raises(RuntimeError, match="closed"):
        worker.start(ask(), blob_volume)
