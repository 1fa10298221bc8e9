"""A small file of images with several readers, and a 2D package with random weights."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.weights import save_package
from PIL import Image

SIZE = 32
IMAGES, READERS = 7, 3


def discs(radii: np.ndarray) -> np.ndarray:
    """Masks (*radii.shape, SIZE, SIZE) of discs in the middle, uint8; a radius of 0 gives an empty mask."""
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    return (np.hypot(y, x) < radii[..., None, None]).astype(np.uint8)


def write_arrays(path: Path, **changed: object) -> dict[str, np.ndarray]:
    """Write bright discs on noise with readers who disagree; None as a changed array leaves it out."""
    rng = np.random.default_rng(0)
    radii = rng.integers(0, 12, (IMAGES, READERS))
    masks = discs(radii)
    images = np.clip(60 + rng.normal(0, 10, (IMAGES, SIZE, SIZE)) + 120 * discs(radii.max(axis=1)), 0, 255)
    files = [webp(image.astype(np.uint8)) for image in images]
    arrays = {
        "webp": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "masks_packed": np.packbits(masks, axis=-1),
        "patient": np.array([5, 5, 9, 9, 9, 11, 12], np.int16),
        **changed,
    }
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return {"images": images.astype(np.uint8), "masks": masks}


def webp(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", lossless=True)
    return file.getvalue()


@pytest.fixture
def reader_file(tmp_path: Path) -> Path:
    path = tmp_path / "readers.npz"
    write_arrays(path)
    return path


@pytest.fixture
def arguments() -> dict:
    backbone = {"name": "UNet", "widths": [4, 8], "num_res_units": 1}
    return {"backbone": backbone, "spatial_dims": 2, "channels": 1, "features": 4, "classes": 2, "rank": 3}


@pytest.fixture
def package(package_folder: Path, arguments: dict) -> ModelPackage:
    return make_package(package_folder, arguments)


def make_package(folder: Path, arguments: dict, family: str = "ssn") -> ModelPackage:
    """Random weights for the test package, with as many structures as the network has classes for, at most two."""
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    block = metadata["medseg_uncertainty"]
    block["family"], block["arguments"], block["intensity"] = (
        family,
        arguments,
        {"kind": "window", "low": 0, "high": 255},
    )
    if arguments["channels"] > 1:
        block["channels"] = [{"role": f"c{n}", "name": f"Channel {n}"} for n in range(arguments["channels"])]
    del block["structures"][arguments["classes"] - 1 :]
    torch.manual_seed(0)
    return save_package(folder, registry.build(family, arguments), metadata, "# Card\n", "CC0\n")
