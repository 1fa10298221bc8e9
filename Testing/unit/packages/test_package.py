"""Metadata of model packages: what is read, and the sentence for each thing that is wrong."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.packages.package import METADATA, ModelPackage

ROOT = Path(__file__).resolve().parents[3]
BUNDLED = sorted((ROOT / "MedSegUncertainty" / "Resources" / "Models").glob("*/configs/metadata.json"))
SCHEMA = ROOT.parent / "shared" / "reference" / "monai-metadata-schema.json"

# The parts of MONAI's metadata schema that a package can get wrong, for checkouts without the whole schema.
REQUIRED = {
    "type": "object",
    "required": [
        "schema",
        "version",
        "monai_version",
        "pytorch_version",
        "numpy_version",
        "required_packages_version",
        "task",
        "description",
        "authors",
        "copyright",
        "network_data_format",
    ],
    "properties": {
        "network_data_format": {
            "required": ["inputs", "outputs"],
            "additionalProperties": {
                "additionalProperties": {
                    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"]
                }
            },
        }
    },
}


def edited(metadata, field, value=None):
    """Metadata with one field of our block (dots between names) changed, or removed if no value is given."""
    *parents, last = field.split(".")
    block = metadata["medseg_uncertainty"]
    for key in parents:
        block = block[key]
    if value is None:
        del block[last]
    else:
        block[last] = value
    return metadata


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.parents[1].name)
def test_bundled_package_is_sound(path):
    metadata = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(metadata, REQUIRED)
    package = ModelPackage.from_folder(path.parents[1])
    assert package.card
    assert package.license_text
    assert package.limits


@pytest.mark.skipif(not SCHEMA.is_file(), reason="needs MONAI's metadata schema in ../shared, which is not here")
@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.parents[1].name)
def test_bundled_package_meets_monais_schema(path):
    jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_written_package_meets_required_keys(package):
    jsonschema.validate(json.loads((package.folder / METADATA).read_text(encoding="utf-8")), REQUIRED)


@pytest.mark.skipif(not SCHEMA.is_file(), reason="needs MONAI's metadata schema in ../shared, which is not here")
def test_written_package_meets_monais_schema(package):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert REQUIRED["required"] == schema["required"]
    jsonschema.validate(json.loads((package.folder / METADATA).read_text(encoding="utf-8")), schema)


def test_package_gives_what_the_metadata_says(package):
    read = ModelPackage.from_folder(package.folder)
    assert (read.name, read.title, read.version) == ("tiny-mr", "Tiny hippocampus", "0.1.0")
    assert (read.family, read.arguments) == ("tiny", {"channels": 4})
    assert (read.modality, read.body_part) == ("MR", "brain")
    assert [structure.name for structure in read.structures] == ["Hippocampus"]
    assert tuple(read.grid.spacing_mm) == (1.0, 1.0, 1.0)
    assert read.roi.required
    assert read.roi.size_mm == (48, 64, 48)
    assert read.training_data.license == "CC0-1.0"
    assert read.weights_license == "Apache-2.0"
    assert read.card == "# Tiny\n"
    assert read.license_text == "Apache-2.0\n"
    assert read.weights.bytes == read.weights_path.stat().st_size


def test_channels_are_read_in_order_each_with_its_rule(metadata):
    window = {"kind": "window", "low": 0, "high": 9}
    channels = [{"role": "t1", "name": "T1-weighted MR"}, {"role": "flair_2", "name": "FLAIR", "intensity": window}]
    package = ModelPackage.from_metadata(Path("tiny-mr"), edited(metadata, "channels", channels))
    assert [str(channel) for channel in package.channels] == ["t1 (T1-weighted MR)", "flair_2 (FLAIR)"]
    assert [channel.intensity.kind for channel in package.channels] == ["zscore", "window"]
    assert not package.takes_color


def test_a_package_that_names_no_channel_takes_one_image(metadata):
    (channel,) = ModelPackage.from_metadata(Path("tiny-mr"), metadata).channels
    assert (channel.role, channel.intensity.kind) == ("image", "zscore")


def test_red_green_and_blue_are_a_color_image(metadata):
    channels = [{"role": color, "name": color} for color in ("green", "red", "blue")]
    assert ModelPackage.from_metadata(Path("tiny-mr"), edited(metadata, "channels", channels)).takes_color


def test_model_without_a_spacing_of_its_own(metadata):
    edited(metadata, "grid.spacing_mm")["medseg_uncertainty"]["grid"]["spacing_mm"] = None
    assert ModelPackage.from_metadata(Path("tiny-mr"), metadata).grid.spacing_mm is None


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("family", None, "medseg_uncertainty.family is missing."),
        ("family", 3, "medseg_uncertainty.family must be a text."),
        ("arguments", [], "medseg_uncertainty.arguments must be an object."),
        ("modality", "US", "medseg_uncertainty.modality must be one of MR, CT, photograph, any."),
        ("structures", [], "medseg_uncertainty.structures must have the labels 1, 2, 3 and so on, in this order."),
        ("structures", [{"name": "A"}], "medseg_uncertainty.structures[0].color is missing."),
        ("grid.spacing_mm", None, "medseg_uncertainty.grid.spacing_mm is missing."),
        ("grid.spacing_mm", [1, 1], "medseg_uncertainty.grid.spacing_mm must be null or three positive numbers."),
        ("grid.spacing_mm", [1, 1, 0], "medseg_uncertainty.grid.spacing_mm must be null or three positive numbers."),
        ("grid.spacing_mm", [1, "1", 1], "medseg_uncertainty.grid.spacing_mm[1] must be a number."),
        ("roi.required", "yes", "medseg_uncertainty.roi.required must be true or false."),
        ("roi.where", None, "medseg_uncertainty.roi.where is missing."),
        ("channels", [], "medseg_uncertainty.channels must be one or more, each with a role of its own."),
        ("channels", "t1", "medseg_uncertainty.channels must be a list."),
        ("channels", [{"role": "t1"}], "medseg_uncertainty.channels[0].name is missing."),
        (
            "channels",
            [{"role": "T1 w", "name": "A"}],
            "medseg_uncertainty.channels[0].role must be lower-case letters, digits and underscores, as t2 is.",
        ),
        (
            "channels",
            [{"role": "t1", "name": "A"}, {"role": "t1", "name": "B"}],
            "medseg_uncertainty.channels must be one or more, each with a role of its own.",
        ),
        (
            "channels",
            [{"role": "t1", "name": "A", "intensity": {"kind": "window"}}],
            "medseg_uncertainty.channels[0].intensity cannot be used: the intensity rule 'window' needs the numbers "
            "low and high.",
        ),
        ("weights", None, "medseg_uncertainty.weights is missing."),
        (
            "weights.file",
            "../../other.safetensors",
            "medseg_uncertainty.weights.file must be a path inside the package.",
        ),
        ("weights.file", "C:\\other.safetensors", "medseg_uncertainty.weights.file must be a path inside the package."),
        ("weights.file", "models/model.pt", "medseg_uncertainty.weights.file must be a .safetensors file."),
        ("weights.sha256", "abc", "medseg_uncertainty.weights.sha256 must be 64 lower-case hexadecimal digits."),
        ("weights.bytes", True, "medseg_uncertainty.weights.bytes must be a whole number."),
        ("training_data.cases", 1.5, "medseg_uncertainty.training_data.cases must be a whole number."),
        ("limits", [1], "medseg_uncertainty.limits[0] must be a text."),
        ("evaluation", None, "medseg_uncertainty.evaluation is missing."),
    ],
)
def test_wrong_field_is_named(metadata, field, value, sentence):
    expected = re.escape(f"tiny-mr/configs/metadata.json: {sentence}")
    with pytest.raises(PackageError, match=f"^{expected}$"):
        ModelPackage.from_metadata(Path("tiny-mr"), edited(metadata, field, value))


@pytest.mark.parametrize("kind", [None, "unheard-of"])
def test_wrong_intensity_rule_is_named(metadata, kind):
    with pytest.raises(PackageError, match=r"^tiny-mr/configs/metadata\.json: medseg_uncertainty\.intensity"):
        ModelPackage.from_metadata(Path("tiny-mr"), edited(metadata, "intensity.kind", kind))


def test_wrong_orientation_is_named(metadata):
    with pytest.raises(PackageError, match=r"^tiny-mr/configs/metadata\.json: medseg_uncertainty\.grid\.orientation"):
        ModelPackage.from_metadata(Path("tiny-mr"), edited(metadata, "grid.orientation", "XYZ"))


@pytest.mark.parametrize("key", [*REQUIRED["required"], "medseg_uncertainty"])
def test_missing_top_level_field_is_named(metadata, key):
    del metadata[key]
    with pytest.raises(PackageError, match=f"^tiny-mr/configs/metadata.json: {key} is missing.$"):
        ModelPackage.from_metadata(Path("tiny-mr"), metadata)


def test_metadata_that_is_not_json(package):
    (package.folder / METADATA).write_text("{", encoding="utf-8")
    with pytest.raises(PackageError, match=r"^tiny-mr/configs/metadata\.json is not valid JSON: "):
        ModelPackage.from_folder(package.folder)


def test_metadata_that_is_no_object(package):
    (package.folder / METADATA).write_text("[]", encoding="utf-8")
    with pytest.raises(PackageError, match=r"^tiny-mr/configs/metadata\.json must hold a JSON object\.$"):
        ModelPackage.from_folder(package.folder)


@pytest.mark.parametrize("file", ["LICENSE", "docs/README.md", "models/model.safetensors"])
def test_missing_file_is_named(package, file):
    (package.folder / file).unlink()
    with pytest.raises(PackageError, match=f"^The model package tiny-mr has no file {re.escape(file)}.$"):
        ModelPackage.from_folder(package.folder)


def test_folder_without_metadata(tmp_path):
    with pytest.raises(PackageError, match=r"is no model package: it has no configs/metadata\.json\.$"):
        ModelPackage.from_folder(tmp_path)


def test_incomplete_weights_are_noticed_without_reading_them(package):
    with package.weights_path.open("r+b") as file:
        file.truncate(100)
    expected = f"has 100 bytes instead of {package.weights.bytes}; install the package again."
    with pytest.raises(PackageError, match=re.escape(expected)):
        ModelPackage.from_folder(package.folder)


def test_structures_need_names_that_can_be_told_apart(metadata):
    block = metadata["medseg_uncertainty"]
    first = block["structures"][0]
    block["structures"] = [{**first, "name": "Lung, left"}, {**first, "name": "Lung left", "label": 2}]
    with pytest.raises(PackageError, match="structures must have names that differ in letters or digits"):
        ModelPackage.from_metadata(Path("tiny-mr"), metadata)
