"""HiDiff as a whole on data made here: the sampler contract, coherent noise, training in turns, a tiny training."""

from typing import Any

import pytest
import torch
from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.inference.noise import NoiseSource
from MedSegUncertaintyLib.inference.walking import SliceWalker
from MedSegUncertaintyLib.models.hidiff.network import HiDiff, logits_of, uniforms
from MedSegUncertaintyLib.models.hidiff.objective import HiDiffObjective, masks_from
from MedSegUncertaintyLib.models.registry import build, build_objective
from torch import Tensor

TAPS = ["down_1", "down_2", "down_3", "down_4"]
SEGMENTOR: dict[str, Any] = {"name": "BasicUNet", "widths": [8, 8, 16, 16, 32], "taps": TAPS}


def tiny(**changes: Any) -> HiDiff:
    torch.manual_seed(0)
    model = build("hidiff", {"segmentor": SEGMENTOR, "channels": 1, "classes": 2, **changes})
    assert isinstance(model, HiDiff)
    return model


def image_of(size: int = 64, batch: int = 1) -> Tensor:
    return torch.randn(batch, 1, size, size, generator=torch.Generator().manual_seed(1))


def noise_of(model: HiDiff, encoding: Any, draws: int, size: int = 64) -> dict[str, Tensor]:
    region = (slice(0, size), slice(0, size))
    return NoiseSource(3).draw(model.noise(encoding), range(draws), region, torch.device("cpu"))


