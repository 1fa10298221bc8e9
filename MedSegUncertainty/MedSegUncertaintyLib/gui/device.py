"""The line that says where the network will run, and what that means for the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from MedSegUncertaintyLib.gui.estimate import durationText
from MedSegUncertaintyLib.gui.models import WARNING_COLOR

if TYPE_CHECKING:
    from MedSegUncertaintyLib.workers.probe import DeviceProbe, DeviceReport

POLL_MS = 200


class DeviceLine:
    """Looks for the device in the background and keeps the line up to date.

    Args:
        label: The ``QLabel``.
        changed: Called when the device is known.
    """

    def __init__(self, label: Any, changed: Any) -> None:
        self._label, self._changed = label, changed
        self._probe: DeviceProbe | None = None
        self._asked = ""
        self.report: DeviceReport | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self._poll)
        self._startTimer = qt.QTimer()
        self._startTimer.setSingleShot(True)
        self._startTimer.connect("timeout()", self._start)

    def look(self, device: str, again: bool = False) -> None:
        """Find out about a request's device; nothing happens if it is known, unless ``again``."""
        if device == self._asked and not again:
            return
        self.close()
        self._asked, self.report = device, None
        self._startTimer.start(0)

    def _start(self) -> None:
        """Look; not at once, because what is imported here takes as long as opening the panel."""
        from MedSegUncertaintyLib.workers.probe import DeviceProbe

        self._probe = DeviceProbe(self._asked)
        self._timer.start()

    def tell(self, description: str) -> None:
        """A run began on this device."""
        from MedSegUncertaintyLib.workers.probe import DeviceReport

        kind = {"CPU": "cpu", "MPS": "mps"}.get(description.split(",")[0], "cuda")
        self.close()
        self.report = DeviceReport(kind, description)
        self._changed()

    def show(self, seconds: float | None) -> None:
        """Show the device, and how long a run is estimated to take on it."""
        report, slow = self.report, False
        if report is None:
            text = _("Looking for a graphics card ...")
        elif report.kind == "cpu":
            about = _("time known after the first run") if seconds is None else aboutText(seconds)
            text, slow = _("CPU: {about}").format(about=about), True
        else:
            text, slow = report.text, report.kind is None
        self._label.text = text
        self._label.toolTip = _("Where the network will run.") if report is None else report.text
        self._label.setStyleSheet(f"color: {WARNING_COLOR}; font-weight: bold" if slow else "font-weight: bold")

    def close(self) -> None:
        """Stop looking."""
        self._startTimer.stop()
        self._timer.stop()
        if self._probe is not None:
            self._probe.close()
            self._probe = None

    def _poll(self) -> None:
        if self._probe is not None and self._probe.report is not None:
            self.report = self._probe.report
            self.close()
            self._changed()


def aboutText(seconds: float) -> str:
    """A rough duration: "about 12 s" or "about 3 min"."""
    return _("about {duration}").format(duration=durationText(seconds))
