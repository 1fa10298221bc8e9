"""Which DICOM files of a folder make up the image that is meant."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.dicom_elements import Elements, read_elements

_MOST_LISTED = 30

# Storage classes that hold no image of the patient, by the start of their UID (DICOM PS3.4, table B.5-1), and the
# modalities of such objects, for files that leave their class out.
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_NOT_IMAGES = {
    "1.2.840.10008.1.3.10": "directory",
    _STORAGE + "9.": "waveform",
    _STORAGE + "11.": "presentation state",
    _STORAGE + "30": "parametric map",
    _STORAGE + "66.4": "segmentation",
    _STORAGE + "66.5": "surface segmentation",
    _STORAGE + "66.7": "segmentation",
    _STORAGE + "66": "registration",
    _STORAGE + "67": "value mapping",
    _STORAGE + "68": "surface scan",
    _STORAGE + "88.": "report",
    _STORAGE + "104.": "document",
    _STORAGE + "481.2": "radiotherapy dose",
    _STORAGE + "481.3": "radiotherapy structure set",
    _STORAGE + "481.": "radiotherapy object",
}
_NOT_IMAGE_MODALITIES = {
    "SEG": "segmentation",
    "RTSTRUCT": "radiotherapy structure set",
    "RTDOSE": "radiotherapy dose",
    "RTPLAN": "radiotherapy plan",
    "SR": "report",
    "KO": "report",
    "PR": "presentation state",
    "REG": "registration",
}


@dataclass
class Series:
    """The images of one DICOM series.

    Attributes:
        uid: Series instance UID.
        files: Path and header of every image, sorted by path.
    """

    uid: str
    files: list[tuple[Path, Elements]] = field(default_factory=list)

    @property
    def description(self) -> str:
        """What the scanner calls it, else its number."""
        header = self.files[0][1]
        return header.text(0x0008103E) or f"series {header.text(0x00200011)}".strip()

    @property
    def images(self) -> int:
        """Number of slices, frames of multi-frame objects included."""
        return sum(int(max(header.number(0x00280008, 1), 1)) for _, header in self.files)


def not_an_image(header: Elements) -> str:
    """What kind of object a DICOM file holds if it is no image of the patient, else ""."""
    uid = header.text(0x00080016)
    kinds = [kind for start, kind in _NOT_IMAGES.items() if uid.startswith(start)]
    if kinds:
        return kinds[0]
    if not uid and header.text(0x00080060) in _NOT_IMAGE_MODALITIES:
        return _NOT_IMAGE_MODALITIES[header.text(0x00080060)]
    has_image = header.pixel_bytes is not None or 0x00280010 in header.values
    return "" if has_image else "other object"


def choose_series(folder: Path, wanted: str | None) -> Series:
    """The only series of images in a folder and its subfolders, or the one that is wanted.

    Args:
        folder: Where to look; other files and DICOM objects that are no images are passed over.
        wanted: Number in the list of series (by series number, description and UID), UID or description.

    Raises:
        BadInputError: There is no series or a damaged file, or it is not clear which series is meant; that sentence
            lists them.
    """
    found, others = _all_series(folder)
    if not found:
        rest = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(others.items()))
        holds = f"{rest} but no DICOM image" if rest else "no DICOM image"
        raise BadInputError(f"The folder '{folder.name}' holds {holds}; give the folder of a series of images.")
    if wanted is None:
        if len(found) == 1:
            return found[0]
        raise BadInputError(
            f"The folder '{folder.name}' holds {len(found)} DICOM series ({_listed(found)}); choose one of them by its "
            "number or give a folder with only that one."
        )
    name = wanted.strip()
    fitting = [
        series
        for number, series in enumerate(found, start=1)
        if name in (str(number), series.uid) or name.casefold() == series.description.casefold()
    ]
    if len(fitting) != 1:
        fits = f"fits {len(fitting)}" if fitting else "fits none"
        raise BadInputError(
            f"The series '{wanted}' {fits} of the folder '{folder.name}' ({_listed(found)}); choose one by its number "
            "or UID."
        )
    return fitting[0]


def _all_series(folder: Path) -> tuple[list[Series], Counter[str]]:
    """Every series of images, in the order of the list, and how many other DICOM objects there are of each kind."""
    found: dict[str, Series] = {}
    others: Counter[str] = Counter()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        header = read_elements(path)
        if header is None:
            continue
        if kind := not_an_image(header):
            others[kind] += 1
            continue
        uid = header.text(0x0020000E)
        found.setdefault(uid, Series(uid)).files.append((path, header))
    return sorted(found.values(), key=_place_in_list), others


def _place_in_list(series: Series) -> tuple[float, str, str]:
    return series.files[0][1].number(0x00200011, default=0), series.description, series.uid


def _listed(found: list[Series]) -> str:
    lines = []
    for number, series in enumerate(found[:_MOST_LISTED], start=1):
        modality, images = series.files[0][1].text(0x00080060), series.images
        kind = "" if modality in ("", "OT") else f"{modality}, "  # "other"; codespell:ignore
        lines.append(f"{number}: '{series.description}', {kind}{images} slice{'s' if images > 1 else ''}")
    if len(found) > _MOST_LISTED:
        lines.append(f"and {len(found) - _MOST_LISTED} more")
    return "; ".join(lines)
