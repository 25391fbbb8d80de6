"""The layers of exported models, in NumPy and onnxruntime. Prediction does not call torch.

Each layer gives the same output as the torch layer that it replaces. Batches are time-major: (T, B, ...) for B
documents that are padded to T tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from spacy.tokens import Doc
from spacy_transformers.data_classes import FullTransformerBatch
from thinc.api import Model
from thinc.types import Floats2d

from ..annotation.head_input import HeadInput, as_input
from ..annotation.word_places import Words, in_words
from ..annotation.words import find_words
from ..nn.batch import cut
from ..nn.numpy_crf import ChainParameters, NumpyCRF
from ..nn.numpy_embed import NumpyEmbedding
from ..nn.span_logits import CPU_SPANS, cut_spans, list_spans
from . import encoder, head, transformer, word_embedding
from .head_output import Predictions
from .onnx_shim import ORIGINAL, OnnxShim
from .rows import check_lengths, cut_rows
from .shim import no_backprop
from .transformer_listener import WordBatch
from .windows import window_batches
from .wordpieces import get_pieces

CPU = torch.device("cpu")
# Number of padding pieces that take as much time as one more call of onnxruntime.
PADDING = 16
# Inputs of a transformer, in the order of the arrays of a batch.
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def get_onnx_shim(model: Model) -> OnnxShim:
    """The exported module of a layer."""
    shim = model.shims[0]
    assert isinstance(shim, OnnxShim)
    shim.check_initialized()
    return shim


def refuse_training(is_train: bool) -> None:
    if is_train:
        raise ValueError(f"an exported model cannot be trained: {ORIGINAL}")


def check_loaded(model: Model, X: Any = None, Y: Any = None) -> None:
    """Raise ValueError if nothing is loaded: an exported layer cannot be initialized."""
    get_onnx_shim(model)


# Heads and encoders


def onnx_head_forward(model: Model[HeadInput, Any], inputs: HeadInput, is_train: bool) -> tuple[Any, Callable]:
    refuse_training(is_train)
    shim = get_onnx_shim(model)
    docs, items, targets, method, _ = as_input(inputs)
    if targets is not None:
        raise ValueError(f"an exported model has no loss: {ORIGINAL}")
    if method != "predict":
        raise ValueError(f"an exported model gives entities and their probabilities only: {ORIGINAL}")
    predict_batch = HEADS[shim.exported.kind]
    predictions: list[Any] = [()] * len(docs)
    vectors = model.layers[0].predict(docs) if docs else []
    words = find_words(docs)
    for group, lengths, x in batches(docs, words, vectors):
        own = None if items is None else [in_words(items[i], words[i]) for i in group]
        found = predict_batch(shim, x, lengths, own)
        for i, rows in zip(group, found, strict=True):
            predictions[i] = rows
    return predictions, no_backprop


def predict_tags(shim: OnnxShim, x: np.ndarray, lengths: np.ndarray, items: Any) -> Predictions:
    """Predictions of a CRFTagger or SoftmaxTagger. x: token vectors (T, B, D)."""
    if shim.prepared is None:
        shim.prepared = NumpyCRF(ChainParameters(**shim.exported.arrays))
    emissions = run_encoder(shim, x, lengths)
    tags, terms = shim.prepared.predict(emissions, lengths)
    return [(tags[i, :n], terms[i, :n]) for i, n in enumerate(lengths.tolist())]


def predict_spans(shim: OnnxShim, x: np.ndarray, lengths: np.ndarray, items: Any) -> Predictions:
    """Predictions of a SpanClassifier. x: token vectors (T, B, D); items: candidates of each document, or None."""
    max_width, labels = shim.cfg["max_width"], len(shim.cfg["labels"])
    states = run_encoder(shim, x, lengths) if "encoder" in shim.exported.graphs else x
    tokens = np.concatenate([states[:length, i] for i, length in enumerate(lengths.tolist())])
    token, width = list_spans(lengths, max_width, items)
    longest, has_none = min(max_width, len(x)), not shim.cfg.get("multi_label", False)
    found = np.full((len(tokens), longest, labels + has_none), -np.inf, dtype=np.float32)
    if has_none:
        # A span that is not a candidate has probability 1 for class 0.
        found[..., 0] = 0.0
    for first, last, low, high in cut_spans(token, token + width, 0, len(token), CPU_SPANS, CPU_SPANS // 4):
        starts, widths = token[first:last], width[first:last]
        found[starts, widths - 1] = shim.run("spans", x=tokens[low:high], token=starts - low, width=widths)
    return [(rows,) for rows in np.split(found, lengths.cumsum()[:-1])]


def onnx_encoder_forward(model: Model, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Callable]:
    refuse_training(is_train)
    shim = get_onnx_shim(model)
    encoded: list[Any] = [model.ops.alloc2f(len(doc), model.get_dim("nO")) for doc in docs]
    words = find_words(docs)
    if any(map(len, words)):
        for group, lengths, x in batches(docs, words, model.layers[0].predict(docs)):
            states = run_encoder(shim, x, lengths)
            for row, (i, length) in enumerate(zip(group, lengths.tolist(), strict=True)):
                encoded[i][words[i].tokens] = states[:length, row]
    return encoded, no_backprop


def run_encoder(shim: OnnxShim, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The output (T, B, ...) of the graph: the encoder and the layers that follow it."""
    return shim.run("encoder", x=x, lengths=lengths.astype(np.int32))


