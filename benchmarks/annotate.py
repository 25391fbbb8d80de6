"""Measure `ner-arch annotate`: documents per second of several processes, and memory over time.

    python benchmarks/annotate.py MODEL [--texts 20000] [--processes 1 2] [--engine local]

The texts are made by the generator of the sample corpus. The outputs must be the same, byte for byte. The row has the
load of the machine before each run: documents per second mean little when others use its cores.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from rows import add_row

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "assets"))

from generate_sample import TOPICS, Writer, deal_names  # noqa: E402 - found by the path above

# Seconds between two measurements of the memory.
INTERVAL = 0.5


def write_texts(path: Path, count: int) -> None:
    """Documents of one to four sentences, as json lines with an id."""
    rng = random.Random(0)
    names = deal_names(rng)["train"]
    with path.open("w", encoding="utf8") as file:
        for number in range(count):
            document = Writer(rng, names, rng.choice(TOPICS)).document()
            text = " ".join(sentence.text for sentence in document)
            file.write(json.dumps({"id": number, "text": text}, ensure_ascii=False) + "\n")


def memory_mib(pid: int) -> int:
    """Resident memory of a process and its children."""
    pages = 0
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pages = sum(int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in [pid, *children])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def measure(command: list[str]) -> tuple[float, list[int]]:
    """Seconds of a command, and its highest memory in each quarter of the time."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    memory = []
    while process.poll() is None:
        memory.append(memory_mib(process.pid))
        time.sleep(INTERVAL)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    size = -(-len(memory) // 4)
    return time.perf_counter() - start, [max(memory[i : i + size]) for i in range(0, len(memory), size)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure ner-arch annotate.")
    parser.add_argument("model")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--engine", default="local")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_texts(Path(folder) / "texts.jsonl", args.texts)
        outputs = []
        for number in args.processes:
            output = Path(folder) / f"out{number}"
            options = ["-n", str(number), "--engine", args.engine]
            load = os.getloadavg()[0]
            command = [sys.executable, "-m", "spacy", "ner-arch", "annotate", args.model, f"{folder}/texts.jsonl"]
            seconds, memory = measure([*command, str(output), *options])
            outputs.append({path.name: path.read_bytes() for path in output.glob("[!.]*")})
            row = {
                "section": "annotate",
                "processes": number,
                "engine": args.engine,
                "texts": args.texts,
                "texts_per_second": round(args.texts / seconds, 1),
                "memory_mib_by_quarter": memory,
                "load_before": round(load, 1),
            }
            if len(outputs) > 1:
                row["same_bytes"] = outputs[-1] == outputs[0]
            add_row("speed", row)


if __name__ == "__main__":
    main()
