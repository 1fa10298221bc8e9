import time

from MedSegUncertaintyLib.workers.probe import DeviceProbe


def answer(probe, seconds=120):
    deadline = time.monotonic() + seconds
    while probe.report is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return probe.report


def test_the_device_is_found_out_elsewhere():
    report = answer(DeviceProbe("cpu"))
    assert report.kind == "cpu"
    assert "threads" in report.text


def test_a_device_that_is_not_there_is_a_sentence():
    report = answer(DeviceProbe("tpu"))
    assert report.kind is None
    assert "not known" in report.text


def test_a_closed_probe_leaves_no_process():
    probe = DeviceProbe("cpu")
    while probe._process is None:
        time.sleep(0.01)
    probe.close()
    assert probe._process.wait(10) != 0
