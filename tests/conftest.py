"""What several tests share: tiny pipelines and examples."""

import os

# Before torch is imported: timings and results must not hang on how many cores a machine has.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before transformers is imported: an unknown name of a model must not wait for the network.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch

# Before Triton is imported, which transformers does: without a GPU its kernels run in its interpreter.
os.environ.setdefault("TRITON_INTERPRET", str(int(not torch.cuda.is_available())))

import hypothesis
import pytest
import spacy
from spacy.cli import app
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from thinc.api import Config, fix_random_seed
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizerFast,
)
from typer.testing import CliRunner

import spacy_ner_arch.cli.app  # noqa: F401 - adds the sub-commands, as spaCy does by the entry point
from spacy_ner_arch.annotation.sentences import set_sentences
from spacy_ner_arch.nn.dropout import set_dropout

# A busy machine is not a failure.
hypothesis.settings.register_profile("project", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("project")

TRAIN = [
    ("Anna Brandt lives in Tarvik .", [(0, 2, "PER"), (4, 5, "LOC")]),
    ("Yesterday Tarvik was quiet .", [(1, 2, "LOC")]),
    ("The Brenna Gazette hired Olaf Quist Meyer .", [(1, 3, "ORG"), (4, 7, "PER")]),
    ("Nothing happened .", []),
    ("Quist left Brenna for Tarvik with Anna .", [(0, 1, "PER"), (2, 3, "LOC"), (4, 5, "LOC"), (6, 7, "PER")]),
]

# Of the documents of TRAIN: numbers of head and tail among the entities, and the label.
DOCUMENT_PAIRS = {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "document"}
RELATIONS = [
    [(0, 1, "LIVES_IN")],
    [],
    [(1, 0, "WORKS_FOR")],
    [],
    [(0, 1, "LEFT"), (0, 3, "WITH")],
]

SMALL_MODEL = """
[model]
@architectures = "spacy_ner_arch.{head}.v1"

[model.tok2vec]
@architectures = "spacy.MultiHashEmbed.v2"
width = 16
attrs = ["NORM", "SHAPE"]
rows = [200, 100]
include_static_vectors = false

[model.encoder]
@architectures = "spacy_ner_arch.BiLSTM.v1"
hidden_size = 12
"""


def run_command(*args, code: int = 0, charset: str = "utf-8", **options) -> str:
    """The output of `ner-arch` with these arguments. The command ends with this exit status, never with a traceback.

    options: those of `CliRunner.invoke`.
    """
    result = CliRunner(charset=charset).invoke(app, ["ner-arch", *map(str, args)], **options)
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), "a traceback"
    return result.output


def run_in_line(*args, **options) -> str:
    """As `run_command`, without the line breaks and blanks that fit the output to a terminal."""
    return " ".join(run_command(*args, **options).split())


def load_docs(path) -> list[Doc]:
    return list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))


def words(nlp, text: str) -> Doc:
    return Doc(nlp.vocab, words=text.split())


def named(spans) -> list[tuple[str, str]]:
    return [(span.text, span.label_) for span in spans]


def relations_of(doc) -> list[tuple[str, str, str]]:
    return [(relation.head.text, relation.label, relation.tail.text) for relation in doc._.relations]


def small_model(head: str = "CRF") -> dict:
    return Config().from_str(SMALL_MODEL.format(head=head))["model"]


def set_relations(docs, relations=RELATIONS) -> None:
    """Between the entities that are there."""
    for doc, triples in zip(docs, relations, strict=True):
        doc._.relations = [(doc.ents[head], doc.ents[tail], label) for head, tail, label in triples]


def set_trees(docs) -> None:
    """The first word of a document is its root, and every other one depends on the word before it."""
    for doc in docs:
        deps = ["ROOT" if token.i == 0 else "next" if token.is_lower else "name" for token in doc]
        heads = [max(token.i - 1, 0) for token in doc]
        tree = Doc(doc.vocab, words=[token.text for token in doc], heads=heads, deps=deps)
        doc.from_array(["HEAD", "DEP"], tree.to_array(["HEAD", "DEP"]))


