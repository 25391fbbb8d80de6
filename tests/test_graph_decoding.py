"""Entities and relations chosen together: the search, and `relation_extractor` with decode = "graph"."""

import itertools
import math
import random
import time

import numpy as np
import pytest
import spacy
from conftest import entities, related_examples, relations, small_model
from spacy.tokens import Doc, Span, SpanGroup

from spacy_ner_arch.annotation import graph_decoding
from spacy_ner_arch.annotation.alternatives import entities_and_alternatives, span_gains
from spacy_ner_arch.annotation.candidates import EntityPairs
from spacy_ner_arch.annotation.graph_decoding import Graph, best_items, choose
from spacy_ner_arch.annotation.relation_decoding import choose_graph, score_pairs
from spacy_ner_arch.annotation.relation_rules import RelationRules
from spacy_ner_arch.pipes.relation_extractor import DEFAULT_MODEL

DOCUMENT = {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "document"}

# The search


def random_graph(seed):
    """Up to six entities over eight tokens, two orders of each pair, two labels, and rules on some relations."""
    rng = random.Random(seed)
    count = rng.randint(1, 6)
    gains = [rng.gauss(1, 2) for _ in range(count)]
    slots = []
    for _ in range(count):
        start = rng.randrange(8)
        slots.append(range(start, start + rng.choice([1, 1, 2])))
    certain: set[int] = set()
    for i in range(count):
        if rng.random() < 0.15 and not certain & {*slots[i]}:
            gains[i] = math.inf
            certain |= {*slots[i]}
    costs, found, found_slots = {}, [], []
    for i, j in itertools.combinations(range(count), 2):
        if set(slots[i]) & set(slots[j]) or rng.random() < 0.3:
            continue
        costs[i, j] = 0.0
        for order in (0, 1):
            odds = [rng.gauss(0, 2) for _ in range(2)]
            costs[i, j] -= max(0.0, *odds)
            for label, gain in enumerate(odds):
                is_forbidden = rng.random() < 0.3
                if gain > 0 and not is_forbidden and len(found) < 8:
                    found.append((i, j, gain))
                    rule = [("head of", label, (j, i)[order])] if rng.random() < 0.5 else []
                    found_slots.append([(i, j, order), *rule])
    return Graph(gains, [gain == math.inf for gain in gains], slots, costs, found, found_slots)


def best_of_all(gains, slots, value, certain=()):
    """All items, some of which are certain, that have the greatest sum of gains and value; by trying all."""
    best = None
    for size in range(len(gains) + 1):
        for chosen in itertools.combinations(range(len(gains)), size):
            taken = [slot for i in chosen for slot in slots[i]]
            if len(taken) == len({*taken}) and {*certain} <= {*chosen}:
                total = sum(gains[i] for i in chosen if i not in certain) + value(chosen)
                best = max(best or (-math.inf,), (total, chosen))
    return best


def relations_between(graph, chosen):
    """Best sum of the gains of relations whose entities are chosen, and these relations."""
    numbers = [n for n, (i, j, _) in enumerate(graph.relations) if {i, j} <= {*chosen}]
    slots = [graph.relation_slots[n] for n in numbers]
    total, found = best_of_all([graph.relations[n][2] for n in numbers], slots, lambda chosen: 0.0)
    return total, [numbers[i] for i in found]


def entity_total(graph, chosen):
    gains = sum(graph.gains[i] for i in chosen if graph.gains[i] < math.inf)
    pairs = [pair for pair in graph.costs if {*pair} <= {*chosen}]
    return gains + sum(graph.costs[pair] + relations_between(graph, pair)[0] for pair in pairs)


