"""`ner-arch export`: the same predictions without PyTorch."""

import pickle
import re
import sys

import numpy as np
import pytest
import spacy
import torch
from conftest import (
    LISTENERS,
    TRAIN,
    entities,
    make_examples,
    make_nlp,
    related_examples,
    run_in_line,
    train,
    transformer_nlp,
)
from spacy.tokens import Doc, DocBin, Span
from torch.utils._python_dispatch import TorchDispatchMode

from spacy_ner_arch.annotation.tags import tag_names
from spacy_ner_arch.bridge.word_embedding import token_arrays
from spacy_ner_arch.cli import export as export_module
from spacy_ner_arch.cli.export_comparison import compare
from spacy_ner_arch.nn.batch import make_batch
from spacy_ner_arch.nn.crf import LinearChainCRF
from spacy_ner_arch.nn.embed import WordEmbedding
from spacy_ner_arch.nn.lstm import BiLSTM
from spacy_ner_arch.nn.numpy_crf import NumpyCRF
from spacy_ner_arch.nn.numpy_embed import NumpyEmbedding, embedding_arrays

CPU = torch.device("cpu")
TEXTS = [text for text, _ in TRAIN]
LONG = " ".join(TEXTS * 6)


class NoTorch(TorchDispatchMode):
    """Fails at every operation of torch."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        raise AssertionError(f"torch was called: {function}")


def run(*args, **options):
    return run_in_line("export", *args, **options)


def exported(nlp, tmp_path, *args):
    """The pipeline after export and spacy.load."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    nlp.to_disk(tmp_path / "original")
    run(tmp_path / "original", tmp_path / "exported", *args)
    return spacy.load(tmp_path / "exported")


def make_docs(nlp):
    texts = [text.split() for text in [*TEXTS, "Tarvik", LONG]]
    white_space = [["\n", *TEXTS[0].replace(" ", " \n ").split(" ")], ["\n", "  "]]
    return [Doc(nlp.vocab, words=words) for words in [*texts, *white_space, []]]


def assert_same(doc, expected):
    """The same entities and spans, with probabilities within 1e-4."""
    assert entities(doc) == entities(expected)
    assert np.allclose([ent._.score for ent in doc.ents], [ent._.score for ent in expected.ents], atol=1e-4)
    assert doc.spans.keys() == expected.spans.keys()
    for key in expected.spans:
        spans = [[(s.start, s.end, s.label_) for s in one.spans[key]] for one in (doc, expected)]
        assert spans[0] == spans[1]
        scores = [one.spans[key].attrs.get("scores", []) for one in (doc, expected)]
        assert np.allclose(*scores, atol=1e-4)


# The mathematics in NumPy


@pytest.mark.parametrize("scheme", ["BILUO", "BIO"])
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_crf_is_that_of_torch(scheme, temperature, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)  # on a CPU, the CRF runs in NumPy
    names = tag_names(["PER", "LOC", "ORG"], scheme)
    crf = LinearChainCRF(len(names), batch_first=True, labels=names, scheme=scheme).double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    numpy_crf = NumpyCRF(crf.chain_parameters(torch.tensor(temperature).double()))
    for lengths in ([7, 0, 40, 1, 2], [6], [3] * 50):
        batch = make_batch(lengths, CPU)
        emissions = 3 * torch.randn(*batch.mask.shape, len(names), dtype=torch.float64)
        emissions[~batch.mask] = torch.nan
        expected = crf.predict(emissions, batch.mask, temperature)
        tags, terms = numpy_crf.predict(emissions.transpose(0, 1).numpy(), batch.lengths)
        mask = batch.mask.numpy()
        assert np.array_equal(tags[mask], expected[0].numpy()[mask])
        # Of what is impossible, only that it is: both have some very large number.
        possible = np.where(expected[1] > -1e20, expected[1], -np.inf)[mask]
        assert np.allclose(np.where(terms[mask] > -1e20, terms[mask], -np.inf), possible, atol=1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"word_width": 0, "filters": 0},
        {"features": 0},
        {"vector_width": 5},
        {"vector_width": 5, "tune_vectors": True},
        {"vector_width": 5, "tune_vectors": True, "word_width": 0},
    ],
)
def test_embedding_is_that_of_torch(settings):
    sizes = {"word_width": 6, "word_rows": 50, "features": 2, "feature_width": 4, "feature_rows": 20}
    module = WordEmbedding(**{**sizes, "character_width": 5, "filters": 3, "unknown_rate": 1.0, **settings})
    vocab = spacy.blank("en").vocab
    seen, docs = [[Doc(vocab, words=words.split())] for words in ("Anna left", "Anna x unseen 北京 counterclockwise")]
    attributes = [spacy.attrs.NORM, spacy.attrs.SHAPE, spacy.attrs.SUFFIX][: 1 + len(module.features)]
    vectors = torch.randn(5, settings.get("vector_width", 0))
    for part in (module.words, module.changes):
        if part is not None:
            torch.nn.init.normal_(part.unknown)
    has_characters = module.characters is not None
    module(*map(torch.from_numpy, token_arrays(seen, attributes, has_characters)), vectors[:2])  # counts the words
    arrays = token_arrays(docs, attributes, has_characters)
    with torch.no_grad():
        expected = module.eval()(*map(torch.from_numpy, arrays), vectors).numpy()
    embed = NumpyEmbedding(embedding_arrays(module))
    given = vectors.numpy() if vectors.shape[1] else None
    assert np.allclose(embed(*arrays, given), expected, atol=1e-6) and expected.shape[1] == module.output_size


