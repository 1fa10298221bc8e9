"""The report: one HTML file without scripts and without anything to load from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from MedSegUncertaintyLib.inference.request import Scale
from MedSegUncertaintyLib.inference.result import InferenceResult
from MedSegUncertaintyLib.models.sample_kinds import meaning
from MedSegUncertaintyLib.outputs.appearance import PALETTES, VARIANCE_MAXIMUM, hex_color
from MedSegUncertaintyLib.outputs.document import edge_warning, input_warnings, is_oblique
from MedSegUncertaintyLib.report.drawing import HEAT_PALETTE, LINE_STYLES
from MedSegUncertaintyLib.report.pictures import InScene, Picture, PictureSet, make_pictures
from MedSegUncertaintyLib.report.scales import scale_section
from MedSegUncertaintyLib.report.style import STYLE
from MedSegUncertaintyLib.report.volume_plot import volume_plot
from MedSegUncertaintyLib.uncertainty.contours import CONTOUR_LEVELS
from MedSegUncertaintyLib.volumes.geometry import Volume, direction_letter

Document = dict[str, Any]

FEW_SAMPLES = round(1 / min(CONTOUR_LEVELS))
"""Below this number the outer outline is around what any sample labels, the inner one around what all of them label."""

_TIMES = " \u00d7 "


def write_report(
    path: Path, volume: Volume, result: InferenceResult, document: Document, in_scene: InScene | None = None
) -> None:
    """Write the report of a result.

    Args:
        path: Target, ``*.html``.
        volume: The image that was segmented.
        result: What came out.
        document: The content of ``summary.json`` (see ``outputs.document``); the numbers in the text come from it.
        in_scene: See ``report.pictures.make_pictures``.
    """
    pictures = make_pictures(volume, result, tuple(document["most_uncertain"]["place"]["ijk"]), in_scene)
    path.write_text(build_page(result, document, pictures), encoding="utf-8")


def build_page(result: InferenceResult, document: Document, pictures: PictureSet) -> str:
    """The report as HTML text."""
    title = f"Segmentation uncertainty: {document['image']['name']}"
    sections = (
        _header(result, document),
        _volumes_at_a_glance(result, document),
        _pictures(result, document, pictures),
        scale_section(result, pictures.pictures),
        _volume_plots(result, document),
        _structure_table(document),
        _uncertain_slices(document),
        _how_to_read(result, document),
        _model_card(result),
        _footer(document),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Tells the browser to load nothing, whatever a name in this file may contain.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def milliliters(value: float) -> str:
    """A volume with about three significant digits, without its unit."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{decimals}f}"


def _header(result: InferenceResult, document: Document) -> str:
    request, provenance = document["request"], document["provenance"]
    package, weights = document["package"], request["class_weights"]
    facts = {
        "Image": document["image"]["name"],
        **{f"Channel {part['role']}": f"{part['image']} ({part['name']})" for part in document["image"]["channels"]},
        "Model package": f"{package['title']}, version {package['version']}",
        "Model family": package["family"],
        "Samples": request["samples"],
        "Kind of samples": document["sample_kind"],
        "Seed / temperature": f"{request['seed']} / {request['temperature']:g}",
        **({"Class weights": ", ".join(f"{weight:g}" for weight in weights)} if weights else {}),
        **({"Scales": _scales(request["scales"])} if request["scales"] else {}),
        **({"Steps": f"{request['steps']} of {result.package.steps}"} if request["steps"] else {}),
        "Region of interest": _roi(request["roi"]),
        "Image grid": _grid(document),
        "Device": provenance.get("device", request["device"]),
        "Made": document["created"].replace("T", " ").replace("+00:00", " UTC"),
    }
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in facts.items())
    warnings = "".join(f'<p class="cut">Warning: {escape(text)}</p>' for text in input_warnings(document))
    names = " and ".join(structure["name"] for structure in document["structures"][:2])
    what = names if len(document["structures"]) <= 2 else f"{len(document['structures'])} structures"
    return (
        f'<p class="notice">{escape(document["notice"])}</p>\n<h1>How else could this image have been segmented?</h1>\n'
        f'<p class="lead">{_count(document["samples"], "plausible segmentation")} of {escape(what)} in '
        f"{escape(document['image']['name'])}{', and where they differ' if document['samples'] > 1 else ''}.</p>\n"
        f'<dl class="facts">{rows}</dl>{warnings}'
    )


