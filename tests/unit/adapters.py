"""Saved adapters written by hand, intact and broken. Values are small, distinct and nonzero."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from finetune_compat.inspect.loading import Loading
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[np.float32]

PREFIX = "base_model.model."
LAYER = "model.layers.{}.self_attn.{}"
WIDTH, RANK, LAYERS = 6, 2, 2
TARGETS = ("q_proj", "v_proj")

CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "tiny/qwen2",
    "inference_mode": False,
    "r": RANK,
    "lora_alpha": 2 * RANK,
    "target_modules": list(TARGETS),
    "bias": "none",
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "use_rslora": False,
    "use_dora": False,
}
"""What save_pretrained writes for a small LoRA, without inference_mode."""


def values(*shape: int, seed: int = 1) -> Array:
    """Return distinct nonzero numbers."""
    size = int(np.prod(shape))
    return (np.arange(1, size + 1, dtype=np.float32) / 8 + seed).reshape(shape)


def modules(targets: tuple[str, ...] = TARGETS, layers: int = LAYERS) -> list[str]:
    """Return the adapted modules of the base model."""
    return [LAYER.format(layer, target) for layer in range(layers) for target in targets]


Q0, V0, Q1, V1 = modules()


def update(module: str, seed: int = 1, rank: int = RANK) -> dict[str, Array]:
    """Return the two LoRA factors of a linear layer."""
    return {
        f"{PREFIX}{module}.lora_A.weight": values(rank, WIDTH, seed=seed),
        f"{PREFIX}{module}.lora_B.weight": values(WIDTH, rank, seed=-seed),
    }


def tensors() -> dict[str, Array]:
    """Return a trained adapter of four modules."""
    return {name: array for i, module in enumerate(modules(), 1) for name, array in update(module, i).items()}


def write(directory: Path, arrays: Mapping[str, NDArray[Any]] | None = None, **config: Any) -> Path:
    """Save an adapter in `directory`: the healthy one, or one with the given tensors or configuration."""
    directory.mkdir(exist_ok=True)
    (directory / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    save_file(dict(tensors() if arrays is None else arrays), directory / "adapter_model.safetensors", {"format": "pt"})
    return directory


def raw(path: Path, entries: list[tuple[str, str, list[int], bytes]]) -> Path:
    """Write a safetensors file of any dtype byte by byte: name, dtype, shape and bytes of each tensor."""
    parts, end = [], 0
    for name, dtype, shape, data in entries:
        begin, end = end, end + len(data)
        entry = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        parts.append(f"{json.dumps(name)}: {json.dumps(entry)}")
    header = ("{" + ", ".join(parts) + "}").encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"".join(data for *_, data in entries))
    return path


A0 = f"{PREFIX}{Q0}.lora_A.weight"


LOADS = Loading(
    stack="trl1.16-py311",
    versions={"peft": "0.21.2", "transformers": "5.20.0", "torch": "2.13.0"},
    base="Qwen2ForCausalLM",
    tied=False,
    error="",
    fitting=8,
    missing=(),
    unexpected=(),
    mismatched=(),
    untold="",
    unknown_options=(),
)


def broken() -> Path:
    """An adapter that was never trained, with a NaN in its head."""
    arrays: dict[str, Any] = {k: np.zeros_like(v) if "lora_B" in k else v for k, v in tensors().items()}
    arrays[f"{PREFIX}score.weight"] = np.array([[3, np.nan]], dtype=np.float16)
    return write(Path("adapter"), arrays, modules_to_save=["score"], peft_version="0.21.2")


CARD = """\
# out

```python
# - TRL: 9.9.9 is no line of the card
```

### Framework versions

- PEFT {peft}
- TRL: {trl}
- Transformers: 4.56.0
- Pytorch: 2.8.0+cu128
"""


def logged(directory: Path, norms: list[float], losses: list[float] | None = None, **more: float) -> None:
    """Write a trainer's log with one entry for every tenth step."""
    directory.mkdir(exist_ok=True)
    given = losses or [2.0 - 0.1 * place for place in range(len(norms))]
    entries = [
        {"step": 10 * place, "loss": loss, "grad_norm": norm, **more}
        for place, (norm, loss) in enumerate(zip(norms, given, strict=True), 1)
    ]
    state = {"global_step": 10 * len(norms), "log_history": [*entries, {"step": 10 * len(norms), "train_runtime": 3.0}]}
    (directory / "trainer_state.json").write_text(json.dumps(state))


def card(directory: Path, trl: str = "0.22.2", peft: str = "0.17.1") -> None:
    """Write the model card."""
    (directory / "README.md").write_text(CARD.format(trl=trl, peft=peft))
