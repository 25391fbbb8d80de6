"""What the tables of docs/results.md and README.md compare. The scores come from the rows."""

from dataclasses import dataclass, replace

CORPORA = {
    "conll2003": "CoNLL-2003",
    "conll04": "CoNLL04",
    "gum_nested": "GUM nested",
    "semeval": "SemEval-2010 task 8",
    "semeval_all": "SemEval-2010 task 8, all 8,000 sentences,",
    "uner_en_ewt": "UNER English-EWT",
    "uner_en_ewt_jackknifed_minilm": "UNER English-EWT",
    "wnut17": "WNUT-17",
}
MEASURES = {
    "ents": "entities",
    "spans": "spans",
    "micro": "relations",
    "macro": "relations, macro",
    "strict": "relations, strict",
}


@dataclass(frozen=True)
class Figure:
    """Test scores of one run, over its seeds.

    run: CORPUS/MODEL, as in runs.py.
    measures: columns of its rows, without `test_`.
    dtype, device: the machine of the rows.
    """

    run: str
    measures: tuple[str, ...] = ("ents",)
    dtype: str = "float32"
    device: str = "cpu"

    @property
    def task(self) -> str:
        """Corpus, and what is scored."""
        return f"{CORPORA[self.run.split('/')[0]]} {' / '.join(MEASURES[name] for name in self.measures)}"


@dataclass(frozen=True)
class Peer:
    """Another system on the same data; `name` is how the tables call it."""

    name: str
    figure: Figure


@dataclass(frozen=True)
class Comparison:
    """A line of a table.

    name: a published system, or what the reader has or wants.
    config: ours for it, a file of configs/ without .cfg.
    setup: what the config is used with.
    ours: our scores.
    peers: other systems on the same data.
    speed: system of speed.jsonl whose words per second in prediction are shown.
    claim: the published score.
    fault: what is known to be wrong in the published code or its evaluation.
    """

    name: str
    config: str
    setup: str
    ours: Figure
    peers: tuple[Peer, ...] = ()
    speed: str = ""
    claim: str = ""
    fault: str = ""


SCRATCH = Figure("conll2003/bilstm_crf")
GLOVE = Figure("conll2003/bilstm_crf-glove")
MINILM = Figure("conll2003/transformer_crf")
MINILM_BFLOAT16 = Figure("conll2003/transformer_crf", dtype="bfloat16")
MINILM_LONG = Figure("conll2003/transformer_crf-long", dtype="bfloat16")
MINILM_GLOVE = Figure("conll2003/transformer_bilstm_crf-glove-two_stages", dtype="bfloat16")
MPNET = Figure("conll2003/transformer_crf-mpnet", dtype="bfloat16", device="gpu")
MPNET_FLOAT32 = Figure("conll2003/transformer_crf-mpnet", device="gpu")
SPAN_MPNET = Figure("conll2003/span-mpnet", dtype="bfloat16", device="gpu")
NESTED = Figure("gum_nested/nested-all", ("spans",), "bfloat16")
NESTED_PART = Figure("gum_nested/nested", ("spans",))
NESTED_MPNET = Figure("gum_nested/nested-mpnet", ("spans",), "bfloat16", "gpu")
RELATIONS = Figure("conll04/relation_softmax", ("micro",), "bfloat16")
SEMEVAL = Figure("semeval/relation_softmax", ("macro",))
SEMEVAL_ALL = Figure("semeval_all/relation_softmax", ("macro",), "bfloat16")
SEMEVAL_MPNET = Figure("semeval/relation_softmax-mpnet", ("macro",), "bfloat16", "gpu")
JOINT = Figure("conll04/joint-learned", ("ents", "strict"))
JOINT_MPNET = Figure("conll04/joint-mpnet", ("ents", "strict"), "bfloat16", "gpu")
GOLD_TREES = Figure("uner_en_ewt/synlstm_bias_arc_dropout-gold")
MINILM_TREES = Figure("uner_en_ewt_jackknifed_minilm/synlstm_bias_arc_dropout-jackknifed")

