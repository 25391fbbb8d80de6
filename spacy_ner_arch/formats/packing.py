"""User data of documents as MessagePack, as srsly writes and reads it, in a tenth of the time.

srsly searches the installed packages for encoders and decoders at every call, which takes longer than the rest of a
sentence.
"""

import threading
from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from typing import Any

from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab
from srsly.msgpack import Packer, msgpack_decoders, unpackb

Default = Callable[[Any], Any] | None


class _Packers(threading.local):
    """The packer of each `default`. A packer is not thread-safe."""

    def __init__(self) -> None:
        self.of: dict[Default, Packer] = {}


_packers = _Packers()


def pack(value: Any, default: Default = None) -> bytes:
    """A value as MessagePack.

    default: module-level function that converts a value that MessagePack cannot store.
    Raises TypeError, ValueError or OverflowError for a value that cannot be packed.
    """
    if default not in _packers.of:
        _packers.of[default] = Packer(use_bin_type=True, default=default)
    packed: bytes = _packers.of[default].pack(value)
    return packed


def add_with_user_data(doc_bin: DocBin, doc: Doc) -> None:
    """Add a Doc with its user data.

    doc_bin: a DocBin without `store_user_data`, which must be set before it is stored.
    """
    doc_bin.add(doc)
    doc_bin.user_data.append(pack(doc.user_data))


def docs_with_user_data(doc_bin: DocBin, vocab: Vocab) -> Iterator[Doc]:
    """The Docs, with their user data if it is stored."""
    decode = None
    for decoder in msgpack_decoders.get_all().values():
        decode = partial(decoder, chain=decode)

    def as_value(pairs: list[tuple[Any, Any]]) -> Any:
        return decode(dict(pairs)) if decode else dict(pairs)

    # Remove the user data, which spaCy would unpack slowly.
    without = copy(doc_bin)
    without.user_data = []
    for i, doc in enumerate(without.get_docs(vocab)):
        if i < len(doc_bin.user_data) and doc_bin.user_data[i] is not None:
            doc.user_data.update(unpackb(doc_bin.user_data[i], raw=False, use_list=False, object_pairs_hook=as_value))
        yield doc
