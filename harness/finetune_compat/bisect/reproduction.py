"""A flow as one script of its own, for an upstream issue: without this project, its recorder and its options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from finetune_compat.bisect.reproduction_rows import ROWS, Rows
from finetune_compat.cell import flows
from finetune_compat.contract import catalog
from finetune_compat.contract.catalog import (
    BATCH_ROWS,
    LEARNING_RATE,
    MODELS,
    ROW_WORDS,
    STEPS,
    Flow,
    Head,
    flow_named,
    lora_of,
)
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.options import Attention
from finetune_compat.contract.records import Precision, Variant

_TEMPLATE = '''OUT = Path("reproduction")
rate = {rate}
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
    num_key_value_heads={shape.num_key_value_heads}, initializer_range=0.05, pad_token_id=125, eos_token_id=126,{labels}
)
{loader}(config).save_pretrained(OUT / "base")
pairs = [(start, stride) for start in range(20) for stride in range(1, 20)]
random.Random(0).shuffle(pairs)
texts = [" ".join(f"w{{(start + stride * i) % 20}}" for i in range({words})) for start, stride in pairs]
{constants}

def known(target, **options):
    """The options that this release has; releases differ in their names."""
    names = set()
    for kind in target.__mro__:
        found = inspect.signature(kind.__init__).parameters
        names |= set(found)
        if "kwargs" not in found:  # otherwise they are passed to the next class
            break
    return {{name: value for name, value in options.items() if name in names}}


def load_model():
    return {loader}.from_pretrained(
        OUT / "base",
        device_map={{"": 0 if torch.cuda.is_available() else "cpu"}},
        torch_dtype={dtype},{quantization}
    )


def training_options():
    return {{
        "output_dir": str(OUT / "run"), "max_steps": {steps}, "per_device_train_batch_size": {rows},
        "learning_rate": rate, "gradient_checkpointing": {checkpointing}, "bf16": {bf16}, "logging_steps": 1,
        "save_strategy": "no", "report_to": "none", "use_cpu": not torch.cuda.is_available(), "seed": 0,
        "disable_tqdm": True,
    }}

{arguments}

def show(stage, model):
    print(stage, "trainable:", sum(p.numel() for p in model.parameters() if p.requires_grad))


{body}
'''

_HELPERS = {
    "pretend_trained": """
def pretend_trained(model):
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
""",
    "configured": """
def configured(kind, options):
    return kind(**known(kind, **options))
""",
    "lora_config": """
def lora_config():
    return LoraConfig(**lora_options())
""",
    "lora_options": """
def lora_options():
    return {{
        "r": {lora.r}, "lora_alpha": {lora.alpha}, "lora_dropout": {lora.dropout}, "task_type": "{task}",{saved}
        "target_modules": {targets!r},
    }}
""",
}
"""Functions that only some flows need, each before those that it needs."""

_HOMES = {
    "Dataset": "datasets",
    "LoraConfig": "peft",
    **dict.fromkeys(("Tokenizer", "models", "pre_tokenizers"), "tokenizers"),
    **dict.fromkeys(("DataCollatorForLanguageModeling", "DataCollatorForSeq2Seq", "TrainingArguments"), "transformers"),
}
"""Modules of names that scripts use, and that no flow imports."""

_FAMILIES = {"qwen2": "Qwen2", "llama": "Llama"}
_ON_A_GPU = "# Run it on a GPU: on a CPU, TRL takes other code paths for 4-bit weights.\n"


def reproduction(cell: str) -> str:
    """The script of a cell such as `sft-peft-model[qwen2-nf4-gc]`; empty for models with pictures."""
    flow = flow_named(parse_cell(f"/{cell}").flow)
    variant = next(one for one in flow.variants if str(one) == parse_cell(f"/{cell}").variant)
    if variant.model not in _FAMILIES:
        return ""
    source = ast.parse(Path(flows.__path__[0], f"{flow.name.replace('-', '_')}.py").read_text(encoding="utf-8"))
    rows = _rows(source)
    values = _values(flow, variant)
    constants = [ast.unparse(node) for node in source.body if _is_constant(node)]
    script = _TEMPLATE.format(
        **values,
        constants="".join(f"{line}\n" for line in constants),
        arguments=rows.arguments,
        body=ast.unparse(_body(source, flow, variant, rows)),
    )
    for name, text in _HELPERS.items():
        if re.search(rf"\b{name}\(", script):
            script = script.replace("\n\ndef training_options", f"\n{text.format(**values)}\n\ndef training_options")
    note = _ON_A_GPU if variant.precision.emulated else ""
    return f'"""{flow.story}"""\n{_imports(source, script, rows)}\n{note}{script}'


def _rows(source: ast.Module) -> Rows:
    calls = {ast.unparse(node.func) for node in ast.walk(source) if isinstance(node, ast.Call)}
    return next(rows for name, rows in ROWS.items() if name in calls)


def _is_constant(node: ast.stmt) -> bool:
    """Whether a statement of a flow's module is a constant that `run` uses."""
    return isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call)


