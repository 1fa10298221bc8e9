"""Slices as squares and back: places stay where they are, whatever the pixels."""

import numpy as np
import pytest
from MedSegUncertaintyLib.volumes.squares import Square


def test_square_of_the_same_pixels_changes_nothing_but_the_smoothing():
    square = Square.around((32, 32), (1.0, 1.0), 32)
    ramp = np.arange(32.0)[:, None] + np.zeros(32)
    inner = square.cut(ramp)[4:-4, 4:-4]
    np.testing.assert_allclose(inner, ramp[4:-4, 4:-4], atol=1e-4)


def test_padding_is_zero_and_central():
    cut = Square.around((16, 32), (1.0, 1.0), 32).cut(np.ones((3, 16, 32)))
    assert cut.shape == (3, 32, 32)
    assert not cut[:, :6].any()
    assert not cut[:, -6:].any()
    np.testing.assert_allclose(cut[:, 10:-10, 2:-2], 1.0, atol=1e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.5), (2.0, 0.8)])
def test_there_and_back_keeps_places(spacing):
    rows, columns = np.indices((60, 48))
    middle = (22.0, 30.0)
    distance = np.hypot((rows - middle[0]) * spacing[0], (columns - middle[1]) * spacing[1])
    image = np.exp(-0.5 * (distance / 6) ** 2)
    square = Square.around(image.shape, spacing, 128)
    np.testing.assert_allclose(square.put(square.cut(image)), image, atol=0.05)


def test_part_of_a_slice_goes_back_to_its_place_alone():
    image = np.random.default_rng(0).random((40, 40))
    square = Square(image.shape, (1.0, 1.0), (9.5, 24.5), 16.0, 16)
    back = square.put(square.cut(image))
    assert square.inside.sum() == 16 * 16
    assert not back[~square.inside].any()
    assert np.corrcoef(back[square.inside], image[square.inside])[0, 1] > 0.9


def test_fine_patterns_do_not_alias():
    stripes = np.zeros((128, 128))
    stripes[::2] = 1
    cut = Square.around(stripes.shape, (1.0, 1.0), 32).cut(stripes)
    assert np.abs(cut[4:-4, 4:-4] - 0.5).max() < 0.05


def test_labels_get_soft_edges():
    mask = np.zeros((64, 64))
    mask[20:41, 20:41] = 1
    cut = Square.around(mask.shape, (1.0, 1.0), 32).cut(mask)
    assert ((cut > 0.05) & (cut < 0.95)).any()
    assert 0.9 < cut.sum() * 4 / mask.sum() < 1.1