def test_encoder_is_that_of_torch():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from spacy_ner_arch.bridge.onnx_graphs import encoder_graph
    from spacy_ner_arch.bridge.onnx_shim import make_session

    encoder = BiLSTM(5, hidden_size=4, depth=2).eval()
    output = torch.nn.Linear(8, 3)
    session = make_session(encoder_graph(encoder, output))
    for lengths in ([3, 9, 0, 1], [4, 4], [1]):
        batch = make_batch(lengths, CPU)
        x = torch.randn(*batch.mask.shape, 5)
        with torch.no_grad():
            expected = output(encoder(x, batch))[batch.mask].numpy()
        inputs = {"x": x.transpose(0, 1).numpy(), "lengths": batch.lengths.astype(np.int32)}
        states = session.run(None, inputs)[0]
        assert np.allclose(states.swapaxes(0, 1)[batch.mask.numpy()], expected, atol=1e-6)


# Pipelines

WORDS = {"@architectures": "spacy_ner_arch.WordCharEmbed.v1", "word_rows": 100, "feature_rows": 50, "filters": 8}
ENCODER = {"@architectures": "spacy_ner_arch.BiLSTM.v1", "hidden_size": 8}


def alone(factory, architecture, component=None, **settings):
    """component: settings of the component; the others are those of its model."""
    nlp = spacy.blank("en")
    model = {"@architectures": f"spacy_ner_arch.{architecture}.v1", "tok2vec": WORDS, "encoder": ENCODER, **settings}
    nlp.add_pipe(factory, config={"model": model, **(component or {})})
    return nlp


