"""Run every awkward file of the reference data through reading and segmenting, and write what comes of each.

    python scripts/make_reliability.py [DATA]

DATA is the folder with ``awkward`` and ``dicom``, by default ``../shared/data``. Every input must end as the right
volume, equal to what an independent reader finds, or as one sentence. Writes ``Testing/RELIABILITY.md``; exits with 1
if an input is read wrongly or crashes.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import torch
from MedSegUncertaintyLib.errors import MedSegError
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.packages.store import find_package
from MedSegUncertaintyLib.packages.weights import save_package
from MedSegUncertaintyLib.volumes.geometry import Volume
from MedSegUncertaintyLib.volumes.reading import read_volume
from pydicom.pixels import apply_modality_lut

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "Testing" / "RELIABILITY.md"
ARGUMENTS = {
    "backbone": {"name": "DynUNet", "widths": [2, 2, 2], "norm_name": "batch"},
    "spatial_dims": 3,
    "channels": 1,
    "features": 2,
    "classes": 3,
    "rank": 2,
}
# Voxels (K, J, I) or None where they could not be decoded, and the matrix from IJK to RAS.
Expected = tuple[np.ndarray | None, np.ndarray]
RIGHT, REFUSED, SILENT, CRASHED = "right", "clear error", "silently wrong", "crashed"


@dataclass
class Row:
    """What came of one input."""

    name: str
    verdict: str
    outcome: str
    checks: str = ""


def main() -> int:
    """Write the table; returns the exit code."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        package = tiny_package(Path(scratch))
        rows = [run(name, path, package) for name, path in inputs(data, Path(scratch))]
    TARGET.write_text(page(rows), encoding="utf-8")
    bad = [row for row in rows if row.verdict in (SILENT, CRASHED)]
    for row in bad:
        print(f"{row.name}: {row.verdict}: {row.outcome}", file=sys.stderr)
    print(summary(rows))
    return 1 if bad or not rows else 0


def tiny_package(folder: Path) -> str:
    """A package with random weights that keeps the image's own voxels; returns its folder."""
    metadata = json.loads((find_package("ssn-hippocampus-mr").folder / "configs" / "metadata.json").read_text("utf-8"))
    metadata["medseg_uncertainty"].update(
        arguments=ARGUMENTS,
        grid={"spacing_mm": None, "orientation": "RAS"},
        intensity={"kind": "percentiles", "low": 1, "high": 99},
        roi={"required": False, "size_mm": None, "where": "Anywhere."},
    )
    package = save_package(folder / "tiny", registry.build("ssn", ARGUMENTS), metadata, "# Random weights\n", "CC0\n")
    return str(package.folder)


