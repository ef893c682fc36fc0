"""Tars that are whole. What enters: a tar that is being read. What leaves: members, or an error where it ends."""

from __future__ import annotations

import tarfile
from typing import Self


class StrictMember(tarfile.TarInfo):
    """Python takes a tar that breaks off between members, or has a damaged header, for one that ends there."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no member and no end mark at byte {tar.offset} ({error})") from error
