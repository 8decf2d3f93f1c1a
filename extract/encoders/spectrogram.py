"""ResNet18 over log-mel spectrograms: one 512-d row every 40 ms of sound, each seeing 1.07 s.

Model: the aural half of Kuhnke et al., "Two-Stream Aural-Visual Affect Analysis in the Wild", FG 2020
(https://arxiv.org/abs/2002.03399), and of Praveen et al., "A Joint Cross-Attention Model for Audio-Visual Fusion in
Dimensional Emotion Recognition", CVPRW 2022 (https://arxiv.org/abs/2203.14779): the ResNet of He et al., CVPR 2016, as
built by timm (Apache-2.0), over one channel. The constants are theirs: 64 mel bands every 10 ms at 44.1 kHz, 80 dB
below the loudest of a window cut off. A window has 107 columns as in the second paper's code; sound beyond the
recording is silence. No weights are published in a safe format; torchvision's and timm's names of tensors are read,
``fc`` left out. ``micro`` is the same, tiny, for tests.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cache.errors import UsageError
from cache.records import Track
from extract.blocks import SampleRows, Waveform
from extract.encoders import ENCODERS
from extract.encoders._base import batches
from extract.encoders._precision import Precision, computing
from extract.encoders._published import Found, Published
from extract.encoders._resnet import Architecture
from extract.encoders._sound import SoundEncoder
from extract.encoders._trainable import Places, Times, TrainableEncoder, holding

if TYPE_CHECKING:
    import torch

RATE = 44_100
MEL = {"n_fft": 1024, "win_length": 882, "hop_length": 441, "n_mels": 64}
COLUMN_S = MEL["hop_length"] / RATE  # 10 ms
TOP_DB, MEAN_DB, STD_DB = 80.0, -14.8, 19.895


@ENCODERS.register("spectrogram")
class Spectrogram(SoundEncoder, TrainableEncoder[Waveform]):
    """One Waveform of a whole recording in, a row every ``hop_s`` out; a row holds for its hop, the last for less.

    ``causal``: the window ends where the hop ends; ``centred``: their middles meet.
    """

    @dataclass(frozen=True)
    class Config:
        """hop_s, window_s: seconds. batch_size counts windows."""

        size: Literal["base", "micro"] = "base"
        weights: str = "hub"
        precision: Precision = "float32"
        batch_size: int = 32
        hop_s: float = 0.04
        window_s: float = 1.07
        placement: Literal["causal", "centred"] = "causal"

    rate = RATE
    library = "timm"
    architecture = Architecture("BasicBlock", (2, 2, 2, 2))
    published = Published("spectrogram", ())
    tensor_names = ((r"^fc\.", None),)

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        for name, least in (("hop_s", 0.001), ("window_s", 0.03)):
            if getattr(cfg, name) < least:
                raise UsageError(f"spectrogram {name} = {getattr(cfg, name)} s", hint=f"set it to {least} or more")
        self.columns = round(cfg.window_s / COLUMN_S)
        self.mel: Any = None

    @property
    def dim(self) -> int:
        """512 for base, 64 for micro."""
        return self.architecture.dim(self.cfg.size)

    def settings(self) -> dict[str, Any]:
        """The config's and the constants of the spectrogram."""
        constants = {**MEL, "rate": RATE, "top_db": TOP_DB, "mean_db": MEAN_DB, "std_db": STD_DB, "edges": "silence"}
        return {**super().settings(), "mel": constants}

    def build(self, found: Found) -> "torch.nn.Module":
        """timm's ResNet18 over one channel, without its classifier."""
        return self.architecture.build(self.cfg.size, channels=1)

    def load(self, device: "torch.device") -> None:
        """The network, and torchaudio's spectrogram."""
        from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

        super().load(device)
        self.mel = (MelSpectrogram(RATE, **MEL).to(device), AmplitudeToDB("power", TOP_DB))

    def pieces(self, sound: Waveform) -> Iterator[Track]:
        """samples: f32[S] at 44.1 kHz -> ceil(S / hop) rows, a batch of windows at a time."""
        edges = self._edges(len(sound.samples))
        spans, done = self._spans(edges, sound), 0

        def embedded(starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            mel = self._mel(sound.samples, starts)
            with computing(self.cfg.precision, self.device):
                return self.embed(mel).float().cpu().numpy()

        for starts, values in self.fitting.each(self._starts(edges), embedded):
            yield Track(spans[done : done + len(starts)], values)
            done += len(starts)

    def inputs_at(self, sound: Waveform, times: Times) -> "Iterator[tuple[Places, torch.Tensor]]":
        """f32[b,1,64,columns]: the spectrograms of the rows that hold at ``times``."""
        edges = self._edges(len(sound.samples))
        places, rows = holding(self._spans(edges, sound), times)
        starts = self._starts(edges)[rows]
        for some in batches(np.arange(len(places)), self.cfg.batch_size):
            yield places[some], self._mel(sound.samples, starts[some])

    def embed(self, inputs: "torch.Tensor") -> "torch.Tensor":
        """Spectrograms f32[B,1,64,columns] -> f32[B,D]."""
        return self.net(inputs)

    def _edges(self, count: int) -> npt.NDArray[np.int64]:
        """Where rows begin, and the end of the last one: i64[R+1], in samples."""
        hop = self.cfg.hop_s * RATE
        edges = np.round(np.arange(int(np.ceil(count / hop)) + 1) * hop).astype(np.int64)
        return np.r_[edges[edges < count], count]

    def _spans(self, edges: npt.NDArray[np.int64], sound: Waveform) -> npt.NDArray[np.float64]:
        """f64[R,2], seconds."""
        return sound.start + np.stack([edges[:-1], edges[1:]], axis=1) / RATE

    def _starts(self, edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where each row's window begins, in samples; the last, shorter hop is placed as a whole one."""
        length, hop = self.columns * MEL["hop_length"], round(self.cfg.hop_s * RATE)
        return edges[:-1] + (hop - length if self.cfg.placement == "causal" else (hop - length) // 2)

    def _mel(self, samples: SampleRows, starts: npt.NDArray[np.int64]) -> "torch.Tensor":
        """Windows of the sound at ``starts`` -> normalised log-mel spectrograms f32[B,1,64,columns]."""
        import torch

        length = self.columns * MEL["hop_length"]
        windows = np.stack([_cut(samples, start, length) for start in starts.tolist()])  # (B, length)
        with computing("float32", self.device):
            power = self.mel[0](torch.from_numpy(windows).to(self.device)[:, None])[..., : self.columns]
            return (self.mel[1](power) - MEAN_DB) / STD_DB


def _cut(samples: SampleRows, start: int, length: int) -> npt.NDArray[np.float32]:
    """``length`` samples from ``start`` on, silence where there are none."""
    inside = samples[max(start, 0) : max(start + length, 0)]
    before = min(max(-start, 0), length)
    return np.pad(inside, (before, length - before - len(inside)))
