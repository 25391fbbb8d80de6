"""Registered model that runs in onnxruntime."""

from spacy.util import registry
from thinc.api import Model, NumpyOps, get_current_ops

from ..bridge.onnx_layers import run_without_torch
from ..bridge.onnx_shim import check_device, check_onnxruntime


@registry.architectures("spacy_ner_arch.Onnx.v1")
def onnx(model: Model) -> Model:
    """A model from `ner-arch export`, for onnxruntime and NumPy on a CPU. It can only predict.

    model: the original model, as in its config.

    Raises ValueError if onnxruntime is not installed, and on a GPU.
    """
    check_onnxruntime()
    check_device("cpu" if isinstance(get_current_ops(), NumpyOps) else "gpu")
    return run_without_torch(model)
