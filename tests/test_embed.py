"""Vectors of words, features and characters, and the vector of unknown words."""

import numpy as np
import pytest
import spacy
import torch
from conftest import entities, make_examples, train
from spacy.attrs import LOWER
from spacy.tokens import Doc
from spacy.vectors import Vectors
from spacy.vocab import Vocab
from thinc.api import get_current_ops

from spacy_ner_arch.architectures.embeddings import word_char_embed
from spacy_ner_arch.bridge.word_embedding import MAX_CHARACTERS, character_codes, static_vectors, token_arrays
from spacy_ner_arch.nn.embed import (
    CHARACTER_ROWS,
    CharacterCNN,
    HashEmbedding,
    WordCounts,
    WordEmbedding,
    hash_rows,
    unit_embedding,
)

SIZES = {
    "word_width": 6,
    "word_rows": 50,
    "features": 1,
    "feature_width": 4,
    "feature_rows": 20,
    "character_width": 5,
    "filters": 3,
}


def keys(n, seed=0):
    """Keys as spaCy makes them: random 64-bit numbers, and the small numbers of built-in symbols."""
    generator = np.random.default_rng(seed)
    large = generator.integers(0, 2**64 - 1, size=n, dtype=np.uint64).astype(np.int64)
    return torch.from_numpy(np.concatenate([large, np.arange(1, 100)]))


def test_hashed_rows_are_spread_evenly():
    rows = hash_rows(keys(20_000), 100, 4)
    assert rows.shape == (20_099, 4) and rows.min() >= 0 and rows.max() < 100
    for column in rows.t():
        counts = torch.bincount(column, minlength=100)
        assert counts.min() > 120 and counts.max() < 300
    agreeing = (rows[:, 0] == rows[:, 1]).float().mean()
    assert 0.005 < agreeing < 0.015, "the hashes of a key are independent"


@pytest.mark.parametrize("width", [8, 50])
def test_unit_embedding(width):
    lengths = unit_embedding(500, width).weight.norm(dim=1)
    assert 0.95 < lengths.mean() < 1.05 and lengths.max() < 2


def test_hash_embedding_separates_keys():
    embed, some = HashEmbedding(8, 1000), keys(500)
    vectors = embed(some)
    assert torch.equal(vectors[:3], embed(some[:3]))
    assert len(torch.unique(vectors, dim=0)) > 590


def test_counts_are_never_too_low_and_rarely_too_high():
    counts, words = WordCounts(), keys(20_000)
    assert (counts(words) == 0).all()
    for repeat in range(3):
        counts.add(words[: 10_000 >> repeat])
    expected = torch.zeros(len(words), dtype=torch.int32)
    for repeat in range(3):
        expected[: 10_000 >> repeat] += 1
    assert (counts(words) >= expected).all()
    assert (counts(words) > expected).float().mean() < 0.01
    assert counts.total == 17_500


def test_repeated_words_of_a_batch_are_all_counted():
    counts, word = WordCounts(), torch.tensor([7])
    counts.add(word.repeat(5))
    assert counts(word) == 5


def test_character_cnn_equals_a_loop_and_ignores_padding():
    torch.manual_seed(0)
    cnn = CharacterCNN(30, 4, 5)
    words = torch.tensor([[3, 4, 5, 6, 0, 0], [7, 0, 0, 0, 0, 0]])
    for row, length in zip(words, (4, 1), strict=True):
        letters = cnn.table(row[:length])
        padded = torch.cat([torch.zeros(1, 4), letters, torch.zeros(1, 4)])
        responses = [
            sum(cnn.convolution.weight[:, :, k] @ padded[i + k] for k in range(3)) + cnn.convolution.bias
            for i in range(length)
        ]
        expected = torch.stack(responses).amax(0).relu()
        assert torch.allclose(cnn(words)[words.tolist().index(row.tolist())], expected, atol=1e-6)
    assert torch.allclose(cnn(words[1:]), cnn(words[1:, :1]))