def _scales(scales: list[dict[str, Any]]) -> str:
    words = []
    for scale in [Scale(**entry) for entry in scales]:
        what = "mean" if scale.temperature == 0 else "sampled" if scale.frozen is None else f"sample {scale.frozen + 1}"
        words.append(what + ("" if scale.temperature in (0.0, 1.0) else f" at temperature {scale.temperature:g}"))
    return ", ".join(words)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _roi(roi: dict[str, list[float]] | None) -> str:
    if roi is None:
        return "whole image"
    size = _TIMES.join(f"{value:g}" for value in roi["size_mm"])
    return f"{size} mm around {_point(roi['center_ras'])} mm"


def _grid(document: Document) -> str:
    geometry = document["image"]["geometry"]
    spacing = np.linalg.norm(np.array(geometry["ijk_to_ras"])[:3, :3], axis=0)
    size = _TIMES.join(str(value) for value in geometry["shape_ijk"])
    return f"{size} voxels of {_TIMES.join(f'{value:.3g}' for value in spacing)} mm"


def _point(ras: Sequence[float]) -> str:
    """A position with the letters that radiologists use instead of signs."""
    return ", ".join(f"{direction_letter(axis, value >= 0)} {abs(value):.1f}" for axis, value in enumerate(ras))


def _volumes_at_a_glance(result: InferenceResult, document: Document) -> str:
    cards = []
    for structure, entry in zip(result.structures, document["structures"], strict=True):
        volume = entry["volume_ml"]
        if document["samples"] == 1:
            value, meaning = milliliters(volume["q50"]), "one sample has no spread;"
        else:
            value = f"{milliliters(volume['q05'])} to {milliliters(volume['q95'])}"
            meaning = f"5 to 95 % of the samples; median {milliliters(volume['q50'])} mL,"
        edge = edge_warning(document, entry)
        warning = f'<div class="cut">Warning: {edge}.</div>' if edge else ""
        cards.append(
            f'<div class="card" style="border-left-color:{hex_color(structure.color)}">{escape(entry["name"])}'
            f'<div class="value">{value} <small>mL</small></div>'
            f'<div class="soft">{meaning} prediction {milliliters(entry["prediction_ml"])} mL</div>'
            f"{warning}</div>"
        )
    note = escape(document["spread"])
    return f'<h2>Volumes at a glance</h2>\n<div class="cards">{"".join(cards)}</div>\n<p class="soft">{note}</p>'


def _pictures(result: InferenceResult, document: Document, shown: PictureSet) -> str:
    place = document["most_uncertain"]["place"]
    if any(document["most_uncertain"]["slices"].values()):
        title, which = "Where the samples differ most", "Three slices through the place where the samples differ most"
    else:
        why = "There is only one sample" if document["samples"] == 1 else "The samples do not differ"
        title, which = "Three slices", f"{why}; three slices through the middle of the segmented region"
    tilted = " They are slices of the image's own voxel grid, which is tilted against the patient's axes."
    low, high = shown.window
    in_hu = result.package.modality == "CT" and result.package.intensity.kind == "window"
    unit = " HU" if in_hu else ""
    gray = f'<div class="legend"><span>gray: {low:.4g} to {high:.4g}{unit}</span></div>'
    pictures = shown.pictures
    parts = [
        f"<h2>{title}</h2>",
        f"<p>{which}: {_point(place['ras'])} mm (voxel {', '.join(str(index) for index in place['ijk'])}). Axial and "
        "coronal: the patient's right is on the left; sagittal: anterior is on the left."
        f"{tilted if is_oblique(result.geometry) else ''}</p>",
        gray,
        "<h3>Outlines</h3>",
        _outline_legend(result),
        f'<div class="pictures">{_figures(pictures, "outlines")}</div>',
        "<h3>Variance</h3>",
        _variance_legend(),
        f'<div class="pictures">{_figures(pictures, "variance")}</div>',
    ]
    if shown.views_failed:
        parts.append(
            f'<p class="soft">The views of 3D Slicer are missing because of an error: {escape(shown.views_failed)}.</p>'
        )
    if views := _figures(pictures, "scene"):
        parts.append(
            "<h3>The same place in 3D Slicer</h3>\n<p>Light, plain and dark outlines: what at least 5, 50 and 95 % of "
            "the samples label. Thin faint outlines: the single samples. The colors of the variance are fixed.</p>\n"
            f'<div class="pictures views">{views}</div>\n'
            f'<div class="pictures single">{_figures(pictures, "surfaces")}</div>'
        )
    return "\n".join(parts)


