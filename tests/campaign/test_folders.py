"""Damaged and crafted files of a pipeline: each ends in a right pipeline, or in an error that names component and file.

No file runs code, asks whether it may, or takes much memory.
"""

import builtins
import json
import pickle
import random
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import spacy
import srsly
import torch
from conftest import TRAIN, entities, make_examples, transformer_nlp
from families import TEXTS, make_family
from safetensors.torch import load, save

from campaign.rows import add_row
from spacy_ner_arch.architectures.transformer import transformer_model
from spacy_ner_arch.bridge import storage

SEED, MEBIBYTE = 0, 2**20
MEMORY = 300 * MEBIBYTE
FILES = ["transformer/model", "sequence_ner/model", "sequence_ner/cfg"]
HUGE = [10**6, 10**9, 10**12, -1, "many", None, [1], {}]


class Bomb:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


@pytest.fixture
def no_code(tmp_path, monkeypatch):
    """File that the code of a folder would write; a question to the user is an error."""

    def refuse(prompt=""):
        (tmp_path / "canary").touch()
        raise AssertionError(f"asked {prompt!r}")

    monkeypatch.setattr(builtins, "input", refuse)
    return tmp_path / "canary"


@pytest.fixture(scope="module", params=["bert", "byt5"])
def pipeline(request, tmp_path_factory) -> Path:
    """A small trained pipeline, with a fast or a slow tokenizer."""
    folder = tmp_path_factory.mktemp("folders")
    make_family(request.param, folder / "pretrained")
    nlp = transformer_nlp(folder / "pretrained", "ours", transformer_config={})
    examples = make_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.01
    for _ in range(5):
        nlp.update(examples, sgd=optimizer)
    nlp.to_disk(folder / "pipeline")
    return folder / "pipeline"


