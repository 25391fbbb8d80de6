"""An exported torch module inside a thinc model: graphs for onnxruntime, and arrays for NumPy."""

import importlib.util
import os
from typing import Any, NamedTuple

import numpy as np
import torch
from thinc.api import Shim

from .storage import pack, unpack

NEEDS_ONNXRUNTIME = (
    "the pipeline was exported for onnxruntime, which is not installed: pip install 'spacy-ner-arch[onnx]'"
)
ORIGINAL = "use the pipeline that was exported, and export it again after a change"


class Exported(NamedTuple):
    """A torch module in a form that runs without torch.

    kind: name of the module's class. It selects the NumPy code that runs around the graphs.
    cfg: hyperparameters of the module.
    graphs: ONNX graphs by name.
    arrays: constants by name.
    """

    kind: str
    cfg: dict[str, Any]
    graphs: dict[str, bytes]
    arrays: dict[str, np.ndarray]


class OnnxShim(Shim):
    """Takes the place of the TorchShim in an exported model. It predicts on the CPU and cannot be trained."""

    module = None  # of torch

    def __init__(self) -> None:
        super().__init__(None)
        self.set(None)

    def set(self, exported: Exported | None) -> None:
        """Set the exported module; None if nothing is loaded yet."""
        self._model = exported
        self.cfg = {} if exported is None else exported.cfg
        # By process id and name of the graph. The threads of a session do not survive a fork.
        self._sessions: dict[tuple[int, str], Any] = {}
        # Values that the layer has computed from the arrays.
        self.prepared: Any = None

    @property
    def is_initialized(self) -> bool:
        return self._model is not None

    def check_initialized(self) -> None:
        """Raise ValueError before the pipeline is loaded."""
        if self._model is None:
            raise ValueError(
                "an exported model cannot be initialized, only loaded with spacy.load: train the original, then export "
                "it with `ner-arch export`"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of TorchShim that an exported model needs: none."""
        return {}

    @property
    def exported(self) -> Exported:
        """The exported module; raises ValueError if nothing is loaded yet."""
        self.check_initialized()
        exported: Exported = self._model
        return exported

    def resize(self, **hyperparameters: Any) -> None:
        """The shape of an exported model is fixed: raises ValueError."""
        raise ValueError(f"labels cannot be added to an exported model: {ORIGINAL}")

    # Running

    def run(self, graph: str, **arrays: np.ndarray) -> np.ndarray:
        """The output of a graph for its inputs."""
        key = os.getpid(), graph
        if key not in self._sessions:
            self._sessions[key] = make_session(self.exported.graphs[graph])
        output: np.ndarray = self._sessions[key].run(None, arrays)[0]
        return output

    # Methods of every shim

    def finish_update(self, optimizer: Any) -> None:
        """There are no weights to train."""

    def to_device(self, device_type: str, device_id: int) -> None:
        check_device(device_type)

    def copy(self) -> "OnnxShim":
        copied = OnnxShim()
        copied.set(self._model)
        return copied

    def to_bytes(self) -> bytes:
        """The exported module, with a checksum; empty if nothing is loaded."""
        if self._model is None:
            return b""
        return pack(self.exported._asdict())

    def from_bytes(self, data: bytes) -> "OnnxShim":
        """Load what `to_bytes` stored. Nothing in it is executed but the graphs. Raises ValueError if it is damaged."""
        if not data:
            self.set(None)
            return self
        try:
            exported = Exported(**unpack(data))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the exported model is damaged ({error}); export it again") from error
        self.set(exported)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Sessions of onnxruntime cannot be pickled.
        return _unpickle, (self.to_bytes(),)


def _unpickle(data: bytes) -> OnnxShim:
    return OnnxShim().from_bytes(data)


def check_device(device_type: str) -> None:
    """Raise ValueError for a GPU."""
    if device_type != "cpu":
        raise ValueError(
            "an exported pipeline runs on the CPU: load it without spacy.require_gpu (--gpu-id -1), or use the "
            "pipeline that was exported"
        )


def check_onnxruntime() -> None:
    """Raise ValueError with the remedy if onnxruntime is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise ValueError(NEEDS_ONNXRUNTIME)


def make_session(graph: bytes) -> Any:
    """A session of onnxruntime on the CPU, with as many threads as torch would use."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # batches have many shapes
    options.log_severity_level = 4  # errors are raised
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
