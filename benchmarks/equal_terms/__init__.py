"""The comparison of `benchmarks/generative_models.py`: its terms, its trainings, what is measured, and the report."""
