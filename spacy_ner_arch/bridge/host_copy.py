"""Tensors on their way from the GPU to the host."""

import torch
from torch import Tensor


class HostCopy:
    """A copy on the host. It begins at once, and the host waits for it only when it reads the tensor."""

    def __init__(self, tensor: Tensor) -> None:
        # From a GPU, torch copies to pinned memory then.
        self._tensor = tensor.to("cpu", non_blocking=True)
        self._copied: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(tensor.device))

    @property
    def is_there(self) -> bool:
        """Whether the tensor can be read without waiting; False for a GPU before the first `read`."""
        return self._copied is None

    def read(self) -> Tensor:
        """Wait for the copy and return it."""
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None
        return self._tensor
