"""Rows of results, for the file that the environment variable RELIABILITY_ROWS names."""

import json
import os
from pathlib import Path


def add_row(campaign: str, tried: int, failed: int) -> None:
    """Append the result of a campaign."""
    if "RELIABILITY_ROWS" in os.environ:
        row = {"campaign": campaign, "tried": tried, "passed": tried - failed, "failed": failed}
        with open(os.environ["RELIABILITY_ROWS"], "a", encoding="utf8") as file:
            file.write(json.dumps(row) + "\n")


def write_beside(name: str, text: str) -> None:
    """Write a file into the folder of the rows."""
    if "RELIABILITY_ROWS" in os.environ:
        Path(os.environ["RELIABILITY_ROWS"]).with_name(name).write_text(text, encoding="utf8")
