"""The command line on a package with random weights; whole processes where exit codes, signals and imports matter."""

import argparse
import ctypes
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedSegUncertaintyLib.cli import (
    ProgressDisplay,
    _segment_text,
    cancelable,
    describe_error,
    duration,
    join_negative_values,
    main,
    make_parser,
    region_of_interest,
    stdout_kept_clean,
)
from MedSegUncertaintyLib.errors import BadInputError, CanceledError, MemoryExhaustedError
from MedSegUncertaintyLib.inference.progress import CancelToken, Progress
from MedSegUncertaintyLib.volumes.reading import write_volume

RECIPE = Path(__file__).parents[3] / "recipes" / "ssn-hippocampus-mr.toml"
COMMAND = [sys.executable, "-m", "MedSegUncertaintyLib.cli"]


@pytest.fixture(scope="session")
def models(tmp_path_factory, make_metadata) -> Path:
    """A folder with one package: a small SSN with random weights."""
    from MedSegUncertaintyLib.models import registry
    from MedSegUncertaintyLib.packages.weights import save_package

    arguments = {
        "spatial_dims": 3,
        "channels": 1,
        "features": 4,
        "classes": 3,
        "rank": 2,
        "backbone": {"name": "DynUNet", "widths": [4, 8, 8], "res_block": False, "norm_name": "batch"},
    }
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    metadata = make_metadata(arguments=arguments)
    save_package(folder / "tiny", registry.build("ssn", arguments), metadata, "# Tiny\n", "CC0-1.0\n")
    return folder


@pytest.fixture
def environment(models, monkeypatch, tmp_path) -> dict[str, str]:
    monkeypatch.setenv("MEDSEG_UNCERTAINTY_MODELS", str(models))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return dict(os.environ)


