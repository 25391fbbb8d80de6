"""Targets of heads that label tokens: gold tags, and the chain of a teacher where gold tags are missing.

Letters: B documents, T tokens with padding, K tags of the student.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..annotation.chains import Lattice, TagTarget
from ..annotation.tags import MISSING
from .batch import Batch, send
from .forward_backward import expected_counts


class Taught(NamedTuple):
    """Documents of a batch that a teacher has annotated, R of them. U tags of teacher and student, see `Lattice`.

    rows: (R,) int64, indices of the documents.
    emissions: (R, T, U) float32, the teacher's emissions given the gold tags, with start and end scores; 0 in the
        padding.
    transitions: (U, U) float32.
    to_student: (U, K) float32, 1 where the column is the student's tag for the row.
    """

    rows: Tensor
    emissions: Tensor
    transitions: Tensor
    to_student: Tensor

    def counts(self, mask: Tensor, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        """Expected counts under the teacher of the student's tags (R, T, K) and transitions (K, K).

        mask: (R, T).
        factor: factor of all scores of the teacher.
        """
        steps, moves, _ = expected_counts(self.emissions * factor, self.transitions * factor, mask.sum(1))
        return steps @ self.to_student, self.to_student.t() @ moves @ self.to_student


class TagTargets(NamedTuple):
    """Targets of a batch.

    tags: (B, T) int64, MISSING where the tag is unknown.
    partial: whether a tag is missing in the documents without a teacher.
    gold: (R,) int64, the documents without a teacher; None for all.
    taught: the other documents, by teacher.
    """

    tags: Tensor
    partial: bool
    gold: Tensor | None = None
    taught: Sequence[Taught] = ()


def collate_tags(batch: Batch, targets: Sequence[TagTarget], names: Sequence[str], temperature: float) -> TagTargets:
    """The targets of a batch.

    targets: one for each document.
    names: names of the student's tags.
    temperature: divisor of the teachers' scores.
    """
    flat = np.concatenate([target.tags for target in targets])
    is_taught = [target.chain is not None for target in targets]
    if not any(is_taught):
        (tags,) = send([flat], batch.device)
        return TagTargets(batch.pad(tags, fill=MISSING), bool((flat == MISSING).any()))
    gold = np.flatnonzero(~np.array(is_taught))
    tags, rows = send([flat, gold], batch.device)
    partial = any((targets[i].tags == MISSING).any() for i in gold.tolist())
    taught = collate_taught(batch, targets, names, temperature)
    return TagTargets(batch.pad(tags, fill=MISSING), partial, rows, taught)


def collate_taught(
    batch: Batch, targets: Sequence[TagTarget], names: Sequence[str], temperature: float
) -> list[Taught]:
    """The documents with a teacher, by teacher. Arguments: see `collate_tags`."""
    teachers: dict[Any, list[int]] = {}
    for i, target in enumerate(targets):
        if target.chain is not None:
            teachers.setdefault(target.chain.teacher, []).append(i)
    taught = []
    for rows in teachers.values():
        chains = [chain for i in rows if (chain := targets[i].chain) is not None]
        lattice = Lattice(names, chains[0], temperature)
        emissions = np.zeros((len(rows), batch.mask.shape[1], len(lattice.tags)), dtype=np.float32)
        for row, chain, i in zip(emissions, chains, rows, strict=True):
            row[: len(chain.emissions)] = lattice.emissions(chain, targets[i].tags)
        to_student = np.eye(len(names), dtype=np.float32)[lattice.to_student]
        arrays = [np.array(rows), emissions, lattice.transitions, to_student]
        taught.append(Taught(*send(arrays, batch.device)))
    return taught
