"""The table of accuracy runs: what is trained, on which corpus, and what is scored."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

CONLL2003 = ("conll2003", "conll", {"train": "train.txt", "dev": "valid.txt", "test": "test.txt"})
# Folder in assets/, format, and file of each part. The development part of SemEval and CLUENER is a tenth of the
# training part.
# Names with `_documents` are corpora of whole documents, in the place of sentences.
CORPORA: dict[str, tuple[str, str, dict[str, str]]] = {
    "conll2003": CONLL2003,
    "conll2003_documents": CONLL2003,
    "conll04": ("conll04", "spert", {part: f"conll04_{part}.json" for part in ("train", "dev", "test")}),
    "semeval": ("semeval2010_task8", "semeval", {"train": "TRAIN_FILE.TXT", "test": "TEST_FILE_FULL.TXT"}),
    "cluener": ("cluener", "cluener", {"train": "train.json", "test": "dev.json"}),
    "gum_nested": ("gum_nested", "spans", {part: f"{part}.jsonl" for part in ("train", "dev", "test")}),
    "wnut17": ("wnut17", "conll", {part: f"{part}.conll" for part in ("train", "dev", "test")}),
    **{
        name: (name, "conllu", {part: f"{prefix}-uner-{part}.conllu" for part in ("train", "dev", "test")})
        for name, prefix in (("uner_en_ewt", "en_ewt"), ("uner_zh_gsdsimp", "zh_gsdsimp"))
    },
}
# End of the name of a corpus whose trees jackknife.py replaces by predicted ones: the run that trains the parsers.
JACKKNIFED = {"_jackknifed": "parser_short", "_jackknifed_minilm": "parser_minilm"}
CHINESE = {"nlp.lang": "zh", "nlp.tokenizer": {"@tokenizers": "spacy.zh.ChineseTokenizer", "segmenter": "char"}}
# For a corpus of words, which the tokenizer would cut into characters.
CHINESE_WORDS = {**CHINESE, "corpora.train.gold_preproc": True, "corpora.dev.gold_preproc": True}


@dataclass(frozen=True)
class Run:
    """A line of the table.

    name: CORPUS/MODEL. With a seed behind it, it is the name of a row.
    section: section of README.md that shows the rows; None for a run that only other runs need.
    config: file in configs/ without .cfg, or "spacy:PIPE" for the config that `spacy init config` makes for a component
        of spaCy.
    settings: values by dotted path, which replace those of the config.
    remove: blocks of the config to delete, by dotted path.
    chain: names of other runs, instead of a config; their pipelines process the documents one after the other.
    needs: name and seed of a run to train before this one.
    seeds: one row each.
    scores: what is scored on the development and test part, see run.SCORES.
    extra: further figures of the row, see run.EXTRA.
    """

    name: str
    section: str | None
    config: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    needs: str | None = None
    seeds: tuple[int, ...] = (0,)
    scores: tuple[str, ...] = ("ents",)
    extra: str | None = None

    @property
    def corpus(self) -> str:
        return self.name.split("/")[0]

    @property
    def model(self) -> str:
        return self.name.split("/")[1]

    @property
    def result(self) -> str:
        """Folder of the scored model: that of the last step if training evaluates only once, see `budget`."""
        return "model-last" if "corpora.dev.limit" in self.settings else "model-best"


GROUPS = "training.before_update.stages.all.groups"
TOTAL = "${training.max_steps}"
TRANSFORMER_RATE, HEAD_RATE = 2e-4, 2e-3


def linear(rate: float, warmup: int, steps: str | int = TOTAL) -> dict[str, Any]:
    """A rate that rises for some steps and then falls to 0."""
    return {"@schedules": "warmup_linear.v1", "initial_rate": rate, "warmup_steps": warmup, "total_steps": steps}


def stages(rates: Mapping[str, float], warmup: int, first: int = 0, steps: str | int = TOTAL) -> dict[str, Any]:
    """A rate for each component; before that, some steps for the new layers alone."""
    groups: dict[str, Any] = {name: {"learn_rate": linear(rate, warmup, steps)} for name, rate in rates.items()}
    new_layers = {name: {"learn_rate": rate} for name, rate in rates.items() if name != "transformer"}
    before = {"new_layers": {"steps": first, "groups": new_layers}} if first else {}
    return {"@callbacks": "spacy_ner_arch.Stages.v1", "stages": {**before, "all": {"groups": groups}}}


def budget(steps: int, evaluations: int = 1) -> dict[str, Any]:
    """Number of updates. With one evaluation the model of the last step is scored, and training scores 200 documents
    only because it must."""
    settings: dict[str, Any] = {"training.max_steps": steps, "training.eval_frequency": steps // evaluations}
    return {**settings, "corpora.dev.limit": 200} if evaluations == 1 else settings


def on_minilm(steps: int, warmup: int, rates: Mapping[str, float], evaluations: int = 1) -> dict[str, Any]:
    """Settings of all runs with a transformer: MiniLM, and a rate for each component."""
    settings = {**budget(steps, evaluations), "paths.encoder": "training/minilm", "training.before_to_disk": None}
    for name, rate in rates.items():
        settings[f"{GROUPS}.{name}.learn_rate.initial_rate"] = rate
        settings[f"{GROUPS}.{name}.learn_rate.warmup_steps"] = warmup
    return settings


THREE = (0, 1, 2)

# Entities of CoNLL-2003 without pretrained weights.
MODEL = "components.sequence_ner.model"
HASH_EMBED = {
    "@architectures": "spacy.MultiHashEmbed.v2",
    "width": 128,
    "attrs": ["NORM", "PREFIX", "SUFFIX", "SHAPE"],
    "rows": [5000, 1000, 2500, 2500],
    "include_static_vectors": False,
}
# GloVe vectors: 400,000 words in lower case, 50 wide.
GLOVE_ONE_DROPOUT = {
    "paths.vectors": "training/glove",
    f"{MODEL}.tok2vec.include_static_vectors": True,
    f"{MODEL}.tok2vec.tune_vectors": True,
    f"{MODEL}.tok2vec.word_width": 0,
}
GLOVE = {
    **GLOVE_ONE_DROPOUT,
    f"{MODEL}.tok2vec.dropout": None,
    f"{MODEL}.tok2vec.vector_dropout": 0.2,
    f"{MODEL}.encoder.dropout": 0.0,
}
WITH_VECTORS = [
    Run("conll2003/bilstm_crf-glove", "vectors", "bilstm_crf", GLOVE, seeds=THREE),
    *(Run(f"{corpus}/bilstm_crf-glove", "vectors", "bilstm_crf", GLOVE) for corpus in ("wnut17", "uner_en_ewt")),
    Run("conll2003/bilstm_crf-glove-one_dropout", "vectors", "bilstm_crf", GLOVE_ONE_DROPOUT),
    Run(
        "conll2003/spacy_ner-glove",
        "vectors",
        "spacy:ner",
        {
            **budget(3000, evaluations=12),
            "paths.vectors": "training/glove_cased",
            "components.tok2vec.model.embed.include_static_vectors": True,
            "training.batcher": {
                "@batchers": "spacy.batch_by_padded.v1",
                "size": 1000,
                "buffer": 256,
                "discard_oversize": False,
                "get_length": None,
            },
        },
        seeds=THREE,
    ),
    *(
        Run(f"conll2003/bilstm_crf-glove-{name}", "vectors", "bilstm_crf", {**GLOVE, **settings})
        for name, settings in (
            ("not_tuned", {f"{MODEL}.tok2vec.tune_vectors": False, f"{MODEL}.tok2vec.word_width": 100}),
            ("as_written", {f"{MODEL}.tok2vec.vector_attrs": ["ORTH"]}),
        )
    ),
]
SCRATCH = [
    Run("conll2003/bilstm_crf", "conll2003", "bilstm_crf", seeds=THREE, extra="raw"),
    Run("conll2003/spacy_ner", "conll2003", "spacy:ner", seeds=THREE, extra="raw"),
    Run("conll2003/bilstm", "conll2003", "bilstm", seeds=THREE, extra="raw"),
    Run(
        "conll2003/calibration",
        "calibration",
        chain=("conll2003/bilstm_crf",),
        seeds=THREE,
        scores=(),
        extra="calibration",
    ),
    *(
        Run(f"conll2003/bilstm_crf-{name}", "conll2003", "bilstm_crf", {key: value}, seeds=seeds, extra="raw")
        for name, key, value, seeds in (
            ("hash_embed", f"{MODEL}.tok2vec", HASH_EMBED, (0,)),
            ("no_characters", f"{MODEL}.tok2vec.filters", 0, (0,)),
            ("no_features", f"{MODEL}.tok2vec.features", [], (0,)),
            ("no_unknown", f"{MODEL}.tok2vec.unknown_rate", 0.0, (0,)),
            ("no_averages", "training.optimizer.use_averages", False, (0,)),
            ("dropout_0.2", "training.dropout", 0.2, (0,)),
            ("bio", "components.sequence_ner.scheme", "BIO", THREE),
        )
    ),
]
OTHER_CORPORA = [
    Run(f"{corpus}/{model}", "other_corpora", config, settings, seeds=seeds)
    for corpus, settings, seeds in (
        ("wnut17", {}, THREE),
        ("uner_en_ewt", {}, THREE),
        ("cluener", CHINESE, (0,)),
        ("uner_zh_gsdsimp", CHINESE_WORDS, (0,)),
    )
    for model, config in (("bilstm_crf", "bilstm_crf"), ("spacy_ner", "spacy:ner"))
]
# Pipelines on raw text with white space, which the corpus does not have.
RAW_TEXT = [
    Run(f"conll2003/{model}-raw_text", "white_space", chain=(f"conll2003/{model}",), extra="white_space")
    for model in ("bilstm_crf", "spacy_ner")
]
# Pipelines that recall.py measures.
SHORT = [
    Run(f"{corpus}/bilstm_crf-short", None, "bilstm_crf", budget(1000, evaluations=4))
    for corpus in ("wnut17", "uner_en_ewt", "gum_nested")
]

# Entities of CoNLL-2003 on MiniLM.
STEPS, WARMUP = 1300, 130
RATES = {"transformer": TRANSFORMER_RATE, "sequence_ner": HEAD_RATE}
TRAINING = {
    "": stages(RATES, WARMUP),
    "-two_stages": stages(RATES, WARMUP, first=300, steps=1000),
    "-one_rate": stages(dict.fromkeys(RATES, TRANSFORMER_RATE), WARMUP),
}
# spaCy's ner in the place of our head. Its rate is that of the optimizer: stages know only our torch modules.
FEATURES = {"@architectures": "spacy_ner_arch.WordCharEmbed.v1", "word_width": 0, "filters": 0, "unknown_rate": 0.0}
OUR_LISTENER = {"@architectures": "spacy_ner_arch.TransformerListener.v1", "upstream": "*", "features": FEATURES}
STOCK_LISTENER = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "grad_factor": 1.0,
    "pooling": {"@layers": "reduce_mean.v1"},
}
STOCK_MODEL = {"@architectures": "spacy-transformers.TransformerModel.v3", "name": "${paths.encoder}"}
# One rate, and spacy-transformers' own model.
STOCK = {
    "components.transformer.model": STOCK_MODEL,
    "training.before_update": None,
    "training.optimizer.learn_rate": linear(TRANSFORMER_RATE, WARMUP),
}


def spacy_ner(listener: dict[str, Any]) -> dict[str, Any]:
    """spaCy's ner on a transformer."""
    model = {"use_upper": False, "tok2vec": listener}
    return {
        "components.ner": {"factory": "ner", "model": model},
        "nlp.pipeline": ["transformer", "ner", "vector_cleaner"],
    }


