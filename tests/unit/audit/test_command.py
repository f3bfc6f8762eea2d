"""`compat audit` as its users call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from finetune_compat import cli
from finetune_compat.affected import answer_json
from finetune_compat.contract.errors import ExitCode

LOCK = "trl==0.22.2\ntransformers==4.56.0\npeft==0.17.1\n"
FROZEN = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("m"), "adapter")
Trainer(model, TrainingArguments("out")).train()
"""
HEALTHY = FROZEN.replace('"adapter")', '"adapter", is_trainable=True)\nmodel.enable_input_require_grads()')


def run(*arguments: object) -> int:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["audit", *map(str, arguments)])
    return int(caught.value.code or 0)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one script that trains a frozen adapter."""
    (tmp_path / "requirements.txt").write_text(LOCK)
    (tmp_path / "train.py").write_text(FROZEN)
    return tmp_path


class TestExitCodes:
    def test_a_hit_is_1(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """With the change as a diff."""
        assert run(project) == ExitCode.UNHEALTHY
        out = capsys.readouterr().out
        assert "train.py:4 hit loaded-frozen (learns nothing)" in out
        assert (
            '+model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("m"), "adapter", '
            "is_trainable=True)" in out
        )

    def test_no_pattern_is_0(self, project: Path) -> None:
        """The same script, mended."""
        (project / "train.py").write_text(HEALTHY)
        assert run(project) == ExitCode.HEALTHY

    def test_a_file_that_cannot_be_read_is_3(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It is in the table, with its line."""
        (project / "train.py").write_text("print 'Python 2'\n")
        assert run(project) == ExitCode.COULD_NOT_TELL
        assert "train.py not read line 1: not Python 3" in " ".join(capsys.readouterr().out.split())

    @pytest.mark.parametrize("name", ["nowhere", "empty"])
    def test_nothing_to_read_is_4(self, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        """One message."""
        (tmp_path / "empty").mkdir()
        assert run(tmp_path / name) == ExitCode.BAD_INPUT
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("release", ["trl==0.0.1", "numpy==2", "trl=="])
    def test_a_release_that_is_not_known_is_4(self, project: Path, release: str) -> None:
        """Nothing can be said about it."""
        assert run(project, "--for", release) == ExitCode.BAD_INPUT

    def test_an_accepted_hit_does_not_count(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """By the name of the pattern, or of its issue."""
        for name in ("loaded-frozen", "trl#6700"):
            entry = f'[[ignore]]\nid = "{name}"\nreason = "on purpose"\nexpires = 2999-01-01\n'
            (project / "finetune-compat.toml").write_text(entry)
            assert run(project) == ExitCode.HEALTHY
            assert "on purpose (until 2999-01-01)" in capsys.readouterr().out


class TestForms:
    def test_json_is_valid_against_the_published_schema(
        self, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nothing else is on standard output."""
        (project / "broken.py").write_text("(")
        run(project, "--json")
        content = json.loads(capsys.readouterr().out)
        jsonschema.validate(content, json.loads(answer_json.schema("audit")))
        assert content["hit"] is True
        assert {row["file"]: row["status"] for row in content["files"]} == {"train.py": "hit", "broken.py": "not read"}

    def test_sarif_and_annotations_name_the_place(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The same statement in both."""
        run(project, "--sarif")
        (result,) = json.loads(capsys.readouterr().out)["runs"][0]["results"]
        place = result["locations"][0]["physicalLocation"]
        assert (result["ruleId"], place["artifactLocation"]["uri"], place["region"]["startLine"]) == (
            "loaded-frozen",
            "train.py",
            4,
        )
        run(project, "--github")
        assert capsys.readouterr().out.startswith("::error file=train.py,line=4,title=loaded-frozen%3A ")

    def test_the_diff_can_be_applied(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """`patch` takes it, and then nothing is left to change."""
        run(project, "--fix")
        change = capsys.readouterr().out
        assert (project / "train.py").read_text() == FROZEN
        subprocess.run(
            ["/usr/bin/env", "patch", "-p1"], input=change, text=True, cwd=project, check=True, capture_output=True
        )
        assert "is_trainable=True" in (project / "train.py").read_text()
        run(project, "--fix")
        assert "is_trainable" not in capsys.readouterr().out


def test_an_upgrade_is_told_by_what_must_change_before(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments and names that the other release does not have."""
    (project / "train.py").write_text(
        "from trl import DPOConfig, DPOTrainer\n"
        'DPOTrainer("m", args=DPOConfig("out", max_prompt_length=8), processing_class=None).train()\n'
    )
    assert run(project) == ExitCode.HEALTHY
    capsys.readouterr()
    assert run(project, "--for", "trl==1.16") == ExitCode.UNHEALTHY
    assert "has no max_prompt_length" in capsys.readouterr().out


def test_no_library_is_imported(project: Path) -> None:
    """In a process that has none of them."""
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'trl', 'peft'): sys.modules[name] = None\n"
        f"from finetune_compat import cli\ncli.main(['audit', {str(project)!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.UNHEALTHY and "loaded-frozen" in done.stdout, done.stderr
