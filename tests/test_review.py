"""`ner-arch review`: planted label errors come first."""

import json
import math
import re
import time
from pathlib import Path

import pytest
import spacy
from conftest import TRAIN, make_examples, make_nlp, run_in_line, train
from spacy.tokens import Doc, DocBin, Span, SpanGroup
from spacy.training import Example
from spacy.util import registry

from spacy_ner_arch.annotation.describe import Counted
from spacy_ner_arch.annotation.relations import Relation
from spacy_ner_arch.cli.review_held_out import corpus_settings, train_parts
from spacy_ner_arch.evaluation.doubts import entity_doubts, relation_doubts

NLP = spacy.blank("en")
WORDS = ["Anna", "Brandt", "lives", "in", "Tarvik", "near", "Brenna", "."]


def example(gold, found, words=WORDS):
    """Gold entities, and spans with their probabilities: (start, end, label[, probability])."""
    reference, predicted = Doc(NLP.vocab, words=words), Doc(NLP.vocab, words=words)
    reference.set_ents([Span(reference, *row) for row in gold], default="outside")
    spans = [Span(predicted, *row[:3]) for row in found]
    predicted.spans["alternatives"] = SpanGroup(
        predicted, spans=spans, attrs={"scores": [row[3] for row in found]}, name="alternatives"
    )
    return Example(predicted, reference)


def doubts_of(gold, found):
    return entity_doubts(0, example(gold, found), "alternatives")


def smoothed(one, other):
    return math.log((one + 0.03) / (other + 0.03))


@pytest.mark.parametrize(
    ("gold", "found", "kind", "chances"),
    [
        ([(0, 2, "PER")], [(0, 2, "PER", 0.9)], "none there", (0.1, 0.9)),
        ([(0, 2, "PER")], [(0, 2, "PER", 0.1), (0, 2, "ORG", 0.8)], "wrong label", (0.8, 0.1)),
        ([(0, 2, "PER")], [(0, 2, "PER", 0.2), (0, 1, "PER", 0.7)], "wrong boundaries", (0.7, 0.2)),
        ([(0, 2, "PER")], [(0, 2, "PER", 0.2), (0, 1, "ORG", 0.7)], "wrong label and boundaries", (0.7, 0.2)),
        ([(0, 2, "PER")], [(0, 2, "PER", 0.2), (0, 1, "ORG", 0.3)], "none there", (0.5, 0.2)),
        ([(0, 2, "PER")], [], "none there", (1, 0)),
        ([], [(4, 5, "LOC", 0.75), (4, 5, "ORG", 0.2)], "not annotated", (0.75, 0.05)),
    ],
)
def test_the_alternative_and_how_much_more_probable_it_is(gold, found, kind, chances):
    [doubt] = doubts_of(gold, found)
    assert doubt.kind == kind
    assert doubt.log_odds == pytest.approx(smoothed(*chances))
    assert doubt.gold_score == ({row[:3]: row[3] for row in found}.get(gold[0], 0) if gold else None)


def test_each_place_is_doubted_once_and_tokens_without_annotation_never():
    found = [(0, 2, "PER", 0.9), (4, 5, "LOC", 0.6), (4, 7, "ORG", 0.3), (6, 7, "LOC", 0.8)]
    doubts = doubts_of([(0, 2, "PER")], found)
    assert [doubt.match.predicted and doubt.match.predicted.score for doubt in doubts] == [None, 0.8, 0.6]
    partly = example([(0, 2, "PER")], found)
    partly.reference.set_ents([], missing=[partly.reference[6:7]], default="unmodified")
    places = [doubt.match.predicted.places for doubt in entity_doubts(0, partly, "alternatives")[1:]]
    assert places == [((21, 27),)]


