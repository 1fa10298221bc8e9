"""Outlines of a region as smooth vector paths (marching squares)."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

Point = tuple[float, float]

# Corners of a cell, clockwise: bit 0 top left, 1 top right, 2 bottom right, 3 bottom left; edges: 0 top, 1 right,
# 2 bottom, 3 left. Every case lists the pairs of edges that the outline joins; the two saddles separate the corners.
_JOINED: dict[int, list[tuple[int, int]]] = {
    1: [(3, 0)],
    2: [(0, 1)],
    3: [(3, 1)],
    4: [(1, 2)],
    5: [(3, 0), (1, 2)],
    6: [(0, 2)],
    7: [(3, 2)],
    8: [(2, 3)],
    9: [(2, 0)],
    10: [(0, 1), (2, 3)],
    11: [(2, 1)],
    12: [(1, 3)],
    13: [(1, 0)],
    14: [(0, 3)],
}


def outlines(values: np.ndarray, level: float) -> list[list[Point]]:
    """Lines along which ``values`` (rows, columns), interpolated linearly, cross ``level``.

    Args:
        values: Any real numbers; outside of the array they count as 0.
        level: Above 0 and different from every value.

    Returns:
        Lines of points (column, row); pixel centers lie at whole numbers. Regions lie fully inside closed lines.
    """
    padded = np.pad(np.asarray(values, dtype=np.float64), 1)
    above = padded > level
    case = above[:-1, :-1] + 2 * above[:-1, 1:] + 4 * above[1:, 1:] + 8 * above[1:, :-1]
    neighbors: dict[Point, list[Point]] = defaultdict(list)
    for row, column in np.argwhere((case > 0) & (case < 15)):
        for edges in _JOINED[int(case[row, column])]:
            first, second = (_crossing(padded, level, int(row), int(column), edge) for edge in edges)
            neighbors[first].append(second)
            neighbors[second].append(first)
    return _chained(neighbors)


def _crossing(padded: np.ndarray, level: float, row: int, column: int, edge: int) -> Point:
    """Where the level is crossed on an edge of a cell; from the same two corners in both cells that share it."""
    down = edge in (1, 3)
    row, column = row + (edge == 2), column + (edge == 1)
    first, second = padded[row, column], padded[row + down, column + (not down)]
    share = round(float((level - first) / (second - first)), 3)
    # The padding shifted everything by one pixel.
    return (column - 1 + (0 if down else share), row - 1 + (share if down else 0))


def _chained(neighbors: dict[Point, list[Point]]) -> list[list[Point]]:
    lines = []
    while neighbors:
        line = [next(iter(neighbors))]
        while following := neighbors.get(line[-1]):
            point = following.pop()
            neighbors[point].remove(line[-1])
            for end in (line[-1], point):
                if not neighbors[end]:
                    del neighbors[end]
            line.append(point)
        lines.append(line)
    return lines