def _figures(pictures: Sequence[Picture], kind: str) -> str:
    return "".join(
        f"<figure>{picture.element}<figcaption>{escape(picture.caption)}</figcaption></figure>"
        for picture in pictures
        if picture.kind == kind
    )


def _outline_legend(result: InferenceResult) -> str:
    texts = {0.05: "at least 5 % of samples (outer)", 0.50: "at least 50 % (median)", 0.95: "at least 95 % (core)"}
    lines = "".join(
        '<span><svg width="34" height="8" aria-hidden="true"><path d="M0 4H34" stroke="currentColor" '
        f"{LINE_STYLES[level]}/></svg>{text}</span>"
        for level, text in texts.items()
    )
    return f'<div class="legend">{lines}{_structure_keys(result)}</div>'


def _structure_keys(result: InferenceResult) -> str:
    return "".join(
        f'<span><i style="background:{hex_color(structure.color)}"></i>{escape(structure.name)}</span>'
        for structure in result.structures
    )


def _variance_legend() -> str:
    colors = ", ".join(f"#{color}" for color in PALETTES[HEAT_PALETTE])
    return (
        f'<div class="legend"><span>0 (samples agree)<span class="ramp" style="background:linear-gradient(90deg, '
        f'{colors})"></span>{VARIANCE_MAXIMUM:g} (half say yes, half say no)</span>'
        "<span>variance of the probability; fixed scale, the same in every report</span></div>"
    )


def _volume_plots(result: InferenceResult, document: Document) -> str:
    parts = ["<h2>Volume of every sample</h2>"]
    parts.append(
        '<div class="legend">'
        '<span><svg width="12" height="12" aria-hidden="true"><circle cx="6" cy="6" r="4" fill="currentColor"/></svg>'
        "one sample</span>"
        '<span><svg width="24" height="12" aria-hidden="true"><rect width="24" height="12" rx="2" '
        'fill="var(--band)"/></svg>5 to 95 % of the samples</span>'
        '<span><svg width="8" height="14" aria-hidden="true"><path d="M4 0V14" stroke="var(--accent)" '
        'stroke-width="2"/></svg>median</span>'
        '<span><svg width="12" height="14" aria-hidden="true"><path d="M6 8l5 -8h-10zM6 6V14" fill="currentColor" '
        'stroke="currentColor"/></svg>prediction (most probable label of the mean)</span></div>'
    )
    for index, (structure, entry) in enumerate(zip(result.structures, document["structures"], strict=True)):
        plot = volume_plot(entry, result.statistics.volumes_ml[:, index], structure.color)
        parts.append(f"<h3>{escape(entry['name'])}, mL</h3>\n{plot}")
    parts.append('<p class="soft">Every axis has its own range and need not begin at zero.</p>')
    return "\n".join(parts)


