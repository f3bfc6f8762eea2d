"""Choosing GPUs: the driver's list, the restriction by CUDA_VISIBLE_DEVICES, and the choice."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine import gpus as devices
from finetune_compat.machine.gpus import (
    GB,
    USUAL,
    Choice,
    Gpu,
    GpuFailed,
    Wanted,
    choose,
    kind_of,
    lines_of,
    read_gpus,
    visible,
)
from hypothesis import given
from hypothesis import strategies as st

H100, SMALL = "NVIDIA H100 80GB HBM3", "NVIDIA L4"


def gpu(index: int, *, used: float = 0.5, total: float = 80.0, name: str = H100, fault: str = "") -> Gpu:
    """A whole GPU with this much memory used and in total, in GB."""
    uuid = f"GPU-{index}f-{index}"
    return Gpu(index, None, uuid, uuid, name, int(total * GB), int(used * GB), fault)


def part(index: int, number: int, *, used: float = 0.0) -> Gpu:
    """A part of a GPU in MIG mode, with 10 GB."""
    uuid = f"MIG-{index}{number}-5f"
    return Gpu(index, number, uuid, f"GPU-{index}f-{index}", f"{H100} MIG 1g.10gb", 10 * GB, int(used * GB))


def chosen(gpus: Sequence[Gpu], wanted: Wanted = USUAL) -> tuple[Gpu, ...]:
    """Return the chosen GPUs if all may be used."""
    return choose(gpus, gpus, wanted).chosen


# -------------------------------------------------------------------------------------------------------------- choice


def test_the_first_two_idle_gpus_are_taken() -> None:
    """Idle means less than 2 GB used and more than 40 GB in total, as users chose by hand; a busy one is skipped."""
    gpus = [gpu(0), gpu(1, used=30), gpu(2), gpu(3)]
    assert chosen(gpus) == (gpus[0], gpus[2])


def test_one_idle_gpu_is_taken_alone() -> None:
    """A busy one does not become the second."""
    gpus = [gpu(0, used=2.1), gpu(1)]
    assert chosen(gpus) == (gpus[1],)


def test_without_an_idle_gpu_the_one_with_most_memory_free_is_taken() -> None:
    """A small GPU is taken too; of equals, the first."""
    gpus = [gpu(0, used=70), gpu(1, total=24, used=1), gpu(2, used=57)]
    assert chosen(gpus) == (gpus[1],)
    assert chosen([gpus[2], gpus[1]]) == (gpus[2],)


@pytest.mark.parametrize(
    ("used", "total", "idle"),
    [(1.999, 80, True), (2, 80, False), (0, 40, False), (0, 40.001, True), (1.999, 40, False)],
)
def test_limits_are_exclusive(used: float, total: float, idle: bool) -> None:
    """A GPU of exactly 40 GB is not larger than 40."""
    other = gpu(1, used=100, total=101)
    choice = choose([gpu(0, used=used, total=total), other], [gpu(0, used=used, total=total), other], USUAL)
    assert choice.idle is idle


def test_users_set_number_and_limits() -> None:
    """They allow more GPUs, busier ones and smaller ones."""
    gpus = [gpu(0, used=9, total=24), gpu(1, used=9, total=16), gpu(2, used=11, total=24), gpu(3, total=24)]
    assert chosen(gpus, Wanted(3, 10, 16)) == (gpus[0], gpus[3])


sizes = st.integers(0, 90 * GB)
machines = st.lists(st.tuples(sizes, sizes, st.booleans()), min_size=1, max_size=9).map(
    lambda found: tuple(
        Gpu(i, None, f"GPU-{i}", f"GPU-{i}", H100, max(a, b), min(a, b), "lost" if lost else "")
        for i, (a, b, lost) in enumerate(found)
    )
)
limits = st.builds(Wanted, st.integers(1, 4), st.floats(0.1, 90), st.floats(0, 90))


@st.composite
def situations(draw: st.DrawFn) -> tuple[tuple[Gpu, ...], tuple[Gpu, ...], Wanted]:
    """A machine, the GPUs that may be used in any order, and the request; some candidate answers."""
    gpus = draw(machines.filter(lambda found: any(not each.fault for each in found)))
    usable = draw(st.sampled_from([each for each in gpus if not each.fault]))
    others = draw(st.lists(st.sampled_from(gpus), unique=True))
    return gpus, tuple(dict.fromkeys([usable, *others])), draw(limits)


@given(situations())
def test_every_gpu_is_taken_or_rejected_with_a_reason(
    situation: tuple[tuple[Gpu, ...], tuple[Gpu, ...], Wanted],
) -> None:
    """No GPU is missing or in both lists, and only candidates that answer are taken."""
    gpus, candidates, wanted = situation
    choice = choose(gpus, candidates, wanted)
    rejected = [each for each, _ in choice.rejected]
    assert sorted([*choice.chosen, *rejected], key=lambda each: each.index) == list(gpus)
    assert all(reason for _, reason in choice.rejected)
    assert 1 <= len(choice.chosen) <= wanted.most
    assert all(each in candidates and not each.fault for each in choice.chosen)


@given(situations())
def test_idle_gpus_are_taken_up_to_the_number_and_no_other_beside_them(
    situation: tuple[tuple[Gpu, ...], tuple[Gpu, ...], Wanted],
) -> None:
    """They are in the order of the candidates; without an idle one, the one taken has the most free memory."""
    gpus, candidates, wanted = situation
    choice = choose(gpus, candidates, wanted)
    usable = [each for each in candidates if not each.fault]
    fitting = [each for each in usable if each.used < wanted.idle_below * GB and each.total > wanted.larger_than * GB]
    assert choice.idle is bool(fitting)
    if fitting:
        assert list(choice.chosen) == fitting[: wanted.most]
    else:
        [only] = choice.chosen
        assert only.total - only.used == max(each.total - each.used for each in usable)


@given(situations())
def test_the_choice_is_one_line_or_two(situation: tuple[tuple[Gpu, ...], tuple[Gpu, ...], Wanted]) -> None:
    """The second line is for rejected GPUs. Every GPU is named once."""
    gpus, candidates, wanted = situation
    choice = choose(gpus, candidates, wanted)
    first, *rest = lines_of(choice)
    assert all(first.count(f"{each} ") == 1 for each in choice.chosen)
    assert [line.count(": ") for line in rest] == ([len(choice.rejected)] if choice.rejected else [])
    assert all(rest[0].count(f"{each}: ") == 1 for each, _ in choice.rejected)
    assert "\n" not in first + "".join(rest)


def test_gpus_that_do_not_answer_are_an_infrastructure_failure() -> None:
    """No other GPU may be used; the message has the driver's error for each."""
    lost = gpu(1, fault="NVML: GPU is lost")
    with pytest.raises(GpuFailed) as raised:
        choose([gpu(0), lost], [lost], USUAL)
    assert raised.value.exit_code is ExitCode.COULD_NOT_TELL
    assert str(raised.value) == (
        "the NVIDIA driver: GPU 1: NVML: GPU is lost\n"
        "No visible GPU answers.\n"
        "Run nvidia-smi and read its error, or use --device cpu."
    )


