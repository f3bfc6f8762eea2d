"""Checks of what the labels of a script's training rows teach."""

from __future__ import annotations

from finetune_compat.checks.engine import NotApplicable
from finetune_compat.contract.script import Lesson, Run, Taught

FEWEST_ROWS = 4
"""Minimum number of rows for an opinion on their ends."""

FOREIGN_SHARE = 0.01
"""Largest share of labels that may differ from the token at their position, where labels are those tokens. Labels of a
masked language model or of a token classification are other values.
"""

PADDING_SHARE = 0.1
"""Largest share of labels that may be padding. Correct collators label none; a copy of padded rows labels most."""

SHIFTED_SHARE = 0.9
"""Least share of the labels that are not the token at their position, from which on labels count as shifted."""


FEWEST_POSITIONS = 16
"""Minimum number of positions for an opinion on what they are taught."""


def lesson_of(run: Run) -> Lesson:
    """What the labels of `run` teach.

    Raises:
        NotApplicable: no batch had a label for each token.
    """
    if run.lesson is not None:
        return run.lesson
    if run.rewarded:
        raise NotApplicable("completions are sampled and rewarded: no row has labels")
    raise NotApplicable("no training batch has a label for each token")


def unlabelled(run: Run) -> str | None:
    """L501: some row must have a label. Some rows without labels are waste; no row with labels is a fault."""
    labels = run.seen.labels
    if labels is not None:
        rows, masked = labels.samples, labels.all_masked
    else:
        lesson = lesson_of(run)
        rows, masked = lesson.rows, lesson.unlabelled
    return f"{masked} of {rows} rows have nothing to learn (every label is -100)" if masked == rows else None


def shifted(run: Run) -> str | None:
    """L503: a position is taught the next token, however labels and loss are shifted."""
    if run.taught is not None and (message := _wrongly_taught(run.taught)):
        return message
    lesson = lesson_of(run)
    if not lesson.shifts:
        raise NotApplicable("no causal language model of Transformers received the labels")
    if 2 * lesson.foreign <= lesson.labels or lesson.ahead < SHIFTED_SHARE * lesson.foreign:
        return None
    return (
        f"{lesson.ahead} of {lesson.labels} labels are the next token of their row, and the model shifts labels once "
        f"more: it learns the token after the next{_row(lesson)}"
    )


def _wrongly_taught(taught: Taught) -> str:
    """What the gradient of the loss shows of a wrong shift; empty if it shows none."""
    if taught.positions < FEWEST_POSITIONS:
        return ""
    if taught.after_next >= SHIFTED_SHARE * taught.positions:
        return (
            f"the loss teaches {taught.after_next} of {taught.positions} positions the token after the next: labels "
            f"are shifted twice, by the collator and by the loss"
        )
    if taught.itself >= SHIFTED_SHARE * taught.positions:
        return (
            f"the loss teaches {taught.itself} of {taught.positions} positions the token that stands there: neither "
            f"labels nor loss are shifted, and the model learns to copy"
        )
    return ""


def ends_unlearned(run: Run) -> str | None:
    """L502: some row must end with an end token that is a label."""
    lesson = _own_tokens(run)
    if run.rewarded:
        raise NotApplicable("completions are sampled: a limit of their length may cut off every end")
    ends = " or ".join(lesson.end_tokens)
    if not ends:
        raise NotApplicable("neither tokenizer nor model names an end token")
    if lesson.rows < FEWEST_ROWS:
        raise NotApplicable(f"{lesson.rows} rows are too few to say how rows end")
    if lesson.ends_learned:
        return None
    padded = ", because the pad token is the end token" if lesson.pad_is_end else ""
    if lesson.ends:
        return (
            f"the end token ({ends}) stands in {lesson.ends} of {lesson.rows} rows and is a label in none{padded}: "
            f"the model never learns to stop{_row(lesson)}"
        )
    if not lesson.lengths_differ and not lesson.masked:
        raise NotApplicable("no row has an end token: all rows are blocks of one length")
    padded = "; the pad token is the end token, and counts as padding" if lesson.pad_is_end else ""
    return f"no row of {lesson.rows} has an end token ({ends}){padded}: the model never learns to stop{_row(lesson)}"


def padding_learned(run: Run) -> str | None:
    """L504: labels must not be padding."""
    lesson = _own_tokens(run)
    if lesson.on_padding <= PADDING_SHARE * lesson.labels:
        return None
    return f"{lesson.on_padding} of {lesson.labels} labels are padding{_row(lesson)}"


def prompt_learned(run: Run) -> str | None:
    """L505: what the labels of the data set mask must stay masked, and what the script means to mask must be masked."""
    lesson = lesson_of(run)
    if lesson.marker_missing:
        return (
            f"the collator masks a row up to the marker {lesson.marker_missing!r}, and no row has these tokens: the "
            f"prompt is learned. In a row, the text of a marker may be other tokens than alone{_row(lesson)}"
        )
    if lesson.prompt_masked is not None:
        masked, longest = lesson.prompt_masked
        return (
            f"the script tokenizes prompts alone, of up to {longest} tokens, and the labels of each row mask {masked} "
            f"of them: len() of a tensor [1, tokens] is 1, and of a tokenizer's result the number of its fields"
            f"{_row(lesson)}"
        )
    if lesson.padding_masked:
        return (
            f"in {lesson.padding_masked} of {lesson.rows} rows the prompt is learned, whole or in part: the labels "
            f"mask the length of the prompt from the beginning of the row, and padding stands there. Mask it after "
            f"the padding, or pad on the right{_row(lesson)}"
        )
    if lesson.masked_by_data is None:
        raise NotApplicable("the data set has no labels of its own")
    if not lesson.masked_by_data or lesson.masked:
        return None
    return (
        f"the labels of the data set mask {lesson.masked_by_data} tokens of its first rows, such as the prompt, and no "
        f"batch masks any: the collator makes the labels anew{_row(lesson)}"
    )


def _own_tokens(run: Run) -> Lesson:
    """The lesson, if labels are the tokens of their row.

    Raises:
        NotApplicable: they are not, or there are none.
    """
    lesson = lesson_of(run)
    if lesson.foreign > FOREIGN_SHARE * lesson.labels:
        raise NotApplicable("the labels are not the tokens of their rows")
    return lesson


def _row(lesson: Lesson) -> str:
    return f"; first row, with what is learned in brackets: {lesson.shown}" if lesson.shown else ""
