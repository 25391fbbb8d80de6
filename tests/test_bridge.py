"""From documents to a torch module and back: padding, batching, gradients, shared encoders."""

import re
import warnings
from functools import partial

import numpy as np
import pytest
import spacy
import torch
from conftest import make_examples, make_nlp, related_examples, small_model, train
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config

from spacy_ner_arch.annotation.chains import TagTarget
from spacy_ner_arch.annotation.head_input import HeadInput
from spacy_ner_arch.architectures.embeddings import word_char_embed
from spacy_ner_arch.architectures.encoders import torch_tok2vec
from spacy_ner_arch.architectures.ner import crf
from spacy_ner_arch.nn import batch as batch_module
from spacy_ner_arch.nn.batch import cut, make_batch
from spacy_ner_arch.pipes.sequence_ner import SequenceNER

CPU = torch.device("cpu")
HASH_EMBED_CNN = """
[model]
@architectures = "spacy.HashEmbedCNN.v2"
width = 16
depth = 1
embed_size = 100
window_size = 1
maxout_pieces = 2
subword_features = true
pretrained_vectors = null
"""


def test_padding_round_trip():
    batch = make_batch([2, 0, 3], CPU)
    flat = torch.randn(5, 4)
    padded = batch.pad(flat)
    assert padded.shape == (3, 3, 4)
    assert torch.equal(padded[2], flat[2:]) and (padded[~batch.mask] == 0).all()
    assert torch.equal(batch.flatten(padded), flat)
    assert make_batch([0], CPU).mask.shape == (1, 1)


@given(st.lists(st.integers(0, 3000), max_size=80))
def test_cut_batches_have_little_padding(lengths):
    groups = cut(lengths, CPU)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        padded, total = len(group) * max((lengths[i] for i in group), default=0), sum(lengths[i] for i in group)
        assert len(group) <= 1 or padded <= batch_module.CPU_TOKENS
        assert padded - total <= batch_module.CPU_PADDING + total // 10
    if len(groups) == 1:
        assert groups[0] == list(range(len(lengths)))


def test_one_long_document_is_not_padded_with_short_ones(trained):
    """63 documents of 10 tokens and one of 3,000 would be 192,000 padded tokens."""
    seen = []
    pipe = trained.get_pipe("sequence_ner")
    hook = pipe.head.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[:2].numel()))
    pipe.predict(words(trained, *[10] * 63, 3000))
    pipe.loss_on([Example(doc, doc) for doc in words(trained, *[10] * 63, 3000)])
    hook.remove()
    assert sum(seen) == 2 * (630 + 3000)


def words(nlp, *lengths):
    return [Doc(nlp.vocab, words=[f"w{i * 31 % 17}" for i in range(n)]) for n in lengths]


def test_predictions_do_not_depend_on_the_batch(trained, monkeypatch):
    """Sorted by length and cut into batches, each document gets its own prediction back, in its place."""
    pipe = trained.get_pipe("sequence_ner")
    docs = words(trained, 3, 0, 40, 1, 7, 0, 12)
    alone = [pipe.predict([doc])[1][0] for doc in docs]
    monkeypatch.setattr(batch_module, "CPU_TOKENS", 30)
    for together, single, doc in zip(pipe.predict(docs)[1], alone, docs, strict=True):
        for a, b in zip(together, single, strict=True):
            assert len(a) == len(doc) and np.allclose(a, b, atol=1e-4)


def test_no_documents_have_no_predictions():
    """Also over an embedding that does not take an empty list."""
    nlp = spacy.blank("en")
    model = small_model()
    model["tok2vec"] = Config().from_str(HASH_EMBED_CNN)["model"]
    pipe = nlp.add_pipe("sequence_ner", config={"model": model})
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    assert pipe.predict([]) == (None, [])
    assert pipe.loss_on([]) == 0


