"""Labels that are added to a trained pipeline: not found before they are trained, and learned afterwards."""

import math

import pytest
import spacy
import torch
from conftest import DOCUMENT_PAIRS, RELATIONS, make_examples, set_relations, small_model, train

from spacy_ner_arch.annotation.tags import tag_names
from spacy_ner_arch.nn.batch import make_batch
from spacy_ner_arch.nn.growth import UNTRAINED
from spacy_ner_arch.nn.taggers import CRFTagger, SoftmaxTagger

CPU = torch.device("cpu")
ENTITIES = {
    "crf": ("sequence_ner", "CRF", {"alternatives": 0.05}),
    "crf, BIO": ("sequence_ner", "CRF", {"alternatives": 0.05, "scheme": "BIO"}),
    "softmax": ("sequence_ner", "Softmax", {"alternatives": 0.05}),
    "span": ("span_ner", "Span", {"threshold": 0.05, "max_width": 4}),
    "nested": ("nested_ner", "Span", {"threshold": 0.05, "max_width": 4}),
    "nested, several labels": ("nested_ner", "Span", {"threshold": 0.05, "max_width": 4, "multi_label": True}),
}
PAIRS = {
    "softmax pairs": ("SoftmaxPairs", {"type_size": 8}, False),
    "multitask": ("MultitaskPairs", {"type_size": 8, "transe_weight": 0.01}, False),
    "several labels": ("SoftmaxPairs", {"type_size": 8}, True),
    "bilstm": ("BiLSTMPairs", {"type_size": 8, "hidden_size": 8, "depth": 1}, False),
    "bilstm, several labels": ("BiLSTMPairs", {"type_size": 8, "hidden_size": 8, "depth": 1}, True),
    "acnn": ("ACNNPairs", {"filters": 32, "pooling": "attention", "loss": "hinge"}, False),
    "acnn, max": ("ACNNPairs", {"filters": 32, "loss": "hinge"}, False),
    "acnn, cross entropy": ("ACNNPairs", {"filters": 32, "pooling": "attention"}, True),
}
NEW = ("ORG", "WORKS_FOR")


def make_nlp(kind):
    nlp = spacy.blank("en")
    if kind in ENTITIES:
        factory, head, settings = ENTITIES[kind]
        nlp.add_pipe(factory, config={"model": small_model(head), **settings})
        return nlp
    name, settings, multi_label = PAIRS[kind]
    pairs = {"@architectures": f"spacy_ner_arch.{name}.v1", **settings}
    model = {**small_model(), "@architectures": "spacy_ner_arch.Relations.v1", "pairs": pairs}
    settings = {"multi_label": multi_label, "threshold": 0.05, "candidates": DOCUMENT_PAIRS}
    nlp.add_pipe("relation_extractor", config={"model": model, **settings})
    return nlp


def examples_of(nlp, kind, without=()):
    """Examples of TRAIN for all kinds of components, without the gold annotation of some labels."""
    examples = make_examples(nlp)
    golds = [eg.reference for eg in examples]
    set_relations(golds, [[r for r in found if r[2] not in without] for found in RELATIONS])
    for eg in examples:
        if kind in PAIRS:
            eg.predicted.set_ents(eg.get_aligned_spans_y2x(eg.reference.ents), default="outside")
        else:
            eg.reference.set_ents([ent for ent in eg.reference.ents if ent.label_ not in without], default="outside")
        eg.reference.spans["sc"] = list(eg.reference.ents)
    return examples


def found(nlp, kind):
    """Probability of everything that the pipeline finds in the documents of TRAIN, by document, place and label."""
    places = {}
    for number, doc in enumerate(nlp.pipe([eg.predicted for eg in examples_of(nlp, kind)])):
        if kind in PAIRS:
            places |= {(number, r.head.start, r.tail.start, r.label): r.score for r in doc._.relations}
            continue
        places |= {(number, ent.start, ent.end, ent.label_): ent._.score for ent in doc.ents}
        for key, group in doc.spans.items():
            scores = group.attrs["scores"]
            places |= {(key, number, s.start, s.end, s.label_): p for s, p in zip(group, scores, strict=True)}
    return places


@pytest.mark.filterwarnings("ignore:.*gold labels that the component does not have")
@pytest.mark.parametrize("kind", [*ENTITIES, *PAIRS])
def test_a_new_label_is_found_only_after_training(kind):
    """Also where labels with a probability of 5 % are found, by a pipeline that is not certain of the old labels."""
    nlp = make_nlp(kind)
    (name,) = nlp.pipe_names
    train(nlp, examples_of(nlp, kind, NEW), steps=40)
    before = found(nlp, kind)
    new = NEW[kind in PAIRS]
    nlp.get_pipe(name).add_label(new)
    after = found(nlp, kind)
    assert before and before.keys() == after.keys()
    assert all(abs(before[place] - after[place]) < 0.01 for place in before)

    optimizer = nlp.resume_training()
    for _ in range(3):
        nlp.update(examples_of(nlp, kind, NEW), sgd=optimizer)
    assert not any(place[-1] == new for place in found(nlp, kind))

    optimizer.learn_rate = 0.01
    examples = examples_of(nlp, kind)
    for _ in range(90):
        nlp.update(examples, sgd=optimizer)
    # The distances of the hinge differ by at most 2, so even a certain label has no probability above 0.6.
    certain = {place[-4:] for place, score in found(nlp, kind).items() if score > 0.4 and place[-1] == new}
    assert certain == ({(2, 4, 1, new)} if kind in PAIRS else {(2, 1, 3, new)})


@pytest.mark.parametrize("scheme", ["BILUO", "BIO"])
@pytest.mark.parametrize("tagger", [CRFTagger, SoftmaxTagger])
def test_a_path_through_new_tags_scores_as_the_one_through_o_less_a_constant_per_token(tagger, scheme):
    module = tagger(3, tag_names(["X"], scheme), scheme, dropout_rate=0.0).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    module.temperature.fill_(2.0)  # on which the probability must not depend
    if tagger is SoftmaxTagger:
        module._set_constants(module.crf.labels)
    x, batch = torch.randn(1, 7, 3).double(), make_batch([7], CPU)
    path = "O B-N1 L-N1 U-N2 O U-X U-N1" if scheme == "BILUO" else "O B-N1 I-N1 B-N2 O B-X B-N1"
    old = ["O" if "-N" in tag else tag for tag in path.split()]

    def likelihood(tags):
        rows = torch.tensor([[module.crf.labels.index(tag) for tag in tags]])
        with torch.no_grad():
            return float(module.crf(module.emissions(x, batch), rows, batch.mask, temperature=module.temperature))

    before = likelihood(old)
    module.resize(tag_names(["N1", "X", "N2"], scheme), scheme)
    after = likelihood(old)
    assert likelihood(path.split()) == pytest.approx(after - 4 * UNTRAINED)
    # All paths with new tags together.
    assert 0 < before - after < -7 * math.log1p(-2 * math.exp(-UNTRAINED))
