import base64
import zlib
from itertools import pairwise

import numpy as np
import pytest
from MedSegUncertaintyLib.report.drawing import heat_pixels
from MedSegUncertaintyLib.report.outlines import outlines
from MedSegUncertaintyLib.report.png import png_uri
from MedSegUncertaintyLib.report.slices import orthogonal_views
from MedSegUncertaintyLib.report.volume_plot import axis_ticks, tick_decimals
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry


def enclosed(lines: list, x: float, y: float) -> bool:
    """Even-odd rule for closed lines."""
    crossings = 0
    for line in lines:
        for (x0, y0), (x1, y1) in pairwise(line):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                crossings += 1
    return crossings % 2 == 1


@pytest.mark.parametrize("seed", range(5))
def test_outlines_are_closed_and_enclose_exactly_the_pixels_above_the_level(seed):
    values = np.random.default_rng(seed).integers(0, 9, (9, 12)) / 8
    lines = outlines(values, 0.4375)
    assert all(line[0] == line[-1] for line in lines)
    for row, column in np.ndindex(values.shape):
        assert enclosed(lines, column + 1e-4, row + 2e-4) == (values[row, column] > 0.4375)


def test_outline_runs_midway_between_pixels_of_a_mask():
    (line,) = outlines(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]), 0.5)
    assert sorted(set(line)) == [(0.5, 1.0), (1.0, 0.5), (1.0, 1.5), (1.5, 1.0)]


@pytest.mark.parametrize(
    "direction",
    [
        np.diag([1.0, 1.0, 1.0]),
        np.diag([-1.0, -1.0, 1.0]),
        np.array([[0, 0, 1.0], [1, 0, 0], [0, -1, 0]]),  # I to A, J to I, K to R
        np.array([[0, 1.0, 0], [0, 0, -1], [-1, 0, 0]]),
    ],
)
def test_pictures_are_turned_the_way_radiologists_look(direction):
    geometry = Geometry.from_parts((7, 6, 5), (1, 1, 1), (0, 0, 0), direction)
    center = geometry.to_ras((np.array(geometry.shape_ijk) - 1) / 2)
    kji = np.indices(geometry.shape_kji)
    ras = geometry.to_ras(np.stack([kji[2], kji[1], kji[0]], axis=-1)) - center
    box = geometry.whole()
    gradients = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
    letters = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "S", "I"), "sagittal": ("A", "P", "S", "I")}
    for view in orthogonal_views(geometry, (3, 2, 2)):
        horizontal, vertical = (view.pixels(ras[..., axis], box, box) for axis in gradients[view.plane])
        assert (np.diff(horizontal, axis=1) < 0).all()  # R, or A, falls toward the right edge
        assert (np.diff(vertical, axis=0) < 0).all()  # A, or S, falls toward the lower edge
        assert view.letters == letters[view.plane]


def test_arrays_of_a_box_are_laid_over_the_right_pixels():
    geometry = Geometry.from_parts((8, 7, 6), (1, 1, 1))
    whole = np.arange(8 * 7 * 6).reshape(6, 7, 8) + 1
    box, shown = Box((2, 1, 1), (6, 6, 5)), Box((1, 2, 0), (7, 7, 6))
    inside = np.zeros_like(whole)
    inside[box.slices_kji] = whole[box.slices_kji]
    for view in orthogonal_views(geometry, (3, 3, 2)):
        expected = view.pixels(inside, geometry.whole(), shown)
        np.testing.assert_array_equal(view.pixels(whole[box.slices_kji], box, shown), expected)
        assert expected.any()
    for view in orthogonal_views(geometry, (0, 0, 0)):  # outside of the box
        assert not view.pixels(whole[box.slices_kji], box, shown).any()


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3), (3, 5, 4)])
def test_png_holds_the_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    data = base64.b64decode(png_uri(pixels).removeprefix("data:image/png;base64,"))
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    length = int.from_bytes(data[33:37], "big")
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8).reshape(3, -1)
    np.testing.assert_array_equal(np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8), pixels.reshape(3, -1))
    image_module = pytest.importorskip("matplotlib.image")
    import io

    read = np.rint(255 * image_module.imread(io.BytesIO(data), format="png")).astype(np.uint8)
    np.testing.assert_array_equal(read, pixels)


def test_heat_scale_is_fixed_and_hides_what_agrees():
    pixels = heat_pixels(np.array([[0.0, 0.009, 0.0625, 0.25]]))
    assert pixels[0, :, 3].tolist()[:2] == [0, 0]
    assert pixels[0, 2:, 3].min() > 100
    assert pixels[0, 3, :3].tolist() == [252, 255, 164]
    np.testing.assert_array_equal(heat_pixels(np.array([[0.0625]]))[0, 0], pixels[0, 2])


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (3.2, 3.2), (0.431, 2.2), (812.0, 1431.0), (0.0, 1e-3)])
def test_axis_holds_all_values_between_round_ticks(low, high):
    ticks = axis_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    texts = [f"{tick:.{tick_decimals(ticks)}f}" for tick in ticks]
    assert len(set(texts)) == len(texts)
    assert [float(text) for text in texts] == pytest.approx(ticks)
