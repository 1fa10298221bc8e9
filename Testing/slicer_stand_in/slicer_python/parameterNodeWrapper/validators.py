"""Annotations that restrict the values of a parameter."""

from dataclasses import dataclass
from typing import Any


class Validator:
    """Base of all restrictions."""

    def validate(self, value: Any) -> None:
        """Raise ValueError for a value that is not allowed."""
        if not self._allows(value):
            raise ValueError(f"{value!r} is not allowed by {self}")

    def _allows(self, value: Any) -> bool:
        raise NotImplementedError


@dataclass
class NotNone(Validator):
    """Anything but None."""

    def _allows(self, value: Any) -> bool:
        return value is not None


@dataclass
class WithinRange(Validator):
    """Numbers from minimum to maximum, both allowed."""

    minimum: float
    maximum: float

    def _allows(self, value: Any) -> bool:
        return self.minimum <= value <= self.maximum


@dataclass
class Minimum(Validator):
    """Numbers from a minimum on."""

    minimum: float

    def _allows(self, value: Any) -> bool:
        return value >= self.minimum


@dataclass
class Maximum(Validator):
    """Numbers up to a maximum."""

    maximum: float

    def _allows(self, value: Any) -> bool:
        return value <= self.maximum


@dataclass
class Choice(Validator):
    """One of several values."""

    choices: list

    def _allows(self, value: Any) -> bool:
        return value in self.choices


@dataclass
class Exclude(Validator):
    """None of several values."""

    excludedValues: list

    def _allows(self, value: Any) -> bool:
        return value not in self.excludedValues
