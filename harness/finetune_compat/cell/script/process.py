"""Watch this process: which library modules are changed, and when the record is written."""

from __future__ import annotations

import atexit
import functools
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from finetune_compat.cell.instruments import frames
from finetune_compat.cell.script import hub
from finetune_compat.cell.script.imports import AfterImport, Change
from finetune_compat.cell.script.inputs import Inputs
from finetune_compat.cell.script.kept import Kept
from finetune_compat.cell.script.notes import Notes
from finetune_compat.cell.script.originals import Originals
from finetune_compat.cell.script.prompts import Prompts
from finetune_compat.contract.records import REPORTED, DeviceKind, DeviceRecord, Failure, StackRecord, Stage
from finetune_compat.contract.redaction import redact_words
from finetune_compat.contract.script import RANK, REQUEST, SCRATCH, Pipeline, UnknownArgument, WatchRequest
from finetune_compat.machine import child_processes
from finetune_compat.machine.files import write_atomically

if TYPE_CHECKING:
    from finetune_compat.cell.script.observer import Observer

_SAVERS = (
    "peft.config",
    "transformers.configuration_utils",
    "transformers.feature_extraction_utils",
    "transformers.generation.configuration_utils",
    "transformers.image_processing_base",
    "transformers.processing_utils",
    "transformers.video_processing_utils",
)
"""Modules with classes that are saved together with a model."""

_UPLOADS = ("datasets.arrow_dataset", "datasets.dataset_dict")
"""Modules with classes that only upload."""


