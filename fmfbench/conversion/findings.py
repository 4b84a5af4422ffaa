"""What a verification finds: damage to the store, and remarks on what its source recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fmfbench.files.wording import counted

__all__ = ["Finding", "Findings", "Report"]


@dataclass(frozen=True, kw_only=True, order=True)
class Finding:
    """One thing found.

    Attributes:
        where: the file or recording, relative to the store.
        check: file, checksum, metadata, schema, time, labels, split, current, fingerprint, source, frames or gaps.
        message: one line.
    """

    where: str
    check: str
    message: str

    def to_dict(self) -> dict[str, str]:
        return {"where": self.where, "check": self.check, "message": self.message}


class Findings:
    """Collects findings, each once."""

    def __init__(self) -> None:
        self.damage: dict[Finding, None] = {}
        self.remarks: dict[Finding, None] = {}

    def damaged(self, where: str, check: str, message: str) -> None:
        self.damage[Finding(where=where, check=check, message=message)] = None

    def remark(self, where: str, check: str, message: str) -> None:
        self.remarks[Finding(where=where, check=check, message=message)] = None

    def is_damaged(self, where: str) -> bool:
        """Whether a file, or anything below a folder, is damaged."""
        return any(f.where == where or f.where.startswith(where + "/") for f in self.damage)


@dataclass(frozen=True, kw_only=True)
class Report:
    """All findings of one verification, in order of place, and what was looked at."""

    store: str
    source: str | None
    damage: tuple[Finding, ...]
    remarks: tuple[Finding, ...]
    recordings: int
    files: int
    bytes: int

    @property
    def ok(self) -> bool:
        """No damage; there may be remarks."""
        return not self.damage

    def to_dict(self) -> dict[str, Any]:
        return {
            "store": self.store,
            "source": self.source,
            "ok": self.ok,
            "damage": [f.to_dict() for f in self.damage],
            "remarks": [f.to_dict() for f in self.remarks],
            "checked": {"recordings": self.recordings, "files": self.files, "bytes": self.bytes},
        }

    def to_text(self) -> str:
        lines = [f"damage  {f.where}: {f.message}" for f in self.damage]
        lines += [f"remark  {f.where}: {f.message}" for f in self.remarks]
        verdict = "sound" if self.ok else "DAMAGED: convert again, or take a copy that is whole"
        looked = f"{counted(self.recordings, 'recording')}, {counted(self.files, 'file')}, {self.bytes / 2**20:.1f} MiB"
        against = f", compared with {self.source}" if self.source else ""
        found = f"{counted(len(self.damage), 'damage')}, {counted(len(self.remarks), 'remark')}"
        lines.append(f"{self.store}: {verdict} ({looked}{against}; {found})")
        return "\n".join(lines)
