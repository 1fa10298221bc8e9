"""Weights in and out of packages. Nothing here runs code that comes from a file."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.models.sampler import Packable
from MedSegUncertaintyLib.packages.package import BLOCK, CARD, LICENSE, METADATA, ModelPackage
from MedSegUncertaintyLib.packages.store import verify_weights

if TYPE_CHECKING:
    from MedSegUncertaintyLib.models.registry import SamplerModule

WEIGHTS = "models/model.safetensors"

Shapes = Mapping[str, tuple[int, ...]]


def load_sampler(package: ModelPackage, device: str | torch.device = "cpu") -> SamplerModule:
    """The model of a package, in evaluation mode, without gradients, in the precision of its family (float32).

    Checksum, file format, family, names and shapes are checked in this order before any weight is copied.

    Raises:
        PackageError: One of them is wrong.
    """
    verify_weights(package)
    stored = _stored_shapes(package)
    module = registry.build(package.family, package.arguments)
    expected = {name: tuple(tensor.shape) for name, tensor in _distinct_tensors(module).items()}
    _check_shapes(package, expected, stored)
    if module.classes != len(package.structures) + 1:
        raise PackageError(
            f"The model package {package.name} names {len(package.structures)} structures, but its network tells "
            f"{module.classes} classes apart, background included; nothing was loaded."
        )
    if module.channels != len(package.channels):
        raise PackageError(
            f"The network of the model package {package.name} takes {module.channels} images, but its metadata names "
            f"{len(package.channels)}; nothing was loaded."
        )
    # Copies into the tensors of the module, which turns weights stored as float16 into float32. Not strict only
    # because second names of a tensor are not stored; names were compared above.
    module.load_state_dict(load_file(package.weights_path), strict=False)
    module.requires_grad_(False)
    return module.eval().to(device)


def load_foreign_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Tensors by name from a ``.pt`` or ``.pth`` file of another project, on the CPU.

    A state dictionary and a checkpoint with one under the key ``state_dict`` are both understood.

    Raises:
        PackageError: The file cannot be read, would need to run code, or holds something else.
    """
    path = Path(path)
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise PackageError(
            f"{path.name} holds more than weights and could run code when opened; save its state_dict alone."
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise PackageError(f"{path.name} cannot be read as a PyTorch file; it is missing or damaged.") from error
    state = data.get("state_dict", data) if isinstance(data, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise PackageError(f"{path.name} holds no state_dict, that is, no tensors by name.")
    return dict(state)


def shipped(family: str, arguments: dict[str, Any], model: torch.nn.Module) -> tuple[dict[str, Any], torch.nn.Module]:
    """Arguments and model that a package holds: those of a trained model, or of its packed twin if it has one."""
    if not isinstance(model, Packable):
        return arguments, model
    packed = {**arguments, "packed": True}
    twin = registry.build(family, packed)
    twin.load_state_dict(model.packed_state())
    return packed, twin


def save_package(
    folder: str | Path,
    module: torch.nn.Module,
    metadata: dict[str, Any],
    card: str,
    license_text: str,
    half: bool = False,
) -> ModelPackage:
    """Write a package; the entry ``weights`` of our block in the metadata is filled in.

    Args:
        folder: Its folder, whose name becomes the name of the package; it is made if needed.
        module: The trained model.
        metadata: Content of ``configs/metadata.json``; not changed.
        card: Model card, Markdown.
        license_text: Text of the license of the weights.
        half: Store weights as float16, which halves the file.

    Raises:
        PackageError: The metadata is incomplete, or a weight is too large for float16. Nothing was written.
    """
    folder = Path(folder).resolve()
    content = save(_tensors_to_store(module, half))
    metadata = copy.deepcopy(metadata)
    metadata.setdefault(BLOCK, {})["weights"] = {
        "file": WEIGHTS,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    ModelPackage.from_metadata(folder, metadata)
    described = json.dumps(metadata, indent=2, allow_nan=False) + "\n"

    for file in (Path(WEIGHTS), METADATA, CARD):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(content)
    for file, text in ((CARD, card), (LICENSE, license_text), (METADATA, described)):
        # The same bytes on every platform.
        (folder / file).write_text(text, encoding="utf-8", newline="\n")
    return ModelPackage.from_folder(folder)


def _stored_shapes(package: ModelPackage) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(package.weights_path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise PackageError(
            f"{package.weights.file} of the model package {package.name} is no complete safetensors file ({error}); "
            "install the package again."
        ) from error


def _check_shapes(package: ModelPackage, expected: Shapes, stored: Shapes) -> None:
    missing = [name for name in expected if name not in stored]
    unexpected = [name for name in stored if name not in expected]
    wrong = [name for name in expected if name in stored and stored[name] != expected[name]]
    if not (missing or unexpected or wrong):
        return
    if missing:
        first = f"{missing[0]} is missing"
    elif unexpected:
        first = f"{unexpected[0]} is unexpected"
    else:
        first = f"{wrong[0]} has shape {list(stored[wrong[0]])} instead of {list(expected[wrong[0]])}"
    raise PackageError(
        f'The weights of the model package {package.name} do not fit the family "{package.family}": {first} '
        f"({len(missing)} missing, {len(unexpected)} unexpected, {len(wrong)} of another shape); nothing was loaded."
    )


def _distinct_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state of a module with every tensor under one name only: MONAI's DynUNet lists most of its own twice."""
    first_names: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    for name, tensor in state.items():
        first_names.setdefault(id(tensor), name)
    return {name: state[name] for name in first_names.values()}


def _tensors_to_store(module: torch.nn.Module, half: bool) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, tensor in _distinct_tensors(module).items():
        # A copy of its own: safetensors refuses tensors that share memory.
        stored = tensor.detach().cpu().contiguous().clone()
        if half and stored.is_floating_point():
            stored = stored.half()
            if not torch.isfinite(stored).all():
                raise PackageError(f"{name} holds a value that float16 cannot; store this model in full precision.")
        tensors[name] = stored
    return tensors
