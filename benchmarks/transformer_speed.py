"""Speed of the transformer configs

Words per second on MiniLM with a CRF over it, of a pipeline against a plain PyTorch loop with the same transformer, the
same head and the same batches (bucketed, about 32 sentences), whose word pieces are cut before the clock starts, and
against spaCy's `ner` on spacy-transformers' own model; without our features of the words, which the others lack.
Systems in turn; median over the rounds. `ratio` is to the plain loop of the same round. Peak memory is that of a
process of its own that does the training rounds of that system alone.

    python benchmarks/transformer_speed.py
"""

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "2")

import spacy
import torch
from rows import add_row, has_row, peak_memory_mib
from spacy.tokens import Doc
from spacy.training import Corpus, Example
from spacy.training.batchers import minibatch_by_padded_size
from thinc.api import Adam, Config
from transformer import CORPUS, SPACY_NER, STOCK_LISTENER, STOCK_MODEL, minilm
from transformers import AutoModel, AutoTokenizer

from spacy_ner_arch.annotation.tags import tag_names
from spacy_ner_arch.bridge.collate import token_tags
from spacy_ner_arch.nn.batch import padding
from spacy_ner_arch.nn.taggers import CRFTagger

THREADS = int(os.environ["OMP_NUM_THREADS"])
ROUNDS, BATCHES, SIZE = 5, 10, 500
RATE = 1e-4
OURS_MODEL = {"@architectures": "spacy_ner_arch.TransformerModel.v1"}
OURS_HEAD = {
    "@architectures": "spacy_ner_arch.CRF.v1",
    "dropout": 0.1,
    "tok2vec": {"@architectures": "spacy_ner_arch.TransformerListener.v1"},
}


def make_pipeline(model: dict[str, Any], component: str, config: dict[str, Any], examples: list[Example]) -> Any:
    nlp = spacy.blank("en")
    nlp.add_pipe("transformer", config={"model": {**model, "name": str(minilm().resolve())}})
    nlp.add_pipe(component, config=Config(config))
    nlp.add_pipe("doc_cleaner", config={"attrs": {"_.trf_data": None}})
    nlp.initialize(lambda: examples)
    return nlp


class Pipeline:
    """A pipeline of spaCy, trained and run as spaCy does it."""

    def __init__(self, nlp: Any) -> None:
        self.nlp = nlp
        self.optimizer = Adam(RATE, L2=0.01, grad_clip=1.0, use_averages=False, L2_is_weight_decay=True)

    def train(self, batches: list[list[Example]]) -> None:
        for batch in batches:
            self.nlp.update([Example(Doc(eg.x.vocab, words=words(eg)), eg.y) for eg in batch], sgd=False, drop=0.1)
            for _, pipe in self.nlp.pipeline:
                if hasattr(pipe, "finish_update"):
                    pipe.finish_update(self.optimizer)

    def predict(self, examples: list[Example]) -> None:
        for _ in self.nlp.pipe([Doc(self.nlp.vocab, words=words(eg)) for eg in examples]):
            pass


class Plain:
    """The loop that one would write without spaCy."""

    def __init__(self, pipeline: Pipeline) -> None:
        component = pipeline.nlp.get_pipe("sequence_ner")
        self.targets = component.targets
        self.tokenizer = AutoTokenizer.from_pretrained(minilm())
        self.transformer = AutoModel.from_pretrained(minilm(), add_pooling_layer=False)
        tags = tag_names(component.labels, "BILUO")
        self.head = CRFTagger(384, dropout_rate=0.1, **component.hyperparameters())
        assert self.head.output.out_features == len(tags)
        parameters = [*self.transformer.parameters(), *self.head.parameters()]
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01, fused=True)

    def prepare(self, batch: list[Example]) -> tuple[Any, ...]:
        encoded = self.tokenizer(
            [words(eg) for eg in batch], is_split_into_words=True, padding=True, return_tensors="pt"
        )
        places, which, done = [], [], 0
        for row, eg in enumerate(batch):
            for place, word in enumerate(encoded.word_ids(row)):
                if word is not None:
                    places.append(row * encoded["input_ids"].shape[1] + place)
                    which.append(done + word)
            done += len(eg.x)
        shape = padding([len(eg.x) for eg in batch], torch.device("cpu"))
        tags, missing = token_tags(self.targets(batch), shape)
        return encoded, torch.tensor(places), torch.tensor(which), done, shape, tags, missing

    def words(self, encoded: Any, places: torch.Tensor, which: torch.Tensor, total: int, shape: Any) -> torch.Tensor:
        output = self.transformer(encoded["input_ids"], encoded["attention_mask"]).last_hidden_state.flatten(0, 1)
        summed = output.new_zeros(total, 384).index_add(0, which, output[places])
        return shape.pad(summed / which.bincount(minlength=total).clamp_min(1).unsqueeze(1))

    def train(self, prepared: list[tuple[Any, ...]]) -> None:
        self.transformer.train()
        self.head.train()
        for *inputs, shape, tags, missing in prepared:
            loss = self.head(self.words(*inputs, shape), shape.mask, None, tags, missing)
            loss.item()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def predict(self, prepared: list[tuple[Any, ...]]) -> None:
        self.transformer.eval()
        self.head.eval()
        with torch.inference_mode():
            for *inputs, shape, _, _ in prepared:
                self.head(self.words(*inputs, shape), shape.mask)


