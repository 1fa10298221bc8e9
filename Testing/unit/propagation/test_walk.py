"""The walk: which slices it visits, what it shows the network there, and where it ends."""

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.propagation.supports import MOST_SUPPORTS, Pool
from MedSegUncertaintyLib.propagation.walk import FUSIONS, NETWORK_ALONE, Scene, path_to, plan_walk, walk

from .conftest import SIZE, ball, hallucinating, oracle


def everything(scene: Scene):
    pool = Pool(scene)
    return pool.supports(np.arange(len(pool)))


def walked(network, scene, fusion=NETWORK_ALONE, **options):
    return dict(walk(network, scene, everything(scene), fusion, **options))


def found(logits) -> np.ndarray:
    return (logits > 0).numpy()


def test_every_slice_but_the_marks_comes_once(make_scene):
    scene = make_scene(absent=(2, 26))
    numbers = [number for number, _ in walk(oracle, scene, everything(scene), NETWORK_ALONE)]
    assert sorted(numbers) == sorted(set(range(30)) - {2, 9, 14, 19, 26})


def test_perfect_network_finds_the_ball(make_scene):
    for number, logits in walked(oracle, make_scene()).items():
        assert np.array_equal(found(logits), ball()[number])


def test_slices_hang_on_their_nearest_outline(make_scene):
    links = plan_walk(make_scene())
    assert (links[11].before, links[12].before) == (10, 13)
    assert (links[8].before, links[20].before) == (9, 19)
    assert links[12].is_between
    assert not links[20].is_between


def test_nothing_beyond_an_empty_mark_is_looked_at(make_scene):
    links = plan_walk(make_scene(absent=(3, 25)))
    assert min(links) == 4
    assert max(links) == 24


def test_beyond_an_empty_mark_is_nothing_whatever_the_network_says(make_scene):
    result = walked(hallucinating, make_scene(outlined=(14,), absent=(3, 25)))
    assert not any(found(result[number]).any() for number in (0, 1, 2, 26, 29))
    assert found(result[10]).any()


def test_empty_mark_between_outlines_does_not_stop_the_other_side(make_scene):
    links = plan_walk(make_scene(outlined=(6, 22), absent=(14,)))
    assert links[13].before == 12
    assert links[15].before == 16


def test_walk_ends_after_two_empty_slices(make_scene):
    asked = []

    def spy(target, images, masks):
        asked.append(target)
        return oracle(target, images, masks)

    result = walked(spy, make_scene(outlined=(14,)))
    looked = sum(bool(ball()[number].any()) for number in range(30)) - 1
    assert len(asked) == looked + 4  # two empty slices at each end
    assert not found(result[29]).any()


def test_walk_goes_on_between_outlines_though_slices_are_empty(make_scene):
    scene = make_scene(outlined=(6, 22))
    scene.images[10:18] = 0.2
    result = walked(oracle, scene)
    assert not found(result[14]).any()
    assert np.array_equal(found(result[20]), ball()[20])


def test_two_finished_neighbors_are_shown_twice(make_scene):
    shown = {}
    scene = make_scene(outlined=(14,))
    scene.images[:] += 0.001 * torch.arange(30)[:, None, None]  # makes every slice unlike all others

    def spy(target, images, masks):
        number = next(n for n in range(30) if torch.equal(scene.images[n], target))
        shown[number] = [next(n for n in range(30) if torch.equal(scene.images[n], image)) for image in images]
        return oracle(target, images, masks)

    walked(spy, scene)
    assert shown[15] == [14, 14, 14]
    assert shown[16] == [14, 15, 14, 15, 14]
    assert shown[11] == [14, 12, 13, 12, 13]


def test_start_changes_the_order_and_nothing_else(make_scene):
    scene = make_scene()
    plain, near = (list(walk(hallucinating, scene, everything(scene), FUSIONS[1], start=start)) for start in (None, 20))
    assert [number for number, _ in near][:2] == [20, 21]
    assert [number for number, _ in plain] != [number for number, _ in near]
    for number, logits in near:
        assert torch.equal(logits, dict(plain)[number])


def test_shape_ends_what_the_network_would_go_on_with(make_scene):
    scene = make_scene(absent=(3, 25))
    alone, fused = walked(hallucinating, scene), walked(hallucinating, scene, FUSIONS[2])
    beyond = (4, 24)
    assert sum(found(fused[number]).sum() for number in beyond) < sum(found(alone[number]).sum() for number in beyond)


def test_shape_alone_follows_the_ball_between_outlines(make_scene):
    result = walked(lambda target, images, masks: torch.zeros(SIZE, SIZE), make_scene(), FUSIONS[2])
    for number in (11, 12, 16, 17):
        truth, mask = ball()[number], found(result[number])
        assert 2 * (truth & mask).sum() / (truth.sum() + mask.sum()) > 0.93


def test_path_to_a_slice_is_enough_to_reach_it(make_scene):
    scene = make_scene()
    assert path_to(scene, 22) == {20, 21, 22}
    path = path_to(scene, 11)
    assert path == {10, 11}
    whole, part = walked(oracle, scene, FUSIONS[1]), walked(oracle, scene, FUSIONS[1], only=path)
    assert set(part) == path
    assert torch.equal(part[11], whole[11])


def test_on_the_way_to_an_example_that_was_left_out_the_structure_goes_on(make_scene):
    rest = make_scene(outlined=(14,))
    whole, part = walked(oracle, rest, FUSIONS[1]), walked(oracle, rest, FUSIONS[1], only=path_to(rest, 19))
    assert part[19].mean() > whole[19].mean()


def test_draws_always_hold_an_outline(make_scene):
    pool = Pool(make_scene(outlined=(14,), absent=(2, 3, 25, 26)))
    for seed in range(30):
        _, masks = pool.supports(pool.drawn(np.random.default_rng(seed)))(10)
        assert masks.any()
        assert len(masks) == 5


def test_of_too_many_examples_the_nearest_are_shown(make_scene):
    images = torch.rand(200, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    marks = {number: torch.ones(SIZE, SIZE) * (number / 200) for number in range(0, 200, 2)}
    nothing = torch.zeros(0, SIZE, SIZE)
    scene = Scene(images, marks, nothing, nothing, 1.0, 1.0)
    _, masks = everything(scene)(50)
    shown = (masks[:, 0, 0] * 200).round().int()
    assert len(shown) == MOST_SUPPORTS
    assert (shown - 50).abs().float().mean() < np.abs(np.arange(0, 200, 2) - 50).mean()


@pytest.mark.parametrize("outlined", [(0,), (29,)])
def test_outline_at_the_end_of_the_stack(make_scene, outlined):
    scene = make_scene()
    scene.marks.clear()
    scene.marks[outlined[0]] = torch.from_numpy(ball()[14].astype(np.float32))
    assert len(walked(oracle, scene)) == 29
