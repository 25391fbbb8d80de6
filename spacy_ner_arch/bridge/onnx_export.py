"""Export the torch modules of a model for onnxruntime and NumPy."""

import importlib.util
from collections.abc import Callable, Sequence
from textwrap import shorten
from typing import Any, cast

import numpy as np
import torch
from thinc.api import Model
from torch import Tensor, nn

from ..nn.embed import WordEmbedding
from ..nn.lstm import BiLSTM
from ..nn.numpy_embed import embedding_arrays
from ..nn.spans import SpanClassifier
from ..nn.taggers import CRFTagger, SoftmaxTagger
from ..nn.transformer import WordTransformer
from .onnx_graphs import encoder_graph, quantized, traced
from .onnx_layers import INPUTS, LAYERS, run_without_torch
from .onnx_shim import Exported, OnnxShim
from .shim import TorchShim, get_shim
from .wordpieces import WordPieces, get_pieces

# Maximum difference between the vectors of a transformer and of its export, relative to the largest value.
TOLERANCE = 1e-4


def reason_against(model: Model) -> str | None:
    """The reason why a model cannot be exported, with the remedy; None if it can be exported."""
    for node in model.walk():
        for shim in node.shims:
            if isinstance(shim, WordPieces):
                continue
            if not isinstance(shim, TorchShim):
                return "it runs a torch module of another package; train it with spacy_ner_arch.TransformerModel.v1"
            if not shim.is_initialized:
                return "it is not trained"
            if node._func not in LAYERS or type(shim.module) not in EXPORTERS:
                return f"there is no export of {type(shim.module).__name__}; use it in PyTorch"
            encoder = getattr(shim.module, "encoder", None)
            if not isinstance(encoder, BiLSTM | None):
                return (
                    f"there is no export of its encoder {type(encoder).__name__}; train it with "
                    "spacy_ner_arch.BiLSTM.v1, or without an encoder"
                )
    return None


def has_torch(model: Model) -> bool:
    """Whether a model runs a torch module."""
    return any(shim for node in model.walk() for shim in node.shims if not isinstance(shim, WordPieces | OnnxShim))


def export(model: Model, int8: bool = False) -> Model:
    """Replace the torch modules of a model that can be exported, in place. Returns the model.

    int8: quantize matrix products to 8-bit integers; the scale of the inputs is computed at run time.
    """
    nodes = [node for node in model.walk() if node.shims and node._func in LAYERS]
    exports = [EXPORTERS[type(get_shim(node).module)](node) for node in nodes]
    run_without_torch(model)
    for node, exported in zip(nodes, exports, strict=True):
        if int8:
            exported = exported._replace(graphs={name: quantized(graph) for name, graph in exported.graphs.items()})
        cast(OnnxShim, node.shims[0]).set(exported)
    return model


# Modules


def export_tagger(model: Model) -> Exported:
    shim = get_shim(model)
    module: Any = shim.module
    arrays = {name: array.copy() for name, array in module.crf.chain_parameters(module.temperature)._asdict().items()}
    graphs = {"encoder": encoder_graph(module.encoder, module.output)}
    return Exported(type(module).__name__, dict(shim.cfg), graphs, arrays)


def export_spans(model: Model) -> Exported:
    shim = get_shim(model)
    module: Any = shim.module
    graphs = {} if module.encoder is None else {"encoder": encoder_graph(module.encoder, None)}
    inputs = {"x": torch.randn(5, module.width), "token": torch.tensor([0, 0, 1]), "width": torch.ones(3).long()}
    axes = {"x": {0: "tokens"}, **{name: {0: "spans"} for name in ("token", "width", "output")}}
    graphs["spans"] = traced(SpanScores(module), inputs, axes)
    return Exported(type(module).__name__, dict(shim.cfg), graphs, {})


def export_encoder(model: Model) -> Exported:
    shim = get_shim(model)
    return Exported("BiLSTM", dict(shim.cfg), {"encoder": encoder_graph(cast(BiLSTM, shim.module), None)}, {})


