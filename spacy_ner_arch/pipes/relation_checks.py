"""Checks of the settings of `relation_extractor`, alone and against the training corpus."""

import warnings
from collections.abc import Callable, Collection, Sequence

from ..annotation.candidates import Candidates, EntityPairs
from ..annotation.describe import Counted
from ..annotation.type_pairs import GivenTypePairs

DIRECTION = ("pairs", "labels")
TYPE_PAIRS = ("all", "learned", "learned_by_label")
DECODE = ("pairs", "graph")


def check_settings(
    name: str,
    *,
    candidates: Callable[..., Candidates],
    direction: str,
    threshold: float,
    type_pairs: str | GivenTypePairs,
    decode: str,
    has_limits: bool,
    negative_ratio: float | None,
) -> None:
    """Raise ValueError for settings of a component that are unknown or do not fit together.

    has_limits: whether one_head or one_tail has a label.
    """
    if direction not in DIRECTION:
        raise ValueError(f"{name}: unknown direction {direction!r}; known are {', '.join(DIRECTION)}")
    if isinstance(type_pairs, str) and type_pairs not in TYPE_PAIRS:
        raise ValueError(
            f"{name}: type_pairs = {type_pairs!r}; give {', '.join(TYPE_PAIRS)}, a list of pairs, or lists by label"
        )
    if decode not in DECODE:
        raise ValueError(f"{name}: unknown decode {decode!r}; known are {', '.join(DECODE)}")
    if decode == "graph" and (not isinstance(candidates, EntityPairs) or candidates.spans_key is not None):
        raise ValueError(
            f'{name}: decode = "graph" chooses among doc.ents and alternatives to them; set [components.{name}.'
            "candidates] @misc to spacy_ner_arch.EntityPairs.v1, and its spans_key to null"
        )
    if decode != "graph" and has_limits:
        raise ValueError(f'{name}: one_head and one_tail are for decode = "graph"')
    if not 0 <= threshold <= 1 or (negative_ratio is not None and negative_ratio < 0):
        raise ValueError(
            f"{name}: threshold = {threshold} must be between 0 and 1, negative_ratio = {negative_ratio} at least 0"
        )


def check_named_labels(name: str, labels: Sequence[str], **settings: Collection[str]) -> None:
    """Raise ValueError if a setting names a label that the component does not have.

    settings: the labels that each setting names.
    """
    for setting, named in settings.items():
        unknown = sorted(set(named) - set(labels))
        if unknown:
            raise ValueError(f"{name}: {setting} names {unknown}, which are no labels; labels are {labels}")


def warn_of_lost(name: str, total: int, outside: Counted, crowded: Counted, *, once: bool) -> None:
    """Warn about gold relations that cannot be found.

    total: number of gold relations.
    outside: those that are no candidates.
    crowded: those whose pair gets another class, since a pair gets one.
    once: whether each two entities are one candidate for both directions.
    """
    if crowded.count:
        both, remedy = (", or one label in both directions", ' or direction = "pairs"') if once else ("", "")
        warnings.warn(
            f"{name}: {crowded.count} of {total} gold relations cannot be found, since their two entities have several "
            f"labels{both}, and the component predicts one, such as {crowded.first}; set multi_label = true{remedy}",
            stacklevel=3,
        )
    if outside.count:
        warnings.warn(
            f"{name}: {outside.count} of {total} gold relations are no candidates, such as {outside.first}: an "
            "argument is not an entity of the document, does not match the tokenization, or is head and tail at once, "
            f"or type_pairs or [components.{name}.candidates] exclude them; they cannot be found and count as missed",
            stacklevel=3,
        )
