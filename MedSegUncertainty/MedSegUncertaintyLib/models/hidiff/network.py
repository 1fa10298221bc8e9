"""HiDiff as a sampler: the segmentor once per image, then as many chains as there are samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from MedSegUncertaintyLib.models.backbones import build_backbone
from MedSegUncertaintyLib.models.hidiff.binary import Moment
from MedSegUncertaintyLib.models.hidiff.diffusion import BernoulliDiffusion, Kind, Predicts, Schedule
from MedSegUncertaintyLib.models.hidiff.kernels import prepared
from MedSegUncertaintyLib.models.hidiff.refiner import Refiner, packed_state
from MedSegUncertaintyLib.models.hidiff.segmentor import TAPPED_SCALES, Segmentor
from MedSegUncertaintyLib.models.sampler import Encoding, NoiseField
from MedSegUncertaintyLib.models.selfreg.network import build as build_selfreg

LOGIT_EPS = 1e-6
COMMON = "common"
"""Noise that all pixels share."""


class HiDiff(nn.Module):
    """A segmentor and the refiner of its probability.

    Args:
        segmentor: Of as many masks as the refiner, one for two classes, else one per class.
        channels: Image channels.
        classes: Number of classes with an explicit background.
        width: Of the refiner.
        binary: Whether the refiner consists of signs.
        steps: T of the diffusion.
        schedule: Of the diffusion.
        predicts: What the refiner predicts, see
            :class:`~MedSegUncertaintyLib.models.hidiff.diffusion.BernoulliDiffusion`.
        chain: How the next state is drawn.
        coherence: Share of the variance of the noise that all pixels of a mask have in common, in [0, 1). Every pixel
            is drawn from its own probability all the same, but neighbors agree, so that masks grow and shrink instead
            of being speckled. 0 is the paper's independent noise.
        packed: Whether it is one for inference alone, see
            :class:`~MedSegUncertaintyLib.models.hidiff.binary.Form`.
        size_multiple: That the segmentor asks for.
    """

    spatial_dims = network_dims = 2
    blendable = False
    controls = frozenset({"steps"})

    def __init__(
        self,
        segmentor: Segmentor,
        channels: int,
        classes: int,
        width: int = 32,
        binary: bool = True,
        steps: int = 10,
        schedule: Kind = "cosine2",
        predicts: Predicts = "noise",
        chain: Literal["ancestral", "ddim"] = "ancestral",
        coherence: float = 0.0,
        packed: bool = False,
        size_multiple: int = 32,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError("there is a background class and at least one structure")
        if not 0.0 <= coherence < 1.0:
            raise ValueError("coherence lies from 0 to below 1")
        if chain not in ("ancestral", "ddim"):
            raise ValueError(f'chain is "ancestral" or "ddim", not "{chain}"')
        self.channels, self.classes = channels, classes
        self.masks = masks_of(classes)
        self.chain: Literal["ancestral", "ddim"] = chain
        self.coherence = coherence
        self.size_multiple = math.lcm(size_multiple, TAPPED_SCALES[-1])
        self.diffusion = BernoulliDiffusion(Schedule.of(schedule, steps), predicts)
        self.segmentor = segmentor
        self.refiner = Refiner(
            channels, self.masks, segmentor.widths(channels), width, binary, steps if packed else None
        )

    def encode(self, image: Tensor) -> Encoding:
        """Everything of one image (1, channels, H, W) that samples share.

        "prior" (1, K, H, W), "stem" (1, width, H, W), and "condition l" (1, T * C, h, w), what the refiner sees of the
        segmentor's features at each of the T steps.
        """
        segmented = self.segmentor(image)
        prior = segmented.prior
        moment = self.refiner.moment(torch.arange(len(self.diffusion), device=image.device))
        conditions = self.refiner.conditions(segmented.features, moment)
        fields = {f"condition {level}": maps.flatten(0, 1).unsqueeze(0) for level, maps in enumerate(conditions)}
        return {"prior": prior, "stem": self.refiner.stem(image, prior), **fields}

    def noise(self, encoding: Encoding) -> Mapping[str, NoiseField]:
        """Numbers per pixel and mask: "start" for the first state, "step T-1" to "step 1" for those that steps draw.

        With coherence also "common", numbers per mask for each of these draws.
        """
        fields = {name: NoiseField(self.masks, "voxel") for name in self._draws()}
        if self.coherence:
            fields[COMMON] = NoiseField(self.masks * len(fields), "global")
        return fields

    def draw(self, encoding: Encoding, noise: Mapping[str, Tensor], *, steps: Tensor | None = None) -> Tensor:
        """Logits of S draws; the segmentor and what depends on the image alone are not computed again.

        Args:
            encoding: From :meth:`encode`.
            noise: Per draw (S, K, H, W), and "common" (S, K * T) with coherence. Zeros draw 1 wherever the probability
                exceeds one half.
            steps: Number of steps (one element), evenly spread and the last one among them; all without it.

        Returns:
            (S, classes, H, W); a softmax gives the last prediction, normalized over the classes.
        """
        diffusion = self.diffusion
        if steps is not None:
            diffusion = BernoulliDiffusion(diffusion.schedule.trailing(int(steps.item())), diffusion.predicts)
        ready = prepared(self.refiner, len(self.diffusion))
        count = len(noise["start"])
        # A sign that rounding turns changes a whole sample, and rounding depends on the batch; one draw at a time is
        # the same whatever others are made with it.
        size = 1 if encoding["prior"].device.type == "cpu" else count
        parts = (
            {name: values[first : first + size] for name, values in noise.items()} for first in range(0, count, size)
        )
        return torch.cat([logits_of(self._draw(encoding, part, diffusion, ready)) for part in parts])

    def _draw(
        self,
        encoding: Encoding,
        noise: Mapping[str, Tensor],
        diffusion: BernoulliDiffusion,
        ready: Mapping[nn.Module, Any],
    ) -> Tensor:
        """Last predictions (S, K, H, W) of draws that are made together."""
        numbers, draws = diffusion.schedule.steps.tolist(), self._draws()
        stored = [encoding[f"condition {level}"] for level in range(len(TAPPED_SCALES))]
        conditions = [maps.unflatten(1, (len(self.diffusion), -1))[0] for maps in stored]

        def predict(state: Tensor, index: int) -> Tensor:
            number = numbers[index]
            moment = Moment(torch.tensor([number], device=state.device), prepared=ready)
            return self.refiner(state, encoding["stem"], [maps[number : number + 1] for maps in conditions], moment)

        def uniform(draw: int) -> Tensor:
            # A step's noise bears the step's own number, so that fewer steps use the same as all of them.
            name = draws[0] if draw == 0 else step_name(numbers[-draw])
            common = noise[COMMON].unflatten(1, (len(draws), -1))[:, draws.index(name)] if self.coherence else None
            return uniforms(noise[name], common, self.coherence)

        prior = encoding["prior"].expand(len(noise["start"]), -1, -1, -1)
        predicted = prior
        for step in diffusion.chain(predict, prior, uniform, self.chain):
            predicted = step.predicted
        return predicted

    def packed_state(self) -> dict[str, Tensor]:
        """State of the packed twin of a trained model, for its package; of one that is packed already, its own."""
        state = {f"segmentor.{name}": tensor for name, tensor in self.segmentor.state_dict().items()}
        refiner = packed_state(self.refiner, len(self.diffusion))
        return state | {f"refiner.{name}": tensor for name, tensor in refiner.items()}

    def _draws(self) -> list[str]:
        """Names of the noise of a whole chain, in its order."""
        return ["start", *(step_name(number) for number in reversed(range(1, len(self.diffusion))))]


def step_name(number: int) -> str:
    """Name of the noise with which a step draws the state before it."""
    return f"step {number}"


def masks_of(classes: int) -> int:
    """K: one mask does for two classes."""
    return 1 if classes == 2 else classes


def uniforms(normal: Tensor, common: Tensor | None, coherence: float) -> Tensor:
    """Uniform numbers out of standard normal ones.

    Args:
        normal: (S, K, H, W).
        common: (S, K), for all pixels together.
        coherence: Share of the variance that is common.
    """
    if common is not None:
        normal = math.sqrt(1.0 - coherence) * normal + math.sqrt(coherence) * common[..., None, None]
    return torch.special.ndtr(normal)


def logits_of(predicted: Tensor) -> Tensor:
    """Logits (S, classes, H, W) whose softmax is a predicted mask (S, K, H, W), normalized where K > 1."""
    if predicted.shape[1] == 1:
        predicted = torch.cat([1.0 - predicted, predicted], dim=1)
    return predicted.clamp(min=LOGIT_EPS).log()


def build(arguments: Mapping[str, Any]) -> HiDiff:
    """HiDiff from the constructor arguments of a package.

    Args:
        arguments: Those of :class:`HiDiff`; ``segmentor`` has ``taps`` and either what
            :func:`~MedSegUncertaintyLib.models.backbones.build_backbone` takes, or as ``selfreg`` the arguments of a
            SelfReg-UNet.
    """
    settings = dict(arguments)
    description = dict(settings.pop("segmentor"))
    taps: Sequence[str] = description.pop("taps")
    channels, classes = settings["channels"], settings["classes"]
    network: nn.Module
    if "selfreg" in description:
        network = selfreg = build_selfreg(description["selfreg"])
        size_multiple = selfreg.size_multiple
    else:
        network, size_multiple = build_backbone(description, 2, channels, masks_of(classes))
    return HiDiff(Segmentor(network, taps, masks_of(classes)), size_multiple=size_multiple, **settings)
