"""JPEGs decoded by nvJPEG on a GPU: which, by whom, and within which bound of the pixels that CPUs give."""

from plumbline_models.images.nvjpeg.decoder import NvJpegDecoder

__all__ = ["NvJpegDecoder"]
