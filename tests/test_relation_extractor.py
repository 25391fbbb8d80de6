"""The component `relation_extractor`: candidates, learning, annotation, scores."""

import warnings

import numpy as np
import pytest
import spacy
from conftest import TRAIN, make_examples, relations, set_relations, small_model
from spacy.tokens import Doc, Span
from spacy.training import Example
from thinc.api import Config

from spacy_ner_arch.annotation.candidates import create_entity_pairs
from spacy_ner_arch.bridge.marked_copies import mark
from spacy_ner_arch.evaluation.scorers import score_relations
from spacy_ner_arch.training.corpus import copy_spans

MODEL = """
[model]
@architectures = "spacy_ner_arch.RelationSoftmax.v1"
type_size = 8

[model.tok2vec]
@architectures = "spacy_ner_arch.TorchTok2Vec.v1"

[model.tok2vec.tok2vec]
@architectures = "spacy.MultiHashEmbed.v2"
width = 16
attrs = ["NORM", "SHAPE"]
rows = [200, 100]
include_static_vectors = false

[model.tok2vec.encoder]
@architectures = "spacy_ner_arch.BiLSTM.v1"
hidden_size = 12
"""


DOCUMENT = {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "document"}


def make_nlp(**settings):
    nlp = spacy.blank("en")
    nlp.add_pipe("relation_extractor", config={**Config().from_str(MODEL), "candidates": DOCUMENT, **settings})
    return nlp


def related(nlp, gold=True):
    """Examples with relations, and by choice with gold entities on the predicted side."""
    examples = make_examples(nlp)
    set_relations([eg.reference for eg in examples])
    for eg in examples if gold else ():
        eg.predicted.set_ents(eg.get_aligned_spans_y2x(eg.reference.ents), default="outside")
    return examples


def fit(nlp, examples, steps=60):
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.01
    losses = {}
    for _ in range(steps):
        losses = nlp.update(examples, sgd=optimizer)
    return losses


def predict(nlp, examples):
    docs = []
    for eg in examples:
        doc = Doc(nlp.vocab, words=[token.text for token in eg.reference])
        doc.set_ents([Span(doc, ent.start, ent.end, ent.label_) for ent in eg.reference.ents])
        docs.append(doc)
    return list(nlp.pipe(docs))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"direction": "labels"},
        {"symmetric": ["WITH"]},
        {"symmetric": ["WITH"], "direction": "labels"},
        {"multi_label": True},
        {"type_pairs": "learned"},
        {"negative_ratio": 2.0},
    ],
    ids=str,
)
def test_learns(settings, tmp_path):
    nlp = make_nlp(**settings)
    examples = related(nlp)
    fit(nlp, examples, 120)
    nlp.to_disk(tmp_path)
    gold = [sorted(relations(eg.reference)) for eg in examples]
    for trained in (nlp, spacy.load(tmp_path), make_nlp(**settings).from_bytes(nlp.to_bytes())):
        docs = predict(trained, examples)
        assert [sorted(relations(doc)) for doc in docs] == gold
        assert all(0.5 < relation.score <= 1 for doc in docs for relation in doc._.relations)


@pytest.mark.parametrize("settings", [{}, {"pooling": "max"}, {"pooling": "max", "loss": "cross_entropy"}], ids=str)
def test_acnn_is_kept(settings, tmp_path):
    """As published, and with what that leaves out: on disk, and with a label more."""
    tok2vec = Config().from_str(MODEL)["model"]["tok2vec"]
    model = {"@architectures": "spacy_ner_arch.RelationACNN.v1", "tok2vec": tok2vec, "filters": 32, **settings}
    nlp = make_nlp(model=model)
    examples = related(nlp)
    fit(nlp, examples, 120)
    gold = [sorted(relations(eg.reference)) for eg in examples]
    nlp.to_disk(tmp_path)
    for trained in (nlp, spacy.load(tmp_path)):
        assert [sorted(relations(doc)) for doc in predict(trained, examples)] == gold
    nlp.get_pipe("relation_extractor").add_label("NEW")
    assert [sorted(relations(doc)) for doc in predict(nlp, examples)] == gold


