"""The cache of observations: address -> observation. A cell with a cached observation does not run again.

The address is the digest of a recipe: everything that an observation depends on (`contract.recipe`).

    stored_files  one file per observation, written atomically; stores merge by union    both sides, standard library
    sources       the files of this project that run inside a cell, and their digest     host
    directories   the digest of a directory of weights                                   host
    predicted     the contents of an environment that does not exist yet                 host
    addresses     the recipes of a plan's cells, without importing the stack             host
    store         the store: a local directory, and optionally a shared store            host
    remote, hub   a shared store at a URL, or in a repository of the Hugging Face hub    host
    archive       a run in one file, to copy it to another machine                       host
    command       `compat store`, with verify and prune                                  host

Cells store their own observations as they finish (`cell.storing`). Verdicts are not stored: a cached observation is
judged with the current checks and ledger.
"""
