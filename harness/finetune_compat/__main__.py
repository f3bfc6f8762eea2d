"""`python -m finetune_compat` is `compat`."""

from finetune_compat.cli import main

main()
