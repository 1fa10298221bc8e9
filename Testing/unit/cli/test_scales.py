"""Scales of the samples on the command line, in files and in the report."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedSegUncertaintyLib.cli import main
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import save_package
from MedSegUncertaintyLib.scene import rendering
from MedSegUncertaintyLib.volumes.geometry import Geometry
from MedSegUncertaintyLib.volumes.reading import write_volume

ARGUMENTS = {
    "spatial_dims": 2,
    "channels": 1,
    "classes": 3,
    "widths": [4, 6, 8],
    "latents": [1, 1],
    "blocks": 1,
    "convolutions": 1,
}


@pytest.fixture
def package(make_metadata: Callable[..., dict], tmp_path: Path) -> ModelPackage:
    """Random weights whose coarse scale says nothing."""
    torch.manual_seed(0)
    model = registry.build("hpunet", ARGUMENTS)
    for head, spread in zip(model.prior.heads, (-9.0, 1.0), strict=True):
        head.convolution.bias.data = torch.tensor([0.0, spread])
    metadata = make_metadata(family="hpunet", arguments=ARGUMENTS, walk={"correlation_mm": 4.0})
    return save_package(tmp_path / "scales", model, metadata, "# Card\n", "CC0\n")


@pytest.fixture
def command(package: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(rendering, "whyNoSlicer", lambda: "Not in this test.")
    image = np.random.default_rng(0).normal(100, 20, (4, 18, 21)).astype(np.float32)
    write_volume(tmp_path / "image.nrrd", image, Geometry.from_parts((21, 18, 4), (1.0, 1.5, 3.0)))
    options = ["--model", str(package.folder), "--samples", "6", "--device", "cpu", "--output", str(tmp_path / "out")]
    return ["segment", str(tmp_path / "image.nrrd"), *options]


def test_what_varies_is_written_and_shown(command: list[str], tmp_path: Path) -> None:
    assert main([*command, "--what-varies"]) == 0
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["request"]["scales"] == []
    assert set(summary["files"]) >= {"scales.json", "variance_scale_0.nrrd", "variance_scale_1.nrrd"}
    found = json.loads((out / "scales.json").read_text(encoding="utf-8"))
    coarse, fine = found["scales"]
    assert found["samples_per_scale"] == 6
    assert (coarse["cell_mm"], fine["cell_mm"]) == ([4.0, 6.0], [2.0, 3.0])
    assert set(fine["volume_sd_ml"]) == {"Left blob", "Right blob"}
    assert coarse["share_of_variance"] < 0.02
    assert fine["share_of_variance"] == pytest.approx(1.0, abs=0.05)
    shown, alone = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(out / f"variance_{name}.nrrd"))) for name in ("left_blob", "scale_1")
    )
    assert alone.shape == shown.shape == (4, 18, 21)
    assert (alone >= shown - 1e-3).all()  # the largest of both structures
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<h2>What varies at which scale</h2>" in page
    assert "Scale 1 alone; axial, slice K" in page
    assert "An unused coarsest scale can be normal" in page
    assert f"<td>{100 * fine['share_of_variance']:.1f} %</td>" in page


def test_scales_reach_the_samples_and_the_report(command: list[str], tmp_path: Path) -> None:
    assert main([*command, "--scales", "0,f2"]) == 0
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["request"]["scales"] == [
        {"temperature": 0.0, "frozen": None},
        {"temperature": 1.0, "frozen": 1},
    ]
    assert summary["structures"][0]["mean_pairwise_dice"] == 1.0
    assert not (out / "scales.json").exists()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<dt>Scales</dt><dd>mean, sample 2</dd>" in page
    assert "What varies at which scale" not in page


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--scales", "1,2,3"], 3, "have 2 scales and need an entry for each, coarsest first, not 3."),
        (["--scales", "1,x"], 2, "The scale 'x' is not understood"),
        (["--scales", "1,11"], 2, "The temperature of a scale must be between 0 and 10, not 11."),
    ],
)
def test_wrong_scales_are_one_sentence(
    command: list[str], capsys: pytest.CaptureFixture[str], options: list[str], code: int, words: str
) -> None:
    assert main([*command, *options]) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--scales", "1"], ["--what-varies"]])
def test_other_families_have_no_scales(
    command: list[str], package_folder: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    command[command.index("--model") + 1] = str(package_folder)
    assert main([*command, *option]) == 3
    assert "The samples of two-blobs have no scales that could be set or compared." in capsys.readouterr().err