CONLL_MINILM = on_minilm(STEPS, WARMUP, RATES)
SPACY_MINILM = {**spacy_ner(STOCK_LISTENER), **STOCK}
# What a transformer does not see of a word.
WITH_CHARACTERS = {
    f"{MODEL}.tok2vec.features.{key}": value
    for key, value in (("filters", 50), ("word_width", 64), ("unknown_rate", 0.5))
}
# GloVe vectors in the place of a learned table of words.
USE_GLOVE = {"paths.vectors": "training/glove", "initialize.vectors": "${paths.vectors}"}
TUNED_VECTORS = {"include_static_vectors": True, "tune_vectors": True, "vector_dropout": 0.2, "word_width": 0}
GLOVE_BESIDE = {
    **USE_GLOVE,
    **{f"{MODEL}.tok2vec.features.{key}": value for key, value in TUNED_VECTORS.items()},
}
OURS_BELOW_SPACY: dict[str, Any] = {
    "training.before_update": stages({"transformer": TRANSFORMER_RATE, "features": HEAD_RATE}, WARMUP),
    f"{GROUPS}.features.match": "^ner",
    "training.optimizer.learn_rate": linear(HEAD_RATE, WARMUP),
}
TRANSFORMERS = [
    *(
        Run(
            f"conll2003/{head}{way}",
            "transformer",
            head,
            {**CONLL_MINILM, "training.before_update": before_update},
            seeds=THREE if head == "transformer_crf" and not way else (0,),
        )
        for way, before_update in TRAINING.items()
        for head in ("transformer_crf", "transformer_softmax", "transformer_bilstm_crf")
    ),
    *(
        Run(
            f"conll2003/{model}",
            "transformer",
            "transformer_crf",
            {**CONLL_MINILM, **settings},
            remove=("components.sequence_ner",),
            seeds=seeds,
        )
        for model, settings, seeds in (
            ("spacy_ner-minilm", SPACY_MINILM, THREE),
            ("spacy_ner-minilm-long", {**SPACY_MINILM, **budget(2 * STEPS)}, (0, 1)),
            ("spacy_ner-our_transformer", {**spacy_ner(OUR_LISTENER), **OURS_BELOW_SPACY}, (0,)),
        )
    ),
    *(
        Run(
            f"conll2003/{config}-glove{way}",
            "transformer",
            config,
            {**CONLL_MINILM, "training.before_update": TRAINING[way], **WITH_CHARACTERS, **GLOVE_BESIDE},
            seeds=seeds,
        )
        for config, way, seeds in (
            ("transformer_bilstm_crf", "", THREE),
            ("transformer_bilstm_crf", "-two_stages", THREE),
            ("transformer_crf", "-two_stages", THREE),
        )
    ),
    Run(
        "conll2003/transformer_crf-glove-two_stages-long",
        "transformer",
        "transformer_crf",
        {
            **CONLL_MINILM,
            "training.before_update": stages(RATES, WARMUP, first=300, steps=2 * STEPS - 300),
            **budget(2 * STEPS),
            **WITH_CHARACTERS,
            **GLOVE_BESIDE,
        },
        seeds=THREE,
    ),
    Run(
        "conll2003/transformer_crf-long",
        "transformer",
        "transformer_crf",
        {**CONLL_MINILM, "training.before_update": TRAINING[""], **budget(2 * STEPS)},
        seeds=THREE,
    ),
]

