"""Repeat the random numbers of CuPy, from which layers of thinc draw on a GPU."""

import numpy as np
from thinc.api import Ops


def seed_cupy(ops: Ops, seed: int | None = None) -> int | None:
    """Give CuPy a seed, a new one by default, since it cannot tell its state.

    Returns the seed; None on a CPU.
    """
    if ops.name != "cupy":
        return None
    seed = int(np.random.randint(2**31)) if seed is None else seed
    ops.xp.random.seed(seed)
    return seed
