"""Sentences for the user below the button Apply, and the log behind them."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from MedSegUncertaintyLib.gui.models import WARNING_COLOR

LOG_SIZE = (800, 500)


class Messages:
    """Shows one sentence at a time.

    Args:
        ui: The widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        self._ui, self._log = ui, ""
        self._window: Any = None
        ui.logButton.connect("clicked()", self.showLog)

    def show(self, message: str, log: str = "", good: bool = False) -> None:
        """Show a sentence; in red unless it is good news."""
        self._log = log
        self._ui.messageLabel.text = message
        self._ui.messageLabel.setStyleSheet("" if good else f"color: {WARNING_COLOR}")
        self._ui.logButton.setVisible(bool(log))
        self._ui.messageFrame.setVisible(bool(message))

    def clear(self) -> None:
        """Say nothing."""
        self.show("")

    def showLog(self) -> None:
        """Open a window with the log."""
        self._window = qt.QDialog(slicer.util.mainWindow() or self._ui.messageFrame)
        self._window.setWindowTitle(_("What the process that computes wrote"))
        self._window.objectName = "MedSegUncertaintyLog"
        text = qt.QPlainTextEdit(self._window)
        text.readOnly = True
        text.setPlainText(self._log)
        qt.QVBoxLayout(self._window).addWidget(text)
        self._window.resize(*LOG_SIZE)
        self._window.show()
