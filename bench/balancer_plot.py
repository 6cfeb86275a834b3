"""The picture of `balancer.py`: one group of bars for each figure and dialect, as plain SVG.

The colours are readable on light and on dark ground, which stays transparent.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WIDTH, LABEL, VALUE, ROW, BAR = 760, 120, 90, 20, 13
TEXT, PEER, OURS = "#7d8590", "#8b98a8", "#2f81f7"
PANELS = (("small", "per_second", "small answers a second (more is better)"),
          ("streams", "per_second", "streams of 256 records a second (more is better)"),
          ("paced", "cpu_us", "µs of processor time per paced record (less is better)"))
DIALECTS = {"ollama": "Ollama dialect", "openai": "OpenAI dialect"}


def figure(value: float) -> str:
    """Three digits or so."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def panel(top: int, title: str, values: Mapping[str, float]) -> tuple[list[str], int]:
    """One group of bars; the height that it takes."""
    longest = max(values.values())
    lines = [f'<text x="0" y="{top + 14}" class="title">{title}</text>']
    for row, (name, value) in enumerate(values.items()):
        y = top + 22 + row * ROW
        length = (WIDTH - LABEL - VALUE) * value / longest
        kind = "ours" if name == "jarvis" else "peer"
        lines += [f'<text x="{LABEL - 8}" y="{y + BAR - 2}" text-anchor="end">{name}</text>',
                  f'<rect x="{LABEL}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}" rx="2" class="{kind}"/>',
                  f'<text x="{LABEL + length + 6:.1f}" y="{y + BAR - 2}">{figure(value)}</text>']
    return lines, 22 + len(values) * ROW + 16


def svg(repetitions: Sequence[Mapping[str, Any]], contenders: Mapping[str, Sequence[str]]) -> str:
    """The whole picture, of the repetitions' medians."""
    lines, top = [], 4
    for dialect, names in contenders.items():
        for part, key, title in PANELS:
            values = {name: statistics.median(r[dialect][name][part][key] for r in repetitions) for name in names}
            drawn, height = panel(top, f"{DIALECTS[dialect]}: {title}", values)
            lines += drawn
            top += height
    style = (f"text{{font:12px system-ui,sans-serif;fill:{TEXT}}}.title{{font-weight:600}}"
             f".peer{{fill:{PEER}}}.ours{{fill:{OURS}}}")
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" role="img" '
            'aria-label="Jarvis beside other proxies">')
    return "\n".join([head, f"<style>{style}</style>", *lines, "</svg>", ""])


def write(path: Path, repetitions: Sequence[Mapping[str, Any]], contenders: Mapping[str, Sequence[str]]) -> None:
    """Writes the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg(repetitions, contenders))
