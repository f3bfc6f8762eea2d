"""`compat inspect`: a look into a saved adapter, without loading a model. Host side.

Facts: `weights` (the file), `names`, `config`, `layers`, `saved` (all of it together) and `loading` (what a stack's
PEFT makes of it). Opinions: `checks` and `findings`. Wording: `render`. `inspection` puts them together.
"""
