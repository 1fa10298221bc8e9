"""Several images on the command line: by role, in any order, and nothing is written where one does not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MedSegUncertaintyLib.cli import channel_files, main
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume
from MedSegUncertaintyLib.volumes.reading import write_volume

GRID = Geometry.from_parts((24, 22, 10), (1.0, 1.0, 2.0), (-12.0, -11.0, -9.0))
FINER = Geometry.from_parts((60, 60, 60), (0.5, 0.5, 0.5), (-15.0, -15.0, -15.0))


@pytest.fixture
def package(weighing_package, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDSEG_UNCERTAINTY_MODELS", str(tmp_path / "packages"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return weighing_package({"t1": 0.0, "t2": 8.0, "flair": -1.0})


def saved(path: Path, volume: Volume) -> str:
    write_volume(path, volume.array, volume.geometry)
    return str(path)


@pytest.fixture
def files(tmp_path, bell) -> dict[str, str]:
    """t1 and t2 on one grid, flair on a finer one, and one that lies elsewhere."""
    far = Geometry.from_parts(GRID.shape_ijk, (1.0, 1.0, 2.0), (300.0, 0.0, 0.0))
    return {
        "t1": saved(tmp_path / "a_t1.nii.gz", bell(GRID, (0.0, 0.0, 0.0))),
        "t2": saved(tmp_path / "b=t2.nrrd", bell(GRID, (3.0, 2.0, 0.0))),
        "flair": saved(tmp_path / "c_flair.mha", bell(FINER, (-6.0, 0.0, 0.0))),
        "far": saved(tmp_path / "far.nii.gz", bell(far, (310.0, 10.0, 10.0))),
    }


def segment(files, output, *channels: str, image: str = "t1", more: tuple[str, ...] = ()) -> int:
    """Run the command; a channel is "role=name of a file in files"."""
    given = []
    for channel in channels:
        role, _, name = channel.partition("=")
        given += ["--channel", f"{role}={files.get(name, name)}" if name else channel]
    command = ["segment", files.get(image, image), "--model", "weighing", "--samples", "2", "--device", "cpu", *given]
    return main([*command, "--output", str(output), *more])


def test_channels_in_any_order_give_one_result_that_names_them(package, files, tmp_path, capfd):
    assert segment(files, tmp_path / "one", "t2=t2", "flair=flair") == 0
    assert segment(files, tmp_path / "two", "flair=flair", "t2=t2") == 0
    one, two = (
        {name: sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / folder / name)))
         for name in ("samples.seg.nrrd", "mean_blob.nrrd", "entropy.nrrd")}
        for folder in ("one", "two")
    )  # fmt: skip
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name])
    assert one["mean_blob.nrrd"].max() > 0.9
    assert sitk.ReadImage(str(tmp_path / "one" / "mean_blob.nrrd")).GetSize() == GRID.shape_ijk
    image = json.loads((tmp_path / "one" / "summary.json").read_text(encoding="utf-8"))["image"]
    assert image["name"] == "a_t1"
    assert [(part["role"], part["image"], part["resampled"]) for part in image["channels"]] == [
        ("t1", "a_t1", False),
        ("t2", "b=t2", False),
        ("flair", "c_flair", True),
    ]
    report = (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    for text in ("Channel t2", "b=t2 (T2 image)", "Channel flair", "c_flair (FLAIR image)"):
        assert text in report
    assert "Warning: The channel" not in report + capfd.readouterr().out


def test_a_channel_that_shows_a_part_is_warned_of(package, files, tmp_path, bell, capfd):
    part = Geometry.from_parts((18, 22, 10), (1.0, 1.0, 2.0), (-12.0, -11.0, -9.0))
    files["part"] = saved(tmp_path / "part.nii.gz", bell(part, (0.0, 0.0, 3.0)))
    assert segment(files, tmp_path / "out", "t2=t2", "flair=part") == 0
    sentence = "Warning: The channel flair ('part') shows 75 % of the segmented region; the rest counts as empty in it."
    assert sentence in capfd.readouterr().out
    assert sentence.replace("'", "&#x27;") in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("channels", "sentence"),
    [
        (["t2=t2"], "The model weighing lacks the channel flair (FLAIR image); give t1 (T1 image) as the image and add "
                    "t2 (T2 image) and flair (FLAIR image)."),
        ([], "The model weighing lacks the channels t2 (T2 image) and flair (FLAIR image); give t1 (T1 image) as the "
             "image and add t2 (T2 image) and flair (FLAIR image)."),
        (["t2=t2", "pd=flair"], "The model weighing has no channel 'pd'; give t1 (T1 image) as the image and add t2 "
                                "(T2 image) and flair (FLAIR image)."),
        (["t2=t2", "t2=flair"], "The channel 't2' was given twice, as {t2} and {flair}; give one of them."),
        (["t2"], "The channel 't2' is not understood; give a role and a file, as in t2=t2.nii.gz."),
        (["=t2"], "The channel '={t2}' is not understood; give a role and a file, as in t2=t2.nii.gz."),
        (["t2=t2", "flair=missing.nii.gz"], "'missing.nii.gz' does not exist; check the path."),
        (["t2=t2", "flair=t2"], "The channels t2 ('b=t2') and flair ('b=t2') hold the same voxels; give each its own "
                                "image."),
        (["t2=t2", "flair=far"],
         "The channel flair ('far') lies elsewhere (R 299.5 to 323.5, A -0.5 to 21.5, S -1.0 to 19.0 mm) than the "
         "segmented region (R -12.5 to 11.5, A -11.5 to 10.5, S -10.0 to 10.0 mm); give an image of the same patient, "
         "registered to the first one."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence_and_no_file(package, files, tmp_path, capfd, channels, sentence):
    assert segment(files, tmp_path / "out", *channels) == 3
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == f"medseg-uncertainty: {sentence.format(**files)}"
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_package_for_one_image_takes_no_channels(weighing_package, package, files, tmp_path, capfd):
    weighing_package({"image": 8.0})
    assert segment(files, tmp_path / "out", "t2=t2") == 3
    assert "The model weighing takes one image; leave out the channel 't2'." in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_equals_sign_may_be_part_of_a_path():
    assert channel_files(["t2=a=b.nii.gz"]) == {"t2": Path("a=b.nii.gz")}
    with pytest.raises(BadInputError, match="is not understood"):
        channel_files(["t2="])


def test_models_lists_the_roles(package, weighing_package, capfd):
    assert main(["models"]) == 0
    assert "Image: t1 (T1 image); channels: t2 (T2 image), flair (FLAIR image)" in capfd.readouterr().out
    assert main(["models", "--json"]) == 0
    listed = {model["name"]: model for model in json.loads(capfd.readouterr().out)["models"]}
    assert listed["weighing"]["channels"][1] == {"role": "t2", "name": "T2 image"}
    weighing_package({"red": 1.0, "green": 1.0, "blue": 1.0}, modality="photograph")
    assert main(["models"]) == 0
    assert "Image: a color photograph, or red, green and blue as channels" in capfd.readouterr().out


# Color images


@pytest.fixture
def color_package(weighing_package, package):
    """The green of a picture decides."""
    grid = {"spacing_mm": None, "orientation": "LPS"}
    return weighing_package({"green": 8.0, "red": 0.0, "blue": 0.0}, modality="photograph", grid=grid)


@pytest.fixture
def photograph(tmp_path) -> np.ndarray:
    j, i = np.indices((40, 50))
    array = np.stack([4 * i, 200 * ((i - 30) ** 2 + (j - 12) ** 2 < 64), 5 * j], axis=-1).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), tmp_path / "eye.png")
    return array


def test_a_photograph_is_segmented_by_its_colors(color_package, photograph, tmp_path, capfd):
    assert segment({}, tmp_path / "out", image=str(tmp_path / "eye.png"), more=("--temperature", "0")) == 0
    mean = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "mean_blob.nrrd")))
    np.testing.assert_array_equal(mean[0] > 0.5, photograph[..., 1] > 100)
    image = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["image"]
    assert (image["name"], image["scaled"]) == ("eye", False)
    assert [part["role"] for part in image["channels"]] == ["green", "red", "blue"]
    note = "Warning: A photograph has no scale: a pixel counts as a cube of 1 mm, so that 1 mL means 1000 pixels."
    assert note in capfd.readouterr().out
    assert note in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_colors_may_be_given_one_by_one(color_package, photograph, tmp_path, capfd):
    grid = Geometry.from_parts((50, 40, 1), (0.1, 0.1, 1.0))
    files = {
        color: saved(tmp_path / f"{color}.nrrd", Volume(photograph[np.newaxis, ..., n], grid))
        for n, color in enumerate(("red", "green", "blue"))
    }
    assert segment(files, tmp_path / "out", "red=red", "blue=blue", image="green") == 0
    assert "photograph" not in capfd.readouterr().out
    assert segment(files, tmp_path / "out2", "red=red", image="green") == 3
    assert "lacks the channel blue (BLUE image)" in capfd.readouterr().err
    assert segment(files, tmp_path / "out2", image="green") == 3
    assert "'green.nrrd' has no red, green and blue; the model needs a color image." in capfd.readouterr().err
    assert not (tmp_path / "out2").exists()


def test_other_packages_still_refuse_photographs(weighing_package, package, photograph, tmp_path, capfd):
    weighing_package({"image": 8.0})
    assert segment({}, tmp_path / "out", image=str(tmp_path / "eye.png")) == 3
    assert "'eye.png' is a PNG file; give NIfTI-1" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
