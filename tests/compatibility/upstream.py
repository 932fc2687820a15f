"""A model that is never too weak: it calls a tool where one is offered, and says what came of it.

It stands behind the router as any other server would, for clients whose point is what they do with calls: agents
that write files, loops that ask tools. What it says follows from the request alone.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "scripted-agent"
# Agents are asked for this in their prompt; the file and its text are in it.
WANTED = re.compile(r"Write the word (\w+) into the file ([\w./-]+)")
# What agents call the tool that runs a command, and what that is given.
SHELLS = {
    "Bash": lambda command: {"command": command, "description": "Writes a file"},
    "bash": lambda command: {"command": command, "description": "Writes a file"},
    "exec_command": lambda command: {"cmd": command},
    "shell_command": lambda command: {"command": command},
    "shell": lambda command: {"command": ["bash", "-lc", command]},
    "run_shell_command": lambda command: {"command": command, "is_background": False, "description": "Writes a file"},
}
PIECE_CHARS = 7


class Upstream(ThreadingHTTPServer):
    """A context manager with `url`, and the bodies of all requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that leaves is no error here."""

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


def text_of(message: dict) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def value_of(schema: dict):
    """Some value that a schema accepts."""
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return value_of(schema[key][0])
    match schema.get("type"):
        case "object":
            return {name: value_of(inner) for name, inner in schema.get("properties", {}).items()}
        case "array":
            return [value_of(schema.get("items", {}))]
        case "integer":
            return schema.get("minimum", 7)
        case "number":
            return 1.5
        case "boolean":
            return True
        case _:
            return "Paris"


def answer(body: dict) -> dict:
    """The message that the model gives: text, or one call."""
    messages = body["messages"]
    tools = {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or []}
    asked = next((text_of(message) for message in reversed(messages) if message["role"] == "user"), "")
    wanted = WANTED.search("".join(text_of(message) for message in messages if message["role"] == "user"))
    if messages[-1]["role"] == "tool":
        return {"content": f"The tool said: {text_of(messages[-1])[:200]}"}
    if wanted:
        word, file = wanted.groups()
        shell = next((name for name in SHELLS if name in tools), None)
        if shell:
            return {"call": (shell, SHELLS[shell](f"printf %s {word} > {file}"))}
        # aider's format for whole files.
        return {"content": f"{file}\n```\n{word}\n```\n"}
    choice = body.get("tool_choice")
    if tools and choice != "none":
        named = choice["function"]["name"] if isinstance(choice, dict) else next(iter(tools))
        parameters = tools[named].get("parameters") or {}
        return {"call": (named, value_of({"type": "object"} | parameters))}
    return {"content": f"You said: {asked[:200]}"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Says nothing."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append(body)
        said = answer(body)
        if body.get("stream"):
            self.stream(said)
        else:
            self.whole(said)

    usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}

    def whole(self, said: dict):
        message = {"role": "assistant", "content": said.get("content")}
        if "call" in said:
            name, arguments = said["call"]
            function = {"name": name, "arguments": json.dumps(arguments)}
            message["tool_calls"] = [{"id": "call_scripted", "type": "function", "function": function}]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if "call" in said else "stop"}
        content = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": MODEL,
                              "choices": [choice], "usage": self.usage}).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def stream(self, said: dict):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        if "call" in said:
            name, arguments = said["call"]
            function = {"name": name, "arguments": ""}
            self.delta({"tool_calls": [{"index": 0, "id": "call_scripted", "type": "function", "function": function}]})
            for piece in pieces(json.dumps(arguments)):
                self.delta({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        else:
            for piece in pieces(said["content"]):
                self.delta({"content": piece})
        self.event(choices=[{"index": 0, "delta": {}, "finish_reason": "tool_calls" if "call" in said else "stop"}])
        self.event(usage=self.usage)
        self.wfile.write(b"data: [DONE]\n\n")

    def delta(self, delta: dict):
        self.event(choices=[{"index": 0, "delta": delta, "finish_reason": None}])

    def event(self, **fields):
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": []} | fields
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.flush()


def pieces(text: str) -> list[str]:
    return [text[start : start + PIECE_CHARS] for start in range(0, len(text), PIECE_CHARS)]
