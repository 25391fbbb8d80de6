"""Base class of heads: collate annotation, compute a loss, predict, calibrate, and grow with the labels."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .batch import Batch

# Bounds of the calibrated temperature. Without bounds, it would fall to 0 on a few sentences without an error.
TEMPERATURES = (0.5, 10.0)
# Bounds of the calibrated bias of "no label".
BIASES = (-5.0, 5.0)
# How often to halve an interval, which leaves an error of the bias, and a relative one of the temperature, below 0.001.
HALVINGS = 14

# Builds an encoder for token vectors of a given width. An encoder is a module with `output_size` and
# `forward(x, batch)`: x (B, T, D) -> (B, T, output_size), arbitrary in the padding.
EncoderBuilder = Callable[[int], nn.Module]
ENCODER = (
    "give an encoder, such as spacy_ner_arch.BiLSTM.v1, or your own: a function of the input width that returns a "
    "torch module with output_size and forward(x, batch). Layers of thinc belong in tok2vec"
)


class Loss(NamedTuple):
    """Loss of a batch: a sum over its items times a constant, so that it does not depend on how batches are cut.

    total: scalar with the gradient.
    parts: further terms that `total` contains, by name, for the training log.
    """

    total: Tensor
    parts: dict[str, Tensor]


class HeldOut(NamedTuple):
    """Data of a batch for calibration.

    loss: negative log likelihood of the gold annotation as a function of the temperature, and of the bias of "no label"
        if the head has one. Heads that classify spans or pairs leave out items that they predict as negative: most are
        obvious, and their probabilities are not shown.
    items: number of items over which the loss is summed. If it is 0, the loss is not called.
    """

    loss: Callable[..., Tensor]
    items: int


def build_encoder(build: EncoderBuilder, input_size: int) -> nn.Module:
    """Build an encoder. Raises ValueError if the result is not an encoder but, for example, another part of a model."""
    try:
        encoder = build(input_size)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # from within the encoder
        raise ValueError(f"its encoder cannot be built from the width of its input ({error}); {ENCODER}") from error
    if not isinstance(encoder, nn.Module) or not isinstance(getattr(encoder, "output_size", None), Integral):
        raise ValueError(f"its encoder is a {type(encoder).__name__} without output_size; {ENCODER}")
    return encoder


def check_width(encoder: nn.Module, states: Any) -> None:
    """Raise ValueError unless the encoder returned a tensor of its declared output_size."""
    if not isinstance(states, Tensor):
        found = type(states).__name__
        raise ValueError(f"its encoder {type(encoder).__name__} returns a {found} instead of a tensor")
    if states.shape[-1] != encoder.output_size:
        raise ValueError(
            f"its encoder {type(encoder).__name__} has output_size = {encoder.output_size}, but returns states of "
            f"width {states.shape[-1]}"
        )


def check_factors(class_weights: Mapping[str, float] | None = None, **factors: float) -> None:
    """Raise ValueError for a factor of the loss that is negative or not finite."""
    by_label = {f"class_weights.{label}": weight for label, weight in (class_weights or {}).items()}
    for name, factor in {**factors, **by_label}.items():
        if not 0.0 <= factor < math.inf:
            raise ValueError(f"{name} = {factor} must be finite and not negative")


def divergence(scores: Tensor, expected: Tensor, copies: Tensor) -> Tensor:
    """Mean of the Kullback-Leibler divergences in both directions between each item and its copy, summed over items.

    For distributions p ~ exp(score), the log partitions cancel:

        KL(p, q) + KL(q, p) = sum over k of (E_p[k] - E_q[k]) (score_p[k] - score_q[k])

    scores: (M, K) scores of the items, such as the logits of a softmax.
    expected: (M, K) expected count of k under the scores: the probabilities of a softmax, or the marginals of a chain.
    copies: (M,) int64, row of the same item in the other copy; its own for an item without a copy.
    Source: Liang et al. 2021 (R-Drop).
    """
    difference = scores - scores.index_select(0, copies)
    # The sum contains each pair of copies twice.
    return (difference * (expected - expected.index_select(0, copies))).sum() / 4


def shared_targets(has_label: Tensor) -> Tensor:
    """Target probabilities (M, K + 1) of class 0, no label, and of the labels, which share 1 equally within an item.

    has_label: (M, K), 1 where an item has a label and 0 elsewhere.
    """
    count = has_label.sum(1, keepdim=True)
    return torch.cat([(count == 0).to(has_label), has_label / count.clamp_min(1)], dim=1)


def found_held_out(logits: Tensor, has_label: Tensor, multi_label: bool, known: Tensor | None = None) -> HeldOut:
    """The likelihood of gold labels where the head finds a label.

    logits: (M, K + 1), class 0 for no label; with multi_label (M, K).
    has_label: (M, K), 1 where an item has a label and 0 elsewhere.
    multi_label: whether each label has its own probability. If not, the labels of an item share its probability, as in
        the loss.
    known: (M,) bool, items that count; None for all.
    """
    found = logits > 0 if multi_label else logits.argmax(-1) > 0
    if known is not None:
        found &= known.unsqueeze(1) if multi_label else known
    logits, target = logits[found], has_label[found]
    if not multi_label:
        target = shared_targets(target)

    def loss(temperature: Tensor, none_bias: Tensor | float = 0.0) -> Tensor:
        scores = logits / temperature
        if multi_label:
            return F.binary_cross_entropy_with_logits(scores - none_bias, target, reduction="sum")
        return F.cross_entropy(add_to_none(scores, none_bias), target, reduction="sum")

    return HeldOut(loss, len(logits))


def add_to_none(logits: Tensor, none_bias: Tensor | float) -> Tensor:
    """Logits (M, K + 1) with a bias for class 0, no label."""
    return torch.cat([logits[:, :1] + none_bias, logits[:, 1:]], dim=1)


class Head(nn.Module):
    """Base class of the heads: an optional encoder over the token vectors. A subclass classifies from its states.

    Probabilities are those of scores divided by `temperature`, which is 1 until `calibrate` sets it. A subclass may
    register a buffer `none_bias`, 0 at first, which is then added to the score of "no label".

    input_size: width D of the token vectors.
    encoder: builder of the encoder; None for none.
    loss_scale: constant factor of the loss, which a subclass applies.
    consistency: factor of the divergence between the predictions for both copies of a document, which a subclass adds
        to the loss of a batch with copies; see `divergence`.
    """

    def __init__(
        self,
        input_size: int,
        encoder: EncoderBuilder | None = None,
        loss_scale: float = 0.001,
        consistency: float = 0.0,
    ) -> None:
        super().__init__()
        check_factors(loss_scale=loss_scale, consistency=consistency)
        self.loss_scale = loss_scale
        self.consistency = consistency
        self.encoder = None if encoder is None else build_encoder(encoder, input_size)
        self.width = input_size if self.encoder is None else cast(int, self.encoder.output_size)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))
        self.none_bias: Tensor | None
        self.register_buffer("none_bias", None)

    def forward(self, x: Tensor, batch: Batch, method: str = "predict") -> Loss | tuple[Tensor, ...]:
        """The loss if the batch has targets, else the predictions of a method. x: token vectors (B, T, D)."""
        if batch.targets is not None:
            return self.loss(x, batch)
        predictions: tuple[Tensor, ...] = getattr(self, method)(x, batch)
        return predictions

    def encode(self, x: Tensor, batch: Batch) -> Tensor:
        """States of the tokens, (B, T, width)."""
        if self.encoder is None:
            return x
        states: Tensor = self.encoder(x, batch)
        check_width(self.encoder, states)
        return states

    def collate(self, batch: Batch, items: Sequence[Any] | None, targets: Sequence[Any] | None) -> Batch:
        """Fill in the items and the targets of a batch.

        items: for each document, the items to classify; None if the head classifies tokens or all spans.
        targets: gold annotation of each document; None in prediction.
        """
        raise NotImplementedError

    def loss(self, x: Tensor, batch: Batch) -> Loss:
        """Loss of a batch with targets."""
        raise NotImplementedError

    def consistency_term(self, scores: Tensor, expected: Tensor, copies: Tensor) -> Tensor:
        """Consistency term of the loss of a batch with copies. Arguments: see `divergence`."""
        return divergence(scores, expected, copies) * self.consistency * self.loss_scale

    def predict(self, x: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        """Predictions, one row for each item of the batch: `batch.counts` rows for each document."""
        raise NotImplementedError

    def resize(self, *args: Any, **kwargs: Any) -> None:
        """Add (or reorder) labels; keep exactly the weights of the labels that stay.

        Arguments: the hyperparameters that depend on the labels, which a subclass names.
        """
        raise NotImplementedError

    def held_out(self, x: Tensor, batch: Batch) -> HeldOut:
        """The likelihood of a batch with targets, for `calibrate`."""
        raise NotImplementedError

    def calibrate(self, batches: Iterable[tuple[Tensor, Batch]]) -> None:
        """Fit the temperature, and `none_bias` if the head has one, to held-out data by maximum likelihood.

        All scores are divided by the temperature, so the most probable labels and the signs and ratios of log odds stay
        the same. Probabilities change, and so do their ratios and their order between items. `none_bias` has a standard
        normal prior, so that a few items cannot move it far. Without a known target, nothing is changed.

        batches: token vectors and batches with targets.
        Source: Guo et al. 2017 (temperature); Alexandari et al. 2020 (temperature and biases).
        """
        held_out = [part for x, batch in batches if (part := self.held_out(x, batch)).items]
        items = sum(part.items for part in held_out)

        def slopes(logarithm: float, *bias: float) -> list[float]:
            """Derivatives by the logarithm of the temperature and, if it is given, by the bias."""
            with torch.enable_grad():
                at = torch.tensor([logarithm, *bias], device=self.temperature.device, requires_grad=True)
                parts = [torch.autograd.grad(part.loss(at[0].exp(), *at[1:]) / items, at)[0] for part in held_out]
            first, *rest = torch.stack(parts).sum(0).tolist()
            return [first, *(slope + value / items for slope, value in zip(rest, bias, strict=True))]

        def best_bias(logarithm: float) -> list[float]:
            return [] if self.none_bias is None else [halve(lambda bias: slopes(logarithm, bias)[1], *BIASES)]

        if not items or not math.isfinite(slopes(0.0)[0]):
            return
        logarithm = halve(lambda point: slopes(point, *best_bias(point))[0], *map(math.log, TEMPERATURES))
        self.temperature.fill_(math.exp(logarithm))
        for bias in best_bias(logarithm):
            cast(Tensor, self.none_bias).fill_(bias)


def halve(slope: Callable[[float], float], low: float, high: float) -> float:
    """Minimum of a function with one minimum between two bounds, from the sign of its slope."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return (low + high) / 2
