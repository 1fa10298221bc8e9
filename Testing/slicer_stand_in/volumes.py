"""A volume that is made on the fly."""

from typing import Any

import numpy as np
import slicer


def sampleVolume() -> Any:
    """A head of two shells with a bright organ at the patient's right, in front, 2 mm voxels."""
    k, j, i = np.indices((80, 100, 90)).astype(np.float32)
    radius = np.sqrt(((i - 45) / 38) ** 2 + ((j - 50) / 45) ** 2 + ((k - 40) / 36) ** 2)
    array = np.select([radius < 0.85, radius < 0.95], [90, 220], 0).astype(np.float32)
    array[((i - 30) / 9) ** 2 + ((j - 30) / 12) ** 2 + ((k - 42) / 8) ** 2 < 1] = 160
    array += np.random.default_rng(0).normal(0, 6, array.shape)
    ijkToRas = np.array([[-2.0, 0, 0, 90], [0, -2, 0, 100], [0, 0, 2, -80], [0, 0, 0, 1]])
    return slicer.util.addVolumeFromArray(array.astype(np.int16), ijkToRas, "Sample volume")