@pytest.fixture
def image(tmp_path, blob_volume) -> Path:
    path = tmp_path / "head.nii.gz"
    write_volume(path, blob_volume.array, blob_volume.geometry)
    return path


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    command = [*COMMAND, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def test_segment_writes_a_result_and_prints_one_json_object(environment, image, tmp_path):
    done = run(
        "segment", image, "--model", "tiny", "--samples", 3, "--seed", 7, "--roi", "-2,25,0,30,30,30",
        "--output", tmp_path / "out", "--device", "cpu", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["summary"]["request"]["roi"] == {"center_ras": [-2, 25, 0], "size_mm": [30, 30, 30]}
    assert answer["summary"]["request"]["seed"] == 7
    assert answer["summary"]["samples"] == 3
    assert answer["summary"]["image"]["name"] == "head"
    present = {path.name for path in (tmp_path / "out").iterdir()}
    assert set(answer["files"]) == present >= {"samples.seg.nrrd", "contours.seg.nrrd", "report.html", "summary.json"}
    assert sitk.ReadImage(answer["files"]["entropy.nrrd"]).GetSize() == (40, 36, 20)
    assert "Draw samples" in done.stderr
    assert "\r" not in done.stderr  # no bar where nobody watches
    assert "Traceback" not in done.stderr
    assert ("scene.mrb" in present) == ("slicer-core" in answer["summary"]["software"]), answer["summary"]["left_out"]
    assert "report.html" not in answer["summary"]["left_out"]
    assert answer["output"] == str((tmp_path / "out").resolve())


def test_the_working_directory_can_be_the_output(environment, image, tmp_path, monkeypatch, capfd):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = (tmp_path / "here").stat().st_ino
    for _ in range(2):  # empty, and with an earlier result
        assert main(["segment", str(image), "--model", "tiny", "--samples", "2", "--output", "."]) == 0
    assert Path.cwd() == tmp_path / "here"
    assert (tmp_path / "here").stat().st_ino == before
    assert f"Results: {(tmp_path / 'here').resolve()}" in capfd.readouterr().out
    assert Path("summary.json").is_file()


def test_a_target_that_cannot_be_written_is_found_before_the_work(environment, image, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("MedSegUncertaintyLib.inference.run.segment", lambda *_, **__: pytest.fail("it was begun"))
    below_a_file = image / "out"
    assert main(["segment", str(image), "--model", "tiny", "--output", str(below_a_file)]) == 3
    assert f"{below_a_file} cannot be written to" in capfd.readouterr().err


def test_report_and_scene_share_their_nodes(environment, image, tmp_path, monkeypatch):
    slicer = pytest.importorskip("slicer")
    from MedSegUncertaintyLib.scene import bundle, nodes
    from MedSegUncertaintyLib.scene.headless import ensureApplication

    ensureApplication().mrmlScene().Clear(0)
    made = []
    add = nodes.addResult
    for module in (bundle, nodes):
        monkeypatch.setattr(module, "addResult", lambda *given: made.append(given) or add(*given))
    arguments = ["segment", str(image), "--model", "tiny", "--samples", "2", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert len(made) == 1
    left_behind = [slicer.mrmlScene.GetNumberOfNodesByClass(f"vtkMRML{name}Node") for name in ("Volume", "Storage")]
    assert left_behind == [0, 0]
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "out" / "scene.mrb"), True)
    assert len(nodes.findResults(slicer.mrmlScene)) == 1
    slicer.mrmlScene.Clear(0)


def test_another_package_called_slicer_costs_the_scene_only(environment, image, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "slicer", types.ModuleType("slicer"))
    arguments = ["segment", str(image), "--model", "tiny", "--samples", "1", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    captured = capfd.readouterr()
    assert "scene.mrb was left out. The installed package 'slicer' is not Slicer's" in captured.err
    assert "report.html" not in captured.err
    assert "Left blob" in captured.out
    assert "one sample has no spread" in captured.out
    assert "5 to 95 %" not in captured.out


def test_a_structure_at_the_edge_of_the_region_is_warned_of():
    volume = {"q05": 1.0, "q95": 2.0}
    structure = {"name": "Left", "volume_ml": volume, "prediction_ml": 1.5, "samples_touching_region_edge": 3}
    document = {
        "image": {"channels": [], "scaled": True},
        "samples": 8,
        "structures": [structure, {**structure, "name": "Right", "samples_touching_region_edge": 0}],
        "request": {"roi": {"center_ras": [0, 0, 0], "size_mm": [9, 9, 9]}},
        "spread": "S.",
        "notice": "N.",
    }
    text = _segment_text(document, Path("out"))
    assert (
        "Warning: Left reaches the edge of the segmented region in 3 of 8 samples: its volume may be cut off; use a "
        "larger region." in text
    )
    assert text.count("Warning") == 1
    document["request"]["roi"] = None
    assert "edge of the image in 3 of 8 samples" in _segment_text(document, Path("out"))


def test_a_path_outside_the_code_page_does_no_harm(environment, image, tmp_path, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stdout)
    output = tmp_path / "\u5de6"
    assert main(["segment", str(image), "--model", "tiny", "--samples", "1", "--output", str(output)]) == 0
    stdout.flush()
    assert b"\\u5de6" in stdout.buffer.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals on Windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_cleanly_with_code_4(environment, image, tmp_path, number):
    command = [*COMMAND, "segment", str(image), "--model", "tiny", "--samples", "1000", "--output", str(tmp_path / "o")]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("Draw samples"):
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 4, err
    assert json.loads(out)["error"] == {"message": "Canceled by the user.", "exit_code": 4}
    assert "Traceback" not in err
    assert not (tmp_path / "o").exists()
    assert list(tmp_path.glob(".o*")) == []


def test_an_image_that_is_none_is_one_sentence(environment, tmp_path, capsys):
    (tmp_path / "notes.nii.gz").write_text("not an image")
    assert main(["segment", str(tmp_path / "notes.nii.gz"), "--model", "tiny", "--output", str(tmp_path / "o")]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "notes.nii.gz" in captured.err.splitlines()[-1]
    assert "Traceback" not in captured.err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["segment", "IMAGE", "--model", "none", "--output", "OUT"], 3, "none"),
        (["segment", "IMAGE", "--model", "tiny", "--output", "OUT", "--samples", "0"], 2, "number of samples"),
        (["segment", "IMAGE", "--model", "tiny", "--output", "OUT", "--seed", "-1"], 2, "seed must be between"),
        (["segment", "IMAGE", "--model", "tiny", "--output", "OUT", "--seed", "1.5"], 2, "invalid int value"),
        (["segment", "IMAGE", "--model", "tiny", "--output", "OUT", "--temperature", "nan"], 2, "temperature must be"),
        (["segment", "IMAGE", "--model", "tiny", "--output", "OUT", "--device", "abacus"], 3, "abacus"),
        (["segment", "missing.nrrd", "--model", "tiny", "--output", "OUT"], 3, "missing.nrrd"),
        (["segment", "IMAGE", "--model", "tiny", "--output", "IMAGE"], 3, "is a file"),
        (["segment", "IMAGE", "--model", "tiny", "--output", "OUT", "--roi=1,2,3"], 2, "six numbers"),
        (["segment", "IMAGE", "--model", "tiny", "--output", "OUT", "--roi", "1,2,3,0,5,5"], 2, "positive size"),
        (["segment", "IMAGE", "--model", "tiny", "--output", "OUT", "--samples", "many"], 2, "many"),
        (["segment", "IMAGE", "--output", "OUT"], 2, "--model"),
        (["train", "missing.toml", "--data", "OUT", "--output", "OUT"], 3, "missing.toml"),
        (["segmnt"], 2, "segmnt"),
        ([], 2, "COMMAND"),
    ],
)
def test_errors_are_a_code_and_a_sentence_also_in_json(environment, image, tmp_path, capfd, arguments, code, words):
    places = {"IMAGE": str(image), "OUT": str(tmp_path / "out")}
    filled = [places.get(argument, argument) for argument in arguments]
    assert main(filled) == code
    captured = capfd.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert "Traceback" not in captured.err

    assert main([*filled, "--json"]) == code
    answer = json.loads(capfd.readouterr().out)
    assert answer["error"]["exit_code"] == code
    assert words in answer["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_models_are_listed_with_those_that_cannot_be_used(environment, models, tmp_path, monkeypatch, capfd):
    broken = tmp_path / "more" / "broken" / "configs"
    broken.mkdir(parents=True)
    (broken / "metadata.json").write_text(json.dumps({"medseg_uncertainty": {}}))
    monkeypatch.setenv("MEDSEG_UNCERTAINTY_MODELS", os.pathsep.join([str(models), str(tmp_path / "more")]))
    assert main(["models"]) == 0
    text = capfd.readouterr().out
    assert "Left blob, Right blob" in text
    assert "broken\n    cannot be used:" in text
    assert main(["models", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capfd.readouterr().out)["models"]}
    assert listed["tiny"]["structures"] == ["Left blob", "Right blob"]
    assert "error" in listed["broken"]


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["models", "--json"]])
def test_quick_commands_do_not_load_torch(environment, arguments):
    code = "import sys; sys.argv[0] = 'x'\nfrom MedSegUncertaintyLib.cli import main\n"
    code += f"try: main({arguments!r})\nexcept SystemExit as end: assert end.code == 0\n"
    code += "loaded = {'torch', 'monai', 'slicer', 'vtk', 'SimpleITK'} & set(sys.modules); assert not loaded, loaded"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "roi", [["--roi=-27,-22,-14,48,64,48"], ["--roi", "-27,-22,-14,48,64,48"], ["--roi", " -27,-22,-14,48,64,48"]]
)
def test_negative_regions_are_understood_both_ways(roi):
    given = join_negative_values(["segment", "a.nrrd", "--model", "m", *roi, "--output", "o"])
    options = make_parser().parse_args(given)
    assert options.roi.center_ras == (-27, -22, -14)
    assert options.roi.size_mm == (48, 64, 48)


