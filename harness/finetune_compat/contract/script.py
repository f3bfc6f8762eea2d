"""The record of a user's script: the contract between the process that runs the script and the host.

Each trainer of a script has an `Observation`, like a cell of the matrix, so comparison and report are shared. `Run` and
`Pipeline` add what only scripts have. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from finetune_compat.contract.records import Census, DeviceRecord, Failure, Observation, StackRecord, standard

PIPELINE_SCHEMA = 1
"""Version of the record's schema. It increases when a field changes its meaning or is removed."""

REQUEST = "COMPAT_WATCH"
"""Environment variable with the path of the request. A process that has it is watched."""


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """The host's request to every Python process of the script."""

    folder: str
    """Each process writes its record here, named by its number. Redirected outputs of the script go below it."""
    flow: str
    """The script's name, as in cell ids."""
    stack: str
    steps: int
    lock_sha256: str
    torch_wanted: str
    throw_away: bool = False
    """Whether all saved files are discarded, because the script runs again. Otherwise only those that would replace a
    file.
    """
    after: bool | None = None
    """Whether what was saved after training is loaded again; None: if the model is small."""
    together: bool = False
    """Whether other runs of the script run at the same time. Then it ends before it changes a file outside `folder`."""


SCRATCH = "thrown-away"
"""Directory below a request's folder for redirected outputs of the script."""

RANK = ".rank"
"""File name suffix of the record of a process that is not the first of those that train together."""

SHOWN = ".shown.json"
"""File name suffix of a `Shown` in `SCRATCH`."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A directory of the script that holds links to redirected outputs. The host removes the links."""

    directory: str
    made: tuple[str, ...]
    """Directories that were created for the links, innermost first."""


OUTSIDE = "outside"
"""File in a request's folder with the path outside it that the script was about to change, while others ran too."""

ORIGINALS = "originals"
"""File in a request's folder with a line of JSON for each `Original`."""


