"""A reader for the control of syn_lstm.py: trees of the right shape and labels over the wrong tokens."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Corpus, Example
from spacy.util import registry


@registry.readers("shuffled_trees.v1")
def create_shuffled_corpus(path: Path) -> Callable[[Language], Iterator[Example]]:
    """The gold trees of a corpus, on the predicted documents, with the tokens of each sentence put in another order."""

    def read(nlp: Language) -> Iterator[Example]:
        for example in Corpus(path)(nlp):
            gold = example.reference
            # The same for a sentence in every pass.
            chance = random.Random(gold.text)
            heads, deps = [0] * len(gold), [""] * len(gold)
            for sent in gold.sents:
                places = list(range(sent.start, sent.end))
                chance.shuffle(places)
                for token in sent:
                    heads[places[token.i - sent.start]] = places[token.head.i - sent.start]
                    deps[places[token.i - sent.start]] = token.dep_
            words, spaces = [token.text for token in gold], [bool(token.whitespace_) for token in gold]
            yield Example(Doc(nlp.vocab, words=words, spaces=spaces, heads=heads, deps=deps), gold)

    return read
