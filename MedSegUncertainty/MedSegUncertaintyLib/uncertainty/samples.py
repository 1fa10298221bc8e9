"""A set of sampled segmentations, small enough to keep a hundred of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np


class SampleSet:
    """Label maps (K, J, I) of one box, each cropped to its labels and deflated.

    Sixteen label maps of a head take well under a megabyte, so memory hardly depends on the number of samples.
    """

    def __init__(self, shape_kji: tuple[int, int, int]) -> None:
        self.shape_kji = shape_kji
        self._packed: list[tuple[tuple[slice, ...], bytes]] = []

    def append(self, labels: np.ndarray) -> None:
        """Add one label map (K, J, I) of uint8."""
        if labels.shape != self.shape_kji or labels.dtype != np.uint8:
            raise ValueError(f"expected uint8 labels of shape {self.shape_kji}, got {labels.dtype} {labels.shape}")
        box = bounding_slices(labels)
        self._packed.append((box, zlib.compress(np.ascontiguousarray(labels[box]).tobytes(), level=1)))

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, index: int) -> np.ndarray:
        """The label map (K, J, I) of sample ``index``, uint8."""
        box, packed = self._packed[index]
        labels = np.zeros(self.shape_kji, dtype=np.uint8)
        inside = labels[box]
        inside[...] = np.frombuffer(zlib.decompress(packed), dtype=np.uint8).reshape(inside.shape)
        return labels

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    @property
    def nbytes(self) -> int:
        """Bytes that the deflated samples take."""
        return sum(len(packed) for _, packed in self._packed)

    def packed_masks(self, label: int) -> np.ndarray:
        """Masks of one structure as bits (S, bytes) over the smallest box that holds all samples."""
        starts = np.array([[part.start for part in box] for box, _ in self._packed if _has_voxels(box)])
        stops = np.array([[part.stop for part in box] for box, _ in self._packed if _has_voxels(box)])
        if not len(starts):
            return np.zeros((len(self), 1), dtype=np.uint8)
        union = tuple(slice(a, b) for a, b in zip(starts.min(axis=0), stops.max(axis=0), strict=True))
        return np.stack([np.packbits(labels[union] == label) for labels in self])


def bounding_slices(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest slices that hold every nonzero voxel; empty slices for an empty mask."""
    slices = []
    for axis in range(mask.ndim):
        hits = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        slices.append(slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else slice(0, 0))
    return tuple(slices)


def _has_voxels(box: tuple[slice, ...]) -> bool:
    return all(part.stop > part.start for part in box)
