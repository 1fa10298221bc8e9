"""Tables, the chart and the record say what the result says."""

import json

import numpy as np
from MedSegUncertaintyLib.scene.nodes import addResult


def column(table_node, name):
    array = table_node.GetTable().GetColumnByName(name)
    return [array.GetValue(row) for row in range(array.GetNumberOfValues())]


def test_volumes_of_every_sample(scene, volume_node, blob_result):
    table = addResult(blob_result, volume_node).volumesTable
    assert column(table, "Sample") == list(range(1, 9))
    np.testing.assert_array_equal(column(table, "Left blob (mL)"), blob_result.statistics.volumes_ml[:, 0])
    np.testing.assert_array_equal(column(table, "Right blob (mL)"), blob_result.statistics.volumes_ml[:, 1])


def test_summary_of_every_structure(scene, volume_node, blob_result):
    table = addResult(blob_result, volume_node).summaryTable
    rows = blob_result.summary["structures"]
    assert column(table, "Structure") == ["Left blob", "Right blob"]
    assert column(table, "Mean (mL)") == [row["volume_ml"]["mean"] for row in rows]
    assert column(table, "95 % (mL)") == [row["volume_ml"]["q95"] for row in rows]
    assert column(table, "Mean pairwise Dice") == [row["mean_pairwise_dice"] for row in rows]
    in_band = [row["entropy_bits"]["in_boundary_band"] for row in rows]
    assert column(table, "Entropy in boundary band (bit)") == in_band


def test_the_chart_shows_sorted_volumes(scene, volume_node, blob_result):
    nodes = addResult(blob_result, volume_node)
    assert nodes.chart.GetNumberOfPlotSeriesNodes() == 2
    series = nodes.chart.GetNthPlotSeriesNode(1)
    assert series.GetName() == "Right blob"
    np.testing.assert_allclose(series.GetColor(), blob_result.structures[1].color)
    shares = column(series.GetTableNode(), series.GetXColumnName())
    volumes = column(series.GetTableNode(), series.GetYColumnName())
    assert shares[0] == 6.25
    assert shares[-1] == 93.75
    np.testing.assert_array_equal(volumes, np.sort(blob_result.statistics.volumes_ml[:, 1]))


def test_the_record_says_how_the_result_was_made(scene, volume_node, blob_result):
    record = json.loads(addResult(blob_result, volume_node).record.GetText())
    assert record["request"]["samples"] == 8
    assert record["package"] == "two-blobs"
    assert record["provenance"] == blob_result.provenance
