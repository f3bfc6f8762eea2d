"""`compat` and `python -m finetune_compat`: run the command line, or report which requirements are not installed."""

from __future__ import annotations

import sys
from importlib import metadata

DISTRIBUTION = "finetune-compat"
EXTRA = "host"
BAD_INPUT = 4


def main() -> None:
    """Run one command and exit with its code."""
    try:
        from finetune_compat import cli

        cli.main()
    except Exception:
        missing = missing_requirements()
        if not missing:
            raise
        print(
            f"compat needs the extra `{EXTRA}`, which is not installed (missing: {', '.join(missing)}): "
            f"pip install '{DISTRIBUTION}[{EXTRA}]'",
            file=sys.stderr,
        )
        sys.exit(BAD_INPUT)


def missing_requirements() -> list[str]:
    """Requirements of the extra that are missing or have another version. Empty if finetune-compat is not installed."""
    try:
        asked = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    wanted = [line.partition(";")[0].strip() for line in asked if f'extra == "{EXTRA}"' in line.replace("'", '"')]
    return [text for text in wanted if not _is_installed(text)]


def _is_installed(text: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return False
    requirement = Requirement(text)
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    main()