def words(eg: Example) -> list[str]:
    return [token.text for token in eg.reference]


def batched(examples: list[Example], size: int) -> list[list[Example]]:
    """Batches of like length, of at most so many words with their padding."""
    batches: list[list[Example]] = [[]]
    for eg in sorted(examples, key=lambda eg: len(eg.x)):
        if len(eg.x) * (len(batches[-1]) + 1) > size:
            batches.append([])
        batches[-1].append(eg)
    return batches


def ours(examples: list[Example]) -> Pipeline:
    return Pipeline(make_pipeline(OURS_MODEL, "sequence_ner", {"model": OURS_HEAD}, examples))


def stock_transformer(examples: list[Example]) -> Pipeline:
    head = {"model": {**OURS_HEAD, "tok2vec": STOCK_LISTENER}}
    return Pipeline(make_pipeline(STOCK_MODEL, "sequence_ner", head, examples))


def spacy_ner(examples: list[Example]) -> Pipeline:
    ner = {"model": {**SPACY_NER["model"], "tok2vec": STOCK_LISTENER}}
    return Pipeline(make_pipeline(STOCK_MODEL, "ner", ner, examples))


def plain(examples: list[Example]) -> Plain:
    return Plain(ours(examples))


SYSTEMS: dict[str, Callable[[list[Example]], Any]] = {
    "plain PyTorch": plain,
    "ours": ours,
    "our CRF, stock transformer": stock_transformer,
    "spacy ner": spacy_ner,
}


def seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def read(part: str) -> list[Example]:
    return list(Corpus(CORPUS / f"{part}.spacy")(spacy.blank("en")))


def training_batches() -> list[list[Example]]:
    """The first batches of a training with the shipped configs."""
    examples = read("train")
    random.Random(0).shuffle(examples)
    batches = minibatch_by_padded_size(examples, size=SIZE, buffer=256, discard_oversize=False)
    return [list(batch) for batch in islice(batches, BATCHES)]


def peak_memory(name: str) -> int:
    """MiB of a fresh process that trains with one system alone."""
    done = subprocess.run(
        [sys.executable, __file__, name], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1])


def train_alone(name: str) -> None:
    batches = training_batches()
    system = SYSTEMS[name](read("dev"))
    prepared: Any = [system.prepare(batch) for batch in batches] if isinstance(system, Plain) else batches
    for _ in range(2):
        system.train(prepared)
    print(peak_memory_mib())


def main() -> None:
    torch.set_num_threads(THREADS)
    if len(sys.argv) > 1:
        return train_alone(sys.argv[1])
    if not has_row("transformer_speed"):
        measure_speed()
    for name in SYSTEMS:
        if not has_row("transformer_speed", system=f"{name}, memory"):
            add_row("transformer_speed", system=f"{name}, memory", train_peak_memory_mib=peak_memory(name))


def measure_speed() -> None:
    train, test = training_batches(), read("dev")[:600]
    systems = {name: make(test) for name, make in SYSTEMS.items()}
    prepare = systems["plain PyTorch"].prepare
    prepared = [prepare(batch) for batch in train], [prepare(batch) for batch in batched(test, 2000)]
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS + 1):
        for name, system in systems.items():
            is_plain = name == "plain PyTorch"
            for work, run in (
                ("train", lambda: system.train(prepared[0] if is_plain else train)),  # noqa: B023 - called at once
                ("predict", lambda: system.predict(prepared[1] if is_plain else test)),  # noqa: B023 - the same
            ):
                times.setdefault((name, work), []).append(seconds(run))
    counts = {"train": sum(len(eg.x) for batch in train for eg in batch), "predict": sum(len(eg.x) for eg in test)}
    for name in systems:
        figures: dict[str, Any] = {}
        for work, count in counts.items():
            spent, reference = times[name, work][1:], times["plain PyTorch", work][1:]
            figures[f"{work}_words_per_s"] = round(count / statistics.median(spent))
            ratios = [b / a for a, b in zip(spent, reference, strict=True)]
            figures[f"{work}_ratio"] = round(statistics.median(ratios), 2)
        add_row("transformer_speed", system=name, **figures, threads=THREADS)


if __name__ == "__main__":
    main()