def inputs(data: Path, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of every input: files, folders with files in them, and unpacked archives."""
    for path in sorted((data / "awkward").iterdir()):
        yield f"awkward/{path.name}", path
    for path in sorted((data / "dicom").rglob("*")):
        name = path.relative_to(data).as_posix()
        if path.suffix == ".zip":
            zipfile.ZipFile(path).extractall(scratch / path.stem)
            yield name, scratch / path.stem
        elif path.is_dir() and any(part.is_file() for part in path.iterdir()):
            yield f"{name}/", path
        elif path.is_file() and not is_slice_of_series(path):
            yield name, path


def is_slice_of_series(path: Path) -> bool:
    """Whether a file is one of the numbered slices of a folder, which is an input as a whole."""
    numbered = re.sub(r"\d+", "#", path.name)
    return (
        path.parent.name != "dicom" and sum(re.sub(r"\d+", "#", p.name) == numbered for p in path.parent.iterdir()) > 2
    )


def run(name: str, path: Path, package: str) -> Row:
    """Read, segment and compare one input."""
    try:
        volume = read_volume(path)
        result = segment(volume, InferenceRequest(package, samples=2, device="cpu"))
    except MedSegError as error:
        return Row(name, REFUSED, str(error).replace(f"{path.parent}/", ""))
    except Exception as error:
        return Row(name, CRASHED, f"{type(error).__name__}: {error}")
    size = " x ".join(map(str, volume.geometry.shape_ijk))
    spacing = " x ".join(f"{length:.4g}" for length in volume.geometry.spacing)
    outcome = f"{size} voxels of {spacing} mm, {volume.array.dtype}"
    maps = result.on_grid(result.statistics.mean[0])
    if not result.geometry.matches(volume.geometry) or maps.shape != volume.array.shape or not np.isfinite(maps).all():
        return Row(name, SILENT, f"{outcome}; the result is not on the input's grid")
    reader, expected = independent(path)
    if expected is None:
        return Row(name, SILENT, f"{outcome}; {reader} could not read it, so nothing confirms it")
    differences = difference(volume, *expected)
    if differences:
        return Row(name, SILENT, f"{outcome}; {reader} finds other {differences}")
    compared = "grid and voxels" if expected[0] is not None else "grid (no decoder for the voxels)"
    return Row(name, RIGHT, outcome, f"{compared} equal {reader}; result on this grid")


def difference(volume: Volume, array: np.ndarray | None, matrix: np.ndarray) -> str:
    """What of a volume is not as expected, "" if nothing is."""
    if array is not None and array.shape != volume.array.shape:
        return "sizes"
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in volume.geometry.shape_ijk])).reshape(3, -1).T
    distance = np.abs(volume.geometry.to_ras(corners) - (corners @ matrix[:3, :3].T + matrix[:3, 3])).max()
    if distance > 0.05 * volume.geometry.spacing.min():
        return f"positions ({distance:.3g} mm apart)"
    if array is not None and not np.allclose(volume.array, array, rtol=1e-5, atol=1e-3):
        return f"voxels (by up to {np.abs(volume.array - array).max():.3g})"
    return ""


# Independent readers


def independent(path: Path) -> tuple[str, Expected | None]:
    """Name of a reader that shares no code with SimpleITK, and what it finds."""
    reader: tuple[str, Callable[[Path], Expected]]
    if path.is_dir() or path.suffix == ".dcm":
        reader = ("pydicom", with_pydicom)
    elif path.suffix == ".nrrd":
        reader = ("a reader of its own", with_own_nrrd)
    else:
        reader = ("nibabel", with_nibabel)
    name, read = reader
    try:
        return name, read(path)
    except Exception:
        return name, None


def with_nibabel(path: Path) -> Expected:
    """A NIfTI file."""
    image = nibabel.load(path)
    return np.asarray(image.get_fdata()).T, image.affine


def with_own_nrrd(path: Path) -> Expected:
    """An NRRD file with its voxels in it, raw or gzip, in LPS or RAS."""
    header, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(re.findall(r"^([^#:\n]+):=?\s*(.+?)\r?$", header.decode("latin-1"), re.MULTILINE))
    types = {"short": "i2", "int16": "i2", "ushort": "u2", "uint8": "u1", "uchar": "u1", "unsigned char": "u1"}
    types |= {"int64": "i8", "long long int": "i8", "float": "f4", "double": "f8"}
    order = ">" if fields.get("endian") == "big" else "<"
    voxels = gzip.decompress(body) if fields["encoding"] in ("gzip", "gz") else body
    sizes = [int(size) for size in fields["sizes"].split()]
    array = np.frombuffer(voxels, order + types[fields["type"]]).reshape(sizes[::-1])
    columns = [vector(text) for text in re.findall(r"\(.*?\)", fields["space directions"])]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.column_stack(columns), vector(fields["space origin"])
    to_ras = {"left-posterior-superior": (-1, -1, 1, 1), "right-anterior-superior": (1, 1, 1, 1)}
    return array, np.diag(to_ras[fields["space"]]) @ matrix


def vector(text: str) -> np.ndarray:
    """Numbers in parentheses."""
    return np.array([float(number) for number in text.strip("()").split(",")])


def with_pydicom(path: Path) -> Expected:
    """A file, or the CT or MR images of a folder as one stack."""
    files = [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())
    planes = [plane for file in files if is_dicom(file) for plane in planes_of(pydicom.dcmread(file))]
    first = planes[0]
    along_i, along_j = np.array(first.orientation).reshape(2, 3)
    normal = np.cross(along_i, along_j)
    planes.sort(key=lambda plane: float(plane.position @ normal))
    gap = (planes[-1].position - planes[0].position) / max(len(planes) - 1, 1)
    along_k = gap if len(planes) > 1 else normal * first.thickness
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([along_i * first.spacing[1], along_j * first.spacing[0], along_k])
    matrix[:3, 3] = planes[0].position
    decoded = [plane.voxels for plane in planes if plane.voxels is not None]
    return np.stack(decoded) if len(decoded) == len(planes) else None, np.diag([-1, -1, 1, 1]) @ matrix


@dataclass
class Plane:
    """One slice or frame as pydicom finds it, in LPS."""

    voxels: np.ndarray | None
    position: np.ndarray
    orientation: list[float]
    spacing: list[float]
    thickness: float


def is_dicom(file: Path) -> bool:
    """Whether a file has a DICOM preamble."""
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def planes_of(dataset: pydicom.Dataset) -> Iterator[Plane]:
    """Slice or frames of a CT or MR image; nothing for other objects."""
    if dataset.get("Modality") not in ("CT", "MR", "PT") or "Rows" not in dataset:
        return
    try:
        voxels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    except RuntimeError:
        voxels = None
    frames = dataset.get("PerFrameFunctionalGroupsSequence", [None])
    for number, frame in enumerate(frames):
        parts = [dataset] * 4
        if frame is not None:
            shared = dataset.SharedFunctionalGroupsSequence[0]
            names = ("PlanePosition", "PlaneOrientation", "PixelMeasures", "PixelValueTransformation")
            parts = [(frame.get(f"{name}Sequence") or shared.get(f"{name}Sequence"))[0] for name in names]
        position, orientation, measures, rescaling = parts
        yield Plane(
            None if voxels is None else apply_modality_lut(voxels[number], rescaling),
            np.array(position.ImagePositionPatient, float),
            [float(value) for value in orientation.ImageOrientationPatient],
            [float(value) for value in measures.PixelSpacing],
            float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 0),
        )


# The page


def summary(rows: list[Row]) -> str:
    """One line of counts."""
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in (RIGHT, REFUSED, SILENT, CRASHED)}
    return f"{len(rows)} inputs: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + "."


def page(rows: list[Row]) -> str:
    """The table as Markdown."""
    head = f"""# What comes of awkward inputs

Written by `.venv/bin/python scripts/make_reliability.py` from the reference data in `../shared/data`; do not edit.

**{summary(rows)}**

Every input goes through `read_volume` and `segment` with a tiny network of random weights on the image's own voxels.
"Right" means that the size, the place of every corner in the patient and the voxels equal what nibabel (NIfTI), pydicom
(DICOM) or a reader in the script (NRRD) finds, and that the result lies on that grid. Everything else must end in one
sentence that says what is wrong and what to do.

| input | verdict | outcome | checks |
| --- | --- | --- | --- |
"""
    cells = ((row.name, row.verdict, row.outcome, row.checks) for row in rows)
    return head + "".join(f"| {' | '.join(text.replace('|', ' ') for text in row)} |\n" for row in cells)


if __name__ == "__main__":
    sys.exit(main())
