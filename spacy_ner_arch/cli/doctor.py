"""`ner-arch doctor`: check that spaCy and PyTorch can use the GPU, time the number formats, and show remedies.

spaCy imports this module at every start of its command line, so torch is imported only when the command runs.
"""

import importlib
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distributions, version
from typing import Any

from thinc.api import get_current_ops, torch2xp, xp2torch
from thinc.api import require_gpu as thinc_require_gpu
from typer import Option
from wasabi import msg

PACKAGES = ("spacy-ner-arch", "spacy", "thinc", "spacy-transformers", "transformers", "torch", "triton")
TRIES = 5  # number of timed products, of which the fastest counts
SIZE = {"cpu": 512, "cuda": 4096}  # width of the matrices in the timed products
# A format counts as fast from this ratio of times.
FAST = 1.5


def doctor(gpu_id: int = Option(-1, "--gpu-id", "-g", help="GPU to check; -1 for none")) -> None:
    """Check the installation, and whether the GPU works.

    Shows the versions, and whether bfloat16 is fast on this machine. With --gpu-id, run a product of PyTorch and a
    kernel of CuPy, and pass an array from each to the other. If a check fails, show a remedy and end with status 1.
    """
    import torch

    msg.divider("Versions")
    for name, found in versions():
        print(f"{name:20} {found}")
    msg.divider("CPU")
    report_speed(torch.device("cpu"))
    if gpu_id < 0:
        if torch.cuda.is_available():
            msg.info("PyTorch finds a GPU; check it with --gpu-id 0")
        return
    if is_apples():
        return
    msg.divider(f"GPU {gpu_id}")
    works = [run_check("PyTorch", check_torch, torch_remedy, gpu_id)]
    works += [run_check("spaCy", check_spacy, cupy_remedy, gpu_id)]
    if all(works):
        works += [run_check("CuPy", check_cupy, cupy_remedy, gpu_id)]
        works += [run_check("CuPy and PyTorch", check_crossing, crossing_remedy, gpu_id)]
    if not all(works):
        raise SystemExit(1)
    report_speed(torch.device("cuda", gpu_id))
    report_kernels(torch.device("cuda", gpu_id))


def versions() -> Iterator[tuple[str, str]]:
    """Names and versions of the relevant packages."""
    import torch

    yield "python", platform.python_version()
    for name in (*PACKAGES, *cupy_packages()):
        try:
            # torch.__version__ includes the build, such as 2.13.0+cu130, which the package metadata lack.
            yield name, torch.__version__ if name == "torch" else version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def cupy_packages() -> list[str]:
    """Names of the installed packages of CuPy. There is one for each version of CUDA."""
    names = {str(found.metadata["Name"]).lower() for found in distributions() if found.metadata["Name"]}
    return sorted(name for name in names if name == "cupy" or name.startswith(("cupy-cuda", "cupy-rocm")))


def is_apples() -> bool:
    """Whether the GPU is Apple's. Prints which models run on it."""
    import torch

    if not torch.backends.mps.is_available():
        return False
    msg.info("On Apple's GPU, the models of this package run on the CPU, because it has no float64")
    return True


def run_check(what: str, check: Callable[[int], str], remedy: Callable[[], str], gpu_id: int) -> bool:
    """Whether a check succeeds. Prints its result, or the error and the remedy."""
    try:
        msg.good(f"{what}: {check(gpu_id)}")
        return True
    except Exception as error:  # drivers, compilers and libraries raise errors of all kinds
        msg.fail(f"{what}: {type(error).__name__}: {error}", number_remedy(gpu_id) or remedy())
        return False


# Checks of a GPU. Each returns a description of its result, or raises an error.


def check_torch(gpu_id: int) -> str:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} finds no GPU")
    if gpu_id >= torch.cuda.device_count():
        raise RuntimeError(f"there is no GPU {gpu_id}")
    matrix = torch.eye(64, device=f"cuda:{gpu_id}") * 2
    if float((matrix @ matrix).sum()) != 256.0:
        raise RuntimeError("a product is wrong")
    return torch.cuda.get_device_name(gpu_id)


def check_spacy(gpu_id: int) -> str:
    thinc_require_gpu(gpu_id)
    return "spacy.require_gpu works"


def check_cupy(gpu_id: int) -> str:
    if int((get_current_ops().xp.arange(8) ** 2).sum()) != 140:
        raise RuntimeError("a sum is wrong")
    return "a kernel was compiled and run"


