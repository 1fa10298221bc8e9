"""A result in the scene as files; works as well on one that was loaded with its scene."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.outputs.appearance import contour_id, sample_id
from MedSegUncertaintyLib.outputs.csv_files import write_structures, write_volumes
from MedSegUncertaintyLib.outputs.dicom_objects import DicomContent, check_highdicom, dicom_writers, run_parameters
from MedSegUncertaintyLib.scene.comparison import representatives
from MedSegUncertaintyLib.scene.maps import mapKey
from MedSegUncertaintyLib.scene.results import ResultNodes
from MedSegUncertaintyLib.scene.segmentations import segmentMask
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS

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


def exportVolumes(nodes: ResultNodes, folder: str | Path) -> dict[str, Path]:
    """Write samples and contours as ``.seg.nrrd`` and every map as ``.nrrd``, over files of that name.

    They lie where the segmented volume does without its parent transform, and the scene goes on being saved elsewhere.

    Returns:
        File name to path.

    Raises:
        OSError: A file could not be written.
    """
    files = {"samples.seg.nrrd": nodes.samples, "contours.seg.nrrd": nodes.contours}
    files |= {f"{key.replace('.', '_')}.nrrd": node for key, node in nodes.maps.items()}
    paths = {name: Path(folder, name) for name in files}
    for name, node in files.items():
        storage = node.CreateDefaultStorageNode()  # outside of the scene
        storage.UnRegister(None)
        storage.SetFileName(str(paths[name]))
        storage.SetUseCompression(True)
        if not storage.WriteData(node):
            raise OSError(f"{paths[name]} could not be written.")
    return paths


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
    paths = {}
    for name, write in dicom_writers(nodes.structures, lambda: _content(nodes), sourceFiles(nodes.inputVolume)).items():
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


def _content(nodes: ResultNodes) -> DicomContent:
    run, structures, grid = nodes.run, nodes.structures, nodes.grid
    median, sample = np.zeros(grid.shape_kji, dtype=np.uint8), representatives(nodes)["median"]
    for structure in structures:
        median[segmentMask(nodes.samples, sample_id(sample, structure), grid)] = structure.label
    contours: Mapping[float, np.ndarray] = {
        level: np.stack([segmentMask(nodes.contours, contour_id(structure, level), grid) for structure in structures])
        for level in CONTOUR_LEVELS
    }
    mean, variance = (_maps(nodes, kind) for kind in ("mean", "variance"))
    return DicomContent(
        grid=grid,
        structures=structures,
        median=median,
        contours=contours,
        mean=mean,
        variance=variance,
        algorithm=run["package"],
        version=run["package_version"],
        parameters=run_parameters(run["request"]),
    )


def _maps(nodes: ResultNodes, kind: str) -> np.ndarray:
    """One kind of map of all structures, (N, K, J, I)."""
    found = nodes.maps
    if missing := [structure.name for structure in nodes.structures if mapKey(kind, structure) not in found]:
        raise BadInputError(f"The result has no map of the {kind} of {missing[0]}; segment the image again.")
    return np.stack([slicer.util.arrayFromVolume(found[mapKey(kind, structure)]) for structure in nodes.structures])