def _values(flow: Flow, variant: Variant) -> dict[str, object]:
    """What the texts of a script are formatted with."""
    lora = lora_of(flow, variant.model)
    targets = list(lora.target_modules)
    scored = flow.head is Head.SCORE
    family = _FAMILIES[variant.model]
    return {
        "family": family,
        "loader": f"{family}For{'SequenceClassification' if scored else 'CausalLM'}",
        "labels": " num_labels=1," if scored else "",
        "shape": MODELS[variant.model].shape,
        "words": ROW_WORDS,
        "dtype": _dtype(variant),
        "quantization": _quantization(variant),
        "lora": lora,
        "task": "SEQ_CLS" if scored else "CAUSAL_LM",
        "saved": ' "modules_to_save": ["score"],' if scored else "",
        "targets": targets[0] if targets == ["all-linear"] else targets,
        "steps": STEPS,
        "rows": BATCH_ROWS,
        "rate": LEARNING_RATE[flow.subject],
        "checkpointing": variant.gradient_checkpointing,
        "bf16": variant.precision.bf16,
    }


def _dtype(variant: Variant) -> str:
    return "torch.bfloat16" if variant.precision.bf16 else "torch.float32"


def _quantization(variant: Variant) -> str:
    if not variant.precision.quantized:
        return ""
    four = f'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype={_dtype(variant)}'
    how = "load_in_8bit=True" if variant.precision is Precision.INT8 else four
    return f"\n        quantization_config=transformers.BitsAndBytesConfig(\n            {how}\n        ),"


# ------------------------------------------------------------------------------------------------ import statements


def _imports(source: ast.Module, script: str, rows: Rows) -> str:
    """The import statements of all names that `script` uses."""
    used = {node.id for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Name)}
    homes = {**_HOMES, **dict(_homes(source, used))}
    homes = {name: homes[name] for name in sorted(used & set(homes))}
    lines = [f"import {name}" for name in ("inspect", "json", "random") if name in used]
    lines += ["from pathlib import Path", "", "import torch", "import transformers"]
    for module in sorted(set(homes.values())):
        names = ", ".join(name for name in homes if homes[name] == module)
        lines.append(f"from {module} import {names}")
    return "\n".join(lines) + "\n" + rows.trainer


def _homes(source: ast.Module, used: set[str]) -> Iterator[tuple[str, str]]:
    """Names with their modules: those that the flow imports of libraries, models, and configurations of its trainer."""
    for node in source.body:
        if isinstance(node, ast.ImportFrom) and node.module in ("peft", "transformers", "trl"):
            for alias in node.names:
                yield alias.name, node.module
                if node.module == "trl":
                    yield alias.name.replace("Trainer", "Config"), node.module
    yield from ((name, "transformers") for name in used if name.startswith(tuple(_FAMILIES.values())))


