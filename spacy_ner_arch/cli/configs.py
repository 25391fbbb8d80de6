"""Configs for `spacy train`: the grid of pipelines, its presets, and the template that writes a config of any cell.

`python -m spacy_ner_arch.cli.configs FOLDER` writes all presets into a folder; `make configs` calls it.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import srsly
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from spacy.util import get_lang_class

EMBEDDINGS = ("words", "transformer")
ENCODERS = ("none", "bilstm", "synlstm")
HEADS = ("crf", "softmax", "span", "nested", "none")
RELATIONS = ("none", "softmax", "multitask", "bilstm", "bilstm-attention", "acnn", "markers")
COMPONENTS = {"crf": "sequence_ner", "softmax": "sequence_ner", "span": "span_ner", "nested": "nested_ner"}
# Pair models that read the context of the entities themselves and need no encoder below.
SELF_ENCODING = ("bilstm", "bilstm-attention", "acnn")

DEFAULT_TRANSFORMER = "roberta-base"
HIDDEN_SIZE = 200  # of each direction of an encoder
WORD_WIDTH = 100 + 3 * 32 + 64  # of WordCharEmbed.v1 in the template: word, features, characters
GPU_SCALE = 4  # factor of the batch sizes on a GPU


@dataclass(frozen=True)
class Cell:
    """A cell of the grid of pipelines.

    embedding: "words" for words, their attributes and their characters, or "transformer".
    encoder: "bilstm", "synlstm" or "none".
    head: of the entities, one of HEADS; "none" for relations between the entities of another component.
    relations: pair model of the relations, one of RELATIONS.
    trees: for "synlstm", where the dependency trees come from: None for a parser that is trained in the same run,
        "gold" for the corpus, else the name or folder of a pipeline with a parser.

    Raises ValueError for values that are unknown or do not fit together.
    """

    embedding: str
    encoder: str
    head: str
    relations: str = "none"
    trees: str | None = None

    def __post_init__(self) -> None:
        known = {"embedding": EMBEDDINGS, "encoder": ENCODERS, "head": HEADS, "relations": RELATIONS}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise ValueError(f"unknown --{name} {getattr(self, name)}; known are {', '.join(values)}")
        if self.head == self.relations == "none":
            raise ValueError("nothing to find: give --head for entities, --relations for relations, or both")
        if self.trees and self.encoder != "synlstm":
            raise ValueError(f"--trees is for --encoder synlstm; the encoder is {self.encoder}")
        if self.relations == "markers" and self.encoder == "synlstm":
            raise ValueError(
                "--relations markers reads copies of the text, which have no dependency trees: give another "
                "--relations, or --encoder bilstm"
            )
        if self.relations == "markers" and (self.embedding, self.encoder) == ("words", "none"):
            raise ValueError(
                "--relations markers needs vectors that depend on the context: give --embedding transformer, or "
                "--encoder bilstm"
            )

    @property
    def component(self) -> str | None:
        """Name of the component that finds entities; None without a head."""
        return COMPONENTS.get(self.head)

    @property
    def is_joint(self) -> bool:
        """Whether the pipeline finds both entities and relations."""
        return self.component is not None and self.relations != "none"

    @property
    def common(self) -> str | None:
        """Name of the component whose vectors entities and relations share; None if they do not share any."""
        if not self.is_joint or self.relations == "markers":  # marked copies need a model of their own
            return None
        return "transformer" if self.embedding == "transformer" else "tok2vec"

    @property
    def annotators(self) -> list[str]:
        """Components that set trees or sentences for the others, in training as well."""
        if self.encoder == "synlstm":
            return [] if self.trees == "gold" else ["parser"]
        return [] if self.relations == "none" else ["sentencizer"]

    @property
    def pipeline(self) -> list[str]:
        """Names of the components in order."""
        parser, sentencizer = (self.annotators == [name] for name in ("parser", "sentencizer"))
        transformer = self.embedding == "transformer" and (self.relations != "markers" or self.is_joint)
        components = {
            "parser": parser,
            "transformer": transformer,
            "tok2vec": self.common == "tok2vec",
            "sentencizer": sentencizer,
            self.component: self.component is not None,
            "relation_extractor": self.relations != "none",
            "doc_cleaner": transformer,
        }
        return [name for name, is_used in components.items() if is_used and name]

    def copied(self, is_train: bool) -> list[str]:
        """Gold annotation that the reader copies to the documents, for spacy_ner_arch.Corpus.v1."""
        entities = self.relations != "none" and (is_train or not self.is_joint)
        layers = {
            "spans" if self.head == "nested" else "ents": entities,
            "sents": "sentencizer" in self.annotators,
            "heads": self.trees == "gold",
        }
        return [name for name, is_copied in layers.items() if is_copied]

    @property
    def groups(self) -> dict[str, str | None]:
        """Groups of parameters with a rate of their own, for spacy_ner_arch.Stages.v1, with their pattern."""
        groups: dict[str, str | None] = {"transformer": None}
        if self.component:
            groups[self.component] = None
        if self.relations == "markers":
            groups["transformer"] = r"^(relation_extractor\.)?transformer\."
            groups["relation_extractor"] = r"^relation_extractor\.pair_classifier\."
        elif self.relations != "none":
            groups["relation_extractor"] = None
        return groups


class Preset(NamedTuple):
    """A config that the project ships.

    title: what it is, one sentence.
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
            raise ValueError(f"unknown --config {preset}; known are {', '.join(PRESETS)}")
        return Cell(**{**asdict(PRESETS[preset].cell), **chosen})
    defaults = {"embedding": "words", "head": "crf", "relations": "none", **chosen}
    reads_context = defaults["head"] == "none" and defaults["relations"] in SELF_ENCODING
    encoder = "none" if defaults["embedding"] == "transformer" or reads_context else "bilstm"
    return Cell(**{"encoder": encoder, **defaults})


