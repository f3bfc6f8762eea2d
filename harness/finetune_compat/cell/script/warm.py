"""Import a stack's libraries once, and fork a process for each script: `python -P -m finetune_compat.cell.script.warm`.

A forked script starts with the libraries imported and nothing of them used. The watch changed them when they were
imported, as in a fresh process. Requests come as lines of JSON on stdin. Answers go to stdout: the number of the new
process, then the status that `waitpid` returned for it.

A script that sets variables of the environment before it imports a library needs a fresh process: libraries read some
of them when they are imported.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import random
import signal
import sys
import threading
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

from finetune_compat.cell.script import notebook, process
from finetune_compat.contract.script import REQUEST

_LIBRARIES = {
    "torch": (),
    "numpy": (),
    "datasets": (),
    "accelerate": (),
    "transformers": ("Trainer", "AutoModelForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM"),
    "peft": ("get_peft_model",),
    "trl": ("SFTTrainer", "DPOTrainer", "GRPOTrainer", "RewardTrainer", "KTOTrainer"),
}
"""Libraries to import, and their attributes that import further modules."""

_PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def import_libraries() -> None:
    """Import what scripts import. What this stack lacks is left out."""
    for name, attributes in _LIBRARIES.items():
        with suppress(ImportError):
            library = importlib.import_module(name)
            for attribute in attributes:
                with suppress(Exception):  # lazy modules raise what their imports raise
                    getattr(library, attribute)


def serve() -> dict[str, Any]:
    """Fork a process for each request. Returns in each new process, with its request."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    gc.collect()
    gc.freeze()  # a collection would write to every page that the processes share
    print("ready", file=answers, flush=True)
    for line in iter(sys.stdin.readline, ""):
        if threading.active_count() > 1:
            raise SystemExit("a thread of a library is running: a forked process would lack it")
        parent, child = os.getpid(), os.fork()
        if not child:
            answers.close()
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:  # it ended before the line above
                os.kill(os.getpid(), signal.SIGTERM)
            return dict(json.loads(line))
        print(child, file=answers, flush=True)
        print(os.waitpid(child, 0)[1], file=answers, flush=True)
    raise SystemExit


def become(request: dict[str, Any]) -> None:
    """Give this process what a fresh one has: directory, environment, arguments, output, paths and random numbers."""
    os.setsid()
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output, stream.fileno())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = list(request["arguments"])
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if process.current is not None:
        process.current.begin_again(process.request_at(os.environ[REQUEST]))


def run(script: str) -> None:
    """Run a script or notebook as `__main__`, with `sys.argv` as its command line."""
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=script, __builtins__=__builtins__, __cached__=None)
    sys.modules["__main__"] = main
    try:
        if script.endswith(".ipynb"):
            sys.argv.insert(0, "")
            notebook.main(script)
        else:
            sys.path.insert(0, str(Path(script).resolve().parent))
            exec(compile(Path(script).read_bytes(), script, "exec"), main.__dict__)  # noqa: S102 - its purpose
    except Exception as error:  # noqa: BLE001 - a fresh interpreter reports it so
        traceback = error.__traceback__
        sys.excepthook(type(error), error, traceback.tb_next if traceback else None)
        raise SystemExit(1) from None


def main() -> None:
    """Serve until stdin ends; in a forked process, run its script."""
    import_libraries()
    become(serve())
    run(sys.argv[0])


if __name__ == "__main__":
    main()
