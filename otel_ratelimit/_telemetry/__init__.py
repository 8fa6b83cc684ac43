"""The spans, metrics and log records of a call; every name is a literal in ``names``."""
