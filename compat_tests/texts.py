"""What the tests let the server say, and how much of it they hear again."""

import re

SENTENCE = "The harbour was quiet, and a single lamp burned above the door."
"""About four seconds of speech."""

FIVE_SECONDS = f"{SENTENCE} Far out a bell rang twice."
"""About as long as an agent's answer."""

PARAGRAPH = (
    f"{SENTENCE} Far out on the water a bell rang twice. Nobody in the village turned to listen."
)
"""About eight seconds: short enough to be quick, long enough to make a codec's padding small."""

MAX_INPUT = 4096
"""Code points that one request may hold."""

LONGEST = (PARAGRAPH + " ") * (MAX_INPUT // (len(PARAGRAPH) + 1))
"""Almost as long as a request may be: about four minutes of speech."""

WEATHER = "The weather is very nice today."
STORY = "There is nothing new about this story."
"""Plain words, which a recogniser that knows little gets right."""


def share_heard(said: str, heard: str) -> float:
    """How many of the different words that were said are among those heard, 0 to 1."""
    words, found = (set(re.findall(r"[a-z']+", text.lower())) for text in (said, heard))
    return len(words & found) / len(words)