# ---------------------------------------------------------------------------------------------------------------- body


def _body(source: ast.Module, flow: Flow, variant: Variant, rows: Rows) -> ast.Module:
    run = next(node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    plain = _Plain(flow, variant, rows)
    body = [statement for node in run.body for statement in plain.statements(node)]
    return ast.fix_missing_locations(ast.Module(body, []))


_GIVEN = ("setup", "scored")
"""Names of a flow's variables that a script does not have."""

_MODULES = ("adapt", *{name.partition(".")[0] for name in ROWS})
"""Modules of the cell side whose functions a script has itself."""


def _root(node: ast.expr) -> str:
    """The variable of an expression such as `setup.lora`; empty for others."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


class _Plain(ast.NodeTransformer):
    """Replaces the recorder and the setup of a flow by plain code."""

    def __init__(self, flow: Flow, variant: Variant, rows: Rows, stage: str = "") -> None:
        self.flow = flow
        self.variant = variant
        self.rows = rows
        self.stage = stage

    def statements(self, node: ast.stmt) -> list[ast.stmt]:
        """The plain statements of one statement of a flow."""
        match node:
            case ast.With(items=[ast.withitem(context_expr=ast.Call(args=[ast.Attribute(attr=stage)]))], body=body):
                inner = _Plain(self.flow, self.variant, self.rows, stage.lower().replace("_", "-"))
                return [plain for statement in body for plain in inner.statements(statement)]
            case ast.If(test=ast.Attribute(value=ast.Name(id="setup"), attr="quantized"), body=body):
                wanted = body if self.variant.precision.quantized else []
                return [plain for statement in wanted for plain in self.statements(statement)]
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="record"), attr="train"))):
                evaluate = 'print("eval loss:", trainer.evaluate()["eval_loss"])\n' if self.rows.evaluated else ""
                return ast.parse(f"{evaluate}trainer.train()\n{evaluate}").body
            case ast.Assign(
                targets=[ast.Name(id="setup")], value=ast.Call(keywords=[ast.keyword("learning_rate", to)])
            ):
                return [ast.Assign([ast.Name("rate", ast.Store())], self.visit(to))]
            case ast.Assign(targets=[ast.Name(id="scored")]):
                return []
            case _:
                plain: ast.stmt = self.visit(node)
                return [plain]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node.func:
            case ast.Attribute(value=ast.Name(id="record"), attr="census"):
                name, first = "show", [ast.Constant(self.stage)]
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in _MODULES:
                name, first = "arguments" if name.startswith("arguments") else name, []
                node.args = [each for each in node.args if _root(each) not in _GIVEN]
            case _:
                self.generic_visit(node)
                return node
        return ast.Call(ast.Name(name), [*first, *(self.visit(each) for each in node.args)], [])

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        lora = lora_of(self.flow, self.variant.model)
        match node:
            case ast.Attribute(value=ast.Name(id="setup"), attr="gradient_checkpointing"):
                return ast.Constant(self.variant.gradient_checkpointing)
            case ast.Attribute(value=ast.Name(id="setup"), attr="scratch"):
                return ast.Name("OUT")
            case ast.Attribute(value=ast.Name(id="setup"), attr="attention"):
                return ast.Constant(Attention.SDPA.value)
            case ast.Attribute(value=ast.Name(id="setup"), attr="seed"):
                return ast.Constant(0)
            case ast.Attribute(value=ast.Name(id="setup"), attr="steps"):
                return ast.Constant(STEPS)
            case ast.Attribute(value=ast.Name(id="setup"), attr="learning_rate"):
                return ast.Name("rate")
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="setup"), attr="lora"), attr=part):
                value: ast.expr = ast.parse(repr(getattr(lora, part)), mode="eval").body
                return value
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Constants of the catalog by value."""
        if node.id.isupper() and hasattr(catalog, node.id):
            value: ast.expr = ast.parse(repr(getattr(catalog, node.id)), mode="eval").body
            return value
        return node
