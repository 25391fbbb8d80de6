"""What several tests share: tiny pipelines and examples."""

import os

# Before torch is imported: timings and results must not hang on how many cores a machine has.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import spacy
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config

TRAIN = [
    ("Anna Brandt lives in Tarvik .", [(0, 2, "PER"), (4, 5, "LOC")]),
    ("Yesterday Tarvik was quiet .", [(1, 2, "LOC")]),
    ("The Brenna Gazette hired Olaf Quist Meyer .", [(1, 3, "ORG"), (4, 7, "PER")]),
    ("Nothing happened .", []),
    ("Quist left Brenna for Tarvik with Anna .", [(0, 1, "PER"), (2, 3, "LOC"), (4, 5, "LOC"), (6, 7, "PER")]),
]

SMALL_MODEL = """
[model]
@architectures = "spacy_ner_arch.{head}.v1"

[model.tok2vec]
@architectures = "spacy.MultiHashEmbed.v2"
width = 16
attrs = ["NORM", "SHAPE"]
rows = [200, 100]
include_static_vectors = false

[model.encoder]
@architectures = "spacy_ner_arch.BiLSTM.v1"
hidden_size = 12
"""


def small_model(head: str = "CRF") -> dict:
    return Config().from_str(SMALL_MODEL.format(head=head))["model"]


def make_examples(nlp, data=TRAIN) -> list[Example]:
    """Examples of (words joined by blanks, spans in tokens)."""
    examples = []
    for text, spans in data:
        words = text.split(" ")
        reference = Doc(nlp.vocab, words=words)
        reference.set_ents([spacy.tokens.Span(reference, *span) for span in spans], default="outside")
        examples.append(Example(Doc(nlp.vocab, words=words), reference))
    return examples


def make_nlp(head: str = "CRF", **settings):
    nlp = spacy.blank("en")
    nlp.add_pipe("sequence_ner", config={"model": small_model(head), **settings})
    return nlp


def train(nlp, examples, steps: int = 60, learn_rate: float = 0.01) -> None:
    """Overfit."""
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = learn_rate
    for _ in range(steps):
        nlp.update(examples, sgd=optimizer)


def entities(doc) -> list[tuple]:
    return [(ent.start, ent.end, ent.label_) for ent in doc.ents]


@pytest.fixture(scope="session")
def trained():
    """A pipeline that knows TRAIN by heart. Read only: change a copy of it."""
    nlp = make_nlp()
    train(nlp, make_examples(nlp))
    return nlp


@pytest.fixture
def copy_of(tmp_path):
    """Independent copy of a pipeline, by way of the disk."""

    def copy(nlp):
        nlp.to_disk(tmp_path / "copy")
        return spacy.load(tmp_path / "copy")

    return copy
