"""Keeps the receipt beside a wheel: an in-toto statement with SLSA provenance of every stage.

In: one section a stage. Out: a `Document` whose stages are linked by digests, so that an edit is
noticed and named (`document`). `beside` finds the receipt of a wheel and reads its key.
"""
