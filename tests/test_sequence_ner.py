"""The component as a user of spaCy meets it."""

import math
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import spacy
from conftest import TRAIN, entities, make_examples, make_nlp, set_trees, small_model, train
from spacy.cli.find_threshold import find_threshold
from spacy.tokens import Doc, DocBin, Span, SpanGroup
from spacy.training import Corpus, Example

from spacy_ner_arch.bulk.documents import annotation, find_layers
from spacy_ner_arch.cli.pipelines import check_corpora
from spacy_ner_arch.pipes import base
from spacy_ner_arch.training.calibration import create_calibrate, held_out_batches

TEXTS = [text for text, _ in TRAIN]


def predicted(nlp, text=TEXTS[0]):
    return nlp(Doc(nlp.vocab, words=text.split(" ")))


@pytest.mark.parametrize("scheme", ["BILUO", "BIO"])
@pytest.mark.parametrize("head", ["CRF", "Softmax"])
def test_learns_and_says_how_sure_it_is(head, scheme):
    nlp = make_nlp(head, scheme=scheme)
    examples = make_examples(nlp)
    train(nlp, examples)
    assert nlp.get_pipe("sequence_ner").labels == ("LOC", "ORG", "PER")
    for text, spans in TRAIN:
        doc = predicted(nlp, text)
        assert entities(doc) == spans
        assert all(0.5 < ent._.score <= 1 for ent in doc.ents)
    scores = nlp.evaluate(examples)
    assert scores["ents_f"] == 1.0 and set(scores["ents_per_type"]) == {"PER", "LOC", "ORG"}


def test_add_pipe_without_a_config():
    nlp = spacy.blank("en")
    nlp.add_pipe("sequence_ner")
    examples = make_examples(nlp)
    train(nlp, examples, steps=15)
    assert nlp.evaluate(examples)["ents_f"] == 1.0


def test_a_score_belongs_to_a_label(trained, copy_of):
    """Rules that replace an entity have no score, and so are certain for components behind them."""
    nlp = copy_of(trained)
    ruler = nlp.add_pipe("entity_ruler", config={"overwrite_ents": True})
    ruler.add_patterns([{"label": "GPE", "pattern": "Tarvik"}, {"label": "PER", "pattern": "Anna Brandt"}])
    doc = predicted(nlp)
    scores = {ent.label_: ent._.score for ent in doc.ents}
    assert scores["GPE"] is None and 0.5 < scores["PER"] <= 1
    (stored,) = DocBin(docs=[doc], store_user_data=True).get_docs(nlp.vocab)
    parts = [stored, doc.copy(), doc[:].as_doc(copy_user_data=True), Doc.from_docs([nlp.make_doc("a b"), doc])]
    for other in parts:
        assert {ent.label_: ent._.score for ent in other.ents} == scores
    doc.set_ents([Span(doc, ent.start, ent.end, "LOC") for ent in doc.ents])
    assert [ent._.score for ent in doc.ents if ent.text == "Anna Brandt"] == [None]
    (tarvik,) = (ent for ent in doc.ents if ent.text == "Tarvik")
    assert 0.5 < tarvik._.score <= 1
    assert doc.char_span(tarvik.start_char, tarvik.end_char)._.score == tarvik._.score  # without a label
    tarvik._.score = 0.25
    found = doc.to_json(underscore=["score"])["underscore_span"]["score"]
    assert {"start": tarvik.start_char, "end": tarvik.end_char, "value": 0.25} in found


def test_disk_bytes_processes_and_batches(trained, tmp_path):
    expected = [[(e.text, e.label_, e._.score) for e in doc.ents] for doc in trained.pipe(TEXTS)]
    assert any(expected)
    trained.to_disk(tmp_path)
    from_bytes = make_nlp().from_bytes(trained.to_bytes())
    for nlp, settings in [
        (spacy.load(tmp_path), {}),
        (from_bytes, {}),
        (trained, {"n_process": 2, "batch_size": 2}),
        (trained, {"batch_size": 1}),
    ]:
        got = [[(e.text, e.label_, e._.score) for e in doc.ents] for doc in nlp.pipe(TEXTS, **settings)]
        for doc, expected_doc in zip(got, expected, strict=True):
            assert [e[:2] for e in doc] == [e[:2] for e in expected_doc]
            assert np.allclose([e[2] for e in doc], [e[2] for e in expected_doc], atol=1e-5)
    assert (tmp_path / "sequence_ner" / "model").exists()


def test_scores_survive_a_docbin(trained):
    doc = trained(TEXTS[0])
    loaded = next(DocBin(docs=[doc], store_user_data=True).get_docs(trained.vocab))
    assert [ent._.score for ent in loaded.ents] == [ent._.score for ent in doc.ents]


