"""Speech as tools for MCP clients: over HTTP at /mcp, and over stdio.

Only `protocol` and what it serves import the `mcp` package, which is an extra.
"""
