"""The compiled kernel of HiDiff: built when somebody asks, found by what it was made of, and never needed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from MedSegUncertaintyLib.cli import main
from MedSegUncertaintyLib.errors import MedSegError
from MedSegUncertaintyLib.models.hidiff import kernels, xnor
from MedSegUncertaintyLib.models.registry import build

TAPS = ["down_1", "down_2", "down_3", "down_4"]
COMMAND = [sys.executable, "-m", "MedSegUncertaintyLib.cli", "build-kernel"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's folder of kernels, and nothing remembered of another one."""
    for variable in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    forget = xnor.found_kernel.cache_clear
    forget()
    yield xnor.kernel_path().parent
    forget()


@pytest.fixture
def built(folder: Path) -> Path:
    try:
        return xnor.build_kernel()
    except MedSegError:
        pytest.skip("needs a C compiler, which is not here")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every machine were fast with it."""
    load = xnor.load_kernel

    def loaded(path: Path) -> Any:
        kernel = load(path)

        def block(*arguments: Any) -> None:
            kernel.block(*arguments[:-1], kernel.level())

        return SimpleNamespace(block=block, level=lambda: 1)

    monkeypatch.setattr(xnor, "load_kernel", loaded)


def test_nothing_is_there_unless_somebody_builds_it(folder: Path) -> None:
    assert xnor.found_kernel() is None
    assert not folder.exists()


@pytest.mark.usefixtures("fast")
def test_what_was_built_is_found(built: Path, folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == [built.name]
    assert xnor.found_kernel() is not None
    assert xnor.build_kernel() == built  # in place of the one that is loaded
    assert [path.name for path in folder.iterdir()] == [built.name]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("what", ["source", "flags", "machine"])
def test_what_was_made_of_something_else_is_not(
    built: Path, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "source":
        source = tmp_path / "xnor.c"
        source.write_bytes(xnor.SOURCE.read_bytes() + b"\n")
        monkeypatch.setattr(xnor, "SOURCE", source)
    elif what == "flags":
        monkeypatch.setattr(xnor, "FLAGS", ("-O2", *xnor.FLAGS[1:]))
    else:
        monkeypatch.setattr(xnor.platform, "machine", lambda: "abacus")
    assert xnor.kernel_path() != built
    assert xnor.found_kernel() is None


def test_a_processor_that_is_not_fast_with_it_goes_without(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xnor, "load_kernel", lambda path: SimpleNamespace(level=lambda: 0))
    assert xnor.found_kernel() is None


def test_what_cannot_be_loaded_is_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    xnor.kernel_path().write_bytes(b"of another system")
    assert xnor.found_kernel() is None


def no_compiler(bin_folder: Path) -> None:
    pass


def one_that_fails(bin_folder: Path) -> None:
    (bin_folder / "cc").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (bin_folder / "cc").chmod(0o755)


def one_that_makes_no_library(bin_folder: Path) -> None:
    (bin_folder / "cc").write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    (bin_folder / "cc").chmod(0o755)


@pytest.mark.parametrize("install", [no_compiler, one_that_fails, one_that_makes_no_library])
def test_without_a_compiler_one_sentence_says_that_it_does_not_matter(
    install: Callable[[Path], None], tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "bin").mkdir()
    install(tmp_path / "bin")
    environment = {**os.environ, "PATH": str(tmp_path / "bin")}
    run = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    sentence = "No C compiler that works was found (cc, gcc, clang); results are the same without the kernel."
    assert run.stderr == f"medseg-uncertainty: {sentence}\n"
    assert list(folder.iterdir()) == []


def test_the_command_says_what_it_built_and_whether_it_is_used(
    built: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["build-kernel", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"kernel": str(built), "used": xnor.found_kernel() is not None}
    for used, words in ((SimpleNamespace(), "HiDiff computes by it"), (None, "stays unused")):
        monkeypatch.setattr(xnor, "found_kernel", lambda used=used: used)
        assert main(["build-kernel"]) == 0
        assert words in capsys.readouterr().out


@pytest.mark.usefixtures("built", "fast")
def test_samples_are_the_same_bits_with_and_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    segmentor = {"name": "BasicUNet", "widths": [8, 8, 16, 16, 32], "taps": TAPS}
    model = build("hidiff", {"segmentor": segmentor, "channels": 1, "classes": 2}).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape))
    used: list[Any] = []
    prepare = kernels.prepare

    def seen(refiner: Any, steps: int, kernel: Any) -> Any:
        used.append(kernel)
        return prepare(refiner, steps, kernel)

    monkeypatch.setattr(kernels, "prepare", seen)
    with torch.inference_mode():
        encoding = model.encode(torch.randn(1, 1, 64, 64))
        noise = {name: torch.randn(2, 1, 64, 64) for name in model.noise(encoding)}
        drawn = model.draw(encoding, noise)
        monkeypatch.setattr(kernels, "found_kernel", lambda: None)
        again = model.draw(encoding, noise)
    assert [kernel is not None for kernel in used] == [True, False]
    assert drawn.std() > 0.01
    assert torch.equal(drawn, again)
