"""What every target has in common: the contract, and legalization by decomposing ops."""

from edgec.target.contract import (
    NATIVE,
    Artifact,
    Executable,
    Signature,
    StoredAs,
    Support,
    Target,
    Verdict,
)
from edgec.target.legalize import legalized

__all__ = [
    "NATIVE",
    "Artifact",
    "Executable",
    "Signature",
    "StoredAs",
    "Support",
    "Target",
    "Verdict",
    "legalized",
]