def _structure_table(document: Document) -> str:
    rows = "".join(f"<tr>{''.join(_cells(entry, document['samples']))}</tr>" for entry in document["structures"])
    return (
        "<h2>Numbers per structure</h2>\n"
        '<div class="scroll"><table><thead><tr><th rowspan="2">Structure</th>'
        '<th colspan="5">Volume, mL</th><th rowspan="2">Mean Dice of<br>sample pairs</th>'
        '<th colspan="2">Mean entropy, bits</th></tr>'
        "<tr><th>Mean</th><th>5 %</th><th>50 %</th><th>95 %</th><th>Prediction</th>"
        "<th>near its<br>surface</th><th>elsewhere</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>\n<p>{_representatives(document)}</p>\n"
        f'<p class="soft">Volumes at 5, 50 and 95 %: spread of {escape(document["sample_kind"])}, not calibrated '
        "confidence. Near its surface: within 2 mm of the surface of the prediction. Elsewhere: the rest of the region "
        "that was segmented.</p>"
    )


def _representatives(document: Document) -> str:
    chosen = document["representatives"]
    if document["samples"] == 1:
        return "There is only one sample, which has no spread."
    first, second = chosen["most_different_samples"]
    return (
        f"Sample {chosen['median_sample']} is closest to all others and stands for the middle of the set. Samples "
        f"{first} and {second} differ most (1 - IoU {chosen['their_distance_1_minus_iou']:.2f}); looking at these two "
        "side by side shows the range of answers."
    )


def _cells(entry: dict[str, Any], samples: int) -> Iterator[str]:
    volume, entropy = entry["volume_ml"], entry["entropy_bits"]
    yield f"<td>{escape(entry['name'])}</td>"
    for name in ("mean", "q05", "q50", "q95"):
        yield "<td>none</td>" if samples == 1 and name != "mean" else f"<td>{milliliters(volume[name])}</td>"
    yield f"<td>{milliliters(entry['prediction_ml'])}</td>"
    dice = entry["mean_pairwise_dice"]
    yield "<td>none</td>" if dice is None else f"<td>{dice:.3f}</td>"
    for value in (entropy["in_boundary_band"], entropy["outside_boundary_band"]):
        yield "<td>none</td>" if value is None else f"<td>{value:.4f}</td>"


def _uncertain_slices(document: Document) -> str:
    planes = "".join(
        f"<div><h3>{plane.capitalize()}</h3>{_slice_table(slices)}</div>"
        for plane, slices in sorted(document["most_uncertain"]["slices"].items())
    )
    return (
        "<h2>Slices to look at first</h2>\n<p>Where the samples differ more than in the slices around, with the share "
        "of all variance. Slice numbers count from 0 along a voxel axis of the image; centers are patient "
        "coordinates.</p>"
        f'\n<div class="planes">{planes}</div>'
    )


