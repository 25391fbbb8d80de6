"""`nlp.pipe` of a component, with batches that overlap on a GPU."""

from collections.abc import Iterable, Iterator
from typing import Any

from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc
from spacy.util import minibatch


def annotate_stream(pipe: TrainablePipe, stream: Iterable[Doc], batch_size: int) -> Iterator[Doc]:
    """Predict and annotate documents in batches.

    On a GPU, the model starts the next batch before the host waits for the predictions of the current batch. An error
    is passed to the error handler of the component, with the documents of the failed batch.
    """
    handle_error = pipe.get_error_handler()
    is_ahead = pipe.model.ops.device_type == "gpu"
    started: list[tuple[list[Doc], Any]] = []

    def finish() -> Iterator[Doc]:
        """Annotate the batch that has been started, if any."""
        while started:
            docs, scores = started.pop()
            try:
                pipe.set_annotations(docs, scores)
            except Exception as error:
                handle_error(pipe.name, pipe, docs, error)
            else:
                yield from docs

    try:
        for batch in minibatch(stream, size=batch_size):
            try:
                new = batch, pipe.predict(batch)
            except Exception as error:
                # Finish before the next batch: the error keeps the memory of the failed batch alive.
                yield from finish()
                handle_error(pipe.name, pipe, batch, error)
                continue
            yield from finish()
            started.append(new)
            if not is_ahead:
                yield from finish()
    except Exception:  # from an earlier component or an error handler
        yield from finish()
        raise
    yield from finish()
