"""Which package cannot be installed, read from what uv prints, and what its absence could hide."""

from __future__ import annotations

import pytest
from finetune_compat.gate.left_out import Obstacle, left_out, obstacle
from packaging.requirements import Requirement

TORCH = "2.13.0"
CLOSING = "we can conclude that your requirements are unsatisfiable."
NO_SOLUTION = "error: No solution found when resolving dependencies\n  cause: Because "
HYDRA = f"""{NO_SOLUTION}antlr4-python3-runtime>=4.9,<=4.9.3 has no usable wheels and only the following versions of \
antlr4-python3-runtime are available:
             antlr4-python3-runtime<4.9.dev0
             antlr4-python3-runtime>=4.9,<=4.9.3
         we can conclude that antlr4-python3-runtime==4.9.* cannot be used.
         And because hydra-core==1.3.2 depends on antlr4-python3-runtime==4.9.* and you require hydra-core==1.3.2, \
{CLOSING}

hint: Wheels are required for `antlr4-python3-runtime` because building from source is disabled
"""
VLLM = f"""{NO_SOLUTION}vllm==0.10.0 depends on torch==2.7.1 and you require torch==2.13.0, we can conclude that your \
requirements and vllm==0.10.0 are incompatible.
         And because you require vllm==0.10.0, {CLOSING}"""
FOUND = {
    "flash-attn==2.7.4": (
        f"{NO_SOLUTION}flash-attn==2.7.4 has no usable wheels and you require flash-attn==2.7.4, {CLOSING}",
        Obstacle("flash-attn", "it has no wheel", "flash-attn==2.7.4"),
    ),
    "hydra-core==1.3.2": (
        HYDRA,
        Obstacle(
            "hydra-core",
            "antlr4-python3-runtime, which it needs, has no wheel",
            "antlr4-python3-runtime==4.9.*",
        ),
    ),
    "acme==1": (
        f"{NO_SOLUTION}acme was not found in the package registry and you require acme==1, {CLOSING}",
        Obstacle("acme", "the index has no such package"),
    ),
    "wandb==0.1.0.1": (
        f"{NO_SOLUTION}there is no version of wandb==0.1.0.1 and you require wandb==0.1.0.1, {CLOSING}",
        Obstacle("wandb", "the index has no such release"),
    ),
    "vllm==0.10.0": (VLLM, Obstacle("vllm", "it needs torch==2.7.1, and torch 2.13.0 runs here")),
}


@pytest.mark.parametrize("package", FOUND)
def test_what_uv_says_of_a_package_of_the_project(package: str) -> None:
    """The texts are those of uv 0.13."""
    reason, expected = FOUND[package]
    assert obstacle(reason, [Requirement("rich"), Requirement(package)], TORCH) == expected


@pytest.mark.parametrize("package", FOUND)
def test_what_the_project_does_not_name_is_never_left_out(package: str) -> None:
    """Least of all the training stack itself."""
    assert obstacle(FOUND[package][0], [Requirement("rich")], TORCH) is None


def test_versions_that_do_not_go_together_are_an_answer() -> None:
    """To leave one of them out would hide it."""
    reason = (
        f"{NO_SOLUTION}unsloth==2025.8 depends on trl<0.20 and you require trl==1.16.0, {CLOSING}\n"
        "         And because you require unsloth==2025.8"
    )
    assert obstacle(reason, [Requirement("unsloth==2025.8")], TORCH) is None


def test_the_note_says_what_could_be_hidden() -> None:
    """What it is known for, else in general."""
    assert left_out("deepspeed==0.17", "it has no wheel") == (
        "deepspeed==0.17: left out, it has no wheel; training runs without ZeRO: faults of sharded weights, optimizers "
        "and checkpoints are not seen"
    )
    for spelled in ("acme", "acme>=1,<2", "acme[x]==1", "acme @ https://x.org/acme.zip"):
        assert left_out(spelled, "why") == (
            f"{spelled}: left out, why; a fault that needs it is not seen, and a script that imports it fails on both "
            "sides"
        )
