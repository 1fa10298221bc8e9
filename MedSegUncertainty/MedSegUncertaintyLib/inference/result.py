"""What comes out of a run: samples and statistics on the input's grid."""

from __future__ import annotations

from collections.abc import Sequence
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
class ScaleVariance:
    """What varies when one scale is sampled and all others are at their means.

    Attributes:
        cell_mm: Width of its cells along I, J, K of the model's grid, mm.
        share: Its variance over that with all scales sampled, both summed over structures and voxels. The shares need
            not add up to 1, as scales act together; None where nothing varies.
        volume_sd_ml: Standard deviation of the volume of each structure.
        variance: (K, J, I) on the result's box, of the probability; the largest of all structures.
    """

    cell_mm: tuple[float, ...]
    share: float | None
    volume_sd_ml: tuple[float, ...]
    variance: np.ndarray


@dataclass(frozen=True)
class ScaleReport:
    """What varies at which scale.

    Attributes:
        samples: Per scale.
        scales: Coarsest first.
    """

    samples: int
    scales: tuple[ScaleVariance, ...]

    def to_json(self, structures: Sequence[Structure]) -> dict[str, Any]:
        """The numbers as plain JSON types."""
        return {
            "samples_per_scale": self.samples,
            "scales": [
                {
                    "scale": number,
                    "cell_mm": [round(width, 4) for width in scale.cell_mm],
                    "share_of_variance": scale.share,
                    "volume_sd_ml": dict(zip((s.name for s in structures), scale.volume_sd_ml, strict=True)),
                }
                for number, scale in enumerate(self.scales)
            ],
        }


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
        scales: What varies at each scale of the samples, where that was asked for.
    """

    request: InferenceRequest
    package: ModelPackage
    image_name: str
    geometry: Geometry
    box: Box
    samples: SampleSet
    statistics: Statistics
    provenance: dict[str, Any]
    scales: ScaleReport | None = None

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
        return summarize(self.samples, self.statistics, self.structures, geometry, self.package.sample_kind, inside)

    def contour(self, structure: int, level: float) -> np.ndarray:
        """Mask on the box of the ``structure``-th structure's contour at ``level`` (0.05, 0.5, 0.95)."""
        return contour_mask(self.statistics.agreement[structure], self.statistics.count, level)

    def on_grid(self, array: np.ndarray) -> np.ndarray:
        """An array of the box (K, J, I) placed in the input's grid, zero elsewhere."""
        whole = np.zeros(self.geometry.shape_kji, dtype=array.dtype)
        whole[self.box.slices_kji] = array
        return whole
