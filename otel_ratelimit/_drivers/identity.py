"""Whose limit a request counts against, of all that the SDK sends as a credential.

Owns which names carry one. What is found is compared and hashed, never shown. Read against openai 1.99.0, 2.54.0, 3.0.0 and
3.54.0, with Azure, workload identities and providers.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from otel_ratelimit._stores.memory import Account, MemoryStore

_HEADERS: Final = re.compile(
    r"(?:.*[-_])?(?:authorization|api[-_]?key|subscription-key|virtual-key|functions-key|(?:auth|access)[-_]token)"
    r"|helicone-auth|openai-organization|openai-project",
    re.IGNORECASE,
)
"""Headers that tell an account: the SDK's own, Azure's and API Management's, and those of gateways (Portkey, Cloudflare,
Helicone, Google). Not every name with "key" or "token" in it: an ``Idempotency-Key`` is another one for each call."""

_QUERY: Final = re.compile(
    r"key|code|sig|(?:.*[-_])?(?:api[-_]?key|subscription-key|(?:auth|access)[-_]token)", re.IGNORECASE
)
"""The same among query parameters, as a whole name; ``code`` is Azure Functions', ``key`` Google's."""

_SENTINELS: Final = frozenset(("", "<missing API key>", "workload-identity-auth"))
"""What the SDK has for an API key where it has none."""

Payer = tuple[object, object, object, tuple[str, ...]]


def payer_of(client: Any) -> Payer:
    """Who the client's requests are charged to: credential, organisation, project, and what else it always sends that tells
    accounts apart. To be compared, never to be shown.
    """
    shown = _found(getattr(client, "_custom_headers", None), _HEADERS)
    shown += _found(getattr(client, "_custom_query", None), _QUERY)
    return _credential(client), getattr(client, "organization", None), getattr(client, "project", None), shown


def credentials_in(options: Any) -> tuple[str, ...]:
    """What one call sends beside that, by ``extra_headers`` and ``extra_query``; by far most calls send nothing."""
    return _found(options.headers, _HEADERS) + _found(options.params, _QUERY)


def account_of(client: Any, model: str | None, store: MemoryStore, extra: tuple[str, ...]) -> Account:
    """The account of a request: server, credential, organisation and project, model. ``extra``: see :func:`credentials_in`."""
    credential, organization, project, shown = payer_of(client)
    if isinstance(credential, weakref.ref):
        credential = credential()  # what is hashed is an identity, and a reference may be made anew each time
    payer = store.payer(credential, str(organization), str(project), *shown, *extra)
    return Account(str(client._base_url), payer, model)


def _credential(client: Any) -> object:
    """The key itself; or, where keys rotate, what provides them: they change, the account behind it does not."""
    for name in ("_azure_ad_token_provider", "_api_key_provider", "_provider"):
        provider = getattr(client, name, None)
        if provider is not None:
            return provider
    if _is_computed(client):
        # Of this client and its copies, which share its connections. (They must not be kept alive for our sake.)
        return weakref.ref(client._client)
    identity = getattr(client, "workload_identity", None)
    if isinstance(identity, Mapping):  # copies of the client have copies of it
        return "\n".join(f"{name}={value}" for name, value in sorted(identity.items()) if isinstance(value, str))
    for name in ("_azure_ad_token", "api_key", "admin_api_key"):
        key = getattr(client, name, None)
        if isinstance(key, str) and key not in _SENTINELS:
            return key
    return ""


def _is_computed(client: Any) -> bool:
    """Whether ``api_key`` is a property of a class of the program's own.

    That of the SDK's module-level client reads ``openai.api_key``: a setting, which means another account where it changes.
    """
    for kind in type(client).__mro__:
        if "api_key" in kind.__dict__:
            return isinstance(kind.__dict__["api_key"], property) and not kind.__module__.startswith("openai.")
    return False


def _found(holder: object, names: re.Pattern[str]) -> tuple[str, ...]:
    if not isinstance(holder, Mapping) or not holder:
        return ()
    found = {name.lower(): value for name, value in holder.items() if isinstance(name, str) and _tells(name, names)}
    return tuple(f"{name}={found[name]}" for name in sorted(found))


@lru_cache(maxsize=512)
def _tells(name: str, names: re.Pattern[str]) -> bool:
    return names.fullmatch(name) is not None
