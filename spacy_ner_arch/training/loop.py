"""spaCy's training loop in one or several processes, with checkpoints.

The steps are those of spaCy's `train_while_improving`. A resumed run executes the same loop from the beginning, without
updates and with the scores of the checkpoint, up to the step of the checkpoint. Then all schedules, the stages and the
position in the corpus are the same as before, and the state of the pipeline and of the optimizer is restored.
"""

import random
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.training import Example
from spacy.training.loop import (
    create_before_to_disk_callback,
    create_evaluation_callback,
    create_train_batches,
    train_while_improving,
    update_meta,
)
from spacy.util import fix_random_seed, registry, resolve_dot_names
from thinc.api import Model, set_gpu_allocator
from wasabi import Printer

from ..bridge.layers import layers
from ..bridge.shim import get_shim
from . import parallel
from .batches import Batches
from .checkpoint import Checkpoint, TrainingError
from .output import Output
from .pipeline_state import set_training_state, set_weights, weights, weights_checksum
from .random_states import (
    from_json,
    random_state,
    set_device_random_state,
    set_random_state,
    to_json,
)
from .update_sum import UpdateSum, add_losses, float_buffers


class Training:
    """A training run of a pipeline.

    nlp: the initialized pipeline with the full config.
    output: folder for model-best, model-last and the checkpoint, which the first process writes; None to store nothing.
    conditions: conditions that must not change before the run is resumed, see `conditions.find_conditions`.
    use_gpu: number of the GPU, which must be active already; -1 for the CPU.
    saved: checkpoint to resume from; None to start from the beginning.
    force: resume even if the corpus yields different batches than before.
    minutes: also write a checkpoint when this time has passed since the last one; None to write them only after
        evaluations.

    In a group of processes (`training.parallel`), each process makes this object and calls `run`.
    """

    def __init__(
        self,
        nlp: Language,
        output: Path | None,
        conditions: dict[str, Any],
        *,
        use_gpu: int = -1,
        saved: Checkpoint | None = None,
        force: bool = False,
        minutes: float | None = None,
    ) -> None:
        self.nlp, self.force = nlp, force
        config = nlp.config.interpolate()
        if config["training"]["seed"] is not None:
            fix_random_seed(config["training"]["seed"])
        if use_gpu >= 0 and config["training"]["gpu_allocator"]:
            set_gpu_allocator(config["training"]["gpu_allocator"])
        self.settings = registry.resolve(config["training"], schema=ConfigSchemaTraining)
        names = [self.settings["train_corpus"], self.settings["dev_corpus"]]
        train_corpus, dev_corpus = resolve_dot_names(config, names)
        self.optimizer = self.settings["optimizer"]
        self.frozen = self.settings["frozen_components"]
        before_to_disk = create_before_to_disk_callback(self.settings["before_to_disk"])
        self.output = Output(output, nlp, self.optimizer, before_to_disk, conditions, minutes)
        self.score = create_evaluation_callback(nlp, dev_corpus, self.settings["score_weights"])

        if saved is not None:
            set_weights(nlp, saved.tensors)
        self.check_agreement("names and shapes of weights", [(name, w.shape) for name, w in weights(nlp).items()])
        parallel.broadcast_tensors(list(weights(nlp).values()))
        self.start = from_json(saved.values["start"]) if saved else parallel.broadcast(random_state())
        set_random_state(self.start)
        batches = create_train_batches(nlp, train_corpus, self.settings["batcher"], self.settings["max_epochs"])
        self.batches = Batches(batches, self.start)
        if parallel.rank():  # each process samples different dropout
            fix_random_seed(random.randrange(2**31) + parallel.rank())
        self.scores: dict[int, float] = dict(saved.values["scores"]) if saved else {}
        self.seconds: float = saved.values["seconds"] if saved else 0.0
        # The checkpoint that the loop still has to reach.
        self.replayed = saved
        trained = [pipe for name, pipe in nlp.pipeline if name not in self.frozen]
        self.sums = UpdateSum([p for p in trained if isinstance(getattr(p, "model", None), Model)])

    def run(self, stdout: IO = sys.stdout, stderr: IO = sys.stderr) -> None:
        """Train to the end. Raises TrainingError if something cannot be saved or resumed."""
        settings, msg = self.settings, Printer(no_print=True)
        if self.replayed is not None:
            refill = partial(refill_caches, self.nlp, self.replayed.values["has_cache"])
            self.nlp.update = refill  # type: ignore[method-assign]  # on this object, until `resume` removes it
        stdout.write(msg.info(f"Pipeline: {self.nlp.pipe_names}") + "\n")
        if self.frozen:
            stdout.write(msg.info(f"Frozen components: {self.frozen}") + "\n")
        if settings["annotating_components"]:
            stdout.write(msg.info(f"Set annotations on update for: {settings['annotating_components']}") + "\n")
        stdout.write(msg.info(f"Initial learn rate: {self.optimizer.learn_rate}") + "\n")
        if parallel.size() > 1:
            stdout.write(msg.info(f"Processes: {parallel.size()}") + "\n")
        steps = train_while_improving(
            self.nlp,
            self.optimizer,
            self.shares(),
            self.evaluate,
            dropout=settings["dropout"],
            accumulate_gradient=settings["accumulate_gradient"],
            patience=settings["patience"],
            max_steps=settings["max_steps"],
            eval_frequency=settings["eval_frequency"],
            exclude=self.frozen,
            annotating_components=settings["annotating_components"],
            before_update=settings["before_update"],
        )
        log, finish = self.make_logger(stdout, stderr)
        step, is_evaluated = -1, True
        try:
            with self.sums.in_updates():
                for _, info, is_best in steps:
                    step, is_evaluated = info["step"], is_best is not None
                    if self.replayed is not None:
                        if step == self.replayed.values["step"]:
                            self.resume(self.replayed, info)
                            stdout.write(msg.info(f"Resumed after step {step}") + "\n")
                        continue
                    info["words"] = self.batches.words
                    info["seconds"] += int(self.seconds)
                    if is_evaluated:
                        self.after_evaluation(info, is_best)
                    log(info if is_evaluated else None)
                    if is_evaluated or self.output.is_due():
                        # spaCy sums losses from one evaluation to the next.
                        self.output.write_checkpoint(self.progress(info), {} if is_evaluated else info["losses"])
        finally:
            finish()
        if self.replayed is not None:
            raise TrainingError(
                f"the checkpoint is from step {self.replayed.values['step']}, but with this config the training ends "
                f"at step {step}: raise [training] max_steps or max_epochs"
            )
        if self.output.last is not None:
            if not is_evaluated:
                self.output.save(step, is_best=False)
            stdout.write(msg.good("Saved pipeline to output directory", self.output.last) + "\n")

    def shares(self) -> Iterator[tuple[int, list[Example]]]:
        """For each update, the epoch and this process's share of the examples."""
        for epoch, batch in self.batches:
            if self.replayed is None:
                self.sums.begin()
            yield epoch, parallel.share(batch)

    def make_logger(self, stdout: IO, stderr: IO) -> tuple[Any, Any]:
        if parallel.rank():
            return (lambda info: None), (lambda: None)
        with self.nlp.select_pipes(disable=self.frozen):
            return self.settings["logger"](self.nlp, stdout, stderr)

    def evaluate(self) -> tuple[float, dict[str, Any]]:
        """Score on the development corpus and the scores that it consists of, computed in the first process."""
        step = self.batches.drawn - 1
        if self.replayed is not None:
            # If eval_frequency has changed, use the last score before this step.
            return self.scores[max(known for known in self.scores if known <= step)], {}
        score, scores = parallel.broadcast(self.score() if not parallel.rank() else (0.0, {}))
        self.scores[step] = float(score)
        return score, scores

    def after_evaluation(self, info: dict[str, Any], is_best: bool) -> None:
        """Sum the losses, save, and check that all processes have the same weights."""
        add_losses(info["losses"], parallel.gather(dict(info["losses"])), self.nlp.pipe_names)
        with self.nlp.select_pipes(disable=self.frozen):
            update_meta(self.settings, self.nlp, info)
        if self.output.last is not None:
            self.output.save(info["step"], is_best)
            info["output_path"] = str(self.output.last)
        if parallel.size() > 1:
            # Callbacks before saving may change the pipeline, such as Calibrate.v1.
            parallel.broadcast_tensors([b for *_, node in layers(self.nlp) for b in float_buffers(node)])
            self.check_agreement(f"batches up to step {info['step']}", self.batches.checksum)
            self.check_agreement(f"weights after step {info['step']}", weights_checksum(self.nlp))

    def check_agreement(self, what: str, value: Any) -> None:
        """Raise TrainingError if a value is not the same in all processes."""
        values = parallel.gather(value)
        others = [number for number, other in enumerate(values) if other != values[0]]
        if others:
            raise TrainingError(
                f"processes {others} and process 0 have different {what}. Readers, batchers, augmenters and callbacks "
                "of the config must do the same in every process: set PYTHONHASHSEED=0, or train in one process"
            )

    def progress(self, info: dict[str, Any]) -> dict[str, Any]:
        """Progress of the training, as JSON values."""
        return {
            "step": info["step"],
            "seconds": info["seconds"],
            "scores": list(self.scores.items()),
            "start": to_json(self.start),
            "batches": self.batches.checksum,
        }

    def resume(self, saved: Checkpoint, info: dict[str, Any]) -> None:
        """Set the state of the checkpoint, whose step the loop has reached."""
        values = saved.values
        if values["batches"] != self.batches.checksum and not self.force:
            raise TrainingError(
                "the corpus yields other batches than before the checkpoint, although config and files are the same: a "
                "reader, batcher or augmenter depends on more than [training] seed. Use --force to resume anyway"
            )
        del self.nlp.update
        set_training_state(self.nlp, self.optimizer, saved)
        self.nlp.meta["performance"] = values["performance"]
        if parallel.rank() < len(values["processes"]):
            own = values["processes"][parallel.rank()]
            set_random_state(from_json(own["random"]))
            set_device_random_state(own["device"])
            info["losses"].update(own["losses"])
        self.replayed = None


def refill_caches(nlp: Language, has_cache: bool, examples: list[Example], **arguments: Any) -> None:
    """Replace `nlp.update` in the steps before the checkpoint: only recompute the caches of frozen transformers."""
    for *_, node in layers(nlp) if has_cache else ():
        cache = node.attrs.get("cache")
        if cache is not None and get_shim(node).frozen:
            cache.refill(node, [example.predicted for example in examples])
        elif cache is not None:
            cache.clear()
