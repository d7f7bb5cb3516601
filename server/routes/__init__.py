"""One module an endpoint family: from a request to an answer."""

from litestar import HttpMethod

GET = (HttpMethod.GET, HttpMethod.HEAD)
"""What can be got can be asked about."""
