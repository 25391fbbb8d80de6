"""Checks of the input of a component from earlier components: shared vectors, trees, sentences, entities."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Model

from ..annotation.candidates import SENTENCE_REMEDY
from ..annotation.describe import quote
from ..annotation.doc_vectors import tok2vec_vectors, transformer_data
from ..annotation.layers import assigning, layers_set, spans_layer

SENTENCES = "token.is_sent_start"


class Vectors(NamedTuple):
    """Where a shared encoder keeps its vectors.

    place: attribute that holds the vectors, as in the `assigns` of a component.
    on: function that returns the vectors on a document; None if there are none.
    """

    place: str
    on: Callable[[Doc], Any]


# By the name of the node that listens.
VECTORS = {
    "transformer-listener": Vectors("doc._.trf_data", transformer_data),
    "tok2vec-listener": Vectors("doc.tensor", tok2vec_vectors),
}


def check_vectors(pipe: Any, docs: Sequence[Doc]) -> None:
    """Raise ValueError for documents without the vectors that a component listens to.

    The listener itself would use zeros, since spaCy runs models at initialization, on documents without vectors.

    pipe: a component of this package (pipes.base.TorchPipe).
    """
    for node in pipe.model.walk():
        vectors = VECTORS.get(node.name)
        if vectors is not None and any(vectors.on(doc) is None for doc in docs if len(doc)):
            upstream = getattr(node, "upstream_name", "*")
            name = node.name.removesuffix("-listener") if upstream == "*" else upstream
            # An exported model has no head; its config contains the original under `model`.
            is_exported = pipe.shim.is_initialized and pipe.head is None
            again = " in the original, and export it again" if is_exported else ""
            path = listener_path(pipe.model)
            raise ValueError(
                f"{pipe.name} listens to the component {name!r}, which has not set vectors on the documents. Keep "
                f"{name!r} in the pipeline before {pipe.name} (load without exclude and disable), and in training put "
                f"it into annotating_components before {pipe.name}; or give {pipe.name} its own copy with "
                f'nlp.replace_listeners("{name}", "{pipe.name}", ["{path}"]){again}. In nlp.pipe on a '
                "GPU, pass each Doc object once: vector_cleaner may remove the vectors of a repeated Doc"
            )


def listener_path(model: Model) -> str:
    """Path in a component's config of the innermost tok2vec of its model, which contains the listener."""
    path = "model"
    inner = next((node for node in model.walk() if node.has_ref("tok2vec")), None)
    while inner is not None and inner.has_ref("tok2vec"):
        inner = inner.get_ref("tok2vec")
        path += ".tok2vec"
    return path


def check_encoders(pipe: TrainablePipe, nlp: Language) -> None:
    """Raise ValueError if the encoder to which a component listens is not initialized or has another width, or if a
    second encoder runs between them, which would replace the vectors of the first one.
    """
    earlier = [name for name, _ in before(nlp, pipe.name)]
    for node in pipe.model.walk():
        vectors = VECTORS.get(node.name)
        if vectors is None:
            continue
        encoders = [name for name in earlier if vectors.place in nlp.get_pipe_meta(name).assigns]
        upstream = getattr(node, "upstream_name", "*")
        used = encoders[-1:] if upstream == "*" else [name for name in encoders if name == upstream]
        if used and not is_initialized(getattr(nlp.get_pipe(used[0]), "model", None)):
            raise ValueError(
                f"{pipe.name} listens to {used[0]!r}, which is not initialized: spaCy does not initialize [training] "
                "frozen_components and disabled components. Source it from a trained pipeline, or enable it and remove "
                "it from frozen_components; to keep a pretrained transformer as it is, set frozen = true in "
                f"[components.{used[0]}.model]"
            )
        width, expected = node.maybe_get_dim("nO"), width_of(nlp.get_pipe(used[0])) if used else None
        if None not in (width, expected) and width != expected:
            raise ValueError(
                f"{pipe.name} listens to {used[0]!r} with width = {width}, but the vectors of {used[0]!r} are "
                f"{expected} wide: set width = {expected} in [components.{pipe.name}.{listener_path(pipe.model)}]"
            )
        if upstream in encoders[:-1]:
            raise ValueError(
                f"{pipe.name} listens to {upstream!r}, but {encoders[-1]!r} runs between them and replaces the "
                f"vectors ({vectors.place}): put {pipe.name!r} before {encoders[-1]!r} in [nlp] pipeline"
            )


def width_of(pipe: Any) -> int | None:
    """Width of the vectors of a component; None if it is not known."""
    model = getattr(pipe, "model", None)
    return model.maybe_get_dim("nO") if isinstance(model, Model) else None


