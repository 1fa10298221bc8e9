"""The volumes of the samples as inline SVG: one row per structure, each with an axis of its own, in mL."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import numpy as np

from MedSegUncertaintyLib.outputs.appearance import Color, hex_color

WIDTH, HEIGHT = 640.0, 92.0
LEFT, RIGHT = 16.0, 624.0
AXIS_Y, MIDDLE_Y, BAND = 64.0, 34.0, 44.0
DOT = 4.0


def volume_plot(structure: dict[str, Any], volumes_ml: np.ndarray, color: Color) -> str:
    """Dots of the sample volumes over the band from 5 to 95 %, lines at 50 % and at the prediction.

    Args:
        structure: Its entry of ``summary.json``.
        volumes_ml: Volume in each sample; one alone has neither a band nor a line at 50 %.
        color: Red, green, blue in [0, 1].
    """
    spread, prediction = structure["volume_ml"], structure["prediction_ml"]
    ticks = axis_ticks(min(spread["minimum"], prediction), max(spread["maximum"], prediction))

    def x(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    fill = hex_color(color)
    top, bottom = MIDDLE_Y - BAND / 2, MIDDLE_Y + BAND / 2
    decimals = tick_decimals(ticks)
    interval = [
        f'<rect class="band" x="{x(spread["q05"]):.1f}" y="{top}" '
        f'width="{max(1.0, x(spread["q95"]) - x(spread["q05"])):.1f}" height="{BAND}" rx="3"/>',
        f'<path class="median" d="M{x(spread["q50"]):.1f} {top}V{bottom}"/>',
    ]
    parts = [
        *(interval if len(volumes_ml) > 1 else []),
        f'<path class="axis" d="M{LEFT} {AXIS_Y}H{RIGHT}"/>',
        *(
            f'<path class="axis" d="M{x(tick):.1f} {AXIS_Y}v4"/>'
            f'<text x="{x(tick):.1f}" y="{AXIS_Y + 17}" text-anchor="middle">{tick:.{decimals}f}</text>'
            for tick in ticks
        ),
        *(
            f'<circle class="dot" cx="{cx:.1f}" cy="{cy:.1f}" r="{DOT}" fill="{fill}"/>'
            for cx, cy in _dots([x(float(v)) for v in volumes_ml])
        ),
        f'<path class="prediction" d="M{x(prediction):.1f} {top - 3}l5 -8h-10zl0 {BAND + 3}"/>',
    ]
    label = escape(f"Sample volumes of {structure['name']} in mL", quote=True)
    return (
        f'<svg class="plot" role="img" aria-label="{label}" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}">'
        f"{''.join(parts)}</svg>"
    )


def axis_ticks(low: float, high: float) -> list[float]:
    """Round numbers, at least two, from not above ``low`` to not below ``high``."""
    span = (high - low) or max(abs(high), 1e-3) * 0.1
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / 5 * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def tick_decimals(ticks: list[float]) -> int:
    """Decimals that tell neighboring ticks apart."""
    return max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))


def _dots(positions: list[float]) -> list[tuple[float, float]]:
    """Centers of dots that are moved up and down where they would hide each other."""
    placed: list[tuple[float, float]] = []
    levels = [0.0] + [sign * n * DOT * 1.1 for n in range(1, 5) for sign in (-1, 1)]
    for cx in sorted(positions):
        crowded = [
            sum(abs(cx - x) < 2 * DOT and abs(MIDDLE_Y + level - y) < 2 * DOT for x, y in placed) for level in levels
        ]
        placed.append((cx, MIDDLE_Y + levels[int(np.argmin(crowded))]))
    return placed
