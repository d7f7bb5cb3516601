"""The description of the API that GET /openapi.json gives, written as data.

It is not derived from the handlers: they read bodies themselves, so that these are parsed with
OpenAI's leniency and refused in OpenAI's words. Tests hold both together.
"""

from server.openapi.document import describe

__all__ = ["describe"]