@pytest.mark.parametrize("seed", range(8))
def test_the_choice_is_the_best_of_all(seed):
    for graph in (random_graph(f"{seed} {number}") for number in range(25)):
        certain = [i for i, gain in enumerate(graph.gains) if gain == math.inf]
        values = {pair: entity_total(graph, pair) for pair in graph.costs}
        alone = [0.0 if i in certain else gain for i, gain in enumerate(graph.gains)]

        def value(chosen, values=values, alone=alone):
            return sum(v - alone[i] - alone[j] for (i, j), v in values.items() if {i, j} <= {*chosen})

        total, entities = best_of_all(graph.gains, graph.slots, value, certain)
        # Entities that no rule concerns are chosen if they were found.
        choice = choose(graph._replace(is_found=[i in entities for i in range(len(graph.gains))]))
        assert choice.inexact == 0
        assert entity_total(graph, choice.entities) == pytest.approx(total)
        taken = [slot for i in choice.entities for slot in graph.slots[i]]
        assert len(taken) == len({*taken}) and {*certain} <= {*choice.entities}
        best, _ = relations_between(graph, choice.entities)
        assert sum(graph.relations[n][2] for n in choice.relations) == pytest.approx(best)
        taken = [slot for n in choice.relations for slot in graph.relation_slots[n]]
        assert len(taken) == len({*taken})


@pytest.mark.parametrize("limit", ["MOST_CONNECTED", "MOST_STEPS"])
def test_a_search_that_stops_early_says_so_and_keeps_the_rules(monkeypatch, limit):
    graphs = [random_graph(f"early {number}") for number in range(50)]
    exact = [choose(graph) for graph in graphs]
    monkeypatch.setattr(graph_decoding, limit, 1)
    choices = [choose(graph) for graph in graphs]
    for graph, best, choice in zip(graphs, exact, choices, strict=True):
        taken = [slot for i in choice.entities for slot in graph.slots[i]]
        taken += [(slot,) for n in choice.relations for slot in graph.relation_slots[n]]
        assert len(taken) == len({*taken})
        missing = entity_total(graph, best.entities) - entity_total(graph, choice.entities)
        assert missing >= -1e-9 and (choice.inexact or (missing < 1e-9 and choice == best))
    assert sum(choice.inexact > 0 for choice in choices) > 10


def test_entities_that_no_rule_concerns_stay_as_they_were_found():
    """The first two would lose a relation; the others would be chosen otherwise by their gains."""
    gains = [1.0, 2.0, -1.0, 3.0, 2.0]
    slots = [[0], [2], [4], [6], [6]]
    graph = Graph(gains, [True, True, True, False, True], slots, {(0, 1): -4.0, (1, 2): -2.0}, [(1, 2, 2.0)], [["a"]])
    assert choose(graph) == ([1, 2, 4], [0], 0)


def test_many_entities_with_few_doubtful_ones_are_searched_exactly():
    rng = random.Random(0)
    gains = [rng.choice([8.0, 8.0, 8.0, 0.5, -0.5]) for _ in range(60)]
    costs = {pair: -rng.random() / 20 for pair in itertools.combinations(range(60), 2)}
    assert choose(Graph(gains, [True] * 60, [[i] for i in range(60)], costs, [], [])).inexact == 0


def test_parts_do_not_search_the_values_of_all_others():
    class Counted(dict):
        reads = 0

        def items(self):
            Counted.reads += 1
            return super().items()

    values = Counted({(2 * i, 2 * i + 1): -2.0 for i in range(50)})
    best = graph_decoding.best_items([1.0, 1.5] * 50, [()] * 100, values, [True] * 100)
    assert best.items == list(range(1, 100, 2))
    assert Counted.reads == 1


