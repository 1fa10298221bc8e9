"""Sides of the patient, and voxels that are refused wherever they come from."""

import numpy as np
import pytest
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import check_finite, check_voxels, direction_letter

from .conftest import AXES

KINDS = [np.uint8, np.int16, np.int64, np.uint64, np.float16, np.float32, np.float64]


def test_letters_name_the_sides_to_which_the_axes_of_ras_point():
    for letter, direction in AXES.items():
        axis = int(np.abs(direction).argmax())
        assert direction_letter(axis, direction[axis] > 0) == letter


@pytest.mark.parametrize("dtype", [bool, *KINDS])
def test_finite_voxels_with_contrast_pass(dtype):
    check_voxels(np.array([[[0, 1], [1, 1]]], dtype), "T1")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("check", [check_voxels, check_finite])
def test_voxels_that_are_not_finite_are_counted(check, bad):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    array[1, 0, :3] = bad
    with pytest.raises(BadInputError) as caught:
        check(array, "T1")
    assert str(caught.value) == "3 of 24 voxels of 'T1' are NaN or infinite; replace them first."


@pytest.mark.parametrize("dtype", [bool, *KINDS])
def test_one_value_everywhere_is_no_image_but_may_be_a_label_map(dtype):
    array = np.ones((2, 3, 4), dtype)
    with pytest.raises(BadInputError) as caught:
        check_voxels(array, "T1")
    assert str(caught.value) == "All voxels of 'T1' have the value 1; choose an image with contrast."
    check_finite(array, "T1")
