"""The grid of pipelines: embedding x encoder x head of the entities x relations."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

EMBEDDINGS = ("words", "transformer")
ENCODERS = ("none", "bilstm", "synlstm")
HEADS = ("crf", "softmax", "span", "nested", "none")
RELATIONS = ("none", "softmax", "multitask", "bilstm", "bilstm-attention", "acnn", "markers")
COMPONENTS = {"crf": "sequence_ner", "softmax": "sequence_ner", "span": "span_ner", "nested": "nested_ner"}
# Pair models that encode the context of the entities themselves and need no encoder below.
SELF_ENCODING = ("bilstm", "bilstm-attention", "acnn")


@dataclass(frozen=True)
class Cell:
    """A cell of the grid of pipelines.

    embedding: "words" for words, their attributes and their characters, or "transformer".
    encoder: "bilstm", "synlstm" or "none".
    head: how entities are found, one of HEADS; "none" for relations between the entities of another component.
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
                raise ValueError(f"unknown --{name} {getattr(self, name)}; choose from {', '.join(values)}")
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
        if not self.is_joint or self.relations == "markers":  # marked copies need a separate model
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
            "vector_cleaner": transformer,
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
        """Groups of parameters with separate learning rates, with their patterns, for spacy_ner_arch.Stages.v1."""
        groups: dict[str, str | None] = {"transformer": None}
        if self.component:
            groups[self.component] = None
        if self.relations == "markers":
            groups["transformer"] = r"^(relation_extractor\.)?transformer\."
            groups["relation_extractor"] = r"^relation_extractor\.pair_classifier\."
        elif self.relations != "none":
            groups["relation_extractor"] = None
        return groups


def notes(cell: Cell) -> Iterator[str]:
    """Requirements of a cell to know before training, one line each."""
    if cell.encoder == "synlstm" and not cell.trees:
        yield "The parser is trained in the same run, so the corpus must have dependency trees."
    if cell.trees == "gold":
        yield "The corpus must have dependency trees. The trained pipeline needs documents with trees: to use it on"
        yield "plain text, put a parser before the other components."
    if cell.relations != "none" and not cell.component:
        yield "Relations are trained and evaluated between gold entities. To use them on text, put a component that"
        yield "finds entities before relation_extractor."


def as_options(cell: Cell) -> str:
    """The options of `ner-arch init-config` that give the cell."""
    values = ((field.name, getattr(cell, field.name)) for field in fields(cell))
    return " ".join(f"--{name} {value}" for name, value in values if value)
