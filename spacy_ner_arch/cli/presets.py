"""The configs that the project ships: named cells of the grid of pipelines.

`python -m spacy_ner_arch.cli.presets FOLDER` writes all of them into a folder; `make configs` calls it.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from .cells import SELF_ENCODING, Cell, notes
from .configs import make_config


class Preset(NamedTuple):
    """A config that the project ships.

    title: description in one sentence.
    """

    cell: Cell
    title: str


PRESETS = {
    "bilstm_crf": Preset(Cell("words", "bilstm", "crf"), "BiLSTM-CRF, without pretrained weights. Runs on a CPU."),
    "bilstm": Preset(
        Cell("words", "bilstm", "softmax"),
        "BiLSTM with a softmax for each token, without pretrained weights. Runs on a CPU.",
    ),
    "transformer_crf": Preset(Cell("transformer", "none", "crf"), "Transformer with a CRF."),
    "transformer_softmax": Preset(Cell("transformer", "none", "softmax"), "Transformer with a softmax for each token."),
    "transformer_bilstm_crf": Preset(
        Cell("transformer", "bilstm", "crf"), "Transformer, BiLSTM and CRF, trained in two stages."
    ),
    "span": Preset(
        Cell("transformer", "none", "span"),
        "Transformer with span classification. Finds the most probable set of spans without overlaps.",
    ),
    "span_bilstm": Preset(
        Cell("words", "bilstm", "span"),
        "BiLSTM with span classification, without pretrained weights. Runs on a CPU.",
    ),
    "nested": Preset(
        Cell("transformer", "none", "nested"),
        "Transformer with span classification for nested entities, in doc.spans.",
    ),
    "synlstm_crf": Preset(
        Cell("words", "synlstm", "crf"),
        "Syn-LSTM over dependency trees with a CRF, without pretrained weights. Runs on a CPU.",
    ),
    "synlstm_span": Preset(
        Cell("words", "synlstm", "span"),
        "Syn-LSTM over dependency trees with span classification, without pretrained weights. Runs on a CPU.",
    ),
    "relation_softmax": Preset(
        Cell("transformer", "none", "none", "softmax"),
        "Relations: transformer, and a softmax over both entities and the tokens between them.",
    ),
    "relation_multitask": Preset(
        Cell("transformer", "none", "none", "multitask"),
        "Relations: transformer and softmax, with TransE as a second task.",
    ),
    "relation_markers": Preset(
        Cell("transformer", "none", "none", "markers"),
        "Relations: transformer over a copy of the text for each pair, with marks around both entities.",
    ),
    "relation_bilstm": Preset(
        Cell("words", "none", "none", "bilstm"),
        "Relations: BiLSTM over the sentences of a pair, without pretrained weights. Runs on a CPU.",
    ),
    "relation_bilstm_att": Preset(
        Cell("words", "none", "none", "bilstm-attention"),
        "Relations: BiLSTM with attention over the sentences of a pair, without pretrained weights. Runs on a CPU.",
    ),
    "relation_acnn": Preset(
        Cell("words", "none", "none", "acnn"),
        "Relations: convolution with attention over the sentences of a pair, without pretrained weights. Runs on a "
        "CPU.",
    ),
    "joint": Preset(
        Cell("transformer", "none", "crf", "softmax"), "Entities and relations, trained together on one transformer."
    ),
    "joint_transe": Preset(
        Cell("transformer", "none", "crf", "multitask"),
        "Entities and relations, trained together on one transformer, with TransE as a second task for relations.",
    ),
    "joint_bilstm": Preset(
        Cell("words", "bilstm", "crf", "softmax"),
        "Entities and relations, trained together on one BiLSTM, without pretrained weights. Runs on a CPU.",
    ),
}


def find_cell(preset: str | None = None, **choices: str | None) -> Cell:
    """A cell from a preset, from values for its fields, or from a preset with other values for some fields.

    preset: name of a preset; None to fill fields without a value with a fitting default.
    choices: values of fields of Cell; None for those not chosen.

    Raises ValueError for an unknown preset, and for values that are unknown or do not fit together.
    """
    chosen = {name: value for name, value in choices.items() if value is not None}
    if preset is not None:
        if preset not in PRESETS:
            raise ValueError(f"unknown --config {preset}; choose from {', '.join(PRESETS)}")
        return Cell(**{**asdict(PRESETS[preset].cell), **chosen})
    defaults = {"embedding": "words", "head": "crf", "relations": "none", **chosen}
    reads_context = defaults["head"] == "none" and defaults["relations"] in SELF_ENCODING
    encoder = "none" if defaults["embedding"] == "transformer" or reads_context else "bilstm"
    return Cell(**{"encoder": encoder, **defaults})


def make_preset(name: str) -> str:
    """The config of a preset as the project ships it. Its paths are those of the sample."""
    cell, title = PRESETS[name]
    command, folder = "convert-sample", "sample"
    if cell.relations != "none":
        command, folder = "convert-sample-relations", "sample_relations"
    elif cell.head == "nested":
        command, folder = "convert-nested", "nested"
    gpu = " --gpu-id 0" if cell.embedding == "transformer" else ""
    header = [
        title,
        *notes(cell),
        f"  python -m spacy train configs/{name}.cfg --output training/{name}{gpu}",
        "Make the default corpora with",
        f"  python -m spacy project run {command}",
        "Generated by `make configs` from spacy_ner_arch/cli/config.cfg.jinja.",
    ]
    return make_config(cell, header=header, train=f"corpus/{folder}/train.spacy", dev=f"corpus/{folder}/dev.spacy")


def write_presets(folder: Path) -> None:
    for name in PRESETS:
        (folder / f"{name}.cfg").write_text(make_preset(name), encoding="utf8")


if __name__ == "__main__":
    write_presets(Path(sys.argv[1]))
