"""What varies at which scale: files of a result, and a section of its report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from MedSegUncertaintyLib.inference.result import InferenceResult, ScaleReport, ScaleVariance
from MedSegUncertaintyLib.report.pictures import Picture
from MedSegUncertaintyLib.volumes.reading import write_volume

KIND = "scale"
"""Pictures of this kind belong to the section."""

Extra = Callable[[Path, dict[str, Any]], None]

_UNUSED = 0.02
"""Below this share of the variance a scale says next to nothing."""


def scale_files(result: InferenceResult) -> dict[str, Extra]:
    """Numbers and one map per scale as writers by file name; none where nobody asked for them."""
    report = result.scales
    if report is None:
        return {}

    def numbers(path: Path, _: dict[str, Any]) -> None:
        path.write_text(json.dumps(report.to_json(result.structures), indent=2) + "\n", encoding="utf-8")

    def writer(scale: ScaleVariance) -> Extra:
        values = scale.variance.astype(np.float32, copy=False)
        return lambda path, _: write_volume(path, result.on_grid(values), result.geometry)

    maps = {f"variance_scale_{number}.nrrd": writer(scale) for number, scale in enumerate(report.scales)}
    return {"scales.json": numbers, **maps}


def scale_section(result: InferenceResult, pictures: list[Picture]) -> str:
    """The section as HTML; empty where nobody asked for it."""
    report = result.scales
    if report is None:
        return ""
    names = "".join(f"<th>SD of the volume of {escape(structure.name)}, mL</th>" for structure in result.structures)
    rows = "".join(f"<tr>{''.join(_cells(number, scale))}</tr>" for number, scale in enumerate(report.scales))
    shown = "".join(
        f"<figure>{picture.element}<figcaption>{escape(picture.caption)}</figcaption></figure>"
        for picture in pictures
        if picture.kind == KIND
    )
    return (
        "<h2>What varies at which scale</h2>\n"
        f"<p>For every scale, {report.samples} samples were drawn again with noise at that scale alone and the means "
        "of all others. Coarse scales can say whether something is there, fine ones where its border runs.</p>\n"
        f'<div class="pictures">{shown}</div>\n'
        '<div class="scroll"><table><thead><tr><th>Scale</th><th>Cell, mm</th><th>Share of the variance</th>'
        f"{names}</tr></thead><tbody>{rows}</tbody></table></div>\n"
        f"<p class='soft'>{_note(report)} The shares need not add up to 100 %, as scales act together. The variance "
        "has the colors and the fixed scale of the pictures above.</p>"
    )


def _cells(number: int, scale: ScaleVariance) -> Iterator[str]:
    yield f"<td>{number}{' (coarsest)' if number == 0 else ''}</td>"
    widths = " \u00d7 ".join(f"{width:.3g}" for width in scale.cell_mm)
    yield f"<td>{widths}</td>"
    yield "<td>none</td>" if scale.share is None else f"<td>{100 * scale.share:.1f} %</td>"
    for spread in scale.volume_sd_ml:
        yield f"<td>{spread:.3g}</td>"


def _note(report: ScaleReport) -> str:
    coarsest = report.scales[0].share
    if coarsest is None or coarsest >= _UNUSED:
        return ""
    return "An unused coarsest scale can be normal: training often leaves what it could say to the next one."
