"""Kills at random moments: a file that a command writes is complete, that of before, or not there."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from spacy.tokens import DocBin

from campaign.rows import add_row

SEED, KILLS = 0, 40
WORDS = ["Anna", "Brandt", "lives", "in", "Tarvik", "."]
TAGS = ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]


def sentences(path: Path) -> int | None:
    """Number of documents in a corpus; None without the file. Raises for a file that is not complete."""
    return len(DocBin().from_disk(path)) if path.exists() else None


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_convert(tmp_path):
    """Over nothing, and over the output of an earlier run."""
    source, target = tmp_path / "a.conll", tmp_path / "out"
    lines = "\n".join(f"{word} {tag}" for word, tag in zip(WORDS, TAGS, strict=True)) + "\n\n"
    command = [sys.executable, "-m", "spacy", "ner-arch", "convert", "-f", "conll", str(source), str(target)]
    source.write_text(lines * 7, encoding="utf8")
    subprocess.run(command, check=True, capture_output=True)
    [path] = target.glob("*.spacy")
    assert sentences(path) == 7
    source.write_text(lines * 5_000, encoding="utf8")
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    duration = time.monotonic() - start
    assert sentences(path) == 5_000
    source.write_text(lines * 7, encoding="utf8")
    subprocess.run(command, check=True, capture_output=True)
    earlier = path.read_bytes()
    source.write_text(lines * 5_000, encoding="utf8")
    chance = random.Random(SEED)
    wrong, found = [], set()
    for number in range(KILLS):
        if number < KILLS // 2:
            path.write_bytes(earlier)
        else:
            path.unlink(missing_ok=True)
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Most kills hit the last part, where the file is written.
        try:
            process.wait(duration * chance.choice([chance.uniform(0, 1.1), chance.uniform(0.8, 1.1)]))
            duration = time.monotonic() - start  # the machine has become faster
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        try:
            count = sentences(path)
        except Exception as error:
            wrong.append(f"kill {number}: {error}")
            continue
        found.add(count)
        if count not in (7, 5_000, None):
            wrong.append(f"kill {number}: {count} sentences")
        others = [other.name for other in target.iterdir() if other.suffix == ".spacy" and other != path]
        if others:
            wrong.append(f"kill {number}: {others}")
    add_row("kills of convert", KILLS, len(wrong))
    assert not wrong and len(found) > 1
