"""Tests of the readers of corpora: tokens, annotation, repairs, errors and counts."""

import bz2
import gzip
import json
import lzma
import pickle
import re
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from conftest import load_docs, named, run_command
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from spacy.vocab import Vocab

from spacy_ner_arch.annotation.relations import has_relations
from spacy_ner_arch.formats import FORMATS, ReadReport, detect_format, read_docs, split_docs, word_spans, write_docbin
from spacy_ner_arch.formats.conll import COMMENT, EMPTY_END, NUMBERED, RANGE, read_conll
from spacy_ner_arch.formats.conllu import (
    EMPTY_NODE,
    EMPTY_NODE_TAG,
    RANGE_TAG,
    RANGE_TAG_LEFT_OUT,
    RESPELLED,
    find_tree_fault,
    read_conllu,
)
from spacy_ner_arch.formats.counts import MISALIGNED, MISALIGNED_RELATION, SKIPPED
from spacy_ner_arch.formats.json_files import read_list
from spacy_ner_arch.formats.json_spans import read_spans, read_spert
from spacy_ner_arch.formats.lines import FormatError, Line
from spacy_ner_arch.formats.packing import docs_with_user_data
from spacy_ner_arch.formats.records import REJECTED
from spacy_ner_arch.formats.semeval import TOKEN_SPLIT, read_semeval
from spacy_ner_arch.formats.sentence import SPANS_KEY, Sentence, make_doc
from spacy_ner_arch.formats.source_tags import (
    FOREIGN,
    INSIDE_STARTS,
    LAST_STARTS,
    MISSING_TAG,
    NOT_CLOSED,
    OUTSIDE_TAG,
    Tag,
    decode_with_repairs,
    detect_scheme,
    parse_tag,
)
from spacy_ner_arch.formats.spans import (
    BLANK,
    DUPLICATE,
    DUPLICATE_RELATION,
    OTHER_LABEL,
    RELATION_LEFT_OUT,
    TRIMMED,
    widest_apart,
)
from spacy_ner_arch.formats.texts import ALIGNMENTS, MOVED
from spacy_ner_arch.formats.word_spans import align_words

SCHEMES = ("IOB1", "IOB2", "BILUO", "BIOES", "BMES", "BMEW")

# One sentence in every scheme: two adjacent entities, the second one of three tokens, and one of a single token.
WORDS = ["Ada", "Moss", "Berta", "von", "Quill", "met", "Tarn"]
SPANS = [(0, 2, "PER"), (2, 5, "PER"), (6, 7, "LOC")]
TAGS = {
    "IOB1": "I-PER I-PER B-PER I-PER I-PER O I-LOC",
    "IOB2": "B-PER I-PER B-PER I-PER I-PER O B-LOC",
    "BILUO": "B-PER L-PER B-PER I-PER L-PER O U-LOC",
    "BIOES": "B-PER E-PER B-PER I-PER E-PER O S-LOC",
    "BMES": "B-PER E-PER B-PER M-PER E-PER O S-LOC",
    "BMEW": "B-PER E-PER B-PER M-PER E-PER O W-LOC",
}
Triples = list[tuple[int, int, str]]


def write(path: Path, text: str | bytes, encoding: str = "utf-8") -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def columns(words: list[str], tags: list[str], separator: str = " ") -> str:
    return "".join(f"{word}{separator}{tag}\n" for word, tag in zip(words, tags, strict=True))


def rows(*lines: str) -> str:
    """CoNLL-U lines from short ones: id, form, head, relation, MISC."""
    text = ""
    for line in lines:
        word_id, form, head, relation, misc = line.split()
        upos, xpos = ("_", "_") if head == "_" else ("NOUN", "NN")
        text += "\t".join([word_id, form, form.lower(), upos, xpos, "_", head, relation, "_", misc]) + "\n"
    return text + "\n"


def json_lines(*lines: Any) -> str:
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)


def words_of(vocab: Vocab, text: str, make: type[Doc] = Doc) -> Doc:
    """Tokens between single spaces."""
    words = text.rstrip().split(" ")
    return make(vocab, words=words, spaces=[True] * (len(words) - 1) + [text.endswith(" ")])


def marked(text: str, relation: str = "Other", number: int = 1) -> str:
    return f'{number}\t"{text}"\n{relation}\nComment: invented\n\n'


def read(reader: Callable, path: Path, text: str | bytes, **options: Any) -> tuple[list[list[Sentence]], ReadReport]:
    report = ReadReport()
    return list(reader(write(path, text), report, **options)), report


def triples(spans: Any) -> Triples:
    return [(span.start, span.end, span.label_) for span in spans]


def relations_of(doc: Doc) -> list[tuple[Any, ...]]:
    return [(*triples([r.head])[0], *triples([r.tail])[0], r.label) for r in doc._.relations]


# conll: schemes


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("separator", [" ", "\t", "   "])
def test_every_scheme_gives_the_same_entities(tmp_path: Path, scheme: str, separator: str) -> None:
    text = columns(WORDS, TAGS[scheme].split(), separator)
    [[sentence]], report = read(read_conll, tmp_path / "a.conll", text)
    assert sentence == Sentence(WORDS, spans=SPANS)
    assert (report.documents, report.sentences, report.tokens) == (1, 1, 7) and not report.notes
    assert report.schemes == {scheme: 1} and report.entities == {"PER": 2, "LOC": 1}


def read_tags(folder: Path, *sentences: str) -> tuple[list[Sentence], ReadReport]:
    """Read sentences that are given by their tags."""
    texts = (columns([f"w{i}" for i, _ in enumerate(s.split())], s.split()) for s in sentences)
    [document], report = read(read_conll, folder / "tags.conll", "\n".join(texts))
    return document, report


def test_scheme_is_detected_for_the_whole_file(tmp_path: Path) -> None:
    """The first sentence alone would be IOB2; a later one has end tags."""
    sentences, report = read_tags(tmp_path, "B-X I-X L-X O", "O O U-Y")
    assert [s.spans for s in sentences] == [[(0, 3, "X")], [(2, 3, "Y")]]
    assert report.schemes == {"BILUO": 1} and not report.notes


def parsed(tags: str) -> list[Tag]:
    return [tag for tag in map(parse_tag, tags.split()) if tag is not None]


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("I-X I-X O", "IOB1"),
        ("I-X B-X I-Y", "IOB1"),
        ("B-X I-X O", "IOB2"),
        # B- where IOB1 writes I-: neither scheme fits, and I- is the mistake.
        ("I-X O B-X", "IOB2"),
        ("I-X B-Y", "IOB2"),
        ("O O -", "IOB2"),
    ],
)
def test_iob1_or_iob2(tags: str, scheme: str) -> None:
    assert detect_scheme([parsed(tags)]) == scheme


tag_rows = st.lists(
    st.one_of(
        st.sampled_from([OUTSIDE_TAG, MISSING_TAG]), st.builds(Tag, st.sampled_from("BI"), st.sampled_from("XY"))
    ),
    max_size=8,
)


@given(tag_rows)
def test_iob1_and_iob2_give_the_same_entities(tags: list[Tag]) -> None:
    """The choice between the two decides what is a repair, not what is an entity."""
    spans = decode_with_repairs(tags, "IOB1").spans
    assert spans == decode_with_repairs(tags, "IOB2").spans
    sentence = Sentence(["w"] * len(tags), spans=spans)
    written = ["O" if tag == MISSING_TAG else "-".join(filter(None, tag)) for tag in tags]
    fitting = [scheme for scheme in ("IOB1", "IOB2") if encode(sentence, scheme) == written]
    if spans and fitting:
        assert fitting == [detect_scheme([tags])]
        assert not decode_with_repairs(tags, detect_scheme([tags])).repairs


@pytest.mark.parametrize(
    ("tags", "spans", "repairs"),
    [
        # IOB2
        ("B-X O I-X", [(0, 1, "X"), (2, 3, "X")], {INSIDE_STARTS: 1}),
        ("B-X I-Y I-Y", [(0, 1, "X"), (1, 3, "Y")], {INSIDE_STARTS: 1}),
        # BILUO
        ("B-X I-X O U-X", [(0, 2, "X"), (3, 4, "X")], {NOT_CLOSED: 1}),
        ("U-X B-X", [(0, 1, "X"), (1, 2, "X")], {NOT_CLOSED: 1}),
        ("U-X I-X L-X", [(0, 1, "X"), (1, 3, "X")], {INSIDE_STARTS: 1}),
        ("U-X O L-X", [(0, 1, "X"), (2, 3, "X")], {LAST_STARTS: 1}),
        # IOB2 mixed with BIOES, and BILUO with BIOES
        ("B-X E-X O B-Y O", [(0, 2, "X"), (3, 4, "Y")], {NOT_CLOSED: 1}),
        ("B-X E-X S-X B-Y L-Y", [(0, 2, "X"), (2, 3, "X"), (3, 5, "Y")], {FOREIGN: 1}),
        # BMES, also mixed with IOB2
        ("B-X M-X E-X O S-Y", [(0, 3, "X"), (4, 5, "Y")], {}),
        ("O M-X E-X B-Y M-Y O", [(1, 3, "X"), (3, 5, "Y")], {INSIDE_STARTS: 1, NOT_CLOSED: 1}),
        ("B-X M-X E-X B-Y I-Y E-Y", [(0, 3, "X"), (3, 6, "Y")], {FOREIGN: 1}),
        # Labels may contain hyphens.
        ("B-creative-work I-creative-work", [(0, 2, "creative-work")], {}),
    ],
)
def test_tags_that_break_the_scheme_are_repaired_and_counted(
    tmp_path: Path, tags: str, spans: Triples, repairs: dict[str, int]
) -> None:
    [sentence], report = read_tags(tmp_path, tags)
    assert sentence.spans == spans
    assert report.notes == repairs
    assert all(kind in report.summary() for kind in repairs)


def test_report_has_the_place_of_the_first_repair(tmp_path: Path) -> None:
    _, report = read_tags(tmp_path, "B-X O", "O I-X", "I-X O")
    assert report.notes == {INSIDE_STARTS: 2}
    assert report.first[INSIDE_STARTS].endswith("tags.conll:5")


# conll: documents, tokens, lines


@pytest.mark.parametrize("mark", ["-DOCSTART- -X- -X- O", "-DOCSTART- O", "-DOCSTART-", "-DOCSTART-\t-X-\tO"])
def test_document_marks_are_no_tokens(tmp_path: Path, mark: str) -> None:
    sentence = "Ada NNP B-NP B-PER\nsang VBD B-VP O\n"
    text = f"{mark}\n\n{sentence}\n{sentence}\n{mark}\n{sentence}{mark}\n\n{mark}\n"
    documents, report = read(read_conll, tmp_path / "a.conll", text)
    assert [[s.words for s in document] for document in documents] == [[["Ada", "sang"]] * 2, [["Ada", "sang"]]]
    assert (report.documents, report.sentences, report.tokens) == (2, 3, 6)


def test_sentences_before_the_first_mark_are_a_document(tmp_path: Path) -> None:
    documents, _ = read(read_conll, tmp_path / "a.conll", "Ada B-PER\n\n-DOCSTART- O\n\nsang O\n")
    assert [len(document) for document in documents] == [1, 1]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("tail", ["", "{e}", "{e} \t{e}{e}"])
def test_line_ends_byte_order_marks_and_blanks(tmp_path: Path, end: str, encoding: str, tail: str) -> None:
    text = end.join(["Ada B-PER  ", "sang O\t", " ", "", "Tarn B-LOC"]) + tail.format(e=end)
    [document], _ = read(read_conll, tmp_path / "a.conll", text.encode(encoding))
    assert [(s.words, s.spans) for s in document] == [(["Ada", "sang"], [(0, 1, "PER")]), (["Tarn"], [(0, 1, "LOC")])]


