"""A FastAPI service whose users go before its own background work.

python examples/fastapi_service.py          # serves, asks itself one question as a user would, and ends
uvicorn --app-dir examples fastapi_service:app    # serves for good
"""

import asyncio
import threading
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import uvicorn
from fastapi import FastAPI, HTTPException

import otel_ratelimit
import otel_ratelimit.auto  # the one import

client = openai.AsyncOpenAI()
USERS = otel_ratelimit.Policy(max_wait=20, priority="interactive")  # nobody looks at a spinner for longer


async def ask(question: str) -> str | None:
    answer = await client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": question}], max_tokens=300
    )
    return answer.choices[0].message.content


async def tidy_up() -> None:
    with otel_ratelimit.priority("batch"):
        await asyncio.gather(*(ask(f"Summarise record {number}.") for number in range(20)))


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    background = asyncio.create_task(tidy_up())
    yield
    background.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/answer")
async def answer(question: str) -> dict[str, str | None]:
    try:
        with otel_ratelimit.use(USERS):
            return {"answer": await ask(question)}
    except openai.RateLimitError as error:
        raise HTTPException(503, "busy, please try again later") from error


def main() -> None:
    """A user's question, while the background work waits for its turns."""
    server = uvicorn.Server(uvicorn.Config(app, port=8000, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.1)
    try:
        with urllib.request.urlopen("http://127.0.0.1:8000/answer?question=why", timeout=60) as response:
            print(response.read().decode())
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
