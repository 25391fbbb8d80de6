"""`span_ner` in spaCy pipelines: decoding, thresholds, suggesters, missing annotation, wrong settings."""

import warnings

import numpy as np
import pytest
import spacy
from conftest import TRAIN, entities, make_examples, small_model, train, words
from spacy.cli.find_threshold import find_threshold
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example

from spacy_ner_arch.annotation.word_places import Words
from spacy_ner_arch.pipes.span_ner import spans_with


def answers(nlp):
    """Examples of single answers of an annotator: an accepted entity, or a rejected token. All else is unknown."""
    for eg in make_examples(nlp):
        gold = eg.reference
        for accepted in gold.ents:
            doc = gold.copy()
            doc.set_ents([doc.char_span(accepted.start_char, accepted.end_char, accepted.label_)], default="missing")
            yield Example(eg.predicted.copy(), doc)
        for token in gold:
            if not token.ent_type:
                doc = gold.copy()
                doc.set_ents([], blocked=[doc[token.i : token.i + 1]], default="missing")
                yield Example(eg.predicted.copy(), doc)


def make_nlp(**settings):
    nlp = spacy.blank("en")
    nlp.add_pipe("span_ner", config={"model": small_model("Span"), **settings})
    return nlp


@pytest.fixture(scope="module")
def flat():
    """A pipeline trained until it reproduces TRAIN. Read only."""
    nlp = make_nlp()
    train(nlp, make_examples(nlp))
    return nlp


@pytest.mark.parametrize("factory", ["span_ner", "nested_ner", "sequence_ner"])
def test_single_answers_of_an_annotator_teach_entities(factory):
    """A span with a rejected token is no entity, whatever its other tokens are."""
    nlp = spacy.blank("en")
    nlp.add_pipe(factory, config={"model": small_model("CRF" if factory == "sequence_ner" else "Span")})
    examples = list(answers(nlp))
    for eg in examples if factory == "nested_ner" else ():
        eg.reference.spans["sc"] = list(eg.reference.ents)
    train(nlp, examples)
    for text, gold in TRAIN:
        doc = nlp(words(nlp, text))
        assert sorted((span.start, span.end, span.label_) for span in doc.spans.get("sc", doc.ents)) == gold


@pytest.mark.parametrize("factory", ["span_ner", "nested_ner", "sequence_ner"])
def test_accepted_entities_alone_are_a_warning(factory):
    nlp = spacy.blank("en")
    nlp.add_pipe(factory, config={"model": small_model("CRF" if factory == "sequence_ner" else "Span")})
    examples = list(answers(nlp))
    accepted = [eg for eg in examples if len(eg.reference.ents)]
    for eg in examples if factory == "nested_ner" else ():
        eg.reference.spans["sc"] = list(eg.reference.ents)
    with pytest.warns(
        UserWarning, match=f"{factory}: in all {len(accepted)} documents with entities, such as .*, only"
    ):
        nlp.initialize(lambda: accepted)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nlp.initialize(lambda: examples)
    assert not [warning for warning in caught if "only entities are annotated" in str(warning.message)]


@pytest.mark.parametrize("decode", ["exact", "greedy"])
def test_learns_entities(decode, tmp_path):
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


@pytest.mark.parametrize("decode", ["exact", "greedy"])
def test_a_higher_threshold_finds_fewer_entities(decode, flat, copy_of):
    nlp = copy_of(flat)
    component, counts = nlp.get_pipe("span_ner"), []
    component.decode = decode
    for threshold in (0.0, 0.5, 0.999999, 1.0):
        component.cfg["threshold"] = threshold
        docs = [nlp(words(nlp, text)) for text, _ in TRAIN]
        counts.append(sum(len(ent) for doc in docs for ent in doc.ents))
    # At 0 every token is in an entity.
    assert counts[0] == sum(len(text.split()) for text, _ in TRAIN) and counts[3] == 0
    assert counts[1] == sum(end - start for _, spans in TRAIN for start, end, _ in spans)
    assert counts == sorted(counts, reverse=True)