def test_long_documents_take_linear_time():
    gold = [(i, i + 2, "PER") for i in range(0, 4000, 10)]
    found = [(i, i + 1 + i % 2, "PER", 0.1) for i in range(4000)]
    one = example(gold, found, [f"w{i}" for i in range(4002)])
    start = time.process_time()
    doubts = entity_doubts(0, one, "alternatives")
    # About 0.2 seconds on an idle machine.
    assert time.process_time() - start < 5
    assert [doubt.kind for doubt in doubts[:400]] == ["none there"] * 400


def with_entities():
    doc = Doc(NLP.vocab, words=WORDS)
    doc.ents = [Span(doc, 0, 2, label="PER"), Span(doc, 4, 5, label="LOC"), Span(doc, 6, 7, label="LOC")]
    return doc


def test_relations():
    reference, predicted = (with_entities() for _ in range(2))
    anna, tarvik, brenna = reference.ents
    reference._.relations = [(anna, tarvik, "LIVES_IN"), (anna, brenna, "LIVES_IN")]
    anna, tarvik, brenna = predicted.ents
    predicted._.relations = [
        Relation(anna, tarvik, "LIVES_IN", 0.9),
        Relation(anna, brenna, "NEAR", 0.8),
        Relation(tarvik, brenna, "NEAR", 0.6),
        Relation(brenna, anna, "NEAR", 0.3),
    ]
    rows = relation_doubts(0, Example(predicted, reference))
    assert [doubt.kind for doubt in rows] == ["none there", "wrong label", "not annotated", "not annotated"]
    assert [doubt.log_odds for doubt in rows] == pytest.approx([smoothed(p, 1 - p) for p in (0.1, 0.8, 0.6, 0.3)])


@pytest.mark.parametrize(
    ("gold", "found", "kinds"),
    [
        # direction = "labels": one direction of each pair is predicted.
        ([(0, 1, "HIRED")], [(1, 0, "HIRED", 0.99)], {"wrong direction": 0.99}),
        ([(0, 1, "HIRED")], [(1, 0, "KNOWS", 0.99)], {"wrong label and direction": 0.99}),
        # multi_label: all labels of each pair are predicted, in any order.
        ([(0, 1, "HIRED")], [(0, 1, "HIRED", 0.02), (0, 1, "KNOWS", 0.4)], {"none there": 0.98}),
        ([(0, 1, "HIRED")], [(0, 1, "KNOWS", 0.4), (0, 1, "HIRED", 0.02)], {"none there": 0.98}),
        ([(0, 1, "HIRED"), (0, 1, "KNOWS")], [(0, 1, "HIRED", 0.9), (0, 1, "KNOWS", 0.8)], {}),
        # A label may be missing beside an annotated one. It was never reported.
        ([(0, 1, "HIRED")], [(0, 1, "HIRED", 0.9), (0, 1, "KNOWS", 0.8)], {"not annotated": 0.8}),
        # direction = "pairs": both orders are predicted.
        ([(0, 1, "HIRED")], [(0, 1, "HIRED", 0.9), (1, 0, "HIRED", 0.8)], {"not annotated": 0.8}),
        ([(0, 1, "HIRED")], [(0, 1, "KNOWS", 0.001), (1, 0, "HIRED", 0.99)], {"wrong direction": 0.999}),
        # The gold label is less probable than the one that the component has kept.
        ([(0, 1, "HIRED")], [(0, 1, "KNOWS", 0.001), (1, 0, "HIRED", 0.001)], {"none there": 0.999}),
        ([(0, 1, "HIRED")], [(1, 0, "KNOWS", 0.3)], {"none there": 0.7}),
        # Of two annotated labels of a pair, a component with one label for each has kept the other one.
        ([(0, 1, "HIRED"), (0, 1, "KNOWS")], [(0, 1, "KNOWS", 0.9), (1, 0, "KNOWS", 0.001)], {}),
        ([(0, 1, "HIRED"), (1, 0, "KNOWS")], [(1, 0, "KNOWS", 0.9)], {}),
        ([(0, 1, "HIRED"), (1, 0, "HIRED")], [(0, 1, "HIRED", 0.01), (1, 0, "HIRED", 0.9)], {"none there": 0.99}),
    ],
)
def test_relations_of_other_directions_and_with_several_labels(gold, found, kinds):
    reference, predicted = (Doc(NLP.vocab, words=WORDS) for _ in range(2))
    for doc in (reference, predicted):
        doc.ents = [Span(doc, 0, 2, label="PER"), Span(doc, 4, 5, label="PER")]
    reference._.relations = [(reference.ents[head], reference.ents[tail], label) for head, tail, label in gold]
    predicted._.relations = [Relation(predicted.ents[h], predicted.ents[t], *rest) for h, t, *rest in found]
    rows = relation_doubts(0, Example(predicted, reference))
    found = {doubt.kind: doubt.log_odds for doubt in rows if doubt.log_odds > 0}
    assert found == pytest.approx({kind: smoothed(p, 1 - p) for kind, p in kinds.items()})