def run(module, words):
    columns = torch.stack([words, words], dim=1)
    characters = torch.full((1, 2), 5)
    return module(columns, characters, torch.zeros(len(words), dtype=torch.long), torch.zeros(len(words), 0))


def test_unseen_words_share_one_vector():
    module = WordEmbedding(**SIZES, unknown_rate=0.0)
    module.words.unknown.data.fill_(9.0)
    known, unseen = keys(5)[:5], keys(5, seed=1)[:5]
    run(module.train(), known)
    out = run(module.eval(), torch.cat([known, unseen]))
    assert (out[:5, :6] != 9.0).any() and (out[5:, :6] == 9.0).all()
    assert len(torch.unique(out[5:, 6:10], dim=0)) > 1, "features of unseen words still differ"


def test_rare_words_become_unknown_with_the_documented_probability():
    torch.manual_seed(0)
    module = WordEmbedding(**SIZES, unknown_rate=2.0).train()
    module.words.unknown.data.fill_(9.0)
    rare, frequent = torch.tensor([11]), torch.tensor([12])
    module.words.seen.add(torch.cat([rare, frequent.repeat(999)]))  # 100 and 99,900 in 100,000
    module.words.seen.add = lambda words: None
    dropped = (run(module, rare.repeat(20_000))[:, 0] == 9.0).float().mean()
    assert abs(dropped - 2 / 102) < 0.004
    assert (run(module, frequent.repeat(20_000))[:, 0] == 9.0).float().mean() < 0.001


def test_the_unknown_vector_is_trained():
    module = WordEmbedding(**SIZES, unknown_rate=1e9).train()
    run(module, keys(20)).sum().backward()
    assert (module.words.unknown.grad != 0).all()


def test_token_arrays():
    nlp = spacy.blank("en")
    docs = [Doc(nlp.vocab, words=["Anna", "saw", "Anna"]), Doc(nlp.vocab), Doc(nlp.vocab, words=["ü"])]
    columns, characters, which = token_arrays(docs, [spacy.attrs.NORM, spacy.attrs.SHAPE])
    assert columns.shape == (4, 2) and characters.shape == (3, 4)
    assert [characters[i].tolist() for i in which] == [
        [*map(ord, "Anna")],
        [*map(ord, "saw"), 0],
        [*map(ord, "Anna")],
        [ord("ü"), 0, 0, 0],
    ]
    assert columns[0].tolist() == columns[2].tolist() != columns[1].tolist()


def test_character_codes_fit_into_the_table():
    assert len(character_codes("x" * 1000)) == MAX_CHARACTERS
    assert character_codes("a" * 500 + "b" * 500)[:: MAX_CHARACTERS - 1] == [ord("a"), ord("b")]
    for text in ["नमस्ते", "東京都", "\U0001f9ff", "\x00", "\x07"]:
        assert all(0 < code < CHARACTER_ROWS for code in character_codes(text))
    assert len(set(map(tuple, map(character_codes, ["東", "京", "都"])))) == 3


def with_vectors(width=7):
    nlp = spacy.blank("en")
    for word in ["Anna", "Tarvik"]:
        nlp.vocab.set_vector(word, np.full(width, len(word), dtype="f"))
    return nlp


def test_static_vectors_are_appended_unchanged():
    nlp = with_vectors()
    model = word_char_embed(include_static_vectors=True, filters=0)
    docs = [Doc(nlp.vocab, words=["Anna", "unheard-of", "Tarvik"])]
    model.initialize(X=docs)
    (out,) = model.predict(docs)
    assert out.shape == (3, model.get_dim("nO")) and model.get_dim("nO") == 100 + 3 * 32 + 7
    assert out[:, -7:].tolist() == [[4.0] * 7, [0.0] * 7, [6.0] * 7]


