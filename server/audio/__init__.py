"""Containers and codecs: the wire's bytes on one side, float32 PCM on the other."""
