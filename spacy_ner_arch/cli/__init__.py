"""The commands of `python -m spacy ner-arch`, and the template of the configs."""