class Process:
    """One watched process. No library is imported before the script imports it."""

    def __init__(self, request: WatchRequest) -> None:
        self.request, self.notes = request, Notes()
        self.kept = Kept(Path(request.folder, SCRATCH), self.notes, everything=request.throw_away)
        self.originals = Originals(Path(request.folder), together=request.together)
        self._prompts = Prompts()
        self._inputs = Inputs((str(Path(__file__).parents[2]),))
        self._owner = os.getpid()
        self._error: Failure | None = None
        self._unknown: tuple[UnknownArgument, ...] = ()
        self._observer: Observer | None = None
        self.by_hand: list[Any] = []
        """Runs that `calls` measured, in place of those of the observer."""

    def watch(self) -> None:
        """Start watching."""
        self.originals.watch()
        self._inputs.begin()
        frames.tell_users_lines()
        finder = AfterImport(self._changes(), {"trl": self._library}, self._cannot_follow)
        sys.meta_path.insert(0, finder)  # type: ignore[arg-type]  # a finder has no base class
        sys.excepthook = self._noting_errors(sys.excepthook)
        atexit.register(self._end)

    def begin_again(self, request: WatchRequest) -> None:
        """Answer `request` from now on: this process was forked from one that had only imported libraries."""
        self.request, self._owner = request, os.getpid()
        self.originals.begin_again(Path(request.folder))
        self.kept.begin_again(Path(request.folder, SCRATCH), everything=request.throw_away)
        if self._observer is not None:
            self._observer.begin_again(request, self._stack())

    def _cannot_follow(self, module: str, error: Exception) -> None:
        self.notes.miss(f"calls of {module} were not seen: {type(error).__name__}: {error}")

    def _changes(self) -> dict[str, Change]:
        return {
            "torch": self._torch,
            "safetensors": lambda module: self._writes(module, "serialize_file", 1, "filename"),
            "safetensors.torch": self._safetensors,
            "tokenizers": lambda module: self._writes(module.Tokenizer, "save", 1, "path"),
            "pyarrow.parquet.core": lambda module: self._writes(module.ParquetWriter, "__init__", 1, "where"),
            "bitsandbytes": self._bitsandbytes,
            "peft.utils.other": self._library,
            "peft.mapping": self._library,
            "peft.mapping_func": self._library,
            "peft.peft_model": self._peft_model,
            "peft.tuners.adalora.model": self._adalora,
            "transformers.modeling_utils": self._models,
            "transformers.training_args": self._arguments,
            "transformers.trainer": self._trainers,
            "huggingface_hub._login": lambda module: hub.logins(module, self.notes),
            "huggingface_hub.hf_api": lambda module: hub.writes(module, self.notes),
            **dict.fromkeys(_SAVERS, self.kept.savers),
            **dict.fromkeys(_UPLOADS, self.kept.uploads),
            "transformers.tokenization_utils_base": self._tokenizers,
        }

    @functools.cached_property
    def observer(self) -> Observer:
        """The observer. It is created when the first library is imported, because it needs torch."""
        from finetune_compat.cell.script.observer import Observer

        self._observer = Observer(self.request, _device(), self._stack(), self.notes, self.kept, self.save)
        self._observer.prompts = self._prompts.read
        return self._observer

    # --------------------------------------------------------------------------------------------- module by module

    def _torch(self, module: ModuleType) -> None:
        if not module.cuda.is_available():
            from finetune_compat.cell.script.without_gpu import place_on_cpu

            place_on_cpu(module, self.notes)
        self._writes(module._C, "PyTorchFileWriter", 0, "file_name")
        self._writes(module.jit, "save", 1, "f")
        module.save = self._weights(module.save)  # type: ignore[attr-defined]

    def _writes(self, owner: Any, function: str, position: int, name: str) -> None:
        """`function` of `owner` writes the file that its argument `name` names, and not through Python."""
        setattr(owner, function, self.originals.writing(getattr(owner, function), position, name))

    def _safetensors(self, module: ModuleType) -> None:
        module.save_file = self._weights(module.save_file)  # type: ignore[attr-defined]

    def _weights(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`original`, a function that saves tensors. No library is imported for it."""

        @functools.wraps(original)
        def save(*args: Any, **kwargs: Any) -> Any:
            observed = original if self._observer is None else self._observer.saves_weights(original)
            return observed(*args, **kwargs)

        return save

    def _bitsandbytes(self, module: ModuleType) -> None:
        if not sys.modules["torch"].cuda.is_available():
            from finetune_compat.cell.instruments.emulation import presented

            self._presented = presented()
            self._presented.__enter__()

    def _library(self, module: ModuleType) -> None:
        from finetune_compat.cell.script.observer import of_library

        of_library(lambda: self.observer)(module)
        self.kept.savers(module)

    def _models(self, module: ModuleType) -> None:
        from finetune_compat.cell.script.additions import noting_loads
        from finetune_compat.cell.script.observer import classmethod_of

        observer, models = self.observer, module.PreTrainedModel
        models.__init__ = _then(models.__init__, observer.loops.know)  # type: ignore[method-assign]
        classmethod_of(models, "from_pretrained", observer.load)
        models.save_pretrained = observer.saves_weights(models.save_pretrained)
        models.resize_token_embeddings = observer.resized(models.resize_token_embeddings)
        nn = sys.modules["torch"].nn
        nn.Module.load_state_dict = observer.puts_back(noting_loads(nn.Module.load_state_dict))
        self.kept.savers(module)

    def _tokenizers(self, module: ModuleType) -> None:
        self._prompts.follow(module)
        self.kept.savers(module)

    def _peft_model(self, module: ModuleType) -> None:
        from finetune_compat.cell.script.observer import classmethod_of

        observer, models = self.observer, module.PeftModel
        models.__init__ = _then(models.__init__, observer.loops.know)  # type: ignore[method-assign]
        classmethod_of(models, "from_pretrained", lambda original: observer.step(original, Stage.PEFT))
        models.save_pretrained = observer.saves_adapter(models.save_pretrained)
        models.load_adapter = observer.loads_adapter(models.load_adapter)
        models.set_adapter = observer.uses_adapters(models.set_adapter)
        self.kept.savers(module)

    def _adalora(self, module: ModuleType) -> None:
        models = module.AdaLoraModel
        models.update_and_allocate = self.observer.allocates(models.update_and_allocate)

    def _arguments(self, module: ModuleType) -> None:
        from finetune_compat.cell.script import without_gpu

        observer, arguments = self.observer, module.TrainingArguments
        original = arguments.__post_init__

        @functools.wraps(original)
        def post_init(given: Any) -> None:
            observer.kept.training_arguments(given)
            if observer.without_gpu:
                without_gpu.training_arguments(given, self.notes)
            original(given)

        arguments.__post_init__ = post_init

    def _trainers(self, module: ModuleType) -> None:
        observer, base = self.observer, module.Trainer
        observer.trainer_class(base)

        def subclassed(cls: type[Any], /, **options: Any) -> None:
            super(base, cls).__init_subclass__(**options)
            observer.trainer_class(cls)

        base.__init_subclass__ = classmethod(subclassed)

    # ------------------------------------------------------------------------------------------------------- the record

    def _noting_errors(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
            if isinstance(error, Exception) and os.getpid() == self._owner:
                self.failed(error)
            original(kind, error, traceback)

        return hook

    def failed(self, error: Exception) -> None:
        """Note the exception that ended the script."""
        from finetune_compat.cell.runner import failure
        from finetune_compat.cell.script.arguments import unknown_arguments

        with suppress(Exception):  # an instrument must not replace the error of the script
            self._unknown = unknown_arguments(error)
        self._error = failure(error, self._observer.stage if self._observer else Stage.IMPORT)
        self.save()

    def _end(self) -> None:
        # A process that imports none of these libraries, for example a launcher, writes no record.
        if self._observer is not None:
            self.save()

    def save(self) -> None:
        """Write the record so far. It is written after every call, because anything may end the process."""
        if os.getpid() != self._owner:
            return  # a forked worker, for example of a data loader
        record = Pipeline(
            script=self.request.flow,
            arguments=redact_words(sys.argv[1:]),
            steps=self.request.steps,
            stack=self._stack(),
            device=_device(),
            runs=tuple(self.by_hand) or (self._observer.runs() if self._observer else ()),
            changed=self.notes.changed,
            unseen=(*self.notes.unseen, *self._not_trained()),
            error=self._error,
            unknown=self._unknown,
            read=self._inputs.read,
            hosts=self._inputs.hosts,
            unanswered=self._inputs.unanswered,
        )
        suffix = RANK if int(os.environ.get("RANK", "0") or 0) else ".json"
        write_atomically(Path(self.request.folder, f"{self._owner}{suffix}"), record.to_json())

    def _not_trained(self) -> tuple[str, ...]:
        alone = self._observer.loaded_only() if self._observer else ()
        return (f"loaded, not passed to a trainer and not measured: {', '.join(alone)}",) if alone else ()

    def _stack(self) -> StackRecord:
        found = {name: version for name in REPORTED if (version := _version(name))}
        wanted = self.request.torch_wanted or found.get("torch", "")
        return StackRecord(
            self.request.stack, platform.python_version(), self.request.lock_sha256, wanted, False, found
        )


def _then(original: Callable[..., None], note: Callable[[Any], None]) -> Callable[..., None]:
    """The constructor `original`, followed by a note of what it made."""

    @functools.wraps(original)
    def init(made: Any, *args: Any, **kwargs: Any) -> None:
        original(made, *args, **kwargs)
        note(made)

    return init


@functools.cache
def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _device() -> DeviceRecord:
    import torch

    from finetune_compat.cell import runner

    kind = DeviceKind.CUDA if torch.cuda.is_available() else DeviceKind.CPU
    return runner._device(kind, None)


def request_at(path: str) -> WatchRequest:
    """The request in the file at `path`."""
    return WatchRequest(**json.loads(Path(path).read_text(encoding="utf-8")))


def begin() -> None:
    """Watch this process. All processes that train together are watched, so that all end after the same step."""
    child_processes.end_with_parent()
    os.environ.pop(child_processes.PARENT, None)  # processes that the script starts may outlive the script
    global current  # noqa: PLW0603 - one per process
    current = Process(request_at(os.environ[REQUEST]))
    current.watch()


current: Process | None = None
