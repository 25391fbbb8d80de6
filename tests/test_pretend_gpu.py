"""All configs on a pretend GPU: devices do not mix, nothing is read before it has arrived, the host rarely waits."""

import weakref
from collections import Counter

import numpy as np
import pytest
import spacy
import torch
from conftest import spaced
from families import FAMILIES
from pretend_gpu import DeviceMixing, PretendGPU, pretend_gpu
from spacy.tokens import DocBin
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.util import resolve_dot_names
from test_configs import CONFIGS, ROOT, given, make_corpus, small_config  # noqa: F401 - the fixture `corpus`

from spacy_ner_arch.annotation.chains import Chain
from spacy_ner_arch.annotation.tags import tag_names
from spacy_ner_arch.annotation.teachers import set_chain
from spacy_ner_arch.bridge import head, shim
from spacy_ner_arch.bridge.shim import TorchShim
from spacy_ner_arch.nn import batch, distillation
from spacy_ner_arch.nn.transformer import TAKES_PAIRS, Pieces, WordTransformer
from spacy_ner_arch.pipes.base import TorchPipe
from spacy_ner_arch.training.calibration import calibrate

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real GPU"),
    pytest.mark.filterwarnings("ignore:PyTorch was compiled without cuDNN", "ignore:.*is not used in the config"),
]

# Configs of the fast tests: an embedding of words, a transformer, a shared encoder, spans, tags, relations.
FAST = {"bilstm_crf", "span", "joint_bilstm"}
# Files of other packages that wait, however often.
WAITING_ELSEWHERE = {"ml/tb_framework.py": "spaCy's parser decides on the host"}


class Run:
    """A pipeline on the pretend GPU, trained and applied as by spaCy."""

    def __init__(self, config) -> None:
        self.nlp = init_nlp(config)
        (self.corpus,) = resolve_dot_names(self.nlp.config.interpolate(), ["corpora.train"])
        self.optimizer = self.nlp.resume_training()

    def update(self) -> dict[str, float]:
        """As in spacy.training.loop."""
        losses: dict[str, float] = {}
        annotates = self.nlp.config["training"]["annotating_components"]
        self.nlp.update(list(self.corpus(self.nlp)), sgd=False, drop=0.1, losses=losses, annotates=annotates)
        for _, pipe in self.nlp.pipeline:
            if hasattr(pipe, "finish_update"):
                pipe.finish_update(self.optimizer)
        return losses

    def predict(self) -> list[str]:
        return [str((doc.ents, doc.spans, doc._.relations)) for doc in self.nlp.pipe(given(self.nlp))]

    def check(self, gpu: PretendGPU) -> None:
        """Train and predict within the budget: one wait per head, in an update and in prediction."""
        heads = sum(isinstance(pipe, TorchPipe) for _, pipe in self.nlp.pipeline)
        with gpu.counting() as update:
            losses = self.update()
        assert all(np.isfinite(float(loss)) for loss in losses.values())
        with gpu.counting() as prediction:
            found = self.predict()
        assert found == self.predict()
        assert own_waits(update).total() == heads, update.waits
        assert own_waits(prediction).total() == heads, prediction.waits
        assert min(update.launches.total(), prediction.launches.total()) > 50


def own_waits(gpu: PretendGPU) -> Counter[str]:
    return Counter({line: n for line, n in gpu.waits.items() if line.rsplit(":")[0] not in WAITING_ELSEWHERE})


def check(config) -> None:
    with pretend_gpu() as gpu:
        run = Run(config)
        run.update()
        run.check(gpu)


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem, marks=[] if p.stem in FAST else pytest.mark.slow) for p in CONFIGS]
)
def test_config(path, corpus, tiny_transformers):
    check(small_config(path, corpus, tiny_transformers["bert"]))


@pytest.mark.parametrize("name", ["bilstm_crf", pytest.param("joint", marks=pytest.mark.slow), "span"])
def test_copies_of_documents(name, corpus, tiny_transformers):
    config = ROOT / "configs" / f"{name}.cfg"
    with pretend_gpu() as gpu:
        run = Run(small_config(config, corpus, tiny_transformers["bert"], **{"components.*.consistency": 1.0}))
        read = run.corpus
        run.corpus = lambda nlp: [eg for eg in read(nlp) for _ in range(2)]
        run.update()
        with gpu.counting() as counted:
            losses = run.update()
        heads = [pipe.name for _, pipe in run.nlp.pipeline if isinstance(pipe, TorchPipe)]
        assert own_waits(counted).total() == len(heads), counted.waits
        assert all(losses[f"{head}_consistency"] > 0 for head in heads)


