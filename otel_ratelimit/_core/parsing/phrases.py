"""The sentences of error bodies that mean a limit, load, money, or something else altogether.

They are looked for in a text that was split into words (``kinds.words_of``): punctuation inside words is a blank, the end of
a sentence is two, so that a single blank in a pattern keeps it within one sentence.
"""

from __future__ import annotations

import re


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


FINAL = _any(
    # money
    r"billing (?:hard |soft )?limit|hard limit (?:has been |was )?reached",
    r"billing not active",
    r"credit balance is too low",
    r"payment required",
    r"insufficient (?:account |user |token |pre ?paid )?(?:balance|credits?|funds|quota)",
    r"balance (?:is )?(?:insufficient|not enough|too low|negative|exhausted|depleted)",
    r"(?:top ?up|recharge) your (?:account|balance|credits)",
    r"negative (?:credit )?balance",
    r"payment (?:method )?(?:was |has |is )?(?:been )?(?:declined|failed|overdue)",
    r"(?:enter|add) a (?:valid )?(?:payment method|credit card)(?: \S+){0,4} to (?:continue|keep|use|make)",
    r"(?:subscription|trial|plan) (?:period )?(?:has |is )?(?:been )?(?:expired|ended|cancell?ed)",
    r"(?:not|n't) (?:have )?enough (?:\w+ )?(?:credits?|balance|funds|points)",
    r"account (?:\w+ ){0,6}(?:is suspended|is not active|in arrears|overdue|deactivated|in good standing)",
    # credits
    r"(?:requires?|need) more credits",
    r"can only afford",
    r"all available credits",
    r"(?:depleted|exhausted|used(?: up)? all(?: of)?|used up|(?:run )?out of|consumed all|no|no remaining|any|exceeded)"
    r" (?:\w+ ){0,5}(?:credits?|points)\b",
    r"credits? (?:\w+ ){0,3}(?:depleted|exhausted|used up|run out)",
    r"\b0 credits? (?:remaining|left|available)|credit limit (?:has been |was |is )?(?:reached|exceeded)",
    r"credits? remaining, while",
    # spending limits and budgets
    r"spend(?:ing)? (?:limit|cap)",
    r"key limit exceeded",
    r"over budget",
    r"crossed spend",
    r"(?<!thinking )(?<!token )(?<!tokens )(?<!complexity )(?<!query )(?<!retry )(?<!rate )"
    r"budget (?:of \S{1,12} )?(?:has been |limit )?(?:exceeded|reached|exhausted)",
    r"exceeded ?budget",
    r"exceeded (?:your|the|its) budget",
    # free tiers and plans
    r"subscription (?:is )?required|free (?:tier|quota|trial|usage)(?: of the model)? (?:\w+ ){0,2}(?:exhausted|expired|used up)",
    r"used all your free",
    r"exhausted (?:its|your|the) free",
    r"extra usage is required",
    r"exceeded (?:the|your) (?:\d+ )?free",
    r"premium model quota",
    "余额不足|余额已|欠费|额度不足|(?<!今日)(?<!今日免费)(?<!每日)(?<!每日免费)额度已(?:用尽|用完|耗尽)|预扣费|请充值|资源包|已过期|残高",
)
WEAK_FINAL = re.compile(r"exceeded your current (?:token )?quota[,:]? .{0,40}(?:billing|balance)")
"""OpenAI's sentence. Google and Alibaba send the same one for limits per minute."""

SUBSCRIBE = _any(
    r"subscribe to (?:\S+ ){0,4}(?:plan|continue|keep|use|access|get)",
    r"(?:exceeded|reached|used(?: up)?) (?:\S+ ){0,3}(?:monthly|month's|plan's) (?:\S+ ){0,2}(?:capacity|limit|quota|allotment)",
)
"""An allowance of a plan that is spent; money, unless a rate or its return is named beside it."""
RATE_BESIDE = re.compile(r"rate ?limit|per (?:second|minute|min|hour|day)\b|too many requests|\b[tr]p[md]\b")

QUOTA_MEANS_RATE = _any(
    r"resource exhausted|generativelanguage|ai google dev|quota exceeded for metric",
    r"aliyun|alibabacloud|azure",
    r"token limit\b|rate limit\b|per min|per day|tpm|rpm",
    r"retry (?:after|in)|try again (?:in|after)",
)
RATE_LINK = _any(r"generativelanguage|ai google dev", r"aliyun|alibabacloud|azure")
OPENAI_LINK = "platform openai com"

BALANCE = re.compile(
    r"balance|insufficient (?:funds|credits?)|payment|top ?up|recharge|spend(?:ing)? (?:limit|cap)|余额|充值"
)
"""Money, whatever period stands beside it."""

_CREDITS = r"(?:\w+ ){0,2}(?:credits?|points|allowance|allotment|allocation|neurons)"
CREDITS_OF_A_DAY = _any(
    rf"\b(?:hourly|daily|today's|\d{{1,2}} ?hours?|24h|5h) {_CREDITS}\b",
    r"\b(?:credits?|points|neurons) (?:limit )?(?:for (?:today|(?:the|this) (?:day|hour))|(?:per|this|each|an|a) (?:day|hour))\b",
)
CREDITS_OF_A_MONTH = _any(
    rf"\b(?:weekly|monthly|this month's|this week's) (?:{_CREDITS}|usage|quota)\b",
    r"\b(?:credits?|points|usage|quota) (?:limit )?(?:for (?:the|this)|per|this) (?:month|week)\b",
)

