"""The files of a run: read, judged and counted."""
