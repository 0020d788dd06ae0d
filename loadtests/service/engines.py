"""The networks without a service: what its rates are held against."""

import itertools
import math
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from loadtests.service.pictures import captions, pictures
from plumbline_models.core.protocols import Scorer
from plumbline_models.images.decode import DecodePolicy, decode

NUM_IN_HAND = 64  # prepared inputs that the engines run again and again


class Engines:
    """A scorer's two encoders in this process, in batches as large as they take."""

    def __init__(self, scorer: Scorer) -> None:
        self._image, self._text = (encoder for encoder in (scorer.image, scorer.text) if encoder is not None)
        self._image.load()
        self._text.load()
        self._callers = ThreadPoolExecutor(self._image.info().num_streams)
        [hand] = itertools.islice(pictures(NUM_IN_HAND, is_new=True), 1)
        self._pixels = [self._image.preprocess(decode(data, DecodePolicy())) for data in hand.values()]
        self._ids = [self._text.preprocess(caption) for caption in itertools.islice(captions(), NUM_IN_HAND)]

    def run(self, num_items: int) -> None:
        """Encode as many images, and as many captions in batches of one length, all streams equally busy."""
        num_streams = self._image.info().num_streams
        num_turns = math.ceil(num_items / int(self._image.max_batch_cost) / num_streams)
        size = math.ceil(num_items / (num_turns * num_streams))
        starts = range(0, num_items, size)
        list(self._callers.map(self._encode, starts, (min(start + size, num_items) for start in starts)))

    def _encode(self, start: int, stop: int) -> None:
        chosen = [number % NUM_IN_HAND for number in range(start, stop)]
        self._image.encode([self._pixels[number] for number in chosen])
        buckets: dict[Hashable, list[Any]] = {}
        for number in chosen:
            buckets.setdefault(self._text.bucket(self._ids[number]), []).append(self._ids[number])
        for bucket in buckets.values():
            self._text.encode(bucket)