@pytest.mark.parametrize("text", ["1,2,3,4,5", "1,2,3,4,5,x", "1,2,3,4,5,-6", "nan,2,3,4,5,6", "1,2,3,inf,5,6"])
def test_regions_that_are_none_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        region_of_interest(text)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInputError("No."), 3),
        (CanceledError(), 4),
        (KeyboardInterrupt(), 4),
        (MemoryExhaustedError("Too large."), 5),
        (MemoryError(), 5),
        (torch.OutOfMemoryError("CUDA out of memory."), 5),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"), 5),
        (OSError(28, "No space left on device", "/out/a.nrrd"), 3),
        (RuntimeError("surprise"), 1),
    ],
)
def test_every_error_has_its_code_and_a_sentence(error, code):
    found, message = describe_error(error)
    assert found == code
    assert message
    assert "\n" not in message


def test_what_libraries_print_does_not_reach_stdout(capfd):
    with stdout_kept_clean():
        print("from Python")
        os.write(1, b"from a system call\n")
        ctypes.CDLL(None).puts(b"from C")
    print("{}")
    captured = capfd.readouterr()
    assert captured.out == "{}\n"
    assert [name in captured.err for name in ("from Python", "from a system call", "from C")] == [True] * 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_bars_with_the_time_left():
    stream = Terminal()
    with ProgressDisplay(stream, CancelToken()) as progress:
        progress(Progress("draw samples", 0, 4, None))
        progress(Progress("draw samples", 1, 4, 185.0))
        progress(Progress("write files", 1, 2, 1.0))
    assert "Draw samples:  25% " in stream.getvalue()
    assert "1/4, 3 min 05 s left" in stream.getvalue()
    assert "Write files:  50% " in stream.getvalue()