@pytest.mark.timeout(120)
def test_processes_do_not_hang_after_torch_has_worked(tmp_path, trained):
    """In a process of its own: the fork comes after torch has run with several threads."""
    trained.to_disk(tmp_path)
    code = (
        "import spacy, torch; torch.set_num_threads(2); torch.randn(512, 512) @ torch.randn(512, 512)\n"
        f"nlp = spacy.load({str(tmp_path)!r}); texts = {TEXTS!r} * 3; list(nlp.pipe(texts))\n"
        "print(sum(len(doc.ents) for doc in nlp.pipe(texts, n_process=2, batch_size=4)))"
    )
    environment = {"OMP_NUM_THREADS": "2", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


@pytest.mark.parametrize(
    "words",
    [[], ["Anna"], [" "], ["\n\n", " \t"], ["\u200b", "\U0001f9ff\ufe0f", "ｆｕｌｌ", "\x07", "नमस्ते"], ["x" * 5000]],
    ids=["empty", "one token", "whitespace", "whitespaces", "unseen characters", "long word"],
)
def test_odd_documents(trained, words):
    doc = trained(Doc(trained.vocab, words=words))
    assert len(doc) == len(words) and all(token.ent_iob for token in doc)
    docs = list(trained.pipe([Doc(trained.vocab, words=words), predicted(trained)]))
    assert entities(docs[1]) == TRAIN[0][1]


def test_a_document_of_20000_tokens(trained):
    doc = trained(Doc(trained.vocab, words=TEXTS[0].split(" ") * 3334))
    assert len(doc) > 20_000 and all(math.isfinite(ent._.score) for ent in doc.ents)
    found = {(ent.start % 6, ent.label_) for ent in doc.ents[100:-100]}
    assert (0, "PER") in found and (4, "LOC") in found


def test_training_on_a_long_and_an_empty_document():
    nlp = make_nlp()
    long_text = (" ".join(TEXTS[:1] * 800), [(i * 6, i * 6 + 2, "PER") for i in range(800)])
    examples = [*make_examples(nlp, [long_text]), Example(Doc(nlp.vocab), Doc(nlp.vocab))]
    train(nlp, examples, steps=3)
    assert math.isfinite(nlp.get_pipe("sequence_ner").loss_on(examples))


def test_entities_that_are_there_stay_or_go():
    ruler_patterns = [{"label": "WORD", "pattern": "Anna", "id": "A1"}, {"label": "VERB", "pattern": "lives"}]
    for overwrite, expected in [
        (False, [(0, 1, "WORD"), (2, 3, "VERB"), (4, 5, "LOC")]),
        (True, [(0, 2, "PER"), (4, 5, "LOC")]),
    ]:
        nlp = make_nlp(overwrite_ents=overwrite)
        train(nlp, make_examples(nlp))
        ruler = nlp.add_pipe("entity_ruler", before="sequence_ner")
        ruler.add_patterns(ruler_patterns)
        assert entities(predicted(nlp)) == expected
        assert [ent.ent_id_ for ent in predicted(nlp).ents] == (["", ""] if overwrite else ["A1", "", ""])
    after = nlp.add_pipe("entity_ruler", "after")
    after.add_patterns([{"label": "VERB", "pattern": "lives"}])
    assert entities(predicted(nlp)) == [(0, 2, "PER"), (2, 3, "VERB"), (4, 5, "LOC")]


def test_blocked_tokens_stay_blocked(trained):
    doc = Doc(trained.vocab, words=TEXTS[0].split(" "))
    doc.set_ents([], blocked=[doc[0:1]], default="missing")
    assert entities(trained(doc)) == [(4, 5, "LOC")]
    assert doc[0].ent_iob == 3 and doc[0].ent_type == 0


@pytest.mark.parametrize("head", ["CRF", "Softmax"])
def test_partial_annotation_teaches_what_is_known(head):
    """Of four copies of a sentence one is annotated. Where nothing is said of the entity in the others, it is learned;
    where they say that there is none, they outvote the one."""
    found = {}
    for default in ["missing", "outside"]:
        nlp = make_nlp(head)
        examples = make_examples(nlp, TRAIN[1:2] * 4)
        for eg in examples[1:]:
            eg.reference.set_ents([], missing=[eg.reference[1:2]], default="outside") if default == "missing" else (
                eg.reference.set_ents([], default="outside")
            )
        train(nlp, examples)
        found[default] = entities(predicted(nlp, TEXTS[1]))
    assert found == {"missing": TRAIN[1][1], "outside": []}


def test_tokens_that_do_not_align_are_missing_and_reported():
    nlp = make_nlp()
    reference = Doc(nlp.vocab, words=["Anna", "-", "Brandt", "came"], spaces=[False, False, True, False])
    reference.set_ents([Span(reference, 0, 1, "PER")], default="outside")
    example = Example(Doc(nlp.vocab, words=["Anna-Brandt", "came"]), reference)
    with pytest.warns(UserWarning, match="1 of 1 gold entities do not align .*, such as 'Anna' PER; "):
        nlp.initialize(lambda: [example])
    assert nlp.get_pipe("sequence_ner").find_targets([example], None)[0].tags.tolist() == [-1, 0]


def test_gold_entities_of_other_labels_count_as_outside():
    nlp = make_nlp()
    examples = make_examples(nlp)
    with pytest.warns(UserWarning, match=r"count as negative: \['LOC', 'ORG'\]"):
        nlp.get_pipe("sequence_ner").initialize(lambda: examples, nlp=nlp, labels=["PER"])
    pipe = nlp.get_pipe("sequence_ner")
    assert pipe.labels == ("PER",) and pipe.label_data == ["PER"]
    assert pipe.find_targets(examples[1:2], None)[0].tags.tolist() == [0] * 5


def test_with_given_labels_a_corpus_is_not_read_to_the_end(monkeypatch):
    monkeypatch.setattr(base, "LABEL_SAMPLE", 3)
    nlp = make_nlp()
    examples = make_examples(nlp)
    read = []

    def stream():
        for eg in examples:
            read.append(eg)
            yield eg

    pipe = nlp.get_pipe("sequence_ner")
    # spaCy's check of the function reads one example, and the widths are read from the first documents.
    with pytest.warns(UserWarning, match=r"count as negative: \['ORG'\]"):
        pipe.initialize(stream, labels=["PER", "LOC"])
    given = len(read)
    read.clear()
    make_nlp().get_pipe("sequence_ner").initialize(stream)
    assert len(read) - given == len(examples) - 3 and pipe.labels == ("PER", "LOC")


@pytest.mark.parametrize("labels", ["PER", {"0": {}, "1": {"PER": 7}}, ["PER", 1]])
def test_what_is_no_label_data(labels):
    """A string, those of spaCy's ner, and a list with a number."""
    nlp = make_nlp()
    with pytest.raises(ValueError, match=r"sequence_ner: .* are not its label data; write them with"):
        nlp.get_pipe("sequence_ner").initialize(lambda: make_examples(nlp), nlp=nlp, labels=labels)
    assert nlp.get_pipe("sequence_ner").labels == ()


def test_label_data_without_labels_are_not_taken_for_a_corpus_without_entities():
    nlp = make_nlp()
    with pytest.raises(
        ValueError, match=r"sequence_ner: its label data have no label; write them with .*sequence_ner.l"
    ):
        nlp.get_pipe("sequence_ner").initialize(lambda: make_examples(nlp), nlp=nlp, labels=[])


def test_a_label_that_occurs_once():
    nlp = make_nlp()
    train(nlp, make_examples(nlp))
    assert "ORG" in nlp.get_pipe("sequence_ner").labels
    assert entities(predicted(nlp, TEXTS[2])) == TRAIN[2][1]


def test_a_corpus_without_entities_is_refused():
    nlp = make_nlp()
    with pytest.raises(ValueError, match="sequence_ner: no label in the training corpus. It learns from doc.ents;"):
        nlp.initialize(lambda: make_examples(nlp, [("Nothing happened .", [])]))


@pytest.mark.parametrize("scheme, count, warns", [("BILUO", 125, True), ("BILUO", 124, False), ("BIO", 250, True)])
def test_many_tags_are_reported(scheme, count, warns):
    nlp = make_nlp(scheme=scheme)
    for i in range(count - 3):  # the corpus has three
        nlp.get_pipe("sequence_ner").add_label(f"L{i}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nlp.initialize(lambda: make_examples(nlp))
    assert len(nlp.get_pipe("sequence_ner").labels) == count
    messages = [str(w.message) for w in caught if "grows with their square" in str(w.message)]
    assert len(messages) == warns
    if warns:
        assert f"{count} labels make" in messages[0]
        remedy = "use span_ner, " + ('scheme = "BIO", ' if scheme == "BILUO" else "") + "or fewer labels"
        assert messages[0].endswith(remedy)


def test_a_corpus_without_tokens_is_refused():
    nlp = make_nlp()
    nlp.get_pipe("sequence_ner").add_label("PER")
    with pytest.raises(ValueError, match="no document with a token"):
        nlp.initialize(lambda: [Example(Doc(nlp.vocab), Doc(nlp.vocab))])


def test_overlapping_gold_entities_are_refused():
    nlp = make_nlp()
    with pytest.raises(ValueError, match="E1010"):
        make_examples(nlp, [("a b c", [(0, 2, "X"), (1, 3, "X")])])


def test_predicting_before_initialization_says_what_to_do():
    nlp = make_nlp()
    with pytest.raises(ValueError, match="not initialized: call nlp.initialize"):
        nlp.get_pipe("sequence_ner").predict([Doc(nlp.vocab, words=["a"])])


def test_a_loss_that_is_not_finite_changes_nothing():
    """Neither this update nor the next one, which begins without gradients, in the head or the embedding of thinc."""
    nlp = make_nlp()
    examples = make_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(2):
        nlp.update(examples, sgd=optimizer)
    pipe = nlp.get_pipe("sequence_ner")
    before = pipe.model.to_bytes()
    pipe.model.shims[0].module.output.bias.data[0] = float("nan")
    broken = pipe.model.to_bytes()
    with pytest.raises(ValueError, match=r"sequence_ner: the loss is nan in update 3, on 5 documents.*'Anna Brandt"):
        nlp.update(examples, sgd=optimizer)
    assert pipe.model.to_bytes() == broken != before
    assert all(parameter.grad is None for parameter in pipe.head.parameters())
    pipe.model.from_bytes(before)
    for _ in range(2):
        nlp.update(examples, sgd=optimizer)
    assert pipe.model.to_bytes() != before
    for doc in nlp.pipe(TEXTS):  # raises for scores that are not finite
        assert doc.has_annotation("ENT_IOB")


def test_add_label_keeps_what_was_learned(trained, copy_of):
    nlp = copy_of(trained)
    pipe = nlp.get_pipe("sequence_ner")
    before = {name: p.detach().clone() for name, p in pipe.model.shims[0].module.named_parameters()}
    assert pipe.is_resizable and pipe.add_label("WORK") == 1 and pipe.add_label("WORK") == 0
    with pytest.raises(ValueError, match="a label is empty"):
        pipe.add_label(" ")
    module = pipe.model.shims[0].module
    old = len(before["output.bias"])
    assert len(module.output.bias) == old + 4
    assert (module.output.weight[:old] == before["output.weight"]).all()
    assert (module.crf.transitions[:old, :old] == before["crf.transitions"]).all()
    examples = make_examples(nlp, [*TRAIN, ("Anna wrote Nightfall .", [(0, 1, "PER"), (2, 3, "WORK")])])
    optimizer = nlp.resume_training()
    optimizer.learn_rate = 0.01
    for _ in range(40):
        nlp.update(examples, sgd=optimizer)
    assert nlp.evaluate(examples)["ents_f"] == 1.0
    assert entities(predicted(copy_of(nlp), "Anna wrote Nightfall .")) == [(0, 1, "PER"), (2, 3, "WORK")]


@pytest.mark.filterwarnings("error")
def test_resuming_says_once_of_a_label_that_was_not_added(trained, copy_of):
    nlp = copy_of(trained)
    examples = make_examples(nlp, [("Anna wrote Nightfall .", [(2, 3, "WORK")])])
    optimizer = nlp.resume_training()
    with pytest.warns(UserWarning, match=r"count as negative: \['WORK'\]; call add_label"):
        nlp.update(examples, sgd=optimizer)
    nlp.update(examples, sgd=optimizer)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_an_error_and_no_entity(trained, copy_of, value):
    nlp = copy_of(trained)
    nlp.get_pipe("sequence_ner").model.shims[0].module.output.bias.data[2] = value
    with pytest.raises(ValueError, match="sequence_ner: scores are not finite for 'Anna Brandt"):
        predicted(nlp)


def test_settings_of_the_config_win_over_what_was_stored(trained, tmp_path):
    trained.to_disk(tmp_path)
    nlp = spacy.load(tmp_path, config={"components": {"sequence_ner": {"overwrite_ents": True}}})
    doc = Doc(nlp.vocab, words=TEXTS[0].split(" "))
    doc.set_ents([Span(doc, 0, 1, "OTHER")])
    assert entities(nlp(doc)) == TRAIN[0][1]


def test_sourced_and_selected(trained):
    nlp = spacy.blank("en")
    nlp.add_pipe("sequence_ner", source=trained)
    assert entities(predicted(nlp)) == TRAIN[0][1]
    with nlp.select_pipes(disable=["sequence_ner"]):
        assert entities(predicted(nlp)) == []


def test_update_is_reproducible_under_a_seed():
    def run():
        spacy.util.fix_random_seed(3)
        nlp = make_nlp()
        examples = make_examples(nlp)
        optimizer = nlp.initialize(lambda: examples)
        return [nlp.update(examples, sgd=optimizer, drop=0.3)["sequence_ner"] for _ in range(5)]

    assert run() == run()


def test_accumulated_gradients_give_the_same_step():
    """One update of four documents, or four of one before the step."""

    def run(cuts):
        spacy.util.fix_random_seed(3)
        nlp = make_nlp()
        examples = make_examples(nlp)[:4]
        optimizer = nlp.initialize(lambda: examples)
        for _ in range(3):
            for cut in np.array_split(np.arange(4), cuts):
                nlp.update([examples[i] for i in cut], sgd=False)
            for _, pipe in nlp.pipeline:
                pipe.finish_update(optimizer)
        return nlp.get_pipe("sequence_ner").model.shims[0].module.output.weight.detach().numpy()

    assert np.allclose(run(1), run(4), atol=1e-5)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"class_weights": {"PERSON": 2.0}}, r"class_weights names \['PERSON'\].*'PER'"),
        ({"class_weights": {"PER": -2.0}}, "class_weights.PER = -2.0 must be finite and not negative"),
        ({"label_smoothing": 2.0}, "label_smoothing = 2.0 must be at least 0 and below 1"),
    ],
)
def test_bad_settings_of_softmax(settings, message):
    nlp = spacy.blank("en")
    nlp.add_pipe("sequence_ner", config={"model": {**small_model("Softmax"), **settings}})
    with pytest.raises(ValueError, match=f"^sequence_ner: {message}"):
        nlp.initialize(lambda: make_examples(nlp))


