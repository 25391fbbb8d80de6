"""Kills of `ner-arch annotate` at random moments: the output is that of one process that nothing stopped."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import TRAIN

from campaign.rows import add_row

SEED, KILLS, TEXTS = 0, 50, 6_000


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def workers_of(pid: int) -> list[int]:
    """The processes that a command has started to annotate."""
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills_of_workers_and_of_the_command(trained, tmp_path):
    trained.to_disk(tmp_path / "model")
    chance = random.Random(SEED)
    words = sorted({word for text, _ in TRAIN for word in text.split()})
    records = [
        {"id": i, "text": " ".join(chance.choices(words, k=chance.randint(1, 30)))} if i % 500 else {"id": i}
        for i in range(TEXTS)
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    target = tmp_path / "out"

    def command(folder: Path, n_process: int) -> list[str]:
        options = ["--shard-size", "150", "--batch-size", "40", "-n", str(n_process)]
        arguments = [str(tmp_path / "model"), str(tmp_path / "in.jsonl"), str(folder), *options]
        return [sys.executable, "-m", "spacy", "ner-arch", "annotate", *arguments]

    subprocess.run(command(tmp_path / "whole", 1), check=True, capture_output=True)
    expected = contents(tmp_path / "whole")
    found = [
        json.loads(line)
        for name in sorted(expected)
        if "rejects" not in name
        for line in expected[name].split(b"\n")
        if line
    ]
    assert [row["id"] for row in found if "id" in row] == [i for i in range(TEXTS) if i % 500]
    start = time.monotonic()
    subprocess.run(command(tmp_path / "two", 2), check=True, capture_output=True)
    duration = time.monotonic() - start
    assert contents(tmp_path / "two") == expected

    killed = {"worker": 0, "command": 0, "both": 0}
    wrong: list[str] = []
    seen: set[int] = set()
    finished = unfinished = 0
    process: subprocess.Popen[bytes] | None = None
    while sum(killed.values()) < KILLS or process is not None:
        if process is None:
            process = subprocess.Popen(command(target, 2), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if sum(killed.values()) == KILLS:
            process.wait()
        end = time.monotonic() + chance.uniform(0, duration)
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.01)
        workers = workers_of(process.pid)
        seen.update(workers)
        if process.poll() is not None:
            output = process.communicate()[0].decode()
            # After three kills over one shard the command gives up; the same command goes on.
            if process.returncode and "a worker died 3 times" not in output:
                wrong.append(output)
            if process.returncode == 0:
                finished += 1
                if contents(target) != expected:
                    wrong.append(f"run {finished}: another output")
                shutil.rmtree(target)
            process = None
            continue
        kind = chance.choice(list(killed))
        if kind == "worker" and not workers:
            continue
        killed[kind] += 1
        if kind == "worker":
            kill([chance.choice(workers)])
        else:
            kill([process.pid, *(workers if kind == "both" else [])])
            process.wait()
            process = None
            manifest = target / "manifest.jsonl"
            unfinished += manifest.exists() and b"totals" not in manifest.read_bytes()
    print(f"\n{killed}, {finished} runs finished, {unfinished} stopped in the middle, {duration:.0f} s for one")
    # Workers whose command was killed end by themselves.
    end = time.monotonic() + 60
    while (alive := [pid for pid in seen if Path(f"/proc/{pid}/stat").exists()]) and time.monotonic() < end:
        time.sleep(0.5)
    if alive:
        wrong.append(f"still running: {alive}")
    add_row("kills of annotate", KILLS, len(wrong))
    assert not wrong and finished and unfinished and min(killed.values()) > 5
