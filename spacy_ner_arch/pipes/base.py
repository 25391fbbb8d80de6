"""Base class of all components of this package: labels, initialization, updates, errors."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from reprlib import repr as short_repr
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from spacy.errors import Errors
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Model, Optimizer, set_dropout_rate

from ..annotation.describe import quote
from ..annotation.head_input import HeadInput, find_copies
from ..annotation.layers import describe_layers
from ..bridge.errors import named_errors
from ..training.checks import warn_of_settings
from ..training.loss_weights import make_loss_weight
from .changed_settings import StoredPipe
from .streaming import annotate_stream
from .upstream_checks import check_encoders, check_trees, check_vectors

if TYPE_CHECKING:
    from ..bridge.shim import TorchShim
    from ..nn.head import Head

# Number of documents from which layers infer their widths at initialization.
SHAPE_SAMPLE = 10
# Number of examples that are checked against label data from the config.
LABEL_SAMPLE = 1_000
# The encoder of the default models is inside their tok2vec, so that a tok2vec from the config replaces both. spaCy
# would add an `encoder` of the head to every model of the same architecture that has none.
DEFAULT_TOK2VEC = {
    "@architectures": "spacy_ner_arch.TorchTok2Vec.v1",
    "tok2vec": {"@architectures": "spacy_ner_arch.WordCharEmbed.v1"},
    "encoder": {"@architectures": "spacy_ner_arch.BiLSTM.v1"},
}


class TorchPipe(StoredPipe):
    """Base class of the components over a model of `bridge.head`.

    A subclass finds its labels in the data (`find_label_data`), gives the model its hyperparameters (`hyperparameters`)
    and its targets (`find_targets`), and writes predictions onto documents (`set_annotations`). A component that gives
    the model candidates to classify also defines `find_items`.

    model: a model of this package that classifies what the component needs; any other raises ValueError.
    loss_weight: a number, a schedule, or spacy_ner_arch.LearnedWeight.v1.
    cfg: settings that are stored with the component, as JSON values.
    """

    # Items that the component's model classifies, architectures for them, and the layer that has the gold labels.
    classifies: str
    architectures: str
    gold_layer: str

    def __init__(
        self, vocab: Vocab, model: Model, name: str, *, scorer: Callable | None, loss_weight: Any = 1.0, **cfg: Any
    ) -> None:
        super().__init__(**cfg)
        self.vocab = vocab
        self.model = model
        self.name = name
        self.scorer = scorer
        with named_errors(name):
            self.loss_weight = make_loss_weight(loss_weight)
        threshold = cfg.get("threshold", 0.0)
        if not 0 <= threshold <= 1:
            raise ValueError(f"{name}: threshold = {threshold} must be between 0 and 1")
        self.is_weighted = loss_weight != 1.0
        self._updates = 0
        # Loss of the current update, over all its parts and, in parallel training, all processes.
        self.update_loss = 0.0
        self._warned: set[tuple[str, str]] = set()
        self._head_node()  # raises for a model that does not fit

    def _head_node(self) -> Model:
        """The node of the model that classifies what the component needs. Raises ValueError if there is none."""
        node = next((node for node in self.model.walk() if node.attrs.get("classifies") == self.classifies), None)
        if node is None:
            raise ValueError(
                f"{self.name}: its model {self.model.name!r} does not classify {self.classifies}; set [components."
                f"{self.name}.model] @architectures to {self.architectures}"
            )
        return node

    @property
    def shim(self) -> "TorchShim":
        """The shim of the head."""
        return cast("TorchShim", self._head_node().shims[0])

    @property
    def head(self) -> "Head | None":
        """The torch module that scores what the component classifies; None for an exported model."""
        return cast("Head | None", self.shim.module)

    # For the subclass

    def find_label_data(self, examples: Iterable[Example]) -> Any:
        """Collect label data from gold examples, in a fixed order. Warns about annotation that cannot be learned."""
        raise NotImplementedError(Errors.E931.format(parent="TorchPipe", method="find_label_data", name=self.name))

    def hyperparameters(self) -> dict[str, Any]:
        """Arguments of the head that depend on the labels, as JSON values."""
        raise NotImplementedError(Errors.E931.format(parent="TorchPipe", method="hyperparameters", name=self.name))

    def find_items(self, docs: Sequence[Doc]) -> list[Any] | None:
        """Items of each document for the head to classify; None for its tokens or all its spans."""
        return None

    def find_items_to_predict(self, docs: Sequence[Doc]) -> list[Any] | None:
        """Like `find_items`, for a component that classifies more items in prediction than in training."""
        return self.find_items(docs)

    def find_targets(self, examples: Sequence[Example], items: list[Any] | None) -> list[Any]:
        """Gold annotation of the examples, as the head collates it."""
        raise NotImplementedError(Errors.E931.format(parent="TorchPipe", method="find_targets", name=self.name))

    def model_input(self, examples: Sequence[Example], sample: bool = False) -> HeadInput:
        """Documents of the examples, with their items and targets.

        sample: whether the component may use a random sample of the items, as in an update.
        """
        docs = [eg.predicted for eg in examples]
        items = self.find_items(docs)
        return HeadInput(docs, items, self.find_targets(examples, items))

    def held_out_input(self, examples: Sequence[Example]) -> HeadInput:
        """Input for calibration on held-out examples, with the predictions of earlier components."""
        return self.model_input(examples)

    def update_input(self, examples: Sequence[Example]) -> HeadInput:
        """Input for an update. With `consistency`, both copies of an example have the same items and targets.

        Raises ValueError for `consistency` without copies.
        """
        if self.head is None or not self.head.consistency:
            return self.model_input(examples, sample=True)
        copies = find_copies(examples)
        first = [i for i, other in enumerate(copies) if i <= other]
        # `accumulate_gradient` can split off a part of a batch that has only one example.
        if len(first) == len(examples) > 1:
            raise ValueError(
                f"consistency = {self.head.consistency} compares two copies of each document, but the batch has one: "
                'set [training.batcher] @batchers = "spacy_ner_arch.RDrop.v1" around the batcher, or consistency = 0'
            )
        inputs = self.model_input([examples[i] for i in first], sample=True)
        place = {i: row for row, i in enumerate(first)}
        rows = [place[min(i, other)] for i, other in enumerate(copies)]
        return inputs.take(rows)._replace(docs=[eg.predicted for eg in examples], copies=copies)

    # Labels

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that the component predicts."""
        return tuple(self.cfg["labels"])

    @property
    def label_data(self) -> Any:
        """All data that the component collects from the corpus at initialization, written by `spacy init labels`."""
        return list(self.labels)

    def add_label(self, label: str) -> int:
        """Add a label. A trained model grows and keeps its other labels. Returns 0 if the label exists, else 1."""
        if not isinstance(label, str):
            raise ValueError(Errors.E187)
        if not label.strip():
            raise ValueError(f"{self.name}: a label is empty; give all annotation in {self.gold_layer} a label")
        if label in self.labels:
            return 0
        self.cfg["labels"].append(label)
        try:
            self._resize()
        except ValueError:  # an exported model
            self.cfg["labels"].pop()
            raise
        self.vocab.strings.add(label)
        return 1

    @property
    def is_resizable(self) -> bool:
        """Whether labels can be added after initialization: not to an exported component."""
        return not self.shim.is_initialized or self.head is not None

    def add_label_data(self, labels: Any) -> bool:
        """Add label data. Returns whether they are complete, so that the corpus need not be read for labels.

        Raises ValueError for anything but a list of labels, such as the label data of another component.
        """
        if not isinstance(labels, (list, tuple)) or not all(isinstance(label, str) for label in labels):
            raise ValueError(
                f"{self.name}: {short_repr(labels)} are not its label data; write them with `python -m spacy init "
                f"labels`, give a list of labels in [initialize.components.{self.name}.labels], or remove this block, "
                "so that the labels are read from the corpus"
            )
        for label in labels:
            self.add_label(label)
        return True

    def complete_label_data(self, given: Any, found: Any) -> Any:
        """Combine given label data (None or incomplete) with the label data that `find_label_data` found."""
        return found

    def _resize(self) -> None:
        """Resize a trained model to changed labels. Before initialization, do nothing."""
        if self.shim.is_initialized:
            with named_errors(self.name):
                self.shim.resize(**self.hyperparameters())

    def warn_of_labels(self, gold: Iterable[str]) -> None:
        """Warn once about each gold label that the component does not have."""
        unknown = self.not_warned("label", set(gold) - set(self.labels))
        if unknown:
            warnings.warn(
                f"{self.name}: gold labels that the component does not have count as negative: {unknown}; call "
                f"add_label, or add them to [initialize.components.{self.name}.labels]",
                stacklevel=3,
            )

    def named_labels(self) -> dict[str, Iterable[str]]:
        """The settings of the component and of its model that name labels, each with these labels."""
        return {"class_weights": self.shim.settings.get("class_weights", ())}

    def check_named_labels(self, labels: Iterable[str]) -> None:
        """Raise ValueError if a setting names a label that is not one of the labels of the component."""
        labels = list(labels)
        for setting, named in self.named_labels().items():
            unknown = sorted(set(named) - set(labels))
            if unknown:
                raise ValueError(
                    f"{self.name}: {setting} names {unknown}, which are not labels of the component; its labels are "
                    f"{labels}"
                )

    # Warnings

    def not_warned(self, kind: str, names: Iterable[str]) -> list[str]:
        """The names, sorted, without those of earlier calls for the same kind of warning."""
        new = sorted({(kind, name) for name in names} - self._warned)
        self._warned.update(new)
        return [name for _, name in new]

    def warn_once(self, kind: str, message: str) -> None:
        """Warn, unless the component has given a warning of this kind before."""
        if self.not_warned("once", [kind]):
            warnings.warn(f"{self.name}: {message}", stacklevel=4)

    # Training

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: Any = None,
    ) -> None:
        """Collect the labels and build the model.

        labels: label data from [initialize.components.NAME.labels]; None reads the labels from all examples. With
            label data, only the first LABEL_SAMPLE examples are read, for warnings.
        """
        validate_get_examples(get_examples, f"{type(self).__name__}.initialize")
        self.loss_weight.restart()
        self._updates, self.update_loss = 0, 0.0
        self._warned.clear()
        if nlp is not None:
            warn_of_settings(nlp)
        complete = labels is not None and self.add_label_data(labels)
        if labels is not None and not self.labels:
            raise ValueError(
                f"{self.name}: its label data have no label; write them with `python -m spacy init labels` from an "
                f"annotated corpus, or remove [initialize.components.{self.name}.labels], so that the labels are read "
                "from the corpus"
            )
        found = self.find_label_data(islice(get_examples(), LABEL_SAMPLE if complete else None))
        if not complete:
            self.add_label_data(self.complete_label_data(labels, found))
        self.warn_of_labels(labels_in(found))
        if not self.labels:
            raise ValueError(
                f"{self.name}: no label in the training corpus. It learns from {self.gold_layer}; the corpus has "
                f"{describe_layers(eg.reference for eg in get_examples())}. Convert the corpus with its annotation, "
                "choose a component for the annotation that it has, or give labels: in "
                f"[initialize.components.{self.name}.labels], or with add_label before initializing"
            )
        self.check_named_labels(self.labels)
        sample = list(islice((eg.x for eg in get_examples() if len(eg.x)), SHAPE_SAMPLE))
        if not sample:
            raise ValueError(f"{self.name}: the training corpus has no document with a token")
        if nlp is not None:
            check_trees(get_examples, nlp)
            check_encoders(self, nlp)
        with named_errors(self.name):
            self.model.initialize(X=sample, Y=self.hyperparameters())
        if self.is_weighted and not any(node.name.endswith("-listener") for node in self.model.walk()):
            warnings.warn(
                f"{self.name}: loss_weight acts on weights that are shared with other components, and this component "
                "shares none; make its tok2vec a listener, such as spacy_ner_arch.TransformerListener.v1",
                stacklevel=2,
            )

    def loss_on(self, examples: Iterable[Example]) -> float:
        """Loss on the examples, without training on them."""
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.loss_on")
        check_vectors(self, [eg.predicted for eg in examples])
        with named_errors(self.name):
            return float(self.model.predict(self.model_input(examples)).total)

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Train on a batch, like any spaCy component. Raises ValueError, without a step, if the loss is not finite."""
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.update")
        if not examples:
            return losses
        set_dropout_rate(self.model, drop)
        with named_errors(self.name):
            loss, backprop = self.model.begin_update(self.update_input(examples))
            weight = self.loss_weight.value()
            backprop(weight)
            if not loss.is_finite:
                raise ValueError(
                    f"the loss is {loss.total} in update {self._updates + 1}, on {len(examples)} documents, the first "
                    f"being {quote(examples[0].predicted.text)}. No weight was changed by this update; lower "
                    "[training.optimizer] learn_rate, or look for extreme inputs"
                )
        losses[self.name] += loss.total
        self.update_loss += loss.total
        for part, value in loss.parts.items():
            key = f"{self.name}_{part}"
            losses[key] = losses.get(key, 0.0) + value
        if self.is_weighted:
            losses[f"{self.name}_weight"] = weight
        if sgd not in (None, False):
            self.finish_update(sgd)
        return losses

    def finish_update(self, sgd: Optimizer) -> None:
        """Update the weights by the gradients of all calls of `update` since the last one."""
        self._updates += 1
        with named_errors(self.name):
            self.model.finish_update(sgd)
            self.loss_weight.learn(self.update_loss)
        self.update_loss = 0.0

    def rehearse(self, examples: Iterable[Example], **settings: Any) -> dict[str, float]:
        """Warn that nlp.rehearse is not supported; change nothing."""
        self.warn_once(
            "rehearse",
            "nlp.rehearse does not change this component; to train it without forgetting, see docs/new_label.md",
        )
        losses: dict[str, float] | None = settings.get("losses")
        return {} if losses is None else losses

    # Predicting

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Process documents in batches, like any component of spaCy."""
        yield from annotate_stream(self, stream, batch_size)

    def predict(self, docs: Iterable[Doc], method: str = "predict") -> Any:
        """Items of the documents, and the predictions of the model: one tuple of arrays per document.

        method: name of the method of the head that predicts.
        """
        docs = list(docs)
        check_vectors(self, docs)
        with named_errors(self.name):
            items = self.find_items_to_predict(docs)
            return items, self.model.predict(HeadInput(docs, items, method=method))

    def check_finite(self, doc: Doc, scores: np.ndarray) -> None:
        """Raise ValueError for NaN and inf; -inf is the logarithm of 0."""
        if not (scores < np.inf).all():
            raise ValueError(f"{self.name}: scores are not finite for {quote(doc.text)}; the weights are broken")


def labels_in(data: Any) -> list[str]:
    """The labels in label data."""
    return list(data["labels"] if isinstance(data, dict) else data)
