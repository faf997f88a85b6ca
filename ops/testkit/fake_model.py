#!/usr/bin/env python3
"""A scripted stand-in for the model APIs, so that real agent CLIs run in tests without a network.

One process, Python's standard library only, loopback only. It speaks, streamed and not:

    POST …/responses                           OpenAI Responses
    POST …/chat/completions                    OpenAI Chat
    POST …/messages, …/messages/count_tokens   Anthropic Messages
    POST …/models/M:generateContent, :streamGenerateContent, :countTokens   Gemini
    GET  …/models                              model lists

Only the end of the path counts, so any prefix (/v1, /v1beta, /openai/v1) will do as base.

    fake_model.py --port 0 --port-file FILE    a free port, written to FILE
    fake_model.py --port 4010 --script FILE    rules first, then directives

What the reply is, the last message of the user says, in DIRECTIVES, one per line or separated by ';;'. A directive that
calls a tool ends the reply; the next call of the model, which brings the tool's result, goes on behind it. When none
is left the reply is 'DONE.'; a message without any is echoed.

    SAY: text             say it
    THINK: text           say it as reasoning, before the text
    SLOW: 40 250          40 numbered words, one every 250 ms
    RUN: ls -1            call the CLI's shell tool, whatever its name
    TOOL: name {"a": 1}   call any tool
    SPAWN: directives     call the CLI's sub-agent tool with them; inside, ' && ' stands between two
    HANG: 600             take the request and say nothing for 600 s
    FAIL: 529 overloaded  answer with that HTTP status
    CUT: 5                end the connection after 5 pieces of the stream

A SCRIPT is {"rules": [{"if": REGEX, "steps": [STEP, …]}], "default": [STEP, …]}, with
STEP = {"think": s, "text": s, "run": s, "tool": {"name": s, "args": {}}, "spawn": s, "slow": [words, ms], "hang": s,
"fail": [status, text], "cut": n}. Step k answers the call that comes with k finished rounds of tools since the user's
last message: nothing is remembered between calls, so the server may be restarted at any time. In "text", {out} is the
last tool's result and {n} the number of the round.

CONTROL: GET /_fake/requests (what was asked), GET /_fake/last (the last body as it came), POST /_fake/script,
POST /_fake/pace {"chunk", "delay", "first"}, POST /_fake/reset.
"""

import argparse
import collections
import itertools
import json
import pathlib
import random
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Names by which the CLIs know their own tools, the likelier ones first.
SHELL_TOOLS = ("exec_command", "shell_command", "local_shell", "shell", "container.exec", "Bash", "bash",
               "run_shell_command", "execute_command", "run_terminal_cmd", "terminal")
SPAWN_TOOLS = ("Agent", "Task", "task", "spawn_agent", "delegate")
# Messages of the role 'user' that a CLI writes by itself begin so.
HARNESS_PREFIXES = ("<system-reminder>", "<environment_context>", "<user_instructions>", "# AGENTS.md",
                    "<session_context>", "<permissions instructions>", "<skills_instructions>", "<turn_aborted>")
# Claude wraps what a person types during a turn into these.
MIDTURN_BEFORE = "The user sent a new message while you were working"
MIDTURN_AFTER = "\n\nThis is how"
DIRECTIVE = re.compile(r"^\s*(SAY|THINK|SLOW|RUN|TOOL|SPAWN|HANG|FAIL|CUT):\s*(.*)$")
# Steps with one of these need the main loop of a CLI; calls without tools are its titles, summaries and routers.
ACTS = ("run", "tool", "spawn", "slow", "hang", "fail", "cut")
ERROR_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
               429: "rate_limit_error", 529: "overloaded_error"}
# Requests remembered; a test looks at the last few.
MAX_LOG = 500


class Settings:
    """What may be changed while the server runs. One lock for all of it."""

    def __init__(self, args):
        self.lock = threading.Lock()
        self.chunk, self.delay, self.first = max(1, args.chunk), args.delay, args.first
        self.chaos, self.record, self.quiet = args.chaos, args.record, args.quiet
        self.rng = random.Random(args.seed)
        self.script = json.loads(pathlib.Path(args.script).read_text()) if args.script else None
        self.numbers = itertools.count(1)
        self.log, self.last = collections.deque(maxlen=MAX_LOG), None


Tool = collections.namedtuple("Tool", "name schema namespace")
Call = collections.namedtuple("Call", "name args namespace")
# What one reply consists of: pieces of reasoning, pieces of text, seconds between pieces, a tool call or None.
Reply = collections.namedtuple("Reply", "think text delay call")


