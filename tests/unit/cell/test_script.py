"""The parts of watching a script that need no torch: imports, notebooks, redirected directories."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
from finetune_compat.cell.script import without_gpu
from finetune_compat.cell.script.imports import AfterImport
from finetune_compat.cell.script.kept import Kept
from finetune_compat.cell.script.notes import Notes
from finetune_compat.cell.script.process import Process
from finetune_compat.watch import host


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package whose __init__ takes a name out of its own module, as PEFT's does."""
    (tmp_path / "watched_pkg").mkdir()
    (tmp_path / "watched_pkg" / "__init__.py").write_text("from .inner import prepare\n")
    (tmp_path / "watched_pkg" / "inner.py").write_text("def prepare(): return 'plain'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.startswith("watched_pkg")]:
        del sys.modules[name]


def with_finder(monkeypatch: pytest.MonkeyPatch, change: Callable[[ModuleType], None], failures: list[str]) -> None:
    finder = AfterImport({"watched_pkg.inner": change}, {}, lambda name, error: failures.append(f"{name}: {error}"))
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])


def test_a_change_comes_before_anybody_takes_a_name(package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(module: ModuleType) -> None:
        module.prepare = lambda: "watched"  # type: ignore[attr-defined]

    with_finder(monkeypatch, change, [])
    import watched_pkg  # type: ignore[import-not-found]

    assert watched_pkg.prepare() == "watched"


def test_a_change_that_fails_is_told_and_the_import_goes_on(package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(module: ModuleType) -> None:
        raise TypeError("no")

    failures: list[str] = []
    with_finder(monkeypatch, change, failures)
    import watched_pkg

    assert (watched_pkg.prepare(), failures) == ("plain", ["watched_pkg.inner: no"])


def arguments(**given: object) -> SimpleNamespace:
    """The part of TrainingArguments that is read."""
    return SimpleNamespace(**{"output_dir": "out", "push_to_hub": False, "report_to": "none", **given})


class TestWithoutAGpu:
    """Which arguments of TrainingArguments refuse a CPU, and which a CPU can do."""

    @pytest.mark.parametrize(
        ("given", "taken", "said"),
        [
            ({"bf16": True}, {"bf16": False}, "bf16=True was taken as False: bfloat16 training needs a GPU"),
            ({"bf16_full_eval": True}, {"bf16_full_eval": False}, "bf16_full_eval=True was taken as False: bfloat16"),
            ({"bf16": True, "use_cpu": False, "no_cuda": False}, {"bf16": False}, "bf16=True was taken as False"),
            ({"fp16": True}, {"fp16": False}, "fp16=True was taken as False: float16 training needs a GPU"),
            ({"fp16_full_eval": True}, {"fp16_full_eval": False}, "fp16_full_eval=True was taken as False: float16"),
            ({"tf32": True}, {"tf32": None}, "tf32=True was left out: it needs a GPU"),
            ({"optim": "paged_adamw_8bit"}, {"optim": "adamw_torch"}, "optim='paged_adamw_8bit' was taken as"),
        ],
    )
    def test_what_needs_one_is_redirected_and_said(
        self, given: dict[str, object], taken: dict[str, object], said: str
    ) -> None:
        notes, made = Notes(), arguments(**given)
        without_gpu.training_arguments(made, notes)
        assert vars(made) == vars(arguments(**{**given, **taken}))
        (sentence,) = notes.changed
        assert sentence.startswith(said)

    @pytest.mark.parametrize(
        "given",
        [
            {"bf16": True, "bf16_full_eval": True, "use_cpu": True},
            {"bf16": True, "no_cuda": True},  # before version 5 Transformers treats it as use_cpu
            {"bf16": False, "fp16": False, "tf32": False, "optim": "adamw_torch_fused"},
            {"bf16": None},
        ],
    )
    def test_what_a_cpu_can_do_is_unchanged(self, given: dict[str, object]) -> None:
        """A script that asks for a CPU gets the bfloat16 it asks for."""
        notes, made = Notes(), arguments(**given)
        without_gpu.training_arguments(made, notes)
        assert (vars(made), notes.changed) == (vars(arguments(**given)), ())

    def test_a_subclass_that_sets_bf16_itself_is_redirected(self) -> None:
        """TRL's configurations do so before they call the base class, if the script sets neither bf16 nor fp16."""

        class Base:
            bf16: bool | None = None
            fp16 = False

            def __post_init__(self) -> None:
                if self.bf16:
                    raise ValueError("Your setup doesn't support bf16/gpu.")

        class Config(Base):
            def __post_init__(self) -> None:
                self.bf16 = not self.fp16 if self.bf16 is None else self.bf16
                super().__post_init__()

        notes = Notes()
        kept = SimpleNamespace(training_arguments=lambda given: None)
        watched = SimpleNamespace(notes=notes, observer=SimpleNamespace(kept=kept, without_gpu=True))
        Process._arguments(cast("Process", watched), cast("ModuleType", SimpleNamespace(TrainingArguments=Base)))
        made = Config()
        made.__post_init__()
        assert made.bf16 is False
        assert notes.changed == ("bf16=True was taken as False: bfloat16 training needs a GPU, or use_cpu=True",)


def filled(place: str, name: str) -> str:
    """The directory `place` with an empty file `name`."""
    Path(place).mkdir(exist_ok=True)
    (Path(place) / name).touch()
    return place


class TestWhereItWrites:
    def test_a_trainer_writes_where_it_is_thrown_away(self, tmp_path: Path) -> None:
        notes = Notes()
        given = arguments(push_to_hub=True, report_to=["wandb"], logging_dir="runs")
        kept = Kept(tmp_path, notes)
        kept.training_arguments(given)
        assert Path(given.output_dir).parent == Path(given.logging_dir).parent == tmp_path
        assert (given.push_to_hub, given.report_to) == (False, "none")
        assert notes.changed == (
            "output_dir='out' was replaced by a directory that is deleted afterwards, with its checkpoints",
            "push_to_hub=True was taken as False",
            "report_to=['wandb'] was taken as 'none'",
        )
        before = given.output_dir
        kept.training_arguments(given)  # trainers build their own arguments from the user's
        assert given.output_dir == before

    @pytest.mark.parametrize("by_name", [True, False])
    def test_what_holds_something_is_not_saved_into(self, tmp_path: Path, by_name: bool) -> None:
        scratch, full, empty = tmp_path / "scratch", tmp_path / "full", tmp_path / "empty"
        for place in (scratch, full, empty):
            place.mkdir()
        (full / "adapter").touch()
        notes, places = Notes(), []
        save = Kept(scratch, notes).saving(lambda owner, place=None, **options: places.append((place, options)))
        for place in (full, empty, tmp_path / "new"):
            save(None, save_directory=place) if by_name else save(None, place)
        save(None)
        assert Path(places[0][0]).parent == scratch
        assert [place for place, _ in places[1:]] == [str(empty), str(tmp_path / "new"), None]
        left = f"{str(full)!r} is not empty and was not changed: files saved to it were deleted afterwards"
        assert notes.changed == (left,)

    def test_what_was_empty_is_the_runs_own(self, tmp_path: Path) -> None:
        """A tokenizer is saved next to its model."""
        notes, places = Notes(), []
        save = Kept(tmp_path / "scratch", notes).saving(lambda owner, place: places.append(filled(place, owner)))
        for name in ("model", "tokenizer"):
            save(name, tmp_path / "final")
        assert places == [str(tmp_path / "final")] * 2
        assert notes.changed == ()

    def test_where_everything_is_thrown_away_it_can_be_read_back(self, tmp_path: Path) -> None:
        """The links last until the host removes them: nothing is where the script saved it; nothing else changes."""
        scratch, empty, full = tmp_path / "scratch", tmp_path / "empty", tmp_path / "full"
        empty.mkdir()
        filled(str(full), "mine")
        notes = Notes()
        save = Kept(scratch, notes, everything=True).saving(lambda owner, place: filled(place, owner))
        for place in (tmp_path / "deep" / "new", empty, full):
            for name in ("model", "tokenizer"):
                save(name, place)
            assert (place / "model").read_text() == (place / "tokenizer").read_text() == ""
            assert (place / "model").resolve().is_relative_to(scratch)
        assert notes.changed == (
            f"files saved to '{tmp_path}/deep/new' were deleted after the script ended",
            f"files saved to '{tmp_path}/empty' were deleted after the script ended",
            f"'{tmp_path}/full' is not empty and was not changed: files saved to it were deleted afterwards",
        )
        (empty / "notes").touch()
        host._remove_links(scratch)
        assert sorted(path.name for path in tmp_path.rglob("*") if scratch not in (path, *path.parents)) == [
            *("empty", "full", "mine", "notes")
        ]

    def test_of_what_is_there_already_nothing_is_mixed_with_what_was_saved(self, tmp_path: Path) -> None:
        """An earlier training is read back whole."""
        for name in ("model", "mine"):
            filled(str(tmp_path / "full"), name)
        save = Kept(tmp_path / "scratch", Notes()).saving(lambda owner, place: [filled(place, name) for name in owner])
        save(("model", "shard"), tmp_path / "full")
        assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["mine", "model"]

    def test_everything_of_a_module_that_saves_itself_is_followed(self, tmp_path: Path) -> None:
        """A module's own definitions are followed; what it inherits or imports belongs to another module."""
        module = ModuleType("savers")
        code = (
            "class Model:\n def save_pretrained(self, save_directory): return save_directory\n"
            " def push_to_hub(self): return 1\n"
            "class Own(Model): pass\nclass Config:\n def save_pretrained(self, save_directory): return save_directory\n"
        )
        exec(code, vars(module))  # noqa: S102 - a library's module is executed in the same way
        notes = Notes()
        kept = Kept(tmp_path / "scratch", notes, everything=True)
        kept.savers(module)
        for cls in (module.Model, module.Own, module.Config):
            assert Path(cls().save_pretrained(tmp_path / cls.__name__)).parent == tmp_path / "scratch"
        assert module.Own().push_to_hub() is None and not hasattr(module.Config, "push_to_hub")
        assert notes.changed[-1] == "push_to_hub() uploaded nothing"

    def test_nothing_is_pushed(self, tmp_path: Path) -> None:
        notes, seen = Notes(), []
        kept = Kept(tmp_path, notes)
        kept.saving(lambda owner, place, **options: seen.append(options))(None, tmp_path / "new", push_to_hub=True)
        kept.pushing(None, "me/model")
        assert seen == [{"push_to_hub": False}]
        assert notes.changed == ("push_to_hub=True was taken as False", "push_to_hub() uploaded nothing")


def test_a_sentence_is_said_once() -> None:
    notes = Notes()
    for _ in range(2):
        notes.change("a")
        notes.miss("b")
    assert (notes.changed, notes.unseen) == (("a",), ("b",))
