"""Numbers as CSV: what spreadsheets and statistics programs read."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from MedSegUncertaintyLib.models.structures import Structure


def write_volumes(path: Path, structures: Sequence[Structure], volumes_ml: Iterable[Sequence[float]]) -> None:
    """Write the volumes, a row per sample, a column per structure.

    Args:
        path: Target.
        structures: In the order of the columns of ``volumes_ml``.
        volumes_ml: (samples, structures), mL.
    """
    rows = ([number, *map(float, volumes)] for number, volumes in enumerate(volumes_ml, start=1))
    _write(path, ["sample", *(f"{structure.slug}_ml" for structure in structures)], rows)


def write_structures(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the numbers of every structure, a row each; what does not exist is left empty.

    Args:
        path: Target.
        summary: What ``uncertainty.summary`` says.
    """
    volumes = ("mean", "sd", "minimum", "q05", "q50", "q95", "maximum")
    bands = ("in_boundary_band", "outside_boundary_band")
    single = ("prediction_ml", "mean_pairwise_dice", "samples_touching_region_edge")
    header = ["structure", *(f"volume_{key}_ml" for key in volumes), *single, *(f"entropy_{key}_bits" for key in bands)]
    rows = (
        [
            entry["name"],
            *(entry["volume_ml"][key] for key in volumes),
            *(entry[key] for key in single),
            *(entry["entropy_bits"][key] for key in bands),
        ]
        for entry in summary["structures"]
    )
    _write(path, header, rows)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