SPACY_SCRATCH = Peer("spaCy `ner`", Figure("conll2003/spacy_ner"))
SPACY_GLOVE = Peer("spaCy `ner`, same vectors", Figure("conll2003/spacy_ner-glove"))
SPACY_MINILM = Peer("spaCy `ner`", Figure("conll2003/spacy_ner-minilm"))
SPACY_MINILM_LONG = Peer("spaCy `ner`", Figure("conll2003/spacy_ner-minilm-long"))
SPANCAT = Peer("spaCy `spancat`", Figure("gum_nested/spancat-all", ("spans",)))
TUTORIAL = Peer("model of spaCy's tutorial", Figure("conll04/tutorial", ("micro",)))
APART = Peer("two pipelines", Figure("conll04/apart", ("ents", "strict")))
NO_TREES = Peer("BiLSTM", Figure("uner_en_ewt/bilstm-gold"))
PREDICTED_TREES = Peer(
    "trees of a parser trained on the same sentences", Figure("uner_en_ewt/synlstm_bias_arc_dropout-predicted")
)

# A line each of "which config".
FROM_SCRATCH = Comparison(
    "CPU only, or when speed matters", "bilstm_crf", "from scratch", SCRATCH, (SPACY_SCRATCH,), "conll2003/bilstm_crf"
)
WITH_VECTORS = Comparison("no GPU, word vectors", "bilstm_crf", "GloVe, 50 wide", GLOVE, (SPACY_GLOVE,))
VECTORS_TWICE = Comparison(
    "no GPU, word vectors, 3 times the training time",
    "bilstm_crf",
    "GloVe, 50 wide, R-Drop",
    replace(GLOVE, run=f"{GLOVE.run}-rdrop"),
    (Peer("without R-Drop (twice the steps)", replace(GLOVE, run=f"{GLOVE.run}-long")),),
)
ON_MINILM = Comparison(
    "a small transformer",
    "transformer_crf",
    "MiniLM, bfloat16",
    MINILM_LONG,
    (SPACY_MINILM_LONG,),
    "conll2003/transformer_crf",
)
ON_MINILM_AND_GLOVE = Comparison(
    "a small transformer with word vectors",
    "transformer_bilstm_crf",
    "MiniLM and GloVe, bfloat16",
    MINILM_GLOVE,
    (Peer("`transformer_crf` (also 1,300 steps)", MINILM_BFLOAT16),),
)
MINILM_TWICE = Comparison(
    "a small transformer, twice the training time",
    "transformer_crf",
    "MiniLM, R-Drop, words and characters, lower rates for lower layers, bfloat16",
    replace(MINILM_LONG, run=f"{MINILM_LONG.run}-layer_rates-rdrop-words"),
    (Peer("`transformer_crf` (also 2,600 steps)", MINILM_LONG),),
)
ON_MPNET = Comparison(
    "a GPU, highest accuracy",
    "transformer_crf",
    "mpnet-base, float32",
    MPNET_FLOAT32,
    (Peer("MiniLM", MINILM),),
)
OVERLAPPING = Comparison("nested or overlapping entities", "nested", "MiniLM, bfloat16", NESTED, (SPANCAT,))
ONLY_RELATIONS = Comparison(
    "relations between given entities", "relation_softmax", "MiniLM, bfloat16", RELATIONS, (TUTORIAL,)
)
BOTH = Comparison("entities and relations", "joint", "MiniLM", JOINT, (APART,), "conll04/joint-1:1")
BOTH_TWICE = Comparison(
    "entities and relations, 4 times the training time",
    "joint",
    "MiniLM, R-Drop, bfloat16",
    replace(JOINT, run=f"{JOINT.run}-rdrop-long", dtype="bfloat16"),
    (Peer("without R-Drop (twice the steps)", replace(JOINT, run=f"{JOINT.run}-longer", dtype="bfloat16")),),
)
WITH_TREES = Comparison(
    "good dependency trees",
    "synlstm_crf",
    "from scratch, trees of a parser over MiniLM",
    MINILM_TREES,
    (NO_TREES, PREDICTED_TREES),
)
CHOICES = [
    FROM_SCRATCH,
    WITH_VECTORS,
    VECTORS_TWICE,
    ON_MINILM,
    ON_MINILM_AND_GLOVE,
    MINILM_TWICE,
    ON_MPNET,
    OVERLAPPING,
    ONLY_RELATIONS,
    BOTH,
    BOTH_TWICE,
    WITH_TREES,
]

