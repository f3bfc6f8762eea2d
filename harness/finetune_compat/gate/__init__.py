"""The upgrade gate: two sides are run and compared cell by cell, and a policy answers ALLOW, HOLD or BLOCK."""
