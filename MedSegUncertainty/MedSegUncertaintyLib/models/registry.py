"""Model families by name. A new family is one folder in ``models`` and one line here.

A package names its family; the class always comes from this list, never from the package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.models.sample_kinds import MODEL_SAMPLES

if TYPE_CHECKING:
    from torch.nn import Module

    from MedSegUncertaintyLib.models.sampler import Sampler

    class SamplerModule(Module, Sampler):
        """A torch module that is a sampler."""


FAMILIES: dict[str, str] = {
    "hidiff": "MedSegUncertaintyLib.models.hidiff",
    "hpunet": "MedSegUncertaintyLib.models.hpunet",
    "selfreg": "MedSegUncertaintyLib.models.selfreg",
    "ssn": "MedSegUncertaintyLib.models.ssn",
    "universeg": "MedSegUncertaintyLib.models.universeg",
}
"""Family name to its module, which has ``build(arguments)`` and ``build_objective(settings)``.

A family whose samples vary by scale also has ``scales(arguments)``, one that draws them in steps ``steps(arguments)``,
and one whose samples have a name of their own ``sample_kind(arguments)``.
"""

BY_EXAMPLE = frozenset({"universeg"})
"""Families that segment by the example of labeled images: run by ``propagation``, not by ``inference``."""


def build(family: str, arguments: Mapping[str, Any]) -> SamplerModule:
    """Make a model of a family with fresh weights; the module of the family is imported here.

    Args:
        family: A key of :data:`FAMILIES`.
        arguments: Constructor arguments, as in the metadata of a package.

    Raises:
        PackageError: The family is unknown, or it does not take these arguments.
    """
    module = _module(family)
    with _arguments_of(family):
        return cast("SamplerModule", module.build(arguments))


def scales(family: str, arguments: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """Per scale of a family's samples, coarsest first, how many voxels wide its cells are along each axis.

    Imports no torch. Empty for a family whose samples have no scales.

    Args:
        family: A key of :data:`FAMILIES`.
        arguments: As in :func:`build`.

    Raises:
        PackageError: The family is unknown, or it does not take these arguments.
    """
    return tuple(_told(family, "scales", arguments, ()))


def steps(family: str, arguments: Mapping[str, Any]) -> int:
    """In how many steps a family draws a sample, if nobody asks for fewer; 0 for one that has no steps.

    Imports no torch.

    Args:
        family: A key of :data:`FAMILIES`.
        arguments: As in :func:`build`.

    Raises:
        PackageError: The family is unknown, or it does not take these arguments.
    """
    return int(_told(family, "steps", arguments, 0))


def sample_kind(family: str, arguments: Mapping[str, Any]) -> str:
    """What a family's samples are, in words for the user (see ``models.sample_kinds``); imports no torch.

    Args:
        family: A key of :data:`FAMILIES`.
        arguments: As in :func:`build`.

    Raises:
        PackageError: The family is unknown, or it does not take these arguments.
    """
    return str(_told(family, "sample_kind", arguments, MODEL_SAMPLES))


def build_objective(family: str, settings: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """What training of a family minimizes.

    Args:
        family: A key of :data:`FAMILIES`.
        settings: The recipe's settings for it.

    Raises:
        PackageError: The family is unknown, or its objective does not take these settings.
    """
    module = _module(family)
    try:
        return cast("Callable[..., dict[str, Any]]", module.build_objective(settings))
    except TypeError as error:
        raise PackageError(
            f'The objective of the model family "{family}" does not take these settings: {error}.'
        ) from error


def _told(family: str, name: str, arguments: Mapping[str, Any], default: Any) -> Any:
    """What the function of this name in the family's module says of a package; the default where there is none."""
    tell = getattr(_module(family), name, None)
    with _arguments_of(family):
        return tell(arguments) if tell else default


@contextmanager
def _arguments_of(family: str) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise PackageError(f'The model family "{family}" needs the argument "{error.args[0]}".') from error
    except (TypeError, ValueError) as error:
        raise PackageError(f'The model family "{family}" does not take these arguments: {error}.') from error


def _module(family: str) -> ModuleType:
    if family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise PackageError(f'The model family "{family}" is unknown; this version knows {known}.')
    return import_module(FAMILIES[family])
