"""The command line: the same work without a window.

Every module is imported by the command that needs it, so that ``--help`` and ``models`` answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import io
import json
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from MedSegUncertaintyLib import __version__
from MedSegUncertaintyLib.errors import BadInputError, MedSegError

if TYPE_CHECKING:
    from tqdm import tqdm

    from MedSegUncertaintyLib.inference.progress import CancelToken, Progress
    from MedSegUncertaintyLib.inference.request import Scale
    from MedSegUncertaintyLib.inference.result import InferenceResult
    from MedSegUncertaintyLib.outputs.folder import Document, Extra
    from MedSegUncertaintyLib.packages.package import ModelPackage
    from MedSegUncertaintyLib.packages.store import ListedPackage
    from MedSegUncertaintyLib.propagation.examples import Example
    from MedSegUncertaintyLib.volumes.geometry import RegionOfInterest, Volume

PROGRAM = "medseg-uncertainty"
EXIT_CODES = "Exit codes: 0 success, 1 internal error, 2 usage, 3 bad input, 4 canceled, 5 out of memory."

EXIT_INTERNAL = 1
EXIT_USAGE = 2
EXIT_BAD_INPUT = 3
EXIT_CANCELED = 4
EXIT_MEMORY = 5

Answer = tuple[dict[str, Any], str]
"""What a command found out, as JSON and as text for people."""


class UsageError(MedSegError):
    """The command line cannot be understood."""

    exit_code = EXIT_USAGE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Command line without the program's name; that of the process if None.

    Returns:
        Exit code: 0 success, 1 internal error, 2 usage, 3 bad input, 4 canceled, 5 out of memory.
    """
    given = join_negative_values(sys.argv[1:] if arguments is None else arguments)
    # What the code page lacks, in a path for example, must not end a run that went well.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Looked up by hand: a command line that cannot be parsed must be answered in JSON, too.
    as_json = "--json" in given
    try:
        options = make_parser().parse_args(given)
        with stdout_kept_clean() if as_json else contextlib.nullcontext():
            data, text = options.run(options)
    except (Exception, KeyboardInterrupt) as error:
        return _fail(error, as_json)
    print(json.dumps(data, indent=2) if as_json else text)
    return 0


def _fail(error: BaseException, as_json: bool) -> int:
    code, message = describe_error(error)
    if code == EXIT_INTERNAL and not isinstance(error, MedSegError):
        traceback.print_exception(error)  # a defect of the program, not of its input: worth a report
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": {"message": message, "exit_code": code}}))
    return code


def describe_error(error: BaseException) -> tuple[int, str]:
    """Exit code and one sentence."""
    if isinstance(error, MedSegError):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return EXIT_CANCELED, "Canceled by the user."
    if _is_out_of_memory(error):
        return EXIT_MEMORY, "Memory ran out; use a smaller region of interest or another device."
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return EXIT_BAD_INPUT, f"{where}{error.strerror}."
    return EXIT_INTERNAL, f"Internal error, please report it: {type(error).__name__}: {error}"


def _is_out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:  # then the error cannot be one of torch's
        return isinstance(error, MemoryError)
    from MedSegUncertaintyLib.inference.device import is_out_of_memory

    return is_out_of_memory(error)


