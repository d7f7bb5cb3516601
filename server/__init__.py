"""HTTP, files, processes: the only room that knows a wire format."""

VERSION = "0.1.0"
