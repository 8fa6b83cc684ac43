"""Whether a response is a throttle at all, and whether waiting can help.

Owns the codes and phrases of quota, billing, load and rate limits. `code` is read before `type`, because one type
covers both kinds at OpenAI (its error codes guide). Texts come in split into words (``kinds.words_of``: punctuation inside
words is a blank, the end of a sentence two), codes joined by "_".
"""

from __future__ import annotations

import re

from otel_ratelimit._core.hints.evidence import Evidence


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_FINAL_CODES = re.compile(
    r"^(?:"
    # OpenAI (error codes guide)
    r"credit_balance_exhausted|(?:organization|project)_spend_limit_exceeded|organization_usage_limit_exceeded"
    r"|billing_not_active|billing_hard_limit_reached|access_terminated|usage_not_included|account_deactivated"
    # money and credits elsewhere
    r"|\w*insufficient_(?:balance|credits?|funds|user_quota|g1_credits_balance|account_balance)\w*|payment_required"
    r"|\w*budget_exceeded\w*|exceeded_budget\w*|exceeded_current_quota_error|\w*billing_error|credits_exhausted"
    r"|\w*free_usage_exhausted|\w*free_tier_only|arrearage|\w*overdue\w*|commodity_not_purchased|set_limit_exceeded"
    r"|token_quota_reached|consumption_limit_reached|spending_limit_\w+|negative_balance"
    # Zhipu: no balance, plan expired, model not in the plan
    r"|1113|1309|1311"
    r")$"
)
_FINAL_WORDS = _any(
    # money
    r"billing (?:hard |soft )?limit|hard limit (?:has been |was )?reached",
    r"billing not active",
    r"credit balance is too low",
    r"payment required",
    r"insufficient (?:account |user |token |pre ?paid )?(?:balance|credits?|funds|quota)",
    r"balance (?:is )?(?:insufficient|not enough|too low|negative|exhausted|depleted)",
    r"top ?up your (?:account|balance|credits)",
    r"negative (?:credit )?balance",
    r"payment (?:method )?(?:was |has |is )?(?:been )?(?:declined|failed|overdue)",
    r"(?:subscription|trial|plan) (?:period )?(?:has |is )?(?:been )?(?:expired|ended|cancell?ed)",
    r"not enough (?:credits?|balance|funds)",
    r"account (?:\w+ ){0,6}(?:is suspended|is not active|in arrears|overdue|deactivated|in good standing)",
    # credits
    r"(?:requires?|need) more credits",
    r"can only afford",
    r"all available credits",
    r"(?:depleted|exhausted|used(?: up)? all(?: of)?|used up|(?:run )?out of|consumed all|no|no remaining|any|exceeded)"
    r" (?:\w+ ){0,5}credits?\b",
    r"credits? (?:\w+ ){0,3}(?:depleted|exhausted|used up|run out)",
    r"\b0 credits? (?:remaining|left|available)|credit limit (?:has been |was |is )?(?:reached|exceeded)",
    # spending limits and budgets
    r"spend(?:ing)? (?:limit|cap)",
    r"key limit exceeded",
    r"over budget",
    r"crossed spend",
    r"(?<!thinking )(?<!token )budget (?:of \S{1,12} )?(?:has been |limit )?(?:exceeded|reached|exhausted)",
    r"exceeded ?budget",
    r"exceeded (?:your|the|its) budget",
    # free tiers
    r"free (?:tier|quota|trial)(?: of the model)? (?:\w+ ){0,2}(?:exhausted|expired|used up)",
    r"used all your free",
    r"exhausted (?:its|your|the) free",
    r"extra usage is required",
    r"exceeded the free",
    r"premium model quota",
    "余额不足|余额已|欠费|额度不足|(?<!今日)(?<!今日免费)(?<!每日)(?<!每日免费)额度已(?:用尽|用完|耗尽)|预扣费|请充值|资源包|已过期|残高",
)
_WEAK_FINAL_WORDS = re.compile(r"exceeded your current (?:token )?quota[,:]? .{0,40}(?:billing|balance)")
"""OpenAI's sentence. Google and Alibaba send the same one for limits per minute."""
_QUOTA_MEANS_RATE = _any(
    r"resource exhausted|generativelanguage|ai google dev|quota exceeded for metric",
    r"aliyun|alibabacloud|azure",
    r"token limit\b|rate limit\b|per min|per day|tpm|rpm",
    r"retry (?:after|in)|try again (?:in|after)",
)
_OPENAI_LINK = "platform openai com"