def test_calibration_changes_no_entity(flat):
    pipe = flat.get_pipe("span_ner")
    logits = np.random.default_rng(0).normal(0, 3, (200, 4, 4))

    def found(temperature):
        scaled = logits / temperature
        doc = Doc(flat.vocab, words=["w"] * len(scaled))
        log_probabilities = scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)
        log_probabilities[[-1, -2, -2, -3], [1, 2, 3, 3]] = [0, -np.inf, -np.inf, -np.inf]  # beyond the end
        log_probabilities[-1, 2:] = [0, -np.inf, -np.inf, -np.inf]
        pipe.set_annotations([doc], (None, [(log_probabilities,)]))
        return entities(doc)

    expected = found(1.0)
    assert len(expected) > 50 and all(found(temperature) == expected for temperature in (0.5, 0.7, 3.0, 10.0))


def test_decode_can_be_changed_at_load(flat, tmp_path):
    flat.to_disk(tmp_path)
    for decode in ("exact", "greedy"):
        nlp = spacy.load(tmp_path, config={"components.span_ner.decode": decode})
        assert nlp.get_pipe("span_ner").decode == decode


def test_find_threshold_of_spacy(flat, tmp_path):
    flat.to_disk(tmp_path / "model")
    DocBin(docs=[eg.reference for eg in make_examples(flat)]).to_disk(tmp_path / "dev.spacy")
    best, score, scores = find_threshold(
        str(tmp_path / "model"), tmp_path / "dev.spacy", "span_ner", "threshold", "ents_f", n_trials=5
    )
    assert score == 1.0 and scores[0.0] < 0.7 and scores[1.0] == 0.0 and 0 < best < 1


def test_only_spans_of_the_suggester_are_found():
    nlp = make_nlp(suggester={"@misc": "spacy.ngram_suggester.v1", "sizes": [1, 2]}, max_width=4)
    train(nlp, make_examples(nlp))
    found = []
    for text, spans in TRAIN:
        short = [span for span in entities(nlp(words(nlp, text))) if span[1] - span[0] <= 2]
        assert short == [span for span in spans if span[1] - span[0] <= 2]
        found += entities(nlp(words(nlp, text)))
    assert found and max(end - start for start, end, _ in found) == 2


def test_a_suggester_of_spans_that_are_too_wide_is_an_error():
    nlp = make_nlp(suggester={"@misc": "spacy.ngram_suggester.v1", "sizes": [3]}, max_width=2)
    with pytest.warns(UserWarning, match="1 of 9 gold spans are longer"):
        nlp.initialize(lambda: make_examples(nlp))
    with pytest.raises(ValueError, match="span_ner: .* gives a span of 3 words, more than max_width = 2"):
        nlp.update(make_examples(nlp))
    with pytest.raises(ValueError, match="span_ner: .* gives a span of 3 words, more than max_width = 2"):
        nlp(words(nlp, TRAIN[0][0]))


