"""Writes README.md from the rows in results/: numbers are never typed by hand.

python benchmarks/readme.py
"""

import ast
from pathlib import Path

from rows import RESULTS, read_rows

HERE = Path(__file__).parent
HIDDEN = ("command", "cores", "python")
INTRODUCTION = """# Benchmarks

Made by `python benchmarks/readme.py` from the rows in `results/`, which the scripts here append, one for each finished
run; where a script takes names of runs, one whose row is there is not repeated. Accuracy needs the corpora below
`assets/`: those of the project's workflows are fetched by them; the others are public, and each script names its files.
"""


def section(script: Path) -> str:
    """The script's docstring, then its rows as a table."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf8"))) or ""
    title, _, prose = text.partition("\n")
    rows = read_rows(script.stem)
    columns = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in HIDDEN]
    machines = sorted({f"cores used: {row['cores']}, Python {row['python']}" for row in rows})
    lines = [f"## {title}", prose, "", f"{'; '.join(machines)}.", ""]
    lines += ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    scripts = sorted(HERE.glob("*.py"))
    sections = [section(script) for script in scripts if (RESULTS / f"{script.stem}.jsonl").exists()]
    (HERE / "README.md").write_text("\n\n".join([INTRODUCTION.strip(), *sections]) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