@pytest.mark.parametrize(
    ("found", "kind", "named"),
    [
        ([(0, 1, "HIRED", 1e-5), (1, 0, "HIRED", 0.99)], "wrong direction", ("HIRED", 0.99)),
        ([(0, 1, "HIRED", 1e-5), (0, 1, "KNOWS", 0.9), (1, 0, "KNOWS", 0.2)], "wrong label", ("KNOWS", 0.9)),
        ([(0, 1, "HIRED", 1e-5), (1, 0, "KNOWS", 0.9)], "wrong label and direction", ("KNOWS", 0.9)),
        # A label that holds in both directions has none.
        ([(1, 0, "HIRED", 1e-5), (0, 1, "MARRIED", 0.9)], "wrong label", ("MARRIED", 0.9)),
        ([(0, 1, "HIRED", 1e-5), (1, 0, "HIRED", 0.4)], "none there", None),
        ([(0, 1, "HIRED", 0.6), (1, 0, "HIRED", 0.4)], "none there", None),
    ],
)
def test_the_alternative_to_an_improbable_relation_is_named(found, kind, named):
    """It was "none there" whenever the gold label had a probability at all. What is named is not reported twice."""
    reference, predicted = (Doc(NLP.vocab, words=WORDS) for _ in range(2))
    for doc in (reference, predicted):
        doc.ents = [Span(doc, 0, 2, label="PER"), Span(doc, 4, 5, label="PER")]
    head, tail, _, score = found[0]
    reference._.relations = [(reference.ents[head], reference.ents[tail], "HIRED")]
    predicted._.relations = [Relation(predicted.ents[h], predicted.ents[t], *rest) for h, t, *rest in found]
    first, *others = relation_doubts(0, Example(predicted, reference), ["MARRIED"])
    assert first.kind == kind and first.gold_score == score
    assert first.log_odds == pytest.approx(smoothed(1 - score, score))
    alternative = first.match.predicted
    assert (alternative and (alternative.label, alternative.score)) == named
    assert all(doubt.log_odds < 0 for doubt in others)


def test_relations_between_entities_that_are_no_candidates_are_counted():
    reference, predicted = (with_entities() for _ in range(2))
    anna, tarvik, brenna = reference.ents
    reference._.relations = [(anna, tarvik, "LIVES_IN"), (tarvik, brenna, "NEAR")]
    anna, tarvik, _ = predicted.ents
    predicted._.relations = [Relation(anna, tarvik, "LIVES_IN", 0.9)]
    unjudged = Counted()
    assert len(relation_doubts(0, Example(predicted, reference), unjudged=unjudged)) == 1
    assert (unjudged.count, unjudged.first) == (1, "NEAR from 'Tarvik' LOC to 'Brenna' LOC")