@pytest.mark.parametrize(
    ("wanted", "sense"),
    [
        (USUAL, True),
        (Wanted(1, 0.1, 0), True),
        (Wanted(0, 2, 40), False),
        (Wanted(-1, 2, 40), False),
        (Wanted(2, 0, 40), False),
        (Wanted(2, -1, 40), False),
        (Wanted(2, 2, -1), False),
        (Wanted(2, math.inf, 40), False),
        (Wanted(2, math.nan, 40), False),
        (Wanted(2, 2, math.inf), False),
        (Wanted(2, 2, math.nan), False),
    ],
)
def test_limits_that_no_gpu_can_meet_are_refused(wanted: Wanted, sense: bool) -> None:
    """Examples are no GPU, negative memory, and infinite size; NaN is invalid too."""
    assert wanted.makes_sense is sense


# -------------------------------------------------------------------------------------------------------------- saying


def printed(choice: Choice) -> str:
    """Return the printed lines."""
    return "\n".join(lines_of(choice))


def test_the_message_has_the_limits_and_the_reasons_of_rejection() -> None:
    """There is an example of each reason."""
    gpus = [
        gpu(0),
        gpu(1, used=45.1),
        gpu(2, total=24, name=SMALL),
        gpu(3, total=24, used=12, name=SMALL),
        gpu(4),
        gpu(5),
        gpu(6),
        gpu(7, fault="NVML: GPU is lost"),
    ]
    hidden = gpus[6]
    assert printed(choose(gpus, [each for each in gpus if each is not hidden], USUAL)) == (
        "GPU 0 (NVIDIA H100 80GB HBM3), GPU 4 (NVIDIA H100 80GB HBM3) of 8: idle and large enough "
        "(under 2 GB used, over 40 GB in all)\n"
        "not GPU 1: 45.1 GB used; GPU 2: 24.0 GB in all; GPU 3: 12.0 GB used, 24.0 GB in all; "
        "GPU 5: not needed, 2 of them are enough; GPU 6: hidden by CUDA_VISIBLE_DEVICES; GPU 7: NVML: GPU is lost"
    )


