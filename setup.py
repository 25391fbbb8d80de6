"""Metadata, and every name under which spaCy finds a function of this package."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = {}
exec((ROOT / "spacy_ner_arch" / "__init__.py").read_text(encoding="utf8"), VERSION)

setup(
    name="spacy-ner-arch",
    version=VERSION["__version__"],
    description="Neural architectures for named entity recognition and relation extraction, as components of spaCy",
    long_description=(ROOT / "README.md").read_text(encoding="utf8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["spacy_ner_arch", "spacy_ner_arch.*"]),
    package_data={"spacy_ner_arch": ["py.typed", "evaluation/*.jinja", "cli/*.jinja"]},
    install_requires=[
        "spacy>=3.8.13,<3.9",
        "thinc>=8.3.12,<8.4",
        "confection>=1.3.4",  # keeps the order of sections, which is that of the stages of training
        "spacy-transformers>=1.3.9,<1.5",
        "torch>=2.6",
        "pytorch-crf>=0.7.2,<0.8",
        "seqeval>=1.2.2",
        "safetensors>=0.4.3",
        "numpy>=1.24",
        "pydantic>=2",
        "jinja2>=3",
        "filelock",
        "regex",
    ],
    extras_require={
        "dev": [
            "build",
            "pytest>=8",
            "pytest-timeout",
            "pytest-xdist",
            "hypothesis",
            "ruff",
            "mypy",
            "import-linter",
            "onnx>=1.16",
            "onnxruntime>=1.19",
            "pyarrow>=15",
            "zstandard>=0.22",
            "matplotlib>=3.8",
            "scikit-learn>=1.3",
        ],
        "onnx": ["onnxruntime>=1.19", "onnx>=1.16"],
        "parquet": ["pyarrow>=15"],
        "ray": ["ray>=2.9"],
        "zst": ["zstandard>=0.22"],
        "viz": ["matplotlib>=3.8", "scikit-learn>=1.3"],
        # With the CUDA libraries of `ctk`: without them cupy cannot compile kernels, and thinc says that it is missing.
        # An older torch does not take arrays of this cupy.
        "cuda12x": ["cupy-cuda12x[ctk]>=14", "torch>=2.9"],
        "cuda13x": ["cupy-cuda13x[ctk]>=14", "torch>=2.9"],
    },
    entry_points={
        "spacy_factories": [
            "sequence_ner = spacy_ner_arch.pipes.sequence_ner:make_sequence_ner",
            "span_ner = spacy_ner_arch.pipes.span_ner:make_span_ner",
            "nested_ner = spacy_ner_arch.pipes.nested_ner:make_nested_ner",
            "relation_extractor = spacy_ner_arch.pipes.relation_extractor:make_relation_extractor",
            "vector_cleaner = spacy_ner_arch.pipes.vector_cleaner:make_vector_cleaner",
        ],
        "spacy_architectures": [
            "spacy_ner_arch.WordCharEmbed.v1 = spacy_ner_arch.architectures.embeddings:word_char_embed",
            "spacy_ner_arch.BiLSTM.v1 = spacy_ner_arch.architectures.encoders:bilstm",
            "spacy_ner_arch.SynLSTM.v1 = spacy_ner_arch.architectures.encoders:syn_lstm",
            "spacy_ner_arch.TorchTok2Vec.v1 = spacy_ner_arch.architectures.encoders:torch_tok2vec",
            "spacy_ner_arch.Tok2VecListener.v1 = spacy_ner_arch.architectures.encoders:tok2vec_listener",
            "spacy_ner_arch.TransformerModel.v1 = spacy_ner_arch.architectures.transformer:transformer_model",
            "spacy_ner_arch.TransformerListener.v1 = spacy_ner_arch.architectures.transformer:transformer_listener",
            "spacy_ner_arch.TransformerTok2Vec.v1 = spacy_ner_arch.architectures.transformer:transformer_tok2vec",
            "spacy_ner_arch.PooledTransformerTok2Vec.v1 = "
            "spacy_ner_arch.architectures.transformer:pooled_transformer_tok2vec",
            "spacy_ner_arch.CRF.v1 = spacy_ner_arch.architectures.ner:crf",
            "spacy_ner_arch.Span.v1 = spacy_ner_arch.architectures.ner:span",
            "spacy_ner_arch.Onnx.v1 = spacy_ner_arch.architectures.onnx:onnx",
            "spacy_ner_arch.Softmax.v1 = spacy_ner_arch.architectures.ner:softmax",
            "spacy_ner_arch.Relations.v1 = spacy_ner_arch.architectures.relations:relations",
            "spacy_ner_arch.SoftmaxPairs.v1 = spacy_ner_arch.architectures.relations:softmax_pairs",
            "spacy_ner_arch.MultitaskPairs.v1 = spacy_ner_arch.architectures.relations:multitask_pairs",
            "spacy_ner_arch.BiLSTMPairs.v1 = spacy_ner_arch.architectures.relations:bilstm_pairs",
            "spacy_ner_arch.BiLSTMAttentionPairs.v1 = spacy_ner_arch.architectures.relations:bilstm_attention_pairs",
            "spacy_ner_arch.ACNNPairs.v1 = spacy_ner_arch.architectures.relations:acnn_pairs",
            "spacy_ner_arch.MarkerPairs.v1 = spacy_ner_arch.architectures.relations:marker_pairs",
        ],
        "spacy_batchers": [
            "spacy_ner_arch.RDrop.v1 = spacy_ner_arch.training.r_drop:create_r_drop",
        ],
        "spacy_loggers": [
            "spacy_ner_arch.ConsoleLogger.v1 = spacy_ner_arch.training.loggers:create_console_logger",
        ],
        "spacy_misc": [
            "spacy_ner_arch.LearnedWeight.v1 = spacy_ner_arch.training.loss_weights:create_learned_weight",
            "spacy_ner_arch.EntityPairs.v1 = spacy_ner_arch.annotation.candidates:create_entity_pairs",
        ],
        "spacy_readers": [
            "spacy_ner_arch.Corpus.v1 = spacy_ner_arch.training.corpus:create_corpus",
        ],
        "spacy_scorers": [
            "spacy_ner_arch.relation_scorer.v1 = spacy_ner_arch.evaluation.scorers:make_relation_scorer",
        ],
        "spacy_callbacks": [
            "spacy_ner_arch.AddLabels.v1 = spacy_ner_arch.training.labels:create_add_labels",
            "spacy_ner_arch.Calibrate.v1 = spacy_ner_arch.training.calibration:create_calibrate",
            "spacy_ner_arch.Stages.v1 = spacy_ner_arch.training.stages:create_stages",
        ],
        "spacy_cli": [
            "ner-arch = spacy_ner_arch.cli.app:app",
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Text Processing :: Linguistic",
    ],
)