def test_a_relation_the_other_way_round_is_another_one():
    """Head and tail are told apart by what they are, not by which comes first."""
    nlp = make_nlp(direction="labels")
    data = [
        ("Anna likes Bert .", [(0, 1, "PER"), (2, 3, "PER")]),
        ("Anna fears Bert .", [(0, 1, "PER"), (2, 3, "PER")]),
    ]
    examples = make_examples(nlp, data)
    for eg, (head, tail) in zip(examples, ((0, 1), (1, 0)), strict=True):
        ents = eg.reference.ents
        eg.reference._.relations = [(ents[head], ents[tail], "MOVES")]
        eg.predicted.set_ents(eg.get_aligned_spans_y2x(ents), default="outside")
    fit(nlp, examples, 80)
    assert [relations(doc) for doc in predict(nlp, examples)] == [[(0, 1, 2, 3, "MOVES")], [(2, 3, 0, 1, "MOVES")]]


def test_symmetric_labels_are_stored_once_and_scored_both_ways():
    nlp = make_nlp(symmetric=["WITH"])
    doc, other = (Doc(nlp.vocab, words=["Anna", "and", "Bert"]) for _ in range(2))
    for target, order in ((doc, (0, 2)), (other, (2, 0))):
        head, tail = (Span(target, i, i + 1, "PER") for i in order)
        target._.relations = [(head, tail, "WITH")]
    assert score_relations([Example(doc, other)], symmetric=["WITH"])["rel_strict_f"] == 1.0
    assert score_relations([Example(doc, other)])["rel_strict_f"] == 0.0


def test_scores_count_every_gold_relation():
    """Right; right but for a type; with a wrong label; missed; and a document without gold annotation."""
    nlp = spacy.blank("en")
    words = list("abcdefgh")
    gold, predicted, plain = (Doc(nlp.vocab, words=words) for _ in range(3))

    def spans(doc, *items):
        return [(Span(doc, h, h + 1, ht), Span(doc, t, t + 1, tt), label) for h, ht, t, tt, label in items]

    gold._.relations = spans(
        gold, (0, "P", 1, "L", "IN"), (2, "P", 3, "L", "IN"), (4, "P", 5, "L", "IN"), (6, "P", 7, "L", "AT")
    )
    predicted._.relations = spans(
        predicted, (0, "P", 1, "L", "IN"), (2, "O", 3, "L", "IN"), (4, "P", 5, "L", "AT"), (7, "L", 6, "P", "AT")
    )
    scores = score_relations([Example(predicted, gold), Example(predicted.copy(), plain)])
    assert scores["rel_micro_p"] == scores["rel_micro_r"] == scores["rel_micro_f"] == 0.5
    assert scores["rel_strict_f"] == 0.25
    assert scores["rel_per_type"]["IN"] == {"p": 1.0, "r": pytest.approx(2 / 3), "f": pytest.approx(0.8)}
    assert scores["rel_per_type"]["AT"]["f"] == 0.0 and scores["rel_macro_f"] == pytest.approx(0.4)
    assert set(score_relations([Example(predicted, plain)]).values()) == {None}


def test_candidates():
    nlp = spacy.blank("en")
    doc = Doc(nlp.vocab, words=list("abcdefgh"), sent_starts=[True, False, False, False, True, False, False, False])
    doc.set_ents([Span(doc, 0, 2, "P"), Span(doc, 3, 4, "L"), Span(doc, 6, 7, "L")])
    found = create_entity_pairs(within="document")(doc)
    assert found.pairs.tolist() == [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]]
    assert found.regions.tolist() == [[0, 4], [0, 8], [0, 4], [0, 8], [0, 8], [0, 8]]
    assert create_entity_pairs()(doc).pairs.tolist() == [[0, 1], [1, 0]]
    assert create_entity_pairs("document", max_distance=2)(doc).pairs.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    doc.spans["sc"] = [Span(doc, 1, 2, "Y"), Span(doc, 0, 2, "X"), Span(doc, 0, 2, "Y")]
    overlapping = create_entity_pairs("document", spans_key="sc", max_distance=0)(doc)
    assert [(e.start, e.end, e.label_) for e in overlapping.entities] == [(0, 2, "X"), (0, 2, "Y"), (1, 2, "Y")]
    assert len(overlapping.pairs) == 6
    assert create_entity_pairs(spans_key="other")(doc).pairs.shape == (0, 2)
    unset = Doc(nlp.vocab, words=["a", "b"])
    assert create_entity_pairs(within="sentence")(Doc(nlp.vocab)).pairs.shape == (0, 2)
    with pytest.raises(ValueError, match="no sentences are set on .*sentencizer"):
        create_entity_pairs(within="sentence")(unset)


