"""Embeddings of a large corpus, as a batch that lets interactive calls of the same program go first."""

from concurrent.futures import ThreadPoolExecutor

import openai

import otel_ratelimit.auto  # the one import

CORPUS = [f"Paragraph {number} of a book that nobody has read to the end. " * 8 for number in range(400)]

client = openai.OpenAI()


def embed(texts: list[str]) -> list[list[float]]:
    with otel_ratelimit.priority("batch"):
        answer = client.embeddings.create(model="text-embedding-3-small", input=texts)
    return [item.embedding for item in answer.data]


print("400 paragraphs, some 46,000 tokens: about two minutes where the limit is 20,000 a minute ...", flush=True)
with ThreadPoolExecutor(16) as pool:
    # One request takes many texts: the limit on requests is then never the one that counts.
    chunks = [CORPUS[start : start + 10] for start in range(0, len(CORPUS), 10)]
    vectors = [vector for part in pool.map(embed, chunks) for vector in part]
print(f"{len(vectors)} vectors of {len(vectors[0])} numbers")
