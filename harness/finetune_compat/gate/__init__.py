"""The upgrade gate: run two sides, compare them cell by cell, and decide ALLOW, HOLD or BLOCK by a policy."""
