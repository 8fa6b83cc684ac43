"""Many calls at once, with asyncio. They share one queue: nobody has to guess how many may run at a time."""

import asyncio

import openai

import otel_ratelimit.auto  # noqa: F401 - the one import

QUESTIONS = [f"What is {number} squared?" for number in range(60)]


async def ask(client: openai.AsyncOpenAI, question: str) -> str | None:
    answer = await client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": question}], max_tokens=400
    )
    return answer.choices[0].message.content


async def main() -> None:
    async with openai.AsyncOpenAI() as client:
        answers = await asyncio.gather(*(ask(client, question) for question in QUESTIONS))
    print(f"{len(answers)} answers, the first: {answers[0]}")


asyncio.run(main())
