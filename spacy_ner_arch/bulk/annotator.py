"""The work of one process: turn a shard of records into the bytes of its output files."""

import gc
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from spacy.language import Language
from spacy.tokens import Doc, SpanGroup
from spacy.util import import_file, load_model

from ..annotation.relations import set_relations
from ..annotation.replacement import Place, annotated_places, clear_entities, remove_stale_relations
from ..annotation.teachers import TEACHER
from ..formats.lines import SHOWN_CHARACTERS, FormatError, Line
from .documents import Record, check_record, parse, tokenize
from .models import fingerprint
from .outputs import InputColumns, Output, make_output
from .predictor import Predictor
from .raw_records import Raw
from .shards import Shard
from .soft import Soft, Teacher
from .user_code import CODE_NAME

# Number of records after which the pipeline is reloaded. Its vocabulary drops new words, but its hash tables keep 16
# bytes for each.
RECORDS_PER_LOAD = 1_000_000
# Number of shapes for which oneDNN caches prepared operations of up to 300 KB each. The default is 1,024.
PREPARED_SHAPES = 64
# Prefix of the label in the names of counts of removed entities, which are not gold.
REMOVED = "removed_entities "


class Job(NamedTuple):
    """Settings for all processes of a run.

    model: name or path of the pipeline.
    fingerprint: checksum of the pipeline, see `models.fingerprint`.
    code: Python file with functions to register.
    gpu: number of the GPU, or -1.
    batch_size: documents per batch; None for that of the pipeline.
    column: key or column of the text.
    key: key of the annotation; None for one per layer.
    to: format of the output, one of `outputs.OUTPUTS`.
    columns: columns of Parquet files, see `outputs.common_columns`; None for other files.
    soft: options for writing a teacher's chains, from which a student learns; None to write predictions.
    """

    model: str
    fingerprint: str
    code: Path | None
    gpu: int
    batch_size: int | None
    column: str
    key: str | None
    to: str
    columns: InputColumns | None
    soft: Soft | None = None


class ShardResult(NamedTuple):
    """Output of a shard.

    number, read: fields of the shard.
    counts: records, documents, rejects, repeated ids, and number of entities, spans and relations, or of chains, gold
        entities, and removed entities by label.
    data: content of the output file.
    rejects: json lines with place and reason of the rejected records.
    """

    number: int
    read: int
    counts: dict[str, int]
    data: bytes
    rejects: bytes


