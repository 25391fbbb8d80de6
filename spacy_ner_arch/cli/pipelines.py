"""Functions of several commands for trained pipelines, corpora and configs."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spacy.cli._util import import_code, setup_gpu
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import CONFIG_SECTION_ORDER, load_model
from spacy.vocab import Vocab
from thinc.api import Config
from typer import BadParameter
from wasabi import msg

from ..annotation.alignment import find_misaligned
from ..annotation.describe import describe_span
from ..annotation.layers import assigning, describe_layers, labels_of
from .messages import fail, printable

if TYPE_CHECKING:
    from ..evaluation.items import LeftOut
    from ..formats.writers.content import Labels

# Attribute in the `assigns` of a component that sets a layer of annotation.
ASSIGNED = {"ents": "doc.ents", "spans": "doc.spans", "heads": "token.head"}

# Layers that `predict_corpus` copies to find relations between gold entities in gold sentences.
GOLD_ENTITIES = ["ents", "spans", "sents"]

# Readers whose `path` is a .spacy file or a folder of them.
READERS = ("spacy.Corpus.v1", "spacy_ner_arch.Corpus.v1")

# Message of spaCy's error for a text that is too long for its tokenizer.
TOO_LONG = re.compile(r"\[E088\] Text of length \d+ exceeds maximum of (\d+)")


def check_corpus(path: Path | None) -> Path | None:
    """Callback of arguments that name a corpus. Raises BadParameter if there is no .spacy file, or a damaged one."""
    from ..formats import find_docbins, parse_docbin

    if path is not None:
        try:
            for file in find_docbins(path):
                parse_docbin(file.read_bytes(), file)
        except (ValueError, OSError) as error:
            raise BadParameter(printable(error)) from error
    return path


def config_text(path: Path) -> str:
    """The text of a config. Raises ValueError if it is not UTF-8, OSError if the file cannot be read.

    path: the file; `-` for standard input.
    """
    data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    try:
        return data.decode("utf-8-sig")  # programs on Windows write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start + 1}): convert the file") from error


def parse_config(text: str, overrides: dict[str, Any]) -> Config:
    """Parse a config with overrides, in the same way as spaCy."""
    return Config(section_order=CONFIG_SECTION_ORDER).from_str(text, overrides=overrides, interpolate=False)


def check_corpora(config: Config) -> None:
    """Raise ValueError for a corpus of a config that does not exist, or that spaCy cannot read.

    A corpus that is streamed in training (`max_epochs = -1`) may be too large to be read for a check.
    """
    from ..formats import find_docbins, parse_docbin

    config = config.interpolate()
    is_streamed = config.get("training", {}).get("max_epochs") == -1
    for name, corpus in config.get("corpora", {}).items():
        if not isinstance(corpus, dict) or corpus.get("@readers") not in READERS:  # or a setting that corpora share
            continue
        path = corpus.get("path")
        if path is None:
            raise ValueError(f"[corpora.{name}] has no path: set [paths] {name}, or give --paths.{name} FILE")
        if not Path(path).exists():
            raise ValueError(f"[corpora.{name}] path: there is no {path}; check [paths] {name} or --paths.{name}")
        if corpus["@readers"] == "spacy.Corpus.v1" and Path(path).is_dir() and Path(path).name.startswith("."):
            raise ValueError(
                f"[corpora.{name}] path: spacy.Corpus.v1 finds no files in {path}, whose name begins with a dot; use "
                "spacy_ner_arch.Corpus.v1, or another name"
            )
        try:
            for file in find_docbins(Path(path)):
                if not is_streamed:
                    parse_docbin(file.read_bytes(), file)
        except ValueError as error:
            raise ValueError(f"[corpora.{name}] path: {error}") from error


def corpus_paths(config: Config) -> list[Path]:
    """The paths of the .spacy files, and folders of them, that the corpora of a config name."""
    corpora = [corpus for corpus in config.interpolate().get("corpora", {}).values() if isinstance(corpus, dict)]
    return [Path(corpus["path"]) for corpus in corpora if corpus.get("@readers") in READERS and corpus.get("path")]


@contextmanager
def naming_long_texts(paths: Iterable[Path], raised: type[ValueError] = ValueError) -> Iterator[None]:
    """Add the document to the error if a text is too long for spaCy's tokenizer.

    paths: the .spacy files, and folders of them, that contain the texts.
    raised: class of the error to raise.
    """
    from ..formats import describe_long_texts, find_docbins, read_docbin

    try:
        yield
    except ValueError as error:
        if refused := TOO_LONG.search(str(error)):
            docs = {file: read_docbin(file, Vocab()) for path in paths for file in find_docbins(path)}
            if found := describe_long_texts(docs, int(refused[1])):
                raise raised(found) from error
        raise


def check_word_vectors(config: Config) -> None:
    """Raise ValueError if the vectors of a config are not a pipeline with word vectors."""
    config = config.interpolate()
    if vectors := config.get("initialize", {}).get("vectors"):
        try:
            find_word_vectors(vectors, config.get("nlp", {}).get("lang", "en"))
        except ValueError as error:
            raise ValueError(f"[initialize] vectors: {error}") from error


def find_word_vectors(vectors: str, lang: str) -> Path:
    """The folder of a pipeline with word vectors. Raises ValueError if there is none."""
    from ..bulk.models import model_folder

    if Path(vectors).is_file():
        make = f"`python -m spacy init vectors {lang} {vectors} FOLDER`"
        raise ValueError(f"{vectors} is a file, not a pipeline: make a pipeline from word vectors with {make}")
    return model_folder(vectors)


def check_output(output: Path, inputs: Iterable[str | Path]) -> None:
    """Raise ValueError for an output that would overwrite an input file, even if this is standard input, and for -,
    which is not a file."""
    if str(output) == "-":
        raise ValueError("the output is -: give the name of a file; standard output has the messages of the command")
    if output.is_file() and (any(output.samefile(path) for path in inputs) or _is_standard_input(output)):
        raise ValueError(f"{output} is an input, which would be overwritten: give the output another name")


def _is_standard_input(path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdin.fileno()))
    except (AttributeError, OSError, ValueError):
        return False  # closed, or not a file


def load(model: str, use_gpu: int = -1, code: Path | None = None, silent: bool = False) -> Language:
    """Load a trained pipeline. Exits with a message if there is none.

    silent: whether not to print the device on which it runs.
    """
    setup_gpu(use_gpu, silent=silent)
    import_code(code)
    try:
        return load_model(model)
    except (OSError, ModuleNotFoundError) as error:
        from ..bulk.models import no_pipeline

        if isinstance(error, ModuleNotFoundError) and error.name != model:
            raise  # a package that the pipeline needs
        fail(no_pipeline(model), error)
    except ValueError as error:
        fail(f"Cannot load {model}", error)


def setters(nlp: Language, layers: Iterable[str]) -> list[str]:
    """Names of the components that set layers of annotation, except components that only set sentences."""
    return sorted({name for layer in layers if layer in ASSIGNED for name in assigning(nlp, ASSIGNED[layer])})


def finds_entities(nlp: Language) -> bool:
    """Whether a component declares that it sets entities or spans."""
    return bool(assigning(nlp, "doc.ents") or assigning(nlp, "doc.spans"))


def choose_copied(
    nlp: Language, gold_entities: bool | None, gold_trees: bool = False, *, finds_relations: bool
) -> list[str]:
    """Gold annotation to copy, see `predict_corpus`. Exits with a message for an option that does not fit the pipeline.

    gold_entities: None to copy entities if no component finds any.
    """
    if gold_entities and not finds_relations:
        msg.fail("--gold-entities is for pipelines that find relations; this one finds none", exits=1)
    if gold_entities is None and finds_relations and not finds_entities(nlp):
        msg.warn("No component of this pipeline finds entities: relations are scored between gold entities")
        gold_entities = True
    if not gold_entities:
        return ["heads"] if gold_trees else []
    # Trees have sentences.
    return ["ents", "spans", "heads"] if gold_trees else GOLD_ENTITIES


def pipeline_labels(nlp: Language) -> "Labels":
    """All labels of entities and spans, and of relations, that the components of a pipeline can set."""
    from ..formats.writers.content import Labels

    return Labels(labels_of(nlp, "doc.ents", "doc.spans"), labels_of(nlp, "doc._.relations"))


def warn_of_no_comparison(corpus: Path, examples: Sequence[Example]) -> None:
    """Warn that the corpus has none of the annotation that the pipeline predicts."""
    gold = describe_layers(eg.reference for eg in examples)
    predicted = describe_layers(eg.predicted for eg in examples)
    msg.warn(f"{corpus}: nothing to compare. Corpus: {gold}. Predictions: {predicted}.")


def report_misaligned(nlp: Language, examples: Iterable[Example]) -> None:
    """Print how many gold entities and spans in the layers that a pipeline sets do not align with its tokens."""
    has_ents, has_spans = (bool(assigning(nlp, layer)) for layer in ("doc.ents", "doc.spans"))
    found: list[tuple[Example, Span]] = []
    for eg in examples:
        gold = list(eg.reference.ents) if has_ents else []
        for key in eg.predicted.spans if has_spans else ():
            gold += eg.reference.spans.get(key, ())
        found += [(eg, span) for span in find_misaligned(eg, list(dict.fromkeys(gold)))]
    if found:
        wordings = ", ".join(describe_misaligned(eg, span) for eg, span in found[:3])
        msg.warn(
            f"{len(found)} gold entities or spans cannot be found, since they do not align with the tokens of the "
            f"pipeline, such as {wordings}. They count as missed"
        )


def report_left_out(left_out: Mapping[str, "LeftOut"]) -> None:
    """Print how many predictions are left out of the scores of each layer, since the gold annotation is partial."""
    for layer, found in left_out.items():
        msg.warn(
            f"{len(found.predictions)} predictions in {layer} are left out of the scores, since they touch tokens "
            f"without gold annotation ({found.unannotated} of {found.tokens} tokens), such as "
            f"{', '.join(map(describe_span, found.predictions[:3]))}"
        )


def describe_misaligned(eg: Example, span: Span) -> str:
    """Describe a gold span that does not align with the predicted tokens, and the difference if the texts are equal."""
    from ..formats.texts import describe_misalignment

    text = eg.predicted.text
    if text != eg.reference.text:
        return describe_span(span)
    return describe_misalignment(eg.predicted, text, span.start_char, span.end_char, span.label_)


def with_tokens(docs: Iterable[Doc]) -> list[int]:
    """Numbers of the documents that are not empty. spaCy's reader leaves out empty ones."""
    return [number for number, doc in enumerate(docs) if len(doc)]


def predict_corpus(nlp: Language, corpus: Path, copied: list[str], gold_preproc: bool = False) -> list[Example]:
    """Predict a corpus. Returns its examples with the predictions of a pipeline.

    copied: gold annotation to copy to the documents, see spacy_ner_arch.Corpus.v1. Its `setters` do not run. Components
        that only set sentences keep the copied sentences.
    gold_preproc: predict on gold sentences and tokens.
    """
    from ..training.corpus import create_corpus

    with naming_long_texts([corpus]):
        examples = list(create_corpus(corpus, copy=copied, gold_preproc=gold_preproc)(nlp))
    if "heads" in copied and not any(eg.reference.has_annotation("DEP") for eg in examples):
        msg.fail(f"--gold-trees: {corpus} has no dependency trees", exits=1)
    # nlp.evaluate does not return its predictions.
    with nlp.select_pipes(disable=setters(nlp, copied)):
        for example, doc in zip(examples, nlp.pipe(example.predicted for example in examples), strict=True):
            example.predicted = doc
    return examples
