"""UniverSeg: segmentation of an image by the example of a few labeled ones, without training."""

from MedSegUncertaintyLib.models.universeg.fast import SupportSet, segment
from MedSegUncertaintyLib.models.universeg.network import UniverSeg

__all__ = ["SupportSet", "UniverSeg", "segment"]
