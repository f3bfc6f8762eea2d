"""A user's script in a gate. Watching is replaced; judging, comparison, search and reports are real."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pipelines as p
import pytest
from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.errors import EnvironmentMismatch, InstallError, Interrupted, Unbuildable
from finetune_compat.contract.records import DeviceKind, DeviceRecord, Failure, Frame, Message, StackRecord, Stage
from finetune_compat.contract.script import AdapterSetup, Pipeline, Run, UnknownArgument
from finetune_compat.gate import command, defaults, move_pins, script, sides
from finetune_compat.gate.asked import Row, Wanted
from finetune_compat.gate.command import GateRequest, gate_command
from finetune_compat.gate.decision import GateExit
from finetune_compat.gate.inputs import read_side
from finetune_compat.gate.report import FILES
from finetune_compat.gate.resolve import resolve
from finetune_compat.gate.resolved import Resolved
from finetune_compat.machine.places import places
from finetune_compat.stacks import index
from finetune_compat.stacks.ask import StackPython
from finetune_compat.stacks.environments import Environment
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.locks import Lock
from finetune_compat.watch.host import Background, Interpreter, NothingSeen
from packaging.version import Version

POLICY = places().policy

OWN = Frame("train.py", 3, "<module>", "open(path)")
BROKEN = ("trl0.22-py311", "trl0.23.0-py311")

Watched = Callable[[str], Pipeline]

SECRETS = ("Zq7xW2vKp9one", "Zq7xW2vKp9two", "hf_Zq7xW2vKp9three", "Zq7xW2vKp9four", "Zq7xW2vKp9five", "Zq7xW2vKp9six")
"""A name that appears nowhere else."""

WITH_SECRETS = (
    *("--hub_token", SECRETS[0], f"--password={SECRETS[1]}", SECRETS[2], "--data", f"https://me:{SECRETS[3]}@host/x"),
    *("--extra", f'{{"api_key": "{SECRETS[4]}"}}', "--lr", "1e-4"),
)
"""Arguments of a script, with a secret of every form."""

REQUIREMENTS = f"""
--extra-index-url https://user:{SECRETS[0]}@example.com/simple
-i https://{SECRETS[1]}@example.com/simple
--find-links=https://example.com/?token={SECRETS[4]}
peft @ git+https://{SECRETS[3]}@github.com/huggingface/peft.git@v0.17.1
git+https://user:{SECRETS[5]}@github.com/huggingface/datasets.git@4.0.0
flash-attn @ https://{SECRETS[2]}@example.com/flash_attn-2.8.0-cp311-cp311-linux_x86_64.whl
torch==2.8.0+cu128
"""


def as_watched(made: Run, stack: str) -> Run:
    """The name under which the watch reports it on `stack`, where the accelerator is emulated."""
    device = DeviceRecord(DeviceKind.CPU, "a CPU", DeviceKind.CUDA, made.seen.device.features)
    cell = str(CellId(stack, "train", str(made.seen.variant), DeviceKind.CPU))
    return dataclasses.replace(made, seen=dataclasses.replace(made.seen, cell=cell, flow="train", device=device))


def watched(stack: str, *made: Run, **changes: Any) -> Pipeline:
    """The record of the script on `stack`."""
    seen = p.pipeline(*(as_watched(one, stack) for one in made), **changes)
    return dataclasses.replace(seen, stack=dataclasses.replace(seen.stack, name=stack))


def on_transformers(stack: StackRecord, version: str) -> StackRecord:
    """The stack with another release of Transformers."""
    return dataclasses.replace(stack, resolved={**stack.resolved, "transformers": version})


def flagship(stack: str) -> Pipeline:
    """TRL 0.22 and 0.23.0 freeze it."""
    return watched(stack, p.frozen() if stack in BROKEN else p.run())


def silent(status: int) -> Watched:
    """A script in which no library was found."""

    def watch(stack: str) -> Pipeline:
        raise NothingSeen(status, "train.py")

    return watch


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Callable[[Watched], list[str]]:
    """Replace the watched script by the result of a function; return the list of stacks it ran on."""
    monkeypatch.setenv("COMPAT_RUN_ID", "gate")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("import trl\n")
    in_places(runs=tmp_path, environments=tmp_path / "envs")
    there = tuple(Release(Version(v), date(2025, 9, 1)) for v in ("0.19.1", "0.22.2", "0.23.0", "0.23.1"))
    environment = Environment("2.13.0+cpu", False, True)
    monkeypatch.setattr(sides, "environment_of", lambda lock: (Path("/envs/bin/python"), environment))
    monkeypatch.setattr(index, "releases", lambda package: there)
    monkeypatch.setattr(defaults, "ask", lambda *_: {})

    def use(watch: Watched) -> list[str]:
        ran: list[str] = []

        def run_pipeline(
            given: Sequence[str],
            interpreter: Interpreter,
            steps: int,
            variables: Mapping[str, str],
            *,
            throw_away: bool,
            background: Background | None,
        ) -> Pipeline:
            assert background is None, "a gate shows the output of the script"
            assert throw_away, "what one side saves would be there for the other"
            assert tuple(given) in (
                *(("train.py", "tiny"), ("accelerate", "launch", "train.py"), ("train.py", *WITH_SECRETS)),
            ), "the script is given what was typed"
            assert variables == {"CUDA_VISIBLE_DEVICES": ""}
            ran.append(f"{interpreter.name} {steps}")
            return watch(interpreter.name)

        monkeypatch.setattr(script, "run_pipeline", run_pipeline)
        return ran

    return use


def asked(after: str = "trl==0.22.2", **options: Any) -> GateRequest:
    """A call of `compat gate`."""
    given = {"flow": "train.py", "arguments": ("tiny",), "device": "cpu", **options}
    return GateRequest(("trl==0.19.1",), (after,), **given)


def answer(tmp_path: Path) -> dict[str, Any]:
    """Read the JSON answer."""
    gate: dict[str, Any] = json.loads((tmp_path / "gate" / "gate.json").read_text())["gate"]
    return gate


def test_a_signal_ends_the_gate_without_an_answer(stand: Callable[[Watched], list[str]]) -> None:
    """The result is not "could not tell": the exit code is the signal's."""

    def interrupted(stack: str) -> Pipeline:
        raise Interrupted(signal.SIGTERM)

    ran = stand(interrupted)
    with pytest.raises(Interrupted) as raised:
        gate_command(asked())
    assert (raised.value.exit_code, len(ran)) == (143, 1)