def test_many_connected_relations_take_linear_time():
    # Each shares a slot with those before and after it. Low thresholds, as `spacy find-threshold` tries, allow as many.
    slots = [[i // 2, -1 - (i + 1) // 2] for i in range(80_000)]
    start = time.process_time()
    best = best_items([1.0 + i % 7 for i in range(len(slots))], slots)
    # Less than a second on an idle machine.
    assert time.process_time() - start < 6
    assert best.inexact == len(slots) and len(best.items) > len(slots) / 3


def test_gains_of_spans_are_the_log_odds_of_sets_of_them():
    """Either one entity of two tokens, or each token is one by itself with a probability that is independent."""
    both, first, second = 0.3, 0.6, 0.2
    bounds = np.array([(4, 5), (4, 6), (5, 6), (8, 9), (8, 9)])
    alone = [0.7 * first, both, 0.7 * second, 0.5, 0.4]
    gains = span_gains(bounds, np.array(alone))
    nothing = 0.7 * (1 - first) * (1 - second)
    assert gains[0] == pytest.approx(math.log(0.7 * first * (1 - second) / nothing))
    assert gains[1] == pytest.approx(math.log(both / nothing))
    assert gains[0] + gains[2] == pytest.approx(math.log(0.7 * first * second / nothing))
    # Two labels for one span.
    assert gains[3:] == pytest.approx([math.log(0.5 / 0.1), math.log(0.4 / 0.1)])
    assert span_gains(np.zeros((0, 2), dtype=int), np.zeros(0)).tolist() == []
    assert span_gains(bounds[:1], np.array([np.inf])).tolist() == [math.inf]
    assert np.isfinite(span_gains(bounds[3:], np.array([1.0, 0.0]))).all()


# The component


def make_nlp(labels=("LIVES_IN", "KNOWS"), types=("PER", "LOC", "ORG"), **settings):
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("relation_extractor", config={"candidates": DOCUMENT, "decode": "graph", **settings})
    pipe.add_types(types)
    for label in labels:
        pipe.add_label(label)
    return nlp


def make_doc(nlp, found, alternatives=(), words=8):
    """A document with entities and alternatives of (start, end, label, probability)."""
    doc = Doc(nlp.vocab, words=["w"] * words)
    doc.ents = [Span(doc, *row[:3]) for row in found]
    for ent, row in zip(doc.ents, found, strict=True):
        ent._.score = row[3]
    spans = [Span(doc, *row[:3]) for row in alternatives]
    group = SpanGroup(doc, name="alternatives", spans=spans, attrs={"scores": [row[3] for row in alternatives]})
    doc.spans["alternatives"] = group
    return doc


def decode(nlp, doc, probabilities, default=0.01, times=1):
    """Annotate a document, given the probabilities of classes: {(start of one, start of other, its label): {class: p}}.

    Pairs are named by the starts and labels of both entities. times: occurrences of the document in the batch.
    """
    pipe = nlp.get_pipe("relation_extractor")
    items = pipe.find_items_to_predict([doc] * times)
    candidates = items[0]
    names = [label + "^-1" * inverse for label, inverse in pipe.rules.classes]
    yes = np.full((len(candidates.pairs), len(names)), default)
    for row, pair in enumerate(candidates.pairs.tolist()):
        first, second = (candidates.entities[i] for i in pair)
        for name, p in probabilities.get((first.start, first.label_, second.start, second.label_), {}).items():
            yes[row, names.index(name)] = p
    no = 1 - yes if pipe.cfg["multi_label"] else np.repeat(1 - yes.sum(1, keepdims=True), len(names), axis=1)
    pipe.set_annotations([doc] * times, (items, [(np.log(yes), np.log(yes / no))] * times))
    return entities(doc), relations(doc)


ANNA = (0, 1, "PER", 0.95)
LIVES = {(0, "PER", 4, "LOC"): {"LIVES_IN": 0.97}}


def test_a_wrong_label_is_corrected_by_a_strong_relation():
    """The types that a relation may have speak against the more probable label."""
    nlp = make_nlp(type_pairs={"LIVES_IN": [["PER", "LOC"]]})
    rows = [(4, 5, "ORG", 0.5), (4, 5, "LOC", 0.45)]
    # Whatever the label, the text says LIVES_IN.
    lives = {**LIVES, (0, "PER", 4, "ORG"): {"LIVES_IN": 0.97}}
    doc = make_doc(nlp, [ANNA, rows[0]], rows)
    assert decode(nlp, doc, lives) == ([(0, 1, "PER"), (4, 5, "LOC")], [(0, 1, 4, 5, "LIVES_IN")])
    assert doc.ents[1]._.score == 0.45 and doc._.relations[0].score == pytest.approx(0.97 * 0.95 * 0.45)
    # Each for itself, the relation is lost.
    nlp.get_pipe("relation_extractor").decode = "pairs"
    doc = make_doc(nlp, [ANNA, rows[0]], rows)
    assert decode(nlp, doc, lives) == ([(0, 1, "PER"), (4, 5, "ORG")], [])


def test_a_relation_that_contradicts_types_is_dropped():
    nlp = make_nlp(type_pairs={"LIVES_IN": [["PER", "LOC"]]})
    doc = make_doc(nlp, [ANNA, (4, 5, "ORG", 0.99)], [(4, 5, "LOC", 0.005)])
    assert decode(nlp, doc, {(0, "PER", 4, "ORG"): {"LIVES_IN": 0.9}}) == ([(0, 1, "PER"), (4, 5, "ORG")], [])
    # Labels that are not named may have all types.
    doc = make_doc(nlp, [ANNA, (4, 5, "ORG", 0.99)])
    found = decode(nlp, doc, {(0, "PER", 4, "ORG"): {"LIVES_IN": 0.6, "KNOWS": 0.3}}, 0.001)[1]
    assert found == [(0, 1, 4, 5, "KNOWS")]


@pytest.mark.parametrize("types, expected", [("PER", [(2, 3), (3, 4)]), ("ORG", [(2, 4)])])
def test_entities_do_not_overlap(types, expected):
    """Two entities, or one over both, which is better if the two would have a relation that their types forbid."""
    nlp = make_nlp(type_pairs={"LIVES_IN": [[types, "LOC"]]})
    rows = [(2, 3, "PER", 0.52), (2, 4, "LOC", 0.45), (3, 4, "LOC", 0.52)]
    doc = make_doc(nlp, [rows[0], rows[2]], rows)
    decode(nlp, doc, {(2, "PER", 3, "LOC"): {"LIVES_IN": 0.9}})
    assert [(ent.start, ent.end) for ent in doc.ents] == expected
    assert relations(doc) == ([(2, 3, 3, 4, "LIVES_IN")] if len(expected) == 2 else [])


@pytest.mark.parametrize("direction", ["pairs", "labels"])
@pytest.mark.parametrize("rule", ["one_head", "one_tail"])
def test_at_most_one_head_or_tail(rule, direction):
    nlp = make_nlp(direction=direction, **{rule: ["LIVES_IN"]})
    doc = make_doc(nlp, [(i, i + 1, "PER", 0.99) for i in (0, 2, 4)])
    first, second = (
        [((0, "PER", 4, "PER"), 0.8), ((2, "PER", 4, "PER"), 0.9)]
        if rule == "one_head"
        else [
            ((0, "PER", 2, "PER"), 0.8),
            ((0, "PER", 4, "PER"), 0.9),
        ]
    )
    found = decode(nlp, doc, {pair: {"LIVES_IN": p} for pair, p in (first, second)})[1]
    assert found == [(second[0][0], second[0][0] + 1, second[0][2], second[0][2] + 1, "LIVES_IN")]
    found = decode(nlp, doc, {pair: {"KNOWS": p} for pair, p in (first, second)})[1]
    assert len(found) == 2  # the rule is for another label


class Salted(str):
    """A label whose hash can be changed, as that of any string differs between runs of Python."""

    salt = 0

    def __hash__(self):
        return hash((Salted.salt, str(self)))


def scored_pairs(rules, seed):
    """All pairs of nine entities, most of them probably related in two ways."""
    doc = make_doc(spacy.blank("en"), [(i, i + 1, "PER", 0.9) for i in range(9)], words=9)
    candidates = EntityPairs("document")(doc).for_model(["PER"])._replace(scores=np.ones(9))
    odds = np.random.default_rng(seed).normal(1, 1, (len(candidates.pairs), len(rules.classes)))
    return doc, score_pairs(candidates, -np.logaddexp(0, -odds), odds, rules)


@pytest.mark.parametrize("steps", [100, graph_decoding.MOST_STEPS])
@pytest.mark.parametrize("seed", [0, 3, 8])
def test_relations_under_many_rules_are_the_same_in_every_run(steps, seed, monkeypatch):
    """Exact in few steps, and independent of the hashes of labels where the search ends early."""
    monkeypatch.setattr(graph_decoding, "MOST_STEPS", steps)
    knows, leads = Salted("KNOWS"), Salted("LEADS")
    rules = RelationRules([leads, knows], [knows], one_head=[leads, knows], one_tail=[leads])
    found = []
    for salt in range(6):
        monkeypatch.setattr(Salted, "salt", salt)
        chosen, inexact = choose_graph(*scored_pairs(rules, seed), rules)
        found.append((chosen.tolist(), inexact))
    assert all(one == found[0] for one in found)
    assert steps == 100 or not inexact


def test_inverse_classes_have_their_head_second():
    nlp = make_nlp(direction="labels", one_head=["LIVES_IN"], type_pairs={"LIVES_IN": [["PER", "LOC"]]})
    doc = make_doc(nlp, [(0, 1, "LOC", 0.99), (4, 5, "PER", 0.99)])
    found = decode(nlp, doc, {(0, "LOC", 4, "PER"): {"LIVES_IN^-1": 0.9}})[1]
    assert found == [(4, 5, 0, 1, "LIVES_IN")]


def test_symmetric_labels_hold_for_both_orders():
    nlp = make_nlp(symmetric=["KNOWS"])
    doc = make_doc(nlp, [(i, i + 1, "PER", 0.99) for i in (0, 4)])
    both = {(0, "PER", 4, "PER"): {"KNOWS": 0.6}, (4, "PER", 0, "PER"): {"KNOWS": 0.6, "LIVES_IN": 0.3}}
    found = decode(nlp, doc, both)[1]
    assert found == [(0, 1, 4, 5, "KNOWS")]
    # Another label of one order is as probable as this for both.
    both = {(0, "PER", 4, "PER"): {"KNOWS": 0.3}, (4, "PER", 0, "PER"): {"KNOWS": 0.3, "LIVES_IN": 0.69}}
    assert decode(nlp, doc, both)[1] == [(4, 5, 0, 1, "LIVES_IN")]
    married = make_nlp(symmetric=["KNOWS"], one_head=["KNOWS"])
    doc = make_doc(married, [(i, i + 1, "PER", 0.99) for i in (0, 2, 4)])
    known = {
        (a, "PER", b, "PER"): {"KNOWS": 0.9 if 2 in (a, b) and 4 in (a, b) else 0.8}
        for a in (0, 2, 4)
        for b in (0, 2, 4)
    }
    assert decode(married, doc, known)[1] == [(2, 3, 4, 5, "KNOWS")]


def test_several_labels():
    nlp = make_nlp(multi_label=True, symmetric=["KNOWS"])
    doc = make_doc(nlp, [(i, i + 1, "PER", 0.99) for i in (0, 4)])
    both = {(0, "PER", 4, "PER"): {"KNOWS": 0.6, "LIVES_IN": 0.9}, (4, "PER", 0, "PER"): {"KNOWS": 0.6}}
    assert decode(nlp, doc, both)[1] == [(0, 1, 4, 5, "KNOWS"), (0, 1, 4, 5, "LIVES_IN")]


@pytest.mark.parametrize("threshold, expected", [(0.2, ["LIVES_IN"]), (0.5, []), (0.9, [])])
def test_threshold(threshold, expected):
    nlp = make_nlp(labels=["LIVES_IN"], threshold=threshold)
    doc = make_doc(nlp, [ANNA, (4, 5, "LOC", 0.3)])
    found, related = decode(nlp, doc, {(0, "PER", 4, "LOC"): {"LIVES_IN": 0.4}})
    assert [label for *_, label in related] == expected and found == [(0, 1, "PER"), (4, 5, "LOC")]


def test_entities_that_no_rule_concerns_stay():
    """Probable alternatives and relations alone change nothing."""
    nlp = make_nlp(type_pairs={"LIVES_IN": [["PER", "LOC"]]}, symmetric=["KNOWS"], one_head=["KNOWS"])
    rows = [(4, 5, "LOC", 0.3), (4, 5, "ORG", 0.6), (6, 7, "LOC", 0.9)]
    doc = make_doc(nlp, [ANNA, rows[0]], rows)
    assert decode(nlp, doc, LIVES) == ([(0, 1, "PER"), (4, 5, "LOC")], [(0, 1, 4, 5, "LIVES_IN")])


def test_certain_entities_stay():
    """Entities without a probability, of a ruler say, keep their tokens, and what else a document says stays."""
    nlp = make_nlp(type_pairs={"LIVES_IN": [["PER", "LOC"]]})
    doc = make_doc(nlp, [ANNA, (2, 3, "ORG", 0.5)], [(4, 5, "LOC", 0.99), (2, 3, "LOC", 0.4)])
    ruled = Span(doc, 4, 6, label="ORG", kb_id="Q1", span_id="R1")
    doc[2].ent_id_ = "L1"
    doc.set_ents([*doc.ents, ruled], blocked=[doc[7:8]], missing=[doc[6:7]], default="outside")
    forbidden = {(0, "PER", 2, "ORG"): {"LIVES_IN": 0.9}, (0, "PER", 4, "ORG"): {"LIVES_IN": 0.98}}
    assert decode(nlp, doc, forbidden)[0] == [
        (0, 1, "PER"),
        (2, 3, "LOC"),
        (4, 6, "ORG"),
    ]
    assert [ent.ent_id_ for ent in doc.ents] == ["", "", "R1"]
    assert doc.ents[2].kb_id_ == "Q1" and doc.ents[2]._.score is None and doc.ents[1]._.score == 0.4
    assert [token.ent_iob for token in doc] == [3, 2, 3, 2, 3, 1, 0, 3] and doc[7].ent_type_ == ""


@pytest.mark.parametrize(
    "label, score, expected", [("CITY", 0.99, "PER"), ("ORG", None, "PER"), ("CITY", None, "PER"), ("ORG", 0.99, None)]
)
@pytest.mark.filterwarnings("ignore:relation_extractor. entity types that are not in the training corpus")
def test_certain_entities_and_unknown_types_change_no_others(label, score, expected):
    nlp = make_nlp(type_pairs={"LIVES_IN": [["PER", "LOC"]], "KNOWS": [["PER", "PER"]]})
    rows = [(0, 1, "PER", 0.75), (0, 1, "LOC", 0.02), (6, 7, "PER", 0.75)]
    doc = make_doc(nlp, [rows[0], (4, 5, label, score), rows[2]], rows)
    strong = {(0, "PER", 4, label): {"LIVES_IN": 0.98}, (0, "PER", 6, "PER"): {"KNOWS": 0.9}}
    found, related = decode(nlp, doc, strong)
    assert {(start, end): name for start, end, name in found}.get((0, 1)) == expected
    assert related == ([(0, 1, 6, 7, "KNOWS")] if expected == "PER" else [])


def test_alternatives_without_probabilities_are_refused():
    nlp = make_nlp()
    doc = make_doc(nlp, [ANNA], [ANNA])
    doc.spans["alternatives"].attrs = {}
    with pytest.raises(
        ValueError, match=r"relation_extractor: doc.spans\[\"alternatives\"\].*has 1 spans, but .* 0 prob"
    ):
        nlp.get_pipe("relation_extractor").predict([doc])


def test_a_document_may_occur_twice_in_a_batch():
    """Writing its entities the first time must not change the pairs of the second time."""
    nlp = make_nlp(type_pairs={"LIVES_IN": [["PER", "LOC"]]})
    doc = make_doc(nlp, [(0, 1, "ORG", 0.5), (4, 5, "LOC", 0.9)], [(0, 1, "PER", 0.45)])
    both = {(0, label, 4, "LOC"): {"LIVES_IN": 0.97} for label in ("ORG", "PER")}
    assert decode(nlp, doc, both, times=2) == ([(0, 1, "PER"), (4, 5, "LOC")], [(0, 1, 4, 5, "LIVES_IN")])


def test_documents_without_pairs_stay():
    nlp = make_nlp()
    doc = make_doc(nlp, [(2, 3, "PER", 0.3)])
    assert decode(nlp, doc, {}) == ([(2, 3, "PER")], [])
    assert decode(nlp, Doc(nlp.vocab), {}) == ([], [])


def test_an_early_end_is_reported_once(monkeypatch):
    monkeypatch.setattr(graph_decoding, "MOST_CONNECTED", 1)
    nlp = make_nlp(type_pairs={"LIVES_IN": [["PER", "LOC"]]})
    doc = make_doc(nlp, [(i, i + 1, "PER", 0.9) for i in (0, 2)])
    with pytest.warns(UserWarning, match="has 2 connected entities.*raise `alternatives`") as caught:
        for _ in range(2):
            decode(nlp, doc, {(0, "PER", 2, "PER"): {"LIVES_IN": 0.9}})
    assert len(caught) == 1


def test_alternatives_are_for_prediction_only():
    nlp = make_nlp()
    doc = make_doc(nlp, [ANNA], [ANNA, (4, 5, "LOC", 0.3), (0, 2, "ORG", 0.04)])
    pipe = nlp.get_pipe("relation_extractor")
    assert len(pipe.find_items([doc])[0].pairs) == 0
    candidates = pipe.find_items_to_predict([doc])[0]
    assert [(span.start, span.end) for span in candidates.entities] == [(0, 1), (0, 2), (4, 5)]
    assert candidates.pairs.tolist() == [[0, 2], [1, 2], [2, 0], [2, 1]]  # not of overlapping spans
    # A probable relation between forbidden types speaks against the types.
    pipe.cfg["type_pairs"] = {label: [["PER", "PER"]] for label in pipe.labels}
    assert len(pipe.find_items_to_predict([doc])[0].pairs) == 4
    pipe.decode = "pairs"
    assert len(pipe.find_items_to_predict([doc])[0].pairs) == 0
    spans, probabilities = entities_and_alternatives(doc)
    assert spans == list(candidates.entities) and probabilities.tolist() == [0.95, 0.04, 0.3]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"decode": "greedy"}, "unknown decode 'greedy'; choose from pairs, graph"),
        ({"decode": "pairs", "one_head": ["KNOWS"]}, 'one_head and one_tail are for decode = "graph"'),
        ({"candidates": {**DOCUMENT, "spans_key": "sc"}}, "spans_key to null"),
        ({"type_pairs": "some"}, "learned_by_label, a list of pairs, or lists by label"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=f"relation_extractor: .*{message}"):
        make_nlp(**settings)


