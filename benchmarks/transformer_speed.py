"""Measure the speed of training and prediction on a transformer, against a plain PyTorch loop and spaCy's ner.

python benchmarks/transformer_speed.py [--threads 2]
"""

import argparse
import random
import statistics
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import spacy
import torch
from rows import add_row, has_row, in_new_process, median_ratio, peak_memory_mib, times_in_turn
from run import ROOT, convert, link_minilm
from runs import STOCK_LISTENER, STOCK_MODEL, spacy_ner
from spacy.tokens import Doc
from spacy.training import Corpus, Example
from spacy.training.batchers import minibatch_by_padded_size
from thinc.api import Adam, Config
from transformers import AutoModel, AutoTokenizer

from spacy_ner_arch.nn.batch import Batch, make_batch
from spacy_ner_arch.nn.taggers import CRFTagger

MINILM = ROOT / "training" / "minilm"
CPU = torch.device("cpu")
ROUNDS, BATCHES, SIZE = 5, 10, 500
RATE, DROPOUT = 1e-4, 0.1
OURS_MODEL = {"@architectures": "spacy_ner_arch.TransformerModel.v1"}
OURS_HEAD = {
    "@architectures": "spacy_ner_arch.CRF.v1",
    "dropout": DROPOUT,
    "tok2vec": {"@architectures": "spacy_ner_arch.TransformerListener.v1"},
}


class Pipeline:
    """A pipeline of spaCy, trained and run as spaCy does it."""

    def __init__(
        self, transformer: dict[str, Any], component: str, head: dict[str, Any], examples: list[Example]
    ) -> None:
        self.nlp: Any = spacy.blank("en")
        self.nlp.add_pipe("transformer", config={"model": {**transformer, "name": str(MINILM.resolve())}})
        self.nlp.add_pipe(component, config=Config({"model": head}))
        self.nlp.add_pipe("vector_cleaner")
        self.nlp.initialize(lambda: examples)
        self.optimizer = Adam(RATE, L2=0.01, grad_clip=1.0, use_averages=False, L2_is_weight_decay=True)

    def train(self, batches: list[list[Example]]) -> None:
        for batch in batches:
            examples = [Example(Doc(eg.x.vocab, words=words(eg)), eg.y) for eg in batch]
            self.nlp.update(examples, sgd=False, drop=DROPOUT)
            for _, pipe in self.nlp.pipeline:
                if hasattr(pipe, "finish_update"):
                    pipe.finish_update(self.optimizer)

    def predict(self, examples: list[Example]) -> None:
        for _ in self.nlp.pipe([Doc(self.nlp.vocab, words=words(eg)) for eg in examples]):
            pass


class Plain:
    """The same transformer and head in a loop without spaCy; word pieces are prepared in advance."""

    def __init__(self, examples: list[Example]) -> None:
        self.component: Any = ours(examples).nlp.get_pipe("sequence_ner")
        self.tokenizer = AutoTokenizer.from_pretrained(MINILM)
        self.transformer = AutoModel.from_pretrained(MINILM, add_pooling_layer=False)
        self.head = CRFTagger(
            self.transformer.config.hidden_size, dropout_rate=DROPOUT, **self.component.hyperparameters()
        )
        self.parameters = [*self.transformer.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=RATE, weight_decay=0.01, fused=True)

    def prepare(self, examples: list[Example], with_targets: bool) -> tuple[Any, torch.Tensor, torch.Tensor, Batch]:
        """Word pieces, the place and the word of each, and the batch."""
        pieces = self.tokenizer(
            [words(eg) for eg in examples], is_split_into_words=True, padding=True, return_tensors="pt"
        )
        places, numbers, done = [], [], 0
        for row, eg in enumerate(examples):
            for place, word in enumerate(pieces.word_ids(row)):
                if word is not None:
                    places.append(row * pieces["input_ids"].shape[1] + place)
                    numbers.append(done + word)
            done += len(eg.x)
        targets = self.component.find_targets(examples, None) if with_targets else None
        batch = self.head.collate(make_batch([len(eg.x) for eg in examples], CPU), None, targets)
        return pieces, torch.tensor(places), torch.tensor(numbers), batch

    def forward(self, pieces: Any, places: torch.Tensor, numbers: torch.Tensor, batch: Batch) -> Any:
        output = self.transformer(pieces["input_ids"], pieces["attention_mask"]).last_hidden_state.flatten(0, 1)
        total = int(batch.lengths.sum())
        summed = output.new_zeros(total, output.shape[1]).index_add(0, numbers, output[places])
        means = summed / numbers.bincount(minlength=total).clamp_min(1).unsqueeze(1)
        return self.head(batch.pad(means), batch)

    def train(self, prepared: list[tuple[Any, ...]]) -> None:
        self.transformer.train()
        self.head.train()
        for inputs in prepared:
            loss = self.forward(*inputs).total
            loss.item()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def predict(self, prepared: list[tuple[Any, ...]]) -> None:
        self.transformer.eval()
        self.head.eval()
        with torch.no_grad():
            for inputs in prepared:
                self.forward(*inputs)


