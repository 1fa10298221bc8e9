"""Workers whose child is real, a package that is quick, and ways to break the child from outside."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from MedSegUncertaintyLib.inference.request import InferenceRequest
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.workers.worker import Worker

ARGUMENTS = {
    "backbone": {"name": "DynUNet", "widths": [4, 8, 8], "norm_name": "batch"},
    "spatial_dims": 3,
    "channels": 1,
    "features": 4,
    "classes": 3,
    "rank": 4,
}


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, make_metadata: Callable[..., dict]) -> ModelPackage:
    """Random weights of a tiny SSN."""
    import torch
    from MedSegUncertaintyLib.models import registry
    from MedSegUncertaintyLib.packages.weights import save_package

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "two-blobs"
    return save_package(
        folder, registry.build("ssn", ARGUMENTS), make_metadata(arguments=ARGUMENTS), "# Card\n", "CC0\n"
    )


@pytest.fixture(scope="session")
def ask(package: ModelPackage) -> Callable[..., InferenceRequest]:
    """Makes requests; without options, for three samples."""
    return lambda **options: InferenceRequest(str(package.folder), **{"samples": 3, "device": "cpu", **options})


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty and with a name that is not ASCII."""
    folder = tmp_path / "Zwischenablage für 画像"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def worker(temporary: Path) -> Iterator[Worker]:
    """A worker that leaves neither process nor file behind."""
    worker = Worker()
    yield worker
    worker.close()
    assert list(temporary.iterdir()) == []


@pytest.fixture(scope="module")
def warm_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for all tests that need torch in the child, which takes seconds to start."""
    folder = tmp_path_factory.mktemp("Zwischenablage für 画像")
    worker = Worker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        yield worker
        worker.close()
    assert list(folder.iterdir()) == []


@pytest.fixture
def sabotage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Runs a piece of Python at the start of every child; a function ``segment`` in it replaces ours, without torch."""

    def add(code: str) -> None:
        folder = tmp_path / "sabotage"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(
            f"import os, subprocess, sys, time\n{code}\n{REPLACE}", encoding="utf-8"
        )
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return add


REPLACE = """
import types
if "segment" in globals():
    run, device = types.ModuleType("run"), types.ModuleType("device")
    run.segment = segment
    device.choose_device = device.describe_device = lambda name: name
    device.is_out_of_memory = lambda error: isinstance(error, MemoryError)
    kept = types.ModuleType("kept")
    kept.Kept = dict
    for module in (run, device, kept):
        sys.modules["MedSegUncertaintyLib.inference." + module.__name__] = module
"""
