"""The formats of corpora, and their readers.

Each format has a reader, a generator `read_FORMAT(path, report, *, on_error="raise", **options)`:

path: the file, UTF-8.
report: ReadReport that counts items that are read, repaired or left out.
on_error: "raise" an error for a malformed sentence, or "skip" the sentence and count it.
Yields a list of Sentences for each document, or part of a document with a key, see `Sentence`. No list is empty.
Raises FormatError for a malformed sentence.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from .argilla import read_argilla
from .brat import read_brat
from .conll import read_conll
from .conllu import read_conllu
from .corpora import DocredRecord, DygieRecord, GlinerRecord, TacredRecord, read_corpus
from .csv_tokens import read_csv
from .datasets import read_datasets
from .json_spans import read_spans, read_spert
from .label_studio import read_label_studio
from .offsets import CluenerRecord, DoccanoRecord, OffsetsRecord, PairRecord, read_texts
from .prodigy import ProdigyRecord
from .records import ANNOTATION_KEYS
from .semeval import read_semeval
from .sentence import Sentence
from .spacy_json import read_spacy_json
from .spacy_v2_json import read_training_json


class Format(NamedTuple):
    """A format of corpora.

    read: the reader.
    content: description of the format, for lists of formats.
    keys: for JSON objects and tables: an object that has all keys of one of these strings has the format.
    options: names of the additional options of the reader.
    whole: whether each document becomes one Doc, so that sentences cannot be grouped.
    tables: whether the reader also reads Parquet and Arrow files.
    spaces: whether the source may state the spaces between its tokens. Its text is then tokenized again in training,
        and entities can be aligned with the tokenizer, see `word_spans.align_words`.
    sentences: whether the source has single sentences, and does not say to which documents they belong.
    """

    read: Callable[..., Iterator[list[Sentence]]]
    content: str
    keys: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    whole: bool = False
    tables: bool = False
    spaces: bool = False
    sentences: bool = False

    @property
    def has_texts(self) -> bool:
        """Whether the source has texts that must be tokenized."""
        return "align" in self.options

    def takes(self, option: str) -> bool:
        """Whether the format has an option."""
        return option in self.options or (option == "align" and self.spaces)


OF_TEXTS = ("align", "unit")
OF_RECORDS = (*OF_TEXTS, "fields", "rename")
OF_TOOL_RECORDS = (*OF_RECORDS, "annotators")

# JSON is read in the first format whose keys it has.
FORMATS: dict[str, Format] = {
    "conll": Format(read_conll, "columns with a token and a tag on each line", options=("column",)),
    "conllu": Format(read_conllu, "CoNLL-U", options=("misc_key",), spaces=True),
    "semeval": Format(read_semeval, "relations of SemEval-2010 task 8", sentences=True),
    "csv": Format(read_csv, "CSV with a token and a tag on each line", sentences=True),
    "brat": Format(read_brat, "brat: a folder of .txt and .ann", options=("align",), whole=True),
    "label-studio": Format(
        read_label_studio,
        "Label Studio: JSON or JSON-MIN",
        ("data annotations", "data completions", "annotation_id annotator"),
        OF_TOOL_RECORDS,
        True,
    ),
    "argilla": Format(
        read_argilla,
        "Argilla: records with spans",
        ("fields responses", "text *.responses", "text annotation"),
        OF_TOOL_RECORDS,
        True,
        tables=True,
    ),
    "prodigy": Format(
        partial(read_texts, ProdigyRecord),
        "Prodigy: JSON lines of db-out",
        ("text _input_hash", "text spans answer", "text spans meta"),
        OF_TOOL_RECORDS,
        True,
    ),
    "doccano": Format(
        partial(read_texts, DoccanoRecord),
        "doccano: JSONL or JSONL(relation)",
        (
            "id text Comments",
            "text annotation_approver",
            "id text cats entities",
            "id text entities relations",
            "id text label",
        ),
        OF_TOOL_RECORDS,
        True,
    ),
    "spacy-v2-json": Format(read_training_json, "training format of spaCy 2 as JSON", ("paragraphs",), spaces=True),
    "spacy-v2": Format(
        partial(read_texts, PairRecord), "training data of spaCy 2: [text, annotation]", (), OF_RECORDS, True
    ),
    "cluener": Format(
        partial(read_texts, CluenerRecord),
        "CLUENER: JSON lines with mentions by label and wording",
        (),
        OF_RECORDS,
        True,
    ),
    "spacy-json": Format(
        read_spacy_json,
        "Doc.to_json of spaCy",
        ("text tokens ents", "text tokens sents", "text tokens spans"),
        whole=True,
        spaces=True,
    ),
    "datasets": Format(
        read_datasets,
        "Hugging Face datasets: JSON, Parquet or Arrow with tokens and tags",
        ("tokens ner_tags", "tokens ner", "tokens tags", "tokens labels", "words ner_tags", "words labels"),
        ("tag_names",),
        tables=True,
        sentences=True,
    ),
    "gliner": Format(
        partial(read_corpus, GlinerRecord), "training data of GLiNER", ("tokenized_text ner",), whole=True
    ),
    "dygie": Format(partial(read_corpus, DygieRecord), "DyGIE++ and SciERC", ("sentences ner",), whole=True),
    "docred": Format(partial(read_corpus, DocredRecord), "DocRED", ("sents vertexSet",), whole=True),
    "tacred": Format(
        partial(read_corpus, TacredRecord), "TACRED", ("token subj_start obj_start relation",), whole=True
    ),
    "spert": Format(read_spert, "JSON list as published with SpERT", ("tokens entities relations",), sentences=True),
    "offsets": Format(
        partial(read_texts, OffsetsRecord),
        "JSON with texts and character offsets",
        tuple(f"text {key}" for key in ANNOTATION_KEYS),
        OF_RECORDS,
        True,
    ),
    "spans": Format(read_spans, "JSON with tokens and spans", ("tokens spans",), spaces=True),
}
