"""One call. If it is throttled, it waits as long as the server asked and is sent again; nothing else changes."""

import openai

import otel_ratelimit.auto  # noqa: F401 - the one import

client = openai.OpenAI()
answer = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "Say hello in three languages."}],
    max_tokens=100,
)
print(answer.choices[0].message.content)
