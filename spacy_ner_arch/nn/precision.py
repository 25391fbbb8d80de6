"""Number formats in which models can compute, and the formats that are fast on a device."""

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"
# Instructions of x86 CPUs for products in bfloat16, as torch names them. avx512_bf16 is left out: on an Intel Xeon it
# took 1.8 times as long as float32.
BFLOAT16_INSTRUCTIONS = "amx_bf16"


def has_bfloat16(device: torch.device) -> bool:
    """Whether a CPU or GPU is fast in bfloat16. False for a CPU that torch has no information about."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return device.type == "cpu" and bool(found.get(BFLOAT16_INSTRUCTIONS))


def autocast(dtype: str, device: torch.device) -> torch.autocast:
    """Context in which modules compute in `dtype`; `auto` is bfloat16 where the device has units for it, else float32.

    float16 is for GPUs; on a CPU modules compute in float32.
    """
    if dtype == AUTO:
        dtype = "bfloat16" if has_bfloat16(device) else "float32"
    enabled = dtype == "bfloat16" or (dtype == "float16" and device.type != "cpu")
    return torch.autocast(device.type, DTYPES[dtype], enabled=enabled)


def wide(x: Tensor) -> torch.dtype:
    """The dtype of a tensor, or float32 if that is wider."""
    return torch.promote_types(x.dtype, torch.float32)
