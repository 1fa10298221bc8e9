"""Support sets: there and back without a loss, nothing about patients inside, and whatever is wrong in one sentence."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.outputs.support_set import INDEX, read_support_set, write_support_set
from MedSegUncertaintyLib.propagation.examples import Example
from MedSegUncertaintyLib.propagation.support_set import SupportSet
from MedSegUncertaintyLib.volumes.geometry import Geometry, Volume

COS, SIN = np.cos(0.3), np.sin(0.3)
OBLIQUE = Geometry.from_parts(
    (9, 8, 7), (0.7, 1.1, 2.3), (-3.3, 7.1, 1 / 3), np.array([[-COS, -SIN, 0], [-SIN, COS, 0], [0, 0, 1.0]])
)
PLAIN = Geometry.from_parts((6, 5, 4), (1, 1, 1))
SECRET = "Doe^Jane 1950-01-01"


def volume(geometry: Geometry, dtype: str, seed: int = 0) -> Volume:
    array = np.random.default_rng(seed).normal(100, 30, geometry.shape_kji).astype(dtype)
    return Volume(array, geometry, SECRET)


def labels(geometry: Geometry, **slices: int) -> Volume:
    array = np.zeros(geometry.shape_kji, np.int64)
    for name, label in slices.items():
        array[int(name[1:]), 1:4, 2:5] = label
    return Volume(array, geometry, SECRET)


@pytest.fixture
def support_set() -> SupportSet:
    """Two label maps of the volume at hand, and one of another image."""
    return SupportSet(
        "axial",
        (
            Example(labels(OBLIQUE, k2=3)),
            Example(labels(OBLIQUE, k4=700)),
            Example(labels(PLAIN, k1=3), volume(PLAIN, "int16"), absent={"Liver": (3,)}),
        ),
        {"Liver": (0, 6), "Gall bladder": (0,)},
        {3: "Liver", 700: "Gall bladder"},
        {3: (0.8, 0.2, 0.1), 700: (0.1, 1 / 3, 0.5)},
    )


@pytest.fixture
def written(support_set: SupportSet, tmp_path: Path) -> Path:
    write_support_set(support_set, replace(volume(OBLIQUE, "float32"), scaled=False), tmp_path / "set")
    return tmp_path / "set"


def test_there_and_back_is_exact(support_set, written):
    read = read_support_set(written)
    assert (read.plane, read.absent, read.names) == ("axial", support_set.absent, support_set.names)
    assert read.colors == support_set.colors
    own, other = read.examples
    for image, expected in ((own.image, volume(OBLIQUE, "float32")), (other.image, volume(PLAIN, "int16"))):
        np.testing.assert_array_equal(image.array, expected.array)
        assert image.array.dtype == expected.array.dtype
        np.testing.assert_array_equal(image.geometry.ijk_to_ras, expected.geometry.ijk_to_ras)
    assert (own.image.scaled, other.image.scaled) == (False, True)
    np.testing.assert_array_equal(own.labels.array, labels(OBLIQUE, k2=3, k4=700).array)
    np.testing.assert_array_equal(other.labels.array, labels(PLAIN, k1=3).array)
    np.testing.assert_array_equal(own.labels.geometry.ijk_to_ras, OBLIQUE.ijk_to_ras)
    assert (own.absent, other.absent) == (support_set.absent, {"Liver": (3,)})
    assert [one.image.name for one in read.elsewhere()] == ["image-0", "image-1"]


def test_what_was_read_is_written_the_same(written, tmp_path):
    write_support_set(read_support_set(written), None, tmp_path / "again")
    for path in written.iterdir():
        if path.name != INDEX:
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_examples_take_image_and_marks_along(support_set):
    image = volume(OBLIQUE, "float32")
    first, _, other = support_set.elsewhere(image)
    assert first.image is image
    assert first.absent == support_set.absent
    assert first.names == support_set.names
    assert other.absent == {"Liver": (3,)}


def test_nothing_about_the_patient_is_written(written):
    names = {path.name for path in written.iterdir()}
    assert names == {INDEX, "image-0.nrrd", "image-0.seg.nrrd", "image-1.nrrd", "image-1.seg.nrrd"}
    allowed = re.compile(
        r"NRRD\d{4}|#.*|(type|dimension|space|sizes|space directions|kinds|endian|encoding|space origin): .*"
        r"|(Segment\d+|Segmentation)_\w+:=.*"
    )
    for path in written.iterdir():
        content = path.read_bytes()
        assert b"Doe" not in content
        assert b"1950" not in content
        if path.suffix == ".nrrd":
            header = content.split(b"\n\n")[0].decode().splitlines()
            assert all(allowed.fullmatch(line) for line in header), header
            assert [line for line in header if line.startswith("#")] in (
                [],
                ["# Complete NRRD file format specification at:", "# http://teem.sourceforge.net/nrrd/format.html"],
            )
    assert set(json.loads((written / INDEX).read_text())) == {
        "format", "format_version", "plane", "structures", "images", "sha256",
    }  # fmt: skip


def test_an_earlier_set_is_replaced_and_other_files_are_not(support_set, written):
    single = replace(support_set, examples=support_set.examples[:1])
    write_support_set(single, volume(OBLIQUE, "float32"), written)
    assert {path.name for path in written.iterdir()} == {INDEX, "image-0.nrrd", "image-0.seg.nrrd"}
    (written / "thesis.docx").write_text("precious")
    with pytest.raises(BadInputError, match=r"holds files of others, such as thesis\.docx; choose another folder"):
        write_support_set(single, volume(OBLIQUE, "float32"), written)
    assert read_support_set(written).examples


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: replace(s, examples=()), "There is nothing to keep"),
        (lambda s: replace(s, examples=(Example(labels(PLAIN, k1=3)),)), "resample it to that image"),
        (
            lambda s: replace(s, examples=(Example(labels(OBLIQUE, k2=3)), Example(labels(OBLIQUE, k2=700)))),
            "overlaps another one of its image",
        ),
    ],
)
def test_what_cannot_be_kept_is_said(support_set, tmp_path, change, sentence):
    with pytest.raises(BadInputError, match=sentence):
        write_support_set(change(support_set), volume(OBLIQUE, "float32"), tmp_path / "set")
    assert not (tmp_path / "set" / INDEX).exists()


def test_images_are_needed(support_set, tmp_path):
    with pytest.raises(BadInputError, match="has no image; give the image that it outlines"):
        write_support_set(support_set, None, tmp_path / "set")


def test_a_file_in_the_way_is_said(support_set, tmp_path):
    (tmp_path / "set").write_text("")
    with pytest.raises(BadInputError, match=r"cannot be written \(File exists\); choose another folder"):
        write_support_set(support_set, volume(OBLIQUE, "float32"), tmp_path / "set")


def changed(folder: Path, change) -> None:
    document = json.loads((folder / INDEX).read_text())
    change(document)
    (folder / INDEX).write_text(json.dumps(document))


def replaced_file(folder: Path) -> None:
    """Another label map with the right checksum."""
    other = (folder / "image-0.seg.nrrd").read_bytes()
    (folder / "image-1.seg.nrrd").write_bytes(other)
    changed(folder, lambda d: d["sha256"].update({"image-1.seg.nrrd": hashlib.sha256(other).hexdigest()}))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / INDEX).unlink(), "holds no support set"),
        (lambda f: (f / INDEX).write_text("{"), "support-set.json is none of ours"),
        (lambda f: (f / INDEX).write_text("[]"), "support-set.json is none of ours"),
        (lambda f: (f / INDEX).write_bytes(b"\xff\xfe"), "support-set.json is none of ours"),
        (lambda f: changed(f, lambda d: d.update(format="other")), "support-set.json is none of ours"),
        (lambda f: changed(f, lambda d: d.update(format_version=2)), "was written by a newer program"),
        (lambda f: changed(f, lambda d: d.pop("images")), "lacks something"),
        (lambda f: changed(f, lambda d: d.update(plane="oblique")), "lacks something"),
        (lambda f: changed(f, lambda d: d["images"][0].pop("geometry")), "lacks something"),
        (lambda f: changed(f, lambda d: d["images"].append(7)), "lacks something"),
        (lambda f: changed(f, lambda d: d["sha256"].clear()), "lacks something"),
        (lambda f: (f / "image-1.nrrd").unlink(), r"image-1\.nrrd is missing"),
        (lambda f: (f / "image-1.nrrd").write_bytes(b"NRRD"), r"image-1\.nrrd has changed since it was written"),
        (lambda f: changed(f, lambda d: d["images"][0].update(image="../image-0.nrrd")), "names a file that no"),
        (lambda f: changed(f, lambda d: d["images"][0].update(image="/etc/passwd")), "names a file that no"),
        (lambda f: changed(f, lambda d: d["images"][0].update(labels="image-0.seg.nrrd/..")), "names a file that no"),
        (replaced_file, "lacks something"),
    ],
)
def test_damage_is_one_sentence(written, damage, sentence):
    damage(written)
    with pytest.raises(BadInputError, match=sentence) as caught:
        read_support_set(written)
    assert str(caught.value).endswith(".")
    assert ". " not in str(caught.value)[:-1].replace("'. ", "")
