"""DICOM objects, written and read back: voxels, places, references and words."""

import dataclasses
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pydicom
import pytest
from MedSegUncertaintyLib.errors import BadInputError, MedSegError
from MedSegUncertaintyLib.inference.request import InferenceRequest, Scale
from MedSegUncertaintyLib.models.sample_kinds import AUGMENTATION
from MedSegUncertaintyLib.outputs import dicom_objects
from MedSegUncertaintyLib.outputs.dicom_objects import DicomContent, check_highdicom, dicom_writers, run_parameters
from MedSegUncertaintyLib.outputs.dicom_source import DicomSource
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS
from MedSegUncertaintyLib.volumes.dicom import read_stack, source_files
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry
from MedSegUncertaintyLib.volumes.reading import read_volume

from ..volumes.conftest import DicomSeries, enhanced

highdicom = pytest.importorskip("highdicom", reason="needs highdicom (pip install medseg-uncertainty[dicom])")


def content_on(grid: Geometry, package) -> DicomContent:
    """Random masks and maps of two structures; the median has none of the second one in its last slice."""
    rng = np.random.default_rng(7)
    shape = (2, *grid.shape_kji)
    share = rng.random(shape)
    median = rng.integers(0, 3, grid.shape_kji).astype(np.uint8)
    median[-1] *= median[-1] == 1
    return DicomContent(
        grid=grid,
        structures=package.structures,
        median=median,
        contours={level: share >= level for level in CONTOUR_LEVELS},
        mean=rng.random(shape).astype(np.float32),
        variance=(0.25 * rng.random(shape)).astype(np.float32),
        algorithm="two-blobs",
        version="0.1.0",
        sample_kind=AUGMENTATION,
        parameters={"samples": "8", "seed": "0", "temperature": "1.0"},
    )


def write(folder: Path, content: DicomContent, files: list[Path]) -> dict[str, Path]:
    folder.mkdir()
    paths = {}
    for name, writer in dicom_writers(content.structures, lambda: content, files).items():
        writer(folder / name)
        paths[name] = folder / name
    return paths