def test_documents_without_candidates():
    """No token, no entity, one entity: no relation, and none of them keeps the others from being learned."""
    nlp = make_nlp()
    examples = related(nlp)
    fit(nlp, examples)
    docs = list(nlp.pipe([Doc(nlp.vocab), Doc(nlp.vocab, words=["Anna"]), predict(nlp, examples)[1]]))
    assert [doc._.relations for doc in docs] == [[], [], []]
    lonely = [eg for eg in examples if len(eg.predicted.ents) < 2]
    before = nlp.get_pipe("relation_extractor").get_loss(examples)
    assert nlp.get_pipe("relation_extractor").get_loss(lonely) == 0.0
    assert nlp.update(lonely, sgd=nlp.resume_training())["relation_extractor"] == 0.0
    assert nlp.get_pipe("relation_extractor").get_loss(examples) == pytest.approx(before, rel=0.5)


def test_without_candidates_a_shared_encoder_learns_from_the_others(tiny_transformers):
    """The last listener carries the gradient of all: it must not keep it when it has no pair of its own."""
    nlp = spacy.blank("en")
    block = {"@architectures": "spacy_ner_arch.TransformerModel.v1", "name": str(tiny_transformers["bert"])}
    nlp.add_pipe("transformer", config={"model": {**block, "window": 64, "overlap": 16}})
    listener = {"@architectures": "spacy_ner_arch.TransformerListener.v1"}
    nlp.add_pipe("sequence_ner", config={"model": {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": listener}})
    model = {"@architectures": "spacy_ner_arch.RelationSoftmax.v1", "tok2vec": listener}
    nlp.add_pipe("relation_extractor", config={"model": model, "candidates": DOCUMENT})
    examples = related(nlp)
    optimizer = nlp.initialize(lambda: examples)
    module = nlp.get_pipe("transformer").model.shims[0].module
    lonely = [eg for eg in examples if len(eg.predicted.ents) < 2]
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    losses = nlp.update(lonely, sgd=False)
    nlp.get_pipe("transformer").finish_update(optimizer)
    assert losses["relation_extractor"] == 0.0 and losses["sequence_ner"] > 0
    assert any(not p.equal(before[name]) for name, p in module.named_parameters())


def test_only_documents_with_annotation_teach():
    nlp = make_nlp()
    examples = related(nlp)
    fit(nlp, examples)
    silent = make_examples(nlp)
    for eg in silent:
        eg.predicted.set_ents(eg.get_aligned_spans_y2x(eg.reference.ents), default="outside")
    pipe = nlp.get_pipe("relation_extractor")
    assert pipe.get_loss(silent) == 0.0
    for eg in silent:
        eg.reference._.relations = []
    assert pipe.get_loss(silent) > pipe.get_loss(examples) > 0


def test_tells_what_it_cannot_learn():
    """Relations whose argument is no entity, beyond the candidates, between an entity and itself; unseen labels."""
    nlp = make_nlp(candidates={**DOCUMENT, "max_distance": 1})
    examples = related(nlp)
    reference = examples[0].reference
    ents = reference.ents
    reference._.relations = [(ents[0], ents[1], "FAR"), (ents[0], ents[0], "SELF"), (ents[0], reference[5:6], "NONE")]
    with pytest.warns(UserWarning, match="4 of 6 gold relations are no candidates"):
        optimizer = nlp.initialize(lambda: examples)
    with pytest.warns(UserWarning, match=r"gold labels that are none of its labels .*\['NEW'\]"):
        examples[2].reference._.relations = [(*examples[2].reference.ents, "NEW")]
        nlp.update(examples, sgd=optimizer)
    with pytest.warns(UserWarning, match='a batch has 4 gold relations, but its documents no entity.*copy = ."ents"'):
        nlp.update(related(nlp, gold=False), sgd=optimizer)


def test_types_unseen_in_training_are_no_obstacle():
    nlp = make_nlp()
    examples = related(nlp)
    fit(nlp, examples)
    doc = Doc(nlp.vocab, words=TRAIN[0][0].split(" "))
    doc.set_ents([Span(doc, 0, 2, "ALIEN"), Span(doc, 4, 5, "PLANET")])
    with pytest.warns(UserWarning, match="types that it was not trained on .*ALIEN.*PLANET"):
        assert isinstance(nlp(doc)._.relations, list)


def test_learned_type_pairs_are_kept(tmp_path):
    nlp = make_nlp(type_pairs="learned")
    examples = related(nlp)
    fit(nlp, examples, 1)
    pairs = nlp.get_pipe("relation_extractor").cfg["type_pairs"]
    assert sorted(map(tuple, pairs)) == [("PER", "LOC"), ("PER", "ORG"), ("PER", "PER")]
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path).get_pipe("relation_extractor")
    assert len(loaded.finder(predict(nlp, examples)[2]).pairs) == 1


def test_no_label_is_an_error():
    nlp = make_nlp()
    examples = make_examples(nlp)
    with pytest.raises(ValueError, match="relation_extractor: no label"):
        nlp.initialize(lambda: examples)


def test_labels_can_be_added(copy_of):
    nlp = make_nlp()
    examples = related(nlp)
    fit(nlp, examples, 120)
    before = predict(nlp, examples)
    assert nlp.get_pipe("relation_extractor").add_label("NEW") == 1
    after = predict(nlp, examples)
    assert list(map(relations, after)) == list(map(relations, before))
    assert copy_of(nlp).get_pipe("relation_extractor").labels[-1] == "NEW"


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"direction": "up"}, "unknown direction 'up'"),
        ({"type_pairs": "some"}, "type_pairs = 'some'"),
        ({"threshold": 2.0}, "threshold = 2.0"),
        ({"negative_ratio": -1.0}, "negative_ratio = -1.0"),
        ({"candidates": {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "page"}}, "unknown within = 'page'"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        make_nlp(**settings)


def test_behind_an_entity_component(tmp_path):
    """Text to entities to relations, and `spacy find-threshold` on the way."""
    nlp = spacy.blank("en")
    nlp.add_pipe("sequence_ner", config={"model": small_model()})
    nlp.add_pipe("relation_extractor", config={**Config().from_str(MODEL), "candidates": DOCUMENT})
    fit(nlp, related(nlp), 120)
    docs = list(nlp.pipe([Doc(nlp.vocab, words=text.split(" ")) for text, _ in TRAIN]))
    gold = [eg.reference for eg in related(nlp)]
    assert [sorted(relations(doc)) for doc in docs] == [sorted(relations(doc)) for doc in gold]
    scores = nlp.evaluate(related(nlp, gold=False))
    assert scores["ents_f"] == scores["rel_strict_f"] == 1.0


def chosen(nlp, odds, spans, words=5):
    """Relations that the component makes of hand-made odds (P, classes)."""
    pipe = nlp.get_pipe("relation_extractor")
    doc = Doc(nlp.vocab, words=["w"] * words)
    doc.set_ents([Span(doc, *span) for span in spans])
    odds = np.array(odds, dtype="f")
    pipe.set_annotations([doc], [(odds, 1 / (1 + np.exp(-odds)))])
    return relations(doc)


PEOPLE = [(0, 1, "PER"), (2, 3, "PER")]


def with_labels(*labels, types=("LOC", "PER"), **settings):
    pipe_nlp = make_nlp(**settings)
    pipe = pipe_nlp.get_pipe("relation_extractor")
    pipe.cfg["types"] = list(types)
    for label in labels:
        pipe.add_label(label)
    return pipe_nlp


def test_a_symmetric_label_leaves_nothing_for_the_other_order():
    """Else the second best label of the mirrored pair would be a relation of its own."""
    nlp = with_labels("LIKES", "WITH", symmetric=["WITH"])
    assert chosen(nlp, [[0.4, 5.0], [0.4, 5.0]], PEOPLE) == [(0, 1, 2, 3, "WITH")]
    assert chosen(nlp, [[6.0, 5.0], [0.4, 5.0]], PEOPLE) == [(0, 1, 2, 3, "LIKES")]
    both = with_labels("LIKES", "WITH", symmetric=["WITH"], multi_label=True)
    assert chosen(both, [[-1, 5.0], [0.4, 5.0]], PEOPLE) == [(0, 1, 2, 3, "WITH"), (2, 3, 0, 1, "LIKES")]


def test_type_pairs_hold_for_each_direction():
    nlp = with_labels("IN", type_pairs=[["PER", "LOC"]], direction="labels")
    backwards = [(0, 1, "LOC"), (2, 3, "PER")]
    assert chosen(nlp, [[5.0, 1.0]], backwards) == []
    assert chosen(nlp, [[1.0, 5.0]], backwards) == [(2, 3, 0, 1, "IN")]
    near = with_labels("NEAR", type_pairs=[["PER", "LOC"]], direction="labels", symmetric=["NEAR"])
    assert chosen(near, [[5.0]], backwards) == [(0, 1, 2, 3, "NEAR")]


def test_relations_of_other_labels_stay():
    nlp = with_labels("LIKES")
    doc = Doc(nlp.vocab, words=["w"] * 5)
    doc.set_ents([Span(doc, *span) for span in PEOPLE])
    doc._.relations = [(*doc.ents, "LIKES"), (*doc.ents, "KNOWS")]
    nlp.get_pipe("relation_extractor").set_annotations([doc], [(np.full((2, 1), -9.0), np.zeros((2, 1)))])
    assert relations(doc) == [(0, 1, 2, 3, "KNOWS")]


def test_class_weights_hold_in_both_directions():
    model = Config().from_str(MODEL)["model"]
    nlp = spacy.blank("en")
    config = {"model": {**model, "class_weights": {"LEFT": 5.0}}, "direction": "labels", "candidates": DOCUMENT}
    nlp.add_pipe("relation_extractor", config=config)
    fit(nlp, related(nlp), 1)
    pipe = nlp.get_pipe("relation_extractor")
    module = pipe.model.shims[0].module
    assert dict(zip(module.labels, module.weights.tolist(), strict=True))["LEFT^-1"] == 5.0


def test_gold_relations_on_other_tokens_and_other_spaces():
    """What aligns is learned and right, what does not is missed; and said."""
    nlp = make_nlp()
    reference = Doc(nlp.vocab, words=["Anna", ",", "of", "Rome", "-", "based", "Acme"], spaces=[True] * 7)
    reference.set_ents([Span(reference, 0, 1, "PER"), Span(reference, 3, 4, "LOC"), Span(reference, 6, 7, "ORG")])
    person, place, company = reference.ents
    reference._.relations = [(person, company, "FOR"), (company, place, "IN")]
    words, spaces = ["Anna", ",", "of", "Rome-based", "Acme"], [False, True, True, True, False]
    example = Example(Doc(nlp.vocab, words=words, spaces=spaces), reference)
    example.predicted.set_ents([Span(example.predicted, 0, 1, "PER"), Span(example.predicted, 4, 5, "ORG")])
    with pytest.warns(UserWarning, match="1 of 2 gold relations are no candidates"):
        nlp.initialize(lambda: [example])
    (gold,) = nlp.get_pipe("relation_extractor").targets([example])
    assert (gold.total, gold.rows.tolist(), gold.classes.tolist()) == (2, [0], [0])
    head, tail = example.predicted.ents
    example.predicted._.relations = [(head, tail, "FOR")]
    scores = score_relations([example])
    assert (scores["rel_strict_p"], scores["rel_strict_r"]) == (1.0, 0.5)


def test_entities_from_doc_spans():
    """One inside of another."""
    nlp = make_nlp(candidates={**DOCUMENT, "spans_key": "sc"})
    examples = make_examples(nlp)
    for eg in examples:
        doc = eg.reference
        doc.spans["sc"] = [span for ent in doc.ents for span in (ent, Span(doc, ent.end - 1, ent.end, "LAST"))]
        doc._.relations = [(ent, Span(doc, ent.end - 1, ent.end, "LAST"), "ENDS") for ent in doc.ents if len(ent) > 1]
        copy_spans(eg)
    fit(nlp, examples)
    predicted = [eg.predicted.copy() for eg in examples]
    docs = list(nlp.pipe(predicted))
    assert [sorted(relations(doc)) for doc in docs] == [sorted(relations(eg.reference)) for eg in examples]


def test_negative_ratio_samples_in_updates_only():
    nlp = make_nlp(negative_ratio=1.0)
    examples = related(nlp)
    fit(nlp, examples, 1)
    pipe = nlp.get_pipe("relation_extractor")
    assert [len(gold.kept) for gold in pipe.targets(examples)] == [2, 0, 2, 0, 12]
    assert [len(gold.kept) for gold in pipe.update_targets(examples)] == [2, 0, 2, 0, 4]
    for gold in pipe.update_targets(examples):
        assert set(gold.kept[gold.rows]) <= set(gold.kept) and (np.diff(gold.kept) > 0).all()
    assert pipe.get_loss(examples) == pipe.get_loss(examples)


def test_refuses_labels():
    nlp = make_nlp(symmetric=["TYPO"])
    examples = related(nlp)
    with pytest.raises(ValueError, match=r"symmetric names \['TYPO'\], which are no labels"):
        nlp.initialize(lambda: examples)
    with pytest.raises(ValueError, match=r"'x\^-1' ends in"):
        make_nlp(direction="labels").get_pipe("relation_extractor").add_label("x^-1")


@pytest.mark.parametrize(
    "model, message",
    [
        ({"marks": ["@"]}, "marks = .* give four words"),
        ({"tok2vec": {"@architectures": "spacy_ner_arch.TransformerListener.v1"}}, "instead of a listener"),
    ],
)
def test_refuses_marks(model, message):
    inner = Config().from_str(MODEL)["model"]["tok2vec"]
    settings = {"@architectures": "spacy_ner_arch.RelationMarkers.v1", "tok2vec": inner, **model}
    with pytest.raises(ValueError, match=message):
        make_nlp(model=settings)


def test_marks():
    """Overlapping entities, and windows around a pair."""
    vocab = spacy.blank("en").vocab
    doc = Doc(vocab, words=list("abcdefgh"))
    doc.set_ents([Span(doc, 2, 4, "P"), Span(doc, 5, 6, "L")])
    (first, head, tail), (second, *_) = mark(doc, create_entity_pairs("document")(doc), ["<", ">", "[", "]"], 1)
    assert first.text.strip() == "b < c d > e [ f ] g" and (first[head].text, first[tail].text) == ("<", "[")
    assert second.text.strip() == "b [ c d ] e < f > g"
    doc.spans["sc"] = [Span(doc, 2, 4, "P"), Span(doc, 3, 4, "L")]
    nested = create_entity_pairs("document", spans_key="sc")(doc)
    assert [copy.text.strip() for copy, *_ in mark(doc, nested, ["<", ">", "[", "]"], 1)] == [
        "b < c [ d ] > e",
        "b [ c < d > ] e",
    ]


def test_learns_from_predicted_entities():
    nlp = spacy.blank("en")
    nlp.add_pipe("sequence_ner", config={"model": small_model()})
    nlp.add_pipe("relation_extractor", config={**Config().from_str(MODEL), "candidates": DOCUMENT})
    optimizer = nlp.initialize(lambda: related(nlp))
    optimizer.learn_rate = 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # there is no entity yet in the first updates
        for _ in range(120):
            nlp.update(related(nlp, gold=False), sgd=optimizer, annotates=["sequence_ner"])
    assert nlp.evaluate(related(nlp, gold=False))["rel_strict_f"] == 1.0
