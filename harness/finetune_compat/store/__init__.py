"""Results kept by what they depend on, so that no cell runs twice: address -> observation.

    recipe    everything an observation depends on; its digest is the address      both sides, standard library only
    objects   one file per observation, written whole, merged by set union         both sides, standard library only
    sources   which files of this project run inside a cell, and their digest      host
    foretold  what an environment would hold that is not made yet                  host
    recipes   the recipes of a plan's cells, without importing the stack           host
    kept      the store: this machine's directory, and a shared one behind it      host
    serving   what a session takes from it and gives to it                         host
    hub       a shared store in a repository, which takes files by the commit      host
    archive   one file that takes a run to another machine                         host
    verify, prune, command   `compat store`                                        host

The cells keep what they observed themselves, as they finish (`cell.storing`). Verdicts are not kept: a stored
observation is judged by the checks and the ledger of the day.
"""
