"""Measures a wheel's attention or a served model, with results that can be compared."""
