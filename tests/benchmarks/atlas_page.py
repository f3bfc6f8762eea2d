"""Time to open the page of a large run: `python tests/benchmarks/atlas_page.py [CELLS]`.

The committed baseline is repeated under other names up to this many cells (10,000), rendered, and opened five times in
headless Chromium, each time in a new tab. The time runs from the navigation to the frame after the page was drawn. The
exit code is 1 if the median is over two seconds or the page over 10 MB.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT / "harness"), str(ROOT / "tests" / "pages")]

import browser  # noqa: E402 - after the path is set
from finetune_compat.checks.ledger_file import load_ledger  # noqa: E402
from finetune_compat.contract.records import Observation  # noqa: E402
from finetune_compat.machine.places import places  # noqa: E402
from finetune_compat.report import html  # noqa: E402
from finetune_compat.results.run_files import Results, judged  # noqa: E402
from finetune_compat.results.summary import summarize  # noqa: E402

BASELINES = places().baselines

CELLS = 10_000
LONGEST_S, LARGEST_BYTES = 2.0, 10_000_000
TIMES = 5

OPENED = """new Promise(done => requestAnimationFrame(() => requestAnimationFrame(
    () => done(performance.now()))))"""


def atlas(results: Results, cells: int) -> Results:
    """Repeat `results` under other names up to this many cells."""
    grown, copy = results, 1
    while len(grown.verdicts) < cells:
        again = _renamed(results, copy)
        grown = Results(
            grown.run,
            (*grown.rows, *again.rows),
            {**grown.observations, **again.observations},
            (*grown.verdicts, *again.verdicts)[:cells],
        )
        copy += 1
    return grown


def _renamed(results: Results, copy: int) -> Results:
    def name(old: str) -> str:
        stack, slash, rest = old.partition("/")
        return f"{stack}-copy{copy}{slash}{rest}"

    def seen(old: Observation) -> Observation:
        return dataclasses.replace(
            old, cell=name(old.cell), stack=dataclasses.replace(old.stack, name=name(old.stack.name))
        )

    return Results(
        results.run,
        tuple(dataclasses.replace(row, name=name(row.name)) for row in results.rows),
        {name(cell): seen(old) for cell, old in results.observations.items()},
        tuple(dataclasses.replace(verdict, cell=name(verdict.cell)) for verdict in results.verdicts),
    )


def opening(page: Path) -> list[float]:
    """Return the seconds of each of several openings."""
    taken = []
    for _ in range(TIMES):
        with browser.opened() as tab:
            tab.show(page, 1280, 900)
            taken.append(float(tab.evaluate(OPENED)) / 1000)
    return taken


def _numbers(observations: Mapping[str, Observation], rendered: str, seconds: float) -> str:
    return f"{len(observations):,} observations rendered in {seconds:.2f} s, {len(rendered.encode()) / 1e6:.2f} MB"


def main(arguments: Sequence[str]) -> int:
    """Measure, and print whether the limits hold."""
    ledger = load_ledger()
    results = atlas(judged(BASELINES / "cpu", ledger), int(arguments[0]) if arguments else CELLS)
    summary = summarize(results, ledger)
    start = time.perf_counter()
    rendered = html.render(summary, results.observations)
    print(f"{summary.tally.cells:,} cells on {len(summary.stacks)} stacks")
    print(_numbers(results.observations, rendered, time.perf_counter() - start))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(rendered, encoding="utf-8")
        taken = opening(page)
    print(f"opened in {', '.join(f'{seconds:.2f}' for seconds in taken)} s, median {statistics.median(taken):.2f} s")
    good = statistics.median(taken) <= LONGEST_S and len(rendered.encode()) <= LARGEST_BYTES
    print(f"at most {LONGEST_S:g} s and {LARGEST_BYTES / 1e6:g} MB: {'yes' if good else 'NO'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