def test_class_weights_and_smoothing_change_the_loss():
    def loss(**settings):
        spacy.util.fix_random_seed(0)
        nlp = spacy.blank("en")
        nlp.add_pipe("sequence_ner", config={"model": {**small_model("Softmax"), **settings}})
        examples = make_examples(nlp)
        nlp.initialize(lambda: examples)
        return nlp.get_pipe("sequence_ner").loss_on(examples)

    weighted = loss(class_weights={"O": 2.0, "PER": 2.0, "LOC": 2.0, "ORG": 2.0})
    assert np.isclose(weighted, 2 * loss(), rtol=1e-4)
    assert not np.isclose(loss(label_smoothing=0.3), loss(), rtol=1e-3)


def test_a_higher_threshold_gives_fewer_and_better_entities(tmp_path):
    """In `spacy find-threshold`. The entities of one sentence are not certain: two of three copies have them in
    training, one of three in evaluation."""
    nlp = make_nlp()
    with_entities, without = TRAIN[0], (TEXTS[0], [])
    train(nlp, make_examples(nlp, [*TRAIN, with_entities, without]), steps=80)
    nlp.to_disk(tmp_path / "model")
    gold = make_examples(nlp, [*TRAIN, without, without])
    DocBin(docs=[eg.reference for eg in gold]).to_disk(tmp_path / "gold.spacy")
    args = (tmp_path / "model", tmp_path / "gold.spacy", "sequence_ner", "threshold")
    recalls, precisions = (list(find_threshold(*args, key, n_trials=6)[2].values()) for key in ("ents_r", "ents_p"))
    best, score, f_scores = find_threshold(*args, "ents_f", n_trials=6)
    assert score == max(f_scores.values()) > f_scores[0.0]
    assert recalls == sorted(recalls, reverse=True) and recalls[0] == 1
    found = precisions[: list(f_scores).index(best) + 1]
    assert found == sorted(found) and found[0] < 1 == found[-1]

    pipe = nlp.get_pipe("sequence_ner")
    everything = [(e.text, e.label_, e._.score) for doc in nlp.pipe(TEXTS) for e in doc.ents]
    for threshold in (0.0, 0.5, best, 0.99, 1.0):
        pipe.cfg["threshold"] = threshold
        kept = [(e.text, e.label_, e._.score) for doc in nlp.pipe(TEXTS) for e in doc.ents]
        assert kept == [entity for entity in everything if entity[2] >= threshold]
    nlp.to_disk(tmp_path / "model")
    assert spacy.load(tmp_path / "model").get_pipe("sequence_ner").cfg["threshold"] == 1.0


