"""Does this code, on these versions, train as it seems to? Reads scripts and notebooks; never runs or imports them.

sources      the files of a project, parsed
values       what is known of a value: a constant, a model with its adapters, a trainer, something unknown
interpreter  follows values along one path through a script
paths        all paths: every condition that is not known is taken both ways
library      what calls of TRL, Transformers and PEFT do to models, tokenizers and trainers
signatures   what each release accepts
patterns_*   what is wrong along a path
findings     the patterns joined with versions: hit, not hit, or run it to know
fixes        the change as a diff
"""
