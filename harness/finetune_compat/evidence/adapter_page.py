"""The page of saved adapters, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from finetune_compat.evidence.adapter_record import Corpus, Load, Outcome
from finetune_compat.report.markdown import plain, table
from finetune_compat.report.wording import shortened
from finetune_compat.results.order import runs_of

INTRODUCTION = """\
Every release of PEFT in the matrix trained an adapter of each of its methods on a tiny Llama and saved it. The same
release and every newer one loaded it with `PeftModel.from_pretrained`. Loaded means: the model gives the same logits as
after training, within 1 % of what training changed. Beside it stands what `compat inspect --base` foretells from names
and shapes alone. Written by `nox -s corpus`.\
"""

METHODS = ("method", "saved by PEFT", "loads", "does not", "cannot be told", "found by inspect alone")
LOSSES = ("method", "saved by PEFT", "loaded by PEFT", "outcome", "error or warning", "foretold by inspect")
REFUSALS = ("method", "PEFT", "error")


def page(corpus: Corpus) -> str:
    """The page."""
    releases = list(corpus.versions)
    parts = [
        "# Which saved adapters does which PEFT load?",
        INTRODUCTION,
        plain(_measured(corpus)),
        table(METHODS, _methods(corpus, releases)),
        "## Adapters that are not loaded whole",
        _or_nothing(LOSSES, list(_losses(corpus, releases))),
        "## Foretold and not seen",
        _or_nothing(LOSSES, list(_false_alarms(corpus, releases))),
        "## Methods that this could not train and save",
        _or_nothing(REFUSALS, list(_refusals(corpus, releases))),
    ]
    return "\n\n".join(parts) + "\n"


def _measured(corpus: Corpus) -> str:
    under = ", ".join(f"{peft} with Transformers {found['transformers']}" for peft, found in corpus.versions.items())
    return f"Measured {corpus.measured} at commit {corpus.commit[:12]}. PEFT {under}."


def _or_nothing(head: Sequence[str], rows: list[list[str]]) -> str:
    return table(head, rows) if rows else "None."


def _methods(corpus: Corpus, releases: Sequence[str]) -> Iterator[list[str]]:
    for method in dict.fromkeys(save.method for save in corpus.saves):
        made = [save for save in corpus.saves if save.method == method and not save.error]
        counts = Counter(load.outcome for load in corpus.loads if load.method == method)
        bad = counts.total() - counts[Outcome.LOADS] - counts[Outcome.UNKNOWN]
        alarms = ", ".join(sorted({code for save in made for code in save.findings})) or "healthy"
        span = spans([save.peft for save in made], releases) or "never"
        row = (counts[Outcome.LOADS], bad, counts[Outcome.UNKNOWN])
        yield [f"`{method}`", span, *map(str, row), alarms if made else ""]


def _losses(corpus: Corpus, releases: Sequence[str]) -> Iterator[list[str]]:
    """What does not load whole."""
    yield from _grouped([load for load in corpus.loads if load.outcome not in _FINE], releases)


def _false_alarms(corpus: Corpus, releases: Sequence[str]) -> Iterator[list[str]]:
    """What loads whole, and was said not to."""
    yield from _grouped([load for load in corpus.loads if load.outcome in _FINE and load.foretold], releases)


_FINE = (Outcome.LOADS, Outcome.UNKNOWN)


def _grouped(loads: Sequence[Load], releases: Sequence[str]) -> Iterator[list[str]]:
    """A row for each method, loading releases and outcome; adapters of several releases share it."""
    by_save: dict[tuple[str, str, str, Outcome, tuple[str, ...]], list[str]] = {}
    for load in loads:
        key = (load.method, load.saved_by, load.said, load.outcome, load.foretold)
        by_save.setdefault(key, []).append(load.loaded_by)
    rows: dict[tuple[str, str, str, Outcome, tuple[str, ...]], list[str]] = {}
    for (method, saved_by, said, outcome, foretold), loaded_by in by_save.items():
        key = (method, spans(loaded_by, releases), said, outcome, foretold)
        rows.setdefault(key, []).append(saved_by)
    for (method, loaded, said, outcome, foretold), saved in rows.items():
        told = ", ".join(foretold) or "no"
        yield [f"`{method}`", spans(saved, releases), loaded, outcome, _said(said), told]


def _said(text: str) -> str:
    return plain(shortened(text)) if text else ""


def _refusals(corpus: Corpus, releases: Sequence[str]) -> Iterator[list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for save in corpus.saves:
        if save.error:
            found.setdefault((save.method, save.error), []).append(save.peft)
    for (method, error), pefts in found.items():
        yield [f"`{method}`", spans(pefts, releases), _said(error)]


def spans(found: Collection[str], order: Sequence[str]) -> str:
    """Releases as ranges of what is consecutive in `order` (example: `0.15.2 to 0.18.1, 0.20.0`)."""
    runs = runs_of(found, order)
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
