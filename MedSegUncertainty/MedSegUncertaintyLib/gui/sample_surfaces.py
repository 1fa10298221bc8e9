"""The surfaces of the sample that is shown."""

from __future__ import annotations

from collections.abc import Callable

import qt

from MedSegUncertaintyLib.gui.steps import Steps
from MedSegUncertaintyLib.scene.results import ResultNodes
from MedSegUncertaintyLib.scene.surfaces import Surfaces, addSurfaces, makeSurfacesInSteps


class SampleSurfaces:
    """Makes them for one sample after another of those that are seen, and keeps them for when one is shown again.

    Args:
        shown: Gives the result of which one sample is shown in 3D; None if there is none.
    """

    def __init__(self, shown: Callable[[], ResultNodes | None]) -> None:
        self._shown = shown
        self._made: dict[int, Surfaces] = {}
        self._steps: Steps | None = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._show)

    def follow(self) -> None:
        """Another sample may be shown; its segments have no surfaces then."""
        self._timer.start(0)  # the scene changes samples first

    def forget(self) -> None:
        """Another result is shown."""
        self._timer.stop()
        if self._steps is not None:
            self._steps.close()
            self._steps = None
        self._made = {}

    def _show(self) -> None:
        nodes = self._shown()
        if nodes is None:
            return
        sample = nodes.browser.GetSelectedItemNumber()
        if sample in self._made:
            addSurfaces(nodes.selectedSample, self._made[sample])
        elif self._steps is None:  # else it follows when these are made
            making = makeSurfacesInSteps(nodes.sequence.GetNthDataNode(sample))  # which stays while the slider moves
            self._steps = Steps(making, self._keeper(sample), self._onNone)

    def _keeper(self, sample: int) -> Callable[[Surfaces], None]:
        def keep(made: Surfaces) -> None:
            self._steps = None
            self._made[sample] = made
            self._show()

        return keep

    def _onNone(self, error: Exception) -> None:
        self._steps = None
        raise error
