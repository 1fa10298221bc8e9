"""The layout manager: puts views side by side as the layout node says."""

import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace
from typing import Any

import qt
import slicer
import vtk
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import qproperty, standIn
from slicer_stand_in.observers import observe
from slicer_stand_in.views.plot_view import qMRMLPlotWidget
from slicer_stand_in.views.slice_view import qMRMLSliceWidget
from slicer_stand_in.views.table_view import qMRMLTableWidget
from slicer_stand_in.views.three_d_view import qMRMLThreeDWidget

WIDGETS = {
    "vtkMRMLSliceNode": qMRMLSliceWidget,
    "vtkMRMLViewNode": qMRMLThreeDWidget,
    "vtkMRMLPlotViewNode": qMRMLPlotWidget,
    "vtkMRMLTableViewNode": qMRMLTableWidget,
}


@standIn("viewport")
class qMRMLLayoutManager(qt.QObject):
    """Makes the widgets of the views that layouts name, keeps them, and arranges them in one frame."""

    layoutChanged = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        logic = slicer.vtkMRMLLayoutLogic()
        logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        logic.SetMRMLScene(slicer.mrmlScene)
        frame = qt.QWidget()
        qt.QVBoxLayout(frame).setContentsMargins(0, 0, 0, 0)
        self._d = SimpleNamespace(logic=logic, frame=frame, root=None, shown=None, widgets={}, enabled=True)
        node = logic.GetLayoutNode()
        self._d.observation = observe(self, node, vtk.vtkCommand.ModifiedEvent, "_onLayoutNode")
        node.SetViewArrangement(node.SlicerLayoutConventionalView)
        self._onLayoutNode(node)

    def viewport(self) -> Any:
        """The frame around all views."""
        return self._d.frame

    def layoutLogic(self) -> Any:
        """The logic that knows the layouts."""
        return self._d.logic

    def setLayout(self, number: int) -> None:
        """Switch to a layout by its number."""
        self._d.logic.GetLayoutNode().SetViewArrangement(number)

    layout = qproperty("int", "layout", lambda s: s._d.logic.GetLayoutNode().GetViewArrangement(), setLayout)

    def mrmlScene(self) -> Any:
        """The scene."""
        return slicer.mrmlScene

    def mrmlSliceLogics(self) -> Any:
        """The logics of all slice views."""
        return slicer.app.applicationLogic().GetSliceLogics()

    def _onLayoutNode(self, node: Any) -> None:
        shown = (node.GetViewArrangement(), node.GetCurrentLayoutDescription())
        if shown == self._d.shown or not shown[1]:
            return
        self._d.shown = shown
        root = self._build(ElementTree.fromstring(shown[1]))
        for widget in self._d.widgets.values():
            if not root.isAncestorOf(widget):
                widget.setParent(self._d.frame)
                widget.hide()
                widget.mrmlAbstractViewNode().SetMappedInLayout(0)
        self._d.frame.layout().addWidget(root)
        if self._d.root is not None:
            self._d.root.deleteLater()
        self._d.root = root
        self.layoutChanged.emit(shown[0])

    def _build(self, element: ElementTree.Element) -> Any:
        """The widget of a layout, or of a view, with everything inside."""
        if element.tag == "view":
            return self._view(element)
        parts = [self._build(next(iter(item))) for item in element if item.tag == "item" and len(item)]
        if element.get("type") == "grid":
            return self._grid(element, parts)
        if element.get("type") == "tab":
            tabs = qt.QTabWidget()
            for part in parts:
                tabs.addTab(part, getattr(part, "viewLabel", ""))
            return tabs
        splitter = qt.QSplitter(qt.Qt.Vertical if element.get("type") == "vertical" else qt.Qt.Horizontal)
        for part in parts:
            splitter.addWidget(part)
        splitter.setSizes([1000] * len(parts))
        return splitter

    @staticmethod
    def _grid(element: ElementTree.Element, parts: list[Any]) -> Any:
        frame = qt.QWidget()
        layout = qt.QGridLayout(frame)
        layout.setContentsMargins(0, 0, 0, 0)
        for item, part in zip(element.findall("item"), parts, strict=True):
            spans = (int(item.get("rowspan", 1)), int(item.get("colspan", 1)))
            layout.addWidget(part, int(item.get("row", 0)), int(item.get("column", 0)), *spans)
        return frame

    def _view(self, element: ElementTree.Element) -> Any:
        className, name = element.get("class"), element.get("singletontag")
        node = slicer.mrmlScene.GetSingletonNode(name, className)
        if node is None:
            raise RuntimeError(f"The layout names a view that does not exist: {className} {name}")
        for option in element.findall("property"):
            _applyProperty(node, option.get("name"), option.text or "")
        node.SetMappedInLayout(1)  # displayable managers leave views alone that are not
        if (className, name) not in self._d.widgets:
            self._d.widgets[className, name] = WIDGETS[className](node)
        widget = self._d.widgets[className, name]
        widget.setParent(self._d.frame)
        widget.show()
        return widget

    def viewWidget(self, node: Any) -> Any:
        """The widget of a view node, or None."""
        return self._d.widgets.get((node.GetClassName(), node.GetSingletonTag()))

    def _shownWidgets(self, className: str) -> list[Any]:
        """Widgets of a class in the present layout, in the order of their nodes in it."""
        return [w for (kind, _), w in self._d.widgets.items() if kind == className and self._d.root.isAncestorOf(w)]

    def sliceViewNames(self) -> tuple[str, ...]:
        """Names of the slice views of the present layout."""
        return tuple(widget.mrmlSliceNode().GetLayoutName() for widget in self._shownWidgets("vtkMRMLSliceNode"))

    def sliceWidget(self, name: str) -> Any:
        """The slice view of a name, shown or not; None if no layout had it so far."""
        return self._d.widgets.get(("vtkMRMLSliceNode", name))

    def threeDWidget(self, number: int) -> Any:
        """The 3D view of a number."""
        return self._numbered("vtkMRMLViewNode", number)

    def plotWidget(self, number: int) -> Any:
        """The chart of a number."""
        return self._numbered("vtkMRMLPlotViewNode", number)

    def tableWidget(self, number: int) -> Any:
        """The table of a number."""
        return self._numbered("vtkMRMLTableViewNode", number)

    def _numbered(self, className: str, number: int) -> Any:
        widgets = self._shownWidgets(className)
        return widgets[number] if 0 <= number < len(widgets) else None

    threeDViewCount = qproperty("int", "threeDViewCount", lambda s: len(s._shownWidgets("vtkMRMLViewNode")))
    plotViewCount = qproperty("int", "plotViewCount", lambda s: len(s._shownWidgets("vtkMRMLPlotViewNode")))
    tableViewCount = qproperty("int", "tableViewCount", lambda s: len(s._shownWidgets("vtkMRMLTableViewNode")))

    def activeMRMLThreeDViewNode(self) -> Any:
        """The node of the first 3D view."""
        return self.threeDWidget(0).mrmlViewNode() if self.threeDViewCount else None

    def resetSliceViews(self) -> None:
        """Fit all slices to their background."""
        for name in self.sliceViewNames():
            self.sliceWidget(name).fitSliceToBackground()

    def resetThreeDViews(self) -> None:
        """Show everything in all 3D views."""
        for widget in self._shownWidgets("vtkMRMLViewNode"):
            widget.threeDView().resetCamera()

    def pauseRender(self) -> None:
        """Keep the pictures as they are until ``resumeRender``."""
        slicer.app.pauseRender()

    def resumeRender(self) -> None:
        """Render again."""
        slicer.app.resumeRender()


def _applyProperty(node: Any, name: str, text: str) -> None:
    """Label and color of a view; what else a layout says is applied by its logic."""
    if name == "viewlabel":
        node.SetLayoutLabel(text)
    elif name == "viewcolor":
        color = qt.QColor(text)
        node.SetLayoutColor(color.redF(), color.greenF(), color.blueF())
