"""What Slicer's Python lacks is installed on the first run, after one question."""

from __future__ import annotations

import re
from pathlib import Path

import slicer
from slicer.i18n import tr as _

TORCH_VERSION = ">=2.6"
TORCH_SIZE, OTHERS_SIZE = "0.2 GB (CPU) to 5 GB (NVIDIA)", "10 MB"


def missingRequirements(requirementsFile: str) -> list[str]:
    """The lines of a requirements file whose package is missing or too old, and "torch" if that is missing."""
    lines = Path(requirementsFile).read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    return [line for line in (f"torch{TORCH_VERSION}", *wanted) if not _isInstalled(line)]


def _isInstalled(requirement: str) -> bool:
    from importlib import metadata

    name, least = requirement.split(">=")
    try:
        return _numbers(metadata.version(name)) >= _numbers(least)
    except metadata.PackageNotFoundError:
        return False


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3]]


def ensureInstalled(requirementsFile: str) -> str:
    """Install what is missing if the user agrees.

    Returns:
        Why nothing can be run, as a sentence; empty if everything is there.
    """
    missing = missingRequirements(requirementsFile)
    if not missing:
        return ""
    names = ", ".join(missing)
    torchLogic = None
    if missing[0].startswith("torch"):
        torchLogic = _torchLogic()
        if torchLogic is None:
            return _("PyTorch is missing; install the extension PyTorch in the Extensions Manager and restart Slicer.")
    size = f"{TORCH_SIZE} + {OTHERS_SIZE}" if torchLogic is not None else OTHERS_SIZE
    question = _(
        "The models need Python packages that are not installed yet:\n\n{names}\n\nThey are downloaded from the Python "
        "Package Index ({size}) into Slicer. This can take several minutes in which the window does not answer."
    ).format(names=names, size=size)
    if not slicer.util.confirmOkCancelDisplay(question, _("Install Python packages?")):
        return _("Python packages are missing ({names}); press Apply again to install them.").format(names=names)
    return _install(missing, torchLogic)


def _torchLogic() -> object | None:
    """The logic of the extension PyTorch, which picks the build that fits the graphics card; None without it."""
    try:
        import PyTorchUtils
    except ImportError:
        return None
    return PyTorchUtils.PyTorchUtilsLogic()


def _install(missing: list[str], torchLogic: object | None) -> str:
    with slicer.util.WaitCursor():
        try:
            if torchLogic is not None:  # first: MONAI would bring a build of its own
                torchLogic.installTorch(askConfirmation=False, torchVersionRequirement=TORCH_VERSION)
            others = [line for line in missing if not line.startswith("torch")]
            if others:
                slicer.util.pip_install(others)
        except Exception as error:  # pip ends in many ways
            return _("Installing Python packages failed ({error}); see the Python console.").format(error=error)
    return ""
