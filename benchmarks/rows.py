"""Rows of measurements: one json line for each finished run, so that a table grows over several sittings."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def read_rows(benchmark: str) -> list[dict[str, Any]]:
    path = RESULTS / f"{benchmark}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()] if path.exists() else []


def has_row(benchmark: str, **keys: Any) -> bool:
    """Whether a run with these keys is finished already."""
    return any(all(row.get(key) == value for key, value in keys.items()) for row in read_rows(benchmark))


def add_row(benchmark: str, **row: Any) -> None:
    """Append a finished run with the command and the machine that it ran on."""
    RESULTS.mkdir(exist_ok=True)
    where = {
        "command": " ".join(["python", *sys.argv]),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }
    with (RESULTS / f"{benchmark}.jsonl").open("a", encoding="utf8") as file_:
        file_.write(json.dumps({**row, **where}) + "\n")
    print(row)


def peak_memory_mib() -> int:
    """Of this process since it began. (Not ru_maxrss, which a child inherits from whoever started it.)"""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1024


def median_ms(run: Callable[[], Any], repeats: int = 9) -> float:
    """Median time of a call in milliseconds, after two calls that do not count."""
    run()
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
