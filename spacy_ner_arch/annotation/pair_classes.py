"""Classes of pairs: a label, and which entity of the pair is the head."""

from collections.abc import Collection, Iterable, Sequence

# Suffix of the names of classes whose head is the second entity of the pair.
INVERSE = "^-1"

# Label, and whether the second entity of the pair is the head.
PairClass = tuple[str, bool]


def make_classes(labels: Iterable[str], symmetric: Collection[str], unordered: bool) -> list[PairClass]:
    """Classes of the labels, in order.

    symmetric: labels that hold in both directions.
    unordered: whether two entities are one pair. Labels that are not symmetric then have a class per direction.
    """
    return [
        (label, inverse)
        for label in labels
        for inverse in ((False, True) if unordered and label not in symmetric else (False,))
    ]


def class_names(classes: Sequence[PairClass]) -> list[str]:
    """Names under which a model stores the classes."""
    return [label + INVERSE * inverse for label, inverse in classes]
