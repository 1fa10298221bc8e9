"""Buttons, choices and paths of CTK."""

from types import SimpleNamespace
from typing import Any

import qt
from PySide6.QtCore import Signal

from slicer_stand_in.attributes import qproperty, standIn, stored
from slicer_stand_in.widgets.ctk_numbers import row


@standIn()
class ctkCheckBox(qt.QCheckBox):
    """A check box."""


@standIn()
class ctkMenuButton(qt.QPushButton):
    """A push button with a menu."""


@standIn()
class ctkSearchBox(qt.QLineEdit):
    """A line to type what to search for."""


@standIn()
class ctkFittedTextBrowser(qt.QTextBrowser):
    """Formatted text."""


@standIn()
class ctkMessageBox(qt.QMessageBox):
    """A message box."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._d = SimpleNamespace()

    dontShowAgainSettingsKey = stored("QString", "dontShowAgainSettingsKey", "")
    dontShowAgainVisible = stored("bool", "dontShowAgainVisible", False)


@standIn()
class ctkComboBox(qt.QComboBox):
    """A combo box with a text for "nothing chosen"."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._d = SimpleNamespace()

    defaultText = qproperty("QString", "defaultText", lambda s: s.placeholderText, lambda s, v: s.setPlaceholderText(v))
    forceDefault = stored("bool", "forceDefault", False)


@standIn()
class ctkCheckableComboBox(qt.QComboBox):
    """A combo box whose entries can be checked."""

    checkedIndexesChanged = Signal()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.model().rowsInserted.connect(self._onInserted)
        self.model().dataChanged.connect(self._onChanged)

    def _onInserted(self, _parent: Any, first: int, last: int) -> None:
        for number in range(first, last + 1):
            item = self.model().item(number)
            item.setCheckable(True)
            item.setCheckState(qt.Qt.Unchecked)

    def _onChanged(self) -> None:
        self.checkedIndexesChanged.emit()

    def checkableModel(self) -> Any:
        """The model of the entries."""
        return self.model()

    def checkState(self, index: Any) -> Any:
        """Whether the entry at a model index is checked."""
        return qt.Qt.CheckState(index.data(qt.Qt.CheckStateRole) or 0)

    def setCheckState(self, index: Any, state: Any) -> None:
        """Check the entry at a model index, or not."""
        self.model().setData(index, int(state), qt.Qt.CheckStateRole)

    def checkedIndexes(self) -> list[Any]:
        """Model indices of the checked entries."""
        indices = [self.model().index(number, 0) for number in range(self.count)]
        return [index for index in indices if self.checkState(index) == qt.Qt.Checked]

    def allChecked(self) -> bool:
        """Whether every entry is checked."""
        return len(self.checkedIndexes()) == self.count

    def noneChecked(self) -> bool:
        """Whether no entry is checked."""
        return not self.checkedIndexes()


@standIn()
class ctkColorPickerButton(qt.QPushButton):
    """A button that shows a color."""

    colorChanged = Signal("QColor")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._d = SimpleNamespace(color=qt.QColor("black"))

    def setColor(self, color: Any) -> None:
        """Set the color."""
        if color != self._d.color:
            self._d.color = color
            self.colorChanged.emit(color)

    color = qproperty("QColor", "color", lambda s: s._d.color, setColor)


@standIn()
class ctkPathLineEdit(qt.QWidget):
    """A line for the path of a file or folder, with its history."""

    validInputChanged = Signal(bool)
    currentPathChanged = Signal(str)
    Dirs, Files, Drives, NoSymLinks, Readable, Writable, Executable = 1, 2, 4, 8, 16, 32, 64
    Hidden, NoDot, NoDotDot, NoDotAndDotDot, AllEntries = 256, 0x2000, 0x4000, 0x6000, 7

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*[argument for argument in arguments if isinstance(argument, qt.QWidget)])
        self._d = SimpleNamespace(combo=qt.QComboBox(self), button=qt.QToolButton(self))
        self._d.combo.setEditable(True)
        self._d.combo.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        self._d.button.text = "..."
        row(self, self._d.combo, self._d.button)
        self._d.combo.lineEdit().textChanged.connect(self.currentPathChanged.emit)

    def comboBox(self) -> Any:
        """The combo box inside."""
        return self._d.combo

    def setCurrentPath(self, path: str) -> None:
        """Set the path."""
        self._d.combo.lineEdit().setText(path)

    def addCurrentPathToHistory(self) -> None:
        """Offer the path again next time."""
        if self.currentPath and self._d.combo.findText(self.currentPath) < 0:
            self._d.combo.addItem(self.currentPath)

    currentPath = qproperty("QString", "currentPath", lambda s: s._d.combo.lineEdit().text, setCurrentPath)
    filters = stored("Filters", "filters", AllEntries)
    nameFilters = stored("QStringList", "nameFilters", [])
    label = stored("QString", "label", "")
    settingKey = stored("QString", "settingKey", "")
    showBrowseButton = qproperty(
        "bool", "showBrowseButton", lambda s: not s._d.button.isHidden(), lambda s, v: s._d.button.setVisible(v)
    )
    showHistoryButton = stored("bool", "showHistoryButton", True)


@standIn()
class ctkDirectoryButton(qt.QWidget):
    """A button that shows a folder."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*[argument for argument in arguments if isinstance(argument, qt.QWidget)])
        self._d = SimpleNamespace(button=qt.QPushButton(self), directory=".")
        row(self, self._d.button)

    def _setDirectory(self, directory: str) -> None:
        path = qt.QDir(directory).absolutePath()
        if path != qt.QDir(self._d.directory).absolutePath():
            self._d.directory = self._d.button.text = path
            self.directoryChanged.emit(path)

    directory = qproperty("QString", "directory", lambda s: s._d.directory, _setDirectory)
    caption = stored("QString", "caption", "")
