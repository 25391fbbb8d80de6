"""What runs of peers and controls register: `spacy train` imports this file with `--code`."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import registry
from torch import Tensor, nn

from spacy_ner_arch.architectures.relations import PairBuilder
from spacy_ner_arch.nn.batch import Batch
from spacy_ner_arch.nn.pair_head import PairHead


class TutorialPairs(PairHead):
    """The relation model of spaCy's tutorial: a linear layer over the mean vectors of both entities, and squared error.

    Use it with `multi_label`: each label has a sigmoid of its own.
    """

    def __init__(self, input_size: int, **settings: Any) -> None:
        super().__init__(input_size, **settings)
        self.output = self.output_layer(2 * self.width)

    def logits(self, x: Tensor, batch: Batch) -> Tensor:
        assert self.output is not None
        entities = self.mean_entities(x, batch.items)
        return self.output(torch.cat([entities[batch.items.heads], entities[batch.items.tails]], dim=1))

    def pair_loss(self, logits: Tensor, held: Tensor) -> Tensor:
        return nn.functional.mse_loss(logits.sigmoid(), held, reduction="sum")


@registry.architectures("benchmarks.TutorialPairs.v1")
def tutorial_pairs() -> PairBuilder:
    return PairBuilder(TutorialPairs)


@registry.augmenters("benchmarks.shuffled_trees.v1")
def create_shuffler() -> Callable[[Language, Example], Iterator[Example]]:
    """Shuffle the tokens of each gold sentence within its tree, in the same way in every pass."""
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
