"""`compat census`: which parameters are trainable at each stage, at full size and without weights.

Facts, opinions and wording are three layers. `contract.census` holds the facts from the cell side, `verdicts` compares
a stage table with what a user means by a target, and `wording` and `terminal` format the result.
"""