@pytest.mark.parametrize("head", ["CRF", "Softmax"])
def test_gradient_of_the_embedding_is_right(head):
    """By finite differences through the whole model, documents of several lengths, one of them empty."""
    nlp = make_nlp(head)
    examples = make_examples(nlp)[:3]
    nlp.initialize(lambda: examples)
    pipe = nlp.get_pipe("sequence_ner")
    docs = [eg.predicted for eg in examples] + [Doc(nlp.vocab)]
    targets = [*pipe.find_targets(examples, None), TagTarget(np.zeros(0, dtype=np.int64))]
    tok2vec = pipe.model.get_ref("tok2vec")
    node = next(node for node in tok2vec.walk() if node.has_param("b"))
    _, backprop = pipe.model.begin_update(HeadInput(docs, targets=targets))
    backprop(1.0)
    gradient = node.get_grad("b").copy()
    index = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
    losses = []
    for delta in (1e-3, -1e-3):
        node.get_param("b")[index] += delta
        losses.append(pipe.model.predict(HeadInput(docs, targets=targets)).total)
        node.get_param("b")[index] -= delta
    assert np.isclose((losses[0] - losses[1]) / 2e-3, gradient[index], rtol=0.05)


@pytest.mark.parametrize("head", ["CRF", "Softmax"])
def test_loss_does_not_depend_on_sub_batches(head):
    nlp = make_nlp(head)
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    pipe = nlp.get_pipe("sequence_ner")
    parts = pipe.loss_on(examples[:2]) + pipe.loss_on(examples[2:])
    assert np.isclose(pipe.loss_on(examples), parts, rtol=1e-5)


SHARED = """
[nlp]
lang = "en"
pipeline = ["tok2vec","first","second","tagger"]

[components]

[components.tok2vec]
factory = "tok2vec"

[components.tok2vec.model]
@architectures = "spacy_ner_arch.TorchTok2Vec.v1"

[components.tok2vec.model.tok2vec]
@architectures = "spacy.MultiHashEmbed.v2"
width = 16
attrs = ["NORM"]
rows = [100]
include_static_vectors = false

[components.tok2vec.model.encoder]
@architectures = "spacy_ner_arch.BiLSTM.v1"
hidden_size = 8
dropout = 0.0

[components.first]
factory = "sequence_ner"

[components.first.model]
@architectures = "spacy_ner_arch.CRF.v1"

[components.first.model.tok2vec]
@architectures = "spacy_ner_arch.Tok2VecListener.v1"
width = 16

[components.second]
factory = "sequence_ner"

[components.second.model]
@architectures = "spacy_ner_arch.Softmax.v1"

[components.second.model.tok2vec]
@architectures = "spacy.Tok2VecListener.v1"
width = 16

[components.tagger]
factory = "tagger"

[components.tagger.model]
@architectures = "spacy.Tagger.v2"

[components.tagger.model.tok2vec]
@architectures = "spacy.Tok2VecListener.v1"
width = 16
"""


def shared_pipeline(pipeline, loss_weight=1):
    config = Config().from_str(SHARED)
    config["nlp"]["pipeline"] = pipeline
    config["components"]["first"]["loss_weight"] = loss_weight
    config["components"] = {name: config["components"][name] for name in pipeline}
    nlp = spacy.util.load_model_from_config(config, auto_fill=True)
    examples = make_examples(nlp)
    for eg in examples:
        for token in eg.reference:
            token.tag_ = "NAME" if token.ent_type else "WORD"
    nlp.initialize(lambda: examples)
    return nlp, examples


def encoder_gradients(nlp, examples):
    nlp.update(examples, sgd=False)
    module = nlp.get_pipe("tok2vec").model.shims[0].module
    return torch.cat([p.grad.flatten() for p in module.parameters()])


def test_gradients_of_all_components_reach_a_shared_encoder():
    nlp, examples = shared_pipeline(["tok2vec", "first", "second", "tagger"])
    output = nlp.get_pipe("tagger").model.get_ref("softmax")
    output.set_param("W", np.random.default_rng(0).normal(size=output.get_param("W").shape).astype("f"))
    both = encoder_gradients(nlp, examples)
    parts = []
    for name in ["first", "second", "tagger"]:
        single, _ = shared_pipeline(["tok2vec", name])
        single.get_pipe("tok2vec").model.from_bytes(nlp.get_pipe("tok2vec").model.to_bytes())
        single.get_pipe(name).model.from_bytes(nlp.get_pipe(name).model.to_bytes())
        parts.append(encoder_gradients(single, examples))
    assert all(part.abs().sum() > 0 for part in parts)
    assert torch.allclose(both, sum(parts), atol=1e-6)


