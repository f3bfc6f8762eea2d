"""The atlas: what works with what, since when and until when, from all committed baselines together and the ledger.

`survey` and `issues` have the facts, `answers` and `record` conclude from them, `page` and `table` show them.
"""