# Corpora that are put together from parts of others. Those named `_all` train on the development part as well, as
# published systems do, with the settings that were chosen on it.
MIXED: dict[str, dict[str, tuple[str, ...]]] = {
    "conll2003_mixed": {part: (f"conll2003/{part}", f"conll2003_documents/{part}") for part in ("train", "dev")},
    "conll2003_all": {"train": ("conll2003/train", "conll2003/dev"), "test": ("conll2003/test",)},
    "semeval_all": {"train": ("semeval/train", "semeval/dev"), "test": ("semeval/test",)},
}
# The documents of a corpus, split anew: each document is in the test part of one of them.
FOLDS = {f"conll04_fold_{fold}": ("conll04", fold) for fold in range(5)}
# Training on sentences, on whole documents, or on both; each is scored on sentences and on documents.
ON_LENGTHS: dict[str, Any] = {"section": "documents", "scores": (), "extra": "lengths", "seeds": THREE}
DOCUMENTS = [
    Run("conll2003/sentences", chain=("conll2003/transformer_crf",), **ON_LENGTHS),
    *(
        Run(f"{corpus}/transformer_crf", config="transformer_crf", settings=CONLL_MINILM, **ON_LENGTHS)
        for corpus in ("conll2003_documents", "conll2003_mixed")
    ),
]

# What a CRF is worth with little data: the first 1,000 sentences.
FEW = {"corpora.train.limit": 1000}
FEW_SCRATCH = {**FEW, **budget(600, evaluations=6)}
FEW_MINILM = {**FEW, **on_minilm(320, 32, RATES)}
CRF_OR_SOFTMAX = [
    *(
        Run(f"conll2003/{config}-few{name}", "crf_or_softmax", config, {**FEW_SCRATCH, **settings}, seeds=THREE)
        for name, settings in (("", {}), ("-bio", {"components.sequence_ner.scheme": "BIO"}))
        for config in ("bilstm_crf", "bilstm")
    ),
    *(
        Run(f"conll2003/{config}-few", "crf_or_softmax", config, FEW_MINILM, seeds=THREE)
        for config in ("transformer_crf", "transformer_softmax")
    ),
]

