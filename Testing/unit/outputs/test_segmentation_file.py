"""The files are read back by Slicer's own storage node and by SimpleITK; every voxel has to be where it was."""

import colorsys
import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.outputs import segmentation_file
from MedSegUncertaintyLib.outputs.segmentation_file import Segment, write_contours, write_samples, write_segmentation
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry

LEFT = Structure("Left", 1, (1.0, 0.5, 0.0), {"category": ("SCT", "123037004", "Anatomical Structure")})
RIGHT = Structure("Right", 2, (0.0, 0.5, 1.0), {})


def grid(flips: tuple[int, int, int]) -> Geometry:
    """An oblique anisotropic grid; a flip turns an axis around, (1, 1, -1) makes it left-handed."""
    a, b = np.radians(20), np.radians(-35)
    about_s = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_r = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return Geometry.from_parts((13, 11, 7), (0.7, 1.3, 2.9), (-31.5, 12.25, 40.125), about_s @ about_r @ np.diag(flips))


def random_layers(count: int, shape_kji: tuple[int, int, int]) -> list[np.ndarray]:
    layers = [np.zeros(shape_kji, dtype=np.uint8) for _ in range(count)]
    rng = np.random.default_rng(3)
    for layer in layers:
        layer[1:-1, 2:-1, 1:-2] = rng.integers(0, 3, layer[1:-1, 2:-1, 1:-2].shape)
    return layers


def load_in_slicer(path: Path) -> dict[str, tuple[np.ndarray, str, np.ndarray]]:
    """Name to (mask on the reference grid (K, J, I), serialized reference geometry, IJK-to-RAS) of every segment."""
    slicer = pytest.importorskip("slicer")
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(scene)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node), storage.GetUserMessages().GetAllMessagesAsString()
    segmentation, loaded = node.GetSegmentation(), {}
    reference = segmentation.GetConversionParameter("Reference image geometry")
    whole = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(reference, whole)
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        image = segment.GetRepresentation("Binary labelmap")
        mask = np.zeros(whole.GetDimensions()[::-1], dtype=bool)
        i0, i1, j0, j1, k0, k1 = image.GetExtent()
        if image.GetNumberOfPoints():
            voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
            mask[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = voxels == segment.GetLabelValue()
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        to_ras = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
        loaded[segment.GetName()] = (mask, reference, to_ras)
    return loaded


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (1, 1, -1)])
@pytest.mark.parametrize("count", [1, 3])
def test_every_voxel_is_where_it_was_in_slicer_and_in_simpleitk(tmp_path, flips, count):
    geometry, box = grid(flips), Box((1, 0, 2), (13, 10, 7))
    layers = random_layers(count, geometry.cropped(box).shape_kji)
    segments = [
        Segment(f"{n}_{structure.slug}", f"{structure.name} {n}", structure, n, structure.color)
        for n in range(count)
        for structure in (LEFT, RIGHT)
    ]
    path = tmp_path / "test.seg.nrrd"
    write_segmentation(path, layers, segments, geometry, box)

    loaded = load_in_slicer(path)
    assert len(loaded) == 2 * count
    for segment in segments:
        mask, _, to_ras = loaded[segment.name]
        expected = np.zeros(geometry.shape_kji, dtype=bool)
        expected[box.slices_kji] = layers[segment.layer] == segment.structure.label
        np.testing.assert_array_equal(mask, expected)
        np.testing.assert_allclose(to_ras, geometry.ijk_to_ras, atol=1e-9)

    image = sitk.ReadImage(str(path))
    assert image.GetNumberOfComponentsPerPixel() == count
    voxels = sitk.GetArrayFromImage(image).reshape(*image.GetSize()[::-1], count)
    for n in range(count):
        whole = np.zeros(geometry.shape_kji, dtype=np.uint8)
        whole[box.slices_kji] = layers[n]
        k, j, i = np.argwhere(whole)[0]
        lps = geometry.to_ras(np.array([i, j, k])) * (-1, -1, 1)
        c, r, s = image.TransformPhysicalPointToIndex([float(x) for x in lps])
        assert voxels[s, r, c, n] == whole[k, j, i]
        assert np.bincount(voxels[..., n].ravel()).tolist()[1:] == np.bincount(whole.ravel()).tolist()[1:]


