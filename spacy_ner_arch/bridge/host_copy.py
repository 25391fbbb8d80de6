"""Asynchronous copies of tensors from the GPU to the host."""

import torch
from torch import Tensor


class HostCopy:
    """Copy tensors to the host. Copying starts at once; `read` waits until it has finished."""

    def __init__(self, *tensors: Tensor) -> None:
        # With non_blocking, torch copies from a GPU to pinned memory.
        self._tensors = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
        self._copied: torch.cuda.Event | None = None
        device = next((tensor.device for tensor in tensors if tensor.is_cuda), None)
        if device is not None:
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(device))

    def read(self) -> list[Tensor]:
        """Wait for the copies and return them."""
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None
        return self._tensors
