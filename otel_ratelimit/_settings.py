"""``OTEL_RATELIMIT_*`` -> ``Policy``. Errors name the variable and what is allowed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from otel_ratelimit._core.policy import ConfigurationError, Policy, check_setting

_log: Final = logging.getLogger("otel_ratelimit")

PREFIX: Final = "OTEL_RATELIMIT_"


def _seconds(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text  # the check that follows says what is allowed


def _switch(text: str) -> object:
    # OpenTelemetry's own booleans know only "true" (specification, "Boolean value"); the others are what people write.
    return {
        "true": True,
        "1": True,
        "on": True,
        "yes": True,
        "false": False,
        "0": False,
        "off": False,
        "no": False,
    }.get(text.lower(), text)


def _word(text: str) -> object:
    return text.lower()


def _as_it_is(text: str) -> object:
    return text


VARIABLES: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = {
    f"{PREFIX}MODE": ("mode", _word),
    f"{PREFIX}MAX_WAIT": ("max_wait", _seconds),
    f"{PREFIX}BUFFER": ("buffer", _seconds),
    f"{PREFIX}MAX_BACKOFF": ("max_backoff", _seconds),
    f"{PREFIX}PACING": ("pacing", _switch),
    f"{PREFIX}PRIORITY": ("priority", _word),
    f"{PREFIX}WHEN_RETRIES_DISABLED": ("when_retries_disabled", _word),
    f"{PREFIX}STORE": ("store", _as_it_is),
}


def policy_from_environment(environment: Mapping[str, str] | None = None) -> Policy:
    """The policy that the environment asks for; defaults where it says nothing.

    An empty value counts as unset, as OpenTelemetry's specification has it.

    Raises:
        ConfigurationError: a value is not allowed; names the variable.
    """
    settings, errors = _read(os.environ if environment is None else environment)
    if errors:
        raise errors[0]
    return Policy(**settings)


def lenient_policy_from_environment(environment: Mapping[str, str] | None = None) -> Policy:
    """The same, but a value that is not allowed is reported as an error in the log and its default is used.

    For the paths where nobody could catch an exception (``otel_ratelimit.auto``, ``opentelemetry-instrument``): a typing
    error in a variable must not keep a program from starting. The specification asks the same of the SDK's own variables.
    """
    settings, errors = _read(os.environ if environment is None else environment)
    for error in errors:
        _log.error("%s; the default is used", error)
    return Policy(**settings)


def _read(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[ConfigurationError]]:
    settings: dict[str, Any] = {}
    errors: list[ConfigurationError] = []
    for variable, (name, read) in VARIABLES.items():
        text = environment.get(variable, "").strip()
        if not text:
            continue
        value = read(text)
        try:
            check_setting(name, value, label=variable)
        except ConfigurationError as error:
            errors.append(error)
        else:
            settings[name] = value
    return settings, errors
