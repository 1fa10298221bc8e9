"""A result in the scene as files; works as well on one that was loaded with its scene."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import slicer

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.outputs.appearance import contour_id, sample_id
from MedSegUncertaintyLib.outputs.csv_files import write_structures, write_volumes
from MedSegUncertaintyLib.outputs.dicom_objects import DicomContent, check_highdicom, dicom_writers, run_parameters
from MedSegUncertaintyLib.scene.comparison import representatives
from MedSegUncertaintyLib.scene.grids import localGeometry
from MedSegUncertaintyLib.scene.maps import mapKey
from MedSegUncertaintyLib.scene.results import ResultNodes
from MedSegUncertaintyLib.scene.segmentations import segmentMask
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry

T = TypeVar("T")

INSTANCES = "DICOM.instanceUIDs"
"""Attribute that Slicer gives to a volume it loaded from its DICOM database."""


def exportTables(nodes: ResultNodes, folder: str | Path) -> dict[str, Path]:
    """Write ``volumes.csv`` and ``structures.csv`` into a folder, over files of that name.

    Returns:
        File name to path.
    """
    columns = [f"{structure.name} (mL)" for structure in nodes.structures]
    volumes = np.array([slicer.util.arrayFromTableColumn(nodes.volumesTable, column) for column in columns]).T
    paths = {name: Path(folder, name) for name in ("volumes.csv", "structures.csv")}
    write_volumes(paths["volumes.csv"], nodes.structures, volumes)
    write_structures(paths["structures.csv"], nodes.run["summary"])
    return paths


Writers = dict[str, Callable[[Path], None]]
"""File name to what writes the file; nothing of it reads nodes, so a thread may do it."""


def exportVolumes(nodes: ResultNodes, folder: str | Path) -> dict[str, Path]:
    """Write samples and contours as ``.seg.nrrd`` and every map as ``.nrrd``, over files of that name.

    They lie where the segmented volume does without its parent transform, and the scene goes on being saved elsewhere.

    Returns:
        File name to path.

    Raises:
        OSError: A file could not be written.
    """
    paths = {}
    for name, write in _last(volumeWritersInSteps(nodes)).items():
        paths[name] = Path(folder, name)
        write(paths[name])
    return paths


def volumeWritersInSteps(nodes: ResultNodes) -> Generator[None, None, Writers]:
    """Copy what :func:`exportVolumes` writes out of the scene, in steps of some 10 ms."""
    from MedSegUncertaintyLib.outputs.segmentation_file import write_contour_layers, write_sample_layers
    from MedSegUncertaintyLib.volumes.reading import write_volume

    structures, grid = nodes.structures, nodes.grid
    whole, box = _placeOf(nodes, grid)
    samples, regions = SampleSet(grid.shape_kji), SampleSet(grid.shape_kji)
    for sample in range(nodes.sequence.GetNumberOfDataNodes()):
        labels = np.zeros(grid.shape_kji, dtype=np.uint8)
        for structure in structures:
            labels[segmentMask(nodes.samples, sample_id(sample, structure), grid)] = structure.label
            yield
        samples.append(labels)
        yield
    for level in CONTOUR_LEVELS:
        for structure in structures:
            mask = segmentMask(nodes.contours, contour_id(structure, level), grid)
            regions.append(mask * np.uint8(structure.label))
            yield
    writers: Writers = {
        "samples.seg.nrrd": lambda path: write_sample_layers(path, samples, structures, whole, box),
        "contours.seg.nrrd": lambda path: write_contour_layers(path, regions, structures, whole, box),
    }
    for key, node in nodes.maps.items():
        array = slicer.util.arrayFromVolume(node).copy()
        writers[f"{key.replace('.', '_')}.nrrd"] = partial(write_volume, array_kji=array, geometry=localGeometry(node))
        yield
    return writers


def _placeOf(nodes: ResultNodes, grid: Geometry) -> tuple[Geometry, Box]:
    """The grid of the segmented volume and the box that was segmented; of the box alone once the volume is gone."""
    if nodes.inputVolume is None:
        return grid, grid.whole()
    whole = localGeometry(nodes.inputVolume)
    i, j, k = (int(number) for number in np.rint(whole.to_ijk(grid.to_ras(np.zeros(3)))))
    return whole, Box((i, j, k), (i + grid.shape_ijk[0], j + grid.shape_ijk[1], k + grid.shape_ijk[2]))


def _last(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def exportDicom(nodes: ResultNodes, folder: str | Path) -> dict[str, Path]:
    """Write DICOM objects that refer to the images of the segmented volume, over files of their names.

    Returns:
        File name to path; see ``outputs.dicom_objects.dicom_writers``.

    Raises:
        MedSegError: highdicom is missing, the volume did not come from DICOM, or the result has no such maps.
    """
    check_highdicom()
    if nodes.inputVolume is None:
        raise BadInputError("The segmented volume is no longer in the scene; load it, or segment it again.")
    content, paths = _last(dicomContentInSteps(nodes)), {}
    for name, write in dicom_writers(nodes.structures, lambda: content, sourceFiles(nodes.inputVolume)).items():
        paths[name] = Path(folder, name)
        write(paths[name])
    return paths


def sourceFiles(volumeNode: Any) -> list[Path]:
    """The DICOM files that a volume was loaded from, as Slicer's DICOM database knows them.

    Raises:
        BadInputError: It did not come from there, or files are gone.
    """
    name, uids = volumeNode.GetName(), (volumeNode.GetAttribute(INSTANCES) or "").split()
    if not uids:
        raise BadInputError(f"{name} was not loaded from DICOM; load the series with Slicer's DICOM module.")
    database = getattr(slicer, "dicomDatabase", None)
    if database is None or not database.isOpen:
        raise BadInputError(f"The DICOM database is not open, so the images of {name} cannot be found; open it.")
    files = [database.fileForInstance(uid) for uid in uids]
    missing = sum(not file or not Path(file).is_file() for file in files)
    if missing:
        raise BadInputError(f"{missing} of {len(files)} DICOM files of {name} are gone; import the series again.")
    # An enhanced object is named once for every frame by some readers.
    return [Path(file) for file in dict.fromkeys(files)]


def dicomContentInSteps(nodes: ResultNodes) -> Generator[None, None, DicomContent]:
    """Copy what goes into DICOM objects out of the scene, in steps of some 10 ms.

    Raises:
        BadInputError: The result has no such maps.
    """
    run, structures, grid = nodes.run, nodes.structures, nodes.grid
    mean, variance = (_maps(nodes, kind) for kind in ("mean", "variance"))
    yield
    median, sample = np.zeros(grid.shape_kji, dtype=np.uint8), representatives(nodes)["median"]
    for structure in structures:
        median[segmentMask(nodes.samples, sample_id(sample, structure), grid)] = structure.label
        yield
    contours: dict[float, np.ndarray] = {}
    for level in CONTOUR_LEVELS:
        masks = []
        for structure in structures:
            masks.append(segmentMask(nodes.contours, contour_id(structure, level), grid))
            yield
        contours[level] = np.stack(masks)
    return DicomContent(
        grid=grid,
        structures=structures,
        median=median,
        contours=contours,
        mean=mean,
        variance=variance,
        algorithm=run["package"],
        version=run["package_version"],
        sample_kind=nodes.sampleKind,
        parameters=run_parameters(run["request"]),
    )


def _maps(nodes: ResultNodes, kind: str) -> np.ndarray:
    """One kind of map of all structures, (N, K, J, I)."""
    found = nodes.maps
    if missing := [structure.name for structure in nodes.structures if mapKey(kind, structure) not in found]:
        raise BadInputError(f"The result has no map of the {kind} of {missing[0]}; segment the image again.")
    return np.stack([slicer.util.arrayFromVolume(found[mapKey(kind, structure)]) for structure in nodes.structures])
