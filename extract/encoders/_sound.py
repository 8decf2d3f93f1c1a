"""What the encoders of sound share: a whole recording is given, on disk or not, and rows come out in pieces."""

from abc import abstractmethod
from collections.abc import Iterator

from cache.errors import DataError
from cache.records import Modality, Track
from extract.blocks import Waveform
from extract.encoders._frozen import FrozenEncoder


class SoundEncoder(FrozenEncoder[Waveform]):
    """One Waveform of a whole recording in. Memory does not grow with its length: samples are read by slices."""

    modality: Modality = "audio"

    @abstractmethod
    def pieces(self, sound: Waveform) -> Iterator[Track]:
        """Rows of sound with at least one sample, in order of time."""

    def tracks(self, sound: Waveform) -> Iterator[Track]:
        """Rows in order of time, some seconds of them in a piece; none for no samples.

        Raises DataError for sound at another rate than the encoder's.
        """
        if sound.rate != self.rate:
            told = f"{self.published.name} was given sound at {sound.rate} Hz, wants {self.rate} Hz"
            raise DataError(told, hint="resample it first")
        if len(sound.samples):
            yield from self.pieces(sound)

    def push(self, sound: Waveform) -> Track:
        """All rows at once."""
        return Track.concat(list(self.tracks(sound)), self.dim)
