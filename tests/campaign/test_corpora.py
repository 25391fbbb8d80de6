"""Damaged corpora: each one is read with consistent counts, or refused with the place of the error.

RELIABILITY_ROWS is the file to which each test appends a JSON line: campaign, tried, passed, failed.
"""

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import Doc, DocBin

from spacy_ner_arch.annotation.relations import get_relations
from spacy_ner_arch.formats import FORMATS, ReadReport, detect_format, read_docs, split_docs, write_docbin
from spacy_ner_arch.formats.counts import SKIPPED
from spacy_ner_arch.formats.lines import FormatError

from .tool_corpora import BRAT_TEXT, GUILD, TOOL_CORPORA

NLP = spacy.blank("en")
CORPORA: dict[str, str] = {
    **TOOL_CORPORA,
    "conll": (
        "-DOCSTART- -X- O\n\n# id 1\n"
        "Ada NNP B-PER\nMoss NNP I-PER\nleft VBD O\nUpper NNP B-LOC\nTarn NNP I-LOC\n. . O\n\n"
        "Brenna NNP B-ORG\nslept VBD -\n\n-DOCSTART- -X- O\n\nQuill NNP B-PER\n, , O\n\U0001f600 SYM O\n\n"
    ),
    "conll BMES": "Ada\tB-PER\nvon\tM-PER\nMoss\tE-PER\nleft\tO\nTarn\tS-LOC\n\nÅsa\tS-PER\n \tO\nsang\tO\n\n" * 2,
    "conllu": (
        "# newdoc id = 1\n# text = We didn't leave Tarn.\n"
        "1\tWe\twe\tPRON\tPRP\t_\t4\tnsubj\t_\t_\n"
        "2-3\tdidn't\t_\t_\t_\t_\t_\t_\t_\t_\n"
        "2\tdid\tdo\tAUX\tVBD\t_\t4\taux\t_\t_\n"
        "3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_\n"
        "3.1\tghost\t_\t_\t_\t_\t_\t_\t_\tNE=B-PER\n"
        "4\tleave\tleave\tVERB\tVB\t_\t0\troot\t_\t_\n"
        "5\tTarn\tTarn\tPROPN\tNNP\t_\t4\tobj\t_\tNE=B-LOC|SpaceAfter=No\n"
        "6\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_\n\n"
        "# newdoc id = 2\n"
        "1\tÅsa\t_\tPROPN\t_\t_\t2\tnsubj\t_\tNE=B-PER\n"
        "2\tsang\t_\tVERB\t_\t_\t0\troot\t_\t_\n\n"
    ),
    "offsets": "".join(
        json.dumps(line, ensure_ascii=False) + "\n"
        for line in (
            {
                "text": "Ada Moss left Upper Tarn \U0001f600.",
                "entities": [[0, 8, "PER"], [14, 24, "LOC"], [20, 24, "LOC"]],
                "relations": [[0, 1, "left"]],
            },
            {
                "text": " Åsa sang in Tarnville.",
                "spans": [{"start": 0, "end": 4, "label": "PER"}, {"start": 13, "end": 17, "label": "LOC"}],
                "relations": [{"head": 0, "tail": 1, "label": "in"}],
                "answer": "accept",
            },
            {
                "id": 3,
                "text": "Quill met Moss",
                "label": [
                    {"id": 7, "start_offset": 0, "end_offset": 5, "label": "PER"},
                    {"id": 9, "start_offset": 10, "end_offset": 14, "label": "PER"},
                ],
                "relations": [{"from_id": 7, "to_id": 9, "type": "met"}],
            },
            {"text": "Nothing happened.", "ents": []},
        )
    ),
    "spans": "".join(
        json.dumps(line, ensure_ascii=False) + "\n"
        for line in (
            {
                "doc": "a",
                "tokens": GUILD,
                "spans": [[1, 5, "ORG"], [3, 5, "LOC"], [6, 7, "PER"]],
                "relations": [[0, 2, "r"]],
            },
            {"doc": "a", "tokens": ["Åsa", " ", "sang"], "spaces": [True, False, False], "spans": [[0, 1, "PER"]]},
            {"tokens": ["Quill"], "spans": [], "relations": []},
        )
    ),
    "spert": json.dumps(
        [
            {
                "tokens": GUILD,
                "entities": [{"type": "ORG", "start": 1, "end": 5}, {"type": "PER", "start": 6, "end": 7}],
                "relations": [{"type": "hired", "head": 0, "tail": 1}],
                "orig_id": 1,
            },
            {"tokens": ["Åsa", "sang"], "entities": [{"type": "PER", "start": 0, "end": 1}], "relations": []},
        ],
        indent=1,
        ensure_ascii=False,
    ),
    "semeval": (
        '1\t"The <e1>jam jar</e1>\'s <e2>lid</e2> is \U0001f600 lost."\nComponent-Whole(e2,e1)\nComment: invented\n\n'
        '2\t"An <e2>odd</e2> <e1>order</e1>."\nOther\nComment:\n\n'
    ),
}
UNICODE = (
    *("\0", " ", "\t", "\r", "\x1c", "\x85", "\u00a0", "\u0301", "\u200b", "\u2028", "\u202e", "\u3000", "\ufeff"),
    *("\U0001f468\u200d\U0001f469", "\U00010330"),
)
FIELD_ENDS = re.compile(rb"([\t \",:\[\]{}|=]+)")
NUMBERS = ["-1", "0", "1", "2", "7", "99", "1.5", "1e9", "99999999999999999999", "true", "null", '""', "[]", "{}"]


