"""The control of syn_lstm.py: trees of the right shape and labels over the wrong tokens."""

import random
from collections.abc import Callable, Iterator

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import registry


@registry.augmenters("shuffled_trees.v1")
def create_shuffler() -> Callable[[Language, Example], Iterator[Example]]:
    """Puts the tokens of each gold sentence in another order within its tree, the same one in every pass."""
    return shuffle_trees


def shuffle_trees(nlp: Language, example: Example) -> Iterator[Example]:
    gold = example.reference
    chance = random.Random(gold.text)
    heads, deps = [0] * len(gold), [""] * len(gold)
    for sent in gold.sents:
        places = list(range(sent.start, sent.end))
        chance.shuffle(places)
        for token in sent:
            heads[places[token.i - sent.start]] = places[token.head.i - sent.start]
            deps[places[token.i - sent.start]] = token.dep_
    words, spaces = [token.text for token in gold], [bool(token.whitespace_) for token in gold]
    shuffled = Doc(gold.vocab, words=words, spaces=spaces, heads=heads, deps=deps)
    shuffled.set_ents(list(gold.ents), default="outside")
    yield Example(example.predicted, shuffled)
