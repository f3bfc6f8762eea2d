"""Read the files of a run, judge its cells, and count the results."""