def test_white_space_costs_no_wait(corpus):
    config = ROOT / "configs" / "joint_bilstm.cfg"
    with pretend_gpu() as gpu:
        run = Run(small_config(config, corpus, None))
        read = run.corpus
        run.corpus = lambda nlp: [Example(spaced(eg.predicted), spaced(eg.reference)) for eg in read(nlp)]
        run.update()
        with gpu.counting() as update:
            losses = run.update()
        with gpu.counting() as prediction:
            list(run.nlp.pipe([spaced(doc) for doc in given(run.nlp)]))
    assert own_waits(update).total() == own_waits(prediction).total() == 2
    assert losses["sequence_ner"] > 0 and losses["relation_extractor"] > 0


def test_the_host_starts_the_backward_pass_before_it_waits_for_the_loss(corpus, tiny_transformers, monkeypatch):
    """That of the head; those of the other layers need a finite loss."""
    with pretend_gpu() as gpu:
        run = Run(small_config(ROOT / "configs" / "span.cfg", corpus, tiny_transformers["bert"]))
        run.update()
        seen = []
        backprop = TorchShim._backprop

        def note_waits(*args):
            seen.append(gpu.waits.total())
            return backprop(*args)

        monkeypatch.setattr(TorchShim, "_backprop", note_waits)
        before = gpu.waits.total()
        run.update()
        assert seen[0] == before and set(seen[1:]) == {before + 1}
        assert gpu.waits.total() == before + 1


def test_a_batch_is_started_before_the_host_waits_for_the_last_one(corpus, monkeypatch):
    with pretend_gpu() as gpu:
        nlp = Run(small_config(ROOT / "configs" / "joint_bilstm.cfg", corpus, None)).nlp
        docs = [doc for _ in range(2) for doc in given(nlp)]
        expected = [str((doc.ents, doc._.relations)) for doc in map(nlp, docs)]
        tagger, steps = nlp.get_pipe("sequence_ner"), []
        predict, annotate = tagger.predict, tagger.set_annotations
        monkeypatch.setattr(tagger, "predict", lambda docs: [steps.append("predict"), predict(docs)][1])
        monkeypatch.setattr(tagger, "set_annotations", lambda *args: [steps.append("annotate"), annotate(*args)][1])
        with gpu.counting() as counted:
            found = [str((doc.ents, doc._.relations)) for doc in nlp.pipe(docs, batch_size=4)]
        assert found == expected and len(docs) == 10
        assert steps == ["predict", "predict", "annotate", "predict", "annotate", "annotate"]
        # Of three batches, for each of two heads.
        assert own_waits(counted).total() == 6


@pytest.mark.parametrize("step", ["predict", "set_annotations"])
def test_a_batch_that_fails_comes_between_its_neighbors(step, corpus, monkeypatch):
    with pretend_gpu():
        nlp = Run(small_config(ROOT / "configs" / "bilstm_crf.cfg", corpus, None)).nlp
        tagger = nlp.get_pipe("sequence_ner")
        works = getattr(tagger, step)

        def fail(docs, *args):
            if docs[0].text == "2":
                raise ValueError("2 is no text")
            return works(docs, *args)

        monkeypatch.setattr(tagger, step, fail)
        given, seen = [], []
        with pytest.raises(ValueError, match="2 is no text"):
            given.extend(doc.text for doc in nlp.pipe("01234", batch_size=1))
        assert given == ["0", "1"]
        tagger.set_error_handler(lambda name, pipe, docs, error: seen.append((name, docs[0].text, str(error))))
        assert [doc.text for doc in nlp.pipe("01234", batch_size=1)] == ["0", "1", "3", "4"]
        assert seen == [("sequence_ner", "2", "2 is no text")]


def test_a_stream_that_fails_gives_all_documents_before(corpus):
    def texts():
        yield from "01"
        raise ValueError("no more")

    with pretend_gpu():
        nlp = Run(small_config(ROOT / "configs" / "bilstm_crf.cfg", corpus, None)).nlp
        given = []
        with pytest.raises(ValueError, match="no more"):
            given.extend(doc.text for doc in nlp.pipe(texts(), batch_size=1))
        assert given == ["0", "1"]


def test_the_memory_of_a_batch_that_fails_is_free_for_the_next_one(corpus, monkeypatch):
    """As after `CUDA out of memory`, with an error handler that goes on."""
    with pretend_gpu():
        nlp = Run(small_config(ROOT / "configs" / "bilstm_crf.cfg", corpus, None)).nlp
        tagger = nlp.get_pipe("sequence_ner")
        predict, memory, free = tagger.predict, [], []

        def fail(docs):
            tensor = torch.zeros(1)
            free.append(all(reference() is None for reference in memory))
            memory.append(weakref.ref(tensor))
            if docs[0].text == "2":
                raise ValueError("2 is no text")
            return predict(docs)

        monkeypatch.setattr(tagger, "predict", fail)
        with pytest.raises(ValueError, match="2 is no text"):
            list(nlp.pipe("01234", batch_size=1))
        assert len(free) == 3
        memory.clear()
        tagger.set_error_handler(lambda *args: None)
        assert len(list(nlp.pipe("01234", batch_size=1))) == 4
        assert free == [True] * 8