def test_a_gradient_reaches_a_shared_encoder_although_the_last_listener_rests():
    """spaCy's component waits for its last listener. Ours leave their gradients for the next step."""
    nlp, examples = shared_pipeline(["tok2vec", "first", "second"])
    nlp.update(examples, sgd=False, exclude=["second"])
    shim = nlp.get_pipe("tok2vec").model.shims[0]
    assert all(p.grad is None for p in shim.module.parameters())
    shim.flush()
    found = torch.cat([p.grad.flatten() for p in shim.module.parameters()])
    single, _ = shared_pipeline(["tok2vec", "first"])
    for name in single.pipe_names:
        single.get_pipe(name).model.from_bytes(nlp.get_pipe(name).model.to_bytes())
    assert found.abs().sum() > 0 and torch.allclose(found, encoder_gradients(single, examples), atol=1e-7)


@pytest.mark.parametrize("resting", ["first", "second"])
def test_a_shared_encoder_learns_in_updates_with_an_optimizer(resting):
    """spaCy calls `finish_update` of the encoder before the listeners of the same update have passed a gradient."""
    nlp, examples = shared_pipeline(["tok2vec", "first", "second"])
    optimizer, shim = nlp.create_optimizer(), nlp.get_pipe("tok2vec").model.shims[0]
    changes = []
    for _ in range(3):
        before = {name: p.detach().clone() for name, p in shim.module.named_parameters()}
        nlp.update(examples, sgd=optimizer, exclude=[resting])
        changes.append(
            max(float((p.detach() - before[name]).abs().max()) for name, p in shim.module.named_parameters())
        )
    # One step late.
    assert changes[0] == 0 and min(changes[1:]) > 0


def test_an_encoder_can_be_frozen_in_an_update_loop():
    nlp, examples = shared_pipeline(["tok2vec", "first"])
    nlp.update(examples, sgd=False)
    empty = Example(nlp.make_doc(""), nlp.make_doc(""))
    for batch in (examples, [empty, *examples], [empty]):
        losses = nlp.update(batch, sgd=False, exclude=["tok2vec"], annotates=["tok2vec"])
        assert np.isfinite(losses["first"])
    # A batch that a listener got while it rested does not count.
    nlp.update(examples, sgd=False, exclude=["first"])
    others = make_examples(nlp)[1:]
    assert nlp.update(others, sgd=False, exclude=["tok2vec"], annotates=["tok2vec"])["first"] > 0
    with pytest.raises(ValueError, match="a document has no vectors of 'tok2vec': put this"):
        nlp.update(make_examples(nlp), sgd=False, exclude=["tok2vec"])


def test_the_loss_needs_the_vectors_of_the_encoder():
    nlp, examples = shared_pipeline(["tok2vec", "first"])
    with pytest.raises(ValueError, match="first listens to the component 'tok2vec', which has not set vectors"):
        nlp.get_pipe("first").loss_on(examples)
    for eg in examples:
        nlp.get_pipe("tok2vec")(eg.predicted)
    loss = nlp.update(examples, sgd=False, drop=0.0)["first"]
    assert nlp.get_pipe("first").loss_on(examples) == pytest.approx(loss, rel=1e-4)


def test_a_listener_of_another_width_is_reported():
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec")
    model = {"tok2vec": {"@architectures": "spacy_ner_arch.Tok2VecListener.v1", "width": 20}}
    nlp.add_pipe("sequence_ner", config={"model": {"@architectures": "spacy_ner_arch.CRF.v1", **model}})
    expected = "'tok2vec' with width = 20, .* 96 wide: set width = 96 in \\[components.sequence_ner.model.tok2vec]"
    with pytest.raises(ValueError, match=expected):
        nlp.initialize(lambda: make_examples(nlp))


