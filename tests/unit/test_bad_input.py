"""Every invalid input of each command: the whole message, exit code 4, and no other effect.

Errors inside files are tested with the files' own modules: a side in `gate/test_inputs`, a policy in
`gate/test_policy`, the matrix in `stacks/test_matrix`, the ledger in `checks/test_ledger_file`, a lock in
`stacks/test_locks`, a run in `results/test_run_files`, a saved adapter in `inspect/`, an archive in
`store/test_archive`. Messages about the package index are in `stacks/test_index`, about the resolver in
`gate/test_side_lock`, about unpacked bundles in `bundle/`.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from finetune_compat import cli
from finetune_compat.census import command as census
from finetune_compat.census import taken
from finetune_compat.contract.catalog import CATALOG, cells_on
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine.places import places
from finetune_compat.run import stack_run
from finetune_compat.run.estimate import START_S
from finetune_compat.stacks.project_files.reading import LOCKS, OPEN

BASELINES = places().baselines

SEE = "See `compat --help`."
FLOWS = ", ".join(flow.name for flow in CATALOG)
FAMILIES = (
    "The families are: gemma-3-4b, llama-3.1-8b, mistral-7b, mixtral-8x7b, phi-3-mini, qwen2-vl-7b, qwen2.5-7b, "
    "qwen2.5-vl-7b, qwen3-30b-a3b, qwen3-8b.\n"
    "Or pass a config.json: any model that the stack's Transformers knows can be counted."
)
NO_STACK = "matrices/stacks.toml: there is no stack 'nope'\nNo name looks like it.\n`compat stacks` lists all of them."
NO_RUN = (
    "HERE/runs: there is no run 'nope'\nThe run was never made on this machine, or its directory was removed.\n"
    "The newest are: none yet. A run is made by: compat run trl0.22"
)
NOT_A_RUN = (
    "HERE/empty: this directory holds no run\nA run has its rows in rows/ and its observations in observations.jsonl.\n"
    "Name a run, such as: compat report latest"
)
RECORDS = (
    "The file was edited, cut off in the middle, or written by another version of the harness.\n"
    "Run the stack again, or read the file with the harness version that wrote it."
)
FEWEST = "Before step 2 half of a LoRA adapter has no gradient to receive.\nAsk for 2 steps or more."
CAN_BE = (
    "A side is a stack (trl0.22), pins (trl==0.22.2), latest, a project folder, a lock or requirements file, or the "
    "path of an interpreter or a virtual environment."
)
PROJECTS = (
    "Name a project folder, pyproject.toml, uv.lock, poetry.lock, pdm.lock, Pipfile.lock, pylock.toml, "
    "requirements.txt, environment.yml, conda-lock.yml, a script with inline metadata, the output of `pip freeze` or "
    "`pip list --format json`, or a virtual environment."
)
NO_TARGET = (
    "compat gate: neither --to nor --upgrade is given\n"
    "--to names the other versions; --upgrade names packages that move in the versions of --from.\n"
    "Give one of them: compat gate --from uv.lock --upgrade trl."
)
GPU_LIMITS = (
    "No GPU can match these values. The limits are in GB of memory: used by others, and in total.\n"
    "Give --gpus 1 or more, --gpu-idle-below a number above 0, and --gpu-larger-than 0 or more."
)
STEPS_AND_LIMIT = (
    "Before step 2 half of a LoRA adapter has no gradient to receive; a limit is in seconds.\n"
    "Ask for 2 steps or more, and for a limit above 0."
)
NO_DEVICE = "Invalid value for '--device': Value error, 'tpu' is not one of 'auto', 'cpu', 'cuda'."
NUMBER = "Input should be a valid integer, unable to parse string as an integer"
BASELINES_THERE = ", ".join(sorted(kept.name for kept in BASELINES.iterdir()))

FILES = {
    "train.py": "print()",
    "notebook.ipynb": "{}",
    "text": "x",
    "list.json": "[]",
    "empty.json": "{}",
    "plan.json": '{"include": [{"stacks": ["trl0.22-py311"], "cells": "part-1.txt"}]}',
    "part-1.txt": "",
    "ia3.json": '{"peft_type": "IA3"}',
    "rank.json": '{"peft_type": "LORA", "r": "x"}',
    "quantized/config.json": '{"model_type": "qwen2", "quantization_config": {"bits": 4}}',
    "odd.json": '{"model_type": "qwen2", "quantization_config": "gptq"}',
    "adapter/config.json": "{}",
    "run/rows/trl0.22-py311.json": '{"name": "trl0.22-py311", "state": "ran", "reason": "", "selected": []}',
    "strange/rows/trl0.22-py311.json": '{"name": "trl0.22-py311", "state": "gone", "reason": "", "selected": []}',
    "cut/rows/trl0.22-py311.json": "{",
    "later/rows/x.json": '{"name": "x", "state": "ran", "reason": "", "selected": []}',
    "later/observations.jsonl": '{"schema": 2}\n',
    "policy.toml": "effects = 1",
}

GATE = "gate --from trl0.22 --to trl0.23 --device cpu"
"""A valid call; the invalid argument is appended to it."""

BAD = {
    "gate": NO_TARGET,
    "gate --from trl0.22": NO_TARGET,
    "gate --of trl0.22": f"No such option: --of (Possible options: --json, --out, --to)\n{SEE}",
    f"{GATE} --candidates -1": (f"Invalid value for '--candidates': Input should be greater than or equal to 0\n{SEE}"),
    f"{GATE} --candidates x": f"Invalid value for '--candidates': {NUMBER}\n{SEE}",
    f"{GATE} --steps x": f"Invalid value for '--steps': {NUMBER}\n{SEE}",
    f"{GATE} more": (
        "compat gate: more belongs to a script, and none is named\n"
        "Name it: compat gate --flow train.py --from X --to Y -- its arguments."
    ),
    f"{GATE} --steps 4": (
        "compat gate: --steps belongs to a script, and none is named\n"
        "Name it: compat gate --flow train.py --from X --to Y -- its arguments."
    ),
    f"{GATE} --device tpu": f"{NO_DEVICE}\n{SEE}",
    f"{GATE} --python 3.9": (
        "matrices/stacks.toml: trl0.22 is not locked for Python 3.9\nIts row names 3.11, 3.12.\n"
        "Leave --python out, or name one of these."
    ),
    f"{GATE} --policy none.toml": (
        "none.toml: 1 fault\n  cannot be read: No such file or directory\n"
        "Correct each of these places; the file's own comments say what they hold."
    ),
    f"{GATE} --policy empty": (
        "empty: 1 fault\n  cannot be read: Is a directory\n"
        "Correct each of these places; the file's own comments say what they hold."
    ),
    f"{GATE} --policy text": (
        "text: 1 fault\n  not TOML: Expected '=' after a key in a key/value pair (at end of document)\n"
        "Correct each of these places; the file's own comments say what they hold."
    ),
    f"{GATE} --policy policy.toml": (
        "policy.toml: 1 fault\n  effects: must be a table, not 1\n"
        "Correct each of these places; the file's own comments say what they hold."
    ),
    f"{GATE} --flows sft-peft": (
        "--flows: there is no flow 'sft-peft'\n"
        "Names that look like it: sft-peft-model, sft-defaults, sft-peft-config.\n"
        f"The flows are {FLOWS}; an example of a cell is sft-peft-config[qwen2-nf4-gc]."
    ),
    f"{GATE} --flows sft-full,": (
        "--flows: there is no flow ''\nNo name looks like it.\n"
        f"The flows are {FLOWS}; an example of a cell is sft-peft-config[qwen2-nf4-gc]."
    ),
    f"{GATE} --cell sft": (
        "--cell: there is no cell 'sft'\nNo name looks like it.\n"
        f"The flows are {FLOWS}; an example of a cell is sft-peft-config[qwen2-nf4-gc]."
    ),
    f"{GATE} --flow train.py --steps 1": f"compat gate: --steps 1\n{FEWEST}",
    f"{GATE} --flow none.py": (
        "--flow none.py: there is no such script\n"
        "It is a script (.py) or a notebook (.ipynb), or a launcher with what it launches behind --; flows of the "
        "catalog are chosen with --flows.\nGive one that is there."
    ),
    f"{GATE} --flow accelerate -- launch": (
        "--flow accelerate: there is no such script\n"
        "It is a script (.py) or a notebook (.ipynb), or a launcher with what it launches behind --; flows of the "
        "catalog are chosen with --flows.\nGive one that is there."
    ),
    f"{GATE} --flow notebook.ipynb": (
        "notebook.ipynb: it is not a valid notebook: it has no 'cells'\n"
        "A notebook is a JSON file with code cells, in version 4 of the notebook format.\n"
        "Open it in Jupyter and save it again, or give a script (.py)."
    ),
    f"{GATE} --flow train.py --flows sft-full": (
        "compat gate: --flow and --flows exclude each other\n"
        "--flow is a script of your own; --flows and --cell choose among the flows of the catalog.\n"
        "Leave one of them out."
    ),
    f"{GATE} --until never": (
        "--until: 'never' is not a moment at which a gate can end\nUse answered, decided or complete."
    ),
    f"{GATE} --limit 0": (
        "compat gate: --steps 10 --limit 0\n"
        "Before step 2 half of a LoRA adapter has no gradient to receive; a limit is in seconds.\n"
        "Ask for 2 steps or more, and for a limit above 0."
    ),
    "gate --from nope --to trl0.22": (
        f"--from: 'nope' is neither a stack, a pin, a file nor an interpreter\n"
        f"No stack of matrices/stacks.toml looks like it.\n{CAN_BE}"
    ),
    "gate --from trl0.22 --to nope.lock": (
        "nope.lock: there is no such file or folder\n"
        f"Nothing is at HERE/nope.lock: the path is misspelt, or relative to another folder.\n{PROJECTS}"
    ),
    "gate --from trl0.22 --to empty": (
        "empty: this folder is neither a project nor a virtual environment\n"
        f"It has none of {', '.join((*LOCKS, *OPEN))}, and no pyvenv.cfg.\n{PROJECTS}"
    ),
    "gate --from trl0.22 --to=": f"compat gate: --to is empty\n{CAN_BE}",
    "watch": f"Missing argument 'SCRIPT [ARGUMENT]...'.\n{SEE}",
    "watch --steps x train.py": f"Invalid value for '--steps': {NUMBER}\n{SEE}",
    "watch --steps 1 train.py": f"compat watch: --steps 1\n{FEWEST}",
    "watch --stack trl0.22 none.py": (
        "none.py: there is no such file\nNothing is at HERE/none.py.\n"
        "Give an existing script (.py) or notebook (.ipynb)."
    ),
    "watch --stack trl0.22 notebook.ipynb": (
        "notebook.ipynb: it is not a valid notebook: it has no 'cells'\n"
        "A notebook is a JSON file with code cells, in version 4 of the notebook format.\n"
        "Open it in Jupyter and save it again, or give a script (.py)."
    ),
    "watch --stack nope train.py": NO_STACK,
    "watch --python a --stack b train.py": (
        "compat watch: --python and --stack exclude each other\nName one environment to run in."
    ),
    "watch --python /nowhere train.py": (
        "--python /nowhere: there is no such interpreter\n"
        "It is neither a file that can be run nor on the PATH.\n"
        "Give the python of the environment your script runs in, such as .venv/bin/python."
    ),
    f"watch --python {sys.executable} train.py": (
        f"{sys.executable}: it has no torch and no transformers\n"
        "The script runs in this environment, which needs Python 3.11 or later, torch and Transformers.\n"
        "Activate that environment, name it (--python .venv/bin/python), or choose a stack (--stack trl0.22)."
    ),
    "watch --python /bin/true train.py": (
        "--python /bin/true: it is not a working Python interpreter\n"
        "The harness ran it to read its version and to find torch and Transformers. That run failed.\n"
        "Give the python of the environment your script runs in, such as .venv/bin/python."
    ),
    "report nope": NO_RUN,
    "report empty": NOT_A_RUN,
    "report .": NOT_A_RUN.replace("/empty", ""),
    "report run more": f"Got unexpected extra argument(s) (more)\n{SEE}",
    "report run --cells x": (
        "compat report: --cells needs --html\n"
        "Full cells are shown on a separate page, in addition to the page in the run's directory.\n"
        "Name the file for that page: --html cells.html."
    ),
    "report run --html page.html --cells x": (
        "--cells: no cell of this run matches 'x'\n"
        "A cell's id is stack/flow[variant]@device. * matches any text; no other character is special.\n"
        "Write it like this: --cells 'trl0.22-py311/sft-peft-model[*]@cpu'"
    ),
    "report run --html empty": "--html empty: it is a directory\nName a file, such as page.html.",
    "report strange": (
        "HERE/strange/rows/trl0.22-py311.json: state: Input should be 'ran', 'uninstallable' or 'infrastructure'\n"
        f"{RECORDS}"
    ),
    "report cut": (
        f"HERE/cut/rows/trl0.22-py311.json: Invalid JSON: EOF while parsing an object at line 1 column 1\n{RECORDS}"
    ),
    "report later": f"HERE/later/observations.jsonl:1: schema 2, this harness reads 1\n{RECORDS}",
    "run nope": NO_STACK,
    "run --nope": f"No such option: --nope (Possible options: --model)\n{SEE}",
    "run --axis dpo": "--axis: there is no axis 'dpo'\nNo name looks like it.\nThere are: trl, transformers, peft.",
    "run --python 2.7": (
        "--python: no stack is locked for Python 2.7\n"
        "There are: 3.11, 3.12. `compat stacks` lists the Pythons of each stack."
    ),
    "run --flows nope": f"--flows: there is no flow 'nope'\nNo name looks like it.\nThere are: {FLOWS}.",
    "run trl0.22 --device cpu --variants nope": (
        "compat run: no cell matches\nA cell's name looks like trl0.22-py311/sft-peft-model[qwen2-nf4-gc]@cpu.\n"
        "Use fewer filters: stacks, --axis, --flows, --variants or -k."
    ),
    "run trl0.22 --device cpu -k nope": (
        "-k 'nope': no cell matches\nA cell's name looks like trl0.22-py311/sft-peft-model[qwen2-nf4-gc]@cpu.\n"
        "Use fewer filters: stacks, --axis, --flows, --variants or -k."
    ),
    "run trl0.22 --device cpu -k 'a b'": (
        "-k: 'a b' is not a valid expression\n"
        "Two names need `and` or `or` between them, and every parenthesis must be closed.\n"
        "Write it like this: -k 'sft-peft-model and not (int8 or vision)'."
    ),
    "run --budget soon": "--budget: 'soon' is not a valid duration\nWrite it as 30m, 1h30m or 90s.",
    "run --retry-infrastructure -1": (
        f"Invalid value for '--retry-infrastructure': Input should be greater than or equal to 0\n{SEE}"
    ),
    "run --jobs 0": f"Invalid value for '--jobs' / '-j': Input should be greater than or equal to 1\n{SEE}",
    "run --device tpu": f"{NO_DEVICE}\n{SEE}",
    "run --steps x": f"Invalid value for '--steps': {NUMBER}\n{SEE}",
    "run --limit x": (
        "Invalid value for '--limit': Input should be a valid number, unable to parse string as a number\n" + SEE
    ),
    "run --memory-limit x": (
        f"Invalid value for '--memory-limit': 'x' is not an amount of memory such as 3GiB or 1500MB\n{SEE}"
    ),
    "run --gpus x": f"Invalid value for '--gpus': {NUMBER}\n{SEE}",
    "run --steps 1": f"compat run: --steps 1 --limit 120\n{STEPS_AND_LIMIT}",
    "run --limit 0": f"compat run: --steps 10 --limit 0\n{STEPS_AND_LIMIT}",
    "run --gpus 0": f"compat run: --gpus 0 --gpu-idle-below 2 --gpu-larger-than 40\n{GPU_LIMITS}",
    "run --model ./nope": (
        "--model: './nope' is neither a directory nor a hub id\n"
        "The directory does not exist, or the value is a single file of a model.\n"
        "Name the directory that save_pretrained wrote, or a hub id (example: Qwen/Qwen2.5-7B)."
    ),
    "run --model empty": (
        "empty/config.json: cannot be read: No such file or directory\n"
        "Check the path. If a folder was named, this file must be in it."
    ),
    "run --model adapter": (
        "adapter/config.json: not a model's config: it has no model_type\n"
        "The directory has no base model, but for example an adapter.\nPass the directory of the base model to --model."
    ),
    "run --model quantized": (
        "quantized/config.json: the model is stored quantized\n"
        "The flows quantize the weights themselves, or train them unquantized.\n"
        "Pass the original, unquantized model to --model."
    ),
    "run --wheelhouse nope": (
        "--wheelhouse nope: there is no such folder\n--wheelhouse takes an unpacked bundle, or any folder of wheels.\n"
        "Unpack every part of the bundle, and name the folder that they unpack to."
    ),
    "run --wheelhouse empty": (
        "--wheelhouse empty: there is no wheel in it\n--wheelhouse takes an unpacked bundle, or any folder of wheels.\n"
        "Unpack every part of the bundle, and name the folder that they unpack to."
    ),
    "run --base-python python3 --base-torch": (
        "compat run: --base-torch and --base-python exclude each other\n"
        "--base-torch uses the torch of this Python, --base-python that of the named one.\nLeave one of them out."
    ),
    "store": f"Missing command.\n{SEE}",
    "store nope": f"No such command 'nope'.\n{SEE}",
    "store ls a b": f"Got unexpected extra argument(s) (b)\n{SEE}",
    "store show": f"Missing argument 'CELL_OR_ADDRESS'.\n{SEE}",
    "store show nope": (
        "HERE/store: no cached results match 'nope'\n"
        "`compat store ls` lists them: name a cell's whole id, or more characters of the address."
    ),
    "store verify more": f"Got unexpected extra argument(s) (more)\n{SEE}",
    "store prune": (
        "compat store prune: no option says what to remove\n"
        "Give --older-than, --max-size or --unreachable. Add --dry-run to see what would be removed."
    ),
    "store prune --older-than soon": "--older-than: 'soon' is not a valid age\nWrite days or hours: 90d, 12h.",
    "store prune --max-size 1XB": "--max-size: '1XB' is not a valid size\nWrite bytes with a unit: 500MB, 1.5GB, 2GiB.",
    "store export": f"Missing argument 'FILE'.\n{SEE}",
    "store export out.tar.gz --run nope": NO_RUN,
    "store export out.tar.gz --run empty": "HERE/empty: this is not a run\nName a run below reports/runs, or `latest`.",
    "store export text --run run": "text: the file already exists\nName another file, or remove this one.",
    "store export none/out.tar.gz --run run": "none: there is no such folder\nMake it, or name another.",
    "store import": f"Missing argument 'FILE'.\n{SEE}",
    "store import none.tar.gz": "none.tar.gz: there is no such file\nName what `compat store export` wrote.",
    **{
        f"store import {source}": (
            f"{source}: not imported: it cannot be read: {why}\n"
            "The file was truncated or changed, or `compat store export` did not write it. Nothing was written.\n"
            "Copy it again, or export it again."
        )
        for source, why in (("text", "Not a gzipped file (b'x')"), ("empty", "Is a directory"))
    },
    "store push": "COMPAT_STORE_REMOTE: there is no shared store\nSet it to its URL, such as s3://bucket/compat.",
    "bundle": f"Missing argument 'STACK...'.\n{SEE}",
    "bundle trl0.22": f"Missing option '--out'.\n{SEE}",
    "bundle nope --out out": NO_STACK,
    "bundle trl0.22 --out out --device tpu": (
        f"Invalid value for '--device': Value error, 'tpu' is not one of 'cpu', 'cuda'.\n{SEE}"
    ),
    "bundle trl0.22 --out out --max-size much": (
        "--max-size: 'much' is not a size\nA size is a number above 0 with a unit.\nWrite it as 60MiB, 500MB or 1GiB."
    ),
    "bundle trl0.22 --out text": (
        "--out text: it is a file\nThe new bundle replaces the whole folder.\n"
        "Name a folder that does not exist, is empty, or contains an earlier bundle."
    ),
    "bundle trl0.22 --out adapter": (
        "--out adapter: it contains files other than parts of a bundle, for example config.json\n"
        "The new bundle replaces the whole folder.\n"
        "Name a folder that does not exist, is empty, or contains an earlier bundle."
    ),
    "inspect": f"Missing argument 'ADAPTER_DIR'.\n{SEE}",
    "inspect nope": (
        "nope: there is no such directory\n"
        "Only adapters on this machine are inspected. Names on a model hub are not looked up.\n"
        "Give the directory that holds adapter_config.json and adapter_model.safetensors."
    ),
    "inspect text": (
        "text: is a file, not a directory\nAn adapter is its weights and its adapter_config.json together.\n"
        "Give the directory: ."
    ),
    "inspect empty": (
        "empty: holds no adapter_config.json\nIt is not a saved adapter.\nGive a directory that save_pretrained wrote."
    ),
    **{
        f"inspect empty {option}": (
            "compat inspect: --base and --stack go together\n"
            "Whether an adapter loads depends on the base and on the versions that load it.\n"
            "Give both: --base qwen2.5-7b --stack trl1.16."
        )
        for option in ("--base qwen2.5-7b", "--stack trl0.22")
    },
    "census": f"no family and no config.json was given\n{FAMILIES}",
    "census nope": f"there is no family 'nope'\n{FAMILIES}",
    "census qwen2.5-7b more": f"Got unexpected extra argument(s) (more)\n{SEE}",
    "census qwen2.5-7b --stack nope": NO_STACK,
    "census qwen2.5-7b --compare nope": NO_STACK,
    "census qwen2.5-7b --r x": f"Invalid value for '--r': {NUMBER}\n{SEE}",
    "census qwen2.5-7b --r 0": (
        "--r, --targets and --target-parameters: r: must be 1 or more, not 0\n"
        "Correct the value; PEFT's LoraConfig documents each option."
    ),
    "census qwen2.5-7b --targets=": (
        "--r, --targets and --target-parameters: names no target\nWith nothing to adapt there is nothing to count.\n"
        "Name modules (example: --targets q_proj,v_proj), or use all-linear."
    ),
    "census qwen2.5-7b --targets '('": (
        "--r, --targets and --target-parameters: '(' is not a regular expression: missing ), unterminated subpattern "
        "at position 0\nText with one of \\ * + ? ( ) [ ] { } | ^ $ is treated as a regular expression.\n"
        "Correct it. Text without these characters is a list of suffixes, separated by commas."
    ),
    "census qwen2.5-7b --quantization fp8": (
        f"Invalid value for '--quantization': Value error, 'fp8' is not one of 'nf4', 'int8', 'none'.\n{SEE}"
    ),
    "census qwen2.5-7b --dtype fp8": (
        f"Invalid value for '--dtype': Value error, 'fp8' is not one of 'bf16', 'fp32'.\n{SEE}"
    ),
    "census qwen2.5-7b --lora empty.json --r 8": (
        "compat census: --lora and --r cannot be combined\nThe file contains the whole LoRA configuration.\n"
        "Use either --lora or the other options."
    ),
    "census qwen2.5-7b --lora none.json": (
        "none.json: cannot be read: No such file or directory\n"
        "Check the path. If a folder was named, this file must be in it."
    ),
    "census qwen2.5-7b --lora text": (
        "text: not JSON: Expecting value: line 1 column 1 (char 0)\nIt was cut off, or edited by hand.\n"
        "Take the file from the model's repository again."
    ),
    "census qwen2.5-7b --lora list.json": (
        "list.json: not a JSON object but list\nTake the file from the model's repository again."
    ),
    **{
        f"census qwen2.5-7b --lora {name}": (
            f"{name}: {problem}\nA census supports only LoRA.\n"
            "Pass the adapter_config.json of a LoRA adapter, or give --r and --targets."
        )
        for name, problem in (("empty.json", "has no peft_type"), ("ia3.json", "its peft_type is 'IA3', not 'LORA'"))
    },
    "census qwen2.5-7b --lora rank.json": (
        "rank.json: r: cannot be 'x'\nCorrect the value; PEFT's LoraConfig documents each option."
    ),
    "census empty.json": (
        "empty.json: not a model's config: it has no model_type\nEvery config.json of Transformers has one.\n"
        "Pass the config.json from the folder of a model's weights."
    ),
    "census quantized": (
        "quantized/config.json: the model is stored quantized (unknown method)\n"
        "A census applies quantization itself, as bitsandbytes does when a model is loaded.\n"
        "Pass the config.json of the unquantized model, and choose --quantization."
    ),
    "census odd.json": (
        "odd.json: the model is stored quantized (unknown method)\n"
        "A census applies quantization itself, as bitsandbytes does when a model is loaded.\n"
        "Pass the config.json of the unquantized model, and choose --quantization."
    ),
    "census ia3.json": (
        "ia3.json: not a model's config: it has no model_type\nIt is the config of an adapter.\n"
        "Pass this file as --lora, and the config.json of its base model here."
    ),
    "run --address 10.0.0.1:6379": (
        "compat run: --address needs --engine ray\nWithout it the cells run on this machine.\n"
        "Add --engine ray, or leave the address out."
    ),
    "shards --out empty": "empty: the directory exists already\nName a directory that does not exist.",
    "shards more": f"Got unexpected extra argument(s) (more)\n{SEE}",
    "shards --jobs x": f"Invalid value for '--jobs': {NUMBER}\n{SEE}",
    **{
        f"shards --jobs {jobs}": (
            f"--jobs: {jobs} jobs\n"
            "GitHub Actions starts at most 256 jobs of a matrix, and 0 jobs run nothing.\n"
            "Give a number from 1 to 256."
        )
        for jobs in (0, 257)
    },
    **{
        f"shards --baseline {name}": f"{BASELINES}: there is no baseline {name!r}\nThere are: {BASELINES_THERE}."
        for name in ("gpu", ".", "../runs")
    },
    "collect": f"Missing argument 'PART...'.\n{SEE}",
    "collect run": f"Missing option '--plan'.\n{SEE}",
    "collect run --plan plan.json": f"Missing option '--run'.\n{SEE}",
    "collect run --plan plan.json --run empty": (
        "empty: the directory exists already\nName a directory that does not exist."
    ),
    **{
        f"collect run --plan {name} --run whole": (
            f"{name}: not a plan: {problem}\nWithout the plan, a cell whose machine was lost would not be noticed.\n"
            "Make it with: compat shards --out DIR"
        )
        for name, problem in (
            ("none.json", "No such file or directory"),
            ("text", "Expecting value: line 1 column 1 (char 0)"),
            ("empty.json", "it has no 'include'"),
        )
    },
    "collect cut --plan plan.json --run whole": (
        f"cut/rows/trl0.22-py311.json: Invalid JSON: EOF while parsing an object at line 1 column 1\n{RECORDS}"
    ),
    "collect binary --plan plan.json --run whole": (
        "binary/observations.jsonl: cannot be read as text: 'utf-8' codec can't decode byte 0xff in position 0: "
        f"invalid start byte\n{RECORDS}"
    ),
    "alarm run": f"Missing option '--body'.\n{SEE}",
    "alarm nope --body issue.md": NO_RUN,
    "alarm empty --body issue.md": NOT_A_RUN,
    "alarm run --body empty": "--body empty: it is a directory\nName a file, such as issue.md.",
    "keep nope": NO_RUN,
    "keep run --name 'A B'": (
        "--name: 'A B' is not a valid name of a baseline\nThe name becomes a directory below reports/baseline.\n"
        "Use lower-case letters, digits and dashes, for example cpu or h200."
    ),
    "keep run --name mine": (
        "HERE/run: the run is incomplete: trl0.22-py311\n"
        "In later comparisons, missing cells of a baseline would look like lost coverage.\n"
        "Run these stacks again, in the same run, or run all stacks again."
    ),
    "keep empty --name mine": (
        "HERE/empty: the run is incomplete: no cell of it ran\n"
        "In later comparisons, missing cells of a baseline would look like lost coverage.\n"
        "Run these stacks again, in the same run, or run all stacks again."
    ),
    f"keep {BASELINES / 'cpu'} --name mine": (
        f"{BASELINES}/cpu: this is a baseline already\nName a run below reports/runs, or a copy of one."
    ),
    "schema more": f"Got unexpected extra argument(s) (more)\n{SEE}",
    "stacks more": f"Got unexpected extra argument(s) (more)\n{SEE}",
    "lock nope": NO_STACK,
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Path:
    """The current directory: it has the files, and the only runs are in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPAT_STORE", str(tmp_path / "store"))
    in_places(runs=tmp_path / "runs")
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "observations.jsonl").write_bytes(b"\xff\n")
    return tmp_path