# In a pipeline


def joint_nlp(**settings):
    nlp = spacy.blank("en")
    nlp.add_pipe("sequence_ner", config={"model": small_model(), "alternatives": 0.001})
    model = {
        **DEFAULT_MODEL,
        "tok2vec": small_model()["tok2vec"],
        "pairs": {"@architectures": "spacy_ner_arch.SoftmaxPairs.v1"},
    }
    config = {"model": model, "candidates": DOCUMENT, "decode": "graph", "type_pairs": "learned_by_label", **settings}
    nlp.add_pipe("relation_extractor", config=config)
    return nlp


LEARNED = {
    "LEFT": [["PER", "LOC"]],
    "LIVES_IN": [["PER", "LOC"]],
    "WITH": [["PER", "PER"]],
    "WORKS_FOR": [["PER", "ORG"]],
}


def test_a_pipeline_learns_and_is_stored(tmp_path):
    settings = {"one_head": ["WORKS_FOR"], "one_tail": ["LIVES_IN"]}
    nlp = joint_nlp(**settings)
    examples = related_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.01
    for _ in range(60):
        nlp.update(examples, sgd=optimizer)
    nlp.to_disk(tmp_path)
    texts = [eg.reference.text for eg in examples]
    for pipeline in (nlp, spacy.load(tmp_path), joint_nlp(**settings).from_bytes(nlp.to_bytes())):
        pipe = pipeline.get_pipe("relation_extractor")
        assert pipe.cfg["type_pairs"] == pipe.label_data["type_pairs"] == LEARNED
        assert (pipe.decode, pipe.one_head, pipe.one_tail) == ("graph", ["WORKS_FOR"], ["LIVES_IN"])
        for doc, eg in zip(pipeline.pipe(texts), examples, strict=True):
            assert entities(doc) == entities(eg.reference) and relations(doc) == sorted(relations(eg.reference))
    for doc in nlp.pipe(texts):
        scores = [relation.score for relation in nlp(doc.text)._.relations]
        assert scores == pytest.approx([relation.score for relation in doc._.relations])
    scores = nlp.evaluate(related_examples(nlp))
    assert scores["ents_f"] == scores["rel_strict_f"] == 1.0
    # Without retraining.
    changed = spacy.load(
        tmp_path, config={"components": {"relation_extractor": {"decode": "pairs", "one_head": [], "one_tail": []}}}
    )
    assert changed.get_pipe("relation_extractor").decode == "pairs"


