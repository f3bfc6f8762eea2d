"""Warnings and log records: each is counted once, with its stage."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest
from finetune_compat.cell.instruments.messages import LONGEST, MessageLog, collected
from finetune_compat.contract.records import Message, Stage


class Flow:
    """An object with a current stage."""

    def __init__(self) -> None:
        self.stage = Stage.LOAD


@pytest.fixture
def flow() -> Flow:
    """A flow at the stage load."""
    return Flow()


@pytest.fixture
def log(flow: Flow) -> Iterator[MessageLog]:
    """Messages are being recorded."""
    with collected(lambda: flow.stage) as log:
        yield log


@pytest.fixture
def silent() -> Iterator[logging.Logger]:
    """A logger that does not propagate, as in Transformers."""
    logger = logging.getLogger("transformers")
    logger.propagate = False
    yield logger
    logger.propagate = True


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn, always from the same line: by default Python would show only the first."""
    warnings.warn(text, category, stacklevel=1)


def test_a_secret_is_taken_out_before_a_message_is_cut(log: MessageLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a secret matches no pattern and no known value."""
    monkeypatch.setenv("HF_TOKEN", "Zq7xW2vKp9env")
    for secret in ("hf_Zq7xW2vKp9Zq7xW2vKp9", "Zq7xW2vKp9env"):
        warn(f"{'x' * (LONGEST - 9)} {secret}")
    assert log.messages() == (Message(Stage.LOAD, "UserWarning", f"{'x' * (LONGEST - 9)} REDACTED", 2),)


def test_warnings_are_counted_with_their_stage(flow: Flow, log: MessageLog) -> None:
    """Every occurrence counts, in the order of the first ones."""
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
    """The record passes its own logger and the root logger."""
    logging.getLogger("trl.trainer.sft_trainer").warning("%s is %d", "this", 1)
    assert log.messages() == (Message(Stage.LOAD, "log:trl", "this is 1", 1),)


def test_a_record_of_a_library_that_does_not_propagate_is_counted_once(silent: logging.Logger, flow: Flow) -> None:
    """The record never reaches the root logger."""
    with collected(lambda: flow.stage) as log:
        silent.getChild("trainer").error("gone")
        silent.warning("odd")
    assert log.messages() == (
        Message(Stage.LOAD, "log:transformers", "gone", 1),
        Message(Stage.LOAD, "log:transformers", "odd", 1),
    )


def test_records_below_warning_are_ignored(log: MessageLog, caplog: pytest.LogCaptureFixture) -> None:
    """This holds even if a library lowers the level."""
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("peft").info("hello")
    assert log.messages() == ()


def test_a_long_message_is_cut_and_counted_by_its_cut_text(log: MessageLog) -> None:
    """Whitespace around a message makes no difference."""
    for end in ("a", "b"):
        warn(f"\n{'x' * LONGEST}{end}")
    assert log.messages() == (Message(Stage.LOAD, "UserWarning", "x" * LONGEST, 2),)


def test_everything_is_restored(flow: Flow, silent: logging.Logger) -> None:
    """Handlers, filters and the way warnings are shown are restored, also after an error."""
    before = (logging.getLogger().handlers[:], silent.handlers[:], warnings.filters[:], warnings.showwarning)
    with collected(lambda: flow.stage):
        assert logging.getLogger().handlers != before[0]
    with pytest.raises(RuntimeError, match="broken"), collected(lambda: flow.stage):
        raise RuntimeError("broken")
    after = (logging.getLogger().handlers[:], silent.handlers[:], warnings.filters[:], warnings.showwarning)
    assert after == before
