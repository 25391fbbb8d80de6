"""Stored predictions instead of a pipeline: those of another system, or another annotation of the same texts."""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc
from spacy.training import Example
from wasabi import msg

from ..annotation.describe import Counted, quote
from ..annotation.layers import count_layers
from ..annotation.words import bare_text, text_key

# Layers of annotation that predictions can have, by the names of their counts in a manifest of `ner-arch annotate`.
LAYERS = {"entities": "doc.ents", "spans": "doc.spans", "relations": "doc._.relations"}


class StoredPredictions:
    """A component that replaces each document by the stored one with the same text, apart from white space.

    Documents with the same text come in the order in which they are stored. A document without text needs none.

    path: file or folder of the documents, for messages.
    layers: the layers of annotation that are predictions, of LAYERS.
    docs: the stored documents by their text without white space.
    """

    def __init__(self) -> None:
        self.path = Path()
        self.layers: Collection[str] = ()
        self.docs = defaultdict[str, deque[Doc]](deque)

    def fill(self, path: Path, docs: Iterable[Doc], layers: Collection[str]) -> None:
        """Store the documents of a file or folder, without the entities and spans that are no predictions."""
        self.path, self.layers = path, layers
        for doc in docs:
            if "doc.ents" not in layers:
                doc.set_ents([], default="missing")
            if "doc.spans" not in layers:
                doc.spans.clear()
            self.docs[bare_text(doc.text)].append(doc)

    def __call__(self, doc: Doc) -> Doc:
        key = bare_text(doc.text)
        stored = self.docs.get(key)
        if not stored and not key:
            return doc
        if not stored:
            wanted = text_key(key)
            if any(text_key(other) == wanted for other, docs in self.docs.items() if docs):
                raise ValueError(
                    f"{self.path} has the text {quote(doc.text)} in another Unicode form (NFC, NFD), so that the "
                    "places of entities differ: bring the texts of both to one form, and predict them again"
                )
            raise ValueError(
                f"{self.path} has no predictions for the text {quote(doc.text)}, or for one of its copies: divide both "
                "into the same documents (`ner-arch convert --documents` or --n-sents), predict the whole corpus, or "
                "give only the documents with predictions as the corpus"
            )
        return stored.popleft()

    def left(self) -> Counted:
        """The documents that have not replaced another one, with an example."""
        left = Counted()
        for docs in self.docs.values():
            left.add([doc.text for doc in docs if len(doc)], quote)
        return left

    def score(self, examples: Iterable[Example], **settings: Any) -> dict[str, Any]:
        """The scores of the layers, with the keys of the components that set them."""
        from spacy.pipeline.spancat import spancat_score

        from ..evaluation.scorers import score_relations

        examples = list(examples)
        keys = {key for eg in examples for key in eg.predicted.spans}
        scores = get_ner_prf(examples) if "doc.ents" in self.layers else {}
        for key in sorted(keys):
            scores |= spancat_score(examples, spans_key=key)
        return scores | (score_relations(examples) if "doc._.relations" in self.layers else {})


def warn_of_left(stored: StoredPredictions, corpus: Path) -> None:
    """Warn about stored documents that are not in the corpus."""
    if (left := stored.left()).count:
        msg.warn(f"{stored.path}: {left.count} documents are not in {corpus}, such as {left.first}")


def is_stored(model: str) -> bool:
    """Whether the name of a pipeline is that of a .spacy file, or of a folder with such files."""
    path = Path(model)
    is_folder = path.is_dir() and not (path / "config.cfg").exists()
    return path.suffix == ".spacy" or (is_folder and any(path.rglob("*.spacy")))


def stored_files(model: str | None) -> list[Path]:
    """The files of stored predictions; none for a pipeline. Raises ValueError as `find_docbins` does."""
    from ..formats import find_docbins

    return find_docbins(Path(model)) if model is not None and is_stored(model) else []


def predicted_layers(path: Path) -> list[str]:
    """The layers that can be predictions: in an output of `ner-arch annotate`, those that its pipeline has set.

    The documents of such an output also keep the other layers of its input, which may be gold annotation.
    """
    from ..formats.manifest import MANIFEST, is_output, read_manifest

    folder = path if path.is_dir() else path.parent
    if not is_output(folder):
        return list(LAYERS.values())
    shards = read_manifest(folder / MANIFEST)[1:]
    return [layer for name, layer in LAYERS.items() if any(name in shard for shard in shards)]


def load_stored(path: Path) -> Language:
    """A pipeline with the stored predictions as its component, which declares the layers that they have.

    Raises ValueError for a damaged file and for predictions without a layer, OSError for a file that cannot be read.
    """
    from ..formats import read_docbins

    nlp = spacy.blank("xx")
    nlp.meta["name"] = path.name
    docs = list(read_docbins(path, nlp.vocab))
    found = set[str]().union(*map(count_layers, docs))
    predicted = predicted_layers(path)
    assigns = [layer for layer in predicted if any(name.startswith(layer) for name in found)]
    if not assigns:
        raise ValueError(f"{path} has no annotation of entities, spans or relations")
    # A component keeps the declaration that its factory had when the component was made.
    Language.factory("stored_predictions", assigns=assigns, func=make_stored_predictions)
    pipe: Any = nlp.add_pipe("stored_predictions")
    pipe.fill(path, docs, assigns)
    return nlp


def make_stored_predictions(nlp: Language, name: str) -> StoredPredictions:
    return StoredPredictions()
