"""Celery workers that share one limit. By itself it needs no broker: a worker of four threads in this very process.

python examples/celery_worker.py

For real, Redis is the broker, and the workers of all hosts share the limit through it:

export CELERY_BROKER=redis://localhost:6379/0 OTEL_RATELIMIT_STORE=redis://localhost:6379/1
celery -A celery_worker worker --concurrency 4      # in as many places as you like
python celery_worker.py                             # sends the work and waits for it
"""

import os
from contextlib import AbstractContextManager, nullcontext

import openai
from celery import Celery, group
from celery.contrib.testing.worker import start_worker

import otel_ratelimit.auto  # noqa: F401 - the one import; each forked worker process begins afresh

BROKER = os.environ.get("CELERY_BROKER", "memory://")
app = Celery("celery_worker", broker=BROKER, backend="cache+memory://" if BROKER == "memory://" else BROKER)


@app.task
def summarise(text: str) -> str | None:
    # Made in the task: a client must not be shared over a fork.
    with openai.OpenAI() as client:
        answer = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": f"Summarise: {text}"}], max_tokens=300
        )
    return answer.choices[0].message.content


def worker_here() -> AbstractContextManager[object]:
    """A worker in this process, where no broker is set."""
    if BROKER != "memory://":
        return nullcontext()
    app.set_current()
    return start_worker(app, pool="threads", concurrency=4, perform_ping_check=False, loglevel="warning")


if __name__ == "__main__":
    with worker_here():
        results = group(summarise.s(f"document {number}") for number in range(40))().get(timeout=300)
    print(f"{len(results)} summaries, the first: {results[0]}")
