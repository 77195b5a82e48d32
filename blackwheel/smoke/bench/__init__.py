"""Measure a wheel's attention, or a served model; results that can be compared."""
