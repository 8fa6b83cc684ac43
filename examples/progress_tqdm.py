"""A progress bar that says what it waits for, in place of a freeze: tqdm, threads, and a callback for the block."""

from concurrent.futures import ThreadPoolExecutor

import openai
from tqdm import tqdm

import otel_ratelimit

REVIEWS = [f"Review {number}: it works, most of the time." for number in range(60)]

client = openai.OpenAI()


def judge(review: str) -> str:
    """One call; what it waits for is none of its business."""
    answer = client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": f"Is this good or bad? One word.\n{review}"}],
        max_tokens=400,
    )
    return answer.choices[0].message.content or ""


def main() -> None:
    """The bar's text is the last wait that began; an answer clears it."""
    with tqdm(total=len(REVIEWS), unit=" reviews") as bar:
        otel_ratelimit.instrument(on_wait=lambda wait: bar.set_postfix_str(str(wait)))
        with ThreadPoolExecutor(16) as pool:
            for _ in pool.map(judge, REVIEWS):
                bar.set_postfix_str("", refresh=False)
                bar.update()


if __name__ == "__main__":
    main()
