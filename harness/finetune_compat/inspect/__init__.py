"""`compat inspect`: a look into a saved adapter, without loading a model. Host side.

Facts: `values` and `weights` (the file), `names`, `config`, `layers`, `saved` (all of it together), `loading` (what a
stack's PEFT makes of it). Opinions: `checks` and `findings`. Wording: `render`. `inspection` puts them together.
"""
