"""Run a module of `finetune_compat.cell` that answers a request: `python -m finetune_compat.cell.answering MODULE ...`.

The process ends with the host's, also if the host is killed: a model on the meta device may have gigabytes.
"""

from __future__ import annotations

import runpy
import sys

from finetune_compat.machine.child_processes import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
