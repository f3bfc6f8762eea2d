"""docs/cluster: the array script runs the part of its task, and the manifest says what the exit codes mean."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from finetune_compat.contract.errors import ExitCode
from finetune_compat.machine.places import PACKAGE

FOLDER = PACKAGE.parents[1] / "docs" / "cluster"

RULE = {
    "type": "object",
    "required": ["action"],
    "additionalProperties": False,
    "oneOf": [{"required": ["onExitCodes"]}, {"required": ["onPodConditions"]}],
    "properties": {
        "action": {"enum": ["FailJob", "FailIndex", "Ignore", "Count"]},
        "onExitCodes": {
            "type": "object",
            "required": ["operator", "values"],
            "additionalProperties": False,
            "properties": {
                "containerName": {"type": "string"},
                "operator": {"enum": ["In", "NotIn"]},
                "values": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 255,
                    "uniqueItems": True,
                    "items": {"type": "integer", "minimum": 1, "maximum": 255},
                },
            },
        },
        "onPodConditions": {
            "type": "array",
            "maxItems": 20,
            "items": {
                "type": "object",
                "required": ["type"],
                "additionalProperties": False,
                "properties": {"type": {"type": "string"}, "status": {"enum": ["True", "False", "Unknown"]}},
            },
        },
    },
}
COUNT = {"type": "integer", "minimum": 0}
JOB = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "batch/v1"},
        "kind": {"const": "Job"},
        "metadata": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}},
        },
        "spec": {
            "type": "object",
            "additionalProperties": False,
            # backoffLimitPerIndex and FailIndex are valid for an Indexed Job only, whose number of pods is fixed.
            "required": ["completionMode", "completions", "backoffLimitPerIndex", "podFailurePolicy", "template"],
            "properties": {
                "completionMode": {"const": "Indexed"},
                "completions": COUNT,
                "parallelism": COUNT,
                "backoffLimitPerIndex": COUNT,
                "maxFailedIndexes": COUNT,
                "podFailurePolicy": {
                    "type": "object",
                    "required": ["rules"],
                    "additionalProperties": False,
                    "properties": {"rules": {"type": "array", "maxItems": 20, "items": RULE}},
                },
                "template": {
                    "type": "object",
                    "required": ["spec"],
                    "properties": {
                        "spec": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["restartPolicy", "containers"],
                            "properties": {
                                "restartPolicy": {"const": "Never"},  # a podFailurePolicy requires it
                                "containers": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {
                                        "type": "object",
                                        "required": ["name", "image"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "name": {"type": "string"},
                                            "image": {"type": "string"},
                                            "workingDir": {"type": "string"},
                                            "command": {"type": "array", "items": {"type": "string"}},
                                            "env": {
                                                "type": "array",
                                                "items": {
                                                    "type": "object",
                                                    "required": ["name"],
                                                    "properties": {
                                                        "name": {"type": "string"},
                                                        "value": {"type": "string"},
                                                    },
                                                },
                                            },
                                            "resources": {"type": "object"},
                                            "volumeMounts": {"type": "array"},
                                        },
                                    },
                                },
                                "volumes": {"type": "array"},
                            },
                        }
                    },
                },
            },
        },
    },
}
"""The needed parts of a Job of Kubernetes 1.33, in which backoffLimitPerIndex became stable."""


def manifest() -> dict[str, dict[str, dict[str, list[dict[str, dict[str, list[int]]]]]]]:
    """Return the manifest."""
    found: dict[str, dict[str, dict[str, list[dict[str, dict[str, list[int]]]]]]] = yaml.safe_load(
        (FOLDER / "job.yaml").read_text(encoding="utf-8")
    )
    return found


def test_the_manifest_is_a_job() -> None:
    """A misspelt field would be ignored by a cluster."""
    jsonschema.validate(manifest(), JOB)


def test_the_manifest_knows_the_exit_codes() -> None:
    """A failed cell is a result, and a failed machine is tried again."""
    rules = manifest()["spec"]["podFailurePolicy"]["rules"]
    actions = {
        code: rule["action"] for rule in rules if "onExitCodes" in rule for code in rule["onExitCodes"]["values"]
    }
    assert actions == {ExitCode.UNHEALTHY: "FailIndex", ExitCode.COULD_NOT_TELL: "Count"}


@pytest.mark.parametrize("name", ["part.sh", "array.sbatch"])
def test_the_scripts_are_valid(name: str) -> None:
    """The shell parses them."""
    subprocess.run(["/bin/bash", "-n", str(FOLDER / name)], check=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the scripts, a plan of two parts, and commands that say how they were called."""
    shutil.copytree(FOLDER, tmp_path / "docs" / "cluster")
    (tmp_path / "plan").mkdir()
    jobs = [
        {"sessions": ["compat-3.11(trl='0.22')"]},
        {"sessions": ["compat-3.11(trl='0.9')", "compat-3.11(trl='1.0')"]},
    ]
    (tmp_path / "plan" / "plan.json").write_text(json.dumps({"include": jobs}))
    bin_ = tmp_path / ".venv" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "python").symlink_to(shutil.which("python3") or "python3")
    said = 'printf "%s|" "$(basename "$0")" "$@"; echo "$COMPAT_RUN_ID"'
    for name, code in (("nox", "1"), ("compat", '"$REPORT"'), ("scontrol", "0")):
        (bin_ / name).write_text(f"#!/bin/sh\n{said}\nexit {code}\n")
        (bin_ / name).chmod(0o755)
    return tmp_path


def task(checkout: Path, report: int, **more: str) -> tuple[int, list[str]]:
    """Run the second task of the array, whose report ends with `report`; return its exit code and what was called."""
    path = os.pathsep.join((str(checkout / ".venv" / "bin"), os.environ["PATH"]))
    environ = {"PATH": path, "REPORT": str(report), "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", **more}
    script = str(checkout / "docs" / "cluster" / "array.sbatch")
    command = ["bash", script, "--device", "cpu"]
    done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("report", [0, 1])
def test_a_task_runs_its_part(report: int, checkout: Path) -> None:
    """Its exit code is that of the report: nox ends with 1 for every failure."""
    code, called = task(checkout, report)
    assert code == report
    sessions, cells = "compat-3.11(trl='0.9')|compat-3.11(trl='1.0')", f"{checkout}/plan/part-2.txt"
    assert called == [
        f"nox|-s|{sessions}|--|--cells|{cells}|--device|cpu|part-2",
        "compat|report|part-2|part-2",
    ]


@pytest.mark.parametrize(("restarts", "again"), [("0", True), ("1", True), ("2", False)])
def test_a_task_whose_machine_failed_is_requeued(restarts: str, again: bool, checkout: Path) -> None:
    """It is not requeued for ever."""
    code, called = task(checkout, 3, SLURM_RESTART_COUNT=restarts)
    assert code == 3
    assert called[2:] == (["scontrol|requeue|7_2|"] if again else [])
