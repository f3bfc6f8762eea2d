"""Watch the library calls that a fine-tuning script makes, and record them on disk.

An instrument never ends the script: if it fails, the failure becomes a sentence of `Notes.miss`.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from finetune_compat.cell import runner
from finetune_compat.cell.instruments import census, emulation, freezes
from finetune_compat.cell.instruments.live import rewards_make_the_gradient
from finetune_compat.cell.script import held_out, saves, targets, without_gpu
from finetune_compat.cell.script.additions import Additions
from finetune_compat.cell.script.checkpoints import Checkpoints
from finetune_compat.cell.script.kept import Kept
from finetune_compat.cell.script.loops import FEWEST_STEPS, Loop, Loops
from finetune_compat.cell.script.notes import Notes
from finetune_compat.cell.script.own import names_of
from finetune_compat.cell.script.prompts import Ids
from finetune_compat.cell.script.stories import Measured, Stories, Story, precision_of
from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.records import (
    CENSUS_STAGES,
    Absence,
    AbsentStage,
    Actor,
    Census,
    DeviceKind,
    DeviceRecord,
    Failure,
    Freeze,
    Observation,
    Precision,
    StackRecord,
    Stage,
    Variant,
)
from finetune_compat.contract.script import AdapterSetup, Reload, Run, WatchRequest

PREPARATIONS = ("prepare_model_for_kbit_training", "prepare_model_for_int8_training")
WRAPPINGS = ("get_peft_model", "inject_adapter_in_model")


class _Trained:
    """What is recorded of one trainer of the script."""

    def __init__(self, trainer: Any, story: Story, flow: str) -> None:
        self.story, self.flow = story, flow
        self.kind = type(trainer).__name__
        arguments = trainer.args
        self.rewarded = rewards_make_the_gradient(arguments)
        self.full_rate = float(getattr(arguments, "learning_rate", 0) or 0) or None
        self.seed = int(getattr(arguments, "seed", 0) or 0)
        checkpointing = bool(getattr(arguments, "gradient_checkpointing", False))
        self.variant = Variant(story.model_type, story.precision, checkpointing or _checkpoints(trainer.model))
        self.attention = getattr(getattr(trainer.model, "config", None), "_attn_implementation", None)
        # Transformers sets this when it adds an adapter, and refuses to train a quantised model without.
        self.asks_for_adapters = story.wrapped or getattr(trainer.model, "_hf_peft_config_loaded", False) is True
        self.stages: list[Census] = []
        self.handed: Census | None = None
        self.freezes: tuple[Freeze, ...] = ()
        self.accumulation = int(getattr(arguments, "gradient_accumulation_steps", 0) or 0) or None
        self.arguments = type(arguments).__name__
        labels = getattr(trainer, "label_names", None)
        self.label_names = None if labels is None else tuple(map(str, labels))
        self.peft_config, self.task_type = _adapter_config(trainer.model)
        self.output_dir = str(getattr(arguments, "output_dir", ""))
        self.saves = str(getattr(getattr(arguments, "save_strategy", ""), "value", "")) != "no"
        self.metric = _metric(arguments)
        self.max_grad_norm = float(getattr(arguments, "max_grad_norm", 0) or 0) or None
        self.reloads: list[Reload] = []
        self.unscaled = ""
        self.allocations = 0
        self.savings: saves.Savings | None = None
        """What is saved after training; None before."""
        self.saved_early = False
        """Whether the script saved the model between the trainer's constructor and training."""
        self.begun: saves.Savings | None = None
        self.resume_untried = ""
        self.found = Measured()
        self.error: Failure | None = None
        self.times_trained = 0
        self.setup: AdapterSetup | None = None


