"""How much a client may ask for, and how much waits."""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.errors import ParamsError


@dataclass(frozen=True)
class Limits:
    """The server's limits; each has an option of `bert-lora serve`.

    Attributes:
        body_bytes: of a request.
        texts: of a request.
        characters: of a text.
        waiting: texts that wait to be computed; what would exceed it is refused.
        batch: texts that are computed together.
        body_seconds: in which a client has to send its request.
        drain_seconds: in which accepted requests are answered when the server is told to stop.
    """

    body_bytes: int = 1 << 20
    texts: int = 256
    characters: int = 10_000
    waiting: int = 1024
    batch: int = 64
    body_seconds: float = 10.0
    drain_seconds: float = 30.0

    def check(self) -> None:
        """Check that a request of the largest size can be accepted.

        Raises:
            ParamsError: if it cannot.
        """
        if self.waiting < self.texts:
            raise ParamsError(
                f"bert-lora serve: --max-waiting {self.waiting} is less than "
                f"--max-texts {self.texts}",
                "raise --max-waiting or lower --max-texts",
            )
