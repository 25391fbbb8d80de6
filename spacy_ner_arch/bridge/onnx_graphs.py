"""Convert torch modules to ONNX graphs, as bytes."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..nn.lstm import BiLSTM

# The first operator set of ONNX with LayerNormalization.
OPSET = 17
# Size limit of a protocol buffers file, in bytes.
LIMIT = 2**31 - 1
# Name of the node with the weights of the scores.
OUTPUT = "output"
# Order of the gates of an LSTM: input, forget, cell, output in torch; input, output, forget, cell in ONNX.
GATES = (0, 3, 1, 2)


def encoder_graph(encoder: BiLSTM | None, output: nn.Linear | None) -> bytes:
    """Graph of a BiLSTM followed by a linear layer. Either can be None; it is then left out.

    Inputs: x (T, B, D), lengths (B,) int32. Output: (T, B, width).
    """
    from onnx import helper

    nodes, constants = [], []
    name = "x"

    def constant(key: str, values: np.ndarray) -> str:
        from onnx import numpy_helper

        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), key))
        return key

    layers: list[Any] = []
    if encoder is not None:
        layers += zip(encoder.forward_layers, encoder.backward_layers, strict=True)
    for i, pair in enumerate(layers):
        weights = [constant(f"{key}_{i}", values) for key, values in lstm_weights(pair).items()]
        settings = {"hidden_size": pair[0].hidden_size, "direction": "bidirectional"}
        nodes.append(helper.make_node("LSTM", [name, *weights, "lengths"], [f"states_{i}"], **settings))
        nodes.append(helper.make_node("Transpose", [f"states_{i}"], [f"by_token_{i}"], perm=[0, 2, 1, 3]))
        shape = constant(f"shape_{i}", np.array([0, 0, -1]))
        nodes.append(helper.make_node("Reshape", [f"by_token_{i}", shape], [f"encoded_{i}"]))
        name = f"encoded_{i}"
    if output is not None:
        weight = constant("weight", to_numpy(output.weight.t()))
        nodes.append(helper.make_node("MatMul", [name, weight], ["product"], name=OUTPUT))
        nodes.append(helper.make_node("Add", ["product", constant("bias", to_numpy(output.bias))], ["scores"]))
        name = "scores"
    width = output.in_features if output is not None and not layers else layers[0][0].input_size
    return make_model(nodes, constants, {"x": (1, ["T", "B", width]), "lengths": (6, ["B"])}, name)


def make_model(nodes: list[Any], constants: list[Any], inputs: dict[str, tuple[int, list[Any]]], output: str) -> bytes:
    """A graph as bytes. inputs: type (of onnx.TensorProto) and shape by name."""
    from onnx import TensorProto, checker, helper

    values = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["T", "B", None])
    graph = helper.make_graph(nodes, "encoder", values, [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()


def lstm_weights(pair: Sequence[nn.LSTM]) -> dict[str, np.ndarray]:
    """Weights of both directions of a layer, in the order of ONNX."""

    def ordered(weight: Tensor) -> np.ndarray:
        gates = to_numpy(weight).reshape(4, -1, *weight.shape[1:])
        return gates[list(GATES)].reshape(weight.shape)

    def both(*names: str) -> np.ndarray:
        return np.stack([np.concatenate([ordered(getattr(lstm, name)) for name in names]) for lstm in pair])

    return {
        "input": both("weight_ih_l0"),
        "recurrent": both("weight_hh_l0"),
        "biases": both("bias_ih_l0", "bias_hh_l0"),
    }


def traced(module: nn.Module, inputs: dict[str, Tensor], axes: dict[str, dict[int, str]]) -> bytes:
    """Trace a module with example inputs into a graph. axes: names of the axes of variable size."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size > LIMIT:
        raise ValueError(
            f"its weights have {size / 2**30:.1f} GiB, and an ONNX graph can have 2 GiB; use it in PyTorch"
        )
    with quiet(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        try:
            torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                path,
                input_names=list(inputs),
                output_names=["output"],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        except Exception as error:  # these errors have no common base class
            reason = shorten(str(error), 200)
            raise ValueError(f"PyTorch cannot export it ({reason}); use the pipeline as it is") from error
        return path.read_bytes()


def quantized(graph: bytes) -> bytes:
    """Quantize the matrix products of a graph to 8-bit integers, except the layer that computes the scores."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "graph.onnx"
        quantize_dynamic(
            onnx.load_from_string(graph),
            path,
            op_types_to_quantize=["MatMul", "LSTM"],
            nodes_to_exclude=[OUTPUT],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        return path.read_bytes()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings of tracing about branches that depend on data and about the newer exporter."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def to_numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy().copy()
    return array
