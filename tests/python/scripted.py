"""A server that behaves as badly as a test asks it to; the model's name says how."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ScriptedUpstream(ThreadingHTTPServer):
    """A context manager with `url` and the requests it has seen."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen = []
        # How many streams ended because the other side closed them.
        self.abandoned = threading.Semaphore(0)
        # Lets one stream go on that waits.
        self.go_on = threading.Semaphore(0)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that leaves is no error here."""

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Says nothing."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, dict(self.headers), body))
        getattr(self, body["model"].replace("-", "_"))()

    def answer(self, status: int, content: bytes, kind: str = "application/json"):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def begin_stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, **fields):
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "theirs", "choices": []} | fields
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.flush()

    def words(self, count: int):
        for index in range(count):
            delta = {"index": 0, "delta": {"content": f"word{index} "}, "finish_reason": None}
            self.event(choices=[delta])

    # The ways to behave, by the model's name.

    def good(self):
        self.begin_stream()
        self.words(3)
        self.event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18,
                 "prompt_tokens_details": {"cached_tokens": 5}}  # fmt: skip
        self.event(usage=usage)
        self.wfile.write(b"data: [DONE]\n\n")

    def several(self):
        """Gives as many answers as are wanted, with log probabilities where they are."""
        body = self.server.seen[-1][2]
        top = [{"token": word, "logprob": -0.25 - place, "bytes": list(word.encode())} for place, word in enumerate(["so ", "no "])]
        entry = top[0] | {"top_logprobs": top[: body.get("top_logprobs", 0)]}
        self.begin_stream()
        for index in range(body.get("n", 1)):
            logprobs = {"content": [entry], "refusal": None} if body.get("logprobs") else None
            self.event(choices=[{"index": index, "delta": {"content": "so "}, "logprobs": logprobs, "finish_reason": None}])
            self.event(choices=[{"index": index, "delta": {"content": str(index)}, "finish_reason": "stop"}])
        self.event(usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})
        self.wfile.write(b"data: [DONE]\n\n")

    def waits(self):
        """Goes on in the middle when a test says so."""
        self.begin_stream()
        self.words(3)
        self.server.go_on.acquire(timeout=60)
        self.words(3)
        self.event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        self.event(usage={"prompt_tokens": 11, "completion_tokens": 8, "total_tokens": 19})
        self.wfile.write(b"data: [DONE]\n\n")

    def agent(self):
        """Thinks, speaks, and calls two tools at once; told their answers, it repeats them."""
        results = [message["content"] for message in self.server.seen[-1][2]["messages"] if message["role"] == "tool"]
        self.begin_stream()
        if results:
            deltas = [{"content": " and ".join(results)}]
        else:
            calls = [("call_a", "weather", ['{"city": ', '"Wien"}']), ("call_b", "time", ["{}"])]
            deltas = [{"reasoning_content": "Hm, "}, {"reasoning_content": "tools."}, {"content": "I "}, {"content": "look."}]
            for index, (name, tool, pieces) in enumerate(calls):
                function = {"name": tool, "arguments": ""}
                deltas.append({"tool_calls": [{"index": index, "id": name, "type": "function", "function": function}]})
                deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces]
        for delta in deltas:
            self.event(choices=[{"index": 0, "delta": delta, "finish_reason": None}])
        self.event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop" if results else "tool_calls"}])
        self.event(usage={"prompt_tokens": 21, "completion_tokens": 9, "total_tokens": 30,
                          "completion_tokens_details": {"reasoning_tokens": 4}})  # fmt: skip
        self.wfile.write(b"data: [DONE]\n\n")

    def thinks(self):
        self.begin_stream()
        for word in ("two ", "and ", "two"):
            self.event(choices=[{"index": 0, "delta": {"reasoning_content": word}, "finish_reason": None}])
        self.event(choices=[{"index": 0, "delta": {"content": "four"}, "finish_reason": None}])
        self.event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        self.event(usage={"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14,
                          "completion_tokens_details": {"reasoning_tokens": 3}})  # fmt: skip
        self.wfile.write(b"data: [DONE]\n\n")

    def calls(self, order=((0, '{"city":'), (0, '"K\u00f6ln"}'), (1, '{"city":'), (1, '"Bonn"}'))):
        """Two calls, the pieces of their arguments in this order."""
        self.begin_stream()
        begun = set()
        for index, piece in order:
            call = {"index": index, "function": {"arguments": piece}}
            if index not in begun:
                begun.add(index)
                call |= {"id": f"call_{index}", "type": "function"}
                call["function"]["name"] = "get_weather"
            self.event(choices=[{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}])
        self.event(choices=[{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])
        self.event(usage={"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28})
        self.wfile.write(b"data: [DONE]\n\n")

    def mixes(self):
        """The same with the calls mixed."""
        self.calls(((0, '{"city":'), (1, '{"city":'), (0, '"K\u00f6ln"}'), (1, '"Bonn"}')))

    def no_usage(self):
        self.begin_stream()
        self.words(6)
        self.event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        self.wfile.write(b"data: [DONE]\n\n")

    def cut(self):
        """Closes in the middle, as if it had ended."""
        self.begin_stream()
        self.words(4)

    def reset(self):
        """Breaks the connection in the middle."""
        self.begin_stream()
        self.words(4)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.connection.close()

    def endless(self):
        self.begin_stream()
        try:
            while True:
                self.words(1)
                # A moment between words, so that the other side decides when it ends.
                threading.Event().wait(0.005)
        except OSError:
            self.server.abandoned.release()

    def nonsense(self):
        self.answer(200, b"<html>welcome to the wifi</html>", "text/html")

    def endless_line(self):
        self.begin_stream()
        with_no_end = b"data: " + b"x" * 1_000_000
        try:
            for _ in range(40):
                self.wfile.write(with_no_end)
        except OSError:
            self.server.abandoned.release()

    def fails(self):
        self.answer(500, b'{"error": {"message": "secret stack trace", "type": "server_error"}}')

    def hesitates(self):
        """Fails after its client was told to wait."""
        threading.Event().wait(6)
        self.fails()

    def refuses(self):
        self.answer(422, b'{"error": {"message": "tools are not for this model", "type": "invalid_request_error"}}')

    def wants_another_key(self):
        self.answer(401, b'{"error": {"message": "Incorrect API key provided: sk-upstr...", "type": "x"}}')

    def moves_away(self):
        self.send_response(307)
        self.send_header("location", f"{self.server.url}/v1/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()
