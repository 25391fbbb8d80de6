"""Write tasks for Label Studio."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from ..files import complete_files
from ..label_studio_tasks import MIN_KEYS
from .content import Content, Labels
from .objects import make_list, with_score

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


def write_label_studio(path: Path, contents: Sequence[Content], labels: Labels) -> None:
    """Write the tasks and, beside them, the labelling configuration of the project that opens them.

    After an error, existing files are unchanged. Raises ValueError if the tasks are where the configuration goes.
    """
    configuration = path.with_suffix(CONFIGURATION)
    if path == configuration:
        raise ValueError(f"{path} is where the configuration goes: name the tasks {path.with_suffix('.json')}")
    pieces = {configuration: _make_configuration(labels), path: make_list(make_task, contents)}
    with complete_files() as temporary:
        for target, texts in pieces.items():
            with temporary(target).open("w", encoding="utf-8", newline="") as file:
                file.writelines(texts)


def _make_configuration(labels: Labels) -> Iterator[str]:
    lines = ["<View>", "  <Relations>"]
    lines += [f"    <Relation value={quoteattr(label)}/>" for label in sorted(labels.relations)]
    lines += ["  </Relations>", '  <Labels name="label" toName="text">']
    lines += [f"    <Label value={quoteattr(label)}/>" for label in sorted(labels.spans)]
    lines += ["  </Labels>", '  <Text name="text" value="$text"/>', "</View>"]
    yield from (f"{line}\n" for line in lines)
