"""`ner-arch export`: a trained pipeline that predicts without PyTorch."""

import tempfile
from pathlib import Path
from typing import Any

from spacy.language import Language
from thinc.api import Model
from typer import Argument, Option
from wasabi import Printer, msg

from .messages import fail, warn
from .options import CODE, MODEL
from .pipelines import check_corpus, load

# Maximum difference of probabilities in float32, and maximum fall of a score, in points, in 8-bit integers.
TOLERANCE, MAX_FALL = 1e-4, 0.1


def export(
    model: str = MODEL,
    output: Path = Argument(..., help="New folder for the exported pipeline"),
    check: Path | None = Option(
        None,
        "--check",
        help="Corpus in .spacy format on which both pipelines are compared",
        exists=True,
        callback=check_corpus,
    ),
    int8: bool = Option(
        False, "--int8", help=f"Compute in 8-bit integers, if no F1 on --check falls by more than {MAX_FALL}"
    ),
    code: Path | None = CODE,
) -> None:
    """Export a trained pipeline for fast prediction on a CPU. Load the folder with spacy.load.

    The embedding, the transformer, the encoder and the scores of the tags run in onnxruntime and NumPy, and so do
    the CRF and its exact probabilities. Other components are not changed.

    With --check, the exported pipeline must predict the same annotation in float32, with probabilities within 1e-4.
    Otherwise nothing is written, and the exit code is 1.
    """
    from ..bridge.onnx_export import check_onnx
    from ..formats.files import sync_folder
    from .export_comparison import compare

    try:
        if int8 and check is None:
            raise ValueError(
                "--int8 needs --check with a corpus like your texts: 8-bit integers can ruin a model, and only its F1 "
                "shows whether they do"
            )
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise ValueError(f"{output} exists already: remove it, or give another folder")
        check_onnx()
        nlp = load(model, code=code, silent=True)
        done = export_components(nlp, int8)
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent) as folder:
            written = Path(folder) / "pipeline"
            nlp.to_disk(written)
            if check is not None:
                comparison = compare(load(model, silent=True), load(str(written), silent=True), check)
                Printer().table(comparison.rows(), header=("", "PyTorch", "onnxruntime"), aligns=("l", "r", "r"))
                if int8:
                    comparison.check_scores(MAX_FALL, done)
                else:
                    comparison.check_equal(TOLERANCE)
            sync_folder(written)
            if output.exists():
                output.rmdir()
            written.rename(output)
    except (ValueError, OSError) as error:
        fail(f"Cannot export {model}", error)
    msg.good(f"Exported {', '.join(done)} to {output}")
    if check is None:
        msg.info("Give --check CORPUS to compare the predictions of both pipelines")


def export_components(nlp: Language, int8: bool) -> list[str]:
    """Export all components that can be exported, in place. Warns about the others that run PyTorch.

    Returns the names of those that were exported; raises ValueError if there is none.
    """
    from ..bridge.onnx_export import export as export_model
    from ..bridge.onnx_export import has_torch, reason_against

    models: dict[str, Any] = {name: getattr(pipe, "model", None) for name, pipe in nlp.components}
    models = {name: model for name, model in models.items() if isinstance(model, Model) and has_torch(model)}
    if not models:
        raise ValueError("no component of it runs PyTorch; it may have been exported before")
    reasons = {name: reason_against(model) for name, model in models.items()}
    left = [f"{name}: {reason}" for name, reason in reasons.items() if reason is not None]
    done = [name for name, reason in reasons.items() if reason is None]
    if not done:
        raise ValueError("\n".join(left))
    if left:
        warn("These components stay in PyTorch", "\n".join(left))
    for name in done:
        try:
            export_model(models[name], int8)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        config = nlp.get_pipe_config(name)
        config["model"] = {"@architectures": "spacy_ner_arch.Onnx.v1", "model": config["model"]}
    # `spacy package` makes onnxruntime a dependency of the package.
    nlp.meta["requirements"] = [*nlp.meta.get("requirements", []), "onnxruntime"]
    return done
