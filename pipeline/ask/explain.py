"""What is said beside the answers of a head, in a terminal and on a page."""

LOW = 0.5
"""Below this the head holds even its best answer for more likely wrong than right."""

EACH_ALONE = "The head judges each answer by itself, so the percentages need not add up to 100."

NO_PROOF = (
    "Attention is no proof of what an answer is read from; evaluate --report puts it to a test."
)


def call_low(probability: float) -> str:
    """Return what is said about a best answer whose probability is below `LOW`."""
    return (
        f"{100 * probability:.1f} % is low: the head itself holds its best answer for more likely "
        f"wrong than right."
    )
