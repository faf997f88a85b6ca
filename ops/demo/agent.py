#!/usr/bin/env python3
"""A small demo agent: what a newcomer sees first on the page.

It is honest about being a demo: no language model, only a few verbs about the files of the project it was started in.
It shows what an agent of the protocol `jsonl` looks like: each line on stdout is a message of the agent, each line on
stdin is a message of an operator. Copy it to begin an agent of your own.

    out   {"role": "agent", "content": …, "kind": "text | reasoning | toolCall | toolResult", "metadata": {…}}
    in    {"role": "operator", "content": …, "operator": {"id": …, "name": …}}

It never writes a file, never leaves the folder, and ends in order on SIGINT, SIGTERM, or the end of its input.
`--pace 0` makes it as fast as it can; 1 is a human's pace.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

# Not looked into: versions of others, things built, and whatever begins with a dot (some of it is secret).
SKIPPED = {"node_modules", "target", "dist", "__pycache__"}
# So much of a file or an answer is shown.
MAX_LINES, MAX_CHARS = 40, 4_000
# A folder with more files is not walked to its end.
MAX_FILES = 50_000
# Longest line an operator may send; the rest of it is dropped.
MAX_INPUT = 1 << 20


class Ended(Exception):
    """Somebody asked us to end."""


class Agent:
    def __init__(self, root, pace):
        self.root, self.pace = root, pace
        self.buffer, self.waiting, self.open = b"", collections.deque(), True

    # ---- talking

    def say(self, content, kind="text", **metadata):
        message = {"role": "agent", "kind": kind, "content": content}
        if metadata:
            message["metadata"] = metadata
        print(json.dumps(message), flush=True)

    def think(self, content):
        self.say(content, "reasoning")
        self.rest(1.2)

    def tool(self, name, arguments, work):
        """Tells that a tool is called, uses it, and tells what it gave."""
        self.say(f"{name} {arguments}".strip(), "toolCall", tool=name)
        self.rest(0.8)
        result, more = work()
        self.say(clip(result) or "(nothing)", "toolResult", tool=name, **more)
        self.rest(1.0)
        return result

    def report(self, **what):
        """Tells the node how we are, where it gave us a socket for that. The messages do without it."""
        path = os.environ.get("MOSAIC_SOCKET")
        if not path:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as node:
            node.settimeout(1)
            node.connect(path)
            node.sendall(json.dumps(what).encode() + b"\n")

    # ---- listening

    def rest(self, seconds):
        """Waits as a person would, and takes in what is said meanwhile."""
        end = time.monotonic() + seconds * self.pace
        while True:
            left = end - time.monotonic()
            if left <= 0:
                return
            self.listen(left)

    def listen(self, seconds):
        """Takes in what an operator sends within the time; None is any time."""
        if not self.open:
            raise Ended("nobody can speak to me any more")
        if not select.select([0], [], [], seconds)[0]:
            return
        data = os.read(0, 65536)
        self.open = bool(data)
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        self.buffer = self.buffer[:MAX_INPUT]
        self.waiting.extend(line for line in lines if line.strip())

    def next(self):
        """The next message of an operator: who sent it, and the text."""
        while not self.waiting:
            self.listen(None)
        line = self.waiting.popleft().decode(errors="replace")
        try:
            message = json.loads(line)
            name = (message.get("operator") or {}).get("name") or "operator"
            return name, str(message.get("content", ""))
        except (ValueError, AttributeError):
            return "operator", line  # somebody typed it by hand

    # ---- the files

    def files(self):
        found = []
        for folder, names, files in os.walk(self.root):
            names[:] = sorted(n for n in names if n not in SKIPPED and not n.startswith("."))
            found += [pathlib.Path(folder, name) for name in sorted(files) if not name.startswith(".")]
            if len(found) >= MAX_FILES:
                break
        return found

    def short(self, path):
        return str(path.relative_to(self.root))

    def inside(self, text):
        """The path somebody named, if it is one of those we show."""
        path = (self.root / (text or ".")).resolve()
        if path != self.root and self.root not in path.parents:
            return None, f"{text} is outside of {self.root}: I stay in there."
        if any(part.startswith(".") or part in SKIPPED for part in path.relative_to(self.root).parts):
            return None, f"{text} is one of the places I leave alone."
        if not path.exists():
            return None, f"There is no {text} here. `find {pathlib.Path(text).name}` may help."
        return path, None

    def run(self, *command):
        """Runs a harmless program and tells what it wrote."""
        def work():
            try:
                done = subprocess.run(command, cwd=self.root, stdin=subprocess.DEVNULL, capture_output=True,
                                      text=True, errors="replace", timeout=20)
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"it did not work: {error}", {"exitCode": None}
            return (done.stdout + done.stderr).rstrip(), {"exitCode": done.returncode}
        return self.tool("run", " ".join(command), work)

    # ---- what it does by itself

    def look_around(self):
        self.report(type="status", turn="active")
        self.say("Hello! I am the demo agent of Mosaic Mesh: a small Python script without any language model. "
                 "I will look around in this project so that you have something to watch.")
        self.rest(1.5)
        self.think(f"I am in {self.root}. First: what is there?")
        self.count("")
        self.think("Now, who worked on it lately?" if shutil.which("git") else "And what lies at the top?")
        if shutil.which("git"):
            self.run("git", "log", "--oneline", "--max-count=5")
        self.run("ls", "-1")
        self.think("That is enough to begin with.")
        self.say("I have had my look and now wait for you. Try `biggest`, `show README.md`, `search TODO`, or "
                 "`slow 30` and then the pause button. `help` lists everything; `bye` ends me.")
        self.report(type="status", turn="idle")

    # ---- what it does when asked

    def count(self, rest):
        """count [.EXT]      how many files and lines there are, by kind"""
        def work():
            kinds, lines = collections.Counter(), collections.Counter()
            for path in self.files():
                kind = path.suffix or "(none)"
                if rest and kind != (rest if rest.startswith(".") else f".{rest}"):
                    continue
                kinds[kind] += 1
                with contextlib.suppress(OSError):
                    lines[kind] += path.read_bytes().count(b"\n")
            rows = [f"{kind:10} {number:6} files {lines[kind]:9} lines" for kind, number in kinds.most_common(12)]
            total = f"{sum(kinds.values())} files, {sum(lines.values())} lines"
            return "\n".join([*rows, total]), {"files": sum(kinds.values()), "lines": sum(lines.values())}
        total = self.tool("count", rest, work).splitlines()[-1]
        self.say(f"I count {total}.")

    def list(self, rest):
        """list [FOLDER]     what is in a folder"""
        path, problem = self.inside(rest)
        if problem:
            return self.say(problem)
        if path.is_file():
            return self.say(f"{rest} is a file; `show {rest}` shows it.")
        names = sorted(p.name + ("/" if p.is_dir() else "") for p in path.iterdir() if not p.name.startswith("."))
        return self.say(clip("\n".join(names)) or "It is empty.")

    def find(self, rest):
        """find TEXT         files with TEXT in their name"""
        if not rest:
            return self.say("Find what? For instance `find session`.")
        found = [self.short(p) for p in self.files() if rest.lower() in self.short(p).lower()]
        self.tool("find", rest, lambda: ("\n".join(found), {"found": len(found)}))
        return self.say(f"{len(found)} files have {rest!r} in their path.")

    def show(self, rest):
        """show FILE         the beginning of a file"""
        path, problem = self.inside(rest)
        if problem or path.is_dir():
            return self.say(problem or f"{rest or 'That'} is a folder; `list {rest}` shows it.")
        text = path.read_bytes()[:MAX_CHARS * 4]
        if b"\0" in text:
            return self.say(f"{rest} is not a text ({path.stat().st_size} bytes).")
        return self.say(clip(text.decode(errors="replace")))

    def search(self, rest):
        """search TEXT       lines with TEXT in them"""
        if not rest:
            return self.say("Search for what? For instance `search deadline`.")
        found = []
        for path in self.files():
            if path.stat().st_size > 1 << 20:
                continue
            for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1):
                if rest in line:
                    found.append(f"{self.short(path)}:{number}: {line.strip()[:160]}")
        self.tool("search", rest, lambda: ("\n".join(found), {"found": len(found)}))
        return self.say(f"{len(found)} lines have {rest!r} in them.")

    def biggest(self, _):
        """biggest           the largest files"""
        sizes = sorted(((p.stat().st_size, self.short(p)) for p in self.files()), reverse=True)[:10]
        self.say("\n".join(f"{size:10} {name}" for size, name in sizes))

    def log(self, _):
        """log               the last changes (git)"""
        self.run("git", "log", "--oneline", "--max-count=10")

    def slow(self, rest):
        """slow N            counts to N, one a second: something to pause"""
        number = int(rest) if rest.isdigit() else 20
        for n in range(1, min(number, 600) + 1):
            self.say(f"{n} of {number}")
            self.rest(1)
            if self.waiting:
                return self.say("You spoke, so I stop counting.")
        return self.say("Done counting.")

    def help(self, _):
        """help              this list"""
        self.say("\n".join(["I understand:", *(f"  {verb.__doc__}" for verb in self.verbs().values()),
                            "  bye               ends me"]))

    def verbs(self):
        methods = (self.list, self.find, self.show, self.search, self.count, self.biggest, self.log, self.slow, self.help)
        return {method.__name__: method for method in methods}

    def answer(self, name, text):
        word, _, rest = text.strip().strip("`").partition(" ")
        verb, rest = word.lower().strip(".,!?:"), rest.strip().strip("`\"'")
        if verb in ("bye", "stop", "exit", "quit"):
            raise Ended(f"{name} said {verb}")
        self.report(type="status", turn="active")
        if verb in self.verbs():
            self.think(f"{name} wants: {verb} {rest}".rstrip())
            try:
                self.verbs()[verb](rest)
            except (OSError, ValueError) as error:
                self.say(f"That did not work: {error}")
        elif verb in ("hello", "hi", "hey"):
            self.say(f"Hello {name}! `help` lists what I can do.")
        else:
            said = " ".join(text.split())
            self.say(f"{name}, I read “{said[:200]}” and do not know what to do with it: I am only a demo with a few "
                     f"verbs: {', '.join(self.verbs())}.")
        self.report(type="status", turn="idle")


def clip(text):
    """As much of a text as is shown."""
    lines = text.splitlines()
    shown = "\n".join(lines[:MAX_LINES])[:MAX_CHARS]
    return shown if len(shown) == len("\n".join(lines)) else f"{shown}\n… ({len(lines)} lines in all)"


def main():
    parser = argparse.ArgumentParser(description="a small demo agent")
    parser.add_argument("--pace", type=float, default=1.0, help="1 is a human's, 0 as fast as it can")
    args = parser.parse_args()

    def end(number, _):
        raise Ended(f"I got {signal.Signals(number).name}")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    agent = Agent(pathlib.Path.cwd().resolve(), args.pace)
    try:
        agent.look_around()
        while True:
            agent.answer(*agent.next())
    except Ended as reason:
        # Whoever asked may be gone.
        with contextlib.suppress(OSError):
            agent.say(f"I end here: {reason}. Goodbye!")
    except BrokenPipeError:
        # Nobody reads us: nothing to say, and nobody to say it to. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
