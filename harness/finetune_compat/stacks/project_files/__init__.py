"""Read files and environments that name Python packages, one module a format. Nothing is executed or downloaded.

`reading.read_project` recognises the kind and returns a `value.Project`. Commands start from there.
"""
