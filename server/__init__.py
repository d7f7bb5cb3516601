"""HTTP, files, processes: the only room that knows a wire format."""