class TestDecisions:
    def test_the_flagship_blocks_with_the_line_and_a_safe_target(
        self, stand: Callable[[Watched], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The report names what rests on the emulated accelerator."""
        ran = stand(flagship)
        assert gate_command(asked(steps=4, details=True)) is GateExit.BLOCK
        out = " ".join(capsys.readouterr().out.split())
        assert "frozen by trl/trainer/sft_trainer.py:694 -> trl/models/utils.py:539 -> peft/utils/other.py:142" in out
        assert "trl 0.23.1 is the first release above 0.22.2 that passes" in out
        assert ran == [f"{stack} 4" for stack in ("trl0.19-py311", "trl0.22-py311", "trl0.23.0-py311", "trl0.23-py311")]
        assert "* 4-bit weights on this CPU present an accelerator to TRL" in out
        gate = answer(tmp_path)
        assert gate["reason"].endswith(" *") and gate["script"] == "train.py"
        assert gate["reason"].startswith("1 cell of train regressed: SFTTrainer prepares a PeftModel")
        assert gate["causes"][0]["group"]["issues"] == ["trl#3926"]
        assert "To do: Hand SFTTrainer the base model and peft_config, or use TRL 0.23.1 or later." in out
        assert gate["command"] == (
            "compat gate --from trl==0.19.1 --to trl==0.22.2 --device cpu --flow train.py --steps 4 -- tiny"
        )
        assert [cell["again"] for cell in gate["cells"]] == [gate["command"]]
        heading = next(line for line in (tmp_path / "gate" / "gate.md").read_text().splitlines() if "### a." in line)
        assert "BLOCK: regressed" in heading and heading.endswith("*")
        for file in ("gate.md", "gate.html", "gate.junit.xml"):
            assert "present an accelerator to TRL" in (tmp_path / "gate" / file).read_text()
        for file, line in (
            ("gate.md", r"| trainable parameters \* | trainer | 16,384 | 0 | 1 | train |"),
            ("gate.html", '<th scope="row">trainable parameters *</th>'),
            ("gate.html", "frozen at trainer by *</h4>"),
            ("gate.junit.xml", "param.requires_grad = False *"),
            ("gate.junit.xml", "trainable parameters * trainer 16,384 0"),
        ):
            assert line in (tmp_path / "gate" / file).read_text(), (file, line)
        assert "trainable parameters at trainer: 16,384 -> 0 (1) *" in out

    def test_notes_of_the_watch_are_reported(self, stand: Callable[[Watched], list[str]], tmp_path: Path) -> None:
        """A note of both sides appears once."""
        changed = ("fp16=True was taken as False: float16 training needs a GPU",)

        def watch(stack: str) -> Pipeline:
            new = stack == "trl0.23-py311"
            unseen = ("FSDP holds the parameters in shards: gradients and the optimizer were not seen",) * new
            return watched(stack, p.run(), changed=changed, unseen=unseen)

        stand(watch)
        gate_command(asked("trl==0.23.1"))
        for file in ("gate.md", "gate.html"):
            text = (tmp_path / "gate" / file).read_text()
            assert text.count("fp16=True was taken as False") == 1
            assert text.count("trl==0.23.1: FSDP holds the parameters in shards") == 1

    def test_a_launcher_may_start_it(self, stand: Callable[[Watched], list[str]], tmp_path: Path) -> None:
        """The launched script stands after -- and is the subject of the report."""
        stand(flagship)
        given = asked(flow="accelerate", arguments=("launch", "train.py"), candidates=0)
        assert gate_command(given) is GateExit.BLOCK
        assert answer(tmp_path)["script"] == "train.py"
        assert answer(tmp_path)["command"].endswith("--flow accelerate -- launch train.py")

    def test_an_exception_may_name_it(self, stand: Callable[[Watched], list[str]], tmp_path: Path) -> None:
        """An exception may also name a flow of the catalog."""
        stand(flagship)
        policy = tmp_path / "gate.toml"
        accepted = '[[exception]]\nflow = "train"\nreason = "a test"\nexpires = 2999-01-31\n'
        policy.write_text(f"{POLICY.read_text()}\n{accepted}")
        assert gate_command(asked(policy=policy, candidates=0)) is GateExit.ALLOW
        assert answer(tmp_path)["cells"][0]["exception"] == "a test"
        policy.write_text(policy.read_text().replace('"train"', '"trein"'))
        assert gate_command(asked(policy=policy, candidates=0)) is GateExit.BAD_INPUT

    def test_its_fix_is_not_blocked(self, stand: Callable[[Watched], list[str]]) -> None:
        """0.23.1 trains."""
        stand(flagship)
        assert gate_command(asked("trl==0.23.1")) is GateExit.ALLOW

    def test_a_default_that_moved_is_the_same_trainer(
        self, stand: Callable[[Watched], list[str]], tmp_path: Path
    ) -> None:
        """The n-th trainer is compared with the n-th, whatever its variant on the other side."""

        def watch(stack: str) -> Pipeline:
            made = p.run()
            variant = dataclasses.replace(made.seen.variant, gradient_checkpointing=stack != "trl0.19-py311")
            return watched(stack, dataclasses.replace(made, seen=dataclasses.replace(made.seen, variant=variant)))

        stand(watch)
        gate_command(asked("trl==0.23.1"))
        (cell,) = answer(tmp_path)["cells"]
        assert cell["name"] == "train[qwen2-nf4-nogc]@cpu" and cell["change"] == "unchanged"

    def test_another_scaling_of_the_adapters_holds_and_is_named(
        self, stand: Callable[[Watched], list[str]], tmp_path: Path
    ) -> None:
        """PEFT 0.18 changed what `set_scale` sets for rsLoRA: 1.0 became alpha / sqrt(r)."""

        def watch(stack: str) -> Pipeline:
            factor = "1" if stack == "trl0.19-py311" else "4"
            return watched(stack, p.run(setup=AdapterSetup(asked=("q_proj",), scaling={factor: 14})))

        stand(watch)
        assert gate_command(asked("trl==0.23.1")) is GateExit.HOLD
        (cell,) = answer(tmp_path)["cells"]
        assert cell["change"] == "objective changed"
        assert "adapter scaling: 1 in 14 modules -> 4 in 14 modules" in answer(tmp_path)["reason"]

    def test_another_loss_before_any_update_holds(self, stand: Callable[[Watched], list[str]], tmp_path: Path) -> None:
        """It trains and learns, from another loss on the same rows."""

        def watch(stack: str) -> Pipeline:
            run = p.run()
            assert run.seen.training is not None
            loss = run.seen.training.eval_before or 0.0
            return watched(stack, p.training(run, eval_before=loss * (1 if stack == "trl0.19-py311" else 1.01)))

        stand(watch)
        assert gate_command(asked("trl==0.23.1")) is GateExit.HOLD
        (cell,) = answer(tmp_path)["cells"]
        assert cell["change"] == "objective changed"
        assert "model output: loss before any update" in answer(tmp_path)["reason"]

    def test_a_missing_trainer_is_lost_coverage(self, stand: Callable[[Watched], list[str]], tmp_path: Path) -> None:
        """Two trainers of a script differ by their number."""
        stand(lambda stack: watched(stack, *[p.run()] * (2 if stack == "trl0.19-py311" else 1)))
        assert gate_command(asked("trl==0.23.1")) is GateExit.HOLD
        changes = {cell["name"]: cell["change"] for cell in answer(tmp_path)["cells"]}
        assert changes == {"train[qwen2-nf4-gc]@cpu": "unchanged", "train-2[qwen2-nf4-gc]@cpu": "lost coverage"}

    def test_a_script_that_a_release_ends_is_a_regression(
        self, stand: Callable[[Watched], list[str]], tmp_path: Path
    ) -> None:
        """The error comes after training: the script is then a cell itself."""
        error = Failure("TypeError", "no such argument", Stage.AFTER_TRAINING, (Frame("trl/a.py", 1, "f", "g()"),))

        def watch(stack: str) -> Pipeline:
            return watched(stack, p.run(), error=error if stack == "trl0.22-py311" else None)

        stand(watch)
        assert gate_command(asked()) is GateExit.BLOCK
        changes = {cell["name"]: (cell["flow"], cell["change"]) for cell in answer(tmp_path)["cells"]}
        assert changes["train@cpu"] == ("train", "regressed")
        assert "trl 0.23.0 is the first release above 0.22.2 that passes" in answer(tmp_path)["reason"]

    @pytest.mark.parametrize("trainers", [0, 1])
    def test_a_removed_argument_or_name_is_a_regression(
        self, trainers: int, stand: Callable[[Watched], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Python raises it in the script's own line, before any trainer or model exists."""
        error = Failure("TypeError", "unexpected keyword argument 'max_seq_length'", Stage.PEFT, (OWN,))

        def watch(stack: str) -> Pipeline:
            if stack != "trl0.22-py311":
                return watched(stack, p.run())
            return watched(stack, *[p.without_training(p.run())] * trainers, error=error, status=1)

        stand(watch)
        assert gate_command(asked(details=True)) is GateExit.BLOCK
        assert {cell["change"] for cell in answer(tmp_path)["cells"]} == {"regressed"}
        out = " ".join(capsys.readouterr().out.partition("a BLOCK")[2].split())
        assert "F001 TypeError at peft: unexpected keyword argument 'max_seq_length' (train.py:3)" in out
        assert "trl 0.23.0 is the first release above 0.22.2 that passes" in out

    def test_a_renamed_argument_has_its_new_name(
        self, stand: Callable[[Watched], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The new name is one that only the signature of the second side has."""
        error = Failure("TypeError", "unexpected keyword argument 'max_seq_length'", Stage.IMPORT, (OWN,))
        unknown = (UnknownArgument("trl:SFTConfig", "max_seq_length", ("packing", "max_length")),)
        asked_for: list[object] = []

        def ask(stack: StackPython, module: str, request: Mapping[str, object]) -> dict[str, list[str]]:
            asked_for.append((stack.name, module, request))
            return {"trl:SFTConfig": ["max_seq_length", "packing"]}

        def watch(stack: str) -> Pipeline:
            broken = stack not in ("trl0.19-py311", "trl0.23-py311")
            return watched(stack, error=error, unknown=unknown, status=1) if broken else watched(stack, p.run())

        monkeypatch.setattr(script, "ask", ask)
        stand(watch)
        assert gate_command(asked()) is GateExit.BLOCK
        assert "SFTConfig of this trl has no max_seq_length (new name: max_length)" in answer(tmp_path)["reason"]
        assert asked_for == [("trl0.19-py311", "finetune_compat.cell.parameters", {"classes": ["trl:SFTConfig"]})]

    @pytest.mark.parametrize(
        ("before", "after", "accumulation", "code"),
        [
            ("5.4.0", "5.8.0", 4, GateExit.HOLD),
            ("5.1.0", "5.4.0", 4, GateExit.HOLD),
            ("5.4.0", "5.4.0", 4, GateExit.ALLOW),
            ("5.4.0", "5.8.0", 1, GateExit.ALLOW),
        ],
    )
    def test_a_listed_issue_that_a_script_cannot_show_is_a_change(
        self,
        before: str,
        after: str,
        accumulation: int,
        code: GateExit,
        stand: Callable[[Watched], list[str]],
        tmp_path: Path,
    ) -> None:
        """Transformers 5.2.0 to 5.5.3 divide by the accumulated batches twice."""

        def watch(stack: str) -> Pipeline:
            seen = watched(stack, p.run(accumulation=accumulation))
            transformers = before if stack == "trl0.19-py311" else after
            there = [
                dataclasses.replace(
                    one, seen=dataclasses.replace(one.seen, stack=on_transformers(one.seen.stack, transformers))
                )
                for one in seen.runs
            ]
            return dataclasses.replace(seen, runs=tuple(there))

        stand(watch)
        assert gate_command(asked("trl==0.23.1")) is code
        assert ("accumulation-divided-twice" in answer(tmp_path)["reason"]) is (code is GateExit.HOLD)

    def test_an_infrastructure_failure_is_no_regression(self, stand: Callable[[Watched], list[str]]) -> None:
        """Nothing is known about the versions."""
        error = Failure("OutOfMemoryError", "CUDA out of memory", Stage.LOAD, (OWN,))

        def watch(stack: str) -> Pipeline:
            made = watched(stack, p.run())
            return made if stack == "trl0.19-py311" else watched(stack, error=error, status=1)

        stand(watch)
        assert gate_command(asked(candidates=0)) is not GateExit.ALLOW
        stand(lambda stack: watched(stack, p.run(), status=-9 if stack == "trl0.22-py311" else 0))
        assert gate_command(asked(candidates=0)) is GateExit.COULD_NOT_TELL

    def test_another_exit_status_is_a_regression(self, stand: Callable[[Watched], list[str]], tmp_path: Path) -> None:
        """The script checks what it trained, and exits with this status on one side only."""
        stand(lambda stack: watched(stack, p.run(), status=int(stack == "trl0.22-py311")))
        assert gate_command(asked(candidates=0)) is GateExit.BLOCK
        changes = {cell["name"]: cell["change"] for cell in answer(tmp_path)["cells"]}
        assert changes == {"train[qwen2-nf4-gc]@cpu": "unchanged", "train@cpu": "regressed"}

    @pytest.mark.parametrize("status", [0, 1])
    def test_a_script_that_fails_on_the_first_side_allows_nothing(
        self, status: int, stand: Callable[[Watched], list[str]], tmp_path: Path
    ) -> None:
        """The second side does not matter: `compat watch` gives the same verdict for either."""
        stand(lambda stack: watched(stack, p.run(), status=1 if stack == "trl0.19-py311" else status))
        assert gate_command(asked("trl==0.23.1", candidates=0)) is GateExit.COULD_NOT_TELL
        changes = {cell["name"]: cell["change"] for cell in answer(tmp_path)["cells"]}
        assert changes == {"train[qwen2-nf4-gc]@cpu": "unchanged", "train@cpu": "inconclusive"}
        assert answer(tmp_path)["reason"].startswith("1 cell of train could not be compared: ")
        assert "training was healthy, and the script itself ended with status 1" in (
            (tmp_path / "gate" / "gate.md").read_text()
        )

    def test_a_script_that_objects_on_both_sides_allows_nothing(self, stand: Callable[[Watched], list[str]]) -> None:
        """It trained and then raised its own exception."""
        error = Failure("AssertionError", "too bad", Stage.AFTER_TRAINING, (OWN,))
        stand(lambda stack: watched(stack, p.run(), error=error))
        assert gate_command(asked("trl==0.23.1")) is GateExit.COULD_NOT_TELL


class TestSecrets:
    """A report is published in pull requests, workflows and mails."""

    def test_no_file_of_the_run_holds_one(
        self,
        stand: Callable[[Watched], list[str]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Secrets are in requirements files, arguments, the environment, and messages of libraries."""
        monkeypatch.setenv("WANDB_API_KEY", SECRETS[5])
        told = (
            f"{SECRETS[0]} is not valid; token={SECRETS[1]}; {SECRETS[2]}; https://me:{SECRETS[3]}@host/x; {SECRETS[5]}"
        )
        line = Frame("train.py", 3, "<module>", f"login(api_key='{SECRETS[4]}')")

        def watch(stack: str) -> Pipeline:
            made = p.run()
            seen = dataclasses.replace(made.seen, warnings=(Message(Stage.LOAD, "UserWarning", told, 1),))
            error = Failure("ValueError", told, Stage.AFTER_TRAINING, (line,))
            return watched(
                stack,
                dataclasses.replace(made, seen=seen),
                arguments=WITH_SECRETS,
                changed=(f"push_to_hub was not done: {told}",),
                unseen=(told,),
                error=error if stack != "trl0.19-py311" else None,
            )

        for name, release in (("before", "0.19.1"), ("after", "0.22.2")):
            (tmp_path / f"{name}.txt").write_text(f"trl=={release}\n{REQUIREMENTS}")
        monkeypatch.setattr(command, "resolve", of_a_file)
        stand(watch)
        given = GateRequest((str(tmp_path / "before.txt"),), (str(tmp_path / "after.txt"),), device="cpu", candidates=1)
        given = dataclasses.replace(given, flow="train.py", arguments=WITH_SECRETS)
        assert gate_command(given) is GateExit.BLOCK
        gate = answer(tmp_path)
        assert "https://REDACTED@example.com/simple" in "".join(gate["after"]["not_followed"])
        assert "--hub_token REDACTED" in gate["command"] and "--lr 1e-4" in gate["command"]
        names = {path.name for path in (tmp_path / "gate").rglob("*") if path.is_file()}
        assert {*FILES, "pipelines.jsonl", "observations.jsonl"} <= names
        assert found_in(tmp_path / "gate") == [] and not any(secret in f"{capsys.readouterr()}" for secret in SECRETS)

    def test_no_message_repeats_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Messages quote an invalid side."""
        side = f"https://u:{SECRETS[0]}@example.com/trl.whl"
        assert gate_command(GateRequest(("trl0.19",), (side,), device="cpu")) is GateExit.BAD_INPUT
        told = capsys.readouterr().err
        assert "REDACTED@" in told and SECRETS[0] not in told

    def test_the_installer_gets_the_real_one(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Progress and errors of a build have none."""
        given: list[str] = []

        def build(source: str, *, mark: bool, fresh: bool) -> None:
            given.append(source)
            raise InstallError(f"fatal: could not read {source}", where=source)

        monkeypatch.setattr(move_pins, "build", build)
        side = f"trl @ git+https://{SECRETS[0]}@github.com/x/trl.git"
        assert gate_command(GateRequest(("trl0.19",), (side,), device="cpu")) is GateExit.COULD_NOT_TELL
        told = capsys.readouterr().err
        assert given == [side] and "trl @ git+https://REDACTED@github.com/x/trl.git: fatal" in told
        assert SECRETS[0] not in told

    def test_no_message_on_a_file_repeats_one(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Tracebacks of an internal error contain none either."""
        (tmp_path / "x.txt").write_text(f"-r https://u:{SECRETS[0]}@example.com/r.txt\n")
        assert gate_command(GateRequest(("trl0.19",), (str(tmp_path / "x.txt"),), device="cpu")) is GateExit.BAD_INPUT
        told = capsys.readouterr().err
        assert "which is not a local file" in told and SECRETS[0] not in told

    def test_no_trace_repeats_one(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """An internal error quotes its values."""

        def fail(*_: object) -> None:
            raise RuntimeError(f"odd: https://u:{SECRETS[0]}@example.com")

        monkeypatch.setattr(command, "read_side", fail)
        assert gate_command(GateRequest(("trl0.19",), ("trl0.22",), device="cpu")) is GateExit.COULD_NOT_TELL
        told = capsys.readouterr().err
        assert "RuntimeError: odd: https://REDACTED@example.com" in told

    def test_the_reason_of_a_side_that_cannot_be_made_holds_none(
        self, stand: Callable[[Watched], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The reason is the resolver's, and quotes the URL of an index."""

        def environment_of(lock: Lock) -> tuple[Path, Environment]:
            if "0.22" in lock.path.name:
                raise Unbuildable(f"a package fails to build: https://u:{SECRETS[0]}@example.com/x.tar.gz")
            return Path("/envs/bin/python"), Environment("2.13.0+cpu", False, True)

        stand(flagship)
        monkeypatch.setattr(sides, "environment_of", environment_of)
        gate_command(asked(candidates=0))
        assert "https://REDACTED@example.com/x.tar.gz" in answer(tmp_path)["after"]["reason"]
        assert found_in(tmp_path / "gate") == []


def of_a_file(side: Row | Wanted, asked: str, *given: Any, **how: Any) -> Resolved:
    """The lock of the row whose TRL a file pins."""
    assert isinstance(side, Wanted)
    (trl,) = (item for item in side.requirements if item.name == "trl")
    row = read_side([str(trl)], "--to", given[0])
    return dataclasses.replace(resolve(row, asked, *given, **how), rule=side.rule, not_followed=side.not_followed)


def found_in(run: Path) -> list[str]:
    """Return the files that contain a secret."""
    files = [path for path in run.rglob("*") if path.is_file()]
    return [f"{path}: {secret}" for path in files for secret in SECRETS if secret in path.read_text()]


class TestNothingKnown:
    def test_a_machine_without_a_gpu(
        self, stand: Callable[[Watched], list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Both sides end at load, where bitsandbytes needs CUDA: the report says what to do."""
        place = Frame("transformers/integrations/bitsandbytes.py", 500, "validate", "raise RuntimeError(message)")
        missing = Failure("RuntimeError", "CUDA is required but not available for bitsandbytes.", Stage.LOAD, (place,))
        stand(lambda stack: watched(stack, error=missing, status=1))
        assert gate_command(asked()) is GateExit.COULD_NOT_TELL
        assert capsys.readouterr().err.endswith(
            "--flow train.py: it trains on neither side: RuntimeError at load: CUDA is required but not available for "
            "bitsandbytes.\n"
            "This machine cannot run it with these versions.\n"
            "Run it on a GPU. Without one, quantized weights need bitsandbytes 0.47 or later (it has kernels for CPUs) "
            "and Transformers 4.54 or later.\n"
        )

    def test_a_machine_without_a_gpu_is_no_regression(self, stand: Callable[[Watched], list[str]]) -> None:
        """The candidate might train on a GPU with the same versions."""
        place = Frame("transformers/integrations/bitsandbytes.py", 500, "validate", "raise RuntimeError(message)")
        missing = Failure("RuntimeError", "CUDA is required but not available for bitsandbytes.", Stage.LOAD, (place,))

        def watch(stack: str) -> Pipeline:
            made = watched(stack, p.run())
            return made if stack == "trl0.19-py311" else watched(stack, error=missing, status=1)

        stand(watch)
        assert gate_command(asked(candidates=0)) is GateExit.COULD_NOT_TELL

    def test_a_second_trainer_that_no_side_gets_to_train(
        self, stand: Callable[[Watched], list[str]], tmp_path: Path
    ) -> None:
        """The first one trained on both, which is no evidence for the second."""
        place = Frame("trl/trainer/dpo_trainer.py", 1, "__init__", "raise TypeError()")
        error = Failure("TypeError", "unexpected keyword argument 'beta'", Stage.TRAINER, (place,))
        second = p.without_training(p.run())
        second = dataclasses.replace(second, seen=dataclasses.replace(second.seen, error=error))
        stand(lambda stack: watched(stack, p.run(), second, error=error, status=1))
        assert gate_command(asked("trl==0.23.1")) is GateExit.COULD_NOT_TELL
        changes = {cell["name"]: cell["change"] for cell in answer(tmp_path)["cells"]}
        assert changes == {"train[qwen2-nf4-gc]@cpu": "unchanged", "train-2[qwen2-nf4-gc]@cpu": "inconclusive"}

    def test_an_error_of_its_own_on_both_sides(
        self, stand: Callable[[Watched], list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A file is missing: the exit code is 3, and never ALLOW."""
        missing = Failure("FileNotFoundError", "rows.json", Stage.LOAD, (OWN,))
        stand(lambda stack: watched(stack, error=missing, status=1))
        assert gate_command(asked()) is GateExit.COULD_NOT_TELL
        assert capsys.readouterr().err.endswith(
            "--flow train.py: it trains on neither side: FileNotFoundError at load: rows.json\n"
            "The script itself fails: an argument is wrong, or a file or a package is missing.\n"
            "Run it once by itself. Its arguments stand after --. Only packages of the stack are installed.\n"
        )

    def test_wrong_arguments(self, stand: Callable[[Watched], list[str]], capsys: pytest.CaptureFixture[str]) -> None:
        """argparse exits with status 2, and nothing was recorded."""
        stand(silent(2))
        assert gate_command(asked()) is GateExit.COULD_NOT_TELL
        assert capsys.readouterr().err.endswith(
            "--flow train.py: it trains on neither side: it ended with status 2, and no library of the stack was seen\n"
            "The script itself fails: an argument is wrong, or a file or a package is missing.\n"
            "Run it once by itself. Its arguments stand after --. Only packages of the stack are installed.\n"
        )

    def test_no_library(self, stand: Callable[[Watched], list[str]], capsys: pytest.CaptureFixture[str]) -> None:
        """The script succeeds and does not train: nothing failed."""
        stand(silent(0))
        assert gate_command(asked()) is GateExit.BAD_INPUT
        assert capsys.readouterr().err.endswith(
            "--flow train.py: no training was seen on either side\n"
            "It ended with status 0 and imported neither Transformers, PEFT nor TRL, or started Python without its "
            "variables (-E).\n"
            "Give the script that trains, or write its loop in three calls (docs/your-script.md).\n"
        )

    def test_an_environment_that_is_not_as_its_lock(
        self, stand: Callable[[Watched], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The script did not run: nothing is known about it."""

        def environment_of(lock: Lock) -> None:
            raise EnvironmentMismatch("trl 0.1 is installed, not 0.19.1")

        ran = stand(watched)
        monkeypatch.setattr(sides, "environment_of", environment_of)
        assert gate_command(asked()) is GateExit.COULD_NOT_TELL
        assert ran == []
        assert answer(tmp_path)["reason"] == "Nothing is known of trl==0.19.1: trl 0.1 is installed, not 0.19.1."

    def test_no_trainer(self, stand: Callable[[Watched], list[str]], capsys: pytest.CaptureFixture[str]) -> None:
        """The script succeeds without training."""
        stand(watched)
        assert gate_command(asked()) is GateExit.BAD_INPUT
        assert capsys.readouterr().err.endswith(
            "--flow train.py: no training was seen on either side\n"
            "The script ended normally and trained no Trainer. Training without a Trainer is not seen.\n"
            "Give the script that trains, or write its loop in three calls (docs/your-script.md).\n"
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"flow": "none.py"},
            (
                "--flow none.py: there is no such script\n"
                "It is a script (.py) or a notebook (.ipynb), or a launcher with what it launches behind --; flows of "
                "the catalog are chosen with --flows.\n"
                "Give one that is there.\n"
            ),
        ),
        (
            {"flows": ("sft-full",)},
            (
                "compat gate: --flow and --flows exclude each other\n"
                "--flow is a script of your own; --flows and --cell choose among the flows of the catalog.\n"
                "Leave one of them out.\n"
            ),
        ),
        (
            {"cells": ("sft-full[qwen2-full-gc]",)},
            (
                "compat gate: --flow and --cell exclude each other\n"
                "--flow is a script of your own; --flows and --cell choose among the flows of the catalog.\n"
                "Leave one of them out.\n"
            ),
        ),
        (
            {"flow": None},
            (
                "compat gate: tiny belongs to a script, and none is named\n"
                "Name it: compat gate --flow train.py --from X --to Y -- its arguments.\n"
            ),
        ),
        (
            {"flow": None, "steps": 4},
            (
                "compat gate: --steps belongs to a script, and none is named\n"
                "Name it: compat gate --flow train.py --from X --to Y -- its arguments.\n"
            ),
        ),
        (
            {"steps": 1},
            (
                "compat gate: --steps 1\nBefore step 2 half of a LoRA adapter has no gradient to receive.\n"
                "Ask for 2 steps or more.\n"
            ),
        ),
    ],
)
def test_bad_input_is_4(
    stand: Callable[[Watched], list[str]], options: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused with one message before anything runs."""
    ran = stand(flagship)
    assert gate_command(asked(**options)) is GateExit.BAD_INPUT
    out, err = capsys.readouterr()
    assert (out, err, ran) == ("", message, [])


def test_the_command_line_takes_arguments_after_dashes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are passed to the script, including options."""
    from finetune_compat import cli

    got: list[GateRequest] = []
    monkeypatch.setattr(command, "gate_command", lambda given: got.append(given) or 0)
    with pytest.raises(SystemExit):
        cli.main(["gate", "--from", "trl0.19", "--to", "trl0.22", "--flow", "train.py", "--", "tiny", "--rate", "1"])
    assert (got[0].flow, got[0].arguments, got[0].steps) == ("train.py", ("tiny", "--rate", "1"), None)
