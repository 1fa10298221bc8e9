"""Images that several readers segmented, from one npz file."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from MedSegUncertaintyLib.errors import BadInputError


@dataclass(frozen=True)
class ReaderBatch:
    """Some images of a file, in its order.

    Attributes:
        first: Position of the first one in the file.
        images: (B, H, W) uint8.
        masks: (B, R, H, W) uint8, 0 or 1; an empty mask is the opinion that there is nothing.
    """

    first: int
    images: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True, eq=False)
class ReaderFile:
    """The content of a file, packed; :meth:`batches` and :meth:`case` unpack it piece by piece.

    Attributes:
        name: Name of the file.
        patients: (N,), who each image is of.
    """

    name: str
    patients: np.ndarray
    _webp: np.ndarray
    _spans: np.ndarray
    _packed: np.ndarray

    @classmethod
    def read(cls, path: str | Path) -> ReaderFile:
        """Read a file with the arrays ``webp``, ``offsets``, ``masks_packed`` and ``patient``.

        Image i is the lossless WebP file ``webp[offsets[i]:offsets[i + 1]]``; ``masks_packed`` is (N, R, H, W / 8) with
        eight pixels of a row per byte, the first one in the highest bit (``numpy.packbits``). Other arrays are ignored.

        Raises:
            BadInputError: The file cannot be read or holds something else.
        """
        path = Path(path)
        arrays = _arrays(path)
        images = len(arrays["patient"])
        offsets = arrays["offsets"].astype(np.int64)  # differences of unsigned numbers are never negative
        if images == 0 or not len(offsets) - 1 == len(arrays["masks_packed"]) == images:
            raise BadInputError(
                f"{path.name} has {len(offsets) - 1} images, masks of {len(arrays['masks_packed'])} and patients of "
                f"{images}; these numbers must be equal and not 0."
            )
        if offsets[0] < 0 or (np.diff(offsets) < 0).any() or offsets[-1] > len(arrays["webp"]):
            raise BadInputError(f"{path.name}: the array offsets does not say where the images of webp begin and end.")
        if 0 in arrays["masks_packed"].shape:
            raise BadInputError(f"{path.name} has empty masks_packed, of shape {arrays['masks_packed'].shape}.")
        spans = np.stack([offsets[:-1], offsets[1:]], axis=1)
        return cls(path.name, arrays["patient"], arrays["webp"], spans, arrays["masks_packed"])

    def __len__(self) -> int:
        return len(self.patients)

    @property
    def readers(self) -> int:
        """Masks per image; the same place is not always the same reader."""
        return self._packed.shape[1]

    def every(self, step: int) -> ReaderFile:
        """Every ``step``-th image, beginning with the first."""
        return replace(self, patients=self.patients[::step], _spans=self._spans[::step], _packed=self._packed[::step])

    def case(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W) uint8 and masks (R, H, W) uint8, 0 or 1, at one position.

        Raises:
            BadInputError: The image cannot be decoded or is not as large as its masks.
        """
        masks = np.unpackbits(self._packed[index], axis=-1)
        return self._decode(index, masks.shape[1:]), masks

    def batches(self, size: int) -> Iterator[ReaderBatch]:
        """All images in batches of at most ``size``.

        Raises:
            BadInputError: An image cannot be decoded or is not as large as its masks.
        """
        for first in range(0, len(self), size):
            cases = [self.case(index) for index in range(first, min(first + size, len(self)))]
            images, masks = (np.stack(arrays) for arrays in zip(*cases, strict=True))
            yield ReaderBatch(first, images, masks)

    def _decode(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        content = self._webp[slice(*self._spans[index])].tobytes()
        try:
            with Image.open(io.BytesIO(content), formats=["WEBP"]) as picture:
                decoded = np.asarray(picture.convert("L"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise BadInputError(f"Image {index} of {self.name} is no WebP image that can be read.") from error
        if decoded.shape != shape:
            raise BadInputError(
                f"Image {index} of {self.name} has {decoded.shape[0]} x {decoded.shape[1]} pixels, but its masks have "
                f"{shape[0]} x {shape[1]}."
            )
        return decoded


_LAYOUT: dict[str, tuple[int, str]] = {
    "webp": (1, "u1"),
    "offsets": (1, "iu"),
    "masks_packed": (4, "u1"),
    "patient": (1, "iuSU"),
}
"""Number of axes of every array that is needed, and its type or kinds of types."""


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise BadInputError(f"There is no file {path}.")
    if not zipfile.is_zipfile(path):
        raise BadInputError(f"{path.name} is no npz file.")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in _LAYOUT if key not in file]
            if missing:
                raise BadInputError(f"{path.name} holds no images with readers: it has no array {missing[0]}.")
            arrays = {key: np.asarray(file[key]) for key in _LAYOUT}
    # RuntimeError is what zipfile raises for an encrypted entry, NotImplementedError for an unknown compression.
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInputError(f"{path.name} is damaged or holds something other than plain arrays.") from error
    for key, (axes, kinds) in _LAYOUT.items():
        kind = arrays[key].dtype
        fits = kind == np.uint8 if kinds == "u1" else kind.kind in kinds
        if arrays[key].ndim != axes or not fits:
            raise BadInputError(f"{path.name}: the array {key} has shape {arrays[key].shape} and type {kind}.")
    return arrays
