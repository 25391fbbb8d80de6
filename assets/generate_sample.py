"""Write the synthetic sample corpus: entities, relations and dependency trees in English.

Usage: ``python assets/generate_sample.py [--out assets/sample] [--seed 0]``

The corpus is drawn from the small generative grammar in ``assets/sample/grammar.txt`` and written
as ``train``, ``dev`` and ``test``, each as ``.conllu`` and as ``.jsonl``. A rule of the grammar is
one line: a template, and after ``=>`` the relations that it asserts between its slots. A template
lists the items of one phrase in reading order:

``works/V``        the head of the phrase (form/tag; see TAGS for the one-letter tags)
``new/J/amod``     a one-word dependent (form/tag/relation)
``the``            a function word, whose tag and relation the grammar lists once
``(obj ...)``      a dependent phrase; ``?(obj ...)`` is left out half of the time
``[LOC ...]``      a phrase in head position that is a named entity
``{P}``            a slot in head position, see ``Writer.fill``
``a|b``, ``@job``  one of the alternatives, one word of the class

Items before the head become its left children and items after it its right children. So every tree
is projective and has one root by construction, and no token has an index before the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ASSETS = Path(__file__).parent
SIZES = {"train": 300, "dev": 50, "test": 50}
SHARES = {"train": (0, 1, 2), "dev": (3,), "test": (4,)}  # fifths of every list of names
SHARED_NAMES = 6  # so many surnames of a split are also towns of it, and the other way round
SENTENCES = (1, 2, 2, 3, 3, 4)
MAX_TOKENS = 45
CHANCE = {
    "plain frame": 0.5,  # a sentence that is a bare clause
    "optional": 0.5,
    "modifier": 0.3,
    "title": 0.25,
    "known name": 0.4,  # a name the document has used before
    "aside": 0.12,  # a clause without names, whatever the topic
}

TAGS = {"N": "NOUN", "V": "VERB", "J": "ADJ", "R": "ADV", "P": "PROPN", "D": "NUM", "U": "PRON"}
PLAIN = "clauses plain"  # the topic without entities
WEIGHTS = {"business": 5, "people": 3, "places": 2, "culture": 3, "sport": 2, "plain": 1}
TOPICS = [f"clauses {topic}" for topic, weight in WEIGHTS.items() for _ in range(weight)]
KINDS = {"O": "KI"}  # a slot that takes more than one kind of name
PRONOUNS = {
    "he": {"female": "she", "male": "he", "": "they"},
    "his": {"female": "her", "male": "his", "": "their"},
}
NO_SPACE_BEFORE = {",", ".", "?", "%", "'s", "'ll", "'m", "n't", "-", "”"}
NO_SPACE_AFTER = {"$", "-", "“"}

TOKEN = re.compile(r"\?\(|[()\[\]]|\{[^}]*\}|[^\s()\[\]{}]+")
CHOICE = re.compile(r"@(\w+)|[^\s()\[\]{}/|]+(?:\|[^\s()\[\]{}/|]+)+")
TAGGED_FORM = re.compile(r"(?<![^\s(\[])[^\s()\[\]/]+(?=/)")
VOWEL_SOUND = re.compile(r"[aeio]|u(?!ni)", re.IGNORECASE)


# --- The grammar ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """A template and the relations, as (label, head slot, tail slot), that it asserts."""

    template: str
    relations: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, line: str) -> Rule:
        template, _, relations = line.partition(" => ")
        return cls(template, tuple(tuple(r.split()) for r in relations.split(";") if r))

    @property
    def labels(self) -> set[str]:
        return {label for label, _, _ in self.relations}

    @property
    def is_event(self) -> bool:
        """Whether the clause tells of something that happened, and so takes a time."""
        return "{when}" in self.template


def read_sections(path: Path) -> dict[str, list[str]]:
    """Return the lines of every ``== name`` section, without comments and blank lines."""
    sections: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            lines = sections.setdefault(line[3:], [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return sections


def by_key(lines: Sequence[str]) -> dict[str, list[str]]:
    """Collect ``key: value`` lines; a repeated key adds to its values."""
    values: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(": ")
        values.setdefault(key, []).append(value)
    return values


SECTIONS = read_sections(ASSETS / "sample" / "grammar.txt")
WORDS = {name: " ".join(lines).split() for name, lines in by_key(SECTIONS["words"]).items()}
FUNCTION = {
    word: (word.rstrip("^"), *row.split())
    for row, lines in by_key(SECTIONS["function words"]).items()
    for word in " ".join(lines).split()
}
DEMONYMS = dict(line.split(": ") for line in SECTIONS["demonyms"])
NAME_PARTS = {name: " ".join(lines) for name, lines in by_key(SECTIONS["name parts"]).items()}
NAMES = by_key(SECTIONS["names"])
PHRASES = by_key(SECTIONS["phrases"])
RULES = {
    name: [Rule.parse(line) for line in lines]
    for name, lines in SECTIONS.items()
    if name.split()[0] in ("clauses", "modifiers", "frames")
}
FRAMES = RULES["frames"]
NAMELESS_FRAMES = [rule for rule in FRAMES if not re.search(r"\{[PO]", rule.template)]


def generic_name_words() -> frozenset[str]:
    """Return the words of names that are no names themselves ("University") and so recur."""
    words = {"An"}  # the article of a title before a vowel
    for template in itertools.chain(*NAMES.values()):
        for form in TAGGED_FORM.findall(template):
            is_class = form.startswith("@")
            words.update(WORDS.get(form[1:], []) if is_class else form.split("|"))
    return frozenset(words)


GENERIC_NAME_WORDS = generic_name_words()


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """Choose an item by ``random()``, the one method whose sequence Python promises to keep."""
    return items[int(rng.random() * len(items))]


def deal_names(rng: random.Random) -> dict[str, dict[str, list[str]]]:
    """Make up the names and deal them out, so that no name is in two splits."""
    dealt: dict[str, dict[str, list[str]]] = {split: {} for split in SIZES}
    for kind, parts in NAME_PARTS.items():
        first, _, last = parts.partition("+")
        beginnings = sorted(first.split(), key=lambda _: rng.random())
        for split, fifths in SHARES.items():
            share = [beginning for fifth in fifths for beginning in beginnings[fifth::5]]
            pairs = itertools.product(share, last.split() or [""])
            dealt[split][kind] = sorted(map("".join, pairs), key=lambda _: rng.random())
    for words in dealt.values():
        surnames, towns = words["last"][:SHARED_NAMES], words["city"][:SHARED_NAMES]
        words["last"] += towns
        words["city"] += surnames
        words["demonym"] = [
            country.removesuffix(ending) + new
            for country in words["country"]
            for ending, new in DEMONYMS.items()
            if country.endswith(ending)
        ]
    return dealt


# --- Trees ------------------------------------------------------------------------------------


@dataclass(eq=False)
class Node:
    """A word with the phrases that depend on it; compared by identity."""

    form: str
    pos: str
    dep: str = "root"
    left: list[Node] = field(default_factory=list)
    right: list[Node] = field(default_factory=list)

    def __iter__(self) -> Iterator[Node]:
        """Iterate over the words of the phrase in reading order."""
        for child in self.left:
            yield from child
        yield self
        for child in self.right:
            yield from child

    def add_right(self, child: Node) -> None:
        """Add a child; a flat name has no inner structure, so its own words come along."""
        self.right.append(child)
        if child.dep == "flat":
            self.right += child.right
            child.right = []


@dataclass(eq=False)
class Entity:
    """A label, the words it covers, and the head of their phrase, which may hold more words."""

    label: str
    nodes: list[Node]
    phrase: Node


@dataclass(frozen=True)
class Name:
    """A made-up name: how it is first written, and how the same document writes it later."""

    kind: str
    phrase: str
    later: str
    gender: str = ""
    title: str = ""

    @property
    def forms(self) -> list[str]:
        return TAGGED_FORM.findall(self.phrase)


Link = tuple[str, Entity, Entity]  # the label of a relation, its head and its tail
Scope = dict[str, Entity]  # what the slots of one rule stand for


class Writer:
    """Writes one document; its sentences share a topic and a small cast of names."""

    def __init__(self, rng: random.Random, names: dict[str, list[str]], topic: str) -> None:
        self.rng = rng
        self.words = WORDS | names
        self.topic = topic
        self.cast: list[Name] = []
        self.told: set[Rule] = set()
        self.gender = ""  # of the person named last, for the pronouns

    def start_sentence(self) -> None:
        self.entities: list[Entity] = []
        self.links: list[Link] = []
        self.used: set[str] = set()  # forms of the names in the sentence
        self.labels: set[str] = set()  # of the relations of the latest clause
        self.has_time = False
        self.modifying = False

    def pick(self, items: Sequence[T]) -> T:
        return pick(self.rng, items)

    def chance(self, of: str) -> bool:
        return self.rng.random() < CHANCE[of]

    def document(self) -> list[Sentence]:
        return [self.sentence() for _ in range(self.pick(SENTENCES))]

    def sentence(self) -> Sentence:
        self.start_sentence()
        frames = NAMELESS_FRAMES if self.topic == PLAIN else FRAMES
        rule = frames[0] if self.chance("plain frame") else self.pick(frames)
        root = self.expand(rule, {})
        return Sentence.from_tree(root, self.entities, self.links)

    def expand(self, rule: Rule, scope: Scope, asserted: bool = True) -> Node:
        """Build the phrase of a rule and record the relations it asserts."""
        node = self.build(rule.template, scope)
        if asserted:
            for label, head, tail in rule.relations:
                self.links.append((label, scope[head], scope[tail]))
        return node

    def build(self, template: str, scope: Scope) -> Node:
        tokens = TOKEN.findall(self.settle(template))
        return self.read_phrase(tokens[::-1], scope)

    def settle(self, template: str) -> str:
        """Replace every ``@class`` and ``a|b`` of a template by one word."""

        def choose(match: re.Match[str]) -> str:
            return self.pick(self.words[match[1]] if match[1] else match[0].split("|"))

        return CHOICE.sub(choose, template)

    def read_phrase(self, tokens: list[str], scope: Scope) -> Node:
        """Read items up to the end of a bracket; ``tokens`` is a stack, its top comes next."""
        heads: list[Node] = []
        before: list[Node] = []
        after: list[Node] = []
        while tokens and (token := tokens.pop()) not in (")", "]"):
            if token == "?(":
                if not self.take_optional(tokens):
                    continue
                token = "("
            node, dep = self.read_item(token, tokens, scope)
            if dep:
                node.dep = dep
                (after if heads else before).append(node)
            else:
                heads.append(node)
        (head,) = heads  # anything else is a mistake in the grammar
        head.left[:0] = before
        for child in after:
            head.add_right(child)
        return head

    def read_item(self, token: str, tokens: list[str], scope: Scope) -> tuple[Node, str]:
        """Return the node of an item and its relation, which is empty for the head."""
        if token == "(":
            dep = tokens.pop()
            return self.read_phrase(tokens, scope), dep
        if token == "[":
            label = tokens.pop()
            node = self.read_phrase(tokens, scope)
            self.entities.append(Entity(label, list(node), node))
            return node, ""
        if token.startswith("{"):
            return self.fill(token[1:-1], scope), ""
        form, pos, dep = FUNCTION.get(token) or (token.split("/") + [""])[:3]
        return Node(form, TAGS.get(pos, pos)), dep

    def take_optional(self, tokens: list[str]) -> bool:
        """Decide on the optional phrase that comes next, and pass over it if it stays away.

        A sentence has one time at most, so a second one stays away in any case.
        """
        depth, end = 1, len(tokens)
        while depth:
            end -= 1
            depth += (tokens[end] in ("(", "?(")) - (tokens[end] == ")")
        again = self.has_time and "{when}" in tokens[end:]
        if not again and self.chance("optional"):
            return True
        del tokens[end:]
        return False

    def fill(self, slot: str, scope: Scope) -> Node:
        """Build the phrase for a slot, named by a kind, a number if needed and marks.

        ``S`` is a clause and ``Past`` an event, ``*`` the phrase that is modified, a lower-case
        word a phrase or pronoun, and any other letter a name. ``!`` keeps a name free of title
        and modifiers, ``-`` also of its article; a clause with ``!`` is not asserted.
        """
        variable = slot.rstrip("!-")
        kind, marks = variable.rstrip("0123456789"), slot[len(variable) :]
        if kind == "*":
            return scope["*"].phrase
        if kind in ("S", "Past"):
            return self.clause(events_only=kind == "Past", asserted=not marks)
        if kind in PRONOUNS:
            return Node(PRONOUNS[kind][self.gender], "PRON")
        if kind in PHRASES:
            self.has_time |= kind == "when"
            return self.build(self.pick(PHRASES[kind]), scope)
        name = self.choose_name(kind)
        node = self.mention(name, marks)
        entity = scope[variable] = self.entities[-1]  # the outermost one is completed last
        entity.phrase = node
        rules = RULES.get(f"modifiers {name.kind}", [])
        # No "Calder, who lives in Dovik, lives in Navley".
        rules = [rule for rule in rules if rule.labels.isdisjoint(self.labels)]
        if rules and not marks and not self.modifying and self.chance("modifier"):
            self.modifying = True
            node = self.expand(self.pick(rules), {"*": entity})
            self.modifying = False
        return node

    def clause(self, events_only: bool, asserted: bool) -> Node:
        """Build a clause that the document has not used yet."""
        rules = RULES[PLAIN if self.chance("aside") else self.topic]
        fresh = [rule for rule in rules if rule not in self.told]
        rule = self.pick([rule for rule in fresh if rule.is_event or not events_only])
        self.told.add(rule)
        self.labels = rule.labels
        return self.expand(rule, {}, asserted)

    def choose_name(self, slot: str) -> Name:
        """Return a name that shares no word with the names already in the sentence."""
        kinds = KINDS.get(slot, slot)
        known = [n for n in self.cast if n.kind in kinds and self.used.isdisjoint(n.forms)]
        if known and self.chance("known name"):
            return self.pick(known)
        while True:
            name = self.invent_name(self.pick(kinds))
            if self.used.isdisjoint(name.forms) and len(set(name.forms)) == len(name.forms):
                return name

    def invent_name(self, kind: str) -> Name:
        gender = self.pick(("female", "male"))
        template = self.pick(NAMES[kind]).replace("@first", f"@{gender}")
        phrase = self.settle(template)
        if kind != "P":
            return Name(kind, phrase, phrase)
        surname = re.sub(r"^\[PER \S+ (?:\w\.\S+ )?(\S+?)/flat", r"[PER \1", phrase)
        courtesy = "Ms." if gender == "female" else "Mr."
        title = self.pick((courtesy, self.pick(self.words["title"])))
        return Name(kind, phrase, surname, gender, title)

    def mention(self, name: Name, marks: str) -> Node:
        phrase = name.later if name in self.cast else name.phrase
        if name not in self.cast:
            self.cast.append(name)
        self.used.update(name.forms)
        self.gender = name.gender or self.gender
        if name.title and not marks and self.chance("title"):
            phrase = f"{name.title}/P (flat {phrase})"
        if "-" in marks:
            phrase = phrase.removeprefix("the ")
        return self.build(phrase, {})


# --- Sentences --------------------------------------------------------------------------------


def drop_doubled_punctuation(nodes: list[Node]) -> list[Node]:
    """Drop a comma before other punctuation, and the full stop after an abbreviation."""
    kept: list[Node] = []
    for node in nodes:
        if node.form in {",", ".", "?"} and kept[-1].form == ",":
            kept.pop()
        if node.form != "." or not kept[-1].form.endswith("."):
            kept.append(node)
    return kept


def surface_forms(nodes: list[Node]) -> list[str]:
    """Return the forms as written: "an" before vowels, a capital first, straight quotes."""
    forms = [node.form for node in nodes]
    for i, node in enumerate(nodes):
        if node.pos == "DET" and node.form in ("a", "A") and VOWEL_SOUND.match(forms[i + 1]):
            forms[i] += "n"
        if i == 0 or nodes[i - 1].form == "“":
            forms[i] = forms[i][0].upper() + forms[i][1:]
    return ['"' if form in ("“", "”") else form for form in forms]


@dataclass
class Sentence:
    """The annotated sentence. ``heads`` are token indices, the root is its own head."""

    tokens: list[str]
    spaces: list[bool]
    pos: list[str]
    heads: list[int]
    deps: list[str]
    spans: list[tuple[int, int, str]]
    relations: list[tuple[int, int, str]]

    @classmethod
    def from_tree(cls, root: Node, entities: list[Entity], links: list[Link]) -> Sentence:
        nodes = drop_doubled_punctuation(list(root))
        index = {node: i for i, node in enumerate(nodes)}
        parent = {child: node for node in nodes for child in (*node.left, *node.right)}
        span_of = {e: (index[e.nodes[0]], index[e.nodes[-1]] + 1, e.label) for e in entities}
        spans = sorted(span_of.values(), key=lambda span: (span[0], -span[1]))
        number = {entity: spans.index(span) for entity, span in span_of.items()}
        following = [node.form for node in nodes[1:]] + [""]
        return cls(
            tokens=surface_forms(nodes),
            spaces=[
                node.form not in NO_SPACE_AFTER and after not in NO_SPACE_BEFORE
                for node, after in zip(nodes, following, strict=True)
            ],
            pos=[node.pos for node in nodes],
            heads=[index[parent.get(node, node)] for node in nodes],
            deps=[node.dep for node in nodes],
            spans=spans,
            relations=sorted((number[a], number[b], label) for label, a, b in links),
        )

    @property
    def text(self) -> str:
        pairs = zip(self.tokens, self.spaces, strict=True)
        return "".join(token + " " * space for token, space in pairs).rstrip()

    @property
    def outermost(self) -> list[tuple[int, int, str]]:
        """The spans that lie in no other span."""
        spans: list[tuple[int, int, str]] = []
        for span in self.spans:
            if not spans or span[0] >= spans[-1][1]:
                spans.append(span)
        return spans

    def conllu(self) -> str:
        tags = {
            i: f"NE={'I' if i > start else 'B'}-{label}"
            for start, end, label in self.outermost
            for i in range(start, end)
        }
        lines = []
        for i, form in enumerate(self.tokens):
            misc = [tags[i]] if i in tags else []
            misc += [] if self.spaces[i] else ["SpaceAfter=No"]
            head = 0 if self.heads[i] == i else self.heads[i] + 1
            columns = (i + 1, form, "_", self.pos[i], "_", "_", head, self.deps[i], "_")
            lines.append("\t".join(map(str, columns)) + "\t" + ("|".join(misc) or "_"))
        return "\n".join(lines)


Corpus = dict[str, list[list[Sentence]]]


def make_corpus(seed: int) -> Corpus:
    """Write the documents of all splits. No sentence occurs twice, in whatever split."""
    names = deal_names(random.Random(f"{seed}:names"))
    seen: set[str] = set()
    corpus: Corpus = {}
    for split, size in SIZES.items():
        rng = random.Random(f"{seed}:{split}")
        topics = itertools.islice(itertools.cycle(TOPICS), size)
        corpus[split] = []
        for topic in sorted(topics, key=lambda _: rng.random()):
            while True:
                document = Writer(rng, names[split], topic).document()
                texts = [sentence.text for sentence in document]
                is_new = len(seen.union(texts)) == len(seen) + len(texts)
                if is_new and all(len(s.tokens) <= MAX_TOKENS for s in document):
                    break
            seen.update(texts)
            corpus[split].append(document)
    return corpus


def write_split(split: str, documents: list[list[Sentence]], out: Path) -> None:
    conllu = rows = ""
    for d, document in enumerate(documents, start=1):
        doc = f"sample-{split}-{d:04}"
        conllu += f"# newdoc id = {doc}\n"
        for s, sentence in enumerate(document, start=1):
            sent_id = f"{doc}-{s}"
            conllu += f"# sent_id = {sent_id}\n# text = {sentence.text}\n{sentence.conllu()}\n\n"
            row = {"doc": doc, "sent_id": sent_id, **vars(sentence)}
            rows += json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"
    # As bytes, for the same line ends on every system.
    (out / f"{split}.conllu").write_bytes(conllu.encode())
    (out / f"{split}.jsonl").write_bytes(rows.encode())


def summary(corpus: Corpus) -> str:
    """Return the counts per split as a Markdown table."""
    counts: dict[str, Counter[str]] = {split: Counter() for split in corpus}
    for split, documents in corpus.items():
        count = counts[split]
        count["documents"] = len(documents)
        for sentence in itertools.chain(*documents):
            count["sentences"] += 1
            count["tokens"] += len(sentence.tokens)
            count["entities, nested"] += len(sentence.spans) - len(sentence.outermost)
            count.update(f"entities, outermost, {label}" for _, _, label in sentence.outermost)
            count.update(f"relations, {label}" for _, _, label in sentence.relations)
    first = ["documents", "sentences", "tokens"]
    rows = first + sorted({row for count in counts.values() for row in count} - set(first))
    lines = [f"| | {' | '.join(counts)} |", "|---" * (len(counts) + 1) + "|"]
    lines += [f"| {row} | {' | '.join(str(c[row]) for c in counts.values())} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the synthetic sample corpus.")
    parser.add_argument("--out", type=Path, default=ASSETS / "sample")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    corpus = make_corpus(args.seed)
    for split, documents in corpus.items():
        write_split(split, documents, args.out)
    print(summary(corpus))


if __name__ == "__main__":
    main()
