"""`span_ner` as a user of spaCy meets it: flat and nested, thresholds, suggesters, odd input."""

from pathlib import Path

import numpy as np
import pytest
import spacy
import srsly
import torch
from conftest import TRAIN, entities, make_examples, small_model, train
from spacy.cli.find_threshold import find_threshold
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from typer.testing import CliRunner

from spacy_ner_arch.bridge.collate import span_classes
from spacy_ner_arch.cli.app import app
from spacy_ner_arch.formats import Report, read_docs
from spacy_ner_arch.nn.batch import padding
from spacy_ner_arch.pipes.span_ner import touches

SAMPLE = Path(__file__).parent.parent / "assets" / "sample"
# Of each text, spans that nest, and one with two labels.
NESTED = [
    ("The Museum of Tarvik closed .", [(0, 4, "ORG"), (3, 4, "LOC"), (3, 4, "TOWN")]),
    ("Anna left Tarvik .", [(0, 1, "PER"), (2, 3, "LOC"), (2, 3, "TOWN")]),
    ("Nothing happened .", []),
    ("Olaf of Brenna met Anna .", [(0, 3, "PER"), (2, 3, "LOC"), (2, 3, "TOWN"), (4, 5, "PER")]),
]


def make_nlp(**settings):
    nlp = spacy.blank("en")
    nlp.add_pipe("span_ner", config={"model": small_model("Span"), **settings})
    return nlp


def nested_examples(nlp, key="sc"):
    examples = []
    for text, spans in NESTED:
        words = text.split(" ")
        reference = Doc(nlp.vocab, words=words)
        reference.spans[key] = [Span(reference, *span) for span in spans]
        examples.append(Example(Doc(nlp.vocab, words=words), reference))
    return examples


def words(nlp, text):
    return Doc(nlp.vocab, words=text.split(" "))


def spans_of(doc, key="sc"):
    return [(span.start, span.end, span.label_) for span in doc.spans[key]]


@pytest.fixture(scope="module")
def nested():
    """A pipeline that knows NESTED by heart. Read only."""
    nlp = make_nlp(decode="nested", max_width=6)
    train(nlp, nested_examples(nlp), steps=120)
    return nlp


@pytest.mark.parametrize("decode", ["exact", "greedy"])
def test_flat(decode, tmp_path):
    nlp = make_nlp(decode=decode)
    examples = make_examples(nlp)
    train(nlp, examples)
    assert nlp.get_pipe("span_ner").labels == ("LOC", "ORG", "PER")
    scores = nlp.evaluate(examples)
    assert scores["ents_f"] == 1.0 and set(scores["ents_per_type"]) == {"PER", "LOC", "ORG"}
    assert not [key for key in scores if key.startswith("spans_")]
    nlp.to_disk(tmp_path)
    for pipeline in (nlp, spacy.load(tmp_path)):
        for text, spans in TRAIN:
            doc = pipeline(words(pipeline, text))
            assert entities(doc) == spans and all(0.5 < ent._.score <= 1 for ent in doc.ents)
            assert not doc.spans


def test_nested(nested):
    """Spans inside of others and two labels on one span, each with its probability."""
    for text, spans in NESTED:
        doc = nested(words(nested, text))
        assert spans_of(doc) == spans and not doc.ents
        scores = doc.spans["sc"].attrs["scores"]
        assert len(scores) == len(spans) and ((scores > 0.3) & (scores <= 1)).all()
    scores = nested.evaluate(nested_examples(nested))
    assert scores["spans_sc_f"] == 1.0 and set(scores["spans_sc_per_type"]) == {"PER", "LOC", "ORG", "TOWN"}
    assert "ents_f" not in scores or scores["ents_f"] is None
    doc = nested(words(nested, NESTED[1][0]))
    restored = Doc(nested.vocab).from_bytes(doc.to_bytes())
    assert spans_of(restored) == spans_of(doc)
    np.testing.assert_array_equal(restored.spans["sc"].attrs["scores"], doc.spans["sc"].attrs["scores"])


def test_two_labels_share_the_probability(nested):
    doc = nested(words(nested, NESTED[1][0]))
    by_label = dict(zip([span.label_ for span in doc.spans["sc"]], doc.spans["sc"].attrs["scores"], strict=True))
    assert by_label["PER"] > 0.8 and 0.3 < by_label["LOC"] < 0.7 and 0.3 < by_label["TOWN"] < 0.7


def test_threshold(nested):
    """A lower one finds more, a higher one less; in both ways of writing it down."""
    component, counts = nested.get_pipe("span_ner"), []
    for threshold in (0.0, 0.5, 0.999999, 1.0):
        component.cfg["threshold"] = threshold
        counts.append(sum(len(nested(words(nested, text)).spans["sc"]) for text, _ in NESTED))
    component.cfg["threshold"] = 0.5
    assert counts[0] >= 21 + 10 + 6 + 21 and counts[1] == sum(len(spans) for _, spans in NESTED) and counts[3] == 0
    assert counts == sorted(counts, reverse=True)


