"""Style sheet of the report: screen in light and dark, and A4 paper."""

STYLE = """
:root {
  --paper: #ffffff; --ground: #f3f5f7; --ink: #17212b; --soft: #56636f; --line: #dbe1e6;
  --accent: #0b5c7d; --band: #cfe3ec; --warn: #7a4a00; --warn-ground: #fff4dc; --warn-line: #e8c37a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #161c22; --ground: #0e1317; --ink: #e6ebef; --soft: #9daab5; --line: #2d3740;
    --accent: #7cc6e6; --band: #24424f; --warn: #f4d494; --warn-ground: #2e2410; --warn-line: #6b5320;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.55 "Segoe UI", "Helvetica Neue", "Noto Sans", "DejaVu Sans", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 960px; margin: 0 auto; padding: 0 40px 48px; background: var(--paper); }
.notice {
  margin: 0 -40px; padding: 9px 40px; background: var(--warn-ground); color: var(--warn);
  border-bottom: 1px solid var(--warn-line); font-weight: 600; max-width: none;
}
h1 { margin: 30px 0 4px; font-size: 27px; line-height: 1.25; font-weight: 650; letter-spacing: -0.01em; }
h2 {
  margin: 40px 0 12px; padding-bottom: 6px; border-bottom: 1px solid var(--line);
  font-size: 18px; font-weight: 650; color: var(--accent);
}
h3 { margin: 18px 0 2px; font-size: 15px; font-weight: 650; }
p { margin: 0 0 10px; max-width: 74ch; }
.lead { color: var(--soft); font-size: 16px; }
.soft { color: var(--soft); font-size: 13px; }
dl.facts { display: grid; grid-template-columns: repeat(3, 1fr); gap: 0 28px; margin: 20px 0 0; }
dl.facts div { padding: 8px 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
dt { color: var(--soft); font-size: 12px; }
dd { margin: 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 14px; }
.card { padding: 14px 18px; border: 1px solid var(--line); border-left: 5px solid; border-radius: 6px; }
.card .value { font-size: 25px; font-weight: 650; line-height: 1.3; }
.card .value small { font-size: 15px; font-weight: 500; }
.cut {
  margin-top: 8px; padding: 5px 10px; border: 1px solid var(--warn-line); border-radius: 4px;
  background: var(--warn-ground); color: var(--warn); font-size: 13px; font-weight: 600;
}
.pictures { display: grid; grid-template-columns: repeat(3, 1fr); gap: 10px; }
/* The legend beside the variance takes a quarter of a picture: all have one height. */
.pictures.views { grid-template-columns: 4fr 4fr 5fr; }
.pictures.single { grid-template-columns: 1fr 1fr; }
figure { margin: 0; break-inside: avoid; }
figcaption { padding-top: 4px; font-size: 13px; color: var(--soft); }
.slice, .pictures img { display: block; width: 100%; border-radius: 4px; background: #000; }
.marks text { fill: #fff; font-weight: 600; paint-order: stroke; stroke: #000; stroke-width: 0.6px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 22px; align-items: center; margin: 12px 0 16px; font-size: 13px; }
.legend span { display: inline-flex; align-items: center; gap: 7px; }
.legend svg { flex: none; }
.legend i { width: 12px; height: 12px; border-radius: 3px; }
.ramp { width: 170px; height: 11px; border-radius: 3px; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.plot { display: block; width: 100%; max-width: 820px; margin-bottom: 4px; }
.plot text { font-size: 10.5px; fill: var(--soft); }
.plot .band { fill: var(--band); }
.plot .axis { stroke: var(--soft); stroke-width: 1; fill: none; }
.plot .median { stroke: var(--accent); stroke-width: 2; }
.plot .dot { stroke: var(--paper); stroke-width: 1; fill-opacity: 0.9; }
.plot .prediction { stroke: var(--ink); stroke-width: 1.5; fill: var(--ink); }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: 14px; }
th, td { padding: 7px 12px 7px 0; text-align: right; border-bottom: 1px solid var(--line); vertical-align: bottom; }
th { font-size: 12px; font-weight: 600; color: var(--soft); }
th:first-child, td:first-child { text-align: left; }
table.plain td { font-size: 13px; text-align: left; }
.scroll + p { margin-top: 12px; }
th[colspan] { text-align: center; }
tr { break-inside: avoid; }
.planes { display: grid; grid-template-columns: repeat(3, 1fr); gap: 28px; }
.planes table { font-size: 13px; }
.planes td { white-space: nowrap; }
.planes td:last-child, .planes th:last-child { padding-right: 0; }
ul { margin: 0 0 10px; padding-left: 20px; max-width: 74ch; }
footer { margin-top: 40px; padding-top: 12px; border-top: 1px solid var(--line); font-size: 12px; color: var(--soft); }
footer p { max-width: none; overflow-wrap: anywhere; }
@media (max-width: 720px) {
  main { padding: 0 18px 32px; }
  .notice { margin: 0 -18px; padding: 9px 18px; }
  dl.facts, .planes { grid-template-columns: 1fr; }
}
@page { size: A4; margin: 14mm 15mm; }
@media print {
  :root {
    --paper: #ffffff; --ground: #ffffff; --ink: #17212b; --soft: #4b5762; --line: #cfd6dc;
    --accent: #0b5c7d; --band: #cfe3ec; --warn: #7a4a00; --warn-ground: #ffffff; --warn-line: #7a4a00;
  }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  .notice { margin: 0; padding: 4px 10px; border: 1px solid var(--warn-line); }
  h1 { margin-top: 16px; font-size: 20pt; }
  h2 { margin-top: 22px; break-after: avoid; }
  h3 { break-after: avoid; }
  .card, .plot, .reading { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
