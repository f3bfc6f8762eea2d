"""What is committed under reports/: baselines, faults, calibration, field notes, shards, alarm."""
