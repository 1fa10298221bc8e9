"""The module that 3D Slicer loads: a thin front of MedSegUncertaintyLib.

Slicer runs this file when it starts, so nothing heavy is imported here.
"""

import os
import time
import unittest
from typing import Annotated

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

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


@parameterNodeWrapper
class MedSegUncertaintyParameterNode:
    """What the user chose; saved with the scene.

    Attributes:
        inputVolume: What to segment.
        packageName: Name of the model package.
        region: Bounds what is segmented; None for the whole volume.
        samples: How many segmentations to draw.
        seed: The same seed draws the same segmentations.
        temperature: Scale of the noise, 1 as it was trained.
        classWeights: How far each structure moves from its mean; empty for all as trained.
        scales: What is wanted of each scale of the samples; empty for all as trained.
        steps: In how many steps each sample is drawn; 0 for all that the model has.
        device: Where the network runs.
        allowCpu: Whether to go on with the CPU when the memory of the graphics card runs out.
        exampleView: Slice view in which the user paints examples.
        livePrediction: Whether to predict while the user paints.
        result: Segmentation of the samples of the result that is shown.
    """

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    packageName: str
    region: slicer.vtkMRMLMarkupsROINode
    samples: Annotated[int, WithinRange(1, 1000)] = 16
    seed: Annotated[int, WithinRange(0, 2**31 - 1)] = 0
    temperature: Annotated[float, WithinRange(0, 2)] = 1.0
    classWeights: list[float]
    scales: list[str]
    steps: int = 0
    device: Annotated[str, Choice(["auto", "cpu", "cuda"])] = "auto"
    allowCpu: bool = True
    exampleView: slicer.vtkMRMLSliceNode
    livePrediction: bool = True
    result: slicer.vtkMRMLSegmentationNode


class MedSegUncertaintyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel; what it does is in ``MedSegUncertaintyLib.gui``."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = self.ui = None

    def setup(self):
        """Build the panel when the module is first opened."""
        ScriptedLoadableModuleWidget.setup(self)
        from MedSegUncertaintyLib.gui.panel import Panel

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/MedSegUncertainty.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = MedSegUncertaintyLogic()
        self.panel = Panel(self.ui, self.resourcePath("requirements.txt"))
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneReady)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneReady)
        self.initializeParameterNode()

    def initializeParameterNode(self):
        """Show the parameters of the scene."""
        parameters = MedSegUncertaintyParameterNode(self.logic.getParameterNode())
        if parameters.inputVolume is None:
            parameters.inputVolume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        if parameters.exampleView is None:
            parameters.exampleView = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceNode")
        self.panel.setParameters(parameters)

    def enter(self):
        """The user opened the module."""
        self.initializeParameterNode()
        self.panel.enter()

    def exit(self):
        """The user left the module."""
        self.panel.exit()

    def cleanup(self):
        """The application closes, or the module is reloaded."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.close()

    def onSceneStartClose(self, caller, event):
        """What is shown is about to go."""
        self.panel.onSceneCloses()

    def onSceneReady(self, caller, event):
        """There is an empty scene, or one that was loaded."""
        self.initializeParameterNode()


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
    """Self-tests that Slicer's developer tools and ctest run; none needs the network or a graphics card."""

    PACKAGE = "ssn-hippocampus-mr"
    EXAMPLES_PACKAGE = "universeg-mini"
    SECONDS = 180

    def setUp(self):
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def tearDown(self):
        """Leave an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run every test, each from an empty scene; the button Reload and Test comes here."""
        for name in [name for name in dir(self) if name.startswith("test_")]:
            self.setUp()
            try:
                getattr(self, name)()
            except unittest.SkipTest as reason:
                self.delayDisplay(f"{name} was skipped: {reason}")
        self.tearDown()

    def makeVolume(self, lowest=0.0):
        """A soft-edged blob of the size of a hippocampus in noise, 1 mm voxels, and a region of interest on it."""
        import numpy

        k, j, i = numpy.indices((48, 64, 48))
        inside = ((i - 24) / 6) ** 2 + ((j - 32) / 16) ** 2 + ((k - 24) / 6) ** 2 < 1
        noise = numpy.random.default_rng(0).normal(0, 5, inside.shape)
        array = numpy.clip(100 + 60 * inside + noise, 1, None) + lowest
        volumeNode = slicer.util.addVolumeFromArray(array.astype(numpy.float32))
        volumeNode.SetName("Made by the test")
        regionNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
        regionNode.SetSize(40, 56, 40)
        bounds = [0.0] * 6
        volumeNode.GetRASBounds(bounds)
        regionNode.SetCenterWorld(*((low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)))
        return volumeNode, regionNode

    def skipWithoutTorch(self):
        """Inference needs packages that only the user's consent brings into Slicer."""
        from MedSegUncertaintyLib.gui.installing import missingRequirements

        path = slicer.util.modulePath("MedSegUncertainty")
        missing = missingRequirements(os.path.join(os.path.dirname(path), "Resources", "requirements.txt"))
        if missing:
            self.skipTest(f"Python packages are missing: {', '.join(missing)}")

    def openPanel(self):
        """The panel's widgets, and the object behind them."""
        panel = slicer.modules.medseguncertainty.widgetRepresentation().self()
        panel.enter()
        return panel.ui, panel

    def waitFor(self, condition):
        """Let the application work until a condition holds."""
        deadline = time.monotonic() + self.SECONDS
        while not condition():
            self.assertLess(time.monotonic(), deadline, "timed out")
            slicer.app.processEvents()
            time.sleep(0.01)

    def test_unknownPackageIsNamed(self):
        """A wrong package name is answered with a sentence, and the scene stays empty."""
        from MedSegUncertaintyLib.errors import PackageError

        volumeNode, _region = self.makeVolume()
        with self.assertRaisesRegex(PackageError, "no-such-package"):
            MedSegUncertaintyLogic().segment(volumeNode, "no-such-package")
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)

    def test_logicAddsAResult(self):
        """Scripts get samples, contours, maps and tables."""
        self.skipWithoutTorch()
        from MedSegUncertaintyLib.scene.nodes import removeResult

        volumeNode, regionNode = self.makeVolume()
        before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
        nodes = MedSegUncertaintyLogic().segment(volumeNode, self.PACKAGE, 3, roiNode=regionNode, device="cpu")
        self.assertEqual(nodes.samples.GetSegmentation().GetNumberOfSegments(), 6)
        self.assertIn("variance.anterior_hippocampus", nodes.maps)
        self.assertEqual(nodes.volumesTable.GetNumberOfRows(), 3)
        removeResult(nodes)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), before)

    def test_panelDrawsSamples(self):
        """Apply puts a result into the scene, and the panel shows it."""
        self.skipWithoutTorch()
        volumeNode, regionNode = self.makeVolume()
        ui, panel = self.openPanel()
        parameters = MedSegUncertaintyParameterNode(panel.logic.getParameterNode())
        parameters.inputVolume, parameters.region, parameters.samples = volumeNode, regionNode, 4
        parameters.packageName, parameters.device = self.PACKAGE, "cpu"
        self.assertTrue(ui.applyButton.enabled, ui.applyButton.toolTip)
        ui.applyButton.click()
        self.waitFor(lambda: ui.applyButton.text == "Apply")
        self.assertEqual(ui.messageLabel.text, "")
        self.assertEqual(ui.structureTable.rowCount, 2)
        self.assertIsNotNone(parameters.result)

    def paintExamples(self, supports, indices):
        """Outline the blob of the volume in some axial slices, and make these examples."""
        from MedSegUncertaintyLib.scene.segment_slices import addToSlice
        from MedSegUncertaintyLib.scene.slice_places import SlicePlace

        array = slicer.util.arrayFromVolume(supports.volumeNode)
        for index in indices:
            addToSlice(supports.painted, supports.segmentIds[0], supports.grid, 2, index, array[index] > 130)
            supports.add(SlicePlace("axial", index))

    def test_examplesAreFoundInTheOtherSlices(self):
        """Two painted slices and a mark beyond each end lead to a prediction, and to a result with Apply."""
        self.skipWithoutTorch()
        import numpy
        from MedSegUncertaintyLib.scene.prediction import predictedIndices
        from MedSegUncertaintyLib.scene.slice_places import SlicePlace
        from MedSegUncertaintyLib.scene.supports import supportsOf

        volumeNode, _region = self.makeVolume()
        ui, panel = self.openPanel()
        parameters = MedSegUncertaintyParameterNode(panel.logic.getParameterNode())
        parameters.inputVolume, parameters.region, parameters.samples = volumeNode, None, 2
        parameters.device, parameters.packageName = "cpu", self.EXAMPLES_PACKAGE
        supports = supportsOf(volumeNode)
        self.assertIn("Add this slice", ui.applyButton.toolTip)
        self.paintExamples(supports, (22, 26))
        for index in (14, 34):
            supports.markAbsent(SlicePlace("axial", index))
        self.waitFor(lambda: 24 in predictedIndices(supports, "axial"))
        self.waitFor(lambda: ui.nextLabel.text or not ui.liveLabel.text)
        self.assertEqual(supports.paintedIn("axial"), [22, 26])
        self.assertTrue(set(predictedIndices(supports, "axial")) <= set(range(15, 34)))
        self.waitFor(lambda: ui.applyButton.enabled)
        ui.applyButton.click()
        self.waitFor(lambda: ui.applyButton.text == "Apply")
        self.assertEqual(ui.messageLabel.text, "")
        samples = parameters.result
        found = slicer.util.arrayFromSegmentBinaryLabelmap(
            samples, samples.GetSegmentation().GetNthSegmentID(0), volumeNode
        ).astype(bool)
        expected = slicer.util.arrayFromVolume(volumeNode)[24] > 130
        overlap = 2 * numpy.sum(found[24] & expected) / (found[24].sum() + expected.sum())
        self.assertGreater(overlap, 0.7)

    def test_examplesSurviveSavingAndRemoving(self):
        """Examples are nodes: they come back with the scene, and taking one off the list keeps what was painted."""
        from MedSegUncertaintyLib.scene.supports import createSupports, supportsOf

        volumeNode, _region = self.makeVolume()
        self.paintExamples(createSupports(volumeNode), (22, 26))
        path = os.path.join(slicer.app.temporaryPath, "examples.mrb")
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        slicer.util.loadScene(path)
        supports = supportsOf(slicer.util.getFirstNodeByName("Made by the test", "vtkMRMLScalarVolumeNode"))
        self.assertEqual([one.place.index for one in supports.examples()], [22, 26])
        supports.remove(supports.examples()[0])
        self.assertEqual([one.place.index for one in supports.examples()], [26])
        self.assertEqual(supports.paintedIn("axial"), [22, 26])

    def test_wrongModalityIsSaidBefore(self):
        """A volume that looks like CT is not taken for MR without a word."""
        volumeNode, _region = self.makeVolume(lowest=-1000)
        ui, panel = self.openPanel()
        parameters = MedSegUncertaintyParameterNode(panel.logic.getParameterNode())
        parameters.inputVolume, parameters.packageName = volumeNode, self.PACKAGE
        self.assertIn("CT", ui.misfitLabel.text)
        self.assertFalse(ui.applyButton.enabled)
        self.assertIn("region of interest", ui.applyButton.toolTip)

    def test_parametersAndWidgetsHaveTheSameNames(self):
        """Every widget that names a parameter is connected to one."""
        ui, _panel = self.openPanel()
        named = {widget.property("SlicerParameterName") for widget in vars(ui).values() if hasattr(widget, "property")}
        named.discard(None)
        self.assertEqual(
            named | {"packageName", "classWeights", "scales", "steps", "result"},
            set(MedSegUncertaintyParameterNode.allParameters),
        )
