"""Several images of one patient: each has its role and its own grid, and what cannot be used is one sentence."""

import json

import numpy as np
import pytest
from MedSegUncertaintyLib.errors import BadInputError, PackageError
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.volumes.geometry import Geometry, RegionOfInterest, Volume

FIRST = (-6.0, 0.0, 0.0)
SECOND = (8.0, 4.0, -2.0)
GRID = Geometry.from_parts((40, 36, 20), (1.0, 1.0, 2.0), (-20.0, -18.0, -19.0))


def turned(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])


def around_the_same_place(shape, spacing, direction=None) -> Geometry:
    """A grid with the center of GRID."""
    grid = Geometry.from_parts(shape, spacing, direction_ras=direction)
    middle = GRID.to_ras((np.array(GRID.shape_ijk) - 1) / 2) - grid.to_ras((np.array(shape) - 1) / 2)
    return Geometry.from_parts(shape, spacing, tuple(middle), direction)


def ask(package, **options) -> InferenceRequest:
    return InferenceRequest(str(package.folder), **{"samples": 3, "device": "cpu", **options})


@pytest.fixture
def package(weighing_package):
    """The second channel alone decides."""
    return weighing_package({"t1": 0.0, "t2": 8.0})


@pytest.fixture
def t1(bell) -> Volume:
    return bell(GRID, FIRST, "case_t1")


@pytest.fixture
def t2(bell) -> Volume:
    return bell(GRID, SECOND, "case_t2")


def test_the_second_channel_decides(package, t1, t2):
    result = segment(t1, ask(package, temperature=0.0), channels={"t2": t2})
    np.testing.assert_array_equal(result.samples[0], t2.array > 100)
    assert result.samples[0].sum() > 500
    assert result.image_name == "case_t1"
    assert result.provenance["channels"] == [
        {"role": "t1", "name": "T1 image", "image": "case_t1", "resampled": False, "share_of_region": 1.0},
        {"role": "t2", "name": "T2 image", "image": "case_t2", "resampled": False, "share_of_region": 1.0},
    ]
    json.dumps(result.provenance)


def test_mixed_up_images_are_another_question(package, t1, t2):
    result = segment(t2, ask(package, temperature=0.0), channels={"t2": t1})
    np.testing.assert_array_equal(result.samples[0], t1.array > 100)


def test_the_order_of_the_roles_does_not_matter(weighing_package, t1, t2, bell):
    package = weighing_package({"t1": 1.0, "t2": 8.0, "flair": -3.0})
    flair = bell(GRID, (0.0, 0.0, 0.0), "flair")
    one, other = (
        segment(t1, ask(package), channels=channels)
        for channels in ({"t2": t2, "flair": flair}, {"flair": flair, "t2": t2})
    )
    for index in range(3):
        np.testing.assert_array_equal(one.samples[index], other.samples[index])
    assert one.provenance["channels"] == other.provenance["channels"]


OTHER_GRIDS = {
    "finer": (around_the_same_place((90, 80, 50), (0.5, 0.5, 1.0)), 0.02),
    "coarser": (around_the_same_place((18, 18, 14), (2.5, 2.5, 3.0)), 0.06),
    "oblique": (around_the_same_place((60, 60, 60), (1.0, 1.0, 1.0), turned(25)), 0.02),
    "oblique, coarser and left-handed": (
        around_the_same_place((34, 34, 26), (2.0, 2.0, 2.5), turned(-40) @ np.diag([-1.0, 1, 1])),
        0.06,
    ),
    "flipped and permuted": (
        around_the_same_place((20, 40, 36), (2.0, 1.0, 1.0), np.array([[0, -1.0, 0], [0, 0, 1], [-1, 0, 0]])),
        1e-5,
    ),
}


