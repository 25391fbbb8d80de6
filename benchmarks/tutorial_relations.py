"""The model of spaCy's tutorial on relations, for our component: the mean of each entity's tokens, one linear layer, a
sigmoid for each label, squared error. The baseline of relations.py."""

from functools import partial

import torch
from spacy.util import registry
from thinc.api import Model
from torch import Tensor, nn

from spacy_ner_arch.architectures.relations import relation_model
from spacy_ner_arch.bridge.head import Tok2Vec
from spacy_ner_arch.nn.pair_classifier import PairClassifier
from spacy_ner_arch.nn.pairs import Pairs


class TutorialClassifier(PairClassifier):
    def __init__(self, input_size: int, **settings: object) -> None:
        super().__init__(input_size, **settings)
        self.output = self.output_layer(2 * input_size)

    def logits(self, x: Tensor, mask: Tensor, pairs: Pairs) -> Tensor:
        entities = self.mean_entities(x, pairs)
        return self.output(torch.cat([entities[pairs.heads], entities[pairs.tails]], dim=1))

    def loss(self, logits: Tensor, held: Tensor) -> Tensor:
        return nn.functional.mse_loss(logits.sigmoid(), held, reduction="sum")


@registry.architectures("tutorial_relations.v1")
def tutorial_relations(tok2vec: Tok2Vec, loss_scale: float = 0.001) -> Model:
    return relation_model("relation_tutorial", tok2vec, partial(TutorialClassifier, loss_scale=loss_scale), "float32")
