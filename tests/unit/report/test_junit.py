"""`junit.xml`: well-formed whatever a library says, and telling a CI system the same as the exit code."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import builders as b
from builders import FULL, INT8, LISTED, NF4, frozen, healthy, ran, summary_of
from finetune_compat.contract.records import Observation, Stage, Variant
from finetune_compat.report import junit
from hypothesis import given
from hypothesis import strategies as st

STACK = "trl0.22-py311"


def at(flow: str = "sft-peft-model", variant: Variant = NF4) -> Observation:
    """A healthy cell."""
    return healthy(flow, variant, stack=STACK, versions=b.on_trl("0.22.2"))


def parsed(*seen: Observation, lost: tuple[str, ...] = ()) -> ET.Element:
    """The file's one suite, with the flagship listed."""
    root = ET.fromstring(junit.render(summary_of([ran(*seen, lost=lost)], *seen, ledger=LISTED)))  # noqa: S314  # our own
    [suite] = root
    return suite


def case_of(suite: ET.Element, name: str) -> ET.Element:
    """The case called `name`."""
    [case] = [case for case in suite.iter("testcase") if case.get("name") == name]
    return case


def test_a_pass_is_a_case_and_nothing_else() -> None:
    """Suite and class are the stack, the name is the rest of the cell's id."""
    suite = parsed(at("sft-peft-config"))
    case = case_of(suite, "sft-peft-config[qwen2-nf4-gc]@cpu")
    assert (case.get("classname"), case.get("time"), list(case)) == (STACK, "0.500", [])
    assert suite.attrib == {
        "name": STACK,
        "tests": "1",
        "failures": "0",
        "errors": "0",
        "skipped": "0",
        "time": "0.500",
    }


def test_a_listed_deviation_is_skipped_as_pytest_skips_an_xfail() -> None:
    """The type is pytest's own, so that systems that know it show it as such."""
    [skipped] = case_of(parsed(frozen(at())), "sft-peft-model[qwen2-nf4-gc]@cpu")
    assert (skipped.tag, skipped.get("type")) == ("skipped", "pytest.xfail")
    assert (skipped.get("message") or "").startswith(
        "release bug: trl#3926: C104 0 trainable at trainer, expected 16,384"
    )


def test_a_failure_says_what_to_do() -> None:
    """Reason, chain and advice stand in the case itself."""
    [failure] = case_of(parsed(b.masked_labels(at("sft-full", FULL))), "sft-full[qwen2-full-gc]@cpu")
    assert failure.tag == "failure"
    assert failure.text == (
        "not listed: L501 80 of 80 rows have nothing to learn (every label is -100)\n"
        'to do: Look at next(iter(trainer.get_train_dataloader()))["labels"]: at the collator, the mask, the maximum '
        "length and the chat template."
    )


def test_an_exhausted_machine_is_an_error_and_no_failure() -> None:
    """Out of memory, and a cell that never came back."""
    lost = f"{STACK}/sft-full[qwen2-full-gc]@cpu"
    suite = parsed(b.out_of_memory(at("sft-peft-config")), lost=(lost,))
    assert [(child.tag, child.get("type")) for case in suite.iter("testcase") for child in case] == [
        ("error", "infrastructure"),
        ("error", "infrastructure"),
    ]
    assert (suite.get("errors"), suite.get("failures")) == ("2", "0")


def test_a_stack_that_cannot_be_installed_is_skipped_with_its_reason() -> None:
    """Neither passed nor failed, as in the exit code."""
    [suite] = ET.fromstring(junit.render(summary_of([b.uninstallable("trl0.4-py311", "no solution")])))  # noqa: S314
    [skipped] = case_of(suite, "environment")
    assert (skipped.tag, skipped.get("type"), skipped.get("message")) == ("skipped", "uninstallable", "no solution")
    assert (suite.get("tests"), suite.get("skipped")) == ("1", "1")


def test_a_suite_names_what_was_installed() -> None:
    """As properties."""
    properties = {item.get("name"): item.get("value") for item in parsed(at("sft-peft-config")).iter("property")}
    assert properties == {**b.on_trl("0.22.2"), "python": "3.11.7", "device": "Example CPU"}


def test_the_counts_of_a_suite_are_those_of_its_cases() -> None:
    """One of each."""
    seen = [at("sft-peft-config"), frozen(at()), at(variant=INT8), b.out_of_memory(at("sft-full", FULL))]
    suite = parsed(*seen)
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert suite.get(attribute) == str(len(list(suite.iter(tag)))) == "1"
    assert suite.get("tests") == "4"


@given(st.text())
def test_no_message_breaks_the_file(message: str) -> None:
    """Coloured, binary, full of markup: XML 1.0 cannot write all of it, and the file is still XML 1.0."""
    seen = b.failed(at("sft-peft-config"), "RuntimeError", message, Stage.TRAINER)
    # Some messages say that the machine gave out, which is an error.
    assert case_of(parsed(seen), "sft-peft-config[qwen2-nf4-gc]@cpu")[0].tag in ("failure", "error")


def test_what_xml_cannot_write_is_spelled_out() -> None:
    """An escape character is the four letters of its code, not nothing."""
    seen = b.failed(at("sft-peft-config"), "RuntimeError", "\x1b[31mred\x00\ufffe", Stage.TRAINER)
    [failure] = case_of(parsed(seen), "sft-peft-config[qwen2-nf4-gc]@cpu")
    assert r"\x1b[31mred\x00\xfffe" in (failure.text or "")
