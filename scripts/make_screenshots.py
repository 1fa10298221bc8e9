"""Draw the pictures of README and Extensions Index with the extension's own code.

    python scripts/make_screenshots.py IMAGE

IMAGE is the image of ``make run``, the MNI152 T1 template of the nilearn package.
"""

import sys
from pathlib import Path

import matplotlib.image
import numpy as np
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.outputs.document import most_uncertain
from MedSegUncertaintyLib.scene.bundle import addVolume
from MedSegUncertaintyLib.scene.headless import ensureApplication
from MedSegUncertaintyLib.scene.nodes import addResult
from MedSegUncertaintyLib.scene.pictures import render3DPicture, renderSlicePictures
from MedSegUncertaintyLib.volumes.geometry import RegionOfInterest
from MedSegUncertaintyLib.volumes.reading import read_volume

FOLDER = Path(__file__).resolve().parents[1] / "Resources" / "Screenshots"
PACKAGE = "ssn-hippocampus-mr"
REGION = RegionOfInterest((-27.0, -22.0, -14.0), (48.0, 64.0, 48.0))
GAP = 8


def main() -> None:
    """Segment, render, and write ``Resources/Screenshots/1.png``."""
    volume = read_volume(sys.argv[1])
    result = segment(volume, InferenceRequest(PACKAGE, samples=16, seed=0, roi=REGION))
    place = most_uncertain(result)["place"]["ras"]
    ensureApplication()
    node = addVolume(volume)
    nodes = addResult(result, node)
    slices = renderSlicePictures(node, nodes, {"Sagittal": place, "Coronal": place})
    views = [slices["outlines", "Sagittal"], slices["outlines", "Coronal"], slices["heat", "Sagittal"]]
    panels = [*views, render3DPicture(nodes)]
    gap = np.full((panels[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    strip = np.hstack([part for panel in panels for part in (panel, gap)][:-1])
    FOLDER.mkdir(parents=True, exist_ok=True)
    matplotlib.image.imsave(FOLDER / "1.png", strip)


if __name__ == "__main__":
    main()
