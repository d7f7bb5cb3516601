"""From a checked request to an engine at work, however it was asked. Event loop only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from msgspec import Struct

from engine.protocol import PromptSource, SpeechEngine
from engine.types import EngineInfo, PcmChunk
from server.catalog import engine_headers, ignored_headers
from server.context import RequestContext
from server.library import SpeakingVoice, voice_headers
from server.meters import SpeechMeter
from server.recents import Asked, Ledger
from server.schemas.speech import SpeechRequest
from server.speech import SpeechPlan, plan_speech
from server.turns import Turns


class Speaker(Struct, frozen=True):
    """Who is to speak, with which voice."""

    engine: SpeechEngine
    info: EngineInfo
    voice: SpeakingVoice
    source: PromptSource | None
    """Of the voice's sound; None for a voice that the engine brings."""
    voice_name: str
    """As the log shows it."""


class Asker(Struct, frozen=True):
    """Who asks."""

    context: RequestContext
    owner: str | None
    """As `server.auth.owner_of` has it."""
    facts: Mapping[str, str | int]
    """Of the client, for the log."""


class Speech(Struct, frozen=True):
    """A request on its way."""

    plan: SpeechPlan
    chunks: AsyncGenerator[PcmChunk, None]
    """Counted by the meter; the engine begins with the first that is asked for."""
    meter: SpeechMeter
    headers: dict[str, str]


def begin_speech(
    body: SpeechRequest,
    speaker: Speaker,
    asker: Asker,
    input_chars: int,
    ledger: Ledger,
    turns: Turns,
) -> Speech:
    """Plan a speech, open its account, and let it wait for its turn.

    Args:
        body: Checked.
        speaker: Ready.
        asker: For the log and the list of requests.
        input_chars: That a text may have.
        ledger: Where the request is booked.
        turns: Where it waits for the engine.
    Raises:
        ApiError: the engine cannot do it as asked.
    """
    engine, info, voice = speaker.engine, speaker.info, speaker.voice
    plan = plan_speech(body, info, voice, input_chars)
    asked = Asked(
        context=asker.context,
        task="speech",
        owner=asker.owner,
        model=body.model,
        engine=engine.name,
        voice=speaker.voice_name,
        format=plan.response_format,
        facts={"characters": len(body.input), "voice_kind": voice.how or "own", **asker.facts},
    )
    meter = SpeechMeter(ledger, asked, info.sample_rate, plan.tempo)
    spoken = engine.synthesize(plan.request, asker.context.request_id, speaker.source)
    chunks = meter.watch(turns.taken(engine.name, asker.context, spoken, len(body.input)))
    headers = engine_headers(info) | voice_headers(voice) | ignored_headers(plan.request, info)
    return Speech(plan, chunks, meter, headers)
