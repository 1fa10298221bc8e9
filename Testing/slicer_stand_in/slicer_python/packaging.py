"""Looking for installed packages; nothing is ever installed here."""

from importlib import metadata


def pip_check(requirements) -> bool:
    """Whether requirements (``packaging.requirements.Requirement``, one or a list) are met."""
    listed = requirements if isinstance(requirements, (list, tuple)) else [requirements]
    return all(_isMet(requirement) for requirement in listed)


def _isMet(requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def pip_ensure(requirements, *, skip_in_testing=True, **_options) -> None:
    """Do nothing if the requirements are met, or while testing.

    Raises:
        RuntimeError: As if the user had declined.
    """
    import slicer

    if not (skip_in_testing and slicer.app.testingEnabled()) and not pip_check(requirements):
        raise RuntimeError("The stand-in for Slicer installs no packages.")


def pip_install(requirements, **_options) -> None:
    """Never installs anything.

    Raises:
        RuntimeError: Always.
    """
    raise RuntimeError(f"The stand-in for Slicer installs no packages: {requirements}")