def outcome(folder: Path):
    """What a pipeline predicts: vectors, entities, scores."""
    nlp = spacy.load(folder)
    nlp.remove_pipe("vector_cleaner")
    docs = list(nlp.pipe([*TEXTS, *(text for text, _ in TRAIN)]))
    vectors = np.concatenate([doc._.trf_data.model_output.last_hidden_state[0] for doc in docs])
    return vectors, [(entities(doc), [ent._.score for ent in doc.ents]) for doc in docs]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Random damage of a file."""
    place = chance.randrange(len(data))
    kind = chance.choice(["cut", "flip", "flip", "flip", "zeros", "doubled", "empty"])
    if kind == "cut":
        return data[:place]
    if kind == "flip":
        return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
    if kind == "zeros":
        return data[:place] + bytes(len(data[place : place + 64])) + data[place + 64 :]
    return data + data[place:] if kind == "doubled" else b""


def crafted_models(data: bytes, bomb: bytes) -> Iterator[tuple[str, bytes]]:
    """Files of the transformer that are well-formed, with right checksums, and wrong on purpose."""
    message = srsly.msgpack_loads(data)
    weights, tokenizer = message["shims"][0]
    size = int.from_bytes(weights[:8], "little")
    hyperparameters = json.loads(json.loads(weights[8 : 8 + size])["__metadata__"]["hyperparameters"])
    del hyperparameters["checksum"]
    config = hyperparameters["config"]
    tensors = {"transformer.weight": torch.ones(1000, 100)}

    def with_shims(weights, tokenizer):
        return srsly.msgpack_dumps({**message, "shims": [[weights, tokenizer]]})

    def with_config(changes, keep_tensors=True):
        own = load(weights) if keep_tensors else tensors
        stored = {**hyperparameters, "config": {**config, **changes}}
        stored["checksum"] = storage.tensors_checksum(stored, own)
        return with_shims(save(own, {"hyperparameters": json.dumps(stored)}), tokenizer)

    def with_tokenizer(**stored):
        return with_shims(weights, storage.pack(stored))

    sizes = [key for key, value in config.items() if isinstance(value, int) and not isinstance(value, bool)]
    for key in sizes:
        for value in HUGE[:3]:
            yield f"{key} = {value}", with_config({key: value})
    for value in HUGE[3:]:
        yield f"hidden_size = {value}", with_config({"hidden_size": value})
    yield "few tensors", with_config({}, keep_tensors=False)
    for kind in ("canine", "detr", "no-such-model", "xlnet", "t5", "clip"):
        yield f"model_type = {kind}", with_config({"model_type": kind})
    code = {"auto_map": {"AutoModel": "code.Model", "AutoConfig": "code.Config", "AutoTokenizer": ["code.T", None]}}
    yield "auto_map", with_config(code)
    yield "attn_implementation", with_config({"attn_implementation": "someone/kernels:attention"})
    yield "_attn_implementation", with_config({"_attn_implementation": "someone/kernels:attention"})
    yield "pickled weights", with_shims(bomb, tokenizer)
    yield "pickled tokenizer", with_shims(weights, bomb)
    files = {"tokenizer_config.json": b"{}", "vocab.pkl": bomb, "code.py": b"open('canary', 'w')"}
    for tokenizer_class in ("TransfoXLTokenizer", "ByT5Tokenizer", "AutoModel", "pipeline", "Nothing"):
        own = json.dumps({"tokenizer_class": tokenizer_class, **code}).encode()
        slow = {**files, "tokenizer_config.json": own}
        yield f"slow {tokenizer_class}", with_tokenizer(files=slow, fast=False, typed=False)
        yield f"fast {tokenizer_class}", with_tokenizer(files={**slow, "tokenizer.json": own}, fast=True, typed=False)
    escaping = {"../../canary": b"x", "tokenizer_config.json": b'{"tokenizer_class": "ByT5Tokenizer"}'}
    yield "path outside", with_tokenizer(files=escaping, fast=False, typed=False)


def peak() -> int:
    """Largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def copied(source: Path, folder: Path, name: str, data: bytes | None) -> Path:
    """A copy of a folder with another file, or without it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    (folder / name).unlink()
    if data is not None:
        (folder / name).write_bytes(data)
    return folder


def check_pipelines(pipeline: Path, folder: Path, cases, canary: Path, exact: bool) -> list[str]:
    """Problems with changed files of a pipeline.

    cases: (description, file, content or None for a missing file).
    exact: a file that loads must give the predictions of the pipeline; else it may belong to another one.
    """
    vectors, expected = outcome(pipeline)
    problems = []
    for case, name, data in cases:
        copied(pipeline, folder, name, data)
        component = str(folder / name.split("/")[0])
        try:
            own_vectors, own = outcome(folder)
            # The settings of a component are a text file. Another digit there is another setting.
            if exact and name != "sequence_ner/cfg" and not (np.array_equal(own_vectors, vectors) and own == expected):
                problems.append(f"{name}, {case}: loads, and predicts something else")
        except (ValueError, OSError) as error:
            if component not in str(error):
                problems.append(f"{name}, {case}: names nothing: {str(error)[:200]}")
        except Exception as error:
            problems.append(f"{name}, {case}: {type(error).__name__}: {str(error)[:200]}")
        if canary.exists():
            problems.append(f"{name}, {case}: ran code")
            canary.unlink()
    return problems


@pytest.mark.slow
def test_damaged_pipelines(pipeline, tmp_path, no_code):
    chance = random.Random(SEED)
    counts = zip(FILES, (80, 40, 20), strict=True)
    cases = [
        (f"damage {number}", name, damaged((pipeline / name).read_bytes(), chance))
        for name, count in counts
        for number in range(count)
    ]
    cases += [("no file", name, None) for name in FILES]
    problems = check_pipelines(pipeline, tmp_path / "pipeline", cases, no_code, exact=True)
    add_row("damaged files of a pipeline", len(cases), len(problems))
    assert not problems, "\n".join(problems)


@pytest.mark.slow
def test_crafted_pipelines(pipeline, tmp_path, no_code):
    before = peak()
    crafted = crafted_models((pipeline / "transformer/model").read_bytes(), pickle.dumps(Bomb(no_code)))
    cases = [(case, "transformer/model", data) for case, data in crafted]
    problems = check_pipelines(pipeline, tmp_path / "pipeline", cases, no_code, exact=False)
    if peak() - before > MEMORY:
        problems.append(f"took {(peak() - before) // MEBIBYTE} MiB")
    add_row("crafted files of a pipeline", len(cases), len(problems))
    assert len(cases) > 60 and not problems, "\n".join(problems)


def crafted_pretrained(folder: Path, bomb: bytes) -> Iterator[tuple[str, str, bytes | None]]:
    """Files of a Hugging Face folder that are missing, not what they should be, or contain code."""
    config = json.loads((folder / "config.json").read_text())
    own = json.loads((folder / "tokenizer_config.json").read_text())
    code = {"AutoModel": "code.Model", "AutoConfig": "code.Config", "AutoTokenizer": ["code.Tokenizer", None]}

    def as_json(content) -> bytes:
        return json.dumps(content).encode()

    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        for content in (None, b"", b"{}", b"[]", b"\xff" * 100, bomb):
            yield f"{content!r:.20}", name, content
    for value in HUGE:
        for key in ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "max_position_embeddings"):
            yield f"{key} = {value}", "config.json", as_json({**config, key: value})
    for kind in ("canine", "detr", "no-such-model", "xlnet", "clip", None):
        yield f"model_type = {kind}", "config.json", as_json({**config, "model_type": kind})
        yield f"code, model_type = {kind}", "config.json", as_json({**config, "model_type": kind, "auto_map": code})
    yield "code", "config.json", as_json({**config, "auto_map": code})
    yield "kernel", "config.json", as_json({**config, "_attn_implementation": "someone/kernels:attention"})
    for kind in ("TransfoXLTokenizer", "Tokenizer", "AutoModel", "pipeline", "ByT5Tokenizer", None):
        yield f"{kind}", "tokenizer_config.json", as_json({**own, "tokenizer_class": kind, "auto_map": code})


@pytest.mark.slow
def test_crafted_pretrained_models(tmp_path, no_code):
    """At initialization: an error that names folder and file, or a model that gives vectors."""
    source, folder = tmp_path / "source", tmp_path / "folder"
    make_family("bert", source)
    (source / "code.py").write_text(f"open({str(no_code)!r}, 'w')\nclass Model: pass\nclass Config: pass\n")
    chance = random.Random(SEED)
    cases = list(crafted_pretrained(source, pickle.dumps(Bomb(no_code))))
    cases += [
        (f"cut {number}", name, (source / name).read_bytes()[: chance.randrange((source / name).stat().st_size)])
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
        for number in range(10)
    ]
    before = peak()
    problems = []
    for case, name, data in cases:
        copied(source, folder, name, data)
        problems += check_pretrained(folder, f"{name}, {case}", no_code)
    copied(source, folder, "model.safetensors", None)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(no_code)))
    problems += check_pretrained(folder, "pickled weights", no_code)
    if peak() - before > MEMORY:
        problems.append(f"took {(peak() - before) // MEBIBYTE} MiB")
    add_row("crafted Hugging Face folders", len(cases) + 1, len(problems))
    assert len(cases) > 80 and not problems, "\n".join(problems)


def check_pretrained(folder: Path, case: str, canary: Path) -> list[str]:
    """Problems with a Hugging Face folder."""
    problems = []
    model = transformer_model(str(folder), window=64, overlap=16)
    try:
        model.initialize()
        (data,) = model.predict([spacy.blank("en")(TEXTS[0])]).doc_data
        if not np.isfinite(data.model_output.last_hidden_state).all():
            problems.append(f"{case}: vectors are not finite")
    except ValueError as error:
        if str(folder) not in str(error):
            problems.append(f"{case}: names nothing: {str(error)[:200]}")
    except Exception as error:
        problems.append(f"{case}: {type(error).__name__}: {str(error)[:200]}")
    if canary.exists():
        problems.append(f"{case}: ran code")
        canary.unlink()
    return problems
