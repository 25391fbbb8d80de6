"""Measure updates and predictions over RoBERTa-base with random weights, against a plain PyTorch loop.

python benchmarks/step_time.py --gpu-id 0 [--stock] [--cases 32,128,docs] [--dtypes float32,bfloat16]

Needs no download and no corpus but assets/sample. Systems run in turn, with the garbage collector frozen; the device is
synchronized before a clock is read. Shown are medians over the rounds, the median of the ratios, and what a profiler
counts in one call. The plain loop reads word pieces, masks and tags that were put on the device before the clock
started; the others make documents, word pieces and entities within it. A case ends when its time is over, after at
least one round.
"""

import argparse
import gc
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import spacy
import torch
import transformer_speed as speed
from run import ROOT
from runs import STOCK_LISTENER, STOCK_MODEL, spacy_ner
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import filter_spans
from thinc.api import set_gpu_allocator
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaModel, RobertaTokenizerFast

from spacy_ner_arch.nn.taggers import CRFTagger


class Pipeline(speed.Pipeline):
    """A pipeline that predicts in batches of a given size."""

    def predict(self, batches: list[list[Example]]) -> None:  # type: ignore[override]  # batches, not examples
        for batch in batches:
            docs = [Doc(self.nlp.vocab, words=speed.words(eg)) for eg in batch]
            for _ in self.nlp.pipe(docs, batch_size=len(docs)):
                pass


class Plain(speed.Plain):
    """The plain loop on a device, in mixed precision if asked for; nothing in it waits for the device but the loss."""

    def __init__(self, component: Any, folder: Path, device: torch.device, dtype: str) -> None:
        self.component, self.device, self.dtype = component, device, dtype
        self.tokenizer = AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
        self.transformer = AutoModel.from_pretrained(folder, add_pooling_layer=False).to(device)
        width = self.transformer.config.hidden_size
        self.head = CRFTagger(width, dropout_rate=speed.DROPOUT, **component.hyperparameters()).to(device)
        self.parameters = [*self.transformer.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=speed.RATE, weight_decay=0.01, fused=True)

    def prepare(self, examples: list[Example], with_targets: bool) -> tuple[Any, ...]:
        pieces, places, numbers, batch = super().prepare(examples, with_targets)
        counts = numbers.bincount(minlength=int(batch.lengths.sum())).clamp_min(1).unsqueeze(1)
        self.pieces = pieces["attention_mask"].sum().item()
        return pieces.to(self.device), *(part.to(self.device) for part in (places, numbers, counts)), batch

    def forward(self, *inputs: Any) -> Any:
        pieces, places, numbers, counts, batch = inputs
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == "bfloat16"):
            output = self.transformer(pieces["input_ids"], pieces["attention_mask"]).last_hidden_state.flatten(0, 1)
            summed = output.new_zeros(len(counts), output.shape[1]).index_add(0, numbers, output[places])
            return self.head(batch.pad(summed / counts), batch)

    def predict(self, prepared: list[tuple[Any, ...]]) -> None:
        self.transformer.eval()
        self.head.eval()
        with torch.no_grad():
            for inputs in prepared:
                [part.cpu() for part in self.forward(*inputs)]


def make_transformer(folder: Path, sentences: Sequence[Any], layers: int, width: int) -> None:
    """A RoBERTa with random weights and a tokenizer of bytes learned from the sentences."""
    tokenizer = ByteLevelBPETokenizer(add_prefix_space=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    texts = [" ".join(words) for words, _ in sentences]
    tokenizer.train_from_iterator(texts, vocab_size=2000, special_tokens=special, show_progress=False)
    tokenizer.save_model(str(folder))
    fast = RobertaTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), add_prefix_space=True)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=50265,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        intermediate_size=4 * width,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    )
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)


def read_sentences() -> list[tuple[list[str], list[Any]]]:
    """Words and flat entities of each sentence of the sample."""
    lines = (ROOT / "assets" / "sample" / "train.jsonl").read_text(encoding="utf8").splitlines()
    return [(row["tokens"], row["spans"]) for row in map(json.loads, lines)]


def make_example(vocab: Any, parts: Sequence[Any]) -> Example:
    """One document of several sentences."""
    words, spans = [], []
    for tokens, found in parts:
        spans += [(len(words) + start, len(words) + end, label) for start, end, label in found]
        words += tokens
    doc = Doc(vocab, words=words)
    doc.set_ents(filter_spans([Span(doc, *span) for span in spans]), default="outside")
    return Example(Doc(vocab, words=words), doc)


def make_batches(vocab: Any, sentences: Sequence[Any], case: str, count: int) -> list[list[Example]]:
    """Batches of so many sentences, or of 16 documents of at least 200 words."""
    rng = random.Random(0)

    def document() -> Example:
        parts = [rng.choice(sentences)]
        while case == "docs" and sum(len(words) for words, _ in parts) < 200:
            parts.append(rng.choice(sentences))
        return make_example(vocab, parts)

    return [[document() for _ in range(16 if case == "docs" else int(case))] for _ in range(count)]


