"""Writes docs/benchmarks.md from `results/*.json` and the remarks in `notes/*.md`."""

from __future__ import annotations

import json
from pathlib import Path

import harness

ORDER = ("start", "engine", "conversations", "websockets", "balancer", "postgres", "chunks")
TARGET = harness.ROOT / "docs" / "benchmarks.md"
HEAD = """# Measurements

Written by `make bench` from the raw results in `bench/results/`, where every repetition stands; the scripts are
`bench/*.py`. Do not edit: remarks come from `bench/notes/`.

Figures are medians. Where there is a peer, both sides took turns in the same run on the same machine, and the ratio is
the median of the repetitions' ratios: above 1 means that Jarvis is better by that factor. Absolute figures drift with
the machine; ratios hardly do.
"""


def number(value: float | None) -> str:
    """Three significant digits, no exponent."""
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def row(figure: dict) -> str:
    """One line of a table."""
    verdict = {None: "", True: "met", False: "**missed**"}[figure["met"]]
    cells = (figure["name"], figure["unit"], number(figure["jarvis"]), number(figure["peer"]), number(figure["ratio"]),
             figure["target"] or "", verdict)
    return "| " + " | ".join(cells) + " |"


def section(result: dict, remarks: str) -> str:
    """One measurement: table, circumstances, remarks."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    settings = ", ".join(f"{name}: {value}" for name, value in result["settings"].items())
    busy = max(repetition["busy_before"] for repetition in result["repetitions"])
    lines = [
        f"## {result['title']}",
        "",
        "| figure | unit | Jarvis | peer | ratio | target | |",
        "|---|---|--:|--:|--:|---|---|",
        *map(row, result["figures"]),
        "",
        f"{result['date']}, {machine['processors']} × {machine['cpu']}, {machine['memory_mib'] // 1024} GiB, Linux "
        f"{machine['kernel']}; {len(result['repetitions'])} repetitions, processors used by others just before at most "
        f"{busy:.0%}. {versions}. {settings}.",
        "",
    ]
    picture = TARGET.parent / "images" / f"{result['name']}.svg"
    if picture.exists():
        lines += [f"![{result['title']}](images/{picture.name})", ""]
    if remarks:
        lines += [remarks.strip(), ""]
    return "\n".join(lines)


def main() -> None:
    sections = [HEAD]
    for name in ORDER:
        path = harness.BENCH / "results" / f"{name}.json"
        if not path.exists():
            sections.append(f"## `bench/{name}.py`\n\nNot measured on an idle machine yet.\n")
            continue
        notes = harness.BENCH / "notes" / f"{name}.md"
        sections.append(section(json.loads(path.read_text()), notes.read_text() if notes.exists() else ""))
    TARGET.write_text("\n".join(sections))
    print(f"written: {TARGET.relative_to(Path.cwd()) if TARGET.is_relative_to(Path.cwd()) else TARGET}")


if __name__ == "__main__":
    main()