@pytest.mark.parametrize("odd", ["\u00a0", "a\u00a0b", "\u2028", "\x85", "\x1c", "\ufe0f", "#"])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_unusual_tokens_stay_whole(tmp_path: Path, odd: str, separator: str) -> None:
    words = [odd, "sang", odd]
    [[sentence]], _ = read(read_conll, tmp_path / "a.conll", columns(words, ["B-X", "O", "O"], separator))
    assert sentence.words == words


def test_tabs_allow_spaces_in_tokens(tmp_path: Path) -> None:
    [[sentence]], _ = read(read_conll, tmp_path / "a.conll", "Nova Tarn\tB-LOC\nsang\tO\n")
    assert sentence.words == ["Nova Tarn", "sang"]


def test_comments_are_counted_and_hash_tokens_kept(tmp_path: Path) -> None:
    text = "# id 7 from=nowhere\n# O\t\nAda B-PER\n# O\n\n# a remark\n\n# id 8\nsang O\n"
    [document], report = read(read_conll, tmp_path / "a.conll", text)
    assert [s.words for s in document] == [["#", "Ada", "#"], ["sang"]]
    assert report.notes == {COMMENT: 3} and report.first[COMMENT].endswith("a.conll:1")


@pytest.mark.parametrize("column", [1, -2])
def test_tag_column_is_selected(tmp_path: Path, column: int) -> None:
    path = write(tmp_path / "a.conll", "Ada B-PER NNP\nsang O VBD\n")
    [doc] = read_docs(path, Vocab(), "conll", ReadReport(), column=column)
    assert triples(doc.ents) == [(0, 1, "PER")]


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [("Ada B-PER NNP\nsang O VBD\n", column, "have 3 columns") for column in (3, -4)]
    + [("Ada\nsang\n", -1, "have 1 columns")],
)
def test_missing_tag_column_is_an_error(tmp_path: Path, text: str, column: int, reason: str) -> None:
    with pytest.raises(FormatError, match=f"no tag column {column}: the lines {reason}"):
        read(read_conll, tmp_path / "a.conll", text, column=column)


@pytest.mark.parametrize("text", ["", "\n\n", "-DOCSTART- O\n"])
def test_file_without_tokens(tmp_path: Path, text: str) -> None:
    documents, report = read(read_conll, tmp_path / "a.conll", text)
    assert documents == [] and (report.documents, report.sentences) == (0, 0)


UNER = "# text = x\n1\tAda\tB-PER\t-\t-\n2\tsang\tO\t-\t-\n\n1\tTarn\tB-LOC\t-\t-\n\n"
GERMEVAL = "#\thttp://a.example [2009]\n1\tAda\tB-PER\tO\n2\tsang\tO\tO\n\n#\thttp://b\n1\tTarn\tB-LOC\tO\n"


@pytest.mark.parametrize(
    ("text", "options", "comments"),
    [
        (UNER, {}, 1),
        (UNER, {"column": 2}, 1),
        (UNER, {"column": -3}, 1),
        (GERMEVAL, {"column": 2}, 2),
        ("# global.columns = ID FORM NER\n1\tAda\tB-PER\n2\tsang\tO\n\n1\tTarn\tB-LOC\n", {}, 1),
        ("0 Ada B-PER\n1 sang O\n\n0 Tarn B-LOC\n", {}, 0),
        # Tags before the words.
        ("1 B-PER Ada\n2 O sang\n\n1 B-LOC Tarn\n", {}, 0),
        ("1-2 Adasang O\n1 Ada B-PER\n2 sang O\n2.1 it O\n\n1 Tarn B-LOC\n", {}, 0),
        # Numbers that run through the document.
        ("1 Ada B-PER\n2 sang O\n\n3 Tarn B-LOC\n", {}, 0),
        # Ranges of words without tags, also in files that have an empty last column.
        ("1-2\tAdasang\t_\n1\tAda\tB-PER\n2\tsang\tO\n2.1\tit\t_\n\n1\tTarn\tB-LOC\n", {}, 0),
        ("1-2 Adasang _ - -\n1 Ada B-PER - -\n2 sang O - -\n2.1 it _ - -\n\n1 Tarn B-LOC - -\n", {}, 0),
    ],
)
def test_a_column_of_token_numbers_is_left_out(tmp_path: Path, text: str, options: dict, comments: int) -> None:
    [document], report = read(read_conll, tmp_path / "a.tsv", text, **options)
    assert [sentence.words for sentence in document] == [["Ada", "sang"], ["Tarn"]]
    assert [sentence.spans for sentence in document] == [[(0, 1, "PER")], [(0, 1, "LOC")]]
    assert report.notes[NUMBERED] == 1 and report.notes[COMMENT] == comments
    assert report.notes[RANGE] == 2 * ("1-2" in text)
    if "column" not in options and "B-PER Ada" not in text:
        assert detect_format(tmp_path / "a.tsv") == "conll"


@pytest.mark.parametrize(
    "text",
    [
        "1 X O\n2 X O\n\n1 X O\n3 X O\n",
        "1 X O\n2 X O\n\nTarn X B-LOC\n",
        "1 X O\n\n1 X O\n",
        "1 O\n2 O\n",
        "1-2 X O\n3-4 X O\n",
        "1-2 X O\nTarn X B-LOC\n3-4 X O\n",
        # Lists of numbers, with a part of speech or another tag.
        "1 CD O\n2 CD O\n3 CD O\n\n1 CD B-N\n2 CD O\n",
        "1 B-QTY O\n2 I-QTY O\n3 I-QTY O\n",
    ],
)
def test_numbers_that_do_not_count_the_tokens_are_words(tmp_path: Path, text: str) -> None:
    [document], report = read(read_conll, tmp_path / "a.conll", text)
    words = [line.split(" ")[0] for line in text.split("\n") if line]
    assert [word for sentence in document for word in sentence.words] == words and not report.notes
    assert detect_format(tmp_path / "a.conll") == "conll"


@pytest.mark.parametrize(
    "rows", [["Ada B-PER", "Ada I-PER", "ha O", "ha O", ". O"], ["B-PER Ada", "O sang", "O in", "O a", "O day"]]
)
def test_words_and_tags_of_a_numbered_file_may_repeat(tmp_path: Path, rows: list[str]) -> None:
    text = "".join(f"{i} {row}\n" for i, row in enumerate(rows, 1))
    [[sentence]], report = read(read_conll, tmp_path / "a.conll", text)
    assert sentence.words[0] == "Ada" and len(sentence.words) == 5 and report.notes[NUMBERED] == 1


@pytest.mark.parametrize("lost", [0, 2, 4])
def test_a_lost_line_leaves_the_other_lines_numbered(tmp_path: Path, lost: int) -> None:
    lines = ["1 Ada B-PER", "2 sang O", "3 in O", "4 Tarn B-LOC", "5 . O"]
    text = "\n\n".join("\n".join(kept) for kept in [lines[:lost] + lines[lost + 1 :], lines, lines])
    [document], report = read(read_conll, tmp_path / "a.conll", text)
    assert document[1].words == ["Ada", "sang", "in", "Tarn", "."] and len(document[0].words) == 4
    assert report.notes == {NUMBERED: 1}


def test_a_bad_line_in_a_numbered_file_is_skipped_alone(tmp_path: Path) -> None:
    text = "1 Ada B-PER\n2 sang\n3 here O\n\n1 Tarn B-LOC\n2 is O\n\n1 far O\n2 away O\n"
    [document], report = read(read_conll, tmp_path / "a.conll", text, on_error="skip")
    assert [sentence.words for sentence in document] == [["Tarn", "is"], ["far", "away"]]
    assert report.notes == {NUMBERED: 1, SKIPPED: 1}


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("Ada NNP B-PER _\nsang VBD O _\n", 2),
        ("Ada B-PER _ _\nsang O _ _\n", 1),
        ("1 Ada B-PER - -\n2 sang O - -\n", 2),
    ],
)
def test_an_empty_last_column_has_no_tags(tmp_path: Path, text: str, column: int) -> None:
    [[sentence]], report = read(read_conll, tmp_path / "a.conll", text)
    assert sentence.spans == [(0, 1, "PER")] and not sentence.missing
    assert report.notes[EMPTY_END.format(column)] == 1
    assert detect_format(tmp_path / "a.conll") == "conll"
    _, report = read(read_conll, tmp_path / "a.conll", text, column=column)
    assert EMPTY_END.format(column) not in report.notes


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Ada NNP -\nsang VBD -\n", {}),
        # The tags before are those of chunks.
        ("Ada NNP B-NP -\nsang VBD B-VP -\n", {}),
        ("1 Ada B-NP -\n2 sang B-VP -\n", {"column": -1}),
    ],
)
def test_hyphens_in_the_last_column_are_not_annotated(tmp_path: Path, text: str, options: dict) -> None:
    [[sentence]], report = read(read_conll, tmp_path / "a.conll", text, **options)
    assert sentence.words == ["Ada", "sang"] and sentence.missing == [0, 1] and not sentence.spans
    assert not any("empty" in kind for kind in report.notes)
    assert detect_format(tmp_path / "a.conll") == "conll"


# conllu

TREE = rows("1 Quill 2 nsubj NE=B-PER", "2 slept 0 root SpaceAfter=No", "3 . 2 punct _")


def test_conllu_keeps_tree_tags_and_text(tmp_path: Path) -> None:
    [[sentence]], _ = read(read_conllu, tmp_path / "a.conllu", TREE)
    assert sentence == Sentence(
        words=["Quill", "slept", "."],
        spaces=[True, False, True],
        spans=[(0, 1, "PER")],
        heads=[1, 1, 1],
        deps=["nsubj", "root", "punct"],
        pos=["NOUN"] * 3,
        tags=["NN"] * 3,
        lemmas=["quill", "slept", "."],
    )
    doc = make_doc(Vocab(), [sentence, sentence])
    assert doc.text == "Quill slept. Quill slept. "
    assert not doc.has_unknown_spaces
    assert [token.head.i for token in doc] == [1, 1, 1, 4, 4, 4]
    assert [token.dep_ for token in doc][:3] == ["nsubj", "ROOT", "punct"]
    assert [sent.start for sent in doc.sents] == [0, 3]
    assert (doc[3].lemma_, doc[3].pos_, doc[3].tag_) == ("quill", "NOUN", "NN")


def test_conllu_underscore_is_a_character_or_no_value(tmp_path: Path) -> None:
    text = rows("1 _ 2 x _", "2 B 0 root _").replace("\tb\t", "\t_\t")
    [[sentence]], _ = read(read_conllu, tmp_path / "a.conllu", text)
    assert (sentence.words, sentence.lemmas) == (["_", "B"], ["_", ""])


def test_conllu_documents_and_comments(tmp_path: Path) -> None:
    text = f"# newdoc id = 1\n# text = x\n{TREE}# sent_id = 2\n{TREE}# newdoc\n\n# newdocs\n{TREE}"
    documents, report = read(read_conllu, tmp_path / "a.conllu", text.strip())
    assert [len(document) for document in documents] == [2, 1]
    assert (report.documents, report.sentences) == (2, 3)


