"""The schema of lmms-lab/VQAv2, for data sets that the tests make up."""

import datasets
from datasets import Features, List, Value

# The features of lmms-lab/VQAv2 as its card gives them.
LMMS_LAB = Features(
    {
        "question_type": Value("string"),
        "multiple_choice_answer": Value("string"),
        "answers": List(
            {
                "answer": Value("string"),
                "answer_confidence": Value("string"),
                "answer_id": Value("int64"),
            }
        ),
        "image_id": Value("int64"),
        "answer_type": Value("string"),
        "question_id": Value("int64"),
        "question": Value("string"),
        "image": datasets.Image(),
    }
)
