"""The UniverSeg authors' own weights as a package on this computer: fetched or imported only when the user agrees.

They are for research only, so they are neither shipped nor fetched unasked. The authors give no checksum; the git blob
id of the file is known from two public repositories that hold it.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from MedSegUncertaintyLib.errors import CanceledError, PackageError
from MedSegUncertaintyLib.packages.package import BLOCK, ModelPackage
from MedSegUncertaintyLib.packages.store import Consent, Progress, download_file, user_folder

NAME = "universeg-official"
URL = "https://github.com/JJGO/UniverSeg/releases/download/weights/universeg_v1_nf64_ss64_STA.pt"
BLOB_ID = "eedd25b13679d2f06ec4f9b59bcf02fc9205e06b"
LICENSE_NAME = "UniverSeg OpenRAIL++-M"
LICENSE_TEXT = f"""These weights are licensed by their authors under the {LICENSE_NAME} license, whose Attachment A
allows use solely for research purposes. Whoever passes them on, changed or not, must pass on that license and
restriction. Full text: https://github.com/JJGO/UniverSeg (release "weights").
"""
CARD = """# UniverSeg v1 (the authors' weights)

Weights of Butoi, Gonzalez Ortiz et al., "UniverSeg: Universal Medical Image Segmentation", ICCV 2023, converted from
the authors' file without any change. **Research use only**; see LICENSE. Trained by the authors on MegaMedical, 53 data
sets with licenses of their own, at 128 x 128 pixels. This project has not measured them.
"""


def install_official(
    consent: Consent, source: Path | None = None, into: Path | None = None, progress: Progress | None = None
) -> ModelPackage:
    """Make a package of the authors' weights.

    Args:
        consent: The user's answer, or a function that asks the question it is given, which shows the license.
        source: The authors' file on this computer; None to download it.
        into: Folder that receives the package; the user's own if None.
        progress: Called with the number of bytes so far and the total (None if unknown); may raise to cancel.

    Raises:
        CanceledError: The user declined.
        PackageError: The package is already there, the download failed, or the file is not the authors'. Nothing was
            installed.
    """
    into = into or user_folder()
    if (into / NAME).exists():
        raise PackageError(f"{into / NAME} already exists; remove that model package before installing it anew.")
    deed = f"Download UniverSeg's weights from {URL}" if source is None else f"Import UniverSeg's weights from {source}"
    agreed = (
        consent(f"{LICENSE_TEXT}\n{deed} into {into} for research purposes only?") if callable(consent) else consent
    )
    if not agreed:
        raise CanceledError("The license was declined; nothing was installed.")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=".official-") as staging:
        file = source
        if file is None:
            file = Path(staging, "weights.pt")
            download_file(URL, file, progress)
        _check_blob(file)
        package = _convert(file, Path(staging, NAME))
        package.folder.rename(into / NAME)
    return ModelPackage.from_folder(into / NAME)


def git_blob_id(content: bytes) -> str:
    """The id that git gives to a file: SHA-1 of its length and content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _check_blob(file: Path) -> None:
    try:
        found = git_blob_id(file.read_bytes())
    except OSError as error:
        raise PackageError(f"{file} cannot be read: {error.strerror}.") from error
    if found != BLOB_ID:
        raise PackageError(
            f"{file.name} is not the UniverSeg authors' file: its git blob id is {found} instead of {BLOB_ID}; nothing "
            "was installed."
        )


def _convert(file: Path, folder: Path) -> ModelPackage:
    from MedSegUncertaintyLib.models.universeg import UniverSeg
    from MedSegUncertaintyLib.packages.weights import load_foreign_state_dict, save_package

    arguments = {"encoder_blocks": [64, 64, 64, 64]}
    model = UniverSeg(**arguments)
    try:
        model.load_state_dict(load_foreign_state_dict(file))
    except RuntimeError as error:
        raise PackageError(f"{file.name} holds other weights than UniverSeg v1; nothing was installed.") from error
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return save_package(folder, model, _metadata(arguments, digest), CARD, LICENSE_TEXT)


def _metadata(arguments: dict[str, Any], sha256: str) -> dict[str, Any]:
    tensor = {"type": "image", "format": "magnitude", "num_channels": 1, "spatial_shape": ["8*n", "8*n"],
              "dtype": "float32", "value_range": [0, 1]}  # fmt: skip
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "1.0.0",
        "monai_version": "1.5.0",
        "pytorch_version": "2.5.0",
        "numpy_version": "2.0.0",
        "required_packages_version": {"safetensors": "0.5"},
        "name": "Segmentation by example (UniverSeg v1, the authors' weights)",
        "task": "Segmentation of any structure by the example of labeled slices",
        "description": "Segments a structure in all slices by the example of outlined ones. Research only.",
        "authors": "Butoi V. I., Gonzalez Ortiz J. J. et al.",
        "copyright": f"The authors, {LICENSE_NAME}",
        "data_source": f"{URL}, SHA-256 {sha256}",
        "intended_use": "Research only; not a medical device.",
        "references": ["Butoi V. I., Gonzalez Ortiz J. J. et al., UniverSeg, ICCV 2023, arXiv:2304.06131"],
        "network_data_format": {"inputs": {"image": tensor}, "outputs": {"pred": tensor}},
        BLOCK: {
            "family": "universeg",
            "arguments": arguments,
            "modality": "any",
            "body_part": "any",
            "structures": [
                {
                    "name": "Structure of the examples",
                    "label": 1,
                    "color": [0.93, 0.55, 0.24],
                    "terminology": {
                        "category": ["SCT", "123037004", "Anatomical Structure"],
                        "type": ["SCT", "123037004", "Anatomical Structure"],
                    },
                }
            ],
            "grid": {"spacing_mm": None, "orientation": "RAS"},
            "intensity": {"kind": "percentiles", "low": 0.5, "high": 99.5},
            "square": {"pixels": 128},
            "roi": {"required": False, "size_mm": None, "where": "Center the box on the structure."},
            "training_data": {
                "name": "MegaMedical (the authors)",
                "license": "53 data sets, see the paper",
                "cases": 0,
            },
            "weights_license": f"{LICENSE_NAME} (research use only)",
            "limits": ["Research use only.", "Not measured by this project."],
            "evaluation": {},
        },
    }