def test_the_fallback_is_reported_as_one() -> None:
    """It has the limits that the GPU does not meet, and its values."""
    gpus = [gpu(0, used=70), gpu(1, used=50.5)]
    assert printed(choose(gpus, gpus, Wanted(2, 2.5, 40))) == (
        "GPU 1 (NVIDIA H100 80GB HBM3) of 2: none is idle and large enough (under 2.5 GB used, over 40 GB in all), "
        "and it has most memory free, 29.5 GB\n"
        "not GPU 0: 70.0 GB used"
    )


def test_a_gpu_that_is_alone_takes_one_line() -> None:
    """There is nothing to reject. A MIG part is named by its board and its number."""
    only = [part(0, 1)]
    assert printed(choose(only, only, Wanted(2, 2, 5))) == (
        "GPU 0 MIG 1 (NVIDIA H100 80GB HBM3 MIG 1g.10gb) of 1: idle and large enough "
        "(under 2 GB used, over 5 GB in all)"
    )


def test_the_device_depends_on_the_gpus() -> None:
    """Without GPUs, cells run on the CPU."""
    assert (kind_of([gpu(0)]), kind_of([])) == (DeviceKind.CUDA, DeviceKind.CPU)


# ------------------------------------------------------------------------------------------------ CUDA_VISIBLE_DEVICES


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", [1]),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("0,", [0]),
        ("0,-1,2", [0]),
        ("0,7,2", [0]),
        ("1,1", [1]),
        ("GPU-1f-1", [1]),
        ("GPU-2", [2]),
        ("GPU-2,GPU-0,GPU-9,GPU-1", [2, 0]),
        ("GPU-", []),
        ("MIG-1", []),
        ("2,GPU-1", [2, 1]),
    ],
)
def test_a_hidden_gpu_is_no_candidate(names: str | None, seen: list[int]) -> None:
    """Numbers, UUIDs and prefixes of UUIDs are used in the given order; an invalid entry ends the list."""
    gpus = [gpu(0), gpu(1), gpu(2)]
    assert [each.index for each in visible(gpus, names, None)] == seen


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        (None, [(0, 0), (0, 1), (1, None)]),
        ("0", [(0, 0), (0, 1)]),
        ("GPU-0", [(0, 0), (0, 1)]),
        ("MIG-01-5f", [(0, 1)]),
        ("MIG-01,MIG-00", [(0, 1), (0, 0)]),
        ("MIG-0", []),
        ("1", [(1, None)]),
    ],
)
def test_a_board_in_mig_mode_is_its_parts(names: str | None, seen: list[tuple[int, int | None]]) -> None:
    """The parts are named one by one or together; a prefix that fits two of them is invalid."""
    gpus = [part(0, 0), part(0, 1), gpu(1)]
    assert [(each.index, each.part) for each in visible(gpus, names, None)] == seen


