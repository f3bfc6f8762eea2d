"""A flow as one script of its own, for an upstream issue: without this project, its recorder and its options."""

from __future__ import annotations

import ast
from pathlib import Path

from finetune_compat.cell import flows
from finetune_compat.contract.catalog import (
    BATCH_ROWS,
    LEARNING_RATE,
    MODELS,
    ROW_WORDS,
    STEPS,
    Flow,
    flow_named,
    lora_of,
)
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.options import Attention
from finetune_compat.contract.records import Precision, Variant

_TEMPLATE = '''"""{story}"""
import inspect
import json
import random
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, {family}Config, {family}ForCausalLM{more}
{trainer}
{note}OUT = Path("reproduction")
torch.manual_seed(0)
vocabulary = {{f"w{{i}}": i for i in range(125)}} | {{"<pad>": 125, "<eos>": 126, "<unk>": 127}}
core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
)
config = {family}Config(
    vocab_size={shape.vocab_size}, hidden_size={shape.hidden_size}, intermediate_size={shape.intermediate_size},
    num_hidden_layers={shape.num_hidden_layers}, num_attention_heads={shape.num_attention_heads},
    num_key_value_heads={shape.num_key_value_heads}, initializer_range=0.05,
)
{family}ForCausalLM(config).save_pretrained(OUT / "base")
pairs = [(start, stride) for start in range(20) for stride in range(1, 20)]
random.Random(0).shuffle(pairs)
texts = [" ".join(f"w{{(start + stride * i) % 20}}" for i in range({words})) for start, stride in pairs]


def known(target, **options):
    """The options that this release has; releases differ in their names."""
    names = inspect.signature(target).parameters
    return {{name: value for name, value in options.items() if name in names}}


def load_model():
    return {family}ForCausalLM.from_pretrained(
        OUT / "base", device_map={{"": 0 if torch.cuda.is_available() else "cpu"}}, torch_dtype={dtype},{quantization}
    )


def lora_config():
    return LoraConfig(
        r={lora.r}, lora_alpha={lora.alpha}, lora_dropout={lora.dropout}, task_type="CAUSAL_LM",
        target_modules={targets!r},
    )


def pretend_trained(model):
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)


def arguments():
    options = {{
        "output_dir": str(OUT / "run"), "max_steps": {steps}, "per_device_train_batch_size": {rows},
        "learning_rate": {rate}, "gradient_checkpointing": {checkpointing}, "bf16": {bf16}, "logging_steps": 1,
        "save_strategy": "no", "report_to": "none", "use_cpu": not torch.cuda.is_available(),
    }}
{arguments}

def show(stage, model):
    print(stage, "trainable:", sum(p.numel() for p in model.parameters() if p.requires_grad))


{body}
'''

_SFT = """    options |= {"dataset_text_field": "text", "max_length": 64, "max_seq_length": 64, "packing": False}
    train, held_out = (Dataset.from_dict({"text": some}) for some in (texts[:64], texts[64:80]))
    args = SFTConfig(**known(SFTConfig, **options))
    data = {"train_dataset": train, "eval_dataset": held_out}
    return {"args": args, **data, **known(SFTTrainer, processing_class=tokenizer, tokenizer=tokenizer)}
"""
_PLAIN = """    splits = (texts[:64], texts[64:80])
    rows = [Dataset.from_dict({"input_ids": tokenizer(some)["input_ids"]}) for some in splits]
    args = TrainingArguments(**known(TrainingArguments, **options, label_names=["labels"]))
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    return {"args": args, "train_dataset": rows[0], "eval_dataset": rows[1], "data_collator": collator}
"""
_FAMILIES = {"qwen2": "Qwen2", "llama": "Llama"}
_ON_A_GPU = """# Run it on a GPU: on a CPU, TRL takes other code paths for 4-bit weights.
"""


