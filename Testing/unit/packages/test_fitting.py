import pytest
from MedSegUncertaintyLib.packages.fitting import ImageFacts, misfits
from MedSegUncertaintyLib.packages.package import ModelPackage


def facts(spacing=(1.0, 1.0, 1.0), modality=None, lowest=0.0, color=False, slices=9):
    return ImageFacts(spacing, slices, modality, lowest, color)


@pytest.fixture
def package(make_metadata, tmp_path):
    return lambda **own: ModelPackage.from_metadata(tmp_path, make_metadata(**own))


@pytest.mark.parametrize(
    ("own", "image", "words"),
    [
        ({}, facts(), None),
        ({}, facts(modality="CT"), "header says CT"),
        ({}, facts(modality="MR", lowest=-1000), None),  # the header knows better than the values
        ({}, facts(lowest=-1024), "look like CT"),
        ({"modality": "CT"}, facts(lowest=-1024), None),
        ({"modality": "CT"}, facts(lowest=0), "air in CT is -1000"),
        ({"modality": "CT"}, facts(modality="MR", lowest=-1024), "header says MR"),
        ({"grid": {"spacing_mm": [1, 1, 1], "orientation": "RAS"}}, facts((0.5, 0.5, 5)), "0.5 x 0.5 x 5 mm"),
        ({"grid": {"spacing_mm": [1, 1, 1], "orientation": "RAS"}}, facts((0.5, 0.5, 0.5)), None),
        ({"grid": {"spacing_mm": None, "orientation": "RAS"}}, facts((5, 5, 5)), None),
        ({"modality": "photograph"}, facts(), "has 9 slices and no color"),
        ({"modality": "photograph"}, facts(slices=1), None),
    ],
)
def test_what_does_not_fit_is_said(package, own, image, words):
    found = misfits(package(**own), image)
    assert [words in misfit.sentence for misfit in found] == ([] if words is None else [True])
    assert not any(misfit.forbids for misfit in found)


def test_colors_are_for_packages_of_colors(package):
    channels = [{"role": role, "name": role} for role in ("red", "green", "blue")]
    assert misfits(package(modality="photograph", channels=channels), facts(color=True)) == []
    (misfit,) = misfits(package(), facts(color=True))
    assert misfit.forbids
