"""Where a watched script writes: what is redirected, linked and thrown away."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from finetune_compat.cell.script.kept import Kept
from finetune_compat.cell.script.notes import Notes
from finetune_compat.watch import host


def arguments(**given: object) -> SimpleNamespace:
    """The part of TrainingArguments that is read."""
    return SimpleNamespace(**{"output_dir": "out", "push_to_hub": False, "report_to": "none", **given})


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


class TestCheckpoints:
    """A script may look for the checkpoints of its own training."""

    def test_trainers_that_ask_for_the_same_directory_get_the_same(self, tmp_path: Path) -> None:
        """The second may resume what the first saved."""
        kept = Kept(tmp_path, Notes())
        first, second, other = arguments(), arguments(), arguments(output_dir="other")
        for given in (first, second, other):
            kept.training_arguments(given)
        assert first.output_dir == second.output_dir != other.output_dir
        assert kept.output_of("out") == first.output_dir
        assert kept.asked_for(first.output_dir) == str(Path("out").resolve())
        assert (kept.output_of("elsewhere"), kept.asked_for("elsewhere")) == (None, None)

    def test_a_checkpoint_can_be_read_where_the_script_expects_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The host removes the links; a checkpoint that the trainer removed has no link."""
        monkeypatch.chdir(tmp_path)
        given = arguments()
        kept = Kept(tmp_path / "scratch", Notes())
        kept.training_arguments(given)
        trainer = SimpleNamespace(args=given)
        save = kept.checkpointing(lambda trainer, step: filled(f"{trainer.args.output_dir}/checkpoint-{step}", "state"))
        save(trainer, 4)
        assert (tmp_path / "out" / "checkpoint-4" / "state").exists()
        shutil.rmtree(Path(given.output_dir, "checkpoint-4"))
        save(trainer, 8)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["checkpoint-8"]
        host._remove_links(tmp_path / "scratch")
        assert not (tmp_path / "out").exists()

    def test_links_to_checkpoints_are_no_files_of_the_user(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A final save into the same directory is kept, as in an empty one."""
        monkeypatch.chdir(tmp_path)
        given, notes = arguments(), Notes()
        kept = Kept(tmp_path / "scratch", notes)
        kept.training_arguments(given)
        kept.checkpointing(lambda trainer: filled(f"{trainer.args.output_dir}/checkpoint-4", "state"))(
            SimpleNamespace(args=given)
        )
        kept.saving(lambda owner, place: filled(place, owner))("model", "out")
        assert (tmp_path / "out" / "model").is_file() and not (tmp_path / "out" / "model").is_symlink()
        assert not any("is not empty" in sentence for sentence in notes.changed)
