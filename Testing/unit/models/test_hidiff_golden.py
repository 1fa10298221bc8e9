"""Parity of HiDiff with numbers that the authors' own code computed: diffusion, layers of signs, whole refiners."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.models.hidiff import binary
from MedSegUncertaintyLib.models.hidiff.binary import (
    Block,
    ConditionedBlock,
    Convolution,
    Form,
    Moment,
    embed_steps,
    fit_channels,
    sign,
)
from MedSegUncertaintyLib.models.hidiff.diffusion import (
    BernoulliDiffusion,
    Kind,
    Schedule,
    focal_loss,
    kl_divergence,
    log_likelihood,
)
from MedSegUncertaintyLib.models.hidiff.refiner import Refiner
from MedSegUncertaintyLib.models.hidiff.transformer import CrossTransformer, attend
from torch import Tensor, nn

COSINES: tuple[Kind, ...] = ("cosine", "cosine2")

BLOCKS = {
    "basic_same": (8, 8, "same"),
    "basic_half": (16, 8, "same"),
    "down_same": (8, 8, "half"),
    "down_double": (8, 16, "half"),
    "up_same": (8, 8, "double"),
    "up_half": (16, 8, "double"),
}
POOLED = ("w5", "h5", "w3", "h3")
PARTS = {"q": "query", "k": "key", "v": "value"}


def rules() -> list[tuple[str, str]]:
    """From the authors' names to ours, in this order."""
    found = [
        (r"time_embed\.", "time."),
        (r"^out\.", "head."),
        (r"cross1\.", "cross."),
        (r"condition_conv\.in_layers", "condition.first"),
        (r"condition_conv\.emb_layers\.1", "condition.scale_and_shift.linear"),
        (r"condition_conv\.out_layers\.0", "condition.norm"),
        (r"condition_conv\.out_layers\.2", "condition.second"),
        (r"condition_conv\.skip_connection", "condition.skip"),
        (r"move1\.bias\.1", "threshold.linear"),
        (r"move2\.bias\.1", "activation.before.linear"),
        (r"move3\.bias\.1", "activation.after.linear"),
        (r"binary_3x3(\.\d)?", "convolution.weights"),
        (r"\bbn(\.\d)?\b", "convolution.norm"),
        (r"(^|\d_\w+\.|concat\d\.|middle_block\d\.)prelu", r"\1activation.prelu"),
        (r"(concat\d\.)(?!condition)", r"\1block."),
    ]
    for scale in range(5):
        found += [(f"block{scale + 1}_conv", f"encoder.{scale}"), (f"block{scale + 1}_down", f"down.{scale}")]
        found += [(f"concat{scale + 1}", f"conditioned.{scale}"), (f"middle_block{scale + 1}", f"middle.{scale}")]
        found += [(f"up_encoder.{scale}", f"decoder.{4 - scale}"), (f"up_block{scale + 1}_up", f"up.{4 - scale}")]
    for number, stream in ((1, "of_prior"), (2, "of_diffused")):
        found += [
            (f"norm_condition{number}", f"prior_norms.{number - 1}"),
            (f"norm_embedding{number}", f"diffused_norms.{number - 1}"),
            (f"cross_attention{number}", stream),
            (rf"layerscale{number}\.layerscale", f"{stream}.output_scale"),
            (rf"layerscale{number}\.", f"{stream}.output."),
            (rf"fnn{number}\.layernorm_after", f"{stream}.norm"),
            (rf"fnn{number}\.intermediate", f"{stream}.expand"),
            (rf"fnn{number}\.output\.layerscale", f"{stream}.reduce_scale"),
            (rf"fnn{number}\.output", f"{stream}.reduce"),
            *((rf"fnn{number}\.layerscale_{n}", f"{stream}.pool_scales.{i}") for i, n in enumerate(POOLED)),
        ]
    for number, (letter, part) in enumerate(PARTS.items()):
        found += [
            (rf"move{letter}1\.1", f"{part}.threshold.linear"),
            (rf"move{letter}2\.1", f"thresholds.{number}.linear"),
            (rf"{part}1\.", f"{part}.linear.weights."),
            (f"norm{letter}1", f"{part}.linear.norm"),
            (f"rprelu{letter}1", f"{part}.activation"),
        ]
    return [
        *found,
        (r"(_scale|pool_scales\.\d)\.alpha\.1", r"\1.factor.linear"),
        (r"(_scale|pool_scales\.\d)\.move\.1", r"\1.shift.linear"),
        (r"(output|expand|reduce)\.norm", r"\1.linear.norm"),
        (r"(output|expand|reduce)\.dense", r"\1.linear.weights"),
        (r"(output|expand|reduce)\.move\.1", r"\1.threshold.linear"),
        (r"rprelu_context", "context_activation"),
        (r"norm_context", "context_norm"),
        (r"rprelu", "activation"),
        (r"move1\.1", "before.linear"),
        (r"move2\.1", "after.linear"),
    ]


