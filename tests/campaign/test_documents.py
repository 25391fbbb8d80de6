"""Hostile documents: no pipeline fails on one, and each gets the same result alone and in a batch.

Documents are described by a number: the same one is the same document on every machine.
"""

import random
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import spacy
from conftest import TRAIN
from spacy.attrs import ENT_IOB
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import filter_spans
from spacy.vocab import Vocab
from test_configs import ROOT, make_corpus, small_config  # noqa: F401 - the fixture `corpus`

from campaign.rows import add_row

PIPELINES = [
    "bilstm_crf",
    "span_bilstm",
    "nested",
    "synlstm_crf",
    "transformer_crf",
    "joint_transe",
    "relation_softmax",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("joint_bilstm", "relation_bilstm", "relation_bilstm_att", "relation_acnn", "relation_markers")
    ),
]
QUICK = {"training.max_steps": 40, "training.eval_frequency": 20, "training.before_update.stages.all.steps": 20}
BATCH = 8
GERMAN = spacy.blank("de").vocab

# Words


def any_character(rng: random.Random) -> str:
    """A code point of any plane that is no surrogate."""
    code = rng.randrange(0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)


WORDS: list[Callable[[random.Random], str]] = [
    lambda rng: rng.choice(rng.choice(TRAIN)[0].split()),
    lambda rng: "".join(any_character(rng) for _ in range(rng.randint(1, 8))),
    lambda rng: chr(rng.choice([*range(32), *range(0x7F, 0xA0)])),
    lambda rng: rng.choice([" ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u2028", "\u3000", "\ufeff", "\u200b"]),
    lambda rng: "e" + "".join(chr(rng.randint(0x300, 0x36F)) for _ in range(rng.randint(1, 30))),
    lambda rng: rng.choice(["שלום", "مرحبا", "\u202eabc\u202c", "\u0301", "नमस्ते", "東京都", "e\u0301"]),
    lambda rng: rng.choice(
        ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\ufffd", "\U0010ffff"]
    ),
    lambda rng: rng.choice([".", "...", "'", "``", "<s>", "[CLS]", "[MASK]", "##a", "0", "1e309", "-1", "nan", "-"]),
]


def words(rng: random.Random) -> list[str]:
    """Words of one or of several kinds. Some documents are empty, long, or have a very long word."""
    kind = rng.random()
    if kind < 0.03:
        return []
    if kind < 0.06:
        return [rng.choice(WORDS)(rng)]
    if kind < 0.09:
        return [WORDS[3](rng) for _ in range(rng.randint(1, 5))]
    if kind < 0.092:
        return [rng.choice(WORDS[:2])(rng) for _ in range(10_000)]
    if kind < 0.094:
        return [any_character(rng) * 100_000]
    kinds = rng.sample(WORDS, rng.randint(1, len(WORDS)))
    return [rng.choice(kinds)(rng) for _ in range(rng.randint(1, 40))]


# Documents


def random_span(rng: random.Random, doc: Doc, label: str = "") -> Span:
    start = rng.randrange(len(doc))
    return Span(doc, start, min(len(doc), start + rng.choice([1, 1, 2, 3, 12])), label=label)


def new_document(rng: random.Random, nlp: Language, trees: bool) -> Doc:
    """From words or from a text, sometimes with odd sentences or another vocabulary."""
    found = words(rng)
    vocab = rng.choice([nlp.vocab, nlp.vocab, nlp.vocab, nlp.vocab, Vocab(), GERMAN])
    if rng.random() < 0.3 and not trees and vocab is nlp.vocab:
        return nlp.make_doc(rng.choice(["", " "]).join(found))
    layers: dict[str, Any] = {"spaces": [rng.random() < 0.8 for _ in found]}
    if trees:
        layers["heads"] = [rng.randint(max(0, i - 3), min(len(found) - 1, i + 1)) for i in range(len(found))]
        # No cycles: the head of an earlier word is itself or an earlier word.
        layers["heads"] = [min(i, head) for i, head in enumerate(layers["heads"])]
        layers["deps"] = [rng.choice(["ROOT", "nsubj", "\u0301", "next"]) for _ in found]
    elif rng.random() < 0.4:
        layers["sent_starts"] = [rng.choice([True, False, None]) for _ in found]
    return Doc(vocab, words=found, **layers)


