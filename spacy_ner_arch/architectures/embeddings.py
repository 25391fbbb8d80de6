"""Registered embeddings: Docs to one vector per token."""

from spacy.attrs import intify_attr
from spacy.util import registry

from ..bridge.rows import Tok2Vec
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
    vector_attrs: list[str] = ["ORTH", "LOWER"],  # noqa: B006 - config defaults are lists
    tune_vectors: bool = False,
    dropout: float | None = 0.0,
    vector_dropout: float | None = 0.0,
) -> Tok2Vec:
    """Embed words, some of their attributes, and their characters, with a vector for words not seen in training.

    word_width, word_rows: width and rows of the hashed table of words; width 0 for none.
    word_attr: token attribute that identifies a word, for example NORM, LOWER or ORTH.
    features: further token attributes, each with a hashed table of `feature_rows` rows, `feature_width` wide.
    character_width, filters: width of a character, and filters of the CNN over them; 0 filters for none.
    unknown_rate: in training, a word that occurs n times in 100,000 is replaced by the unknown word with probability
        unknown_rate / (unknown_rate + n).
    include_static_vectors: append the vectors of [initialize] vectors.
    vector_attrs: token attributes to look up a vector by; the first attribute with a vector counts. By default the word
        is looked up as written, then in lower case. Floret vectors have all words and ignore this.
    tune_vectors: fine-tune the vectors of the words of the training data. The learned changes of the vectors are in a
        hashed table of `word_rows` rows; words not seen in training share one change.
    dropout: rate on everything except the vectors; null for the rate of [training]. An encoder adds its own dropout,
        which can be switched off there.
    vector_dropout: the same for the vectors of include_static_vectors. They need less dropout than learned parameters.

    Raises ValueError for an unknown attribute, a width below 1 of features or characters that are used, a negative
    unknown_rate, and tune_vectors without vectors.
    Source: Ma and Hovy 2016; replacement of rare words: Kiperwasser and Goldberg 2016.
    """
    if include_static_vectors and not vector_attrs:
        raise ValueError('spacy_ner_arch.WordCharEmbed.v1: vector_attrs is empty; give ["ORTH", "LOWER"], for example')
    if tune_vectors and not include_static_vectors:
        raise ValueError("spacy_ner_arch.WordCharEmbed.v1: tune_vectors = true needs include_static_vectors = true")
    if features and feature_width < 1:
        raise ValueError(
            f"spacy_ner_arch.WordCharEmbed.v1: feature_width = {feature_width} must be at least 1; for no features set "
            "features = []"
        )
    if filters and character_width < 1:
        raise ValueError(
            f"spacy_ner_arch.WordCharEmbed.v1: character_width = {character_width} must be at least 1; for no "
            "characters set filters = 0"
        )
    if unknown_rate < 0:
        raise ValueError(f"spacy_ner_arch.WordCharEmbed.v1: unknown_rate = {unknown_rate} must not be negative")
    return word_embedding(
        attribute_numbers([word_attr, *features]),
        attribute_numbers(vector_attrs) if include_static_vectors else [],
        word_width=word_width,
        word_rows=word_rows,
        feature_width=feature_width,
        feature_rows=feature_rows,
        character_width=character_width,
        filters=filters,
        unknown_rate=unknown_rate,
        tune_vectors=tune_vectors,
        dropout_rate=dropout,
        vector_dropout=vector_dropout,
    )


def attribute_numbers(names: list[str]) -> list[int]:
    """spaCy's numbers of token attributes, without duplicates. Raises ValueError for unknown names."""
    numbers = {name: intify_attr(name) for name in names}
    unknown = [name for name, number in numbers.items() if number is None]
    if unknown:
        raise ValueError(f"spacy_ner_arch.WordCharEmbed.v1: unknown attributes {unknown}; use those of spacy.attrs")
    return list(numbers.values())
