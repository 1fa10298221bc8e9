"""The names that real Slicer shows to Python for its own widgets, and the check that ours have no others.

``widget_api.json`` lists, per class: the base class, properties with their C++ type and whether they can be written,
methods (slots, and what is marked for scripts) and signals. Any other C++ method does not exist in Python.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

TABLE: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("widget_api.json").read_text(encoding="utf-8"))

UNCHECKED: list[str] = []
"""Names that stand-ins have although no table says that Slicer has them: ``Class.name``."""


@cache
def lineage(className: str) -> tuple[dict[str, Any], ...]:
    """The table's entries of a class and its bases, nearest first; empty for a class that is not listed."""
    entries = []
    while className in TABLE:
        entries.append(TABLE[className])
        className = TABLE[className]["base"]
    return tuple(entries)


def propertyType(className: str, name: str) -> tuple[str, bool] | None:
    """C++ type of a property and whether it can be written; ``None`` where there is no such property."""
    for entry in lineage(className):
        if name in entry["properties"]:
            return tuple(entry["properties"][name])
    return None


def hasMethod(className: str, name: str) -> bool:
    """Whether a class has a slot or another method that can be called of that name."""
    return any(name in entry["methods"] for entry in lineage(className))


def signalSignatures(className: str) -> list[str]:
    """Signatures of the signals of a class and its bases, as C++ spells them."""
    return [signature for entry in lineage(className) for signature in entry["signals"]]


def exists(className: str, name: str) -> bool:
    """Whether Slicer has a property, method or signal of that name."""
    signals = {signature.split("(")[0] for signature in signalSignatures(className)}
    return propertyType(className, name) is not None or hasMethod(className, name) or name in signals


def checkStandIn(cls: type, unchecked: tuple[str, ...] = ()) -> None:
    """Refuse a stand-in that has public names which its original lacks.

    Args:
        cls: The stand-in. Names of Qt's own base class and names of nested enums (capitals) are not looked at.
        unchecked: Names that are known from elsewhere than the table; they are recorded in ``UNCHECKED``.

    Raises:
        TypeError: A name is neither in the table nor declared as unchecked.
    """
    inherited = {name for base in cls.__mro__[1:] for name in vars(base)}
    own = {name for name in vars(cls) if not name.startswith("_") and not name[0].isupper()} - inherited
    for name in sorted(own - {"staticMetaObject"}):
        if cls.__name__ not in TABLE or name in unchecked:
            UNCHECKED.append(f"{cls.__name__}.{name}")
        elif not exists(cls.__name__, name):
            raise TypeError(f"{cls.__name__}.{name}: Slicer does not show such a name to Python.")