def check_crossing(gpu_id: int) -> str:
    import torch

    ops = get_current_ops()
    there = xp2torch(ops.alloc2f(2, 3) + 1)
    back: Any = torch2xp(torch.ones((2, 3), device=f"cuda:{gpu_id}"), ops=ops)
    if not there.is_cuda or float(there.sum()) != 6.0 or float(back.sum()) != 6.0:
        raise RuntimeError("an array changed on its way")
    return "arrays pass from CuPy to PyTorch and back"


# Remedies for checks that fail.


def number_remedy(gpu_id: int) -> str | None:
    """The remedy for a number that no GPU of this machine has; None if a GPU has it, or if there is no GPU."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not 0 < count <= gpu_id:
        return None
    return f"GPUs are numbered from 0, and the last one here is {count - 1}: give --gpu-id {count - 1} or less"


def torch_remedy() -> str:
    import torch

    if torch.version.cuda is None:
        return (
            "This PyTorch was built for the CPU. Install one for CUDA: pip install --force-reinstall torch (on Linux; "
            "elsewhere, and for other versions of CUDA, as pytorch.org describes)"
        )
    return (
        f"This PyTorch was built for CUDA {torch.version.cuda}. `nvidia-smi` shows the GPUs, and the version of CUDA "
        "of the driver. If that is older, update the driver, or install the PyTorch for it as pytorch.org describes"
    )


def cupy_remedy() -> str:
    found = cupy_packages()
    if len(found) > 1:
        return f"Several CuPy packages are installed, which conflict: pip uninstall {' '.join(found)}; {install()}"
    if not found:
        return f"CuPy is not installed: {install()}"
    try:
        importlib.import_module("cupy")
    except Exception as error:  # without its libraries CuPy raises errors of all kinds
        return f"{found[0]} cannot be imported ({error}): {install()}"
    return f"{found[0]} finds no CUDA libraries or no GPU: {install()}. `nvidia-smi` must show the GPU"


def install() -> str:
    """The command that installs CuPy with its libraries for the CUDA of PyTorch."""
    import torch

    cuda = str(torch.version.cuda or "13").split(".")[0]
    return f'pip install "cupy-cuda{cuda}x[ctk]>=14" "torch>=2.9" (the extra cuda{cuda}x of this package)'


def crossing_remedy() -> str:
    return f"PyTorch and CuPy do not work together: {install()}"


def report_speed(device: Any) -> None:
    """Time products of matrices in each format, and say which dtype to set."""
    import torch

    from ..nn.precision import has_bfloat16

    times = {name: product_time(device, getattr(torch, name)) for name in ("float32", "bfloat16")}
    ratio = times["float32"] / times["bfloat16"]
    print(f"A product in bfloat16 is {ratio:.1f} times as fast as in float32.")
    auto = "bfloat16" if has_bfloat16(device) else "float32"
    if ratio >= FAST:
        either = ' or "auto"' if auto == "bfloat16" else ""
        msg.good(f'bfloat16 is fast here: set dtype = "bfloat16"{either} in the models of the config')
    else:
        msg.info('float32 is fastest here: leave dtype = "float32"')
    print(f'dtype = "auto" means {auto} here.')


def product_time(device: Any, dtype: Any) -> float:
    """Seconds of the fastest of some products of square matrices."""
    import torch

    size = SIZE[device.type]
    matrix = torch.ones((size, size), device=device, dtype=dtype)
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # the host waits for the result
        times.append(time.perf_counter() - start)
    return min(times)


def report_kernels(device: Any) -> None:
    """Say whether the CRF runs in its kernels, which is faster."""
    from ..nn.fused import kernels_compile

    if kernels_compile(device):
        msg.good("Triton compiles the kernels of the CRF")
    else:
        msg.warn("Triton does not compile the kernels of the CRF, which runs step by step: see docs/gpu.md")


def require_gpu(gpu_id: int = 0) -> bool:
    """thinc's require_gpu for spaCy's commands: ends with a remedy instead of a traceback.

    Warns if only PyTorch cannot use the GPU, since spaCy has components that do not need it.
    """
    import torch

    check = f"`python -m spacy ner-arch doctor --gpu-id {gpu_id}` checks it"
    try:
        thinc_require_gpu(gpu_id)
    except Exception as error:  # without its libraries CuPy raises errors of all kinds
        msg.fail(str(error), number_remedy(gpu_id) or f"{cupy_remedy()}. {check}")
        raise SystemExit(1) from error
    if not (is_apples() or torch.cuda.is_available()):
        msg.warn("PyTorch cannot use the GPU, so all components that need it will fail", f"{torch_remedy()}. {check}")
    return True
