"""Bundles: everything that a machine without a registry needs to run stacks on its own torch, in files of limited size.

`command` packs the files of the harness (`checkout`) and hashed wheels (`wheels`) into `parts`. `start` is the first
program to run on the target machine.
"""