def make_config(
    cell: Cell,
    *,
    transformer: str | None = None,
    vectors: str | None = None,
    lang: str = "en",
    gpu: bool = False,
    header: Sequence[str] = (),
    train: str | None = None,
    dev: str | None = None,
) -> str:
    """A complete config with comments.

    transformer: name on the Hugging Face hub, or folder; None for roberta-base.
    vectors: name or folder of a pipeline with word vectors, which are appended to the embedding of words.
    lang: language code; the tokenizer is that of spaCy for the language.
    gpu: mixed precision and larger batches.
    header: lines of the comment at the top.
    train, dev: paths of the corpora.

    Raises ValueError for an unknown language, and for options that do not fit the cell.
    """
    if transformer and cell.embedding != "transformer":
        raise ValueError(f"--transformer is for --embedding transformer; the embedding is {cell.embedding}")
    if vectors and cell.embedding != "words":
        raise ValueError(f"--vectors is for --embedding words; the embedding is {cell.embedding}")
    if vectors and cell.common == "tok2vec" and cell.encoder == "none":
        raise ValueError("--vectors with entities and relations needs an encoder: give --encoder bilstm")
    try:
        # Not of a pipeline: to make one, spaCy imports all plugins, and one that is broken raises ImportError too.
        defaults = get_lang_class(lang).default_config
    except ImportError as error:
        raise ValueError(f"spaCy has no language {lang!r}: {error}") from error
    text = (
        environment()
        .get_template("config.cfg.jinja")
        .render(
            **asdict(cell),
            **{name: getattr(cell, name) for name in ("component", "common", "annotators", "pipeline", "groups")},
            is_joint=cell.is_joint,
            has_encoder=cell.encoder != "none" and cell.common != "tok2vec",
            copied={"train": cell.copied(True), "dev": cell.copied(False)},
            # Measured with a transformer and without a second task.
            learned_weights=cell.common == "transformer" and cell.relations != "multitask",
            hidden_size=HIDDEN_SIZE,
            word_width=WORD_WIDTH,
            transformer=transformer or DEFAULT_TRANSFORMER,
            vectors=vectors,
            lang=lang,
            tokenizer=defaults["nlp"]["tokenizer"],
            initialize_tokenizer=defaults["initialize"].get("tokenizer", {}),
            gpu=gpu,
            scale=GPU_SCALE if gpu else 1,
            dtype="bfloat16" if gpu else "float32",
            header=header,
            train=train,
            dev=dev,
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent, encoding="utf8")
    found = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    found.filters["json"] = srsly.json_dumps
    found.globals["missing_block"] = missing_block
    return found


def missing_block(field: str, value: str) -> None:
    """Called by the template for a value of a cell that it does not know."""
    raise ValueError(f"config.cfg.jinja has no block for {field} = {value!r}")


def make_preset(name: str) -> str:
    """The config of a preset as the project ships it. Its paths are those of the workflow that trains it."""
    cell, title = PRESETS[name]
    workflow, folder = f"quickstart . --vars.config {name}", "sample"
    if cell.relations != "none":
        workflow, folder = f"quickstart-relations . --vars.relation_config {name}", "sample_relations"
    elif cell.head == "nested":
        workflow, folder = "train-nested", "nested"
    gpu = " --gpu-id 0" if cell.embedding == "transformer" else ""
    header = [
        title,
        *notes(cell),
        f"  python -m spacy train configs/{name}.cfg --output training/{name}{gpu}",
        "The default corpora are made by",
        f"  python -m spacy project run {workflow}",
        "Generated by `make configs` from spacy_ner_arch/cli/config.cfg.jinja.",
    ]
    return make_config(cell, header=header, train=f"corpus/{folder}/train.spacy", dev=f"corpus/{folder}/dev.spacy")


def notes(cell: Cell) -> Iterator[str]:
    """What to know about a cell before training, one line each."""
    if cell.encoder == "synlstm" and not cell.trees:
        yield "The parser is trained in the same run, so the corpus must have dependency trees."
    if cell.trees == "gold":
        yield "The corpus must have dependency trees. The trained pipeline needs documents with trees, not plain text:"
        yield "put a parser before the other components to use it on text."
    if cell.relations != "none" and not cell.component:
        yield "Relations are trained and evaluated between gold entities. To use them on text, put a component that"
        yield "finds entities before relation_extractor."


def describe(cell: Cell) -> str:
    """The options of `ner-arch init-config` that give the cell."""
    values = ((field.name, getattr(cell, field.name)) for field in fields(cell))
    return " ".join(f"--{name} {value}" for name, value in values if value)


def write_presets(folder: Path) -> None:
    for name in PRESETS:
        (folder / f"{name}.cfg").write_text(make_preset(name), encoding="utf8")


if __name__ == "__main__":
    write_presets(Path(sys.argv[1]))