# Spans on MiniLM.
SPAN_FEATURES: dict[str, dict[str, Any]] = {
    "SpanSynLSTM": {"attention": True, "length_size": 50, "relu_length_size": 0},
    "SpanNER": {"attention": False, "length_size": 50, "relu_length_size": 50},
}
SPAN_MODEL = "components.span_ner.model"
SPAN_RATES = {"transformer": TRANSFORMER_RATE, "span_ner": HEAD_RATE}
SPAN_MINILM = on_minilm(STEPS, WARMUP, SPAN_RATES)
# Over a BiLSTM, with word vectors and characters beside the transformer, as `transformer_bilstm_crf-glove` has.
SPAN_GLOVE = {
    **SPAN_MINILM,
    **USE_GLOVE,
    f"{SPAN_MODEL}.encoder": {"@architectures": "spacy_ner_arch.BiLSTM.v1", "hidden_size": 200},
    **{
        f"{SPAN_MODEL}.tok2vec.features.{key}": value
        for key, value in {**TUNED_VECTORS, "filters": 50, "unknown_rate": 0.5}.items()
    },
}
SPAN_GLOVE_IN_TWO_STAGES = {
    **{key: value for key, value in SPAN_GLOVE.items() if not key.startswith(GROUPS)},
    "training.before_update": stages(SPAN_RATES, WARMUP, first=300, steps=1000),
}
SPANS = [
    *(
        Run(
            f"conll2003/span-{features}{name}",
            "span",
            "span",
            {
                **SPAN_MINILM,
                f"{GROUPS}.span_ner.learn_rate.initial_rate": rate,
                **{f"{SPAN_MODEL}.{key}": value for key, value in SPAN_FEATURES[features].items()},
                f"{SPAN_MODEL}.boundary_smoothing": smoothing,
            },
            extra="greedy",
        )
        for features, name, rate, smoothing in (
            ("SpanSynLSTM", "", HEAD_RATE, 0.0),
            ("SpanNER", "", HEAD_RATE, 0.0),
            ("SpanNER", "-rate_1e-3", 1e-3, 0.0),
            ("SpanNER", "-rate_1e-3-smoothing", 1e-3, 0.1),
        )
    ),
    Run("conll2003/span-glove", "span", "span", SPAN_GLOVE, seeds=THREE, extra="greedy"),
    Run("conll2003/span-glove-two_stages", "span", "span", SPAN_GLOVE_IN_TWO_STAGES, seeds=THREE, extra="greedy"),
]
# The span model of combine.py, with little data.
COMBINE = [
    Run(
        "conll2003/span-few",
        "combine",
        "span",
        {**FEW, **on_minilm(320, 32, {"transformer": TRANSFORMER_RATE, "span_ner": HEAD_RATE})},
    )
]
SPANCAT = {
    "factory": "spancat",
    "suggester": {"@misc": "spacy.ngram_range_suggester.v1", "min_size": 1, "max_size": 10},
    "model": {"tok2vec": STOCK_LISTENER},
}
NESTED_MINILM = {
    **on_minilm(900, WARMUP, {"transformer": TRANSFORMER_RATE, "nested_ner": HEAD_RATE}),
    "corpora.train.limit": 4000,
}
NESTED_PEER = {
    **STOCK,
    "components.spancat": SPANCAT,
    "nlp.pipeline": ["transformer", "spancat", "vector_cleaner"],
    "training.score_weights": {"spans_sc_f": 1.0},
}
# The same with all sentences, and twice the steps.
NESTED_ALL = on_minilm(1800, WARMUP, {"transformer": TRANSFORMER_RATE, "nested_ner": HEAD_RATE})
NESTED = [
    Run(
        f"gum_nested/{model}{amount}",
        "nested",
        "nested",
        {**training, **settings},
        remove,
        seeds=seeds,
        scores=("spans",),
        extra="threshold",
    )
    for amount, training, seeds in (("", NESTED_MINILM, THREE), ("-all", NESTED_ALL, THREE))
    for model, settings, remove in (("nested", {}, ()), ("spancat", NESTED_PEER, ("components.nested_ner",)))
]

# Relations between gold entities.
RELATION_RATES = {"transformer": 1e-4, "relation_extractor": 1e-3}
SENTENCES = {"components.relation_extractor.model.pairs.context": "sentences"}
TUTORIAL = {
    "components.relation_extractor.model.pairs": {"@architectures": "benchmarks.TutorialPairs.v1"},
    "components.relation_extractor.multi_label": True,
}
FROM_SCRATCH = ("relation_bilstm", "relation_bilstm_att", "relation_acnn")
# Model: config and settings.
RELATION_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in (*FROM_SCRATCH, "relation_softmax", "relation_multitask", "relation_markers")},
    "relation_softmax-sentences": ("relation_softmax", SENTENCES),
    "tutorial": ("relation_softmax", TUTORIAL),
}
# Steps of models with a transformer, and of those without.
RELATION_STEPS = {"semeval": (1800, 2400), "conll04": (800, 1500)}
# About 16 sentences.
BATCH = {"semeval": 330, "conll04": 500}


