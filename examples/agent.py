"""The OpenAI Agents SDK (pip install openai-agents). It uses the openai package, so the one import is enough."""

from agents import Agent, Runner, set_tracing_disabled

import otel_ratelimit.auto  # noqa: F401 - the one import

set_tracing_disabled(True)  # its own traces go to OpenAI; ours go where OpenTelemetry says

agent = Agent(name="Greeter", instructions="Answer in one sentence.", model="gpt-4o-mini")
print(Runner.run_sync(agent, "Who are you?").final_output)
