"""`ner-arch combine`: votes of several systems, weighted by a span model."""

import itertools
import random
import re
from collections import defaultdict

import numpy as np
import pytest
import spacy
from conftest import TRAIN, entities, make_examples, run_command, small_model, train
from spacy.tokens import Doc, DocBin, Span
from spacy.vocab import Vocab

from spacy_ner_arch.annotation.describe import Counted
from spacy_ner_arch.annotation.layers import find_pipe
from spacy_ner_arch.annotation.relations import get_relations, set_relations
from spacy_ner_arch.annotation.scores import set_score
from spacy_ner_arch.annotation.teachers import TEACHER
from spacy_ner_arch.cli.combine_voting import (
    UNANIMOUS,
    Vote,
    move_entities,
    span_model,
    vote,
    with_entities,
    without_annotation,
)

VOCAB = Vocab()
PER, LOC = (0, 2, "PER"), (0, 2, "LOC")


def model_of(probabilities):
    """A span model: {(start, end, label or None): probability}."""

    def model(start, end, labels):
        return np.array([probabilities[start, end, label] for label in labels])

    return model


def test_the_majority_decides():
    assert [v[:3] for v in vote([[PER], [PER], []], [1, 1, 1])] == [PER]
    assert vote([[PER], [], []], [1, 1, 1]) == []
    # As many for it as against it; the weights decide.
    assert vote([[PER], []], [1, 1]) == []
    assert [v[:3] for v in vote([[PER], []], [0.91, 0.9])] == [PER]
    # The label that was proposed first, of two with as many votes.
    assert [v[:3] for v in vote([[LOC], [PER]], [1, 1])] == [LOC]
    assert vote([[], []], [1, 1]) == []


def test_the_span_model_weighs_the_votes():
    model = model_of({(0, 2, None): 0.2, (0, 2, "PER"): 0.1, (0, 2, "LOC"): 0.7})
    ((*found, score),) = vote([[PER], [PER], [LOC]], [1, 1, 1], model)
    assert found == list(LOC) and score == pytest.approx(0.7 / (0.7 + 2 * 0.1))
    # Two systems against one: 0.7 is more than 2 times 0.2, but not more than 4 times.
    assert [v[:3] for v in vote([[LOC], [], []], [1, 1, 1], model)] == [LOC]
    assert vote([[LOC], [], []], [1, 2, 2], model) == []
    # What the model does not know is decided by the votes.
    assert vote([[LOC], [], []], [1, 1, 1], lambda start, end, labels: None) == []


@pytest.mark.parametrize("seed", range(20))
def test_overlapping_spans_are_chosen_for_the_greatest_sum_of_log_odds(seed):
    rng = random.Random(seed)

    def system():
        spans, end = [], 0
        while end < 6:
            start = end + rng.randrange(3)
            end = start + rng.randint(1, 3)
            spans.append((start, end, rng.choice(["PER", "LOC"])))
        return spans

    proposals, weights = [system() for _ in range(3)], [rng.uniform(0.5, 1) for _ in range(3)]
    every = {span[:2] for spans in proposals for span in spans}
    shares = {span: rng.random() for span in every}
    table = {
        (*span, label): shares[span] if label is None else 1 - shares[span]
        for span in every
        for label in (None, "PER", "LOC")
    }
    odds = {}
    for span in every:
        for label in ("PER", "LOC"):
            votes = sum(w for spans, w in zip(proposals, weights, strict=True) if (*span, label) in spans)
            others = sum(w for spans, w in zip(proposals, weights, strict=True) if span not in {s[:2] for s in spans})
            if votes:
                ratio = votes * (1 - shares[span]) / (others * shares[span]) if others else np.inf
                odds[(*span, label)] = min(UNANIMOUS, np.log(ratio))

    def sum_of(chosen):
        tokens = [token for start, end, _ in chosen for token in range(start, end)]
        return sum(odds[span] for span in chosen) if len(tokens) == len({*tokens}) else -np.inf

    found = [v[:3] for v in vote(proposals, weights, model_of(table))]
    best = max(sum_of(chosen) for size in range(5) for chosen in itertools.combinations(odds, size))
    assert sum_of(found) == pytest.approx(best) and found == sorted(found)


