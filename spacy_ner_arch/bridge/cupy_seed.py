"""Seed the random number generator of CuPy, which thinc layers use on a GPU."""

import numpy as np
from thinc.api import Ops


def seed_cupy(ops: Ops, seed: int | None = None) -> int | None:
    """Seed CuPy, with a new random seed by default. CuPy cannot export the state of its generator.

    Returns the seed; None on a CPU.
    """
    if ops.name != "cupy":
        return None
    seed = int(np.random.randint(2**31)) if seed is None else seed
    ops.xp.random.seed(seed)
    return seed
