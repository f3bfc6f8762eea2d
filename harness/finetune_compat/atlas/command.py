"""`compat atlas`: reads all committed baselines and writes the page, the Markdown file and their record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from finetune_compat.atlas import page, table
from finetune_compat.atlas.answers import best
from finetune_compat.atlas.issues import lines
from finetune_compat.atlas.record import next_record, read_record, record_text
from finetune_compat.atlas.survey import survey
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.windows_measured import MeasuredEdge, read_windows
from finetune_compat.contract.errors import CompatError
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import judged

RECORD = "atlas.json"


def atlas_command() -> Path:
    """Write the atlas of the checkout, and return its directory.

    Raises:
        CompatError: this package does not run from a checkout, or no baseline is committed.
        RecordsError: a file of a baseline, or the record of the atlas before, cannot be read.
        MatrixError: the ledger is invalid.
    """
    folder = places().atlas
    files = atlas_files(places().baselines, folder, load_ledger(), read_windows())
    for name, text in files.items():
        write_atomically(folder / name, text)
    return folder


def atlas_files(baselines: Path, folder: Path, ledger: Ledger, edges: Sequence[MeasuredEdge] = ()) -> Mapping[str, str]:
    """The text of each file of the atlas, by name.

    Args:
        baselines: directory of the committed baselines.
        folder: directory of the atlas before, for its news.
        ledger: judges the baselines.
        edges: the measured edges, for issues that scripts show.
    """
    kept = sorted(path for path in baselines.glob("*") if (path / "rows").is_dir())
    if not kept:
        raise CompatError(
            "there is no committed baseline",
            where=str(baselines),
            meaning="The atlas is drawn from committed runs of the matrix.",
            todo="Restore reports/baseline from git, or keep a run there: compat keep RUN --name NAME",
        )
    stored = read_record(folder / RECORD)  # before the baselines are judged, which takes a while
    found = survey({path.name: judged(path, ledger) for path in kept})
    issues = lines(found, ledger, edges)
    record = next_record(found, issues, best(found), stored)
    return {
        "index.html": page.render(found, issues, record),
        "atlas.md": table.render(found, issues, record),
        RECORD: record_text(record),
    }
