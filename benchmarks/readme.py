"""Write the tables of the pages below from the rows in results/. The text between them is written by hand.

python benchmarks/readme.py
"""

import os
import re
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rows import RESULTS, read_rows
from systems import CHOICES, CRF_WORTH, ENCODERS, PARTS, PEERS, PUBLISHED, SPANS, TRIED, TWICE, Comparison, Figure

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "benchmarks/README.md", "docs/reliability.md", "docs/results.md")]
# A table is everything between these two lines.
TABLE = re.compile(r"(?<=<!-- rows: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
# Files of rows that have sections.
FILES = ("accuracy", "speed", "review", "distillation")
# What a row names besides its figures. Columns that say the usual are left out.
KEYS = ("corpus", "model", "label", "gold", "raw", "teachers", "steps")
HIDDEN = {"section", "command", "cores", "python"}
USUAL = {"dtype": "float32", "device": "cpu"}
# How the tables name figures whose keys are short.
HEADS = {"mib": "MiB", "kib_per_token": "KiB per token", "in_sentence": "entities in a sentence"}
Row = dict[str, Any]


def with_means(rows: list[Row]) -> list[Row]:
    """The rows, and behind the last seed of a model the mean and the standard deviation over its seeds."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in (*KEYS, *USUAL)), []).append(row)
    return [row for group in groups.values() for row in (*group, *mean_row(group))]


def mean_row(group: list[Row]) -> list[Row]:
    if len(group) < 2 or "seed" not in group[0]:
        return []
    row = {key: group[0][key] for key in (*KEYS, *USUAL) if key in group[0]} | {"seed": "mean ± sd"}
    for key, value in group[0].items():
        if isinstance(value, float) and key != "minutes":
            values = [other[key] for other in group]
            digits = max(len(str(value).partition(".")[2]) for value in values)
            row[key] = f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"
    return [row]


def campaigns(page: Path) -> list[Row]:
    """The last of the largest runs of each campaign of tests/campaign, and their sum."""
    runs: dict[str, Row] = {}
    for row in read_rows("reliability"):
        if row["tried"] >= runs.get(row["campaign"], row)["tried"]:
            runs[row["campaign"]] = row
    counts = ("tried", "passed", "failed")
    total = {"campaign": "all", **{key: sum(row[key] for row in runs.values()) for key in counts}}
    return [*(runs[name] for name in sorted(runs)), total]


def rows_of(figure: Figure) -> dict[int, Row]:
    """The rows of a figure by their seeds."""
    corpus, model = figure.run.split("/")
    wanted = {"corpus": corpus, "model": model, "dtype": figure.dtype, "device": figure.device}
    rows = (row for row in read_rows("accuracy") if all(row[key] == value for key, value in wanted.items()))
    return {row["seed"]: row for row in rows}


def scores(figure: Figure, seeds: Sequence[int] | None = None, part: str = "test") -> str:
    """Mean and standard deviation of each measure, and the number of seeds. Without `seeds`, all of them count."""
    columns = [f"{part}_{measure}" for measure in figure.measures]
    rows = {seed: row for seed, row in rows_of(figure).items() if seeds is None or seed in seeds}
    if not rows or not all(column in row for row in rows.values() for column in columns):
        return "not measured"
    values = [[row[column] for row in rows.values()] for column in columns]
    means = " / ".join(mean_and_deviation(numbers, 1) for numbers in values)
    return f"{means} ({len(rows)} seed{'s' if len(rows) > 1 else ''})"


def mean_and_deviation(values: list[float], digits: int) -> str:
    """The mean, and the standard deviation if there are several values."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def each_seed(figure: Figure) -> str:
    """The scores of each seed, in the order of the seeds."""
    rows = sorted(rows_of(figure).items())
    return "; ".join(" / ".join(f"{row[f'test_{name}']:.1f}" for name in figure.measures) for _, row in rows)


def minutes(figure: Figure) -> str:
    """Median time of training; empty if no row has it."""
    values = [row["minutes"] for row in rows_of(figure).values() if "minutes" in row]
    return f"{statistics.median(values):.0f}" if values else ""


def words_per_s(system: str) -> str:
    """Words per second in prediction; empty if there is no row."""
    found = [row["words_per_s"] for row in read_rows("speed") if system and row.get("system") == system]
    return f"{found[0]:,}" if found else ""


def config_link(line: Comparison, page: Path) -> str:
    path = os.path.relpath(ROOT / "configs" / f"{line.config}.cfg", page.parent)
    return f"[`{line.config}`]({path}), {line.setup}"


def peers(line: Comparison) -> str:
    return "; ".join(f"{peer.name} {scores(peer.figure)}" for peer in line.peers)


def choices(page: Path) -> list[Row]:
    """Which config to take for what."""
    return [
        {
            "case": line.name,
            "config": config_link(line, page),
            "test F1": f"{line.ours.task}: {scores(line.ours)}",
            "compared with": peers(line),
        }
        for line in CHOICES
    ]


def peer_lines(page: Path) -> list[Row]:
    """Ours against the peers that were run in the same way."""
    return [
        {"task": f"{line.ours.task}, {line.setup}", "ours": scores(line.ours), "peer": peers(line)} for line in PEERS
    ]


def published(repository: str, page: Path) -> list[Row]:
    """The systems of a published repository, and ours in their place."""
    return [
        {
            "system": line.name,
            "claim": line.claim,
            "known fault": line.fault,
            "our config": config_link(line, page),
            "test F1": f"{line.ours.task}: {scores(line.ours)}",
            "compared with": peers(line),
            "minutes": minutes(line.ours),
            "words/s": words_per_s(line.speed),
        }
        for line in PUBLISHED[repository]
    ]


def encoders(page: Path) -> list[Row]:
    """A bigger encoder against MiniLM."""
    return [
        {
            "config": name,
            "task": bigger.task,
            "mpnet-base, each seed": each_seed(bigger),
            "minutes on an H100": minutes(bigger),
            "MiniLM on a CPU": scores(smaller),
        }
        for name, bigger, smaller in ENCODERS
    ]


def crf_worth(page: Path) -> list[Row]:
    """What a CRF over BILUO tags gains, on the seeds that both runs have."""
    lines = []
    for name, crf, other in CRF_WORTH:
        seeds = sorted(rows_of(crf).keys() & rows_of(other).keys())
        if seeds:
            ours, theirs = ([rows_of(figure)[seed]["test_ents"] for seed in seeds] for figure in (crf, other))
            gains = [a - b for a, b in zip(ours, theirs, strict=True)]
            lines.append(
                {
                    "instead of the CRF over BILUO tags": name,
                    "CRF": mean_and_deviation(ours, 2),
                    "other": mean_and_deviation(theirs, 2),
                    "gain of the CRF": mean_and_deviation(gains, 2),
                    "seeds": len(seeds),
                }
            )
    return lines


def selection(page: Path) -> list[Row]:
    """How many sentences each way of choosing them needs."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in read_rows("review"):
        if row["section"] == "selection":
            groups.setdefault((row["corpus"], row["method"]), []).append(row)
    for rows in groups.values():
        rows.sort(key=lambda row: row["seed"])

    def each(rows: list[Row], key: str) -> str:
        return ", ".join("not reached" if row[key] is None else str(row[key]) for row in rows)

    return [
        {
            "corpus": corpus,
            "full F1": f"{rows[0]['full_ents']:.1f}",
            "method": method,
            "sentences, each seed": each(rows, "sentences"),
            "tokens, each seed": each(rows, "tokens"),
            "F1 with 300 sentences": mean_and_deviation([row["curve"][2] for row in rows], 1),
            "F1 in the last round": ", ".join(f"{row['curve'][-1]:.1f}" for row in rows),
        }
        for (corpus, method), rows in sorted(groups.items(), key=lambda item: item[0][0])
    ]


def parts(page: Path) -> list[Row]:
    """What the parts of bilstm_crf are worth, with the same seed."""
    return [{"pipeline": name, "test F1": scores(figure, seeds=[0])} for name, figure in PARTS]


def spans(page: Path) -> list[Row]:
    """Representations of spans."""
    return [{"representation": name, "exact / greedy": scores(figure, seeds=[0])} for name, figure in SPANS]


def settings(figures: Sequence[tuple[str, Figure]], seeds: Sequence[int] | None, page: Path) -> list[Row]:
    """Runs with other settings, each behind the run that it changes. Without `seeds`, all of them count."""
    return [
        {"task": figure.task, "run": name, **{part: scores(figure, seeds, part) for part in ("dev", "test")}}
        for name, figure in figures
    ]


def span_of(numbers: list[float]) -> str:
    """The smallest and the largest number."""
    return f"{min(numbers):g} to {max(numbers):g}"


def speeds(page: Path) -> list[Row]:
    """Speed and memory against other implementations."""
    rows = read_rows("speed")
    systems = {row["system"]: row for row in rows if "system" in row}

    def of(section: str, key: str, **values: str) -> list[float]:
        wanted = {"section": section, **values}
        return [row[key] for row in rows if key in row and all(row.get(k) == v for k, v in wanted.items())]

    ours, spacy_ner = systems["conll2003/bilstm_crf"], systems["conll2003/spacy_ner"]
    words = (
        f"{ours['words_per_s']:,} words per second, {ours['ratio']:g} times as fast as spaCy `ner` "
        f"({spacy_ner['words_per_s']:,})"
    )
    on_disk = f"model {ours['model_mib']} MiB against {spacy_ner['model_mib']}"
    loss, decoding = (span_of(of("crf", "ratio", what=what)) for what in ("loss and gradient", "decoding"))
    training, prediction = (
        f"{systems['ours'][key]:g} times the speed of a plain PyTorch loop in float32, in bfloat16 "
        f"{systems['ours, bfloat16'][key]:g}; spaCy `ner` {systems['spacy ner'][key]:g}"
        for key in ("train_ratio", "predict_ratio")
    )
    shares = [round(100 * row["ours_mib"] / row["plain_mib"]) for row in rows if "plain_mib" in row]
    on_spans = [ratio for ratio in of("prediction_spans", "ratio") if ratio != 1]
    literal, lstm = (span_of(of("syn_lstm_speed", key)) for key in ("literal_to_ours", "ours_to_lstm"))
    lines = {
        "prediction from scratch": f"{words}; {on_disk}",
        "CRF, loss and gradient": f"{loss} times as fast as pytorch-crf",
        "CRF, decoding": f"{decoding} times as fast as pytorch-crf",
        "transformer with CRF, training": training,
        "transformer with CRF, prediction": prediction,
        "span classification": f"{span_of(of('spans', 'ratio'))} times as fast as a plain implementation, with "
        f"{span_of(shares)} % of its memory",
        "pipelines with spans, prediction": f"{span_of(on_spans)} times the speed of the CRF",
        "relations, 3,540 pairs": f"{span_of(of('pairs', 'ratio'))} times as fast as pooling for each pair",
        "Syn-LSTM, training step": f"{literal} times as fast as the literal implementation; {lstm} times the time of "
        "`torch.nn.LSTM`",
        "one pipeline for entities and relations": f"{max(of('prediction_joint', 'ratio')):g} times the words per "
        "second of two",
    }
    return [{"what": name, "result": result} for name, result in lines.items()]


# Tables that are not the rows of one section: functions of the page that shows them.
TABLES: dict[str, Callable[[Path], list[Row]]] = {
    "reliability": campaigns,
    "choices": choices,
    "peers": peer_lines,
    "mpnet": encoders,
    "crf_worth": crf_worth,
    "speeds": speeds,
    "parts": parts,
    "selection": selection,
    "span_representations": spans,
    "other_settings": partial(settings, TRIED, [0]),
    "twice": partial(settings, TWICE, None),
    **{repository: partial(published, repository) for repository in PUBLISHED},
}


def table(section: str, page: Path) -> str:
    if section in TABLES:
        return f"\n{markdown(TABLES[section](page))}\n\n"
    if section == "families":
        families = RESULTS / "transformers.md"
        return f"\n{families.read_text(encoding='utf8') if families.exists() else ''}\n"
    rows = [row for name in FILES for row in read_rows(name) if row["section"] == section]
    machines = sorted({f"cores used: {row['cores']}, Python {row['python']}" for row in rows})
    rows = with_means(rows) if rows and "seed" in rows[0] else rows
    return f"\n{'; '.join(machines)}.\n\n{markdown(rows)}\n\n"


def markdown(rows: list[Row]) -> str:
    """A table with the columns that are not hidden or the usual everywhere."""
    names = dict.fromkeys(key for row in rows for key in row)
    columns = [
        key
        for key in names
        if key not in HIDDEN and any(row.get(key, USUAL.get(key)) != USUAL.get(key) for row in rows)
    ]
    lines = [[HEADS.get(column, column) for column in columns], ["---"] * len(columns)]
    lines += [[str(row.get(column, "")) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def with_tables(page: Path, text: str) -> str:
    """The text of a page with its tables made anew."""
    return TABLE.sub(lambda found: found[1] + found[2] + table(found[1], page), text)


def main() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf8")
        page.write_text(with_tables(page, text), encoding="utf8")


if __name__ == "__main__":
    main()