def test_a_loss_that_is_not_finite_is_found_on_a_gpu(corpus):
    with pretend_gpu():
        run = Run(small_config(ROOT / "configs" / "bilstm_crf.cfg", corpus, None))
        run.update()
        head = run.nlp.get_pipe("sequence_ner").head
        with torch.no_grad():
            head.output.bias.fill_(float("nan"))
        before = head.output.weight.cpu()
        with pytest.raises(ValueError, match="sequence_ner: the loss is nan in update 2"):
            run.update()
        assert head.output.weight.cpu().equal(before)
        with torch.no_grad():
            head.output.bias.zero_()
        for _ in range(2):
            assert all(np.isfinite(loss) for loss in run.update().values())
        run.predict()  # raises for scores that are not finite


@pytest.mark.parametrize("name", ["bilstm_crf", pytest.param("bilstm", marks=pytest.mark.slow)])
def test_teachers(name, corpus, tmp_path):
    """Two documents have a teacher each, one of them with a label of its own, and two are gold."""
    vocab = spacy.blank("en").vocab
    docs = list(DocBin().from_disk(corpus).get_docs(vocab))[:4]
    for doc, labels in zip(docs, (["PER", "LOC"], ["PER", "EVENT"]), strict=False):
        tags = tuple(tag_names(labels, "BILUO"))
        sizes = {"start": [9], "transitions": [9, 9], "end": [9], "emissions": [len(doc), 9]}
        scores = {part: np.random.default_rng(0).normal(size=size) for part, size in sizes.items()}
        set_chain(doc, Chain(tags, "BILUO", **scores))
        doc.set_ents(doc.ents[:1], default="missing")
    DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / "train.spacy")
    check(small_config(ROOT / "configs" / f"{name}.cfg", tmp_path / "train.spacy", None))


