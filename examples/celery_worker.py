"""Celery workers that share one limit through Redis, which is their broker too.

export OTEL_RATELIMIT_STORE=redis://localhost:6379/1
celery -A celery_worker worker --concurrency 4      # in as many places as you like
python celery_worker.py                             # sends the work and waits for it
"""

import os

import openai
from celery import Celery, group

import otel_ratelimit.auto  # noqa: F401 - the one import; each forked worker process begins afresh

BROKER = os.environ.get("CELERY_BROKER", "redis://localhost:6379/0")
app = Celery("celery_worker", broker=BROKER, backend=BROKER)


@app.task
def summarise(text: str) -> str | None:
    # Made in the task: a client must not be shared over a fork.
    with openai.OpenAI() as client:
        answer = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": f"Summarise: {text}"}], max_tokens=300
        )
    return answer.choices[0].message.content


if __name__ == "__main__":
    results = group(summarise.s(f"document {number}") for number in range(40))().get(timeout=300)
    print(f"{len(results)} summaries, the first: {results[0]}")