def test_find_threshold_of_spacy(nested, tmp_path):
    nested.to_disk(tmp_path / "model")
    DocBin(docs=[eg.reference for eg in nested_examples(nested)]).to_disk(tmp_path / "dev.spacy")
    best, score, scores = find_threshold(
        str(tmp_path / "model"), tmp_path / "dev.spacy", "span_ner", "threshold", "spans_sc_f", n_trials=5
    )
    assert score == 1.0 and scores[0.0] < 0.5 and scores[1.0] == 0.0 and 0 < best < 1


def test_evaluate_prints_the_spans(nested, tmp_path):
    """Per label, and no table of entities, which such a pipeline does not set; the same numbers as spaCy's."""
    nested.to_disk(tmp_path / "model")
    examples = nested_examples(nested)
    wrong = examples[1].reference
    wrong.spans["sc"] = [Span(wrong, 0, 2, "PER"), *list(wrong.spans["sc"])[1:]]
    DocBin(docs=[eg.reference for eg in examples]).to_disk(tmp_path / "gold.spacy")
    arguments = ["evaluate", tmp_path / "model", tmp_path / "gold.spacy", "-o", tmp_path / "scores.json"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0 and "TOWN" in result.output, result.output
    scores = srsly.read_json(tmp_path / "scores.json")
    table = {row["name"]: row for row in scores["spans_sc_table"]}
    assert "ents_table" not in scores and table["PER"]["support"] == 3 and table["PER"]["f1"] == pytest.approx(2 / 3)
    assert table["micro avg"]["f1"] == pytest.approx(scores["spans_sc_f"]) and scores["spans_sc_f"] < 1.0
    for label, row in scores["spans_sc_per_type"].items():
        assert table[label]["f1"] == pytest.approx(row["f"])


def test_suggester(recwarn):
    """Only what it names can be found, and everything it names may be."""
    sizes = {"@misc": "spacy.ngram_suggester.v1", "sizes": [1, 2]}
    nlp = make_nlp(suggester=sizes, max_width=4)
    examples = make_examples(nlp)
    train(nlp, examples)
    for text, spans in TRAIN:
        assert [span for span in entities(nlp(words(nlp, text))) if span[1] - span[0] <= 2] == [
            span for span in spans if span[1] - span[0] <= 2
        ]
    found = [span for text, _ in TRAIN for span in entities(nlp(words(nlp, text)))]
    assert found and max(end - start for start, end, _ in found) == 2
    preset = make_nlp(suggester={"@misc": "spacy.preset_spans_suggester.v1", "spans_key": "given"}, decode="nested")
    for eg in (examples := nested_examples(preset)):
        eg.predicted.spans["given"] = [eg.predicted[s.start : s.end] for s in eg.reference.spans["sc"]]
    train(preset, examples, steps=40)
    doc = words(preset, NESTED[0][0])
    doc.spans["given"] = [doc[3:4]]
    assert {span[:2] for span in spans_of(preset(doc))} == {(3, 4)}


def test_a_suggester_of_spans_that_are_too_wide():
    nlp = make_nlp(suggester={"@misc": "spacy.ngram_suggester.v1", "sizes": [3]}, max_width=2)
    nlp.initialize(lambda: make_examples(nlp))
    with pytest.raises(ValueError, match="names a span of 3 tokens: raise max_width = 2"):
        nlp.update(make_examples(nlp))


def test_gold_spans_that_are_too_wide_are_reported_and_missed():
    nlp = make_nlp(max_width=2)
    examples = make_examples(nlp)
    with pytest.warns(UserWarning, match="1 of 9 gold spans are longer than max_width = 2 tokens; .* count as missed"):
        train(nlp, examples)
    scores = nlp.evaluate(examples)
    assert scores["ents_p"] == 1.0 and scores["ents_r"] == pytest.approx(8 / 9)


def test_entities_of_others_stay():
    nlp = make_nlp()
    train(nlp, make_examples(nlp))
    text, spans = TRAIN[4]
    doc = words(nlp, text)
    doc.set_ents([Span(doc, 2, 4, "RULE")], default="unmodified")
    assert entities(nlp(doc)) == [spans[0], (2, 4, "RULE"), *spans[2:]]
    nlp.get_pipe("span_ner").overwrite_ents = True
    doc = words(nlp, text)
    doc.set_ents([Span(doc, 2, 4, "RULE")], default="unmodified")
    assert entities(nlp(doc)) == spans


def test_labels_can_be_added():
    nlp = make_nlp()
    examples = make_examples(nlp)
    train(nlp, examples)
    assert nlp.get_pipe("span_ner").add_label("NEW") == 1
    assert nlp.evaluate(examples)["ents_f"] == 1.0
    nlp.update(examples, sgd=nlp.resume_training())


def test_without_annotation_nothing_is_learned(nested):
    """Documents without the key, tokens without entity annotation."""
    component = nested.get_pipe("span_ner")
    plain = [Example(words(nested, text), words(nested, text)) for text, _ in NESTED]
    assert component.get_loss(plain) == 0.0 and component.get_loss(nested_examples(nested)) > 0.0
    flat = make_nlp()
    flat.initialize(lambda: make_examples(flat))
    blank = words(flat, TRAIN[0][0])
    assert flat.get_pipe("span_ner").get_loss([Example(blank.copy(), blank)]) == 0.0
    annotated = words(flat, TRAIN[0][0])
    annotated.set_ents([], default="outside")
    assert flat.get_pipe("span_ner").get_loss([Example(annotated.copy(), annotated)]) > 0.0


def test_nested_spans_that_do_not_align_are_not_learned_as_nothing(nested):
    gold = Doc(nested.vocab, words=["Ta", "rvik", "slept"], spaces=[False, True, False])
    gold.spans["sc"] = [Span(gold, 1, 2, "LOC"), Span(gold, 2, 3, "PER")]
    predicted = Doc(nested.vocab, words=["Tarvik", "slept"], spaces=[True, False])
    (target,) = nested.get_pipe("span_ner").targets([Example(predicted, gold)])
    assert target.annotated.tolist() == [False, True] and target.spans[:, :2].tolist() == [[1, 1]]


def test_odd_documents(nested):
    """No token, one token, fewer tokens than max_width, in one batch with others."""
    texts = ["", "Anna", "Anna left", NESTED[0][0]]
    docs = list(nested.pipe([Doc(nested.vocab, words=text.split()) for text in texts]))
    assert [len(doc.spans["sc"]) for doc in docs][0] == 0
    assert spans_of(docs[3]) == NESTED[0][1]
    empty = Example(Doc(nested.vocab), Doc(nested.vocab))
    assert nested.update([empty])["span_ner"] == 0.0


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"decode": "all"}, "unknown decode 'all'; known are exact, greedy, nested"),
        ({"max_width": 0}, "max_width = 0"),
        ({"threshold": 1.5}, "threshold = 1.5"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        make_nlp(**settings)


def test_no_label():
    nlp = make_nlp(decode="nested", spans_key="other")
    with pytest.raises(ValueError, match="span_ner: no label in the training corpus"):
        nlp.initialize(lambda: nested_examples(nlp))


def test_touched_spans():
    expected = [[False, False, True], [False, True, True], [True, True, True], [False, False, False]]
    assert touches(np.array([False, False, True, False]), 3).tolist() == expected


def test_targets_of_a_batch(nested):
    component = nested.get_pipe("span_ner")
    targets = component.targets(nested_examples(nested))
    assert [len(gold.spans) for gold in targets] == [3, 3, 0, 4]
    documents, starts, widths, classes, missing = span_classes(targets, padding([6, 4, 3, 6], torch.device("cpu")))
    assert documents.tolist() == [0, 0, 0, 1, 1, 1, 3, 3, 3, 3] and missing is None
    names = [component.labels[i - 1] for i in classes.tolist()]
    got = list(zip(starts.tolist(), (starts + widths).tolist(), names, strict=True))
    assert sorted(got) == sorted(span for _, spans in NESTED for span in spans)


def test_nested_spans_of_the_sample():
    """From the embedded json lines to scores on sentences that were not trained on."""
    nlp = spacy.blank("en")
    words = {"@architectures": "spacy_ner_arch.WordCharEmbed.v1", "word_width": 32}
    model = {**small_model("Span"), "tok2vec": words, "hidden_size": 64}
    model["encoder"]["hidden_size"] = 40
    nlp.add_pipe("span_ner", config={"model": model, "decode": "nested"})

    def read(part):
        docs = read_docs(SAMPLE / f"{part}.jsonl", nlp.vocab, "spans", Report())
        return [Example(Doc(nlp.vocab, words=[token.text for token in doc]), doc) for doc in docs]

    train_examples, test_examples = read("train")[:400], read("test")
    assert sum(len(eg.y.spans["sc"]) - len(eg.y.ents) for eg in test_examples) > 10, "some of them nest"
    optimizer = nlp.initialize(lambda: train_examples)
    optimizer.learn_rate = 0.01
    for step in range(120):
        nlp.update(train_examples[step * 40 % 400 :][:40], sgd=optimizer, drop=0.2)
    assert nlp.evaluate(test_examples)["spans_sc_f"] > 0.7
