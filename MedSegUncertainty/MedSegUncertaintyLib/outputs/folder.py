"""A result as a folder: complete when its ``summary.json`` is there."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedSegUncertaintyLib.errors import BadInputError, CanceledError
from MedSegUncertaintyLib.inference.progress import Progress, StageClock
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.outputs.csv_files import write_structures, write_volumes
from MedSegUncertaintyLib.outputs.document import FORMAT, build_document
from MedSegUncertaintyLib.outputs.segmentation_file import write_contours, write_samples
from MedSegUncertaintyLib.volumes.reading import write_volume

SUMMARY = "summary.json"
UNFINISHED = ".medseg-uncertainty-unfinished.json"
"""Names the files of a result while they are moved to their place."""
STAGE = "write files"

Document = dict[str, Any]
Writer = Callable[[Path], None]
Extra = Callable[[Path, Document], None]
"""Writes a further file to a path, given the content of ``summary.json``."""


@dataclass(frozen=True)
class StagedFolder:
    """Where a result is written, and where it goes once all of it is there.

    Attributes:
        path: Hidden folder to write into.
        target: Folder of the result, absolute.
    """

    path: Path
    target: Path


def write_outputs(
    folder: str | Path,
    result: InferenceResult,
    *,
    extras: Mapping[str, Extra] | None = None,
    left_out: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Path]:
    """Write a result into a folder, whose ``summary.json`` appears only when everything else is there.

    Args:
        folder: Target; it must not exist, be empty, or hold an earlier result and nothing else, which is replaced.
        result: What to write.
        extras: See :func:`write_files`.
        left_out: Likewise.
        progress: Likewise.

    Returns:
        File name to absolute path of everything that was written.

    Raises:
        BadInputError: The folder holds something else, or cannot be written to. Nothing was changed.
    """
    with staged_folder(folder) as stage:
        return write_files(stage, result, extras=extras, left_out=left_out, progress=progress)


def write_files(
    stage: StagedFolder,
    result: InferenceResult,
    *,
    extras: Mapping[str, Extra] | None = None,
    left_out: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Path]:
    """Write the files of a result into a folder that was made ready before there was a result.

    Written are ``samples.seg.nrrd``, ``contours.seg.nrrd``, ``mean_<structure>.nrrd`` and
    ``variance_<structure>.nrrd`` per structure, ``entropy.nrrd`` (all maps float32 on the input's grid),
    ``volumes.csv``, ``structures.csv``, ``summary.json``, and the extras.

    Args:
        stage: From :func:`staged_folder`.
        result: What to write.
        extras: File name to the function that writes it, for files that other rooms know how to make. If one fails,
            the other files are kept and ``summary.json`` says what is missing and why.
        left_out: File name to the reason why it cannot be made here, for ``summary.json``.
        progress: Called at the start and after each file; may raise to cancel.

    Returns:
        File name to the path that the file has once ``staged_folder`` is left.
    """
    files: dict[str, Writer] = dict(_own_files(result))
    document = build_document(result)
    missing = dict(left_out or {})
    extra_files = dict(extras or {})
    clock = StageClock(STAGE, len(files) + len(extra_files), progress)
    for name, write in files.items():
        write(stage.path / name)
        clock.counted(name)
    for name, extra in extra_files.items():
        _write_extra(extra, stage.path / name, document, missing)
        clock.counted(name)
    names = sorted(path.name for path in stage.path.iterdir())
    document.update({"files": [*names, SUMMARY], "left_out": missing})
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (stage.path / SUMMARY).write_text(text + "\n", encoding="utf-8")
    return {name: stage.target / name for name in document["files"]}


def check_target(folder: str | Path) -> None:
    """Make sure that a result may be written to a folder; hidden files in it do not count, as they are left alone.

    Raises:
        BadInputError: It holds files that would be lost, or it is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BadInputError(f"{folder} is a file; choose a folder for the results.")
    if folder.is_dir():
        earlier = _files_of_earlier_result(folder)
        shown = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        foreign = [path.name for path in shown if path.name not in earlier or path.is_dir()]
        if foreign:
            raise BadInputError(
                f"{folder} holds files that are no earlier result, such as {foreign[0]}; choose another folder."
            )


@contextmanager
def staged_folder(folder: str | Path) -> Iterator[StagedFolder]:
    """A hidden folder to write into; its files go to ``folder`` at the end, or vanish after an error.

    An existing folder itself is neither renamed nor removed: it may be a mount point or the working directory.

    Raises:
        BadInputError: The folder holds something else or cannot be written to, which is found out at the start; or
            it became unwritable since, in which case the hidden folder is kept.
    """
    target = Path(folder).resolve()
    check_target(target)
    # On the file system of the target, so that every move is one step.
    place = target if target.is_dir() else target.parent
    new_parents = [parent for parent in (place, *place.parents) if not parent.exists()]
    path = place / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise BadInputError(f"{target} cannot be written to ({error.strerror}); choose another folder.") from error
    try:
        yield StagedFolder(path, target)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            for parent in new_parents:
                parent.rmdir()
        raise
    try:
        _publish(path, target)
    except OSError as error:
        raise BadInputError(
            f"The results could not be moved to {target} ({error.strerror}); what is missing there is in {path}."
        ) from error


def _publish(path: Path, target: Path) -> None:
    """Move the files of a stage to their target; a kill on the way leaves no ``summary.json``."""
    if not target.is_dir():
        path.rename(target)
        return
    names = {file.name for file in path.iterdir()}
    earlier = _files_of_earlier_result(target) & {file.name for file in target.iterdir()}
    # Lets the next run know whose files these are, should this one be killed.
    (target / UNFINISHED).write_text(json.dumps({"format": FORMAT, "files": sorted(names | earlier)}), encoding="utf-8")
    for name in [SUMMARY, *sorted(earlier - names)]:
        (target / name).unlink(missing_ok=True)
    for name in [*sorted(names - {SUMMARY}), SUMMARY]:
        os.replace(path / name, target / name)
    (target / UNFINISHED).unlink()
    path.rmdir()


def _files_of_earlier_result(folder: Path) -> set[str]:
    """Names of the files of a result, finished or not."""
    names: set[str] = set()
    for record in (SUMMARY, UNFINISHED):
        with suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads((folder / record).read_text(encoding="utf-8"))
            names |= set(document["files"]) if document["format"] == FORMAT else set()
    return names


def _own_files(result: InferenceResult) -> Iterator[tuple[str, Writer]]:
    yield "samples.seg.nrrd", lambda path: write_samples(path, result)
    yield "contours.seg.nrrd", lambda path: write_contours(path, result)
    statistics = result.statistics
    for index, structure in enumerate(result.structures):
        yield f"mean_{structure.slug}.nrrd", _map_writer(result, statistics.mean[index])
        yield f"variance_{structure.slug}.nrrd", _map_writer(result, statistics.variance[index])
    yield "entropy.nrrd", _map_writer(result, statistics.entropy)
    yield "volumes.csv", lambda path: write_volumes(path, result.structures, statistics.volumes_ml)
    yield "structures.csv", lambda path: write_structures(path, result.summary)


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
