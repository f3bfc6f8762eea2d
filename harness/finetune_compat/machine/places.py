"""The directories and files of this project, as one value: `places()`.

A checkout has its own directories. In an installation from a wheel, the matrix is package data, environments and the
store are in the user's cache directory, and runs are written below the current directory.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.contract.errors import CompatError

PACKAGE = Path(__file__).resolve().parents[1]
"""The directory of the import package."""

OUT = "COMPAT_OUT"
"""Environment variable that names the directory of runs; `--out` sets it."""

STORE = "COMPAT_STORE"
"""Environment variable that names the directory of the store."""

ENVIRONMENTS = "COMPAT_ENVIRONMENTS"
"""Environment variable that names the directory of environments. On a cluster with a shared file system, a local disk
of each node."""

IN_CURRENT_DIRECTORY = "compat-reports"
"""Directory of runs of an installed package, below the current directory."""


@dataclass(frozen=True, slots=True)
class Places:
    """The directories of this project, all absolute."""

    checkout: Path | None
    """The checkout that this package runs from; None if it is installed."""
    matrices: Path
    """The matrix, its locks, the ledger and the gate's policy."""
    runs: Path
    """Results, one directory per run."""
    environments: Path
    """Environments for commands that run without nox, one per lock."""
    nox: Path
    """Environments of nox sessions."""
    store: Path
    """Cached observations."""
    importable: Path
    """Directory for another process's PYTHONPATH. Use `import_path`, which creates it."""

    @property
    def stacks(self) -> Path:
        """The matrix."""
        return self.matrices / "stacks.toml"

    @property
    def ledger(self) -> Path:
        """Known issues."""
        return self.matrices / "known-issues.toml"

    @property
    def policy(self) -> Path:
        """The policy of the gate: its decision for each kind of change."""
        return self.matrices / "gate.toml"

    @property
    def locks(self) -> Path:
        """Locks of the stacks in the matrix."""
        return self.matrices / "locks"

    def torch_pins(self, torch: str) -> Path:
        """Hashes of the published files of torch `torch` and of its CUDA parts."""
        return self.matrices / f"torch-{torch}.txt"

    @property
    def gate_locks(self) -> Path:
        """Locks of stacks that are not in the matrix, made for gates."""
        return self.environments / "locks"

    @property
    def noxfile(self) -> Path:
        """The file whose sessions run the stacks."""
        return PACKAGE / "noxfile.py" if self.checkout is None else self.checkout / "noxfile.py"

    @property
    def reports(self) -> Path:
        """Committed evidence.

        Raises:
            CompatError: this package does not run from a checkout.
        """
        return self.the_checkout("committed evidence (reports/)") / "reports"

    @property
    def baselines(self) -> Path:
        """Committed runs; raises as `reports`."""
        return self.reports / "baseline"

    @property
    def atlas(self) -> Path:
        """What all baselines say together; raises as `reports`."""
        return self.reports / "atlas"

    @property
    def learning(self) -> Path:
        """Sweeps over seeds; raises as `reports`."""
        return self.reports / "learning"

    @property
    def exam(self) -> Path:
        """Answers of the exam; raises as `reports`."""
        return self.reports / "exam"

    @property
    def faults(self) -> Path:
        """Runs of planted faults; raises as `reports`."""
        return self.reports / "faults"

    @property
    def trajectories(self) -> Path:
        """Losses of ways to run one training; raises as `reports`."""
        return self.reports / "trajectories"

    @property
    def adapters(self) -> Path:
        """Which saved adapters load; raises as `reports`."""
        return self.reports / "adapters"

    @property
    def branches(self) -> Path:
        """Records of device-dependent branches; raises as `reports`."""
        return self.reports / "branches"

    def the_checkout(self, what: str) -> Path:
        """The checkout. `what` names the feature that needs it, for the message.

        Raises:
            CompatError: this package does not run from a checkout.
        """
        if self.checkout is None:
            raise CompatError(
                f"{what} needs a checkout of finetune-compat",
                where=str(PACKAGE),
                meaning="This package is installed from a wheel, which does not contain the project's own tests, "
                "measurements and git history.",
                todo="Clone the project, install it with `pip install -e '.[host]'`, and run the command there.",
            )
        return self.checkout

    def import_path(self) -> Path:
        """The directory from which another process can import `finetune_compat`, and nothing else."""
        if self.checkout is None:
            self.importable.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # the directory's name is a digest of PACKAGE, so an old link is correct
                (self.importable / PACKAGE.name).symlink_to(PACKAGE)
        return self.importable

    def shown(self, path: Path) -> str:
        """`path` for a message: relative to the checkout if it is inside, else unchanged."""
        inside = self.checkout is not None and path.is_relative_to(self.checkout)
        return path.relative_to(self.checkout or path).as_posix() if inside else str(path)


def of_checkout(root: Path) -> Places:
    """The places of a checkout at `root`. COMPAT_OUT, COMPAT_STORE and COMPAT_ENVIRONMENTS override three."""
    return Places(
        checkout=root,
        matrices=root / "matrices",
        runs=_named(OUT) or root / "reports" / "runs",
        environments=_named(ENVIRONMENTS) or root / ".envs",
        nox=root / ".nox",
        store=_named(STORE) or _cache() / "store",
        importable=PACKAGE.parent,
    )


def of_wheel() -> Places:
    """The places of an installed package. COMPAT_OUT, COMPAT_STORE and COMPAT_ENVIRONMENTS override three."""
    cache = _cache()
    return Places(
        checkout=None,
        matrices=PACKAGE / "data" / "matrices",
        runs=_named(OUT) or Path.cwd() / IN_CURRENT_DIRECTORY,
        environments=_named(ENVIRONMENTS) or cache / "envs",
        nox=cache / "nox",
        store=_named(STORE) or cache / "store",
        importable=cache / "importable" / hashlib.sha256(str(PACKAGE).encode()).hexdigest()[:16],
    )


_replaced: Places | None = None
"""The places that tests set instead."""


def places() -> Places:
    """The places of this process."""
    if _replaced is not None:
        return _replaced
    root = PACKAGE.parents[1]
    return of_checkout(root) if (root / "noxfile.py").is_file() and (root / "matrices").is_dir() else of_wheel()


def write_runs_to(directory: Path | None) -> None:
    """From now on, read and write runs in `directory`, in this process and its children. None: change nothing."""
    if directory is not None:
        os.environ[OUT] = str(directory.expanduser().resolve())


def _named(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser().resolve() if value else None


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("finetune-compat")


def short_path(path: Path) -> str:
    """`path` relative to the current directory if it is below it, else unchanged."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
