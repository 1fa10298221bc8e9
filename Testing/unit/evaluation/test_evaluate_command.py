"""The command that compares a package with readers."""

import json
from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.cli import main
from MedSegUncertaintyLib.evaluation.run import CONVENTIONS, evaluate
from MedSegUncertaintyLib.packages.package import ModelPackage

from .conftest import IMAGES, READERS, SIZE, write_arrays


def command(package: ModelPackage, path: Path, *options: str) -> list[str]:
    return ["evaluate", "--model", str(package.folder), "--data", str(path), "--device", "cpu", *options]


def test_json_is_what_the_library_finds(
    package: ModelPackage, reader_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(command(package, reader_file, "--samples", "3", "--seed", "7", "--json")) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == evaluate(package, reader_file, samples=3, seed=7, device="cpu")
    assert "Evaluate ..." in err


def test_text_says_how_each_figure_was_made(
    package: ModelPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.npz"
    write_arrays(path, masks_packed=np.zeros((IMAGES, READERS, SIZE, SIZE // 8), np.uint8))
    assert main(command(package, path, "--samples", "2")) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "two-blobs on none.npz: 7 images of 4 patients, 3 readers, 2 samples per image (model samples)\n"
    )
    for name, convention in CONVENTIONS.items():
        assert f"\n{name}: {convention}\n" in text
    assert "\n    always_empty        0.0000 (0.0000 to 0.0000) n = 7\n" in text
    assert "\n    model               not defined n = 0\n" in text


def test_exit_codes(package: ModelPackage, reader_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--model", str(package.folder)]) == 2
    assert main(command(package, reader_file, "--samples", "0")) == 2
    assert main(command(package, reader_file.with_name("missing.npz"))) == 3
    assert main(["evaluate", "--model", "missing", "--data", str(reader_file)]) == 3
    assert "There is no file" in capsys.readouterr().err
