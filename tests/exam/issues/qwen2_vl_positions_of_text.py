"""Two forward passes of Qwen2-VL on the same rows give the same loss."""

import inspect

import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

SIZES = {"hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "in_channels": 3}
START, IMAGE, VIDEO = 60, 61, 62
config = Qwen2VLConfig(
    vocab_size=64,
    num_key_value_heads=2,
    image_token_id=IMAGE,
    video_token_id=VIDEO,
    vision_start_token_id=START,
    vision_config=VISION,
    rope_scaling={"type": "mrope", "mrope_section": [4, 6, 6]},
    **SIZES,
)
torch.manual_seed(0)
model = Qwen2VLForConditionalGeneration(config).eval()
# One image of 4 by 4 patches: 2 by 2 tokens.
tokens = torch.tensor([[1, 2, START, IMAGE, IMAGE, IMAGE, IMAGE, 3, 4, 5]])
rows = {
    "input_ids": tokens,
    "attention_mask": torch.ones_like(tokens),
    "labels": tokens,
    "pixel_values": torch.randn(16, 3 * 2 * 14 * 14),
    "image_grid_thw": torch.tensor([[1, 4, 4]]),
}
if "mm_token_type_ids" in inspect.signature(model.forward).parameters:  # Transformers 5 wants it beside images
    rows["mm_token_type_ids"] = (tokens == IMAGE).long()
with torch.no_grad():
    first, second = (model(**rows).loss.item() for _ in range(2))
assert first == second, "from the second forward pass on, an image has the positions of text"