@pytest.mark.parametrize("spacing", [None, [1.5, 1.5, 1.5]])
@pytest.mark.parametrize("name", OTHER_GRIDS)
def test_another_grid_gives_the_same_segmentation(weighing_package, t1, t2, bell, name, spacing):
    package = weighing_package({"t1": 1.0, "t2": 8.0}, grid={"spacing_mm": spacing, "orientation": "RAS"})
    grid, tolerance = OTHER_GRIDS[name]
    same = segment(t1, ask(package), channels={"t2": t2})
    other = segment(t1, ask(package), channels={"t2": bell(grid, SECOND)})
    assert other.geometry.matches(GRID)
    assert [part["resampled"] for part in other.provenance["channels"]] == [False, True]
    assert other.provenance["channels"][1]["share_of_region"] == 1.0
    np.testing.assert_allclose(other.statistics.mean, same.statistics.mean, atol=tolerance)
    volumes = same.statistics.volumes_ml[:, 0]
    np.testing.assert_allclose(other.statistics.volumes_ml[:, 0], volumes, rtol=0.05)


def test_beyond_a_channel_is_its_lowest_value(package, t1, bell):
    """The hill is cut where the channel ends; nothing is labeled where only the edge could be repeated."""
    short = Geometry.from_parts((26, 36, 20), (1.0, 1.0, 2.0), (-20.0, -18.0, -19.0))
    result = segment(t1, ask(package, temperature=0.0), channels={"t2": bell(short, (5.0, 0.0, 0.0))})
    assert result.provenance["channels"][1]["share_of_region"] == pytest.approx(26 / 40)
    assert result.samples[0][:, :, 25].any()
    assert not result.samples[0][:, :, 26:].any()


def test_a_channel_has_to_show_the_region_only(package, t1, bell):
    small = bell(around_the_same_place((16, 16, 8), (1.0, 1.0, 2.0)), (0.0, 0.0, 0.0), "small")
    with pytest.raises(BadInputError) as caught:
        segment(t1, ask(package), channels={"t2": small})
    assert str(caught.value) == (
        "The channel t2 ('small') shows 7 % of the segmented region, which is less than the 50 % that are needed; give "
        "a smaller region of interest or another image."
    )
    roi = RegionOfInterest((-0.5, -0.5, 0.0), (12.0, 12.0, 12.0))
    result = segment(t1, ask(package, roi=roi), channels={"t2": small})
    assert result.provenance["channels"][1]["share_of_region"] == 1.0
    assert result.statistics.volumes_ml.min() > 0


def test_every_channel_can_have_its_own_intensity_rule(package, t1, t2):
    path = package.folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    channels = metadata["medseg_uncertainty"]["channels"]
    channels[1]["intensity"] = {"kind": "window", "low": -1000, "high": -800}
    path.write_text(json.dumps(metadata), encoding="utf-8")
    moved = Volume(t2.array - 1000, t2.geometry, t2.name)
    result = segment(t1, ask(package, temperature=0.0), channels={"t2": moved})
    np.testing.assert_array_equal(result.samples[0], moved.array > -900)


@pytest.mark.parametrize(
    ("weights", "roles", "sentence"),
    [
        (["t1", "t2"], [],
         "The model weighing lacks the channel t2 (T2 image); give t1 (T1 image) as the image and add t2 (T2 image)."),
        (["t1", "t2", "flair"], ["t2"],
         "The model weighing lacks the channel flair (FLAIR image); give t1 (T1 image) as the image and add t2 (T2 "
         "image) and flair (FLAIR image)."),
        (["t1", "t2"], ["t2", "pd"], "The model weighing has no channel 'pd'; give t1 (T1 image) as the image and add "
                                     "t2 (T2 image)."),
        (["t1", "t2"], ["t1"], "The channel t1 (T1 image) of the model weighing is the image itself; add only t2 (T2 "
                               "image)."),
        (["t1"], ["t2"], "The model weighing takes one image; leave out the channel 't2'."),
    ],
)  # fmt: skip
def test_wrong_roles_are_one_sentence(weighing_package, t1, t2, weights, roles, sentence):
    package = weighing_package(dict.fromkeys(weights, 1.0))
    with pytest.raises(BadInputError) as caught:
        segment(t1, ask(package), channels=dict.fromkeys(roles, t2))
    assert str(caught.value) == sentence


