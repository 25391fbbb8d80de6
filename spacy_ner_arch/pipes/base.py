"""What all components of this package share: labels, initialization, updates, errors."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
from spacy.errors import Errors
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc, Span
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Model, Optimizer, set_dropout_rate

from ..training.loss_weights import make_loss_weight

# Documents from which the widths of the layers are read.
SHAPE_SAMPLE = 10

if not Span.has_extension("score"):
    Span.set_extension("score", default=None)


class TorchPipe(TrainablePipe):
    """A component over a model of `bridge.head_model`.

    A subclass says what its labels are in the data (`find_labels`), what the model has to know about them
    (`hyperparameters`), what the targets of examples are (`targets`), and how predictions become annotations
    (`set_annotations`).
    """

    def __init__(
        self, vocab: Vocab, model: Model, name: str, *, scorer: Callable | None, loss_weight: Any = 1.0, **cfg: Any
    ) -> None:
        self.vocab = vocab
        self.model = model
        self.name = name
        self.scorer = scorer
        try:
            self.loss_weight = make_loss_weight(loss_weight)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        self._weighs = loss_weight != 1.0
        self.cfg: dict[str, Any] = {**cfg, "labels": []}
        self._updates = 0
        self._loss = 0.0  # of this update, which may come in parts
        self._reported: set[str] = set()

    # For the subclass

    def find_labels(self, examples: Iterable[Example]) -> list[str]:
        """All labels in the annotation of the examples, in a fixed order."""
        raise NotImplementedError(Errors.E931.format(parent="TorchPipe", method="find_labels", name=self.name))

    def hyperparameters(self) -> dict[str, Any]:
        """What the model is built from besides its config: json values that follow from the labels."""
        raise NotImplementedError(Errors.E931.format(parent="TorchPipe", method="hyperparameters", name=self.name))

    def targets(self, examples: Sequence[Example]) -> Any:
        """The gold annotation of the examples, as the model's collate function takes it."""
        raise NotImplementedError(Errors.E931.format(parent="TorchPipe", method="targets", name=self.name))

    def update_targets(self, examples: Sequence[Example]) -> Any:
        """The same for an update, where it is another: a sample, say."""
        return self.targets(examples)

    # Labels

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels the component predicts."""
        return tuple(self.cfg["labels"])

    @property
    def label_data(self) -> list[str]:
        """Labels as `spacy init labels` writes them, for [initialize.components.NAME.labels]."""
        return list(self.labels)

    def add_label(self, label: str) -> int:
        """Add a label; a trained model grows and keeps what it knows about the others. Returns 0 if it was there."""
        if not isinstance(label, str):
            raise ValueError(Errors.E187)
        if label in self.labels:
            return 0
        self.cfg["labels"].append(label)
        self.vocab.strings.add(label)
        self.model.attrs["change"](self.model, "resize", **self.hyperparameters())
        return 1

    def warn_of_labels(self, gold: Iterable[str]) -> None:
        """Say once of every gold label that it is none of the component's."""
        unknown = set(gold) - set(self.labels) - self._reported
        if unknown:
            self._reported |= unknown
            warnings.warn(
                f"{self.name}: gold labels that are none of its labels are learned as nothing: {sorted(unknown)}; call "
                f"add_label, or add them to [initialize.components.{self.name}.labels]",
                stacklevel=3,
            )

    @property
    def is_resizable(self) -> bool:
        return True

    # Learning

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Collect the labels and build the model.

        labels: from [initialize.components.NAME.labels]; None reads them from all examples.
        """
        validate_get_examples(get_examples, f"{type(self).__name__}.initialize")
        found = self.find_labels(get_examples())
        for label in found if labels is None else labels:
            self.add_label(label)
        self.warn_of_labels(found)
        if not self.labels:
            raise ValueError(
                f"{self.name}: no label in the training corpus. Check that it was converted with its annotation, or "
                f"give [initialize.components.{self.name}.labels], or call add_label before initializing"
            )
        sample = list(islice((eg.x for eg in get_examples() if len(eg.x)), SHAPE_SAMPLE))
        if not sample:
            raise ValueError(f"{self.name}: the training corpus has no document with a token")
        self.model.initialize(X=sample, Y=self.hyperparameters())
        if self._weighs and not any(node.name.endswith("-listener") for node in self.model.walk()):
            warnings.warn(
                f"{self.name}: loss_weight acts on weights that it shares with other components, and this one shares "
                "none; let its tok2vec be a listener, such as spacy_ner_arch.TransformerListener.v1",
                stacklevel=2,
            )

    def get_loss(self, examples: Iterable[Example], scores: Any = None) -> float:
        """The loss on the examples, without learning from them."""
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.get_loss")
        return float(self.model.predict(([eg.predicted for eg in examples], self.targets(examples))))

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Learn from a batch; as in every component of spaCy. A loss that is not finite raises, no weight changed."""
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.update")
        if not examples:
            return losses
        set_dropout_rate(self.model, drop)
        docs = [eg.predicted for eg in examples]
        try:
            loss, backprop = self.model.begin_update((docs, self.update_targets(examples)))
            # All that the host reads: before the backward pass, which runs on while the host goes on.
            value, parts = self.model.attrs["read_loss"](self.model, loss)
            if not math.isfinite(value):
                raise ValueError(
                    f"the loss is {value} in update {self._updates + 1}, on {len(docs)} documents, the first being "
                    f"{docs[0].text[:60]!r}. No weight was changed by this update; lower [training.optimizer] "
                    "learn_rate, or look for extreme inputs"
                )
            weight = self.loss_weight.value()
            backprop(weight)
        except ValueError as error:  # the model does not know the name of its component
            raise ValueError(f"{self.name}: {error}") from error
        losses[self.name] += value
        self._loss += value
        for part, part_value in parts.items():
            losses[part] = losses.get(part, 0.0) + part_value
        if self._weighs:
            losses[f"{self.name}_weight"] = weight
        if sgd not in (None, False):
            self.finish_update(sgd)
        return losses

    def finish_update(self, sgd: Optimizer) -> None:
        """Change the weights by the gradients of all calls of `update` since the last one."""
        self._updates += 1
        self.loss_weight.learn(self._loss)
        self._loss = 0.0
        self.model.finish_update(sgd)

    # Predicting

    def predict(self, docs: Iterable[Doc]) -> Any:
        """Predictions of the model, one tuple of arrays per document."""
        try:
            return self.model.predict(list(docs))
        except ValueError as error:  # the model does not know the name of its component
            raise ValueError(f"{self.name}: {error}") from error

    def check_finite(self, doc: Doc, scores: np.ndarray) -> None:
        """Raise for NaN and inf; -inf is the logarithm of 0."""
        if not (scores < np.inf).all():
            raise ValueError(f"{self.name}: scores are not finite for {doc.text[:60]!r}; the weights are broken")

    # Storing

    def from_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> "TorchPipe":
        """Load the component; a damaged folder is an error that names it, and nothing in it is ever executed."""
        try:
            return super().from_disk(path, exclude=exclude)
        except ValueError as error:
            raise ValueError(
                f"{self.name}: {path} is damaged or does not fit its config ({error}); train or download it again"
            ) from error


def log_odds(threshold: float) -> float:
    """The least log odds that a probability from 0 to 1 asks for: 0 and 1, which have none, become odds that nothing
    falls short of or reaches."""
    return math.log(max(threshold, 1e-30)) - math.log(max(1 - threshold, 1e-30))
