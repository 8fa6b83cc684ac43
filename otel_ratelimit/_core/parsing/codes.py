"""The codes and types of error bodies that mean a limit, load or money. They come as words joined by "_", in lower case.

Each pattern is anchored to whole words of a code: "allowed_ips" is no rate of images, "ConcurrentModification" no limit.
"""

from __future__ import annotations

import re


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


FINAL_AT_OPENAI = re.compile(
    r"^(?:credit_balance_exhausted|(?:organization|project)_spend_limit_exceeded|organization_usage_limit_exceeded"
    r"|billing_not_active|billing_hard_limit_reached|access_terminated|usage_not_included|account_deactivated)$"
)
"""Codes of the error codes guide that waiting never mends, whatever stands beside them."""

FINAL = re.compile(
    r"^(?:"
    # money and credits
    r"\w*insufficient_(?:balance|credits?|funds|user_quota|g1_credits_balance|account_balance)\w*|payment_required"
    r"|\w*budget_exceeded\w*|exceeded_budget\w*|exceeded_current_quota_error|\w*billing_error|credits?_exhausted"
    r"|out_of_(?:credits?|funds)|no_credits?|\w*not_enough_(?:balance|credits?)|\w*balance_not_enough"
    r"|\w*free_usage_exhausted|\w*free_tier_only|arrearage|\w*overdue\w*|commodity_not_purchased|set_limit_exceeded"
    r"|token_quota_reached|consumption_limit_reached|spending_limit_\w+|negative_balance|(?:trial|plan|subscription)_expired"
    # Zhipu: no balance, plan expired, model not in the plan
    r"|1113|1309|1311"
    r")$"
)
"""The same elsewhere; the credits of an hour or a day come back all the same."""

USAGE = re.compile(
    r"^(?:usage_limit_(?:reached|exceeded)|usage_limit|account_quota_exceeded|quota_exhausted|1308|1310|1316)$"
)
"""Codes of a spent usage window, which comes back."""

QUOTA_OF_KEY = re.compile(r"^(?:quota_exceeded|insufficient_quota|insufficient_(?:balance|credits?|funds))$")
"""Codes that make a 401 one of quota (ElevenLabs)."""

OTHER = _any(
    r"context_length|context_window|model_not_found|deployment_not_found|not_found|unsupported|permission",
    r"invalid_api_key|authentication|invalid_prompt|invalid_parameter|string_above|tokens_limit_reached",
    r"content_filter|content_policy|max_length|too_large|max_tokens",
    r"^(?:parameter_invalid|invalid_(?:value|type|json|argument|field)\w*|missing_\w+|\w*validation_(?:error|failed))$",
)
"""Codes of other failures, whatever the text says beside them."""

_THROTTLE = _any(
    r"(?:^|_)rate_?limit|ratelimit|(?:^|_)request_rate|throttl|too_many_requests|toomanyrequests",
    r"resource_?exhausted|(?<!insufficient_)quota_exceeded",
    r"(?:^|_)overloaded(?:_|$)|^overload$|_overload$|overload_(?:error|exception)|slow_?down|(?:^|_)(?:server|model|system|engine|service|gpu|worker)s?_(?:is_)?(?:too_)?busy(?:_|$)",
    r"^busy$|(?:^|_)(?:at|over|no|out_of|insufficient|model|server|engine|service|tier|exceeded|maximum)_capacity(?:_|$)",
    r"(?:^|_)capacity_(?:exceeded|exhausted|reached|limit\w*|constrained|unavailable)(?:_|$)",
    r"queue_(?:exceeded|full)|flex_unavailable|model_not_ready|rate_increase",
    r"(?:^|_)burst_(?:rate|limit)|(?:limit|rate)_burst|burst_exceeded",
    r"(?:^|_)concurren\w*_(?:\w+_)?(?:limit\w*|exceeded|exhausted|quota|reached|requests)(?:_|$)",
    r"(?:too_many|max|exceeded|limit\w*|reached)_(?:\w+_)?concurren",
    r"(?:^|_)in_?flight|model_cooldown|usage_limit|dynamic_\w+_limited",
    r"limit_(?:requests|burst)|(?:requests?|usage|quota|daily|hourly|monthly|account|tokens?|tpm|rpm|rpd|tpd|qps)_limit_(?:exceeded|reached)",
    r"(?:^|_)(?:[io]?tp|rp|qp)[smhd](?:$|_(?:limit|exceed|rate|quota|reached|count))|(?:limit|exceeded|rate)_(?:tp|rp|qp)[smhd](?:_|$)",
    r"^(?:requests|tokens)$",
)
_NUMBERED = re.compile(r"^(?:1300|3505|1302|1303|1304|1305|1308|1310|1312|1316|1002|1039|1041|2045)$")
"""Mistral, Zhipu, MiniMax: believed where no status says otherwise, since every service counts its errors."""

_NO_LIMIT = _any(
    r"(?:^|_)(?:invalid|missing|unsupported|unknown|malformed|required|must|parameter|validation|conflict|modification)(?:_|$)",
    r"_in_(?:file|request|batch|prompt|message)(?:_|$)",
    r"(?:^|_)(?:storage|disk|file|files|upload|memory|space)_(?:\w+_)?(?:quota|limit)|disk_|payload",
)
"""Words that make a code one of validation, of a conflict or of storage."""


def is_throttle(code: str, *, event: bool = False) -> bool:
    """Whether a code or a type names a limit or load. ``event``: no status of a response stands beside it."""
    if event and _NUMBERED.match(code):
        return True
    return bool(_THROTTLE.search(code)) and not _NO_LIMIT.search(code)