def elsewhere(t2: Volume) -> Volume:
    matrix = t2.geometry.ijk_to_ras.copy()
    matrix[0, 3] += 500
    return Volume(t2.array, Geometry(t2.geometry.shape_ijk, matrix), t2.name)


def sheared(t2: Volume) -> Volume:
    matrix = t2.geometry.ijk_to_ras.copy()
    matrix[0, 1] = 0.3
    return Volume(t2.array, Geometry(t2.geometry.shape_ijk, matrix), t2.name)


def with_a_hole(t2: Volume) -> Volume:
    array = t2.array.copy()
    array[3, 4, 5] = np.nan
    return Volume(array, t2.geometry, t2.name)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (elsewhere,
         "The channel t2 ('case_t2') lies elsewhere (R 479.5 to 519.5, A -18.5 to 17.5, S -20.0 to 20.0 mm) than the "
         "segmented region (R -20.5 to 19.5, A -18.5 to 17.5, S -20.0 to 20.0 mm); give an image of the same patient, "
         "registered to the first one."),
        (sheared, "The channel t2 ('case_t2') has axes that are not perpendicular; resample it to a rectangular grid "
                  "first."),
        (with_a_hole, "1 of 28800 voxels of 'case_t2 (t2)' are NaN or infinite; replace them first."),
        (lambda t2: Volume(t2.array * 0, t2.geometry, t2.name),
         "All voxels of 'case_t2 (t2)' have the value 0; choose an image with contrast."),
    ],
)  # fmt: skip
def test_channels_that_do_not_fit_are_one_sentence(package, t1, t2, change, sentence):
    with pytest.raises(BadInputError) as caught:
        segment(t1, ask(package), channels={"t2": change(t2)})
    assert str(caught.value) == sentence


def test_one_image_for_two_channels_is_noticed(package, t1):
    copy = Volume(t1.array.copy(), t1.geometry, "case_t2")
    with pytest.raises(BadInputError) as caught:
        segment(t1, ask(package), channels={"t2": copy})
    assert str(caught.value) == (
        "The channels t1 ('case_t1') and t2 ('case_t2') hold the same voxels; give each its own image."
    )


def test_intensities_that_cannot_be_mapped_are_said_of_their_channel(weighing_package, t1, t2):
    package = weighing_package({"t1": 0.0, "t2": 8.0})
    path = package.folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    metadata["medseg_uncertainty"]["channels"][1]["intensity"] = {"kind": "zscore"}
    path.write_text(json.dumps(metadata), encoding="utf-8")
    with pytest.raises(BadInputError, match=r"^Channel t2 \('case_t2'\): The image has no voxels above 0"):
        segment(t1, ask(package), channels={"t2": Volume(-t2.array - 1, t2.geometry, t2.name)})


def test_the_network_must_take_as_many_channels_as_are_named(package, t1, t2):
    path = package.folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    metadata["medseg_uncertainty"]["channels"].append({"role": "flair", "name": "FLAIR"})
    path.write_text(json.dumps(metadata), encoding="utf-8")
    flair = Volume(t2.array + 1, t2.geometry)
    with pytest.raises(PackageError, match="takes 2 images, but its metadata names 3; nothing was loaded"):
        segment(t1, ask(package), channels={"t2": t2, "flair": flair})


def test_a_gray_photograph_is_equal_in_all_colors(weighing_package, t1):
    package = weighing_package({"red": 1.0, "green": 1.0, "blue": 8.0})
    result = segment(t1, ask(package, temperature=0.0), channels={"green": t1, "blue": t1})
    np.testing.assert_array_equal(result.samples[0], t1.array > 100)
