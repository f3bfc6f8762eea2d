"""Names of functions and classes of libraries, as their packages export them."""

from __future__ import annotations


def canonical(name: str) -> str:
    """`trl.trainer.sft_trainer.SFTTrainer` as `trl.SFTTrainer`; a method keeps its class."""
    package, _, rest = name.partition(".")
    parts = rest.split(".") if rest else []
    classes = [place for place, part in enumerate(parts) if part[:1].isupper()]
    kept = parts[classes[0] :] if classes else parts[-1:]
    return ".".join((package, *kept))
