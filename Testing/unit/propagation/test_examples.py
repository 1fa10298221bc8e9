"""Examples that cannot be used are refused, each with one sentence; stacks know where their slices come from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.propagation.examples import (
    Example,
    check_example,
    marks_of,
    plane_with_fewest,
    structures_of,
)
from MedSegUncertaintyLib.propagation.scenes import Marks, focus, frame
from MedSegUncertaintyLib.propagation.stacks import SOFT_TISSUE_HU, WIDE_HU, ct_window, make_stack
from MedSegUncertaintyLib.volumes.geometry import Geometry, RegionOfInterest, Volume

from .conftest import SIZE, ball


def with_labels(outlines: Volume, array: np.ndarray, geometry: Geometry | None = None) -> Volume:
    return Volume(array, geometry or outlines.geometry, "outlines")


def turned(geometry: Geometry) -> Geometry:
    """The same numbers of voxels with columns along A and rows along L."""
    direction = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    return Geometry.from_parts(geometry.shape_ijk, (1, 1, 1), direction_ras=direction)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda v: with_labels(v, v.array * 0), "The support 'outlines' is empty; outline each"),
        (lambda v: with_labels(v, v.array * 0.5), "holds values that are no labels"),
        (lambda v: with_labels(v, -v.array), "holds values that are no labels"),
        (
            lambda v: with_labels(v, np.arange(v.array.size).reshape(v.array.shape) % 200),
            "has more than 32 labels; give a label map and not an image",
        ),
        (
            lambda v: with_labels(v, v.array[:, :-2], Geometry.from_parts((32, 30, 30), (1, 1, 1))),
            "has 32 x 30 x 30 voxels, which are not the 32 x 32 x 30 of its image 'ball'",
        ),
        (
            lambda v: with_labels(v, v.array, Geometry.from_parts((32, 32, 30), (1, 1, 1), (50, 0, 0))),
            "lies at another place or has other voxels than its image",
        ),
        (lambda v: with_labels(v, v.array, turned(v.geometry)), "has another orientation than its image"),
    ],
)
def test_bad_label_maps_are_refused(ball_volume, ball_outlines, change, sentence):
    with pytest.raises(BadInputError, match=sentence) as caught:
        check_example(Example(change(ball_outlines)), ball_volume)
    assert str(caught.value).count(". ") == 0


def test_label_map_must_fit_its_own_image_and_not_the_query(ball_volume, ball_outlines):
    smaller = Geometry.from_parts((SIZE, SIZE, 25), (1, 1, 1))
    other = Volume(ball_volume.array[:25], smaller, "other")
    check_example(Example(with_labels(ball_outlines, ball_outlines.array[:25], smaller), other), ball_volume)
    with pytest.raises(BadInputError, match="of its image 'other'"):
        check_example(Example(ball_outlines, other), ball_volume)


def marked(volume, labels, absent=(), label=1):
    return marks_of(labels, make_stack(volume, "axial"), label, "lesion", absent)


def test_only_outlined_slices_are_examples(ball_volume, ball_outlines):
    marks = marked(ball_volume, ball_outlines, absent=(2, 26))
    assert sorted(marks.masks) == [9, 14, 19]
    assert marks.absent == {2, 26}


def test_single_voxel_is_no_example(ball_volume, ball_outlines):
    array = np.zeros_like(ball_outlines.array)
    array[14, 15, 15] = 1
    with pytest.raises(BadInputError, match="largest outline of lesion in 'outlines' has 1 pixel; outline at least 4"):
        marked(ball_volume, with_labels(ball_outlines, array))


def test_whole_slice_is_no_example(ball_volume, ball_outlines):
    array = np.zeros_like(ball_outlines.array)
    array[14] = 1
    with pytest.raises(BadInputError, match="outline of lesion in slice 14 of 'outlines' covers the whole slice"):
        marked(ball_volume, with_labels(ball_outlines, array))


def test_slice_cannot_be_outlined_and_empty(ball_volume, ball_outlines):
    with pytest.raises(BadInputError, match="Slice 14 is marked as without lesion and has an outline"):
        marked(ball_volume, ball_outlines, absent=(14,))


def test_empty_slice_must_be_there(ball_volume, ball_outlines):
    with pytest.raises(BadInputError, match="Slice 48, marked as without lesion, is not one of the slices 0 to 29"):
        marked(ball_volume, ball_outlines, absent=(48,))


def test_structures_of_several_files_come_together(ball_outlines):
    other = with_labels(ball_outlines, np.where(ball_outlines.array > 0, 7, 0))
    structures, labels = structures_of([Example(ball_outlines, names={1: "Liver"}), Example(other)])
    assert [structure.name for structure in structures] == ["Liver", "label 7"]
    assert [structure.label for structure in structures] == [1, 2]
    assert labels == (1, 7)


def test_structures_need_different_names(ball_outlines):
    other = with_labels(ball_outlines, np.where(ball_outlines.array > 0, 7, 0))
    with pytest.raises(BadInputError, match="need names that differ"):
        structures_of([Example(ball_outlines, names={1: "Liver"}), Example(other, names={7: "liver!"})])


@pytest.mark.parametrize(("axis", "plane"), [(0, "axial"), (1, "coronal"), (2, "sagittal")])
def test_plane_is_the_one_with_fewest_outlined_slices(ball_volume, axis, plane):
    labels = np.zeros(ball_volume.array.shape, np.int64)
    where = [slice(None)] * 3
    where[axis] = [12, 16]
    labels[tuple(where)] = ball()[tuple(where)]
    assert plane_with_fewest(Volume(labels, ball_volume.geometry)) == plane


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (1, -1, -1)])
def test_slices_know_their_index_in_the_volume(plane, flips):
    geometry = Geometry.from_parts((9, 8, 7), (1.0, 1.0, 1.0), direction_ras=np.diag(flips))
    array = np.random.default_rng(0).random(geometry.shape_kji).astype(np.float32) + 1
    roi = RegionOfInterest(tuple(geometry.to_ras([4, 4, 3])), (6, 6, 4))
    for region in (None, roi):
        stack = make_stack(Volume(array, geometry), plane, roi=region)
        box = array[stack.placement.box.slices_kji]
        for number, image in enumerate(stack.images):
            index = stack.index_of(number)
            assert stack.slice_of(index) == number
            first = stack.placement.box.start_ijk[2 - stack.axis]
            own = np.take(box, index - first, axis=stack.axis)
            low, high = np.percentile(array, (0.5, 99.5))
            scaled = np.sort(((own - low) / (high - low)).clip(0, 1).ravel())
            np.testing.assert_allclose(np.sort(image.ravel()), scaled, atol=1e-5)


def test_stacks_of_one_plane_are_turned_the_same_way(ball_volume):
    array = ball_volume.array.copy()
    array[:, 4, 6] = 400
    plain = make_stack(Volume(array, ball_volume.geometry), "axial")
    mirrored = Geometry(ball_volume.geometry.shape_ijk, ball_volume.geometry.ijk_to_ras @ np.diag([-1, -1, 1, 1.0]))
    flipped = make_stack(Volume(np.ascontiguousarray(array[:, ::-1, ::-1]), mirrored), "axial")
    np.testing.assert_array_equal(plain.images, flipped.images)


def test_flat_pixels_belong_to_another_plane(ball_volume):
    thick = replace(ball_volume, geometry=Geometry.from_parts((SIZE, SIZE, 30), (1, 1, 7)))
    with pytest.raises(BadInputError, match="coronal slices of 'ball' have pixels of 7 x 1 mm; choose the plane"):
        make_stack(thick, "coronal")


def test_ct_is_shown_in_the_window_of_what_was_outlined():
    array = np.random.default_rng(0).uniform(-1000, 1000, (8, 8, 8))
    array[4] = 50
    assert ct_window(array, None) == WIDE_HU
    assert ct_window(array, np.arange(8)[:, None, None] == 4 + 0 * array) == SOFT_TISSUE_HU
    assert ct_window(array, array > 300) == WIDE_HU
    assert ct_window(array + 2000, None) is None


def test_large_structures_are_looked_at_again_in_smaller_pixels(ball_volume):
    stack = make_stack(ball_volume, "axial")
    small, large = np.zeros((2, SIZE, SIZE), bool)
    small[4:8, 4:8], large[2:30, 2:30] = True, True
    framed = [frame(stack, Marks({4: mask}), [], 12, False, torch.device("cpu")) for mask in (small, large)]
    assert [one.square.size for one in framed] == [12, 12]
    assert framed[0].scene.closeup is None
    image, mask = framed[1].scene.closeup.examples[4]
    assert image.shape == mask.shape == (22, 22)
    assert float(mask.sum()) == pytest.approx(28 * 28 * (22 / 32) ** 2, rel=0.03)


def test_large_structures_of_other_images_are_seen_with_twice_the_pixels(ball_volume):
    stack, mask = make_stack(ball_volume, "axial"), np.zeros((SIZE, SIZE), bool)
    mask[2:30, 2:30] = True
    framed = frame(stack, Marks({}), [(stack, Marks({4: mask}))], 12, False, torch.device("cpu"))
    assert framed.square.size == 24
    assert framed.scene.closeup is None


def test_square_holds_the_outlines_and_stays_inside(ball_volume):
    stack = make_stack(ball_volume, "axial")
    mask = np.zeros((SIZE, SIZE), bool)
    mask[2:10, 3:9] = True
    square = focus(stack, Marks({4: mask}), 64, whole=False)
    assert square.side_mm == 24
    assert not mask[~square.inside].any()
    assert focus(stack, Marks({4: mask}), 64, whole=True).side_mm == SIZE
