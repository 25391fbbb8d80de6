"""The readers of corpora: no token and no entity is lost, and nothing goes wrong in silence."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.cli import app
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from spacy.vocab import Vocab
from typer.testing import CliRunner

import spacy_ner_arch.cli.app  # noqa: F401 - adds the sub-commands, as spaCy does by the entry point
from spacy_ner_arch.annotation.relations import has_relations
from spacy_ner_arch.formats import (
    SPANS_KEY,
    FormatError,
    Report,
    Sentence,
    make_doc,
    read_conll,
    read_conllu,
    read_docs,
    read_semeval,
    read_spans,
    read_spert,
    split_docs,
    write_docbin,
)
from spacy_ner_arch.formats.semeval import TOKEN_SPLIT
from spacy_ner_arch.formats.spans import DUPLICATE, DUPLICATE_RELATION, widest_apart
from spacy_ner_arch.formats.tags import (
    END_STARTS,
    FOREIGN_END,
    INSIDE_STARTS,
    MISSING,
    NOT_CLOSED,
    OUTSIDE,
    Tag,
    decode,
    detect_scheme,
    parse_tag,
)

SCHEMES = ("IOB1", "IOB2", "BILUO", "BIOES")

# One sentence in every scheme: two entities side by side, one of a single word at the end.
WORDS = ["Ada", "Moss", "Berta", "Quill", "met", "Tarn"]
SPANS = [(0, 2, "PER"), (2, 4, "PER"), (5, 6, "LOC")]
TAGS = {
    "IOB1": "I-PER I-PER B-PER I-PER O I-LOC",
    "IOB2": "B-PER I-PER B-PER I-PER O B-LOC",
    "BILUO": "B-PER L-PER B-PER L-PER O U-LOC",
    "BIOES": "B-PER E-PER B-PER E-PER O S-LOC",
}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def columns(words: list[str], tags: list[str], separator: str = " ") -> str:
    return "".join(f"{word}{separator}{tag}\n" for word, tag in zip(words, tags, strict=True))


def read_tags(folder: Path, *sentences: str) -> tuple[list[Sentence], Report]:
    """Read sentences given by their tags only; the words do not matter."""
    texts = (columns([f"w{i}" for i, _ in enumerate(s.split())], s.split()) for s in sentences)
    report = Report()
    document = next(read_conll(write(folder / "tags.conll", "\n".join(texts)), report))
    return document, report


def rows(*lines: str) -> str:
    """CoNLL-U lines from short ones: id, form, head, relation, MISC."""
    text = ""
    for line in lines:
        word_id, form, head, relation, misc = line.split()
        upos, xpos = ("_", "_") if head == "_" else ("NOUN", "NN")
        cells = [word_id, form, form.lower(), upos, xpos, "_", head, relation, "_", misc]
        text += "\t".join(cells) + "\n"
    return text + "\n"


TREE = rows("1 Quill 2 nsubj NE=B-PER", "2 slept 0 root SpaceAfter=No", "3 . 2 punct _")


# Columns: schemes


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("separator", [" ", "\t", "   "])
def test_every_scheme_gives_the_same_entities(tmp_path: Path, scheme: str, separator: str) -> None:
    report = Report()
    path = write(tmp_path / "a.conll", columns(WORDS, TAGS[scheme].split(), separator))
    [[sentence]] = read_conll(path, report)
    assert sentence.words == WORDS
    assert sentence.spans == SPANS
    assert sentence.spaces is None
    assert report.schemes == {scheme: 1}
    assert not report.repairs
    assert (report.documents, report.sentences, report.tokens) == (1, 1, 6)
    assert report.entities == {"PER": 2, "LOC": 1}


def test_scheme_is_that_of_the_whole_file(tmp_path: Path) -> None:
    """The first sentence alone would be IOB2; the end tag comes later."""
    sentences, report = read_tags(tmp_path, "B-X I-X L-X O", "O O U-Y")
    assert [s.spans for s in sentences] == [[(0, 3, "X")], [(2, 3, "Y")]]
    assert report.schemes == {"BILUO": 1}
    assert not report.repairs


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("I-X I-X O", "IOB1"),
        ("I-X B-X I-Y", "IOB1"),
        ("B-X I-X O", "IOB2"),
        # A B- where IOB1 writes I-: neither fits, so the I- is the mistake.
        ("I-X O B-X", "IOB2"),
        ("I-X B-Y", "IOB2"),
        ("O O -", "IOB2"),
    ],
)
def test_iob1_or_iob2(tags: str, scheme: str) -> None:
    assert detect_scheme([parsed(tags)]) == scheme


def parsed(tags: str) -> list[Tag]:
    return [tag for tag in map(parse_tag, tags.split()) if tag is not None]


tag_rows = st.lists(
    st.one_of(
        st.sampled_from([OUTSIDE, MISSING]),
        st.builds(Tag, st.sampled_from("BI"), st.sampled_from("XY")),
    ),
    max_size=8,
)


@given(tag_rows)
def test_iob1_and_iob2_mean_the_same_entities(tags: list[Tag]) -> None:
    """The choice between the two decides what is a mistake, never what is an entity."""
    spans = decode(tags, "IOB1").spans
    assert spans == decode(tags, "IOB2").spans
    sentence = Sentence(["w"] * len(tags), spans=spans)
    written = ["O" if tag == MISSING else "-".join(filter(None, tag)) for tag in tags]
    fitting = [scheme for scheme in ("IOB1", "IOB2") if encode(sentence, scheme) == written]
    if spans and fitting:
        assert fitting == [detect_scheme([tags])]
        assert not decode(tags, detect_scheme([tags])).repairs


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
        ("U-X O L-X", [(0, 1, "X"), (2, 3, "X")], {END_STARTS: 1}),
        # IOB2 next to BIOES, and BILUO next to BIOES
        ("B-X E-X O B-Y O", [(0, 2, "X"), (3, 4, "Y")], {NOT_CLOSED: 1}),
        ("B-X E-X S-X B-Y L-Y", [(0, 2, "X"), (2, 3, "X"), (3, 5, "Y")], {FOREIGN_END: 1}),
    ],
)
def test_what_breaks_the_scheme_is_repaired_and_counted(
    tmp_path: Path, tags: str, spans: list[tuple[int, int, str]], repairs: dict[str, int]
) -> None:
    [sentence], report = read_tags(tmp_path, tags)
    assert sentence.spans == spans
    assert report.repairs == repairs
    assert all(kind in report.summary() for kind in repairs)


def test_report_tells_where_the_first_repair_is(tmp_path: Path) -> None:
    _, report = read_tags(tmp_path, "B-X O", "O I-X", "I-X O")
    assert report.repairs == {INSIDE_STARTS: 2}
    assert report.first_repairs[INSIDE_STARTS].endswith("tags.conll:5")


def test_label_may_hold_hyphens(tmp_path: Path) -> None:
    [sentence], _ = read_tags(tmp_path, "B-creative-work I-creative-work")
    assert sentence.spans == [(0, 2, "creative-work")]


# Columns: documents, tokens, lines


@pytest.mark.parametrize("mark", ["-DOCSTART- -X- -X- O", "-DOCSTART- O", "-DOCSTART-", "-DOCSTART-\t-X-\tO"])
def test_document_marks_are_no_tokens(tmp_path: Path, mark: str) -> None:
    sentence = "Ada NNP B-NP B-PER\nsang VBD B-VP O\n"
    text = f"{mark}\n\n{sentence}\n{sentence}\n{mark}\n{sentence}{mark}\n\n{mark}\n"
    report = Report()
    documents = list(read_conll(write(tmp_path / "a.conll", text), report))
    assert [len(document) for document in documents] == [2, 1]
    assert {word for d in documents for s in d for word in s.words} == {"Ada", "sang"}
    assert (report.documents, report.sentences, report.tokens) == (2, 3, 6)


def test_sentences_before_the_first_mark_are_a_document(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Ada B-PER\n\n-DOCSTART- O\n\nsang O\n")
    assert [len(document) for document in read_conll(path, Report())] == [1, 1]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("tail", ["", "{e}", "{e} \t{e}{e}"])
def test_line_ends_marks_and_blanks(tmp_path: Path, end: str, encoding: str, tail: str) -> None:
    text = end.join(["Ada B-PER  ", "sang O\t", " ", "", "Tarn B-LOC"]) + tail.format(e=end)
    [document] = read_conll(write(tmp_path / "a.conll", text, encoding), Report())
    assert [s.words for s in document] == [["Ada", "sang"], ["Tarn"]]
    assert [s.spans for s in document] == [[(0, 1, "PER")], [(0, 1, "LOC")]]


@pytest.mark.parametrize("odd", ["\u00a0", "a\u00a0b", "\u2028", "\x85", "\x1c", "\ufe0f", "#"])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_odd_tokens_stay_whole(tmp_path: Path, odd: str, separator: str) -> None:
    words = [odd, "sang", odd]
    path = write(tmp_path / "a.conll", columns(words, ["B-X", "O", "O"], separator))
    [[sentence]] = read_conll(path, Report())
    assert sentence.words == words


def test_tabs_allow_spaces_in_tokens(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Nova Tarn\tB-LOC\nsang\tO\n")
    [[sentence]] = read_conll(path, Report())
    assert sentence.words == ["Nova Tarn", "sang"]


def test_comments_are_counted_and_hash_tokens_kept(tmp_path: Path) -> None:
    text = "# id 7 from=nowhere\n# O\t\nAda B-PER\n# O\n\n# a remark\n\n# id 8\nsang O\n"
    report = Report()
    [document] = read_conll(write(tmp_path / "a.conll", text), report)
    assert [s.words for s in document] == [["#", "Ada", "#"], ["sang"]]
    assert report.comments == 3
    assert "comment lines" in report.summary()


def test_entity_column_is_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Ada B-PER NNP\nsang O VBD\n")
    for column in (1, -2):
        [[sentence]] = read_conll(path, Report(), column=column)
        assert sentence.spans == [(0, 1, "PER")]


@pytest.mark.parametrize("column", [3, -4, 0, -3])
def test_absent_column_tells_how_many_there_are(tmp_path: Path, column: int) -> None:
    path = write(tmp_path / "a.conll", "Ada B-PER NNP\nsang O VBD\n")
    with pytest.raises(FormatError, match="3 columns"):
        list(read_conll(path, Report(), column=column))


def test_tokens_without_tags_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Ada\nsang\n")
    with pytest.raises(FormatError, match="1 columns"):
        list(read_conll(path, Report()))


@pytest.mark.parametrize("text", ["", "\n\n", "-DOCSTART- O\n"])
def test_file_without_tokens(tmp_path: Path, text: str) -> None:
    report = Report()
    assert list(read_conll(write(tmp_path / "a.conll", text), report)) == []
    assert (report.documents, report.sentences) == (0, 0)


# Columns: errors

MALFORMED = {
    "no prefix": (b"Moss PER", "not an entity tag"),
    "unknown prefix": (b"Moss X-PER", "not an entity tag"),
    "no label": (b"Moss B-", "not an entity tag"),
    "prefix only": (b"Moss B", "not an entity tag"),
    "too few columns": (b"Moss", "1 columns where most lines of the file have 2"),
    "too many columns": (b"Moss NNP B-PER", "3 columns where most lines of the file have 2"),
    "empty token": (b"\tB-PER", "token is empty"),
    "not UTF-8": (b"M\xf6ss B-PER", "not UTF-8"),
    "stray CR": (b"Moss\rO O", "carriage return"),
    "comment inside": (b"# Moss is here", "4 columns where most"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_line_is_an_error_with_its_place(tmp_path: Path, kind: str) -> None:
    line, reason = MALFORMED[kind]
    path = tmp_path / "bad.conll"
    path.write_bytes(b"Ada B-PER\nsang O\n\nBerta B-PER\n" + line + b"\n\nTarn B-LOC\n")
    with pytest.raises(FormatError, match=reason) as caught:
        list(read_conll(path, Report()))
    error = caught.value
    shown = line.decode("utf-8", errors="backslashreplace")
    assert (error.path, error.line_number, error.line) == (path, 5, shown)
    assert f"{path}:5: " in str(error)
    assert repr(shown) in str(error)
    assert f"remedy: {error.remedy}" in str(error) and error.remedy


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_sentence_is_skipped_whole_and_counted(tmp_path: Path, kind: str) -> None:
    line, reason = MALFORMED[kind]
    path = tmp_path / "bad.conll"
    path.write_bytes(b"Ada B-PER\nsang O\n\nBerta B-PER\n" + line + b"\n\nTarn B-LOC\n")
    report = Report()
    [document] = read_conll(path, report, on_error="skip")
    assert [s.words for s in document] == [["Ada", "sang"], ["Tarn"]]
    assert (report.skipped, report.sentences, report.tokens) == (1, 2, 3)
    assert report.entities == {"PER": 1, "LOC": 1}
    [shown] = report.reasons
    assert shown.startswith(f"{path}:5: ") and reason in shown
    assert shown in report.summary()


def test_only_the_first_reasons_are_kept(tmp_path: Path) -> None:
    report = Report()
    path = write(tmp_path / "a.conll", "Ada O\n\n" + "Moss PER\n\n" * 9)
    list(read_conll(path, report, on_error="skip"))
    assert report.skipped == 9
    assert len(report.reasons) == 5


def test_error_survives_pickling_and_shortens_long_lines() -> None:
    error = FormatError("a.conll", 3, "x" * 999, "too long", "cut it")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(str(error)) < 300


def test_what_cannot_be_done_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="raise, skip"):
        read_conll(tmp_path / "a.conll", Report(), on_error="ignore")
    with pytest.raises(ValueError, match="raise, skip"):
        read_conllu(tmp_path / "a.conllu", Report(), on_error="ignore")
    with pytest.raises(ValueError, match="regular file"):
        read_conll(tmp_path, Report())


# CoNLL-U


def test_conllu_keeps_tree_tags_and_text(tmp_path: Path) -> None:
    report = Report()
    [[sentence]] = read_conllu(write(tmp_path / "a.conllu", TREE), report)
    assert sentence.words == ["Quill", "slept", "."]
    assert sentence.spaces == [True, False, True]
    assert sentence.spans == [(0, 1, "PER")]
    assert sentence.heads == [1, 1, 1]
    assert sentence.deps == ["nsubj", "root", "punct"]
    assert sentence.pos == ["NOUN"] * 3
    assert sentence.tags == ["NN"] * 3
    assert sentence.lemmas == ["quill", "slept", "."]
    doc = make_doc(Vocab(), [sentence, sentence])
    assert doc.text == "Quill slept. Quill slept. "
    assert not doc.has_unknown_spaces
    assert [token.head.i for token in doc] == [1, 1, 1, 4, 4, 4]
    assert [token.dep_ for token in doc][:3] == ["nsubj", "ROOT", "punct"]
    assert [sent.start for sent in doc.sents] == [0, 3]
    assert (doc[3].lemma_, doc[3].pos_, doc[3].tag_) == ("quill", "NOUN", "NN")


def test_conllu_documents_and_comments(tmp_path: Path) -> None:
    text = f"# newdoc id = 1\n# text = x\n{TREE}# sent_id = 2\n{TREE}# newdoc\n\n# newdocs\n{TREE}"
    report = Report()
    documents = list(read_conllu(write(tmp_path / "a.conllu", text.strip()), report))
    assert [len(document) for document in documents] == [2, 1]
    assert (report.documents, report.sentences) == (2, 3)


@pytest.mark.parametrize(
    ("range_line", "text"),
    [
        ("2-3 didn't _ _ _", "We didn't sing."),
        ("2-3 didn't _ _ SpaceAfter=No", "We didn'tsing."),
        ("2-3 dint _ _ _", "We did n't sing."),
    ],
)
def test_ranges_tell_the_spacing_of_their_words(tmp_path: Path, range_line: str, text: str) -> None:
    lines = [
        "1 We 4 nsubj _",
        range_line,
        "2 did 4 aux _",
        "3 n't 4 advmod _",
        "3.1 ghost _ _ NE=B-PER",
        "4 sing 0 root SpaceAfter=No",
        "5 . 4 punct SpaceAfter=No",
    ]
    report = Report()
    [[sentence]] = read_conllu(write(tmp_path / "a.conllu", rows(*lines)), report)
    assert sentence.words == ["We", "did", "n't", "sing", "."]
    assert sentence.spans == []
    assert make_doc(Vocab(), [sentence]).text == text
    assert report.repairs.total() == ("dint" in range_line)


def test_conllu_key_missing_tags_and_repairs(tmp_path: Path) -> None:
    lines = ["1 Ada 2 x Ent=I-PER", "2 met 0 root Ent=-", "3 Tarn 2 x Ent=O|NE=B-PER", "4 . 2 x _"]
    report = Report()
    path = write(tmp_path / "a.conllu", rows(*lines))
    [[sentence]] = read_conllu(path, report, misc_key="Ent")
    assert sentence.spans == [(0, 1, "PER")]
    assert sentence.missing == [1]
    assert report.missing == 1
    assert report.repairs == {INSIDE_STARTS: 1}


def test_conllu_without_trees_and_tags(tmp_path: Path) -> None:
    text = rows("1 Ada _ _ NE=B-PER", "2 sang _ _ _")
    [[sentence]] = read_conllu(write(tmp_path / "a.conllu", text), Report())
    assert sentence.heads is sentence.deps is sentence.pos is sentence.tags is None
    doc = make_doc(Vocab(), [sentence])
    assert not doc.has_annotation("DEP")
    assert [ent.text for ent in doc.ents] == ["Ada"]


BAD_SENTENCES = {
    "head out of range": (["1 a 2 x _", "2 b 0 root _", "3 c 4 x _"], 5, "out of range"),
    "no root": (["1 a 2 x _", "2 b 1 x _"], 3, "no root"),
    "two roots": (["1 a 0 root _", "2 b 0 root _"], 4, "2 roots, the words 1, 2"),
    "cycle": (["1 a 0 root _", "2 b 3 x _", "3 c 2 x _"], 4, "cycle, the words 2, 3"),
    "own head": (["1 a 0 root _", "2 b 2 x _"], 4, "cycle"),
    "head not a number": (["1 a 0 root _", "2 b ? x _"], 4, "not a number"),
    "head left out": (["1 a 0 root _", "2 b _ x _"], 4, "not a number"),
    "no relation": (["1 a 0 root _", "2 b 1 _ _"], 4, "no relation"),
    "id not a number": (["1 a 0 root _", "x b 1 x _"], 4, "the id 'x' where 2 is due"),
    "id left out": (["1 a 0 root _", "3 b 1 x _"], 4, "the id '3' where 2 is due"),
    "range too long": (["1-3 ab _ _ _", "1 a 0 root _", "2 b 1 x _"], 3, "range 1-3"),
    "range too late": (["1 a 0 root _", "2 b 1 x _", "1-2 ab _ _ _"], 5, "range 1-2"),
    "ranges overlap": (
        ["1-2 ab _ _ _", "1 a 0 root _", "2-3 bc _ _ _", "2 b 1 x _", "3 c 1 x _"],
        5,
        "range 2-3",
    ),
    "no words": (["1.1 a _ _ _"], 3, "without words"),
    "unreadable tag": (["1 a 0 root NE=PER"], 3, "'PER' under NE"),
    "other scheme": (["1 a 0 root NE=U-PER"], 3, "'U-PER' under NE"),
}


@pytest.mark.parametrize("kind", BAD_SENTENCES)
def test_bad_conllu_sentences(tmp_path: Path, kind: str) -> None:
    lines, line_number, reason = BAD_SENTENCES[kind]
    text = f"# newdoc\n# sent_id = 1\n{rows(*lines)}{TREE}"
    path = write(tmp_path / "bad.conllu", text)
    with pytest.raises(FormatError, match=reason) as caught:
        list(read_conllu(path, Report()))
    assert f"{path}:{line_number}: " in str(caught.value)
    assert repr(text.split("\n")[line_number - 1]) in str(caught.value)
    report = Report()
    [[sentence]] = read_conllu(path, report, on_error="skip")
    assert sentence.words == ["Quill", "slept", "."]
    assert report.skipped == 1
    assert reason in report.summary()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("\tNOUN\t", "\tTHING\t", "'THING' is not a universal part of speech"),
        ("\tNOUN\t", "\t\t", "empty column"),
        ("\tNOUN\t", " NOUN ", "8 columns where CoNLL-U has 10"),
        ("Quill", "Qu\rill", "carriage return"),
    ],
)
def test_bad_conllu_columns(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = write(tmp_path / "bad.conllu", TREE.replace(old, new, 1))
    with pytest.raises(FormatError, match=reason):
        list(read_conllu(path, Report()))


def test_non_projective_tree_is_one_sentence(tmp_path: Path) -> None:
    text = rows("1 a 3 x _", "2 b 4 x _", "3 c 0 root _", "4 d 1 x _")
    [[sentence]] = read_conllu(write(tmp_path / "a.conllu", text), Report())
    doc = make_doc(Vocab(), [sentence, sentence])
    assert [sent.start for sent in doc.sents] == [0, 4]


# Docs


def test_doc_of_columns_keeps_gold_tokens_in_training(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    path = write(tmp_path / "a.conll", "Tarn-born B-MISC\ndidn't O\n")
    docs = list(read_docs(path, nlp.vocab, "conll", Report(), tokenizer=nlp.tokenizer))
    assert docs[0].has_unknown_spaces
    write_docbin(docs, tmp_path / "a.spacy")
    [example] = Corpus(tmp_path / "a.spacy")(nlp)
    assert [token.text for token in example.predicted] == ["Tarn-born", "didn't"]
    assert example.get_aligned_ner() == ["U-MISC", "O"]


def test_missing_tags_stay_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Ada B-PER\nMoss I-PER\nmet -\nTarn B-LOC\n. O\n")
    report = Report()
    [doc] = read_docs(path, Vocab(), "conll", report)
    assert [token.ent_iob_ for token in doc] == ["B", "I", "", "B", "O"]
    write_docbin([doc], tmp_path / "a.spacy")
    [loaded] = DocBin().from_disk(tmp_path / "a.spacy").get_docs(Vocab())
    assert [token.ent_iob for token in loaded] == [3, 1, 0, 3, 2]
    assert report.missing == 1
    assert ("tokens without entity annotation", "1") in report.rows()


def test_sentences_without_a_layer_make_a_doc_without_it() -> None:
    bare = Sentence(["Ada", "sang"])
    full = Sentence(["Tarn"], [False], heads=[0], deps=["root"], pos=["NOUN"], tags=["NN"])
    doc = make_doc(Vocab(), [bare, full])
    assert doc.has_unknown_spaces
    assert [sent.start for sent in doc.sents] == [0, 2]
    assert not any(doc.has_annotation(layer) for layer in ("DEP", "POS", "TAG", "LEMMA"))
    assert len(make_doc(Vocab(), [])) == 0


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
    text = "\n".join([*sentences, "-DOCSTART- O\n", "Ada B-PER\n" * 4])
    path = write(tmp_path / "a.conll", text)
    docs = list(read_docs(path, Vocab(), "conll", Report(), **options))
    assert [[len(sent) for sent in doc.sents] for doc in docs] == lengths
    assert [len(doc.ents) for doc in docs] == [sum(sents) for sents in lengths]


def test_wrong_arguments_of_read_docs(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    with pytest.raises(ValueError, match="unknown format 'brat'; known are conll, conllu"):
        read_docs(path, Vocab(), "brat", Report())
    with pytest.raises(ValueError, match="at least 1"):
        read_docs(path, Vocab(), "conll", Report(), n_sents=0)
    with pytest.raises(ValueError, match="not both"):
        read_docs(path, Vocab(), "conll", Report(), n_sents=2, documents=True)
    with pytest.raises(TypeError, match="misc_key"):
        read_docs(path, Vocab(), "conll", Report(), misc_key="NE")


def test_options_reach_the_reader(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Ada B-PER NNP\nsang O VBD\n")
    [doc] = read_docs(path, Vocab(), "conll", Report(), column=1)
    assert [ent.label_ for ent in doc.ents] == ["PER"]


def test_entities_that_do_not_align_are_counted(tmp_path: Path) -> None:
    """The tokenizer leaves "Xyz1Tarn" whole, so the entity inside of it cannot be trained."""
    nlp = spacy.blank("en")
    text = rows("1 Ada 2 x NE=B-PER", "2 Xyz1 0 root SpaceAfter=No", "3 Tarn 2 x NE=B-LOC")
    path = write(tmp_path / "a.conllu", text)
    report = Report()
    [doc] = read_docs(path, nlp.vocab, "conllu", report, tokenizer=nlp.tokenizer)
    assert len(doc.ents) == 2
    assert (report.misaligned, report.alignment_checked) == (1, 2)
    assert ("entities that do not align with the tokenizer", "1 of 2") in report.rows()


def test_split_is_deterministic_and_keeps_order() -> None:
    vocab = Vocab()
    docs = [Doc(vocab, words=[str(i)]) for i in range(50)]
    train, dev = split_docs(iter(docs), 0.2, seed=1)
    assert (len(train), len(dev)) == (40, 10)
    for part in (train, dev):
        assert [docs.index(doc) for doc in part] == sorted(docs.index(doc) for doc in part)
    assert set(train) | set(dev) == set(docs)
    assert split_docs(docs, 0.2, seed=1) == (train, dev)
    assert split_docs(docs, 0.2, seed=2) != (train, dev)


@pytest.mark.parametrize(("n", "share", "n_dev"), [(0, 0.5, 0), (1, 0.9, 0), (2, 0.1, 1), (3, 0.9, 2)])
def test_split_of_few_docs_leaves_no_part_empty(n: int, share: float, n_dev: int) -> None:
    vocab = Vocab()
    train, dev = split_docs([Doc(vocab, words=["a"]) for _ in range(n)], share, seed=0)
    assert (len(train), len(dev)) == (n - n_dev, n_dev)


@pytest.mark.parametrize("share", [0, 1, -0.1, 20])
def test_split_refuses_shares_that_are_none(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_docs([], share, seed=0)


@pytest.mark.parametrize("text", [TREE * 2, TREE.replace("SpaceAfter=No", "_")])
def test_docbin_round_trip(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "a.conllu", text)
    docs = list(read_docs(path, Vocab(), "conllu", Report(), documents=True))
    docs[0].user_data["origin"] = "invented"
    target = tmp_path / "made" / "a.spacy"
    assert write_docbin(docs, target) == 1
    [doc] = DocBin().from_disk(target).get_docs(Vocab())
    assert doc.to_json() == docs[0].to_json()
    assert doc.user_data["origin"] == "invented"
    assert doc.has_unknown_spaces == docs[0].has_unknown_spaces


def test_docbin_of_columns_keeps_sentence_starts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Ada B-PER\nsang O\n\nTarn B-LOC\n")
    write_docbin(read_docs(path, Vocab(), "conll", Report(), documents=True), tmp_path / "a.spacy")
    [doc] = DocBin().from_disk(tmp_path / "a.spacy").get_docs(Vocab())
    assert doc.has_unknown_spaces
    assert [sent.text for sent in doc.sents] == ["Ada sang", "Tarn"]


def test_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a.conll", "Ada B-PER\n\nMoss PER\n")
    target = write(tmp_path / "a.spacy", "old")
    with pytest.raises(FormatError):
        write_docbin(read_docs(source, Vocab(), "conll", Report()), target)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_docbin([], target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.conll", "a.spacy"]
    assert target.read_text() == "old"


# Property: what is written in any scheme is read back

odd_characters = st.sampled_from("\u00a0\u2028\u2029\u3000\u200b\ufe0f\x0b\x0c\x1c\x85#-O")
characters = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=" \ufeff")
tokens = st.text(st.one_of(odd_characters, characters), min_size=1, max_size=4)


@st.composite
def annotated(draw: st.DrawFn) -> Sentence:
    """A sentence with flat entities, some of them side by side."""
    words = draw(st.lists(tokens, min_size=1, max_size=8))
    bounds = draw(st.lists(st.integers(0, len(words)), unique=True).map(sorted))
    labels = st.sampled_from(["PER", "creative-work", "地点", None])
    pieces = [(start, end, draw(labels)) for start, end in zip(bounds, bounds[1:], strict=False)]
    return Sentence(words, spans=[(start, end, label) for start, end, label in pieces if label])


def encode(sentence: Sentence, scheme: str) -> list[str]:
    """Write the tags of a sentence in a scheme."""
    tags = ["O"] * len(sentence.words)
    before = (0, 0, "")
    for start, end, label in sentence.spans:
        first, last = {"BILUO": ("B", "L"), "BIOES": ("B", "E")}.get(scheme, ("B", "I"))
        if scheme == "IOB1" and before[1:] != (start, label):
            first = "I"
        prefixes = [first, *"I" * (end - start - 2), last]
        if end - start == 1:
            prefixes = [{"BILUO": "U", "BIOES": "S"}.get(scheme, first)]
        tags[start:end] = [f"{prefix}-{label}" for prefix in prefixes]
        before = (start, end, label)
    return tags


@pytest.fixture(scope="module")
def column_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("property") / "a.conll"


@settings(deadline=None, max_examples=60)
@given(
    sentences=st.lists(annotated(), min_size=1, max_size=4),
    separator=st.sampled_from([" ", "\t"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_token_and_no_entity_is_lost(
    column_file: Path, scheme: str, sentences: list[Sentence], separator: str, end: str
) -> None:
    blocks = [columns(s.words, encode(s, scheme), separator) for s in sentences]
    write(column_file, "\n".join(blocks).replace("\n", end))
    report = Report()
    [document] = read_conll(column_file, report)
    assert document == sentences
    assert not report.repairs
    assert report.comments == report.skipped == 0
    if report.entities:
        assert report.schemes == {scheme: 1}
    doc = make_doc(Vocab(), document)
    assert [token.text for token in doc] == [word for s in sentences for word in s.words]
    assert len(doc.ents) == report.entities.total()
    assert [len(sent) for sent in doc.sents] == [len(s.words) for s in sentences]


def read_offset_lines(tmp_path, *lines, **options):
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf8")
    nlp = spacy.blank("en")
    report = Report()
    docs = list(read_docs(path, nlp.vocab, "offsets", report, tokenizer=nlp.tokenizer, **options))
    return docs, report


def test_offsets_in_every_spelling(tmp_path):
    text = "Anna Brandt left Tarvik."
    spans = [[0, 11, "PER"], [17, 23, "LOC"]]
    objects = [{"start": start, "end": end, "label": label} for start, end, label in spans]
    lines = [
        {"text": text, key: value} for key in ("entities", "spans", "label", "labels") for value in (spans, objects)
    ]
    docs, report = read_offset_lines(tmp_path, *lines, {"text": "Nothing."}, {"text": ""})
    assert [[(ent.text, ent.label_) for ent in doc.ents] for doc in docs] == [
        [("Anna Brandt", "PER"), ("Tarvik", "LOC")]
    ] * 8 + [[]]
    assert docs[0].text == text
    assert (report.documents, report.misaligned, report.alignment_checked) == (9, 0, 16)


def test_offsets_within_a_token_leave_it_without_annotation(tmp_path):
    (doc,), report = read_offset_lines(tmp_path, {"text": "In Tarviknow it is", "entities": [[3, 9, "LOC"]]})
    assert report.misaligned == 1
    assert [token.ent_iob for token in doc] == [2, 0, 2, 2]


@pytest.mark.parametrize(
    "line, reason",
    [
        ("no json", "not json"),
        ('["text"]', 'no object with a "text"'),
        ({"text": 3}, 'no object with a "text"'),
        ({"text": "Anna", "entities": [[0, 9, "PER"]]}, "outside of the text of 4 characters"),
        ({"text": "Anna", "entities": [[2, 2, "PER"]]}, "is empty"),
        ({"text": "Anna", "entities": [[0, 4]]}, "neither"),
        ({"text": "Anna", "entities": [[0, True, "PER"]]}, "neither"),
        ({"text": "Anna", "entities": "PER"}, "neither"),
        ({"text": "Anna \ud800"}, "half of a character"),
        ({"text": "Anna", "entities": [[0, 4, "\ud800"]]}, "neither"),
        ({"text": "Anna B", "entities": [[0, 4, "PER"], [3, 6, "ORG"]]}, "overlap at character 3"),
    ],
)
def test_offsets_that_cannot_be_meant(tmp_path, line, reason):
    with pytest.raises(FormatError, match=re.escape(reason)) as caught:
        read_offset_lines(tmp_path, {"text": "fine"}, line)
    assert caught.value.line_number == 2 and "remedy" in str(caught.value)
    docs, report = read_offset_lines(tmp_path, {"text": "fine"}, line, on_error="skip")
    assert len(docs) == 1 and report.skipped == 1


def test_offsets_need_a_tokenizer(tmp_path):
    with pytest.raises(ValueError, match="needs a tokenizer"):
        read_docs(tmp_path / "x", spacy.blank("en").vocab, "offsets", Report())


# Json lines of tokens with spans that may overlap

GUILD = {
    "doc": "a",
    "tokens": ["Guild", "of", "Upper", "Tarn", "met", "Ada", "."],
    "spans": [[2, 4, "LOC"], [0, 4, "ORG"], [3, 4, "LOC"], [5, 6, "PER"], [0, 4, "GPE"]],
}


def span_lines(path: Path, *lines: Any) -> Path:
    return write(path, "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))


def triples(spans: Any) -> list[tuple[int, int, str]]:
    return [(span.start, span.end, span.label_) for span in spans]


def test_spans_stand_in_doc_spans_and_the_outermost_are_entities(tmp_path: Path) -> None:
    path = span_lines(tmp_path / "a.jsonl", GUILD, {**GUILD, "spans": []})
    report = Report()
    [doc] = read_docs(path, Vocab(), "spans", report, documents=True)
    assert SPANS_KEY == "sc"
    assert triples(doc.spans["sc"]) == [(0, 4, "GPE"), (0, 4, "ORG"), (2, 4, "LOC"), (3, 4, "LOC"), (5, 6, "PER")]
    assert triples(doc.ents) == [(0, 4, "GPE"), (5, 6, "PER")]
    assert {token.ent_iob_ for token in doc} == {"B", "I", "O"}
    assert (report.documents, report.sentences, report.tokens) == (1, 2, 14)
    assert report.entities == {"GPE": 1, "PER": 1}
    assert report.spans == {"GPE": 1, "ORG": 1, "LOC": 2, "PER": 1}
    rows = report.rows()
    assert ("spans in doc.spans['sc']", "5") in rows
    assert rows[-2:] == [
        ("spans left out of doc.ents, only in doc.spans", "3"),
        ("spans with more than one label", "1"),
    ]


def test_span_given_twice_is_kept_once_and_counted(tmp_path: Path) -> None:
    spans = [[0, 2, "X"], [0, 2, "Y"], [0, 2, "X", "ignored"]]
    path = span_lines(tmp_path / "a.jsonl", GUILD, {"tokens": ["a", "b"], "spans": spans})
    report = Report()
    _, [sentence] = read_spans(path, report)
    assert sentence.nested == [(0, 2, "X"), (0, 2, "Y")]
    assert report.spans["X"] == 1
    assert (f"repaired: {DUPLICATE}", f"1 (first at {path}:2)") in report.rows()


@pytest.mark.parametrize(
    ("spans", "chosen"),
    [
        ([], []),
        # Two of one width that cross: the first; the wider one goes before both.
        ([(1, 3, "X"), (0, 2, "X")], [(0, 2, "X")]),
        ([(0, 2, "X"), (1, 4, "X"), (3, 5, "X")], [(1, 4, "X")]),
        # What remains beside the widest is chosen too.
        ([(0, 1, "X"), (0, 2, "X"), (1, 4, "X")], [(0, 1, "X"), (1, 4, "X")]),
        ([(4, 5, "Z"), (4, 5, "Y"), (0, 3, "X")], [(0, 3, "X"), (4, 5, "Y")]),
    ],
)
def test_widest_spans_apart(spans: list[tuple[int, int, str]], chosen: list[tuple[int, int, str]]) -> None:
    assert widest_apart(spans) == widest_apart(spans[::-1]) == chosen


def test_lines_of_one_doc_are_one_document(tmp_path: Path) -> None:
    docs = ["a", "a", None, None, "b", "a", 1, 1]
    lines = [{"doc": doc, "tokens": [str(i)], "spans": []} for i, doc in enumerate(docs)]
    del lines[2]["doc"]
    path = span_lines(tmp_path / "a.jsonl", *lines[:3], "  ", *lines[3:])
    report = Report()
    documents = [[s.words[0] for s in document] for document in read_spans(path, report)]
    assert documents == [["0", "1"], ["2"], ["3"], ["4"], ["5"], ["6", "7"]]
    assert report.documents == 6


def test_spaces_of_span_lines(tmp_path: Path) -> None:
    line = {"tokens": ["Tarn", "."], "spaces": [False, True], "spans": [[0, 1, "LOC"]]}
    path = span_lines(tmp_path / "a.jsonl", line, {**line, "spaces": None})
    known, unknown = read_docs(path, Vocab(), "spans", Report())
    assert known.text == "Tarn. " and not known.has_unknown_spaces
    assert unknown.has_unknown_spaces


def test_spans_that_do_not_align_are_counted(tmp_path: Path) -> None:
    """The tokenizer leaves "Xyz1Tarn" whole: the inner span is lost to training, the outer one is not."""
    nlp = spacy.blank("en")
    spans = [[1, 3, "ORG"], [2, 3, "LOC"], [0, 3, "ORG"]]
    line = {"tokens": ["Ada", "Xyz1", "Tarn"], "spaces": [True, False, False], "spans": spans}
    report = Report()
    [doc] = read_docs(span_lines(tmp_path / "a.jsonl", line), nlp.vocab, "spans", report, tokenizer=nlp.tokenizer)
    assert len(doc.ents) == 1
    assert ("spans that do not align with the tokenizer", "1 of 3") in report.rows()


def related(*relations: Any) -> dict[str, Any]:
    return {"tokens": ["a", "b"], "spans": [[0, 1, "X"], [1, 2, "X"]], "relations": list(relations)}


BAD_SPAN_LINES = {
    "no json": ("{", "not json"),
    "endless number": ("1" * 9999, "not json"),
    "no object": ([], "no object"),
    "no tokens": ({"tokens": [], "spans": []}, 'no "tokens"'),
    "text for tokens": ({"tokens": "ab", "spans": []}, 'no "tokens"'),
    "empty token": ({"tokens": ["a", ""], "spans": []}, "the token 1 is empty"),
    "blank token": ({"tokens": [" "], "spans": []}, "the token 0 is empty"),
    "number as token": ({"tokens": [7], "spans": []}, "the token 0, 7, is no text"),
    "surrogate": ({"tokens": ["\ud800"], "spans": []}, "half of a character"),
    "surrogate in label": ({"tokens": ["a"], "spans": [[0, 1, "\ud800"]]}, "label that is no text"),
    "too few spaces": ({"tokens": ["a", "b"], "spaces": [True], "spans": []}, "1 spaces for 2 tokens"),
    "spaces as numbers": ({"tokens": ["a"], "spaces": [1], "spans": []}, "not a list of true and false"),
    "no spans": ({"tokens": ["a"], "entities": []}, 'no list of "spans"'),
    "span as object": ({"tokens": ["a"], "spans": [{"start": 0}]}, "the span {'start': 0} is not [start, end, label]"),
    "no label": ({"tokens": ["a"], "spans": [[0, 1]]}, "the span [0, 1] is not [start, end, label]"),
    "empty label": ({"tokens": ["a"], "spans": [[0, 1, ""]]}, "label that is no text"),
    "number as label": ({"tokens": ["a"], "spans": [[0, 1, 5]]}, "label that is no text"),
    "fraction": ({"tokens": ["a"], "spans": [[0, 1.0, "X"]]}, "no whole number"),
    "true for 1": ({"tokens": ["a"], "spans": [[0, True, "X"]]}, "no whole number"),
    "zero width": ({"tokens": ["a", "b"], "spans": [[1, 1, "X"]]}, "the span [1, 1, 'X'] has no token"),
    "end before start": ({"tokens": ["a", "b"], "spans": [[1, 0, "X"]]}, "has no token"),
    "negative": ({"tokens": ["a"], "spans": [[-1, 1, "X"]]}, "the span [-1, 1, 'X'] has a negative start"),
    "past the end": ({"tokens": ["a", "b"], "spans": [[1, 3, "X"]]}, "[1, 3, 'X'] reaches past the end"),
    "relations as object": ({"tokens": ["a"], "spans": [], "relations": {}}, '"relations" is no list'),
    "relation as object": (related({}), "the relation {} is not [head, tail, label]"),
    "relation of two": (related([0, 1]), "the relation [0, 1] is not [head, tail, label]"),
    "relation of four": (related([0, 1, "r", 1.0]), "is not [head, tail, label]"),
    "relation without label": (related([0, 1, ""]), "the relation [0, 1, ''] has a label that is no text"),
    "relation with surrogate": (related([0, 1, "\ud800"]), "has a label that is no text"),
    "head past the spans": (related([2, 0, "r"]), "[2, 0, 'r'] has a head or a tail that is none of the 2 spans"),
    "negative tail": (related([0, -1, "r"]), "none of the 2 spans, counted from 0"),
    "true for 1 in relation": (related([0, True, "r"]), "no whole number"),
    "past the end, length": ({"tokens": ["a", "b"], "spans": [[1, 3, "X"]]}, "the sentence of 2 tokens"),
}


@pytest.mark.parametrize("kind", BAD_SPAN_LINES)
def test_bad_span_lines(tmp_path: Path, kind: str) -> None:
    line, reason = BAD_SPAN_LINES[kind]
    path = span_lines(tmp_path / "bad.jsonl", GUILD, line, GUILD)
    with pytest.raises(FormatError, match=re.escape(reason)) as caught:
        list(read_spans(path, Report()))
    assert f"{path}:2: " in str(caught.value) and "remedy: write" in str(caught.value)
    report = Report()
    [document] = read_spans(path, report, on_error="skip")
    assert [s.words for s in document] == [GUILD["tokens"]] * 2
    assert (report.documents, report.sentences, report.skipped) == (1, 2, 1)
    assert report.spans.total() == 10
    assert reason in report.summary()


def test_span_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"tokens": ["M\xf6ss"], "spans": []}')
    with pytest.raises(FormatError, match="not UTF-8"):
        list(read_spans(path, Report()))
    with pytest.raises(ValueError, match="raise, skip"):
        read_spans(path, Report(), on_error="ignore")


def test_doc_has_spans_only_if_all_sentences_have_them() -> None:
    nested, flat = Sentence(["a"], nested=[(0, 1, "X")]), Sentence(["a"], spans=[(0, 1, "X")])
    assert "sc" not in make_doc(Vocab(), [nested, flat]).spans
    doc = make_doc(Vocab(), [nested, nested])
    assert triples(doc.spans["sc"]) == [(0, 1, "X"), (1, 2, "X")]
    # That there is none is annotation too.
    assert len(make_doc(Vocab(), [Sentence(["a"], nested=[])]).spans["sc"]) == 0


def test_corpus_keeps_spans_of_whole_docs_only(tmp_path: Path) -> None:
    """That spaCy's reader loses them where it splits Docs is said in `make_doc`; correct it there when this fails."""
    nlp = spacy.blank("en")
    path = span_lines(tmp_path / "a.jsonl", GUILD, GUILD)
    write_docbin(read_docs(path, nlp.vocab, "spans", Report(), documents=True), tmp_path / "a.spacy")
    [example] = Corpus(tmp_path / "a.spacy")(nlp)
    assert len(example.reference.spans["sc"]) == 10
    for options in ({"gold_preproc": True}, {"max_length": 10}):
        parts = list(Corpus(tmp_path / "a.spacy", **options)(nlp))
        assert len(parts) == 2 and not any("sc" in part.reference.spans for part in parts)


