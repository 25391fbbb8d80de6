"""A level imports only levels below it, so that every file can be read knowing only what lies beneath."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "spacy_ner_arch"
LEVELS = {
    "__init__": 0,
    "tags": 0,
    "relations": 0,
    "batching": 0,
    "span_decoding": 0,
    "scorers": 1,
    "collate": 3,
    "candidates": 1,
    "gold_pairs": 2,
    "loss_weights": 1,
    "loggers": 1,
    "trees": 1,
    "padding": 0,
    "collate_pairs": 3,
    "marked_pairs": 3,
    "relation_architectures": 4,
    "nn": 0,
    "shim": 1,
    "bridge": 2,
    "formats": 1,
    "fetch": 1,
    "embeddings": 3,
    "encoders": 3,
    "architectures": 4,
    "corpora": 1,
    "calibration": 1,
    "stages": 2,
    "wordpieces": 1,
    "transformer": 4,
    "init_config": 1,
    "render": 1,
    "pipes": 3,
    "report": 3,
    "cli": 5,
}
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


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_imports_go_down(path):
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "spacy_ner_arch" and len(parts) > 1 and parts[1] != room(path):
            assert parts[1] in LEVELS, f"{path.name} imports {name}"
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
