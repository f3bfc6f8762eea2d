"""Reads one receipt with a trained adapter."""

import sys

from peft import PeftModel

from vlm.loader import load_model

model, processor = load_model("Qwen/Qwen2-VL-7B-Instruct")
model = PeftModel.from_pretrained(model, "out/receipts")
inputs = processor(text="Which total?", images=[sys.argv[1]], return_tensors="pt").to(model.device)
print(processor.batch_decode(model.generate(**inputs, max_new_tokens=64)))
