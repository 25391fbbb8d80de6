"""`python -m spacy ner-arch`: one command per file.

spaCy imports this module at every start of its own command line, so the commands import torch, formats and reports only
when they run.
"""

import spacy.cli._util
import typer
from spacy.cli._util import app as spacy_app

from .annotate import annotate
from .combine import combine
from .convert import convert
from .debug_data import debug_data
from .doctor import doctor, require_gpu
from .evaluate import evaluate
from .export import export
from .export_data import export_data
from .init_config import init_config
from .label import label
from .messages import escape_characters
from .report import report
from .review import review
from .select import select
from .train import train
from .tune import tune

app = typer.Typer(
    name="ner-arch", help="Convert corpora, write configs, train, evaluate and apply pipelines.", no_args_is_help=True
)
app.callback()(escape_characters)
app.command("convert")(convert)
app.command("init-config")(init_config)
app.command("debug-data", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(debug_data)
app.command("train", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(train)
app.command("evaluate")(evaluate)
app.command("report")(report)
app.command("tune")(tune)
app.command("label")(label)
app.command("annotate")(annotate)
app.command("export")(export)
app.command("export-data")(export_data)
app.command("review", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(review)
app.command("select")(select)
app.command("combine")(combine)
app.command("doctor")(doctor)
spacy_app.add_typer(app)
# Without a usable GPU, `spacy train --gpu-id 0` and spaCy's other commands would end in a traceback.
spacy.cli._util.require_gpu = require_gpu
