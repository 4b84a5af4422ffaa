"""A video file as FFmpeg opens it: which stream is read, and how long the header says that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmfbench.errors import MissingDependencyError, SourceError
from fmfbench.sources.kinds import identify

__all__ = ["first_frame", "likely_seconds", "open_container", "refuse_cut", "slack", "told_end", "words"]

_NO_DURATION = {"mpegts", "mpeg"}  # what FFmpeg tells there is an estimate from the last stamps


def open_container(path: Path, wanted: int | None, *, look_at_end: bool = True) -> tuple[Any, Any]:
    """The container, and the video stream of it to read.

    Args:
        path: the file.
        wanted: which of several video streams, counted from 0; None where there is one.
        look_at_end: let FFmpeg estimate the duration of a transport or program stream from its last stamps. It jumps
            there, into the middle of a piece, and complains of what it then takes for one.

    Raises:
        SourceError: no video, several, or a codec that this FFmpeg lacks.
        MissingDependencyError: PyAV is not installed.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: PyAV, which decodes it, cannot be imported ({error}); pip install 'fmfbench[raw]'"
        ) from error
    try:
        options = {} if look_at_end else {"skip_estimate_duration_from_pts": "1"}
        container = av.open(str(path), metadata_errors="replace", options=options)
    except FFmpegError as error:
        kind = identify(path)
        if kind.problem or kind.name not in ("video", "unknown"):
            raise SourceError(f"{path}: {kind.sentence('a video')}") from None
        raise SourceError(
            f"{path}: expected a video, got nothing that FFmpeg can open ({words(error)}); is it whole?"
        ) from None
    try:
        # Pictures of a cover or a preview are streams too.
        streams = [s for s in container.streams.video if not _is_cover(s)]
        if not streams:
            raise SourceError(f"{path}: expected a video, got a file without a video stream")
        if wanted is None and len(streams) > 1:
            shown = ", ".join(
                f"{i}: {s.codec_context.width}x{s.codec_context.height}" for i, s in enumerate(streams)
            )
            raise SourceError(
                f"{path}: expected one video stream, got {len(streams)} ({shown}); "
                "say which with --map video=0, or split the file"
            )
        if wanted is not None and not 0 <= wanted < len(streams):
            raise SourceError(f"{path}: expected one of its {len(streams)} video streams, got {wanted}")
        chosen = streams[wanted or 0]
        if chosen.codec_context is None:
            raise SourceError(
                f"{path}: expected a codec that this build of FFmpeg decodes, got one that it does not know; "
                "write it anew with `ffmpeg -i OLD -c:v libx264 -crf 10 NEW.mkv`"
            )
    except BaseException:
        container.close()
        raise
    return container, chosen


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in str(stream.disposition)


def told_end(container: Any, stream: Any) -> float | None:
    """Seconds from the track's start to its end, as the file's header tells, or None."""
    names = set(container.format.name.split(","))
    if names & _NO_DURATION:
        return None
    if stream.duration:
        return float(stream.duration * stream.time_base)
    for key, value in stream.metadata.items():
        if key.upper().startswith("DURATION"):
            return _clock_seconds(value)
    if container.duration and len(container.streams) == 1:
        return float(container.duration / 1_000_000)
    return None


def likely_seconds(container: Any) -> float | None:
    """Seconds of the whole file, perhaps an estimate, or None."""
    return float(container.duration / 1_000_000) if container.duration else None


def _clock_seconds(text: str) -> float | None:
    """`00:00:04.000000000` as seconds."""
    try:
        hours, minutes, seconds = text.strip("\0 ").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def slack(container: Any) -> float:
    """By how many seconds a sound file's header may differ from its last frame."""
    names = set(container.format.name.split(","))
    return 1.0 if names & {"asf", "flv"} else 0.002


def refuse_cut(path: Path, container: Any, stream: Any) -> None:
    """A file whose index names places beyond its end is cut: said before hours of decoding."""
    entries = stream.index_entries
    if "mov" not in container.format.name or not len(entries):
        return
    last = entries[len(entries) - 1]
    size = path.stat().st_size
    if last.pos + last.size > size:
        gone = sum(e.pos + e.size > size for e in entries)
        raise SourceError(
            f"{path}: expected a whole video, got a truncated one: {gone} of its {len(entries)} frames lie beyond "
            f"its {size} bytes; copy it again, or keep what can be decoded with --allow-damaged"
        )


def first_frame(container: Any, stream: Any) -> Any:
    """The first frame that can be decoded, past packets that cannot, or None."""
    from av.error import FFmpegError

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return None
            for frame in packet.decode():
                return frame
        except FFmpegError:
            continue


def words(error: Exception) -> str:
    """What FFmpeg calls an error."""
    return str(getattr(error, "strerror", None) or error)[:100]
