"""Files of images with several readers: what is read, and one sentence for each that cannot be."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.evaluation.readers import ReaderFile

from .conftest import IMAGES, READERS, webp, write_arrays


def test_batches_give_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "readers.npz"
    written = write_arrays(path)
    file = ReaderFile.read(path)
    assert (len(file), file.readers, file.name) == (IMAGES, READERS, "readers.npz")
    batches = list(file.batches(3))
    assert [(batch.first, len(batch.images)) for batch in batches] == [(0, 3), (3, 3), (6, 1)]
    np.testing.assert_array_equal(np.concatenate([batch.images for batch in batches]), written["images"])
    np.testing.assert_array_equal(np.concatenate([batch.masks for batch in batches]), written["masks"])


BLANK = np.frombuffer(webp(np.zeros((8, 8), np.uint8)), np.uint8)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"webp": None}, "holds no images with readers: it has no array webp."),
        ({"patient": np.arange(3)}, "has 7 images, masks of 7 and patients of 3; these numbers must be equal"),
        ({"masks_packed": np.zeros((6, 3, 32, 4), np.uint8)}, "has 7 images, masks of 6 and patients of 7"),
        ({"offsets": np.zeros(0, int)}, "has -1 images, masks of 7 and patients of 7"),
        ({"offsets": np.arange(8, dtype=np.uint64)[::-1]}, "the array offsets does not say where the images"),
        ({"offsets": np.arange(8) * 10**6}, "the array offsets does not say where the images"),
        ({"masks_packed": np.zeros((7, 0, 32, 4), np.uint8)}, r"has empty masks_packed, of shape \(7, 0, 32, 4\)."),
        ({"masks_packed": np.zeros((7, 32, 4), np.uint8)}, r"the array masks_packed has shape \(7, 32, 4\)"),
        ({"masks_packed": np.zeros((7, 3, 32, 4))}, r"shape \(7, 3, 32, 4\) and type float64\."),
        ({"webp": np.zeros(9, np.int64)}, r"the array webp has shape \(9,\) and type int64\."),
        ({"patient": np.array([None] * 7)}, "is damaged or holds something other than plain arrays."),
        ({"offsets": np.arange(8)}, "Image 0 of readers.npz is no WebP image that can be read."),
        (
            {"webp": BLANK, "offsets": np.array([0] + [len(BLANK)] * 7)},
            "Image 0 of readers.npz has 8 x 8 pixels, but its masks have 32 x 32.",
        ),
    ],
)
def test_wrong_content_is_one_sentence(tmp_path: Path, changed: dict, sentence: str) -> None:
    path = tmp_path / "readers.npz"
    write_arrays(path, **changed)
    with pytest.raises(BadInputError, match=sentence) as caught:
        list(ReaderFile.read(path).batches(4))
    assert "\n" not in str(caught.value)


def test_other_files_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "readers.npz"
    with pytest.raises(BadInputError, match=r"There is no file .+readers\.npz"):
        ReaderFile.read(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(path)
    with pytest.raises(BadInputError, match=r"readers\.npz is no npz file\."):
        ReaderFile.read(path)
    with zipfile.ZipFile(path, "w") as zipped:
        for key in ("webp", "offsets", "masks_packed", "patient"):
            zipped.writestr(key, "some text")
    with pytest.raises(BadInputError, match=r"the array webp has shape \(\) and type \|S9\."):
        ReaderFile.read(path)
    write_arrays(path)
    content = bytearray(path.read_bytes())
    content[500:600] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"readers\.npz is damaged"):
        ReaderFile.read(path)


def test_the_lidc_layout(shared: Path) -> None:
    file = ReaderFile.read(shared / "data" / "lidc" / "val.npz")
    batch = next(file.batches(20))
    assert (len(file), file.readers) == (1526, 4)
    assert batch.images.shape == (20, 128, 128)
    assert batch.masks.shape == (20, 4, 128, 128)
    assert batch.images.max() > 200
    assert batch.masks.any(axis=(1, 2, 3)).all()
