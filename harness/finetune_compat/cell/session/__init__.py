"""What pytest runs in a cell process: `test_flows.py`, configured by `pytest.ini`."""