def relation_settings(corpus: str, model: str) -> dict[str, Any]:
    steps, steps_from_scratch = RELATION_STEPS[corpus]
    direction = {"components.relation_extractor.direction": "labels"} if corpus == "semeval" else {}
    if model in FROM_SCRATCH:
        return {**direction, **budget(steps_from_scratch)}
    minilm = on_minilm(steps, steps // 10, RELATION_RATES)
    return {**direction, **minilm, "training.batcher.size": BATCH[corpus]}


RELATIONS = [
    Run(
        f"{corpus}/{model}",
        "relations",
        config,
        {**relation_settings(corpus, model), **settings},
        seeds=THREE if model in ("relation_softmax", "tutorial", *FROM_SCRATCH) else (0,),
        scores=("micro", "macro"),
    )
    for corpus in ("semeval", "conll04")
    for model, (config, settings) in RELATION_MODELS.items()
    if (corpus, model) not in {("semeval", "tutorial"), ("conll04", "relation_markers")}
]
# Fewer pairs, since marked copies take long: only between types that are related in the training corpus, and as many
# without a relation as with one, or all.
FEWER_PAIRS = {
    **on_minilm(300, 30, RELATION_RATES),
    "training.batcher.size": BATCH["conll04"],
    "training.eval_frequency": 60,
    "components.relation_extractor.type_pairs": "learned",
}
SAMPLED = {"components.relation_extractor.negative_ratio": 1.0}
RELATIONS += [
    Run(f"conll04/{config}-{way}", "relations", config, {**FEWER_PAIRS, **settings}, scores=("micro", "macro"))
    for config, way, settings in (
        ("relation_softmax", "learned_types", {}),
        ("relation_softmax", "sampled", SAMPLED),
        ("relation_markers", "sampled", SAMPLED),
    )
]
# The entities of a second pipeline instead of gold entities.
END_TO_END = [
    Run(
        "conll04/transformer_crf",
        None,
        "transformer_crf",
        {**on_minilm(800, 80, {"transformer": 1e-4, "sequence_ner": 1e-3}), "training.batcher.size": BATCH["conll04"]},
    ),
    *(
        Run(
            f"conll04/end_to_end-{model}",
            "relations",
            chain=("conll04/transformer_crf", f"conll04/{model}"),
            scores=("ents", "micro", "strict"),
        )
        for model in ("relation_softmax", "relation_softmax-sentences", "relation_multitask", "tutorial")
    ),
]

# Entities and relations in one training.
JOINT_SCORES = ("ents", "micro", "strict")
JOINT_RATES = {"transformer": 1e-4, "sequence_ner": 1e-3, "relation_extractor": 1e-3}
JOINT = on_minilm(1000, 100, JOINT_RATES, evaluations=10)


def loss_weights(entities: float, relations: float) -> dict[str, Any]:
    """Weights of both losses instead of learned ones."""
    return {"components.sequence_ner.loss_weight": entities, "components.relation_extractor.loss_weight": relations}


def part(name: str, suffix: str, steps: int, weight: Mapping[str, Any], seeds: tuple[int, ...]) -> Run:
    """One of the two components of joint.cfg in a pipeline of its own."""
    kept, removed = ("sequence_ner", "relation_extractor")[:: 1 if name == "entities" else -1]
    settings = on_minilm(steps, steps // 10, {key: JOINT_RATES[key] for key in ("transformer", kept)}, evaluations=10)
    settings |= {
        "nlp.pipeline": ["transformer", "sentencizer", kept, "vector_cleaner"],
        "training.score_weights.ents_f": float(name == "entities"),
        "training.score_weights.rel_strict_f": float(name == "relations"),
    }
    settings |= {key: value for key, value in weight.items() if kept in key}
    if name == "relations":
        settings["corpora.dev.copy"] = ["ents", "sents"]
    return Run(
        f"conll04/{name}{suffix}",
        None,
        "joint",
        settings,
        remove=(f"components.{removed}", f"{GROUPS}.{removed}"),
        seeds=seeds,
    )


JOINT_RUNS = [
    Run("conll04/joint-learned", "joint", "joint", JOINT, seeds=THREE, scores=JOINT_SCORES, extra="last_weights"),
    *(
        Run(
            f"conll04/joint-1:{weight}",
            "joint",
            "joint",
            {**JOINT, **loss_weights(1.0, float(weight))},
            seeds=THREE if weight == 1 else (0,),
            scores=JOINT_SCORES,
        )
        for weight in (1, 5, 8, 10, 15)
    ),
    Run(
        "conll04/joint_transe-0.1:0.89:0.01",
        "joint",
        "joint_transe",
        # The weight of TransE is within the loss of the relations.
        {**JOINT, **loss_weights(0.1, 0.89), "components.relation_extractor.model.pairs.transe_weight": 0.01 / 0.89},
        scores=JOINT_SCORES,
    ),
    Run(
        "conll04/joint_bilstm",
        "joint",
        "joint_bilstm",
        {
            **budget(2000, evaluations=10),
            **loss_weights(1.0, 1.0),
            "training.batcher.size": 500,
            "training.before_to_disk": None,
        },
        scores=JOINT_SCORES,
    ),
]
APART_WAYS: tuple[tuple[str, int, dict[str, Any], tuple[int, ...]], ...] = (
    ("", 1000, loss_weights(1.0, 1.0), THREE),
    ("-learned", 1000, {}, (0,)),
    ("-half_steps", 500, loss_weights(1.0, 1.0), (0,)),
)
APART = [part(name, *way) for way in APART_WAYS for name in ("entities", "relations")]
APART += [
    Run(
        f"conll04/apart{suffix}",
        "joint",
        chain=(f"conll04/entities{suffix}", f"conll04/relations{suffix}"),
        seeds=seeds,
        scores=JOINT_SCORES,
    )
    for suffix, _, _, seeds in APART_WAYS
]


# The same on mpnet-base: 110 million parameters, 12 layers, lower case.
def on_mpnet(settings: Mapping[str, Any], rate: float = 5e-5) -> dict[str, Any]:
    """Settings of a run on MiniLM, with another encoder and a lower rate of it."""
    return {
        **settings,
        "paths.encoder": "training/mpnet",
        f"{GROUPS}.transformer.learn_rate.initial_rate": rate,
    }


BIGGER = [
    *(
        Run(
            f"conll2003/transformer_crf-mpnet{name}",
            "encoders",
            "transformer_crf",
            on_mpnet({**CONLL_MINILM, "training.before_update": TRAINING[""]}, rate),
            seeds=seeds,
        )
        for name, rate, seeds in (("", 5e-5, THREE), ("-rate_1e-4", 1e-4, (0,)))
    ),
    Run("conll2003/span-mpnet", "encoders", "span", on_mpnet(SPAN_MINILM)),
    Run("gum_nested/nested-mpnet", "encoders", "nested", on_mpnet(NESTED_MINILM), scores=("spans",)),
    Run("conll04/joint-mpnet", "encoders", "joint", on_mpnet(JOINT), seeds=THREE, scores=JOINT_SCORES),
    Run(
        "semeval/relation_softmax-mpnet",
        "encoders",
        "relation_softmax",
        on_mpnet(relation_settings("semeval", "relation_softmax")),
        scores=("micro", "macro"),
    ),
]

# multilingual-e5-small: 12 layers, 384 wide, cased. Its embeddings of 250,000 word pieces are not trained.
E5_LAYERS = {"paths.encoder": "training/e5", f"{GROUPS}.transformer.match": r"transformer.*\.layer\."}
E5_RATES = {"transformer": 1e-4, "sequence_ner": HEAD_RATE}
MULTILINGUAL = [
    Run(
        f"{corpus}/transformer_crf-e5",
        "e5",
        "transformer_crf",
        {**on_minilm(steps, steps // 10, E5_RATES), **E5_LAYERS, **settings},
    )
    for corpus, steps, settings in (
        ("cluener", 1000, CHINESE),
        ("uner_zh_gsdsimp", 800, CHINESE_WORDS),
        ("conll2003", STEPS, {}),
    )
]

# Dependency trees. The hidden sizes give all encoders the same number of parameters within 5 %.
ARCS = "synlstm_bias_arc_dropout"
ENCODERS: dict[str, dict[str, Any]] = {
    "bilstm": {"@architectures": "spacy_ner_arch.BiLSTM.v1", "hidden_size": 288},
    "synlstm": {"edge_labels": "none", "dep_size": 0, "hidden_size": 180, "arc_dropout": 0.0},
    "synlstm_bias": {"edge_labels": "bias", "dep_size": 50, "hidden_size": 100, "arc_dropout": 0.0},
    ARCS: {"edge_labels": "bias", "dep_size": 50, "hidden_size": 100, "arc_dropout": 0.3},
    "synlstm_gate": {"edge_labels": "gate", "dep_size": 50, "hidden_size": 100, "arc_dropout": 0.0},
}
PARSER, PARSER_MINILM = "uner_en_ewt/parser/0", "uner_en_ewt/parser_minilm/0"
# Pipelines whose parser predicts the trees: trained on the same sentences, or spaCy's small English pipeline, without
# and with its parts of speech.
WEB_SM = "training/en_core_web_sm"
PARSERS = {
    "predicted": f"training/benchmarks/{PARSER}/model-best",
    "predicted_minilm": f"training/benchmarks/{PARSER_MINILM}/model-best",
    "web_sm": WEB_SM,
    "web_sm_pos": WEB_SM,
}


# What makes a nested_ner of the span_ner of a config, and the settings that only the latter has.
AS_NESTED = {
    "components.span_ner.factory": "nested_ner",
    "components.span_ner.scorer": {"@scorers": "spacy.spancat_scorer.v1"},
    "training.score_weights": {"spans_sc_f": 1.0},
}
NOT_NESTED = ("components.span_ner.decode", "components.span_ner.overwrite_ents")


def tree_run(corpus: str, encoder: str, trees: str, seeds: tuple[int, ...] = (0,), head: str = "crf") -> Run:
    component = "sequence_ner" if head == "crf" else "span_ner"
    settings = {**budget(2500, 10), "training.before_to_disk": None, "training.score_weights": {"ents_f": 1.0}}
    settings |= AS_NESTED if head == "nested" else {}
    block = f"components.{component}.model.encoder"
    if encoder == "bilstm":
        settings[block] = ENCODERS[encoder]
    else:
        settings |= {f"{block}.{key}": value for key, value in ENCODERS[encoder].items()}
    if trees in PARSERS:
        names = ["parser"] if encoder != "bilstm" else []
        if trees.endswith("_pos"):
            names = ["tagger", "attribute_ruler", *names]
            if encoder == "bilstm":
                settings[f"components.{component}.model.tok2vec.features"] = ["SHAPE", "PREFIX", "SUFFIX", "POS"]
            else:
                settings[f"{block}.pos_size"] = 50
        for name in names:
            listens = {"replace_listeners": ["model.tok2vec"]} if name != "attribute_ruler" else {}
            settings[f"components.{name}"] = {"source": PARSERS[trees], **listens}
        settings |= {"training.frozen_components": names, "training.annotating_components": names}
        settings["nlp.pipeline"] = [*names, component]
    else:
        settings |= {"nlp.pipeline": [component], "training.annotating_components": []}
        augmenter = {"@augmenters": "benchmarks.shuffled_trees.v1"} if trees == "shuffled" else None
        for part in ("train", "dev"):
            reader = {"@readers": "spacy_ner_arch.Corpus.v1", "copy": ["heads"], "augmenter": augmenter}
            settings[f"corpora.{part}"] = {**reader, "path": f"${{paths.{part}}}"}
    return Run(
        f"{corpus}/{encoder}{'' if head == 'crf' else '_' + head}-{trees}",
        "syn_lstm_nested" if head == "nested" else "syn_lstm",
        "synlstm_crf" if head == "crf" else "synlstm_span",
        {**settings, **(CHINESE_WORDS if corpus == "uner_zh_gsdsimp" else {})},
        remove=(
            *(() if "components.parser" in settings else ("components.parser",)),
            *(NOT_NESTED if head == "nested" else ()),
        ),
        needs={"predicted": PARSER, "predicted_minilm": PARSER_MINILM}.get(trees),
        seeds=seeds,
        scores=("spans",) if head == "nested" else ("ents",),
    )


def with_glove(run: Run) -> Run:
    """The run with GloVe and its dropout."""
    block = f"{MODEL}.encoder"
    encoder = {block: {**run.settings[block], "dropout": 0.0}} if block in run.settings else {f"{block}.dropout": 0.0}
    glove = {key: value for key, value in GLOVE.items() if not key.startswith(block)}
    return replace(run, name=f"{run.name}-glove", settings={**run.settings, **glove, **encoder})


PAIR_MODEL = "components.relation_extractor.model"


def web_sm_trees(pipeline: list[str]) -> dict[str, Any]:
    """Settings of a pipeline whose component `parser` is that of en_core_web_sm."""
    return {
        "components.parser": {"source": WEB_SM, "replace_listeners": ["model.tok2vec"]},
        "nlp.pipeline": pipeline,
        "training.frozen_components": ["parser"],
        "training.annotating_components": ["parser"],
    }


def tree_relations(corpus: str, encoder: str, seeds: tuple[int, ...] = (0,)) -> Run:
    """Relations between gold entities, over a BiLSTM, or over a Syn-LSTM with the trees of en_core_web_sm."""
    settings = {
        **relation_settings(corpus, "relation_bilstm"),
        f"{PAIR_MODEL}.pairs": {"@architectures": "spacy_ner_arch.SoftmaxPairs.v1"},
        f"{PAIR_MODEL}.encoder": {"@architectures": "spacy_ner_arch.SynLSTM.v1", **ENCODERS[encoder]},
        "training.before_to_disk": None,
    }
    if encoder != "bilstm":
        settings |= web_sm_trees(["parser", "relation_extractor"])
    return Run(
        f"{corpus}/{encoder}_softmax-{'no_trees' if encoder == 'bilstm' else 'web_sm'}",
        "tree_relations",
        "relation_bilstm",
        settings,
        remove=() if encoder == "bilstm" else ("components.sentencizer",),
        seeds=seeds,
        scores=("micro", "macro"),
    )


PARSER_STEPS, PARSER_WARMUP = 800, 80
PARSER_ON_MINILM = {
    **budget(PARSER_STEPS),
    "paths.encoder": "training/minilm",
    "nlp.pipeline": ["transformer", "parser", "vector_cleaner"],
    "components.transformer.model.dtype": "bfloat16",
    "components.parser": {"factory": "parser", "model": {"use_upper": False, "tok2vec": OUR_LISTENER}},
    "training.batcher.size": 1000,
    "training.before_to_disk": None,
    "training.before_update": stages({"transformer": TRANSFORMER_RATE, "features": HEAD_RATE}, PARSER_WARMUP),
    f"{GROUPS}.features.match": "^parser",
    "training.optimizer.learn_rate": linear(HEAD_RATE, PARSER_WARMUP),
    "training.score_weights": {"dep_las": 1.0},
}
TREES = [
    Run("uner_en_ewt/parser", None, "spacy:parser", {"training.max_steps": 3000}),
    Run("uner_en_ewt/parser_short", None, "spacy:parser", {**budget(2000, evaluations=4), "training.patience": 0}),
    Run(
        "uner_en_ewt/parser_minilm",
        None,
        "transformer_crf",
        PARSER_ON_MINILM,
        remove=("components.sequence_ner",),
    ),
    *(tree_run("uner_en_ewt", encoder, "gold", THREE) for encoder in ("bilstm", "synlstm", "synlstm_bias", ARCS)),
    tree_run("uner_en_ewt", "synlstm_bias", "shuffled", THREE),
    tree_run("uner_en_ewt_jackknifed", "synlstm_bias", "jackknifed", THREE),
    *(tree_run("uner_en_ewt_jackknifed_minilm", encoder, "jackknifed", THREE) for encoder in ("synlstm_bias", ARCS)),
    *(tree_run("uner_en_ewt", encoder, "predicted", THREE) for encoder in ("synlstm", "synlstm_bias", ARCS)),
    tree_run("uner_en_ewt", ARCS, "predicted_minilm", THREE),
    *(tree_run("uner_en_ewt", encoder, "web_sm", THREE) for encoder in ("synlstm_gate", "synlstm_bias", ARCS)),
    *(tree_run("uner_en_ewt", encoder, "web_sm_pos", THREE) for encoder in ("bilstm", "synlstm_bias")),
    *(with_glove(tree_run("uner_en_ewt", encoder, "web_sm", THREE)) for encoder in ("bilstm", "synlstm_bias")),
    tree_run("uner_en_ewt", "synlstm_gate", "gold"),
    tree_run("uner_en_ewt", "synlstm_bias", "gold", THREE, head="span"),
    tree_run("uner_en_ewt", "bilstm", "gold", THREE, head="span"),
    tree_run("uner_en_ewt", "synlstm_bias", "web_sm", THREE, head="span"),
    *(tree_run("uner_zh_gsdsimp", encoder, "gold") for encoder in ("bilstm", "synlstm_bias")),
    Run("uner_en_ewt/transformer_crf", "syn_lstm", "transformer_crf", on_minilm(STEPS, WARMUP, RATES)),
    tree_run("gum_nested", "bilstm", "gold", THREE, head="nested"),
    *(tree_run("gum_nested", encoder, "web_sm", THREE, head="nested") for encoder in ("synlstm_bias", ARCS)),
    *(tree_relations("semeval", encoder, THREE) for encoder in ("bilstm", "synlstm_bias")),
    *(tree_relations("conll04", encoder) for encoder in ("bilstm", "synlstm_bias")),
]

MAIN = (
    SCRATCH
    + WITH_VECTORS
    + OTHER_CORPORA
    + RAW_TEXT
    + SHORT
    + TRANSFORMERS
    + DOCUMENTS
    + CRF_OR_SOFTMAX
    + SPANS
    + NESTED
    + RELATIONS
    + END_TO_END
    + JOINT_RUNS
    + APART
    + BIGGER
    + MULTILINGUAL
    + TREES
    + COMBINE
)


def tried(
    base: str, name: str, settings: Mapping[str, Any], remove: tuple[str, ...] = (), seeds: tuple[int, ...] = (0,)
) -> Run:
    """A run of MAIN with other settings, without gain."""
    run = next(run for run in MAIN if run.name == base)
    settings = {**run.settings, **settings}
    return replace(
        run, name=f"{base}-{name}", section="tried", settings=settings, remove=(*run.remove, *remove), seeds=seeds
    )


GLOVE_FOR_RELATIONS = {
    **USE_GLOVE,
    "components.relation_extractor.model.tok2vec.features": {
        "@architectures": "spacy_ner_arch.WordCharEmbed.v1",
        "word_attr": "NORM",
        "word_rows": 20000,
        "features": [],
        "filters": 0,
        "unknown_rate": 0.0,
        **TUNED_VECTORS,
    },
}
# Half of the documents have predicted entities in training.
PREDICTED_ENTITIES = {
    "corpora.train.share": 0.5,
    "training.annotating_components": ["transformer", "sentencizer", "sequence_ner"],
}
TAGS_SCALE, PAIRS_SCALE = f"{MODEL}.loss_scale", f"{PAIR_MODEL}.loss_scale"


def layer_rates(top: float, factor: float) -> dict[str, Any]:
    """A rate for each layer of the transformer, lower for those below."""
    groups = {
        "transformer": {"learn_rate": linear(top, WARMUP), "layer_decay": factor},
        "sequence_ner": {"learn_rate": linear(HEAD_RATE, WARMUP)},
    }
    return {"@callbacks": "spacy_ner_arch.Stages.v1", "stages": {"all": {"groups": groups}}}


TRIED = [
    tried(
        "conll2003/transformer_crf-long", "layer_rates", {"training.before_update": layer_rates(3e-4, 0.8)}, seeds=THREE
    ),
    tried("conll2003/transformer_crf-long", "averages", {"training.optimizer.use_averages": True}, seeds=(1,)),
    tried("conll2003/transformer_crf", "loss_scale", {TAGS_SCALE: 0.02}, seeds=(0, 1)),
    *(
        tried("conll2003/transformer_crf", pooling, {"components.transformer.model.pooling": pooling})
        for pooling in ("first", "first_last")
    ),
    tried("semeval/relation_softmax", "loss_scale", {PAIRS_SCALE: 0.05}),
    tried("conll04/joint-1:1", "loss_scale", {TAGS_SCALE: 0.02, PAIRS_SCALE: 0.02}),
    tried(
        "semeval/relation_softmax",
        "synlstm",
        {
            f"{PAIR_MODEL}.encoder": {"@architectures": "spacy_ner_arch.SynLSTM.v1", **ENCODERS["synlstm_bias"]},
            **web_sm_trees(["transformer", "parser", "relation_extractor", "vector_cleaner"]),
        },
        remove=("components.sentencizer",),
    ),
    tried(
        "conll2003/transformer_crf",
        "rate_4e-4",
        {"training.before_update": stages({**RATES, "transformer": 4e-4}, WARMUP)},
    ),
    tried("conll2003/transformer_bilstm_crf", "characters", WITH_CHARACTERS),
    tried("semeval/relation_softmax", "rate_2e-4", {f"{GROUPS}.transformer.learn_rate.initial_rate": 2e-4}),
    tried("semeval/relation_softmax", "long", budget(3600), seeds=THREE),
    tried("semeval/relation_softmax", "glove", GLOVE_FOR_RELATIONS),
    tried(
        "semeval/relation_softmax",
        "two_stages",
        {"training.before_update": stages(RELATION_RATES, 140, first=400, steps=1400)},
    ),
    tried(
        "conll04/joint-learned", "two_stages", {"training.before_update": stages(JOINT_RATES, 80, first=200, steps=800)}
    ),
    tried("conll04/joint-learned", "rate_2e-4", {f"{GROUPS}.transformer.learn_rate.initial_rate": 2e-4}),
    tried("conll04/joint-learned", "long", budget(2000, evaluations=10), seeds=THREE),
    tried("conll04/joint-learned", "longer", budget(4000, evaluations=10)),
    tried("conll04/joint-learned", "share", PREDICTED_ENTITIES),
    tried("conll04/joint-learned", "glove", {**WITH_CHARACTERS, **GLOVE_BESIDE}),
    tried(
        "conll04/joint-learned",
        "glove_bilstm",
        {
            **WITH_CHARACTERS,
            **GLOVE_BESIDE,
            f"{MODEL}.encoder": {"@architectures": "spacy_ner_arch.BiLSTM.v1", "hidden_size": 200},
        },
    ),
]


def twice(
    base: str, name: str, weights: Mapping[str, float], settings: Mapping[str, Any] | None = None, seeds: tuple = THREE
) -> Run:
    """A run of MAIN with each document twice in a batch, and `consistency` of these components (R-Drop)."""
    run = next(run for run in MAIN + TRIED if run.name == base)
    changed = {**run.settings, **(settings or {})}
    batcher = {"@batchers": "spacy.batch_by_padded.v1", "buffer": 256, "discard_oversize": False, "get_length": None}
    size = changed.pop("training.batcher.size", 500)
    changed["training.batcher"] = {"@batchers": "spacy_ner_arch.RDrop.v1", "batcher": {**batcher, "size": size}}
    changed |= {f"components.{component}.model.consistency": float(weight) for component, weight in weights.items()}
    return replace(run, name=f"{base}-{name}", section="rdrop", settings=changed, seeds=seeds, extra=None)


RDROP = [
    twice("semeval/relation_softmax", "rdrop", {"relation_extractor": 4}),
    twice("semeval/relation_softmax", "rdrop-long", {"relation_extractor": 4}, budget(3600), seeds=(0,)),
    twice("semeval/relation_softmax", "rdrop_2", {"relation_extractor": 2}, seeds=(0,)),
    twice("semeval/relation_softmax", "rdrop_8", {"relation_extractor": 8}, seeds=(0, 2)),
    twice("conll04/joint-learned", "rdrop", {"sequence_ner": 4, "relation_extractor": 4}),
    twice("conll04/joint-learned", "rdrop_1_4", {"sequence_ner": 1, "relation_extractor": 4}),
    twice("conll04/joint-learned", "rdrop_0_4", {"relation_extractor": 4}),
    twice(
        "conll04/joint-learned",
        "rdrop-long",
        {"sequence_ner": 4, "relation_extractor": 4},
        budget(2000, evaluations=10),
    ),
    twice("uner_en_ewt/bilstm-gold", "rdrop", {"sequence_ner": 4}, {"training.batcher.size": 1000}, seeds=(0,)),
    replace(
        next(run for run in MAIN if run.name == "conll2003/bilstm_crf-glove"),
        name="conll2003/bilstm_crf-glove-long",
        section="rdrop",
        settings={**GLOVE, **budget(6000, evaluations=12)},
        seeds=THREE,
    ),
    twice("conll2003/bilstm_crf-glove", "rdrop", {"sequence_ner": 4}, {"training.batcher.size": 1000}),
    twice(
        "conll2003/bilstm_crf-glove",
        "rdrop-long",
        {"sequence_ner": 4},
        {"training.batcher.size": 1000, **budget(6000, evaluations=12)},
    ),
    twice("conll2003/transformer_crf", "rdrop", {"sequence_ner": 4}, seeds=(0,)),
    twice("conll2003/transformer_bilstm_crf-glove-two_stages", "rdrop", {"sequence_ner": 4}, seeds=(0,)),
    twice("conll2003/transformer_crf-long-layer_rates", "rdrop", {"sequence_ner": 4}),
    twice("conll2003/transformer_crf-long-layer_rates", "rdrop-3900", {"sequence_ner": 4}, budget(3900), seeds=(0,)),
    twice("conll2003/transformer_crf-long-layer_rates", "rdrop_8", {"sequence_ner": 8}),
    twice("conll2003/transformer_crf-long-layer_rates", "rdrop-words", {"sequence_ner": 4}, WITH_CHARACTERS),
]


def on_all(name: str, seeds: tuple[int, ...] = THREE) -> Run:
    """A run that trains on the development part as well, and is scored on the test part only."""
    run = next(run for run in MAIN + TRIED + RDROP if run.name == name)
    settings = {**run.settings, "paths.dev": f"corpus/{run.corpus}/dev.spacy"}
    return replace(run, name=f"{run.corpus}_all/{run.model}", section="all_parts", settings=settings, seeds=seeds)


ALL_PARTS = [
    on_all("semeval/relation_softmax"),
    on_all("semeval/relation_softmax-long", seeds=(0,)),
    on_all("semeval/relation_softmax-rdrop"),
    on_all("semeval/relation_softmax-rdrop-long", seeds=(0,)),
    on_all("conll2003/transformer_crf-long"),
    on_all("conll2003/transformer_crf-long-layer_rates-rdrop"),
]
CROSS_VALIDATED = [
    replace(
        next(run for run in MAIN if run.name == "conll04/joint-learned"), name=f"{fold}/joint-learned", section=None
    )
    for fold in FOLDS
]
TABLE = MAIN + TRIED + RDROP + ALL_PARTS + CROSS_VALIDATED
RUNS = {run.name: run for run in TABLE}
