"""The proofs: one for each signature of the ledger, and the cell that it names is listed for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from finetune_compat.affected.proofs import read_proofs
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.windows_measured import read_windows
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.evidence.proofs import proofs, script_proofs
from finetune_compat.machine.places import places
from finetune_compat.stacks.matrix import read_matrix

LEDGER, PROOFS = load_ledger(), read_proofs()


def test_every_way_has_one() -> None:
    """A signature without a measured cell, or a script without a measured edge, would be a belief."""
    wanted = [(issue.id, place) for issue in LEDGER.issues for place in range(len(issue.ways))]
    assert sorted((proof.issue, proof.shows) for proof in PROOFS) == sorted(wanted)


def test_its_cell_is_of_a_flow_that_the_signature_names() -> None:
    """On a stack of the matrix, and the command runs it."""
    issues = {issue.id: issue for issue in LEDGER.issues}
    stacks = {stack.name for stack in read_matrix().stacks}
    for proof in PROOFS:
        if not proof.baseline:
            continue  # of a script: the next test
        cell, shown = parse_cell(proof.cell), issues[proof.issue].shows[proof.shows]
        assert cell.flow in shown.flows
        stack = proof.cell.partition("-py")[0]
        assert stack in stacks
        assert proof.command.startswith(f"compat run {stack} --flows {cell.flow} --variants {cell.variant} ")
        assert (places().baselines / proof.baseline).is_dir()


def test_the_proof_of_a_script_is_its_newest_measurement() -> None:
    """The file says what the measured edges say, and the command measures them again."""
    scripts = {(proof.issue, proof.shows): proof for proof in PROOFS if not proof.baseline}
    assert script_proofs(LEDGER, read_windows()) == scripts
    assert all(proof.command == f"compat windows '{proof.issue}'" for proof in scripts.values())


def test_a_script_without_a_measured_edge_has_no_proof() -> None:
    edges = [replace(edge, holds=False) for edge in read_windows()]
    assert script_proofs(LEDGER, edges) == {}


def test_a_run_without_deviations_proves_nothing(tmp_path: Path) -> None:
    """There is no observation in it."""
    (tmp_path / "observations.jsonl").write_text("")
    assert proofs(LEDGER, [tmp_path]) == {}
