"""The table of flows and of what their users are entitled to."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from harness.catalog import CATALOG, MODELS, Expect, cells_on, flow_named
from harness.errors import UnknownName
from harness.records import DeviceKind, Precision, Stage


def test_a_cpu_runs_every_cell_and_a_gpu_all_but_plain_placement() -> None:
    """111 cells on a CPU; the 8 that place 4-bit weights openly on the CPU have no counterpart on a GPU."""
    assert len(cells_on(DeviceKind.CPU)) == 111
    assert len(cells_on(DeviceKind.CUDA)) == 103
    assert not [variant for _, variant in cells_on(DeviceKind.CUDA) if variant.precision is Precision.NF4_PLAIN]


def test_no_cell_is_there_twice() -> None:
    """Flow and variant name a cell."""
    cells = [(flow.name, str(variant)) for flow, variant in cells_on(DeviceKind.CPU)]
    assert len(set(cells)) == len(cells)


@pytest.mark.parametrize("flow", CATALOG, ids=lambda flow: flow.name)
def test_every_flow_has_its_file(flow: harness.catalog.Flow) -> None:
    """`module` leads to a file of the cell side; looked for, not imported, which would import the stack."""
    assert (Path(harness.__file__).parent.parent / f"{flow.module.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("flow", CATALOG, ids=lambda flow: flow.name)
def test_every_flow_promises_something_at_load_and_at_the_trainer(flow: harness.catalog.Flow) -> None:
    """A flow whose trainer stage is not judged could freeze everything unseen."""
    assert flow.expects[Stage.TRAINER] in (Expect.ADAPTER, Expect.EVERYTHING)
    assert Stage.LOAD in flow.expects
    assert all(variant.model in MODELS for variant in flow.variants)


def test_only_a_flow_that_is_wrong_may_be_refused() -> None:
    """The documented ways of doing it have to work."""
    assert [flow.name for flow in CATALOG if flow.correct and flow.refusal] == []


def test_an_unknown_flow_is_one_message_that_lists_the_known_ones() -> None:
    """A results file of a newer harness, or a misspelt name."""
    with pytest.raises(UnknownName) as raised:
        flow_named("sft-peft-modle")
    assert str(raised.value) == (
        "there is no flow 'sft-peft-modle'\n"
        "A results file of a newer harness, or a misspelt name.\n"
        "The flows are: sft-peft-config, sft-peft-model, sft-peft-model-unprepared, sft-peft-model-and-config, "
        "sft-inference-mode-config, sft-adapter-reload-frozen, sft-adapter-reload-trainable, "
        "sft-adapter-reload-edited, sft-all-linear, rft-all-linear, rft-labels-masked, sft-full, trainer-peft-model."
    )