def test_words_without_a_static_vector_have_zeros():
    """The table has no spare row. Words are looked up by the attribute of the table."""
    nlp = spacy.blank("en")
    data = np.arange(1, 7, dtype="f").reshape(2, 3)
    docs = [Doc(nlp.vocab, words=["Anna", "unheard-of", "Tarvik", "Anna", "anna"])]
    for attr, words, last in (("ORTH", ["Tarvik", "Anna"], [0, 0, 0]), ("LOWER", ["tarvik", "anna"], [4, 5, 6])):
        nlp.vocab.vectors = Vectors(strings=nlp.vocab.strings, data=data, keys=words, attr=attr)
        found = static_vectors(docs, 3, torch.device("cpu")).tolist()
        assert found == [[4, 5, 6], [0, 0, 0], [1, 2, 3], [4, 5, 6], last]


def test_documents_of_another_vocabulary():
    """Same result alone and in a batch; words keep their characters, and vectors are those of their own vocabulary."""
    nlp, other = with_vectors(), with_vectors()
    other.vocab.set_vector("Zorblax", np.full(7, 1, dtype="f"))
    docs = [
        Doc(nlp.vocab, words=["Anna", "left"]),
        Doc(Vocab(), words=["Zorblax", "Anna"]),
        Doc(other.vocab, words=["Zorblax", "Anna"]),
        Doc(nlp.vocab, words=["Tarvik"]),
    ]
    model = word_char_embed(include_static_vectors=True)
    model.initialize(X=docs[:1])
    with pytest.warns(UserWarning, match="the Vocab of the document 'Zorblax Anna .* has no vectors"):
        together = model.predict(docs)
        alone = [model.predict([doc])[0] for doc in docs]
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(together, alone, strict=True))
    assert [rows[:, -1].tolist() for rows in together] == [[4, 0], [0, 0], [1, 4], [6]]
    _, characters, which = token_arrays(docs, [LOWER])
    assert characters[which[2]].tolist()[:7] == character_codes("Zorblax")
    narrow = with_vectors(width=5)
    with pytest.raises(ValueError, match="has vectors of width 5, but the model was trained with width 7"):
        model.predict([Doc(narrow.vocab, words=["Anna"])])


def test_static_vectors_alone(tmp_path):
    """The embedding has no trainable weight."""
    nlp = with_vectors()
    embedding = {
        "@architectures": "spacy_ner_arch.WordCharEmbed.v1",
        "word_width": 0,
        "features": [],
        "filters": 0,
        "include_static_vectors": True,
    }
    nlp.add_pipe("sequence_ner", config={"model": {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": embedding}})
    examples = make_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    first = nlp.update(examples, sgd=optimizer)["sequence_ner"]
    assert nlp.update(examples, sgd=optimizer)["sequence_ner"] < first


def test_missing_static_vectors_are_a_clear_error():
    with pytest.raises(ValueError, match="include_static_vectors is set but the pipeline has no vectors"):
        word_char_embed(include_static_vectors=True).initialize(X=[spacy.blank("en")("a")])


def test_unknown_attributes_are_a_clear_error():
    with pytest.raises(ValueError, match=r"no such attributes in spaCy: \['FOO'\]"):
        word_char_embed(features=["SHAPE", "FOO"])


def test_pipeline_with_static_vectors_loads_from_disk(tmp_path):
    nlp = with_vectors()
    embedding = {
        "@architectures": "spacy_ner_arch.WordCharEmbed.v1",
        "include_static_vectors": True,
        "unknown_rate": 0.0,
    }
    nlp.add_pipe("sequence_ner", config={"model": {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": embedding}})
    examples = make_examples(nlp)
    train(nlp, examples, steps=30)
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    for eg in examples:
        doc = loaded(Doc(loaded.vocab, words=[token.text for token in eg.reference]))
        assert entities(doc) == entities(eg.reference)


def test_only_training_counts_words():
    nlp = spacy.blank("en")
    model = word_char_embed()
    docs = [nlp("Anna saw Tarvik"), nlp("")]
    model.initialize(X=docs)
    model.predict(docs)
    seen = model.shims[0].module.words.seen
    assert seen.total == 0
    vectors, backprop = model.begin_update(docs)
    assert seen.total == 3
    assert backprop([get_current_ops().alloc2f(*v.shape) + 1 for v in vectors]) == []
    assert model.shims[0].module.characters.table.weight.grad.abs().sum() > 0