def shared(tiny_transformers):
    """An encoder that a tagger of this package and a component of spaCy listen to."""
    nlp = spacy.blank("en")
    model = {"@architectures": "spacy_ner_arch.TorchTok2Vec.v1", "tok2vec": WORDS, "encoder": ENCODER}
    nlp.add_pipe("tok2vec", config={"model": model})
    ours = {"@architectures": "spacy_ner_arch.Tok2VecListener.v1", "width": 16}
    nlp.add_pipe("sequence_ner", config={"model": {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": ours}})
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 16}
    nlp.add_pipe("spancat", config={"model": {"tok2vec": listener}, "spans_key": "spancat"})
    return nlp


def with_features(tiny_transformers):
    """Attributes of the word beside the vectors of the transformer, and all pieces instead of their mean."""
    nlp = transformer_nlp(tiny_transformers["bert"], pooling="first_last")
    nlp.remove_pipe("sequence_ner")
    features = {**WORDS, "word_width": 0, "filters": 0, "unknown_rate": 0.0}
    model = {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": {**LISTENERS["ours"], "features": features}}
    nlp.add_pipe("sequence_ner", config={"model": {**model, "encoder": ENCODER}}, before="vector_cleaner")
    return nlp


PIPELINES = {
    "crf": lambda folders: alone("sequence_ner", "CRF"),
    "softmax, no encoder": lambda folders: alone("sequence_ner", "Softmax", encoder=None),
    "hash embedding of spaCy": lambda folders: make_nlp(alternatives=0.01),
    "spans": lambda folders: alone("span_ner", "Span"),
    "nested, no encoder": lambda folders: alone("nested_ner", "Span", encoder=None, attention=False),
    "nested, several labels": lambda folders: alone("nested_ner", "Span", {"multi_label": True}),
    "shared encoder": shared,
    "bert": lambda folders: transformer_nlp(folders["bert"]),
    "roberta": lambda folders: transformer_nlp(folders["roberta"], pooling="first"),
    "listener of spacy-transformers": lambda folders: transformer_nlp(folders["bert"], "stock"),
    "features": with_features,
}


FAST = {"crf", "spans", "bert"}


@pytest.mark.parametrize(
    "pipeline", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in PIPELINES]
)
def test_an_exported_pipeline_predicts_the_same_without_torch(pipeline, tiny_transformers, tmp_path):
    nlp = PIPELINES[pipeline](tiny_transformers)
    examples = make_examples(nlp)
    for eg in examples:
        for key in ("sc", "spancat"):
            eg.reference.spans[key] = list(eg.reference.ents)
    train(nlp, examples, steps=25)
    other = exported(nlp, tmp_path)
    with NoTorch():
        # The last one is empty: with listeners of spacy-transformers not even the original predicts it alone.
        alone = [other(doc) for doc in make_docs(other)[:-1]]
        together = list(other.pipe(make_docs(other)))
    assert sum(len(doc.ents) + sum(map(len, doc.spans.values())) for doc in together) > 10
    for expected, *docs in zip(nlp.pipe(make_docs(nlp)), [*alone, together[-1]], together, strict=True):
        for doc in docs:
            assert_same(doc, expected)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A trained pipeline, what was exported of it, their folder, and a corpus in it."""
    folder = tmp_path_factory.mktemp("export")
    nlp = alone("sequence_ner", "CRF")
    train(nlp, make_examples(nlp), steps=40)
    corpus = DocBin(docs=[eg.reference for eg in make_examples(nlp)])
    corpus.to_disk(folder / "corpus.spacy")
    return nlp, exported(nlp, folder), folder


def test_an_exported_pipeline_is_stored_copied_and_run_in_processes(pair, tmp_path):
    nlp, other, _ = pair
    assert not other(Doc(other.vocab)).ents
    assert len(other.get_pipe("sequence_ner").model.predict([other.make_doc(text) for text in TEXTS])) == len(TEXTS)
    other.to_disk(tmp_path / "again")
    processes = list(other.pipe(TEXTS * 2, n_process=2, batch_size=3))
    copies = [spacy.load(tmp_path / "again"), pickle.loads(pickle.dumps(other))]
    for text, in_process in zip(TEXTS, processes, strict=False):
        for doc in (in_process, *(copy(text) for copy in copies)):
            assert_same(doc, nlp(text))
            assert doc.ents or text == "Nothing happened ."


def test_what_an_exported_pipeline_cannot_do_is_an_error_with_a_remedy(pair):
    _, other, _ = pair
    pipe = other.get_pipe("sequence_ner")
    examples = make_examples(other)
    with pytest.raises(ValueError, match="sequence_ner: an exported model cannot be trained: use"):
        other.update(examples, sgd=other.resume_training())
    with pytest.raises(ValueError, match="labels cannot be added to an exported model"):
        pipe.add_label("NEW")
    assert "NEW" not in pipe.labels and not pipe.is_resizable
    with pytest.raises(ValueError, match="no loss"):
        pipe.loss_on(examples)
    with pytest.raises(ValueError, match="gives entities and their probabilities only"):
        pipe.entropies([other.make_doc(TEXTS[0])])
    with pytest.raises(ValueError, match="gives entities and their probabilities only"):
        pipe.chains([other.make_doc(TEXTS[0])])
    with pytest.raises(ValueError, match="runs on the CPU: load it without spacy.require_gpu"):
        pipe.shim.to_device("gpu", 0)
    again = spacy.blank("en").from_config(other.config)
    with pytest.raises(ValueError, match="only loaded with spacy.load: train the original"):
        again.initialize(lambda: examples)


def test_an_exported_pipeline_is_no_teacher(pair, tmp_path):
    _, _, folder = pair
    (tmp_path / "raw.txt").write_text(f"{TEXTS[0]}\n{TEXTS[1]}\n")
    args = [folder / "exported", tmp_path / "raw.txt", tmp_path / "out", "--soft", "--to", "spacy"]
    output = run_in_line("annotate", *args, code=1)
    assert "sequence_ner: an exported model gives entities and their probabilities only: use" in output
    assert "rejected" not in output and not list((tmp_path / "out").glob("part-*"))


def test_damage_and_a_missing_package_are_named(pair, tmp_path, monkeypatch):
    _, other, _ = pair
    other.to_disk(tmp_path / "damaged")
    path = tmp_path / "damaged" / "sequence_ner" / "model"
    data = bytearray(path.read_bytes())
    place = data.find(b"encoded_0") + 3
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="sequence_ner: .*damaged.*checksum is wrong.*export it again"):
        spacy.load(tmp_path / "damaged")
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"pip install 'spacy-ner-arch\[onnx\]'"):
        spacy.load(tmp_path / "damaged")


def test_check_compares_both_pipelines(pair, tmp_path, monkeypatch):
    *_, folder = pair
    original, corpus = folder / "original", folder / "corpus.spacy"
    output = run(original, tmp_path / "a", "--check", corpus)
    assert "ents_f 100.00 100.00" in output and "documents with other annotation 0 of 5" in output
    assert "Exported sequence_ner" in output and spacy.load(tmp_path / "a")(TEXTS[0]).ents
    monkeypatch.setattr(export_module, "TOLERANCE", -1.0)
    assert "probabilities differ by up to" in run(original, tmp_path / "b", "--check", corpus, code=1)
    assert not (tmp_path / "b").exists()


def test_relations_are_compared_between_gold_entities(tmp_path):
    """If no component finds entities; without any, all pipelines would be the same."""
    before, after = (spacy.blank("en") for _ in range(2))
    for nlp in (before, after):
        candidates = {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "document"}
        nlp.add_pipe("relation_extractor", config={"candidates": candidates})
    examples = related_examples(before)
    DocBin(docs=[eg.reference for eg in examples], store_user_data=True).to_disk(tmp_path / "dev.spacy")
    train(before, examples)
    after.initialize(lambda: examples)
    found = compare(before, after, tmp_path / "dev.spacy")
    assert found.before.scores["rel_micro_f"] == 100 and found.differing


@pytest.mark.slow
def test_int8_is_written_only_if_the_scores_stay(pair, tmp_path, monkeypatch):
    nlp, _, folder = pair
    original, corpus = folder / "original", folder / "corpus.spacy"
    assert "needs --check" in run(original, tmp_path / "a", "--int8", code=1)
    run(original, tmp_path / "b", "--int8", "--check", corpus)
    assert entities(spacy.load(tmp_path / "b")(TEXTS[0])) == entities(nlp(TEXTS[0]))
    sizes = [(path / "sequence_ner" / "model").stat().st_size for path in (tmp_path / "b", folder / "exported")]
    assert sizes[0] < sizes[1]
    monkeypatch.setattr(export_module, "MAX_FALL", -1.0)
    output = run(original, tmp_path / "c", "--int8", "--check", corpus, code=1)
    assert "ents_f falls from 100.00 to 100.00" in output and "leave out --int8" in output
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    "marked, message",
    [
        (None, "unlabelled.spacy has no gold annotation for sequence_ner"),
        ([], "no prediction of sequence_ner in .*unlabelled.spacy is right"),
        (["OTHER"], "no prediction of sequence_ner in .*unlabelled.spacy is right"),
    ],
)
def test_int8_needs_gold_annotation_of_what_is_exported(pair, tmp_path, marked, message):
    """The tokenizer and the sentencizer have scores on any text. marked: labels of entities; no other token is part of
    one."""
    *_, folder = pair
    nlp = spacy.load(folder / "original")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "original")
    unlabelled = [nlp.make_doc(text) for text in TEXTS]
    for doc in unlabelled:
        doc[0].is_sent_start = True
        if marked is not None:
            doc.set_ents([Span(doc, 0, len(doc), label) for label in marked], default="outside")
    DocBin(docs=unlabelled).to_disk(tmp_path / "unlabelled.spacy")
    output = run(tmp_path / "original", tmp_path / "out", "--int8", "--check", tmp_path / "unlabelled.spacy", code=1)
    assert re.search(message, output)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_named(pair, tmp_path):
    *_, folder = pair
    assert "exists already" in run(folder / "original", folder / "exported", code=1)
    assert "exported before" in run(folder / "exported", tmp_path / "a", code=1)
    nlp = alone("sequence_ner", "CRF", encoder={"@architectures": "spacy_ner_arch.SynLSTM.v1", "missing": "chain"})
    nlp.initialize(lambda: make_examples(nlp))
    nlp.to_disk(tmp_path / "trees")
    output = run(tmp_path / "trees", tmp_path / "a", code=1)
    assert (
        "sequence_ner: there is no export of its encoder SynLSTMEncoder; train it with spacy_ner_arch.BiLSTM" in output
    )
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["tok2vec", pytest.param("transformer", marks=pytest.mark.slow)])
def test_a_component_gets_its_own_encoder_before_export(encoder, tiny_transformers, tmp_path):
    """As the error of an exported component without the shared encoder says."""
    nlp = shared(tiny_transformers) if encoder == "tok2vec" else transformer_nlp(tiny_transformers["bert"])
    examples = make_examples(nlp)
    for eg in examples:
        eg.reference.spans["spancat"] = list(eg.reference.ents)
    train(nlp, examples, steps=25)
    call = f'nlp.replace_listeners("{encoder}", "sequence_ner", ["model.tok2vec"])'
    expected = [nlp(text).copy() for text in TEXTS]
    for pipeline, remedy in ((nlp, call), (exported(nlp, tmp_path), f"{call} in the original, and export it again")):
        pipeline.remove_pipe(encoder)
        with pytest.raises(ValueError, match=re.escape(f"or give sequence_ner its own copy with {remedy}.")):
            pipeline(TEXTS[0])
    original = spacy.load(tmp_path / "original")
    original.replace_listeners(encoder, "sequence_ner", ["model.tok2vec"])
    (tmp_path / "alone").mkdir()
    other = exported(original, tmp_path / "alone")
    other.remove_pipe(encoder)
    with other.select_pipes(enable="sequence_ner"):
        for text, doc in zip(TEXTS, expected, strict=True):
            assert entities(other(text)) == entities(doc)


def test_other_components_stay_in_torch(tiny_transformers, tmp_path):
    """A relation extractor reads the vectors of the exported transformer."""
    nlp = transformer_nlp(tiny_transformers["bert"])
    pairs = {"@architectures": "spacy_ner_arch.SoftmaxPairs.v1"}
    model = {"@architectures": "spacy_ner_arch.Relations.v1", "tok2vec": LISTENERS["ours"], "pairs": pairs}
    candidates = {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "document"}
    nlp.add_pipe(
        "relation_extractor",
        config={"model": model, "threshold": 0.0, "candidates": candidates},
        before="vector_cleaner",
    )
    examples = make_examples(nlp)
    for eg in examples:
        ents = eg.reference.ents
        eg.reference._.relations = [(ents[0], ents[1], "WITH")] if len(ents) > 1 else []
    train(nlp, [eg for eg in examples if eg.reference._.relations], steps=10)
    nlp.to_disk(tmp_path / "original")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    output = run(tmp_path / "original", tmp_path / "exported")
    assert "relation_extractor: there is no export of SoftmaxPairs; use it in PyTorch" in output
    assert "Exported transformer, sequence_ner to" in output
    other = spacy.load(tmp_path / "exported")
    for text in TEXTS:
        expected, doc = nlp(text), other(text)
        assert_same(doc, expected)
        assert [r.label for r in doc._.relations] == [r.label for r in expected._.relations]
        assert np.allclose([r.score for r in doc._.relations], [r.score for r in expected._.relations], atol=1e-4)


@pytest.mark.slow
def test_model_of_another_package_is_named(tiny_transformers, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    nlp = transformer_nlp(tiny_transformers["bert"], listener="stock", model="stock")
    nlp.initialize(lambda: make_examples(nlp))
    nlp.to_disk(tmp_path / "original")
    output = run(tmp_path / "original", tmp_path / "exported")
    assert "transformer: it runs a torch module of another package; train it with" in output
    assert_same(spacy.load(tmp_path / "exported")(TEXTS[0]), nlp(TEXTS[0]))
