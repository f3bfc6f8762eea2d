"""Adapters of every PEFT method, saved by every PEFT release of the matrix and loaded by every newer one. Host side.

    nox -s corpus

Each adapter is trained for a few steps on a tiny model, so that the model's answers say whether it was loaded.

reports/adapters/
    corpus.json     the measurements
    adapters.md     derived from them
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.version import Version

from finetune_compat.checks.codes import Severity
from finetune_compat.contract.errors import CompatError
from finetune_compat.evidence.adapter_page import page
from finetune_compat.evidence.adapter_record import Corpus, Load, Outcome, Save, corpus_text, outcome
from finetune_compat.inspect.inspection import inspected
from finetune_compat.inspect.loading import loading_of, shapes_of
from finetune_compat.inspect.saved import Saved, read_adapter
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.machine.provenance import commit
from finetune_compat.results.order import stack_order
from finetune_compat.stacks.ask import StackPython, ask, stack_python
from finetune_compat.stacks.locks import Unsolvable, locked
from finetune_compat.stacks.matrix import Matrix, read_matrix

MODULE = "finetune_compat.cell.adapter_corpus"


def stacks_by_peft(matrix: Matrix) -> dict[str, str]:
    """One stack for each release of PEFT in the locks, oldest release first: the one that is named after it, if there
    is one, else the last in the order of reports.
    """
    found: dict[str, str] = {}
    for stack in sorted(matrix.stacks, key=lambda stack: stack_order(stack.name)):
        lock = locked(matrix.plan(stack, stack.pythons[0]))
        if not isinstance(lock, Unsolvable):
            release = lock.requirements["peft"]
            if not found.get(release, "").startswith("peft"):
                found[release] = stack.name
    return dict(sorted(found.items(), key=lambda item: Version(item[0])))


def measured(stacks: Mapping[str, StackPython], folder: Path) -> Corpus:
    """Save with every stack, and load with it and all later ones.

    Args:
        stacks: by release of PEFT, oldest first.
        folder: an empty directory for the adapters.

    Raises:
        StackFailed: a stack's process ended without an answer.
    """
    base = folder / "base"
    oldest = next(iter(stacks.values()))
    ask(oldest, MODULE, {"base": str(base), "make": True})
    saves: list[Save] = []
    adapters: dict[str, dict[str, Saved]] = {}
    loads: list[Load] = []
    versions: dict[str, Mapping[str, str]] = {}
    for number, (release, stack) in enumerate(stacks.items(), 1):
        print(f"{number} of {len(stacks)}: PEFT {release} on {stack.name}", file=sys.stderr, flush=True)
        answer = ask(stack, MODULE, {"base": str(base), "into": str(folder / release)})
        versions[release] = answer["versions"]
        adapters[release] = dict(_read(answer["saved"], folder / release))
        saves += [
            _save(release, method, facts["error"], adapters[release]) for method, facts in answer["saved"].items()
        ]
        loads += _loads(stack, release, base, adapters)
    day = datetime.now(UTC).date().isoformat()
    return Corpus(day, commit(), versions, tuple(saves), tuple(sorted(loads, key=_by_save)))


def _by_save(load: Load) -> tuple[str, Version, Version]:
    return load.method, Version(load.saved_by), Version(load.loaded_by)


def _read(saved: Mapping[str, Mapping[str, str]], folder: Path) -> Iterator[tuple[str, Saved]]:
    for method, facts in saved.items():
        if not facts["error"]:
            yield method, read_adapter(folder / facts["directory"])


def _save(release: str, method: str, error: str, adapters: Mapping[str, Saved]) -> Save:
    if error:
        return Save(method, release, error, ())
    seen = inspected(adapters[method], None, None)
    return Save(method, release, "", _unhealthy(seen.findings))


def _unhealthy(findings: Sequence[Any]) -> tuple[str, ...]:
    return tuple(sorted({found.code for found in findings if found.severity is Severity.UNHEALTHY}))


def _loads(stack: StackPython, release: str, base: Path, adapters: Mapping[str, Mapping[str, Saved]]) -> Iterator[Load]:
    """What `stack` makes of all adapters saved so far."""
    asked = {
        f"{saved_by} {method}": {
            "directory": str(saved.directory),
            "config": saved.config_raw,
            "tensors": shapes_of(saved),
        }
        for saved_by, methods in adapters.items()
        for method, saved in methods.items()
    }
    found = ask(stack, MODULE, {"base": str(base), "adapters": asked})["found"]
    for key, facts in found.items():
        saved_by, _, method = key.partition(" ")
        saved = adapters[saved_by][method]
        alone = _unhealthy(inspected(saved, None, None).findings)
        whole = _unhealthy(inspected(saved, loading_of(stack.name, facts["predicted"]), None).findings)
        became = outcome(facts["error"], facts["moved"], facts["off"], facts["off_base"], facts["drift"])
        yield Load(
            method=method,
            saved_by=saved_by,
            loaded_by=release,
            outcome=became,
            said=facts["error"] or ("" if became is Outcome.LOADS else next(iter(facts["warned"]), "")),
            foretold=tuple(code for code in whole if code not in alone),
        )


def main() -> int:
    """Measure the corpus and write the record and its page. Returns the exit code."""
    try:
        folder = places().adapters
        matrix = read_matrix()
        stacks = {release: stack_python(matrix, name) for release, name in stacks_by_peft(matrix).items()}
        with tempfile.TemporaryDirectory() as scratch:
            corpus = measured(stacks, Path(scratch))
    except CompatError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    write_atomically(folder / "corpus.json", corpus_text(corpus))
    write_atomically(folder / "adapters.md", page(corpus))
    print(f"Stored in {folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
