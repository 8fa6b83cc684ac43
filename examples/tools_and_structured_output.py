"""A tool call, and an answer that fits a Pydantic model: two calls, each of which waits for the limit if it must."""

import json

import openai
from pydantic import BaseModel

import otel_ratelimit.auto  # noqa: F401 - the one import

client = openai.OpenAI()
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Today's weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Advice(BaseModel):
    """What to take along."""

    umbrella: bool
    reason: str


asked = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "Do I need an umbrella in Lisbon?"}],
    tools=[WEATHER],
    tool_choice="required",
    max_tokens=200,
)
call = asked.choices[0].message.tool_calls[0]
print("the model asks for", call.function.name, json.loads(call.function.arguments))

advised = client.chat.completions.parse(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "It rains in Lisbon. Do I need an umbrella?"}],
    response_format=Advice,
    max_tokens=200,
)
print("advice:", advised.choices[0].message.parsed)
