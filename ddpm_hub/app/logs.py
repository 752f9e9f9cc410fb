"""Nothing that is printed or logged holds a token.

In the room: stdout, stderr and log records of this process, with what looks like a secret struck
out. Not in the room: what a visitor is told (tabs/account.py has the same rule for errors). No
gradio.

A token can come in an address that a library logs, or in the text of an exception: neither is ours
to prevent everywhere, so the border is where text leaves the process.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from typing import Any, TextIO

# of the Hub; of any login, with or without its name; of links that are signed, or whose cookie is
SECRET = re.compile(
    r"hf_(?:oauth_)?[A-Za-z0-9]\w*"
    r"|(?<=Bearer )[^\s'\",]+"
    r"|(?<=[?&](?i:token)=)[^&\s'\"]+"
    r"|(?<=Signature=)[^&\s'\"]+"
    r"|(?<=Credential=)[^&\s'\"]+",
)
NAMES = re.compile(r"hf_(?:hub|home|xet|token|endpoint|transfer|oauth_scopes?|api)\b", re.I)
LONGEST = 65_536  # characters of a line that is held back until it ends


def hidden(text: str) -> str:
    """`text` with *** for all that looks like a secret."""
    return SECRET.sub(lambda found: found[0] if NAMES.fullmatch(found[0]) else "***", text)


class Redacted(io.TextIOBase):
    """A text stream that passes on whole lines, redacted; a flush passes on what there is.

    Lines, since a program may print "Bearer" and the token one after the other.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.held = stream, ""

    def write(self, text: str) -> int:
        """Hold back what may go on, pass on the rest."""
        *lines, self.held = (self.held + text).split("\n")
        if lines:
            self.stream.write(hidden("\n".join([*lines, ""])))
        if len(self.held) > LONGEST:
            self._pass_on()
        return len(text)

    def flush(self) -> None:
        """Pass on a line that has no end yet: a bar of progress, a question."""
        self._pass_on()
        self.stream.flush()

    def _pass_on(self) -> None:
        held, self.held = self.held, ""
        if held:
            self.stream.write(hidden(held))

    def writable(self) -> bool:
        """Yes: `print` asks."""
        return True

    def isatty(self) -> bool:
        """As the stream behind it: colours and bars depend on it."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """Of the stream behind it: whoever writes there writes past this."""
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream behind it."""
        return getattr(self.stream, "encoding", "utf-8")


class _Record(logging.LogRecord):
    """A record whose message is redacted, for handlers that write to files of their own."""

    def getMessage(self) -> str:
        return hidden(super().getMessage())


def install() -> None:
    """From here on, no secret in stdout, stderr or a log of this process. Twice is once."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is not None and not isinstance(stream, Redacted):
            setattr(sys, name, Redacted(stream))
    logging.setLogRecordFactory(_Record)
