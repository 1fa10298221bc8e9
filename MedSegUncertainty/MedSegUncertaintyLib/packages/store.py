"""Where model packages lie on this computer, and how more of them get there.

Nothing is downloaded without the user's consent, and nothing is unpacked before its checksum was found right. What only
that needs is imported there: Slicer lists packages whenever the panel is opened.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.parse
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from MedSegUncertaintyLib import folders
from MedSegUncertaintyLib.errors import CanceledError, PackageError
from MedSegUncertaintyLib.packages.package import BLOCK, METADATA, ModelPackage, read_metadata

if TYPE_CHECKING:
    import urllib.request

ENVIRONMENT_VARIABLE = "MEDSEG_UNCERTAINTY_MODELS"
MAX_UNPACKED_BYTES = 8 * 1024**3
TIMEOUT_SECONDS = 60
_CHUNK_BYTES = 1 << 20

Consent = Callable[[str], bool] | bool
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class ListedPackage:
    """One entry of the list of packages: a package, or the sentence that says why its folder is none.

    Attributes:
        folder: Where it lies; the name of the folder is the name of the package.
        package: The package, or None if it is damaged.
        error: What is wrong with a damaged one.
    """

    folder: Path
    package: ModelPackage | None
    error: PackageError | None

    @property
    def name(self) -> str:
        """Name by which users choose the package."""
        return self.folder.name


def user_folder() -> Path:
    """Where packages that the user adds are kept."""
    return folders.user_folder("Models")


def search_folders() -> list[Path]:
    """Folders that hold packages, in the order of precedence.

    First those in the environment variable MEDSEG_UNCERTAINTY_MODELS, then the user's own, then the packages that
    came with the software. A folder need not exist.
    """
    named = [Path(entry) for entry in os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep) if entry]
    library = Path(__file__).resolve().parents[1]
    # A wheel carries the models inside the library; Slicer and a checkout have them beside it.
    bundled = [folder / "Resources" / "Models" for folder in (library, library.parent)]
    return [*named, user_folder(), *[folder for folder in bundled if folder.is_dir()][:1]]


def list_packages() -> list[ListedPackage]:
    """All packages, sorted by name; where two have the same name, the one found first hides the other.

    Folders that are no packages of ours are skipped. A damaged package is listed with its error.
    """
    listed: dict[str, ListedPackage] = {}
    for parent in search_folders():
        for folder in sorted(parent.iterdir()) if parent.is_dir() else []:
            if folder.name not in listed and (entry := _listed(folder)):
                listed[folder.name] = entry
    return [listed[name] for name in sorted(listed)]


def find_package(name_or_path: str | Path) -> ModelPackage:
    """The package with this name, or the one in this folder.

    Raises:
        PackageError: There is no such package, or it is damaged.
    """
    listed = {entry.name: entry for entry in list_packages()}
    if entry := listed.get(str(name_or_path)):
        return entry.package or ModelPackage.from_folder(entry.folder)  # the latter says what is wrong with it
    if Path(name_or_path).is_dir():
        return ModelPackage.from_folder(name_or_path)
    available = ", ".join(listed) or "none"
    raise PackageError(f'No model package is named "{name_or_path}"; available: {available}.')


def import_package(source: str | Path, into: Path | None = None) -> ModelPackage:
    """Copy a package into the folder of the user's packages.

    Args:
        source: Folder of a package, or a zip file with one.
        into: Folder that receives it; :func:`user_folder` if None.

    Raises:
        PackageError: The source is no sound package, or one of that name is already there. Nothing was changed.
    """
    source, into = Path(source), into or user_folder()
    into.mkdir(parents=True, exist_ok=True)
    # Staged inside the target, so that the last step is a rename and never a half-copied package.
    with tempfile.TemporaryDirectory(dir=into, prefix=".import-") as staging:
        staged = _stage(source, Path(staging))
        verify_weights(ModelPackage.from_folder(staged))
        target = into / staged.name
        if target.exists():
            raise PackageError(f"{target} already exists; remove that model package before installing it anew.")
        staged.rename(target)
    return ModelPackage.from_folder(target)


def download_package(
    url: str, sha256: str, consent: Consent, into: Path | None = None, progress: Progress | None = None
) -> ModelPackage:
    """Download a zipped package, check it, and install it.

    Args:
        url: Address of the zip file, https or file. Proxies of the system are used.
        sha256: SHA-256 of the zip file, in hexadecimal.
        consent: The user's answer, or a function that asks the question it is given.
        into: Folder that receives the package; :func:`user_folder` if None.
        progress: Called with the number of bytes so far and the total (None if unknown); may raise to cancel.

    Raises:
        CanceledError: The user declined.
        PackageError: The download failed, or what came is not what was promised. Nothing was installed.
    """
    check_scheme(url)
    into = into or user_folder()
    agreed = consent(f"Download a model package from {url} into {into}?") if callable(consent) else consent
    if not agreed:
        raise CanceledError("The download was declined; nothing was downloaded.")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=".download-") as staging:
        archive = Path(staging, PurePosixPath(urllib.parse.urlsplit(url).path).name or "package.zip")
        part = archive.with_name(archive.name + ".part")
        digest = download_file(url, part, progress)
        if digest != sha256.lower():
            raise PackageError(f"The checksum of {url} is {digest} instead of {sha256.lower()}; nothing was installed.")
        part.rename(archive)
        return import_package(archive, into)


def verify_weights(package: ModelPackage) -> None:
    """Compare the SHA-256 of the weights with the metadata.

    Raises:
        PackageError: They differ.
    """
    import hashlib

    with package.weights_path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.weights.sha256:
        raise PackageError(
            f"The SHA-256 of {package.weights.file} of the model package {package.name} is not the one in its "
            "metadata; the file is damaged or was replaced, and nothing of it was loaded."
        )


def _listed(folder: Path) -> ListedPackage | None:
    if not (folder / METADATA).is_file():
        return None
    try:
        if BLOCK not in read_metadata(folder):
            return None  # a MONAI bundle of someone else
        return ListedPackage(folder, ModelPackage.from_folder(folder), None)
    except PackageError as error:
        return ListedPackage(folder, None, error)


def _stage(source: Path, staging: Path) -> Path:
    """Copy or unpack the source below ``staging``; returns the folder of the package there."""
    try:
        if source.is_dir():
            return Path(shutil.copytree(source, staging / source.resolve().name))
        target = staging / source.stem
        with zipfile.ZipFile(source) as zipped:
            _check_entries(zipped, source)
            zipped.extractall(target)
    # RuntimeError is what zipfile raises for an encrypted entry, NotImplementedError for an unknown compression.
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise PackageError(f"{source} cannot be copied or unpacked: {error}.") from error
    nested = [child for child in target.glob("*") if (child / METADATA).is_file()]
    return nested[0] if len(nested) == 1 else target


def _check_entries(zipped: zipfile.ZipFile, archive: Path) -> None:
    for entry in zipped.infolist():
        path = PurePosixPath(entry.filename)
        leaves = path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename
        symbolic_link = (entry.external_attr >> 16) & 0o170000 == 0o120000
        if leaves or symbolic_link:
            raise PackageError(f"{archive} holds an unsafe entry, {entry.filename!r}; nothing was unpacked.")
    # Guards against an archive that is small on the wire and fills the disk.
    if sum(entry.file_size for entry in zipped.infolist()) > MAX_UNPACKED_BYTES:
        raise PackageError(f"{archive} would unpack to more than {MAX_UNPACKED_BYTES // 1024**3} GiB.")


def check_scheme(url: str) -> None:
    """Refuse an address that is neither https nor a file, with a ``PackageError``."""
    if urllib.parse.urlsplit(url).scheme not in ("https", "file"):
        raise PackageError(f"{url} is not an https address; model packages are downloaded over https only.")


def _https_opener() -> urllib.request.OpenerDirector:
    """Follows redirects, but not to an unencrypted address."""
    import urllib.request

    class HttpsRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
            check_scheme(newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return urllib.request.build_opener(HttpsRedirects)


def download_file(url: str, target: Path, progress: Progress | None) -> str:
    """Download to a file; returns the SHA-256 of what was written. The user must have agreed before.

    Raises:
        PackageError: It failed.
    """
    import urllib.error
    from http.client import HTTPException

    opener = _https_opener()
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as response, target.open("wb") as file:
            length = response.headers.get("Content-Length")
            return _copy(response, file, int(length) if length else None, progress)
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise PackageError(f"{url} could not be downloaded: {reason}.") from error


def _copy(response: BinaryIO, file: BinaryIO, total: int | None, progress: Progress | None) -> str:
    import hashlib

    digest, done = hashlib.sha256(), 0
    while chunk := response.read(_CHUNK_BYTES):
        file.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        if progress:
            progress(done, total)
    return digest.hexdigest()