def test_type_pairs_by_label_are_label_data():
    nlp = joint_nlp()
    examples = related_examples(nlp)
    nlp.initialize(lambda: examples)
    data = nlp.get_pipe("relation_extractor").label_data
    streaming = joint_nlp()
    streaming.config["initialize"]["components"] = {"relation_extractor": {"labels": data}}
    shown = related_examples(streaming)
    streaming.initialize(lambda: shown[:1])
    pipe = streaming.get_pipe("relation_extractor")
    assert pipe.label_data == data and pipe.cfg["type_pairs"] == LEARNED
    learned = joint_nlp(type_pairs="learned")
    learned.get_pipe("relation_extractor").initialize(lambda: related_examples(learned)[:1], labels=data)
    assert learned.get_pipe("relation_extractor").cfg["type_pairs"] == [["PER", "LOC"], ["PER", "ORG"], ["PER", "PER"]]
    pipe.add_types(["ANIMAL"], {"LEFT": [["ANIMAL", "LOC"], ["PER", "LOC"]]})
    assert pipe.cfg["type_pairs"]["LEFT"] == [["PER", "LOC"], ["ANIMAL", "LOC"]] and "ANIMAL" in pipe.cfg["types"]
    with pytest.raises(ValueError, match="relation_extractor: the type_pairs of the component are by label"):
        pipe.add_types([], [["PER", "LOC"]])


