"""Grids in every orientation, and DICOM series written for the tests."""

import re
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from MedSegUncertaintyLib.errors import BadInputError
from MedSegUncertaintyLib.volumes.geometry import Geometry
from MedSegUncertaintyLib.volumes.reading import read_volume
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

AXES = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
ORIENTATIONS = [
    "".join(letters)
    for pairs in permutations(["RL", "AP", "SI"])
    for letters in product(*pairs)
]  # fmt: skip


def directions(orientation: str) -> np.ndarray:
    """Columns: where I, J and K point in RAS."""
    return np.array([AXES[letter] for letter in orientation], dtype=float).T


def turned(degrees: float, axis: tuple[float, float, float] = (1.0, 2.0, 3.0)) -> np.ndarray:
    """Rotation about an axis (Rodrigues)."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def oriented(orientation: str, degrees: float = 0, shape=(7, 6, 5), spacing=(1.0, 2.0, 3.0)) -> Geometry:
    return Geometry.from_parts(shape, spacing, (11.0, -23.0, 37.0), turned(degrees) @ directions(orientation))


def dicom_slice(stored: np.ndarray, uids: dict[str, str], position_mm: float) -> pydicom.Dataset:
    """One axial CT slice, 0.8 x 0.6 mm, at a position along its oblique normal; stored (rows, columns) of int16."""
    rotation = turned(20)
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uids["study"], uids["series"]
    dataset.FrameOfReferenceUID = uids["frame"]
    dataset.Modality, dataset.SeriesDescription, dataset.SeriesNumber = "CT", "Thin slices", 3
    dataset.PatientName, dataset.PatientID = "Nobody", "0"
    dataset.ImageOrientationPatient = [f"{number:.12f}" for number in (*rotation[:, 0], *rotation[:, 1])]
    dataset.ImagePositionPatient = [f"{number:.10f}" for number in np.array((5, 6, 7)) + position_mm * rotation[:, 2]]
    dataset.PixelSpacing, dataset.SliceThickness = [0.8, 0.6], 2.5
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
    dataset.PixelData = stored.astype("<i2").tobytes()
    return dataset


def refusal(path: Path, series: str | None = None) -> str:
    """The one sentence with which a file is refused."""
    with pytest.raises(BadInputError) as caught:
        read_volume(path, series)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert ". " not in re.sub(r"\(\.nii, .*?\)", "", sentence)
    assert path.name in sentence
    return sentence


class DicomSeries:
    """A CT series of 6 slices of 10 x 8 pixels, 2.5 mm apart; edit ``slices``, then write."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.stored = rng.integers(0, 2000, (6, 8, 10)).astype(np.int16)
        uids = {name: generate_uid() for name in ("study", "series", "frame")}
        self.slices = [dicom_slice(array, uids, 2.5 * k) for k, array in enumerate(self.stored)]

    def write(self, folder: Path) -> Path:
        """Save the slices under names and instance numbers that contradict their positions."""
        folder.mkdir(exist_ok=True)
        for number, dataset in enumerate(self.slices):
            dataset.InstanceNumber = (number * 5) % 7
            dataset.save_as(folder / f"{(number * 5) % 7}_{dataset.SeriesNumber}.dcm", enforce_file_format=True)
        return folder


def enhanced(stored: np.ndarray, order: list[int]) -> pydicom.Dataset:
    """An enhanced CT of frames (frames, rows, columns) of int16, 2.5 mm apart; frame n lies at place ``order[n]``."""
    uids = {name: generate_uid() for name in ("study", "series", "frame")}
    dataset = dicom_slice(stored[0], uids, 0)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EnhancedCTImageStorage
    shared, frames = pydicom.Dataset(), []
    measures, orientation, rescaling = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = dataset.PixelSpacing, dataset.SliceThickness
    orientation.ImageOrientationPatient = dataset.ImageOrientationPatient
    rescaling.RescaleSlope, rescaling.RescaleIntercept, rescaling.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [rescaling]
    for place in order:
        frame, position = pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = dicom_slice(stored[0], uids, 2.5 * place).ImagePositionPatient
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    for name in (
        *("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"),
        *("RescaleSlope", "RescaleIntercept"),
    ):
        delattr(dataset, name)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
    dataset.NumberOfFrames, dataset.PixelData = len(stored), stored.astype("<i2").tobytes()
    return dataset


@pytest.fixture
def series() -> DicomSeries:
    return DicomSeries()