def span_nlp(max_width=4):
    nlp = spacy.blank("en")
    nlp.add_pipe("span_ner", config={"model": small_model("Span"), "max_width": max_width})
    return nlp


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained pipeline, and the corpus that it has learned."""
    path = tmp_path_factory.mktemp("combine")
    nlp = span_nlp()
    train(nlp, make_examples(nlp))
    nlp.to_disk(path / "model")
    write(path / "gold.spacy", [spans for _, spans in TRAIN])
    return path


def make_docs(spans, texts):
    docs = []
    for text, found in zip(texts, spans, strict=False):
        doc = Doc(VOCAB, words=text.split(" "))
        doc.set_ents([Span(doc, *span) for span in found], default="outside")
        docs.append(doc)
    return docs


def write(path, spans, texts=tuple(text for text, _ in TRAIN)):
    DocBin(docs=make_docs(spans, texts)).to_disk(path)
    return path


def combine(*arguments, code=0):
    return run_command("combine", *arguments, code=code, env={"COLUMNS": "400"})


def plain(output):
    """Without the line breaks of messages."""
    return " ".join(output.split())


def systems(tmp_path):
    """Each of three systems misses something or finds too much."""
    gold = [list(spans) for _, spans in TRAIN]
    missing, wrong, spurious = ([list(spans) for spans in gold] for _ in range(3))
    missing[0], missing[4] = [], gold[4][:1]
    wrong[0] = [(0, 2, "LOC"), (4, 5, "LOC")]
    spurious[3], spurious[0] = [(0, 1, "PER")], [(0, 2, "LOC")]
    return [
        write(tmp_path / f"{name}.spacy", spans)
        for name, spans in (("missing", missing), ("wrong", wrong), ("spurious", spurious))
    ]


def test_the_command(folder, tmp_path):
    inputs = systems(tmp_path)
    # The right label of the first entity is proposed by none of the three.
    right = write(tmp_path / "right.spacy", [TRAIN[0][1], [], [], [], []])
    output = combine(folder / "model", folder / "gold.spacy", *inputs, right, "-o", tmp_path / "out" / "all.spacy")
    rows = {line.split()[0]: line.split() for line in output.splitlines() if re.search(r"\d \d+$|\d +\d+$", line)}
    names = [str(path) for path in (*inputs, right)]
    assert [name for name in rows if name in names] == names
    assert "span_ner alone" in output and "majority" in rows and float(rows["combined"][3]) == 100.0
    assert float(rows["majority"][4]) < 100.0
    docs = list(DocBin().from_disk(tmp_path / "out" / "all.spacy").get_docs(VOCAB))
    assert [entities(doc) for doc in docs] == [spans for _, spans in TRAIN]
    assert all(0.5 < ent._.score <= 1 for doc in docs for ent in doc.ents)


def test_weights_and_texts_without_entities(folder, tmp_path):
    bare = tmp_path / "bare.spacy"
    DocBin(docs=[Doc(VOCAB, words=text.split(" ")) for text, _ in TRAIN]).to_disk(bare)
    inputs = systems(tmp_path)
    output = plain(
        combine(folder / "model", bare, *inputs, "-o", tmp_path / "out.spacy", "-w", 90, "-w", 80.5, "-w", 70)
    )
    assert "has no entities to compare with" in output and "Saved 8 entities in 5 documents" in output


@pytest.mark.parametrize("repeats", [True, False])
def test_all_else_of_a_document_is_kept(repeats):
    doc = Doc(VOCAB, words=["Anna", "left", "Tarvik", "."], sent_starts=[True, False, False, False])
    doc.set_ents([Span(doc, 0, 1, "PER", span_id="Q1"), Span(doc, 2, 3, "PER", span_id="Q2")], default="outside")
    anna, tarvik = doc.ents
    set_score(tarvik, 0.5)
    doc.spans["sc"] = [anna, tarvik] if repeats else [Span(doc, 0, 3, "WIDE")]
    doc.spans["mine"] = [Span(doc, 1, 2, "VERB")]
    doc.spans["alternatives"] = [Span(doc, 0, 3, "LOC")]
    (verb,) = doc.spans["mine"]
    set_relations(doc, [(anna, tarvik, "left"), (anna, verb, "does")])
    doc.user_data.update({"id": 7, TEACHER: {"of": "the old entities"}})
    doc.cats["news"] = 1.0
    before = doc.to_bytes()
    new = with_entities(doc, [Vote(0, 1, "PER", 0.75), Vote(2, 3, "LOC", 0.625)])
    assert [(ent.start, ent.label_, ent._.score) for ent in new.ents] == [(0, "PER", 0.75), (2, "LOC", 0.625)]
    assert [ent.id_ for ent in new.ents] == ["", ""]
    assert new.user_data["id"] == 7 and TEACHER not in new.user_data and new.cats == doc.cats
    assert [token.is_sent_start for token in new] == [True, False, False, False]
    assert set(new.spans) == ({"mine"} if repeats else {"sc", "mine"}) and new.spans["mine"][0].label_ == "VERB"
    # The other one has an argument that is no entity any more.
    assert [row.label for row in get_relations(new)] == ["does"]
    assert Span(new, 2, 3, "PER")._.score is None
    assert doc.to_bytes() == before


def test_the_output_has_the_fields_of_the_corpus(folder, tmp_path):
    docs = make_docs([spans for _, spans in TRAIN], [text for text, _ in TRAIN])
    for number, doc in enumerate(docs):
        doc.user_data["id"] = number
    DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / "corpus.spacy")
    inputs = systems(tmp_path)[:2]
    combine(folder / "model", tmp_path / "corpus.spacy", *inputs, "-o", tmp_path / "out.spacy")
    found = list(DocBin().from_disk(tmp_path / "out.spacy").get_docs(VOCAB))
    assert [doc.user_data["id"] for doc in found] == [0, 1, 2, 3, 4]


def test_a_system_has_no_vote_about_tokens_that_it_has_not_annotated():
    every, none, half = np.ones(3, dtype=bool), np.zeros(3, dtype=bool), np.array([True, False, True])
    assert vote([[PER], [], []], [1, 1, 1], None, np.stack([every, every, every])) == []
    assert vote([[PER], [], []], [1, 1, 1], None, np.stack([every, none, half])) == [Vote(*PER, 1.0)]
    # The third one has annotated this span.
    last = (2, 3, "PER")
    assert vote([[last], [], []], [1, 1, 1], None, np.stack([every, none, half])) == []
    assert [v[:3] for v in vote([[last], [], []], [2, 1, 1], None, np.stack([every, none, half]))] == [last]


def test_gold_entities_that_a_system_has_not_annotated_are_missing():
    (doc,) = make_docs([[(0, 2, "PER"), (3, 4, "LOC")]], ["Anna Brandt left Tarvik ."])
    found = without_annotation(doc, np.array([True, False, True, True, True]))
    assert entities(found) == [(3, 4, "LOC")]
    assert [token.ent_iob_ for token in found] == ["", "", "O", "B", "O"]
    assert entities(doc) == [(0, 2, "PER"), (3, 4, "LOC")]
    # What the corpus does not annotate stays so.
    found = without_annotation(found, np.array([True, True, True, True, False]))
    assert [token.ent_iob_ for token in found] == ["", "", "O", "B", ""]


def test_a_half_annotated_system_is_scored_on_its_half(folder, tmp_path):
    gold = [list(spans) for _, spans in TRAIN]
    texts = [text for text, _ in TRAIN]
    docs = make_docs(gold, texts)
    docs[0] = Doc(VOCAB, words=texts[0].split(" "))
    # All entities but the last are there. The token of the last one is not annotated.
    (*kept, last) = docs[4].ents
    docs[4].set_ents(kept, missing=[last], default="outside")
    paths = [tmp_path / "half.spacy", write(tmp_path / "gold.spacy", gold), write(tmp_path / "none.spacy", [[]] * 5)]
    DocBin(docs=docs).to_disk(paths[0])
    output = combine(folder / "model", folder / "gold.spacy", *paths, "-o", tmp_path / "out.spacy")
    tokens = len(docs[0]) + len(last)
    total = sum(map(len, docs))
    assert f"{paths[0]} has no vote about 1 of 5 documents and {tokens} of {total} tokens" in plain(output)
    assert "Each row leaves out the tokens without its annotation" in plain(output)
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.startswith(str(tmp_path))}
    every = sum(map(len, gold))
    assert rows[str(paths[0])] == ["100.00"] * 3 + [str(every - len(gold[0]) - 1)] * 2
    assert rows[str(paths[2])] == ["0.00", "0.00", "0.00", str(every), "0"]
    # A system that has annotated no entity, and no token with one.
    docs = make_docs(gold, texts)
    for doc in docs:
        doc.set_ents([], missing=list(doc.ents), default="outside")
    DocBin(docs=docs).to_disk(paths[0])
    output = combine(folder / "model", folder / "gold.spacy", *paths, "-o", tmp_path / "out.spacy")
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.startswith(str(tmp_path))}
    assert rows[str(paths[0])] == ["0.00", "0.00", "0.00", "0", "0"]


def test_systems_vote_about_what_they_have_annotated(folder, tmp_path):
    gold = [list(spans) for _, spans in TRAIN]
    texts = [text for text, _ in TRAIN]
    for name, missing in (("a", {0, 1}), ("b", {1, 2})):
        docs = make_docs(gold, texts)
        for number in missing:
            docs[number] = Doc(VOCAB, words=texts[number].split(" "))
        DocBin(docs=docs).to_disk(tmp_path / f"{name}.spacy")
    inputs = [tmp_path / "a.spacy", tmp_path / "b.spacy"]
    # The first one would outvote the other one where it has no vote.
    for weights in ([], ["-w", 9, "-w", 1]):
        output = plain(
            combine(folder / "model", folder / "gold.spacy", *inputs, "-o", tmp_path / "out.spacy", *weights)
        )
        for path in inputs:
            assert f"{path} has no vote about 2 of 5 documents" in output
        assert "No system has annotated 1 of 5 documents" in output
        found = list(DocBin().from_disk(tmp_path / "out.spacy").get_docs(VOCAB))
        assert [entities(doc) for doc in found] == [entities(doc) for doc in make_docs([gold[0], [], *gold[2:]], texts)]
        # Nobody knows whether the second one has entities.
        assert [doc.has_annotation("ENT_IOB") for doc in found] == [True, False, True, True, True]


def test_what_the_span_model_does_not_know_is_reported(folder, tmp_path):
    spans = [[(0, 5, "LOC")], [(1, 2, "CITY")], [], [], []]
    inputs = [write(tmp_path / f"{i}.spacy", spans) for i in (1, 2)]
    output = plain(combine(folder / "model", folder / "gold.spacy", *inputs, "-o", tmp_path / "out.spacy"))
    assert "2 proposals are decided only by the votes, since span_ner does not score them" in output
    assert "1: more than 4 words, such as 'Anna Brandt lives in Tarvik'" in output
    assert "1: the label CITY, such as 'Tarvik'" in output
    assert "Saved 2 entities" in output


def test_spans_that_the_suggester_leaves_out():
    nlp = span_nlp()
    pipe = nlp.get_pipe("span_ner")
    pipe.add_label("PER")
    rows = np.full((3, 2, 2), -np.inf)
    rows[..., 0] = 0.0
    rows[1, 0] = np.log([0.25, 0.75])
    unknown = defaultdict(Counted)
    model = span_model(pipe, nlp.make_doc("a b c"), rows, unknown)
    assert model(1, 2, [None, "PER"]).tolist() == pytest.approx([0.25, 0.75])
    assert model(0, 1, [None, "PER"]) is None and model(0, 3, [None, "PER"]) is None
    assert {reason: spans.count for reason, spans in unknown.items()} == {
        "no candidate of its suggester": 1,
        "more than 2 words": 1,
    }


def test_predictions_of_any_order_and_tokens(folder, tmp_path):
    """Other white space, other tokens, other order, a further document: the result is the same."""
    inputs = systems(tmp_path)
    combine(folder / "model", folder / "gold.spacy", *inputs, "-o", tmp_path / "expected.spacy")
    expected = (tmp_path / "expected.spacy").read_bytes()
    docs = []
    for doc in DocBin().from_disk(inputs[0]).get_docs(VOCAB):
        # Each word in two tokens, and lines instead of spaces.
        starts, words = [0], []
        for token in doc:
            words += [part for part in (token.text[:1], token.text[1:], "\n") if part]
            starts.append(len(words))
        other = Doc(VOCAB, words=words, spaces=[False] * len(words))
        other.set_ents([Span(other, starts[e.start], starts[e.end] - 1, e.label_) for e in doc.ents], default="outside")
        docs.append(other)
    further = Doc(VOCAB, words=["Elsewhere"], ents=["B-LOC"])
    DocBin(docs=[further, *docs[::-1]]).to_disk(inputs[0])
    output = plain(combine(folder / "model", folder / "gold.spacy", *inputs, "-o", tmp_path / "out.spacy"))
    assert (tmp_path / "out.spacy").read_bytes() == expected
    assert f"{inputs[0]}: 1 documents are not in {folder / 'gold.spacy'}, such as 'Elsewhere '" in output
    assert "within a token" not in output


def test_entities_that_begin_or_end_within_a_token(folder, tmp_path):
    """They are left out; so is annotation of a part of a token."""
    (target,) = make_docs([[]], ["Anna Brandt left Tarvik."])
    found = Doc(VOCAB, words=["Anna", "Brandt", "left", "Tarvik", "."], spaces=[True, True, True, False, False])
    found.set_ents([Span(found, 0, 2, "PER"), Span(found, 3, 4, "LOC")], missing=[found[4:5]], default="outside")
    moved, left_out = move_entities(found, target)
    assert [token.ent_iob_ for token in moved] == ["B", "I", "O", ""] and entities(moved) == [(0, 2, "PER")]
    assert [ent.text for ent in left_out] == ["Tarvik"]
    moved, _ = move_entities(Doc(VOCAB, words=["Anna", "Brandt", "left", "Tarvik."]), target)
    assert not moved.has_annotation("ENT_IOB")
    inputs = [write(tmp_path / "whole.spacy", [[]] * len(TRAIN)), tmp_path / "part.spacy"]
    docs = make_docs([[]] * len(TRAIN), [text for text, _ in TRAIN])
    docs[0] = Doc(VOCAB, words=["An", "na", *[token.text for token in docs[0]][1:]], spaces=[False] + [True] * 6)
    docs[0].set_ents([Span(docs[0], 1, 3, "PER")], default="outside")
    DocBin(docs=docs).to_disk(inputs[1])
    output = plain(combine(folder / "model", folder / "gold.spacy", *inputs, "-o", tmp_path / "out.spacy"))
    expected = f"{inputs[1]}: 1 entities begin or end within a token of {folder / 'gold.spacy'} and are left out"
    assert f"{expected}, such as 'na Brandt' PER" in output


def test_an_output_that_no_command_would_read(folder, tmp_path):
    inputs = systems(tmp_path)
    output = plain(combine(folder / "model", folder / "gold.spacy", *inputs, "-o", tmp_path / "combined", code=1))
    assert f"--output {tmp_path / 'combined'}: the name must end in .spacy" in output
    assert not (tmp_path / "combined").exists()


def test_bad_input(folder, tmp_path):
    model, gold, out = folder / "model", folder / "gold.spacy", tmp_path / "out.spacy"
    good, other, _ = systems(tmp_path)
    spans = [spans for _, spans in TRAIN]
    texts = [text for text, _ in TRAIN]

    def message(*arguments):
        return plain(combine(*arguments, "-o", out, code=1))

    changed = write(tmp_path / "changed.spacy", spans, [*texts[:3], "Nothing changed .", texts[4]])
    output = message(model, gold, good, changed)
    assert f"{changed} has no predictions for the text '{texts[3]} '" in output and "predict the whole corpus" in output
    few = write(tmp_path / "few.spacy", spans[:4], texts[:4])
    assert f"{few} has no predictions for the text '{texts[4]} '" in message(model, gold, good, few)
    bare = tmp_path / "bare.spacy"
    DocBin(docs=[Doc(VOCAB, words=text.split(" ")) for text in texts]).to_disk(bare)
    assert f"{bare} has no annotation of entities" in message(model, gold, good, bare)
    damaged = tmp_path / "damaged.spacy"
    damaged.write_bytes(b"no DocBin")
    assert f"{damaged} is not a .spacy file, or damaged" in message(model, gold, good, damaged)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty} has no .spacy files" in message(model, gold, good, empty)
    assert "at least two systems, each once" in message(model, gold, good)
    assert "at least two systems, each once" in message(model, gold, good, good)
    for weights in ([1], [1, 0], [1, "nan"], ["nan", 1], ["inf", 1], [1e308, 1e308]):
        options = [option for weight in weights for option in ("-w", weight)]
        expected = "give a finite number above 0 for each of the 2 systems"
        assert expected in message(model, gold, good, other, *options), weights
    with pytest.raises(ValueError, match="This command needs a pipeline with span_ner"):
        find_pipe(spacy.blank("en"), "span_ner", None)
    assert not out.exists()


@pytest.mark.parametrize("gap", ["", "\n", "\n\n  \t"])
def test_white_space_changes_no_vote(folder, tmp_path, gap):
    """A right system, and a more trusted wrong one. The span model decides for the right one."""
    spaces = [gap] if gap else []
    words = [*spaces, "Anna", *spaces, "Brandt", "lives", *spaces, "in", *spaces, "Tarvik", "."]
    anna, brandt, tarvik = (words.index(word) for word in ("Anna", "Brandt", "Tarvik"))
    right = [(anna, brandt + 1, "PER"), (tarvik, tarvik + 1, "LOC")]
    wrong = [(anna, anna + 1, "PER"), (tarvik, tarvik + 1, "PER")]
    for name, spans in (("gold", right), ("right", right), ("wrong", wrong)):
        doc = Doc(VOCAB, words=words)
        doc.set_ents([Span(doc, *span) for span in spans], default="outside")
        DocBin(docs=[doc]).to_disk(tmp_path / f"{name}.spacy")
    files = [tmp_path / f"{name}.spacy" for name in ("gold", "right", "wrong")]
    combine(folder / "model", *files, "-o", tmp_path / "out.spacy", "--weight", 0.9, "--weight", 1)
    (doc,) = DocBin().from_disk(tmp_path / "out.spacy").get_docs(VOCAB)
    assert [(ent.start, ent.end, ent.label_) for ent in doc.ents] == right
