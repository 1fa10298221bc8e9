"""What one run leaves for the next one in the same process: the model, and the encoding of the last image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import load_sampler

if TYPE_CHECKING:
    from MedSegUncertaintyLib.inference.engine import Parts, Plan
    from MedSegUncertaintyLib.models.registry import SamplerModule


@dataclass(frozen=True)
class KeptEncoding:
    """The encoding of an image by the model that is kept with it.

    Attributes:
        image: What was encoded, (channels, *spatial), on the CPU.
        plan: Where, and with how large tiles.
        parts: The encoding.
    """

    image: Tensor
    plan: Plan
    parts: Parts


class Kept:
    """One model and one encoding, so that the same image is drawn from again without another pass of the network.

    Attributes:
        encoding: Made by the kept model; ``None`` if there is none.
    """

    def __init__(self) -> None:
        self.encoding: KeptEncoding | None = None
        self._package: ModelPackage | None = None
        self._model: SamplerModule | None = None

    def model(self, package: ModelPackage) -> SamplerModule:
        """The model of a package: the kept one if it is of this package, else a new one, which is then kept.

        Raises:
            PackageError: The package is damaged.
        """
        if self._model is None or not _same(self._package, package):
            # The old ones first give up their memory.
            self.encoding = self._model = self._package = None
            self._model = load_sampler(package)
            self._package = package
        return self._model

    def find(self, image: Tensor, plan: Plan) -> KeptEncoding | None:
        """The kept encoding if this plan would make the same of this image; if not, it is dropped to make room."""
        kept = self.encoding
        if kept is not None and (kept.plan != plan or not torch.equal(kept.image, image)):
            self.encoding = None
        return self.encoding


def _same(kept: ModelPackage | None, package: ModelPackage) -> bool:
    # The metadata have the checksum of the weights.
    return kept is not None and kept.folder == package.folder and kept.metadata == package.metadata
