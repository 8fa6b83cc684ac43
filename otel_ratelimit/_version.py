"""The version; read by the build, by the tracer and by the meter."""

__version__ = "0.1.0"
