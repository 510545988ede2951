"""`POST /v1/audio/transcriptions` as OpenAI's clients call it, for models that write what was said.

Source: https://platform.openai.com/docs/api-reference/audio/createTranscription. One sound for each request.
CTC models write the same whatever the fields language, prompt and temperature say; models with a decoder take
a language, and refuse a prompt and a temperature above 0. Other fields are refused.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from optkit.errors import RecipeError
from optkit.serving.http.body import Body, first_complaint, record, timeout_of
from optkit.serving.http.model_slot import Served
from optkit.serving.http.routes import Routes
from optkit.serving.http.settings import ServeSettings
from optkit.tasks.labelled import Input, JsonType

#: Fields of a form, its file apart, and the bytes of one.
MOST_FIELDS, MOST_BYTES = 20, 16_384


class TimedWord(BaseModel):
    """`start` and `end` in seconds."""

    word: str
    start: float
    end: float


class TimedSegment(BaseModel):
    """`start` and `end` in seconds."""

    id: int
    text: str
    start: float
    end: float


class Transcript(BaseModel):
    """All but `text` in the format verbose_json only: of CTC models `duration`, in seconds, and `words`, of
    others `segments`."""

    text: str
    task: Literal["transcribe"] | None = None
    duration: float | None = None
    words: list[TimedWord] | None = None
    segments: list[TimedSegment] | None = None


class Form(Body):
    """A body of multipart/form-data: fields of the type `kind`, and the bytes `file`."""

    def described(self) -> dict[str, Any]:
        schema = self._adapter.json_schema()
        schema["properties"] = {"file": {"type": "string", "format": "binary"}, **schema["properties"]}
        schema["required"] = ["file", *schema.get("required", [])]
        return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}

    def definitions(self) -> dict[str, Any]:
        return {}

    async def read(self, request: Request) -> tuple[Any, bytes]:
        """The fields, checked, and the file. Raises HTTPException 415 or 422."""
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        # A page of a stranger may send a form without asking.
        if kind != "multipart/form-data" or request.headers.get("sec-fetch-site") == "cross-site":
            raise HTTPException(415, "Expected a body of the type multipart/form-data, of one's own site.")
        try:
            async with request.form(max_files=1, max_fields=MOST_FIELDS, max_part_size=MOST_BYTES) as form:
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise HTTPException(422, "file: Expected a file of the form, received none.")
                content = await file.read()
                fields = {name: form.getlist(name) for name in form if name != "file"}
        except (MultiPartException, UnicodeDecodeError):
            raise HTTPException(422, "Expected a form as RFC 7578 has it.") from None
        try:
            plain = {n: v if n.endswith("[]") else v[-1] for n, v in fields.items()}
            return TypeAdapter(self.kind).validate_python(plain), content
        except ValidationError as error:
            raise HTTPException(422, first_complaint(error)) from None


def routes(models: list[Served], settings: ServeSettings) -> Routes:
    routes = Routes(APIRouter(tags=["transcriptions"]))
    known = {served.name: served for served in models if served.task.transcribes}
    if not known:
        return routes
    granularities: JsonType = Annotated[
        list[Literal["word", "segment"]], Field(alias="timestamp_granularities[]")
    ]
    kind = record(
        "TranscriptionForm",
        __config__=ConfigDict(extra="forbid"),
        model=(Literal[tuple(known)], ...),
        response_format=(Literal["json", "text", "verbose_json"], "json"),
        granularities=(granularities, []),
        language=(str | None, None),
        prompt=(str | None, None),
        temperature=(float | None, None),
    )
    body = Form(kind)

    @routes.way("/v1/audio/transcriptions", body, list(known.values()), response_model=Transcript)
    async def transcriptions(request: Request) -> Response:
        timeout_s = timeout_of(request, settings.timeout_s)
        given, content = await body.read(request)
        served = known[given.model]
        timed_by, verbose = served.task.timed_by, given.response_format == "verbose_json"
        if other := next((name for name in given.granularities if name != timed_by), None):
            raise HTTPException(
                422, f"timestamp_granularities[]: Expected {timed_by}; this model knows no {other}s."
            )
        asked = content if timed_by == "word" else _asked(served, content, given, verbose)
        (answer,), _ = await served.answer([asked], timeout_s)
        if given.response_format == "text":
            return PlainTextResponse(answer.text + "\n")
        if given.response_format == "json":
            return JSONResponse({"text": answer.text})
        if timed_by == "segment":
            segments = [{"id": i, **asdict(segment)} for i, segment in enumerate(answer.segments)]
            return JSONResponse({"text": answer.text, "task": "transcribe", "segments": segments})
        words = [{"word": word.text, "start": word.start, "end": word.end} for word in answer.words]
        more = {"task": "transcribe", "duration": answer.seconds, "words": words}
        return JSONResponse({"text": answer.text, **more})

    return routes


def _asked(served: Served, content: bytes, given: Any, timestamps: bool) -> Input:
    """The sound with what the form asks for. Raises HTTPException for what the model does not do."""
    if given.prompt or given.temperature:
        name = "prompt" if given.prompt else "temperature"
        raise HTTPException(422, f"{name}: Expected none; this model writes what is likeliest for the sound.")
    options: dict[str, Any] = {"language": given.language} if given.language else {}
    if timestamps:
        options["timestamps"] = True
    try:
        return served.task.prepared([content], options)[0]
    except RecipeError as error:
        raise HTTPException(422, str(error)) from None
