"""Every endpoint over a socket, called by the real SDK and parsed by the SDK's own types."""

from __future__ import annotations

import hashlib
import io
import json
import operator
from collections.abc import Callable
from typing import Any

import anyio
import openai
import pytest
from pydantic import BaseModel

from otel_ratelimit.testing import ThrottlingServer
from otel_ratelimit.testing.answers import DIMENSIONS, TEXT, choices, estimate_tokens, example
from tests.testing.conftest import MESSAGES, Caller, chat, needs_responses, strict

DATA = bytes(range(256)) * 40
SHA256 = hashlib.sha256(DATA).hexdigest()

TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "other", "parameters": {"type": "object", "properties": {}}}},
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}, "days": {"type": "integer"}}},
        },
    },
]
WEATHER: Any = {"type": "function", "function": {"name": "weather"}}


class Day(BaseModel):
    name: str
    warm: bool


class Forecast(BaseModel):
    days: list[Day]
    first: Day
    note: str | None


def listed(resource: str) -> Callable[[Any], Any]:
    """An action that asks for a list, all pages of which ``Caller.events`` goes through."""
    return lambda client: operator.attrgetter(resource)(client).list()


def test_chat(caller: Caller, plain: ThrottlingServer) -> None:
    """A text, its model, and usage that adds up."""
    answer = strict(caller(plain, chat))
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-4o"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_chat_with_several_answers(caller: Caller, plain: ThrottlingServer) -> None:
    """``n`` of them."""
    answer = strict(caller(plain, lambda client: chat(client, n=3)))
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_chat_with_tools(caller: Caller, plain: ThrottlingServer) -> None:
    """The tool that was chosen is called with what its schema allows; left to itself the model uses none."""
    answer = strict(caller(plain, lambda client: chat(client, tools=TOOLS, tool_choice=WEATHER)))
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"town": "", "days": 0})
    assert answer.choices[0].finish_reason == "tool_calls"
    required = caller(plain, lambda client: chat(client, tools=TOOLS, tool_choice="required"))
    assert required.choices[0].message.tool_calls[0].function.name == "other"
    assert caller(plain, lambda client: chat(client, tools=TOOLS)).choices[0].message.content == TEXT


def test_chat_by_a_schema(caller: Caller, plain: ThrottlingServer) -> None:
    """``parse`` with a nested model gets an instance of it."""
    answer = caller(
        plain,
        lambda client: client.chat.completions.parse(model="gpt-4o", messages=MESSAGES, response_format=Forecast),
    )
    assert answer.choices[0].message.parsed == Forecast(days=[], first=Day(name="", warm=False), note=None)


@pytest.mark.parametrize("usage", [True, False])
def test_chat_streamed(caller: Caller, plain: ThrottlingServer, usage: bool) -> None:
    """The same text in pieces, and the usage at the end if it was asked for."""
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = [strict(chunk) for chunk in caller.events(plain, lambda client: chat(client, stream=True, **options))]
    content = [chunk for chunk in chunks if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in content) == TEXT
    assert content[-1].choices[0].finish_reason == "stop"
    assert [chunk.usage.total_tokens > 0 for chunk in chunks if not chunk.choices] == [True] * usage


def test_chat_streamed_with_tools_and_several_answers(caller: Caller, plain: ThrottlingServer) -> None:
    """Each choice has its own pieces; a tool's call comes as one."""
    chunks = caller.events(plain, lambda client: chat(client, stream=True, n=2, tools=TOOLS, tool_choice=WEATHER))
    for index in (0, 1):
        pieces = [part for chunk in map(strict, chunks) for part in chunk.choices if part.index == index]
        (call,) = [call for part in pieces for call in part.delta.tool_calls or []]
        assert call.function.name == "weather"
        assert pieces[-1].finish_reason == "tool_calls"


@needs_responses
def test_responses(caller: Caller, plain: ThrottlingServer) -> None:
    """The text where the SDK looks for it."""
    answer = strict(caller(plain, lambda client: client.responses.create(model="gpt-4o", input="Say hello.")))
    assert (answer.output_text, answer.status, answer.error) == (TEXT, "completed", None)
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


@needs_responses
def test_responses_by_a_schema(caller: Caller, plain: ThrottlingServer) -> None:
    """``parse`` gets an instance of the model."""
    answer = caller(
        plain, lambda client: client.responses.parse(model="gpt-4o", input="Say hello.", text_format=Forecast)
    )
    assert answer.output_parsed.first == Day(name="", warm=False)