def set_entities(rng: random.Random, doc: Doc) -> Doc:
    """Entities with known and unknown labels; other tokens outside, missing or blocked."""
    if len(doc):
        spans = filter_spans([random_span(rng, doc, rng.choice(["PER", "LOC", "ODD \u0301"])) for _ in range(6)])
        used = {i for span in spans for i in range(span.start, span.end)}
        blocked = [doc[i : i + 1] for i in range(len(doc)) if i not in used and rng.random() < 0.1]
        doc.set_ents(spans, blocked=blocked, default=rng.choice(["outside", "missing"]))
    return doc


def set_spans(rng: random.Random, doc: Doc) -> Doc:
    spans = [random_span(rng, doc, "LAST") for _ in range(3)] if len(doc) else []
    doc.spans[rng.choice(["sc", "other"])] = SpanGroup(doc, spans=spans)
    return doc


def set_user_data(rng: random.Random, doc: Doc) -> Doc:
    doc.user_data["note"] = {"a": [1, "\u0301"]}
    if len(doc):
        doc[0:1]._.score = 0.25
        doc._.relations = [(doc[0:1], doc[-1:], "OLD")]
    return doc


def cut_out(rng: random.Random, doc: Doc) -> Doc:
    return random_span(rng, doc).as_doc(copy_user_data=True) if len(doc) else doc