def _slice_table(slices: list[dict[str, Any]]) -> str:
    if not slices:
        return '<p class="soft">All samples are equal.</p>'
    rows = "".join(
        f"<tr><td>{entry['axis']} {entry['index']}</td><td>{100 * entry['share_of_variance']:.1f} %</td>"
        f"<td>{_point(entry['center_ras'])}</td></tr>"
        for entry in slices
    )
    return (
        f"<table><thead><tr><th>Slice</th><th>Share</th><th>Center, mm</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _how_to_read(result: InferenceResult, document: Document) -> str:
    classes = len(result.structures) + 1
    samples, kind = document["samples"], document["sample_kind"]
    means = meaning(kind)
    few = (
        f" With {_count(samples, 'sample')} the outer line is around what any sample labels, the inner line around "
        "what all of them label."
    )
    highest = f"{np.log2(classes):.2f}".rstrip("0").rstrip(".")
    paragraphs = {
        "Samples": f"The model drew {_count(samples, 'complete segmentation')} of the same image. Each is one answer "
        "that the model finds plausible; none of them is the truth. Where they agree, the model sees one "
        f"solution; where they part, it sees several.{f' They are made by {kind}. {means}' if means else ''}",
        "Outlines": "The solid line encloses what at least half of the samples label. The dashed outer line encloses "
        "what at least 5 % of them label, the thin inner line what at least 95 % label. The wider the gap between "
        f"the dashed and the inner line, the less settled the border is there.{few if samples < FEW_SAMPLES else ''}",
        "Variance and entropy": "Variance says how much the probability differs from sample to sample: 0 where all "
        "samples agree, 0.25 where half are sure of yes and half are sure of no. Entropy says how undecided the mean "
        f"of all samples is: from 0 to {highest} bits with {classes} classes (background included). Entropy is always "
        "raised along borders; away from borders it deserves a look.",
        "Volume interval": _volume_interval(result, document),
        "What it does not mean": "Agreement is not correctness: a model can be wrong in every sample in the same way, "
        "above all in images unlike those it was trained on. Uncertain places are an invitation to look, not a "
        "finding. Do not use this report for diagnosis or treatment.",
    }
    body = "".join(f'<div class="reading"><h3>{title}</h3><p>{text}</p></div>' for title, text in paragraphs.items())
    return f"<h2>How to read this report</h2>\n{body}"


def _volume_interval(result: InferenceResult, document: Document) -> str:
    samples = document["samples"]
    if samples == 1:
        return "One sample has no spread, so there is no interval. The true volume may be another one."
    inside = []
    for volumes, entry in zip(result.statistics.volumes_ml.T, document["structures"], strict=True):
        low, high = entry["volume_ml"]["q05"], entry["volume_ml"]["q95"]
        inside.append(int(((volumes >= low) & (volumes <= high)).sum()))
    fewest, most = min(inside), max(inside)
    count = f"{fewest} to {most}, depending on the structure," if fewest < most else str(most)
    return (
        f"Of the {samples} samples, {count} have a volume between the 5 % and the 95 % value. This is how far the "
        "model's own answers spread. It is not a confidence interval, and nobody has shown for this image that the "
        "true volume lies inside."
    )


def _model_card(result: InferenceResult) -> str:
    package = result.package
    data = package.training_data
    limits = "".join(f"<li>{escape(limit)}</li>" for limit in package.limits)
    facts = {
        "Intended use": str(package.metadata.get("intended_use", "Not stated.")),
        "Training data": f"{data.name}, {data.cases} cases, {data.license}",
        "License of the weights": package.weights_license,
    }
    rows = "".join(f"<h3>{title}</h3><p>{escape(text)}</p>" for title, text in facts.items())
    return (
        f"<h2>About the model</h2>\n<p>{escape(package.description)}</p>\n{rows}"
        f"<h3>Limits</h3><ul>{limits or '<li>None stated.</li>'}</ul>"
        f"<h3>Measured on held-out cases</h3>{_evaluation(package.evaluation)}"
    )


def _evaluation(evaluation: dict[str, Any]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in _measured(evaluation))
    return f'<table class="plain"><tbody>{rows}</tbody></table>' if rows else "<p>Nothing was measured.</p>"


def _measured(figures: dict[str, Any], names: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Figures of a package as name and value; numbers that belong together share a line."""
    for key, value in figures.items():
        path = names if key == "structures" else (*names, str(key).replace("_", " "))
        if isinstance(value, dict) and any(isinstance(part, dict) for part in value.values()):
            yield from _measured(value, path)
        elif isinstance(value, dict):
            yield ": ".join(path), ", ".join(f"{name} {_figure(part)}" for name, part in value.items())
        else:
            yield ": ".join(path), _figure(value)


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _footer(document: Document) -> str:
    software = ", ".join(f"{name} {version}" for name, version in document["software"].items())
    package = document["package"]
    return (
        f"<footer><p>{escape(document['notice'])}</p><p>Model package {escape(package['name'])} "
        f"{escape(package['version'])}, SHA-256 of the weights {escape(package['weights_sha256'])}.</p>"
        f"<p>Software: {escape(software)}.</p></footer>"
    )