def relations(doc) -> list[tuple]:
    """Tokens of head and tail, and the label."""
    return [(r.head.start, r.head.end, r.tail.start, r.tail.end, r.label) for r in doc._.relations]


def make_examples(nlp, data=TRAIN) -> list[Example]:
    """Examples of (words joined by blanks, spans in tokens)."""
    examples = []
    for text, spans in data:
        words = text.split(" ")
        reference = Doc(nlp.vocab, words=words)
        reference.set_ents([spacy.tokens.Span(reference, *span) for span in spans], default="outside")
        examples.append(Example(Doc(nlp.vocab, words=words), reference))
    return examples


LISTENERS = {
    "ours": {"@architectures": "spacy_ner_arch.TransformerListener.v1"},
    "stock": {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "grad_factor": 1.0,
        "pooling": {"@layers": "reduce_mean.v1"},
    },
}
MODELS = {
    "ours": {"@architectures": "spacy_ner_arch.TransformerModel.v1", "window": 64, "overlap": 16},
    "stock": {
        "@architectures": "spacy-transformers.TransformerModel.v3",
        "get_spans": {"@span_getters": "spacy-transformers.doc_spans.v1"},
    },
}


def transformer_nlp(folder, listener: str = "ours", model: str = "ours", dropout: float = 0.1, **settings):
    """Transformer and CRF, each part ours or that of spacy-transformers; settings of the transformer."""
    rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), dropout)
    nlp = spacy.blank("en")
    block = {**MODELS[model], "name": str(folder), "transformer_config": rates, **settings}
    nlp.add_pipe("transformer", config={"model": block})
    head = {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": LISTENERS[listener]}
    nlp.add_pipe("sequence_ner", config={"model": head})
    nlp.add_pipe("vector_cleaner")
    return nlp


def related_examples(nlp, gold: bool = True) -> list[Example]:
    """Examples with relations. The predicted documents are one sentence each.

    gold: whether the predicted documents have the gold entities.
    """
    examples = make_examples(nlp)
    set_relations([eg.reference for eg in examples])
    for eg in examples:
        set_sentences(eg.predicted, [0])
    for eg in examples if gold else ():
        eg.predicted.set_ents(eg.get_aligned_spans_y2x(eg.reference.ents), default="outside")
    return examples


WHITE_SPACE = ["\n", "  ", "\t\n", " "]


def spaced(doc: Doc, every: int = 1) -> Doc:
    """A copy with white space before the text, behind every word and inside its entities."""
    words, places = ["\n"], []
    for token in doc:
        places.append(len(words))
        words.append(token.text)
        if token.i % every == 0:
            words.append(WHITE_SPACE[token.i % len(WHITE_SPACE)])
    heads = None
    if doc.has_annotation("DEP"):
        # Each white space hangs on the token before it, as spaCy's parsers have it; the first one on the next.
        heads = [max(i - 1, 0) if i else 1 for i in range(len(words))]
        for token, place in zip(doc, places, strict=True):
            heads[place] = places[token.head.i]
    deps = None if heads is None else ["dep"] * len(words)
    for token, place in zip(doc if deps else (), places, strict=bool(deps)):
        deps[place] = token.dep_
    copy = Doc(doc.vocab, words=words, heads=heads, deps=deps)

    def move(span: Span) -> Span:
        return Span(copy, places[span.start], places[span.end - 1] + 1, label=span.label)

    if doc.has_annotation("ENT_IOB"):
        copy.set_ents([move(ent) for ent in doc.ents], default="outside")
    for key, group in doc.spans.items():
        copy.spans[key] = [move(span) for span in group]
    if doc._.relations:
        copy._.relations = [(move(r.head), move(r.tail), r.label) for r in doc._.relations]
    return copy


def make_nlp(head: str = "CRF", **settings):
    nlp = spacy.blank("en")
    nlp.add_pipe("sequence_ner", config={"model": small_model(head), **settings})
    return nlp


def train(nlp, examples, steps: int = 60, learn_rate: float = 0.01) -> None:
    """Overfit."""
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = learn_rate
    for _ in range(steps):
        nlp.update(examples, sgd=optimizer)


def entities(doc) -> list[tuple]:
    return [(ent.start, ent.end, ent.label_) for ent in doc.ents]


def assert_dropout(module, x, batch) -> None:
    """Dropout of a head with `logits`, made without a rate, follows `set_dropout` and the seed, in training only."""
    still = module.logits(x, batch)
    set_dropout(module, 0.4)
    torch.manual_seed(3)
    first, second = module.logits(x, batch), module.logits(x, batch)
    torch.manual_seed(3)
    assert torch.equal(first, module.logits(x, batch))
    assert not torch.equal(first, second) and not torch.equal(first, still)
    assert torch.equal(module.eval().logits(x, batch), still)


def pytest_collection_modifyitems(items):
    """Slow tests get more time than the limit in pyproject.toml, which a busy machine would exceed."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


def pytest_fixture_setup(fixturedef):
    """The same random numbers in every fixture that tests share, whatever ran before it."""
    if fixturedef.scope != "function":
        fix_random_seed(0)


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers in every test, whatever ran before it."""
    fix_random_seed(0)


@pytest.fixture(scope="session")
def trained():
    """A pipeline that knows TRAIN by heart. Read only: change a copy of it."""
    nlp = make_nlp()
    train(nlp, make_examples(nlp))
    return nlp


@pytest.fixture(scope="session")
def joint(tmp_path_factory):
    """Folder of a pipeline that knows the entities, the spans and the relations of TRAIN, and their gold corpus.

    The text of a document has an angle bracket, and the key of the spans a slash.
    """
    folder = tmp_path_factory.mktemp("joint")
    nlp = make_nlp()
    model = small_model("Span")
    nlp.add_pipe("nested_ner", config={"model": model, "spans_key": "a/b"})
    nlp.add_pipe("relation_extractor", config={"candidates": DOCUMENT_PAIRS})
    examples = make_examples(nlp, [*TRAIN[:-1], ("<b> Zoë left Brenna .", [(1, 2, "PER"), (3, 4, "LOC")])])
    set_relations([eg.reference for eg in examples], [*RELATIONS[:-1], []])
    for eg in examples:
        eg.predicted.set_ents(eg.get_aligned_spans_y2x(eg.reference.ents), default="outside")
        eg.reference.spans["a/b"] = list(eg.reference.ents)
    train(nlp, examples)
    nlp.to_disk(folder / "model")
    DocBin(docs=[eg.reference for eg in examples], store_user_data=True).to_disk(folder / "gold.spacy")
    return folder


@pytest.fixture(scope="session")
def tiny_transformers(tmp_path_factory):
    """Tiny transformers with random weights, in folders as a hub would give them: uncased word pieces, and bytes."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("bert", "roberta")}
    letters = "abcdefghijklmnopqrstuvwxyz."
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folders["bert"] / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizerFast(str(folders["bert"] / "vocab.txt")).save_pretrained(folders["bert"])
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(pieces), **sizes)).save_pretrained(folders["bert"])

    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator([text for text, _ in TRAIN], vocab_size=300, special_tokens=special)
    tokenizer.save_model(str(folders["roberta"]))
    RobertaTokenizerFast.from_pretrained(folders["roberta"]).save_pretrained(folders["roberta"])
    config = RobertaConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=130, **sizes)
    RobertaModel(config).save_pretrained(folders["roberta"])
    return folders


@pytest.fixture
def copy_of(tmp_path):
    """Independent copy of a pipeline, by way of the disk."""

    def copy(nlp):
        nlp.to_disk(tmp_path / "copy")
        return spacy.load(tmp_path / "copy")

    return copy
