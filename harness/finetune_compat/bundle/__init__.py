"""Bundles: what a machine without a registry needs to run stacks on the torch it has, in files of limited size.

`command` makes one, of the harness's own files (`checkout`) and of wheels by hash (`wheels`), in `parts`. `start` is
what runs there first.
"""