def test_empty_documents_keep_their_numbers(folder, tmp_path):
    docs = [Doc(NLP.vocab), *DocBin().from_disk(folder / "corpus.spacy").get_docs(NLP.vocab)]
    DocBin(docs=docs).to_disk(tmp_path / "corpus.spacy")
    review(folder, tmp_path / "all", "--model", folder / "model")
    review(tmp_path, tmp_path / "shifted", "--model", folder / "model")
    numbers = [[error["document"] for error in errors(tmp_path / name)] for name in ("all", "shifted")]
    assert numbers[1] == [number + 1 for number in numbers[0]]


def test_errors_have_the_fields_of_their_documents(folder, tmp_path):
    """A value that JSON cannot represent is left out."""
    docs = list(DocBin().from_disk(folder / "corpus.spacy").get_docs(NLP.vocab))
    for number, doc in enumerate(docs):
        doc.user_data |= {"id": f"r{number}", "bytes": b"no JSON"}
    DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / "corpus.spacy")
    review(tmp_path, tmp_path / "out", "--model", folder / "model")
    for row in errors(tmp_path / "out"):
        assert (row["file"], row["number"]) == ("corpus.spacy", row["document"])
        assert row["fields"] == {"id": f"r{row['document'] - 1}"}


# Documents of TRAIN whose annotation is wrong, and what it says.
WRONG = {1: [(1, 2, "PER")], 7: [(4, 5, "ORG"), (6, 7, "PER")], 13: [(0, 1, "ORG")]}
CORPUS = [(text, WRONG.get(i, gold)) for i, (text, gold) in enumerate(TRAIN * 12)]
# The same with different texts.
NUMBERED = [(f"{text} {i}", gold) for i, (text, gold) in enumerate(CORPUS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline that was trained on the right annotation, and a corpus with some wrong ones."""
    folder = tmp_path_factory.mktemp("review")
    nlp = make_nlp()
    train(nlp, make_examples(nlp))
    nlp.to_disk(folder / "model")
    for name, corpus in (("corpus", CORPUS), ("numbered", NUMBERED)):
        DocBin(docs=[eg.reference for eg in make_examples(nlp, corpus)]).to_disk(folder / f"{name}.spacy")
    return folder


def review(folder, *args, code=0, corpus="corpus.spacy"):
    return run_in_line("review", folder / corpus, *args, code=code)


def errors(output):
    return [json.loads(line) for line in (output / "errors.jsonl").read_text(encoding="utf8").splitlines()]


def test_planted_errors_come_first(folder, tmp_path):
    output = review(folder, tmp_path, "--model", folder / "model")
    assert "probable errors in 60 documents" in output
    rows = errors(tmp_path)
    probable = [row for row in rows if row["log_odds"] > 0]
    assert {row["document"] - 1 for row in probable} == set(WRONG)
    assert rows == sorted(rows, key=lambda row: -row["log_odds"]) and len(rows) > len(probable)
    [label] = [row for row in probable if row["document"] == 2]
    assert label["kind"] == "wrong label" and label["annotated"]["label"] == "PER"
    assert label["found"]["text"] == "Tarvik" and label["found"]["probability"] > 0.5
    page = (tmp_path / "index.html").read_text(encoding="utf8")
    assert "wrong label" in page and page.count("<li>") == len(probable)

    [*docs] = DocBin().from_disk(tmp_path / "errors.spacy").get_docs(NLP.vocab)
    assert len(docs) == len(WRONG)
    [doc] = [doc for doc in docs if doc.text.strip() == TRAIN[1][0]]
    assert [ent.label_ for ent in doc.ents] == ["PER"]
    group = doc.spans["alternatives"]
    scores = {(s.start, s.label_): score for s, score in zip(group, group.attrs["scores"], strict=True)}
    assert scores[1, "LOC"] == label["found"]["probability"]


def test_corrected_documents_replace_the_old_ones(folder, tmp_path, monkeypatch):
    """By the code of docs/review.md; each document of errors.spacy has its place in the corpus."""
    docs = list(DocBin().from_disk(folder / "corpus.spacy").get_docs(NLP.vocab))
    files = {"a.spacy": docs[:5], "sub/b.spacy": docs[5:]}
    (tmp_path / "parts" / "sub").mkdir(parents=True)
    for name, part in files.items():
        DocBin(docs=part).to_disk(tmp_path / "parts" / name)
    review(tmp_path, tmp_path / "out", "--model", folder / "model", corpus="parts")
    found = list(DocBin().from_disk(tmp_path / "out" / "errors.spacy").get_docs(NLP.vocab))
    assert {doc.user_data["corpus_file"] for doc in found} == {*files}
    for doc in found:
        assert files[doc.user_data["corpus_file"]][doc.user_data["corpus_number"] - 1].text == doc.text
    rows = errors(tmp_path / "out")
    assert {row["file"] for row in rows} == {*files} and rows[0]["fields"] == {}
    for row in rows:
        text = files[row["file"]][row["number"] - 1].text
        assert text == docs[row["document"] - 1].text
        places = [row[side] for side in ("annotated", "found") if row[side]]
        assert all(text[place["start"] : place["end"]] == place["text"] for place in places)

    page = (Path(__file__).parent.parent / "docs" / "review.md").read_text(encoding="utf8")
    [code] = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus" / "sample").mkdir(parents=True)
    DocBin(docs=docs[:5]).to_disk("corpus/sample/train.spacy")
    corrected = docs[1].copy()
    corrected.set_ents([Span(corrected, 0, 1, "NEW")], default="outside")
    DocBin(docs=[corrected]).to_disk("corrected.spacy")
    exec(code, {})
    after = list(DocBin().from_disk("corpus/sample/train.spacy").get_docs(NLP.vocab))
    assert [doc.text for doc in after] == [doc.text for doc in docs[:5]]
    assert [[ent.label_ for ent in doc.ents] == ["NEW"] for doc in after] == [False, True, False, False, False]


def test_a_folder_of_files_is_one_corpus(folder, tmp_path):
    review(folder, tmp_path / "file", "--model", folder / "model")
    docs = list(DocBin().from_disk(folder / "corpus.spacy").get_docs(NLP.vocab))
    for name in ("corpus/later", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    # spaCy's reader follows links to folders.
    (tmp_path / "corpus" / "link").symlink_to(tmp_path / "elsewhere")
    DocBin(docs=docs[:20]).to_disk(tmp_path / "corpus" / "first.spacy")
    DocBin(docs=docs[20:40]).to_disk(tmp_path / "corpus" / "later" / "second.spacy")
    DocBin(docs=docs[40:]).to_disk(tmp_path / "elsewhere" / "third.spacy")
    output = review(tmp_path, tmp_path / "folder", "--model", folder / "model", corpus="corpus")
    assert "probable errors in 60 documents" in output
    in_folder, in_file = errors(tmp_path / "folder"), errors(tmp_path / "file")
    assert {row["file"] for row in in_folder} == {"first.spacy", "later/second.spacy", "link/third.spacy"}
    assert all(row["number"] == row["document"] for row in in_file)
    for row in in_folder + in_file:
        del row["file"], row["number"]
    assert in_folder == in_file
    message = review(tmp_path, tmp_path / "corpus" / "out", "--model", folder / "model", corpus="corpus", code=1)
    assert "training would also read errors.spacy; choose another folder" in message


def test_entities_of_a_ruler_are_checked_too(folder, tmp_path):
    nlp = spacy.load(folder / "model")
    nlp.add_pipe("entity_ruler", before="sequence_ner").add_patterns([{"label": "LOC", "pattern": "Tarvik"}])
    nlp.to_disk(tmp_path / "ruled")
    review(folder, tmp_path / "out", "--model", tmp_path / "ruled")
    probable = [row for row in errors(tmp_path / "out") if row["log_odds"] > 0]
    assert {row["document"] - 1 for row in probable} == set(WRONG)


def test_folds_check_each_document_once_by_a_pipeline_that_has_not_seen_it(folder, tmp_path):
    config = tmp_path / "config.cfg"
    make_nlp().config.to_disk(config)
    steps = ("--training.max_steps", 100, "--training.eval_frequency", 100, "--training.optimizer.learn_rate", 0.01)
    output = review(folder, tmp_path / "out", "--config", config, "--folds", 2, *steps, corpus="numbered.spacy")
    assert "Part 2 of 2" in output
    rows = errors(tmp_path / "out")
    annotated = {i + 1 for i, (_, gold) in enumerate(CORPUS) if gold}
    assert {row["document"] for row in rows if row["annotated"]} == annotated
    assert {row["document"] - 1 for row in rows[:3]} <= set(WRONG)


def test_corpora_of_a_config_that_names_its_files_are_replaced(folder, tmp_path):
    """Each pipeline was trained on the documents that it checked, too."""
    config = make_nlp().config.copy()
    for part in ("train", "dev"):
        config["corpora"][part]["path"] = str(folder / "numbered.spacy")
    config["training"].update(max_steps=1, eval_frequency=1)
    found = []
    docs = list(DocBin().from_disk(folder / "numbered.spacy").get_docs(NLP.vocab))
    config.to_disk(tmp_path / "config.cfg")
    for nlp, numbers, path in train_parts(docs, tmp_path / "config.cfg", {}, 3, 0, -1, tmp_path):
        sizes = {}
        for part in ("train", "dev"):
            reader = registry.resolve(nlp.config.interpolate()["corpora"])[part]
            sizes[part] = len(list(reader(nlp)))
        assert sizes == {"train": 40, "dev": 20} and len(numbers) == 20 and path == tmp_path / f"dev{len(found)}.spacy"
        found.append(numbers)
    assert sorted(sum(found, [])) == [*range(60)]


def test_documents_of_one_text_are_in_one_part(folder, tmp_path):
    """The others would show what is annotated in the document that is checked, also with other line ends."""
    docs = list(DocBin().from_disk(folder / "corpus.spacy").get_docs(NLP.vocab))
    docs[::2] = [Doc.from_docs([doc, Doc(NLP.vocab, words=["\n"])]) for doc in docs[::2]]
    config = make_nlp().config.copy()
    config["training"].update(max_steps=1, eval_frequency=1)
    config.to_disk(tmp_path / "config.cfg")
    parts = [part for _, part, _ in train_parts(docs, tmp_path / "config.cfg", {}, 2, 0, -1, tmp_path)]
    assert sorted(sum(parts, [])) == [*range(60)]
    first, second = ({"".join(docs[i].text.split()) for i in part} for part in parts)
    assert first and second and first.isdisjoint(second)


def test_a_component_that_goes_on_from_another_training_is_named(folder, tmp_path):
    config = make_nlp().config.copy()
    config["components"] = {"sequence_ner": {"source": str(folder / "model")}}
    config["training"].update(max_steps=1, eval_frequency=1)
    config.to_disk(tmp_path / "config.cfg")
    args = ("--config", tmp_path / "config.cfg", "--folds", 2)
    output = review(folder, tmp_path / "out", *args, corpus="numbered.spacy")
    message = (
        f"sequence_ner is sourced from {folder / 'model'}: if that was trained on this corpus, sequence_ner has seen"
    )
    assert output.count(message) == 1


def test_corpora_of_other_readers_are_replaced_by_their_variables():
    config = make_nlp().config.copy()
    both = ("train", "dev")
    assert corpus_settings(config) == {part: [f"paths.{part}", f"corpora.{part}.path"] for part in both}
    for corpora in (
        {part: {"@readers": "made_up", "file": f"${{paths.{part}}}"} for part in both},
        {"@readers": "made_up", "train": "${paths.train}", "dev": "${paths.dev}"},
        {},
    ):
        config["corpora"] = corpora
        assert corpus_settings(config) == {part: [f"paths.{part}"] for part in both}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": {"train_corpus": "corpora.other"}, "corpora": {"train": {"@readers": "made_up"}}},
            "[corpora.other], the corpus of [training] train_corpus, has no path",
        ),
        (
            # It refers to the variable elsewhere, which does not replace the corpus.
            {"corpora": {"train": {"@readers": "made_up"}}, "nlp": {"before_creation": "${paths.train}"}},
            "has no path and does not refer to ${paths.train}",
        ),
        ({"training": {"train_corpus": "corpora.dev"}}, "[corpora.dev] is both the training and the development"),
    ],
)
def test_corpora_that_cannot_be_replaced(folder, tmp_path, changes, message):
    config = make_nlp().config.copy()
    for section, settings in changes.items():
        config[section].update(settings)
    config.to_disk(tmp_path / "config.cfg")
    output = review(folder, tmp_path / "out", "--config", tmp_path / "config.cfg", code=1, corpus="numbered.spacy")
    assert message in output and "Part 1" not in output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Give --config to train pipelines, or --model"),
        (["--model", "model", "--config", "config.cfg"], "Give --config to train pipelines, or --model"),
        (["--model", "model", "--training.max_steps", 1], "settings of a config are for --config"),
        (["--config", "config.cfg", "--folds", 31], "60 different texts are too few for 31 parts"),
        (
            ["--config", "config.cfg", "--initialize.vectors", __file__],
            "is a file, not a pipeline: make a pipeline from word vectors with `python -m spacy",
        ),
    ],
)
def test_bad_requests(folder, tmp_path, args, message):
    make_nlp().config.to_disk(folder / "config.cfg")
    args = [folder / arg if arg in ("model", "config.cfg") else arg for arg in args]
    assert message in review(folder, tmp_path / "out", *args, code=1, corpus="numbered.spacy")


def test_a_config_is_checked_before_the_first_part(folder, tmp_path):
    make_nlp().config.to_disk(tmp_path / "config.cfg")
    options = ["--initialize.vectors", __file__, "--training.maxsteps", 30]
    args = ("--config", tmp_path / "config.cfg", *options)
    output = review(folder, tmp_path / "out", *args, code=1, corpus="numbered.spacy")
    warning = "[training] maxsteps is not a setting and has no effect; use max_steps"
    assert output.count(warning) == 1 and output.index(warning) < output.index("Part 1 of 5")
    assert "vectors" in output.split("Part 1 of 5")[1]
    output = review(folder, tmp_path / "out", "--config", tmp_path / "nope.cfg", code=2)
    assert "does not exist" in output and "Part 1" not in output


def test_a_pipeline_that_cannot_check_annotation(folder, tmp_path):
    spacy.blank("en").to_disk(tmp_path / "blank")
    message = review(folder, tmp_path / "out", "--model", tmp_path / "blank", code=1)
    assert "only sequence_ner and relation_extractor can check annotation" in message


def test_several_sequence_ner(folder, tmp_path):
    nlp = spacy.load(folder / "model")
    nlp.add_pipe("sequence_ner", source=spacy.load(folder / "model"), name="second")
    nlp.to_disk(tmp_path / "two")
    message = review(folder, tmp_path / "out", "--model", tmp_path / "two", code=1)
    assert "several sequence_ner: ['sequence_ner', 'second']; give one with a single sequence_ner" in message


def test_a_corpus_without_what_the_pipeline_checks(folder, tmp_path):
    """It was said that the corpus has no error."""
    nlp = make_nlp()
    examples = make_examples(nlp)
    train(nlp, examples, steps=1)
    nlp.to_disk(tmp_path / "model")
    DocBin(docs=[nlp.make_doc(text) for text, _ in TRAIN]).to_disk(tmp_path / "corpus.spacy")
    message = review(tmp_path, tmp_path / "out", "--model", tmp_path / "model", code=1)
    assert "cannot check its annotation" in message and "5 documents, with no entities, spans or relations" in message
    assert not (tmp_path / "out").exists()