def reproduction(cell: str) -> str:
    """The script of a cell such as `sft-peft-model[qwen2-nf4-gc]`; empty for flows with rows or a loss of their own."""
    flow = flow_named(parse_cell(f"/{cell}").flow)
    variant = next(one for one in flow.variants if str(one) == parse_cell(f"/{cell}").variant)
    source = Path(flows.__path__[0], f"{flow.name.replace('-', '_')}.py").read_text(encoding="utf-8")
    plain = "plain.arguments(setup)" in source
    if variant.model not in _FAMILIES or not (plain or "sft.arguments(setup)" in source):
        return ""
    return _TEMPLATE.format(
        story=flow.story,
        family=_FAMILIES[variant.model],
        more=", DataCollatorForLanguageModeling, Trainer, TrainingArguments" if plain else "",
        trainer="" if plain else "from trl import SFTConfig, SFTTrainer\n",
        note=_ON_A_GPU if variant.precision.emulated else "",
        shape=MODELS[variant.model].shape,
        words=ROW_WORDS,
        dtype="torch.bfloat16" if variant.precision.bf16 else "torch.float32",
        quantization=_quantization(variant),
        **_training(flow, variant),
        arguments=_PLAIN if plain else _SFT,
        body=ast.unparse(_body(source, variant)),
    )


def _training(flow: Flow, variant: Variant) -> dict[str, object]:
    lora = lora_of(flow, variant.model)
    targets = list(lora.target_modules)
    return {
        "lora": lora,
        "targets": targets[0] if targets == ["all-linear"] else targets,
        "steps": STEPS,
        "rows": BATCH_ROWS,
        "rate": LEARNING_RATE[flow.subject],
        "checkpointing": variant.gradient_checkpointing,
        "bf16": variant.precision.bf16,
    }


def _quantization(variant: Variant) -> str:
    if not variant.precision.quantized:
        return ""
    how = "load_in_8bit=True" if variant.precision is Precision.INT8 else 'load_in_4bit=True, bnb_4bit_quant_type="nf4"'
    return f"\n        quantization_config=transformers.BitsAndBytesConfig({how}),"


def _body(source: str, variant: Variant) -> ast.Module:
    run = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "run")
    body: list[ast.stmt] = []
    for statement in run.body:
        body += _Plain(variant).statements(statement)
    return ast.fix_missing_locations(ast.Module(body, []))


class _Plain(ast.NodeTransformer):
    """Replaces the recorder and the setup of a flow by plain code."""

    def __init__(self, variant: Variant, stage: str = "") -> None:
        self.variant = variant
        self.stage = stage

    def statements(self, node: ast.stmt) -> list[ast.stmt]:
        """The plain statements of one statement of a flow."""
        match node:
            case ast.With(items=[ast.withitem(context_expr=ast.Call(args=[ast.Attribute(attr=stage)]))], body=body):
                inner = _Plain(self.variant, stage.lower().replace("_", "-"))
                return [plain for statement in body for plain in inner.statements(statement)]
            case ast.If(test=ast.Attribute(value=ast.Name(id="setup"), attr="quantized"), body=body):
                wanted = body if self.variant.precision.quantized else []
                return [plain for statement in wanted for plain in self.statements(statement)]
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="record"), attr="train"))):
                evaluate = 'print("eval loss:", trainer.evaluate()["eval_loss"])'
                return ast.parse(f"{evaluate}\ntrainer.train()\n{evaluate}").body
            case _:
                plain: ast.stmt = self.visit(node)
                return [plain]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node.func:
            case ast.Attribute(value=ast.Name(id="record"), attr="census"):
                return ast.Call(ast.Name("show"), [ast.Constant(self.stage), *node.args], [])
            case ast.Attribute(value=ast.Name(id="adapt" | "sft" | "plain"), attr=name):
                given = [one for one in node.args if not (isinstance(one, ast.Name) and one.id == "setup")]
                given = [one for one in given if not isinstance(one, ast.Constant)]
                return ast.Call(ast.Name(name), given, [])
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Attribute(value=ast.Name(id="setup"), attr="gradient_checkpointing"):
                return ast.Constant(self.variant.gradient_checkpointing)
            case ast.Attribute(value=ast.Name(id="setup"), attr="scratch"):
                return ast.Name("OUT")
            case ast.Attribute(value=ast.Name(id="setup"), attr="attention"):
                return ast.Constant(Attention.SDPA.value)
            case ast.Attribute(value=ast.Name(id="setup"), attr="seed"):
                return ast.Constant(0)
        return node