def join(rng: random.Random, doc: Doc) -> Doc:
    other = Doc(doc.vocab, words=[rng.choice(WORDS)(rng) for _ in range(3)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spaCy: attributes that not all have
        return Doc.from_docs([doc, other, doc], ensure_whitespace=rng.random() < 0.5) or doc


def merge_and_split(rng: random.Random, doc: Doc) -> Doc:
    if len(doc) < 2 or len(doc) > 1_000:
        return doc
    with doc.retokenize() as retokenizer:
        spans = filter_spans([random_span(rng, doc) for _ in range(2)])
        for span in spans:
            retokenizer.merge(span)
        rest = [token for token in doc if len(token) > 1 and all(token not in span for span in spans)]
        for token in rest[:1]:
            retokenizer.split(token, [token.text[:1], token.text[1:]], heads=[(token, 0), (token, 0)])
    return doc


CHANGES: list[Callable[[random.Random, Doc], Doc]] = [
    set_entities,
    set_entities,
    set_spans,
    set_user_data,
    cut_out,
    join,
    merge_and_split,
]


def document(number: int, nlp: Language, trees: bool = False, entities: bool = False) -> Doc:
    """trees: with a dependency tree, for a pipeline that needs one. entities: with entities, if it has tokens."""
    rng = random.Random(number)
    doc = new_document(rng, nlp, trees)
    # spaCy leaves bounds in doc.spans and doc.user_data as they were when tokens are merged, and keeps those outside of
    # a cut-out document, which reappear when it is joined with another one.
    first, last = rng.choice([(cut_out, join), (join, cut_out)])
    order = {merge_and_split: 0, first: 1, last: 3}
    for change in sorted(rng.sample(CHANGES, rng.randint(0, 3)), key=lambda change: order.get(change, 2)):
        doc = change(rng, doc)
    if trees and len(doc) and not doc.has_annotation("DEP"):
        doc.from_array(
            ["HEAD", "DEP"],
            Doc(doc.vocab, [t.text for t in doc], heads=[0] * len(doc), deps=["x"] * len(doc)).to_array(
                ["HEAD", "DEP"]
            ),
        )
    return set_entities(rng, doc) if entities and not doc.ents else doc


# What must hold


def result(doc: Doc) -> tuple[list[Any], list[float]]:
    """Everything that is found, and its scores."""
    relations = doc._.relations
    found: list[Any] = [(ent.start, ent.end, ent.label_) for ent in doc.ents]
    found += [(key, span.start, span.end, span.label_) for key, group in doc.spans.items() for span in group]
    found += [(r.head.start, r.head.end, r.tail.start, r.tail.end, r.label) for r in relations]
    scores = [ent._.score for ent in doc.ents] + [relation.score for relation in relations]
    scores += [score for group in doc.spans.values() for score in group.attrs.get("scores", ())]
    return found, [float(score) for score in scores if score is not None]


def check(nlp: Language, number: int, in_batch: Doc, make: Callable[[int], Doc]) -> None:
    """One document alone, against the same one in a batch."""
    before, doc = make(number), make(number)
    nlp(doc)
    assert doc.text == before.text and [t.text_with_ws for t in doc] == [t.text_with_ws for t in before]
    assert doc.user_data.get("note") == before.user_data.get("note")
    found, scores = result(doc)
    others, other_scores = result(in_batch)
    assert found == others, f"alone {found}, in a batch {others}"
    assert np.allclose(scores, other_scores, atol=1e-4), f"alone {scores}, in a batch {other_scores}"
    assert all(0.0 <= score <= 1.0 for score in scores), scores
    ends = [(ent.start, ent.end) for ent in doc.ents]
    assert all(start < end for start, end in ends) and all(a[1] <= b[0] for a, b in zip(ends, ends[1:], strict=False))
    assert all(ent.label_ for ent in doc.ents)
    kept = {(ent.start, ent.end, ent.label_) for ent in before.ents}
    assert kept <= {(ent.start, ent.end, ent.label_) for ent in doc.ents}
    if "relation_extractor" in nlp.pipe_names and any(relation.label == "OLD" for relation in before._.relations):
        assert any(relation.label == "OLD" for relation in doc._.relations)
    loaded = Doc(doc.vocab).from_bytes(doc.to_bytes())
    assert loaded.text == doc.text and result(loaded) == (found, scores)
    assert np.array_equal(loaded.to_array(ENT_IOB), doc.to_array(ENT_IOB))


def run_campaign(name: str, nlp: Language, numbers: range) -> None:
    """Try documents, write a row, and fail with the numbers of those that failed."""
    needs = {"trees": name.startswith("synlstm"), "entities": name.startswith("relation")}
    make = partial(document, nlp=nlp, **needs)
    failures, predicted = [], 0
    for first in range(numbers.start, numbers.stop, BATCH):
        batch = [make(number) for number in range(first, min(first + BATCH, numbers.stop))]
        try:
            done = list(nlp.pipe(batch, batch_size=BATCH))
        except Exception as error:  # whatever it is, it is a failure of the campaign
            failures += [
                f"{number} in a batch: {type(error).__name__}: {error}" for number in range(first, first + len(batch))
            ]
            continue
        for number, doc in enumerate(done, first):
            predicted += bool(result(doc)[1])
            try:
                check(nlp, number, doc, make)
            except Exception as error:
                failures.append(f"{number}: {type(error).__name__}: {error}")
    add_row(f"hostile documents: {name}", len(numbers), len(failures))
    assert predicted > len(numbers) / 20, "the pipeline finds hardly anything"
    assert not failures, f"{len(failures)} of {len(numbers)} documents\n" + "\n".join(failures[:10])


@pytest.fixture(scope="module", params=PIPELINES)
def pipeline(request, corpus, tiny_transformers, tmp_path_factory):
    """A quickly trained pipeline, by the name of its config."""
    output = tmp_path_factory.mktemp(request.param)
    config = small_config(ROOT / "configs" / f"{request.param}.cfg", corpus, tiny_transformers["bert"], **QUICK)
    train(init_nlp(config), output)
    # The parser is spaCy's. The documents have trees.
    return request.param, spacy.load(output / "model-last", exclude=["parser"])


@pytest.mark.filterwarnings("ignore")
def test_hostile_documents(pipeline):
    run_campaign(*pipeline, range(104))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")
def test_many_hostile_documents(pipeline):
    run_campaign(*pipeline, range(104, 2104))


def test_a_number_is_one_document():
    nlp = spacy.blank("en")
    docs = [[document(number, nlp) for number in range(200)] for _ in range(2)]
    assert [doc.to_bytes() for doc in docs[0]] == [doc.to_bytes() for doc in docs[1]]
    texts = [doc.text for doc in docs[0]]
    assert len(set(texts)) > 150 and "" in texts and any(doc.vocab is not nlp.vocab for doc in docs[0])