VARIANTS = {
    "bfloat16": {"components.*.dtype": "bfloat16"},
    "float16": {"components.*.dtype": "float16"},
    "frozen": {"components.transformer.model.frozen": True},
    "first_last": {"components.transformer.model.pooling": "first_last"},
    "averages": {"training.optimizer.use_averages": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=list(VARIANTS))
@pytest.mark.parametrize("name", ["transformer_bilstm_crf", "nested"])
def test_variant(name, settings, corpus, tiny_transformers):
    check(small_config(ROOT / "configs" / f"{name}.cfg", corpus, tiny_transformers["bert"], **settings))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transformer_bilstm_crf", "joint_bilstm", "nested", "relation_acnn"])
def test_what_else_is_done_with_a_pipeline(name, corpus, tiny_transformers):
    """New labels, averages, calibration, scores, storing, loading on the other device, a transformer of its own."""
    settings = {"training.optimizer.use_averages": True}
    config = small_config(ROOT / "configs" / f"{name}.cfg", corpus, tiny_transformers["bert"], **settings)
    with pretend_gpu():
        run = Run(config)
        run.update()
        heads = [component for component, pipe in run.nlp.pipeline if isinstance(pipe, TorchPipe)]
        for component in heads:
            run.nlp.get_pipe(component).add_label("NEW")
        run.update()
        calibrate(corpus, 0, run.nlp)
        with run.nlp.use_params(run.optimizer.averages):
            assert run.nlp.evaluate(list(run.corpus(run.nlp)))
        found = run.predict()
        stored, its_config = run.nlp.to_bytes(), run.nlp.config.copy()
        for shared in {"tok2vec", "transformer"} & set(run.nlp.pipe_names):
            run.nlp.replace_listeners(shared, heads[-1], ["model.tok2vec"])
        assert run.predict() == found
    nlp = spacy.blank("en").from_config(its_config).from_bytes(stored)
    assert [str((doc.ents, doc.spans, doc._.relations)) for doc in nlp.pipe(given(nlp))] == found


def test_results_are_those_of_the_cpu(corpus):
    config = small_config(ROOT / "configs" / "span_bilstm.cfg", corpus, None)

    def results():
        run = Run(config)
        return [run.update()["span_ner"] for _ in range(20)], run.predict()

    on_cpu = results()
    with pretend_gpu():
        on_gpu = results()
    assert np.allclose(on_gpu[0], on_cpu[0], rtol=1e-4) and on_gpu[1] == on_cpu[1]
    assert on_cpu[0][-1] < on_cpu[0][0] / 2


@pytest.mark.parametrize("kind", sorted(TAKES_PAIRS))
def test_no_wait_for_the_mask_of_a_transformer(kind):
    config = {**FAMILIES[kind][1], "model_type": kind, "vocab_size": 20, "pad_token_id": 0}
    module = WordTransformer({**config, "max_position_embeddings": 20}, "mean").eval()
    lengths = torch.tensor([4, 9, 1])
    mask = torch.arange(9) < lengths.unsqueeze(1)
    rows = mask.flatten().nonzero().squeeze(1)
    pieces = Pieces(torch.randint(3, 20, mask.shape), mask, rows, torch.arange(14), torch.ones(14).long())
    with torch.no_grad():
        expected = module.read(pieces)
        with pretend_gpu() as gpu:
            module, pieces = module.to("cuda"), Pieces(*(part if part is None else part.cuda() for part in pieces))
            with gpu.counting() as counted:
                found = module.read(pieces)
            assert not counted.waits
            assert torch.equal(found.cpu(), expected)


def test_copies_to_the_host_hold_poison_until_something_waits():
    with pretend_gpu() as gpu:
        there = torch.ones(3, device="cuda")
        made, filled, done = there.to("cpu", non_blocking=True), torch.zeros(3), torch.cuda.Event()
        filled.copy_(there, non_blocking=True)
        done.record()
        assert made.isnan().all() and filled.isnan().all() and not gpu.waits
        done.synchronize()
        assert made.eq(1).all() and filled.eq(1).all() and gpu.waits.total() == 1
        done.synchronize()
        assert gpu.waits.total() == 1
        with pytest.raises(DeviceMixing):
            there + made
        assert (there + 1).tolist() == [2.0] * 3 and gpu.waits.total() == 2


# Faults that only a GPU shows. Each is found by the checks above.


def predictions_at_once(self, count, outputs):
    make_predictions(self, count, outputs)
    self._copy._copied = None


def rows_on_the_host(lengths, device):
    batch = make_batch(lengths, device)
    batch.rows = batch.rows.cpu()
    return batch


def each_loss_by_itself(losses):
    for loss in losses:
        float(loss.total)
    return sum_losses(losses)


def flag_at_once(self, optimizer):
    finish_update(self, optimizer)
    if self.optimizer.overflow is not None and bool(*self.optimizer.overflow._tensors):
        raise ValueError("the flag is set")


def blocking(arrays, device):
    return [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays]


make_batch, sum_losses, finish_update = head.make_batch, head.sum_losses, shim.TorchShim.finish_update
make_predictions = head.HeadPredictions.__init__
MIXED = (DeviceMixing, "cuda:0 with a tensor of the CPU")
HOST = (TypeError, "Implicit conversion|expected np.ndarray")
POISON = (ValueError, "scores are not finite|the flag is set|the loss is nan|negative")
WAITS = (AssertionError, "Counter")
FAULTS = {
    "rows of the tokens stay on the host": (head, "make_batch", rows_on_the_host, MIXED),
    "targets stay on the host": (distillation, "send", lambda arrays, device: [torch.from_numpy(*arrays)], MIXED),
    "numpy joins the arrays of cupy": (head, "join", lambda model, arrays: torch.from_numpy(np.vstack(arrays)), HOST),
    "predictions are read before they arrive": (head.HeadPredictions, "__init__", predictions_at_once, POISON),
    "the overflow flag is read before it arrives": (shim.TorchShim, "finish_update", flag_at_once, POISON),
    "the loss is read before it arrives": (head.UpdateLoss, "_read", lambda self: self._copy._tensors[0], POISON),
    "a loss is read for each batch": (head, "sum_losses", each_loss_by_itself, WAITS),
    "the host waits for a copy to the device": (batch, "send", blocking, WAITS),
}


@pytest.mark.parametrize("module, name, fault, error", FAULTS.values(), ids=list(FAULTS))
def test_planted_fault(module, name, fault, error, corpus, monkeypatch):
    config = small_config(ROOT / "configs" / "bilstm_crf.cfg", corpus, None)
    with pretend_gpu() as gpu:
        run = Run(config)
        run.update()
        monkeypatch.setattr(module, name, fault)
        with pytest.raises(error[0], match=error[1]):
            run.check(gpu)


def test_a_process_cannot_use_the_gpu_of_the_one_it_was_forked_from(corpus):
    with pretend_gpu():
        run = Run(small_config(ROOT / "configs" / "bilstm_crf.cfg", corpus, None))
        with pytest.raises(ValueError, match="sequence_ner: the model is on a GPU, .* set n_process = 1"):
            list(run.nlp.pipe(given(run.nlp), n_process=2))
