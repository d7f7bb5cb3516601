"""Bodies of requests and answers, with the wire's own names."""
