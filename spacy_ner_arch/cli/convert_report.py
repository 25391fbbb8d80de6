"""Print the counts and warnings of `ner-arch convert`."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wasabi import msg

from .messages import printable

if TYPE_CHECKING:
    from ..formats import ReadReport


def show_report(report: "ReadReport", labels: str | None, tokenizer: str, leaves_out: bool) -> None:
    """Print the counts of a conversion, and warn about annotation that training or evaluation will lose.

    tokenizer: language or config of the tokenizer.
    leaves_out: whether entities that do not align with the tokenizer are left out of the documents.
    """
    from ..formats.counts import MISALIGNED, MOST_SPLIT, SKIPPED, SPLIT
    from ..formats.spans import OTHER_LABEL
    from ..formats.texts import MOVED
    from ..formats.units import UNCHECKED

    print(printable(report.summary()))
    if not report.entities and report.notes[OTHER_LABEL]:
        msg.warn(f"No entity was read: none has a label of --labels {labels}")
    elif not report.entities and not report.notes[MISALIGNED]:
        msg.warn("No entity was read: check the column (conll) or the key (other formats) of the entities")
    if report.notes[SKIPPED]:
        msg.warn(f"--on-error skip has left out {report.share(SKIPPED)} sentences with all their annotation")
    if report.notes[UNCHECKED]:
        msg.warn(
            f"{report.notes[UNCHECKED]} entities are behind a character beyond U+FFFF, as emoji are, and were read as "
            f"characters, such as {report.examples[UNCHECKED][0]}",
            "Give --unit utf-16 if start and end count UTF-16 code units, as JavaScript and Java do, or --unit "
            "characters if the entities are right",
        )
    if report.notes[MISALIGNED]:
        lost = "training loses them, and evaluation counts them as missed"
        if leaves_out:
            lost = "training and evaluation lose them"
        msg.warn(
            f"{report.share(MISALIGNED)} entities do not align with the tokenizer of {tokenizer}; {lost}",
            "Correct their bounds, give --align expand or contract, or give the --lang of the texts",
        )
    if report.notes[MOVED] > report.checked[MISALIGNED] / 2:
        msg.warn(
            f"--align has moved {report.notes[MOVED]} of {report.checked[MISALIGNED]} entities to the bounds of tokens "
            f"of the tokenizer of {tokenizer}",
            "Look at the examples above; if the tokenizer has another language than the texts, give their --lang",
        )
    if report.notes[SPLIT] > MOST_SPLIT * report.checked[SPLIT]:
        msg.warn(
            f"{report.share(SPLIT)} tokens of the source are split by the tokenizer of {tokenizer}: the pipeline will "
            "read other tokens in raw text than it was trained on, and scores on this corpus do not show that",
            "Convert texts with offsets, or columns of the tokenizer's own tokens, or choose another tokenizer or "
            "segmenter (--lang, --config)",
        )


def warn_of_similar(kind: str, counts: Mapping[str, int]) -> None:
    """Warn about labels that differ only in case or white space, since they are learned as different labels."""
    from ..formats.labels import find_similar

    groups = find_similar(counts)
    if not groups:
        return
    listed = "; ".join(", ".join(f"{label} ({counts[label]})" for label in group) for group in groups)
    pairs = [(other, group[0]) for group in groups for other in group[1:]]
    remedy = f"--rename {shlex.quote(','.join(map('='.join, pairs)))}"
    if any(set(",=") & set(label) for pair in pairs for label in pair):
        remedy = "them one name in the source; --rename cannot name labels with , or ="
    msg.warn(
        f"Labels of {kind} that differ only in case or white space are different labels for training: {listed}",
        f"If they mean the same, give {remedy}",
    )
