"""Small corpora in the formats of annotation tools and of published corpora, for the campaign of damaged corpora."""

import json
from typing import Any

GUILD = ["The", "Guild", "of", "Upper", "Tarn", "hired", "Moss", "\U0001f600", "."]
ADA = "\U0001f600 Ada left Tarn."
# The text of the corpus of brat.
BRAT_TEXT = "\U0001f600 Ada Moss left\nUpper Tarn Åsa.\r\n"


def as_list(*items: Any) -> str:
    return json.dumps(items, indent=1, ensure_ascii=False)


def as_lines(*items: Any) -> str:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


def span(start: int, end: int, label: str) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label}


def region(id: str, start: int, end: int, labels: list[str], **more: str) -> dict[str, Any]:
    return {"id": id, "type": "labels", "value": {"start": start, "end": end, "labels": labels, **more}}


PERSON, PLACE = span(2, 5, "PER"), span(11, 15, "LOC")
TOKENS = [(0, 1, 2), (2, 5, 2), (6, 10, 2), (11, 15, 2), (15, 16, 2), (17, 19, 6), (20, 24, 6), (24, 25, 6)]
TACRED = {"token": GUILD, "subj_start": 1, "subj_end": 4, "subj_type": "ORG", "obj_start": 6, "obj_end": 6}

