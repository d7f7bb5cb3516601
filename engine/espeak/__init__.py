"""The embedded voice: espeak-ng, robotic formant synthesis in over a hundred languages."""