OTHER_CORPORA = [
    Comparison(
        "another corpus",
        "bilstm_crf",
        "from scratch",
        Figure(f"{corpus}/bilstm_crf"),
        (Peer("spaCy `ner`", Figure(f"{corpus}/spacy_ner")),),
    )
    for corpus in ("wnut17", "uner_en_ewt")
]
PEERS = [FROM_SCRATCH, WITH_VECTORS, *OTHER_CORPORA, ON_MINILM, OVERLAPPING, ONLY_RELATIONS]

LOWER_CASE = "lower-cases all words; random vectors, 32 wide; sees no characters"
OCCURRENCES = "softmax before cross entropy; the mask of an entity marks every occurrence of its text"
TREES = "loses arcs to the first token; the root hangs on the last column; no dependency labels"
NOT_JOINT = "two separate BERTs, so that nothing is shared; learned weights without a bound"
ONTONOTES = "OntoNotes 5"

BILSTM_CRF = Comparison(
    "BiLSTM-CRF",
    "bilstm_crf",
    "from scratch",
    SCRATCH,
    peers=(SPACY_SCRATCH,),
    speed="conll2003/bilstm_crf",
)
PUBLISHED = {
    "ner_research": [
        replace(BILSTM_CRF, claim="CoNLL-2003 64", fault=f"{LOWER_CASE}; numpy Viterbi sentence by sentence"),
        Comparison(
            "BiLSTM-CRF with GloVe",
            "bilstm_crf",
            "GloVe, 50 wide",
            GLOVE,
            peers=(SPACY_GLOVE,),
            claim="CoNLL-2003 90.1 to 91.4 (other publications)",
        ),
        Comparison(
            "BERT + dense",
            "transformer_softmax",
            "MiniLM",
            Figure("conll2003/transformer_softmax"),
            peers=(SPACY_MINILM,),
            claim="CoNLL-2003 90 (BERT-base)",
        ),
        Comparison(
            "BERT + BiLSTM-CRF, two stages",
            "transformer_bilstm_crf",
            "MiniLM, two stages",
            Figure("conll2003/transformer_bilstm_crf-two_stages"),
            peers=(SPACY_MINILM,),
            claim="CoNLL-2003 91 (BERT-base)",
            fault="dropout stays on when stage 2 is validated; the LSTM also reads CLS, SEP and padding",
        ),
    ],
    "nere": [
        Comparison(
            "BERT-CRF",
            "transformer_crf",
            "MiniLM, bfloat16",
            MINILM_LONG,
            peers=(SPACY_MINILM_LONG,),
            speed="conll2003/transformer_crf",
            claim="94.73 (paper)",
            fault="the CRF also runs over word pieces, CLS and SEP",
        ),
        Comparison(
            "BERT-softmax",
            "transformer_softmax",
            "MiniLM",
            Figure("conll2003/transformer_softmax"),
            peers=(SPACY_MINILM,),
        ),
        Comparison(
            "BiLSTM",
            "bilstm",
            "from scratch",
            Figure("conll2003/bilstm"),
            peers=(SPACY_SCRATCH,),
            fault="the recurrence runs across the sentences of a batch",
        ),
        BILSTM_CRF,
        Comparison(
            "relations: BERT-softmax",
            "relation_softmax",
            "MiniLM, bfloat16",
            RELATIONS,
            peers=(TUTORIAL,),
            claim="89.27 (paper; macro with the class other)",
            fault=OCCURRENCES,
        ),
        Comparison(
            "relations: BERT-softmax",
            "relation_softmax",
            "MiniLM, R-Drop, bfloat16",
            replace(SEMEVAL_ALL, run=f"{SEMEVAL_ALL.run}-rdrop"),
            claim="89.27 (paper; macro with the class other)",
            fault=OCCURRENCES,
        ),
        Comparison(
            "relations: BERT-multitask",
            "relation_multitask",
            "MiniLM",
            Figure("semeval/relation_multitask", ("macro",)),
            claim="91.64 (paper; macro with the class other)",
            fault=OCCURRENCES,
        ),
        Comparison(
            "relations: BiLSTM",
            "relation_bilstm",
            "from scratch",
            Figure("semeval/relation_bilstm", ("macro",)),
            fault="takes the last state at a padding position",
        ),
        Comparison(
            "relations: BiLSTM-attention",
            "relation_bilstm_att",
            "from scratch",
            Figure("semeval/relation_bilstm_att", ("macro",)),
            fault="a separate attention query for each place in the batch",
        ),
        Comparison(
            "relations: ACNN",
            "relation_acnn",
            "from scratch",
            Figure("semeval/relation_acnn", ("macro",)),
            claim="0.11 on its page",
            fault="no hinge, so the loss pushes past the margin; 3 filters; types looked up in the table of words",
        ),
        Comparison(
            "joint",
            "joint",
            "MiniLM",
            JOINT,
            peers=(APART,),
            speed="conll04/joint-1:1",
            fault=NOT_JOINT,
        ),
        Comparison(
            "joint with TransE",
            "joint_transe",
            "MiniLM",
            Figure("conll04/joint_transe-0.1:0.89:0.01", ("ents", "strict")),
            peers=(APART,),
            fault=NOT_JOINT,
        ),
    ],
    "span_syn_lstm": [
        Comparison(
            "RoBERTa-CRF",
            "transformer_crf",
            "MiniLM, bfloat16",
            MINILM_LONG,
            peers=(SPACY_MINILM_LONG,),
            speed="conll2003/transformer_crf",
            claim=f"CoNLL-2003 92.52, {ONTONOTES} 90.75",
        ),
        Comparison(
            "RoBERTa-span",
            "span",
            "MiniLM",
            Figure("conll2003/span-SpanSynLSTM"),
            peers=(SPACY_MINILM,),
            speed="conll2003/span-SpanSynLSTM",
            claim=f"CoNLL-2003 92.65, {ONTONOTES} 90.77",
            fault="takes the longest span from the training, development and test part",
        ),
        Comparison(
            "SpanNER (its ancestor)",
            "span",
            "MiniLM",
            Figure("conll2003/span-SpanNER"),
            peers=(SPACY_MINILM,),
            speed="conll2003/span-SpanNER",
            claim="CoNLL-2003 92.04",
            fault="drops gold entities longer than a span may be (91.82 with them); pruning keeps the last span",
        ),
        Comparison(
            "RoBERTa-Syn-LSTM-CRF",
            "synlstm_crf",
            "from scratch, trees of a parser over MiniLM",
            MINILM_TREES,
            peers=(NO_TREES, Peer("gold trees", GOLD_TREES), PREDICTED_TREES),
            claim=f"{ONTONOTES} 90.56",
            fault=TREES,
        ),
        Comparison(
            "RoBERTa-Syn-LSTM-span",
            "synlstm_span",
            "from scratch, gold trees",
            Figure("uner_en_ewt/synlstm_bias_span-gold"),
            peers=(NO_TREES,),
            claim=f"{ONTONOTES} 90.82",
            fault=TREES,
        ),
    ],
}