def commands() -> dict[str, Any]:
    """Every command by its words, as typer knows it."""
    top = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]  # of a group
    store = {f"store {name}": command for name, command in top["store"].commands.items()}
    return {**{name: command for name, command in top.items() if name != "store"}, **store}


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (words, parameter.opts[0])
        for words, command in commands().items()
        for parameter in command.params
        if parameter.param_type_name == "option" and not parameter.is_flag
    ],
)
def test_no_option_goes_without_its_value(
    here: Path, command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In every command: otherwise the library would exit with 2, which means BLOCK for a gate."""
    with pytest.raises(SystemExit) as caught:
        cli.main([*command.split(), option])
    assert capsys.readouterr() == ("", f"Option {option!r} requires an argument.\n{SEE}\n")
    assert caught.value.code == ExitCode.BAD_INPUT


@pytest.mark.parametrize("command", commands())
def test_no_command_takes_another_option(here: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In every command: an unknown option is refused."""
    with pytest.raises(SystemExit) as caught:
        cli.main([*command.split(), "--zzz"])
    assert capsys.readouterr() == ("", f"No such option: --zzz\n{SEE}\n")
    assert caught.value.code == ExitCode.BAD_INPUT


@pytest.mark.parametrize("line", BAD)
def test_the_error_is_one_message(here: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The message is on stderr, with the exit code of bad input."""
    with pytest.raises(SystemExit) as caught:
        cli.main(shlex.split(line))
    assert capsys.readouterr() == ("", BAD[line].replace("HERE", str(here)) + "\n")
    assert caught.value.code == ExitCode.BAD_INPUT


def test_a_budget_that_nothing_fits_into(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A budget that is too small is refused once the cells are known."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", "trl0.22", "--tier", "full", "--device", "cpu", "--budget", "1s"])
    out, err = capsys.readouterr()
    cells = len(cells_on(DeviceKind.CPU))
    assert out == f"{cells} cells on 1 stack: 0 cached, {cells} to run\n"
    assert err == (
        f"--budget: no cell fits into 1 s\nA stack takes about {START_S:.0f} s before its first cell.\n"
        "Give a longer time.\n"
    )
    assert caught.value.code == ExitCode.BAD_INPUT


@pytest.mark.parametrize("command", ["gate --from trl0.22 --to trl0.23", "run"])
def test_a_gpu_that_is_not_there(
    here: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GPU is refused where there is none, whatever hardware this machine has."""
    monkeypatch.setattr(stack_run, "read_gpus", tuple)
    with pytest.raises(SystemExit) as caught:
        cli.main([*command.split(), "--device", "cuda"])
    assert capsys.readouterr() == (
        "",
        (
            f"compat {command.split(maxsplit=1)[0]}: --device cuda, and no NVIDIA GPU is visible\n"
            "There is no NVIDIA driver, or the driver finds no GPU.\n"
            "Use --device cpu, or --device auto, which uses a GPU if there is one.\n"
        ),
    )
    assert caught.value.code == ExitCode.BAD_INPUT


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"why": "no class", "message": "model type 'zzz'"},
            (
                "trl1.16-py311: Transformers 5.20.0 has no model type 'zzz'\n"
                "The model is newer than this Transformers, or its code is not part of Transformers.\n"
                "Name another stack with --stack; `compat stacks` says which Transformers each has.\n"
            ),
        ),
        (
            {"why": "rejected", "message": "ValueError: no heads"},
            (
                "trl1.16-py311: Transformers 5.20.0 rejects the config: ValueError: no heads\n"
                "A value is not what this version accepts, or sizes do not fit together.\n"
                "Correct the config, or name another stack with --stack.\n"
            ),
        ),
    ],
)
def test_a_config_that_a_stack_does_not_take(
    here: Path,
    answer: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A config that the stack refuses is reported with the stack's answer; the model is not one of those shipped."""
    (here / "model.json").write_text('{"model_type": "zzz"}')
    stack = SimpleNamespace(name="trl1.16-py311")
    monkeypatch.setattr(census, "stack_python", lambda *_, **__: stack)
    monkeypatch.setattr(taken, "ask", lambda *_: {**answer, "transformers": "5.20.0"})
    with pytest.raises(SystemExit) as caught:
        cli.main(["census", "model.json"])
    assert capsys.readouterr() == ("", said)
    assert caught.value.code == ExitCode.BAD_INPUT
