"""How values of each type lie in a parameter node; the same texts as Slicer's."""

import enum
import typing
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from .validators import Validator


@dataclass
class Default:
    """Annotation and answer: the value of a parameter that was not set."""

    value: Any


class Stored:
    """One type of parameter. ``name`` is the parameter's name in the node."""

    def __init__(self, kind: type, validators: list[Validator]) -> None:
        self.kind, self.validators = kind, validators

    def check(self, value: Any) -> None:
        """Raise TypeError for a wrong type, ValueError for a value that is not allowed."""
        accepted = (int, float) if self.kind is float else self.kind
        if not isinstance(value, accepted):
            raise TypeError(f"Value must be of type {self.kind}, is {type(value)}: {value!r}")
        for validator in self.validators:
            validator.validate(value)

    def default(self) -> Any:
        """Value of a parameter without a default of its own."""
        return self.kind()

    def isIn(self, node: Any, name: str) -> bool:
        """Whether the node holds a value."""
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        """Put a value into the node, without asking whether it is allowed."""
        node.SetParameter(name, str(self.kind(value)))

    def read(self, node: Any, name: str) -> Any:
        """Take the value out of the node."""
        return self.kind(node.GetParameter(name))

    def remove(self, node: Any, name: str) -> None:
        """Take the value away."""
        node.UnsetParameter(name)


class StoredBool(Stored):
    """True and False as words."""

    def read(self, node: Any, name: str) -> bool:
        """Take the value out of the node."""
        return node.GetParameter(name) == "True"


class StoredEnum(Stored):
    """Members by name."""

    def default(self) -> Any:
        """The first member."""
        return next(iter(self.kind))

    def write(self, node: Any, name: str, value: Any) -> None:
        """Put a value into the node."""
        node.SetParameter(name, value.name)

    def read(self, node: Any, name: str) -> Any:
        """Take the value out of the node."""
        return self.kind[node.GetParameter(name)]


class StoredPath(Stored):
    """Paths as text; text is accepted too."""

    def check(self, value: Any) -> None:
        """Raise TypeError for what is no path."""
        super().check(Path(value) if isinstance(value, str) else value)


class StoredNode(Stored):
    """Nodes as references; the parameter itself is empty and says that the reference was set."""

    def default(self) -> None:
        """No node."""

    def check(self, value: Any) -> None:
        """Raise TypeError for a node of another class."""
        if value is not None:
            super().check(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        """Put a reference into the node."""
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        """The node that is referred to, or None."""
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        """Take the reference away."""
        super().remove(node, name)
        node.RemoveNodeReferenceIDs(name)


class StoredList(Stored):
    """Lists as their length and their numbered values."""

    def __init__(self, element: Stored, validators: list[Validator]) -> None:
        super().__init__(list, validators)
        self.element = element

    def check(self, value: Any) -> None:
        """Raise TypeError or ValueError for the list or one of its values."""
        super().check(value)
        for item in value:
            self.element.check(item)

    def isIn(self, node: Any, name: str) -> bool:
        """Whether the node holds a list."""
        return bool(node.HasParameter(f"{name}.len"))

    def write(self, node: Any, name: str, value: Any) -> None:
        """Put a list into the node."""
        self.remove(node, name)
        node.SetParameter(f"{name}.len", str(len(value)))
        for number, item in enumerate(value):
            self.element.write(node, f"{name}.{number}", item)

    def read(self, node: Any, name: str) -> list:
        """Take the list out of the node; changing it does not change the node."""
        return [self.element.read(node, f"{name}.{number}") for number in range(int(node.GetParameter(f"{name}.len")))]

    def remove(self, node: Any, name: str) -> None:
        """Take the list away."""
        for number in range(int(node.GetParameter(f"{name}.len") or 0)):
            self.element.remove(node, f"{name}.{number}")
        node.UnsetParameter(f"{name}.len")


class StoredPack(Stored):
    """Packs as their members, with a dot between the names."""

    def default(self) -> Any:
        """A pack of defaults."""
        return self.kind()

    def isIn(self, node: Any, name: str) -> bool:
        """Whether the node holds all members."""
        return all(p.stored.isIn(node, f"{name}.{member}") for member, p in self.kind.allParameters.items())

    def write(self, node: Any, name: str, value: Any) -> None:
        """Put all members into the node."""
        for member, parameter in self.kind.allParameters.items():
            parameter.stored.write(node, f"{name}.{member}", value.getValue(member))

    def read(self, node: Any, name: str) -> Any:
        """A pack that writes to the node when a member is changed."""
        members = {m: p.stored.read(node, f"{name}.{m}") for m, p in self.kind.allParameters.items()}
        pack = self.kind(**members)
        changed = weakref.ref(pack)  # not the pack itself: VTK drops the observers of a node in a reference cycle
        object.__setattr__(pack, "_onChanged", lambda: self.write(node, name, changed()))
        return pack

    def remove(self, node: Any, name: str) -> None:
        """Take all members away."""
        for member, parameter in self.kind.allParameters.items():
            parameter.stored.remove(node, f"{name}.{member}")


@dataclass
class Parameter:
    """What a class body says about one parameter."""

    name: str
    stored: Stored
    default: Default
    unalteredType: Any


def parametersOf(cls: type) -> dict[str, Parameter]:
    """The parameters that the annotations of a class declare."""
    found = {}
    for name, annotated in typing.get_type_hints(cls, include_extras=True).items():
        _, extras = splitAnnotations(annotated)
        stored = storedAs(annotated)
        given = next((extra for extra in extras if isinstance(extra, Default)), None)
        default = Default(getattr(cls, name)) if hasattr(cls, name) else given or Default(stored.default())
        stored.check(default.value)
        found[name] = Parameter(name, stored, default, annotated)
    return found


def splitAnnotations(annotated: Any) -> tuple[Any, list]:
    """The type and the extras of ``Annotated[type, extras]``, or a plain type."""
    if typing.get_origin(annotated) is typing.Annotated:
        kind, *extras = typing.get_args(annotated)
        return kind, extras
    return annotated, []


def storedAs(annotated: Any) -> Stored:
    """How values of an annotated type are stored.

    Raises:
        TypeError: The stand-in does not know the type.
    """
    kind, extras = splitAnnotations(annotated)
    validators = [extra for extra in extras if isinstance(extra, Validator)]
    if typing.get_origin(kind) is list:
        return StoredList(storedAs(typing.get_args(kind)[0]), validators)
    if not isinstance(kind, type):
        raise TypeError(f"The stand-in for Slicer does not store {kind} in parameter nodes.")
    classes = {bool: StoredBool, int: Stored, float: Stored, str: Stored}
    if kind in classes:
        return classes[kind](kind, validators)
    for base, stored in ((enum.Enum, StoredEnum), (Path, StoredPath), (slicer.vtkMRMLNode, StoredNode)):
        if issubclass(kind, base):
            return stored(kind, validators)
    if hasattr(kind, "allParameters"):
        return StoredPack(kind, validators)
    raise TypeError(f"The stand-in for Slicer does not store {kind} in parameter nodes.")
