"""Azure OpenAI: the same import. Set AZURE_OPENAI_ENDPOINT, AZURE_OPENAI_API_KEY and OPENAI_API_VERSION."""

import openai

import otel_ratelimit.auto  # noqa: F401 - the one import

client = openai.AzureOpenAI(azure_deployment="gpt-4o-mini")
answer = client.chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "Say hello."}], max_tokens=100
)
print(answer.choices[0].message.content)
