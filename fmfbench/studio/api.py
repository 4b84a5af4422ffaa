"""What the page asks for, by path. Errors are JSON: `{"error": "one line"}` with a status that says whose they are."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fmfbench.annotation.annotate import parse_radius, read_drawn
from fmfbench.annotation.box_vote import SHARE
from fmfbench.annotation.coco import write_coco
from fmfbench.annotation.cvat_export import write_cvat
from fmfbench.annotation.keyframes import check_against
from fmfbench.errors import AnnotationError, BusyError, FmfbenchError, InputError, StoreError
from fmfbench.plots.annotation import write_video
from fmfbench.studio.apply import Applying, Wish
from fmfbench.studio.bundle import pack
from fmfbench.studio.dividing import plan, save
from fmfbench.studio.draft import Draft, StaleError, scaled, text_of
from fmfbench.studio.library import Library
from fmfbench.studio.live_refine import refine_one
from fmfbench.studio.page import page_routes

__all__ = ["make_app"]

_BLOCK_BYTES = 1 << 22
_LARGEST_BODY = 1 << 26
_BYTES = "application/octet-stream"
_ENLARGED = 8  # times, as `annotate export --video`


class Api:
    """The handlers. Those that only read are plain functions, which Starlette runs in its threads."""

    def __init__(self, library: Library, draft: Draft, applying: Applying) -> None:
        self.library = library
        self.draft = draft
        self.applying = applying

    def recordings(self, request: Request) -> Response:
        return JSONResponse(self.library.summaries())

    def pulse(self, request: Request) -> Response:
        """What may have changed without this page's doing; asked for every second or two."""
        state = self.draft.state()
        return JSONResponse(
            {
                "store": self.library.version,
                "saved": state["saved"],
                "conflict": state["conflict"],
                "revisions": {name: entry["revision"] for name, entry in state["recordings"].items()},
                "apply": self.applying.state,
                "runs": [run.state() for run in self.library.runs],
            }
        )

    def about(self, request: Request) -> Response:
        data = self.library.data
        return JSONResponse(
            {
                "store": data.path.name,
                "name": data.name,
                "fingerprint": data.fingerprint,
                "default_layer": data.default_layer,
                "read_only": self.draft.read_only,
                "predictions": [p.file for p in self.library.predictions],
                "runs": len(self.library.runs),
            }
        )

    def recording(self, request: Request) -> Response:
        return Response(pack(*self.library.facts(request.path_params["name"])), media_type=_BYTES)

    def frames(self, request: Request) -> Response:
        """Raw RGB bytes of frames start..stop-1, in order: n*H*W*3."""
        name = request.path_params["name"]
        return self._blocks(request, lambda a, b: self.library.frames(name, a, b), 3)

    def masks(self, request: Request) -> Response:
        """Bytes 0 and 1 of a layer's masks, in order: n*H*W."""
        name, layer = request.path_params["name"], request.query_params.get("layer", "")
        return self._blocks(request, lambda a, b: self.library.masks(name, layer, a, b), 1)

    def predicted(self, request: Request) -> Response:
        """Bytes 0, 1 and 255 (none) of a prediction file's masks, in order: n*H*W."""
        name, k = request.path_params["name"], _whole(request, "file", 0)
        return self._blocks(request, lambda a, b: self.library.predicted_masks(name, k, a, b), 1)

    def picture(self, request: Request) -> Response:
        """One frame as JPEG, for frames that are too large to send byte by byte."""
        name = request.path_params["name"]
        frame = _whole(request, "frame", 0)
        if frame >= self.library.recording(name).num_frames:
            raise InputError(f"{name}: expected a frame of the recording, got {frame}")
        import cv2

        image = self.library.frames(name, frame, frame + 1)[0]
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
        return Response(data.tobytes(), media_type="image/jpeg")

    def margin(self, request: Request) -> Response:
        """float32 of the stored margin of a refined layer, H*W; empty where none was kept."""
        found = self.library.margin(
            request.path_params["name"], request.query_params.get("layer", ""), _whole(request, "frame", 0)
        )
        return Response(b"" if found is None else found.astype("<f4").tobytes(), media_type=_BYTES)

    async def judge(self, request: Request) -> Response:
        """`{"frame": f}`: the runs judge this recording now, from this frame on."""
        name, frame = request.path_params["name"], (await _body(request)).get("frame")
        if not isinstance(frame, int) or not 0 <= frame < self.library.recording(name).num_frames:
            raise InputError(f"{name}: expected a frame of the recording, got {frame!r}")
        for run in self.library.runs:
            run.begin(name, frame)
        return JSONResponse([run.state() for run in self.library.runs])

    def verdicts(self, request: Request) -> Response:
        """What a run has judged of a recording so far."""
        name, k = request.path_params["name"], _whole(request, "run", 0)
        return Response(pack(*self.library.verdicts(name, k)), media_type=_BYTES)

    def window(self, request: Request) -> Response:
        protocol = request.query_params.get("protocol", "paper")
        return JSONResponse(
            self.library.window(request.path_params["name"], _whole(request, "frame", 0), protocol)
        )

    def keyframes(self, request: Request) -> Response:
        return JSONResponse(self.draft.state())

    async def change(self, request: Request) -> Response:
        """`{"base": revision, "tracks": [...] or null}` replaces a recording's tracks."""
        body = await _body(request)
        base = body.get("base")
        if not isinstance(base, int) or "tracks" not in body:
            raise InputError('expected {"base": revision, "tracks": [...]}, got an object without them')
        name = request.path_params["name"]
        revision = await run_in_threadpool(self.draft.replace, name, body["tracks"], base)
        return JSONResponse({"revision": revision})

    async def resolve(self, request: Request) -> Response:
        keep = (await _body(request)).get("keep")
        if keep not in ("file", "draft"):
            raise InputError(f"expected keep to be file or draft, got {keep!r}")
        aside = await run_in_threadpool(self.draft.resolve, keep)
        return JSONResponse({"aside": aside.name})

    async def refine(self, request: Request) -> Response:
        """The refined mask of one frame, H*W bytes, then its margin, float32 H*W.

        Asked for with `{"frame": f, "tracks": [...], "radius": "box/3"}`.
        """
        body = await _body(request)
        name, frame, tracks = request.path_params["name"], body.get("frame"), body.get("tracks")
        recording = self.library.recording(name)
        if not isinstance(frame, int) or not 0 <= frame < recording.num_frames:
            raise InputError(f"{name}: expected a frame below {recording.num_frames}, got {frame!r}")
        mask, margin = await run_in_threadpool(
            refine_one, recording, self.draft.size, tracks, frame, _share(body)
        )
        return Response(mask.tobytes() + margin.astype("<f4").tobytes(), media_type=_BYTES)

    async def read_file(self, request: Request) -> Response:
        """The tracks in one uploaded keyframes.json or CVAT export, at the draft's size. Changes nothing.

        `recording`, `label`, `task`, `size` and `untouched` in the address are those of `annotate`.
        """
        data, query = await _limited(request), request.query_params
        return JSONResponse(await run_in_threadpool(self._drawn, data, query))

    def _drawn(self, data: bytes, query: Mapping[str, str]) -> dict[str, Any]:
        """`tracks` of each recording, and `remarks` on frames that were not drawn on."""
        size = _size(query["size"]) if query.get("size") else None
        untouched = query.get("untouched") or "skip"
        if untouched not in ("skip", "normal"):
            raise InputError(f"expected untouched to be skip or normal, got {untouched[:40]!r}")
        known = {key: query.get(key) or None for key in ("label", "task")}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "upload"
            path.write_bytes(data)
            try:
                found, frames = read_drawn(
                    path,
                    query.get("recording") or None,
                    **known,
                    size=size,
                    untouched=untouched,
                )
                counts = {name: r.num_frames for name, r in self.library.data.recordings.items()}
                check_against(found, counts, frames)
            except AnnotationError as error:
                raise AnnotationError(str(error).replace(f"{path}: ", "")) from None
        found = scaled(found, self.draft.size)
        tracks = {name: entry["tracks"] for name, entry in found.to_dict()["recordings"].items()}
        return {"tracks": tracks, "remarks": frames.uncovered(counts)}

    def export_json(self, request: Request) -> Response:
        return _download(text_of(self.draft.keyframes()), self.draft.path.name, "application/json")

    def export_cvat(self, request: Request) -> Response:
        name = request.path_params["name"]
        drawn = self.draft.keyframes()
        if name not in drawn.recordings:
            raise AnnotationError(f"{name}: expected a labelled recording to export, got one without labels")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "export.xml"
            write_cvat(path, drawn, name, self.library.recording(name).num_frames)
            return _download(path.read_bytes(), f"{name}.xml", "application/xml")

    async def plan_split(self, request: Request) -> Response:
        """What saving a split would make of a recording (see `fmfbench.studio.dividing`)."""
        name, body = request.path_params["name"], await _body(request)
        self.library.recording(name)
        return Response(
            pack(*await run_in_threadpool(plan, self.library.data, body, name)), media_type=_BYTES
        )

    async def save_split(self, request: Request) -> Response:
        body = await _body(request)
        return JSONResponse(await run_in_threadpool(save, self.library.data, body))

    def export_coco(self, request: Request) -> Response:
        """A layer's masks as COCO, as `annotate export --coco` writes them."""
        name, layer = request.path_params["name"], request.query_params.get("layer", "")
        r = self.library.recording(name)
        if layer not in r.layers:
            raise StoreError(
                f"{name}: expected one of the layers {', '.join(r.layers) or '(none)'}, got {layer!r}"
            )
        starts = range(0, r.num_frames, 512)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "export.json"
            blocks = (r.read_masks(a, min(a + 512, r.num_frames), layer) for a in starts)
            write_coco(path, name, (r.height, r.width), blocks)
            return _download(path.read_bytes(), f"{name}.{layer}.json", "application/json")

    def export_video(self, request: Request) -> Response:
        """Every frame enlarged, to draw on elsewhere, as `annotate export --video` writes it."""
        name = request.path_params["name"]
        recording = self.library.recording(name)
        folder = tempfile.TemporaryDirectory()
        path = Path(folder.name) / "export.mp4"
        try:
            write_video(recording, path, _ENLARGED)
        except BaseException:
            folder.cleanup()
            raise
        headers = {"Content-Disposition": _disposition(f"{name}.mp4")}
        return FileResponse(
            path, media_type="video/mp4", headers=headers, background=BackgroundTask(folder.cleanup)
        )

    async def apply(self, request: Request) -> Response:
        body = await _body(request)
        refined = body.get("refined")
        wish = Wish(
            boxes=str(body.get("boxes", "boxes")),
            refined=None if refined is None else str(refined),
            margin=body.get("margin") is True,
            as_default=body.get("as_default") is True,
            radius=None if _share(body) == SHARE else str(body["radius"]),
        )
        await run_in_threadpool(self._apply, wish)
        return JSONResponse(self.applying.state)

    def _apply(self, wish: Wish) -> None:
        if not self.draft.save():
            raise StaleError(f"{self.draft.path.name} was changed by another program; choose which to keep")
        self.applying.start(self.draft.keyframes(), wish)

    def _blocks(
        self, request: Request, read: Callable[[int, int], NDArray[np.uint8]], channels: int
    ) -> Response:
        r = self.library.recording(request.path_params["name"])
        start = _whole(request, "start", 0)
        stop = min(_whole(request, "stop", r.num_frames), r.num_frames)
        step = max(1, _BLOCK_BYTES // (r.height * r.width * channels))
        headers = {"Content-Length": str(max(0, stop - start) * r.height * r.width * channels)}
        if stop - start <= step:
            data = read(start, stop).tobytes() if start < stop else b""
            return Response(data, media_type=_BYTES)
        first = read(start, start + step).tobytes()  # what is wrong is said before the answer begins

        def pieces() -> Iterator[bytes]:
            yield first
            for a in range(start + step, stop, step):
                yield read(a, min(a + step, stop)).tobytes()

        return StreamingResponse(pieces(), media_type=_BYTES, headers=headers)


def make_app(library: Library, draft: Draft, applying: Applying) -> Starlette:
    """The page and what it asks for; who may ask is `fmfbench.studio.guard`'s to say."""
    api = Api(library, draft, applying)
    read = [
        Route("/api/about", api.about),
        Route("/api/pulse", api.pulse),
        Route("/api/recordings", api.recordings),
        Route("/api/recordings/{name}", api.recording),
        Route("/api/frames/{name}", api.frames),
        Route("/api/masks/{name}", api.masks),
        Route("/api/predicted/{name}", api.predicted),
        Route("/api/picture/{name}", api.picture),
        Route("/api/margin/{name}", api.margin),
        Route("/api/window/{name}", api.window),
        Route("/api/judge/{name}", api.judge, methods=["POST"]),
        Route("/api/verdicts/{name}", api.verdicts),
        Route("/api/keyframes", api.keyframes),
        Route("/api/refine/{name}", api.refine, methods=["POST"]),
        Route("/api/export/keyframes.json", api.export_json),
        Route("/api/export/cvat/{name}", api.export_cvat),
        Route("/api/export/coco/{name}", api.export_coco),
        Route("/api/export/video/{name}", api.export_video),
        *page_routes("index.html"),
    ]
    write = [
        Route("/api/keyframes/{name}", api.change, methods=["POST"]),
        Route("/api/resolve", api.resolve, methods=["POST"]),
        Route("/api/read", api.read_file, methods=["POST"]),
        Route("/api/apply", api.apply, methods=["POST"]),
        Route("/api/split/{name}", api.plan_split, methods=["POST"]),
        Route("/api/split", api.save_split, methods=["POST"]),
    ]
    handlers: Any = {FmfbenchError: _failed, HTTPException: _http_failed}
    return Starlette(routes=[*read, *([] if draft.read_only else write)], exception_handlers=handlers)


def _failed(request: Request, error: Exception) -> Response:
    status = 500
    if isinstance(error, InputError):
        status = 400
    if isinstance(error, StoreError):
        status = 404
    if isinstance(error, StaleError | BusyError):
        status = 409
    return JSONResponse({"error": str(error)}, status)


def _http_failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


def _whole(request: Request, key: str, default: int) -> int:
    text = request.query_params.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InputError(f"expected {key} as a whole number of at least 0, got {text[:40]!r}")
    return int(text)


async def _limited(request: Request) -> bytes:
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > _LARGEST_BODY:
            raise InputError(f"expected at most {_LARGEST_BODY} bytes, got more")
        parts.append(part)
    return b"".join(parts)


async def _body(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise InputError("expected a body of application/json, got another kind")
    try:
        body = json.loads(await _limited(request))
    except (ValueError, RecursionError) as error:
        raise InputError(f"expected JSON, got what is none: {error}") from None
    if not isinstance(body, dict):
        raise InputError(f"expected a JSON object, got a {type(body).__name__}")
    return body


def _share(body: Mapping[str, Any]) -> float:
    """The part of a box's shorter side that the vote's radius is."""
    share = parse_radius(body.get("radius"))
    if not isinstance(share, float):
        raise InputError(f"expected a radius of each box, as box/2, got {body['radius']!r}")
    return share


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text.strip())
    if match is None:
        raise InputError(f"expected a size as WIDTHxHEIGHT, as in 512x512, got {text[:40]!r}")
    return int(match[1]), int(match[2])


def _disposition(name: str) -> str:
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def _download(data: bytes, name: str, media_type: str) -> Response:
    return Response(data, media_type=media_type, headers={"Content-Disposition": _disposition(name)})