@pytest.mark.parametrize(
    ("range_line", "text", "repairs"),
    [
        ("2-3 didn't _ _ _", "We didn't sing.", {}),
        ("2-3 didn't _ _ SpaceAfter=No", "We didn'tsing.", {}),
        ("2-3 dint _ _ _", "We did n't sing.", {RESPELLED: 1}),
    ],
)
def test_ranges_set_the_spaces_of_their_words(
    tmp_path: Path, range_line: str, text: str, repairs: dict[str, int]
) -> None:
    """Empty nodes are left out and counted."""
    lines = [
        "1 We 4 nsubj _",
        range_line,
        "2 did 4 aux _",
        "3 n't 4 advmod _",
        "3.1 ghost _ _ NE=O",
        "4 sing 0 root SpaceAfter=No",
        "5 . 4 punct SpaceAfter=No",
    ]
    [[sentence]], report = read(read_conllu, tmp_path / "a.conllu", rows(*lines))
    assert sentence.words == ["We", "did", "n't", "sing", "."]
    assert sentence.spans == []
    assert make_doc(Vocab(), [sentence]).text == text
    assert report.notes == {**repairs, EMPTY_NODE: 1}
    assert report.first[EMPTY_NODE].endswith("a.conllu:5")


def test_conllu_key_missing_tags_and_repairs(tmp_path: Path) -> None:
    lines = ["1 Ada 2 x Ent=I-PER", "2 met 0 root Ent=-", "3 Tarn 2 x Ent=O|NE=B-PER", "4 . 2 x _"]
    [[sentence]], report = read(read_conllu, tmp_path / "a.conllu", rows(*lines), misc_key="Ent")
    assert sentence.spans == [(0, 1, "PER")]
    assert sentence.missing == [1] and report.missing == 1
    assert report.notes == {INSIDE_STARTS: 1}


def test_conllu_without_trees_and_tags(tmp_path: Path) -> None:
    [[sentence]], _ = read(read_conllu, tmp_path / "a.conllu", rows("1 Ada _ _ NE=B-PER", "2 sang _ _ _"))
    assert sentence.heads is sentence.deps is sentence.pos is sentence.tags is None
    doc = make_doc(Vocab(), [sentence])
    assert not doc.has_annotation("DEP")
    assert [ent.text for ent in doc.ents] == ["Ada"]


def test_a_tree_of_one_long_chain_is_checked_in_linear_time() -> None:
    heads = [*range(2, 20_001), 0]
    start = time.process_time()
    assert find_tree_fault(heads) is None
    # 0.01 seconds on an idle machine; with a search in the path of each word 1.5 seconds.
    assert time.process_time() - start < 0.5
    assert find_tree_fault([*heads[:-2], 1, 0])[0] == 0


def test_non_projective_tree_is_one_sentence(tmp_path: Path) -> None:
    [[sentence]], _ = read(
        read_conllu, tmp_path / "a.conllu", rows("1 a 3 x _", "2 b 4 x _", "3 c 0 root _", "4 d 1 x _")
    )
    assert [sent.start for sent in make_doc(Vocab(), [sentence, sentence]).sents] == [0, 4]


@pytest.mark.parametrize(
    ("on_range", "on_words", "spans", "missing", "kind"),
    [
        ("NE=B-ORG", ("_", "_"), [(0, 1, "PER"), (1, 3, "ORG")], [], RANGE_TAG),
        ("NE=I-PER", ("_", "_"), [(0, 3, "PER")], [], RANGE_TAG),
        ("NE=-", ("_", "_"), [(0, 1, "PER")], [1, 2], RANGE_TAG),
        ("NE=O", ("_", "_"), [(0, 1, "PER")], [], None),
        ("NE=B-ORG", ("NE=B-ORG", "NE=I-ORG"), [(0, 1, "PER"), (1, 3, "ORG")], [], None),
        ("NE=B-ORG", ("_", "NE=B-ORG"), [(0, 1, "PER"), (2, 3, "ORG")], [], RANGE_TAG_LEFT_OUT),
        ("NE=O", ("NE=B-ORG", "_"), [(0, 1, "PER"), (1, 2, "ORG")], [], RANGE_TAG_LEFT_OUT),
    ],
)
def test_entity_tag_of_a_range_is_that_of_its_words(
    tmp_path: Path, on_range: str, on_words: tuple[str, str], spans: Triples, missing: list[int], kind: str | None
) -> None:
    lines = [
        "1 Ada 2 x NE=B-PER",
        f"2-3 alTarn _ _ {on_range}",
        f"2 al 0 root {on_words[0]}",
        f"3 Tarn 2 x {on_words[1]}",
    ]
    [[sentence]], report = read(read_conllu, tmp_path / "a.conllu", rows(*lines))
    assert (sentence.spans, sentence.missing) == (spans, missing)
    assert report.notes == ({kind: 1} if kind else {})
    if kind:
        tag = on_range.removeprefix("NE=")
        assert ("", f"{tmp_path / 'a.conllu'}:2: alTarn {tag}") in report.rows()


def test_entity_tag_of_an_empty_node_is_counted(tmp_path: Path) -> None:
    lines = ["1 Ada 0 root NE=B-PER", "1.1 Moss _ _ NE=I-PER", "1.2 sang _ _ NE=O"]
    [[sentence]], report = read(read_conllu, tmp_path / "a.conllu", rows(*lines))
    assert sentence.spans == [(0, 1, "PER")]
    assert report.notes == {EMPTY_NODE: 2, EMPTY_NODE_TAG: 1}
    assert ("", f"{tmp_path / 'a.conllu'}:2: Moss I-PER") in report.rows()


# spans

GUILD = {
    "doc": "a",
    "tokens": ["Guild", "of", "Upper", "Tarn", "met", "Ada", "."],
    "spans": [[2, 4, "LOC"], [0, 4, "ORG"], [3, 4, "LOC"], [5, 6, "PER"], [0, 4, "GPE"]],
}
ADA, UPPER_TARN, TARN = (0, 1, "PER"), (2, 4, "LOC"), (3, 4, "LOC")
HOME = {
    "doc": "a",
    "tokens": ["Ada", "left", "Upper", "Tarn", "."],
    # The second span is a duplicate. The positions of the others do not change.
    "spans": [[2, 4, "LOC"], [2, 4, "LOC"], [3, 4, "LOC"], [0, 1, "PER"]],
    "relations": [[3, 1, "left"], [3, 2, "left"], [2, 0, "in"], [3, 0, "left"], [3, 3, "self"]],
}


def test_all_spans_are_in_doc_spans_and_the_outermost_in_doc_ents(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json_lines(GUILD, {**GUILD, "spans": []}))
    report = ReadReport()
    [doc] = read_docs(path, Vocab(), "spans", report, documents=True)
    assert SPANS_KEY == "sc"
    assert triples(doc.spans["sc"]) == [(0, 4, "GPE"), (0, 4, "ORG"), (2, 4, "LOC"), (3, 4, "LOC"), (5, 6, "PER")]
    assert triples(doc.ents) == [(0, 4, "GPE"), (5, 6, "PER")]
    assert {token.ent_iob_ for token in doc} == {"B", "I", "O"}
    assert (report.documents, report.sentences, report.tokens) == (1, 2, 14)
    assert report.entities == {"GPE": 1, "PER": 1}
    assert report.spans == {"GPE": 1, "ORG": 1, "LOC": 2, "PER": 1}
    assert {
        ("spans in doc.spans", "5"),
        ("spans left out of doc.ents, only in doc.spans", "3"),
        ("spans with more than one label", "1"),
    } <= set(report.rows())


def test_duplicate_span_is_kept_once_and_counted(tmp_path: Path) -> None:
    spans = [[0, 2, "X"], [0, 2, "Y"], [0, 2, "X", "ignored"]]
    path = tmp_path / "a.jsonl"
    (_, [sentence]), report = read(read_spans, path, json_lines(GUILD, {"tokens": ["a", "b"], "spans": spans}))
    assert sentence.nested == [(0, 2, "X"), (0, 2, "Y")]
    assert report.spans["X"] == 1
    assert (DUPLICATE, f"1 (first at {path}:2)") in report.rows()


@pytest.mark.parametrize("format", ["spans", "spert"])
def test_white_space_can_be_a_token_but_not_the_end_of_a_span(tmp_path: Path, format: str) -> None:
    spans = [(0, 2, "PER"), (1, 2, "PER"), (2, 5, "LOC")]
    record: dict[str, Any] = {"tokens": ["Ada", "\n ", "\u00a0", "Upper", "Tarn"], "spans": spans}
    record["relations"] = [[0, 2, "left"], [1, 2, "left"]]
    if format == "spert":
        record["entities"] = [{"start": start, "end": end, "type": label} for start, end, label in record.pop("spans")]
        record["relations"] = [{"head": head, "tail": tail, "type": label} for head, tail, label in record["relations"]]
    path = write(tmp_path / "a", json.dumps([record] if format == "spert" else record))
    report = ReadReport()
    [doc] = read_docs(path, Vocab(), format, report)
    assert [token.text for token in doc] == record["tokens"]
    assert triples(doc.spans["sc"]) == [(0, 1, "PER"), (3, 5, "LOC")]
    assert relations_of(doc) == [(0, 1, "PER", 3, 5, "LOC", "left")]
    assert report.notes == {TRIMMED: 2, BLANK: 1, RELATION_LEFT_OUT: 1}
    assert any(example.endswith("[1, 2, 'PER']") for example in report.examples[BLANK])


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (read_conll, "Ada\tB-PER\n \tI-PER\n  Tarn \tB-LOC\n\u00a0\tB-LOC\n"),
        (read_conllu, rows("1 Ada _ _ NE=B-PER", "2 X _ _ NE=I-PER", "3 Tarn _ _ NE=B-LOC", "4 Y _ _ NE=B-LOC")),
    ],
)
def test_white_space_can_be_a_token_of_columns(tmp_path: Path, reader: Callable, text: str) -> None:
    text = text.replace("\tX\t", "\t \t").replace("\tY\t", "\t\u00a0\t")
    [[sentence]], report = read(reader, tmp_path / "a", text)
    assert sentence.words == ["Ada", " ", "Tarn", "\u00a0"]
    assert sentence.spans == [(0, 1, "PER"), (2, 3, "LOC")]
    assert report.notes == {TRIMMED: 1, BLANK: 1}


def test_keys_that_are_not_read_are_counted(tmp_path: Path) -> None:
    _, report = read(
        read_spans, tmp_path / "a.jsonl", json_lines({**GUILD, "relation": [], "id": 1}, {**GUILD, "id": 2})
    )
    assert ("keys that are not read", "id (2), relation (1)") in report.rows()


@pytest.mark.parametrize("format", ["spans", "spert"])
def test_rejected_texts_are_left_out_and_counted(tmp_path: Path, format: str) -> None:
    good = spert_object() if format == "spert" else GUILD
    records = [{**good, "answer": "accept"}, {**good, "answer": "reject"}, {"answer": "ignore"}, good]
    path = write(tmp_path / "a", json.dumps(records) if format == "spert" else json_lines(*records))
    report = ReadReport()
    assert len(list(read_docs(path, Vocab(), format, report))) == report.sentences == 2
    assert report.notes == dict.fromkeys(REJECTED.values(), 1)


@pytest.mark.parametrize(
    ("spans", "chosen"),
    [
        ([], []),
        # Two crossing spans of the same width: the first one. A wider one goes before both.
        ([(1, 3, "X"), (0, 2, "X")], [(0, 2, "X")]),
        ([(0, 2, "X"), (1, 4, "X"), (3, 5, "X")], [(1, 4, "X")]),
        # Spans beside the widest one are selected as well.
        ([(0, 1, "X"), (0, 2, "X"), (1, 4, "X")], [(0, 1, "X"), (1, 4, "X")]),
        ([(4, 5, "Z"), (4, 5, "Y"), (0, 3, "X")], [(0, 3, "X"), (4, 5, "Y")]),
    ],
)
def test_widest_spans_apart(spans: Triples, chosen: Triples) -> None:
    assert widest_apart(spans) == widest_apart(spans[::-1]) == chosen