TOOL_CORPORA: dict[str, str] = {
    "conll tag-first": "B-PER\tAda\nI-PER\tMoss\nO\tleft\nB-LOC\tTarn\n\nO\t-\nB-PER\tÅsa\nO\tsang\n\n" * 2,
    "csv": (
        "Sentence #,Word,POS,Tag\r\nSentence: 1,Ada,X,B-PER\r\n,Moss,X,I-PER\r\n,left,X,O\r\n"
        'Sentence: 2,"""",X,O\r\n,Tarn,X,B-LOC\r\n,\U0001f600,X,-\r\n'
    ),
    "brat": (
        "T1\tPER 2 10\tAda Moss\nT2\tLOC 16 26\tUpper Tarn\nT3\tLOC 22 26\tTarn\nT4\tPER 2 5;27 30\tAda Åsa\n"
        "R1\tleft Arg1:T1 Arg2:T2\t\nE1\tMove:T1\nA1\tOld T1\n*\tEquiv T2 T3\n#1\tAnnotatorNotes T1\tso\n"
    ),
    "label-studio": as_list(
        {
            "id": 1,
            "data": {"text": "\U0001f600 Ada Moss left Tarn."},
            "annotations": [
                {
                    "completed_by": 1,
                    "result": [
                        region("a", 2, 10, ["PER"], text="Ada Moss"),
                        region("b", 16, 20, ["LOC", "GPE"]),
                        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "bi", "labels": ["left"]},
                        {"id": "c", "type": "choices", "value": {"choices": ["good"]}},
                    ],
                },
                {"completed_by": {"id": 2, "email": "bo@x"}, "was_cancelled": False, "result": []},
            ],
        },
        {"id": 2, "data": {"image": "https://x/1.png"}, "annotations": [{"result": []}]},
        {"id": 3, "data": {"text": "Nothing."}, "annotations": [{"result": []}]},
    ),
    "label-studio json-min": as_list(
        *(
            {
                "id": number,
                "text": "Åsa met Moss.",
                "label": [{"start": 0, "end": 3, "text": "Åsa", "labels": ["PER"]}],
                "annotator": number,
                "annotation_id": 5,
            }
            for number in (1, 2)
        )
    ),
    "argilla": as_list(
        {
            "id": "1",
            "fields": {"text": ADA},
            "responses": {
                "span": [
                    {"value": [span(3, 6, "PER"), span(12, 16, "LOC")], "user_id": "a"},
                    {"value": [], "user_id": "b", "status": "discarded"},
                ],
                "mood": [{"value": "sad", "user_id": "a"}],
            },
        },
        {"id": "2", "fields": {"text": "Nothing."}, "responses": {"span": [{"value": [], "user_id": "a"}]}},
        {"id": "3", "fields": {"text": "Not seen."}, "responses": {}},
    ),
    "argilla flat": as_lines(
        {
            "text": "Ada left.",
            "q.responses": [[span(0, 3, "PER")], []],
            "q.responses.users": ["a", "b"],
            "q.responses.status": ["submitted", "draft"],
        },
        {"text": "Moss left.", "annotation": [span(0, 4, "PER")], "annotation_agent": "a"},
    ),
    "prodigy": as_lines(
        {
            "text": ADA,
            "_input_hash": 1,
            "_annotator_id": "a",
            "spans": [PERSON, PLACE],
            "relations": [{"head": 1, "child": 3, "head_span": PERSON, "child_span": PLACE, "label": "left"}],
            "answer": "accept",
        },
        {"text": "Moss sang.", "_input_hash": 2, "spans": [], "answer": "reject"},
        {"text": "Moss sang.", "_input_hash": 2, "spans": [span(0, 4, "PER")], "_is_binary": True, "answer": "accept"},
    ),
    "doccano": as_lines(
        {
            "id": 1,
            "text": ADA,
            "Comments": [],
            "entities": [
                {"id": 7, "start_offset": 3, "end_offset": 6, "label": "PER"},
                {"id": 8, "start_offset": 12, "end_offset": 16, "label": "LOC"},
            ],
            "relations": [{"id": 1, "from_id": 7, "to_id": 8, "type": "left"}],
        },
        {"id": 2, "text": "Moss sang.", "Comments": [], "label": [[0, 4, "PER"]]},
        {"id": 2, "text": "Moss sang.", "Comments": [], "label": []},
    ),
    "datasets": as_lines(
        {"id": "0", "tokens": GUILD, "ner_tags": ["O", "B-ORG", "I-ORG", "I-ORG", "I-ORG", "O", "B-PER", "O", -100]},
        {"id": "1", "tokens": ["Åsa", "sang"], "ner_tags": ["B-PER", "O"]},
    ),
    "spacy-json": as_list(
        {
            "text": f"{ADA} He sang.",
            "ents": [PERSON, PLACE],
            "sents": [{"start": 0, "end": 16}, {"start": 17, "end": 25}],
            "spans": {"sc": [{**PERSON, "kb_id": ""}], "other": [{"start": 0}]},
            "unannotated": [{"start": 17, "end": 19}],
            "tokens": [
                {"id": i, "start": start, "end": end, "head": head, "dep": "x", "pos": "X", "tag": "T", "morph": ""}
                for i, (start, end, head) in enumerate(TOKENS)
            ],
            "_": {"relations_json": [{"head": PERSON, "tail": PLACE, "label": "left", "score": None}]},
        },
        {"text": "Moss", "ents": [], "tokens": [{"id": 0, "start": 0, "end": 4}]},
    ),
    "spacy-v2": as_list(
        [ADA, {"entities": [[2, 5, "PER"], [11, 15, "LOC"]], "links": {}}], ["Nothing.", {"entities": []}]
    ),
    "spacy-v2-json": as_list(
        {
            "id": 0,
            "paragraphs": [
                {
                    "raw": "Ada left Tarn.",
                    "sentences": [
                        {
                            "tokens": [
                                {"id": 0, "orth": "Ada", "ner": "U-PER", "head": 1, "dep": "nsubj", "tag": "N"},
                                {"id": 1, "orth": "left", "ner": "O", "head": 0, "dep": "ROOT", "tag": "V"},
                                {"id": 2, "orth": "Tarn", "ner": "U-LOC", "head": -1, "dep": "obj", "tag": "N"},
                                {"id": 3, "orth": ".", "ner": "-", "head": -2, "dep": "punct", "tag": "."},
                            ]
                        }
                    ],
                },
                {"sentences": [{"tokens": [{"orth": "Åsa", "ner": "B-PER"}, {"orth": "Moss", "ner": "L-PER"}]}]},
            ],
        }
    ),
    "cluener": as_lines(
        {"text": "Ada left Tarn \U0001f600.", "label": {"PER": {"Ada": [[0, 2]]}, "LOC": {"Tarn": [[9, 12]]}}},
        {"text": "Åsa met Åsa.", "label": {"PER": {"Åsa": [[0, 2], [8, 10]]}, "WORD": {"met": [[4, 6]]}}},
        {"text": "Nothing.", "label": {}},
    ),
    "gliner": as_list(
        {"tokenized_text": GUILD, "ner": [[1, 4, "ORG"], [3, 4, "LOC"], [6, 6, "PER"]], "relations": [[0, 2, "hired"]]},
        {"tokenized_text": ["Quill"], "ner": []},
    ),
    "dygie": as_lines(
        {
            "doc_key": "a",
            "sentences": [GUILD, ["Åsa", "sang"]],
            "ner": [[[1, 4, "ORG"], [6, 6, "PER"]], [[9, 9, "PER"]]],
            "relations": [[[1, 4, 6, 6, "hired"]], [[9, 9, 1, 4, "knows"]]],
            "clusters": [[[6, 6], [9, 9]]],
        },
        {"doc_key": "b", "sentences": [["Quill"]], "ner": [[]], "relations": [[]]},
    ),
    "docred": as_list(
        {
            "title": "a",
            "sents": [GUILD, ["Åsa", "sang"]],
            "vertexSet": [
                [{"name": "x", "sent_id": 0, "pos": [1, 5], "type": "ORG"}],
                [{"sent_id": 0, "pos": [6, 7], "type": "PER"}, {"sent_id": 1, "pos": [0, 1], "type": "PER"}],
            ],
            "labels": [{"h": 0, "t": 1, "r": "P1", "evidence": [0]}],
        },
        {"title": "b", "sents": [["Quill"]], "vertexSet": []},
    ),
    "tacred": as_list(
        {"id": "a", **TACRED, "obj_type": "PERSON", "relation": "org:hired"},
        {"id": "b", **TACRED, "obj_type": "PERSON", "relation": "no_relation"},
    ),
}
