"""A tiny model family and a package of it."""

import sys
import types

import pytest
import torch
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.packages.weights import save_package


class TinyModel(torch.nn.Module):
    channels, classes = 1, 2

    def __init__(self, channels):
        super().__init__()
        self.first = torch.nn.Conv3d(1, channels, 3)
        self.norm = torch.nn.BatchNorm3d(channels)
        self.last = torch.nn.Conv3d(channels, 2, 1)
        self.same = torch.nn.ModuleList([self.first])  # a second name, as in MONAI's DynUNet


@pytest.fixture
def tiny_family(monkeypatch):
    """Registers the family "tiny" and returns the list of models that the registry made of it."""
    made = []

    def build(arguments):
        made.append(TinyModel(**arguments))
        return made[-1]

    module = types.ModuleType("tiny_family")
    module.build = build
    monkeypatch.setitem(sys.modules, "tiny_family", module)
    monkeypatch.setitem(registry.FAMILIES, "tiny", "tiny_family")
    return made


@pytest.fixture
def metadata():
    tensor = {
        "type": "image",
        "format": "magnitude",
        "num_channels": 1,
        "spatial_shape": [64, 64, 64],
        "dtype": "float32",
        "value_range": [-10, 10],
    }
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "meta_schema_20240725.json",
        "name": "Tiny hippocampus",
        "version": "0.1.0",
        "monai_version": "1.5.0",
        "pytorch_version": "2.6.0",
        "numpy_version": "2.0.0",
        "required_packages_version": {"safetensors": "0.5.0"},
        "task": "Segmentation",
        "description": "Segments nothing of use.",
        "authors": "The authors",
        "copyright": "The authors",
        "network_data_format": {"inputs": {"image": tensor}, "outputs": {"pred": tensor}},
        "medseg_uncertainty": {
            "family": "tiny",
            "arguments": {"channels": 4},
            "modality": "MR",
            "body_part": "brain",
            "structures": [
                {
                    "name": "Hippocampus",
                    "label": 1,
                    "color": [0.9, 0.5, 0.2],
                    "terminology": {
                        "category": ["SCT", "123037004", "Anatomical Structure"],
                        "type": ["SCT", "3016005", "Hippocampus"],
                    },
                }
            ],
            "grid": {"spacing_mm": [1.0, 1.0, 1.0], "orientation": "RAS"},
            "intensity": {"kind": "zscore"},
            "roi": {"required": True, "size_mm": [48, 64, 48], "where": "Around one hippocampus."},
            "weights": {"file": "models/model.safetensors", "sha256": "0" * 64, "bytes": 1},
            "training_data": {"name": "None", "license": "CC0-1.0", "cases": 0},
            "weights_license": "Apache-2.0",
            "limits": ["Not for any use."],
            "evaluation": {"dice_mean_prediction": {"Hippocampus": 0.0}},
        },
    }


@pytest.fixture
def tiny_model():
    torch.manual_seed(0)
    return TinyModel(4)


@pytest.fixture
def package(tmp_path, tiny_family, tiny_model, metadata):
    """A sound package in a folder of its own."""
    return save_package(tmp_path / "packages" / "tiny-mr", tiny_model, metadata, "# Tiny\n", "Apache-2.0\n")