def test_gold_relations_outside_of_declared_type_pairs_are_reported():
    nlp = joint_nlp(type_pairs={"WORKS_FOR": [["PER", "LOC"]]})
    with pytest.warns(UserWarning, match="1 of 4 gold relations are not candidates"):
        nlp.initialize(lambda: related_examples(nlp))


@pytest.mark.parametrize("setting", ["one_head", "one_tail", "type_pairs"])
def test_unknown_labels_are_refused(setting):
    nlp = joint_nlp(**{setting: {"OWNS": []} if setting == "type_pairs" else ["OWNS"]})
    with pytest.raises(ValueError, match=rf"{setting} names \['OWNS'\], which are not labels of the component"):
        nlp.initialize(lambda: related_examples(nlp))


def test_learned_type_pairs_of_labels_that_were_not_given_are_no_fault():
    nlp = joint_nlp()
    pipe = nlp.get_pipe("relation_extractor")
    with pytest.warns(UserWarning, match="gold labels that the component does not have"):
        pipe.initialize(lambda: related_examples(nlp), labels=["WITH"])
    assert pipe.labels == ("WITH",) and pipe.rules.allowed_types("WITH") == {("PER", "PER")}


def test_missing_alternatives_are_reported():
    nlp = joint_nlp()
    nlp.get_pipe("sequence_ner").cfg["alternatives"] = None
    with pytest.warns(UserWarning, match="no component sets doc.spans.*alternatives of sequence_ner"):
        nlp.initialize(lambda: related_examples(nlp))
