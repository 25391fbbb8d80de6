"""Whether the heads of a sentence make a tree."""

from __future__ import annotations

from collections.abc import Sequence


def find_tree_fault(heads: Sequence[int]) -> tuple[int, str] | None:
    """Tell why heads do not make a tree with one root.

    heads: for each word the number of its head counted from 1, 0 for the root.
    Returns the index of a word at fault and the reason; None if the heads make a tree.
    """
    for i, head in enumerate(heads):
        if not 0 <= head <= len(heads):
            return i, f"the head {head} is out of range: the sentence has {len(heads)} words"
    roots = [i for i, head in enumerate(heads) if head == 0]
    if not roots:
        return 0, "the tree has no root"
    if len(roots) > 1:
        return roots[1], f"the tree has {len(roots)} roots, the words {_numbers(roots)}"
    return _find_cycle(heads)


def _find_cycle(heads: Sequence[int]) -> tuple[int, str] | None:
    reaches_root: set[int] = set()
    for i in range(len(heads)):
        path = [i]
        # All heads are in range, so a way up ends at the root, at a known word, or at itself.
        while path[-1] not in reaches_root and heads[path[-1]] > 0:
            head = heads[path[-1]] - 1
            if head in path:
                cycle = path[path.index(head) :]
                return head, f"the tree has a cycle, the words {_numbers(sorted(cycle))}"
            path.append(head)
        reaches_root.update(path)
    return None


def _numbers(indices: Sequence[int]) -> str:
    return ", ".join(str(i + 1) for i in indices)
