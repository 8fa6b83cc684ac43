"""A FastAPI service whose users go before its own background work. Run it with: uvicorn fastapi_service:app"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
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
