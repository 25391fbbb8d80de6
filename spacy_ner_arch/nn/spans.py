"""Span classification: a score of every label for every span of up to `max_width` tokens.

The first layer is linear in the parts of a span, so each part is projected once per token, and spans only add rows of
these tables (`span_logits.py`).

Letters: B documents, T tokens with padding, N tokens without, D width of a token vector, W longest span in tokens, S
spans, H width of the hidden layer, K labels, C classes. With one label a span, C = K + 1, and class 0 is "not an
entity"; with several labels a span, C = K.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..annotation.spans import GoldSpans
from .batch import Batch, send
from .dropout import dropout
from .growth import grown_output, output_layer
from .head import EncoderBuilder, Head, HeldOut, Loss, check_factors, found_held_out
from .precision import wide
from .span_logits import CPU_SPANS, GPU_SPANS, Block, Chunk, SpanList, SpanLogits, chunk_logits

# Number of tokens whose tables are in memory at the same time: three rows of the hidden width for each.
PIECE_TOKENS = 4096
# Spans whose start or end differs by one: offsets of start and width.
NEIGHBORS = ((-1, 1), (1, -1), (0, 1), (0, -1))


class SpanTargets(NamedTuple):
    """Gold spans of a batch. Gold spans that are not candidates are ignored."""

    token: Tensor  # (G,) int64, first token, numbered over all documents
    width: Tensor  # (G,) int64
    label: Tensor  # (G,) int64, number of the label from 1 to K
    missing: Tensor | None  # (N,) bool, tokens without annotation; None if there are none
    closed: Tensor  # (N,) bool, tokens that are in no entity except the gold spans that contain them

    def unknown(self, spans: SpanList) -> Tensor:
        """(S,) bool, mask of the spans without loss: the annotation does not show whether they are entities.

        Such a span has a token without annotation, and no token that rules out further entities.
        """
        assert self.missing is not None
        return spans.touched(self.missing) & ~spans.touched(self.closed)


def has_negatives(batch: Batch, targets: SpanTargets) -> Tensor:
    """(N,) bool, tokens of documents that are annotated completely, or have an annotated token outside of gold spans.

    In other documents nothing contradicts a high probability, and calibration would push all probabilities to 1.
    """
    assert targets.missing is not None
    ends = targets.token + targets.width
    change = torch.zeros(len(targets.missing) + 1, dtype=torch.long, device=batch.device)
    change.index_add_(0, targets.token, torch.ones_like(ends)).index_add_(0, ends, -torch.ones_like(ends))
    is_outside = (change.cumsum(0)[:-1] == 0) & ~targets.missing
    is_used = batch.pad(is_outside).any(1) | ~batch.pad(targets.missing).any(1)
    return batch.flatten(is_used.unsqueeze(1).expand_as(batch.mask))


class SpanClassifier(Head):
    """Classify spans by their first and last token, the attention-weighted mean of their tokens, and their length.

        v(i, j) = [u_i ; u_j ; sum over i..j of softmax(w . u_t) u_t ; E[j - i + 1] ; ReLU(R[j - i + 1])]
        logits = W2 . Dropout(GELU(W1 v + b1)) + b2

    input_size: width D of the token vectors.
    labels: names of the K labels.
    max_width: longest span in tokens.
    multi_label: whether a span may have several labels (one sigmoid each) or at most one (softmax).
    encoder: builder of the encoder; None for none.
    dropout_rate: rate on the hidden layer; None for the rate of `[training] dropout`.
    hidden_size: width H of the hidden layer; None for the width of v.
    attention: include the mean of the tokens in v.
    length_size: width of the length embedding E; 0 for none.
    relu_length_size: width of the length embedding R; 0 for none.
    negative_weight: factor of the loss of spans that are not entities.
    boundary_smoothing: share of an entity's target probability that is moved to its neighbors (spans whose start or end
        differs by one).
    loss_scale: constant factor of the loss, which is summed over the spans.
    consistency: factor of the divergence between the predictions for both copies of a span.

    SpanSynLSTM uses `attention` and `length_size`; SpanNER `length_size` and `relu_length_size` without attention.

    Shape: x (B, T, D); items are the candidates of each document, see SpanList. Predictions are log probabilities
    (N, W, K + 1) where [t, w - 1] is the span of w tokens that begins at token t; a span that is not a candidate has
    probability 1 for class 0. With `multi_label`, they are log odds (N, W, K) of each label, -inf for a span that is
    not a candidate.
    Source: Fu, Huang and Liu 2021 (SpanNER); SpanSynLSTM; Zhu and Li 2022 (boundary smoothing).
    """

    def __init__(
        self,
        input_size: int,
        *,
        labels: Sequence[str],
        max_width: int,
        multi_label: bool = False,
        encoder: EncoderBuilder | None = None,
        dropout_rate: float | None = None,
        hidden_size: int | None = None,
        attention: bool = True,
        length_size: int = 50,
        relu_length_size: int = 0,
        negative_weight: float = 0.5,
        boundary_smoothing: float = 0.0,
        loss_scale: float = 0.001,
        consistency: float = 0.0,
    ) -> None:
        super().__init__(input_size, encoder, loss_scale, consistency)
        if not labels or max_width < 1:
            raise ValueError(f"SpanClassifier: labels and max_width must not be empty, got {labels} and {max_width}")
        if not 0.0 <= boundary_smoothing < 1.0:
            raise ValueError(f"boundary_smoothing = {boundary_smoothing} must be at least 0 and below 1")
        check_factors(negative_weight=negative_weight)
        width = self.width
        # Widths of the parts of v: start, end, mean, E, R.
        self.parts = [width, width, width if attention else 0, length_size, relu_length_size]
        self.hidden = nn.Linear(sum(self.parts), sum(self.parts) if hidden_size is None else hidden_size)
        self.attention = nn.Linear(width, 1, bias=False) if attention else None
        self.length = nn.Embedding(max_width, length_size) if length_size else None
        self.relu_length = nn.Embedding(max_width, relu_length_size) if relu_length_size else None
        self.dropout = dropout(dropout_rate)
        self.output = output_layer(self.hidden.out_features, len(labels), has_none=not multi_label)
        self.labels = list(labels)
        self.max_width = max_width
        self.multi_label = multi_label
        self.negative_weight = negative_weight
        self.boundary_smoothing = boundary_smoothing

    def collate(self, batch: Batch, items: Sequence[np.ndarray] | None, targets: Sequence[GoldSpans] | None) -> Batch:
        batch.items = SpanList(batch, self.max_width, items)
        if targets is not None:
            offsets = np.repeat(batch.lengths.cumsum() - batch.lengths, [len(gold.spans) for gold in targets])
            start, width, label = np.concatenate([gold.spans for gold in targets]).T
            annotated = np.concatenate([gold.annotated for gold in targets])
            arrays = [offsets + start, width, label, ~annotated, np.concatenate([gold.closed for gold in targets])]
            token, width, label, missing, closed = send(arrays, batch.device)
            batch.targets = SpanTargets(token, width, label, None if annotated.all() else missing, closed)
        return batch

    def loss(self, x: Tensor, batch: Batch) -> Loss:
        logits = self.logits(x, batch)
        with torch.autocast(x.device.type, enabled=False):
            total = self.span_loss(logits, batch.items, batch.targets) * self.loss_scale
            if batch.copies is None:
                return Loss(total, {})
            spans: SpanList = batch.items
            rows, _ = spans.find(batch.copied_rows()[spans.token], spans.width)
            expected = logits.sigmoid() if self.multi_label else logits.softmax(-1)
            term = self.consistency_term(logits, expected, rows)
            return Loss(total + term, {"consistency": term.detach()})

    def predict(self, x: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        logits = self.logits(x, batch)
        with torch.autocast(x.device.type, enabled=False):
            sure = 0 if self.multi_label else 1  # columns of class 0, no label
            no_candidate = F.pad(logits.new_zeros(sure), (0, len(self.labels)), value=-torch.inf)
            return (batch.items.scatter(self.scores(logits), no_candidate),)

    def scores(self, logits: Tensor) -> Tensor:
        """The predictions for the logits of spans: log probabilities (S, K + 1), or log odds (S, K)."""
        logits = logits / self.temperature
        return logits if self.multi_label else logits.log_softmax(-1)

    def logits(self, x: Tensor, batch: Batch) -> Tensor:
        """Logits (S, C) of the candidates of the batch, in at least float32."""
        spans: SpanList = batch.items
        tokens = batch.flatten(self.encode(x, batch))
        with torch.autocast(x.device.type, enabled=False):
            length = self._length_table()
        # Without any span, use one empty piece, so that there is a gradient.
        pieces = list(spans.cut(0, len(spans), len(spans), PIECE_TOKENS)) or [Block(0, 0, 0, 0)]
        logits = [self._piece(tokens[piece.low : piece.high], length, spans, piece) for piece in pieces]
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def span_loss(self, logits: Tensor, spans: SpanList, targets: SpanTargets) -> Tensor:
        """Weighted cross entropy, summed over the spans of which the annotation shows whether they are entities.

        Several labels of one span share its target probability equally. With `multi_label`, the cross entropies of all
        labels are summed, and each label of a span has the target probability 1.
        """
        if not len(spans):
            return logits.sum()
        token, width, label, missing, _ = targets
        # All targets are negative except a few entries, each with the share of one label in one span.
        row, found = spans.find(token, width)
        share = found.to(logits.dtype)
        labels_of_span = logits.new_zeros(len(spans)).index_add(0, row, share)
        if not self.multi_label:
            share = share / labels_of_span[row].clamp_min(1)
        rows, shares = [row], [share]
        if self.boundary_smoothing:
            for later, longer in NEIGHBORS:
                row, found = spans.find(token + later, width + longer)
                moved = share * found * (self.boundary_smoothing / len(NEIGHBORS))
                shares[0] = shares[0] - moved
                rows.append(row)
                shares.append(moved)
        row, share, label = torch.cat(rows), torch.cat(shares), label.repeat(len(rows))
        weight = torch.full_like(labels_of_span, self.negative_weight).masked_fill(labels_of_span > 0, 1.0)
        if missing is not None:
            weight = weight.masked_fill(targets.unknown(spans), 0.0)
        if self.multi_label:
            all_negative, odds = F.softplus(logits).sum(-1), logits[row, label - 1]
        else:
            negative = logits[:, 0]
            all_negative, odds = logits.logsumexp(-1) - negative, logits[row, label] - negative[row]
        return (weight * all_negative).sum() - (weight[row] * share * odds).sum()

    def held_out(self, x: Tensor, batch: Batch) -> HeldOut:
        """The likelihood of the spans in documents whose annotation shows what is not an entity."""
        spans: SpanList = batch.items
        token, width, label, missing, _ = batch.targets
        logits = self.logits(x, batch)
        has_label = logits.new_zeros(len(logits), len(self.labels))
        if len(spans):
            row, found = spans.find(token, width)
            has_label = has_label.index_put((row[found], label[found] - 1), has_label.new_ones(()))
        known = None
        if missing is not None:
            known = ~batch.targets.unknown(spans) & has_negatives(batch, batch.targets)[spans.token]
        return found_held_out(logits, has_label, self.multi_label, known)

    def resize(self, labels: Sequence[str], max_width: int, multi_label: bool = False) -> None:
        if max_width != self.max_width:
            raise ValueError(f"the model was built for spans of up to {self.max_width} tokens; max_width cannot change")
        if multi_label != self.multi_label:
            raise ValueError(f"the model was built with multi_label = {self.multi_label}, which cannot change")
        none = [] if multi_label else [""]
        names = [*none, *labels], [*none, *self.labels]
        self.output = grown_output(self.output, *names, self.temperature, has_none=not multi_label)
        self.labels = list(labels)

    def _length_table(self) -> Tensor:
        """(max_width, H): the part of the hidden layer that depends on the length of a span, with the bias."""
        *_, length_weight, relu_weight = self.hidden.weight.split(self.parts, dim=1)
        table = self.hidden.bias.expand(self.max_width, -1)
        if self.length is not None:
            table = table + F.linear(self.length.weight, length_weight)
        if self.relu_length is not None:
            table = table + F.linear(self.relu_length.weight.relu(), relu_weight)
        return table

    def _piece(self, x: Tensor, length: Tensor, spans: SpanList, piece: Block) -> Tensor:
        """Logits of the spans of one piece; x (n, D) are its tokens."""
        tables = self._token_tables(x)
        size = CPU_SPANS if x.is_cpu else GPU_SPANS
        chunks = [
            Chunk(
                spans.token[block.first : block.last] - block.low,
                spans.width[block.first : block.last],
                slice(block.low - piece.low, block.high - piece.low),
            )
            for block in spans.cut(piece.first, piece.last, size, max(1, size // 4))
        ]
        rate = self.dropout.p if self.training else 0.0
        seed = int(torch.randint(2**62, ())) if rate else 0
        with torch.autocast(x.device.type, enabled=False):
            return SpanLogits.apply(chunks, rate, seed, length, self.output.weight, self.output.bias, *tables)

    def _token_tables(self, x: Tensor) -> list[Tensor]:
        """Tables of `hidden_layer` for the tokens x (n, D)."""
        start_weight, end_weight, mean_weight, *_ = self.hidden.weight.split(self.parts, dim=1)
        tables = [F.linear(x, start_weight), F.linear(x, end_weight)]
        if self.attention is not None:
            tables.append(F.linear(x, mean_weight))
        with torch.autocast(x.device.type, enabled=False):
            tables = [table.to(wide(x)) for table in tables]
            if self.attention is not None:
                tables.append(self.attention(x.to(wide(x))).squeeze(1))
        return tables

    def chunk_logits(self, x: Tensor, token: Tensor, width: Tensor) -> Tensor:
        """Logits (m, C) of m spans close to each other, in prediction; token and width (m,) among the tokens x."""
        chunk = Chunk(token, width, slice(None))
        inputs = self._length_table(), self.output.weight, self.output.bias, *self._token_tables(x)
        return chunk_logits(chunk, 0.0, 0, *inputs)
