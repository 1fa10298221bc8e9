"""Widgets that drive a sequence browser node."""

from typing import Any

import qt
import slicer
import vtk

from slicer_stand_in.attributes import qproperty, standIn
from slicer_stand_in.observers import observe, unobserve

TICK_MS = 20


class SequencePlayer(qt.QObject):
    """Plays every browser node that asks for it, as Slicer's Sequences module does."""

    def __init__(self, scene: Any) -> None:
        super().__init__()
        self._scene, self._last = scene, {}
        self._timer = qt.QTimer()
        self._timer.connect("timeout()", self._onTick)
        self._timer.start(TICK_MS)
        self._clock = qt.QElapsedTimer()
        self._clock.start()

    def _onTick(self) -> None:
        now = self._clock.elapsed()
        for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode", self._scene):
            last = self._last.setdefault(browser.GetID(), now)
            if not browser.GetPlaybackActive():
                del self._last[browser.GetID()]
            elif now - last >= 1000 / max(browser.GetPlaybackRateFps(), 0.1):
                self._last[browser.GetID()] = now
                browser.SelectNextItem(1)


@standIn()
class qMRMLSequenceBrowserPlayWidget(slicer.qMRMLWidget):
    """Buttons: first, previous, play, next, last, loop, and the rate."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        d = self._d
        d.node, d.observations, d.buttons, d.shortcuts = None, [], {}, {}
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for name, icon, slot in (
            ("first", "SP_MediaSkipBackward", self.onVcrFirst),
            ("previous", "SP_MediaSeekBackward", self.onVcrPrevious),
            ("play", "SP_MediaPlay", self.setPlaybackEnabled),
            ("next", "SP_MediaSeekForward", self.onVcrNext),
            ("last", "SP_MediaSkipForward", self.onVcrLast),
            ("loop", "SP_BrowserReload", self.setPlaybackLoopEnabled),
        ):
            button = d.buttons[name] = qt.QToolButton(self)
            button.icon = self.style().standardIcon(getattr(qt.QStyle, icon))
            button.checkable, button.toolTip = name in ("play", "loop"), name.capitalize()
            button.connect("clicked(bool)" if button.checkable else "clicked()", slot)
            layout.addWidget(button)
        d.rate = qt.QDoubleSpinBox(self)
        d.rate.setRange(0.1, 60)
        d.rate.suffix = " fps"
        d.rate.connect("valueChanged(double)", self.setPlaybackRateFps)
        layout.addWidget(d.rate)
        layout.addStretch()
        self._onModified()

    def setMRMLSequenceBrowserNode(self, node: Any) -> None:
        """Follow a browser node."""
        unobserve(self._d.observations)
        self._d.node = node
        if node is not None:
            self._d.observations.append(observe(self, node, vtk.vtkCommand.ModifiedEvent, "_onModified"))
        self._onModified()

    def _onModified(self, _caller: Any = None) -> None:
        d, node = self._d, self._d.node
        self.setEnabled(node is not None and node.GetMasterSequenceNode() is not None)
        if node is not None:
            d.buttons["play"].checked = bool(node.GetPlaybackActive())
            d.buttons["loop"].checked = bool(node.GetPlaybackLooped())
            d.rate.value = node.GetPlaybackRateFps()

    def setPlaybackEnabled(self, playing: bool) -> None:
        """Start or stop."""
        if self._d.node is not None:
            self._d.node.SetPlaybackActive(playing)

    def setPlaybackLoopEnabled(self, looped: bool) -> None:
        """Start again at the end, or stop there."""
        if self._d.node is not None:
            self._d.node.SetPlaybackLooped(looped)

    def setPlaybackRateFps(self, rate: float) -> None:
        """Items per second."""
        if self._d.node is not None:
            self._d.node.SetPlaybackRateFps(rate)

    def onVcrFirst(self) -> None:
        """Go to the first item."""
        self._d.node.SelectFirstItem()

    def onVcrPrevious(self) -> None:
        """Go to the item before."""
        self._d.node.SelectNextItem(-1)

    def onVcrNext(self) -> None:
        """Go to the next item."""
        self._d.node.SelectNextItem(1)

    def onVcrLast(self) -> None:
        """Go to the last item."""
        self._d.node.SelectLastItem()

    def onVcrPlayPause(self) -> None:
        """Start if stopped, stop if started."""
        self.setPlaybackEnabled(not self._d.node.GetPlaybackActive())

    def _setShortcut(self, button: str, keys: str) -> None:
        self._d.buttons[button].shortcut = qt.QKeySequence(keys)
        self._d.shortcuts[button] = keys

    def setPlayPauseShortcut(self, keys: str) -> None:
        """Set the keys of the play button."""
        self._setShortcut("play", keys)

    def setPreviousFrameShortcut(self, keys: str) -> None:
        """Set the keys of the button for the item before."""
        self._setShortcut("previous", keys)

    def setNextFrameShortcut(self, keys: str) -> None:
        """Set the keys of the button for the next item."""
        self._setShortcut("next", keys)

    PlayPauseShortcut = qproperty(
        "QString", "PlayPauseShortcut", lambda s: s._d.shortcuts.get("play", ""), setPlayPauseShortcut
    )
    PreviousFrameShortcut = qproperty(
        "QString", "PreviousFrameShortcut", lambda s: s._d.shortcuts.get("previous", ""), setPreviousFrameShortcut
    )
    NextFrameShortcut = qproperty(
        "QString", "NextFrameShortcut", lambda s: s._d.shortcuts.get("next", ""), setNextFrameShortcut
    )


@standIn()
class qMRMLSequenceBrowserSeekWidget(slicer.qMRMLWidget):
    """A slider over the items, and the index value of the chosen one."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        d = self._d
        d.node, d.observations = None, []
        d.slider, d.label = qt.QSlider(qt.Qt.Horizontal, self), qt.QLabel(self)
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(d.slider)
        layout.addWidget(d.label)
        d.slider.connect("valueChanged(int)", self.setSelectedItemNumber)
        self._onModified()

    def slider(self) -> Any:
        """The slider."""
        return self._d.slider

    def setMRMLSequenceBrowserNode(self, node: Any) -> None:
        """Follow a browser node."""
        unobserve(self._d.observations)
        self._d.node = node
        if node is not None:
            self._d.observations.append(observe(self, node, vtk.vtkCommand.ModifiedEvent, "_onModified"))
        self._onModified()

    def setSelectedItemNumber(self, number: int) -> None:
        """Go to an item."""
        if self._d.node is not None and number >= 0:
            self._d.node.SetSelectedItemNumber(number)

    def _onModified(self, _caller: Any = None) -> None:
        d, node = self._d, self._d.node
        count = node.GetNumberOfItems() if node is not None and node.GetMasterSequenceNode() is not None else 0
        self.setEnabled(count > 0)
        d.slider.blockSignals(True)
        d.slider.setRange(0, max(count - 1, 0))
        d.slider.value = node.GetSelectedItemNumber() if count else 0
        d.slider.blockSignals(False)
        chosen = node.GetSelectedItemNumber() if count else -1
        master = node.GetMasterSequenceNode() if count else None
        d.label.text = f"{master.GetNthIndexValue(chosen)}{master.GetIndexUnit() or ''}" if 0 <= chosen < count else ""
