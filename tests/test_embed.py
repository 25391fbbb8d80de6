"""Vectors of words, features and characters, and the vector of unknown words."""

import warnings

import numpy as np
import pytest
import spacy
import torch
from conftest import entities, make_examples, train
from spacy.attrs import LOWER, NORM, ORTH
from spacy.tokens import Doc
from spacy.vectors import Vectors
from spacy.vocab import Vocab
from thinc.api import Adam, get_current_ops

from spacy_ner_arch.architectures.embeddings import word_char_embed
from spacy_ner_arch.bridge.word_embedding import MAX_CHARACTERS, character_codes, static_vectors, token_arrays
from spacy_ner_arch.nn import embed
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
    columns, characters, which = token_arrays(docs, [spacy.attrs.NORM, spacy.attrs.SHAPE], has_characters=True)
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


def table(nlp, words, attr="ORTH"):
    """Vectors (3k + 1, 3k + 2, 3k + 3) of the words k = 0, 1, ..."""
    data = np.arange(1, 3 * len(words) + 1, dtype="f").reshape(-1, 3)
    return Vectors(strings=nlp.vocab.strings, data=data, keys=words, attr=attr)


@pytest.mark.parametrize(
    "attributes, keys, expected",
    [
        ([ORTH], ["Tarvik", "Anna"], [4, 0, 1, 4, 0]),
        ([ORTH], ["tarvik", "anna"], [0, 0, 0, 0, 4]),
        ([LOWER], ["tarvik", "anna"], [4, 0, 1, 4, 4]),
        ([ORTH, LOWER], ["tarvik", "anna"], [4, 0, 1, 4, 4]),
        ([ORTH, LOWER], ["Tarvik", "Anna"], [4, 0, 1, 4, 0]),
        ([ORTH, LOWER], ["anna", "Anna"], [4, 0, 0, 4, 1]),
        ([LOWER, ORTH], ["anna", "Anna"], [1, 0, 0, 1, 1]),
    ],
)
def test_words_are_looked_up_by_the_first_attribute_that_the_vectors_have(attributes, keys, expected):
    """Words without a vector have zeros. The table has no spare row."""
    nlp = spacy.blank("en")
    nlp.vocab.vectors = table(nlp, keys)
    docs = [Doc(nlp.vocab, words=["Anna", "unheard-of", "Tarvik"]), Doc(nlp.vocab, words=["Anna", "anna"])]
    found = static_vectors(docs, 3, attributes, torch.device("cpu"))
    assert found.tolist() == [[x, x + 1, x + 2] if x else [0, 0, 0] for x in expected]


def test_words_are_looked_up_composed():
    """Texts from macOS have `ü` as two code points, and Python gives the lower case of `İ` a dot of its own."""
    nlp = spacy.blank("tr")
    nlp.vocab.vectors = table(nlp, ["jürgen", "istanbul"])
    words = ["Ju\u0308rgen", "Jürgen", "İstanbul", "I\u0307stanbul", "Jurgen"]
    found = static_vectors([Doc(nlp.vocab, words=words)], 3, [ORTH, LOWER], torch.device("cpu"))
    assert found[:, 0].tolist() == [1, 1, 4, 4, 0]


def test_lower_case_vectors_reach_words_with_capitals_from_disk(tmp_path):
    """spaCy does not store the attribute of a table (3.8), so `spacy init vectors --attr LOWER` is lost on disk."""
    nlp = spacy.blank("en")
    nlp.vocab.vectors = table(nlp, ["tarvik", "anna"], attr="LOWER")
    model = word_char_embed(include_static_vectors=True)
    doc = Doc(nlp.vocab, words=["Anna", "saw", "TARVIK", "anna"])
    model.initialize(X=[doc])
    nlp.to_disk(tmp_path)
    stored = spacy.load(tmp_path)
    for vocab in (nlp.vocab, stored.vocab):
        (out,) = model.predict([Doc(vocab, words=[token.text for token in doc])])
        assert out[:, -3:].tolist() == [[4, 5, 6], [0, 0, 0], [1, 2, 3], [4, 5, 6]]


