"""Write the tables of README.md and docs/reliability.md from the rows in results/. The text between them is written by
hand.

python benchmarks/readme.py
"""

import re
import statistics
from pathlib import Path
from typing import Any

from rows import RESULTS, read_rows

PAGES = [Path(__file__).with_name("README.md"), Path(__file__).parents[1] / "docs" / "reliability.md"]
# A table is everything between these two lines.
TABLE = re.compile(r"(?<=<!-- rows: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
# What a row names besides its figures. Columns that say the usual are left out.
KEYS = ("corpus", "model")
HIDDEN = {"section", "command", "cores", "python"}
USUAL = {"dtype": "float32", "device": "cpu"}
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
    row = {key: group[0][key] for key in (*KEYS, *USUAL)} | {"seed": "mean ± sd"}
    for key, value in group[0].items():
        if isinstance(value, float) and key != "minutes":
            values = [other[key] for other in group]
            digits = max(len(str(value).partition(".")[2]) for value in values)
            row[key] = f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"
    return [row]


def campaigns() -> list[Row]:
    """The last of the largest runs of each campaign of tests/campaign, and their sum."""
    runs: dict[str, Row] = {}
    for row in read_rows("reliability"):
        if row["tried"] >= runs.get(row["campaign"], row)["tried"]:
            runs[row["campaign"]] = row
    counts = ("tried", "passed", "failed")
    total = {"campaign": "all", **{key: sum(row[key] for row in runs.values()) for key in counts}}
    return [*(runs[name] for name in sorted(runs)), total]


def table(section: str) -> str:
    if section == "reliability":
        return f"\n{markdown(campaigns())}\n\n"
    if section == "families":
        families = RESULTS / "transformers.md"
        return f"\n{families.read_text(encoding='utf8') if families.exists() else ''}\n"
    rows = [row for name in ("accuracy", "speed", "review") for row in read_rows(name) if row["section"] == section]
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
    lines = [[*columns], ["---"] * len(columns)]
    lines += [[str(row.get(column, "")) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf8")
        page.write_text(TABLE.sub(lambda found: found[1] + found[2] + table(found[1]), text), encoding="utf8")


if __name__ == "__main__":
    main()
