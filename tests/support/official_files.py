"""Writes tiny made-up data sets in the exact layouts of their authors' files, pictures included.

Each function writes one split of two questions, with the given texts, below a folder. The pictures
are of one colour, and the answers name it where the set has open answers.
"""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

COLORS = ("red", "blue")
TEXTS = ("What color is it?", "Which color is this?")
Texts = Sequence[str]


def draw(file: Path, number: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), COLORS[number % 2]).save(file)


def dump(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def number_of(split: str, i: int) -> int:
    """Return an id of a picture or question that no other split has."""
    return i + (40 if split == "train" else 50)


def ten(color: str, **more: str) -> list[dict[str, Any]]:
    return [{"answer": color, "answer_confidence": "yes"} | more for _ in range(10)]


def _coco_vqa(root: Path, split: str, texts: Texts, prefix: str, raw: bool) -> None:
    name = f"{split}2014"
    questions, annotations = [], []
    for i, text in enumerate(texts):
        image = number_of(split, i)
        draw(root / name / f"COCO_{name}_{image:012d}.jpg", i)
        one = {"image_id": image, "question_id": image * 10}
        questions.append({**one, "question": text})
        answers = ten(COLORS[i], **({"raw_answer": COLORS[i] + "dish"} if raw else {}))
        kinds = {"question_type": "four", "answer_type": "other"}
        annotations.append({**one, **kinds, "answers": answers})
    dump(root / f"{prefix}OpenEnded_mscoco_{name}_questions.json", {"questions": questions})
    dump(root / f"{prefix}mscoco_{name}_annotations.json", {"annotations": annotations})


def vqav2(root: Path, split: str, texts: Texts) -> None:
    _coco_vqa(root, split, texts, "v2_", raw=False)


def okvqa(root: Path, split: str, texts: Texts) -> None:
    _coco_vqa(root, split, texts, "", raw=True)


def vizwiz(root: Path, split: str, texts: Texts) -> None:
    entries = []
    for i, text in enumerate(texts):
        name = f"VizWiz_{split}_{i:08d}.jpg"
        draw(root / split / name, i)
        answers = [*ten(COLORS[i])[:9], {"answer": "", "answer_confidence": "no"}]
        kinds = {"answer_type": "other", "answerable": i}
        entries.append({"image": name, "question": text, "answers": answers, **kinds})
    dump(root / "Annotations" / f"{split}.json", entries)


def textvqa(root: Path, split: str, texts: Texts) -> None:
    entries = []
    for i, text in enumerate(texts):
        image = f"00{number_of(split, i)}ab"
        draw(root / "train_images" / f"{image}.jpg", i)
        one = {"image_id": image, "question_id": number_of(split, i), "question": text}
        entries.append({**one, "answers": [COLORS[i]] * 10, "set_name": split})
    dump(root / f"TextVQA_0.5.1_{split}.json", {"dataset_type": split, "data": entries})


def gqa(root: Path, split: str, texts: Texts) -> None:
    entries = {}
    for i, text in enumerate(texts):
        image = f"n{number_of(split, i)}"
        draw(root / "images" / f"{image}.jpg", i)
        types = {"detailed": "queryAttr", "semantic": "attr", "structural": "query"}
        entries[f"0{number_of(split, i)}"] = {
            **{"imageId": image, "question": text, "answer": COLORS[i], "isBalanced": i == 1},
            **{"types": types, "groups": {"global": None, "local": "06-cup_color"}},
            "entailed": [],
            "semantic": [{"operation": "select", "dependencies": [], "argument": "cup (1)"}],
        }
    dump(root / f"{split}_balanced_questions.json", entries)
    if split == "train":
        for chunk in range(10):
            part = {f"{chunk}{key}": value for key, value in entries.items()}
            dump(root / "train_all_questions" / f"train_all_questions_{chunk}.json", part)


def clevr(root: Path, split: str, texts: Texts) -> None:
    entries: list[dict[str, Any]] = []
    for i, text in enumerate(texts):
        name = f"CLEVR_{split}_{i:06d}.png"
        draw(root / "CLEVR_v1.0" / "images" / split / name, i)
        step = "function" if i else "type"  # as the generator itself writes it
        program = [{step: "scene", "inputs": []}, {step: "query_color", "inputs": [0]}]
        one = {"question_index": i, "image_index": i, "image_filename": name, "split": split}
        entries.append({**one, "question": text, "program": program, "answer": COLORS[i]})
    entries.append({**entries[0], "question_index": 7, "question": "Is it?", "answer": True})
    entries.append({**entries[0], "question_index": 8, "question": "How many?", "answer": 3})
    folder = root / "CLEVR_v1.0" / "questions"
    dump(folder / f"CLEVR_{split}_questions.json", {"info": {}, "questions": entries})


def aokvqa(root: Path, split: str, texts: Texts) -> None:
    entries = []
    for i, text in enumerate(texts):
        image = number_of(split, i)
        draw(root / f"{split}2017" / f"{image:012d}.jpg", i)
        one = {"split": split, "image_id": image, "question_id": f"{'Ab' * 10}{image}"}
        choices = {"choices": ["green", "red", "blue", "black"], "correct_choice_idx": 1 + i}
        direct = {"direct_answers": [COLORS[i]] * 10, "difficult_direct_answer": i == 1}
        entries.append({**one, "question": text, **choices, **direct, "rationales": ["It is."]})
    dump(root / f"aokvqa_v1p0_{split}.json", entries)


def tallyqa(root: Path, split: str, texts: Texts) -> None:
    entries = []
    for i, text in enumerate(texts):
        image = number_of(split, i)
        name = f"VG_100K_2/{image}.jpg" if i else f"val2014/COCO_val2014_{image:012d}.jpg"
        draw(root / name, i)
        one = {"image": name, "image_id": int(f"9{image}") if i else image, "question_id": image}
        kinds = {"data_source": "amt" if i else "imported_vqa"}
        kinds |= {} if split == "train" else {"issimple": not i}
        entries.append({**one, **kinds, "question": text, "answer": i})
    dump(root / f"{split}.json", entries)


def visual7w(root: Path, split: str, texts: Texts) -> None:
    """Write both splits, which are in one file."""
    images = []
    for part in ("train", "val"):
        for i, text in enumerate(texts if part == split else TEXTS):
            image = number_of(part, i)
            draw(root / "images" / f"v7w_{image}.jpg", i)
            pair = {"qa_id": image * 10, "image_id": image, "question": text, "type": "what"}
            pair |= {"answer": f"{COLORS[i]}.", "multiple_choices": ["A dog.", "Rain.", "Green."]}
            one = {"image_id": image, "filename": f"v7w_{image}.jpg", "split": part}
            images.append({**one, "qa_pairs": [pair]})
    dump(root / "dataset_v7w_telling.json", {"dataset": "visual7w-telling", "images": images})


def vqa_rad(root: Path, split: str, texts: Texts) -> None:
    """Write both splits, which are in one file."""
    entries: list[dict[str, Any]] = []
    for part in ("test", "train"):
        for i, text in enumerate(texts if part == split else TEXTS):
            name = f"synpic{number_of(part, i)}.jpg"
            draw(root / "VQA_RAD Image Folder" / name, i)
            phrase = "test_para" if part == "test" else "freeform"
            qid = number_of(part, i) if entries else "0"
            one = {"qid": qid, "phrase_type": phrase, "image_name": name, "image_organ": "HEAD"}
            answer = 2 if i else "Yes"
            kinds = {"question_type": "PRES, POS", "answer_type": "OPEN" if i else "CLOSED "}
            entries.append({**one, **kinds, "question": text, "answer": answer})
    dump(root / "VQA_RAD Dataset Public.json", entries)


def slake(root: Path, split: str, texts: Texts) -> None:
    entries = []
    for i, text in enumerate(texts):
        image = number_of(split, i)
        draw(root / "Slake1.0" / "imgs" / f"xmlab{image}" / "source.jpg", i)
        one = {"img_id": image, "img_name": f"xmlab{image}/source.jpg", "qid": image * 10}
        kinds = {"q_lang": "zh" if i else "en", "modality": "CT", "content_type": "Organ"}
        kinds |= {"location": "Lung", "answer_type": "OPEN", "base_type": "vqa"}
        answer = "\u80ba" if i else "Lung"
        entries.append({**one, **kinds, "question": text, "answer": answer})
    dump(root / "Slake1.0" / f"{'validate' if split == 'val' else split}.json", entries)


def pathvqa(root: Path, split: str, texts: Texts) -> None:
    entries = []
    for i, text in enumerate(texts):
        image = f"{split}_{i:04d}"
        draw(root / "pvqa" / "images" / split / f"{image}.jpg", i)
        entries.append({"image": image, "question": text, "answer": COLORS[0] if i else "no"})
    file = root / "pvqa" / "qas" / split / f"{split}_qa.pkl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(entries, protocol=3))


def daquar(root: Path, split: str, texts: Texts) -> None:
    triples = []
    for i, text in enumerate(texts):
        image = f"image{number_of(split, i)}"
        draw(root / "nyu_depth_images" / f"{image}.png", i)
        triples += [text, "lamp, garbage_bin" if i else "2", image]
    (root / f"qa.894.raw.{split}.format_triple").write_text("\n".join(triples) + "\n")


def scienceqa(root: Path, split: str, texts: Texts) -> None:
    """Write both splits, which are in one file; a third question of each has no picture."""
    problems, parts = {}, {}
    for part in ("train", "val"):
        ids = [str(number_of(part, i)) for i in range(3)]
        parts[part] = [*reversed(ids)]
        for i, text in enumerate([*(texts if part == split else TEXTS), "Why?"]):
            if i < 2:
                draw(root / "images" / part / ids[i] / "image.png", i)
            one = {"question": text, "choices": ["red", "blue", "grey"][: 2 + i], "answer": i % 2}
            kinds = {"subject": "natural science", "grade": "grade4", "topic": "physics"}
            more = {"image": "image.png" if i < 2 else None, "hint": "Look." if i else ""}
            problems[ids[i]] = {**one, **kinds, **more, "split": part}
    dump(root / "problems.json", problems)
    dump(root / "pid_splits.json", parts)


def nlvr2(root: Path, split: str, texts: Texts) -> None:
    lines = []
    part = "dev" if split == "val" else split
    for i, text in enumerate(texts):
        folder = root / ("images/train/67" if split == "train" else part)
        for side in (0, 1):
            draw(folder / f"{part}-{i}-1-img{side}.png", i + side)
        one = {"identifier": f"{part}-{i}-1-0", "sentence": text, "label": str(i == 1)}
        lines.append(json.dumps(one | ({"directory": 67} if split == "train" else {})))
    (root / f"{part}.json").write_text("\n".join(lines) + "\n")
