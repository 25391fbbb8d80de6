"""Readers of annotated corpora, their conversion to Docs, and writers for annotation tools."""

from .conll import read_conll
from .conllu import read_conllu
from .counts import ReadReport
from .detect import detect_format
from .docbins import find_docbins, parse_docbin, read_docbin, read_docbins, split_docs, write_docbin, write_docbins
from .json_spans import read_spans, read_spert
from .lines import FormatError
from .readers import FORMATS, read_docs
from .semeval import read_semeval
from .sentence import SPANS_KEY, Sentence, make_doc
from .writers import WRITERS, write_docs

__all__ = [
    "FORMATS",
    "SPANS_KEY",
    "WRITERS",
    "FormatError",
    "ReadReport",
    "Sentence",
    "detect_format",
    "find_docbins",
    "make_doc",
    "parse_docbin",
    "read_conll",
    "read_conllu",
    "read_docbin",
    "read_docbins",
    "read_docs",
    "read_semeval",
    "read_spans",
    "read_spert",
    "split_docs",
    "write_docbin",
    "write_docbins",
    "write_docs",
]
