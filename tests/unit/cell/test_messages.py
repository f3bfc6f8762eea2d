"""Warnings and log records: each counted once, at the stage it came from."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest
from finetune_compat.cell.instruments.messages import LONGEST, MessageLog, collected
from finetune_compat.contract.records import Message, Stage


class Flow:
    """Something that is at a stage."""

    def __init__(self) -> None:
        self.stage = Stage.LOAD


@pytest.fixture
def flow() -> Flow:
    """At load."""
    return Flow()


@pytest.fixture
def log(flow: Flow) -> Iterator[MessageLog]:
    """Collecting."""
    with collected(lambda: flow.stage) as log:
        yield log


@pytest.fixture
def silent() -> Iterator[logging.Logger]:
    """A library that keeps its records to itself, as Transformers does."""
    logger = logging.getLogger("transformers")
    logger.propagate = False
    yield logger
    logger.propagate = True


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn, always from the same line: Python would show only the first."""
    warnings.warn(text, category, stacklevel=1)


def test_a_secret_is_taken_out_before_a_message_is_cut(log: MessageLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it would have no form and be no value that is known."""
    monkeypatch.setenv("HF_TOKEN", "Zq7xW2vKp9env")
    for secret in ("hf_Zq7xW2vKp9Zq7xW2vKp9", "Zq7xW2vKp9env"):
        warn(f"{'x' * (LONGEST - 9)} {secret}")
    assert log.messages() == (Message(Stage.LOAD, "UserWarning", f"{'x' * (LONGEST - 9)} REDACTED", 2),)


def test_warnings_are_counted_with_their_stage(flow: Flow, log: MessageLog) -> None:
    """Each time they come, in the order they first came."""
    warn("slow")
    warn("old", FutureWarning)
    warn("slow")
    flow.stage = Stage.TRAINING
    warn("slow")
    assert log.messages() == (
        Message(Stage.LOAD, "UserWarning", "slow", 2),
        Message(Stage.LOAD, "FutureWarning", "old", 1),
        Message(Stage.TRAINING, "UserWarning", "slow", 1),
    )


def test_a_record_of_a_library_that_propagates_is_counted_once(log: MessageLog) -> None:
    """It passes its own logger and the root."""
    logging.getLogger("trl.trainer.sft_trainer").warning("%s is %d", "this", 1)
    assert log.messages() == (Message(Stage.LOAD, "log:trl", "this is 1", 1),)


def test_a_record_of_a_library_that_does_not_propagate_is_counted_once(silent: logging.Logger, flow: Flow) -> None:
    """It never reaches the root."""
    with collected(lambda: flow.stage) as log:
        silent.getChild("trainer").error("gone")
        silent.warning("odd")
    assert log.messages() == (
        Message(Stage.LOAD, "log:transformers", "gone", 1),
        Message(Stage.LOAD, "log:transformers", "odd", 1),
    )


def test_what_is_less_than_a_warning_is_left_out(log: MessageLog, caplog: pytest.LogCaptureFixture) -> None:
    """Also where somebody has turned the level down."""
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("peft").info("hello")
    assert log.messages() == ()


def test_a_long_message_is_cut_and_counted_by_what_is_kept(log: MessageLog) -> None:
    """Space around it is no difference."""
    for end in ("a", "b"):
        warn(f"\n{'x' * LONGEST}{end}")
    assert log.messages() == (Message(Stage.LOAD, "UserWarning", "x" * LONGEST, 2),)


def test_nothing_is_left_behind(flow: Flow, silent: logging.Logger) -> None:
    """Handlers, filters and the way warnings are shown are what they were, also after an error."""
    before = (logging.getLogger().handlers[:], silent.handlers[:], warnings.filters[:], warnings.showwarning)
    with collected(lambda: flow.stage):
        assert logging.getLogger().handlers != before[0]
    with pytest.raises(RuntimeError, match="broken"), collected(lambda: flow.stage):
        raise RuntimeError("broken")
    after = (logging.getLogger().handlers[:], silent.handlers[:], warnings.filters[:], warnings.showwarning)
    assert after == before
