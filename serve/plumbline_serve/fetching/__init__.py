"""Images by URL: which URLs and addresses are asked, and how a hostile answer is kept from harming anyone."""

from plumbline_serve.fetching.connection import tls_context
from plumbline_serve.fetching.fetcher import RequestFetches, UrlFetcher

__all__ = ["RequestFetches", "UrlFetcher", "tls_context"]
