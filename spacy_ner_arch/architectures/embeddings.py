"""Registered embeddings: Docs to one vector per token."""

from spacy.attrs import intify_attr
from spacy.util import registry

from ..bridge.head import Tok2Vec
from ..bridge.word_embedding import word_embedding


@registry.architectures("spacy_ner_arch.WordCharEmbed.v1")
def word_char_embed(
    word_width: int = 100,
    word_rows: int = 20_000,
    features: list[str] = ["SHAPE", "PREFIX", "SUFFIX"],  # noqa: B006 - config defaults are lists
    feature_width: int = 32,
    feature_rows: int = 4_000,
    character_width: int = 30,
    filters: int = 64,
    unknown_rate: float = 1.0,
    word_attr: str = "NORM",
    include_static_vectors: bool = False,
) -> Tok2Vec:
    """Embed words, some of their attributes, and their characters, with a vector for words not seen in training.

    word_width, word_rows: width and rows of the hashed table of words; width 0 for none.
    word_attr: token attribute that identifies a word, for example NORM, LOWER or ORTH.
    features: further token attributes, each with a hashed table of `feature_rows` rows, `feature_width` wide.
    character_width, filters: width of a character, and filters of the CNN over them; 0 filters for none.
    unknown_rate: in training, a word that occurs n times in 100,000 is replaced by the unknown word with probability
        unknown_rate / (unknown_rate + n).
    include_static_vectors: append the vectors of [initialize] vectors, without training them.

    Raises ValueError for an unknown attribute.
    Source: Ma and Hovy 2016; replacement of rare words: Kiperwasser and Goldberg 2016.
    """
    attributes = {name: intify_attr(name) for name in (word_attr, *features)}
    unknown = [name for name, attribute in attributes.items() if attribute is None]
    if unknown:
        raise ValueError(f"spacy_ner_arch.WordCharEmbed.v1: tokens have no such attributes in spaCy: {unknown}")
    return word_embedding(
        list(attributes.values()),
        include_static_vectors,
        word_width=word_width,
        word_rows=word_rows,
        feature_width=feature_width,
        feature_rows=feature_rows,
        character_width=character_width,
        filters=filters,
        unknown_rate=unknown_rate,
    )