def test_few_words_with_a_vector_are_a_warning():
    nlp = spacy.blank("en")
    nlp.vocab.vectors = table(nlp, ["anna", "saw"])
    docs = [Doc(nlp.vocab, words=["Anna", "saw", "Tarvik"]), Doc(nlp.vocab, words=["Zorblax", "Tarvik"])]
    with pytest.warns(UserWarning, match=r"3 of the 5 tokens .* have no vector, for example 'Tarvik', 'Zorblax'"):
        word_char_embed(include_static_vectors=True).initialize(X=docs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        word_char_embed(include_static_vectors=True).initialize(X=docs[:1])


def test_tuned_vectors_are_the_vectors_and_a_learned_change():
    """Words not seen in training share one change, which is trained like that of the words that are seen."""
    nlp = with_vectors()
    model = word_char_embed(
        include_static_vectors=True, tune_vectors=True, word_width=0, features=[], filters=0, unknown_rate=0.0
    )
    seen, unseen = (Doc(nlp.vocab, words=words) for words in (["Anna", "left"], ["Tarvik", "unheard-of"]))
    model.initialize(X=[seen])
    assert model.get_dim("nO") == 7
    changes = model.shims[0].module.changes
    changes.unknown.data.fill_(0.5)
    model.begin_update([seen])
    (out,) = model.predict([seen])
    keys = torch.from_numpy(seen.to_array([NORM]).astype(np.int64))
    expected = changes.known(keys) + torch.tensor([[4.0], [0.0]])
    assert np.allclose(out, expected.detach().numpy(), atol=1e-6)
    assert model.predict([unseen])[0].tolist() == [[6.5] * 7, [0.5] * 7]


@pytest.mark.parametrize("dropout, vector_dropout", [(0.0, 0.0), (0.0, 0.9), (0.9, 0.0), (None, 0.0), (0.0, None)])
def test_dropout_of_vectors_and_of_the_rest(dropout, vector_dropout):
    """null is the rate of [training], here 0.9. Prediction drops nothing."""
    nlp = with_vectors()
    model = word_char_embed(include_static_vectors=True, dropout=dropout, vector_dropout=vector_dropout, unknown_rate=0)
    doc = Doc(nlp.vocab, words=["Anna"] * 50)
    model.initialize(X=[doc])
    model.attrs["dropout_rate"] = 0.9
    (trained,), _ = model.begin_update([doc])
    (predicted,) = model.predict([doc])
    for rate, part in ((dropout, slice(0, -7)), (vector_dropout, slice(-7, None))):
        changed = not np.allclose(trained[:, part], predicted[:, part], atol=1e-5)
        assert changed == (rate != 0), (part, rate)
    kept = trained[:, -7:] != 0
    assert kept.all() if vector_dropout == 0 else 0.02 < kept.mean() < 0.25
    assert (predicted[:, -7:] == 4).all()


@pytest.mark.parametrize("tune_vectors", [False, True])
def test_what_training_changes_of_vectors(tune_vectors):
    nlp = with_vectors()
    model = word_char_embed(include_static_vectors=True, tune_vectors=tune_vectors, unknown_rate=0.0)
    doc = Doc(nlp.vocab, words=["Anna", "Tarvik"])
    model.initialize(X=[doc])
    before = model.predict([doc])[0][:, -7:]
    optimizer = Adam(0.1)
    for _ in range(3):
        (vectors,), backprop = model.begin_update([doc])
        backprop([get_current_ops().alloc2f(*vectors.shape) + 1])
        model.finish_update(optimizer)
    after = model.predict([doc])[0][:, -7:]
    assert (before != after).all() if tune_vectors else (before == after).all()
    assert nlp.vocab["Anna"].vector.tolist() == [4.0] * 7, "the vectors of the vocabulary stay the same"


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
    with pytest.warns(UserWarning, match=r"'Zorblax Anna .* has no vectors.* set \[initialize\] vectors"):
        together = model.predict(docs)
        alone = [model.predict([doc])[0] for doc in docs]
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(together, alone, strict=True))
    assert [rows[:, -1].tolist() for rows in together] == [[4, 0], [0, 0], [1, 4], [6]]
    _, characters, which = token_arrays(docs, [LOWER], has_characters=True)
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


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"features": ["SHAPE", "FOO"]}, r"unknown attributes \['FOO'\]"),
        ({"include_static_vectors": True, "vector_attrs": ["ORTH", "FOO"]}, r"unknown attributes \['FOO'\]"),
        ({"include_static_vectors": True, "vector_attrs": []}, "vector_attrs is empty"),
        ({"tune_vectors": True}, "tune_vectors = true needs include_static_vectors = true"),
        ({"feature_width": 0}, r"feature_width = 0 must be at least 1; for no features set features = \[\]"),
        ({"unknown_rate": -1.0}, "unknown_rate = -1.0 must not be negative"),
        ({"character_width": 0}, "character_width = 0 must be at least 1; for no characters set filters = 0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        word_char_embed(**settings)


@pytest.mark.parametrize("tune_vectors", [False, True])
def test_pipeline_with_static_vectors_loads_from_disk(tmp_path, tune_vectors):
    nlp = with_vectors()
    embedding = {
        "@architectures": "spacy_ner_arch.WordCharEmbed.v1",
        "include_static_vectors": True,
        "tune_vectors": tune_vectors,
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


@pytest.mark.parametrize("window", [1, 3, 5])
def test_few_words_are_convolved_as_a_product(window, monkeypatch):
    torch.manual_seed(0)
    cnn = CharacterCNN(50, 8, 12, window)
    characters = torch.randint(1, 50, (6, 9)) * (torch.arange(9) < torch.tensor([[9], [1], [4], [7], [2], [0]]))
    with torch.no_grad():
        few = cnn(characters)
        monkeypatch.setattr(embed, "FEW_WORDS", 0)
        assert torch.allclose(few, cnn(characters), atol=1e-6)


def test_rows_are_hashed_the_same_without_numpy():
    numbers = keys(500)
    mixed = [(((numbers * mixer) >> 31) & 0xFFFFFFFF) % 77 for mixer in embed.MIXERS]
    assert torch.equal(hash_rows(numbers, 77, 4), torch.stack(mixed, dim=-1))