# Name of a config on mpnet-base, its scores, and those on MiniLM with the same head and steps.
ENCODERS = [
    ("transformer_crf, float32", MPNET_FLOAT32, MINILM),
    ("transformer_crf, bfloat16", MPNET, MINILM),
    (
        "transformer_crf, bfloat16, rate 0.0001",
        Figure("conll2003/transformer_crf-mpnet-rate_1e-4", ("ents",), "bfloat16", "gpu"),
        MINILM,
    ),
    ("span, bfloat16", SPAN_MPNET, Figure("conll2003/span-SpanSynLSTM")),
    ("nested, bfloat16, 4,000 sentences", NESTED_MPNET, NESTED_PART),
    ("relation_softmax, bfloat16", SEMEVAL_MPNET, SEMEVAL),
    ("joint, bfloat16", JOINT_MPNET, JOINT),
]

# What differs, the scores with a CRF over BILUO tags, and those of the other, on the seeds that both have.
CRF_WORTH = [
    ("softmax, from scratch", SCRATCH, Figure("conll2003/bilstm")),
    ("softmax, MiniLM", MINILM, Figure("conll2003/transformer_softmax")),
    ("softmax, from scratch, 1,000 sentences", Figure("conll2003/bilstm_crf-few"), Figure("conll2003/bilstm-few")),
    (
        "softmax, MiniLM, 1,000 sentences",
        Figure("conll2003/transformer_crf-few", dtype="bfloat16"),
        Figure("conll2003/transformer_softmax-few", dtype="bfloat16"),
    ),
    ("BIO, from scratch", SCRATCH, Figure("conll2003/bilstm_crf-bio")),
    ("BIO, from scratch, 1,000 sentences", Figure("conll2003/bilstm_crf-few"), Figure("conll2003/bilstm_crf-few-bio")),
    (
        "BIO and softmax, from scratch, 1,000 sentences",
        Figure("conll2003/bilstm_crf-few"),
        Figure("conll2003/bilstm-few-bio"),
    ),
]