PARSED_MODEL = {
    **small_model(),
    "encoder": {"@architectures": "spacy_ner_arch.SynLSTM.v1", "hidden_size": 12},
}


def parsed_nlp(shared=False):
    """A parser, and entities from its trees; the encoder in the component itself, or shared through a tok2vec."""
    nlp = spacy.blank("en")
    nlp.add_pipe("parser")
    model = PARSED_MODEL
    if shared:
        layers = {key: model[key] for key in ("tok2vec", "encoder")}
        nlp.add_pipe("tok2vec", config={"model": {"@architectures": "spacy_ner_arch.TorchTok2Vec.v1", **layers}})
        listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 24}
        model = {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": listener}
    nlp.add_pipe("sequence_ner", config={"model": model})
    return nlp


@pytest.mark.parametrize("shared", [False, True])
def test_a_parser_needs_trees_in_the_corpus_to_give_some(shared, tmp_path):
    nlp = parsed_nlp(shared)
    examples = make_examples(nlp)
    reader = "tok2vec" if shared else "sequence_ner"
    with pytest.raises(
        ValueError, match=f"{reader}: its encoder reads the dependency trees of parser, .* --trees en_core_web"
    ):
        nlp.initialize(lambda: examples)
    # A parser that is trained already, and one that can learn from a document.
    with nlp.select_pipes(disable="parser"):
        nlp.initialize(lambda: examples)
    set_trees([examples[-1].reference])
    parsed_nlp(shared).initialize(lambda: examples)


def test_pipelines_from_before_these_settings_load(trained, tmp_path):
    trained.to_disk(tmp_path)
    config = {"components.sequence_ner.threshold": 0.3}
    for path, setting in (
        ("sequence_ner/cfg", r',\s*"configured": *\{[^}]*\}'),
        ("sequence_ner/cfg", r'"threshold": *0\.0,'),
        ("sequence_ner/cfg", r'"alternatives": *null,'),
        ("config.cfg", "threshold = 0.0\n"),
        ("config.cfg", "alternatives = null\n"),
    ):
        text, removed = re.subn(setting, "", (tmp_path / path).read_text())
        assert removed == 1
        (tmp_path / path).write_text(text)
        # Without the config of the training, what is stored counts.
        if '"threshold"' in (tmp_path / "sequence_ner/cfg").read_text():
            assert spacy.load(tmp_path, config=config).get_pipe("sequence_ner").cfg["threshold"] == 0.0
    assert entities(predicted(spacy.load(tmp_path))) == TRAIN[0][1]
    with pytest.raises(ValueError, match="scheme cannot be changed after training: it was 'BILUO'"):
        spacy.load(tmp_path, config={"components.sequence_ner.scheme": "BIO"})


def alternatives(doc):
    group = doc.spans["alternatives"]
    return {(span.start, span.end, span.label_): p for span, p in zip(group, group.attrs["scores"], strict=True)}


@pytest.mark.parametrize("head", ["CRF", "Softmax"])
def test_alternatives_are_all_spans_that_are_probable_enough(head, tmp_path):
    nlp = make_nlp(head, alternatives=0.001)
    train(nlp, make_examples(nlp), steps=15)  # not sure of anything yet
    docs = [predicted(nlp, text) for text in TEXTS]
    assert sum(len(doc.spans["alternatives"]) for doc in docs) > 2 * sum(len(doc.ents) for doc in docs)
    for doc in docs:
        found = alternatives(doc)
        assert list(found) == sorted(found) and all(0.001 <= p <= 1 for p in found.values())
        for ent in doc.ents:
            assert found.get((ent.start, ent.end, ent.label_)) == pytest.approx(ent._.score)
        # Entities of one tag sequence do not overlap.
        for token in range(len(doc)):
            assert sum(p for (start, end, _), p in found.items() if start <= token < end) <= 1 + 1e-9

    expected = [alternatives(doc) for doc in docs]
    stored = DocBin(docs=docs, store_user_data=True).to_bytes()
    assert [alternatives(doc) for doc in DocBin().from_bytes(stored).get_docs(nlp.vocab)] == expected
    pipe = nlp.get_pipe("sequence_ner")
    pipe.cfg["alternatives"] = {"PER": 0.01, "LOC": 1.0}
    nlp.to_disk(tmp_path)
    for pipeline in (nlp, spacy.load(tmp_path)):
        for text, every in zip(TEXTS, expected, strict=True):
            likely = {key: p for key, p in every.items() if key[2] == "PER" and p >= 0.01}
            assert alternatives(predicted(pipeline, text)) == pytest.approx(likely)


@pytest.mark.parametrize("head", ["CRF", "Softmax"])
def test_readings(head):
    nlp = make_nlp(head, alternatives=1e-6)
    train(nlp, make_examples(nlp), steps=15)  # not sure of anything yet
    docs = [predicted(nlp, text) for text in [*TEXTS, "Anna"]] + [Doc(nlp.vocab)]
    docs[-1].spans["alternatives"] = []
    rows = nlp.get_pipe("sequence_ner").readings(docs, 200)
    for doc, readings in zip(docs, rows, strict=True):
        assert [(e.start, e.end, e.label_) for e in readings[0].entities] == entities(doc)
        probabilities = [reading.probability for reading in readings]
        assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) <= 1 + 1e-9
        assert len({reading.entities for reading in readings}) == len(readings)
        # The readings with a span add up to its probability, but for the readings that are not listed.
        for key, probability in alternatives(doc).items() if len(doc) else ():
            found = sum(r.probability for r in readings if key in [(e.start, e.end, e.label_) for e in r.entities])
            assert probability - (1 - sum(probabilities)) - 1e-6 <= found <= probability + 1e-6
    [one_token, empty] = rows[-2:]
    assert len(one_token) == 4 and sum(r.probability for r in one_token) == pytest.approx(1)
    assert empty == [((), 1.0)]