@pytest.mark.parametrize("factory", ["span_ner", "nested_ner"])
def test_a_resumed_component_reports_gold_spans_that_are_too_wide(factory, copy_of):
    nlp = spacy.blank("en")
    nlp.add_pipe(factory, config={"model": small_model("Span"), "max_width": 2})
    examples = make_examples(nlp)
    for eg in examples:
        eg.reference.spans["sc"] = list(eg.reference.ents)
    nlp.initialize(lambda: examples[:2])
    nlp.get_pipe(factory).add_label("ORG")
    resumed = copy_of(nlp)
    with pytest.warns(UserWarning, match="longer than max_width = 2 words, such as 'Olaf Quist Meyer' PER; .*"):
        resumed.update(examples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.update(examples)
        resumed.get_pipe(factory).loss_on(examples)


def test_gold_spans_that_are_too_wide_are_reported_and_missed():
    nlp = make_nlp(max_width=2)
    examples = make_examples(nlp)
    with pytest.warns(
        UserWarning,
        match="1 of 9 gold spans are longer than max_width = 2 words, such as '.*; they .* count as missed",
    ):
        train(nlp, examples)
    scores = nlp.evaluate(examples)
    assert scores["ents_p"] == 1.0 and scores["ents_r"] == pytest.approx(8 / 9)


def test_entities_of_other_components_stay(flat, copy_of):
    nlp = copy_of(flat)
    text, spans = TRAIN[4]
    doc = words(nlp, text)
    doc.set_ents([Span(doc, 2, 4, "RULE")], default="unmodified")
    assert entities(nlp(doc)) == [spans[0], (2, 4, "RULE"), *spans[2:]]
    nlp.get_pipe("span_ner").overwrite_ents = True
    doc = words(nlp, text)
    doc.set_ents([Span(doc, 2, 4, "RULE", span_id="R1")], default="unmodified")
    assert entities(nlp(doc)) == spans and not any(token.ent_id_ for token in doc)


@pytest.mark.parametrize("decode", ["exact", "greedy"])
def test_entities_do_not_begin_or_end_with_white_space(decode):
    nlp = make_nlp(decode=decode, max_width=5)
    examples = make_examples(nlp, [("Anna \n Brandt \t left \n Tarvik", [(0, 4, "PER"), (5, 6, "LOC"), (6, 7, "LOC")])])
    train(nlp, examples)
    doc = nlp(examples[0].predicted.copy())
    assert entities(doc) == [(0, 3, "PER"), (6, 7, "LOC")] and all(0.5 < ent._.score <= 1 for ent in doc.ents)


def test_labels_can_be_added(flat, copy_of):
    nlp = copy_of(flat)
    examples = make_examples(nlp)
    assert nlp.get_pipe("span_ner").add_label("NEW") == 1
    assert nlp.evaluate(examples)["ents_f"] == 1.0
    nlp.update(examples, sgd=nlp.resume_training())


def test_no_loss_without_annotation(flat):
    component = flat.get_pipe("span_ner")
    blank = words(flat, TRAIN[0][0])
    assert component.loss_on([Example(blank.copy(), blank)]) == 0.0
    annotated = words(flat, TRAIN[1][0])
    annotated.set_ents([], default="outside")
    assert component.loss_on([Example(annotated.copy(), annotated)]) > 0.0


def test_documents_of_any_length(flat):
    """No token, one token, fewer tokens than max_width, in one batch with others."""
    texts = ["", "Anna", "Anna left", TRAIN[2][0], ""]
    docs = list(flat.pipe([words(flat, text) for text in texts]))
    assert entities(docs[3]) == TRAIN[2][1] and not docs[0].ents
    assert [entities(doc) for doc in docs] == [entities(flat(words(flat, text))) for text in texts]
    assert not list(flat.pipe([]))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"decode": "all"}, "span_ner: unknown decode 'all'; choose from exact, greedy$"),
        ({"decode": "nested"}, "unknown decode 'nested'; choose from exact, greedy; use the factory nested_ner for"),
        ({"max_width": 0}, "max_width = 0"),
        ({"threshold": 1.5}, "threshold = 1.5"),
    ],
)
def test_wrong_settings_are_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        make_nlp(**settings)


def test_spans_with_a_marked_token():
    expected = [[False, False, True], [False, True, True], [True, True, True], [False, False, False]]
    assert spans_with(np.array([False, False, True, False]), Words(4), 3).tolist() == expected
    # The last token is white space, and so is the marked one.
    words = Words(6, np.array([False, True, False, True, False, True]))
    expected = [[False, False, True], [False, True, True], [False, False, False]]
    assert spans_with(np.array([False, False, False, True, False, False]), words, 3).tolist() == expected
