"""Locks of projects: what is left out, what is built, and what moves in an upgrade. uv is a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.contract.errors import CompatError, InstallError, RegistryUnreachable
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate import resolve
from finetune_compat.gate.asked import Move, Upgrade
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.inputs import read_side, read_target, read_upgrade
from finetune_compat.stacks import index, locks
from finetune_compat.stacks.built import Built
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.locks import Unsolvable
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.stacks.uv_tool import Answer
from packaging.version import Version

MATRIX = read_matrix()
TRL = [Release(Version(text), date(2025, 9, 1)) for text in ("0.22.2", "0.23.1", "1.16.0", "1.17.0rc1")]
HASHES = " \\\n    --hash=sha256:" + "0" * 64 + "\n"


def unsolvable(cause: str) -> Answer:
    """uv's output where there is no solution."""
    return Answer(1, "", f"error: No solution found when resolving dependencies\n  cause: Because {cause}")


@dataclass
class Uv:
    """A resolver that locks what it is asked for, as pins."""

    refuse: Callable[[Sequence[str]], str | None] = lambda _: None
    """Why there is no solution for these requirements; None if there is one."""
    asked: list[list[str]] = field(default_factory=list)
    preferred: list[str] = field(default_factory=list)
    brings: dict[str, str] = field(default_factory=dict)
    """The pin of another package that a package needs, unless it is excluded."""

    def __call__(self, arguments: Sequence[str], **how: Any) -> Answer:
        """One call."""
        wanted = how["stdin"].split("\n")
        self.asked.append(wanted)
        cause = self.refuse(wanted)
        if cause is not None:
            return unsolvable(cause)
        pins = {line.partition("[")[0].partition("=")[0].partition("<")[0].partition(">")[0]: line for line in wanted}
        excluded = Path(arguments[arguments.index("--excludes") + 1]).read_text().split()
        for pin in (pin for name, pin in self.brings.items() if name in pins):
            if pin.partition("=")[0] not in excluded:
                pins[pin.partition("=")[0]] = pin
        kept = {}
        if "--output-file" in arguments:
            made = Path(arguments[arguments.index("--output-file") + 1])
            self.preferred = made.read_text().splitlines()
            kept = {line.partition("==")[0]: line for line in self.preferred}
        lines = {name: pin if "==" in pin else kept.get(name, f"{name}==1.0") for name, pin in pins.items()}
        body = "".join(f"{line}{HASHES}" for name, line in sorted(lines.items()) if name != "torch")
        if kept:
            made.write_text(body)
        return Answer(0, body, "")


@pytest.fixture
def uv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_places: Any) -> Uv:
    """The resolver, and an index that has releases of TRL, and wheels of everything."""
    found = Uv()
    in_places(environments=tmp_path / "envs")
    monkeypatch.setattr(locks, "run_uv", found)
    monkeypatch.setattr(index, "releases", lambda package: tuple(TRL))
    monkeypatch.setattr(index, "newest_without_wheel", lambda package, allowed: None)
    return found


def resolved(text: str, folder: Path, *more: str) -> tuple[resolve.Resolved, ...]:
    """A project with this requirements file, and its upgrades."""
    file = folder / "requirements.txt"
    file.write_text(text)
    side = read_side([str(file)], "--from", MATRIX)
    context = (MATRIX, DeviceKind.CPU, None, lambda _: None)
    before = resolve.resolve(side, "before", *context)
    return (
        before,
        *(resolve.resolve(read_target([word], "--to", side, MATRIX), word, *context, before) for word in more),
    )


def versions(of: resolve.Resolved) -> dict[str, str]:
    """The locked versions."""
    assert not isinstance(of.lock, Unsolvable)
    return dict(of.lock.requirements)