def wobbly(model: HiDiff) -> HiDiff:
    """With a refiner that says something else than one half."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.refiner.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("coherence", [0.0, 0.6])
def test_draws_are_reproducible_and_do_not_depend_on_their_number(classes: int, coherence: float) -> None:
    model = wobbly(tiny(classes=classes, coherence=coherence))
    with torch.inference_mode():
        encoding = model.encode(image_of())
        noise = noise_of(model, encoding, 3)
        logits = model.draw(encoding, noise)
        alone = model.draw(encoding, {name: values[2:] for name, values in noise.items()})
    assert logits.shape == (3, classes, 64, 64)
    assert torch.equal(logits[2:], alone)
    probabilities = logits.softmax(dim=1)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3, 64, 64))
    assert (probabilities[0] - probabilities[1]).abs().max() > 0.01
    prior = encoding["prior"]
    assert prior.shape == (1, 1 if classes == 2 else classes, 64, 64)
    assert prior.min() > 0.0
    assert prior.max() < 1.0
    if classes > 2:
        torch.testing.assert_close(prior.sum(dim=1), torch.ones(1, 64, 64))


def test_the_segmentor_runs_once_and_a_step_computes_nothing_of_the_image_again() -> None:
    model = wobbly(tiny())
    calls = {"segmentor": 0, "condition": 0, "refiner": 0}

    def count(name: str) -> Any:
        def heard(*_: Any) -> None:
            calls[name] += 1

        return heard

    model.segmentor.register_forward_hook(count("segmentor"))
    model.refiner.cross.condition.register_forward_hook(count("condition"))
    model.refiner.register_forward_hook(count("refiner"))
    with torch.inference_mode():
        encoding = model.encode(image_of())
        noise = noise_of(model, encoding, 2)
        model.draw(encoding, noise)
        model.draw(encoding, noise, steps=torch.tensor([4]))
    assert calls == {"segmentor": 1, "condition": 1, "refiner": 28}


def test_fewer_steps_begin_at_the_last_one_with_the_same_noise() -> None:
    model = wobbly(tiny())
    seen: list[tuple[int, Tensor]] = []
    model.refiner.register_forward_hook(lambda _, inputs, __: seen.append((int(inputs[3].steps), inputs[0])))
    with torch.inference_mode():
        encoding = model.encode(image_of())
        noise = noise_of(model, encoding, 2)
        model.draw(encoding, noise)
        model.draw(encoding, noise, steps=torch.tensor([2]))
    assert [number for number, _ in seen] == [*range(9, -1, -1)] * 2 + [9, 4] * 2
    assert torch.equal(seen[0][1], seen[20][1])


def test_a_chain_of_the_sampler_is_that_of_the_diffusion() -> None:
    model = wobbly(tiny(binary=False))
    image = image_of()
    with torch.no_grad():
        encoding = model.encode(image)
        noise = noise_of(model, encoding, 2)
        segmented = model.segmentor(image)
        names = ["start", *(f"step {number}" for number in range(9, 0, -1))]

        def predict(state: Tensor, t: int) -> Tensor:
            moment = model.refiner.moment(torch.tensor([t]))
            conditions = model.refiner.conditions(segmented.features, moment)
            return model.refiner(state, model.refiner.stem(image, segmented.prior), conditions, moment)

        prior = segmented.prior.expand(2, -1, -1, -1)
        steps = list(model.diffusion.chain(predict, prior, lambda draw: torch.special.ndtr(noise[names[draw]])))
        torch.testing.assert_close(model.draw(encoding, noise), logits_of(steps[-1].predicted), rtol=1e-4, atol=1e-4)


def test_a_packed_model_draws_the_same_bits() -> None:
    model = wobbly(tiny(coherence=0.3))
    packed = tiny(coherence=0.3, packed=True).eval()
    packed.load_state_dict(model.packed_state())
    drawn = []
    with torch.inference_mode():
        for each in (model, packed):
            encoding = each.encode(image_of())
            drawn.append(each.draw(encoding, noise_of(each, encoding, 2)))
    assert torch.equal(*drawn)


@pytest.mark.parametrize("coherence", [0.0, 0.5, 0.9])
def test_coherent_noise_leaves_every_pixel_s_probability_alone(coherence: float) -> None:
    generator = torch.Generator().manual_seed(0)
    normal, common = torch.randn(4000, 1, 2, 2, generator=generator), torch.randn(4000, 1, generator=generator)
    found = uniforms(normal, common if coherence else None, coherence)
    drawn = (found < 0.2).float().flatten(1)
    torch.testing.assert_close(drawn.mean(dim=0), torch.full((4,), 0.2), rtol=0, atol=0.03)
    correlation = torch.corrcoef(torch.special.ndtri(found.flatten(1)).T)[0, 1].item()
    assert correlation == pytest.approx(coherence, abs=0.05)


def test_a_volume_is_walked_slice_by_slice() -> None:
    model = wobbly(tiny(coherence=0.5))
    walker = SliceWalker(model, 2.0)
    image = torch.stack([image_of()[0], image_of()[0]], dim=1).unsqueeze(0)
    with torch.inference_mode():
        encoding = walker.encode(image)
        fields = walker.noise(encoding)
        assert fields["common"].layout == "slices"
        region = (slice(0, 2), slice(0, 64), slice(0, 64))
        noise = NoiseSource(0).draw(fields, range(2), region, torch.device("cpu"))
        assert walker.draw(encoding, noise).shape == (2, 2, 2, 64, 64)


def test_logits_say_what_was_predicted() -> None:
    one = torch.tensor([0.0, 0.3, 1.0]).view(1, 1, 1, 3)
    torch.testing.assert_close(logits_of(one).softmax(dim=1)[:, 1:], one, rtol=0, atol=2e-6)
    several = torch.tensor([[0.2, 0.6], [0.0, 0.6], [0.9, 0.3]]).view(1, 3, 1, 2)
    assert logits_of(several).argmax(dim=1).tolist() == [[[2, 0]]]
    torch.testing.assert_close(logits_of(several).softmax(dim=1)[0, :, 0, 1], torch.tensor([0.4, 0.4, 0.2]))


def test_masks_of_labels() -> None:
    target = torch.tensor([[[0, 1], [2, 1]]])
    assert masks_from(target.clamp(max=1), 2).tolist() == [[[[0, 1], [1, 1]]]]
    assert masks_from(target, 3)[0, :, 1].tolist() == [[0, 0], [0, 1], [1, 0]]


def test_turns_update_one_part_and_leave_the_other_alone() -> None:
    model, objective = tiny().train(), build_objective("hidiff", {"pretraining": 1})
    image = image_of(batch=2)
    target = (image[:, 0] > 0.5).long()
    learned = []
    for step in range(3):
        model.zero_grad()
        losses = objective(model, image, target, step, torch.Generator().manual_seed(step))
        losses["loss"].backward()
        parts = {"segmentor": model.segmentor, "refiner": model.refiner}
        learned.append({name for name, part in parts.items() if any(p.grad is not None for p in part.parameters())})
        assert all(p.requires_grad for p in model.parameters())
    assert learned == [{"segmentor"}, {"refiner"}, {"segmentor"}]
    assert set(losses) == {"cross entropy", "dice", "bound", "focal", "loss"}


@pytest.mark.parametrize("predicts", ["noise", "mask", "correction"])
def test_a_tiny_training_learns_to_refine(predicts: str) -> None:
    """A prior that knows nothing yet, and images that show the mask."""
    model, objective = tiny(predicts=predicts).train(), HiDiffObjective(turns="refiner")
    optimizer = torch.optim.AdamW(model.refiner.parameters(), lr=3e-3)

    def loss_at(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        centers = torch.randint(8, 24, (8, 2, 1, 1), generator=generator)
        grid = torch.stack(torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij"))
        target = ((grid - centers).square().sum(dim=1) < 50).long()
        image = target.unsqueeze(1).float() + 0.1 * torch.randn(8, 1, 32, 32, generator=generator)
        return objective(model, image, target, 0, generator)["loss"]

    def score() -> float:
        with torch.no_grad():
            return sum(loss_at(1000 + seed).item() for seed in range(5))

    before = score()
    for step in range(30):
        optimizer.zero_grad()
        loss_at(step).backward()
        optimizer.step()
    assert score() < 0.6 * before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"classes": 1}, "background class"),
        ({"coherence": 1.0}, "coherence lies from 0 to below 1"),
        ({"segmentor": {**SEGMENTOR, "taps": ["down_1"]}}, "taps needs the names of 4 layers"),
        ({"segmentor": {**SEGMENTOR, "taps": [*TAPS[:3], "nowhere"]}}, "no layer 'nowhere'"),
        ({"predicts": "future"}, 'predicts "noise", "mask" or "correction"'),
        ({"schedule": "linear"}, '"linear" is no schedule'),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PackageError, match=sentence):
        tiny(**arguments)


def test_wrong_settings_are_one_sentence() -> None:
    with pytest.raises(PackageError, match='turns is "both" or "refiner", not "none"'):
        build_objective("hidiff", {"turns": "none"})


def test_states_of_the_training_may_be_less_coherent_than_samples() -> None:
    image, target = torch.rand(2, 1, 32, 32), (torch.rand(2, 32, 32) > 0.5).long()
    losses = []
    for coherence, objective in (
        (0.0, HiDiffObjective()),
        (0.9, HiDiffObjective(coherence=0.0)),
        (0.9, HiDiffObjective()),
    ):
        model = tiny(coherence=coherence).train()
        losses.append(objective(model, image, target, 0, torch.Generator().manual_seed(0))["loss"].item())
    assert losses[0] == losses[1] != losses[2]
