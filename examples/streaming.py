"""A streamed answer. The throttle comes before the first word, so the wait does too; no output is ever repeated."""

import openai

import otel_ratelimit.auto  # noqa: F401 - the one import

client = openai.OpenAI()
stream = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "Tell a very short story."}],
    max_tokens=400,
    stream=True,
)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)
print()
