"""What comes out of a run: samples and statistics on the input's grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.models.structures import Structure
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.uncertainty.contours import contour_mask
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.uncertainty.statistics import Statistics
from MedSegUncertaintyLib.uncertainty.summary import summarize
from MedSegUncertaintyLib.volumes.geometry import Box, Geometry


@dataclass(frozen=True)
class InferenceResult:
    """Samples and statistics of one image.

    Arrays live on ``box``, the part of the input's grid that was segmented; :meth:`on_grid` puts one back into the
    whole volume.

    Attributes:
        request: What was asked for.
        package: The model package that drew the samples.
        image_name: Name of the input volume.
        geometry: Grid of the input volume.
        box: Voxel box of that grid which the arrays cover.
        samples: Label maps of the samples.
        statistics: Maps and volumes.
        provenance: How it ran: device, seconds, tiles, versions (plain JSON types).
    """

    request: InferenceRequest
    package: ModelPackage
    image_name: str
    geometry: Geometry
    box: Box
    samples: SampleSet
    statistics: Statistics
    provenance: dict[str, Any]

    @property
    def structures(self) -> tuple[Structure, ...]:
        """The structures that were segmented, in the order of the package."""
        return self.package.structures

    @property
    def box_geometry(self) -> Geometry:
        """Grid of the arrays."""
        return self.geometry.cropped(self.box)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Numbers per structure and for the whole set (see ``uncertainty.summary``), plain JSON types."""
        roi, geometry = self.request.roi, self.box_geometry
        inside = None if roi is None else roi.holds(geometry)
        return summarize(self.samples, self.statistics, self.structures, geometry, inside)

    def contour(self, structure: int, level: float) -> np.ndarray:
        """Mask on the box of the ``structure``-th structure's contour at ``level`` (0.05, 0.5, 0.95)."""
        return contour_mask(self.statistics.agreement[structure], self.statistics.count, level)

    def on_grid(self, array: np.ndarray) -> np.ndarray:
        """An array of the box (K, J, I) placed in the input's grid, zero elsewhere."""
        whole = np.zeros(self.geometry.shape_kji, dtype=array.dtype)
        whole[self.box.slices_kji] = array
        return whole