@dataclass(frozen=True, slots=True)
class Original:
    """A file or directory that the script was about to change, or to make. The host undoes it, the last line first."""

    path: str
    """Absolute, without symbolic links in the directories."""
    aside: str = ""
    """Where a file that existed is, so that it can be put back."""
    mode: int | None = None
    """Permission bits of a directory that existed and that the script removed."""
    made: bool = False
    """Whether nothing was at `path`: what the script makes itself is its own."""

    def line(self) -> bytes:
        """As a line of the file."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What the labels of the training rows teach. A row is one sequence of tokens. Padding is what attention leaves
    out, and what the padding token fills at an end of a row.
    """

    rows: int
    labels: int
    """Tokens with a label."""
    unlabelled: int
    """Rows without any label."""
    on_padding: int
    """Labels of padding. The first padding token of a row is left out: it may stand for the end of the row."""
    masked: int
    """Tokens without a label, other than padding and the first token of a row."""
    foreign: int
    """Labels that are not the token at their position."""
    ahead: int
    """Labels of `foreign` that are the next token of the row."""
    ends: int
    """Rows with an end token that is neither padding nor the first token."""
    ends_learned: int
    """Rows with an end token that is a label."""
    end_tokens: tuple[str, ...]
    """The end tokens of tokenizer, generation config and model config, as text."""
    pad_is_end: bool
    lengths_differ: bool
    """Whether rows have different numbers of tokens without padding."""
    shifts: bool
    """Whether a causal language model of Transformers received the labels: it shifts them itself."""
    masked_by_data: int | None = None
    """Tokens that the `labels` of the first rows of the data set mask; None if it has no such labels."""
    shown: str = ""
    """The first row as text. What is learned is in square brackets."""
    padding_masked: int = 0
    """Rows of which a part of the prompt is learned, because the script, which tokenizes the prompt alone, masks its
    length together with the padding before it; 0 unless that explains the labels of all rows.
    """
    prompt_masked: tuple[int, int] | None = None
    """Tokens that the labels of every row mask at its beginning, and tokens of the longest prompt, where the script
    tokenizes the prompts alone and their lengths are greater; else None.
    """
    marker_missing: str = ""
    """Text of the marker up to which the script's collator would mask a row, and that no row has; empty if there is
    none.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the batches of a training show about its data, its loop and its effect."""

    rows: int
    """Rows of all batches."""
    distinct: int
    """Different rows among them."""
    data_rows: int | None
    """Rows of the training set; None for a stream."""
    batches: int
    same_as_last: int
    """Batches with the same rows as the batch before."""
    pairs: int
    """Pairs of rows: chosen and rejected, or the halves of a batch."""
    pairs_alike: int
    """Pairs of two equal rows."""
    class_labels: int
    """Rows with one label for the whole row."""
    classes: int
    """Different values of those labels."""
    held_out: int
    """Rows of the evaluation set that were compared with the training set."""
    held_out_trained: int
    """Those that are rows of the training set too."""
    held_out_copies: int = 0
    """The number of times that repeated rows occur in both sets together, where other rows occur once: rows were copied
    before the split. 0 if nothing shows that.
    """
    held_out_part: str = ""
    """`end` or `beginning`, if the evaluation set is that part of the training set, cut from it and left in it."""
    held_out_name: str = ""
    """The name by which the script says that this evaluation set is held out (example: `validation`); empty if there is
    none.
    """
    first_batch: tuple[float, float] | None = None
    """Mean loss of the first batch's labelled tokens before and after training, by a causal model's own logits."""
    evaluates_alike: bool | None = None
    """Whether one batch of an evaluation, computed twice, has the same logits; None if not seen."""
    metrics_vary: bool | None = None
    """Whether the script's metrics change with the predictions; None if not seen."""
    stale_from: int | None = None
    """The first step that used gradients of an earlier one; None if there is none."""
    in_groups: int = 0
    """Sampled completions that have another one of the same prompt in their batch."""
    in_groups_alike: int = 0
    """Those of them that are the same tokens as all others of their prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewParameters:
    """Parameters without pretrained values that the script adds to a model, compared after training."""

    heads: tuple[str, ...] = ()
    """New heads of which no parameter is trainable and none changed (example: `score`)."""
    heads_trained: tuple[str, ...] = ()
    """The other new heads."""
    rows: int = 0
    """Added rows of the embedding whose tokens occur in the training rows."""
    rows_unchanged: tuple[str, ...] = ()
    """Tokens of those rows that training did not change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedAdapter:
    """The last adapter that the script saved after training, compared with what was trained."""

    trained: int
    """Tensors outside the adapters that training changed."""
    missing: tuple[str, ...]
    """Names of those that the file lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSetup:
    """What the configuration of the active adapters asks for, and what it reached."""

    asked: tuple[str, ...] = ()
    """Names of target modules; empty if the targets are a pattern, or all linear layers."""
    unreached: tuple[str, ...] = ()
    """Names of `asked` that no module has."""
    patterns_unreached: tuple[str, ...] = ()
    """Keys of `rank_pattern` and `alpha_pattern` that match no module."""
    scaling: Mapping[str, int] = field(default_factory=dict)
    """Number of adapted modules by the factor that multiplies their update when training begins (example: `2`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterStates:
    """What the adapter layers computed with at the end of each training step."""

    steps: int
    disabled: int
    """Steps at whose end all layers were switched off."""
    merged: int
    """Steps at whose end all layers were merged into their base."""
    without_strength: int
    """Steps at whose end every update was multiplied by 0."""
    other: tuple[str, ...] = ()
    """The active adapters at the end, if the optimizer holds no parameter of them."""
    other_from: int | None = None
    """The step since which they are active; None if there are none."""
    unused: tuple[str, ...] = ()
    """Adapters that an earlier trainer of the script trained on the same rows, and that the script saved and loaded,
    never made active and did not save again.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """Positions of training rows by the token that the loss teaches them, as the gradient of the logits shows."""

    positions: int
    following: int
    """They are taught the next token."""
    after_next: int
    """They are taught the token after the next."""
    itself: int
    """They are taught their own token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack:
    """The weights that are put back when training ends: those of the best checkpoint, or those that a script kept."""

    compared: int = 0
    """Trained tensors that were compared with the best checkpoint; 0 if none was loaded."""
    differ: int = 0
    """Those that do not have the values of the checkpoint."""
    itself: bool = False
    """Whether the script loads into the model what `state_dict()` gave it: the model's own tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """What the script saved after training, loaded again at once and compared by its logits."""

    what: str
    """`adapter`, `model` or `merged model`."""
    difference: float | None
    """Largest difference of a logit, relative to the largest logit; None if loading failed."""
    allowed: float
    """Largest difference that rounding explains."""
    error: str = ""
    """What loading raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """Precision: what the script asks for, and what was found."""

    asked: str = ""
    """The data type that the trainer's arguments ask to compute in (example: `bfloat16`); empty if none."""
    seen: tuple[str, ...] = ()
    """Data types that linear layers gave in training."""
    load_asked: str = ""
    """The data type that the model was to be loaded in; empty if none."""
    load_found: tuple[str, ...] = ()
    """Data types of the loaded floating point weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One trainer of the script, or one model without a trainer."""

    seen: Observation
    trainer: str | None
    """Class of the trainer; None if there is none."""
    asks_for_adapters: bool
    """Whether the script wraps the model, or passes a PEFT configuration to the trainer."""
    rewarded: bool = False
    """Whether the gradient comes from rewards. Then gradient and loss may be zero while the model learns."""
    rows_evaluated: int | None = None
    """Rows of each evaluation; 0 if not counted, None without an evaluation set."""
    full_rate: float | None = None
    """The requested learning rate, which warm-up reaches at its end."""
    rewards_alike: bool | None = None
    """Whether every entry of the trainer's log shows equal rewards for all completions of a prompt, so that no gradient
    is expected; None if the trainer does not log this.
    """
    idle: tuple[str, ...] = ()
    """Names of trainable tensors that never received a gradient other than zero."""
    handed: Census | None = None
    """Census of the model when the script passes it to the trainer. None if the model has no adapter then, and in older
    records.
    """
    lesson: Lesson | None = None
    """None if no training batch has a label for each token, and in older records."""
    new: NewParameters | None = None
    """None also if there are none."""
    saved: SavedAdapter | None = None
    """None also if nothing outside the adapters was trained, if the script saved no adapter, or if it saved more."""
    setup: AdapterSetup | None = None
    accumulation: int | None = None
    """Batches that a step accumulates; None if unknown."""
    arguments: str = ""
    """Class of the trainer's arguments, for example `SFTConfig`; empty if unknown."""
    label_names: tuple[str, ...] | None = None
    """Names of the columns that the trainer takes for labels; None if unknown."""
    peft_config: str = ""
    """Class of the active adapter's configuration; empty without an adapter."""
    task_type: str | None = None
    """Task type of the active adapter's configuration."""
    logged_at: tuple[int, ...] = ()
    """Step of each logged training loss; empty if unknown."""
    frozen_after: int | None = None
    """Number of steps after which fewer parameters were trainable, until the end; None if there is no such step."""
    resume_untried: str = ""
    """Why a resume that the script asks for was not tried; empty if it was tried, or none was asked for."""
    seen_batches: Seen | None = None
    """None if no training was seen, and in older records."""
    reward: tuple[float, ...] = ()
    """Logged mean rewards."""
    metric: str = ""
    """Metric by which the best checkpoint is chosen, with `greater` or `smaller` before it; empty if none is chosen."""
    allocations: int | None = None
    """Calls of AdaLoRA's `update_and_allocate` in training; None in older records."""
    ranks: int = 0
    """Other processes that trained together with this one, as far as the weights could be compared."""
    ranks_differ: int = 0
    """Those of them with other weights after training."""
    saved_as: str = ""
    """What the script saved: `trained`; `untrained`, if every tensor has its value from before training; `early`, if it
    saved the model before training alone; `changed` and the entries of adapter_config.json that it changed afterwards;
    empty if it saved nothing.
    """
    steps_left: int = 0
    """Steps of the script's own training that the watch left out."""
    adapters: AdapterStates | None = None
    """None without adapter layers, and in older records."""
    taught: Taught | None = None
    """None if no causal language model gave logits with a gradient, and in older records."""
    put_back: PutBack | None = None
    reloads: tuple[Reload, ...] = ()
    """What was saved after training and loaded again; empty also if it was too large."""
    unscaled: str = ""
    """The factor that is missing, or there twice, in weights that the script merged by itself and saved (example:
    `8 times too small`); empty if there are none.
    """
    computed: Computed | None = None
    own_idle: tuple[str, ...] = ()
    """Names of the parameters of `nn.Module` classes of the script that the optimizer holds and that never received a
    gradient.
    """
    max_grad_norm: float | None = None
    """Norm to which gradients are clipped; None if unknown."""
    accuracy: tuple[float, float] | None = None
    """Share of held-out pairs whose chosen row is preferred, before and after training; None if not reported."""
    resume_resets: bool = False
    """Whether the weights differ between the end of a resume, when the checkpoint is loaded, and the first step."""
    resume_unloaded: tuple[int, int] | None = None
    """Trained tensors that do not have the values of the checkpoint when it is loaded, and all trained tensors; None if
    the trainer did not load a checkpoint that was made in this process.
    """

    @property
    def full_steps(self) -> float | None:
        """Completed training, in equivalent steps at the full learning rate; None if that rate is unknown."""
        training = self.seen.training
        if training is None or not self.full_rate:
            return None
        return sum(min(rate / self.full_rate, 1.0) for rate in training.learning_rate)


@dataclass(frozen=True, slots=True)
class UnknownArgument:
    """An argument that a library's function or class does not have in this release."""

    callee: str
    """Module and name, for example `trl:SFTConfig`."""
    name: str
    accepts: tuple[str, ...]
    """Names of the arguments that it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The record of one run of a script."""

    script: str
    arguments: tuple[str, ...]
    steps: int
    """Number of steps after which each training is stopped."""
    stack: StackRecord
    device: DeviceRecord
    runs: tuple[Run, ...] = ()
    changed: tuple[str, ...] = ()
    """What the harness changed in the run, one sentence each."""
    unseen: tuple[str, ...] = ()
    """What could not be measured, one sentence each."""
    error: Failure | None = None
    """The exception that ended the script."""
    unknown: tuple[UnknownArgument, ...] = ()
    """All unknown arguments of the call that ended the script."""
    status: int | None = None
    """Exit status of the process; negative for a signal. None until the host sets it."""
    read: tuple[str, ...] | None = None
    """Files outside the environment that the script read or imported, as far as Python opened them. None if there are
    too many, if it wrote one of them, and in older records.
    """
    read_sha256: str = ""
    """Digest of their contents; only in a cached record."""
    hosts: tuple[str, ...] = ()
    """Other machines that the script looked up or connected to. Telemetry of libraries is left out."""
    unanswered: tuple[str, ...] = ()
    """Those of `hosts` that had no address whenever the script looked them up, as on a machine without a network."""
    schema: int = PIPELINE_SCHEMA

    def to_json(self) -> str:
        """One line of standard JSON."""
        return json.dumps(standard(dataclasses.asdict(self)), separators=(",", ":"), allow_nan=False)


def ended_with(status: int) -> str:
    """An exit status as text."""
    return f"signal {-status}" if status < 0 else f"status {status}"