def words(eg: Example) -> list[str]:
    return [token.text for token in eg.reference]


def ours(examples: list[Example]) -> Pipeline:
    return Pipeline(OURS_MODEL, "sequence_ner", OURS_HEAD, examples)


def ours_bfloat16(examples: list[Example]) -> Pipeline:
    return Pipeline({**OURS_MODEL, "dtype": "bfloat16"}, "sequence_ner", OURS_HEAD, examples)


def stock_transformer(examples: list[Example]) -> Pipeline:
    return Pipeline(STOCK_MODEL, "sequence_ner", {**OURS_HEAD, "tok2vec": STOCK_LISTENER}, examples)


def stock_ner(examples: list[Example]) -> Pipeline:
    return Pipeline(STOCK_MODEL, "ner", spacy_ner(STOCK_LISTENER)["components.ner"]["model"], examples)


PLAIN = "plain PyTorch"
SYSTEMS: dict[str, Callable[[list[Example]], Any]] = {
    PLAIN: Plain,
    "ours": ours,
    "ours, bfloat16": ours_bfloat16,
    "our CRF, stock transformer": stock_transformer,
    "spacy ner": stock_ner,
}


def read(part: str) -> list[Example]:
    return list(Corpus(ROOT / "corpus" / "conll2003" / f"{part}.spacy")(spacy.blank("en")))


def training_batches() -> list[list[Example]]:
    """The first batches of a training with the shipped configs."""
    examples = read("train")
    random.Random(0).shuffle(examples)
    batches = minibatch_by_padded_size(examples, size=SIZE, buffer=256, discard_oversize=False)
    return [list(batch) for batch in islice(batches, BATCHES)]


def batched(examples: list[Example], size: int) -> list[list[Example]]:
    """Batches of similar length, of at most so many words with their padding."""
    batches: list[list[Example]] = [[]]
    for eg in sorted(examples, key=lambda eg: len(eg.x)):
        if len(eg.x) * (len(batches[-1]) + 1) > size:
            batches.append([])
        batches[-1].append(eg)
    return batches


def peak_memory(name: str, threads: int) -> int:
    """MiB of a process that trains one system."""
    torch.set_num_threads(threads)
    batches = training_batches()
    system = SYSTEMS[name](read("dev"))
    prepared: Any = [system.prepare(batch, True) for batch in batches] if isinstance(system, Plain) else batches
    for _ in range(2):
        system.train(prepared)
    return peak_memory_mib()


def measure(threads: int) -> None:
    train, test = training_batches(), read("dev")[:600]
    systems = {name: make(test) for name, make in SYSTEMS.items()}
    plain = systems[PLAIN]
    inputs: dict[str, tuple[Any, Any]] = {name: (train, test) for name in systems}
    inputs[PLAIN] = (
        [plain.prepare(batch, True) for batch in train],
        [plain.prepare(batch, False) for batch in batched(test, 2000)],
    )
    times = {
        "train": times_in_turn(
            {name: partial(system.train, inputs[name][0]) for name, system in systems.items()}, ROUNDS
        ),
        "predict": times_in_turn(
            {name: partial(system.predict, inputs[name][1]) for name, system in systems.items()}, ROUNDS
        ),
    }
    counts = {"train": sum(len(eg.x) for batch in train for eg in batch), "predict": sum(len(eg.x) for eg in test)}
    for name in systems:
        row: dict[str, Any] = {"section": "transformer_speed", "system": name}
        for work, spent in times.items():
            row[f"{work}_words_per_s"] = round(counts[work] / statistics.median(spent[name]))
            row[f"{work}_ratio"] = median_ratio(spent[name], spent[PLAIN])
        memory = in_new_process(peak_memory, name, threads)
        add_row("speed", {**row, "train_peak_memory_mib": memory, "threads": threads})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    convert("conll2003")
    link_minilm()
    if not has_row("speed", section="transformer_speed"):
        measure(options.threads)


if __name__ == "__main__":
    main()
