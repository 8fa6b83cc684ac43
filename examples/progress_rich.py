"""The same with rich, and a countdown: ``waiting 12 s for gpt-4o-mini's tokens``, ``11 s``, ``10 s``, ..."""

import asyncio
import time

import openai
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.text import Text

import otel_ratelimit
import otel_ratelimit.auto  # the one import; the callback is the block's, below

QUESTIONS = [f"What is {number} squared?" for number in range(60)]


class Waiting(ProgressColumn):
    """The wait that ends last, of all that have begun; nothing once it is over."""

    def __init__(self) -> None:
        super().__init__()
        self.until = 0.0
        self.wait: otel_ratelimit.WaitEvent | None = None

    def began(self, wait: otel_ratelimit.WaitEvent) -> None:
        """The callback: short, because the call waits for it."""
        until = time.monotonic() + (wait.seconds or 0)
        if until > self.until:
            self.until, self.wait = until, wait

    def render(self, task: Task) -> Text:
        """Called ten times a second by rich's own thread."""
        left = self.until - time.monotonic()
        return Text(str(self.wait._replace(seconds=left)) if self.wait and left > 0 and not task.finished else "")


async def main() -> None:
    """Sixty questions at once, with one bar."""
    waiting = Waiting()
    with Progress(BarColumn(), MofNCompleteColumn(), waiting) as progress, otel_ratelimit.use(on_wait=waiting.began):
        task = progress.add_task("questions", total=len(QUESTIONS))
        async with openai.AsyncOpenAI() as client:

            async def ask(question: str) -> None:
                await client.chat.completions.create(
                    model="gpt-4o-mini", messages=[{"role": "user", "content": question}], max_tokens=400
                )
                progress.advance(task)

            await asyncio.gather(*(ask(question) for question in QUESTIONS))


if __name__ == "__main__":
    asyncio.run(main())
