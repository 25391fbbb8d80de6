"""Readers of annotated corpora, their conversion to Docs, and writers for annotation tools."""

from .counts import ReadReport
from .detect import detect_format
from .docbins import (
    describe_long_texts,
    find_docbins,
    group_docs,
    parse_docbin,
    read_docbin,
    read_docbins,
    split_docs,
    write_docbin,
    write_docbins,
)
from .readers import FORMATS
from .to_docs import read_docs
from .writers import WRITERS, write_docs

__all__ = [
    "FORMATS",
    "WRITERS",
    "ReadReport",
    "describe_long_texts",
    "detect_format",
    "find_docbins",
    "group_docs",
    "parse_docbin",
    "read_docbin",
    "read_docbins",
    "read_docs",
    "split_docs",
    "write_docbin",
    "write_docbins",
    "write_docs",
]
