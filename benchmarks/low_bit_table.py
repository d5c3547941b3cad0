"""Markdown from the cells `low_bit.py` keeps: a section per network, bit width and length of training, and one for an
ablation of ZAQ.

A section has its own conditions, and stays as it was printed until it is measured again.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from subjects import REAL

Row = Mapping[str, Any]

LABELS = {
    "ptq-nearest": "PTQ alone, nearest rounding",
    "ptq": "PTQ alone",
    "ptq-zs-cgan": "PTQ alone, ZS-CGAN's images",
    "noise": "KD on Gaussian noise",
    "kd": "KD on the calibration images",
    "zs-cgan": "ZS-CGAN + KD",
    "dfq-akd": "DFQ-AKD",
    "zaq": "ZAQ",
}
ABLATION = ": ZAQ with one default changed"
PREAMBLE = (
    "# Below eight bits, without data\n\nPrinted by `benchmarks/low_bit.py`. Top-1 of the fake-quantized network "
    "on every evaluation image; *as float*: the share of them that are answered as by the float network, right or "
    "wrong, which tells students apart that lose nothing. The exact reference of the frozen integers answers an "
    "evenly spaced part, *agree* is the share of that part with the same answer. *gap*: mean absolute "
    "difference of logits to the float network on held-out images of the same making. Minutes on a machine shared "
    "with other work; images are made once for all rows that name the same method. Sections of real training images "
    "say what whoever has data would get. A section is as old as the commits it names. In those of commit "
    "bbca4cf-dirty, which is the tree of be025d1, eight processes shared the GPU, and it also gave the answers; its "
    "sums are not exact to the last bit, so *agree* may fall short of all.\n"
)
HEAD = (
    "| method | steps | seeds | top-1, all images | drop | as float | exact reference, part | agree "
    "| gap before → after | minutes: images | training | peak MiB |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def results(rows: Sequence[Row], known: str = "") -> str:
    """The whole page: sections of `rows`, and those of the page `known` that these rows say nothing of."""
    keys = ("method", "variant", "seed")
    rows = list({(_title(row), *(row[key] for key in keys), _steps(row)): row for row in rows}.values())
    sections = dict(_split(known))
    for title in {_title(row) for row in rows}:
        chosen = [row for row in rows if _title(row) == title]
        if main := [r for r in chosen if not r["variant"]]:
            sections[title] = _section(
                main, [line for method in LABELS for line in _lines(LABELS[method], main, method)]
            )
        if changed := [r for r in chosen if r["variant"]]:
            sections[title + ABLATION] = _ablation(main, changed)
    ordered = sorted(sections, key=lambda title: (_family(title), title), reverse=True)
    return "\n".join([PREAMBLE, *(f"## {title}\n\n{sections[title]}" for title in ordered)])


def _title(row: Row) -> str:
    convention = "all layers" if row["all_layers"] else "first and last layer 8 bits"
    asked = f", {row['steps']} steps" if row["steps"] else ""
    asked += f", {row['asked_images']} images" if row.get("asked_images") else ""
    by = row.get("asked_images_by") or (row["images_by"] if "+" in row["images_by"] else "")
    asked += ", real training images" if by == REAL else f", images by {by}" if by else ""
    asked += ", on a GPU" if row.get("device", "cpu") != "cpu" else ""
    return f"{row['network']}, {row['bits']}, {convention}{asked}"


def _split(page: str) -> list[tuple[str, str]]:
    """Title and text of each section."""
    parts = [part.partition("\n") for part in page.split("\n## ")[1:]]
    return [(title, text.strip("\n") + "\n") for title, _, text in parts]


def _family(title: str) -> str:
    """What stands together: an ablation follows what it changes."""
    return title.removesuffix(ABLATION) + ("0" if title.endswith(ABLATION) else "1")


def _section(rows: Sequence[Row], lines: Sequence[str]) -> str:
    def values(key: str) -> str:
        return ", ".join(sorted({str(row[key]) for row in rows}))

    first = min(rows, key=lambda r: r["images_by"] == "zs-cgan")
    makers = sorted({r["images_by"] for r in rows} - {"zs-cgan"}) or ["zs-cgan"]
    own = ", for ZS-CGAN by its generator" if {r["images_by"] for r in rows} > {"zs-cgan"} else ""
    packages = ", ".join(sorted({f"{name} {version}" for row in rows for name, version in row["packages"].items()}))
    by = "real images" if makers == [REAL] else f"images by {' and '.join(f'`{name}`' for name in makers)}"
    return (
        f"Float {first['float']:.2f} % on {first['n']:,} images; ranges and start from {first['images']} {by}{own}; "
        f"{first.get('judges') or 'a quarter as many'} judge.\n"
        f"Machine: {values('machine')}; threads {values('threads')}; {packages}; commits {values('commit')}.\n\n"
        + "\n".join([HEAD, *lines])
        + "\n"
    )


def _ablation(main: Sequence[Row], changed: Sequence[Row]) -> str:
    beside = {(r["seed"], int(r["steps"])) for r in changed}
    same = [r for r in main if r["method"] == "zaq" and (r["seed"], _steps(r)) in beside]
    lines = _lines("nothing changed", same, "zaq")
    for name in sorted({r["variant"] for r in changed}):
        lines += _lines(name, [r for r in changed if r["variant"] == name], "zaq")
    return _section([*same, *changed], lines)


def _lines(label: str, rows: Sequence[Row], method: str) -> list[str]:
    """One for each number of steps."""
    rows = [row for row in rows if row["method"] == method]
    return [_line(label, [r for r in rows if _steps(r) == n]) for n in sorted({_steps(r) for r in rows})]


def _steps(row: Row) -> int:
    return int(row["facts"]["steps"]) if "facts" in row else 0


def _line(label: str, rows: Sequence[Row]) -> str:
    if failed := [r for r in rows if "failed" in r]:
        return f"| {label} | {failed[0]['steps']} | {len(rows)} | {failed[0]['failed']} |" + " – |" * 8

    def mean(key: str) -> float:
        return statistics.mean(float(r[key]) for r in rows)

    top1, drop = mean("top1"), mean("float") - mean("top1")
    spread = f" ± {statistics.stdev([float(r['top1']) for r in rows]):.2f}" if len(rows) > 1 else ""
    tuned = [r for r in rows if "facts" in r]
    gap = minutes = peak = "–"
    if tuned:
        before, after = (statistics.mean(r["facts"][k] for r in tuned) for k in ("gap_before", "gap_after"))
        gap = f"{before:.2f} → {after:.2f}"
        minutes = f"{statistics.mean(r['seconds'] for r in tuned) / 60:.1f}"
        peak = f"{max(r['peak_mib'] or 0 for r in tuned)}"
    images = f"{mean('image_seconds') / 60:.1f}"
    part = f"{mean('exact_top1'):.2f} of {mean('same_part_top1'):.2f} ({rows[0]['exact_n']})"
    return (
        f"| {label} | {_steps(rows[0])} | {len(rows)} | {top1:.2f}{spread} | {drop:+.2f} "
        f"| {100 * mean('as_float'):.2f} % | {part} | {100 * mean('agree'):.1f} % | {gap} "
        f"| {images} | {minutes} | {peak} |"
    )