def test_alternatives_are_in_the_output_of_commands(trained, copy_of):
    nlp = copy_of(trained)
    assert find_layers(nlp) == ["entities"]
    nlp.get_pipe("sequence_ner").cfg["alternatives"] = 0.5
    assert find_layers(nlp) == ["entities", "spans"]
    found = annotation(nlp(TEXTS[0]), find_layers(nlp), digits=4)
    assert found["spans"]["alternatives"] == found["entities"] != []


def test_a_new_label_without_alternatives_is_reported():
    nlp = make_nlp(alternatives={"PER": 0.1})
    pipe = nlp.get_pipe("sequence_ner")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A label may be left out on purpose.
        nlp.initialize(lambda: make_examples(nlp))
        pipe.add_label("LOC")
    with pytest.warns(UserWarning, match=r"sequence_ner: .*without the new label 'DATE'.*tune --per-label"):
        pipe.add_label("DATE")
    pipe.cfg["alternatives"] = 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe.add_label("TIME")


def test_alternatives_do_not_overlap_entities_that_stay():
    nlp = make_nlp(alternatives=0.001)
    train(nlp, make_examples(nlp), steps=15)
    doc = Doc(nlp.vocab, words=TEXTS[0].split(" "))
    doc.set_ents([Span(doc, 4, 5, label="TOWN")], default="missing")
    found = alternatives(nlp(doc))
    assert found and all(end <= 4 or start > 4 for start, end, _ in found)
    nlp.get_pipe("sequence_ner").overwrite_ents = True
    assert any(start <= 4 < end for start, end, _ in alternatives(nlp(doc)))


