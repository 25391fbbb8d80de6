"""`nested_ner` in spaCy pipelines: overlapping spans, several labels, keys, suggesters, training from a config."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import spacy
import srsly
import torch
from conftest import run_command, small_model, train, words
from spacy.cli.find_threshold import find_threshold
from spacy.cli.init_config import fill_config
from spacy.cli.train import train as spacy_train
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from thinc.api import fix_random_seed

from spacy_ner_arch.formats import ReadReport, read_docs
from spacy_ner_arch.nn.batch import make_batch

SAMPLE = Path(__file__).parent.parent / "assets" / "sample"
# Texts with nested spans and with spans that have two labels.
NESTED = [
    ("The Museum of Tarvik closed .", [(0, 4, "ORG"), (3, 4, "LOC"), (3, 4, "TOWN")]),
    ("Anna left Tarvik .", [(0, 1, "PER"), (2, 3, "LOC"), (2, 3, "TOWN")]),
    ("Nothing happened .", []),
    ("Olaf of Brenna met Anna .", [(0, 3, "PER"), (2, 3, "LOC"), (2, 3, "TOWN"), (4, 5, "PER")]),
]


def make_nlp(**settings):
    nlp = spacy.blank("en")
    nlp.add_pipe("nested_ner", config={"model": small_model("Span"), "multi_label": True, **settings})
    return nlp


def make_examples(nlp, key="sc"):
    examples = []
    for text, spans in NESTED:
        reference = words(nlp, text)
        reference.spans[key] = [Span(reference, *span) for span in spans]
        examples.append(Example(words(nlp, text), reference))
    return examples


def spans_of(doc, key="sc"):
    return [(span.start, span.end, span.label_) for span in doc.spans[key]]


@pytest.fixture(scope="module")
def nested():
    """A pipeline trained until it reproduces NESTED. Read only."""
    nlp = make_nlp(max_width=6)
    train(nlp, make_examples(nlp), steps=120)
    return nlp


def test_learns_nested_spans_and_several_labels(nested, tmp_path):
    nested.to_disk(tmp_path)
    for nlp in (nested, spacy.load(tmp_path)):
        for text, spans in NESTED:
            doc = nlp(words(nlp, text))
            assert spans_of(doc) == spans and not doc.ents
            scores = doc.spans["sc"].attrs["scores"]
            assert len(scores) == len(spans) and ((scores > 0.8) & (scores <= 1)).all()
    scores = nested.evaluate(make_examples(nested))
    assert scores["spans_sc_f"] == 1.0 and set(scores["spans_sc_per_type"]) == {"PER", "LOC", "ORG", "TOWN"}
    assert "ents_f" not in scores or scores["ents_f"] is None


def test_scores_are_stored_with_the_document(nested):
    doc = nested(words(nested, NESTED[1][0]))
    restored = Doc(nested.vocab).from_bytes(doc.to_bytes())
    assert spans_of(restored) == spans_of(doc)
    np.testing.assert_array_equal(restored.spans["sc"].attrs["scores"], doc.spans["sc"].attrs["scores"])


THREE = ["HUMAN", "PER", "SUBJ"]


def three_labels(nlp):
    """Examples in which each entity has three labels."""
    examples = make_examples(nlp)
    for eg in examples:
        starts = [span.start for span in eg.reference.spans["sc"] if span.label_ == "PER"]
        eg.reference.spans["sc"] = [Span(eg.reference, i, i + 1, label) for i in starts for label in THREE]
    return examples


@pytest.mark.parametrize("multi_label", [True, False])
def test_labels_of_a_span_that_are_all_certain(multi_label, tmp_path):
    """Each had the probability 1/3."""
    nlp = make_nlp(max_width=2, multi_label=multi_label)
    examples = three_labels(nlp)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(nlp, examples, steps=120)
    messages = [str(warning.message) for warning in caught if "cannot be found" in str(warning.message)]
    if multi_label:
        assert not messages
    else:
        (message,) = messages
        assert message.startswith("nested_ner: 6 of 9 gold spans have the same bounds as another one")
        assert "such as 'Anna' PER. A span gets one label" in message
        assert message.endswith("set [components.nested_ner] multi_label = true")
    nlp.to_disk(tmp_path)
    for pipeline in (nlp, spacy.load(tmp_path), spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())):
        doc = pipeline(words(pipeline, NESTED[1][0]))
        scores, labels = doc.spans["sc"].attrs["scores"], [label for *_, label in spans_of(doc)]
        assert {span[:2] for span in spans_of(doc)} == {(0, 1)}
        if multi_label:
            assert labels == THREE and (scores > 0.9).all()
        else:
            assert len(labels) == 1 and labels[0] in THREE and 0.2 < scores[0] < 0.5


def chosen(pipe, predictions):
    """The spans that the component sets for the predictions (tokens, widths, classes) of its head."""
    doc = Doc(pipe.vocab, words=["w"] * len(predictions))
    pipe.set_annotations([doc], (None, [(predictions,)]))
    return spans_of(doc), doc.spans["sc"].attrs["scores"]


def test_a_span_gets_its_most_probable_label():
    pipe = spacy.blank("en").add_pipe("nested_ner")
    for label in ("LOC", "ORG", "PER"):
        pipe.add_label(label)

    def labels(*probabilities):
        spans, scores = chosen(pipe, np.log([[probabilities]]))
        return {label: round(float(score), 9) for (*_, label), score in zip(spans, scores, strict=True)}

    assert labels(0.01, 0.33, 0.34, 0.32) == {"ORG": 0.34} and labels(0.1, 0.4, 0.4, 0.1) == {"LOC": 0.4}
    assert labels(0.4, 0.3, 0.2, 0.1) == {}
    pipe.cfg["threshold"] = 0.2
    assert labels(0.4, 0.3, 0.2, 0.1) == {"LOC": 0.3}


def test_a_span_gets_all_labels_above_the_threshold():
    pipe = spacy.blank("en").add_pipe("nested_ner", config={"multi_label": True})
    for label in ("LOC", "ORG", "PER"):
        pipe.add_label(label)
    probabilities = np.array([[[0.9, 0.6, 0.3]], [[0.1, 1e-9, 0.0]], [[0.2, 0.1, 1.0]]])
    with np.errstate(divide="ignore"):
        odds = np.log(probabilities) - np.log1p(-np.minimum(probabilities, 1 - 1e-12))
    for threshold in (0.0, 0.25, 0.5, 0.95):
        pipe.cfg["threshold"] = threshold
        spans, scores = chosen(pipe, odds)
        expected = np.argwhere(probabilities[:, 0] > threshold)
        assert [(start, pipe.labels.index(label)) for start, _, label in spans] == [tuple(row) for row in expected]
        np.testing.assert_allclose(scores, probabilities[:, 0][tuple(expected.T)])
    with pytest.raises(ValueError, match="nested_ner: scores are not finite"):
        chosen(pipe, np.full((1, 1, 3), np.nan))


@pytest.mark.parametrize("multi_label", [True, False])
def test_calibration_changes_no_span(multi_label):
    pipe = spacy.blank("en").add_pipe("nested_ner", config={"multi_label": multi_label})
    for label in ("LOC", "ORG", "PER"):
        pipe.add_label(label)
    logits = np.random.default_rng(0).normal(0, 3, (200, 1, 3 if multi_label else 4))

    def found(temperature):
        scaled = logits / temperature
        if not multi_label:
            scaled -= np.logaddexp.reduce(scaled, axis=-1, keepdims=True)
        return chosen(pipe, scaled)[0]

    expected = found(1.0)
    assert (len(expected) > len({span[:2] for span in expected})) == multi_label
    assert all(found(temperature) == expected for temperature in (0.5, 0.7, 3.0, 10.0))


def test_duplicate_spans_count_once(nested):
    """A duplicate counted twice in the loss."""
    component = nested.get_pipe("nested_ner")
    doc = words(nested, NESTED[1][0])
    doc.spans["sc"] = [Span(doc, 0, 1, "LOC"), Span(doc, 0, 1, "TOWN"), Span(doc, 0, 1, "LOC")]
    (target,) = component.find_targets([Example(words(nested, NESTED[1][0]), doc)], None)
    assert sorted(component.labels[label - 1] for _, _, label in target.spans) == ["LOC", "TOWN"]


def test_a_span_without_a_label_is_refused():
    nlp = make_nlp()
    examples = make_examples(nlp)
    doc = examples[0].reference
    doc.spans["sc"] = [doc[0:1]]
    with pytest.raises(ValueError, match=r"a label is empty; give all annotation in doc.spans\['sc'\] a label"):
        nlp.initialize(lambda: examples)


@pytest.mark.parametrize("key", ["sc", "inner"])
def test_training_from_a_filled_config_reports_a_score(key, tmp_path):
    """spaCy fills [training.score_weights] from the factory; for another key than "sc" the user replaces them."""
    nlp = make_nlp(spans_key=key)
    nlp.config.to_disk(tmp_path / "base.cfg")
    filled = fill_config(tmp_path / "filled.cfg", tmp_path / "base.cfg")[1]
    weights = filled["training"]["score_weights"]
    assert weights == {"spans_sc_f": 1.0, "spans_sc_p": 0.0, "spans_sc_r": 0.0, "spans_sc_per_type": None}
    DocBin(docs=[eg.reference for eg in make_examples(nlp, key)]).to_disk(tmp_path / "corpus.spacy")
    overrides = {f"paths.{part}": str(tmp_path / "corpus.spacy") for part in ("train", "dev")}
    overrides |= {"training.max_steps": 90, "training.eval_frequency": 30, "training.optimizer.learn_rate": 0.01}
    if key != "sc":
        overrides["training.score_weights"] = {**dict.fromkeys(weights), f"spans_{key}_f": 1.0}
    spacy_train(tmp_path / "filled.cfg", tmp_path, overrides=overrides)
    best = spacy.load(tmp_path / "model-best")
    performance = best.meta["performance"]
    weights = best.config["training"]["score_weights"]
    score = sum(performance[name] * weight for name, weight in weights.items() if weight)
    assert score == performance[f"spans_{key}_f"] > 0.8
    doc = best(words(best, NESTED[1][0]))
    assert list(doc.spans) == [key] and spans_of(doc, key) == NESTED[1][1]


def test_another_key():
    """Gold spans and predictions have the key of the component, and other groups stay."""
    nlp = make_nlp(spans_key="inner")
    examples = make_examples(nlp, "inner")
    train(nlp, examples, steps=120)
    scores = nlp.evaluate(examples)
    assert scores["spans_inner_f"] == 1.0 and "spans_sc_f" not in scores
    doc = words(nlp, NESTED[0][0])
    doc.spans["sc"] = [doc[4:6]]
    nlp(doc)
    assert spans_of(doc, "inner") == NESTED[0][1] and spans_of(doc) == [(4, 6, "")]
    assert nlp.get_pipe("nested_ner").loss_on(make_examples(nlp, "sc")) == 0.0


def test_a_higher_threshold_finds_fewer_spans(nested, copy_of):
    nlp = copy_of(nested)
    component, counts = nlp.get_pipe("nested_ner"), []
    for threshold in (0.0, 0.5, 0.999999, 1.0):
        component.cfg["threshold"] = threshold
        counts.append(sum(len(nlp(words(nlp, text)).spans["sc"]) for text, _ in NESTED))
    # At 0 every span of up to 6 tokens has a label.
    assert counts[0] >= 21 + 10 + 6 + 21 and counts[1] == sum(len(spans) for _, spans in NESTED) and counts[3] == 0
    assert counts == sorted(counts, reverse=True)


def test_find_threshold_of_spacy(nested, tmp_path):
    nested.to_disk(tmp_path / "model")
    DocBin(docs=[eg.reference for eg in make_examples(nested)]).to_disk(tmp_path / "dev.spacy")
    best, score, scores = find_threshold(
        str(tmp_path / "model"), tmp_path / "dev.spacy", "nested_ner", "threshold", "spans_sc_f", n_trials=5
    )
    assert score == 1.0 and scores[0.0] < 0.5 and scores[1.0] == 0.0 and 0 < best < 1


def test_evaluate_prints_the_spans(nested, tmp_path):
    """A row for each label with the numbers of spaCy, and no table of entities, which the pipeline does not set."""
    nested.to_disk(tmp_path / "model")
    examples = make_examples(nested)
    wrong = examples[1].reference
    wrong.spans["sc"] = [Span(wrong, 0, 2, "PER"), *list(wrong.spans["sc"])[1:]]
    DocBin(docs=[eg.reference for eg in examples]).to_disk(tmp_path / "gold.spacy")
    arguments = ["evaluate", tmp_path / "model", tmp_path / "gold.spacy", "-o", tmp_path / "scores.json"]
    assert "TOWN" in run_command(*arguments)
    scores = srsly.read_json(tmp_path / "scores.json")
    table = {row["name"]: row for row in scores["spans_sc_table"]}
    assert "ents_table" not in scores and table["PER"]["support"] == 3 and table["PER"]["f1"] == pytest.approx(2 / 3)
    assert table["micro avg"]["f1"] == pytest.approx(scores["spans_sc_f"]) and scores["spans_sc_f"] < 1.0
    for label, row in scores["spans_sc_per_type"].items():
        assert table[label]["f1"] == pytest.approx(row["f"])


def test_only_spans_of_the_suggester_are_found():
    nlp = make_nlp(suggester={"@misc": "spacy.preset_spans_suggester.v1", "spans_key": "given"})
    examples = make_examples(nlp)
    for eg in examples:
        eg.predicted.spans["given"] = [eg.predicted[s.start : s.end] for s in eg.reference.spans["sc"]]
    train(nlp, examples, steps=40)
    doc = words(nlp, NESTED[0][0])
    doc.spans["given"] = [doc[3:4]]
    assert {span[:2] for span in spans_of(nlp(doc))} == {(3, 4)}


def test_gold_spans_that_are_too_wide_are_reported_and_missed():
    nlp = make_nlp(max_width=2)
    examples = make_examples(nlp)
    with pytest.warns(
        UserWarning, match="nested_ner: 2 of 10 gold spans are longer than max_width = 2 words, such as '"
    ):
        train(nlp, examples, steps=120)
    scores = nlp.evaluate(examples)
    assert scores["spans_sc_p"] == 1.0 and scores["spans_sc_r"] == pytest.approx(8 / 10)


def test_spans_that_replace_those_of_an_earlier_component_are_reported():
    nlp = make_nlp()
    nlp.add_pipe("span_ruler", first=True, config={"spans_key": "sc"})
    with pytest.warns(
        UserWarning, match=r"nested_ner replaces doc.spans\['sc'\], which the earlier component \['span_ruler'\] sets"
    ):
        nlp.initialize(lambda: make_examples(nlp))
    nlp = make_nlp()
    nlp.add_pipe("span_ruler", first=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nlp.initialize(lambda: make_examples(nlp))


def test_spans_do_not_begin_or_end_with_white_space():
    nlp = make_nlp(max_width=5)
    reference = Doc(nlp.vocab, words=["\n", "Olaf", "\n", "Quist", "left", "\n"])
    spans = [(0, 4, "PER"), (1, 4, "PER"), (1, 3, "PER"), (5, 6, "LOC")]
    reference.spans["sc"] = [Span(reference, *span) for span in spans]
    example = Example(Doc(nlp.vocab, words=[token.text for token in reference]), reference)
    train(nlp, [example], steps=80)
    doc = nlp(example.predicted.copy())
    assert spans_of(doc) == [(1, 2, "PER"), (1, 4, "PER")] and len(doc.spans["sc"].attrs["scores"]) == 2


def test_labels_can_be_added(nested, copy_of):
    nlp = copy_of(nested)
    examples = make_examples(nlp)
    assert nlp.get_pipe("nested_ner").add_label("NEW") == 1
    assert nlp.evaluate(examples)["spans_sc_f"] == 1.0
    nlp.update(examples, sgd=nlp.resume_training())


def test_no_loss_without_annotation(nested):
    """A document without the key is not annotated; a document with an empty group is."""
    component = nested.get_pipe("nested_ner")
    plain = [Example(words(nested, text), words(nested, text)) for text, _ in NESTED]
    assert component.loss_on(plain) == 0.0 and component.loss_on(make_examples(nested)) > 0.0
    empty = words(nested, NESTED[1][0])
    empty.spans["sc"] = []
    assert component.loss_on([Example(words(nested, NESTED[1][0]), empty)]) > 0.0


def test_a_batch_without_annotation_is_reported(nested, copy_of):
    """As of a resumed component, which sees no example before its updates."""
    nlp = copy_of(nested)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nlp.update([Example(words(nlp, ""), words(nlp, ""))])
    plain = [Example(words(nlp, text), words(nlp, text)) for text, _ in NESTED]
    with pytest.warns(
        UserWarning, match=r"no document of a batch has doc.spans\['sc'\], and nothing is learned .*Museum"
    ):
        nlp.update(plain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nlp.update([*plain, *make_examples(nlp)])


def test_tokens_of_misaligned_spans_have_no_loss(nested):
    gold = Doc(nested.vocab, words=["Ta", "rvik", "slept"], spaces=[False, True, False])
    gold.spans["sc"] = [Span(gold, 1, 2, "LOC"), Span(gold, 2, 3, "PER")]
    predicted = Doc(nested.vocab, words=["Tarvik", "slept"], spaces=[True, False])
    (target,) = nested.get_pipe("nested_ner").find_targets([Example(predicted, gold)], None)
    assert target.annotated.tolist() == [False, True] and target.spans[:, :2].tolist() == [[1, 1]]


def test_white_space_that_differs_moves_no_token(nested):
    gold = Doc(nested.vocab, words=["I", "saw", "Ta", "rvik", "there"], spaces=[True, True, False, True, False])
    gold.spans["sc"] = [Span(gold, 3, 4, "LOC"), Span(gold, 4, 5, "LOC")]
    predicted = Doc(
        nested.vocab, words=["I", "saw", "  \n  ", "Tarvik", "there"], spaces=[True, True, False, True, False]
    )
    (target,) = nested.get_pipe("nested_ner").find_targets([Example(predicted, gold)], None)
    assert target.annotated.tolist() == [True, True, True, False, True]
    assert target.spans[:, :2].tolist() == [[4, 1]]


def test_tokens_without_entity_annotation_have_no_loss(nested):
    gold = Doc(nested.vocab, words=["Anna", "left", "Tarvik"])
    gold.spans["sc"] = [Span(gold, 0, 1, "PER")]
    predicted = Doc(nested.vocab, words=["Anna", "left", "Tarvik"])
    component = nested.get_pipe("nested_ner")
    for missing, annotated in (([], [True, True, True]), ([gold[2:3]], [True, True, False])):
        gold.set_ents([gold.spans["sc"][0]], missing=missing, default="outside")
        (target,) = component.find_targets([Example(predicted, gold)], None)
        assert target.annotated.tolist() == annotated
        assert target.closed.tolist() == [False, *annotated[1:]]


def test_documents_of_any_length(nested):
    """No token, one token, fewer tokens than max_width, in one batch with others."""
    texts = ["", "Anna", "Anna left", NESTED[0][0]]
    docs = list(nested.pipe([words(nested, text) for text in texts]))
    assert spans_of(docs[0]) == [] and spans_of(docs[3]) == NESTED[0][1]
    assert [spans_of(doc) for doc in docs] == [spans_of(nested(words(nested, text))) for text in texts]
    empty = Example(Doc(nested.vocab), Doc(nested.vocab))
    assert nested.update([empty])["nested_ner"] == 0.0


@pytest.mark.parametrize(
    "settings, message",
    [({"max_width": 0}, "nested_ner: max_width = 0"), ({"threshold": 1.5}, "nested_ner: .*threshold = 1.5")],
)
def test_wrong_settings_are_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        make_nlp(**settings)


def test_a_corpus_without_spans_of_the_key_is_an_error():
    nlp = make_nlp(spans_key="other")
    with pytest.raises(ValueError, match="nested_ner: no label in the training corpus"):
        nlp.initialize(lambda: make_examples(nlp))


def test_what_is_no_label_data():
    """Those of a relation_extractor, from a config: the error has the remedy, as that of the other components."""
    nlp = make_nlp()
    nlp.config["initialize"]["components"]["nested_ner"] = {"labels": {"labels": ["PER"], "types": []}}
    with pytest.raises(ValueError, match=r"nested_ner: .* are not its label data; write them with"):
        nlp.initialize(lambda: make_examples(nlp))


def test_targets_of_a_batch(nested):
    component = nested.get_pipe("nested_ner")
    targets = component.find_targets(make_examples(nested), None)
    assert [len(gold.spans) for gold in targets] == [3, 3, 0, 4]
    batch = component.head.collate(make_batch([6, 4, 3, 6], torch.device("cpu")), None, targets)
    token, width, label, missing, _ = batch.targets
    assert missing is None
    names = [component.labels[i - 1] for i in label.tolist()]
    got = list(zip(token.tolist(), (token + width).tolist(), names, strict=True))
    offsets = [0, 6, 10, 13]
    gold = zip(offsets, [spans for _, spans in NESTED], strict=True)
    assert got == [(first + start, first + end, name) for first, spans in gold for start, end, name in spans]


@pytest.mark.slow
def test_nested_spans_of_the_sample():
    """Train on the nested json lines of the sample, score on its held-out sentences.

    Seeds give F-scores from 0.58 to 0.81.
    """
    fix_random_seed(1)
    nlp = spacy.blank("en")
    embedding = {"@architectures": "spacy_ner_arch.WordCharEmbed.v1", "word_width": 32}
    model = {**small_model("Span"), "tok2vec": embedding, "hidden_size": 64}
    model["encoder"]["hidden_size"] = 40
    nlp.add_pipe("nested_ner", config={"model": model})

    def read(part):
        docs = read_docs(SAMPLE / f"{part}.jsonl", nlp.vocab, "spans", ReadReport())
        return [Example(Doc(nlp.vocab, words=[token.text for token in doc]), doc) for doc in docs]

    train_examples, test_examples = read("train")[:400], read("test")
    assert sum(len(eg.y.spans["sc"]) - len(eg.y.ents) for eg in test_examples) > 10, "no nested spans in the sample"
    optimizer = nlp.initialize(lambda: train_examples)
    optimizer.learn_rate = 0.01
    for step in range(120):
        nlp.update(train_examples[step * 40 % 400 :][:40], sgd=optimizer, drop=0.2)
    assert nlp.evaluate(test_examples)["spans_sc_f"] > 0.5