class TestProjects:
    def test_all_packages_of_the_file_are_installed(self, uv: Uv, tmp_path: Path) -> None:
        """Also those that the matrix does not know."""
        (found,) = resolved("trl==0.22.2\nwandb==0.21.3\n", tmp_path)
        assert versions(found)["wandb"] == "0.21.3"
        assert found.rule is Rule.FILE

    def test_what_the_index_does_not_have_is_left_out(self, uv: Uv, tmp_path: Path) -> None:
        """One after the other; the rest is installed, and the same gate asks the resolver nothing again."""

        def refuse(wanted: Sequence[str]) -> str | None:
            for name in ("acme==1", "other==2"):
                if name in wanted:
                    return f"{name.partition('=')[0]} was not found in the package registry and you require {name}"
            return None

        uv.refuse = refuse
        (found,) = resolved("trl==0.22.2\nacme==1\nother==2\nwandb==0.21.3\n", tmp_path)
        assert {"acme", "other"}.isdisjoint(versions(found)) and "wandb" in versions(found)
        assert [note.partition(";")[0] for note in found.not_followed if "left out" in note] == [
            "acme==1: left out, the index has no such package",
            "other==2: left out, the index has no such package",
        ]
        asked = len(uv.asked)
        (again,) = resolved("trl==0.22.2\nacme==1\nother==2\nwandb==0.21.3\n", tmp_path)
        assert (again, len(uv.asked)) == (found, asked)

    def test_libraries_of_a_build_of_torch_are_left_out_on_a_cpu(self, uv: Uv, tmp_path: Path) -> None:
        """The index has torchvision for CUDA only: `import torchvision` fails, and with it that of Transformers."""
        uv.brings, text = {"timm": "torchvision==0.28.0"}, "trl==0.22.2\ntimm==1.0\n"
        (found,) = resolved(text, tmp_path)
        assert "torchvision" not in versions(found) and versions(found)["trl"] == "0.22.2"
        assert found.not_followed[-1] == (
            "torchvision==0.28.0: left out, a package needs it, and the index has it for CUDA builds of torch only; a "
            "package or script that imports it fails on both sides, such as qwen-vl-utils"
        )
        asked = len(uv.asked)
        (again,) = resolved(text, tmp_path)
        assert (again.lock, again.not_followed, len(uv.asked)) == (found.lock, found.not_followed, asked)

    def test_a_gpu_has_them(self, uv: Uv, tmp_path: Path) -> None:
        """Its torch is the index's CUDA build."""
        uv.brings = {"timm": "torchvision==0.28.0"}
        (tmp_path / "requirements.txt").write_text("trl==0.22.2\ntimm==1.0\n")
        side = read_side([str(tmp_path / "requirements.txt")], "--from", MATRIX)
        found = resolve.resolve(side, "a", MATRIX, DeviceKind.CUDA, None, lambda _: None)
        assert versions(found)["torchvision"] == "0.28.0"

    def test_a_conflict_is_the_answer(self, uv: Uv, tmp_path: Path) -> None:
        """Nothing is left out to avoid it."""
        uv.refuse = lambda _: "unsloth==2025.8 depends on trl<0.20 and you require trl==0.22.2"
        (found,) = resolved("trl==0.22.2\nunsloth==2025.8\n", tmp_path)
        assert isinstance(found.lock, Unsolvable) and len(uv.asked) == 1

    @pytest.mark.parametrize("builds", [True, False])
    def test_what_has_no_wheel_is_built_or_left_out(
        self, uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds: bool
    ) -> None:
        """The build of a package with CUDA kernels fails here."""
        wheels = tmp_path / "wheels" / "rouge-score-0.1.2"

        def build(source: str, *, mark: bool, fresh: bool) -> Built:
            assert (source, mark) == ("rouge-score==0.1.2", False)
            if not builds:
                raise InstallError("it does not build here")
            return Built("rouge-score", "0.1.2", wheels)

        monkeypatch.setattr(resolve, "build", build)
        old = {"rouge-score": Version("0.1.2")}
        monkeypatch.setattr(index, "newest_without_wheel", lambda package, allowed: old.get(package))
        (found,) = resolved("trl==0.22.2\nrouge-score\n", tmp_path)
        if builds:
            assert (versions(found)["rouge-score"], found.plan.wheels) == ("0.1.2", (wheels,))
            assert locks.facts_of(found.plan)[locks.WHEELS] == str(wheels)
        else:
            assert "rouge-score" not in versions(found)
            assert any("left out, it has no wheel, and it does not build here" in note for note in found.not_followed)

    def test_a_release_of_the_stack_that_does_not_exist_is_bad_input(
        self, uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another release in its place would be another question."""
        uv.refuse = lambda _: "there is no version of trl==0.24.0.dev0 and you require trl==0.24.0.dev0"
        with pytest.raises(CompatError, match=r"trl has no release 0\.24\.0\.dev0 with a wheel"):
            resolved("trl==0.24.0.dev0\n", tmp_path)


class TestUpgrades:
    def test_only_what_must_follow_moves(self, uv: Uv, tmp_path: Path) -> None:
        """The resolver prefers every version of the other side but that of the package itself."""
        before, after = resolved("trl==0.22.2\npeft==0.17.1\nwandb==0.21.3\nrich>=13\n", tmp_path, "trl==0.23.1")
        moved = {name for name, version in versions(after).items() if versions(before)[name] != version}
        assert moved == {"trl"}
        assert {"peft==0.17.1", "wandb==0.21.3"} <= set(uv.preferred)
        assert not any(line.startswith("trl==") for line in uv.preferred)
        assert {"trl==0.23.1", "peft", "wandb", "rich>=13"} <= set(uv.asked[-1])
        assert [str(pin) for pin in after.pins] == ["trl==0.23.1"]

    def test_a_range_is_given_up_only_if_nothing_goes_together(self, uv: Uv, tmp_path: Path) -> None:
        """The answer says so, because the file must change too."""
        uv.refuse = lambda wanted: "trl==1.16.0 depends on rich>=14" if {"trl==1.16.0", "rich<1"} <= {*wanted} else None
        _, after = resolved("trl==0.22.2\nrich<1\n", tmp_path, "trl==1.16.0")
        assert versions(after)["trl"] == "1.16.0"
        assert after.not_followed[-1] == "rich<1: your project's range does not allow the upgrade, which needs rich 1.0"

    @pytest.mark.parametrize(
        ("word", "version"),
        [("trl==latest", "1.16.0"), ("trl>=0.22,<1", "0.23.1"), ("trl>=1.17.0rc1", "1.17.0rc1"), ("latest", "1.16.0")],
    )
    def test_the_index_tells_the_newest(self, uv: Uv, tmp_path: Path, word: str, version: str) -> None:
        """A pre-release only if it is asked for."""
        _, after = resolved("trl==0.22.2\nwandb==0.21.3\n", tmp_path, word)
        assert versions(after)["trl"] == version
        assert versions(after)["wandb"] == "0.21.3"

    def test_a_range_without_a_release(self, uv: Uv, tmp_path: Path) -> None:
        """The message has the newest."""
        with pytest.raises(CompatError, match=r"trl has no release >=9 with a wheel"):
            resolved("trl==0.22.2\n", tmp_path, "trl>=9")

    def test_other_packages_move_too(self, uv: Uv, tmp_path: Path) -> None:
        """An upgrade may be of any package that the project names."""
        file = tmp_path / "requirements.txt"
        file.write_text("trl==0.22.2\nwandb==0.21.3\n")
        side = read_side([str(file)], "--from", MATRIX)
        context = (MATRIX, DeviceKind.CPU, None, lambda _: None)
        before = resolve.resolve(side, "x", *context)
        after = resolve.resolve(read_upgrade(["wandb==0.22"], side, MATRIX), "y", *context, before)
        assert (versions(after)["trl"], versions(after)["wandb"]) == ("0.22.2", "0.22")

    def test_another_release_for_a_project_is_the_same_move(self, uv: Uv, tmp_path: Path) -> None:
        """The search for a release that passes keeps the other versions."""
        _, after = resolved("trl==0.22.2\nwandb==0.21.3\n", tmp_path, "trl==1.16.0")
        tried = resolve.of_release(after, "trl", Version("0.23.1"), date(2025, 9, 1), MATRIX, DeviceKind.CPU)
        assert (versions(tried)["trl"], versions(tried)["wandb"]) == ("0.23.1", "0.21.3")

    def test_what_is_built_is_pinned_to_its_own_version(
        self, uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No index has it, so no other wheel can take its place."""
        folder = tmp_path / "wheels" / "trl-1.17.0.dev0+habc"
        monkeypatch.setattr(resolve, "build", lambda source, *, mark, fresh: Built("trl", "1.17.0.dev0+habc", folder))
        _, after = resolved("trl==0.22.2\nwandb==0.21.3\n", tmp_path, "trl @ git+https://x.org/trl@main")
        assert (versions(after)["trl"], after.plan.wheels) == ("1.17.0.dev0+habc", (folder,))
        alone = resolve.resolve(
            Upgrade((Move("trl", secret_address="git+https://x.org/trl@main"),), "3.11", in_project=False),
            "z",
            *(MATRIX, DeviceKind.CPU, None, lambda _: None),
        )
        assert (alone.rule, versions(alone)["trl"]) == (Rule.OF_ITS_DAY, "1.17.0.dev0+habc")
        assert alone.plan.as_of == datetime.now(UTC).date()

    def test_a_build_of_another_package_is_refused(
        self, uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The address is wrong."""
        monkeypatch.setattr(resolve, "build", lambda source, *, mark, fresh: Built("peft", "1+h", tmp_path))
        with pytest.raises(CompatError, match="it is peft, and not trl"):
            resolved("trl==0.22.2\n", tmp_path, "trl @ git+https://x.org/peft@main")


BODY = f"trl==0.22.1 \\\n    --hash=sha256:{'0' * 64}\n"


class TestLocks:
    @pytest.fixture(autouse=True)
    def _elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> None:
        in_places(environments=tmp_path)
        monkeypatch.setattr(index, "release_day", lambda package, version: date(2025, 8, 29))

    def made(self, text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[resolve.Resolved, list[list[str]]]:
        """Return the resolved side and the calls of uv."""
        calls: list[list[str]] = []

        def run_uv(arguments: list[str], **how: Any) -> Answer:
            calls.append([*arguments, *how["stdin"].split("\n")])
            return Answer(0, BODY, "")

        monkeypatch.setattr(locks, "run_uv", run_uv)
        side = read_side([text], "--to", MATRIX)
        return resolve.resolve(side, text, MATRIX, DeviceKind.CPU, None, lambda _: None), calls

    def test_a_pin_is_resolved_as_a_row_of_its_day_would_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """uv gets its requirement, the matrix's other packages and the end of its day, once."""
        found, calls = self.made("trl==0.22.1", monkeypatch)
        row = MATRIX.plan(MATRIX.stack("trl0.22.0"), "3.11")
        expected = tuple("trl==0.22.1" if item == "trl==0.22.0" else item for item in row.requirements)
        assert (found.stack, found.plan.requirements, found.plan.as_of) == ("trl0.22.1-py311", expected, row.as_of)
        assert (found.plan.exempt, found.plan.excluded, found.plan.torch) == (row.exempt, row.excluded, row.torch)
        assert "2025-08-30T00:00:00Z" in calls[0]
        again, no_calls = self.made("trl==0.22.1", monkeypatch)
        assert (again, no_calls) == (found, [])

    def test_extras_are_requested_or_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """This also holds for releases that are tried as a safe target; the lock of a row has no extras."""
        found, _ = self.made("trl[vllm]==0.22.1", monkeypatch)
        assert (found.stack, found.not_followed) == ("trl-vllm0.22.1-py311", ())
        other = resolve.of_release(found, "trl", Version("0.22.2"), date(2025, 9, 3), MATRIX, DeviceKind.CPU)
        assert other.stack == "trl-vllm0.22.2-py311" and "trl[vllm]==0.22.2" in other.plan.requirements
        row, _ = self.made("trl[vllm]==0.22.2", monkeypatch)
        told = ("trl[vllm]==0.22.2: the committed lock of trl0.22 has no extras",)
        assert (row.stack, row.not_followed) == ("trl0.22-py311", told)

    def test_another_content_of_a_file_is_another_lock(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """uv gets all of its packages."""
        file = tmp_path / "requirements.txt"
        file.write_text("trl==0.22.1\ntokenizers==0.22.0\n")
        one, calls = self.made(str(file), monkeypatch)
        assert {"trl==0.22.1", "tokenizers==0.22.0"} <= set(calls[0])
        file.write_text("trl==0.22.1\ntokenizers==0.22.1\n")
        other, _ = self.made(str(file), monkeypatch)
        assert one.stack != other.stack

    def test_constraints_limit_and_are_not_installed(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """An included file may narrow what the file names, and what others need."""
        (tmp_path / "more.txt").write_text("trl<0.23\nours>=1\n")
        file = tmp_path / "requirements.txt"
        file.write_text("-c more.txt\ntrl>=0.22\n")
        found, _ = self.made(str(file), monkeypatch)
        rest = [name for name in MATRIX.packages if name != "trl"]
        assert list(found.plan.requirements) == ["trl>=0.22", *rest, *MATRIX.tools]
        assert found.plan.constraints == ("ours>=1", "trl<0.23")

    def test_an_unreachable_registry_is_an_infrastructure_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is known about the versions."""
        monkeypatch.setattr(locks, "run_uv", lambda *_, **__: Answer(2, "", "error: Failed to fetch: `https://x`"))
        side = read_side(["trl==0.22.1"], "--to", MATRIX)
        with pytest.raises(RegistryUnreachable) as raised:
            resolve.resolve(side, "trl==0.22.1", MATRIX, DeviceKind.CPU, None, lambda _: None)
        assert str(raised.value) == (
            "trl0.22.1-py311: no lock could be made: Failed to fetch: `https://x`\n"
            "The package index did not answer, or uv itself failed.\n"
            "Check the connection and run the gate again, or name stacks of the matrix: they have locks."
        )