def test_numbers_of_gpus_that_differ_need_an_order() -> None:
    """CUDA sorts by speed, the driver by bus. UUIDs are unambiguous, and so are numbers of equal GPUs."""
    gpus = [gpu(0, name=SMALL), gpu(1)]
    with pytest.raises(CompatError) as raised:
        visible(gpus, "GPU-0,1", None)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert str(raised.value) == (
        "the environment: CUDA_VISIBLE_DEVICES=GPU-0,1, and these GPUs are not all alike\n"
        "CUDA then numbers the fastest first, and the driver by PCI bus: a number may mean either.\n"
        "Set CUDA_DEVICE_ORDER=PCI_BUS_ID, and number them as nvidia-smi does, or name them by UUID."
    )
    with pytest.raises(CompatError):
        visible(gpus, "1", "FASTEST_FIRST")
    assert visible(gpus, "1", "PCI_BUS_ID") == (gpus[1],)
    assert visible(gpus, "GPU-1", None) == (gpus[1],)
    assert visible(gpus, "", None) == ()
    assert visible([gpu(0), gpu(1, fault="NVML: GPU is lost", name="")], "0", None) == (gpu(0),)


# ------------------------------------------------------------------------------------------------------------- reading


class Driver:
    """A stand-in for the driver, behind NVIDIA's Python module."""

    def __init__(self, boards: Sequence[Sequence[Gpu | None]]) -> None:
        self.boards = boards
        """Each board is a GPU, or a list of the places of its parts; None is an empty place."""
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        assert self.open
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:  # noqa: N802
        first = next((each for each in self.boards[handle] if each is not None), None)
        if first is not None and first.name == SMALL:
            raise pynvml.NVMLError_NotSupported
        on = first is None or first.part is not None
        return [pynvml.NVML_DEVICE_MIG_ENABLE if on else pynvml.NVML_DEVICE_MIG_DISABLE, 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: int) -> int:  # noqa: N802
        return len(self.boards[handle])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: int, place: int) -> Gpu:  # noqa: N802
        found = self.boards[handle][place]
        if found is None:
            raise pynvml.NVMLError_NotFound
        return found

    def of(self, handle: int | Gpu) -> Gpu:
        """Return the GPU of a handle; for a board in MIG mode, its first part."""
        if isinstance(handle, Gpu):
            return handle
        found = next((each for each in self.boards[handle] if each is not None), None)
        return found or gpu(handle)

    def nvmlDeviceGetUUID(self, handle: int | Gpu) -> str:  # noqa: N802
        found = self.of(handle)
        return found.uuid if isinstance(handle, Gpu) else found.board

    def nvmlDeviceGetName(self, handle: int | Gpu) -> str:  # noqa: N802
        return self.of(handle).name

    def nvmlDeviceGetMemoryInfo(self, handle: int | Gpu) -> SimpleNamespace:  # noqa: N802
        found = self.of(handle)
        if found.fault:
            raise pynvml.NVMLError_GpuIsLost
        return SimpleNamespace(total=found.total, used=found.used, free=0)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Driver], Driver]:
    """A machine with this driver and without device files."""

    def install(driver: Driver) -> Driver:
        for name in dir(driver):
            if name.startswith("nvml"):
                monkeypatch.setattr(pynvml, name, getattr(driver, name))
        monkeypatch.setattr(devices, "_device_files", lambda: False)
        return driver

    return install