RULES = rules()


def renamed(name: str) -> str:
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)
    return name


def load_authors(module: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Copy parameters by the authors' names.

    Their parallel convolutions on the same signs are one of ours, their linear layers 1 x 1 convolutions; the biases
    before a batch norm, which ours have not, go into its mean.
    """
    state: dict[str, Tensor] = {}
    for name, values in parameters.items():
        ours = renamed(name)
        if ours in state and values.dim():
            values = torch.cat([state[ours], values])
        state[ours] = values.float() if values.is_floating_point() else values
    for name in [name for name in state if name.endswith("weights.bias")]:
        mean = name.replace("weights.bias", "norm.running_mean")
        state[mean] = state[mean] - state.pop(name)
    for name, values in state.items():
        if name.endswith("weights.weight") and values.dim() == 2:
            state[name] = values[:, :, None, None]
    module.load_state_dict({name: values for name, values in state.items() if "layernorm_before" not in name})


def below(golden: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): values for name, values in golden.items() if name.startswith(prefix)}


def load(shared: Path, name: str) -> dict[str, Tensor]:
    with np.load(shared / "goldens" / f"hidiff_{name}.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def close(ours: Tensor, theirs: Tensor, limit: float, name: str = "") -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=limit, msg=lambda text: f"{name}: {text}")


def relative(ours: Tensor, theirs: Tensor, name: str, limit: float = 1e-4) -> None:
    close(ours, theirs, limit * float(theirs.abs().max()), name)


@pytest.mark.parametrize("kind", ["cosine", "cosine2", "alpha_bar_linear"])
def test_schedules(shared: Path, kind: Kind) -> None:
    golden, schedule = load(shared, "schedules"), Schedule.of(kind, 10)
    close(schedule.betas, golden[f"{kind}_betas"], 1e-12)
    close(1.0 - schedule.betas, golden[f"{kind}_alphas"], 1e-12)
    close(schedule.kept, golden[f"{kind}_alphas_cumprod"], 1e-12)


@pytest.mark.parametrize(
    ("name", "steps", "chosen"),
    [
        ("spaced_ddimuni5_{}", 10, "spaced_ddimuni5_timestep_map"),
        ("spaced_ddimuni2_{}", 10, "spaced_ddimuni2_timestep_map"),
        ("T1000_cosine2_ddimuni10_{}", 1000, "T1000_cosine2_ddimuni10_map"),
    ],
)
def test_skipped_steps(shared: Path, name: str, steps: int, chosen: str) -> None:
    golden = load(shared, "schedules")
    schedule = Schedule.of("cosine2", steps).at(golden[chosen].tolist())
    close(schedule.betas, golden[name.format("betas")], 1e-12)
    close(schedule.kept, golden[name.format("alphas_cumprod")], 1e-12)
    assert torch.equal(schedule.steps, golden[chosen])


@pytest.mark.parametrize("kind", COSINES)
def test_kernels(shared: Path, kind: Kind) -> None:
    golden, diffusion = load(shared, "kernels"), BernoulliDiffusion(Schedule.of(kind, 10))
    mask, soft, state, prior, t = (golden[key] for key in ("y0", "y0_soft", "yt", "p", "t"))
    close(diffusion.mean(mask, prior, t), golden[f"{kind}_q_mean"], 1e-5)
    # Their posterior reads beyond the schedule at step 0, where it is not used.
    close(diffusion.posterior(state, mask, prior, t)[1:], golden[f"{kind}_q_posterior_hard"][1:], 1e-5)
    close(diffusion.posterior(state, soft, prior, t)[1:], golden[f"{kind}_q_posterior_soft"][1:], 1e-5)
    predicted, before = diffusion.calibrate(state, golden["eps_hat"], prior, t)
    close(predicted, golden["FC_pred_y0"], 1e-5)
    close(before, golden[f"{kind}_FC_mean"], 1e-5)
    close(diffusion.interpolate(state, predicted, t), golden[f"{kind}_ddim_mean"], 1e-5)


def test_single_terms_of_the_loss(shared: Path) -> None:
    golden = load(shared, "losses")
    close(kl_divergence(golden["kl_q"], golden["kl_p"]), golden["kl"], 1e-5)
    close(log_likelihood(golden["ll_x"], golden["kl_p"]), golden["ll"], 1e-5)
    close(focal_loss(golden["kl_p"], golden["ll_x"]), golden["focal"], 1e-5)
    close(focal_loss(golden["kl_p"], golden["kl_q"]), golden["focal_soft"], 1e-5)


@pytest.mark.parametrize("kind", COSINES)
def test_the_whole_loss_and_its_gradient(shared: Path, kind: Kind) -> None:
    golden, diffusion = load(shared, "losses"), BernoulliDiffusion(Schedule.of(kind, 10))
    mask, prior, t = golden["mix_y0"], golden["mix_p"], torch.arange(10)
    state = (golden["mix_u"] < diffusion.mean(mask, prior, t)).float()
    assert torch.equal(state, golden[f"mix_{kind}_yt"])
    logits = golden["mix_logits"].requires_grad_()
    losses = diffusion.losses(mask, state, logits.sigmoid(), prior, t)
    close(losses.bound, golden[f"mix_{kind}_vb"], 1e-5)
    close(losses.focal, golden[f"mix_{kind}_focal"], 1e-5)
    close(losses.bound + losses.focal, golden[f"mix_{kind}_loss"], 1e-5)
    (losses.bound + losses.focal).mean().backward()
    assert logits.grad is not None
    close(logits.grad, golden[f"mix_{kind}_dloss_dlogits"], 1e-8)


@pytest.mark.parametrize("kind", COSINES)
@pytest.mark.parametrize(("chain", "key"), [("ancestral", "p"), ("ddim", "ddim")])
def test_chains(shared: Path, kind: Kind, chain: str, key: str) -> None:
    golden, diffusion = load(shared, "sampling"), BernoulliDiffusion(Schedule.of(kind, 10))
    prior, mixing = golden["p"], golden["A"]

    def predict(state: Tensor, t: int) -> Tensor:
        return (torch.einsum("kc,bchw->bkhw", mixing, state - prior) + 0.2 * t - 1.5).sigmoid()

    steps = list(diffusion.chain(predict, prior, lambda draw: golden["U"][draw], chain))  # type: ignore[arg-type]
    assert len(steps) == 10
    for step, state, predicted in zip(steps, golden[f"{kind}_{key}_traj"], golden[f"{kind}_{key}_pred"], strict=True):
        close(step.predicted, predicted, 1e-5)
        if step is not steps[-1]:
            assert torch.equal(step.state, state)
    close(steps[-1].state, golden[f"{kind}_{key}_traj"][-1], 1e-5)


def test_signs_and_their_gradient(shared: Path) -> None:
    golden = load(shared, "binary_blocks")
    values = golden["act/x"].requires_grad_()
    found = sign(values)
    found.sum().backward()
    # Theirs is 0 at 0, ours 1.
    torch.testing.assert_close(found, torch.where(values == 0, 1.0, golden["act/y"]), rtol=0, atol=0)
    torch.testing.assert_close(values.grad, golden["act/grad"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "stride"), [("conv_s1", 1), ("conv_s2", 2), ("qlin", 1)])
def test_single_layers_of_signs(shared: Path, name: str, stride: int) -> None:
    golden = below(load(shared, "binary_blocks"), f"{name}/")
    weight, bias = golden["param/weight"], golden["param/bias"]
    linear = weight.dim() == 2
    layer = Convolution(Form(True, 16), weight.shape[1], len(weight), kernel=1 if linear else 3, stride=stride).eval()
    layer.norm.eps = 0.0  # nothing is left of the norm but the bias
    maps = golden["x"].mT[..., None] if linear else golden["x"]
    with torch.no_grad():
        layer.weights.weight.copy_(weight[:, :, None, None] if linear else weight)
        layer.norm.bias.copy_(bias)
    maps.requires_grad_()
    found = layer(maps)
    found.backward(golden["cotangent"].mT[..., None] if linear else golden["cotangent"])
    gradient, of_weight = maps.grad, layer.weights.weight.grad
    assert gradient is not None
    assert of_weight is not None
    if linear:
        found, gradient, of_weight = found[..., 0].mT, gradient[..., 0].mT, of_weight[..., 0, 0]
        relative(gradient, golden["grad_x"], "x")
    close(found, golden["y"], 1e-5)  # the inputs of their convolutions are signs already
    relative(of_weight, golden["grad_weight"], "weight")


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", [*BLOCKS, "concat"])
def test_blocks_and_their_gradients(shared: Path, name: str, mode: str) -> None:
    golden = below(load(shared, "binary_blocks"), f"{name}/")
    form, cond = Form(True, 16), golden.get("cond")
    block: nn.Module = Block(form, *BLOCKS[name]) if cond is None else ConditionedBlock(form, 64, 32)  # type: ignore[arg-type]
    # Alone, their blocks have no name that rules could tell from others.
    ours = "concat1." if cond is not None else "middle_block1."
    holder = nn.ModuleDict({"conditioned" if cond is not None else "middle": nn.ModuleList([block])})
    load_authors(holder, {ours + key: values for key, values in below(golden, "param/").items()})
    block.train(mode == "train")
    maps, embedding = golden["x"].requires_grad_(), golden["emb"].requires_grad_()
    moment = Moment(torch.zeros(2), embedding)
    if isinstance(block, ConditionedBlock):
        found = block(maps, block.condition(cond, moment), moment)
    else:
        found = block(maps, moment)
    close(found, golden[f"{mode}/y"], 1e-5)
    found.backward(golden["cotangent"])
    assert maps.grad is not None
    assert embedding.grad is not None
    relative(maps.grad, golden[f"{mode}/grad_x"], "x")
    relative(embedding.grad, golden[f"{mode}/grad_emb"], "embedding")
    own = dict(holder.named_parameters())
    for key, values in below(golden, f"{mode}/grad[").items():
        gradient = own[renamed(ours + key.removesuffix("]"))].grad
        assert gradient is not None
        relative(gradient, values, key)


def test_means_of_channels_and_embedding_of_steps(shared: Path) -> None:
    golden = load(shared, "binary_blocks")
    close(fit_channels(golden["chmean/x"], 3), golden["chmean/y"], 1e-6)
    for width in (32, 128):
        close(embed_steps(torch.arange(10), width), golden[f"temb_{width}_T10"], 1e-6)


def test_attention_of_zeros_and_ones(shared: Path) -> None:
    golden = load(shared, "bxformer")
    assert torch.equal(attend(golden["attq/x"]), golden["attq/y"])


@pytest.mark.parametrize(
    ("name", "mode", "signs"), [("xformer_real", "eval", False), ("bx", "eval", True), ("bx", "train", True)]
)
def test_cross_transformers(shared: Path, name: str, mode: str, signs: bool) -> None:
    golden = load(shared, "bxformer")
    module = CrossTransformer(Form(signs, 16), 64, 32, scrambled=True).train(mode == "train")
    load_authors(module, below(golden, f"{name}/param/"))
    maps, moment = golden["bx/x"].requires_grad_(), Moment(torch.zeros(2), golden["bx/emb"])
    found = module(maps, module.condition(golden["bx/cond"], moment), moment)
    relative(found, golden[f"{name}/{mode}/y"], "output", 1e-5)
    if signs:
        found.backward(golden["bx/cotangent"])
        assert maps.grad is not None
        relative(maps.grad, golden[f"bx/{mode}/grad_x"], "x")


@pytest.mark.parametrize("signs", [False, True])
def test_whole_refiners(shared: Path, signs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64: one sign that rounding turns changes the whole output."""
    golden = load(shared, "refiner_tiny")
    parameters = below(golden, "binary/param/")
    whole = parameters.pop("input_conv.weight")
    parameters["of_known.weight"] = torch.cat([whole[:, :1], whole[:, 4:]], dim=1)
    parameters["of_known.bias"], parameters["of_state.weight"] = parameters.pop("input_conv.bias"), whole[:, 1:4]
    model = Refiner(1, 3, (32, 32, 64, 64), width=32, binary=signs, scrambled=True).eval()
    load_authors(model, parameters)
    model.double()
    # Stored in half precision, three of their weights are 0, which has no sign in their code and is positive in ours.
    assert (
        sum(
            int((values == 0).sum())
            for name, values in parameters.items()
            if "binary_3x3.weight" in name or re.search(r"binary_3x3\.\d\.weight", name)
        )
        == 3
    )
    monkeypatch.setattr(binary, "signs", torch.sign)
    image, state, prior = (golden[name].double() for name in ("img", "yt", "p"))
    with torch.no_grad():
        moment = model.moment(golden["t"])
        conditions = model.conditions([golden[f"feat{level}"].double() for level in range(4)], moment)
        found = model(state, model.stem(image, prior), conditions, moment)
    close(found.float(), golden["binary/y" if signs else "real/y"], 1e-5)
