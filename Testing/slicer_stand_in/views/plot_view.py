"""Charts, drawn by VTK from the plot nodes."""

from types import SimpleNamespace
from typing import Any

import qt
import slicer
import vtk
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import standIn
from slicer_stand_in.observers import observe, unobserve
from slicer_stand_in.views.render_view import Surface
from slicer_stand_in.views.view_widget import qMRMLAbstractViewWidget, qMRMLViewControllerBar


@standIn("mrmlPlotViewNode", "mrmlScene")
class qMRMLPlotView(qt.QWidget):
    """Draws the chart that its view node names; nothing in it can be selected."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._d = SimpleNamespace(
            surface=Surface(), context=vtk.vtkContextView(), chart=vtk.vtkChartXY(), image=None,
            node=None, scene=None, observations=[], chartObservations=[],
        )  # fmt: skip
        self._d.context.SetRenderWindow(self._d.surface.window)
        self._d.context.GetRenderer().SetBackground(1, 1, 1)
        self._d.context.GetScene().AddItem(self._d.chart)
        self.setMinimumSize(60, 60)

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._d.scene

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene."""
        self._d.scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlPlotViewNode(self) -> Any:
        """The view's node."""
        return self._d.node

    def setMRMLPlotViewNode(self, node: Any) -> None:
        """Show what a view node says."""
        unobserve(self._d.observations)
        self._d.node = node
        if node is not None:
            self._d.observations.append(observe(self, node, vtk.vtkCommand.ModifiedEvent, "_onModified"))
        self._onModified()

    def fitToContent(self) -> None:
        """Draw anew; the axes always show everything unless the chart fixes them."""
        self._onModified()

    def _onModified(self, _caller: Any = None) -> None:
        """Follow the chart, its series and their tables."""
        d = self._d
        unobserve(d.chartObservations)
        chartNode = d.node.GetPlotChartNode() if d.node is not None else None
        for node in self._nodes(chartNode):
            d.chartObservations.append(observe(self, node, vtk.vtkCommand.ModifiedEvent, "_onModified"))
        d.image = None
        self.update()

    @staticmethod
    def _nodes(chartNode: Any) -> list[Any]:
        if chartNode is None:
            return []
        series = [chartNode.GetNthPlotSeriesNode(number) for number in range(chartNode.GetNumberOfPlotSeriesNodes())]
        return [chartNode, *series, *(node.GetTableNode() for node in series if node.GetTableNode() is not None)]

    def _draw(self) -> None:
        chart, node = self._d.chart, self._d.node.GetPlotChartNode() if self._d.node is not None else None
        chart.ClearPlots()
        chart.SetVisible(node is not None)
        if node is None:
            return
        chart.SetTitle(node.GetTitle() or "")
        chart.SetShowLegend(bool(node.GetLegendVisibility()))
        for axis, title in ((vtk.vtkAxis.BOTTOM, node.GetXAxisTitle()), (vtk.vtkAxis.LEFT, node.GetYAxisTitle())):
            chart.GetAxis(axis).SetTitle(title or "")
        for number in range(node.GetNumberOfPlotSeriesNodes()):
            _addSeries(chart, node.GetNthPlotSeriesNode(number))
        chart.RecalculateBounds()

    def paintEvent(self, _event: Any) -> None:
        """Draw the chart if something changed, and paint it."""
        d, scale = self._d, self.devicePixelRatioF()
        if d.image is None:
            self._draw()
            d.image = d.surface.picture(max(1, round(self.width * scale)), max(1, round(self.height * scale)), scale)
        painter = qt.QPainter(self)
        painter.drawImage(0, 0, d.image)
        painter.end()

    def resizeEvent(self, _event: Any) -> None:
        """Draw at the new size."""
        self._d.image = None
        self.update()


def _addSeries(chart: Any, series: Any) -> None:
    """Add a plot for a series whose table has the columns that it names."""
    table = series.GetTableNode().GetTable() if series.GetTableNode() is not None else None
    x, y = series.GetXColumnName() or "", series.GetYColumnName() or ""
    if table is None or table.GetColumnByName(y) is None:
        return
    kinds = {series.PlotTypeBar: chart.BAR, series.PlotTypeLine: chart.LINE, series.PlotTypeScatter: chart.LINE}
    plot = chart.AddPlot(kinds.get(series.GetPlotType(), chart.BAR))
    if table.GetColumnByName(x) is None:
        plot.UseIndexForXSeriesOn()
        plot.SetInputData(table, y, y)
    else:
        plot.SetInputData(table, x, y)
    plot.SetColorF(*series.GetColor())
    plot.SetLabel(series.GetName())
    if isinstance(plot, vtk.vtkPlotLine):
        plot.SetWidth(series.GetLineWidth())
        plot.GetPen().SetLineType(series.GetLineStyle() if series.GetPlotType() != series.PlotTypeBar else 1)
        plot.SetMarkerStyle(series.GetMarkerStyle())
        plot.SetMarkerSize(series.GetMarkerSize())


@standIn()
class qMRMLPlotWidget(qMRMLAbstractViewWidget):
    """A chart with its bar."""

    def __init__(self, node: Any, parent: Any = None) -> None:
        super().__init__(parent)
        view = qMRMLPlotView(self)
        view.setMRMLScene(slicer.mrmlScene)
        view.setMRMLPlotViewNode(node)
        bar = qMRMLViewControllerBar(self)
        bar.barLayout().addStretch()
        self._build(bar, view, node)

    def plotView(self) -> Any:
        """The view without its bar."""
        return self._d.view

    def plotController(self) -> Any:
        """The bar."""
        return self._d.bar

    def mrmlPlotViewNode(self) -> Any:
        """The view's node."""
        return self._d.node
