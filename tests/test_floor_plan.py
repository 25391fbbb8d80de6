"""A level imports only levels below it, so that every file can be read knowing only what lies beneath."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "spacy_ner_arch"
# Files and folders with their levels, as the plan in CONTRIBUTING.md has them.
PLAN = re.findall(r"^  (\w+)(?:\.py|/) +(\d)  ", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8"), flags=re.M)
LEVELS = {"__init__": 0, **{name: int(level) for name, level in PLAN}}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path):
    """Modules that a file imports, those of the package by the name of their room; imports in functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            depth = len(path.relative_to(PACKAGE).parts)
            if node.module == "spacy_ner_arch":
                yield from (f"spacy_ner_arch.{alias.name}" for alias in node.names)
            elif node.level == 0:
                yield node.module
            elif node.level == depth and node.module:
                yield f"spacy_ner_arch.{node.module}"
            elif node.level == depth:
                yield from (f"spacy_ner_arch.{alias.name}" for alias in node.names)
            else:
                yield f"spacy_ner_arch.{room(path)}"


def test_the_plan_is_complete():
    assert set(LEVELS) == {room(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_imports_go_down(path):
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "spacy_ner_arch" and len(parts) > 1 and parts[1] != room(path):
            lower = LEVELS[parts[1]] < LEVELS[room(path)]
            # nn knows the names of tags; nothing else on the lowest level knows a neighbour.
            assert lower or (room(path), parts[1]) == ("nn", "tags"), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_sides_are_kept_apart(path):
    heads = {name.split(".")[0] for name in imported(path)}
    if room(path) == "nn":
        assert not heads & {"spacy", "thinc", "spacy_transformers"}
    if room(path) in ("pipes", "formats", "corpora", "calibration", "stages", "fetch", "tags"):
        assert "torch" not in heads
    if room(path) == "__init__":
        assert not heads
    assert "crf" not in heads, "pytorch-crf installs a stray top-level module of that name"
