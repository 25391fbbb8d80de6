"""Readers of annotated corpora, and their way into spaCy's training files."""

from spacy_ner_arch.formats.conll import read_conll
from spacy_ner_arch.formats.conllu import read_conllu
from spacy_ner_arch.formats.docbin import write_docbin
from spacy_ner_arch.formats.docs import FORMATS, count_misaligned, read_docs, split_docs
from spacy_ner_arch.formats.offsets import read_offsets
from spacy_ner_arch.formats.report import FormatError, Report
from spacy_ner_arch.formats.sentence import Sentence, make_doc

__all__ = [
    "FORMATS",
    "FormatError",
    "Report",
    "Sentence",
    "count_misaligned",
    "make_doc",
    "read_conll",
    "read_conllu",
    "read_docs",
    "read_offsets",
    "split_docs",
    "write_docbin",
]
