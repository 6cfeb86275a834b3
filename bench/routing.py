"""How long people would have waited: every strategy on every synthetic load, in simulated time.

`crates/balancer/examples/routing.rs` replays them; the same program and seeds give the same figures on every machine, so
nothing has to be idle. Writes `results/routing.json` and docs/routing.md, whose remarks come from `notes/routing.md`.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import statistics
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import harness
from report import number

PAGE = harness.ROOT / "docs" / "routing.md"
# The load on which `adaptive` is to be twice as good, and what it may be elsewhere, as a part of the best other's p95.
MIXED, AT_MOST_MIXED, AT_MOST = "mixed nodes, two models", 0.5, 1.05
OURS = "adaptive"
KEPT = {"ttft": "first byte", "completion": "completion"}
PERCENTILES = ("p50", "p95")

# One replay: figures by strategy.
Replay = dict[str, dict[str, float]]
# Replays by seed, by load.
Loads = dict[str, dict[int, Replay]]

HEAD = """# How well the balancer chooses

Written by `bench/routing.py`; do not edit: remarks come from `bench/notes/routing.md`. Seconds of simulated time, the
same on every machine:

```sh
cargo build --release --package jarvis-balancer --example routing
python3 bench/routing.py --seeds {seeds}
```

Each load is half an hour of made-up conversations (`crates/balancer/src/replay/loads.rs`), made {seeds} times with
other chances: the seeds 1 to {seeds}. The strategies are the code of production; nodes and queue are simulated.
`power_of_two` and `cache_aware` are made after the descriptions of what the routers of SGLang and vLLM do, and queue at
the nodes without limit, where ours refuse those who waited for two minutes. One of these loads, or a recorded one, with
other nodes or strategies:

```sh
cargo run --release --package jarvis-balancer --example routing -- "bursts" 7 > bursts.trace
jarvis balancer replay bursts.trace --seed 7 --strategy adaptive,queue_length,power_of_two
```
"""


def figures(summary: dict, requests: int) -> dict[str, float]:
    """What is kept of one strategy's replay."""
    kept = {f"{what} {rank}": round(summary[what][rank], 3) for what in KEPT for rank in PERCENTILES}
    return kept | {"refused": round(1 - summary["completed"] / requests, 4)}


def replayed(program: Path, seeds: int) -> Loads:
    """Runs all of it."""
    lines = subprocess.run([program, str(seeds)], capture_output=True, text=True, check=True).stdout.splitlines()
    loads: Loads = collections.defaultdict(dict)
    for line in lines:
        record = json.loads(line)
        report = record["report"]
        loads[record["load"]][report["seed"]] = {
            summary["strategy"]: figures(summary, report["requests"]) for summary in report["results"]}
    return loads


def best_other(replay: Replay, key: str) -> float:
    """The least that another strategy than ours made of it."""
    return min(figure[key] for name, figure in replay.items() if name != OURS)


def ratio(replay: Replay, key: str) -> float:
    """Ours as a part of the best other's."""
    return replay[OURS][key] / best_other(replay, key)


def table(heads: dict[str, str], rows: Iterable[Iterable[str]]) -> str:
    """A table; each head with how its column is aligned."""
    lines = [heads, heads.values(), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def median_and_worst(values: Iterable[float], show: Callable[[float], str] = number) -> str:
    """Of the seeds."""
    values = list(values)
    return f"{show(statistics.median(values))} ({show(max(values))})"


def percent(share: float) -> str:
    return f"{share:.0%}"


def hundredths(value: float) -> str:
    return f"{value:.2f}"


def verdicts(loads: Loads) -> str:
    """Each load beside its target."""
    rows = []
    for name, seeds in loads.items():
        limit = AT_MOST_MIXED if name == MIXED else AT_MOST
        ratios = {seed: ratio(replay, "ttft p95") for seed, replay in seeds.items()}
        missed = [f"{seed}: {value:.2f}" for seed, value in ratios.items() if value > limit]
        verdict = f"**missed** by {len(missed)} of {len(ratios)} seeds ({', '.join(missed)})" if missed else "met"
        completion = (ratio(replay, "completion p95") for replay in seeds.values())
        rows.append((name, median_and_worst(ratios.values(), hundredths), median_and_worst(completion, hundredths),
                     f"≤ {limit:g}", verdict))
    heads = {"load": "---", "first byte, p95": "--:", "completion, p95": "--:", "target for the first byte": "---", "": "---"}
    return table(heads, rows)


def strategies(seeds: dict[int, Replay]) -> str:
    """Each strategy's figures on one load."""
    columns = {f"{what} {rank}": f"{name}, {rank}" for what, name in KEPT.items() for rank in PERCENTILES}
    rows = []
    for name in next(iter(seeds.values())):
        of_name = [replay[name] for replay in seeds.values()]
        times = [median_and_worst(figure[column] for figure in of_name) for column in columns]
        rows.append((f"`{name}`", *times, median_and_worst((figure["refused"] for figure in of_name), percent)))
    heads = {"strategy": "---", **dict.fromkeys(columns.values(), "--:"), "refused or failed": "--:"}
    return table(heads, rows)


def page(loads: Loads, seeds: int, remarks: str) -> str:
    parts = [
        HEAD.format(seeds=seeds),
        f"## `{OURS}` beside the best other\n",
        f"`{OURS}`'s time as a part of the best other strategy's, which may be another one for each seed: below 1 is better.\n"
        "The median of the seeds, and the worst of them in brackets.\n",
        verdicts(loads) + "\n",
        remarks.strip() + "\n",
        "## Each load\n",
        "Seconds from arrival, of the requests that were answered: the median of the seeds, and the worst in brackets.\n",
    ]
    parts += [f"### {name[0].upper()}{name[1:]}\n\n{strategies(replays)}\n" for name, replays in loads.items()]
    return "\n".join(parts)


def write_results(folder: Path, loads: Loads) -> None:
    """One line for each replay."""
    head = {"name": "routing", "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": harness.output_of("git", "rev-parse", "--short=12", "HEAD"),
            "unit": "s of simulated time; refused: share of the requests"}
    lines = [json.dumps({"load": name, "seed": seed, "strategies": replay})
             for name, replays in loads.items() for seed, replay in replays.items()]
    text = json.dumps(head)[:-1] + ', "repetitions": [\n' + ",\n".join(lines) + "\n]}\n"
    (folder / "routing.json").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, default=harness.TARGET / "release" / "examples" / "routing")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--out", type=Path, default=harness.BENCH / "results", help="folder of the result file")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    loads = replayed(options.program, options.seeds)
    write_results(options.out, loads)
    notes = harness.BENCH / "notes" / "routing.md"
    options.page.write_text(page(loads, options.seeds, notes.read_text() if notes.exists() else ""))
    print(verdicts(loads))


if __name__ == "__main__":
    main()