class Annotator:
    """A loaded pipeline that annotates shards. The result depends only on the job and the shard.

    It computes with one thread. Raises ValueError if the pipeline cannot be loaded, differs from that of the job, or
    sets no annotation.
    """

    def __init__(self, job: Job) -> None:
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(PREPARED_SHAPES))
        import torch
        from thinc.api import require_gpu

        # The last digits of a product of matrices can depend on the number of threads.
        torch.set_num_threads(1)
        if job.gpu >= 0:
            try:
                require_gpu(job.gpu)
            except Exception as error:  # without its libraries CuPy raises errors of all kinds
                remedy = f"Run `python -m spacy ner-arch doctor --gpu-id {job.gpu}` to find out what is missing"
                raise ValueError(f"{error}. {remedy}") from error
        if job.code is not None:
            import_file(CODE_NAME, job.code)
        self.job = job
        self._load()

    def _load(self) -> None:
        """Load or reload the pipeline, with a new vocabulary. Raises ValueError if it has changed."""
        model = self.job.model
        if fingerprint(model) != self.job.fingerprint:
            raise ValueError(f"{model}: the pipeline has changed since the run began, or differs on this machine")
        self.nlp: Language = load_model(model)
        self.records = 0
        soft = self.job.soft
        self.source: Predictor | Teacher = Predictor(self.nlp) if soft is None else Teacher(self.nlp, soft)
        self.layers = self.source.layers

    def annotate(self, shard: Shard) -> ShardResult:
        """Annotate a shard. Documents for which the pipeline fails are rejected.

        Raises ValueError if the pipeline fails and no single document is the cause.
        """
        self.records += len(shard.raws)
        if self.records > RECORDS_PER_LOAD:
            self._load()
            gc.collect()
        try:
            return self._annotate(shard, {})
        except Exception as error:
            failing = self._find_failing(shard)
            if not failing or len(failing) == len(shard.raws) > 1:
                raise ValueError(f"{shard.place}: {type(error).__name__}: {error}") from error
            return self._annotate(shard, failing)

    def _annotate(self, shard: Shard, failing: dict[int, str]) -> ShardResult:
        """Annotate the records of a shard, except those with these positions, which are rejected for these reasons."""
        rejects: list[str] = []
        output = make_output(self.job.to, self.job.column, self.layers, self.job.key, self.job.columns)
        names = ("records", "documents", "rejects", "repeated_ids", *self.source.counted)
        counts = Counter(dict.fromkeys(names, 0))
        ids = Counter[str]()
        removed = Counter[str]()

        def documents() -> Iterator[tuple[Doc, tuple[Record, set[Place], list[SpanGroup]]]]:
            for position, raw in enumerate(shard.raws):
                try:
                    if position in failing:
                        raise raw.line.error(failing[position], "correct or remove the record")
                    doc, record = self._read(raw, output)
                    before = self._clear(doc) if isinstance(raw.value, bytes) else set()
                    removed.update(self.source.prepare(doc))
                    yield doc, (record, before, [*doc.spans.values()])
                except FormatError as error:
                    rejects.append(reject(raw.line, error))

        stream = self.source.predict(documents(), self.job.batch_size or self.nlp.batch_size)
        for doc, (record, before, groups) in stream:
            remove_stale_relations(doc, before)
            output.add(doc, record)
            counts.update(self.source.counts(doc, groups))
            counts["documents"] += 1
            if record.get("id") is not None:
                ids[repr(record["id"])] += 1
        counts.update(records=len(shard.raws), rejects=len(rejects), repeated_ids=ids.total() - len(ids))
        counts.update({f"{REMOVED}{label}": number for label, number in removed.items()})
        return ShardResult(shard.number, shard.read, dict(counts), output.to_bytes(), "".join(rejects).encode("utf8"))

    def _read(self, raw: Raw, output: Output) -> tuple[Doc, Record]:
        """The document and the fields of a record. Raises FormatError for a bad record."""
        line, column = raw.line, self.job.column
        new_keys = set() if self.job.to == "spacy" else {self.job.key} if self.job.key else set(self.layers)
        line.check()
        if isinstance(raw.value, bytes):
            doc, record = self._read_stored(raw.value, line)
            check_record(record, line, new_keys, column)
        else:
            if raw.value is None:
                record = parse(line, raw.format, new_keys, column)
            else:
                record = raw.value
                check_record(record, line, new_keys, column)
            doc = tokenize(self.nlp, record[column], line)
        try:
            output.check(record)
        except (ValueError, TypeError, OverflowError) as error:
            raise line.error(f"{self.job.to} cannot store its fields: {error}", "correct or remove them") from error
        return doc, record

    def _read_stored(self, stored: bytes, line: Line) -> tuple[Doc, Record]:
        """A stored document and its fields. Raises FormatError for a bad record."""
        column = self.job.column
        doc = Doc(self.nlp.vocab).from_bytes(stored)
        doc.user_data.pop(TEACHER, None)
        fields = {key: value for key, value in doc.user_data.items() if isinstance(key, str)}
        if fields.get(column, doc.text) != doc.text:
            raise line.error(f"doc.user_data[{column!r}] is not the text", "give another --text-column")
        return doc, {column: doc.text, **fields}

    def _clear(self, doc: Doc) -> set[Place]:
        """Remove the annotation of a stored document that the pipeline will set. A teacher sets none.

        The pipeline replaces its own groups of spans. Other groups are kept in .spacy files; JSON and Parquet contain
        only the annotation of the pipeline.
        Returns the entities and spans before, for `remove_stale_relations`; none if the pipeline sets relations.
        """
        before = set() if "relations" in self.layers else annotated_places(doc)
        if "entities" in self.layers:
            clear_entities(doc)
        if self.job.to != "spacy" and "spans" in self.layers:
            doc.spans.clear()
        if "relations" in self.layers:
            set_relations(doc, [])
        return before

    def _find_failing(self, shard: Shard) -> dict[int, str]:
        """Positions of the records for which the pipeline fails when it reads them alone, with the reasons."""
        failing = {}
        for position, raw in enumerate(shard.raws):
            try:
                self._annotate(Shard(shard.number, [raw], 0), {})
            except Exception as error:
                failing[position] = f"the pipeline fails: {type(error).__name__}: {error}"
        return failing


def reject(line: Line, error: FormatError) -> str:
    """A line for the file of rejects."""
    record = {"place": line.place, "reason": error.reason, "remedy": error.remedy}
    record["start"] = line.text[:SHOWN_CHARACTERS]
    return json.dumps(record) + "\n"
