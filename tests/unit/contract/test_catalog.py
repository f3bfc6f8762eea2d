"""The catalog: flows and what their users are entitled to."""

from __future__ import annotations

from pathlib import Path

import finetune_compat
import pytest
from finetune_compat.contract.catalog import (
    CATALOG,
    DEEP_CELLS,
    LORA,
    MODELS,
    Expect,
    Extra,
    Flow,
    Head,
    Method,
    cells_on,
    cells_with,
    flow_named,
    lora_of,
)
from finetune_compat.contract.errors import UnknownName
from finetune_compat.contract.records import DeviceKind, Precision, Stage


def test_a_cpu_runs_every_cell_and_a_gpu_all_but_plain_placement() -> None:
    """Cells with 4-bit weights placed openly on the CPU have no counterpart on a GPU."""
    every = [(flow, variant) for flow in CATALOG for variant in flow.variants]
    plain = [cell for cell in every if cell[1].precision is Precision.NF4_PLAIN]
    assert plain
    assert list(cells_on(DeviceKind.CPU)) == every
    assert list(cells_on(DeviceKind.CUDA)) == [cell for cell in every if cell not in plain]


def test_real_weights_go_through_every_flow_in_the_variants_of_the_tiny_qwen2() -> None:
    """They have their own model name; plain placement only on a CPU, no variant that only another model has, no head
    that the weights do not have, and no adapters of another size.
    """
    for device in DeviceKind:
        cells = cells_with("Qwen2.5-7B", device)
        own = [(flow, variant) for flow, variant in cells_on(device) if _has_given_sizes(flow)]
        tiny = [(f.name, v.precision, v.gradient_checkpointing) for f, v in own if v.model == "qwen2"]
        assert [(f.name, v.precision, v.gradient_checkpointing) for f, v in cells] == tiny
        assert {v.model for _, v in cells} == {"Qwen2.5-7B"}
        assert {f.name for f, _ in cells} == {f.name for f in CATALOG if _has_given_sizes(f)}
        assert any(v.precision is Precision.NF4_PLAIN for _, v in cells) is (device is DeviceKind.CPU)


def _has_given_sizes(flow: Flow) -> bool:
    return flow.head is Head.TOKENS and flow.extra is Extra.NOTHING and flow.method is Method.LORA


def test_lora_is_the_flows_own_or_that_of_the_model() -> None:
    """Real weights use the configuration of text models."""
    assert lora_of(flow_named("sft-all-linear"), "qwen2") is flow_named("sft-all-linear").lora
    assert lora_of(flow_named("sft-peft-model"), "qwen2-vl+vision") is MODELS["qwen2-vl+vision"].lora
    assert lora_of(flow_named("sft-peft-model"), "Qwen2.5-7B") is LORA


def test_every_cell_is_unique() -> None:
    """Flow and variant identify a cell."""
    cells = [(flow.name, str(variant)) for flow, variant in cells_on(DeviceKind.CPU)]
    assert len(set(cells)) == len(cells)


@pytest.mark.parametrize("flow", CATALOG, ids=lambda flow: flow.name)
def test_every_flow_has_its_file(flow: Flow) -> None:
    """`module` names a file of the cell side; it is looked up without an import, which would import the stack."""
    assert (Path(finetune_compat.__file__).parent.parent / f"{flow.module.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("flow", CATALOG, ids=lambda flow: flow.name)
def test_every_flow_has_an_entitlement_at_load_and_trainer(flow: Flow) -> None:
    """A flow whose trainer stage is not judged could freeze everything unnoticed."""
    assert flow.expects[Stage.TRAINER] in (Expect.ADAPTER, Expect.EVERYTHING)
    assert Stage.LOAD in flow.expects
    assert all(variant.model in MODELS for variant in flow.variants)


def test_only_a_flow_that_is_wrong_may_be_refused() -> None:
    """The documented ways have to work."""
    assert [flow.name for flow in CATALOG if flow.correct and flow.refusal] == []


def test_an_unknown_flow_is_one_message_that_lists_the_known_ones() -> None:
    """This happens with a results file of a newer harness or a misspelt name."""
    with pytest.raises(UnknownName) as raised:
        flow_named("sft-peft-modle")
    assert str(raised.value) == (
        "there is no flow 'sft-peft-modle'\n"
        "A results file of a newer harness, or a misspelt name.\n"
        f"The flows are: {', '.join(flow.name for flow in CATALOG)}."
    )


def test_the_deep_tier_selects_cells_of_the_catalog() -> None:
    """Each of its flows has the variant, once."""
    cells = {(flow.name, variant) for flow in CATALOG for variant in flow.variants}
    assert set(DEEP_CELLS) <= cells and len(set(DEEP_CELLS)) == len(DEEP_CELLS)


def test_the_deep_tier_covers_both_field_notes_and_each_kind_of_model() -> None:
    """It covers N1 and N4, with and without TRL and PEFT, and the models Qwen2, Llama and a vision-language model."""
    flows, models = {flow for flow, _ in DEEP_CELLS}, {variant.model for _, variant in DEEP_CELLS}
    assert flows >= {"sft-peft-config", "sft-peft-model", "sft-all-linear", "trainer-peft-model", "sft-full"}
    assert models == {"qwen2", "llama", "qwen2-vl"}