def synchronize() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def in_turn(works: Mapping[str, Callable[[], Any]], rounds: int, limit: float) -> dict[str, list[float]]:
    """Seconds of each piece of work in each round, until the limit is over."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():  # compiles kernels and fills caches
        work()
    gc.collect()
    gc.freeze()
    gc.disable()
    begin = time.perf_counter()
    for number in range(rounds):
        if number and time.perf_counter() - begin > limit:
            break
        for name, work in works.items():
            synchronize()
            start = time.perf_counter()
            work()
            synchronize()
            times[name].append(time.perf_counter() - start)
    gc.enable()
    gc.unfreeze()
    return times


def profile(name: str, work: Callable[[], None], on_gpu: bool) -> None:
    """Launches, copies and waits of one call, and how long the device is busy."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if on_gpu:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    synchronize()
    with torch.profiler.profile(activities=activities) as profiled:
        work()
        synchronize()
    counts = {"launches": 0, "kernels": 0, "copies": 0, "waits": 0, "operations": 0}
    busy = 0.0
    for event in profiled.events():
        if event.device_type == torch.autograd.DeviceType.CPU:
            counts["launches"] += event.name.startswith(("cudaLaunchKernel", "cuLaunchKernel"))
            counts["waits"] += event.name.startswith(("cudaStreamSynchronize", "cudaDeviceSynchronize"))
            counts["operations"] += event.name.startswith("aten::")
        elif event.name.startswith("Memcpy"):
            counts["copies"] += 1
        elif not event.name.startswith("Memset") and not getattr(event, "is_user_annotation", False):
            counts["kernels"] += 1
            busy += event.time_range.elapsed_us()
    shown = ", ".join(f"{key} {value}" for key, value in counts.items())
    print(f"  {name:22} {shown}, device busy {busy / 1000:.2f} ms (waits include the last of the profiler's own)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu-id", type=int, default=-1)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--cases", default="32,128,docs")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--batches", type=int, default=8, help="in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=12.0, help="seconds of training, and of prediction, per case")
    parser.add_argument("--stock", action="store_true", help="also spacy-transformers with spaCy's ner, in float32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    on_gpu = options.gpu_id >= 0
    if on_gpu:
        spacy.require_gpu(options.gpu_id)
        set_gpu_allocator("pytorch")  # as the configs have it
        print(torch.cuda.get_device_name(options.gpu_id))
    device = torch.device("cuda", options.gpu_id) if on_gpu else torch.device("cpu")
    begin = time.perf_counter()
    sentences = read_sentences()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_transformer(folder, sentences, options.layers, options.width)
        speed.MINILM, speed.CPU = folder, device
        vocab = spacy.blank("en").vocab
        labelled = [make_example(vocab, [sentence]) for sentence in sentences]
        for dtype in options.dtypes.split(","):
            model, head = ({**block, "dtype": dtype} for block in (speed.OURS_MODEL, speed.OURS_HEAD))
            ours = Pipeline(model, "sequence_ner", head, labelled)
            plain = Plain(ours.nlp.get_pipe("sequence_ner"), folder, device, dtype)
            systems = {"plain": plain, "ours": ours}
            if options.stock and dtype == "float32":
                stock = spacy_ner(STOCK_LISTENER)["components.ner"]["model"]
                systems["spacy-transformers"] = Pipeline(STOCK_MODEL, "ner", stock, labelled)
            print(f"{dtype}: systems made after {time.perf_counter() - begin:.0f} s", flush=True)
            for case in options.cases.split(","):
                batches = make_batches(vocab, sentences, case, options.batches)
                words = sum(len(eg.x) for batch in batches for eg in batch)
                inputs = {name: (batches, batches) for name in systems}
                inputs["plain"] = tuple([plain.prepare(b, targets) for b in batches] for targets in (True, False))
                works = [
                    {name: partial(getattr(system, work), inputs[name][i]) for name, system in systems.items()}
                    for i, work in enumerate(("train", "predict"))
                ]
                for work, parts in zip(("train", "predict"), works, strict=True):
                    times = in_turn(parts, options.rounds, options.limit)
                    for name, spent in times.items():
                        ratio = statistics.median(b / a for a, b in zip(spent, times["plain"], strict=True))
                        median = statistics.median(spent)
                        print(
                            f"{case:>5} {dtype:9} {work:8} {name:20} {1000 * median / len(batches):9.2f} ms/batch"
                            f" {words / median:10,.0f} words/s  {ratio:5.2f} of plain  rounds {len(spent)},"
                            f" {1000 * min(spent) / len(batches):.2f} to {1000 * max(spent) / len(batches):.2f} ms",
                            flush=True,
                        )
                for i, work in enumerate(("train", "predict")):
                    for name in ("ours", "plain"):
                        profile(f"{work} {name}", partial(getattr(systems[name], work), inputs[name][i][:1]), on_gpu)
            del ours, plain, systems, inputs, works, parts
            gc.collect()
    print(f"done after {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