# What one setting of bilstm_crf is worth.
PARTS = [
    ("`bilstm_crf`", SCRATCH),
    ("softmax instead of the CRF", Figure("conll2003/bilstm")),
    ("without characters", Figure("conll2003/bilstm_crf-no_characters")),
    ("without averages", Figure("conll2003/bilstm_crf-no_averages")),
    ("without replacing rare words", Figure("conll2003/bilstm_crf-no_unknown")),
    ("spaCy's `MultiHashEmbed` as embedding", Figure("conll2003/bilstm_crf-hash_embed")),
]

# Representations of spans, with exact and greedy decoding.
SPANS = [
    ("SpanSynLSTM (attention and length)", Figure("conll2003/span-SpanSynLSTM", ("ents", "greedy"))),
    ("SpanNER (length twice)", Figure("conll2003/span-SpanNER", ("ents", "greedy"))),
    ("SpanNER, rate of the head 0.001", Figure("conll2003/span-SpanNER-rate_1e-3", ("ents", "greedy"))),
    ("the same with boundary smoothing 0.1", Figure("conll2003/span-SpanNER-rate_1e-3-smoothing", ("ents", "greedy"))),
    ("`transformer_crf`, to compare", MINILM),
]

# Runs on MiniLM, and behind each the same with other settings.
SEMEVAL_BFLOAT16 = replace(SEMEVAL, dtype="bfloat16")
JOINT_BFLOAT16 = replace(JOINT, dtype="bfloat16")
TRIED = [
    ("`transformer_crf`, 1,300 steps", MINILM_BFLOAT16),
    ("rate of the transformer 0.0004, not 0.0002", replace(MINILM_BFLOAT16, run=f"{MINILM.run}-rate_4e-4")),
    ("`transformer_bilstm_crf`, float32", Figure("conll2003/transformer_bilstm_crf")),
    (
        "with words and characters beside the transformer, bfloat16",
        Figure("conll2003/transformer_bilstm_crf-characters", dtype="bfloat16"),
    ),
    ("`loss_scale` 0.02, not 0.001", replace(MINILM_BFLOAT16, run=f"{MINILM.run}-loss_scale")),
    ("the first word piece of a word, not the mean", replace(MINILM_BFLOAT16, run=f"{MINILM.run}-first")),
    ("the first and the last one side by side", replace(MINILM_BFLOAT16, run=f"{MINILM.run}-first_last")),
    ("`relation_softmax`", SEMEVAL_BFLOAT16),
    ("rate of the transformer 0.0002, not 0.0001", replace(SEMEVAL_BFLOAT16, run=f"{SEMEVAL.run}-rate_2e-4")),
    ("3,600 steps, not 1,800", replace(SEMEVAL_BFLOAT16, run=f"{SEMEVAL.run}-long")),
    ("with GloVe beside the transformer", replace(SEMEVAL_BFLOAT16, run=f"{SEMEVAL.run}-glove")),
    ("400 of the steps for the new layers alone", replace(SEMEVAL_BFLOAT16, run=f"{SEMEVAL.run}-two_stages")),
    ("`loss_scale` 0.05, not 0.001", replace(SEMEVAL_BFLOAT16, run=f"{SEMEVAL.run}-loss_scale")),
    ("with a Syn-LSTM over the transformer", replace(SEMEVAL_BFLOAT16, run=f"{SEMEVAL.run}-synlstm")),
    ("`joint`", JOINT_BFLOAT16),
    ("rate of the transformer 0.0002, not 0.0001", replace(JOINT_BFLOAT16, run=f"{JOINT.run}-rate_2e-4")),
    ("2,000 steps, not 1,000", replace(JOINT_BFLOAT16, run=f"{JOINT.run}-long")),
    ("half of the documents with predicted entities", replace(JOINT_BFLOAT16, run=f"{JOINT.run}-share")),
    ("with GloVe and characters beside the transformer", replace(JOINT_BFLOAT16, run=f"{JOINT.run}-glove")),
    ("200 of the steps for the new layers alone", replace(JOINT_BFLOAT16, run=f"{JOINT.run}-two_stages")),
    ("with GloVe, characters and a BiLSTM below the CRF", replace(JOINT_BFLOAT16, run=f"{JOINT.run}-glove_bilstm")),
    ("weights 1:1 and `loss_scale` 0.02, not 0.001", replace(JOINT_BFLOAT16, run="conll04/joint-1:1-loss_scale")),
]

