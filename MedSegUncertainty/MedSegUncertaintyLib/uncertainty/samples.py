"""A set of sampled segmentations, small enough to keep a hundred of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

_BLOCK_BYTES = 64 * 2**20
"""Bits of all samples that are compared at a time, so that memory does not follow their number. There should be few
blocks: each inflates all samples again."""


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

    def packed(self) -> tuple[list[list[list[int]]], list[bytes]]:
        """What is stored of each sample: the box of its labels as [start, stop] along K, J, I; its deflated labels."""
        boxes = [[[part.start, part.stop] for part in box] for box, _ in self._packed]
        return boxes, [packed for _, packed in self._packed]

    @classmethod
    def from_packed(
        cls, shape_kji: tuple[int, int, int], boxes: list[list[list[int]]], packed: list[bytes]
    ) -> SampleSet:
        """Inverse of :meth:`packed`."""
        samples = cls(shape_kji)
        for box, content in zip(boxes, packed, strict=True):
            samples._packed.append((tuple(slice(start, stop) for start, stop in box), content))
        return samples

    def intersections(self, label: int) -> np.ndarray:
        """Voxels that every pair of samples has in common for one structure, (S, S) int64; sizes on the diagonal."""
        boxes = [box for box, _ in self._packed if all(part.stop > part.start for part in box)]
        counts = np.zeros((len(self), len(self)), dtype=np.int64)
        if not boxes:
            return counts
        union = tuple(slice(min(b[n].start for b in boxes), max(b[n].stop for b in boxes)) for n in range(3))
        row_bytes = len(self) * np.prod([part.stop - part.start for part in union[1:]]) / 8
        thickness = max(1, int(_BLOCK_BYTES // row_bytes))
        for start in range(union[0].start, union[0].stop, thickness):
            slab = (slice(start, min(start + thickness, union[0].stop)), *union[1:])
            bits = np.stack([np.packbits(labels[slab] == label) for labels in self])
            counts += [np.bitwise_count(row & bits).sum(axis=1, dtype=np.int64) for row in bits]
        return counts


def bounding_slices(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest slices that hold every nonzero voxel; empty slices for an empty mask."""
    slices: list[slice] = []
    for axis in range(mask.ndim):
        hits = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        slices.append(slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else slice(0, 0))
        mask = mask[(*[slice(None)] * axis, slices[-1])]  # so that later axes look at less
    return tuple(slices)
