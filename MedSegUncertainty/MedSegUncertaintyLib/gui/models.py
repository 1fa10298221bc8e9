"""The list of models: what each is for, and whether it fits the volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from MedSegUncertaintyLib.gui.estimate import bytesText
from MedSegUncertaintyLib.models.registry import BY_EXAMPLE
from MedSegUncertaintyLib.packages.fitting import ImageFacts, Misfit, misfits
from MedSegUncertaintyLib.packages.package import ModelPackage
from MedSegUncertaintyLib.packages.store import ListedPackage, list_packages

WARNING_COLOR = "#b3261e"
SHOWN_ROWS = 3
"""Models that are visible without scrolling."""
LOWEST = 20
"""Height of the empty list, pixels."""


class ModelList:
    """Fills a list widget with model packages.

    Args:
        widget: The ``QListWidget``.
        chosen: Called with the name of the package that the user chose.
    """

    def __init__(self, widget: Any, chosen: Callable[[str], None]) -> None:
        self._widget, self._chosen = widget, chosen
        self._entries: list[ListedPackage] = []
        self._facts: ImageFacts | None = None
        self._filling = False
        widget.connect("currentRowChanged(int)", self._onRow)

    def read(self) -> None:
        """Look for packages."""
        self._entries = list_packages()

    def package(self, name: str) -> ModelPackage | None:
        """The package of a name; None if there is none or it is damaged."""
        return next((entry.package for entry in self._entries if entry.name == name), None)

    def show(self, name: str, facts: ImageFacts | None) -> None:
        """Fill the list for a volume, with the packages that fit it first, and select a package by its name."""
        self._entries.sort(key=lambda entry: (unfitness(entry, facts), entry.name))
        texts = [entryText(entry, facts) for entry in self._entries]
        self._filling = True
        if [self._widget.item(row).text() for row in range(self._widget.count)] != texts:
            self._fill(texts, facts)
        self._widget.setCurrentRow(next((row for row, e in enumerate(self._entries) if e.name == name), -1))
        self._filling = False

    def _fill(self, texts: list[str], facts: ImageFacts | None) -> None:
        self._widget.clear()
        for entry, text in zip(self._entries, texts, strict=True):
            item = qt.QListWidgetItem(text)
            if entry.package is None:
                item.setFlags(qt.Qt.NoItemFlags)
            elif facts is not None and whatMisfits(entry.package, facts):
                item.setForeground(qt.QBrush(qt.QColor(WARNING_COLOR)))
            item.setToolTip(entryHelp(entry))
            self._widget.addItem(item)
        shown = sum(self._widget.sizeHintForRow(row) for row in range(min(len(texts), SHOWN_ROWS)))
        self._widget.setFixedHeight(max(shown, LOWEST) + 2 * self._widget.frameWidth)

    def _onRow(self, row: int) -> None:
        if not self._filling and 0 <= row < len(self._entries) and self._entries[row].package is not None:
            self._chosen(self._entries[row].name)


def entryText(entry: ListedPackage, facts: ImageFacts | None) -> str:
    """What the list says about a package, in a few short lines."""
    package = entry.package
    if package is None:
        return _("{name}\nCannot be used: {error}").format(name=entry.name, error=entry.error)
    region = _("needs a region of interest") if package.roi.required else _("no region of interest needed")
    if package.family in BY_EXAMPLE:
        what = _("Any image, any structure that you outline in a few slices")
    else:
        what = f"{package.modality}, {package.body_part}: {', '.join(s.name.lower() for s in package.structures)}"
    lines = [
        package.title,
        what,
        f"{bytesText(package.weights.bytes)}, {package.weights_license}, {region}",
    ]
    if facts is not None:
        lines.append(fitText(whatMisfits(package, facts)))
    return "\n".join(lines)


def whatMisfits(package: ModelPackage, facts: ImageFacts) -> list[Misfit]:
    """What speaks against a package for an image; one that learns from examples takes any modality and voxels."""
    return [one for one in misfits(package, facts) if one.forbids or package.family not in BY_EXAMPLE]


def unfitness(entry: ListedPackage, facts: ImageFacts | None) -> int:
    """0 if a package fits an image, 1 if it may not, 2 if it cannot be used with it, 3 if it is damaged."""
    if entry.package is None:
        return 3
    found = [] if facts is None else whatMisfits(entry.package, facts)
    return (2 if found[0].forbids else 1) if found else 0


def fitText(found: list[Misfit]) -> str:
    """Whether a package fits, in a word or two; the panel says the rest."""
    if not found:
        return _("Fits this volume")
    return _("Cannot be used with this volume") if found[0].forbids else _("May not fit this volume")


def entryHelp(entry: ListedPackage) -> str:
    """What a tool tip says about a package."""
    if entry.package is None:
        return str(entry.error)
    data = entry.package.training_data
    trained = _("Trained on {cases} cases of {data}.").format(cases=data.cases, data=data.name)
    return "\n".join([entry.package.description, trained, *entry.package.limits])