_THROTTLE_CODES = _any(
    r"rate_?limit|request_rate|throttl|too_many_requests|resource_exhausted|(?<!insufficient_)quota_exceeded",
    r"overload|slow_down|_busy|capacity|queue_(?:exceeded|full)|flex_unavailable|model_not_ready|burst|rate_increase",
    r"concurren|inflight|model_cooldown|usage_limit|dynamic_\w+_limited",
    r"limit_(?:requests|burst)|(?:requests?|usage|quota|daily|monthly|account)_limit_(?:exceeded|reached)",
    r"[rtqi]p[smd](?:_|$)|^(?:requests|tokens)$",
    # Mistral, Zhipu, MiniMax
    r"^(?:1300|3505|1302|1303|1304|1305|1308|1310|1312|1316|1002|1039|1041|2045)$",
)
_NOT_THROTTLE_CODES = _any(
    r"context_length|context_window|model_not_found|deployment_not_found|not_found|unsupported|permission",
    r"invalid_api_key|authentication|invalid_prompt|invalid_parameter|string_above|tokens_limit_reached",
    r"content_filter|content_policy",
)
_THROTTLE_WORDS = _any(
    # rates
    r"rate ?limit(?:ed|ing)",
    r"rate ?limit ?error",
    r"rate limits? (?:was |is |has been |have been |already )?(?:exceeded|reached|hit)",
    r"(?:exceed\w*|reached|hit|over|crossed)(?: \S+){0,6} rate ?limits?\b",
    r"too many requests|reduce your request rate",
    r"too many (?:\w+ ){0,4}\w+,? please wait",
    r"too many connections",
    r"throttl(?:ed|ing)",
    r"being rate limited|error code 1015",
    r"\d{2,9} requested .{0,24}limit",
    r"limit \d[\d,]{0,12} requested \d",
    r"\b[tr]p[md] (?:limit|rate)",
    r"(?:requests?|images?|qps|enqueued tokens?|per (?:second|minute|min|hour|day)) limit"
    r" (?:has been |was |is )?(?:reached|exceeded)",
    r"(?:concurrency|parallel) (?:limit|quota|allocated)",
    r"(?:too many|max) (?:concurrent|parallel) requests",
    r"error code 429|status(?: code)? 429|http 429",
    # quotas
    r"quota (?:was |is |has been )?exceeded",
    r"exceeded (?:\S+ ){0,4}(?:quota|usage limit)\b",
    r"out of (?:\w+ ){1,3}quota|quota will be replenished",
    r"resource (?:has been )?exhausted",
    r"usage limits?\b.{0,40}(?:reached|hit|exceeded)",
    r"reached (?:\S+ ){0,4}usage limits?",
    # load
    r"\boverload(?:ed)?\b",
    r"slow down",
    r"high (?:demand|load|traffic)",
    r"(?:over|at|no) capacity",
    r"capacity (?:\w+ ){0,2}exceeded",
    r"(?:server|service|model|system|engine) (?:is )?(?:too |currently )?busy",
    r"queue (?:is )?(?:full|exceeded)",
    r"no deployments available .{0,60}try again",
    "限流|限频|速率限制|频率限制|请求(?:过于|太)?频繁|请求过多|访问量过大|负载|过载|繁忙|并发数?过|使用上限|调用频率",
)
_USAGE_WINDOW = _any(
    # Claude Code says "not your usage limit" of a plain throttle
    r"(?<!token )(?<!tokens )(?<!not your )usage (?:limit|quota|cap|allowance|allocation)",
    r"account quota exceeded|(?:request|quota) allowance|(?:daily|monthly|weekly|today's|gpu) quota",
    r"(?:hour|day|week|month) allocated quota exceeded",
    r"daily free allocation|free usage limit",
    "使用上限|使用限额|(?:今日|每日|当日)(?:免费)?额度",
)
_COMES_BACK = _any(r"try again|retry|resets?\b|refresh|renew|\bsession\b|week", "再试|重试|重置|每周|明[天日]")
_MAINTENANCE = _any(r"maintenance", "维护")
_USAGE_CODES = re.compile(r"^(?:usage_limit\w*|account_quota_exceeded|quota_exhausted|1308|1310|1316)$")
_TOO_LARGE = re.compile(r"request (?:is )?too large")
_NEVER_STATUS = frozenset({401, 404, 405, 407, 409, 410, 411, 415, 431})
_MONEY_STATUS = 402
_LIMIT_STATUS = 429
_OVERLOADED_STATUS = 529
_UNAVAILABLE = 503


