"""Everything that is read from outside, with contents that nobody writes: one clear error, and never a traceback.

The number of examples is `COMPAT_FUZZ_EXAMPLES`; `nox -s trust` runs many.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adapters
import pytest
from finetune_compat.census.families import find
from finetune_compat.census.lora import from_file
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.records import to_json
from finetune_compat.evidence.shards import planned
from finetune_compat.gate.inputs import read_side
from finetune_compat.gate.policy import load_policy
from finetune_compat.inspect.inspection import as_json, inspect_adapter
from finetune_compat.machine.places import PACKAGE, places
from finetune_compat.results.run_files import judged, read_observations
from finetune_compat.stacks.locks import read_lock
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.store import archive, stored_files
from finetune_compat.store.store import Store
from finetune_compat.store.stored_files import Damaged
from finetune_compat.watch.host import check_script, is_three_calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_builders import seen, stored_object

EXAMPLES = int(os.environ.get("COMPAT_FUZZ_EXAMPLES", "25"))
LEDGER, MATRIX = load_ledger(), read_matrix()

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)
RAW = st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode("utf-8", "surrogatepass"))


def _adapter(folder: Path, content: bytes) -> object:
    adapters.write(folder)
    (folder / "adapter_config.json").write_bytes(content)
    return as_json(inspect_adapter(folder))


def _weights(folder: Path, content: bytes) -> object:
    adapters.write(folder)
    (folder / "adapter_model.safetensors").write_bytes(content)
    return as_json(inspect_adapter(folder))


def _beside(folder: Path, content: bytes) -> object:
    adapters.write(folder)
    for name in ("trainer_state.json", "tokenizer.json", "added_tokens.json", "README.md", "tokenizer_config.json"):
        (folder / name).write_bytes(content)
    return as_json(inspect_adapter(folder))


def _in(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    def write(folder: Path, content: bytes) -> object:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return write


def _run(folder: Path, name: str, content: bytes) -> object:
    (folder / "rows").mkdir()
    (folder / name).write_bytes(content)
    return judged(folder, LEDGER)


def _object(folder: Path, content: bytes) -> object:
    name = stored_files.name_of(stored_object())
    stored_files.write_content(folder, name, content)
    return Store(folder).history(), Store(folder).read([stored_object().recipe.address])


LOCKS = "a lock"

READERS: dict[str, tuple[Callable[[Path, bytes], object], bytes]] = {
    "adapter_config.json": (_adapter, json.dumps(adapters.CONFIG).encode()),
    "files beside an adapter": (_beside, b'{"log_history": [{"loss": 1.0, "step": 1}], "added_tokens": [{"id": 5}]}'),
    "config.json": (
        _in("config.json", lambda path: find(str(path))),
        b'{"model_type": "qwen2", "num_hidden_layers": 2, "text_config": {"depth": 3}, "quantization_config": {}}',
    ),
    "--lora": (_in("adapter_config.json", from_file), json.dumps(adapters.CONFIG).encode()),
    "gate.toml": (_in("gate.toml", lambda path: load_policy(LEDGER, path)), places().policy.read_bytes()),
    "stacks.toml": (_in("stacks.toml", read_matrix), places().stacks.read_bytes()[:4000]),
    "known-issues.toml": (_in("known-issues.toml", load_ledger), places().ledger.read_bytes()[:4000]),
    LOCKS: (
        _in("trl0.22-py311.txt", read_lock),
        (places().locks / "trl0.22-py311.txt").read_bytes()[:2000],
    ),
    "requirements.txt": (
        _in("requirements.txt", lambda path: read_side([str(path)], "--to", MATRIX, None)),
        b"trl==0.22.2\n-r other.txt\n-c c.txt\npeft>=0.17 ; python_version>'3.8'\n--index-url https://x\n",
    ),
    "uv.lock": (
        _in("uv.lock", lambda path: read_side([str(path)], "--to", MATRIX, None)),
        b'version = 1\nrequires-python = ">=3.11"\n[[package]]\nname = "trl"\nversion = "0.22.2"\n',
    ),
    "pylock.toml": (
        _in("pylock.toml", lambda path: read_side([str(path)], "--to", MATRIX, None)),
        b'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "trl"\nversion = "0.22.2"\n',
    ),
    "a notebook": (
        _in("x.ipynb", lambda path: check_script([str(path)])),
        b'{"cells": [{"cell_type": "code", "source": ["x = 1"]}], "nbformat": 4}',
    ),
    "a script": (_in("x.py", is_three_calls), b"def build(): pass\ndef train(): pass\ndef evaluate(): pass\n"),
    "a plan of shards": (_in("plan.json", planned), b'{"include": [{"stacks": ["trl0.22-py311"]}]}'),
    "observations.jsonl": (
        _in("observations.jsonl", read_observations),
        f"{to_json(seen())}\n".encode(),
    ),
    "a row of a run": (
        lambda folder, content: _run(folder, "rows/trl0.24-py311.json", content),
        b'{"name": "trl0.24-py311", "state": "ran", "reason": "", "selected": ["trl0.24-py311/x[y]@cpu"]}',
    ),
    "stored.json": (lambda folder, content: _run(folder, "stored.json", content), b'{"a": "b"}'),
    "an object of the store": (_object, stored_object().content),
    "an archive": (
        _in("x.tar.gz", lambda path: archive.take(path, Store(path.parent / "store"), path.parent / "runs")),
        gzip.compress(b"x" * 512, mtime=0),
    ),
}
"""What reads each kind of file, and contents that it accepts, or nearly."""


def _refused(read: Callable[[Path, bytes], object], content: bytes) -> ExitCode | None:
    """The exit code of the error; None if the content is accepted. Every example has a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            read(Path(folder), content)
        except CompatError as refusal:
            return refusal.exit_code
        except Damaged:
            return ExitCode.BAD_INPUT
    return None