def test_samples_that_overlap_are_all_kept(tmp_path, blob_result: InferenceResult):
    write_samples(tmp_path / "samples.seg.nrrd", blob_result)
    loaded = load_in_slicer(tmp_path / "samples.seg.nrrd")
    assert len(loaded) == 16
    for index, labels in enumerate(blob_result.samples):
        for structure in blob_result.structures:
            mask = loaded[f"Sample {index + 1}: {structure.name}"][0]
            np.testing.assert_array_equal(mask, blob_result.on_grid(labels == structure.label))


def test_contours_of_neighbors_that_overlap_are_all_kept(tmp_path, blob_result: InferenceResult):
    write_contours(tmp_path / "contours.seg.nrrd", blob_result)
    loaded = load_in_slicer(tmp_path / "contours.seg.nrrd")
    for level in CONTOUR_LEVELS:
        for index, structure in enumerate(blob_result.structures):
            mask = loaded[f"{structure.name}: {100 * level:.0f} % of samples"][0]
            np.testing.assert_array_equal(mask, blob_result.on_grid(blob_result.contour(index, level)))


@pytest.mark.parametrize("empty", [(1,), (0, 1, 2)])
def test_an_empty_sample_stays_an_empty_segment(tmp_path, empty):
    geometry = grid((1, 1, 1))
    layers = random_layers(3, geometry.shape_kji)
    for index in empty:
        layers[index][:] = 0
    segments = [Segment(f"s{n}", f"Sample {n}", LEFT, n, LEFT.color) for n in range(3)]
    write_segmentation(tmp_path / "a.seg.nrrd", layers, segments, geometry, geometry.whole())
    loaded = load_in_slicer(tmp_path / "a.seg.nrrd")
    assert list(loaded) == ["Sample 0", "Sample 1", "Sample 2"]
    for n in range(3):
        np.testing.assert_array_equal(loaded[f"Sample {n}"][0], layers[n] == 1)


def test_slabs_do_not_change_the_file(tmp_path, monkeypatch, blob_result: InferenceResult):
    write_samples(tmp_path / "one.seg.nrrd", blob_result)
    monkeypatch.setattr(segmentation_file, "SLAB_BYTES", 1)
    write_samples(tmp_path / "many.seg.nrrd", blob_result)
    assert (tmp_path / "one.seg.nrrd").read_bytes() == (tmp_path / "many.seg.nrrd").read_bytes()


def test_names_colors_and_terminology_reach_the_file(tmp_path, blob_result: InferenceResult):
    write_samples(tmp_path / "samples.seg.nrrd", blob_result)
    image = sitk.ReadImage(str(tmp_path / "samples.seg.nrrd"))
    structure = blob_result.structures[1]
    assert image.GetMetaData("Segment3_Name") == "Sample 2: Right blob"
    assert image.GetMetaData("Segment3_ID") == "sample_02_right_blob"
    assert image.GetMetaData("Segment3_Layer") == "1"
    assert image.GetMetaData("Segment3_LabelValue") == "2"
    hue = [colorsys.rgb_to_hls(*map(float, image.GetMetaData(f"Segment{n}_Color").split()))[0] for n in (1, 3, 15)]
    assert hue == pytest.approx([colorsys.rgb_to_hls(*structure.color)[0]] * 3, abs=1e-3)
    assert structure.terminology_entry() in image.GetMetaData("Segment3_Tags")


def test_a_name_with_a_line_break_does_not_break_the_header(tmp_path):
    geometry = grid((1, 1, 1))
    layers = random_layers(1, geometry.shape_kji)
    segments = [Segment("s", "Größe\nSegment0_Layer:=7 \\ end", LEFT, 0, LEFT.color)]
    write_segmentation(tmp_path / "a.seg.nrrd", layers, segments, geometry, geometry.whole())
    header, voxels = (tmp_path / "a.seg.nrrd").read_bytes().split(b"\n\n", 1)
    assert "Segment0_Name:=Größe\\nSegment0_Layer:=7 \\\\ end" in header.decode().splitlines()
    assert gzip.decompress(voxels)
    assert "Größe\nSegment0_Layer:=7 \\ end" in load_in_slicer(tmp_path / "a.seg.nrrd")
