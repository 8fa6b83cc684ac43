"""The pytest plugin by the name that it can be asked for, ``-p otel_ratelimit.testing.pytest_plugin``, where entry points are not
loaded. The entry point names a module outside of the package, whose import costs a run that does not use it next to nothing.
"""

from __future__ import annotations

from _otel_ratelimit_pytest import pytest_addoption, pytest_configure, pytest_runtest_protocol, throttling_server

__all__ = ["pytest_addoption", "pytest_configure", "pytest_runtest_protocol", "throttling_server"]
