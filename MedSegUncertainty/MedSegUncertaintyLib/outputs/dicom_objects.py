"""A result as DICOM objects that refer to the images it was made from: segmentations and parametric maps.

Needs highdicom, which is imported when something is written and not before.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from MedSegUncertaintyLib import __version__
from MedSegUncertaintyLib.errors import MedSegError
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.outputs.appearance import VARIANCE_MAXIMUM, Color, contour_color, contour_name
from MedSegUncertaintyLib.outputs.dicom_source import DicomSource, Frames
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS
from MedSegUncertaintyLib.volumes.geometry import Geometry

MAKER = "MedSegUncertainty"
FIRST_SERIES = 9701
"""Numbers of the new series, away from those of scanners."""
LONGEST = 64
"""Characters of a label or description; that of a series is as long as this with the longest kind of samples."""

OLDEST_HIGHDICOM = (0, 28)

Writer = Callable[[Path], None]


@dataclass(frozen=True)
class DicomContent:
    """What of a result goes into DICOM; all arrays lie on one grid.

    Attributes:
        grid: Part of the voxels of the source images, its axes in any order (RAS, mm).
        structures: N structures in the order of the package.
        median: (K, J, I) labels of the median sample.
        contours: (N, K, J, I) masks of the contours by their level.
        mean: (N, K, J, I) mean probabilities.
        variance: (N, K, J, I) their variances.
        algorithm: Name of the package.
        version: Its version.
        sample_kind: What the samples are (see ``models.sample_kinds``).
        parameters: What decides the samples.
    """

    grid: Geometry
    structures: Sequence[Structure]
    median: np.ndarray
    contours: Mapping[float, np.ndarray]
    mean: np.ndarray
    variance: np.ndarray
    algorithm: str
    version: str
    sample_kind: str
    parameters: Mapping[str, str]

    @classmethod
    def of(cls, result: InferenceResult) -> DicomContent:
        """What goes into DICOM of a result."""
        numbers = range(len(result.structures))
        return cls(
            grid=result.box_geometry,
            structures=result.structures,
            median=result.samples[result.summary["representatives"]["median_sample"] - 1],
            contours={level: np.stack([result.contour(n, level) for n in numbers]) for level in CONTOUR_LEVELS},
            mean=result.statistics.mean,
            variance=result.statistics.variance,
            algorithm=result.package.name,
            version=result.package.version,
            sample_kind=result.package.sample_kind,
            parameters=run_parameters(result.request.to_json()),
        )


def run_parameters(request: Mapping[str, Any]) -> dict[str, str]:
    """What of a request, as plain JSON types, decides the samples; controls only where they were given."""
    given = [name for name in ("class_weights", "scales", "steps") if request.get(name)]
    return {name: json.dumps(request[name]) for name in ("samples", "seed", "temperature", *given)}


def check_highdicom() -> None:
    """Make sure that DICOM can be written.

    Raises:
        MedSegError: highdicom is not installed, or too old: parametric maps of 0.27 refer to no image.
    """
    try:
        version = metadata.version("highdicom")
    except metadata.PackageNotFoundError:
        version = "0.0"
    if tuple(map(int, version.split(".")[:2])) < OLDEST_HIGHDICOM:
        raise MedSegError(
            "Writing DICOM needs highdicom 0.28 or newer; install it with pip install 'medseg-uncertainty[dicom]'."
        )


def dicom_writers(
    structures: Sequence[Structure], content: Callable[[], DicomContent], files: Sequence[Path]
) -> dict[str, Writer]:
    """File name to the function that writes it.

    ``median.seg.dcm`` and ``contours.seg.dcm`` are binary segmentations, ``mean.seg.dcm`` is a fractional one of
    probabilities, and ``variance_<structure>.dcm`` are parametric maps of 32-bit floating point numbers.

    Args:
        structures: Those of the content.
        content: What is written; asked for once, by the first file.
        files: The DICOM files of the image.
    """

    @functools.cache
    def objects() -> _Objects:
        return _Objects(content(), DicomSource.read(files))

    def write(make: Callable[[_Objects], Any], path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names of patients
            make(objects()).save_as(path)

    variances = {
        f"variance_{structure.slug}.dcm": functools.partial(write, functools.partial(_Objects.variance, index=index))
        for index, structure in enumerate(structures)
    }
    return {
        "median.seg.dcm": functools.partial(write, _Objects.median),
        "contours.seg.dcm": functools.partial(write, _Objects.contours),
        "mean.seg.dcm": functools.partial(write, _Objects.mean),
        **variances,
    }


class _Objects:
    """Makes the objects of one result; all of a kind are one series."""

    def __init__(self, content: DicomContent, source: DicomSource) -> None:
        import highdicom

        self._content, self._source = content, source
        self._series = [highdicom.UID() for _ in range(4)]

    def median(self) -> Any:
        labels = np.array([structure.label for structure in self._content.structures])
        masks = self._content.median == labels[:, None, None, None]
        segments = [(structure, structure.name, structure.color) for structure in self._content.structures]
        return self._segmentation(0, "MEDIAN", "Median sample", "BINARY", masks.astype(np.uint8), segments)

    def contours(self) -> Any:
        parts = list(self._contour_parts())
        masks = np.stack([mask for *_, mask in parts]).astype(np.uint8)
        segments = [(structure, contour_name(structure, level), color) for structure, level, color, _ in parts]
        return self._segmentation(1, "CONTOURS", "Contours", "BINARY", masks, segments)

    def _contour_parts(self) -> Iterator[tuple[Structure, float, Color, np.ndarray]]:
        for index, structure in enumerate(self._content.structures):
            for level in CONTOUR_LEVELS:
                yield structure, level, contour_color(structure, level), self._content.contours[level][index]

    def mean(self) -> Any:
        probabilities = np.clip(self._content.mean, 0.0, 1.0).astype(np.float32)
        segments = [(structure, structure.name, structure.color) for structure in self._content.structures]
        return self._segmentation(2, "MEAN", "Mean probability", "FRACTIONAL", probabilities, segments)

    def variance(self, index: int) -> Any:
        """The variance of one structure as a parametric map."""
        import highdicom
        from pydicom.sr.codedict import codes

        name = self._content.structures[index].name
        explanation = f"Variance over the samples: {name}"[:LONGEST]
        frames = self._source.frames(self._content.variance[index : index + 1], self._content.grid)
        mapping = highdicom.pm.RealWorldValueMapping(
            lut_label="VARIANCE",
            lut_explanation=explanation,
            unit=codes.UCUM.NoUnits,
            value_range=(0.0, VARIANCE_MAXIMUM),
            slope=1.0,
            intercept=0.0,
        )
        return highdicom.pm.ParametricMap(
            pixel_array=frames.arrays[..., 0].astype(np.float32),
            instance_number=index + 1,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[highdicom.VOILUTTransformation(VARIANCE_MAXIMUM / 2, VARIANCE_MAXIMUM)],
            content_label="VARIANCE",
            content_description=explanation,
            **self._common(3, "Variance", frames),
        )

    def _segmentation(
        self,
        kind: int,
        label: str,
        title: str,
        encoding: str,
        arrays: np.ndarray,
        segments: Sequence[tuple[Structure, str, Color]],
    ) -> Any:
        import highdicom

        frames = self._source.frames(arrays, self._content.grid)
        described = [self._segment(number, *segment) for number, segment in enumerate(segments, start=1)]
        return highdicom.seg.Segmentation(
            pixel_array=frames.arrays,
            segmentation_type=encoding,
            segment_descriptions=described,
            instance_number=1,
            content_label=label,
            content_description=f"{title} of {self._content.parameters['samples']} samples"[:LONGEST],
            **self._common(kind, label.capitalize(), frames),
        )

    def _segment(self, number: int, structure: Structure, name: str, color: Color) -> Any:
        import highdicom

        category, kind = (_code(structure, key) for key in ("category", "type"))
        segment = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:LONGEST],
            segmented_property_category=category,
            segmented_property_type=kind,
            algorithm_type="AUTOMATIC",
            algorithm_identification=self._algorithm(),
            display_color=highdicom.color.CIELabColor.from_rgb(*(round(255 * part) for part in color)),
        )
        if "modifier" in structure.terminology:
            coded = segment.SegmentedPropertyTypeCodeSequence[0]
            coded.SegmentedPropertyTypeModifierCodeSequence = [_code(structure, "modifier")]
        return segment

    def _algorithm(self) -> Any:
        import highdicom
        from pydicom.sr.codedict import codes

        return highdicom.AlgorithmIdentificationSequence(
            name=self._content.algorithm[:LONGEST],
            family=codes.DCM.ArtificialIntelligence,
            version=self._content.version[:LONGEST],
            source=f"{MAKER} {__version__}",
            parameters=dict(self._content.parameters),
        )

    def _common(self, kind: int, title: str, frames: Frames) -> dict[str, Any]:
        """Arguments that every object takes."""
        import highdicom

        common = {
            "source_images": frames.datasets,
            "series_instance_uid": self._series[kind],
            "series_number": FIRST_SERIES + kind,
            "series_description": f"{title}: spread of {self._content.sample_kind}, not a medical device",
            "sop_instance_uid": highdicom.UID(),
            "manufacturer": MAKER,
            "manufacturer_model_name": self._content.algorithm[:LONGEST],
            "software_versions": __version__,
            "device_serial_number": self._content.version[:LONGEST],
        }
        if frames.positions is not None:
            common["plane_positions"] = [highdicom.PlanePositionSequence("PATIENT", at) for at in frames.positions]
        return common


def _code(structure: Structure, key: str) -> Any:
    import highdicom

    scheme, value, meaning = structure.terminology[key]
    return highdicom.sr.CodedConcept(value=value, scheme_designator=scheme, meaning=meaning[:LONGEST])
