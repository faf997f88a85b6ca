#!/usr/bin/env python3
"""A scripted model for a real OpenClaw gateway: OpenAI chat completions on loopback, Python's standard library only.

A prompt scripts its own turn:  FAKE:{"steps": [STEP, …]}, or one STEP. Step k answers the call that comes with k
messages of the assistant behind that prompt: a tool call is step 0, what is said after its result is step 1. Without a
script the last line of the prompt is said again. Nothing is remembered between calls.

STEP  text            what is said; with "chunks": n it is cut in n pieces (filled up with numbered words), one every
                      "delay_ms"
      tool, args      call a tool         spawn, label   call sessions_spawn
      error           answer with that HTTP status
      hang            say nothing until the gateway hangs up
      first_ms        wait before the first word

A child's task may hold a script of its own. Every call is one line of JSON in --log: n, lastUser, step, and `aborted`
when the gateway hung up.
"""

import argparse
import json
import socket
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The gateway speaks in the user's name too: context behind the prompt, reports of children, notices after a restart.
CONTEXT = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"
REPORTS = ("[Internal task completion event]", "<<<BEGIN_UNTRUSTED_CHILD_RESULT", "Child completion results:",
           "Your previous turn was interrupted")


def text_of(content):
    if isinstance(content, list):
        return "\n".join(part.get("text") or "" if isinstance(part, dict) else str(part) for part in content)
    return content or ""


def script_in(text):
    at = text.find("FAKE:")
    while at >= 0:
        try:
            return json.JSONDecoder().raw_decode(text[at + 5:].lstrip())[0]
        except ValueError:
            at = text.find("FAKE:", at + 5)
    return None


def choose(messages):
    """The step for this call, and the prompt it answers."""
    last, is_report = -1, False
    for i, message in enumerate(messages):
        body = text_of(message.get("content"))
        report = any(word in body for word in REPORTS)
        if message.get("role") == "user" and (report or not body.lstrip().startswith(CONTEXT)):
            last, is_report = i, report
    prompt = text_of(messages[last].get("content")) if last >= 0 else ""
    done = sum(message.get("role") == "assistant" for message in messages[last + 1:])
    if is_report:
        return {"text": "NOTED."}, prompt
    script = script_in(prompt)
    if script is None:
        # The first prompt of a session ends with a line about the runtime.
        lines = prompt.split("\n\nRuntime: ")[0].strip().splitlines()
        return {"text": "ECHO: " + (lines[-1][-400:] if lines else "")}, prompt
    steps = script.get("steps") or [script]
    return (steps[done] if done < len(steps) else {"text": "DONE."}), prompt


def pieces_of(step, calls):
    text = step.get("text", "" if calls else "ok")
    count = max(1, int(step.get("chunks", 1)))
    if not text or count == 1:
        return [text] if text else []
    words = text.split()
    words += ["w%d" % n for n in range(len(words), count)]
    return [word + " " for word in words[:count]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log_path, lock, count = None, threading.Lock(), 0

    def log_message(self, *_):
        pass

    def note(self, **row):
        with self.lock, open(self.log_path, "a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(200, {"object": "list", "data": [{"id": "fake-1", "object": "model", "owned_by": "fake"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if not self.path.rstrip("/").endswith("/chat/completions"):
            self.reply(404, {"error": {"message": "not here"}})
            return
        step, prompt = choose(body.get("messages") or [])
        with self.lock:
            Handler.count += 1
            number = Handler.count
        self.note(n=number, lastUser=prompt[-4000:], step=step)
        try:
            self.answer(body, step)
        except OSError:
            self.note(n=number, aborted=True)
            self.close_connection = True

    def answer(self, body, step):
        if step.get("hang"):
            self.connection.settimeout(1.0)
            while True:
                try:
                    if self.connection.recv(1) == b"":
                        raise ConnectionResetError()
                except socket.timeout:
                    continue
        if step.get("error"):
            self.reply(int(step["error"]), {"error": {"message": "a failure that was asked for", "type": "fake"}})
            return
        time.sleep(step.get("first_ms", 0) / 1000)
        calls = [(step["tool"], step.get("args", {}))] if step.get("tool") else []
        if step.get("spawn"):
            label = {"label": step["label"]} if step.get("label") else {}
            calls.append(("sessions_spawn", {"task": step["spawn"], **label}))
        pieces = pieces_of(step, calls)
        said = [{"id": "call_" + uuid.uuid4().hex[:10], "type": "function",
                 "function": {"name": name, "arguments": json.dumps(args)}} for name, args in calls]
        finish = "tool_calls" if said else "stop"
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        head = {"id": "chatcmpl-" + uuid.uuid4().hex[:12], "created": int(time.time()), "model": "fake-1"}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(pieces) or None}
            if said:
                message["tool_calls"] = said
            choice = {"index": 0, "message": message, "finish_reason": finish}
            self.reply(200, {**head, "object": "chat.completion", "usage": usage, "choices": [choice]})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

        def emit(delta, reason=None, **more):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            chunk = {**head, "object": "chat.completion.chunk", "choices": [choice], **more}
            self.wfile.write(("data: " + json.dumps(chunk) + "\n\n").encode())
            self.wfile.flush()

        emit({"role": "assistant", "content": ""})
        for i, piece in enumerate(pieces):
            if i:
                time.sleep(step.get("delay_ms", 0) / 1000)
            emit({"content": piece})
        for i, call in enumerate(said):
            emit({"tool_calls": [{"index": i, **call}]})
        emit({}, finish, usage=usage)
        self.wfile.write(b"data: [DONE]\n\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--port-file", required=True)
    arguments.add_argument("--log", required=True)
    given = arguments.parse_args()
    Handler.log_path = given.log
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with open(given.port_file, "w", encoding="utf-8") as file:
        file.write(str(server.server_address[1]))
    server.serve_forever()


if __name__ == "__main__":
    main()
