"""Volumes and other numbers as table nodes, and a plot of the volumes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk

from MedSegUncertaintyLib.scene.folder import NodeFolder
from MedSegUncertaintyLib.uncertainty.statistics import empty_maps
from MedSegUncertaintyLib.volumes.geometry import Geometry

if TYPE_CHECKING:
    from MedSegUncertaintyLib.inference.result import InferenceResult

SHARE = "Share of samples (%)"


def addTables(folder: NodeFolder, result: InferenceResult, grid: Geometry) -> None:
    """Tables of the volumes and of the summary, a chart of the volumes, and a text that records the run.

    Args:
        folder: Where they go.
        result: What they say.
        grid: That of the maps, in the nodes' own coordinates.
    """
    volumes = {f"{s.name} (mL)": v for s, v in zip(result.structures, result.statistics.volumes_ml.T, strict=True)}
    numbers = np.arange(1, result.statistics.count + 1)
    addTable(folder, "Volumes", "volumes", {"Sample": numbers, **volumes})
    addTable(folder, "Summary", "summary", _summaryColumns(result))
    # In the middle of its step, so that a single sample stands at 50 %.
    shares = {SHARE: 100.0 * (numbers - 0.5) / result.statistics.count}
    ordered = {name: np.sort(values) for name, values in volumes.items()}
    distribution = addTable(folder, "Volume distribution", "distribution", {**shares, **ordered})
    _addChart(folder, distribution, result)
    _addRecord(folder, result, grid)


def _summaryColumns(result: InferenceResult) -> dict[str, Any]:
    rows = result.summary["structures"]
    spread = {"mean": "Mean", "sd": "SD", "minimum": "Minimum", "maximum": "Maximum"}
    quantiles = {"q05": "5 %", "q50": "50 %", "q95": "95 %"}
    return {
        "Structure": [row["name"] for row in rows],
        **{f"{text} (mL)": [row["volume_ml"][key] for row in rows] for key, text in {**spread, **quantiles}.items()},
        "Most probable (mL)": [row["prediction_ml"] for row in rows],
        "Mean pairwise Dice": [_orNan(row["mean_pairwise_dice"]) for row in rows],
        **{
            f"Entropy {key.replace('_', ' ')} (bit)": [_orNan(row["entropy_bits"][key]) for row in rows]
            for key in ("in_boundary_band", "outside_boundary_band")
        },
    }


def _orNan(value: float | None) -> float:
    return float("nan") if value is None else value


def addTable(folder: NodeFolder, name: str, role: str, columns: dict[str, Any]) -> Any:
    """A table node; texts, whole numbers and other numbers become columns of that type."""
    node = folder.add("vtkMRMLTableNode", name, role)
    fillTable(node, columns)
    return node


def fillTable(node: Any, columns: dict[str, Any]) -> None:
    """Replace what a table node holds; columns as for :func:`addTable`."""
    with slicer.util.NodeModify(node):
        node.RemoveAllColumns()
        for title, values in columns.items():
            column = _column(values)
            column.SetName(title)
            node.AddColumn(column)
            node.SetColumnType(title, column.GetDataType())  # kept in the file's schema
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)


def _column(values: Any) -> Any:
    kind = np.asarray(values).dtype.kind
    column = {"U": vtk.vtkStringArray, "i": vtk.vtkIntArray, "f": vtk.vtkDoubleArray}[kind]()
    for value in values:
        column.InsertNextValue(value)
    return column


def _addChart(folder: NodeFolder, tableNode: Any, result: InferenceResult) -> None:
    chart = folder.add("vtkMRMLPlotChartNode", "Volume chart", "chart")
    chart.SetTitle(f"Spread of {result.package.sample_kind}: volumes, smallest to largest")
    chart.SetXAxisTitle(SHARE)
    chart.SetYAxisTitle("Volume (mL)")
    for structure in result.structures:
        series = folder.add("vtkMRMLPlotSeriesNode", structure.name, f"series.{structure.slug}")
        series.SetAndObserveTableNodeID(tableNode.GetID())
        series.SetXColumnName(SHARE)
        series.SetYColumnName(f"{structure.name} (mL)")
        series.SetPlotType(series.PlotTypeScatter)
        series.SetLineStyle(series.LineStyleSolid)
        series.SetMarkerStyle(series.MarkerStyleCircle)
        series.SetColor(*structure.color)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())


def _addRecord(folder: NodeFolder, result: InferenceResult, grid: Geometry) -> None:
    record = {
        "package": result.package.name,
        "package_version": result.package.version,
        "structures": [structure.to_json() for structure in result.structures],
        "empty_maps": empty_maps(result.statistics),
        "request": result.request.to_json(),
        "image": result.image_name,
        "geometry": result.geometry.to_json(),
        "grid": grid.to_json(),
        "provenance": result.provenance,
        "summary": result.summary,
    }
    folder.add("vtkMRMLTextNode", "Record of the run", "record").SetText(json.dumps(record, indent=2))
