"""Tools: functions that a model may call, and the loop that has it do so, for the code of a run.

    def weather(city: str, days: int = 1) -> dict:
        "The weather of a city."

    @chat.run("assistant")
    def assistant(run, payload):
        yield from tools.ask(run, payload, [weather])

The form of tools and calls is DeepSeek's (https://api-docs.deepseek.com/guides/function_calling).
Each function becomes a tool: its name, the first paragraph of its docstring, and its parameters as
a JSON Schema, made from their type hints. A parameter is described by
``Annotated[str, msgspec.Meta(description="...")]``. One called ``run`` gets the run, and the model
does not see it.

What the model asks for is called under the run, up to ``AT_ONCE`` at once. So a Stop ends it:
between two questions, in a request of ``run.http``, in ``run.sleep``. No call and no question
begins after a Stop. A tool that waits for something else is left behind.
"""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from .answers.foreign_json import NO_JSON
from .errors import Refusal
from .runs.parts import Part, Parts
from .runs.run import Run

logger = logging.getLogger("chatproxy")

#: How often a model may ask for tools, if it is not said.
MOST_ROUNDS = 10
#: How many tools are called at once.
AT_ONCE = 16
#: The most bytes of what a tool gives that the model gets.
MOST_RESULT_BYTES = 256 * 1024
#: The most characters of arguments and of a result that the client is shown.
_MOST_SHOWN = 32 * 1024
_LONGEST_SENTENCE = 1000
_LONGEST_NAME = 100


class Tool:
    """A function as a tool.

    :param function: see the top.
    :raises TypeError: if its parameters can't be a JSON object.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = getattr(function, "__name__", "")
        if not self.name.isidentifier() or inspect.iscoroutinefunction(function):
            raise TypeError("A tool must be a function with a name, and not an async one.")
        self._function = function
        hints = typing.get_type_hints(function, include_extras=True)
        fields: list[Any] = []
        self._takes_run = False
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(f"The tool {self.name!r} must name its parameters.")
            if parameter.name == "run":
                self._takes_run = True
                continue
            kind = hints.get(parameter.name, Any)
            default = parameter.default
            required = default is parameter.empty
            fields.append((parameter.name, kind) if required else (parameter.name, kind, default))
        self._arguments = msgspec.defstruct(self.name, fields, kw_only=True)

    @property
    def description(self) -> dict[str, Any]:
        """The tool as DeepSeek is told of it."""
        (schema,), parts = msgspec.json.schema_components(
            [self._arguments], ref_template="#/$defs/{name}"
        )
        name = schema["$ref"].rpartition("/")[2]
        parameters = {k: v for k, v in parts.pop(name).items() if k != "title"}
        if parts:
            parameters["$defs"] = parts
        text = inspect.getdoc(self._function) or ""
        function = {
            "name": self.name,
            "description": " ".join(text.partition("\n\n")[0].split()),
            "parameters": parameters,
        }
        return {"type": "function", "function": function}

    def call(self, run: Run, arguments: str) -> Any:
        """Call it.

        :param arguments: JSON, as the model has written it.
        :raises msgspec.ValidationError, msgspec.DecodeError: if they are not what it takes.
        """
        given = msgspec.structs.asdict(
            msgspec.json.decode(arguments.strip() or "{}", type=self._arguments)
        )
        return self._function(**given, **({"run": run} if self._takes_run else {}))


def ask(
    run: Run,
    payload: Mapping[str, Any],
    functions: Iterable[Callable[..., Any] | Tool],
    *,
    rounds: int = MOST_ROUNDS,
) -> Iterator[Part]:
    """Ask, call what the model asks for, and ask again, until it answers.

    :param payload: a chat completion in DeepSeek's form.
    :param rounds: how often tools are called. Then the model is asked to answer without.
    :returns: the parts of the answer to be shown: all texts, also those between calls.
    """
    tools = {
        tool.name: tool
        for tool in (each if isinstance(each, Tool) else Tool(each) for each in functions)
    }
    messages = list(payload["messages"])
    described = [tool.description for tool in tools.values()]
    for number in range(rounds + 1):
        question = {**payload, "messages": messages, "tools": described}
        if number == rounds:
            question["tool_choice"] = "none"
        answer = run.ask(question, show=False)
        for part in answer:
            if not part.tool_calls and part.finish_reason != "tool_calls":
                yield part
        calls = _named(answer.tool_calls, number)
        if not calls or number == rounds:
            return
        messages.append(_as_message(answer, calls))
        for at in range(0, len(calls), AT_ONCE):
            messages += _results(run, tools, calls[at : at + AT_ONCE])


def _named(calls: list[dict[str, str]], number: int) -> list[dict[str, str]]:
    """The calls of this round, each with an id, whatever the model gives."""
    return [{**call, "id": call["id"] or f"call-{number}-{at}"} for at, call in enumerate(calls)]


def _results(
    run: Run, tools: Mapping[str, Tool], calls: list[dict[str, str]]
) -> Iterator[dict[str, str]]:
    """Call the tools, all at once; the messages that tell the model what came of it."""
    running = []
    for call in calls:
        tool = tools.get(call["name"])
        work = partial(_call, run, tool, call)
        work.__name__ = "none" if tool is None else tool.name  # type: ignore[attr-defined]
        running.append(run.spawn(work))
    for call, future in zip(calls, running, strict=True):
        yield {"role": "tool", "tool_call_id": call["id"], "content": run.wait(future)}


def _call(run: Run, tool: Tool | None, call: dict[str, str]) -> str:
    """Call a tool; return what the model is told. An error is told, too: it may do better then.

    The sentence of a ``Refusal`` is told as it is. Any other error may quote what is nobody's
    business, such as an address with its key, so the log alone has it.
    """
    run.tell_tool_call(call["id"], call["name"][:_LONGEST_NAME], _shown(call["arguments"]))
    try:
        if tool is None:
            raise Refusal("There is no tool of this name.")
        output = tool.call(run, call["arguments"])
        content = output if isinstance(output, str) else msgspec.json.encode(output).decode()
        if len(content.encode("utf-8", "replace")) > MOST_RESULT_BYTES:
            raise Refusal(f"The result is larger than {MOST_RESULT_BYTES} bytes.")
    except (Refusal, msgspec.ValidationError, msgspec.DecodeError) as error:
        sentence = str(error)[:_LONGEST_SENTENCE]
    except Exception:
        logger.exception("The tool %s failed", "" if tool is None else tool.name)
        sentence = "The tool failed."
    else:
        run.tell_tool_result(call["id"], _shown(content))
        return content
    run.tell_tool_result(call["id"], error=sentence)
    return f"Error: {sentence}"


def _as_message(answer: Parts, calls: list[dict[str, str]]) -> dict[str, Any]:
    """The model's own message that asks for the tools.

    In thinking mode DeepSeek wants the reasoning back, up to the answer
    (https://api-docs.deepseek.com/guides/thinking_mode).
    """
    return {
        "role": "assistant",
        "content": answer.text or None,
        **({"reasoning_content": answer.reasoning} if answer.reasoning else {}),
        "tool_calls": [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in calls
        ],
    }


def _shown(text: str) -> Any:
    """What the client is shown of arguments or of a result: its value, if it is JSON."""
    if len(text) > _MOST_SHOWN:
        return f"{text[:_MOST_SHOWN]} …"
    try:
        value = msgspec.json.decode(text)
        msgspec.json.encode(value)
    except NO_JSON:
        return text
    return value
