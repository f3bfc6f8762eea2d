"""`junit.xml`: it is well-formed for any message, and agrees with the exit code."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import builders as b
from builders import FULL, INT8, LISTED, NF4, frozen, healthy, ran, summary_of
from finetune_compat.contract.records import Observation, Stage, Variant
from finetune_compat.report import junit
from hypothesis import given
from hypothesis import strategies as st
from report_builders import STACK


def at(flow: str = "sft-peft-model", variant: Variant = NF4) -> Observation:
    """Make a healthy cell."""
    return healthy(flow, variant, stack=STACK, versions=b.on_trl("0.22.2"))


def parsed(*seen: Observation, lost: tuple[str, ...] = ()) -> ET.Element:
    """Return the only suite of the file, with trl#3926 listed."""
    root = ET.fromstring(junit.render(summary_of([ran(*seen, lost=lost)], *seen, ledger=LISTED)))  # noqa: S314  # our own
    [suite] = root
    return suite


def case_of(suite: ET.Element, name: str) -> ET.Element:
    """Return the case named `name`."""
    [case] = [case for case in suite.iter("testcase") if case.get("name") == name]
    return case


def test_a_pass_is_a_case_and_nothing_else() -> None:
    """Suite and class are the stack; the name is the rest of the cell's id."""
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
    """The type is pytest's, so that CI systems show it as an xfail."""
    [skipped] = case_of(parsed(frozen(at())), "sft-peft-model[qwen2-nf4-gc]@cpu")
    assert (skipped.tag, skipped.get("type")) == ("skipped", "pytest.xfail")
    assert (skipped.get("message") or "").startswith(
        "release bug: trl#3926: C104 0 trainable at trainer, expected 16,384"
    )


def test_a_failure_has_advice() -> None:
    """The case has reason, chain and advice."""
    [failure] = case_of(parsed(b.masked_labels(at("sft-full", FULL))), "sft-full[qwen2-full-gc]@cpu")
    assert failure.tag == "failure"
    assert failure.text == (
        "not listed: L501 80 of 80 rows have nothing to learn (every label is -100)\n"
        'to do: Look at next(iter(trainer.get_train_dataloader()))["labels"]: at the collator, the mask, the maximum '
        "length and the chat template."
    )


def test_an_exhausted_machine_is_an_error_and_no_failure() -> None:
    """Examples are an exhausted machine and a cell that never finished."""
    lost = f"{STACK}/sft-full[qwen2-full-gc]@cpu"
    suite = parsed(b.out_of_memory(at("sft-peft-config")), lost=(lost,))
    assert [(child.tag, child.get("type")) for case in suite.iter("testcase") for child in case] == [
        ("error", "infrastructure"),
        ("error", "infrastructure"),
    ]
    assert (suite.get("errors"), suite.get("failures")) == ("2", "0")


def test_a_stack_that_cannot_be_installed_is_skipped_with_its_reason() -> None:
    """It is neither passed nor failed, as in the exit code."""
    [suite] = ET.fromstring(junit.render(summary_of([b.uninstallable("trl0.4-py311", "no solution")])))  # noqa: S314
    [skipped] = case_of(suite, "environment")
    assert (skipped.tag, skipped.get("type"), skipped.get("message")) == ("skipped", "uninstallable", "no solution")
    assert (suite.get("tests"), suite.get("skipped")) == ("1", "1")


def test_a_suite_names_what_was_installed() -> None:
    """They are properties."""
    properties = {item.get("name"): item.get("value") for item in parsed(at("sft-peft-config")).iter("property")}
    assert properties == {**b.on_trl("0.22.2"), "python": "3.11.7", "device": "Example CPU"}


def test_the_counts_of_a_suite_are_those_of_its_cases() -> None:
    """There is one case of each kind."""
    seen = [at("sft-peft-config"), frozen(at()), at(variant=INT8), b.out_of_memory(at("sft-full", FULL))]
    suite = parsed(*seen)
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert suite.get(attribute) == str(len(list(suite.iter(tag)))) == "1"
    assert suite.get("tests") == "4"


@given(st.text())
def test_no_message_breaks_the_file(message: str) -> None:
    """XML 1.0 cannot hold colours, binary data and some markup; the file is XML 1.0 for all of them."""
    seen = b.failed(at("sft-peft-config"), "RuntimeError", message, Stage.TRAINER)
    # Some messages mean that the machine is exhausted, which is an error.
    assert case_of(parsed(seen), "sft-peft-config[qwen2-nf4-gc]@cpu")[0].tag in ("failure", "error")


def test_characters_that_xml_lacks_are_escaped() -> None:
    """An escape character becomes the text of its code."""
    seen = b.failed(at("sft-peft-config"), "RuntimeError", "\x1b[31mred\x00\ufffe", Stage.TRAINER)
    [failure] = case_of(parsed(seen), "sft-peft-config[qwen2-nf4-gc]@cpu")
    assert r"\x1b[31mred\x00\ufffe" in (failure.text or "")