def test_consecutive_lines_of_one_doc_are_one_document(tmp_path: Path) -> None:
    docs = ["a", "a", None, None, "b", "a", 1, 1]
    lines: list[Any] = [{"doc": doc, "tokens": [str(i)], "spans": []} for i, doc in enumerate(docs)]
    del lines[2]["doc"]
    documents, report = read(read_spans, tmp_path / "a.jsonl", json_lines(*lines[:3], "  ", *lines[3:]))
    words = [[s.words[0] for s in document] for document in documents]
    assert words == [["0", "1"], ["2"], ["3"], ["4"], ["5"], ["6", "7"]]
    assert report.documents == 6


def test_spaces_of_spans(tmp_path: Path) -> None:
    line = {"tokens": ["Tarn", "."], "spaces": [False, True], "spans": [[0, 1, "LOC"]]}
    path = write(tmp_path / "a.jsonl", json_lines(line, {**line, "spaces": None}))
    known, unknown = read_docs(path, Vocab(), "spans", ReadReport())
    assert known.text == "Tarn. " and not known.has_unknown_spaces
    assert unknown.has_unknown_spaces


def test_relations_of_spans(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    [[none, sentence]], report = read(read_spans, path, json_lines({**HOME, "relations": []}, HOME))
    assert none.relations == []
    assert sentence.nested == [UPPER_TARN, TARN, ADA] and sentence.spans == [ADA, UPPER_TARN]
    assert sentence.relations == [
        (ADA, UPPER_TARN, "left"),
        (ADA, TARN, "left"),
        (TARN, UPPER_TARN, "in"),
        (ADA, ADA, "self"),
    ]
    assert report.relations == {"left": 2, "in": 1, "self": 1}
    assert {
        ("relations", "4"),
        ("relations left", "2"),
        (DUPLICATE_RELATION, f"1 (first at {path}:2)"),
        ("relations with an argument left out of doc.ents", "2"),
    } <= set(report.rows())
    [doc] = read_docs(path, Vocab(), "spans", ReadReport(), documents=True)
    assert relations_of(doc) == [
        (5, 6, "PER", 5, 6, "PER", "self"),
        (5, 6, "PER", 7, 9, "LOC", "left"),
        (5, 6, "PER", 8, 9, "LOC", "left"),
        (8, 9, "LOC", 7, 9, "LOC", "in"),
    ]
    write_docbin([doc], tmp_path / "a.spacy")
    assert [relations_of(loaded) for loaded in load_docs(tmp_path / "a.spacy")] == [relations_of(doc)]


def test_relations_of_a_doc_with_a_sentence_without_the_layer_are_dropped_and_counted(tmp_path: Path) -> None:
    bare = {key: value for key, value in HOME.items() if key != "relations"}
    path = write(tmp_path / "a.jsonl", json_lines(HOME, {**bare, "relations": None}, {**bare, "doc": "b"}))
    report = ReadReport()
    assert not any(has_relations(doc) for doc in read_docs(path, Vocab(), "spans", report, documents=True))
    assert ("relations dropped, as other sentences of the Doc have none", "4") in report.rows()
    assert ("sentences annotated with relations", "1 of 3") in report.rows()
    report = ReadReport()
    docs = list(read_docs(path, Vocab(), "spans", report))
    assert [has_relations(doc) for doc in docs] == [True, False, False]
    assert report.relations_dropped == 0
    _, report = read(read_spans, tmp_path / "b.jsonl", json_lines(bare))
    assert not any("relation" in name for name, _ in report.rows())


def test_sample_has_relations(tmp_path: Path) -> None:
    path = Path(__file__).parent.parent / "assets" / "sample" / "dev.jsonl"
    report = ReadReport()
    docs = list(read_docs(path, Vocab(), "spans", report, documents=True))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum(len(doc._.relations) for doc in docs) == report.relations.total()
    assert report.relations.total() == sum(len(line["relations"]) for line in lines) > 0
    assert report.relations_beside_entities == report.relations_dropped == 0


# spert


def spert_object(**changes: Any) -> dict[str, Any]:
    entities = [{"type": "LOC", "start": 2, "end": 4}, {"type": "PER", "start": 0, "end": 1, "more": 1}]
    relations = [{"type": "left", "head": 1, "tail": 0}]
    return {"tokens": HOME["tokens"], "entities": entities, "relations": relations, "orig_id": 7, **changes}


def test_spert(tmp_path: Path) -> None:
    nested = {"type": "LOC", "start": 3, "end": 4}
    twice = spert_object(entities=[*spert_object()["entities"], nested], relations=spert_object()["relations"] * 2)
    items = [spert_object(), twice, spert_object(entities=[], relations=[], spaces=0)]
    path = tmp_path / "a.json"
    ([flat], [overlaps], [empty]), report = read(read_spert, path, json.dumps(items, indent=1).encode("utf-8-sig"))
    assert flat.words == HOME["tokens"] and flat.spaces is None
    assert flat.spans == overlaps.spans == [ADA, UPPER_TARN]
    assert flat.nested == [UPPER_TARN, ADA] and overlaps.nested == [UPPER_TARN, ADA, TARN]
    assert flat.relations == overlaps.relations == [(ADA, UPPER_TARN, "left")]
    assert empty.nested == empty.relations == empty.spans == []
    assert (report.documents, report.sentences, report.relations) == (3, 3, {"left": 2})
    # The objects are on lines of their own.
    lines = json.dumps(items, indent=1).split("\n")
    number = [i for i, line in enumerate(lines, start=1) if line == " {"][1]
    assert (DUPLICATE_RELATION, f"1 (first at {path}:{number}: object 2)") in report.rows()


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    ("content", "line_number", "reason"),
    [
        (b'[\n{"tokens": [}', 2, "not a JSON list: Expecting value"),
        (b'{"tokens": ["a"]}\n{"tokens": ["b"]}\n', 2, "not a JSON list: Extra data"),
        (b"", 1, "not a JSON list"),
        (b"[" + b"1" * 9999 + b"]", 1, "not a JSON list"),
        (b"[" * 200_000 + b"]" * 200_000, 1, "not a JSON list"),
        (b'{"tokens": ["a"]}', 1, "not a JSON list"),
        (b'[\n"M\xf6ss"]', 2, "not UTF-8"),
        (b"[{}\n{}]", 2, "not a JSON list: Expecting ',' delimiter"),
        (b"[{},\n,{}]", 2, "not a JSON list: Expecting value"),
        (b"[{},{}\n", 2, "not a JSON list: Expecting ',' delimiter"),
        (b"[{},{}]\n]", 2, "not a JSON list: Extra data"),
    ],
    ids=[
        *("syntax", "JSON lines", "empty", "long number", "deep", "object", "not UTF-8"),
        *("no comma", "two commas", "not closed", "more"),
    ],
)
def test_spert_file_that_is_not_a_list(
    tmp_path: Path, content: bytes, line_number: int, reason: str, on_error: str
) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        read(read_spert, tmp_path / "bad.json", content, on_error=on_error)
    assert caught.value.line_number == line_number


def test_a_list_is_found_without_the_values_of_all_items(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"spans": [[i, i + 1] for i in range(1_000, 1_050)]}] * 4_000))
    tracemalloc.start()
    n_items = sum(1 for _ in read_list(path, ""))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Bytes and text of the file at the same time; the values of all items take 10 times the file.
    assert n_items == 4_000 and peak < 3 * path.stat().st_size


# semeval

JAR = "The <e1>jam jar</e1>'s <e2>lid</e2>."


def test_semeval(tmp_path: Path) -> None:
    texts = [
        marked(JAR, "Component-Whole(e2,e1)"),
        marked("An <e2>odd</e2>  order:\u00a0<e1>first</e1>", "Cause-Effect(e2,e1)"),
        marked(JAR, "Component-Whole(e1,e2)"),
        marked(JAR),
    ]
    documents, report = read(read_semeval, tmp_path / "a.txt", "".join(texts).replace("\n", "\r\n"))
    [[jar], [odd], [turned], [none]] = documents
    assert jar.words == ["The", "jam", "jar", "'s", "lid", "."]
    assert jar.spaces is None and jar.nested is None
    assert jar.spans == [(1, 3, "NOMINAL"), (4, 5, "NOMINAL")]
    assert jar.relations == [((4, 5, "NOMINAL"), (1, 3, "NOMINAL"), "Component-Whole")]
    assert turned.relations == [((1, 3, "NOMINAL"), (4, 5, "NOMINAL"), "Component-Whole")]
    assert none.relations == []
    assert odd.words == ["An", "odd", "order", ":", "first"]
    assert odd.relations == [((1, 2, "NOMINAL"), (4, 5, "NOMINAL"), "Cause-Effect")]
    assert (report.documents, report.sentences, report.tokens) == (4, 4, 23)
    assert report.relations == {"Component-Whole": 2, "Cause-Effect": 1}
    assert not report.notes


