"""Write tasks for Label Studio."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from ..files import write_text
from ..label_studio_tasks import MIN_KEYS
from .content import Content, Labels
from .objects import with_score, write_list

# Ending of the file of the configuration.
CONFIGURATION = ".xml"
# Names that fields must not have: the text, and keys that JSON-MIN writes beside the fields of the task.
TAKEN = MIN_KEYS | {"text"}


def make_task(content: Content) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    for i, (span, score) in enumerate(zip(content.spans, content.scores, strict=True)):
        value = {"start": span.start_char, "end": span.end_char, "text": span.text, "labels": [span.label_]}
        result = {"id": f"r{i}", "type": "labels", "from_name": "label", "to_name": "text", "value": value}
        results.append(with_score(result, score))
    for head, tail, label, score in content.relations:
        ends = {"from_id": f"r{head}", "to_id": f"r{tail}", "direction": "right"}
        results.append(with_score({"type": "relation", **ends, "labels": [label]}, score))
    data = {**content.renamed_fields(TAKEN), "text": content.doc.text}
    task: dict[str, Any] = {"id": content.number, "data": data, "annotations": []}
    if content.is_predicted:
        known = [result["score"] for result in results if "score" in result]
        version = {} if content.model is None else {"model_version": content.model}
        prediction = {**version, "result": results}
        return {**task, "predictions": [with_score(prediction, sum(known) / len(known) if known else None)]}
    return {**task, "annotations": [{"result": results}] if content.is_labelled else []}


def write_label_studio(path: Path, contents: Sequence[Content]) -> None:
    """Write the tasks. Raises ValueError if their file is where the configuration goes."""
    if path == path.with_suffix(CONFIGURATION):
        raise ValueError(f"{path} is where the configuration goes: name the tasks {path.with_suffix('.json')}")
    write_list(make_task, path, contents)


def write_configuration(path: Path, labels: Labels) -> None:
    """Write the labelling configuration of the project that opens the tasks, beside them."""
    lines = ["<View>", "  <Relations>"]
    lines += [f"    <Relation value={quoteattr(label)}/>" for label in sorted(labels.relations)]
    lines += ["  </Relations>", '  <Labels name="label" toName="text">']
    lines += [f"    <Label value={quoteattr(label)}/>" for label in sorted(labels.spans)]
    lines += ["  </Labels>", '  <Text name="text" value="$text"/>', "</View>"]
    write_text(path.with_suffix(CONFIGURATION), (f"{line}\n" for line in lines))
