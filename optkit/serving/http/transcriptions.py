"""`POST /v1/audio/transcriptions` as OpenAI's clients call it, for models that write what was said.

Source: https://platform.openai.com/docs/api-reference/audio/createTranscription. One sound for each request;
of the form's other fields prompt, temperature and language change nothing here, the rest are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from optkit.serving.http.body import Body, first_complaint, record, timeout_of
from optkit.serving.http.model_slot import Served
from optkit.serving.http.routes import Routes
from optkit.serving.http.settings import ServeSettings
from optkit.tasks.labelled import JsonType

#: Fields of a form, its file apart, and the bytes of one.
MOST_FIELDS, MOST_BYTES = 20, 16_384


class TimedWord(BaseModel):
    """`start` and `end` in seconds."""

    word: str
    start: float
    end: float


class Transcript(BaseModel):
    """`duration` and `words` in the format verbose_json only; `duration` in seconds."""

    text: str
    task: Literal["transcribe"] | None = None
    duration: float | None = None
    words: list[TimedWord] | None = None


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
        if "segment" in given.granularities:
            raise HTTPException(
                422, "timestamp_granularities[]: Expected word; this model knows no segments."
            )
        (answer,), _ = await known[given.model].answer([content], timeout_s)
        if given.response_format == "text":
            return PlainTextResponse(answer.text + "\n")
        if given.response_format == "json":
            return JSONResponse({"text": answer.text})
        words = [{"word": word.text, "start": word.start, "end": word.end} for word in answer.words]
        more = {"task": "transcribe", "duration": answer.seconds, "words": words}
        return JSONResponse({"text": answer.text, **more})

    return routes
