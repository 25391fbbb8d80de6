"""Tensors on their way from the GPU to the host."""

import torch
from torch import Tensor


class HostCopy:
    """Copies of tensors on the host. They begin at once, and the host waits for them only when it reads them."""

    def __init__(self, *tensors: Tensor) -> None:
        # From a GPU, torch copies to pinned memory then.
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