THROTTLE = _any(
    # rates
    r"rate ?limited|(?:due to|because of|by|reason) rate ?limiting",
    r"rate ?limit ?error",
    r"rate limits? (?:was |is |has been |have been |already )?(?:exceeded|reached|hit)",
    r"(?:exceed\w*|reached|hit|over|crossed)(?: \S+){0,6} rate ?limits?\b",
    r"(?:can|may) (?:only )?(?:make|send) (?:up to |at most )?\d+ (?:\w+ )?(?:requests?|calls?|messages?|quer(?:y|ies))",
    r"too many requests|reduce your request rate|(?:limit|reduce|slow) your (?:api )?(?:requests|request rate|calls)\b",
    r"too many (?:\w+ ){0,4}\w+,? please wait",
    r"too many connections",
    r"throttl(?:ed|ing)",
    r"being rate limited|error code 1015|\brate exceeded\b",
    r"\d{2,9} requested .{0,24}limit",
    r"limit \d[\d,]{0,12} requested \d",
    r"\b[tr]p[md] (?:limit|rate)",
    r"(?:requests?|images?|qps|enqueued tokens?|per (?:second|minute|min|hour|day)|(?:daily|hourly) (?:\w+ )?) ?limit"
    r" (?:has been |was |is )?(?:reached|exceeded)",
    r"(?:reached|exceeded|hit) your (?:\w+ )?(?:requests?|messages?|daily|hourly|quota) limit",
    r"(?:concurrency|(?:parallel|concurrent|simultaneous)(?: (?:requests?|calls?|connections?))?) (?:limit|quota|allocated)",
    r"(?:too many|max(?:imum)?) (?:concurrent|parallel|simultaneous) (?:requests|connections|calls)|concurrent request slot",
    r"error code 429|status(?: code)? 429|http 429",
    # quotas
    r"quota (?:was |is |has been )?exceeded",
    r"exceed(?:ed|s|ing) (?:\S+ ){0,4}(?:quota|usage limit)\b",
    r"out of (?:\w+ ){1,3}quota|quota will be replenished",
    r"resource (?:has been )?exhausted",
    r"usage limits?\b.{0,40}(?:reached|hit|exceeded)",
    r"reached (?:\S+ ){0,4}usage limits?",
    # load
    r"\boverloaded\b|(?<!method )(?<!matching )(?<!operator )(?<!function )\boverload\b(?! resolution| not supported)",
    r"slow down",
    r"high (?:demand|load|traffic)",
    r"(?:over|at|no) (?:\w+ )?capacity",
    r"capacity (?:\w+ ){0,2}(?:exceeded|exhausted)",
    r"(?:server|service|model|system|engine) (?:is )?(?:too |currently )?busy",
    r"queue (?:is )?(?:full|exceeded)",
    r"no deployments available .{0,60}try again",
    "限流|限频|速率限制|频率限制|请求(?:过于|太)?频繁|请求过多|访问量过大|负载|过载|繁忙|并发(?:请求)?数?(?:过|超|达)|频率超|使用上限|调用频率",
)
USAGE_WINDOW = _any(
    # Claude Code says "not your usage limit" of a plain throttle
    r"(?<!token )(?<!tokens )(?<!not your )usage (?:limit|quota|cap|allowance|allocation)",
    r"account quota exceeded|(?:request|quota) allowance|(?:daily|monthly|weekly|today's|gpu) quota",
    r"(?:hour|day|week|month) allocated quota exceeded",
    r"daily free allocation|free usage limit",
    "使用上限|使用限额|(?:今日|每日|当日)(?:免费)?额度",
)
COMES_BACK = _any(
    r"comes? back|try again|retry|resets?\b|refresh|renew|\bsession\b|week", "再试|重试|重置|每周|明[天日]"
)
NO_LOAD = _any(r"maintenance|not deployed|does not exist|not found", "维护")
"""Why a service is not available, where it is no limit, no load and no money."""
KEY_USED_UP = re.compile(
    r"key (?:\w+ )?(?:reached|exceeded) its (?:usage |spending |credit )?(?:limit|quota)|exceeds your quota"
)
"""What makes a 401 one of quota: a key's own allowance is spent."""

TOO_LARGE = re.compile(r"request (?:is )?too large|single request exceeds")
_COUNTED = (
    r"(?:images?|files?|messages?|inputs?|tools?|documents?|items?|stop sequences|functions?|parts|attachments?|assistants"
    r"|threads|vector stores|models|deployments|projects|keys|users)"
)
_SIZE = _any(
    r"(?:message|payload|body|file|request|content|input|image|entity) (?:\w+ ){0,3}(?:is |was )?(?:larger|bigger|longer) than",
    r"(?:message|payload|body|file|content|entity|image|request body|input) (?:is |was )?too (?:large|long|big)",
    r"\b(?:disk|storage|file|files|upload|space) (?:\w+ )?quota|no space left|\bdisk (?:\w+ )?full",
    r"(?:storage|file|files|upload) (?:\w+ )?limit (?:has been |was |is )?(?:exceeded|reached)",
    rf"(?<!sent )(?<!made )too many (?!messages|models|users){_COUNTED}\b(?!,? please wait)"
    rf"|too many messages (?:in|for|per) (?:the|your|a|one)|at most \d+ {_COUNTED}\b"
    rf"|maximum (?:number|count) of (?:\w+ )?{_COUNTED}\b",
    r"maximum context|context length|context window",
)
"""A limit of size, storage or count in the request itself."""

_LIMIT_BESIDE = re.compile(r"per (?:second|minute|min|hour|day)\b|rate limit(?!ed)|too many requests|concurren")


def of_size(words: str) -> bool:
    """Whether the text is about size, storage or count and not about a rate beside it."""
    return bool(_SIZE.search(words)) and not _LIMIT_BESIDE.search(words)