def test_convert_spans(tmp_path: Path) -> None:
    path = span_lines(tmp_path / "a.jsonl", GUILD, GUILD)
    command = ["ner-arch", "convert", str(path), str(tmp_path / "out"), "--format", "spans", "--documents"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert re.search(r"spans left out of doc\.ents, only in doc\.spans +6\n", result.output)
    assert re.search(r"spans with more than one label +2\n", result.output)
    [doc] = DocBin().from_disk(tmp_path / "out" / "a.spacy").get_docs(Vocab())
    assert len(doc.spans["sc"]) == 10 and len(doc.ents) == 4
    assert "spans" in CliRunner().invoke(app, ["ner-arch", "convert", "--help"]).output


@st.composite
def overlapping(draw: st.DrawFn) -> Sentence:
    """A sentence with spans that nest, cross and share their places."""
    words = draw(st.lists(tokens, min_size=1, max_size=8))
    bounds = st.lists(st.integers(0, len(words)), min_size=2, max_size=2, unique=True).map(sorted)
    span = st.tuples(bounds, st.sampled_from(["PER", "creative-work", "地点"]))
    spans = [(start, end, label) for (start, end), label in draw(st.lists(span, max_size=9))]
    return Sentence(words, nested=spans)


@settings(deadline=None, max_examples=100)
@given(
    documents=st.lists(st.lists(overlapping(), min_size=1, max_size=3), min_size=1, max_size=3),
    n_sents=st.sampled_from([None, 1, 2]),
    ascii_only=st.booleans(),
)
def test_no_token_and_no_span_is_lost(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[Sentence]], n_sents: int | None, ascii_only: bool
) -> None:
    """From the file, through grouping, the cut into two parts and DocBin, with every count in the report."""
    folder = tmp_path_factory.mktemp("spans")
    rows = [{"doc": n, "tokens": s.words, "spans": s.nested} for n, document in enumerate(documents) for s in document]
    path = write(folder / "a.jsonl", "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows))
    report = Report()
    options: dict[str, Any] = {"documents": True} if n_sents is None else {"n_sents": n_sents}
    docs = list(read_docs(path, Vocab(), "spans", report, **options))
    if n_sents is None:
        assert [len(list(doc.sents)) for doc in docs] == [len(document) for document in documents]
    for name, part in zip(("train", "dev"), split_docs(docs, 0.5, seed=0), strict=True):
        write_docbin(part, folder / f"{name}.spacy")

    loaded = [
        doc for name in ("train", "dev") for doc in DocBin().from_disk(folder / f"{name}.spacy").get_docs(Vocab())
    ]
    found: list[tuple[list[str], set[tuple[int, int, str]]]] = []
    for doc in loaded:
        spans, entities = triples(doc.spans["sc"]), triples(doc.ents)
        assert spans == sorted(set(spans)) and set(entities) <= set(spans)
        # What is no entity overlaps one that is at least as wide.
        for start, end, _ in set(spans) - set(entities):
            assert any(s < end and start < e and e - s >= end - start for s, e, _ in entities)
        for sent in doc.sents:
            inside = {(s - sent.start, e - sent.start, label) for s, e, label in spans if sent.start <= s < sent.end}
            found.append(([token.text for token in sent], inside))

    given_spans = [(s.words, set(s.nested or [])) for document in documents for s in document]
    assert sorted(found, key=repr_of) == sorted(given_spans, key=repr_of)
    n_given = sum(len(s.nested or []) for document in documents for s in document)
    assert report.spans.total() == sum(len(doc.spans["sc"]) for doc in loaded)
    assert report.spans.total() + report.repairs[DUPLICATE] == n_given
    assert report.spans.total() - report.only_spans == sum(len(doc.ents) for doc in loaded) == report.entities.total()


def repr_of(sentence: tuple[list[str], set[tuple[int, int, str]]]) -> str:
    return repr((sentence[0], sorted(sentence[1])))


# Relations

ADA, UPPER_TARN, TARN = (0, 1, "PER"), (2, 4, "LOC"), (3, 4, "LOC")
HOME = {
    "doc": "a",
    "tokens": ["Ada", "left", "Upper", "Tarn", "."],
    "spans": [[2, 4, "LOC"], [2, 4, "LOC"], [3, 4, "LOC"], [0, 1, "PER"]],
    # The second span stands twice; the numbers of the others stay.
    "relations": [[3, 1, "left"], [3, 2, "left"], [2, 0, "in"], [3, 0, "left"], [3, 3, "self"]],
}


def relations_of(doc: Doc) -> list[tuple[int, int, str, int, int, str, str]]:
    return [
        (r.head.start, r.head.end, r.head.label_, r.tail.start, r.tail.end, r.tail.label_, r.label)
        for r in doc._.relations
    ]


def test_relations_of_span_lines(tmp_path: Path) -> None:
    path = span_lines(tmp_path / "a.jsonl", {**HOME, "relations": []}, HOME)
    report = Report()
    [[none, sentence]] = read_spans(path, report)
    assert none.relations == []
    assert sentence.nested == [UPPER_TARN, TARN, ADA] and sentence.spans == [ADA, UPPER_TARN]
    assert sentence.relations == [
        (ADA, UPPER_TARN, "left"),
        (ADA, TARN, "left"),
        (TARN, UPPER_TARN, "in"),
        (ADA, ADA, "self"),
    ]
    assert report.relations == {"left": 2, "in": 1, "self": 1}
    rows = report.rows()
    assert ("relations", "4") in rows and ("relations left", "2") in rows
    assert (f"repaired: {DUPLICATE_RELATION}", f"1 (first at {path}:2)") in rows
    assert rows[-1] == ("relations with an argument left out of doc.ents", "2")
    [doc] = read_docs(path, Vocab(), "spans", Report(), documents=True)
    assert relations_of(doc) == [
        (5, 6, "PER", 7, 9, "LOC", "left"),
        (5, 6, "PER", 8, 9, "LOC", "left"),
        (8, 9, "LOC", 7, 9, "LOC", "in"),
        (5, 6, "PER", 5, 6, "PER", "self"),
    ]
    write_docbin([doc], tmp_path / "a.spacy")
    [loaded] = DocBin().from_disk(tmp_path / "a.spacy").get_docs(Vocab())
    assert relations_of(loaded) == relations_of(doc)


def test_without_the_layer_no_relations_are_set(tmp_path: Path) -> None:
    bare = {key: value for key, value in HOME.items() if key != "relations"}
    path = span_lines(tmp_path / "a.jsonl", HOME, {**bare, "relations": None}, {**bare, "doc": "b"})
    report = Report()
    assert not any(has_relations(doc) for doc in read_docs(path, Vocab(), "spans", report, documents=True))
    # Dropped because the other sentence of their Doc does not tell; alone they stand.
    assert ("relations dropped, as other sentences of the Doc have none", "4") in report.rows()
    assert ("sentences annotated with relations", "1 of 3") in report.rows()
    report = Report()
    docs = list(read_docs(path, Vocab(), "spans", report))
    assert [has_relations(doc) for doc in docs] == [True, False, False]
    assert report.relations_dropped == 0
    report = Report()
    list(read_spans(span_lines(tmp_path / "b.jsonl", bare), report))
    assert not any("relation" in name for name, _ in report.rows())


def test_relations_that_do_not_align_are_counted(tmp_path: Path) -> None:
    """The tokenizer leaves "Xyz1Tarn" whole."""
    nlp = spacy.blank("en")
    line = {
        "tokens": ["Ada", "Xyz1", "Tarn"],
        "spaces": [True, False, False],
        "spans": [[0, 1, "PER"], [1, 3, "ORG"], [2, 3, "LOC"]],
        "relations": [[0, 1, "a"], [0, 2, "a"], [2, 2, "a"]],
    }
    report = Report()
    path = span_lines(tmp_path / "a.jsonl", line, {**line, "spaces": None})
    list(read_docs(path, nlp.vocab, "spans", report, tokenizer=nlp.tokenizer))
    assert ("relations whose arguments do not align with the tokenizer", "2 of 3") in report.rows()


def test_sample_has_relations(tmp_path: Path) -> None:
    path = Path(__file__).parent.parent / "assets" / "sample" / "dev.jsonl"
    report = Report()
    docs = list(read_docs(path, Vocab(), "spans", report, documents=True))
    given = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum(len(doc._.relations) for doc in docs) == report.relations.total()
    assert report.relations.total() == sum(len(row["relations"]) for row in given) > 0
    assert report.relations_beside_entities == report.relations_dropped == 0


# SpERT


def spert_object(**changes: Any) -> dict[str, Any]:
    entities = [{"type": "LOC", "start": 2, "end": 4}, {"type": "PER", "start": 0, "end": 1, "more": 1}]
    relations = [{"type": "left", "head": 1, "tail": 0}]
    return {"tokens": HOME["tokens"], "entities": entities, "relations": relations, "orig_id": 7, **changes}


def test_spert(tmp_path: Path) -> None:
    nested = {"type": "LOC", "start": 3, "end": 4}
    twice = spert_object(entities=[*spert_object()["entities"], nested], relations=spert_object()["relations"] * 2)
    items = [spert_object(), twice, spert_object(entities=[], relations=[])]
    path = write(tmp_path / "a.json", json.dumps(items, indent=1), "utf-8-sig")
    report = Report()
    documents = list(read_spert(path, report))
    assert [len(document) for document in documents] == [1, 1, 1]
    [[flat], [overlaps], [empty]] = documents
    assert flat.words == HOME["tokens"] and flat.spaces is None
    assert flat.spans == overlaps.spans == [ADA, UPPER_TARN]
    assert flat.nested == [UPPER_TARN, ADA] and overlaps.nested == [UPPER_TARN, ADA, TARN]
    assert flat.relations == overlaps.relations == [(ADA, UPPER_TARN, "left")]
    assert empty.nested == empty.relations == empty.spans == []
    assert (report.documents, report.sentences, report.relations) == (3, 3, {"left": 2})
    assert (f"repaired: {DUPLICATE_RELATION}", f"1 (first at {path}:2)") in report.rows()


BAD_SPERT_OBJECTS = {
    "no object": ([], "no object with"),
    "no tokens": (spert_object(tokens=None), 'no "tokens"'),
    "other format": ({"tokens": ["a"], "spans": []}, 'no list of "entities"; that of a sentence without any is []'),
    "no relations": (spert_object(relations=None), 'no list of "relations"'),
    "entity as list": (spert_object(entities=[[0, 1, "PER"]]), 'in "entities" is no object with start, end, type'),
    "past the end": (spert_object(entities=[{"type": "X", "start": 4, "end": 6}]), "the span [4, 6, 'X'] reaches past"),
    "no tail": (spert_object(relations=[{"type": "left", "head": 1}]), "is no object with head, tail, type"),
    "no such entity": (spert_object(relations=[{"type": "r", "head": 1, "tail": 2}]), "none of the 2 spans"),
    "number as label": (spert_object(relations=[{"type": 3, "head": 1, "tail": 0}]), "label that is no text"),
}


@pytest.mark.parametrize("kind", BAD_SPERT_OBJECTS)
def test_bad_spert_objects(tmp_path: Path, kind: str) -> None:
    item, reason = BAD_SPERT_OBJECTS[kind]
    path = write(tmp_path / "bad.json", json.dumps([spert_object(), item, spert_object()]))
    with pytest.raises(FormatError, match=re.escape(reason)) as caught:
        list(read_spert(path, Report()))
    assert f"{path}:2: object 2: " in str(caught.value) and "remedy: write a list of objects" in str(caught.value)
    report = Report()
    assert len(list(read_spert(path, report, on_error="skip"))) == 2
    assert (report.skipped, report.sentences, report.relations.total()) == (1, 2, 2)
    assert reason in report.summary()


@pytest.mark.parametrize(
    ("content", "line_number", "reason"),
    [
        (b'[\n{"tokens": [}', 2, "not json"),
        (b'{"tokens": ["a"]}\n{"tokens": ["b"]}\n', 2, "not json"),
        (b"", 1, "not json"),
        (b"[" + b"1" * 9999 + b"]", 1, "not json"),
        (b'{"tokens": ["a"]}', 1, "no json list"),
        (b'[\n"M\xf6ss"]', 2, "not UTF-8"),
    ],
)
def test_spert_file_that_is_no_list(tmp_path: Path, content: bytes, line_number: int, reason: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    for on_error in ("raise", "skip"):
        with pytest.raises(FormatError, match=reason) as caught:
            list(read_spert(path, Report(), on_error=on_error))
        assert caught.value.line_number == line_number
    with pytest.raises(ValueError, match="raise, skip"):
        read_spert(path, Report(), on_error="ignore")


# SemEval


def marked(text: str, relation: str = "Other", number: int = 1) -> str:
    return f'{number}\t"{text}"\n{relation}\nComment: invented\n\n'


JAR = "The <e1>jam jar</e1>'s <e2>lid</e2>."


def test_semeval(tmp_path: Path) -> None:
    texts = [
        marked(JAR, "Component-Whole(e2,e1)"),
        marked("An <e2>odd</e2>  order:\u00a0<e1>first</e1>", "Cause-Effect(e2,e1)"),
        marked(JAR, "Component-Whole(e1,e2)"),
        marked(JAR),
    ]
    path = write(tmp_path / "a.txt", "".join(texts).replace("\n", "\r\n"))
    report = Report()
    documents = list(read_semeval(path, report))
    assert [len(document) for document in documents] == [1] * 4
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
    assert not report.repairs


def test_semeval_splits_words_at_the_borders_of_nominals(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", marked("pre<e1>Tarn</e1><e2>Quill</e2>post end"))
    report = Report()
    [[sentence]] = read_semeval(path, report)
    assert sentence.words == ["pre", "Tarn", "Quill", "post", "end"]
    assert sentence.spans == [(1, 2, "NOMINAL"), (2, 3, "NOMINAL")]
    assert report.repairs == {TOKEN_SPLIT: 1}
    # Training keeps these tokens, so that the nominals are not lost.
    nlp = spacy.blank("en")
    write_docbin(read_docs(path, nlp.vocab, "semeval", Report(), tokenizer=nlp.tokenizer), tmp_path / "a.spacy")
    [example] = Corpus(tmp_path / "a.spacy")(nlp)
    assert [token.text for token in example.predicted] == sentence.words
    assert has_relations(example.reference)


BAD_SEMEVAL = {
    "no number": (marked(JAR)[2:], 5, "no number, tab and text in quotes"),
    "no quotes": (f"1\t{JAR}\nOther\n\n", 5, "no number, tab and text in quotes"),
    "no marks": (marked("The lid."), 5, "the marks are missing"),
    "no second nominal": (marked("The <e1>lid</e1>."), 5, "the marks are <e1> </e1> where"),
    "overlap": (marked("The <e1>jam <e2>jar</e1> lid</e2>."), 5, "the marks are <e1> <e2> </e1> </e2> where"),
    "nominal twice": (marked(f"{JAR} <e1>x</e1>"), 5, "<e1> </e1> <e2> </e2> <e1> </e1> where"),
    "empty nominal": (marked("The <e1> </e1><e2>lid</e2>."), 5, "the nominal e1 has no word"),
    "no relation": (f'1\t"{JAR}"\n\n', 5, "no relation on the line below"),
    "comment for relation": (f'1\t"{JAR}"\nComment:\n\n', 6, "'Comment:' is no relation of e1 and e2"),
    "no direction": (marked(JAR, "Component-Whole"), 6, "'Component-Whole' is no relation of e1 and e2"),
    "relation to itself": (marked(JAR, "Cause-Effect(e1,e1)"), 6, "is no relation of e1 and e2"),
    "no blank line": (marked(JAR)[:-1] + marked(JAR), 8, "neither a comment nor a blank line"),
    "no comment": (f'1\t"{JAR}"\nOther\n2\t"{JAR}"\nOther\n\n', 7, "neither a comment nor a blank line"),
}


@pytest.mark.parametrize("kind", BAD_SEMEVAL)
def test_bad_semeval_texts(tmp_path: Path, kind: str) -> None:
    text, line_number, reason = BAD_SEMEVAL[kind]
    path = write(tmp_path / "bad.txt", marked(JAR) + text + marked(JAR))
    with pytest.raises(FormatError, match=re.escape(reason)) as caught:
        list(read_semeval(path, Report()))
    assert caught.value.line_number == line_number and caught.value.remedy
    report = Report()
    assert len(list(read_semeval(path, report, on_error="skip"))) == 2
    assert (report.skipped, report.sentences) == (1, 2)
    assert reason in report.summary()


def test_semeval_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(marked(JAR).encode("utf-8").replace(b"jar", b"j\xf6r"))
    with pytest.raises(FormatError, match="not UTF-8"):
        list(read_semeval(path, Report()))
    with pytest.raises(ValueError, match="raise, skip"):
        read_semeval(path, Report(), on_error="ignore")


@pytest.mark.parametrize("format", ["spert", "semeval"])
def test_convert_relations(tmp_path: Path, format: str) -> None:
    content = {"spert": json.dumps([spert_object()]), "semeval": marked(JAR, "Component-Whole(e2,e1)")}[format]
    path = write(tmp_path / "a.txt", content)
    result = CliRunner().invoke(app, ["ner-arch", "convert", str(path), str(tmp_path / "out"), "--format", format])
    assert result.exit_code == 0, result.output
    assert re.search(r"relations +1\n", result.output)
    [doc] = DocBin().from_disk(tmp_path / "out" / "a.spacy").get_docs(Vocab())
    [relation] = doc._.relations
    expected = {"spert": ("Ada", "left", "Upper Tarn"), "semeval": ("lid", "Component-Whole", "jam jar")}[format]
    assert (relation.head.text, relation.label, relation.tail.text) == expected


@st.composite
def overlapping_related(draw: st.DrawFn) -> Sentence:
    """A sentence with spans that nest, cross and stand twice, and relations between any of them."""
    sentence = draw(overlapping())
    spans = st.sampled_from(sentence.nested) if sentence.nested else st.nothing()
    names = st.sampled_from(["in", "地点"])
    sentence.relations = draw(st.lists(st.tuples(spans, spans, names), max_size=6)) if sentence.nested else []
    return sentence


@settings(deadline=None, max_examples=60)
@given(sentences=st.lists(overlapping_related(), min_size=1, max_size=4), data=st.data())
@pytest.mark.parametrize("format", ["spans", "spert"])
def test_no_relation_is_lost(
    tmp_path_factory: pytest.TempPathFactory, format: str, sentences: list[Sentence], data: st.DataObject
) -> None:
    """From the file through joined sentences and DocBin, whichever of two equal spans a relation names."""
    path = tmp_path_factory.getbasetemp() / f"property.{format}"
    lines = []
    for s in sentences:
        places: dict[Any, list[int]] = {}
        for i, span in enumerate(s.nested or []):
            places.setdefault(span, []).append(i)

        def place(span: Any, places: dict[Any, list[int]] = places) -> int:
            return data.draw(st.sampled_from(places[span]))

        relations = [(place(head), place(tail), label) for head, tail, label in s.relations or []]
        lines.append({"doc": 1, "tokens": s.words, "spans": s.nested, "relations": relations})
    if format == "spans":
        write(path, "\n".join(json.dumps(line) for line in lines))
    else:
        items = [
            {
                "tokens": line["tokens"],
                "entities": [dict(zip(("start", "end", "type"), span, strict=True)) for span in line["spans"]],
                "relations": [dict(zip(("head", "tail", "type"), row, strict=True)) for row in line["relations"]],
            }
            for line in lines
        ]
        write(path, json.dumps(items, ensure_ascii=False))
    report = Report()
    write_docbin(read_docs(path, Vocab(), format, report, documents=True), path.with_suffix(".spacy"))
    loaded = list(DocBin().from_disk(path.with_suffix(".spacy")).get_docs(Vocab()))
    found = []
    expected = []
    start = 0
    for doc_number, doc in enumerate(loaded):
        found += [(doc_number, *relation) for relation in relations_of(doc)]
    for number, s in enumerate(sentences):
        for (h0, h1, h), (t0, t1, t), label in dict.fromkeys(s.relations or []):
            doc_number, shift = (0, start) if format == "spans" else (number, 0)
            expected.append((doc_number, h0 + shift, h1 + shift, h, t0 + shift, t1 + shift, t, label))
        start += len(s.words)
    assert found == expected
    assert report.relations.total() == len(expected)
    assert report.relations.total() + report.repairs[DUPLICATE_RELATION] == sum(
        len(s.relations or []) for s in sentences
    )
