"""The page of a watched script."""

from __future__ import annotations

import json
import re
from typing import Any

import builders
import pytest
from finetune_compat.checks.codes import CODES
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.records import Failure, Frame, Stage
from finetune_compat.contract.script import Pipeline, UnknownArgument
from finetune_compat.watch import page as pages
from finetune_compat.watch.page import verdicts_on
from pipelines import NF4, frozen, pipeline, run, with_adapters

LEDGER = load_ledger()


def page(seen: Pipeline, ledger: Ledger) -> str:
    """Return the output of `compat watch`."""
    return pages.page(seen, verdicts_on(seen, ledger), ledger)


def as_json(seen: Pipeline, ledger: Ledger) -> dict[str, Any]:
    """Return the output of `compat watch --json`."""
    return pages.as_json(seen, verdicts_on(seen, ledger))


class TestThePage:
    def test_every_line_that_rests_on_the_emulation_says_so(self) -> None:
        lines = page(pipeline(frozen(), changed=("fp16=True was taken as False",)), LEDGER).splitlines()
        for begin in (
            "SFTTrainer  ",
            "  trainer ",
            "  16,384 frozen at ",
            "  eval loss ",
            "  UNHEALTHY: trl#3926: C104 ",
        ):
            assert next(line for line in lines if line.startswith(begin)).endswith(" *"), begin
        assert not next(line for line in lines if line.startswith("  load ")).endswith("*")
        assert "changed from what the script asks:" in lines
        note = " ".join(" ".join(lines[lines.index("") :]).split())
        assert "* 4-bit weights on this CPU present an accelerator to TRL: its test for sharded QLoRA answers" in note
        assert "Nothing else of a GPU is emulated: Triton and CUDA kernels do not run." in note

    def test_a_known_issue_is_named_with_what_to_do(self) -> None:
        """Link and remedy are below the facts."""
        lines = [line.strip() for line in page(pipeline(frozen()), LEDGER).splitlines()]
        at = lines.index("https://github.com/huggingface/trl/issues/3926")
        assert lines[at - 1].startswith("trl#3926: SFTTrainer prepares a PeftModel a second time")
        assert lines[at + 1].startswith("To do: Hand SFTTrainer the base model and peft_config")

    def test_a_failure_that_is_not_listed_is_shown_with_the_advice_of_its_check(self) -> None:
        """A listed failure has its remedy instead."""
        from pipelines import training

        shown = page(pipeline(training(run(), eval_before=3.0, eval_after=3.0, learning_rate=(1e-2,) * 10)), LEDGER)
        assert f"\n    To do (E803): {CODES['E803'].advice} *\n" in shown
        assert "To do (" not in page(pipeline(frozen()), LEDGER)
        assert "To do (" not in page(pipeline(run()), LEDGER)

    def test_a_script_that_a_library_ended_is_shown_with_advice_too(self) -> None:
        error = Failure("ValueError", "no", Stage.TRAINER, (Frame("trl/trainer/dpo_trainer.py", 1, "f", "raise"),))
        shown = page(pipeline(run(), error=error, status=1), LEDGER)
        assert f"\n  To do (F001): {CODES['F001'].advice}\n" in shown

    def test_an_unknown_argument_is_shown_with_what_to_do_about_it(self) -> None:
        """The advice names the class that the script uses."""
        error = Failure("TypeError", "no", Stage.IMPORT, (Frame("train.py", 1, "<module>", "SFTConfig()"),))
        unknown = (UnknownArgument("trl:SFTConfig", "max_seq_length", ("max_length",)),)
        shown = page(pipeline(error=error, status=1, unknown=unknown), LEDGER)
        assert "\n  To do (F001): Use the arguments that SFTConfig has in this release, or leave these out.\n" in shown

    def test_the_model_handed_over_has_a_line_where_the_script_changed_it(self) -> None:
        """The line stands between wrapping and trainer; if both are alike there is one line."""
        task = (("task",), 1792, 1792, "task")
        shown = page(pipeline(with_adapters(run(), peft=(("sft",), 0, 1792, "sft"), handed=task, trainer=task)), LEDGER)
        lines = [line for line in shown.splitlines() if line.startswith(("  peft ", "  handed over ", "  trainer "))]
        first_two = [re.split(r" {2,}", line.strip())[:2] for line in lines]
        assert first_two == [["peft", "0"], ["handed over", "1,792"], ["trainer", "1,792"]]
        for unchanged in (run(), frozen(), run(builders.healthy("sft-peft-config", NF4))):
            assert "handed over" not in page(pipeline(unchanged), LEDGER)

    def test_masked_labels_are_reported(self) -> None:
        """The line has the number of labels that are -100: 80 rows of 25 tokens, none masked."""
        assert "  labels of 80 rows: 2,000 of 2,000 are tokens, 0.0% are -100" in page(pipeline(run()), LEDGER)

    def test_without_an_evaluation_set_it_says_that_this_tells_less(self) -> None:
        from pipelines import training

        shown = page(pipeline(training(run(rows_evaluated=None), eval_before=None, eval_after=None)), LEDGER)
        assert "which is weaker evidence" in shown

    def test_nothing_seen_is_said(self) -> None:
        assert "could not tell: nothing was seen" in page(pipeline(status=-9), LEDGER)
        assert page(pipeline(status=-9), LEDGER).endswith("the script ended with:\n  signal 9")

    @pytest.mark.parametrize(("status", "ended"), [(7, "status 7"), (-9, "signal 9")])
    def test_a_failed_script_is_distinguished_from_its_training(self, status: int, ended: str) -> None:
        """The script may have checked what it trained."""
        told = page(pipeline(run(), status=status), LEDGER)
        assert f"\n\ncould not tell: training was healthy, and the script itself ended with {ended}\n" in told
        assert f"\n\ncould not tell: the script itself ended with {ended}\n" in page(
            pipeline(frozen(), status=status), LEDGER
        )

    def test_an_error_of_a_trainer_is_not_reported_twice(self) -> None:
        """The script caught the trainer's error and ended with it."""
        from pipelines import failed

        assert len(as_json(pipeline(failed(), status=1), LEDGER)["verdicts"]) == 1

    def test_json_holds_the_record_and_the_verdicts(self) -> None:
        told = json.loads(json.dumps(as_json(pipeline(frozen()), LEDGER), allow_nan=False))
        assert told["verdicts"][0]["outcome"] == "fail"
        assert told["verdicts"][0]["issues"] == ["trl#3926"]
        assert told["pipeline"]["runs"][0]["trainer"] == "SFTTrainer"
