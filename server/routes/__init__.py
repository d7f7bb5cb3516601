"""One module an endpoint family: from a request to an answer."""
