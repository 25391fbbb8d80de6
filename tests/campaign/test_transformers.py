"""All families of encoders: each gives right vectors, learns and reloads exactly, or is refused with a sentence."""

import re
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from families import FAMILIES, TEXTS, make_family, reference
from spacy.tokens import Doc
from thinc.api import Adam

from campaign.rows import add_row, write_beside
from spacy_ner_arch.architectures.transformer import transformer_model
from spacy_ner_arch.nn.transformer import WordTransformer

WINDOW, OVERLAP = 128, 16
# Families with a slow tokenizer, which reads word by word, so that there is no reference.
WITHOUT_OFFSETS = ("byt5", "canine")
# A family whose code in transformers (4.53) fails under autocast.
ONLY_FLOAT32 = ("deberta",)


def vectors_of(model, docs: list[Doc]) -> list[np.ndarray]:
    return [data.model_output.last_hidden_state[0] for data in model.predict(docs).doc_data]


def difference(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(first, second, strict=True))


def try_family(kind: str, folder: Path) -> list[str]:
    """Row of the table. Raises AssertionError for a family that neither works nor is refused with a known reason."""
    make_family(kind, folder)
    model = transformer_model(str(folder), window=WINDOW, overlap=OVERLAP)
    try:
        model.initialize()
    except ValueError as error:
        sentence = str(error).removeprefix(f"transformer {str(folder)!r}: ")
        assert re.search("depend on the (other texts|words around)|one vector for each word piece", sentence), sentence
        return ["refused", "", "", "", sentence]
    nlp = spacy.blank("en")
    docs = [nlp(text) for text in TEXTS]
    together, alone = vectors_of(model, docs), [vectors_of(model, [doc])[0] for doc in docs]
    cells = [difference(together, alone)]
    if kind not in ONLY_FLOAT32:
        check_half_precision(model, docs)
    if kind not in WITHOUT_OFFSETS:
        cells.append(difference(together[:3], [reference(folder, doc) for doc in docs[:3]]))
    parameters = {name: p.detach().clone() for name, p in model.shims[0].module.named_parameters()}
    _, backprop = model.begin_update(docs)
    backprop(torch.ones(sum(map(len, docs)), model.get_dim("nO")))
    model.finish_update(Adam(0.01))
    trained = vectors_of(model, docs)
    assert difference(together, trained) > 1e-3, "it does not learn"
    loaded = transformer_model("nowhere", window=WINDOW, overlap=OVERLAP).from_bytes(model.to_bytes())
    assert difference(trained, vectors_of(loaded, docs)) == 0, "it is another one after loading"
    for cell in cells:
        assert cell < 1e-5, f"other vectors, by {cell}"
    still = [name for name, p in model.shims[0].module.named_parameters() if torch.equal(p, parameters[name])]
    note = f"without gradient: {len(still)} of {len(parameters)} parameters" if still else ""
    return ["runs", *(f"{cell:.0e}" for cell in cells), *[""] * (2 - len(cells)), "exact", note]


def check_half_precision(model, docs: list[Doc]) -> None:
    """In bfloat16, the vectors are those of autocast without weights that are converted in advance."""
    shim = model.shims[0]
    shim.dtype = "bfloat16"
    converted = vectors_of(model, docs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WordTransformer, "_convert", lambda self: self.transformer)
        assert difference(converted, vectors_of(model, docs)) == 0, "other vectors in bfloat16"
    shim.dtype = "float32"


@pytest.mark.slow
def test_all_families(tmp_path):
    rows, problems = [], []
    for kind in FAMILIES:
        try:
            rows.append([kind, *try_family(kind, tmp_path / kind)])
        except Exception as error:
            rows.append([kind, "FAILS", "", "", "", f"{type(error).__name__}: {error}"[:200]])
            problems.append(kind)
    head = ["family", "result", "alone and in a batch", "Hugging Face's vectors", "after loading", "remark"]
    table = "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])
    print(f"\n{table}")
    write_beside("transformers.md", table)
    add_row("transformer families", len(rows), len(problems))
    assert len(rows) >= 25 and not problems
