"""A result as a folder: complete when it appears, absent otherwise."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from MedSegUncertaintyLib.errors import BadInputError, CanceledError
from MedSegUncertaintyLib.inference.progress import Progress, StageClock
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.outputs.document import FORMAT, build_document
from MedSegUncertaintyLib.outputs.segmentation_file import write_contours, write_samples
from MedSegUncertaintyLib.volumes.reading import write_volume

SUMMARY = "summary.json"
STAGE = "write files"

Document = dict[str, Any]
Writer = Callable[[Path], None]
Extra = Callable[[Path, Document], None]
"""Writes a further file to a path, given the content of ``summary.json``."""


def write_outputs(
    folder: str | Path,
    result: InferenceResult,
    *,
    extras: Mapping[str, Extra] | None = None,
    left_out: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Path]:
    """Write a result into a folder, which appears only when everything in it is written.

    Written are ``samples.seg.nrrd``, ``contours.seg.nrrd``, ``mean_<structure>.nrrd`` and
    ``variance_<structure>.nrrd`` per structure, ``entropy.nrrd`` (all maps float32 on the input's grid),
    ``summary.json``, and the extras.

    Args:
        folder: Target; it must not exist, be empty, or hold an earlier result and nothing else, which is replaced.
        result: What to write.
        extras: File name to the function that writes it, for files that other rooms know how to make. If one fails,
            the other files are kept and ``summary.json`` says what is missing and why.
        left_out: File name to the reason why it cannot be made here, for ``summary.json``.
        progress: Called at the start and after each file; may raise to cancel.

    Returns:
        File name to path of everything that was written.

    Raises:
        BadInputError: The folder holds something else. Nothing was changed.
    """
    files: dict[str, Writer] = dict(_own_files(result))
    document = build_document(result)
    missing = dict(left_out or {})
    extra_files = dict(extras or {})
    clock = StageClock(STAGE, len(files) + len(extra_files), progress)
    with staged_folder(folder) as stage:
        for name, write in files.items():
            write(stage / name)
            clock.counted(name)
        for name, extra in extra_files.items():
            _write_extra(extra, stage / name, document, missing)
            clock.counted(name)
        names = sorted(path.name for path in stage.iterdir())
        document.update({"files": [*names, SUMMARY], "left_out": missing})
        (stage / SUMMARY).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return {name: Path(folder) / name for name in document["files"]}


def check_target(folder: str | Path) -> None:
    """Make sure that a result may be written to a folder, which is worth knowing before a long run.

    Raises:
        BadInputError: It holds files that would be lost, or it is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BadInputError(f"{folder} is a file; choose a folder for the results.")
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if present:
        foreign = sorted(present - _files_of_earlier_result(folder))
        if foreign:
            raise BadInputError(
                f"{folder} holds files that are no earlier result, such as {foreign[0]}; choose another folder."
            )


@contextmanager
def staged_folder(folder: str | Path) -> Iterator[Path]:
    """A new folder beside ``folder`` to write into; it takes its place at the end, or vanishes after an error."""
    check_target(folder)
    folder = Path(folder).resolve()
    # Beside the target, because a rename is one step only within a file system.
    mark = uuid.uuid4().hex[:8]
    stage, old = (folder.with_name(f".{folder.name}.{mark}.{kind}") for kind in ("partial", "replaced"))
    stage.mkdir(parents=True)
    try:
        yield stage
        if folder.exists():
            folder.rename(old)
        try:
            stage.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _files_of_earlier_result(folder: Path) -> set[str]:
    try:
        document = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        return set(document["files"]) if document["format"] == FORMAT else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _own_files(result: InferenceResult) -> Iterator[tuple[str, Writer]]:
    yield "samples.seg.nrrd", lambda path: write_samples(path, result)
    yield "contours.seg.nrrd", lambda path: write_contours(path, result)
    statistics = result.statistics
    for index, structure in enumerate(result.structures):
        yield f"mean_{structure.slug}.nrrd", _map_writer(result, statistics.mean[index])
        yield f"variance_{structure.slug}.nrrd", _map_writer(result, statistics.variance[index])
    yield "entropy.nrrd", _map_writer(result, statistics.entropy)


def _map_writer(result: InferenceResult, array: Any) -> Writer:
    return lambda path: write_volume(path, result.on_grid(array.astype("float32", copy=False)), result.geometry)


def _write_extra(extra: Extra, path: Path, document: Document, missing: dict[str, str]) -> None:
    try:
        extra(path, document)
    except (CanceledError, MemoryError):
        raise
    except Exception as error:  # a picture that fails must not cost the user the samples
        path.unlink(missing_ok=True)
        missing[path.name] = f"It could not be made: {type(error).__name__}: {error}"