# Damage to a file


def flip_byte(rng: random.Random, content: bytes) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def change_lines(rng: random.Random, content: bytes) -> bytes:
    """Delete, duplicate or swap lines."""
    lines = content.splitlines(keepends=True)
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(3):
        case 0:
            del lines[first]
        case 1:
            lines.insert(second, lines[first])
        case 2:
            lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def truncate(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def swap_fields(rng: random.Random, content: bytes) -> bytes:
    """Swap two fields, often of one line; delete or duplicate one."""
    pieces = FIELD_ENDS.split(content)
    fields = range(0, len(pieces), 2)
    first = rng.choice(fields)
    second = rng.choice([i for i in fields if abs(i - first) < 9] if rng.random() < 0.7 else fields)
    match rng.randrange(4):
        case 0:
            pieces[first] = b""
        case 1:
            pieces[first] += b" " + pieces[second]
        case _:
            pieces[first], pieces[second] = pieces[second], pieces[first]
    return b"".join(pieces)


def change_number(rng: random.Random, content: bytes) -> bytes:
    numbers = list(re.finditer(rb"[0-9]+", content)) or [re.search(rb"", content)]
    match = rng.choice(numbers)
    return content[: match.start()] + rng.choice(NUMBERS).encode() + content[match.end() :]


def insert_unicode(rng: random.Random, content: bytes) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.choice(UNICODE).encode() + content[place:]


DAMAGES: list[Callable[[random.Random, bytes], bytes]] = [
    flip_byte,
    change_lines,
    truncate,
    swap_fields,
    change_number,
    insert_unicode,
]


def damage(name: str, number: int) -> bytes:
    """A corpus with one to three damages. The same name and number give the same content on every machine."""
    rng = random.Random(f"{name} {number}")
    content = CORPORA[name].encode()
    for _ in range(rng.choice([1, 1, 2, 3])):
        content = rng.choice(DAMAGES)(rng, content) or b"\n"
    return content


# What must hold


def read(path: Path, format: str, documents: bool, **options: Any) -> tuple[list[Doc], ReadReport]:
    report = ReadReport()
    grouping = {} if FORMATS[format].whole else {"documents": documents}
    docs = list(read_docs(path, NLP.vocab, format, report, tokenizer=NLP.tokenizer, **grouping, **options))
    return docs, report


def check_counts(name: str, docs: list[Doc], report: ReadReport, folder: Path) -> None:
    """The report and the Docs, also after writing and reading them again, have the same numbers."""
    write_docbin(docs, folder / "a.spacy")
    loaded = list(DocBin().from_disk(folder / "a.spacy").get_docs(NLP.vocab))
    assert [doc.to_json() for doc in loaded] == [doc.to_json() for doc in docs]
    assert sum(len(doc) for doc in loaded) == report.tokens
    counts = [len(list(doc.sents)) if doc.has_annotation("SENT_START") else 1 for doc in loaded if len(doc)]
    assert sum(counts) == report.sentences
    assert sum(len(doc.ents) for doc in loaded) == report.entities.total()
    assert sum(token.ent_iob == 0 for doc in loaded for token in doc) == report.missing
    spans = [span for doc in loaded for span in doc.spans.get("sc", ())]
    assert len(spans) == report.spans.total()
    assert all(span.text.strip() and span.label_ for span in [*spans, *(ent for doc in loaded for ent in doc.ents)])
    relations = sum(len(get_relations(doc)) for doc in loaded)
    assert relations == report.relations.total() - report.relations_dropped
    # Each document is read from one place or more, except the paragraphs of the training format of spaCy 2.
    assert report.documents + report.notes[SKIPPED] <= report.checked[SKIPPED] or name == "spacy-v2-json"
    assert report.summary()
    parts = split_docs(docs, [0.5], seed=0)
    assert sum(map(len, parts)) == len(docs)


def check(name: str, number: int, folder: Path) -> None:
    """Read a damaged corpus, first with errors raised, then with malformed sentences skipped."""
    format = name.split()[0]
    path = folder / "damaged.ann"
    content = damage(name, number)
    path.write_bytes(content)
    text = BRAT_TEXT.encode()
    if number % 3 == 0:
        text = random.Random(number).choice(DAMAGES)(random.Random(number), text)
    path.with_suffix(".txt").write_bytes(text)
    n_lines = content.count(b"\n") + 1
    strict: tuple[list[Doc], ReadReport] | None = None
    try:
        strict = read(path, format, number % 2 == 0)
        check_counts(name, *strict, folder)
    except FormatError as error:
        check_error(error, path, n_lines)
    try:
        docs, report = read(path, format, number % 2 == 0, on_error="skip")
    except FormatError as error:
        check_error(error, path, n_lines)
        assert strict is None
        return
    check_counts(name, docs, report, folder)
    if strict is None:
        assert report.notes[SKIPPED]
        for example in report.examples[SKIPPED]:
            assert example.startswith((f"{path}:", f"{path.with_suffix('.txt')}:"))
    else:
        assert [doc.to_json() for doc in docs] == [doc.to_json() for doc in strict[0]]
        assert report == strict[1] and not report.notes[SKIPPED]


def check_error(error: FormatError, path: Path, n_lines: int) -> None:
    """An error names the place and a remedy."""
    if error.path != path:
        path, n_lines = path.with_suffix(".txt"), path.with_suffix(".txt").read_bytes().count(b"\n") + 1
    assert error.path == path and 1 <= error.line_number <= n_lines
    assert error.reason and error.remedy and str(error).startswith(f"{path}:{error.line_number}: ")


def run_campaign(name: str, numbers: range, folder: Path) -> None:
    """Try damaged corpora, write a row, and fail with the numbers of those that failed."""
    failures = []
    for number in numbers:
        try:
            check(name, number, folder)
        except Exception as error:  # whatever it is, it is a failure of the campaign
            failures.append(f"damage({name!r}, {number}): {type(error).__name__}: {error}")
    row = {
        "campaign": f"damaged corpora: {name}",
        "tried": len(numbers),
        "passed": len(numbers) - len(failures),
        "failed": len(failures),
    }
    if target := os.environ.get("RELIABILITY_ROWS"):
        with open(target, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    assert not failures, "\n".join(failures[:10])


def test_corpora_cover_all_formats(tmp_path: Path) -> None:
    """Undamaged, every corpus is read, with entities."""
    assert {name.split()[0] for name in CORPORA} == set(FORMATS)
    for name, text in CORPORA.items():
        path = tmp_path / ("a.ann" if name == "brat" else "a.jsonl")
        path.write_text(text, encoding="utf-8", newline="")
        (tmp_path / "a.txt").write_text(BRAT_TEXT, encoding="utf-8", newline="")
        docs, report = read(path, name.split()[0], False)
        check_counts(name, docs, report, tmp_path)
        assert len(docs) >= 1 + (name != "brat") and report.entities.total() >= 2
        assert detect_format(path) == name.split()[0]


@pytest.mark.parametrize("name", CORPORA)
def test_line_ends_and_byte_order_marks_do_not_matter(name: str, tmp_path: Path) -> None:
    read_again = []
    for ends, start in (("\n", ""), ("\r\n", "\ufeff")):
        path = tmp_path / "a.ann"
        path.write_text(start + CORPORA[name].replace("\r", "").replace("\n", ends), encoding="utf-8", newline="")
        path.with_suffix(".txt").write_text(BRAT_TEXT, encoding="utf-8", newline="")
        docs, report = read(path, name.split()[0], False)
        read_again.append(([doc.to_json() for doc in docs], report))
    assert read_again[0] == read_again[1]


def test_damage_is_the_same_everywhere() -> None:
    assert damage("conll", 3) == damage("conll", 3)
    contents = {damage(name, number) for name in CORPORA for number in range(50)}
    assert len(contents) > 0.9 * 50 * len(CORPORA)


@pytest.mark.parametrize("name", CORPORA)
def test_damaged_corpora(name: str, tmp_path: Path) -> None:
    run_campaign(name, range(60), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CORPORA)
def test_many_damaged_corpora(name: str, tmp_path: Path) -> None:
    run_campaign(name, range(60, 2560), tmp_path)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_damaged_binary_files(suffix: str, tmp_path: Path) -> None:
    """Parquet and Arrow: pyarrow must neither crash nor give rows that are no text."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    feature = {"feature": {"names": ["O", "B-PER"], "_type": "ClassLabel"}, "_type": "Sequence"}
    table = pa.table({"tokens": [GUILD, ["Quill"]], "ner_tags": [[0] * 6 + [1, 0, 0], [1]]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": {"ner_tags": feature}}})})
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        parquet.write_table(table, path, compression="none")
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    content = path.read_bytes()
    assert len(read(path, "datasets", False)[0]) == 2
    for number in range(200):
        rng = random.Random(number)
        path.write_bytes(rng.choice([flip_byte, flip_byte, truncate])(rng, content))
        try:
            docs, report = read(path, "datasets", False, on_error=rng.choice(["raise", "skip"]))
        except FormatError as error:
            assert error.path == path and error.reason and error.remedy
        else:
            check_counts("datasets", docs, report, tmp_path)
