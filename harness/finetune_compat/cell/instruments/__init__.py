"""Instruments measure and do not judge. No instrument changes what a flow computes."""
