"""Rows of results: one JSON line per finished measurement, so that a table can grow over several runs."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def read_rows(table: str, results: Path = RESULTS) -> list[dict[str, Any]]:
    """The rows of `results/TABLE.jsonl`; none if there is no such file."""
    path = results / f"{table}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()] if path.exists() else []


def has_row(table: str, results: Path = RESULTS, **keys: Any) -> bool:
    """Whether there is a row with these values."""
    return any(all(row.get(key) == value for key, value in keys.items()) for row in read_rows(table, results))


def add_row(table: str, row: dict[str, Any], results: Path = RESULTS) -> None:
    """Append a row, together with the command, the number of cores and the version of Python."""
    results.mkdir(parents=True, exist_ok=True)
    where = {
        "command": shown_command(sys.argv),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }
    with (results / f"{table}.jsonl").open("a", encoding="utf8") as file_:
        file_.write(json.dumps({**row, **where}) + "\n")
    print(row)


def shown_command(argv: Sequence[str]) -> str:
    """A command without the folders of a machine, and without `--results`, which says nothing about the row."""
    script, *arguments = argv
    if "--results" in arguments:
        place = arguments.index("--results")
        del arguments[place : place + 2]
    shown = [f"benchmarks/{Path(script).name}"]
    for argument in arguments:
        name, equals, value = argument.rpartition("=")
        shown.append(f"{name}{equals}{Path(value).name if Path(value).is_absolute() else value}")
    return " ".join(["python", *shown])


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process, whose memory is its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def peak_memory_mib() -> int:
    """Peak memory of this process. Unlike ru_maxrss, it does not include the memory of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1024


def times_in_turn(systems: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each system in each round. The systems run in turn; a first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(1 + rounds):
        for name, run in systems.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in times.items()}


def median_ms(times: list[float]) -> float:
    """Median in milliseconds."""
    return 1000 * statistics.median(times)


def median_ratio(times: list[float], reference: list[float]) -> float:
    """Median over the rounds of how many times as fast as the reference a system is."""
    return round(statistics.median(b / a for a, b in zip(times, reference, strict=True)), 2)