@pytest.mark.filterwarnings("ignore:.*gold labels that the component does not have")
def test_alternatives_are_the_same_after_a_second_pass():
    nlp = make_nlp(alternatives=0.001)
    train(nlp, make_examples(nlp), steps=20)
    doc = nlp("Quist left Brenna for Tarvik with Anna .")
    before = alternatives(doc), [ent._.score for ent in doc.ents]
    nlp(doc)
    assert doc.ents and (alternatives(doc), [ent._.score for ent in doc.ents]) == before


def test_spans_of_a_user_among_the_alternatives():
    """Those with a probability stay, others are reported."""
    nlp = make_nlp(alternatives=0.001)
    train(nlp, make_examples(nlp))
    doc = nlp.make_doc(TEXTS[0])
    doc.spans["alternatives"] = SpanGroup(doc, spans=[Span(doc, 0, 1, "MINE")], attrs={"scores": [0.25]})
    assert alternatives(nlp(doc))[0, 1, "MINE"] == 0.25
    doc.spans["alternatives"] = [Span(doc, 0, 1, "MINE"), Span(doc, 0, 1, "PER")]
    with pytest.warns(UserWarning, match=r"1 spans without probabilities.*'\w+' MINE in .*under another key"):
        assert (0, 1, "MINE") not in alternatives(nlp(doc))