EMBEDDING = {"@architectures": "spacy_ner_arch.WordCharEmbed.v1"}
ENCODER = {"@architectures": "spacy_ner_arch.BiLSTM.v1", "hidden_size": 10}


@pytest.mark.parametrize(
    "model, is_double",
    [
        ({"encoder": ENCODER}, True),
        ({"tok2vec": {"encoder": ENCODER}}, False),
        (
            {
                "@architectures": "spacy_ner_arch.Softmax.v1",
                "tok2vec": {"@architectures": "spacy_ner_arch.WordCharEmbed.v1"},
                "encoder": ENCODER,
            },
            False,
        ),
    ],
    ids=["over that of the default", "instead of that of the default", "over an embedding"],
)
def test_an_encoder_over_another_one_is_warned_of(model, is_double):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spacy.blank("en").add_pipe("sequence_ner", config={"model": model})
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == is_double and all("set encoder in [model.tok2vec]" in message for message in messages)


@pytest.mark.parametrize("listener", ["spacy.Tok2VecListener.v1", "spacy_ner_arch.Tok2VecListener.v1"])
def test_a_listener_over_spacys_encoder(listener):
    """Over an encoder of spaCy ours passes gradients as that of spaCy does."""
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec")
    tok2vec = {"@architectures": listener, "width": nlp.get_pipe("tok2vec").model.get_dim("nO")}
    nlp.add_pipe("sequence_ner", config={"model": {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": tok2vec}})
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    losses = nlp.update(examples, sgd=False)
    assert losses["tok2vec"] > 0 and all(
        node.has_grad(n) for node in nlp.get_pipe("tok2vec").model.walk() for n in node.param_names
    )


def test_vectors_that_were_removed_too_early_are_reported():
    """By default doc_cleaner sets doc.tensor to None."""
    nlp, _ = shared_pipeline(["tok2vec", "first"])
    nlp.add_pipe("doc_cleaner", after="tok2vec")
    with pytest.raises(ValueError, match="first listens to the component 'tok2vec', which has not set vectors"):
        nlp("Anna left")


def test_the_error_of_missing_vectors_names_the_encoder():
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec", name="own")
    listener = {"@architectures": "spacy_ner_arch.Tok2VecListener.v1", "width": 96, "upstream": "own"}
    nlp.add_pipe("sequence_ner", config={"model": {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": listener}})
    nlp.initialize(lambda: make_examples(nlp))
    with nlp.select_pipes(disable="own"), pytest.raises(ValueError, match="listens to the component 'own', which"):
        nlp("Anna left")


OUR_EMBEDDING = {"@architectures": "spacy_ner_arch.WordCharEmbed.v1"}


@pytest.mark.parametrize("listener", ["spacy.Tok2VecListener.v1", "spacy_ner_arch.Tok2VecListener.v1"])
@pytest.mark.parametrize("encoder", [{}, {"model": OUR_EMBEDDING}], ids=["stock", "ours"])
def test_an_encoder_that_is_frozen_before_it_is_initialized(encoder, listener, tmp_path):
    """The width of the listener is in its config. An encoder that comes from another pipeline is initialized."""
    nlp = spacy.blank("en")
    encoder = nlp.add_pipe("tok2vec", config=encoder)
    encoder.initialize(lambda: make_examples(nlp))
    nlp.to_disk(tmp_path)
    tok2vec = {"@architectures": listener, "width": encoder.model.get_dim("nO")}
    config = {"model": {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": tok2vec}}
    new, sourced = spacy.blank("en").from_config(nlp.config), spacy.blank("en")
    sourced.add_pipe("tok2vec", source=spacy.load(tmp_path))
    for pipeline in (new, sourced):
        pipeline.add_pipe("sequence_ner", config=config)
    message = "sequence_ner listens to 'tok2vec', which is not initialized: .*frozen_components"
    with new.select_pipes(disable=["tok2vec"]), pytest.raises(ValueError, match=message):
        new.initialize(lambda: make_examples(new))
    with sourced.select_pipes(disable=["tok2vec"]):
        sourced.initialize(lambda: make_examples(sourced))
    sourced.update(make_examples(sourced), sgd=False, exclude=["tok2vec"], annotates=["tok2vec"])


@pytest.mark.parametrize("factory", ["tok2vec", "transformer"])
def test_another_encoder_between_a_component_and_its_encoder(tiny_transformers, factory):
    """Both would write the same vectors: in training the component would read those of one, then those of the other."""
    transformer = {"@architectures": "spacy_ner_arch.TransformerModel.v1", "name": str(tiny_transformers["bert"])}
    encoder = {"model": {**transformer, "window": 64, "overlap": 16}} if factory == "transformer" else {}
    listener = {"@architectures": "spacy_ner_arch.TransformerListener.v1", "upstream": "own"}
    if factory == "tok2vec":
        listener = {"@architectures": "spacy_ner_arch.Tok2VecListener.v1", "width": 96, "upstream": "own"}
    nlp = spacy.blank("en")
    nlp.add_pipe(factory, name="other", config=encoder)
    nlp.add_pipe(factory, name="own", config=encoder)
    model = {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": listener}
    nlp.add_pipe("sequence_ner", config={"model": model})
    nlp.initialize(lambda: make_examples(nlp))
    nlp.add_pipe(factory, name="third", before="sequence_ner", config=encoder)
    with pytest.raises(ValueError, match="sequence_ner listens to 'own', but 'third' runs between them"):
        nlp.initialize(lambda: make_examples(nlp))


class Widened(torch.nn.Linear):
    """An encoder that may say another width than it has."""

    def __init__(self, input_size, output_size, as_tuple=False):
        super().__init__(input_size, 8)
        self.as_tuple = as_tuple
        if output_size is not None:
            self.output_size = output_size

    def forward(self, x, batch):
        states = super().forward(x)
        return (states, None) if self.as_tuple else states


NO_ENCODER = "cannot be built from the width of its input|without output_size"


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "encoder, message",
    [
        (partial(Widened, output_size=8), None),
        (partial(Widened, output_size=np.int64(8)), None),
        (partial(Widened, output_size=8, as_tuple=True), "Widened returns a tuple instead of a tensor"),
        (partial(Widened, output_size=None), NO_ENCODER),
        (partial(Widened, output_size=12), "Widened has output_size = 12, but returns states of width 8"),
        (word_char_embed(), NO_ENCODER),
        (torch.zeros, NO_ENCODER),
    ],
)
def test_encoders_of_users(encoder, message, shared):
    embedding = word_char_embed(word_width=8, filters=0)
    model = crf(torch_tok2vec(embedding, encoder)) if shared else crf(embedding, encoder)
    nlp = spacy.blank("en")
    settings = {"scheme": "BILUO", "threshold": 0.0, "alternatives": None, "overwrite_ents": False, "scorer": None}
    pipe = SequenceNER(nlp.vocab, model, "own", **settings)
    examples = make_examples(nlp)

    def use():
        pipe.initialize(lambda: examples)
        assert pipe.update(examples)["own"] > 0 and list(pipe.pipe([eg.predicted for eg in examples]))

    if message is None:
        use()
        return
    with pytest.raises(ValueError, match=f"^own: .*({message})"):
        use()


def test_an_error_within_the_encoder_of_a_user_is_theirs():
    def build(width):
        return Widened(width + "wide", 8)

    settings = {"scheme": "BILUO", "threshold": 0.0, "alternatives": None, "overwrite_ents": False, "scorer": None}
    nlp = spacy.blank("en")
    pipe = SequenceNER(nlp.vocab, crf(word_char_embed(), build), "own", **settings)
    with pytest.raises(TypeError, match="unsupported operand"):
        pipe.initialize(lambda: make_examples(nlp))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "part, message",
    [
        ({"@architectures": "spacy_ner_arch.BiLSTM.v1"}, r"not a layer of thinc: .* \[components.NAME.model.encoder\]"),
        (
            {"@architectures": "spacy_ner_arch.TransformerModel.v1", "name": "any"},
            "a transformer for the component transformer: give spacy_ner_arch.TransformerTok2Vec.v1 around it",
        ),
    ],
)
def test_another_part_in_the_place_of_the_tok2vec(part, message, shared):
    block = part
    if shared:
        encoder = {"@architectures": "spacy_ner_arch.BiLSTM.v1", "hidden_size": 8}
        block = {"@architectures": "spacy_ner_arch.TorchTok2Vec.v1", "tok2vec": part, "encoder": encoder}
    model = {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": block}
    with pytest.raises(ValueError, match=f"its tok2vec is {message}"):
        spacy.blank("en").add_pipe("sequence_ner", config={"model": model})


def tok2vec_blocks(folder):
    """Each tok2vec of this package, as a part of a component's model."""
    words = {"@architectures": "spacy_ner_arch.WordCharEmbed.v1", "word_width": 8, "filters": 0}
    encoder = {"@architectures": "spacy_ner_arch.BiLSTM.v1", "hidden_size": 8}
    transformer = {"@architectures": "spacy_ner_arch.TransformerModel.v1", "name": str(folder), "window": 64}
    return {
        "words": words,
        "encoder": {"@architectures": "spacy_ner_arch.TorchTok2Vec.v1", "tok2vec": words, "encoder": encoder},
        "transformer": {
            "@architectures": "spacy_ner_arch.TransformerTok2Vec.v1",
            "transformer": {**transformer, "overlap": 16},
        },
    }


# Components of spaCy, each with the architecture around the tok2vec.
STOCK = {
    "tagger": {"@architectures": "spacy.Tagger.v2"},
    "textcat": {"@architectures": "spacy.TextCatReduce.v1", "exclusive_classes": True, "use_reduce_mean": True}
    | dict.fromkeys(("use_reduce_first", "use_reduce_last", "use_reduce_max"), False),
    "span_finder": {
        "@architectures": "spacy.SpanFinder.v1",
        "scorer": {"@layers": "spacy.LinearLogistic.v1", "nO": 2},
    },
}


@pytest.mark.parametrize("factory", STOCK)
@pytest.mark.parametrize("kind", ["words", "encoder", "transformer"])
def test_a_tok2vec_inside_a_component_of_spacy(tiny_transformers, copy_of, kind, factory):
    """thinc gives a layer of unknown width the targets of the whole model at initialization."""
    nlp = spacy.blank("en")
    nlp.add_pipe(
        factory, config={"model": {**STOCK[factory], "tok2vec": tok2vec_blocks(tiny_transformers["bert"])[kind]}}
    )
    examples = make_examples(nlp)
    for eg in examples:
        eg.reference.cats = {"yes": 1.0 if len(eg.reference) > 5 else 0.0, "no": 1.0 if len(eg.reference) <= 5 else 0.0}
        eg.reference.spans["sc"] = list(eg.reference.ents)
        for token in eg.reference:
            token.tag_ = "NAME" if token.ent_type else "WORD"
    optimizer = nlp.initialize(lambda: examples)
    losses = [nlp.update(examples, sgd=optimizer, losses={}) for _ in range(20)]
    assert losses[-1][factory] < losses[0][factory]
    text = examples[0].text
    assert copy_of(nlp)(text).to_bytes() == nlp(text).to_bytes()


def test_shared_encoder_learns_and_survives_the_disk(copy_of):
    nlp, examples = shared_pipeline(["tok2vec", "first", "tagger"], loss_weight=1000)
    train(nlp, examples, steps=80)
    scores = nlp.evaluate(examples)
    assert scores["ents_f"] == 1.0 and scores["tag_acc"] == 1.0
    docs = [eg.predicted.copy() for eg in examples]
    loaded = copy_of(nlp)
    for doc in docs:
        assert [e.text for e in loaded(doc.text).ents] == [e.text for e in nlp(doc.text).ents]


def test_replace_listeners_makes_a_component_stand_alone(copy_of):
    nlp, examples = shared_pipeline(["tok2vec", "first"])
    train(nlp, examples)
    expected = [[ent.text for ent in nlp(eg.text).ents] for eg in examples]
    nlp.replace_listeners("tok2vec", "first", ["model.tok2vec"])
    nlp.remove_pipe("tok2vec")
    assert [[ent.text for ent in nlp(eg.text).ents] for eg in examples] == expected
    assert [[ent.text for ent in copy_of(nlp)(eg.text).ents] for eg in examples] == expected


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_remedy_for_missing_vectors_names_the_place_of_the_listener(copy_of, depth):
    """replace_listeners accepts the path of a layer around it, and then the pipeline cannot be loaded."""
    block = {"@architectures": "spacy_ner_arch.Tok2VecListener.v1", "width": 16}
    encoder = {"@architectures": "spacy_ner_arch.BiLSTM.v1", "hidden_size": 8}
    for _ in range(depth):
        block = {"@architectures": "spacy_ner_arch.TorchTok2Vec.v1", "tok2vec": block, "encoder": encoder}
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec", config={"model": Config().from_str(SHARED)["components"]["tok2vec"]["model"]})
    nlp.add_pipe("sequence_ner", config={"model": {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": block}})
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    expected = (
        [eg.text for eg in examples],
        [doc.to_bytes(exclude=["tensor"]) for doc in nlp.pipe(eg.text for eg in examples)],
    )
    with nlp.select_pipes(disable=["tok2vec"]), pytest.raises(ValueError, match="has not set vectors") as error:
        nlp(examples[0].text)
    path = re.search(r'replace_listeners\("tok2vec", "sequence_ner", \["(.*?)"\]\)', str(error.value)).group(1)
    assert path == "model" + ".tok2vec" * (depth + 1)
    nlp.replace_listeners("tok2vec", "sequence_ner", [path])
    nlp.remove_pipe("tok2vec")
    texts, docs = expected
    assert [doc.to_bytes(exclude=["tensor"]) for doc in copy_of(nlp).pipe(texts)] == docs


def test_a_batch_without_tokens_changes_nothing_and_breaks_nothing():
    nlp, examples = shared_pipeline(["tok2vec", "first"])
    empty = Example(Doc(nlp.vocab), Doc(nlp.vocab))
    losses = nlp.update([empty], sgd=False)
    assert losses["first"] == 0.0
    nlp.update(examples, sgd=False)


def test_number_of_nodes_is_the_same_before_and_after_initialization():
    nlp = make_nlp()
    model = nlp.get_pipe("sequence_ner").model
    before = len(list(model.walk()))
    nlp.initialize(lambda: make_examples(nlp))
    assert len(list(model.walk())) == before


def test_documents_alone_are_an_input(trained):
    """`spacy debug model` gives them."""
    model = trained.get_pipe("sequence_ner").model
    for count in (2, 5):
        docs = words(trained, *range(1, count + 1))
        expected = [a.tolist() for a in model.predict(HeadInput(docs))[0]]
        assert [a.tolist() for a in model.predict(docs)[0]] == expected


@pytest.mark.parametrize("pairs", ["SoftmaxPairs", "MarkerPairs"])
def test_a_model_of_relations_needs_pairs(pairs):
    nlp = spacy.blank("en")
    model = small_model("Relations") | {"pairs": {"@architectures": f"spacy_ner_arch.{pairs}.v1"}}
    nlp.add_pipe("relation_extractor", config={"model": model})
    examples = related_examples(nlp)
    nlp.initialize(lambda: examples)
    with pytest.raises(ValueError, match="needs candidate pairs, which its component finds"):
        nlp.get_pipe("relation_extractor").model.predict([eg.predicted for eg in examples])


def test_model_copies_are_independent(trained):
    model = trained.get_pipe("sequence_ner").model
    docs = words(trained, 4, 2)
    copied = model.copy()
    expected = [a.tolist() for a in model.predict(HeadInput(docs))[0]]
    assert [a.tolist() for a in copied.predict(HeadInput(docs))[0]] == expected
    copied.shims[0].module.output.weight.data.zero_()
    assert [a.tolist() for a in model.predict(HeadInput(docs))[0]] == expected