class Cut(Exception):
    """The script wants the connection to end here."""


def new_id(prefix):
    return f"{prefix}_{random.getrandbits(64):016x}"


def pieces(text, size):
    return [text[at:at + size] for at in range(0, len(text), size)]


# ---- Reading requests: each API's history as pairs (role, text) with the roles user, assistant, call, tool

def plain(content):
    """The text of a content that may be a string, a list of parts, or an object around one."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(map(plain, content))
    if isinstance(content, dict):
        for key in ("text", "content", "output", "parts"):
            if content.get(key) is not None:
                return plain(content[key])
        return json.dumps(content)
    return "" if content is None else str(content)


def responses_history(body):
    items = body.get("input") or []
    if isinstance(items, str):
        yield "user", items
        return
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            content = item.get("content") or []
            for part in [content] if isinstance(content, str) else content:
                yield item.get("role", "user"), plain(part)
        elif kind == "agent_message":
            yield "user", plain(item.get("content"))
        elif kind.endswith("_call"):
            yield "call", item.get("name", kind)
        elif kind.endswith("_output"):
            yield "tool", plain(item.get("output"))


def chat_history(body):
    for message in body.get("messages") or []:
        yield message.get("role"), plain(message.get("content"))
        for call in message.get("tool_calls") or []:
            yield "call", call["function"]["name"]


def anthropic_history(body):
    for message in body.get("messages") or []:
        content = message.get("content")
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content or []:
            kind = part.get("type")
            if kind == "tool_result":
                yield "tool", plain(part.get("content"))
            elif kind == "tool_use":
                yield "call", part.get("name")
            elif kind == "text":
                role, text = message.get("role"), part.get("text", "")
                if MIDTURN_BEFORE in text:
                    role, text = "user", text.split(MIDTURN_BEFORE, 1)[1].split(MIDTURN_AFTER)[0].strip(": \n")
                yield role, text


def gemini_history(body):
    for content in body.get("contents") or []:
        for part in content.get("parts") or []:
            if "functionResponse" in part:
                yield "tool", plain(part["functionResponse"].get("response"))
            elif "functionCall" in part:
                yield "call", part["functionCall"].get("name")
            elif "text" in part:
                yield "assistant" if content.get("role") == "model" else "user", part["text"]


def flat_tools(tools, namespace=None):
    """Tools of the Responses API, which may be grouped in name spaces."""
    for tool in tools or []:
        if tool.get("type") == "namespace":
            yield from flat_tools(tool.get("tools"), tool.get("name"))
        else:
            yield Tool(tool.get("name") or tool.get("type"), tool.get("parameters") or {}, namespace)


def chat_tools(tools):
    for tool in tools or []:
        function = tool.get("function") or {}
        yield Tool(function.get("name"), function.get("parameters") or {}, None)


def anthropic_tools(tools):
    for tool in tools or []:
        yield Tool(tool.get("name"), tool.get("input_schema") or {}, None)


def gemini_tools(tools):
    for tool in tools or []:
        for function in tool.get("functionDeclarations") or []:
            yield Tool(function.get("name"), function.get("parametersJsonSchema") or function.get("parameters") or {}, None)


def wanted_schema(api, body):
    """The JSON schema the answer must fit, in side calls such as routers and title makers."""
    if api == "responses":
        return ((body.get("text") or {}).get("format") or {}).get("schema")
    if api == "chat":
        return ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
    if api == "anthropic":
        return ((body.get("output_config") or {}).get("format") or {}).get("schema")
    config = body.get("generationConfig") or {}
    return config.get("responseJsonSchema") or config.get("responseSchema")


def smallest(schema):
    """The smallest value that fits a JSON schema."""
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return smallest(schema[key][0])
    kind = schema.get("type", "object")
    kind = (kind[0] if isinstance(kind, list) else kind).lower()
    if kind == "object":
        return {name: smallest(inner) for name, inner in (schema.get("properties") or {}).items()}
    return {"array": [], "string": "fake", "boolean": False, "null": None}.get(kind, schema.get("minimum", 1))


# ---- Deciding what to say

def read_directives(text):
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':  # some CLIs quote the prompt they were given
        text = text[1:-1]
    found = (DIRECTIVE.match(line) for line in text.replace(";;", "\n").splitlines())
    return [(match.group(1), match.group(2).strip()) for match in found if match]


def steps_of(directives):
    """Groups directives into steps: one for each call of the model."""
    steps, step = [], {}
    for word, rest in directives:
        if word == "SAY":
            step["text"] = f"{step.get('text', '')}\n{rest}".strip()
        elif word == "THINK":
            step["think"] = rest
        elif word == "SLOW":
            given = [int(number) for number in rest.split()]
            step["slow"] = (given + [20, 200][len(given):])[:2]
        elif word == "HANG":
            step["hang"] = float(rest or 600)
        elif word == "CUT":
            step["cut"] = int(rest or 3)
        elif word == "FAIL":
            status, _, text = rest.partition(" ")
            step["fail"] = [int(status or 500), text or "scripted failure"]
        else:  # a tool: ends the step
            if word == "RUN":
                step["run"] = rest
            elif word == "SPAWN":
                step["spawn"] = rest.replace(" && ", "\n")
            else:
                name, _, args = rest.partition(" ")
                step["tool"] = {"name": name, "args": json.loads(args or "{}")}
            steps.append(step)
            step = {}
    return steps + [step] if step else steps


def last_of_user(history):
    """Place and text of the last message that a person wrote; (-1, "") if there is none."""
    for at in range(len(history) - 1, -1, -1):
        role, text = history[at]
        if role == "user" and text.strip() and not text.lstrip().startswith(HARNESS_PREFIXES):
            return at, text
    return -1, ""


def finished_rounds(history):
    """How many rounds of tools were finished; results that follow each other are one round."""
    roles = [role for role, _ in history if role in ("tool", "call", "assistant")]
    return sum(1 for at, role in enumerate(roles) if role == "tool" and (at == 0 or roles[at - 1] != "tool"))


def decide(script, history, has_tools, schema):
    """The step that answers this call."""
    if schema and not has_tools:
        return {"text": json.dumps(smallest(schema))}
    at, text = last_of_user(history)
    rounds = finished_rounds(history[at + 1:])
    rules = script.get("rules", []) if script else []
    steps = next((rule["steps"] for rule in rules if re.search(rule.get("if", ""), text, re.S)), None)
    steps = steps or steps_of(read_directives(text)) or (script or {}).get("default")
    steps = steps or [{"text": "ECHO: " + " ".join(text.split())[:200]}]
    if not has_tools and any(act in step for step in steps for act in ACTS):
        return {"text": "Fake side reply"}
    if rounds >= len(steps):
        return {"text": "DONE."}
    step = dict(steps[rounds])
    if "text" in step:
        out = next((said for role, said in reversed(history) if role == "tool"), "")
        step["text"] = step["text"].replace("{out}", out.strip()[:400]).replace("{n}", str(rounds))
    return step


def tool_call(step, tools):
    """The call a step wants, fitted to the tools on offer; None without one."""
    offered = {tool.name: tool for tool in tools}

    def first_of(names):
        return next((offered[name] for name in names if name in offered), None)

    if "tool" in step:
        name = step["tool"]["name"]
        return Call(name, step["tool"].get("args", {}), offered[name].namespace if name in offered else None)
    if "run" in step:
        tool, command = first_of(SHELL_TOOLS), step["run"]
        if tool is None:
            return None
        fields = tool.schema.get("properties") or {}
        if "cmd" in fields:
            args = {"cmd": command}
        elif (fields.get("command") or {}).get("type") == "array":
            args = {"command": ["bash", "-lc", command]}
        else:
            args = {"command": command}
        if "description" in fields:
            args["description"] = "Run a scripted command"
        return Call(tool.name, args, tool.namespace)
    if "spawn" in step:
        tool = first_of(SPAWN_TOOLS)
        if tool is None:
            return None
        fields = tool.schema.get("properties") or {}
        values = {"prompt": step["spawn"], "message": step["spawn"], "description": "Scripted sub-agent",
                  "subagent_type": "general" if tool.name == "task" else "general-purpose",
                  "task_name": "scripted_task"}
        if "prompt" in fields:
            del values["message"]
        return Call(tool.name, {name: value for name, value in values.items() if name in fields}, tool.namespace)
    return None


def plan(settings, step, tools):
    text, delay = pieces(step.get("text", ""), settings.chunk), settings.delay
    if "slow" in step:
        count, delay = step["slow"]
        text += [f"word{number} " for number in range(1, count + 1)]
    call = tool_call(step, tools)
    if not text and not call:
        text = ["DONE."]
    return Reply(pieces(step.get("think", ""), settings.chunk), text, delay / 1000, call)


# ---- Writing replies, one function for each API

def write_responses(out, model, reply):
    numbers, done = itertools.count(1), []
    base = {"id": new_id("resp"), "object": "response", "created_at": int(time.time()), "model": model,
            "status": "in_progress", "output": [], "parallel_tool_calls": False, "tools": []}

    def event(kind, **fields):
        out.event({"type": kind, "sequence_number": next(numbers), **fields}, kind)

    def item_event(kind, **fields):
        event(f"response.{kind}", output_index=len(done), **fields)

    def finish(item):
        item_event("output_item.done", item=item)
        done.append(item)

    event("response.created", response=base)
    event("response.in_progress", response=base)
    if reply.think:
        item = {"id": new_id("rs"), "type": "reasoning", "summary": []}
        item_event("output_item.added", item=item)
        item_event("reasoning_summary_part.added", item_id=item["id"], summary_index=0,
                   part={"type": "summary_text", "text": ""})
        for piece in reply.think:
            item_event("reasoning_summary_text.delta", item_id=item["id"], summary_index=0, delta=piece)
            out.pause(reply.delay)
        whole = "".join(reply.think)
        item_event("reasoning_summary_text.done", item_id=item["id"], summary_index=0, text=whole)
        finish({**item, "summary": [{"type": "summary_text", "text": whole}]})
    if reply.text:
        item = {"id": new_id("msg"), "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        item_event("output_item.added", item=item)
        part = {"type": "output_text", "text": "", "annotations": []}
        item_event("content_part.added", item_id=item["id"], content_index=0, part=part)
        for piece in reply.text:
            item_event("output_text.delta", item_id=item["id"], content_index=0, delta=piece)
            out.pause(reply.delay)
        part = {**part, "text": "".join(reply.text)}
        item_event("output_text.done", item_id=item["id"], content_index=0, text=part["text"])
        item_event("content_part.done", item_id=item["id"], content_index=0, part=part)
        finish({**item, "status": "completed", "content": [part]})
    if reply.call:
        args = json.dumps(reply.call.args)
        item = {"id": new_id("fc"), "type": "function_call", "status": "in_progress", "name": reply.call.name,
                "arguments": "", "call_id": new_id("call")}
        if reply.call.namespace:
            item["namespace"] = reply.call.namespace
        item_event("output_item.added", item=item)
        for piece in pieces(args, 24):
            item_event("function_call_arguments.delta", item_id=item["id"], delta=piece)
        item_event("function_call_arguments.done", item_id=item["id"], arguments=args)
        finish({**item, "status": "completed", "arguments": args})
    usage = {"input_tokens": 1000, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 50,
             "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1050}
    final = {**base, "status": "completed", "output": done, "usage": usage}
    event("response.completed", response=final)
    return final


def write_chat(out, model, reply):
    head = {"id": new_id("chatcmpl"), "created": int(time.time()), "model": model}
    usage = {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050}
    reason, calls = ("tool_calls" if reply.call else "stop"), []
    if reply.call:
        function = {"name": reply.call.name, "arguments": json.dumps(reply.call.args)}
        calls = [{"index": 0, "id": new_id("call"), "type": "function", "function": function}]

    def event(delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        out.event({**head, "object": "chat.completion.chunk", "choices": [choice]})

    event({"role": "assistant", "content": ""})
    for key, said in (("reasoning_content", reply.think), ("content", reply.text)):
        for piece in said:
            event({key: piece})
            out.pause(reply.delay)
    if calls:
        event({"tool_calls": calls})
    event({}, reason)
    out.event({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    out.done_mark()
    message = {"role": "assistant", "content": "".join(reply.text) or None, **({"tool_calls": calls} if calls else {})}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}


def write_anthropic(out, model, reply):
    usage = {"input_tokens": 1000, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    message = {"id": new_id("msg"), "type": "message", "role": "assistant", "model": model, "content": [],
               "stop_reason": None, "stop_sequence": None, "usage": usage}
    reason = "tool_use" if reply.call else "end_turn"
    # (block at its start, its whole form, type and key of its deltas, its pieces)
    blocks = []
    if reply.think:
        start = {"type": "thinking", "thinking": "", "signature": ""}
        blocks.append((start, {**start, "thinking": "".join(reply.think)}, "thinking_delta", "thinking", reply.think))
    if reply.text:
        start = {"type": "text", "text": ""}
        blocks.append((start, {**start, "text": "".join(reply.text)}, "text_delta", "text", reply.text))
    if reply.call:
        start = {"type": "tool_use", "id": new_id("toolu"), "name": reply.call.name, "input": {}}
        parts = pieces(json.dumps(reply.call.args), 24)
        blocks.append((start, {**start, "input": reply.call.args}, "input_json_delta", "partial_json", parts))

    def event(kind, **fields):
        out.event({"type": kind, **fields}, kind)

    event("message_start", message=message)
    for index, (start, _, kind, key, parts) in enumerate(blocks):
        event("content_block_start", index=index, content_block=start)
        for piece in parts:
            event("content_block_delta", index=index, delta={"type": kind, key: piece})
            if kind != "input_json_delta":
                out.pause(reply.delay)
        if kind == "thinking_delta":
            event("content_block_delta", index=index, delta={"type": "signature_delta", "signature": "ZmFrZQ=="})
        event("content_block_stop", index=index)
    event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": 50})
    event("message_stop")
    return {**message, "content": [whole for _, whole, *_ in blocks], "stop_reason": reason}


def write_gemini(out, model, reply):
    parts = [{"text": piece, "thought": True} for piece in reply.think] + [{"text": piece} for piece in reply.text]
    if reply.call:
        call = {"id": new_id("call"), "name": reply.call.name, "args": reply.call.args}
        parts.append({"functionCall": call})

    def answer(some, **finish):
        candidate = {"index": 0, "content": {"role": "model", "parts": some}, **finish}
        usage = {"promptTokenCount": 1000, "candidatesTokenCount": 50, "totalTokenCount": 1050}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "fake", "responseId": "r1"}

    for part in parts[:-1]:
        out.event(answer([part]))
        out.pause(reply.delay)
    out.event(answer(parts[-1:], finishReason="STOP"))
    return answer(parts, finishReason="STOP")


Api = collections.namedtuple("Api", "name history tools write")
APIS = {
    "/responses": Api("responses", responses_history, flat_tools, write_responses),
    "/chat/completions": Api("chat", chat_history, chat_tools, write_chat),
    "/messages": Api("anthropic", anthropic_history, anthropic_tools, write_anthropic),
    ":streamGenerateContent": Api("gemini", gemini_history, gemini_tools, write_gemini),
    ":generateContent": Api("gemini", gemini_history, gemini_tools, write_gemini),
}


class Stream:
    """Where a reply is written piece by piece; without streaming it goes nowhere, and only the whole is sent."""

    def __init__(self, handler, streaming, cut):
        self.handler, self.streaming, self.left = handler, streaming, cut

    def event(self, value, kind=None):
        if not self.streaming:
            return
        if self.left is not None:
            if self.left == 0:
                raise Cut
            self.left -= 1
        head = f"event: {kind}\n" if kind else ""
        self.send(f"{head}data: {json.dumps(value)}\n\n")

    def done_mark(self):
        if self.streaming:
            self.send("data: [DONE]\n\n")

    def send(self, text):
        self.handler.wfile.write(text.encode())
        self.handler.wfile.flush()

    def pause(self, seconds):
        if self.streaming and seconds > 0:
            time.sleep(seconds)

    def hang(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(0.5, seconds))
            if self.streaming:
                self.send(": waiting\n\n")  # also tells whether the client is still there


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fake-model/1"

    def log_message(self, form, *args):
        if not self.server.settings.quiet:
            print(time.strftime("%H:%M:%S"), form % args, file=sys.stderr, flush=True)

    def answer(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def not_found(self, path):
        self.answer(404, {"error": {"message": f"no such path: {path}", "type": "not_found"}})

    def path_only(self):
        return self.path.split("?")[0].rstrip("/")

    def do_HEAD(self):
        self.answer(200, {})

    def do_GET(self):
        settings, path = self.server.settings, self.path_only()
        if path.endswith("/_fake/requests"):
            with settings.lock:
                asked = list(settings.log)
            self.answer(200, asked)
        elif path.endswith("/_fake/last"):
            self.answer(200, settings.last)
        elif path.endswith("/models"):
            models = [{"id": name, "object": "model", "type": "model", "display_name": name, "owned_by": "fake",
                       "created_at": "2026-01-01T00:00:00Z"} for name in ("fake-model", "gpt-5.1-codex", "claude-fake")]
            self.answer(200, {"object": "list", "has_more": False, "models": [], "data": models})
        elif path in ("", "/health"):
            self.answer(200, {"ok": True})
        else:
            self.not_found(path)

    def body(self):
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            data += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return data

    def do_POST(self):
        raw, path = self.body(), self.path_only()
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            message = "the body is not JSON (is it compressed?)"
            self.answer(400, {"error": {"message": message, "type": "bad_request"}})
            return
        api = next((api for end, api in APIS.items() if path.endswith(end)), None)
        if "/_fake/" in path:
            self.control(path.rsplit("/", 1)[1], body)
        elif path.endswith("/count_tokens"):
            self.answer(200, {"input_tokens": 1000})
        elif path.endswith(":countTokens"):
            self.answer(200, {"totalTokens": 1000})
        elif api is None:
            self.not_found(path)
        else:
            self.model_call(api, path, body)

    def control(self, what, body):
        settings = self.server.settings
        with settings.lock:
            if what == "script":
                settings.script = body
            elif what == "reset":
                settings.log.clear()
            elif what == "pace":
                settings.chunk = max(1, int(body.get("chunk", settings.chunk)))
                settings.delay = float(body.get("delay", settings.delay))
                settings.first = float(body.get("first", settings.first))
            else:
                return self.not_found(self.path)
        return self.answer(200, {"ok": True})

    def model_call(self, api, path, body):
        settings = self.server.settings
        history = list(api.history(body))
        tools = [tool for tool in api.tools(body.get("tools")) if tool.name]
        streaming = path.endswith(":streamGenerateContent") or bool(body.get("stream"))
        with settings.lock:
            number = next(settings.numbers)
            settings.last = body
            settings.log.append({"n": number, "t": time.time(), "api": api.name, "path": path,
                                 "model": body.get("model"), "stream": streaming,
                                 "tools": [tool.name for tool in tools],
                                 "last": [(role, text[:300]) for role, text in history[-4:]]})
            chaos = settings.chaos and settings.rng.random() < settings.chaos
            script = settings.script
        if settings.record:
            self.keep(number, api, path, body)
        try:
            step = decide(script, history, bool(tools), wanted_schema(api.name, body))
        except (ValueError, KeyError, IndexError) as error:
            self.answer(400, {"error": {"message": f"bad directive or script: {error!r}", "type": "bad_request"}})
            return
        if chaos:
            step = {"fail": [529, "scripted chaos"]}
        if "fail" in step:
            status, text = step["fail"]
            error = {"type": ERROR_TYPES.get(status, "api_error"), "code": "scripted", "message": text}
            self.answer(status, {"type": "error", "error": error})
            return
        try:
            self.reply(api, body, step, tools, streaming)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            self.log_message("the client left call %d", number)
        except Cut:
            self.close_connection = True

    def reply(self, api, body, step, tools, streaming):
        settings = self.server.settings
        out = Stream(self, streaming, step.get("cut"))
        if streaming:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-cache")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
        if "hang" in step:
            out.hang(step["hang"])
        time.sleep(settings.first / 1000)
        whole = api.write(out, body.get("model"), plan(settings, step, tools))
        if not streaming:
            self.answer(200, whole)

    def keep(self, number, api, path, body):
        secret = ("authorization", "x-api-key", "x-goog-api-key")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in secret}
        file = pathlib.Path(self.server.settings.record) / f"{number:04d}-{api.name}.json"
        file.write_text(json.dumps({"path": path, "headers": headers, "body": body}, indent=1))


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port, settings):
        super().__init__(("127.0.0.1", port), Handler)
        self.settings = settings


def main():
    parser = argparse.ArgumentParser(description="scripted model server; see the head of this file")
    parser.add_argument("--port", type=int, default=4010, help="0 for any free one")
    parser.add_argument("--port-file", type=pathlib.Path, help="where to write the port")
    parser.add_argument("--script", help="rules to begin with")
    parser.add_argument("--chunk", type=int, default=12, help="characters in a streamed piece")
    parser.add_argument("--delay", type=float, default=15, help="milliseconds between pieces")
    parser.add_argument("--first", type=float, default=0, help="milliseconds before the first piece")
    parser.add_argument("--record", help="folder in which every request is kept as NNNN-API.json")
    parser.add_argument("--chaos", type=float, default=0, help="probability that a call fails with 529")
    parser.add_argument("--seed", type=int, help="makes --chaos repeatable")
    parser.add_argument("--quiet", action="store_true", help="no line for each request")
    args = parser.parse_args()
    if args.record:
        pathlib.Path(args.record).mkdir(parents=True, exist_ok=True)
    server = Server(args.port, Settings(args))
    port = server.server_address[1]
    if args.port_file:
        args.port_file.write_text(str(port))
    print(f"fake model on http://127.0.0.1:{port}", file=sys.stderr, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
