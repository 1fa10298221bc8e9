"""Weights: what is refused before anything is copied, and what comes back."""

import hashlib
import json
import re

import pytest
import torch
from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.packages.package import METADATA, ModelPackage
from MedSegUncertaintyLib.packages.weights import load_foreign_state_dict, load_sampler, save_package
from safetensors.torch import load_file, save_file


def with_true_checksum(package):
    """The package with its metadata adapted to whatever its weights file holds now."""
    metadata = json.loads((package.folder / METADATA).read_text(encoding="utf-8"))
    content = package.weights_path.read_bytes()
    metadata["medseg_uncertainty"]["weights"].update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    (package.folder / METADATA).write_text(json.dumps(metadata), encoding="utf-8")
    return ModelPackage.from_folder(package.folder)


def with_tensors(package, change):
    """The package with weights that ``change`` edited."""
    tensors = load_file(package.weights_path)
    change(tensors)
    save_file(tensors, package.weights_path)
    return with_true_checksum(package)


@pytest.fixture
def zeroed_family(tiny_family, monkeypatch):
    """The family "tiny" whose fresh models hold zeros only, so that any weight that was copied shows."""
    build = registry.build

    def build_zeros(family, arguments):
        model = build(family, arguments)
        torch.nn.utils.vector_to_parameters(torch.zeros(sum(p.numel() for p in model.parameters())), model.parameters())
        return model

    monkeypatch.setattr(registry, "build", build_zeros)
    return tiny_family


def test_weights_come_back(package, tiny_model):
    loaded = load_sampler(package)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for name, tensor in tiny_model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)


def test_tensor_with_two_names_is_stored_once(package, tiny_model):
    assert "same.0.weight" in tiny_model.state_dict()
    assert "same.0.weight" not in load_file(package.weights_path)


def test_half_precision_is_stored_small_and_loaded_as_float32(tmp_path, tiny_family, tiny_model, metadata, package):
    half = save_package(tmp_path / "tiny-half", tiny_model, metadata, "card", "license", half=True)
    assert half.weights.bytes < package.weights.bytes
    loaded = load_sampler(half).state_dict()
    for name, tensor in tiny_model.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        torch.testing.assert_close(loaded[name], tensor, rtol=1e-3, atol=1e-4)


def test_value_beyond_half_precision_is_refused(tmp_path, tiny_model, metadata):
    tiny_model.norm.running_var.fill_(1e6)
    with pytest.raises(PackageError, match=r"^norm\.running_var holds a value that float16 cannot"):
        save_package(tmp_path / "tiny-half", tiny_model, metadata, "card", "license", half=True)


def test_saving_does_not_change_the_metadata_given(tmp_path, tiny_model, metadata):
    before = json.dumps(metadata)
    save_package(tmp_path / "tiny-mr", tiny_model, metadata, "card", "license")
    assert json.dumps(metadata) == before


def test_saving_needs_complete_metadata(tmp_path, tiny_model, metadata):
    del metadata["medseg_uncertainty"]["limits"]
    with pytest.raises(PackageError, match=r"medseg_uncertainty\.limits is missing"):
        save_package(tmp_path / "tiny-mr", tiny_model, metadata, "card", "license")
    assert not (tmp_path / "tiny-mr" / METADATA).exists()


def test_wrong_checksum(package, tiny_family):
    content = bytearray(package.weights_path.read_bytes())
    content[-1] ^= 1
    package.weights_path.write_bytes(content)
    with pytest.raises(
        PackageError, match=r"^The SHA-256 of models/model\.safetensors .* is not the one in its metadata"
    ):
        load_sampler(package)
    assert tiny_family == []


@pytest.mark.parametrize("length", [0, 7, 100, -4])
def test_truncated_file(package, tiny_family, length):
    content = package.weights_path.read_bytes()
    package.weights_path.write_bytes(content[:length])
    package = with_true_checksum(package)
    with pytest.raises(PackageError, match=r"^models/model\.safetensors .* is no complete safetensors file \("):
        load_sampler(package)
    assert tiny_family == []


def test_unknown_family(package, monkeypatch):
    monkeypatch.delitem(registry.FAMILIES, "tiny")
    with pytest.raises(PackageError, match=r'^The model family "tiny" is unknown; this version knows .*ssn'):
        load_sampler(package)


def test_arguments_that_the_family_does_not_take(tiny_family):
    with pytest.raises(PackageError, match=r'^The model family "tiny" does not take these arguments: '):
        registry.build("tiny", {"width": 4})
    with pytest.raises(PackageError, match=r'^The model family "ssn" needs the argument "backbone"\.$'):
        registry.build("ssn", {})
    assert tiny_family == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda tensors: tensors.pop("last.bias"),
            "last.bias is missing (1 missing, 0 unexpected, 0 of another shape); nothing was loaded.",
        ),
        (
            lambda tensors: tensors.update(extra=torch.zeros(1)),
            "extra is unexpected (0 missing, 1 unexpected, 0 of another shape); nothing was loaded.",
        ),
        (
            lambda tensors: tensors.update({"last.bias": torch.ones(3), "norm.bias": torch.ones(1)}),
            "norm.bias has shape [1] instead of [4] (0 missing, 0 unexpected, 2 of another shape); nothing was loaded.",
        ),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_weights_that_do_not_fit(package, zeroed_family, change, sentence):
    package = with_tensors(package, change)
    expected = f'The weights of the model package tiny-mr do not fit the family "tiny": {sentence}'
    with pytest.raises(PackageError, match=f"^{re.escape(expected)}$"):
        load_sampler(package)
    (model,) = zeroed_family
    assert all(not parameter.any() for parameter in model.parameters())


class Payload:
    """Runs code when unpickled, as a malicious checkpoint would."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


def test_file_that_needs_pickle_is_refused(tmp_path):
    marker = tmp_path / "ran"
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "config": Payload(marker)}, tmp_path / "foreign.pt")
    with pytest.raises(PackageError, match=r"^foreign\.pt holds more than weights and could run code when opened"):
        load_foreign_state_dict(tmp_path / "foreign.pt")
    assert not marker.exists()


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_foreign_state_dict(tmp_path, tiny_model, wrap):
    torch.save(wrap(tiny_model.state_dict()), tmp_path / "foreign.pth")
    loaded = load_foreign_state_dict(tmp_path / "foreign.pth")
    assert loaded.keys() == tiny_model.state_dict().keys()


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(2)])
def test_foreign_file_without_weights(tmp_path, content):
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(PackageError, match=r"^foreign\.pt holds no state_dict"):
        load_foreign_state_dict(tmp_path / "foreign.pt")


def test_damaged_or_missing_foreign_file(tmp_path, tiny_model):
    path = tmp_path / "foreign.pt"
    torch.save(tiny_model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:200])
    for broken in (path, tmp_path / "absent.pt"):
        with pytest.raises(PackageError, match="cannot be read as a PyTorch file; it is missing or damaged"):
            load_foreign_state_dict(broken)


def test_a_refused_save_leaves_the_earlier_package_as_it_was(tmp_path, tiny_family, metadata):
    model = registry.build("tiny", {"channels": 4})
    save_package(tmp_path / "tiny", model, metadata, "# Card\n", "CC0\n")
    torch.nn.init.ones_(model.first.weight)
    with pytest.raises(PackageError):
        save_package(tmp_path / "tiny", model, {**metadata, "task": None}, "# Card\n", "CC0\n")
    assert not (load_sampler(ModelPackage.from_folder(tmp_path / "tiny")).first.weight == 1).all()