def is_billing(evidence: Evidence) -> bool:
    """Whether the text or a code says that money, credits or a paid allowance ran out for good."""
    if any(_FINAL_CODES.match(code) for code in evidence.codes + evidence.types):
        return True
    if _FINAL_WORDS.search(evidence.words):
        return True
    by_code = any(_THROTTLE_CODES.search(code) for code in evidence.codes)
    weak = "insufficient_quota" in evidence.codes + evidence.types or _WEAK_FINAL_WORDS.search(evidence.words)
    return bool(weak) and not by_code and evidence.kind != "overload" and not _quota_means_rate(evidence)


def _quota_means_rate(evidence: Evidence) -> bool:
    """Whether "quota" stands for a per-minute limit here: Google, Azure, DashScope and gateways say it so.

    OpenAI does not, and a Retry-After does not change that (its error codes guide).
    """
    if _OPENAI_LINK in evidence.words:
        return False
    if _QUOTA_MEANS_RATE.search(evidence.words) or evidence.names:
        return True
    return evidence.has_delay and not _WEAK_FINAL_WORDS.search(evidence.words)


def is_usage_window(evidence: Evidence) -> bool:
    """Whether a usage allowance over a window (five hours, a week) is spent, which comes back by itself."""
    if any(_USAGE_CODES.match(code) for code in evidence.codes + evidence.types):
        return True
    return bool(_USAGE_WINDOW.search(evidence.words))


def comes_back(evidence: Evidence) -> bool:
    """Whether the text speaks of a time after which a spent allowance is there again, though it names none."""
    return bool(_COMES_BACK.search(evidence.words))


def is_too_large(evidence: Evidence) -> bool:
    """Whether this one request is larger than the limit, by the server's own words."""
    return bool(_TOO_LARGE.search(evidence.words))


def is_throttle(status: int | None, evidence: Evidence) -> bool:
    """Whether the response is a throttle. ``status`` is None for an event inside a stream, which has none."""
    statuses = evidence.statuses if status in (None, 200) else [status, *evidence.statuses]
    if status in _NEVER_STATUS:
        return False
    if status in (_LIMIT_STATUS, _OVERLOADED_STATUS, _MONEY_STATUS):
        return True
    if is_billing(evidence):
        return True
    if any(_NOT_THROTTLE_CODES.search(code) for code in evidence.codes):
        return False
    if not {_LIMIT_STATUS, _OVERLOADED_STATUS}.isdisjoint(statuses):
        return True
    return _speaks_of_limits(evidence) or (_UNAVAILABLE in statuses and _says_wait(evidence))


def _speaks_of_limits(evidence: Evidence) -> bool:
    codes = evidence.codes + evidence.types
    return any(_THROTTLE_CODES.search(code) for code in codes) or bool(_THROTTLE_WORDS.search(evidence.words))


def _says_wait(evidence: Evidence) -> bool:
    """A 503 with a wait is a throttle (RFC 9110, section 15.6.4), and so is Google's UNAVAILABLE (an overload)."""
    if _MAINTENANCE.search(evidence.words):  # no limit, no load, no money
        return False
    return evidence.has_delay or evidence.kind == "overload" or "unavailable" in evidence.codes + evidence.types