def _answers(kind: str, content: bytes) -> None:
    # Infrastructure (3) would be somebody else's fault. A lock is part of an environment (5).
    bad = ExitCode.ENVIRONMENT if kind == LOCKS else ExitCode.BAD_INPUT
    assert _refused(READERS[kind][0], content) in (None, bad, ExitCode.BAD_INPUT)


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES < 100)
@given(data=st.data())
def test_any_content_is_an_answer_or_one_error(kind: str, data: st.DataObject) -> None:
    """Bytes, text, JSON of any shape, and valid contents with a piece replaced, removed or repeated."""
    valid = READERS[kind][1]
    start = data.draw(st.integers(0, len(valid)))
    end = data.draw(st.integers(start, min(len(valid), start + 60)))
    piece = data.draw(RAW | JSON.map(_dumped) | st.just(valid[start:end] * 3))
    _answers(kind, data.draw(st.sampled_from([piece, valid[:start] + piece + valid[end:], valid[:start]])))


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("kind", [kind for kind in READERS if READERS[kind][1].startswith(b"{")])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES < 100)
@given(data=st.data())
def test_a_field_of_another_type_is_an_answer_or_one_error(kind: str, data: st.DataObject) -> None:
    """Valid JSON with any value at any place."""
    valid = READERS[kind][1]
    raw = json.loads(valid)
    at: Any = raw
    while True:
        key = data.draw(st.sampled_from(sorted(at)) if isinstance(at, dict) else st.integers(0, len(at) - 1))
        if not (isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans())):
            break
        at = at[key]
    at[key] = data.draw(JSON)
    content = _dumped(raw)
    _answers(kind, content + b"\n" if valid.endswith(b"\n") else content)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES < 100)
@given(header=JSON | st.dictionaries(st.text(max_size=30), JSON, max_size=3), rest=st.binary(max_size=64))
def test_any_header_of_weights_is_an_answer_or_one_error(header: Any, rest: bytes) -> None:
    """The header of a safetensors file is JSON."""
    text = _dumped(header)
    assert _refused(_weights, struct.pack("<Q", len(text)) + text + rest) in (None, ExitCode.BAD_INPUT)


# ---------------------------------------------------------------------------------------------------------- large ones

