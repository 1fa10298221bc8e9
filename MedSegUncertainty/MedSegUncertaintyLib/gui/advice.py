"""Sentences that tell what to paint next, and what to think of a slice."""

from __future__ import annotations

from collections.abc import Sequence

from slicer.i18n import tr as _

from MedSegUncertaintyLib.propagation.guidance import ABSENT, Guidance
from MedSegUncertaintyLib.scene.slice_places import SlicePlace
from MedSegUncertaintyLib.scene.support_table import OWN, SlicedExample
from MedSegUncertaintyLib.scene.supports import Supports

ENDS_FROM = 2
"""Outlined examples after which the ends are asked for."""


def adviceText(examples: Sequence[SlicedExample], place: SlicePlace, isPainted: bool) -> str:
    """What to do next.

    Args:
        examples: All examples.
        place: The slice in the view.
        isPainted: Whether anything is painted in it.
    """
    own = [one for one in examples if one.volume == OWN]
    here = next((one for one in own if one.place == place), None)
    if isPainted and here is None:
        return _("Slice {index} is painted, but no example yet: press 'Add this slice' (S).").format(index=place.index)
    outlined = [one.place.index for one in own if one.outlined and one.used]
    if not outlined:
        return _("Outline a structure in one slice with Paint or Draw, and press 'Add this slice' (S).")
    if len(outlined) < ENDS_FROM:
        return _("Add a second slice some way off; what lies between is found best.")
    missing = missingEnds(own)
    if missing:
        return _(
            "Go {where}, where the structure is no longer seen, and press 'Absent here' (N): one such slice beyond "
            "each end keeps the result inside."
        ).format(where=_(" and ").join(missing))
    return _("The ends are marked. Paint or correct where the result is wrong.")


def missingEnds(own: Sequence[SlicedExample]) -> list[str]:
    """Beyond which ends no slice is marked as absent, in words; the structures are taken together."""
    used = [one for one in own if one.used]
    outlined = [one.place.index for one in used if one.outlined]
    absent = [one.place.index for one in used if one.kind == "absent"]
    if not outlined:
        return []
    first, last = min(outlined), max(outlined)
    missing = []
    if not any(index < first for index in absent) and first > 0:
        missing.append(_("below slice {index}").format(index=first))
    if not any(index > last for index in absent):
        missing.append(_("above slice {index}").format(index=last))
    return missing


def nextText(guidance: Guidance) -> str:
    """Which slice to paint next, and why; empty if there is none."""
    if guidance.next_slice is None:
        return ""
    reasons = {
        "far from examples": _("far from the examples"),
        "samples differ": _("the samples differ most"),
        "end not marked": _("the end is not marked"),
    }
    reason = reasons.get(guidance.next_reason, guidance.next_reason)
    if guidance.next_kind == ABSENT:
        text = _("Next: mark slice {index} as absent ({reason})")
    else:
        text = _("Paint next: slice {index} ({reason})")
    return text.format(index=guidance.next_slice, reason=reason)


def sliceText(place: SlicePlace, supports: Supports, guidance: Guidance) -> str:
    """The slice in the view, and the Dice that is to be expected in it."""
    title = _("Slice {index}, {plane}").format(index=place.index, plane=place.plane)
    if supports.plane not in (None, place.plane):
        return title
    expected = {
        name: own.expected_dice[place.index]
        for name, own in guidance.structures.items()
        if place.index in own.expected_dice
    }
    dices = [
        f"{name} {value:.2f}" if len(guidance.structures) > 1 else f"{value:.2f}" for name, value in expected.items()
    ]
    return _("{title}: expected Dice {dices}").format(title=title, dices=", ".join(dices)) if dices else title
