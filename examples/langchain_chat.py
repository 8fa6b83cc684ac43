"""LangChain (pip install langchain-openai). It uses the openai package; leave the retrying to one layer."""

from langchain_openai import ChatOpenAI

import otel_ratelimit.auto  # noqa: F401 - the one import

# LangChain hands max_retries to the SDK: 0 would forbid waiting, and more than the default of 2 changes nothing for throttles.
model = ChatOpenAI(model="gpt-4o-mini", max_tokens=400)
answers = model.batch([f"Name a river in region {number}." for number in range(20)])
print(f"{len(answers)} answers, the first: {answers[0].content}")