def test_semeval_splits_tokens_at_the_borders_of_nominals(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    [[sentence]], report = read(read_semeval, path, marked("pre<e1>Tarn</e1><e2>Quill</e2>post end"))
    assert sentence.words == ["pre", "Tarn", "Quill", "post", "end"]
    assert sentence.spans == [(1, 2, "NOMINAL"), (2, 3, "NOMINAL")]
    assert report.notes == {TOKEN_SPLIT: 1}
    # Training keeps these tokens and so the nominals.
    nlp = spacy.blank("en")
    write_docbin(read_docs(path, nlp.vocab, "semeval", ReadReport(), tokenizer=nlp.tokenizer), tmp_path / "a.spacy")
    [example] = Corpus(tmp_path / "a.spacy")(nlp)
    assert [token.text for token in example.predicted] == sentence.words
    assert has_relations(example.reference)


# Errors of all formats. Each case is a malformed sentence, the line of the error in it, and the reason.


def related(*relations: Any) -> dict[str, Any]:
    return {"tokens": ["a", "b"], "spans": [[0, 1, "X"], [1, 2, "X"]], "relations": list(relations)}


def one_token(*spans: Any) -> dict[str, Any]:
    return {"tokens": ["a"], "spans": list(spans)}


def offsets(*entities: Any) -> dict[str, Any]:
    return {"text": "Anna", "entities": list(entities)}


def offsets_with_ids(**arguments: Any) -> dict[str, Any]:
    entities = [{"id": i, "start": 0, "end": 4, "label": label} for i, label in ((7, "X"), (8, "Y"), (8, "Z"))]
    return {**offsets(*entities), "relations": [{**arguments, "type": "r"}]}


SPAN_2, RELATION_0 = "the span [{}, 'X'] is empty or outside of the 2 tokens", "relations[0]"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("reader", [read_conll, read_spans, read_spert])
def test_a_compressed_file_says_so(tmp_path: Path, reader: Callable, compress: Callable) -> None:
    with pytest.raises(FormatError, match="remedy: unpack the file, which is compressed"):
        read(reader, tmp_path / "a.gz", compress(b"Berta B-PER\n" * 50))


BAD: dict[str, list[tuple[Any, int, str]]] = {
    "conll": [
        ("Berta B-PER\nMoss PER", 2, "'PER' in column 1 is not an entity tag"),
        ("Berta B-PER\nMoss X-PER", 2, "not an entity tag"),
        ("Berta B-PER\nMoss B-", 2, "not an entity tag"),
        ("Berta B-PER\nMoss B", 2, "not an entity tag"),
        ("Berta B-PER\nMoss", 2, "1 columns where most lines of the file have 2"),
        ("Berta B-PER\nMoss NNP B-PER", 2, "3 columns where most lines of the file have 2"),
        ("Berta B-PER\n\tB-PER", 2, "the token is empty"),
        (b"Berta B-PER\nM\xf6ss B-PER", 2, "not UTF-8: invalid start byte at byte 2 of the line"),
        ("Berta B-PER\nMoss\rO O", 2, "carriage return"),
        ("-DOCSTART- O\r\rBerta B-PER", 1, "carriage return"),
        ("Berta B-PER\r\n".encode("utf-16-le"), 1, "seems to be UTF-16"),
        ("Berta B-PER\n".encode("utf-16-be"), 1, "seems to be UTF-16"),
        ("Berta B-PER\n".encode("utf-16"), 1, "seems to be UTF-16"),
        ("Berta B-PER\n# Moss is here", 2, "4 columns where most"),
    ],
    "conllu": [
        (rows("1 a 2 x _", "2 b 0 root _", "3 c 4 x _"), 3, "the head 4 is out of range"),
        (rows("1 a 2 x _", "2 b 1 x _"), 1, "no root"),
        (rows("1 a 0 root _", "2 b 0 root _"), 2, "2 roots, the words 1, 2"),
        (rows("1 a 0 root _", "2 b 3 x _", "3 c 2 x _"), 2, "cycle, the words 2, 3"),
        (rows("1 a 0 root _", "2 b 2 x _"), 2, "cycle, the words 2"),
        (rows("1 a 0 root _", "2 b ? x _"), 2, "the head '?' is not a number"),
        (rows("1 a 0 root _", "2 b _ x _"), 2, "the head '_' is not a number"),
        (rows("1 a 0 root _", "2 b 1 _ _"), 2, "no relation"),
        (rows("1 a 0 root _", "x b 1 x _"), 2, "the id is 'x', but 2 is expected"),
        (rows("1 a 0 root _", "3 b 1 x _"), 2, "the id is '3', but 2 is expected"),
        (rows("1-3 ab _ _ _", "1 a 0 root _", "2 b 1 x _"), 1, "the range 1-3 does not match"),
        (rows("1 a 0 root _", "2 b 1 x _", "1-2 ab _ _ _"), 3, "the range 1-2 does not match"),
        (rows("1-2 ab _ _ _", "1 a 0 root _", "2-3 bc _ _ _", "2 b 1 x _", "3 c 1 x _"), 3, "the range 2-3"),
        (rows("1.1 a _ _ _"), 1, "without words"),
        (rows("1 a 0 root NE=PER"), 1, "'PER' under NE"),
        (rows("1 a 0 root NE=U-PER"), 1, "'U-PER' under NE"),
        (TREE.replace("\tNOUN\t", "\tTHING\t", 1), 1, "'THING' is not a universal part of speech"),
        (TREE.replace("\tNOUN\t", "\t\t", 1), 1, "empty column"),
        (TREE.replace("\tNOUN\t", " NOUN ", 1), 1, "8 columns where CoNLL-U has 10"),
        (TREE.replace("Quill", "Qu\rill", 1), 1, "carriage return"),
        ("# a \r comment\n" + TREE, 1, "carriage return"),
        ("# a comment\r" + TREE.rstrip("\n").replace("\n", "\r"), 1, "carriage return"),
    ],
    "offsets": [
        ("no json", 1, "invalid JSON"),
        ("1" * 9999, 1, "invalid JSON"),
        ("[" * 99_999 + "]" * 99_999, 1, "invalid JSON"),
        (b'{"text": "M\xf6ss"}', 1, "not UTF-8"),
        ('{"text": "Anna", "entities": [[0, 4, "PER"]], "entities": []}', 1, "the key 'entities' is there twice"),
        (["text"], 1, "not a JSON object"),
        ({}, 1, "found none among the keys (none)"),
        (
            {"text": "Anna"},
            1,
            "exactly one key (entities, ents, label, labels, spans); found none among the keys 'text'",
        ),
        ({"text": "Anna", "tags": []}, 1, "found none among the keys 'text', 'tags'"),
        ({"text": "Anna", "entities": None}, 1, "found none among the keys 'text', 'entities'"),
        (
            {"text": "Anna", "entities": [], "spans": [[0, 4, "PER"]]},
            1,
            "found entities and spans among the keys 'text',",
        ),
        ({"text": "Anna", "ents": [], "spans": {"sc": []}, "tokens": []}, 1, "found ents and spans among"),
        ({"text": "Anna", "spans": {"sc": []}}, 1, "spans: Input should be a valid list"),
        ({"data": "Anna", "label": []}, 1, "text: Field required"),
        ({"text": 3, "label": []}, 1, "text: Input should be a valid string (found 3)"),
        (offsets([0, 9, "PER"]), 1, "the span [0, 9, 'PER'] is empty or outside of the 4 characters"),
        (offsets([2, 2, "PER"]), 1, "the span [2, 2, 'PER'] is empty"),
        (offsets([-2, 2, "PER"]), 1, "the span [-2, 2, 'PER'] is empty"),
        (offsets([0, 4]), 1, "entities[0][2]: Field required"),
        (offsets([0, True, "PER"]), 1, "entities[0][1]: Input should be a valid integer"),
        ({"text": "Anna", "label": [{"start": 0, "end": 1}]}, 1, "label[0][2]: Input should be a valid string"),
        ({"text": "Anna", "labels": "PER"}, 1, "labels: Input should be a valid list (found 'PER')"),
        ({"text": "Anna \ud800", "ents": []}, 1, "text: 'Anna \\ud800' has half of a character"),
        (offsets([0, 4, "\ud800"]), 1, "entities[0][2]: '\\ud800' has half of a character"),
        (
            offsets({"start": 0, "end": 3, "label": "X", "text": "Anna"}),
            1,
            "the entity 0-3 is 'Ann' in the text, but 'Anna'",
        ),
        ({**offsets(), "answer": "maybe"}, 1, "the answer is 'maybe'"),
        ({**offsets(), "_is_binary": 1}, 1, "_is_binary: Input should be a valid boolean"),
        ({**offsets([0, 4, "X"]), "relations": [[0, 1, "r"]]}, 1, "[0, 1, 'r'] has an argument outside of the 1 spans"),
        ({**offsets([0, 4, "X"]), "relations": [[0, 0]]}, 1, "relations[0][2]: Field required"),
        ({**offsets([0, 4, "X"]), "relations": [{"head": 0, "child": 0, "label": "r"}]}, 1, "relations[0][1]: Input"),
        ({**offsets([0, 4, "X"]), "relations": {}}, 1, "relations: Input should be a valid list"),
        (offsets_with_ids(from_id=7, to_id=9), 1, "to_id is none of the 3 entities"),
        (offsets_with_ids(from_id=7, to_id=None), 1, "to_id is none of the 3 entities"),
        (offsets_with_ids(from_id=8, to_id=7), 1, "from_id is the id of several entities"),
        (
            offsets_with_ids(head={"start": 0, "end": 4, "label": "X"}, tail={"start": 0, "end": 3, "label": "X"}),
            1,
            "tail is none of the 3 entities",
        ),
        (
            offsets_with_ids(head_span={"start": 0, "end": 4, "label": "X"}, child_span={"start": 0, "end": 3}),
            1,
            "child_span",
        ),
    ],
    "spans": [
        ("{", 1, "invalid JSON"),
        ("1" * 9999, 1, "invalid JSON"),
        ("[" * 9999 + "]" * 9999, 1, "invalid JSON"),
        (b'{"tokens": ["M\xf6ss"], "spans": []}', 1, "not UTF-8"),
        ([], 1, "not a JSON object"),
        ({"tokens": [], "spans": []}, 1, "tokens: List should have at least 1 item"),
        ({"tokens": "ab", "spans": []}, 1, "tokens: Input should be a valid list (found 'ab')"),
        ({"tokens": ["a", ""], "spans": []}, 1, "tokens[1]: the token is empty"),
        ({"tokens": [7], "spans": []}, 1, "tokens[0]: Input should be a valid string (found 7)"),
        (
            {"tokens": ["\ud800"], "spans": []},
            1,
            "tokens[0]: '\\ud800' has half of a character (a lone surrogate)",
        ),
        (one_token([0, 1, "\ud800"]), 1, "spans[0][2]: '\\ud800' has half of a character"),
        ({"tokens": ["a", "b"], "spaces": [True], "spans": []}, 1, "1 spaces for 2 tokens"),
        ({"tokens": ["a"], "spaces": [1], "spans": []}, 1, "spaces[0]: Input should be a valid boolean (found 1)"),
        ({"tokens": ["a"], "spaces": "a", "spans": []}, 1, "spaces: Input should be a valid list"),
        (
            {"tokens": ["a"], "entities": []},
            1,
            "key (spans); found entities among the keys 'tokens', 'entities'",
        ),
        ({"tokens": ["a"], "spans": None}, 1, "found none among the keys 'tokens', 'spans'"),
        ({"tokens": ["a"], "spans": [], "entities": [[0, 1, "X"]]}, 1, "found entities and spans among"),
        ({**one_token(), "doc": [1]}, 1, "doc"),
        (one_token({"start": 0}), 1, "spans[0][1]: Input should be a valid integer (found None)"),
        (one_token([0, 1]), 1, "spans[0][2]: Field required"),
        (one_token([0, 1, ""]), 1, "spans[0][2]: the label is empty"),
        (one_token([0, 1, " "]), 1, "spans[0][2]: the label is empty"),
        (one_token([0, 1, 5]), 1, "spans[0][2]: Input should be a valid string (found 5)"),
        (one_token([0, 1, "X"], [0, 1.0, "X"]), 1, "spans[1][1]: Input should be a valid integer (found 1.0)"),
        (one_token([0, True, "X"]), 1, "spans[0][1]: Input should be a valid integer (found True)"),
        ({"tokens": ["a", "b"], "spans": [[1, 1, "X"]]}, 1, SPAN_2.format("1, 1")),
        ({"tokens": ["a", "b"], "spans": [[1, 0, "X"]]}, 1, SPAN_2.format("1, 0")),
        ({"tokens": ["a", "b"], "spans": [[-1, 1, "X"]]}, 1, SPAN_2.format("-1, 1")),
        ({"tokens": ["a", "b"], "spans": [[1, 3, "X"]]}, 1, SPAN_2.format("1, 3")),
        ({**one_token(), "relations": {}}, 1, "relations: Input should be a valid list (found {})"),
        (related({}), 1, f"{RELATION_0}[0]: Input should be a valid integer (found None)"),
        (related([0, 1]), 1, f"{RELATION_0}[2]: Field required"),
        (related([0, 1, "r", 1.0]), 1, f"{RELATION_0}: Tuple should have at most 3 items"),
        (related([0, 1, ""]), 1, f"{RELATION_0}[2]: the label is empty"),
        (related([0, 1, "\ud800"]), 1, f"{RELATION_0}[2]: '\\ud800' has half of a character"),
        (related([0, True, "r"]), 1, f"{RELATION_0}[1]: Input should be a valid integer (found True)"),
        (related([2, 0, "r"]), 1, "the relation [2, 0, 'r'] has an argument outside of the 2 spans"),
        (related([0, -1, "r"]), 1, "the relation [0, -1, 'r'] has an argument outside of the 2 spans"),
    ],
    "spert": [
        ([], 1, "object 2: not a JSON object"),
        (spert_object(tokens=None), 1, "object 2: tokens: Input should be a valid list (found None)"),
        (
            {"tokens": ["a"], "spans": []},
            1,
            "object 2: the annotation belongs under exactly one key (entities); found spans",
        ),
        (spert_object(relations=None), 1, "relations: Input should be a valid list (found None)"),
        (spert_object(entities=[{"start": 0, "type": "A"}]), 1, "entities[0][1]: Input should be a valid integer"),
        (
            spert_object(entities=[{"type": "X", "start": 4, "end": 6}]),
            1,
            "the span [4, 6, 'X'] is empty or outside of the 5 tokens",
        ),
        (spert_object(relations=[{"type": "left", "head": 1}]), 1, "relations[0][1]: Input should be a valid integer"),
        (
            spert_object(relations=[{"type": "r", "head": 1, "tail": 2}]),
            1,
            "[1, 2, 'r'] has an argument outside of the 2 spans",
        ),
        (
            spert_object(relations=[{"type": 3, "head": 1, "tail": 0}]),
            1,
            "relations[0][2]: Input should be a valid string (found 3)",
        ),
    ],
    "semeval": [
        (marked(JAR)[2:], 1, "no number, tab and text in quotes"),
        (f"1\t{JAR}\nOther", 1, "no number, tab and text in quotes"),
        (marked("The lid."), 1, "the marks are missing, but <e1> </e1> <e2> </e2> are expected"),
        (marked("The <e1>lid</e1>."), 1, "the marks are <e1> </e1>, but"),
        (marked("The <e1>jam <e2>jar</e1> lid</e2>."), 1, "the marks are <e1> <e2> </e1> </e2>, but"),
        (marked(f"{JAR} <e1>x</e1>"), 1, "<e1> </e1> <e2> </e2> <e1> </e1>, but"),
        (marked("The <e1> </e1><e2>lid</e2>."), 1, "the nominal e1 has no word"),
        (f'1\t"{JAR}"', 1, "no relation on the line below"),
        (f'1\t"{JAR}"\nComment:', 2, "'Comment:' is not a relation of e1 and e2"),
        (marked(JAR, "Component-Whole"), 2, "'Component-Whole' is not a relation of e1 and e2"),
        (marked(JAR, "Cause-Effect(e1,e1)"), 2, "is not a relation of e1 and e2"),
        (marked(JAR)[:-1] + marked(JAR), 4, "neither a comment nor a blank line"),
        (f'1\t"{JAR}"\nOther\n2\t"{JAR}"\nOther', 3, "neither a comment nor a blank line"),
        (marked(JAR).encode().replace(b"jar", b"j\xf6r"), 1, "not UTF-8"),
    ],
}
GOOD = {
    "conll": "Ada B-PER\nsang O\n\n",
    "conllu": f"# newdoc\n{TREE}",
    "offsets": '{"text": "fine", "entities": []}\n',
    "spans": json_lines(GUILD),
    "spert": json.dumps(spert_object()),
    "semeval": marked(JAR),
}
BAD_CASES = [
    pytest.param(format, *case, id=f"{format} {i} {case[2]}")
    for format, cases in BAD.items()
    for i, case in enumerate(cases)
]


@pytest.mark.parametrize(("format", "bad", "line", "reason"), BAD_CASES)
def test_malformed_sentence_is_an_error_or_skipped_and_counted(
    tmp_path: Path, format: str, bad: Any, line: int, reason: str
) -> None:
    """The malformed sentence is between two good ones."""
    good = GOOD[format].encode()
    content = bad if isinstance(bad, bytes) else (bad if isinstance(bad, str) else json.dumps(bad)).encode()
    if format == "spert":
        path, line_number = write(tmp_path / "bad", b"[" + b",\n ".join([good, content, good]) + b"]"), 2
        text = content.decode()
    else:
        end = b"\n" if format in ("offsets", "spans") else b"\n\n"
        path, line_number = write(tmp_path / "bad", good + content + end + good), good.count(b"\n") + line
        text = content.split(b"\n")[line - 1].decode(errors="backslashreplace")
    options: dict[str, Any] = {"tokenizer": spacy.blank("en").tokenizer} if format == "offsets" else {}
    with pytest.raises(FormatError, match=re.escape(reason)) as caught:
        list(FORMATS[format].read(path, ReadReport(), **options))
    error = caught.value
    assert (error.path, error.line_number, error.line) == (path, line_number, text)
    assert str(error).startswith(f"{path}:{line_number}: {error.reason}\n  line: {text[:200]!r}")
    assert error.remedy and str(error).endswith(f"remedy: {error.remedy}")

    expected = ReadReport()
    list(
        FORMATS[format].read(
            write(tmp_path / "good", b"[" + good + b"]" if format == "spert" else good), expected, **options
        )
    )
    report = ReadReport()
    documents = list(FORMATS[format].read(path, report, on_error="skip", **options))
    assert sum(len(document) for document in documents) == report.sentences == 2
    assert report.notes[SKIPPED] == 1 and report.examples[SKIPPED] == [error.short] and error.short in report.summary()
    assert (SKIPPED, "1 of 3 (33.3 %)") in report.rows()
    # Nothing of the skipped sentence is counted.
    for name in ("tokens", "only_spans", "many_labels", "related_sentences"):
        assert getattr(report, name) == 2 * getattr(expected, name)
    for name in ("entities", "spans", "relations"):
        assert getattr(report, name) == getattr(expected, name) + getattr(expected, name)
    assert set(report.notes) == {SKIPPED} and not expected.notes


def test_lines_around_a_skipped_one_stay_one_document(tmp_path: Path) -> None:
    documents, report = read(read_spans, tmp_path / "a.jsonl", json_lines(GUILD, "{", GUILD), on_error="skip")
    assert [len(document) for document in documents] == [2] and report.documents == 1


def test_only_the_first_reasons_are_kept(tmp_path: Path) -> None:
    _, report = read(read_conll, tmp_path / "a.conll", "Ada O\n\n" + "Moss PER\n\n" * 18, on_error="skip")
    assert report.notes[SKIPPED] == 9 + 9
    assert len(report.examples[SKIPPED]) == 10


def test_error_can_be_pickled_and_shortens_long_lines() -> None:
    error = FormatError("a.conll", 3, "x" * 999, "too long", "cut it")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(str(error)) < 300


# Arguments of read_docs


@pytest.mark.parametrize("format", FORMATS)
def test_wrong_on_error_is_an_error(tmp_path: Path, format: str) -> None:
    with pytest.raises(ValueError, match="on_error is 'ignore'; it must be one of raise, skip"):
        read_docs(
            tmp_path / "a", Vocab(), format, ReadReport(), on_error="ignore", tokenizer=spacy.blank("en").tokenizer
        )


@pytest.mark.parametrize(
    ("format", "options", "error", "message"),
    [
        ("Brat", {}, ValueError, "unknown format 'Brat'; choose from argilla, brat, cluener, conll"),
        ("conll", {"n_sents": 0}, ValueError, "at least 1"),
        ("conll", {"n_sents": 2, "documents": True}, ValueError, "not both"),
        ("conll", {"misc_key": "NE"}, TypeError, "misc_key"),
        ("offsets", {}, ValueError, "needs a tokenizer"),
    ],
)
def test_wrong_arguments_are_errors_before_reading(
    tmp_path: Path, format: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_docs(tmp_path / "none", Vocab(), format, ReadReport(), **options)


def test_conll_needs_a_regular_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a regular file"):
        list(read_docs(tmp_path, Vocab(), "conll", ReadReport()))


@pytest.mark.parametrize(
    ("options", "lengths"),
    [
        ({}, [[1], [2], [3], [4]]),
        ({"n_sents": 2}, [[1, 2], [3], [4]]),
        ({"n_sents": 9}, [[1, 2, 3], [4]]),
        ({"documents": True}, [[1, 2, 3], [4]]),
    ],
)
def test_grouping(tmp_path: Path, options: dict[str, Any], lengths: list[list[int]]) -> None:
    sentences = ["Ada B-PER\n" * n for n in (1, 2, 3)]
    path = write(tmp_path / "a.conll", "\n".join([*sentences, "-DOCSTART- O\n", "Ada B-PER\n" * 4]))
    docs = list(read_docs(path, Vocab(), "conll", ReadReport(), **options))
    assert [[len(sent) for sent in doc.sents] for doc in docs] == lengths
    assert [len(doc.ents) for doc in docs] == [sum(sents) for sents in lengths]


# Docs


def test_layer_is_set_only_if_all_sentences_have_it() -> None:
    bare = Sentence(["Ada", "sang"])
    full = Sentence(["Tarn"], [False], heads=[0], deps=["root"], pos=["NOUN"], tags=["NN"], nested=[(0, 1, "X")])
    doc = make_doc(Vocab(), [bare, full])
    assert doc.has_unknown_spaces
    assert [sent.start for sent in doc.sents] == [0, 2]
    assert not any(doc.has_annotation(layer) for layer in ("DEP", "POS", "TAG", "LEMMA"))
    assert "sc" not in doc.spans
    doc = make_doc(Vocab(), [full, full])
    assert triples(doc.spans["sc"]) == [(0, 1, "X"), (1, 2, "X")]
    # An empty list is annotation, too.
    doc = make_doc(Vocab(), [Sentence(["a"], nested=[])])
    assert len(doc.spans["sc"]) == 0
    assert len(make_doc(Vocab(), [])) == 0


def test_training_keeps_the_tokens_of_columns(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    path = write(tmp_path / "a.conll", "Tarn-born B-MISC\ndidn't O\n")
    docs = list(read_docs(path, nlp.vocab, "conll", ReadReport(), tokenizer=nlp.tokenizer))
    assert docs[0].has_unknown_spaces
    write_docbin(docs, tmp_path / "a.spacy")
    [example] = Corpus(tmp_path / "a.spacy")(nlp)
    assert [token.text for token in example.predicted] == ["Tarn-born", "didn't"]
    assert example.get_aligned_ner() == ["U-MISC", "O"]


def test_missing_tags_stay_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Ada B-PER\nMoss I-PER\nmet -\nTarn B-LOC\n. O\n")
    report = ReadReport()
    [doc] = read_docs(path, Vocab(), "conll", report)
    assert [token.ent_iob_ for token in doc] == ["B", "I", "", "B", "O"]
    write_docbin([doc], tmp_path / "a.spacy")
    [loaded] = load_docs(tmp_path / "a.spacy")
    assert [token.ent_iob for token in loaded] == [3, 1, 0, 3, 2]
    assert report.missing == 1
    assert ("tokens without entity annotation", "1") in report.rows()


XYZ_TARN = {
    "tokens": ["Ada", "Xyz1", "Tarn"],
    "spaces": [True, False, False],
    "spans": [[0, 1, "PER"], [1, 3, "ORG"], [2, 3, "LOC"]],
    "relations": [[0, 1, "a"], [0, 2, "a"], [2, 2, "a"]],
}


@pytest.mark.parametrize(
    ("format", "text", "expected"),
    [
        (
            "conllu",
            rows("1 Ada 2 x NE=B-PER", "2 Xyz1 0 root SpaceAfter=No", "3 Tarn 2 x NE=B-LOC"),
            [(MISALIGNED, "1 of 2 (50.0 %)"), ("", "{}:1: 'Tarn' LOC starts inside of the token 'Xyz1Tarn'")],
        ),
        (
            "spans",
            json_lines(XYZ_TARN, {**XYZ_TARN, "spaces": None}),
            [
                (MISALIGNED, "1 of 3 (33.3 %)"),
                ("", "{}:1: 'Tarn' LOC starts inside of the token 'Xyz1Tarn'"),
                (MISALIGNED_RELATION, "2 of 3 (66.7 %)"),
                ("", "{}:1: 'Ada' a 'Tarn'"),
                ("", "{}:1: 'Tarn' a 'Tarn'"),
            ],
        ),
    ],
)
def test_annotation_that_does_not_align_is_counted(
    tmp_path: Path, format: str, text: str, expected: list[tuple[str, str]]
) -> None:
    """The tokenizer does not split "Xyz1Tarn". Docs with unknown spaces are not tokenized again."""
    nlp, report = spacy.blank("en"), ReadReport()
    path = write(tmp_path / "a", text)
    docs = list(read_docs(path, nlp.vocab, format, report, tokenizer=nlp.tokenizer))
    assert [len(doc.ents) for doc in docs] == [2] * len(docs)
    shown = report.rows()
    start = [name for name, _ in shown].index(MISALIGNED)
    assert shown[start : start + len(expected)] == [(name, value.format(path)) for name, value in expected]


def test_aligned_spans_and_relations_that_become_equal_are_kept_once(tmp_path: Path) -> None:
    """So it is in the format offsets. Those that were moved are among those that were checked."""
    spans, relations = [[0, 1, "LOC"], [2, 3, "LOC"], [3, 4, "X"]], [[0, 1, "R"], [1, 0, "R"], [0, 2, "S"]]
    words = {"tokens": ["New", "-", "York", "is"], "spaces": [False, False, True, False]}
    of_words = {**words, "spans": spans, "relations": relations}
    entities = [[0, 3, "LOC"], [4, 8, "LOC"], [9, 11, "X"]]
    of_text = {"text": "New-York is", "entities": entities, "relations": relations}
    nlp, reports = spacy.blank("en"), {}
    for format, item in (("spans", of_words), ("offsets", of_text)):
        path, reports[format] = write(tmp_path / "a.jsonl", json_lines(item)), ReadReport()
        tokenizer = partial(words_of, nlp.vocab)
        [doc] = read_docs(path, nlp.vocab, format, reports[format], tokenizer=tokenizer, align="expand")
        assert named(doc.spans["sc"]) == [("New-York", "LOC"), ("is", "X")]
        found = [(relation.head.text, relation.label, relation.tail.text) for relation in doc._.relations]
        assert found == [("New-York", "R", "New-York"), ("New-York", "S", "is")]
        assert reports[format].notes == {MOVED: 2, DUPLICATE: 1, DUPLICATE_RELATION: 1}
        assert reports[format].checked[MISALIGNED] == 3
    assert reports["spans"].relations == reports["offsets"].relations == {"R": 1, "S": 1}


AB_CD = [{"orth": "AB", "ner": "U-AAA"}, {"orth": "CD", "ner": "U-ZZZ"}, {"orth": "x", "ner": "O"}]
AB_CD_SPANS = {"tokens": ["AB", "CD", "x"], "spaces": [False, True, False], "spans": [[0, 1, "AAA"], [1, 2, "ZZZ"]]}


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("spacy-v2-json", json_lines({"paragraphs": [{"raw": "ABCD x", "sentences": [{"tokens": AB_CD}]}]})),
        ("conllu", rows("1 AB 0 root SpaceAfter=No|NE=B-AAA", "2 CD 1 x NE=B-ZZZ", "3 x 1 x _") + "\n"),
        ("spans", json_lines(AB_CD_SPANS)),
        ("offsets", json_lines({"text": "ABCD x", "entities": [[0, 2, "AAA"], [2, 4, "ZZZ"]]})),
    ],
)
def test_labels_are_selected_before_entities_are_aligned(tmp_path: Path, format: str, text: str) -> None:
    """AAA would take the only token of ZZZ."""
    vocab, report = Vocab(), ReadReport()
    path, tokenizer = write(tmp_path / "a", text), partial(words_of, vocab)
    [doc] = read_docs(path, vocab, format, report, tokenizer=tokenizer, align="expand", labels=["ZZZ"])
    assert named(doc.ents) == [("ABCD", "ZZZ")] and doc[-1].ent_iob_ == "O"
    assert report.notes[OTHER_LABEL] == 1 and report.entities == {"ZZZ": 1}


def test_entities_that_become_equal_are_counted_once(tmp_path: Path) -> None:
    line = Line(Path("a"), 1, "")
    spans = [(0, 1, "LOC"), (1, 2, "LOC"), (2, 3, "X"), (3, 4, "X"), (4, 6, "Y")]
    pairs = [(spans[0], spans[4], "R"), (spans[1], spans[4], "R"), (spans[2], spans[4], "R")]
    spaces = [False, True, False, False, True, False]
    sentence = Sentence([*"abcdef"], spaces, spans, relations=pairs, line=line)
    found, notes = align_words(sentence, partial(words_of, Vocab()), "expand")
    assert found.spans == [(0, 2, "LOC"), (2, 6, "Y")]
    assert found.relations == [((0, 2, "LOC"), (2, 6, "Y"), "R")]
    expected = {MOVED: 5, DUPLICATE: 1, DUPLICATE_RELATION: 1, MISALIGNED: 2, RELATION_LEFT_OUT: 1}
    assert Counter(note.kind for note in notes) == expected


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_words_are_aligned_in_linear_time(monkeypatch: pytest.MonkeyPatch, align: str) -> None:
    """The texts are joined once, and "expand" moves each span once."""
    counts: Counter[str] = Counter()

    class CountingDoc(Doc):
        @property
        def text(self) -> str:
            counts["text"] += 1
            return Doc.text.__get__(self)

    def count_moves(*args: Any) -> Any:
        counts["moves"] += 1
        return move(*args)

    move = word_spans._move
    monkeypatch.setattr(word_spans, "Doc", CountingDoc)
    monkeypatch.setattr(word_spans, "_move", count_moves)
    number = 10
    sentence = Sentence(["ab", "c"] * number, [False, True] * number, [(2 * i, 2 * i + 1, "X") for i in range(number)])
    tokenizer = partial(words_of, Vocab(), make=CountingDoc)
    found, notes = align_words(sentence, tokenizer, align)
    assert len(notes) == number and len(found.spans) == number * (align == "expand")
    assert counts == {"text": 2, "moves": number * (1 if align == "expand" else 2)}
    assert align_words(sentence, lambda text: tokenizer(f"{text}c"), align) == (sentence, [])


def test_split_is_deterministic_and_keeps_order() -> None:
    vocab = Vocab()
    docs = [Doc(vocab, words=[str(i)]) for i in range(50)]
    train, dev = split_docs(iter(docs), [0.2], seed=1)
    assert (len(train), len(dev)) == (40, 10)
    for part in (train, dev):
        assert [docs.index(doc) for doc in part] == sorted(docs.index(doc) for doc in part)
    assert set(train) | set(dev) == set(docs)
    # The same on every machine.
    assert [doc[0].text for doc in dev] == ["27", "29", "30", "33", "35", "38", "39", "42", "44", "49"]
    assert split_docs(docs, [0.2], seed=1) == (train, dev)
    assert split_docs(docs, [0.2], seed=2) != (train, dev)


@pytest.mark.parametrize(("n", "share", "n_dev"), [(0, 0.5, 0), (1, 0.9, 0), (2, 0.1, 1), (3, 0.9, 2)])
def test_split_of_few_docs_leaves_no_part_empty(n: int, share: float, n_dev: int) -> None:
    vocab = Vocab()
    train, dev = split_docs([Doc(vocab, words=[str(i)]) for i in range(n)], [share], seed=0)
    assert (len(train), len(dev)) == (n - n_dev, n_dev)


@pytest.mark.parametrize(
    ("texts", "share", "n_dev"),
    [("aabbccddee", 0.4, 4), ("aabbccddee", 0.3, 2), ("aaaaaaaaab", 0.5, 1), ("aaabbb", 0.1, 3), ("aaa", 0.5, 0)],
)
def test_docs_with_the_same_text_are_in_the_same_part(texts: str, share: float, n_dev: int) -> None:
    """A text with more Docs than the part may have stays whole; only if there is no other, the part gets larger."""
    vocab = Vocab()
    for seed in range(5):
        parts = split_docs([Doc(vocab, words=[text]) for text in texts], [share], seed)
        train, dev = ({doc[0].text for doc in part} for part in parts)
        assert not train & dev and train | dev == set(texts) and len(parts[1]) == n_dev


def test_copies_with_other_white_space_are_in_the_same_part() -> None:
    vocab = Vocab()
    copies = ["Bo met Anna.", "Bo met Anna.\n", "Bo  met Anna. ", "Bo\r\nmet\u00a0Anna."]
    texts = [text for i in range(20) for text in (f"Bo met {i}.", copies[i % 4])]
    for seed in range(5):
        parts = split_docs([Doc(vocab, words=[text], spaces=[False]) for text in texts], [0.3], seed)
        train, dev = ({"".join(doc.text.split()) for doc in part} for part in parts)
        assert dev and not train & dev


def test_a_test_part_beside_the_dev_part() -> None:
    """The dev part is the same as without it."""
    docs = [Doc(Vocab(), words=[str(i)]) for i in range(50)]
    rest, dev, test = split_docs(docs, [0.2, 0.3], seed=1)
    assert (len(rest), len(dev), len(test)) == (25, 10, 15) and set(rest) | set(dev) | set(test) == set(docs)
    assert dev == split_docs(docs, [0.2], seed=1)[1]
    assert test == sorted(test, key=docs.index)
    assert [len(part) for part in split_docs(docs[:3], [0.5, 0.4], seed=0)] == [1, 1, 1]
    groups = [[0], [1], [2, 3, 4]]
    assert sorted(len(part) for part in split_docs(docs[:5], [0.4, 0.2], 0, groups)) == [1, 1, 3]


@pytest.mark.parametrize("shares", [[0], [1], [-0.1], [20], [0.5, 0.5], [0.5, 0]])
def test_wrong_share_is_an_error(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_docs([], shares, seed=0)


@pytest.mark.parametrize("text", [TREE * 2, TREE.replace("SpaceAfter=No", "_")])
def test_docbin_round_trip(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "a.conllu", text)
    docs = list(read_docs(path, Vocab(), "conllu", ReadReport(), documents=True))
    docs[0].user_data["origin"] = "invented"
    target = tmp_path / "made" / "a.spacy"
    write_docbin(docs, target)
    [doc] = load_docs(target)
    assert doc.to_json() == docs[0].to_json()
    assert doc.user_data["origin"] == "invented"
    assert doc.has_unknown_spaces == docs[0].has_unknown_spaces


def test_user_data_is_stored_if_any_document_has_some(tmp_path: Path) -> None:
    docs = [Doc(Vocab(), words=["Ada"]), Doc(Vocab(), words=["Tarn"])]
    write_docbin(docs, tmp_path / "a.spacy")
    assert DocBin().from_disk(tmp_path / "a.spacy").user_data == [None, None]
    docs[1].user_data["origin"] = "invented"
    write_docbin(docs, tmp_path / "b.spacy")
    assert [doc.user_data for doc in load_docs(tmp_path / "b.spacy")] == [{}, {"origin": "invented"}]


def test_user_data_are_stored_and_read_as_spacy_does(tmp_path: Path) -> None:
    docs = [Doc(Vocab(), words=["a", "b"]) for _ in range(3)]
    docs[0].user_data |= {"id": 7, "nested": {"list": [1, (2, None)]}, "array": np.arange(3.0)}
    docs[1].user_data[("._.", "x", 0, None)] = {"bytes": b"a", "number": np.float32(1.5), "nd": 1}
    write_docbin(docs, tmp_path / "a.spacy")
    assert (tmp_path / "a.spacy").read_bytes() == DocBin(docs=docs, store_user_data=True).to_bytes()
    expected = [doc.user_data for doc in DocBin().from_disk(tmp_path / "a.spacy").get_docs(Vocab())]
    stored = DocBin().from_disk(tmp_path / "a.spacy")
    for _ in range(2):
        found = [doc.user_data for doc in docs_with_user_data(stored, Vocab())]
        assert repr(found) == repr(expected)
    assert found[0]["array"].tolist() == [0, 1, 2]
    for wrong, error in ((object(), TypeError), (2**70, OverflowError), ("\ud800", UnicodeEncodeError)):
        docs[1].user_data["x"] = wrong
        with pytest.raises(error):
            write_docbin(docs, tmp_path / "b.spacy")
    del docs[1].user_data["x"]
    write_docbin(docs, tmp_path / "b.spacy")
    assert (tmp_path / "b.spacy").read_bytes() == (tmp_path / "a.spacy").read_bytes()


def test_docbin_of_columns_keeps_sentence_starts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Ada B-PER\nsang O\n\nTarn B-LOC\n")
    write_docbin(read_docs(path, Vocab(), "conll", ReadReport(), documents=True), tmp_path / "a.spacy")
    [doc] = load_docs(tmp_path / "a.spacy")
    assert doc.has_unknown_spaces
    assert [sent.text for sent in doc.sents] == ["Ada sang", "Tarn"]


def test_failed_writing_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a.conll", "Ada B-PER\n\nMoss PER\n")
    target = write(tmp_path / "a.spacy", "old")
    with pytest.raises(FormatError):
        write_docbin(read_docs(source, Vocab(), "conll", ReadReport()), target)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_docbin([], target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.conll", "a.spacy"]
    assert target.read_text() == "old"


def test_spacy_corpus_keeps_spans_of_whole_docs_only(tmp_path: Path) -> None:
    """If this fails, spaCy keeps spans when it splits Docs: correct the docstring of `make_doc`."""
    nlp = spacy.blank("en")
    path = write(tmp_path / "a.jsonl", json_lines(GUILD, GUILD))
    write_docbin(read_docs(path, nlp.vocab, "spans", ReadReport(), documents=True), tmp_path / "a.spacy")
    [example] = Corpus(tmp_path / "a.spacy")(nlp)
    assert len(example.reference.spans["sc"]) == 10
    for options in ({"gold_preproc": True}, {"max_length": 10}):
        parts = list(Corpus(tmp_path / "a.spacy", **options)(nlp))
        assert len(parts) == 2 and not any("sc" in part.reference.spans for part in parts)


# Command line


def convert(path: Path, *options: str) -> tuple[str, list[Doc]]:
    output = run_command("convert", path, path.parent / "out", *options)
    return output, load_docs(path.parent / "out" / "a.spacy")


def test_convert_spans(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json_lines(GUILD, GUILD))
    output, [doc] = convert(path, "--format", "spans", "--documents")
    assert re.search(r"spans left out of doc\.ents, only in doc\.spans +6\n", output)
    assert re.search(r"spans with more than one label +2\n", output)
    assert len(doc.spans["sc"]) == 10 and len(doc.ents) == 4
    assert "spans" in run_command("convert", "--help")


@pytest.mark.parametrize(
    ("format", "content", "expected"),
    [
        ("spert", json.dumps([spert_object()]), ("Ada", "left", "Upper Tarn")),
        ("semeval", marked(JAR, "Component-Whole(e2,e1)"), ("lid", "Component-Whole", "jam jar")),
    ],
)
def test_convert_relations(tmp_path: Path, format: str, content: str, expected: tuple[str, str, str]) -> None:
    output, [doc] = convert(write(tmp_path / "a.txt", content), "--format", format)
    assert re.search(r"relations +1\n", output)
    [relation] = doc._.relations
    assert (relation.head.text, relation.label, relation.tail.text) == expected


# Properties

odd_characters = st.sampled_from("\u00a0\u2028\u2029\u3000\u200b\ufe0f\x0b\x0c\x1c\x85#-O")
characters = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=" \ufeff")
tokens = st.text(st.one_of(odd_characters, characters), min_size=1, max_size=4).filter(lambda text: not text.isspace())
labels = st.sampled_from(["PER", "creative-work", "地点"])


@st.composite
def flat_sentences(draw: st.DrawFn) -> Sentence:
    """A sentence with flat entities, some of them adjacent."""
    words = draw(st.lists(tokens, min_size=1, max_size=8))
    bounds = draw(st.lists(st.integers(0, len(words)), unique=True).map(sorted))
    pieces = [(start, end, draw(st.none() | labels)) for start, end in zip(bounds, bounds[1:], strict=False)]
    return Sentence(words, spans=[(start, end, label) for start, end, label in pieces if label])


def encode(sentence: Sentence, scheme: str) -> list[str]:
    """Write the tags of a sentence in a scheme."""
    tags = ["O"] * len(sentence.words)
    before = (0, 0, "")
    for start, end, label in sentence.spans:
        first, inside, last, single = {"BILUO": "BILU", "BIOES": "BIES", "BMES": "BMES", "BMEW": "BMEW"}.get(
            scheme, "BIIB"
        )
        if scheme == "IOB1" and before[1:] != (start, label):
            first = single = "I"
        prefixes = [first, *inside * (end - start - 2), last] if end - start > 1 else [single]
        tags[start:end] = [f"{prefix}-{label}" for prefix in prefixes]
        before = (start, end, label)
    return tags


@settings(max_examples=60)
@given(
    sentences=st.lists(flat_sentences(), min_size=1, max_size=4),
    separator=st.sampled_from([" ", "\t"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_columns_round_trip(
    tmp_path_factory: pytest.TempPathFactory, scheme: str, sentences: list[Sentence], separator: str, end: str
) -> None:
    blocks = [columns(s.words, encode(s, scheme), separator) for s in sentences]
    path = tmp_path_factory.getbasetemp() / "property.conll"
    [document], report = read(read_conll, path, "\n".join(blocks).replace("\n", end))
    assert document == sentences
    assert not report.notes
    if report.entities:
        # Without an entity of three tokens, or of a single one, these schemes have the same tags.
        same = {"BIOES", "BMES", "BMEW"}
        assert report.schemes == {scheme: 1} or (scheme in same and report.schemes.keys() <= same)
    doc = make_doc(Vocab(), document)
    assert [token.text for token in doc] == [word for s in sentences for word in s.words]
    assert len(doc.ents) == report.entities.total()
    assert [len(sent) for sent in doc.sents] == [len(s.words) for s in sentences]


@st.composite
def overlapping(draw: st.DrawFn) -> Sentence:
    """A sentence with spans that nest, cross and share their bounds, with duplicates, and relations between any."""
    words = draw(st.lists(tokens, min_size=1, max_size=8))
    bounds = st.lists(st.integers(0, len(words)), min_size=2, max_size=2, unique=True).map(sorted)
    nested = [(start, end, label) for (start, end), label in draw(st.lists(st.tuples(bounds, labels), max_size=9))]
    pairs = st.tuples(st.sampled_from(nested or [None]), st.sampled_from(nested or [None]), labels)
    return Sentence(words, nested=nested, relations=draw(st.lists(pairs, max_size=6)) if nested else [])


@settings(max_examples=100)
@given(
    documents=st.lists(st.lists(overlapping(), min_size=1, max_size=3), min_size=1, max_size=3),
    n_sents=st.sampled_from([None, 1, 2]),
    ascii_only=st.booleans(),
)
def test_spans_round_trip(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[Sentence]], n_sents: int | None, ascii_only: bool
) -> None:
    """Read, group, split and write, and compare the spans and all counts."""
    folder = tmp_path_factory.mktemp("spans")
    lines = [{"doc": n, "tokens": s.words, "spans": s.nested} for n, document in enumerate(documents) for s in document]
    path = write(folder / "a.jsonl", "\n".join(json.dumps(line, ensure_ascii=ascii_only) for line in lines))
    report = ReadReport()
    options: dict[str, Any] = {"documents": True} if n_sents is None else {"n_sents": n_sents}
    docs = list(read_docs(path, Vocab(), "spans", report, **options))
    if n_sents is None:
        assert [len(list(doc.sents)) for doc in docs] == [len(document) for document in documents]
    loaded: list[Doc] = []
    for name, part in zip(("train", "dev"), split_docs(docs, [0.5], seed=0), strict=True):
        write_docbin(part, folder / f"{name}.spacy")
        loaded += load_docs(folder / f"{name}.spacy")
    found: list[tuple[list[str], Triples]] = []
    for doc in loaded:
        spans, entities = triples(doc.spans["sc"]), triples(doc.ents)
        assert spans == sorted(set(spans)) and set(entities) <= set(spans)
        # A span that is not an entity overlaps an entity that is at least as wide.
        for start, end, _ in set(spans) - set(entities):
            assert any(s < end and start < e and e - s >= end - start for s, e, _ in entities)
        for sent in doc.sents:
            inside = [(s - sent.start, e - sent.start, label) for s, e, label in spans if sent.start <= s < sent.end]
            found.append(([token.text for token in sent], inside))
    given_spans = [(s.words, sorted(set(s.nested or []))) for document in documents for s in document]
    assert sorted(found) == sorted(given_spans)
    n_given = sum(len(s.nested or []) for document in documents for s in document)
    assert report.spans.total() == sum(len(doc.spans["sc"]) for doc in loaded)
    assert report.spans.total() + report.notes[DUPLICATE] == n_given
    assert report.spans.total() - report.only_spans == sum(len(doc.ents) for doc in loaded) == report.entities.total()


@settings(max_examples=60)
@given(sentences=st.lists(overlapping(), min_size=1, max_size=4), data=st.data())
@pytest.mark.parametrize("format", ["spans", "spert"])
def test_relations_round_trip(
    tmp_path_factory: pytest.TempPathFactory, format: str, sentences: list[Sentence], data: st.DataObject
) -> None:
    """Read, join sentences and write. A relation may refer to either of two duplicate spans."""
    items = []
    for s in sentences:
        places = [(i, span) for i, span in enumerate(s.nested or [])]

        def place(span: Any, places: list[tuple[int, Any]] = places) -> int:
            return data.draw(st.sampled_from([i for i, other in places if other == span]))

        relations = [[place(head), place(tail), label] for head, tail, label in s.relations or []]
        item = {"doc": 1, "tokens": s.words, "spans": s.nested, "relations": relations}
        if format == "spert":
            item["entities"] = [dict(zip(("start", "end", "type"), span, strict=True)) for span in s.nested or []]
            item["relations"] = [dict(zip(("head", "tail", "type"), row, strict=True)) for row in relations]
            del item["spans"]
        items.append(item)
    text = json_lines(*items) if format == "spans" else json.dumps(items, ensure_ascii=False)
    path = write(tmp_path_factory.getbasetemp() / f"property.{format}", text)
    report = ReadReport()
    write_docbin(read_docs(path, Vocab(), format, report, documents=True), path.with_suffix(".spacy"))
    found = [
        (n, *relation) for n, doc in enumerate(load_docs(path.with_suffix(".spacy"))) for relation in relations_of(doc)
    ]
    expected = []
    start = 0
    for number, s in enumerate(sentences):
        n, shift = (0, start) if format == "spans" else (number, 0)
        for (h0, h1, h), (t0, t1, t), label in dict.fromkeys(s.relations or []):
            expected.append((n, h0 + shift, h1 + shift, h, t0 + shift, t1 + shift, t, label))
        start += len(s.words)
    assert found == sorted(expected)
    assert report.relations.total() == len(expected)
    assert report.relations.total() + report.notes[DUPLICATE_RELATION] == sum(len(s.relations or []) for s in sentences)
