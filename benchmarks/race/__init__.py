"""The race of `benchmarks/speed.py`: who takes part, the clock, what is measured, and the report."""
