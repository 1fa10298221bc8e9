"""``propagate`` on the command line: pairs of images and label maps, empty slices, names, and what goes wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedSegUncertaintyLib.cli import UsageError, absent_slices, main, support_files
from MedSegUncertaintyLib.models.universeg import UniverSeg
from MedSegUncertaintyLib.outputs.support_set import write_support_set
from MedSegUncertaintyLib.packages.weights import save_package
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.guidance import Guidance
from MedSegUncertaintyLib.propagation.support_set import SupportSet
from MedSegUncertaintyLib.volumes.geometry import Geometry
from MedSegUncertaintyLib.volumes.reading import read_label_names, read_labels, read_volume, write_volume

GEOMETRY = Geometry.from_parts((24, 22, 12), (1.0, 1.0, 2.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_metadata) -> str:
    torch.manual_seed(0)
    structure = {"name": "Any", "label": 1, "color": [1, 0, 0], "terminology": {}}
    described = make_metadata(
        family="universeg", arguments={"encoder_blocks": [4, 4]}, structures=[structure], modality="any",
        intensity={"kind": "percentiles", "low": 0.5, "high": 99.5}, square={"pixels": 16},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "by-example"
    return str(save_package(folder, UniverSeg([4, 4]), described, "# Card\n", "CC0-1.0\n").folder)


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """An image with a bright box, and the box in two slices."""
    labels = np.zeros(GEOMETRY.shape_kji, np.uint8)
    labels[:, 6:14, 8:18] = 1
    image = np.random.default_rng(0).normal(100, 4, labels.shape) + 60.0 * labels
    outlined = np.zeros_like(labels)
    outlined[[3, 8]] = labels[[3, 8]]
    write_volume(tmp_path / "image.nii.gz", image.astype(np.float32), GEOMETRY)
    write_volume(tmp_path / "box.nii.gz", outlined, GEOMETRY)
    return tmp_path / "image.nii.gz", tmp_path / "box.nii.gz"


def test_files_and_expectation(files, model, tmp_path, capsys):
    image, labels = map(str, files)
    output = tmp_path / "out"
    arguments = ["--absent", "0", "--absent", "box=11", "--model", model, "--samples", "2", "--output", str(output)]
    assert main(["propagate", image, "--support", labels, *arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    known = printed["summary"]["provenance"]["propagation"]["structures"]["box"]
    assert (known["examples"], known["absent"], known["left_out"]) == ([3, 8], [0, 11], 2)
    assert {"samples.seg.nrrd", "mean_box.nrrd", "report.html", "summary.json"} <= {
        file.name for file in output.iterdir()
    }


def test_what_to_expect_is_said(files, model, tmp_path, capsys):
    image, labels = map(str, files)
    arguments = ["--model", model, "--samples", "1", "--output", str(tmp_path / "out")]
    assert main(["propagate", image, "--support", labels, *arguments]) == 0
    assert "nothing is known, so look there first" in capsys.readouterr().out


def test_examples_of_another_image(files, model, tmp_path, capsys):
    image, labels = map(str, files)
    arguments = ["--support-image", image, "--support", labels, "--slices", "axial", "--model", model]
    code = main(["propagate", image, *arguments, "--samples", "1", "--output", str(tmp_path / "out")])
    assert code in (0, 3)  # random weights may find nothing
    assert "Traceback" not in capsys.readouterr().err


def test_bad_support_leaves_one_sentence_and_no_folder(files, model, tmp_path, capsys):
    image, labels = files
    write_volume(labels, np.zeros(GEOMETRY.shape_kji, np.uint8), GEOMETRY)
    code = main(
        ["propagate", str(image), "--support", str(labels), "--model", model, "--output", str(tmp_path / "out")]
    )
    assert code == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith("medseg-uncertainty: The support 'box' is empty;")
    assert not (tmp_path / "out").exists()


def test_labels_with_fractions_are_refused(files, model, tmp_path, capsys):
    image, labels = files
    write_volume(labels, np.full(GEOMETRY.shape_kji, 0.5, np.float32), GEOMETRY)
    code = main(
        ["propagate", str(image), "--support", str(labels), "--model", model, "--output", str(tmp_path / "out")]
    )
    assert code == 3
    assert "labels that are not whole numbers" in capsys.readouterr().err


def test_label_maps_go_to_the_image_before_them():
    own, other, picture = Path("own"), Path("other"), Path("picture")
    given = [("--support", own), ("--support-image", picture), ("--support", other), ("--support", own)]
    assert support_files(given) == [(own, None), (other, picture), (own, None)]


@pytest.mark.parametrize("given", [[("--support-image", Path("a"))], [("--support-image", Path("a"))] * 2])
def test_image_without_label_map_is_refused(given):
    with pytest.raises(UsageError, match="--support-image a is not followed by --support"):
        support_files(given)


def test_support_is_needed(files, model, tmp_path, capsys):
    assert main(["propagate", str(files[0]), "--model", model, "--output", str(tmp_path / "out")]) == 2
    assert "give at least one --support" in capsys.readouterr().err


def test_empty_slices_by_name():
    assert absent_slices(["12,48", "liver=3", "liver=4"]) == {"": (12, 48), "liver": (3, 4)}


@pytest.mark.parametrize("text", ["liver", "liver=", "3;4", "3.5"])
def test_empty_slices_that_are_no_numbers_are_refused(text):
    with pytest.raises(UsageError, match="is not understood; give slices as in"):
        absent_slices([text])


def test_names_of_segments_are_taken_from_slicers_files(tmp_path):
    image = sitk.GetImageFromArray(np.arange(27, dtype=np.uint8).reshape(3, 3, 3) % 3)
    for number, name in ((1, "Liver"), (2, "Spleen")):
        image.SetMetaData(f"Segment{number - 1}_LabelValue", str(number))
        image.SetMetaData(f"Segment{number - 1}_Name", name)
    path = tmp_path / "both.seg.nrrd"
    sitk.WriteImage(image, str(path))
    assert read_label_names(path, read_labels(path)) == {1: "Liver", 2: "Spleen"}


def test_labels_without_names_are_called_after_their_file(tmp_path):
    path = tmp_path / "organs.nii.gz"
    write_volume(path, np.arange(27, dtype=np.uint8).reshape(3, 3, 3) % 3, Geometry.from_parts((3, 3, 3), (1, 1, 1)))
    assert read_label_names(path, read_labels(path)) == {1: "organs 1", 2: "organs 2"}


def test_authors_weights_are_not_installed_unasked(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert main(["add-universeg", "--file", str(tmp_path / "weights.pt")]) == 4
    words = capsys.readouterr().err
    assert "solely for research purposes" in words
    assert "Pass --accept-license to agree." in words


def test_other_files_are_not_installed_as_the_authors(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert main(["add-universeg", "--file", str(files[0]), "--accept-license"]) == 3
    assert "is not the UniverSeg authors' file" in capsys.readouterr().err


def test_support_set_is_used_on_another_image(files, model, tmp_path, capsys):
    image, labels = files
    own = Example(read_labels(labels), names={1: "Box"})
    write_support_set(SupportSet("axial", (own,), {"Box": (0,)}), read_volume(image), tmp_path / "set")
    write_segment_names(labels, tmp_path / "box.seg.nrrd", "Box")
    arguments = ["--support-set", str(tmp_path / "set"), "--support", str(tmp_path / "box.seg.nrrd")]
    arguments += ["--model", model, "--samples", "2"]
    assert main(["propagate", str(image), *arguments, "--output", str(tmp_path / "out"), "--json"]) == 0
    known = json.loads(capsys.readouterr().out)["summary"]["provenance"]["propagation"]
    assert known["plane"] == "axial"
    assert (known["structures"]["Box"]["examples"], known["structures"]["Box"]["examples_elsewhere"]) == ([3, 8], 3)
    guidance = Guidance.from_json(known["guidance"])
    assert set(guidance.structures["Box"].examples) == {3, 8}
    assert guidance.next_slice not in (3, 8)


def test_support_set_alone_is_enough(files, model, tmp_path, capsys):
    image, labels = files
    write_support_set(SupportSet("axial", (Example(read_labels(labels)),)), read_volume(image), tmp_path / "set")
    arguments = ["--support-set", str(tmp_path / "set"), "--model", model, "--samples", "1"]
    code = main(["propagate", str(image), *arguments, "--output", str(tmp_path / "out")])
    assert code in (0, 3)  # random weights may find nothing
    assert "Traceback" not in capsys.readouterr().err


def test_folder_without_a_support_set_is_said(files, model, tmp_path, capsys):
    arguments = ["--support-set", str(tmp_path), "--model", model, "--output", str(tmp_path / "out")]
    assert main(["propagate", str(files[0]), *arguments]) == 3
    assert "holds no support set (support-set.json); choose the folder of one." in capsys.readouterr().err


def write_segment_names(labels: Path, path: Path, name: str) -> None:
    """A label map of one segment as Slicer saves it."""
    image = sitk.ReadImage(str(labels))
    image.SetMetaData("Segment0_LabelValue", "1")
    image.SetMetaData("Segment0_Name", name)
    sitk.WriteImage(image, str(path))
