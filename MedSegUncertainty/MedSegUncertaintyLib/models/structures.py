"""What a model segments: names, colors and codes of its structures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Structure:
    """One segmented structure.

    Attributes:
        name: Shown to the user, for example "Anterior hippocampus".
        label: Its class index, 1 and up; 0 is background.
        color: Red, green, blue in [0, 1].
        terminology: Category and type as (scheme, code, meaning) triples, plus an optional modifier.
    """

    name: str
    label: int
    color: tuple[float, float, float]
    terminology: dict[str, tuple[str, str, str]]

    @property
    def slug(self) -> str:
        """Name for files and identifiers: lower case, words joined by underscores."""
        return "_".join("".join(c if c.isalnum() else " " for c in self.name.lower()).split())

    def terminology_entry(self) -> str:
        """Slicer's serialized terminology entry."""
        category, kind, modifier = (
            "^".join(self.terminology.get(key, ("", "", ""))) for key in ("category", "type", "modifier")
        )
        context = "Segmentation category and type - DICOM master list"
        return f"{context}~{category}~{kind}~{modifier}~Anatomic codes - DICOM master list~^^~^^"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, the form used in ``metadata.json``."""
        return {
            "name": self.name,
            "label": self.label,
            "color": list(self.color),
            "terminology": {key: list(code) for key, code in self.terminology.items()},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Structure:
        """Inverse of :meth:`to_json`."""
        red, green, blue = data["color"]
        codes = {key: (code[0], code[1], code[2]) for key, code in data["terminology"].items()}
        return cls(data["name"], int(data["label"]), (red, green, blue), codes)
