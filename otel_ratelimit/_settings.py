"""``OTEL_RATELIMIT_*`` -> ``Policy``. Errors name the variable and what is allowed."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from otel_ratelimit._core.policy import ConfigurationError, Policy, check_setting

_log: Final = logging.getLogger("otel_ratelimit")

PREFIX: Final = "OTEL_RATELIMIT_"

INTERNAL: Final = f"{PREFIX}RUN_"
"""Variables that ``otel-ratelimit run`` hands to the programs it starts begin with this; they are no settings."""

_UNITS: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

_HEAD: Final = "OTELRATELIMIT"
_LIKENESS: Final = 0.85
"""``difflib``'s ratio. One letter lost, doubled or exchanged in the thirteen of ``_HEAD`` gives 0.92."""


def _seconds(text: str) -> object:
    measured = re.fullmatch(r"([0-9.]+) ?(ms|s|min|m|h)", text)
    try:
        return float(measured[1]) * _UNITS[measured[2]] if measured else float(text)
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
    A mode that cannot be read was meant to change something: ``observe`` is used, which leaves the program's behaviour alone.
    A variable that is no setting, but looks like one, is a warning.
    """
    environment = os.environ if environment is None else environment
    settings, errors = _read(environment)
    for error in errors:
        mode = str(error).startswith(f"{PREFIX}MODE ")
        if mode:
            settings["mode"] = "observe"
        _log.error("%s; %s", error, "observe is used, and nothing waits" if mode else "the default is used")
    for name, meant in mistyped(environment):
        _log.warning("%s is no setting of otel_ratelimit and has no effect; %s", name, meant)
    return Policy(**settings)


def mistyped(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables that look like settings of ours and are none, each with what was meant: ``did you mean ...?``."""
    for name in sorted(environment):
        flat = name.upper().replace("_", "")
        if name in VARIABLES or name.startswith(INTERNAL) or not flat.startswith("OTEL"):
            continue
        if "RATE" not in flat[:9] and "LIMI" not in flat[:14]:  # before difflib, whose import takes milliseconds
            continue
        import difflib  # noqa: PLC0415 - only where there is something to compare

        if difflib.SequenceMatcher(None, flat[: len(_HEAD)], _HEAD).ratio() < _LIKENESS:
            continue
        settings = {variable.replace("_", ""): variable for variable in VARIABLES}
        close = difflib.get_close_matches(flat, settings, 1, cutoff=0.85)
        yield name, f"did you mean {settings[close[0]]}?" if close else f"there are {', '.join(VARIABLES)}"


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