def grid_of(volume) -> Geometry:
    """Grid of a volume that highdicom read, whose axes are slice, row, column in LPS."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    matrix = affine[:, [2, 1, 0, 3]]
    return Geometry(tuple(reversed(volume.spatial_shape)), matrix)


def on_grid(array: np.ndarray, grid: Geometry, wanted: Geometry) -> np.ndarray:
    """Values (K, J, I) of a grid at every voxel of another one, zero outside; every voxel must meet one exactly."""
    found = np.zeros(wanted.shape_kji, dtype=array.dtype)
    k, j, i = np.indices(grid.shape_kji)
    ijk = wanted.to_ijk(grid.to_ras(np.stack([i, j, k], axis=-1)))
    places = np.rint(ijk).astype(int)
    assert np.abs(ijk - places).max() < 1e-3
    inside = ((places >= 0) & (places < wanted.shape_ijk)).all(axis=-1)
    assert not array[~inside].any(), "nothing lies outside"
    i, j, k = places[inside].T
    found[k, j, i] = array[inside]
    return found


def segments_on(path: Path, grid: Geometry) -> np.ndarray:
    """The segments of a file on a grid, (segments, K, J, I)."""
    volume = highdicom.seg.segread(path).get_volume(rescale_fractional=True, allow_missing_positions=True)
    return np.stack([on_grid(volume.array[..., n], grid_of(volume), grid) for n in range(volume.array.shape[-1])])


def map_on(path: Path, grid: Geometry) -> np.ndarray:
    volume = highdicom.imread(path).get_volume(apply_real_world_transform=False, dtype=np.float32)
    return on_grid(volume.array, grid_of(volume), grid)


def check_voxels(paths: dict[str, Path], content: DicomContent) -> None:
    median = segments_on(paths["median.seg.dcm"], content.grid)
    for segment, structure in zip(median, content.structures, strict=True):
        np.testing.assert_array_equal(segment, content.median == structure.label)
    contours = segments_on(paths["contours.seg.dcm"], content.grid)
    wanted = [content.contours[level][n] for n in range(2) for level in CONTOUR_LEVELS]
    np.testing.assert_array_equal(contours, np.stack(wanted))
    np.testing.assert_allclose(segments_on(paths["mean.seg.dcm"], content.grid), content.mean, atol=1 / 255)
    for n, structure in enumerate(content.structures):
        found = map_on(paths[f"variance_{structure.slug}.dcm"], content.grid)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, content.variance[n])


def references(dataset: pydicom.Dataset) -> list[tuple[str, int | None, list[float]]]:
    """Source image, its frame and the position of every frame."""
    found = []
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        position = [float(number) for number in frame.PlanePositionSequence[0].ImagePositionPatient]
        found.append((source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber"), position))
    return found


@pytest.fixture
def package(package_folder):
    from MedSegUncertaintyLib.packages.package import ModelPackage

    return ModelPackage.from_folder(package_folder)


@pytest.fixture
def series() -> DicomSeries:
    return DicomSeries()


@pytest.fixture
def folder(series: DicomSeries, tmp_path) -> Path:
    """An oblique series whose names and instance numbers contradict its order."""
    return series.write(tmp_path / "series")


BOX = Box((2, 1, 1), (9, 7, 5))


def test_a_part_of_an_oblique_series_comes_back_voxel_by_voxel(folder, package, tmp_path):
    files = source_files(folder)
    content = content_on(read_volume(folder).geometry.cropped(BOX), package)
    paths = write(tmp_path / "out", content, files)
    check_voxels(paths, content)
    assert pydicom.dcmread(paths["variance_left_blob.dcm"]).NumberOfFrames == 4, "the region has four slices"


REORDERED = {
    "upside down": ([0, 1, 2], [1, 1, -1]),
    "mirrored": ([0, 1, 2], [-1, -1, 1]),
    "axes permuted": ([2, 0, 1], [1, -1, 1]),
}


@pytest.mark.parametrize("order", REORDERED)
def test_voxels_in_any_order_go_to_their_images(folder, package, tmp_path, order):
    """As loaded by others, who sort slices the other way around."""
    axes, signs = REORDERED[order]
    part = read_volume(folder).geometry.cropped(BOX)
    shape = np.array(part.shape_ijk)
    matrix = np.array(part.ijk_to_ras)
    first = [0 if sign > 0 else shape[axis] - 1 for axis, sign in enumerate(np.array(signs)[np.argsort(axes)])]
    matrix[:3, 3] = part.to_ras(np.array(first))
    matrix[:3, :3] = part.ijk_to_ras[:3, axes] * signs
    content = content_on(Geometry(tuple(shape[axes].tolist()), matrix), package)
    check_voxels(write(tmp_path / "out", content, source_files(folder)), content)


def test_frames_of_an_enhanced_object_are_referred_to_by_number(package, tmp_path):
    stored = np.random.default_rng(3).integers(0, 2000, (5, 8, 10)).astype(np.int16)
    order = [3, 0, 4, 1, 2]
    dataset, path = enhanced(stored, order), tmp_path / "enhanced.dcm"
    dataset.save_as(path, enforce_file_format=True)
    content = content_on(read_volume(path).geometry.cropped(Box((0, 0, 1), (10, 8, 4))), package)
    paths = write(tmp_path / "out", content, source_files(path))
    check_voxels(paths, content)
    positions = {
        n + 1: [float(number) for number in frame.PlanePositionSequence[0].ImagePositionPatient]
        for n, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence)
    }
    for name in ("median.seg.dcm", "variance_left_blob.dcm"):
        found = references(pydicom.dcmread(paths[name]))
        assert {number for _, number, _ in found} == {order.index(k) + 1 for k in (1, 2, 3)}
        for uid, number, position in found:
            assert uid == dataset.SOPInstanceUID
            assert position == pytest.approx(positions[number], abs=1e-6)


def test_every_frame_refers_to_the_image_it_lies_on(folder, series, package, tmp_path):
    content = content_on(read_volume(folder).geometry.cropped(BOX), package)
    paths = write(tmp_path / "out", content, source_files(folder))
    positions = {item.SOPInstanceUID: list(map(float, item.ImagePositionPatient)) for item in series.slices}
    for path in paths.values():
        dataset = pydicom.dcmread(path)
        assert dataset.StudyInstanceUID == series.slices[0].StudyInstanceUID
        assert dataset.FrameOfReferenceUID == series.slices[0].FrameOfReferenceUID
        assert dataset.PatientName == "Nobody"
        for uid, _, position in references(dataset):
            assert position == pytest.approx(positions[uid], abs=1e-6)


def test_objects_say_what_they_are(folder, package, tmp_path):
    structure = dataclasses.replace(
        package.structures[0],
        terminology={**package.structures[0].terminology, "modifier": ("SCT", "7771000", "Left")},
    )
    content = content_on(read_volume(folder).geometry, package)
    content = dataclasses.replace(content, structures=(structure, content.structures[1]))
    paths = write(tmp_path / "out", content, source_files(folder))
    datasets = {name: pydicom.dcmread(path) for name, path in paths.items()}
    for dataset in datasets.values():
        assert dataset.SeriesDescription.endswith(": spread of test-time augmentation, not a medical device")
        assert len(dataset.SeriesDescription) <= 64, "with the longest kind of samples"
        assert dataset.Manufacturer == "MedSegUncertainty"
    assert len({dataset.SeriesInstanceUID for dataset in datasets.values()}) == 4, "both variances are one series"
    assert len({dataset.SOPInstanceUID for dataset in datasets.values()}) == len(datasets)
    segment = datasets["median.seg.dcm"].SegmentSequence[0]
    (kind,) = segment.SegmentedPropertyTypeCodeSequence
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("5366008", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("two-blobs", "0.1.0")
    assert "seed" in algorithm.AlgorithmParameters
    labels = [segment.SegmentLabel for segment in datasets["contours.seg.dcm"].SegmentSequence]
    assert labels[:3] == ["Left blob: 5 % of samples", "Left blob: 50 % of samples", "Left blob: 95 % of samples"]
    mean = datasets["mean.seg.dcm"]
    assert (mean.SegmentationType, mean.SegmentationFractionalType, mean.MaximumFractionalValue) == (
        *("FRACTIONAL", "PROBABILITY"),
        255,
    )


def test_a_result_is_its_own_content(blob_result):
    content = DicomContent.of(blob_result)
    chosen = blob_result.summary["representatives"]["median_sample"] - 1
    np.testing.assert_array_equal(content.median, blob_result.samples[chosen])
    np.testing.assert_array_equal(content.contours[0.05][1], blob_result.contour(1, 0.05))
    assert content.variance is blob_result.statistics.variance
    assert content.parameters["samples"] == "8"
    assert content.grid.matches(blob_result.box_geometry)


def test_parameters_name_the_controls_that_were_given():
    plain = InferenceRequest("package", samples=4, seed=3)
    assert run_parameters(plain.to_json()) == {"samples": "4", "seed": "3", "temperature": "1.0"}
    asked = dataclasses.replace(plain, steps=5, class_weights=(1.0, -0.5), scales=(Scale(0.5),))
    assert run_parameters(asked.to_json()) == {
        **run_parameters(plain.to_json()),
        "class_weights": "[1.0, -0.5]",
        "scales": '[{"temperature": 0.5, "frozen": null}]',
        "steps": "5",
    }


def test_nothing_found_is_written_as_empty(folder, package, tmp_path):
    content = content_on(read_volume(folder).geometry, package)
    content = dataclasses.replace(content, median=np.zeros_like(content.median))
    paths = write(tmp_path / "out", content, source_files(folder))
    assert not highdicom.seg.segread(paths["median.seg.dcm"]).pixel_array.any()


def test_another_grid_is_refused(folder, package):
    geometry = read_volume(folder).geometry
    source = DicomSource.read(source_files(folder))
    for moved in (0.3, 1000.0):
        matrix = np.array(geometry.ijk_to_ras)
        matrix[0, 3] += moved
        with pytest.raises(BadInputError, match="does not lie on the voxels of its DICOM images"):
            source.frames(np.zeros((1, *geometry.shape_kji)), Geometry(geometry.shape_ijk, matrix))
    coarser = Geometry(geometry.shape_ijk, geometry.ijk_to_ras @ np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(BadInputError, match="does not lie on the voxels"):
        source.frames(np.zeros((1, *geometry.shape_kji)), coarser)


def test_headers_with_little_in_them_are_completed_or_refused(series, package, tmp_path):
    for item in series.slices:
        del item.PatientID
        item.PatientSex = "X"
    folder = series.write(tmp_path / "series")
    content = content_on(read_volume(folder).geometry, package)
    check_voxels(write(tmp_path / "out", content, source_files(folder)), content)
    for item in series.slices:
        del item.FrameOfReferenceUID
    with pytest.raises(BadInputError, match="no FrameOfReferenceUID"):
        DicomSource.read(source_files(series.write(tmp_path / "series")))


def test_only_dicom_has_source_files(tmp_path):
    (tmp_path / "image.nii").write_bytes(b"no DICOM" * 100)
    with pytest.raises(BadInputError, match=r"'image\.nii' is not DICOM"):
        source_files(tmp_path / "image.nii")
    with pytest.raises(BadInputError, match="no DICOM image"):
        source_files(tmp_path)
    with pytest.raises(BadInputError, match="no DICOM file"):
        read_stack([tmp_path / "image.nii"])


@pytest.mark.parametrize("installed", [None, "0.27.0"])
def test_a_missing_or_old_library_is_named(monkeypatch, installed):
    check_highdicom()

    def version(name):
        if installed is None:
            raise PackageNotFoundError(name)
        return installed

    monkeypatch.setattr(dicom_objects.metadata, "version", version)
    with pytest.raises(MedSegError, match=r"needs highdicom 0\.28 or newer; install it with pip install"):
        check_highdicom()


SHARED = {
    "MR": "mr_hippocampus_from_msd",
    "CT of three slices": "ct_3slice_liver_with_seg",
    "enhanced MR": "enhanced_multiframe/Siemens_XA10_6_1.dcm",
}


@pytest.mark.parametrize("name", SHARED)
def test_series_of_scanners_come_back_voxel_by_voxel(shared, package, tmp_path, name):
    path = shared / "data" / "dicom" / SHARED[name]
    geometry = read_volume(path).geometry
    slices = geometry.shape_ijk[2]
    box = Box((5, 6, slices // 4), (25, 20, slices // 4 + max(2, slices // 2)))
    content = content_on(geometry.cropped(box), package)
    check_voxels(write(tmp_path / "out", content, source_files(path)), content)


def test_a_series_without_a_frame_of_reference_is_refused(shared):
    with pytest.raises(BadInputError, match="no FrameOfReferenceUID"):
        DicomSource.read(source_files(shared / "data" / "dicom" / "ct_head_axial_64"))