class Observer:
    """Everything that is recorded of one process."""

    def __init__(
        self, request: WatchRequest, device: DeviceRecord, stack: StackRecord, notes: Notes, kept: Kept, save: Any
    ) -> None:
        self.notes, self._device, self._save = notes, device, save
        self.begin_again(request, stack)
        self.kept = kept
        self.without_gpu = device.kind is DeviceKind.CPU
        self.prompts: set[Ids] = set()
        """The prompts that the script tokenizes alone."""
        self._stories = Stories()
        self._trained: list[_Trained] = []
        self._of: dict[int, _Trained] = {}
        self._watch = ExitStack()
        self._log: freezes.FreezeLog | None = None
        self._stage = Stage.IMPORT
        self._building = self._training = 0
        self._depth = self._saving = 0
        self._wants_adapters = False
        self._handed: Census | None = None
        self._cut = held_out.Cut()
        self._checkpoints = Checkpoints()
        self.loops = Loops(
            lambda: bool(self._training or self._building),
            lambda error: self.notes.miss(f"a loop of the script: the instrument failed ({error})"),
        )
        self.watch()

    def begin_again(self, request: WatchRequest, stack: StackRecord) -> None:
        """Answer `request`. Nothing was observed before."""
        self._request, self._stack, self._started = request, stack, time.time()

    # ---------------------------------------------------------------------------------------------------------- freezes

    def watch(self) -> None:
        """Record freezes from now on, also in training: a save or a callback may freeze."""
        self._watch.close()
        self._log = self._watch.enter_context(freezes.watched())
        self._log.stage = self._stage

    def _at(self, stage: Stage) -> None:
        if not self._building:
            self._stage = stage
            if self._log is not None:
                self._log.stage = stage

    def frozen(self, model: nn.Module) -> tuple[Freeze, ...]:
        """The recorded freezes of the adapters of `model`, or of all its parameters if it has no adapters."""
        return self._log.of(census.subject(model)) if self._log is not None else ()

    def story_of(self, model: nn.Module) -> Story:
        """The record of `model`; a new one if the model was not seen before."""
        return self._stories.of(model)

    @property
    def has_trained(self) -> bool:
        """Whether a trainer was watched."""
        return bool(self._trained)

    @property
    def stage(self) -> Stage:
        """The stage that the script has reached."""
        return self._stage

    @contextmanager
    def _instrument(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self.notes.miss(f"{what}: the instrument failed ({type(error).__name__}: {str(error)[:200]})")

    # ----------------------------------------------------------------------------------------------- functions, methods

    def step(self, original: Callable[..., Any], stage: Stage) -> Callable[..., Any]:
        """`original`, a function that loads, prepares or wraps a model, followed by a census of the returned model."""

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._training:
                return original(*args, **kwargs)
            self._at(stage)
            self._depth += 1
            try:
                result = original(*args, **kwargs)
            except Exception as error:
                self._note_error(error, stage)
                raise
            finally:
                self._depth -= 1
            # Only the outermost of nested calls counts. A census inside a trainer is attributed to the library.
            if not self._depth:
                with self._instrument(f"the model at {stage}"):
                    self._take(result, stage)
            return result

        return call

    def load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`from_pretrained`, without options that need a GPU if there is none, followed by a census."""
        step = self.step(self._noting_missing(original), Stage.LOAD)

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            options = without_gpu.load_options(kwargs, self.notes) if self.without_gpu else kwargs
            loaded = step(*args, **options)
            with self._instrument("the data type of the loaded model"):
                self._note_loaded(loaded, options)
            return loaded

        return call

    def _note_loaded(self, loaded: Any, options: dict[str, Any]) -> None:
        from finetune_compat.cell.script import computing

        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if self._training or self._depth or not isinstance(model, nn.Module):
            return
        story = self._stories.of(model)
        if getattr(model, "hf_quantizer", None) is None:  # a quantiser chooses the type of what it leaves alone
            story.load_asked, story.load_found = computing.load_asked(options), computing.dtypes_of(model)

    def puts_back(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`Module.load_state_dict`, with a note of a script that loads a model's own tensors into it."""

        @functools.wraps(original)
        def load(model: nn.Module, state: Any, *args: Any, **kwargs: Any) -> Any:
            if self._trained and "site-packages" not in sys._getframe(1).f_code.co_filename:
                with self._instrument("the weights that are put back"):
                    from finetune_compat.cell.script import follow_up

                    follow_up.note_put_back(self._trained, model, state)
            return original(model, state, *args, **kwargs)

        return load

    def _noting_missing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`from_pretrained`, which also notes the parameters that it did not find in the files."""

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._training or self._depth > 1 or kwargs.get("output_loading_info"):
                return original(*args, **kwargs)
            result = original(*args, **{**kwargs, "output_loading_info": True})
            if not isinstance(result, tuple):
                return result
            model, info = result
            with self._instrument("the parameters that loading did not find"):
                other = (key[0] for key in (info or {}).get("mismatched_keys", ()))
                self._stories.of(model).missing = frozenset((*(info or {}).get("missing_keys", ()), *other))
            return model

        return call

    def resized(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`resize_token_embeddings`, followed by a note of the rows that it added."""

        @functools.wraps(original)
        def call(model: Any, *args: Any, **kwargs: Any) -> Any:
            before = None
            with self._instrument("the rows of the embedding"):
                before = _rows(model)
            result = original(model, *args, **kwargs)
            with self._instrument("the rows added to the embedding"):
                now, story = _rows(model), self._stories.of(model)
                if before is not None and now is not None and now != before:
                    story.rows_before = before if story.rows_before is None else min(before, story.rows_before)
                    story.rows_now = now
            return result

        return call

    def allocates(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """AdaLoRA's `update_and_allocate`, followed by a note for the trainer that is training."""

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            for run in self._trained:
                run.allocations += run.times_trained > 0
            return result

        return call

    # ----------------------------------------------------------------------------------------------------------- saves

    def saves_adapter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`save_pretrained` of PEFT's models, followed by a comparison of the files with what was trained."""

        @functools.wraps(original)
        def save(model: Any, place: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._training:
                self._note_saved(model)
                self._uses(model, kwargs.get("selected_adapters") or model.peft_config)
            self._saving += 1
            try:
                result = original(model, place, *args, **kwargs)
            finally:
                self._saving -= 1
            with self._instrument("the saved adapter"):
                for run in () if self._training else self._trained:
                    if run.savings is not None:
                        run.savings.wrote(Path(place))
                    if run.story.is_of(model) and run.found.changed_outside:
                        run.found.saved = saves.compared(model, Path(place), run.found.changed_outside)
                self._load_again(model, Path(place))
                self._save()
            return result

        return save

    def loads_adapter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`load_adapter` of PEFT's models, followed by a note of where the adapter was loaded from."""

        @functools.wraps(original)
        def load(model: Any, place: Any, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
            result = original(model, place, adapter_name, *args, **kwargs)
            with self._instrument("the loaded adapter"):
                from finetune_compat.cell.script import follow_up

                follow_up.note_loaded(self._stories.of(model), place, adapter_name)
            return result

        return load

    def uses_adapters(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A method of PEFT's models whose first argument names the adapters that it uses, with a note of them."""

        @functools.wraps(original)
        def use(model: Any, names: Any, *args: Any, **kwargs: Any) -> Any:
            with self._instrument("the adapters that are used"):
                self._uses(model, [names] if isinstance(names, str) else names)
            return original(model, names, *args, **kwargs)

        return use

    def _uses(self, model: nn.Module, names: Iterable[str]) -> None:
        self._stories.of(model).used_adapters |= set(names)

    def saves_weights(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A function that saves a whole model or tensors. What it saves may hold all that was trained."""

        @functools.wraps(original)
        def save(*args: Any, **kwargs: Any) -> Any:
            saved = next(iter((*args, *kwargs.values())), None)
            if not self._training:
                self._note_saved(saved)
            if not self._saving and not self._training:
                for run in self._trained:
                    with self._instrument("the saved tensors"):
                        self._note_saved_tensors(run, saved)
            self._saving += 1
            try:
                result = original(*args, **kwargs)
            finally:
                self._saving -= 1
            if isinstance(saved, nn.Module) and not kwargs.get("variant"):  # its files have other names
                with self._instrument("the saved model"):
                    place = args[1] if len(args) > 1 else kwargs.get("save_directory")
                    self._load_again(saved, Path(str(place)))
            return result

        return save

    def _note_saved_tensors(self, run: _Trained, saved: Any) -> None:
        """Note whether `saved`, which the script saves by itself, may hold what was trained outside the adapters."""
        model, found = run.story.model(), run.found
        lacks = None
        # A trainer that saves checkpoints has saved everything.
        if isinstance(saved, Mapping) and model is not None and run.savings is not None and not run.saves:
            lacks = saves.of_tensors(model, saved, run.savings)
        if lacks is None:
            found.saved_more = found.saved_more or _may_hold(saved, run.story)
        else:
            found.saved = found.saved or lacks

    def _load_again(self, model: nn.Module, place: Path) -> None:
        if self._training or self._saving:
            return
        from finetune_compat.cell.script import follow_up

        self._training += 1  # what follows is not the script's
        try:
            follow_up.load_again(self._trained, model, place, self._request.after)
        finally:
            self._training -= 1

    def _note_saved(self, saved: Any) -> None:
        with self._instrument("what is saved"):
            whole = isinstance(saved, nn.Module)
            for run in self._trained:
                if run.savings is None:
                    run.saved_early = run.saved_early or (whole and run.story.is_of(saved))
                elif not whole:
                    run.savings.note(saved)

    # ---------------------------------------------------------------------------------------------------------- models

    def _take(self, result: Any, stage: Stage) -> None:
        model = result[0] if isinstance(result, tuple) else result
        if not isinstance(model, nn.Module):
            return
        if self.without_gpu:
            emulation.keep_as_on_an_accelerator(model)
        story = self._stories.of(model)
        story.wrapped = story.wrapped or stage is Stage.PEFT
        story.take(model, stage, Actor.LIBRARY if self._building else Actor.FLOW)
        self._save()

    # ------------------------------------------------------------------------------------------------------- trainers

    def trainer_class(self, cls: type[Any]) -> None:
        """Watch the constructor, `train`, `save_model` and `push_to_hub` of `cls`, if `cls` itself defines them."""
        own = vars(cls)
        if "__init__" in own:
            cls.__init__ = self._constructor(own["__init__"])  # type: ignore[misc]
        if "train" in own:
            cls.train = self._train(own["train"])
        if "_save_checkpoint" in own:
            cls._save_checkpoint = self.kept.checkpointing(self._checkpoints.saving(own["_save_checkpoint"]))
        if "save_model" in own:
            cls.save_model = self.kept.saving(own["save_model"])
        if "push_to_hub" in own:
            cls.push_to_hub = self.kept.pushing

    def _constructor(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def init(trainer: Any, *args: Any, **kwargs: Any) -> None:
            if not self._building:
                # A PEFT configuration is recognised by its class: the argument's name differs between trainers.
                given = (*args, *kwargs.values())
                self._wants_adapters = any(
                    hasattr(one, "peft_type") and not isinstance(one, nn.Module) for one in given
                )
                self._at(Stage.TRAINER)
                self._handed = None
                with self._instrument("the model passed to the trainer"):
                    model = _model_among(args, kwargs)
                    self._handed = _handed_over(model)
                    if model is not None and self._handed is None:
                        self._stories.of(model).wrapped = False  # the script has merged its adapters, or removed them
                self._cut = held_out.Cut()
                with self._instrument("the evaluation set passed to the trainer"):
                    self._cut = held_out.cut_of(kwargs, names_of)
            self._building += 1
            try:
                original(trainer, *args, **kwargs)
            except Exception as error:
                self._note_error(error, Stage.TRAINER)
                raise
            finally:
                self._building -= 1
            if not self._building:
                with self._instrument("the trainer"):
                    self._built(trainer)

        return init

    def _built(self, trainer: Any) -> None:
        if not isinstance(getattr(trainer, "model", None), nn.Module):
            self.notes.miss(
                f"{type(trainer).__name__} has no model after its constructor: the model that it trains was not seen"
            )
            return
        story = self._stories.of(trainer.model)
        story.handed_over = True
        story.precision = precision_of(trainer.model)
        run = _Trained(trainer, story, self._flow())
        run.asks_for_adapters = run.asks_for_adapters or self._wants_adapters
        run.stages = [taken for taken in story.stages if taken.name in (Stage.LOAD, Stage.PREPARE, Stage.PEFT)]
        run.handed, run.found.cut_from_training = self._handed, self._cut
        adapted = census.has_adapters(trainer.model)
        run.stages.append(census.take(trainer.model, Stage.TRAINER, Actor.FLOW, digest=adapted))
        run.freezes = self.frozen(trainer.model)
        with self._instrument("the targets of the adapters"):
            run.setup = targets.setup_of(trainer.model)
        self._trained.append(run)
        self._of[id(trainer)] = run
        self._save()

    def _flow(self) -> str:
        number = len(self._trained) + 1
        return self._request.flow if number == 1 else f"{self._request.flow}#{number}"

    def _train(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def train(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            run = self._of.get(id(trainer))
            if self._training or run is None:
                return original(trainer, *args, **kwargs)
            self._training_begins(trainer, run)
            found = run.found if run.times_trained == 1 else Measured()
            additions, outside = self._before_training(trainer, run, found)
            try:
                return self._trained_of(trainer, run, found, args, kwargs, original)
            except Exception as error:
                self._note_error(error, Stage.TRAINING, run)
                raise
            finally:
                if run.error is None:
                    run.savings = run.begun
                    with self._instrument("new parameters"):
                        found.new = additions.compared(found.used, found.tokens) if additions else None
                        found.changed_outside = outside.changed() if outside else ()
                    with self._instrument("the logits of the trained model"):
                        from finetune_compat.cell.script import follow_up

                        follow_up.note_logits(trainer.model, found, self._request.after)
                self._training_ends(trainer, run)

        return train

    def _before_training(
        self, trainer: Any, run: _Trained, found: Measured
    ) -> tuple[Additions | None, saves.Outside | None]:
        """The copies that are compared after training; None where an instrument failed."""
        additions = outside = None
        with self._instrument("new parameters"):
            found.new_from, found.prompts = run.story.rows_before, self.prompts
            additions = Additions(trainer.model, run.story)
            run.begun = saves.Savings(trainer.model)
            outside = saves.Outside(trainer.model)
        with self._instrument("the targets of the adapters"):
            # A script may change the scaling after it built the trainer.
            run.setup = targets.setup_of(trainer.model)
        return additions, outside

    def _training_begins(self, trainer: Any, run: _Trained) -> None:
        run.times_trained += 1
        if run.times_trained > 1:
            self.notes.miss(f"{run.kind}.train() was called again: the table shows the first call")
        self._stage = Stage.TRAINING
        if self._log is not None:
            self._log.stage = Stage.TRAINING
        if getattr(trainer.args, "torch_compile", False):
            self._watch.close()  # a compiler cannot trace the watched attribute
        self._training += 1

    def _trained_of(
        self,
        trainer: Any,
        run: _Trained,
        found: Measured,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        original: Callable[..., Any],
    ) -> Any:
        # Imported only here: the modules import libraries that a script may not have imported before.
        from finetune_compat.cell.script import resuming, trained

        steps = self._request.steps
        self.notes.change(f"every training was ended after {steps} steps, with the schedule of the full run")
        call = resuming.Call(trainer, args, kwargs, original)
        checkpoint = self._checkpoint(trainer, run, call.wanted) if call.wanted else None
        result = trained.train(
            trainer,
            lambda: call.resuming(checkpoint),
            steps,
            found,
            self.notes,
            self._checkpoints,
            again=self._request.after,
        )
        if call.wanted and checkpoint is None:
            self._resume(trainer, run, call.resuming)
        return result

    def _training_ends(self, trainer: Any, run: _Trained) -> None:
        self._training -= 1
        with self._instrument("the model after training"):
            if run.times_trained == 1:
                run.freezes = self.frozen(trainer.model)
            if run.times_trained == 1 and run.error is None:
                together = int(os.environ.get("WORLD_SIZE", "1") or 1) > 1
                run.stages.append(census.take(trainer.model, Stage.AFTER_TRAINING, Actor.FLOW, digest=together))
        self.watch()
        self._save()

    def _checkpoint(self, trainer: Any, run: _Trained, wanted: Any) -> Any:
        """What to pass to `train()` for the resume that the script asks for; None if there is no checkpoint, because
        the watch has replaced the directory or has ended the training that would have saved it.
        """
        from finetune_compat.cell.script import resuming

        place = resuming.found(trainer, wanted, self.kept)
        if place is not None:
            return place
        output = run.output_dir if wanted is True else self.kept.output_of(str(Path(wanted).parent))
        earlier = [other for other in self._trained if other.times_trained > (other is run)]
        of_it = [other for other in earlier if other.output_dir == output]
        # Without an earlier training in this process, True asks for a checkpoint of an earlier run of the script.
        lost = any(other.found.cut and other.saves for other in of_it) if of_it else wanted is True
        return None if lost else wanted

    def _resume(self, trainer: Any, run: _Trained, train_from: Callable[[Any], Any]) -> None:
        """Save a checkpoint of the training that has ended, and resume from it for one step."""
        from finetune_compat.cell.script import resuming, trained

        run.resume_untried = "no checkpoint could be saved to resume from"
        with self._instrument("the checkpoint to resume from"):
            checkpoint = resuming.made(trainer)
            run.resume_untried = ""
        if not run.resume_untried:
            self.notes.change("there was no checkpoint to resume from: training was resumed from one of its last step")
            trained.resume(
                trainer, lambda: train_from(checkpoint), run.found, self._checkpoints, again=self._request.after
            )

    def _note_error(self, error: Exception, stage: Stage, run: _Trained | None = None) -> None:
        if run is not None:
            run.error = run.error or runner.failure(error, stage)
        self.error = runner.failure(error, Stage.TRAINER if self._building else stage)
        self._save()

    error: Failure | None = None
    """The last exception that a watched call raised, also if the script caught the exception."""

    # ---------------------------------------------------------------------------------------------------------- records

    def runs(self) -> tuple[Run, ...]:
        """The runs so far, one per trainer. Without a trainer: one per wrapped model, or one of the first model."""
        loops = [loop for loop in self.loops.all if loop.steps >= FEWEST_STEPS]
        if self._trained or loops:
            return (*map(self._run, self._trained), *map(self._looped, loops))
        wrapped = [story for story in self._stories.all if story.wrapped]
        found = wrapped or self._stories.all[:1]
        return tuple(self._untrained(story) for story in found)

    def loaded_only(self) -> tuple[str, ...]:
        """Types of the models that were not passed to a trainer; empty if there was no trainer."""
        alone = [story for story in self._stories.all if not story.handed_over]
        return tuple(story.model_type for story in alone) if self._trained else ()

    def _run(self, run: _Trained) -> Run:
        from finetune_compat.cell.script import follow_up

        return Run(
            seen=self.observation(
                run.flow,
                run.variant,
                tuple(run.stages),
                run.error,
                freezes=run.freezes,
                training=run.found.training,
                labels=run.found.labels,
                seed=run.seed,
            ),
            trainer=run.kind,
            asks_for_adapters=run.asks_for_adapters,
            rewarded=run.rewarded,
            rewards_alike=run.found.rewards_alike,
            rows_evaluated=run.found.rows,
            full_rate=run.full_rate,
            idle=run.found.idle,
            handed=run.handed,
            lesson=run.found.lesson,
            new=run.found.new,
            saved=None if run.found.saved_more else run.found.saved,
            setup=run.setup,
            accumulation=run.accumulation,
            arguments=run.arguments,
            label_names=run.label_names,
            peft_config=run.peft_config,
            task_type=run.task_type,
            logged_at=run.found.logged_at,
            frozen_after=run.found.frozen_after,
            resume_untried=run.resume_untried,
            resume_resets=run.found.resets,
            seen_batches=run.found.seen_batches,
            reward=run.found.reward,
            metric=run.metric,
            allocations=run.allocations,
            saved_as=_saved_as(run),
            steps_left=run.found.steps_left,
            adapters=follow_up.adapters(self._trained, run),
            taught=run.found.taught,
            put_back=follow_up.put_back(run.found),
            reloads=tuple(run.reloads),
            unscaled=run.unscaled,
            computed=follow_up.computed(run.found, run.story),
            own_idle=run.found.own_idle,
            max_grad_norm=run.max_grad_norm,
            accuracy=_pair(run.found.accuracies),
            resume_unloaded=run.found.unloaded,
        )

    def _looped(self, loop: Loop) -> Run:
        """The run of a loop that the script writes itself. What follows its last step is not judged."""
        story = self._stories.of(loop.model)
        earlier = (taken for taken in story.stages if taken.name in (Stage.LOAD, Stage.PREPARE, Stage.PEFT))
        variant = Variant(story.model_type, precision_of(loop.model), _checkpoints(loop.model))
        stages = (*earlier, loop.census)
        seen = self.observation(self._request.flow, variant, stages, None, training=loop.training())
        return Run(
            seen=seen,
            trainer=None,
            asks_for_adapters=loop.adapted,
            idle=loop.idle(),
            seen_batches=loop.batches.seen(),
        )

    def _untrained(self, story: Story) -> Run:
        variant = Variant(story.model_type, story.precision, False)
        seen = self.observation(self._request.flow, variant, tuple(story.stages), self.error)
        return Run(seen=seen, trainer=None, asks_for_adapters=story.wrapped or self._wants_adapters)

    def observation(
        self, flow: str, variant: Variant, stages: tuple[Census, ...], error: Failure | None, **facts: Any
    ) -> Observation:
        """The observation of one model or trainer, in the form of a cell of the matrix."""
        from finetune_compat.contract.version import __version__

        taken = {census.name for census in stages}
        emulates = DeviceKind.CUDA if self.without_gpu and variant.precision is Precision.NF4 else None
        device = DeviceRecord(self._device.kind, self._device.name, emulates, self._device.features)
        why = Absence.NOT_REACHED if error else Absence.NOT_CALLED
        return Observation(
            cell=str(CellId(self._request.stack, flow, str(variant), device.kind)),
            stack=self._stack,
            device=device,
            flow=flow,
            variant=variant,
            seed=facts.pop("seed", 0),
            model=None,
            lora=None,
            stages=stages,
            absent=tuple(AbsentStage(stage, why) for stage in CENSUS_STAGES if stage not in taken),
            error=error,
            duration_s=round(time.time() - self._started, 3),
            started_at=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(self._started)),
            harness_version=__version__,
            **facts,
        )


def _model_among(args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module | None:
    """The model among a trainer's arguments; None if there is none, or only its name."""
    given = [kwargs["model"]] if "model" in kwargs else list(args)
    return next((one for one in given if isinstance(one, nn.Module)), None)


def _handed_over(model: nn.Module | None) -> Census | None:
    """The census of the model that a trainer is given, before its constructor runs; None if it has no adapters.

    A script may add, load, activate or fill adapters after wrapping: this census shows the state that it passes.
    """
    if model is None or not census.has_adapters(model):
        return None
    return census.take(model, Stage.PEFT, Actor.FLOW, digest=True)


def _rows(model: nn.Module) -> int | None:
    """Rows of the input embedding of `model`; None if it has none."""
    weight = getattr(model.get_input_embeddings(), "weight", None)  # type: ignore[operator]
    return len(weight) if weight is not None else None


def _may_hold(saved: Any, story: Story) -> bool:
    """Whether `saved` is the model of `story`, a part of any model, or a mapping with tensors. A model to which
    Transformers added an adapter saves only that.
    """
    if isinstance(saved, nn.Module):
        whole = hasattr(saved, "save_pretrained")
        return story.is_of(saved) and not getattr(saved, "_hf_peft_config_loaded", False) if whole else True
    values = saved.values() if isinstance(saved, Mapping) else (saved,)
    return any(isinstance(value, Tensor) for value in values)


def _adapter_config(model: nn.Module) -> tuple[str, str | None]:
    """Class and task type of the configuration of the first active adapter of `model`; empty without one."""
    configs = getattr(model, "peft_config", None)
    if not isinstance(configs, dict) or not configs:
        return "", None
    config = next((configs[name] for name in census.active_adapters(model) if name in configs), None)
    config = next(iter(configs.values())) if config is None else config
    task = getattr(config, "task_type", None)
    return type(config).__name__, None if task is None else str(getattr(task, "value", task))


def _pair(values: tuple[float, ...]) -> tuple[float, float] | None:
    return (values[0], values[1]) if len(values) == 2 else None  # noqa: PLR2004 - before and after


def _saved_as(run: _Trained) -> str:
    found = run.savings.saved_as() if run.savings is not None else ""
    return found or ("early" if run.saved_early and not run.saves else "")


def _metric(arguments: Any) -> str:
    """As `Run.metric`."""
    name = getattr(arguments, "metric_for_best_model", None)
    if not name or not getattr(arguments, "load_best_model_at_end", False):
        return ""
    return f"{'greater' if getattr(arguments, 'greater_is_better', False) else 'smaller'} {name}"


def _checkpoints(model: nn.Module) -> bool:
    return any(getattr(module, "gradient_checkpointing", False) is True for module in model.modules())


# ------------------------------------------------------------------------------------------------ changes after imports


def of_library(observer: Callable[[], Observer]) -> Callable[[ModuleType], None]:
    """A change that watches the functions of a module that prepare or wrap a model. They are found by name, because
    some releases of TRL define their own.
    """

    def change(module: ModuleType) -> None:
        for name in (*PREPARATIONS, *WRAPPINGS):
            function = vars(module).get(name)
            if inspect.isfunction(function) and function.__module__ == module.__name__:
                stage = Stage.PREPARE if name in PREPARATIONS else Stage.PEFT
                setattr(module, name, observer().step(function, stage))

    return change


def classmethod_of(cls: type[Any], name: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace the class method `name` of `cls`, if there is one, by what `change` returns for it."""
    with suppress(KeyError):
        setattr(cls, name, classmethod(change(vars(cls)[name].__func__)))
