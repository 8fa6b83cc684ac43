"""The guard: our faults stop here, everybody else's pass."""

from __future__ import annotations

import logging

import pytest

from otel_ratelimit import _guard


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "raise_faults", False)
    _guard._reported.clear()


def test_a_fault_is_logged_once_by_type_and_the_fallback_answers(caplog: pytest.LogCaptureFixture) -> None:
    """The text of the exception, which could hold a prompt, stays out of the log."""

    @_guard.contained("somewhere", lambda _number: -1)
    def faulty(number: int) -> int:
        raise KeyError("a prompt")

    with caplog.at_level(logging.ERROR, logger="otel_ratelimit"):
        assert [faulty(1), faulty(2)] == [-1, -1]
    assert len(caplog.records) == 1
    assert "somewhere (KeyError)" in caplog.text
    assert "a prompt" not in caplog.text


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_fault_passes(exception: type[BaseException]) -> None:
    """Cancellation and Ctrl-C are the user's."""

    @_guard.contained("somewhere", lambda: None)
    def interrupted() -> None:
        raise exception

    with pytest.raises(exception):
        interrupted()
