"""All code that runs inside a cell's environment. It imports the standard library, pytest, the stack under test, and
lower rooms.
"""
