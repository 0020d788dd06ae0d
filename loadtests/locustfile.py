"""Plumbline's clients as locust users.

    python -m locust -f loadtests/locustfile.py --host http://127.0.0.1:8000                  # its page: http://localhost:8089
    python -m locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 --headless --users 64 --run-time 60s Pairs

Each class is a scenario; name those that should run, or pick them on the page (--class-picker). gRPC users call port
9000 of the host, or --grpc-port. One locust process keeps one core busy: where a service is faster than that, add
--processes. Locust's users are a closed loop: for latency against offered load see service/latency.py.
"""

import itertools
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.experimental.gevent
from locust import FastHttpUser, User, events, task
from locust.argument_parser import LocustArgumentParser

from loadtests.service.images import captions, draw_images, forms, messages
from loadtests.service.load_generators import FORM, form, numbered
from plumbline_wire.v1 import scoring_pb2 as pb
from plumbline_wire.v1 import scoring_pb2_grpc

grpc.experimental.gevent.init_gevent()  # gRPC's own threads would stop all of locust's users

NUM_IMAGES, NUM_TEXTS, NUM_PROMPTS = 16, 32, 50
BATCHES, BATCH = 4, 16
LEAST = 0.25  # of clipscore, for an image to be kept


@events.init_command_line_parser.add_listener
def add_grpc_port(parser: LocustArgumentParser) -> None:
    """Called by locust."""
    parser.add_argument("--grpc-port", type=int, default=9000, help="of the service")


class RestUser(FastHttpUser):
    """Sends forms as fast as they are answered."""

    abstract = True

    def send(self, body: bytes, *, path: str = "/v1/score") -> None:
        """Send a form; an answer in which any item failed is a failure."""
        name = f"{type(self).__name__} {path}"
        with self.client.post(path, data=body, headers=FORM, name=name, catch_response=True) as reply:
            if reply.status_code != 200:
                reply.failure(f"status {reply.status_code}")
            elif b'"status":"error"' in (reply.content or b""):
                reply.failure("an item failed")


class Pairs(RestUser):
    """A new image and a new caption a request."""

    bodies = forms(1, is_new=True)

    @task
    def _score(self) -> None:
        self.send(next(self.bodies))


class BestOf16(RestUser):
    """16 images that were made for one prompt, ranked."""

    prompts, images = captions(), draw_images(NUM_IMAGES, is_new=True)

    @task
    def _rank(self) -> None:
        parts = next(self.images)
        request = {"text": next(self.prompts), "images": [{"part": name} for name in parts], "top_k": 1}
        self.send(form({"request": json.dumps(request).encode()}, parts), path="/v1/rank")


class OneImageManyTexts(RestUser):
    """One image held against 32 texts."""

    prompts, images = captions(), draw_images(1, is_new=True)

    @task
    def _score(self) -> None:
        parts = next(self.images)
        items = [{"image": {"part": "0"}, "text": text} for text in itertools.islice(self.prompts, NUM_TEXTS)]
        self.send(form({"request": json.dumps({"items": items}).encode()}, parts))


class RepeatedPrompts(RestUser):
    """New images, and prompts that many clients ask about."""

    prompts = itertools.cycle(list(itertools.islice(captions(), NUM_PROMPTS)))
    images = draw_images(1, is_new=True)

    @task
    def _score(self) -> None:
        parts = next(self.images)
        items = [{"image": {"part": "0"}, "text": next(self.prompts)}]
        self.send(form({"request": json.dumps({"items": items}).encode()}, parts))


class Filters(RestUser):
    """A generation pipeline that keeps or drops what it made, one image at a time."""

    prompts, images = captions(), draw_images(1, is_new=True)

    @task
    def _keep_or_drop(self) -> None:
        parts = next(self.images)
        items = [{"image": {"part": "0"}, "text": next(self.prompts)}]
        request = {"policy": {"all": [{"scorer": "clipscore", "min": LEAST}]}, "items": items}
        self.send(form({"request": json.dumps(request).encode()}, parts), path="/v1/filter")


class GrpcUser(User):
    """Calls the service over one channel of its own."""

    abstract = True

    def on_start(self) -> None:
        """Connect."""
        host, port = urlsplit(self.host or "http://127.0.0.1").hostname, self.environment.parsed_options.grpc_port
        self._channel = grpc.insecure_channel(f"{host}:{port}")
        self.stub = scoring_pb2_grpc.ScoringStub(self._channel)

    def on_stop(self) -> None:
        """Hang up."""
        self._channel.close()

    def call(self, name: str, send_one: Callable[[], list[pb.ScoreReply]]) -> None:
        """Send one, and tell locust how long it took and what went wrong."""
        found: dict[str, Any] = {"request_type": "gRPC", "name": f"{type(self).__name__} {name}", "exception": None}
        started, replies = time.perf_counter(), list[pb.ScoreReply]()
        try:
            replies = send_one()
        except grpc.RpcError as error:
            found["exception"] = error
        if any(result.HasField("error") for reply in replies for result in reply.results):
            found["exception"] = RuntimeError("an item failed")
        found["response_time"] = (time.perf_counter() - started) * 1000
        found["response_length"] = sum(reply.ByteSize() for reply in replies)
        self.environment.events.request.fire(context=self.context(), **found)


class GrpcPairs(GrpcUser):
    """As `Pairs`, over gRPC."""

    requests = messages(1, is_new=True)

    @task
    def _score(self) -> None:
        request = next(self.requests)
        self.call("Score", lambda: [self.stub.Score(request)])


class Streamed(GrpcUser):
    """Batches over one stream: what scores a whole data set."""

    requests = messages(BATCH, is_new=True)

    @task
    def _score(self) -> None:
        batches = list(itertools.islice(self.requests, BATCHES))
        self.call("ScoreStream", lambda: self._stream(batches))

    def _stream(self, batches: list[pb.ScoreRequest]) -> list[pb.ScoreReply]:
        answers = list(self.stub.ScoreStream(numbered(batches)))
        failed = [answer for answer in answers if not answer.HasField("reply")]
        if failed or len(answers) != len(batches):
            raise grpc.RpcError(f"{len(failed)} of {len(batches)} batches failed, {len(answers)} were answered")
        return [answer.reply for answer in answers]
