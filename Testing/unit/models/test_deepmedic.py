"""SSN on DeepMedic with data made here: the authors' names, sizes, tiles, and a run of a package."""

import json
from pathlib import Path

import pytest
import torch
from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.inference.run import segment
from MedSegUncertaintyLib.models.registry import build
from MedSegUncertaintyLib.models.ssn.deepmedic import DeepMedic, authors_state_dict, load_authors_state_dict
from MedSegUncertaintyLib.models.ssn.network import SSN
from MedSegUncertaintyLib.packages.weights import save_package
from MedSegUncertaintyLib.volumes.geometry import Volume

ARGUMENTS = {
    "backbone": {"name": "DeepMedic", "widths": [4, 4], "joint": [6, 6]},
    "spatial_dims": 3,
    "channels": 1,
    "features": 4,
    "classes": 3,
    "rank": 2,
}


def tiny(seed: int = 0, dims: int = 3) -> SSN:
    """A network whose batch norms have something to say."""
    torch.manual_seed(seed)
    model = build("ssn", {**ARGUMENTS, "spatial_dims": dims})
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return model.eval()


def test_published_checkpoint_has_these_names_and_shapes() -> None:
    published = {"backbone": {"name": "DeepMedic"}, "channels": 4, "features": 50, "classes": 4, "rank": 10}
    with torch.device("meta"):
        state = authors_state_dict(build("ssn", {**ARGUMENTS, **published}))
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert len(shapes) == 3 * 8 * 7 + 3 * 7 + 6
    assert shapes["path(5, 5, 5)0.path.1.conv.weight"] == (30, 4, 3, 3, 3)
    assert shapes["path(3, 3, 3)1.path.8.norm.running_mean"] == (50,)
    assert shapes["path(1, 1, 1)2.path.1.prelu.weight"] == (1,)
    assert shapes["fully_connected.2.conv.weight"] == (50, 250, 1, 1, 1)
    assert shapes["mean_l.weight"] == shapes["log_cov_diag_l.weight"] == (4, 50, 1, 1, 1)
    assert shapes["cov_factor_l.weight"] == (40, 50, 1, 1, 1)


def test_round_trip_by_the_authors_names() -> None:
    source, target = tiny(1), tiny(2)
    load_authors_state_dict(target, authors_state_dict(source))
    image = torch.randn(1, 1, 15, 15, 15)
    torch.testing.assert_close(target.encode(image), source.encode(image), rtol=0, atol=0)


def test_deterministic_benchmark_is_the_backbone_alone() -> None:
    model = DeepMedic(2, 1, 3, widths=[4, 4], joint=[4])
    state = {name: torch.ones_like(tensor) for name, tensor in authors_state_dict(model).items()}
    assert state["path(5, 5)0.path.1.conv.weight"].shape == (4, 1, 3, 3)
    load_authors_state_dict(model, state)
    assert all((tensor == 1).all() for tensor in model.state_dict().values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean_l.bias": None}, r"'mean_l\.bias' is missing \(1 missing, 0 unexpected, 0 of another shape\)"),
        ({"extra": torch.zeros(1)}, r"'extra' is unexpected"),
        ({"mean_l.bias": torch.zeros(4)}, r"'mean_l\.bias' has shape \[4\] instead of \[3\]"),
    ],
)
def test_other_checkpoints_are_refused_in_one_sentence(change: dict, message: str) -> None:
    source, target = tiny(1), tiny(2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = {name: tensor for name, tensor in {**authors_state_dict(source), **change}.items() if tensor is not None}
    with pytest.raises(PackageError, match=message):
        load_authors_state_dict(target, state)
    torch.testing.assert_close(dict(target.state_dict()), before, rtol=0, atol=0)


def test_padding_adds_the_margin_that_valid_convolutions_lack() -> None:
    torch.manual_seed(0)
    padded, valid = (DeepMedic(2, 1, 3, widths=[4, 4, 4], joint=[4], pad=pad).eval() for pad in (True, False))
    valid.load_state_dict(padded.state_dict())
    image = torch.randn(1, 1, 60, 45)
    with torch.no_grad():
        whole, inner = padded(image), valid(image)
    assert whole.shape[2:] == image.shape[2:]
    torch.testing.assert_close(inner, whole[..., 15:-15, 15:-15], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_tiles_see_the_same_as_the_whole_image(dims: int) -> None:
    model = tiny(dims=dims)
    margin, multiple = 10, model.size_multiple
    image = torch.randn(1, 1, *[5 * multiple if axis == 0 else 3 * multiple for axis in range(dims)])
    start, stop = multiple, 4 * multiple
    with torch.no_grad():
        whole, tile = model.encode(image), model.encode(image[:, :, start:stop])
    for name, field in tile.items():
        assert field.shape[2:] == (3 * multiple,) * dims
        inside = field[:, :, margin:-margin]
        torch.testing.assert_close(inside, whole[name][:, :, start + margin : stop - margin], rtol=1e-5, atol=1e-5)


def test_package_runs(package_folder: Path, blob_volume: Volume) -> None:
    metadata = json.loads((package_folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    metadata["medseg_uncertainty"]["arguments"] = ARGUMENTS
    save_package(package_folder, tiny(), metadata, "# Card\n", "CC0\n")
    result = segment(blob_volume, InferenceRequest(str(package_folder), samples=2, device="cpu"))
    assert result.samples[0].shape == blob_volume.array.shape
    assert result.statistics.variance.max() > 0


@pytest.mark.parametrize("pad", [True, False])
def test_sizes_that_do_not_fit(pad: bool) -> None:
    network = DeepMedic(2, 1, 3, widths=[2, 2], joint=[2], pad=pad)
    with pytest.raises(ValueError, match="no multiple of 5"):
        network(torch.zeros(1, 1, 46, 45))


def test_packages_cannot_ask_for_features_of_another_size() -> None:
    with pytest.raises(PackageError, match="pad"):
        build("ssn", {**ARGUMENTS, "backbone": {"name": "DeepMedic", "pad": False}})
