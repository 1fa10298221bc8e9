import copy
import dataclasses
import json
import re
import sys
import types
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from MedSegUncertaintyLib.errors import CanceledError
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.outputs.document import build_document
from MedSegUncertaintyLib.report import pictures as pictures_module
from MedSegUncertaintyLib.report.page import build_page, milliliters, write_report
from MedSegUncertaintyLib.report.pictures import (
    PictureSet,
    drawn_pictures,
    make_pictures,
)
from MedSegUncertaintyLib.scene.rendering import isRenderingAvailable, whyNoSlicer
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.uncertainty.statistics import StatisticsStream
from MedSegUncertaintyLib.volumes.geometry import Volume
from MedSegUncertaintyLib.volumes.intensity import IntensityRule

EVIL = '<script>alert("x")</script><img src="http://example.com/a.png"> & \'quoted\''


class Reader(HTMLParser):
    """Text, tags and attributes of a page; unclosed tags are an error."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.attributes, self.open = "", [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data + " "


WINDOW = (80.0, 190.0)


def page_of(volume: Volume, result: InferenceResult, document: dict) -> str:
    place = tuple(document["most_uncertain"]["place"]["ijk"])
    return build_page(result, document, PictureSet(drawn_pictures(volume, result, place, WINDOW), WINDOW))


def with_samples(result: InferenceResult, count: int) -> InferenceResult:
    """The first samples of a result, with certain probabilities."""
    import torch

    samples, stream = SampleSet(result.samples.shape_kji), StatisticsStream(result.box_geometry.voxel_volume_ml)
    for index in range(count):
        labels = torch.from_numpy(result.samples[index])
        stream.update(torch.nn.functional.one_hot(labels.long(), 3).movedim(-1, 0).float(), labels)
        samples.append(labels.numpy())
    return dataclasses.replace(result, samples=samples, statistics=stream.result())


@pytest.fixture
def document(blob_result: InferenceResult) -> dict:
    return json.loads(json.dumps(build_document(blob_result)))


def test_numbers_of_the_table_are_those_of_the_summary(blob_volume, blob_result, document):
    page = page_of(blob_volume, blob_result, document)
    rows = re.findall(r"<tr>(<td>(?:Left|Right) blob</td>.*?)</tr>", page)
    assert len(rows) == 2
    for row, entry in zip(rows, blob_result.summary["structures"], strict=True):
        volume, entropy = entry["volume_ml"], entry["entropy_bits"]
        shown = [float(cell) for cell in re.findall(r"<td>([^<]*)</td>", row)[1:]]
        expected = [volume["mean"], volume["q05"], volume["q50"], volume["q95"], entry["prediction_ml"]]
        expected += [entry["mean_pairwise_dice"], entropy["in_boundary_band"], entropy["outside_boundary_band"]]
        assert shown == pytest.approx(expected, rel=5e-3, abs=1e-4)


def test_the_reader_learns_what_was_run_on_what(blob_volume, blob_result, document):
    text = Reader(page_of(blob_volume, blob_result, document)).text
    for part in (
        "Not a medical device. For research only.",
        "Two blobs, version 0.1.0",
        "40 x 36 x 20 voxels of 1 x 1 x 2 mm".replace(" x ", " \u00d7 "),
        "whole image",
        "spread of model samples, not calibrated confidence",
        "For tests only.",
        "made by the tests, 0 cases, CC0-1.0",
        "tilted against the patient's axes",
        "from 0 to 1.58 bits with 3 classes",
        "Samples 1 and 8 differ most",
        "Three slices through the place where the samples differ most",
        "Axial and coronal: the patient's right is on the left; sagittal: anterior is on the left.",
        "Of the 8 samples, 6 have a volume between the 5 % and the 95 % value.",
        "With 8 samples the outer line is around what any sample labels",
        "gray: 80 to 190",
    ):
        assert part in text
    first = document["most_uncertain"]["slices"]["coronal"][0]
    assert f"J {first['index']}" in text


def test_figures_of_the_package_are_shown(blob_volume, blob_result, document):
    assert "Nothing was measured." in page_of(blob_volume, blob_result, document)
    figures = {"cases": 26, "structures": {"Left blob": {"dice_of_mean": {"mean": 0.87654, "sd": 0.02}, "x_y": 1.5}}}
    object.__setattr__(blob_result.package, "evaluation", figures)
    page = page_of(blob_volume, blob_result, document)
    assert "<td>cases</td><td>26</td>" in page
    assert "<td>Left blob: dice of mean</td><td>mean 0.877, sd 0.02</td>" in page
    assert "<td>Left blob: x y</td><td>1.5</td>" in page


def test_nothing_is_loaded_from_anywhere(blob_volume, blob_result, document):
    reader = Reader(page_of(blob_volume, blob_result, document))
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(reader.tags)
    addresses = [value for _, name, value in reader.attributes if name in ("src", "href", "xlink:href", "action")]
    assert len(addresses) == 9  # three gray pictures twice, three heat maps
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert "url(" not in page_of(blob_volume, blob_result, document)
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]


def test_names_from_outside_cannot_become_markup(blob_volume, blob_result, document, package_folder):
    document = copy.deepcopy(document)
    document["image"]["name"] = document["package"]["title"] = document["package"]["version"] = EVIL
    document["provenance"]["device"] = document["structures"][0]["name"] = document["software"]["x"] = EVIL
    object.__setattr__(blob_result.structures[0], "name", EVIL)
    object.__setattr__(blob_result.package, "limits", (EVIL,))
    object.__setattr__(blob_result.package, "weights_license", EVIL)
    blob_result.package.metadata.update(description=EVIL, intended_use=EVIL)
    page = page_of(blob_volume, blob_result, document)
    assert "<script" not in page
    assert "<img" not in page
    reader = Reader(page)
    assert reader.text.count("<script>") >= 8
    assert ("svg", "aria-label", f"Sample volumes of {EVIL} in mL") in reader.attributes


def test_pictures_are_well_formed(blob_volume, blob_result, document):
    pictures = drawn_pictures(blob_volume, blob_result, (20, 18, 10), WINDOW)
    assert [picture.kind for picture in pictures] == ["outlines", "variance"] * 3
    for picture in pictures:
        ElementTree.fromstring(picture.element)
    assert pictures[0].caption == "Axial, slice K 10"
    # Both structures with three contours each cross the middle axial slice.
    assert pictures[0].element.count('vector-effect="non-scaling-stroke"/>') == 6 + 2


def test_slicer_renders_the_same_place_where_it_can(blob_volume, blob_result, document):
    slicer = pytest.importorskip("slicer")
    if not isRenderingAvailable():
        pytest.skip("needs OpenGL libraries")
    from MedSegUncertaintyLib.scene.bundle import resultInScene

    shown = make_pictures(blob_volume, blob_result, (12, 18, 10))
    drawn, pictures = drawn_pictures(blob_volume, blob_result, (12, 18, 10), shown.window), shown.pictures
    assert shown.views_failed == ""
    assert pictures[: len(drawn)] == drawn
    assert [picture.kind for picture in pictures[len(drawn) :]] == ["scene"] * 9 + ["surfaces"]
    left_behind = [
        slicer.mrmlScene.GetNumberOfNodesByClass(f"vtkMRML{name}Node") for name in ("Volume", "Segmentation")
    ]
    assert left_behind == [0, 0]
    with resultInScene(blob_volume, blob_result) as nodes:
        assert make_pictures(blob_volume, blob_result, (12, 18, 10), lambda: nodes) == shown
    page = build_page(blob_result, document, shown)
    reader = Reader(page)
    assert "The same place in 3D Slicer" in reader.text
    sources = [value for tag, name, value in reader.attributes if (tag, name) == ("img", "src")]
    assert len(sources) == 10
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_without_slicer_the_page_is_complete(monkeypatch, blob_volume, blob_result, document):
    monkeypatch.setitem(sys.modules, "slicer", None)
    assert "install slicer-core" in whyNoSlicer()
    shown = make_pictures(blob_volume, blob_result, (12, 18, 10))
    assert [picture.kind for picture in shown.pictures] == ["outlines", "variance"] * 3
    page = build_page(blob_result, document, shown)
    assert "The same place in 3D Slicer" not in page
    assert "missing" not in Reader(page).text


def test_another_package_called_slicer_is_not_taken_for_it(monkeypatch, blob_volume, blob_result):
    monkeypatch.setitem(sys.modules, "slicer", types.ModuleType("slicer"))
    assert "is not Slicer's" in whyNoSlicer()
    assert not isRenderingAvailable()
    assert make_pictures(blob_volume, blob_result, (12, 18, 10)).views_failed == ""


def test_a_failure_of_slicer_costs_its_views_only(tmp_path, monkeypatch, blob_volume, blob_result, document):
    def fail(*_):
        raise RuntimeError("no <context>.")

    monkeypatch.setattr(pictures_module, "isRenderingAvailable", lambda: True)
    monkeypatch.setattr("MedSegUncertaintyLib.scene.bundle.resultInScene", fail)
    write_report(tmp_path / "report.html", blob_volume, blob_result, document)
    reader = Reader((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "The views of 3D Slicer are missing because of an error: RuntimeError: no <context>. " in reader.text
    assert reader.tags.count("figure") == 6


@pytest.mark.parametrize("error", [CanceledError, MemoryError])
def test_cancel_and_memory_errors_leave_the_report(monkeypatch, blob_volume, blob_result, error):
    def fail():
        raise error

    monkeypatch.setattr(pictures_module, "isRenderingAvailable", fail)
    with pytest.raises(error):
        make_pictures(blob_volume, blob_result, (12, 18, 10))


def test_the_window_is_that_of_the_model(monkeypatch, blob_volume, blob_result, document):
    monkeypatch.setitem(sys.modules, "slicer", None)
    array = blob_volume.array
    low, high = make_pictures(blob_volume, blob_result, (12, 18, 10)).window
    assert array.min() < low < 100 < high < array.max()
    object.__setattr__(blob_result.package, "modality", "CT")
    object.__setattr__(blob_result.package, "intensity", IntensityRule("window", -160, 240))
    shown = make_pictures(blob_volume, blob_result, (12, 18, 10))
    assert shown.window == (-160.0, 240.0)
    assert "gray: -160 to 240 HU" in build_page(blob_result, document, shown)


def test_one_sample_has_no_interval(blob_volume, blob_result):
    result = with_samples(blob_result, 1)
    page = page_of(blob_volume, result, build_document(result))
    text = " ".join(Reader(page).text.split())
    assert "1 plausible segmentation of Left blob and Right blob" in text
    assert "one sample has no spread; prediction" in text
    assert "There is only one sample; three slices through the middle of the segmented region" in text
    assert "where the samples differ most" not in text
    assert "One sample has no spread, so there is no interval." in text
    assert 'class="band"' not in page
    (row,) = re.findall(r"<tr>(<td>Left blob</td>.*?)</tr>", page)
    assert re.findall(r"<td>([^<]*)</td>", row)[2:5] == ["none"] * 3
    assert re.findall(r"<td>([^<]*)</td>", row)[6] == "none"


@pytest.mark.parametrize(("count", "explained"), [(19, True), (20, False)])
def test_few_samples_are_explained(blob_volume, blob_result, document, count, explained):
    document["samples"] = count
    text = Reader(page_of(blob_volume, blob_result, document)).text
    assert (f"With {count} samples the outer line" in text) == explained


def test_a_structure_at_the_edge_is_warned_of(blob_volume, blob_result, document):
    for entry, touching in zip(document["structures"], (0, 5), strict=True):
        entry["samples_touching_region_edge"] = touching
    document["request"]["roi"] = {"center_ras": [0, 0, 0], "size_mm": [9, 9, 9]}
    page = page_of(blob_volume, blob_result, document)
    left, right = page.split('<div class="card"')[1:]
    assert "Warning" not in left
    assert (
        "Warning: reaches the edge of the segmented region in 5 of 8 samples: its volume may be cut off; use a larger "
        "region." in right
    )


def test_equal_and_empty_samples_make_a_page(blob_volume, blob_result, document):
    statistics = blob_result.statistics
    for array in (statistics.variance, statistics.agreement, statistics.prediction, statistics.volumes_ml):
        array[:] = 0
    document = build_document(blob_result)
    text = Reader(page_of(blob_volume, blob_result, document)).text
    assert "All samples are equal." in text
    assert "The samples do not differ; three slices through the middle of the segmented region" in text
    assert "where the samples differ most" not in text


def test_report_is_one_utf8_file(tmp_path, blob_volume, blob_result, document):
    write_report(tmp_path / "report.html", blob_volume, blob_result, document)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert len(text) < 3_000_000


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.000"), (0.1234, "0.123"), (3.456, "3.46"), (34.56, "34.6"), (345.6, "346")]
)
def test_milliliters_have_three_digits(value, text):
    assert milliliters(value) == text


def test_dates_and_numbers_survive_numpy_types(blob_volume, blob_result):
    document = build_document(blob_result)
    assert json.loads(json.dumps(document)) == document
    assert isinstance(document["most_uncertain"]["place"]["ras"][0], float)
    assert not isinstance(document["most_uncertain"]["place"]["ras"][0], np.floating)