def failing(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """A machine whose driver fails."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(pynvml, "nvmlInit", fail)


def test_gpus_are_read_from_the_driver(installed: Callable[[Driver], Driver]) -> None:
    """They are in its order, with names, UUIDs and memory; old GPUs know no parts. The driver is shut down
    afterwards.
    """
    there = [gpu(0, used=3), gpu(1, total=24, name=SMALL)]
    driver = installed(Driver([[each] for each in there]))
    assert read_gpus() == tuple(there)
    assert driver.open == 0


def test_a_board_in_mig_mode_is_read_as_its_parts(installed: Callable[[Driver], Driver]) -> None:
    """Empty places are skipped; a board without any part is no GPU."""
    parts = [part(0, 0), part(0, 1, used=1)]
    installed(Driver([[None, parts[0], None, parts[1]], [None, None], [gpu(2)]]))
    assert read_gpus() == (*parts, gpu(2))


def test_a_lost_gpu_does_not_affect_others(installed: Callable[[Driver], Driver]) -> None:
    """It is listed with the driver's error."""
    installed(Driver([[gpu(0, fault="lost")], [gpu(1)]]))
    assert read_gpus() == (Gpu(0, None, "", "", "", 0, 0, "NVML: GPU is lost"), gpu(1))


@pytest.mark.parametrize("error", [pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded])
def test_a_machine_without_a_driver_has_no_gpu(
    installed: Callable[[Driver], Driver], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """This is no error."""
    installed(Driver([]))
    failing(monkeypatch, error)
    assert read_gpus() == ()


@pytest.mark.parametrize(
    ("error", "files", "printed"),
    [
        (pynvml.NVMLError_LibRmVersionMismatch, False, "RM has detected an NVML/RM version mismatch."),
        (pynvml.NVMLError_LibraryNotFound, True, "NVML Shared Library Not Found"),
        (pynvml.NVMLError_DriverNotLoaded, True, "Driver Not Loaded"),
    ],
)
def test_a_driver_that_does_not_answer_is_an_infrastructure_failure(
    installed: Callable[[Driver], Driver],
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
    files: bool,
    printed: str,
) -> None:
    """An existing GPU must not be ignored: a GPU job would run on the CPU."""
    installed(Driver([]))
    monkeypatch.setattr(devices, "_device_files", lambda: files)
    failing(monkeypatch, error)
    with pytest.raises(GpuFailed) as raised:
        read_gpus()
    assert raised.value.exit_code is ExitCode.COULD_NOT_TELL
    assert str(raised.value) == (
        f"the NVIDIA driver: NVML: {printed}\n"
        "There is a GPU or a driver, but the driver does not answer. Usual causes: the driver was updated "
        "without a restart, or a container lacks the driver's utilities.\n"
        "Run nvidia-smi and read its error, or use --device cpu."
    )


def test_a_driver_that_stops_answering_is_shut_down(
    installed: Callable[[Driver], Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says that it stopped."""
    driver = installed(Driver([]))

    def fail() -> None:
        raise pynvml.NVMLError_Unknown

    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", fail)
    with pytest.raises(GpuFailed, match="the NVIDIA driver: NVML: Unknown Error"):
        read_gpus()
    assert driver.open == 0


@pytest.mark.parametrize(
    ("files", "there"),
    [((), False), (("nvidiactl", "nvidia-uvm", "nvidia0-caps"), False), (("nvidiactl", "nvidia0"), True)],
)
def test_a_gpu_has_a_numbered_device_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...], there: bool
) -> None:
    """Control files are no GPUs."""
    for name in files:
        (tmp_path / name).touch()
    monkeypatch.setattr(devices, "Path", lambda _: tmp_path)
    assert devices._device_files() is there


def test_a_choice_is_a_value() -> None:
    """It is comparable and immutable."""
    choice = choose([gpu(0)], [gpu(0)], USUAL)
    assert choice == Choice(USUAL, (gpu(0),), True, ())
    with pytest.raises(dataclasses.FrozenInstanceError):
        choice.idle = False  # type: ignore[misc]  # this is the claim