def export_embedding(model: Model) -> Exported:
    shim = get_shim(model)
    return Exported("WordEmbedding", dict(shim.cfg), {}, embedding_arrays(cast(WordEmbedding, shim.module)))


def export_transformer(model: Model) -> Exported:
    shim = get_shim(model)
    module: Any = shim.module
    is_typed = get_pieces(model).frame.types is not None
    names = [name for name in INPUTS if name in module.argument_names and (is_typed or name != "token_type_ids")]
    transformer = HiddenStates(module.transformer, names)
    inputs = transformer_inputs(module, names, [7, 4])
    graph = traced(transformer, inputs, {name: {0: "windows", 1: "pieces"} for name in [*names, "output"]})
    exported = Exported(
        "WordTransformer",
        {"pooling": module.pooling, "inputs": names},
        {"transformer": graph},
        {"padding": np.array(module.padding)},
    )
    check_transformer(transformer, module, exported, get_pieces(model).window)
    return exported


EXPORTERS: dict[type[nn.Module], Callable[[Model], Exported]] = {
    CRFTagger: export_tagger,
    SoftmaxTagger: export_tagger,
    SpanClassifier: export_spans,
    BiLSTM: export_encoder,
    WordEmbedding: export_embedding,
    WordTransformer: export_transformer,
}


class SpanScores(nn.Module):
    """The scores of the labels of m spans close to each other, from token vectors x (n, D).

    See `SpanClassifier.scores`.
    """

    def __init__(self, classifier: SpanClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor, token: Tensor, width: Tensor) -> Tensor:
        return self.classifier.scores(self.classifier.chunk_logits(x, token, width))


class HiddenStates(nn.Module):
    """A Hugging Face transformer with positional arguments. Returns vectors (S, L, D) of the pieces of S windows."""

    def __init__(self, transformer: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.transformer = transformer
        self.names = names

    def forward(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self.transformer(**dict(zip(self.names, inputs, strict=True))).last_hidden_state
        return output


def transformer_inputs(module: Any, names: list[str], lengths: Sequence[int]) -> dict[str, Tensor]:
    """Example inputs, by name, for windows with these numbers of pieces."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ids = torch.arange(mask.numel()).view(mask.shape) * 7919 % (module.rows or 2)
    ids = ids.where(mask, torch.tensor(module.padding))
    inputs = dict(zip(INPUTS, [ids, mask.long(), torch.zeros_like(ids)], strict=True))
    return {name: inputs[name] for name in names}


def check_transformer(transformer: HiddenStates, module: Any, exported: Exported, window: int) -> None:
    """Raise ValueError if the vectors of the graph differ from those of the module, for window sizes not traced.

    window: longest window of the model in pieces.
    """
    shim = OnnxShim()
    shim.set(exported)
    for lengths in ([1], [3, 12, 8], [window, 2]):
        inputs = transformer_inputs(module, transformer.names, lengths)
        is_piece = np.arange(max(lengths)) < np.array(lengths)[:, None]
        with torch.no_grad():
            expected = transformer(*inputs.values()).numpy()[is_piece]
        try:
            found = shim.run("transformer", **{name: tensor.numpy() for name, tensor in inputs.items()})[is_piece]
        except Exception as error:  # the errors of onnxruntime have no common base class
            reason = shorten(str(error), 200)
            raise ValueError(f"the exported graph does not run ({reason}); use the pipeline as it is") from error
        difference = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
        if not difference < TOLERANCE:
            kind = module.transformer.config.model_type
            raise ValueError(
                f"vectors of the exported transformer differ by {difference:.2g}: PyTorch does not export {kind} "
                "correctly; use the pipeline as it is, or train with another transformer"
            )


def check_onnx() -> None:
    """Raise ValueError with the remedy if a package for export is not installed."""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"export needs {' and '.join(missing)}: pip install 'spacy-ner-arch[onnx]'")
