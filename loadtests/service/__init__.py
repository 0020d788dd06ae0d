"""The whole service under load, beside other servers."""
