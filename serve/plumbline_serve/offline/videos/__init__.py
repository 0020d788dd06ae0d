"""Video files as frames: PyAV decodes them in a process of its own (the extra `video`).

decoder → worker (another process) → sampling
"""

from plumbline_serve.offline.videos.decoder import VIDEO_ENDINGS, VideoDecoder

__all__ = ["VIDEO_ENDINGS", "VideoDecoder"]