def test_elsewhere_every_stage_is_one_line():
    stream = io.StringIO()
    with ProgressDisplay(stream, CancelToken()) as progress:
        progress.note("read the image")
        for done in range(4):
            progress(Progress("draw samples", done, 4, 1.0))
    assert stream.getvalue() == "Read the image ...\nDraw samples ...\n"


def test_work_that_knows_no_token_stops_at_its_next_progress_event(capsys):
    before = signal.getsignal(signal.SIGINT)
    with cancelable() as token:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL  # the second one kills
        with pytest.raises(CanceledError):
            ProgressDisplay(io.StringIO(), token)(Progress("train", 1, 2, None))
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_durations_are_words(seconds, text):
    assert duration(seconds) == text


def test_module_runs_without_a_command():
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: medseg-uncertainty")


def test_train_makes_a_package_that_segment_uses(environment, tmp_path, capfd):
    text = RECIPE.read_text(encoding="utf-8")
    for key, value in {
        "patch": "[16, 16, 16]",
        "validation_every": "2",
        "steps": "2",
        "batch": "1",
        "features": "4",
        "rank": "2",
        "widths": "[4, 8, 8]",
        "precision": '"32-true"',
        "validate_every": "2",
    }.items():
        text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count >= 1, key
    (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
    rng = np.random.default_rng(0)
    for n in range(2):
        for part, array in {
            "images": rng.normal(100, 10, (16, 16, 16)).astype(np.float32),
            "labels": np.repeat(np.array([0, 1, 2, 0], np.uint8), 4)[:, None, None] * np.ones((16, 16, 16), np.uint8),
        }.items():
            (tmp_path / "data" / part).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "data" / part / f"case{n}.nii.gz"))
    given = ["train", str(tmp_path / "recipe.toml"), "--data", str(tmp_path / "data"), "--output", str(tmp_path / "o")]
    assert main([*given, "--json"]) == 0, capfd.readouterr().err
    package = json.loads(capfd.readouterr().out)
    assert package["name"] == "ssn-hippocampus-mr"
    assert main(
        ["segment", str(tmp_path / "data" / "images" / "case0.nii.gz"), "--model", package["folder"], "--samples", "2",
         "--roi", "-8,-8,8,12,12,12", "--output", str(tmp_path / "result")]
    ) == 0  # fmt: skip
    captured = capfd.readouterr()
    assert "Anterior hippocampus" in captured.out
    assert "not calibrated confidence" in captured.out


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (["train", "recipe.toml", "--data", "d", "--output", "o"], "lightning_fabric"),
        (["evaluate", "--model", "MODEL", "--data", "d.npz"], "scipy.optimize"),
    ],
)
def test_a_missing_extra_is_one_sentence(command, module, environment, models, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("MedSegUncertaintyLib.")]:
        if name.split(".")[1] in ("training", "evaluation"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    package = next(path for path in models.iterdir() if (path / "configs").is_dir())
    command = [str(package) if part == "MODEL" else part for part in command]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "install it with pip install 'medseg-uncertainty[train]'" in error
    assert "Traceback" not in error
