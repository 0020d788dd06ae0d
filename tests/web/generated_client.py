"""Scores through a client that openapi-python-client made; runs in that client's environment."""

import io
import json
import sys
from pathlib import Path

from plumbline_generated import Client  # type: ignore[import-not-found]
from plumbline_generated.api.scoring import score  # type: ignore[import-not-found]
from plumbline_generated.models import Item, ScoreFilesBody, ScoreReply, ScoreRequest  # type: ignore[import-not-found]
from plumbline_generated.types import File  # type: ignore[import-not-found]

url, image = sys.argv[1:]
client = Client(base_url=url)
data = Path(image).read_bytes()
found = []
body = ScoreRequest.from_dict(json.load(sys.stdin))
reply = score.sync(client=client, body=body)
assert isinstance(reply, ScoreReply), reply
found.append(reply.to_dict())
item = Item.from_dict({"image": {"part": "image"}, "text": "a red circle"})
form = ScoreFilesBody(request=ScoreRequest(items=[item]), image=File(io.BytesIO(data), "image.png", "image/png"))
reply = score.sync(client=client, body=form)
assert isinstance(reply, ScoreReply), reply
found.append(reply.to_dict())
json.dump(found, sys.stdout)
