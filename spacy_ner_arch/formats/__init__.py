"""Readers of annotated corpora, and their way into spaCy's training files."""

from spacy_ner_arch.formats.conll import read_conll
from spacy_ner_arch.formats.conllu import read_conllu
from spacy_ner_arch.formats.docbin import write_docbin
from spacy_ner_arch.formats.docs import FORMATS, count_misaligned, count_misaligned_relations, read_docs, split_docs
from spacy_ner_arch.formats.offsets import read_offsets
from spacy_ner_arch.formats.report import FormatError, Report
from spacy_ner_arch.formats.semeval import read_semeval
from spacy_ner_arch.formats.sentence import SPANS_KEY, Sentence, make_doc
from spacy_ner_arch.formats.spans import read_spans
from spacy_ner_arch.formats.spert import read_spert

__all__ = [
    "FORMATS",
    "SPANS_KEY",
    "FormatError",
    "Report",
    "Sentence",
    "count_misaligned",
    "count_misaligned_relations",
    "make_doc",
    "read_conll",
    "read_conllu",
    "read_docs",
    "read_offsets",
    "read_semeval",
    "read_spans",
    "read_spert",
    "split_docs",
    "write_docbin",
]
