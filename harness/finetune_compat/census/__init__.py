"""`compat census`: who is trainable where, at full size and without weights.

Facts, opinions and wording are three layers: `facts` is the contract with the cell side and standard library only,
`verdicts` holds a stage table against what a user means by a target, `wording` and `terminal` say it.
"""