def test_alternatives_of_two_components_with_different_labels():
    nlp = spacy.blank("en")
    nlp.config["initialize"]["components"] = {"names": {"labels": ["PER"]}, "others": {"labels": ["LOC", "ORG"]}}
    for name in ("names", "others"):
        nlp.add_pipe("sequence_ner", name=name, config={"model": small_model(), "alternatives": 0.5})
    train(nlp, make_examples(nlp))
    doc = predicted(nlp)
    assert entities(doc) == TRAIN[0][1]
    assert alternatives(doc) == pytest.approx({(ent.start, ent.end, ent.label_): ent._.score for ent in doc.ents})
    before = alternatives(doc)
    doc.set_ents([], default="missing")
    assert alternatives(nlp(doc)) == before  # each component replaces its own


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5, {"PER": 0.0}])
def test_alternatives_need_a_probability_above_0(value):
    with pytest.raises(ValueError, match="sequence_ner: alternatives = .* must be above 0 and at most 1"):
        make_nlp(alternatives=value)


def test_alternatives_of_an_unknown_label_are_refused(trained, copy_of):
    new = make_nlp(alternatives={"CITY": 0.5})
    message = r"sequence_ner: alternatives names \['CITY'\], which are not labels"
    with pytest.raises(ValueError, match=message):  # before any training
        new.initialize(lambda: make_examples(new))
    nlp = copy_of(trained)
    nlp.get_pipe("sequence_ner").cfg["alternatives"] = {"CITY": 0.5}
    with pytest.raises(ValueError, match=message):
        nlp(TEXTS[0])


@pytest.mark.parametrize("factory", ["sequence_ner", "span_ner", "nested_ner", "relation_extractor"])
@pytest.mark.parametrize("threshold", [-0.1, 1.5])
def test_a_threshold_is_a_probability(factory, threshold):
    with pytest.raises(ValueError, match=f"^{factory}: threshold = {threshold} must be between 0 and 1"):
        spacy.blank("en").add_pipe(factory, config={"threshold": threshold})


def test_unknown_scheme_is_refused_when_the_pipeline_is_made():
    with pytest.raises(ValueError, match="'IOB'; choose from BILUO, BIO"):
        make_nlp(scheme="IOB")


def calibrate(nlp, examples):
    nlp.get_pipe("sequence_ner").shim.calibrate(held_out_batches(nlp, "sequence_ner", examples))


@pytest.mark.parametrize("head", ["CRF", "Softmax"])
def test_calibration_changes_how_sure_the_model_is_and_nothing_else(head, copy_of):
    """Half of the names of the held-out corpus are not entities there: a model that is sure of all is too sure."""
    nlp = make_nlp(head)
    train(nlp, make_examples(nlp))
    pipe = nlp.get_pipe("sequence_ner")
    held_out = make_examples(nlp) + make_examples(nlp, [(text, []) for text in TEXTS])
    before = [predicted(nlp, text) for text in TEXTS]
    weights = {name: p.detach().clone() for name, p in pipe.model.shims[0].module.named_parameters()}
    calibrate(nlp, held_out)
    after = [predicted(nlp, text) for text in TEXTS]
    assert [entities(doc) for doc in after] == [entities(doc) for doc in before]
    scores = [[ent._.score for doc in docs for ent in doc.ents] for docs in (before, after)]
    assert np.mean(scores[0]) > 0.9 and np.mean(scores[1]) < 0.8
    assert all((p == weights[name]).all() for name, p in pipe.model.shims[0].module.named_parameters())
    assert all(p.grad is None for p in pipe.model.shims[0].module.parameters())
    loaded = copy_of(nlp)
    assert [ent._.score for ent in predicted(loaded).ents] == pytest.approx([ent._.score for ent in after[0].ents])


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("held_out, expected", [(TRAIN, 0.5), ([(text, []) for text, _ in TRAIN], 10.0)])
def test_calibration_stays_within_its_bounds(held_out, expected):
    """A held-out corpus without an error asks for a temperature near 0, where the sums of the CRF underflow."""
    nlp = make_nlp()
    train(nlp, make_examples(nlp))
    module = nlp.get_pipe("sequence_ner").head
    module.output.weight.data *= 10
    module.output.bias.data *= 10
    calibrate(nlp, make_examples(nlp, held_out))
    assert float(module.temperature) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("head", ["CRF", "Softmax"])
