"""A small OpenAI-compatible provider whose answer is chosen by the model's name.

    echo             answers with the last message's text, streamed word by word when asked
    rate-limited     429 with Retry-After: 7
    broken           500
    unauthorized     401: the key we were given is refused
    too-long         400 context_length_exceeded
    silent           takes the request and never answers
    cut              a stream that ends after two words, with neither a finish reason nor [DONE]
    endless          a stream that goes on until the other side hangs up
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ERRORS = {
    "rate-limited": (
        429,
        {"message": "Rate limit reached", "type": "requests", "param": None, "code": "rate_limit_exceeded"},
        {"Retry-After": "7"},
    ),
    "broken": (500, {"message": "The server had an error", "type": "server_error", "param": None, "code": None}, {}),
    "fragile": (500, {"message": "The server had an error", "type": "server_error", "param": None, "code": None}, {}),
    "unauthorized": (
        401,
        {"message": "Incorrect API key", "type": "invalid_request_error", "param": None, "code": "invalid_api_key"},
        {},
    ),
    "too-long": (
        400,
        {
            "message": "This model's maximum context length is 8 tokens",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        },
        {},
    ),
}


class FakeUpstream:
    """The provider, its address, and what it has seen."""

    def __init__(self):
        self.requests = []
        self.hung_up = threading.Event()
        self.closing = threading.Event()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                upstream.requests.append({"path": self.path, "headers": dict(self.headers.items()), "body": body})
                upstream.answer(self, body)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def of(self, model):
        """The requests that asked for this model, oldest first."""
        return [request for request in self.requests if request["body"]["model"] == model]

    def answer(self, handler, body):
        model = body["model"]
        if model in ERRORS:
            status, error, headers = ERRORS[model]
            send_json(handler, status, {"error": error}, headers)
        elif model == "silent":
            self.closing.wait()
            handler.close_connection = True
        elif body.get("stream"):
            self.stream(handler, body)
        else:
            send_json(handler, 200, completion(body))

    def stream(self, handler, body):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        model = body["model"]
        try:
            if model == "endless":
                while not self.closing.is_set():
                    send_event(handler, chunk(body, {"content": "more "}))
            words = text_of(body).split(" ")
            for at, word in enumerate(words if model == "echo" else words[:2]):
                send_event(handler, chunk(body, {"content": word if at == 0 else " " + word}))
            if model == "echo":
                send_event(handler, chunk(body, {}, finish_reason="stop"))
                if (body.get("stream_options") or {}).get("include_usage"):
                    send_event(handler, {**chunk(body, {}), "choices": [], "usage": usage(body)})
                write_chunk(handler, b"data: [DONE]\n\n")
            write_chunk(handler, b"")
        except OSError:
            self.hung_up.set()
            handler.close_connection = True


def text_of(body):
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def usage(body):
    words = len(text_of(body).split(" "))
    return {"prompt_tokens": words, "completion_tokens": words, "total_tokens": 2 * words}


def completion(body):
    message = {"role": "assistant", "content": text_of(body), "refusal": None}
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": usage(body),
    }


def chunk(body, delta, finish_reason=None):
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def send_json(handler, status, value, headers=None):
    body = json.dumps(value).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    for name, text in (headers or {}).items():
        handler.send_header(name, text)
    handler.end_headers()
    handler.wfile.write(body)


def send_event(handler, value):
    write_chunk(handler, b"data: " + json.dumps(value).encode() + b"\n\n")


def write_chunk(handler, data):
    """One chunk of a chunked body; an empty one ends it."""
    handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    handler.wfile.flush()