def is_initialized(model: Any) -> bool:
    """Whether a model has all its parameters and all modules of its shims. True for anything but a thinc model."""
    nodes = list(model.walk()) if isinstance(model, Model) else []
    return all(
        all(node.has_param(name) for name in node.param_names) and all(shim._model is not None for shim in node.shims)
        for node in nodes
    )


def warn_of_order(pipe: TrainablePipe, nlp: Language, spans_key: str | None) -> None:
    """Warn if the entities that a component reads are set only by a later component.

    A component with an empty `assigns` declaration may set them.

    pipe: component that reads the entities.
    spans_key: group in doc.spans that they come from; None for doc.ents.
    """
    wanted = "doc.ents" if spans_key is None else spans_layer(spans_key)
    found = [(name, layers_set(other, nlp.get_pipe_meta(name).assigns)) for name, other in nlp.components]
    names = [name for name, _ in found]
    place = names.index(pipe.name) if pipe.name in names else len(names)
    if any(not layers or wanted in layers or (spans_key and "doc.spans" in layers) for _, layers in found[:place]):
        return
    for name, layers in found[place:]:
        if wanted in layers:
            warnings.warn(
                f"{pipe.name} is before {name!r} in the pipeline, which sets {wanted} only after it has run: put "
                f"{pipe.name!r} after {name!r} in [nlp] pipeline",
                stacklevel=4,
            )
            return


def setting_before(nlp: Language, name: str, layer: str) -> list[str]:
    """Names of the components before the component `name` that declare that they set a layer of annotation."""
    return [other for other, pipe in before(nlp, name) if layer in layers_set(pipe, nlp.get_pipe_meta(other).assigns)]


def find_sentencizer(nlp: Language, name: str) -> Callable[[Doc], Doc] | None:
    """The last component before the component `name` that sets sentences. None if there is none, or if it is
    trainable, such as a parser, and so may not be trained yet."""
    found = None
    # Include frozen components, which are disabled at initialization.
    for other, pipe in before(nlp, name):
        if SENTENCES in nlp.get_pipe_meta(other).assigns:
            found = None if isinstance(pipe, TrainablePipe) else pipe
    return found


def check_sentences(name: str, nlp: Language, docs: Iterable[Doc]) -> None:
    """Raise ValueError for a document without sentences if no component before the component `name` sets any.

    A component with an empty `assigns` declaration may set them.

    name: component that needs sentences.
    docs: predicted documents of the training corpus, as its reader makes them.
    """
    assigned = [nlp.get_pipe_meta(other).assigns for other, _ in before(nlp, name)]
    if any(not layers or SENTENCES in layers for layers in assigned):
        return
    for doc in docs:
        if not doc.has_annotation("SENT_START"):
            raise ValueError(
                f"{name}: its candidates are the pairs within a sentence, but no component before it sets sentences, "
                f"and the corpus has none for {quote(doc.text)}: {SENTENCE_REMEDY}"
            )


def before(nlp: Language, name: str) -> Iterator[tuple[str, Any]]:
    """Names and components before the component `name`, including disabled ones."""
    return takewhile(lambda item: item[0] != name, nlp.components)


def check_trees(get_examples: Callable[[], Iterable[Example]], nlp: Language) -> None:
    """Raise ValueError if an encoder reads the trees of a parser that is trained in this run, but the corpus has none.

    Such a parser makes every token a root, without an error. Frozen and resumed components are disabled here. If only
    one component is initialized, a trained parser is recognized by its labels: a new one has only spaCy's defaults.
    """
    readers = list(tree_readers(nlp))
    parsers = [
        name
        for name in assigning(nlp, "token.head")
        if not set(getattr(nlp.get_pipe(name), "labels", ())) - {"dep", "ROOT"}
    ]
    if readers and parsers and not any(eg.reference.has_annotation("DEP") for eg in get_examples()):
        raise ValueError(
            f"{readers[0]}: its encoder reads the dependency trees of {parsers[0]}, which is trained in this run, but "
            "no document of the training corpus has a tree. Convert the corpus with its trees (--format "
            "conllu), or use the parser of a trained pipeline (ner-arch init-config --encoder synlstm --trees "
            "en_core_web_sm), or an encoder without trees (--encoder bilstm)"
        )


def tree_readers(nlp: Language) -> dict[str, str]:
    """Names of the components whose encoder reads dependency trees, with the `missing` setting of `read_tree`."""
    models = {name: getattr(pipe, "model", None) for name, pipe in nlp.components}
    nodes = ((name, node) for name, model in models.items() if isinstance(model, Model) for node in model.walk())
    return {name: node.attrs["tree_settings"].missing for name, node in nodes if node.attrs.get("tree_settings")}