SIZE = 10_000_000
DEEP = b"[" * (SIZE // 2) + b"]" * (SIZE // 2)
WIDE = b'{"cells": [' + b",".join([b'{"x":1}'] * (SIZE // 8)) + b"]}"


def _header(count: int, name: Callable[[int], str]) -> bytes:
    entries = {name(number): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(count)}
    text = json.dumps(entries, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text


def _zeros() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as packed:
        member = tarfile.TarInfo("manifest.json")
        member.size = SIZE * 80
        packed.addfile(member, _Endless())
    return out.getvalue()


class _Endless(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        return bytes(size)


LARGE: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "brackets in a config": ("inspect", "adapter_config.json", lambda: DEEP),
    "a pattern that hangs": (
        "inspect",
        "adapter_config.json",
        lambda: json.dumps({**adapters.CONFIG, "rank_pattern": {"(a|a|m|o|d|e|l|\\.|.)+$X": 3}}).encode(),
    ),
    "a pattern with parentheses": (
        "inspect",
        "adapter_config.json",
        lambda: json.dumps({**adapters.CONFIG, "target_modules": "(" * 20_000 + ")" * 20_000}).encode(),
    ),
    "a number of 5,000 digits": (
        "inspect",
        "adapter_config.json",
        lambda: json.dumps({**adapters.CONFIG, "r": 1}).encode().replace(b'"r": 1', b'"r": ' + b"9" * 5_000),
    ),
    "100,000 names": ("inspect", "adapter_model.safetensors", lambda: _header(110_000, lambda n: f"a.{n}.lora_A")),
    "90,000 names": ("inspect", "adapter_model.safetensors", lambda: _header(90_000, lambda n: f"a.{n}.lora_A.weight")),
    "a name of 40,000 parts": (
        "inspect",
        "adapter_model.safetensors",
        lambda: _header(1, lambda _: "module." * 40_000),
    ),
    "a number in a name": ("inspect", "adapter_model.safetensors", lambda: _header(1, lambda _: "a." + "9" * 5_000)),
    "a large tokenizer": ("inspect", "tokenizer.json", lambda: WIDE),
    "brackets in a notebook": ("watch", "x.ipynb", lambda: DEEP),
    "a wide notebook": ("watch", "x.ipynb", lambda: WIDE),
    "brackets in a script": ("watch", "x.py", lambda: b"x = " + b"-" * (SIZE - 4)),
    "brackets in a policy": ("gate", "gate.toml", lambda: b"x = " + DEEP),
    "a long policy": ("gate", "gate.toml", lambda: b"x = 1\n" * (SIZE // 6)),
    "an archive of zeros": ("take", "x.tar.gz", _zeros),
    "an archive of noise": ("take", "x.tar.gz", lambda: os.urandom(SIZE)),
    "one line of observations": ("observations", "observations.jsonl", lambda: b'{"cell":"' * (SIZE // 9) + b"\n"),
    "deep observations": ("observations", "observations.jsonl", lambda: b'{"cell":' + DEEP + b"\n"),
}
"""Hostile files of up to 10 MB: who reads it, its name, and its content."""

READS = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from finetune_compat.contract.errors import CompatError
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.gate.policy import load_policy
from finetune_compat.inspect.inspection import inspect_adapter
from finetune_compat.results.run_files import read_observations
from finetune_compat.store import archive
from finetune_compat.store.store import Store
from finetune_compat.watch.host import check_script, is_three_calls
who, file = sys.argv[1], Path(sys.argv[2])
ledger = load_ledger()
begin = time.process_time()
code = 0
try:
    match who:
        case "inspect": inspect_adapter(file.parent)
        case "watch": check_script([str(file)]); file.suffix == ".py" and is_three_calls(file)
        case "gate": load_policy(ledger, file)
        case "take": archive.take(file, Store(file.parent / "store"), file.parent / "runs")
        case "observations": read_observations(file)
except CompatError as error:
    code = int(error.exit_code)
# Not ru_maxrss: it begins with the memory of the process that forked this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(code, time.process_time() - begin, int(peak.split()[1]) * 1024)
"""


@pytest.mark.parametrize("kind", LARGE)
def test_no_file_of_10_mb_takes_long_or_much_memory(kind: str, tmp_path: Path) -> None:
    """5 CPU seconds and 500 MB, and exit code 4 or an answer."""
    who, name, content = LARGE[kind]
    if who == "inspect":
        adapters.write(tmp_path)
    (tmp_path / name).write_bytes(content())
    command = [sys.executable, "-c", READS, who, str(tmp_path / name), str(PACKAGE.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    code, seconds, held = map(float, done.stdout.split())
    assert code in (0, ExitCode.BAD_INPUT)
    assert seconds < 5
    assert held < 500_000_000
