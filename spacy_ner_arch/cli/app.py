"""`python -m spacy ner-arch`: one command per file.

spaCy imports this module at every start of its own command line, so the commands import torch, formats and reports only
when they run.
"""

import typer
from spacy.cli._util import app as spacy_app

from .convert import convert
from .debug_data import debug_data
from .evaluate import evaluate
from .init_config import init_config
from .label import label
from .report import report
from .train import train

app = typer.Typer(name="ner-arch", help="Corpora, configs, training and scores.", no_args_is_help=True)
app.command("convert")(convert)
app.command("init-config")(init_config)
app.command("debug-data", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(debug_data)
app.command("evaluate")(evaluate)
app.command("label")(label)
app.command("report")(report)
app.command("train", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(train)
spacy_app.add_typer(app)
