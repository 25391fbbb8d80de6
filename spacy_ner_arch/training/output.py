"""The output folder of a training: model-last, model-best, and the checkpoint."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import Any

from spacy.language import Language
from spacy.training.loop import DIR_MODEL_BEST, DIR_MODEL_LAST
from thinc.api import Optimizer

from ..bridge.layers import layers
from ..formats.files import replace_folder
from . import parallel
from .checkpoint import FILE, Checkpoint, TrainingError, write_checkpoint
from .pipeline_state import training_state
from .random_states import device_random_state, random_state, to_json


class Output:
    """The output folder of a training, to which the first process writes.

    folder: None to store nothing.
    nlp, optimizer: pipeline and optimizer to store.
    before_to_disk: callback from the trained pipeline to the pipeline to write.
    conditions: conditions that must not change before the run is resumed, see `conditions.find_conditions`.
    minutes: time after the last checkpoint at which the next one is due; None for never.

    last: path of model-last; None to store nothing.
    """

    def __init__(
        self,
        folder: Path | None,
        nlp: Language,
        optimizer: Optimizer,
        before_to_disk: Callable[[Language], Language],
        conditions: dict[str, Any],
        minutes: float | None,
    ) -> None:
        self.folder, self.nlp, self.optimizer, self.before_to_disk = folder, nlp, optimizer, before_to_disk
        self.conditions, self.minutes = conditions, minutes
        self.last = None if folder is None else folder / DIR_MODEL_LAST
        self.last_checkpoint = time.monotonic()

    def save(self, step: int, is_best: bool) -> None:
        """Write model-last, and model-best if it is the best."""
        if parallel.rank() or self.last is None:
            return
        try:
            with self.nlp.use_params(self.optimizer.averages):
                replace_folder(self.last, self.before_to_disk(self.nlp).to_disk)
            if is_best:
                replace_folder(self.last.with_name(DIR_MODEL_BEST), partial(copytree, self.last))
        except OSError as error:
            raise self.saving_error(step, error) from error

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint between evaluations; the first process decides."""
        if self.minutes is None or self.folder is None:
            return False
        return parallel.broadcast(time.monotonic() - self.last_checkpoint > 60 * self.minutes)

    def write_checkpoint(self, progress: dict[str, Any], losses: dict[str, float]) -> None:
        """Write a checkpoint. All processes must call this.

        progress: progress of the training, as JSON values, including the step.
        losses: losses of this process since the last evaluation.
        """
        if self.folder is None:
            return
        processes = parallel.gather(
            {
                "device": device_random_state(),
                "random": to_json(random_state()),
                "losses": {name: float(loss) for name, loss in losses.items()},
            }
        )
        self.last_checkpoint = time.monotonic()
        if parallel.rank():
            return
        state = training_state(self.nlp, self.optimizer)
        values = {
            **state.values,
            **progress,
            "processes": processes,
            "has_cache": any(node.attrs.get("cache") for *_, node in layers(self.nlp)),
            # Losses of spaCy's components are NumPy numbers.
            "performance": json.loads(json.dumps(self.nlp.meta.get("performance", {}), default=float)),
            "conditions": self.conditions,
        }
        try:
            write_checkpoint(self.folder / FILE, Checkpoint(values, state.tensors))
        except OSError as error:
            raise self.saving_error(progress["step"], error) from error

    def saving_error(self, step: int, error: OSError) -> TrainingError:
        """The error for a folder that cannot be written."""
        return TrainingError(
            f"cannot save to {self.folder} after step {step} ({error}). The checkpoint and the pipelines that were "
            "saved before are intact: check the free space and the permissions of the folder, then use --resume"
        )
