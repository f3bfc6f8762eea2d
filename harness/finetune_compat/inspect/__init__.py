"""`compat inspect`: inspect a saved adapter without loading a model. Host side.

Facts: `values` and `weights` (the file), `names`, `config`, `layers`, `saved` (all of these), `loading` (the result of
loading with a stack's PEFT). Opinions: `checks` and `findings`. Wording: `render`. `inspection` combines them.
"""