# Arguments


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the process, so that every error leaves by the same door."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(message)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog=PROGRAM,
        description="Many plausible segmentations of a medical image, and what differs between them. "
        "Not a medical device. For research only.",
        epilog=EXIT_CODES,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_models(commands)
    _add_official(commands)
    _add_segment(commands)
    _add_propagate(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_build_kernel(commands)
    return parser


def _add_models(commands: Any) -> None:
    parser = commands.add_parser("models", help="list the installed model packages", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_models)


def _add_official(commands: Any) -> None:
    parser = commands.add_parser(
        "add-universeg", help="install the UniverSeg authors' weights, for research only", allow_abbrev=False
    )
    parser.add_argument("--file", metavar="PT", type=Path, help="the authors' file, if it is here already")
    parser.add_argument(
        "--accept-license", action="store_true", help="agree to the license of the weights without being asked"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_add_official)


def _add_segment(commands: Any) -> None:
    parser = commands.add_parser(
        "segment", help="draw segmentations of an image and write them to a folder", allow_abbrev=False
    )
    parser.add_argument("image", metavar="IMAGE", type=Path, help="NIfTI, NRRD or MetaImage file, or DICOM folder")
    parser.add_argument(
        "--channel", action="append", default=[], metavar="ROLE=FILE",
        help="a further image that the model needs, such as t2=t2.nii.gz; repeat it for each",
    )  # fmt: skip
    parser.add_argument("--model", required=True, metavar="NAME", help="name of a model package, or its folder")
    parser.add_argument("--output", required=True, metavar="DIR", type=Path, help="folder for the results")
    parser.add_argument("--series", help="which DICOM series of the folder: its number, description or UID")
    _add_samples_and_seed(parser)
    parser.add_argument(
        "--roi", type=region_of_interest, metavar="R,A,S,X,Y,Z", help="center (RAS) and size of the region, in mm"
    )
    parser.add_argument(
        "--temperature", type=_request_field("temperature", float), default=1.0, metavar="T",
        help="scale of the noise: 0 none, 1 as trained (default)",
    )  # fmt: skip
    parser.add_argument(
        "--class-weights", type=_request_field("class_weights", numbers), default=(), metavar="W,...",
        help="how far each structure moves from its mean: 1 as trained (SSN)",
    )  # fmt: skip
    parser.add_argument(
        "--scales", type=_request_field("scales", scales), default=(), metavar="S,...",
        help="per scale of the samples, coarsest first: 0 mean, 1 sample, 0.5 half the noise, f7 as sample 7 (HPU-Net)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=_request_field("steps", int), metavar="N",
        help="draw each sample in fewer steps, which is faster (HiDiff; default all)",
    )  # fmt: skip
    parser.add_argument(
        "--what-varies", action="store_true", help="also find out what varies at which scale of the samples (HPU-Net)"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument(
        "--dicom", action="store_true", help="also write DICOM segmentations and maps that refer to the DICOM images"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_segment)


def _add_propagate(commands: Any) -> None:
    parser = commands.add_parser(
        "propagate", help="find structures that are outlined in some slices in all others", allow_abbrev=False
    )
    parser.add_argument("image", metavar="IMAGE", type=Path, help="NIfTI, NRRD or MetaImage file, or DICOM folder")
    parser.add_argument(
        "--support", action=_InOrder, dest="supports", metavar="LABELMAP", type=Path,
        help="label map whose non-empty slices are the examples; of IMAGE, or of the --support-image before it",
    )  # fmt: skip
    parser.add_argument(
        "--support-image", action=_InOrder, dest="supports", metavar="IMG", type=Path,
        help="another image, to which the next --support belongs",
    )  # fmt: skip
    parser.add_argument(
        "--support-set", metavar="FOLDER", type=Path, help="examples of other images that were kept as a support set"
    )
    parser.add_argument(
        "--absent", action="append", default=[], metavar="[NAME=]N,N",
        help="slices of IMAGE, counted from 0, that do not show the structures, or that of this name; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--slices", choices=("axial", "coronal", "sagittal"), help="plane of the outlined slices (default: found out)"
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="name of a model package, or its folder")
    parser.add_argument("--output", required=True, metavar="DIR", type=Path, help="folder for the results")
    parser.add_argument("--series", help="which DICOM series of the folder: its number, description or UID")
    _add_samples_and_seed(parser)
    parser.add_argument(
        "--roi", type=region_of_interest, metavar="R,A,S,X,Y,Z", help="center (RAS) and size of the region, in mm"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument(
        "--dicom", action="store_true", help="also write DICOM segmentations and maps that refer to the DICOM images"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_propagate)


class _InOrder(argparse.Action):
    """Keeps options and values in the order in which they were given."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        given = getattr(namespace, self.dest) or []
        setattr(namespace, self.dest, [*given, (option, values)])


def _add_train(commands: Any) -> None:
    parser = commands.add_parser("train", help="train a model package", allow_abbrev=False)
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="recipe file")
    parser.add_argument("--data", required=True, metavar="DIR", type=Path, help="folder of the training data")
    parser.add_argument("--output", required=True, metavar="DIR", type=Path, help="folder for package, log, checkpoint")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_train)


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate", help="compare samples of a 2D model with several readers", allow_abbrev=False
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="name of a model package, or its folder")
    parser.add_argument("--data", required=True, metavar="FILE", type=Path, help="npz file of images and their masks")
    _add_samples_and_seed(parser)
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_evaluate)


def _add_build_kernel(commands: Any) -> None:
    parser = commands.add_parser(
        "build-kernel", help="compile what makes HiDiff faster on some processors", allow_abbrev=False
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_build_kernel)


def _add_samples_and_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--samples", type=_request_field("samples", int), default=16, metavar="N",
        help="segmentations to draw (default 16)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=_request_field("seed", int), default=0, metavar="N", help="same seed, same samples (default 0)"
    )


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(float(part) for part in text.split(","))


def scales(text: str) -> tuple[Scale, ...]:
    """What is wanted of each scale, with commas between them."""
    from MedSegUncertaintyLib.inference.request import Scale

    try:
        return tuple(Scale.parse(part) for part in text.split(","))
    except BadInputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _request_field(name: str, kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """The type of an option whose limits are those of a field of ``InferenceRequest``."""

    def parse(text: str) -> Any:
        from MedSegUncertaintyLib.inference.request import InferenceRequest

        value = kind(text)
        try:
            InferenceRequest(package="", **{name: value})
        except BadInputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return value

    parse.__name__ = kind.__name__  # argparse says it where the text is no number
    return parse


def region_of_interest(text: str) -> RegionOfInterest:
    """A region from "R,A,S,X,Y,Z": center in RAS and size, in mm."""
    from MedSegUncertaintyLib.volumes.geometry import RegionOfInterest

    try:
        r, a, s, x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not six numbers separated by commas") from None
    if not all(math.isfinite(value) for value in (r, a, s, x, y, z)) or min(x, y, z) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} does not give a finite center and a positive size")
    return RegionOfInterest((r, a, s), (x, y, z))


def join_negative_values(arguments: Sequence[str]) -> list[str]:
    """``--roi -27,...`` as ``--roi=-27,...``: argparse takes a list that begins with a minus for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--roi" and re.match(r"-\.?\d", argument):
            joined[-1] += "=" + argument
        else:
            joined.append(argument)
    return joined


# Commands


def run_models(_: argparse.Namespace) -> Answer:
    """List the installed packages; a damaged one is listed with what is wrong."""
    from MedSegUncertaintyLib.packages.store import list_packages

    listed = list_packages()
    lines = [_model_line(entry) for entry in listed]
    return {"models": [_model_data(entry) for entry in listed]}, "\n".join(lines) or "No model package is installed."


def _model_data(entry: ListedPackage) -> dict[str, Any]:
    if entry.package is None:
        return {"name": entry.name, "folder": str(entry.folder), "error": str(entry.error)}
    package = entry.package
    return {
        "name": package.name,
        "folder": str(package.folder),
        "title": package.title,
        "version": package.version,
        "description": package.description,
        "family": package.family,
        "modality": package.modality,
        "body_part": package.body_part,
        "channels": [{"role": channel.role, "name": channel.name} for channel in package.channels],
        "structures": [structure.name for structure in package.structures],
        "roi_required": package.roi.required,
        "roi_size_mm": package.roi.size_mm,
        "weights_license": package.weights_license,
    }


def _model_line(entry: ListedPackage) -> str:
    if entry.package is None:
        return f"{entry.name}\n    cannot be used: {entry.error}"
    package = entry.package
    structures = ", ".join(structure.name for structure in package.structures)
    needs = f" Needs a region of interest: {package.roi.where}" if package.roi.required else ""
    return (
        f"{package.name}\n    {package.title} ({package.modality}, {package.body_part}; {package.family}). "
        f"{package.description}{needs}\n    Structures: {structures}{_channels_line(package)}"
    )


def _channels_line(package: ModelPackage) -> str:
    if len(package.channels) == 1:
        return ""
    if package.takes_color:
        return "\n    Image: a color photograph, or red, green and blue as channels"
    image, *others = map(str, package.channels)
    return f"\n    Image: {image}; channels: {', '.join(others)}"


def run_add_official(options: argparse.Namespace) -> Answer:
    """Install the UniverSeg authors' weights after the user agreed to their license."""
    from MedSegUncertaintyLib.packages.official import install_official

    package = install_official(options.accept_license or _agrees, options.file)
    return {"name": package.name, "folder": str(package.folder)}, f"Model package: {package.folder}"


def _agrees(question: str) -> bool:
    """Ask on the terminal; without one the answer is no."""
    print(question, file=sys.stderr)
    if not sys.stdin.isatty():
        print("Pass --accept-license to agree.", file=sys.stderr)
        return False
    print("Type yes to agree: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() == "yes"


def run_segment(options: argparse.Namespace) -> Answer:
    """Read, segment, write."""
    with cancelable() as cancel, ProgressDisplay(sys.stderr, cancel) as progress, contextlib.ExitStack() as stack:
        from MedSegUncertaintyLib.inference.request import InferenceRequest
        from MedSegUncertaintyLib.outputs.folder import staged_folder, write_files
        from MedSegUncertaintyLib.packages.store import find_package

        request = InferenceRequest(
            package=options.model,
            samples=options.samples,
            seed=options.seed,
            roi=options.roi,
            device=options.device,
            temperature=options.temperature,
            class_weights=options.class_weights,
            scales=options.scales,
            steps=options.steps,
        )
        # What is quick to find out comes before what takes long.
        package = find_package(request.package)
        if request.scales or options.what_varies:
            package.check_scales(len(request.scales or package.scales))
        if request.steps is not None:
            package.check_steps(request.steps)
        files = channel_files(options.channel)
        one_color_image = package.takes_color and not files and options.series is None
        if not one_color_image:
            package.check_channels(files)
        sources = dicom_sources(options.image, options.series) if options.dicom else []
        with staged_folder(options.output) as stage:
            progress.note("read the image")
            if one_color_image:
                volume, channels = _read_colors(options.image, package)
            else:
                volume, channels = _read_images(options.image, options.series, files, cancel)
            cancel.check()
            progress.note("load the model")

            from MedSegUncertaintyLib.inference.kept import Kept
            from MedSegUncertaintyLib.inference.run import segment
            from MedSegUncertaintyLib.inference.scales import scale_report
            from MedSegUncertaintyLib.report.scales import scale_files

            images: dict[str, Any] = {"channels": channels, "progress": progress, "cancel": cancel, "kept": Kept()}
            result = segment(volume, request, **images)
            if options.what_varies:
                result = replace(result, scales=scale_report(volume, result, **images))
            extras, left_out = _extras(volume, result, stack)
            extras |= scale_files(result) | _dicom_extras(result, sources)
            paths = write_files(stage, result, extras=extras, left_out=left_out, progress=progress)
    return _written(paths, stage.target)


def _written(paths: dict[str, Path], target: Path) -> Answer:
    """What a command says about the files of a result."""
    from MedSegUncertaintyLib.outputs.folder import SUMMARY

    document = json.loads(paths[SUMMARY].read_text(encoding="utf-8"))
    for name, reason in document["left_out"].items():
        print(f"{name} was left out. {reason}", file=sys.stderr)
    data = {"output": str(target), "files": {name: str(path) for name, path in paths.items()}, "summary": document}
    return data, _segment_text(document, target)


def channel_files(given: Sequence[str]) -> dict[str, Path]:
    """Files by role, from "ROLE=FILE".

    Raises:
        BadInputError: One of them reads otherwise, or two have the same role.
    """
    files: dict[str, Path] = {}
    for text in given:
        role, _, file = text.partition("=")
        if not role or not file:
            raise BadInputError(f"The channel '{text}' is not understood; give a role and a file, as in t2=t2.nii.gz.")
        if role in files:
            raise BadInputError(f"The channel '{role}' was given twice, as {files[role]} and {file}; give one of them.")
        files[role] = Path(file)
    return files


def _read_images(
    path: Path, series: str | None, files: dict[str, Path], cancel: CancelToken
) -> tuple[Volume, dict[str, Volume]]:
    """The image, and further ones by role."""
    from MedSegUncertaintyLib.volumes.reading import read_volume

    volume, channels = read_volume(path, series), {}
    for role, file in files.items():
        cancel.check()
        channels[role] = read_volume(file)
    return volume, channels


def _read_colors(path: Path, package: ModelPackage) -> tuple[Volume, dict[str, Volume]]:
    """The first channel of a package for color images, and the other two by role, from one image."""
    from MedSegUncertaintyLib.packages.package import COLORS
    from MedSegUncertaintyLib.volumes.reading import read_color

    channels = dict(zip(COLORS, read_color(path), strict=True))
    return channels.pop(package.channels[0].role), channels


def _extras(
    volume: Volume, result: InferenceResult, stack: contextlib.ExitStack
) -> tuple[dict[str, Extra], dict[str, str]]:
    """Report and scene: the files that need rooms above ``outputs``, and the reasons for those that cannot be made.

    Both use the same nodes, which are removed when ``stack`` is closed.
    """
    from MedSegUncertaintyLib.scene.rendering import whyNoSlicer

    @functools.cache
    def in_scene() -> tuple[Any, Any]:
        from MedSegUncertaintyLib.scene.bundle import resultInScene

        return stack.enter_context(resultInScene(volume, result))

    def report(path: Path, document: Document) -> None:
        from MedSegUncertaintyLib.report.page import write_report

        write_report(path, volume, result, document, in_scene)

    def scene(path: Path, _: Document) -> None:
        in_scene()  # imports slicer, as the next line does

        from MedSegUncertaintyLib.scene.headless import saveScene

        saveScene(path)

    reason = whyNoSlicer()
    if reason is not None:
        return {"report.html": report}, {"scene.mrb": reason}
    return {"report.html": report, "scene.mrb": scene}, {}


def dicom_sources(image: Path, series: str | None) -> list[Path]:
    """The DICOM files of an image, to which DICOM outputs refer.

    Raises:
        MedSegError: The image is not DICOM, or highdicom is not installed.
    """
    from MedSegUncertaintyLib.outputs.dicom_objects import check_highdicom
    from MedSegUncertaintyLib.volumes.dicom import source_files

    check_highdicom()
    if not image.exists():
        raise BadInputError(f"'{image}' does not exist; check the path.")
    return source_files(image, series)


def _dicom_extras(result: InferenceResult, sources: Sequence[Path]) -> dict[str, Extra]:
    """DICOM outputs; none without the files of the image."""
    if not sources:
        return {}
    from MedSegUncertaintyLib.outputs.dicom_objects import DicomContent, dicom_writers

    def extra(write: Callable[[Path], None]) -> Extra:
        return lambda path, _: write(path)

    writers = dicom_writers(result.structures, lambda: DicomContent.of(result), sources)
    return {name: extra(write) for name, write in writers.items()}


def _segment_text(document: dict[str, Any], output: Path) -> str:
    from MedSegUncertaintyLib.outputs.document import edge_warning, input_warnings

    lines = [f"Results: {output}", *(f"Warning: {warning}" for warning in input_warnings(document))]
    for structure in document["structures"]:
        volume = structure["volume_ml"]
        spread = f"5 to 95 % of the samples {volume['q05']:.3g} to {volume['q95']:.3g} mL"
        if document["samples"] == 1:
            spread = "one sample has no spread"
        lines.append(f"{structure['name']}: {structure['prediction_ml']:.3g} mL, {spread}")
        if edge := edge_warning(document, structure):
            lines.append(f"Warning: {structure['name']} {edge}.")
    return "\n".join([*lines, document["spread"], document["notice"]])


def run_propagate(options: argparse.Namespace) -> Answer:
    """Read image and examples, propagate, write."""
    supports, absent = support_files(options.supports or [], options.support_set), absent_slices(options.absent)
    with cancelable() as cancel, ProgressDisplay(sys.stderr, cancel) as progress, contextlib.ExitStack() as stack:
        from MedSegUncertaintyLib.inference.request import InferenceRequest
        from MedSegUncertaintyLib.outputs.folder import staged_folder, write_files
        from MedSegUncertaintyLib.outputs.support_set import read_support_set
        from MedSegUncertaintyLib.packages.store import find_package
        from MedSegUncertaintyLib.propagation.request import PropagationRequest
        from MedSegUncertaintyLib.volumes.reading import read_volume

        inference = InferenceRequest(
            package=options.model, samples=options.samples, seed=options.seed, roi=options.roi, device=options.device
        )
        find_package(inference.package)  # a wrong name is found out before files are read
        kept = None if options.support_set is None else read_support_set(options.support_set)
        plane = options.slices or (None if kept is None else kept.plane)
        request = PropagationRequest(inference, plane, absent)
        sources = dicom_sources(options.image, options.series) if options.dicom else []
        with staged_folder(options.output) as stage:
            progress.note("read the images")
            volume = read_volume(options.image, options.series)
            examples = [_read_example(labels, image) for labels, image in supports]
            examples += [] if kept is None else kept.elsewhere()
            cancel.check()
            progress.note("load the model")

            from MedSegUncertaintyLib.propagation.run import propagate

            result = propagate(volume, examples, request, progress=progress, cancel=cancel)
            extras, left_out = _extras(volume, result, stack)
            extras |= _dicom_extras(result, sources)
            paths = write_files(stage, result, extras=extras, left_out=left_out, progress=progress)
    data, text = _written(paths, stage.target)
    return data, "\n".join([text, *_expectations(data["summary"])])


def support_files(given: Sequence[tuple[str, Path]], support_set: Path | None = None) -> list[tuple[Path, Path | None]]:
    """Label maps with their images, from the options in their order; None stands for the image itself.

    Args:
        given: The options.
        support_set: Further examples, beside which none need be given.

    Raises:
        UsageError: There is no label map, or an image without one.
    """
    files: list[tuple[Path, Path | None]] = []
    image: Path | None = None
    for option, path in given:
        if option == "--support":
            files.append((path, image))
            image = None
        elif image is not None:
            break
        else:
            image = path
    if image is not None:
        raise UsageError(f"--support-image {image} is not followed by --support with its label map")
    if not files and support_set is None:
        raise UsageError("give at least one --support with a label map, or a --support-set")
    return files


def absent_slices(given: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Slices by name of the structure that they do not show, from "12,48" and "liver=12,48".

    Raises:
        UsageError: A text reads otherwise.
    """
    from MedSegUncertaintyLib.propagation.request import ALL

    slices: dict[str, tuple[int, ...]] = {}
    for text in given:
        name, _, numbers = text.rpartition("=")
        try:
            own = tuple(int(number) for number in numbers.split(","))
        except ValueError:
            raise UsageError(f"--absent {text} is not understood; give slices as in 12,48 or liver=12,48") from None
        slices[name or ALL] = (*slices.get(name or ALL, ()), *own)
    return slices


def _read_example(labels: Path, image: Path | None) -> Example:
    from MedSegUncertaintyLib.propagation.examples import Example
    from MedSegUncertaintyLib.volumes.reading import read_label_names, read_labels, read_volume

    outlined = read_labels(labels)
    return Example(outlined, None if image is None else read_volume(image), read_label_names(labels, outlined))


def _expectations(document: dict[str, Any]) -> list[str]:
    """What left-out examples say about each structure."""
    lines = []
    for name, known in document["provenance"]["propagation"]["structures"].items():
        if not known["examples"]:
            lines.append(_expectation_elsewhere(name, known["expected_dice"]))
        elif known["expected_dice"] is None:
            lines.append(f"{name}: no Dice can be expected from a single example; outline a second slice.")
        else:
            lines.append(
                f"{name}: expect a Dice of about {known['expected_dice']:.2f} near the outlines, with which "
                f"{known['left_out']} left-out example{'s' * (known['left_out'] > 1)} could be found; beyond the "
                "outermost ones nothing is known, so look there first."
            )
    return lines


def _expectation_elsewhere(name: str, returned: float) -> str:
    """What the way back to the examples of other images says."""
    from MedSegUncertaintyLib.propagation.returning import LEADS_BACK

    found = f"{name}: what was found here leads back to its examples in other images with a Dice of {returned:.2f}"
    if returned < LEADS_BACK:
        return f"{found}, so this image may not show it, or looks too different; outline a slice of this image as well."
    return f"{found}; a slice that is outlined in this image makes the result far better."


@contextlib.contextmanager
def training_extra() -> Iterator[None]:
    """Imports of what only training and evaluation need, which a plain installation does not bring."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("MedSegUncertaintyLib"):
            raise
        raise MedSegError(
            f"This command needs {error.name}; install it with pip install 'medseg-uncertainty[train]'."
        ) from error


def run_train(options: argparse.Namespace) -> Answer:
    """Train a package by a recipe."""
    with cancelable() as cancel, ProgressDisplay(sys.stderr, cancel) as progress:
        with training_extra():
            from MedSegUncertaintyLib.training.run import train

        package = train(options.recipe, options.data, options.output, options.resume, progress=progress)
    data = {"name": package.name, "folder": str(package.folder), "evaluation": package.evaluation}
    return data, f"Model package: {package.folder}"


def run_evaluate(options: argparse.Namespace) -> Answer:
    """Compare a package's samples with several readers."""
    with cancelable() as cancel, ProgressDisplay(sys.stderr, cancel) as progress:
        from MedSegUncertaintyLib.packages.store import find_package

        package = find_package(options.model)
        progress.note("load the model")

        with training_extra():
            from MedSegUncertaintyLib.evaluation.run import evaluate

        figures = evaluate(
            package,
            options.data,
            samples=options.samples,
            seed=options.seed,
            device=options.device,
            progress=progress,
            cancel=cancel,
        )
    return figures, _evaluate_text(figures)


def _evaluate_text(result: dict[str, Any]) -> str:
    data = result["data"]
    lines = [
        f"{result['package']['name']} on {data['file']}: {data['images']} images of {data['patients']} patients, "
        f"{data['readers']} readers, {result['samples']} samples per image ({result['sample_kind']})",
        *[f"{method}: {text}" for method, text in result["methods"].items()],
        f"In parentheses: {result['interval']}.",
    ]
    for name, figure in result["figures"].items():
        lines += ["", f"{name}: {figure['convention']}"]
        for method, entry in figure["methods"].items():
            words = ["not defined" if entry["value"] is None else f"{entry['value']:.4f}"]
            if entry["interval_95"]:
                words.append("({:.4f} to {:.4f})".format(*entry["interval_95"]))
            lines.append(" ".join([f"    {method:<19}", *words, f"n = {entry['n']}"]))
    return "\n".join(lines)


def run_build_kernel(_: argparse.Namespace) -> Answer:
    """Compile HiDiff's kernel into the user's folder."""
    from MedSegUncertaintyLib.models.hidiff.xnor import build_kernel, found_kernel

    path = build_kernel()
    used = found_kernel() is not None
    why = "this processor has no instructions that it is fast with (AVX2)"
    outcome = "HiDiff computes by it from now on" if used else f"it stays unused, because {why}"
    return {"kernel": str(path), "used": used}, f"Built {path}; {outcome}. Results are the same with and without."


# Terminal


class ProgressDisplay:
    """Shows progress on a stream: a bar with the time left on a terminal, a line per stage elsewhere.

    Args:
        stream: Where to show it.
        cancel: Checked at every event, so that work which knows nothing of the token stops, too.
    """

    def __init__(self, stream: TextIO, cancel: CancelToken) -> None:
        self._stream, self._cancel = stream, cancel
        self._bar: tqdm[NoReturn] | None = None
        self._stage = ""

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def note(self, stage: str) -> None:
        """Say what begins now; for stages that cannot be counted."""
        self.__exit__()
        self._bar, self._stage = None, stage
        print(f"{stage.capitalize()} ...", file=self._stream, flush=True)

    def __call__(self, event: Progress) -> None:
        """Show an event.

        Raises:
            CanceledError: The user asked to stop.
        """
        self._cancel.check()
        if not self._stream.isatty():
            if event.stage != self._stage:
                self.note(event.stage)
            return
        if event.stage != self._stage or self._bar is None:
            self._start_bar(event)
        assert self._bar is not None
        self._bar.n = event.done
        unknown = event.seconds_left is None or event.done == event.total
        left = "" if unknown else f"{duration(event.seconds_left or 0)} left"
        self._bar.set_postfix_str(left, refresh=False)
        self._bar.refresh()

    def _start_bar(self, event: Progress) -> None:
        from tqdm import tqdm

        self.__exit__()
        self._stage = event.stage
        self._bar = tqdm(
            total=event.total,
            desc=event.stage.capitalize(),
            file=self._stream,
            dynamic_ncols=True,
            bar_format="{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}",
        )


def duration(seconds: float) -> str:
    """Seconds in words: "42 s", "3 min 05 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextlib.contextmanager
def cancelable() -> Iterator[CancelToken]:
    """A token that the first Ctrl-C or termination sets, which ends the work cleanly; the second ends the process."""
    from MedSegUncertaintyLib.inference.progress import CancelToken

    token = CancelToken()

    def interrupt(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        token.cancel()
        print("\nCanceling; press Ctrl-C again to stop at once.", file=sys.stderr, flush=True)

    # SIGBREAK is Ctrl-Break, and a closed window, on Windows.
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield token
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Send what libraries print to stderr, also what compiled code prints past Python."""
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        # C libraries hold back what they print to a pipe; it must leave before the way to stdout opens again.
        with contextlib.suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).fflush(None)
        os.dup2(real, 1)
        os.close(real)


if __name__ == "__main__":
    sys.exit(main())
