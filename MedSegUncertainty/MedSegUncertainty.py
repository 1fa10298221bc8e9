"""The module that 3D Slicer loads: a thin front of MedSegUncertaintyLib.

Slicer runs this file when it starts, so nothing heavy is imported here.
"""

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

HOMEPAGE = "https://github.com/medseg-uncertainty/SlicerMedSegUncertainty"


class MedSegUncertainty(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("MedSeg Uncertainty")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = []
        parent.contributors = ["MedSegUncertainty maintainers (MedSegUncertainty)"]
        parent.helpText = _(
            "Draws many plausible segmentations of a volume and shows where, and by how much, they differ. "
            "For research only; this is not a medical device. "
            'See the <a href="{homepage}#readme">documentation</a>.'
        ).format(homepage=HOMEPAGE)
        parent.acknowledgementText = _(
            "Built on 3D Slicer, MONAI and PyTorch. "
            "The card of each model names the data it was trained on and the method it implements."
        )
        # There is no panel yet: the logic serves scripts, and an empty panel would only puzzle users.
        parent.hidden = True


class MedSegUncertaintyLogic(ScriptedLoadableModuleLogic):
    """What other modules and scripts can ask for."""

    def segment(
        self,
        volumeNode,
        packageName,
        samples=16,
        seed=0,
        roiNode=None,
        *,
        channelNodes=None,
        device="auto",
        progress=None,
        cancel=None,
    ):
        """Segment a volume many times and put the result into the scene.

        Args:
            volumeNode: Scalar volume; it is not changed.
            packageName: Name of a model package.
            samples: How many segmentations to draw.
            seed: The same seed draws the same segmentations.
            roiNode: Markups ROI that bounds the region to segment; None for the whole volume.
            channelNodes: Scalar volumes by role, for a package that needs several images; None for others.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            progress: Function that is told how far the work has come (``MedSegUncertaintyLib.inference.progress``).
            cancel: ``MedSegUncertaintyLib.inference.progress.CancelToken`` that stops the work.

        Returns:
            What ``MedSegUncertaintyLib.scene.run.segmentVolumeNode`` returns.
        """
        from MedSegUncertaintyLib.scene.run import segmentVolumeNode

        return segmentVolumeNode(
            volumeNode,
            packageName,
            samples,
            seed,
            roiNode,
            channelNodes=channelNodes,
            device=device,
            progress=progress,
            cancel=cancel,
        )


class MedSegUncertaintyTest(ScriptedLoadableModuleTest):
    """Self-test that Slicer's developer tools run."""

    def setUp(self):
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run every test."""
        self.setUp()
        self.test_unknownPackageIsNamed()

    def test_unknownPackageIsNamed(self):
        """A wrong package name is answered with a sentence, and the scene stays empty."""
        import numpy
        from MedSegUncertaintyLib.errors import PackageError

        volumeNode = slicer.util.addVolumeFromArray(numpy.arange(8.0).reshape(2, 2, 2))
        with self.assertRaisesRegex(PackageError, "no-such-package"):
            MedSegUncertaintyLogic().segment(volumeNode, "no-such-package")
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)