def batches(
    docs: Sequence[Doc], words: Sequence[Words], vectors: Sequence[Floats2d]
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Cut documents into batches with little padding.

    Yields the indices of the documents, their numbers of words (B,), and the vectors of their words (T, B, D).
    """
    check_lengths(docs, vectors)
    rows = [cast(np.ndarray, own)[kept.tokens] for own, kept in zip(vectors, words, strict=True)]
    sizes = [len(own) for own in rows]
    for group in cut(sizes, CPU):
        lengths = np.array([sizes[i] for i in group])
        if len(group) == 1 and sizes[group[0]]:
            yield group, lengths, rows[group[0]][:, None]
            continue
        # For an empty document, a thinc layer may return an array of width 0.
        width = max(rows[i].shape[1] for i in group)
        x = np.zeros((max(1, lengths.max()), len(group), width), dtype=np.float32)
        for column, i in enumerate(group):
            if sizes[i]:
                x[: sizes[i], column] = rows[i]
        yield group, lengths, x


# Embeddings


def onnx_embed_forward(model: Model, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Any]:
    refuse_training(is_train)
    shim = get_onnx_shim(model)
    lengths = [len(doc) for doc in docs]
    if not any(lengths):
        return [model.ops.alloc2f(0, model.get_dim("nO")) for _ in docs], no_backprop
    if shim.prepared is None:
        shim.prepared = NumpyEmbedding(shim.exported.arrays)
    vectors = None
    if model.attrs["vector_attributes"].value:
        width = shim.cfg["vector_width"]
        tables = word_embedding.vector_tables(docs, width, model.attrs["vector_attributes"].value)
        vectors = np.concatenate([table[which] for table, which in tables]).astype(np.float32, copy=False)
    arrays = word_embedding.token_arrays(docs, model.attrs["attributes"].value, "filters" in shim.exported.arrays)
    return cut_rows(shim.prepared(*arrays, vectors), lengths), no_backprop


def onnx_concatenate_forward(model: Model, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Any]:
    refuse_training(is_train)
    parts: list[list[Any]] = [layer.predict(docs) for layer in model.layers]
    for part in parts:
        check_lengths(docs, part)
    return [cast(Floats2d, np.concatenate(rows, axis=1)) for rows in zip(*parts, strict=True)], no_backprop


# Transformers


def onnx_transformer_forward(model: Model, docs: list[Doc], is_train: bool) -> tuple[FullTransformerBatch, Callable]:
    refuse_training(is_train)
    shim = get_onnx_shim(model)
    lengths = [len(doc) for doc in docs]
    if not any(lengths):
        return WordBatch([model.ops.alloc2f(0, model.get_dim("nO")) for _ in docs]), no_backprop
    windows = get_pieces(model).windows([doc for doc in docs if len(doc)])
    groups = cut([len(ids) for ids in windows.pieces], CPU, PADDING)
    order, read = window_batches(windows, int(shim.exported.arrays["padding"]), CPU, groups)
    vectors = []
    for ids, mask, rows, starts, counts, *types in read:
        inputs = dict(zip(INPUTS, [ids, mask.astype(np.int64), *types], strict=False))
        hidden = shim.run("transformer", **{name: inputs[name] for name in shim.cfg["inputs"]})
        vectors.append(pool(hidden.reshape(-1, hidden.shape[-1]), rows, starts, counts, shim.cfg["pooling"]))
    joined = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
    # Copy the vectors of each document: a view would keep the vectors of the whole batch in memory.
    return WordBatch([rows.copy() for rows in cut_rows(joined[order], lengths)]), no_backprop


def pool(hidden: np.ndarray, rows: np.ndarray, starts: np.ndarray, counts: np.ndarray, pooling: str) -> np.ndarray:
    """Vectors of words from those of their pieces; see `nn.transformer.WordTransformer.read`."""
    rows = np.append(rows, 0)  # a word without pieces may begin after the last piece
    has_pieces = (counts > 0)[:, None]
    first = hidden[rows[starts]]
    if pooling == "mean":
        for more in range(1, counts.max(initial=0)):
            (longer,) = np.nonzero(counts > more)
            first[longer] += hidden[rows[starts[longer] + more]]
        return first * (has_pieces / np.maximum(counts, 1)[:, None]).astype(np.float32)
    parts = [first] if pooling == "first" else [first, hidden[rows[starts + counts - 1]]]
    return np.concatenate(parts, axis=1) * has_pieces


HEADS: dict[str, Callable[[OnnxShim, np.ndarray, np.ndarray, Any], Predictions]] = {
    "CRFTagger": predict_tags,
    "SoftmaxTagger": predict_tags,
    "SpanClassifier": predict_spans,
}
# For the forward function of each layer, the function that replaces it in an exported model.
LAYERS: dict[Callable, Callable] = {
    head.head_forward: onnx_head_forward,
    encoder.encoder_forward: onnx_encoder_forward,
    word_embedding.embed_forward: onnx_embed_forward,
    word_embedding.concatenate_forward: onnx_concatenate_forward,
    transformer.forward: onnx_transformer_forward,
}


def run_without_torch(model: Model) -> Model:
    """Replace the torch layers of a model by the layers of an exported model, whose weights are loaded later."""
    for node in model.walk():
        layer = LAYERS.get(node._func)
        if layer is not None:
            node._func = layer
        if layer is not None and node.shims:
            node._shims[0] = OnnxShim()
            node.init = check_loaded
    return model
