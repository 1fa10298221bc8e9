"""Base classes of scripted modules, with what modules can see of Slicer's."""

import importlib
import unittest
from pathlib import Path

import qt
import slicer

__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
]


def _nameOf(instance, suffix=""):
    return type(instance).__name__.removesuffix(suffix)


class ScriptedLoadableModule:
    """Describes a module to the application."""

    def __init__(self, parent):
        self.parent, self.moduleName = parent, _nameOf(self)
        parent.title = parent.helpText = parent.acknowledgementText = ""
        parent.categories, parent.dependencies, parent.contributors = [], [], []
        icon = Path(self.resourcePath("Icons"), f"{self.moduleName}.png")
        if icon.is_file():
            parent.icon = qt.QIcon(str(icon))
        if not hasattr(slicer, "selfTests"):
            slicer.selfTests = {}
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename):
        """Path of a file in the module's Resources folder."""
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage=None):
        """A paragraph with a link to the documentation."""
        base, name = slicer.app.documentationBaseUrl, self.moduleName
        url = base + docPage if docPage else slicer.app.moduleDocumentationUrl(name)
        return f'<p>See the <a href="{url}">documentation</a>.</p>'

    def runTest(self, msec=100, **kwargs):
        """Run the module's self-test."""
        test = getattr(importlib.import_module(type(self).__module__), f"{self.moduleName}Test")()
        test.messageDelay = msec
        test.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """Builds a panel inside ``parent``, or in a window of its own."""

    def __init__(self, parent=None):
        self.moduleName = _nameOf(self, "Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        self.parent = parent or self._newParent()
        self.layout = self.parent.layout()
        if parent is None:
            self.setup()
            self.parent.show()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    @staticmethod
    def _newParent():
        window = slicer.qMRMLWidget()
        window.setLayout(qt.QVBoxLayout())
        window.setMRMLScene(slicer.mrmlScene)
        return window

    def resourcePath(self, filename):
        """Path of a file in the module's Resources folder."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self):
        """Build the panel; modules call this before they add their own part."""
        if self.developerMode:
            button = qt.QPushButton("Reload")
            button.connect("clicked()", self.onReload)
            self.layout.addWidget(button)

    def cleanup(self):
        """The module is about to be unloaded; modules override this."""

    def onReload(self):
        """Load the module's file anew and rebuild the panel."""
        slicer.util.reloadScriptedModule(self.moduleName)

    def _onModuleAboutToBeUnloaded(self, moduleName):
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    """Finds and makes the module's parameter nodes."""

    def __init__(self, parent=None):
        self.moduleName = _nameOf(self, "Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        """The module's first parameter node; made if there is none."""
        nodes = self.getAllParameterNodes()
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None:
                node.SetAttribute("ModuleName", self.moduleName)  # closing the scene takes it away
                return node
        elif nodes:
            return nodes[0]
        return slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self):
        """All parameter nodes of the module."""
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self):
        """A new parameter node, which is not in the scene yet."""
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Self-test of a module; ``runTest`` is what Slicer calls."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.messageDelay = 100

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        """Show a message for a moment."""
        slicer.util.delayDisplay(message, requestedDelay or msec or self.messageDelay)

    def runTest(self):
        """Modules run their tests here."""
