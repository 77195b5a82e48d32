"""The fault campaign: real commands, faults at random moments, one checker of what may never be."""