# Each document twice in a batch (R-Drop), and what takes as much time without it.
TWICE = [
    *(
        (f"{name}, float32, H100", replace(figure, run=f"{figure.run}{suffix}", device="gpu"))
        for figure in (SEMEVAL, JOINT)
        for name, suffix in (("as it is", ""), ("twice the steps", "-long"), ("R-Drop", "-rdrop"))
    ),
    ("as it is, bfloat16, CPU", SEMEVAL_BFLOAT16),
    ("R-Drop, twice the steps", replace(SEMEVAL_BFLOAT16, run=f"{SEMEVAL.run}-rdrop-long")),
    ("as it is", SEMEVAL_ALL),
    ("twice the steps", replace(SEMEVAL_ALL, run=f"{SEMEVAL_ALL.run}-long")),
    ("R-Drop", replace(SEMEVAL_ALL, run=f"{SEMEVAL_ALL.run}-rdrop")),
    ("R-Drop, twice the steps", replace(SEMEVAL_ALL, run=f"{SEMEVAL_ALL.run}-rdrop-long")),
    *(
        (f"BiLSTM-CRF with GloVe, {name}", replace(GLOVE, run=f"{GLOVE.run}{suffix}"))
        for name, suffix in (
            ("as it is", ""),
            ("twice the steps", "-long"),
            ("R-Drop", "-rdrop"),
            ("R-Drop, twice the steps", "-rdrop-long"),
        )
    ),
    *(
        (f"transformer and CRF, {name}", replace(MINILM_BFLOAT16, run=f"{MINILM.run}{suffix}"))
        for name, suffix in (("as it is", ""), ("twice the steps", "-long"), ("R-Drop", "-rdrop"))
    ),
    (
        "transformer and CRF, twice the steps, lower rates for lower layers",
        replace(MINILM_LONG, run=f"{MINILM_LONG.run}-layer_rates"),
    ),
    ("the same, R-Drop", replace(MINILM_LONG, run=f"{MINILM_LONG.run}-layer_rates-rdrop")),
    ("the same, with words and characters beside the transformer", MINILM_TWICE.ours),
    ("transformer, GloVe, BiLSTM and CRF, as it is", MINILM_GLOVE),
    ("the same, R-Drop", replace(MINILM_GLOVE, run=f"{MINILM_GLOVE.run}-rdrop")),
    ("as it is, bfloat16, CPU", JOINT_BFLOAT16),
    ("four times the steps", replace(JOINT_BFLOAT16, run=f"{JOINT.run}-longer")),
    ("R-Drop, twice the steps", BOTH_TWICE.ours),
]