@needs_responses
def test_responses_streamed(caller: Caller, plain: ThrottlingServer) -> None:
    """Every event by its own type, numbered through, the deltas joined are the text."""
    events = caller.events(plain, lambda client: client.responses.create(model="gpt-4o", input="hi", stream=True))
    assert [strict(event).sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == TEXT


@needs_responses
def test_the_responses_stream_helper(caller: Caller, plain: ThrottlingServer) -> None:
    """``client.responses.stream`` keeps a snapshot from event to event, and so checks their order."""

    def read(client: Any) -> Any:
        manager = client.responses.stream(model="gpt-4o", input="hi")
        if not caller.asynchronous:
            with manager as stream:
                return [event.type for event in stream], stream.get_final_response()

        async def collect() -> Any:
            async with manager as stream:
                return [event.type async for event in stream], await stream.get_final_response()

        return collect()

    types, final = caller(plain, read)
    assert types[-1] == "response.completed"
    assert final.output_text == TEXT


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_embeddings(caller: Caller, plain: ThrottlingServer, encoding: str | None) -> None:
    """One vector for each input, as numbers or packed."""
    options = {} if encoding is None else {"encoding_format": encoding}
    answer = caller(
        plain,
        lambda client: client.embeddings.create(model="text-embedding-3-small", input=["a", "b", "c"], **options),
    )
    assert [item.index for item in answer.data] == [0, 1, 2]
    vector = answer.data[0].embedding
    if encoding == "base64":
        assert isinstance(vector, str)
    else:
        assert strict(answer).data[0].embedding == [1 / DIMENSIONS] * DIMENSIONS


def test_embeddings_of_tokens_and_of_a_size(caller: Caller, plain: ThrottlingServer) -> None:
    """A list of numbers is one input; ``dimensions`` is kept."""
    answer = caller(plain, lambda client: client.embeddings.create(model="m", input=[1, 2, 3], dimensions=4))
    assert [len(item.embedding) for item in answer.data] == [4]


def test_models(caller: Caller, plain: ThrottlingServer) -> None:
    """The list, and one of it."""
    names = [strict(model).id for model in caller.events(plain, listed("models"))]
    assert names == ["gpt-4o", "gpt-4o-mini"]
    assert strict(caller(plain, lambda client: client.models.retrieve("gpt-4o"))).id == "gpt-4o"


def test_files_are_paged(caller: Caller, server: ThrottlingServer) -> None:
    """Five files, two to a page: three requests."""
    names = [strict(file).id for file in caller.events(server, listed("files"))]
    assert names == [f"file-{number}" for number in range(5)]
    assert server.counts.paths == {"/v1/files": 3}
    page = caller(server, lambda client: client.files.list(limit=10))
    assert len(page.data) == 5
    assert not page.has_more


def test_upload(caller: Caller, server: ThrottlingServer) -> None:
    """Every byte arrived: its hash comes back with the file, and the file can be looked up."""
    upload = ("data.bin", io.BytesIO(DATA))
    file = strict(caller(server, lambda client: client.files.create(file=upload, purpose="batch")))
    assert (file.bytes, file.filename, file.sha256) == (len(DATA), "data.bin", SHA256)
    assert strict(caller(server, lambda client: client.files.retrieve("file-7"))).id == "file-7"


def test_a_large_upload_is_remembered_by_its_hash(caller: Caller, server: ThrottlingServer) -> None:
    """Of what is over 64 KiB only size and hash are kept."""
    caller(server, lambda client: client.files.create(file=("big", bytes(100_000)), purpose="batch"))
    (received,) = server.requests
    assert received.size > 100_000
    assert (received.body, received.json) == (None, None)
    assert len(received.sha256) == 64


def test_an_upload_without_a_file_is_a_bad_request(caller: Caller, plain: ThrottlingServer) -> None:
    """As OpenAI words it."""
    with pytest.raises(openai.BadRequestError, match="'file' is a required property"):
        caller(plain, lambda client: client.post("/files", body={"purpose": "batch"}, cast_to=object))


def test_transcriptions(caller: Caller, plain: ThrottlingServer) -> None:
    """What was heard is the hash of what arrived."""
    sound = ("sound.wav", io.BytesIO(DATA))
    answer = caller(plain, lambda client: client.audio.transcriptions.create(file=sound, model="whisper-1"))
    assert answer.text == SHA256


def test_images(caller: Caller, plain: ThrottlingServer) -> None:
    """As many as asked for."""
    answer = strict(caller(plain, lambda client: client.images.generate(prompt="a cat", model="gpt-image-1", n=2)))
    assert [image.b64_json for image in answer.data] == ["aW1hZ2U="] * 2


def test_moderations(caller: Caller, plain: ThrottlingServer) -> None:
    """One result for each text, with every category that the SDK knows."""
    answer = strict(caller(plain, lambda client: client.moderations.create(input=["a", "b"])))
    assert [result.flagged for result in answer.results] == [False, False]
    assert not answer.results[0].categories.self_harm_intent


def test_batches(caller: Caller, plain: ThrottlingServer) -> None:
    """Made, looked up and listed."""
    batch = strict(
        caller(
            plain,
            lambda client: client.batches.create(
                completion_window="24h", endpoint="/v1/embeddings", input_file_id="file-1"
            ),
        )
    )
    assert (batch.endpoint, batch.status) == ("/v1/embeddings", "validating")
    assert strict(caller(plain, lambda client: client.batches.retrieve("batch_9"))).id == "batch_9"
    assert [strict(item).id for item in caller.events(plain, listed("batches"))] == ["batch_0", "batch_1"]


def test_fine_tuning_jobs(caller: Caller, plain: ThrottlingServer) -> None:
    """Made, looked up and listed."""
    job = strict(caller(plain, lambda client: client.fine_tuning.jobs.create(model="gpt-4o", training_file="file-1")))
    assert (job.model, job.training_file, job.status) == ("gpt-4o", "file-1", "queued")
    assert strict(caller(plain, lambda client: client.fine_tuning.jobs.retrieve("ftjob-9"))).id == "ftjob-9"
    jobs = caller.events(plain, listed("fine_tuning.jobs"))
    assert [strict(item).id for item in jobs] == ["ftjob-0", "ftjob-1"]


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_azure(server: ThrottlingServer, flavour: str) -> None:
    """The Azure client's paths, with the deployment in them."""
    options: Any = {
        "azure_endpoint": server.base_url.removesuffix("/v1"),
        "api_key": "test",
        "api_version": "2024-10-21",
        "max_retries": 0,
    }
    if flavour == "sync":
        with openai.AzureOpenAI(**options) as client:
            answer = strict(chat(client))
            client.embeddings.create(model="mine", input="a")
            client.models.list()
    else:

        async def main() -> Any:
            async with openai.AsyncAzureOpenAI(**options) as client:
                answer = strict(await chat(client))
                await client.embeddings.create(model="mine", input="a")
                await client.models.list()
                return answer

        answer = anyio.run(main)
    assert answer.choices[0].message.content == TEXT
    assert list(server.counts.paths) == [
        "/openai/deployments/gpt-4o/chat/completions",
        "/openai/deployments/mine/embeddings",
        "/openai/models",
    ]
    assert server.counts.succeeded == 3


def test_azures_v1_paths(caller: Caller, server: ThrottlingServer) -> None:
    """The newer form, used with the ordinary client."""
    base_url = server.base_url.replace("/v1", "/openai/v1")
    assert strict(caller(server, chat, base_url=base_url)).choices


def test_an_unknown_path_is_a_404_in_openais_form(caller: Caller, plain: ThrottlingServer) -> None:
    """The SDK finds message, type and code where it looks for them."""
    with pytest.raises(openai.NotFoundError) as raised:
        caller(plain, lambda client: client.get("/nowhere", cast_to=object))
    assert raised.value.body == {
        "message": "Invalid URL (GET /v1/nowhere)",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert raised.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{}], "tool_choice": "required"},
        {"response_format": {"json_schema": {"schema": {"$ref": "#/$defs/Nothing"}}}},
        {"tools": [{"function": {"name": "a"}}], "tool_choice": {"function": 1}},
    ],
)
def test_a_request_that_makes_no_sense_is_a_400(caller: Caller, plain: ThrottlingServer, body: Any) -> None:
    """Not a crash of the server."""
    with pytest.raises(openai.BadRequestError):
        caller(plain, lambda client: client.post("/chat/completions", body=body, cast_to=object))


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, 16),  # nothing asked for: the output that an answer is taken to need
        ({"max_tokens": 400}, 400),
        ({"max_completion_tokens": 300, "max_tokens": 5}, 300),
        ({"max_output_tokens": 7}, 7),
        ({"max_tokens": 100, "n": 3}, 300),
        ({"max_tokens": 1, "input": "x" * 398}, 100),  # 400 characters with its quotes
        ({"max_tokens": 1, "input": "é" * 398}, 100),
        ({"max_tokens": "many", "n": "some"}, 16),
    ],
)
def test_what_a_request_is_charged(body: dict[str, Any], tokens: int) -> None:
    """The larger of its output limit and a quarter of its characters; nonsense costs what saying nothing does."""
    assert estimate_tokens(body) == tokens


@pytest.mark.parametrize(("count", "answers"), [(None, 1), (2, 2), (0, 1), (-5, 1), (10**9, 1), ("x", 1)])
def test_how_many_answers_there_are(count: Any, answers: int) -> None:
    """No request makes the server build a billion of them."""
    assert choices({"n": count}) == answers


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "number"}}}, {"a": [], "b": 0}),
        ({"enum": ["x", "y"]}, "x"),
        ({"const": 5}, 5),
        ({"anyOf": [{"type": "boolean"}, {"type": "string"}]}, False),
        ({"type": ["string", "null"]}, None),
        ({}, None),
    ],
)
def test_the_smallest_value_of_a_schema(schema: dict[str, Any], value: Any) -> None:
    """For the parts of JSON schema that structured outputs use."""
    assert example(schema) == value
