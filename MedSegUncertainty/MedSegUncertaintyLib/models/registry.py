"""Model families by name. A new family is one folder in ``models`` and one line here.

A package names its family; the class always comes from this list, never from the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from MedSegUncertaintyLib.errors import PackageError

if TYPE_CHECKING:
    from torch.nn import Module

    from MedSegUncertaintyLib.models.sampler import Sampler

    class SamplerModule(Module, Sampler):
        """A torch module that is a sampler."""


FAMILIES: dict[str, str] = {
    "ssn": "MedSegUncertaintyLib.models.ssn:build",
}
"""Family name to "module:factory"; the factory takes the constructor arguments as one mapping."""


def build(family: str, arguments: Mapping[str, Any]) -> SamplerModule:
    """Make a model of a family with fresh weights; the module of the family is imported here.

    Args:
        family: A key of :data:`FAMILIES`.
        arguments: Constructor arguments, as in the metadata of a package.

    Raises:
        PackageError: The family is unknown, or it does not take these arguments.
    """
    if family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise PackageError(f'The model family "{family}" is unknown; this version knows {known}.')
    module, factory = FAMILIES[family].split(":")
    make = getattr(import_module(module), factory)
    try:
        return cast("SamplerModule", make(arguments))
    except KeyError as error:
        raise PackageError(f'The model family "{family}" needs the argument "{error.args[0]}".') from error
    except (TypeError, ValueError) as error:
        raise PackageError(f'The model family "{family}" does not take these arguments: {error}.') from error
