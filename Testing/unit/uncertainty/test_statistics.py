"""Maps, contours, representatives and summaries against plain NumPy on stacked samples."""

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.uncertainty import samples as samples_module
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS, contour_mask
from MedSegUncertaintyLib.uncertainty.representatives import PairwiseOverlap, pairwise_overlap, representatives
from MedSegUncertaintyLib.uncertainty.samples import SampleSet
from MedSegUncertaintyLib.uncertainty.statistics import Statistics, StatisticsStream
from MedSegUncertaintyLib.uncertainty.summary import boundary_band, region_edge, volume_spread
from MedSegUncertaintyLib.volumes.geometry import Geometry

SHAPE = (5, 6, 7)


def random_samples(count: int = 7, classes: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, classes, *SHAPE, generator=generator).mul_(2).softmax(dim=1)


def gather(samples: torch.Tensor, voxel_ml: float = 0.002) -> Statistics:
    stream = StatisticsStream(voxel_ml)
    for probabilities in samples:
        stream.update(probabilities, probabilities.argmax(dim=0).to(torch.uint8))
    return stream.result()


def test_maps_match_numpy() -> None:
    samples = random_samples()
    got = gather(samples)
    p = samples.double().numpy()
    labels = p.argmax(axis=1)
    np.testing.assert_allclose(got.mean, p[:, 1:].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(got.variance, p[:, 1:].var(axis=0), atol=1e-6)
    np.testing.assert_allclose(got.agreement, [(labels == c).mean(axis=0) for c in (1, 2)], atol=1e-6)
    mean = p.mean(axis=0)
    np.testing.assert_allclose(got.entropy, -(mean * np.log2(mean)).sum(axis=0), atol=1e-5)
    np.testing.assert_allclose(got.expected_entropy, -(p * np.log2(p)).sum(axis=1).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(got.mutual_information, got.entropy - got.expected_entropy, atol=1e-6)
    np.testing.assert_array_equal(got.prediction, mean.argmax(axis=0))
    np.testing.assert_allclose(got.volumes_ml, [[(row == c).sum() * 0.002 for c in (1, 2)] for row in labels])


@pytest.mark.parametrize("count", [2, 3, 16])
def test_identical_samples_have_exactly_zero_variance_and_information(count: int) -> None:
    one = random_samples(1)
    got = gather(one.expand(count, *one.shape[1:]))
    assert not got.variance.any()
    assert not got.mutual_information.any()
    np.testing.assert_array_equal(got.mean, one[0, 1:].numpy())
    assert set(np.unique(got.agreement)) <= {0.0, 1.0}


def test_scales_reach_their_limits_and_not_beyond() -> None:
    certain = torch.zeros(2, 2, 1, 1, 1)
    certain[0, 0], certain[1, 1] = 1.0, 1.0
    got = gather(certain)
    assert got.variance.item() == 0.25
    assert got.entropy.item() == pytest.approx(1.0)
    assert got.expected_entropy.item() == 0.0
    assert got.mutual_information.item() == pytest.approx(1.0)


def test_result_can_be_taken_on_the_way() -> None:
    samples = random_samples()
    stream = StatisticsStream(1.0)
    for number, probabilities in enumerate(samples, start=1):
        stream.update(probabilities, probabilities.argmax(dim=0).to(torch.uint8))
        if number == 3:
            early = stream.result()
    np.testing.assert_array_equal(early.mean, gather(samples[:3], 1.0).mean)
    np.testing.assert_array_equal(stream.result().variance, gather(samples, 1.0).variance)


@pytest.mark.parametrize(("count", "needed"), [(16, (1, 8, 16)), (20, (1, 10, 19)), (100, (5, 50, 95)), (1, (1, 1, 1))])
def test_contours_hold_voxels_that_enough_samples_agree_on(count: int, needed: tuple[int, ...]) -> None:
    votes = np.arange(count + 1)
    for level, minimum in zip(CONTOUR_LEVELS, needed, strict=True):
        mask = contour_mask(votes / count, count, level)
        np.testing.assert_array_equal(mask, votes >= minimum)


def sample_set(labels: np.ndarray) -> SampleSet:
    samples = SampleSet(labels.shape[1:])
    for row in labels:
        samples.append(row)
    return samples


def test_sample_set_gives_back_what_it_got() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (4, *SHAPE)).astype(np.uint8)
    labels[1] = 0
    labels[2, :2] = 0
    samples = sample_set(labels)
    assert len(samples) == 4
    for got, expected in zip(samples, labels, strict=True):
        np.testing.assert_array_equal(got, expected)
    with pytest.raises(ValueError, match="expected uint8 labels"):
        samples.append(labels[0].astype(np.int16))


def test_pairwise_overlap_matches_the_definition() -> None:
    labels = np.random.default_rng(1).integers(0, 2, (5, *SHAPE)).astype(np.uint8)
    labels[3] = labels[4] = 0
    got = pairwise_overlap(sample_set(labels), 1)
    for a, first in enumerate(labels == 1):
        for b, second in enumerate(labels == 1):
            union, both, total = (first | second).sum(), (first & second).sum(), first.sum() + second.sum()
            assert got.iou[a, b] == (both / union if union else 1.0)
            assert got.dice[a, b] == (2 * both / total if total else 1.0)
    pairs = [got.dice[a, b] for a in range(5) for b in range(a)]
    assert got.mean_dice == pytest.approx(np.mean(pairs))


def test_all_samples_empty_overlap_fully() -> None:
    got = pairwise_overlap(sample_set(np.zeros((3, *SHAPE), dtype=np.uint8)), 1)
    assert got.mean_dice == 1.0
    np.testing.assert_array_equal(got.iou, np.ones((3, 3)))


def test_median_is_in_the_middle_and_the_pair_at_the_ends() -> None:
    position = np.array([0.0, 1.0, 2.0, 2.6, 5.0])
    iou = 1.0 - np.abs(position[:, None] - position) / 10
    chosen = representatives([PairwiseOverlap(iou, iou)])
    assert chosen.median == 2
    assert chosen.most_different == (0, 4)
    assert chosen.distance == pytest.approx(0.5)


def test_volume_spread_is_the_quantiles_of_the_samples() -> None:
    got = volume_spread(np.arange(21.0))
    assert (got["q05"], got["q50"], got["q95"]) == (1.0, 10.0, 19.0)
    assert (got["minimum"], got["maximum"], got["mean"]) == (0.0, 20.0, 10.0)


def test_boundary_band_is_measured_in_mm() -> None:
    mask = np.zeros((21, 21, 21), dtype=bool)
    mask[:, :, 10:] = True
    geometry = Geometry.from_parts((21, 21, 21), (0.5, 1.0, 3.0))
    band = boundary_band(mask, geometry)
    columns = np.flatnonzero(band.all(axis=(0, 1)))
    # The surface runs through the first voxels inside, 0.5 mm apart: four to each side lie within 2 mm.
    np.testing.assert_array_equal(columns, np.arange(6, 15))
    assert not boundary_band(np.zeros_like(mask), geometry).any()


def test_region_edge_are_the_voxels_with_an_outer_neighbor() -> None:
    inside = np.zeros((1, 5, 6), dtype=bool)
    inside[0, 1:4, 1:5] = True
    expected = inside.copy()
    expected[0, 2, 2:4] = False
    np.testing.assert_array_equal(region_edge(inside), expected)
    assert region_edge(np.ones((3, 3, 3), dtype=bool)).sum() == 26


def test_a_single_sample_has_no_pairs(blob_result: InferenceResult) -> None:
    overlap = pairwise_overlap(sample_set(blob_result.samples[0][None]), 1)
    assert overlap.mean_dice is None
    assert representatives([overlap]).most_different == (0, 0)


def test_equal_samples_give_a_pair_of_different_numbers() -> None:
    labels = np.ones((3, *SHAPE), dtype=np.uint8)
    chosen = representatives([pairwise_overlap(sample_set(labels), 1)])
    assert chosen.most_different == (0, 1)
    assert chosen.distance == 0.0


def test_overlap_counts_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(1).integers(0, 2, (5, *SHAPE)).astype(np.uint8)
    whole = sample_set(labels).intersections(1)
    monkeypatch.setattr(samples_module, "_BLOCK_BYTES", 60)
    np.testing.assert_array_equal(sample_set(labels).intersections(1), whole)


def test_summary_of_growing_spheres(blob_result: InferenceResult) -> None:
    summary = blob_result.summary
    assert summary["samples"] == 8
    assert set(summary["representatives"]["most_different_samples"]) == {1, 8}
    assert summary["representatives"]["median_sample"] in (4, 5)
    for index, row in enumerate(summary["structures"]):
        volumes = blob_result.statistics.volumes_ml[:, index]
        assert np.all(np.diff(volumes) > 0)
        assert row["volume_ml"]["q50"] == pytest.approx(np.median(volumes))
        assert row["volume_ml"]["minimum"] == volumes[0]
        assert 0.6 < row["mean_pairwise_dice"] < 1.0
        assert row["entropy_bits"]["in_boundary_band"] > 5 * row["entropy_bits"]["outside_boundary_band"]
        sphere = 4 / 3 * np.pi * (6.0 + index) ** 3 / 1000
        assert row["prediction_ml"] == pytest.approx(sphere, rel=0.1)


def test_contours_of_a_result_are_nested(blob_result: InferenceResult) -> None:
    outer, middle, core = (blob_result.contour(0, level) for level in CONTOUR_LEVELS)
    assert core.sum() < middle.sum() < outer.sum()
    assert not (core & ~middle).any()
    assert not (middle & ~outer).any()
    whole = blob_result.on_grid(outer)
    assert whole.shape == blob_result.geometry.shape_kji
    assert whole.sum() == outer.sum()