def test_calibration_leaves_out_documents_without_a_negative(head):
    """Where only entities are marked, no probability could be too high, and the temperature would always fall."""
    nlp = make_nlp(head)
    train(nlp, make_examples(nlp), steps=20)
    module = nlp.get_pipe("sequence_ner").head
    marked, known, complete = (
        make_examples(nlp),
        make_examples(nlp),
        make_examples(nlp, [("Anna Brandt", [(0, 2, "PER")])]),
    )
    for eg in marked:
        eg.reference.set_ents(list(eg.reference.ents), default="missing")
    for eg in known:
        last = eg.reference[-1:]
        eg.reference.set_ents(list(eg.reference.ents), outside=[last], default="missing")

    def temperature(examples):
        module.temperature.fill_(1.0)
        calibrate(nlp, examples)
        return float(module.temperature)

    assert temperature(marked) == 1.0
    # One token that is known to be outside is enough, and so is complete annotation without such a token.
    assert temperature(known) != 1.0 and temperature(complete) != 1.0
    assert temperature([*marked, *known, *complete]) == pytest.approx(temperature([*known, *complete]), rel=1e-3)


def test_calibration_needs_no_annotation_to_survive():
    nlp = make_nlp()
    train(nlp, make_examples(nlp), steps=5)
    pipe = nlp.get_pipe("sequence_ner")
    module = pipe.model.shims[0].module
    module.temperature.fill_(1.0)
    calibrate(nlp, [])
    unannotated = Doc(nlp.vocab, words=["a", "b"])
    calibrate(nlp, [Example(unannotated.copy(), unannotated)])
    calibrate(nlp, [Example(Doc(nlp.vocab), Doc(nlp.vocab))])
    pipe.model.shims[0].module.output.bias.data[0] = float("nan")
    calibrate(nlp, make_examples(nlp))
    assert pipe.model.shims[0].module.temperature == 1.0


def test_calibration_before_storing_runs_the_components_in_front(tmp_path):
    """By the callback of the configs, for a component that listens to another one."""
    examples_path = tmp_path / "held-out.spacy"
    nlp = make_nlp()
    train(nlp, make_examples(nlp))
    held_out = make_examples(nlp) + make_examples(nlp, [(text, []) for text in TEXTS])
    DocBin(docs=[eg.reference for eg in held_out]).to_disk(examples_path)
    nlp.add_pipe("sentencizer", first=True)
    module = nlp.get_pipe("sequence_ner").model.shims[0].module
    nlp.config["training"]["frozen_components"] = ["sequence_ner"]
    create_calibrate(examples_path)(nlp)
    assert module.temperature == 1.0
    nlp.config["training"]["frozen_components"] = []
    nlp.add_pipe("after_all", last=True)
    assert create_calibrate(examples_path)(nlp) is nlp
    assert module.temperature > 1.2


@spacy.registry.readers("test_corpora_by_one_function")
def both(file):
    return {"train": None, "dev": Corpus(file)}


@spacy.registry.readers("test_corpus_without_a_path")
def development(file):
    return Corpus(file)


@pytest.mark.parametrize("with_path", [False, True])
def test_calibration_with_readers_of_the_user(trained, copy_of, tmp_path, with_path):
    """One that makes all corpora, and one whose file has another name than `path`."""
    DocBin(docs=[eg.reference for eg in make_examples(trained)]).to_disk(tmp_path / "dev.spacy")
    file = str(tmp_path / "dev.spacy")
    for corpora in (
        {"@readers": "test_corpora_by_one_function", "file": file},
        {"train": None, "limit": 0, "dev": {"@readers": "test_corpus_without_a_path", "file": file}},
    ):
        nlp = copy_of(trained)
        nlp.config["corpora"] = corpora
        module = nlp.get_pipe("sequence_ner").head
        module.temperature.fill_(1.0)
        check_corpora(nlp.config)
        assert create_calibrate(tmp_path / "dev.spacy" if with_path else None)(nlp) is nlp
        assert module.temperature != 1.0


@spacy.Language.component("after_all")
def fail(doc):
    raise AssertionError("what stands behind the last component to calibrate need not run")


def test_an_error_of_loading_from_bytes_names_the_component(trained):
    data = trained.get_pipe("sequence_ner").to_bytes(exclude=["cfg"])
    with pytest.raises(ValueError, match="sequence_ner: the model was stored with"):
        make_nlp().get_pipe("sequence_ner").from_bytes(data)


def test_a_damaged_folder_is_named(trained, tmp_path):
    trained.to_disk(tmp_path)
    path = tmp_path / "sequence_ner" / "model"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"sequence_ner: .*sequence_ner is damaged .*train or download it again"):
        spacy.load(tmp_path)
