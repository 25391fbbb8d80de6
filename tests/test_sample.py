"""Tests of the synthetic sample corpus in ``assets/sample`` and of its generator."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spacy_ner_arch.formats import ReadReport
from spacy_ner_arch.formats.conllu import read_conllu
from spacy_ner_arch.formats.json_spans import read_spans

ASSETS = Path(__file__).parents[1] / "assets"
SAMPLE = ASSETS / "sample"
SCRIPT = ASSETS / "generate_sample.py"
DOCUMENTS = {"train": 300, "dev": 50, "test": 50}
FILES = [f"{split}.{suffix}" for split in DOCUMENTS for suffix in ("conllu", "jsonl")]
LABELS = {"PER", "ORG", "LOC", "MISC"}
# The labels of the two entities of every relation.
RELATIONS = {
    "works_for": ("PER", "ORG"),
    "lives_in": ("PER", "LOC"),
    "based_in": ("ORG", "LOC"),
    "located_in": ("LOC", "LOC"),
    "founded_by": ("ORG", "PER"),
}

Row = dict[str, Any]
Rows = dict[str, list[Row]]
Blocks = dict[str, list[list[str]]]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_sample", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> Rows:
    """The sentences of the committed .jsonl files."""
    read = {s: (SAMPLE / f"{s}.jsonl").read_text(encoding="utf-8") for s in DOCUMENTS}
    return {split: list(map(json.loads, text.splitlines())) for split, text in read.items()}


@pytest.fixture(scope="module")
def blocks() -> Blocks:
    """The sentences of the committed .conllu files, as lists of lines."""
    read = {s: (SAMPLE / f"{s}.conllu").read_text(encoding="utf-8") for s in DOCUMENTS}
    parts = {split: text.removesuffix("\n\n").split("\n\n") for split, text in read.items()}
    return {split: [block.split("\n") for block in part] for split, part in parts.items()}


def outermost(row: Row) -> list[int]:
    """The indices of the spans that lie in no other span."""
    spans = row["spans"]
    return [
        i
        for i, (start, end, _) in enumerate(spans)
        if not any(j != i and s <= start and end <= e for j, (s, e, _) in enumerate(spans))
    ]


def comment(block: list[str], key: str) -> str:
    (value,) = [line for line in block if line.startswith(f"# {key} = ")]
    return value.split(" = ", 1)[1]


def columns(block: list[str]) -> list[list[str]]:
    return [line.split("\t") for line in block if not line.startswith("#")]


def misc(fields: list[str]) -> dict[str, str]:
    return {} if fields[9] == "_" else dict(pair.split("=") for pair in fields[9].split("|"))


def is_iob2(tags: list[str]) -> bool:
    """Whether every I- tag continues an entity of its label."""
    pairs = zip(["O", *tags], tags, strict=False)
    return all(tag[0] != "I" or before[1:] == tag[1:] for before, tag in pairs)


def has_cycle(heads: list[int]) -> bool:
    def reaches_root(token: int) -> bool:
        for _ in heads:
            token = heads[token]
        return heads[token] == token

    return not all(map(reaches_root, range(len(heads))))


def is_projective(heads: list[int]) -> bool:
    arcs = [(min(i, head), max(i, head)) for i, head in enumerate(heads) if head != i]
    return not any(a < c < b < d for a, b in arcs for c, d in arcs)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_generator_reproduces_the_committed_files(tmp_path: Path, hash_seed: str) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (SAMPLE / name).read_bytes(), name


def test_seed_changes_the_corpus(generator: ModuleType) -> None:
    corpora = [generator.make_corpus(seed) for seed in (0, 1)]
    assert corpora[0] != corpora[1]


def test_readme_has_the_counts(generator: ModuleType) -> None:
    table = generator.summary(generator.make_corpus(0))
    assert table in (ASSETS / "README.md").read_text(encoding="utf-8")


def test_trees(rows: Rows) -> None:
    for row in (row for split in rows.values() for row in split):
        heads = row["heads"]
        lengths = {len(row[key]) for key in ("tokens", "spaces", "pos", "heads", "deps")}
        roots = [i for i, head in enumerate(heads) if head == i]
        assert lengths == {len(heads)}, row["sent_id"]
        assert len(roots) == 1, row["sent_id"]
        assert [i for i, dep in enumerate(row["deps"]) if dep == "root"] == roots, row["sent_id"]
        assert not has_cycle(heads), row["sent_id"]
        assert is_projective(heads), row["sent_id"]


def test_function_words_have_no_dependents(rows: Rows) -> None:
    for row in (row for split in rows.values() for row in split):
        for head, dep in zip(row["heads"], row["deps"], strict=True):
            if row["deps"][head] in {"punct", "det", "cc", "mark", "aux", "aux:pass", "cop"}:
                pytest.fail(f"{row['sent_id']}: {dep} on {row['tokens'][head]}")
            if row["deps"][head] == "case":
                assert dep == "fixed", row["sent_id"]


def test_spans(rows: Rows) -> None:
    for row in (row for split in rows.values() for row in split):
        spans = row["spans"]
        assert spans == sorted(spans, key=lambda span: (span[0], -span[1])), row["sent_id"]
        assert len({(start, end) for start, end, _ in spans}) == len(spans), row["sent_id"]
        for start, end, label in spans:
            assert 0 <= start < end <= len(row["tokens"]), row["sent_id"]
            assert label in LABELS
            # A span is nested in another or apart from it.
            assert not any(start < s < end < e for s, e, _ in spans), row["sent_id"]


def test_relations(rows: Rows) -> None:
    for row in (row for split in rows.values() for row in split):
        allowed = outermost(row)
        for head, tail, label in row["relations"]:
            assert head != tail, row["sent_id"]
            assert head in allowed and tail in allowed, row["sent_id"]
            ends = row["spans"][head][2], row["spans"][tail][2]
            assert ends == RELATIONS[label], row["sent_id"]
        pairs = [(head, tail) for head, tail, _ in row["relations"]]
        assert len(set(pairs)) == len(pairs), row["sent_id"]


@pytest.mark.parametrize("split", DOCUMENTS)
def test_every_kind_has_positive_and_negative_pairs(rows: Rows, split: str) -> None:
    related = dict.fromkeys(RELATIONS, 0)
    unrelated = dict.fromkeys(RELATIONS, 0)
    for row in rows[split]:
        spans, found = row["spans"], {tuple(relation) for relation in row["relations"]}
        pairs = [(a, b) for a in outermost(row) for b in outermost(row) if a != b]
        for label, ends in RELATIONS.items():
            for a, b in pairs:
                if (spans[a][2], spans[b][2]) == ends:
                    (related if (a, b, label) in found else unrelated)[label] += 1
    for label in RELATIONS:
        assert related[label] >= 5, label
        assert unrelated[label] > related[label], label


def test_conllu_and_jsonl_agree(rows: Rows, blocks: Blocks) -> None:
    for split in DOCUMENTS:
        for block, row in zip(blocks[split], rows[split], strict=True):
            table = columns(block)
            heads = [int(fields[6]) - 1 for fields in table]
            assert {len(fields) for fields in table} == {10}
            assert [fields[0] for fields in table] == [str(i + 1) for i in range(len(table))]
            assert comment(block, "sent_id") == row["sent_id"]
            assert [fields[1] for fields in table] == row["tokens"]
            assert [fields[3] for fields in table] == row["pos"]
            assert [i if head < 0 else head for i, head in enumerate(heads)] == row["heads"]
            assert [fields[7] for fields in table] == row["deps"]
            spaces = [misc(fields).get("SpaceAfter") != "No" for fields in table]
            assert spaces == row["spaces"]
            tags = ["O"] * len(table)
            for start, end, label in (row["spans"][i] for i in outermost(row)):
                tags[start:end] = [f"B-{label}"] + [f"I-{label}"] * (end - start - 1)
            assert [misc(fields).get("NE", "O") for fields in table] == tags
            assert is_iob2(tags)


def test_readers_agree(rows: Rows) -> None:
    """What the two files mean is also the same to those who convert them."""
    for split in DOCUMENTS:
        reports = ReadReport(), ReadReport()
        trees = list(read_conllu(SAMPLE / f"{split}.conllu", reports[0]))
        spans = list(read_spans(SAMPLE / f"{split}.jsonl", reports[1]))
        assert [len(document) for document in trees] == [len(document) for document in spans]
        for tree, nested in zip(chain.from_iterable(trees), chain.from_iterable(spans), strict=True):
            assert (tree.words, tree.spaces, tree.spans) == (nested.words, nested.spaces, nested.spans)
        found = [sentence.nested for document in spans for sentence in document]
        assert found == [[tuple(span) for span in row["spans"]] for row in rows[split]]
        assert reports[0].entities == reports[1].entities
        assert reports[1].only_spans == sum(len(row["spans"]) - len(outermost(row)) for row in rows[split]) > 0
        assert not reports[1].notes and not reports[1].many_labels


def test_text(rows: Rows, blocks: Blocks) -> None:
    for split in DOCUMENTS:
        for block, row in zip(blocks[split], rows[split], strict=True):
            pairs = zip(row["tokens"], row["spaces"], strict=True)
            text = "".join(token + " " * space for token, space in pairs)
            # The last space is the one before the next sentence.
            assert text == comment(block, "text") + " "


def test_spacy_tokenizes_alike(rows: Rows) -> None:
    nlp = pytest.importorskip("spacy").blank("en")
    for row in (row for split in rows.values() for row in split):
        pairs = zip(row["tokens"], row["spaces"], strict=True)
        doc = nlp.make_doc("".join(token + " " * space for token, space in pairs).rstrip())
        assert [token.text for token in doc] == row["tokens"], row["sent_id"]


def test_splits_share_no_names(generator: ModuleType, rows: Rows) -> None:
    names = {split: set[str]() for split in DOCUMENTS}
    for split in DOCUMENTS:
        for row in rows[split]:
            for start, end, _ in row["spans"]:
                capitalised = {t for t in row["tokens"][start:end] if t[0].isupper()}
                names[split] |= capitalised - generator.GENERIC_NAME_WORDS
    assert min(map(len, names.values())) > 80
    assert not names["test"] & (names["train"] | names["dev"])
    assert not names["dev"] & names["train"]


def test_splits_share_no_sentences(blocks: Blocks) -> None:
    texts = [comment(block, "text") for split in blocks.values() for block in split]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("split", DOCUMENTS)
def test_counts(rows: Rows, blocks: Blocks, split: str) -> None:
    documents = {row["doc"] for row in rows[split]}
    lines = [line for block in blocks[split] for line in block if line.startswith("# newdoc")]
    tokens = sum(len(row["tokens"]) for row in rows[split])
    assert len(documents) == len(lines) == DOCUMENTS[split]
    assert 2 * len(documents) <= len(rows[split]) <= 3 * len(documents)
    assert 10 <= tokens / len(rows[split]) <= 20
    assert {span[2] for row in rows[split] for span in row["spans"]} == LABELS
    assert {relation[2] for row in rows[split] for relation in row["relations"]} == set(RELATIONS)
    assert any(len(outermost(row)) < len(row["spans"]) for row in rows[split])
    with_entities = {row["doc"] for row in rows[split] if row["spans"]}
    with_relations = {row["doc"] for row in rows[split] if row["relations"]}
    assert with_relations < with_entities < documents


def test_vocabulary_and_size(rows: Rows) -> None:
    words = {
        token
        for split in rows.values()
        for row in split
        for token in row["tokens"]
        if token.isalpha() and token.islower()
    }
    assert len(words) >= 500
    assert sum((SAMPLE / name).stat().st_size for name in FILES) < 1_500_000
