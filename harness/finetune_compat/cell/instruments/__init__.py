"""Instruments measure and do not judge. None of them changes what a flow computes."""
