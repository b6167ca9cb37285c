"""Small, sound files in every container and coding that this installation can write.

Mutants are made of them, so they are the same in each run: no random serial numbers, no times.
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
from fuzzing import ogg, torchfile

from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ModelConfig
from dymn_cli.model.layout import state_shapes
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.weights import save_weights

RATE = 16_000
LIBSNDFILE = {
    "WAV": "PCM_16 PCM_24 PCM_U8 FLOAT DOUBLE ULAW ALAW IMA_ADPCM MS_ADPCM GSM610 NMS_ADPCM_24 G721_32",
    "WAVEX": "PCM_16 FLOAT",
    "RF64": "PCM_16 FLOAT",
    "W64": "PCM_16 IMA_ADPCM",
    "AIFF": "PCM_16 PCM_24 FLOAT ULAW IMA_ADPCM DWVW_16 GSM610",
    "AU": "PCM_16 FLOAT ULAW G723_24",
    "CAF": "PCM_16 FLOAT ALAC_16 ALAC_32",
    "FLAC": "PCM_16 PCM_24",
    "OGG": "VORBIS OPUS",
    "MP3": "MPEG_LAYER_III",
    "AVR": "PCM_16",
    "HTK": "PCM_16",
    "SVX": "PCM_16",
    "MAT4": "PCM_16 DOUBLE",
    "MAT5": "PCM_16 FLOAT",
    "MPC2K": "PCM_16",
    "PAF": "PCM_16 PCM_24",
    "PVF": "PCM_16",
    "SDS": "PCM_16 PCM_24",
    "IRCAM": "PCM_16 FLOAT",
    "VOC": "PCM_16 ULAW",
    "NIST": "PCM_16 ULAW",
    "WVE": "ALAW",
    "XI": "DPCM_16",
}
FFMPEG = (
    ("m4a", "ipod", "aac", False),
    ("m4a", "ipod", "alac", False),
    ("mp4", "mp4", "aac", True),
    ("mov", "mov", "pcm_s16le", True),
    ("3gp", "3gp", "aac", False),
    ("mkv", "matroska", "aac", True),
    ("mka", "matroska", "pcm_s16le", False),
    ("mka", "matroska", "flac", False),
    ("webm", "webm", "libopus", False),
    ("webm", "webm", "vorbis", False),
    ("wma", "asf", "wmav2", False),
    ("wma", "asf", "wmav1", False),
    ("aac", "adts", "aac", False),
    ("ac3", "ac3", "ac3", False),
    ("eac3", "eac3", "eac3", False),
    ("mp2", "mp2", "mp2", False),
    ("ts", "mpegts", "mp2", True),
    ("flv", "flv", "aac", False),
    ("avi", "avi", "pcm_s16le", True),
    ("wv", "wv", "wavpack", False),
    ("tta", "tta", "tta", False),
    ("ra", "rm", "ac3", False),
    ("wav", "wav", "libmp3lame", False),
    ("ogg", "ogg", "flac", False),
    ("latm", "latm", "aac", False),
    ("mpg", "mpeg", "mp2", False),
    ("nut", "nut", "pcm_s16le", False),
    ("sox", "sox", "pcm_s32le", False),
    ("adx", "adx", "adpcm_adx", False),
    ("aptx", "aptx", "aptx", False),
    ("wsaud", "wsaud", "adpcm_ima_ws", False),
    ("wtv", "wtv", "mp2", False),
)


def signal(channels: int = 2, rate_hz: int = RATE, seconds: float = 0.2) -> np.ndarray:
    """(n, channels) float32: a chirp and some noise, 6 dB apart."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(3).standard_normal((len(t), channels)) * 0.1
    chirp = 0.4 * np.sin(2 * np.pi * (200 + 4000 * t) * t)
    return (chirp[:, None] + noise).astype(np.float32)


def with_libsndfile(container: str, codec: str) -> bytes | None:
    """A file of that kind, or None where libsndfile does not write it."""
    for channels, rate_hz in ((2, RATE), (1, RATE), (1, 8_000), (2, 44_100)):
        memory = io.BytesIO()
        try:
            with soundfile.SoundFile(memory, "w", rate_hz, channels, codec, format=container) as sound:
                sound.write(signal(channels, rate_hz))
        except (soundfile.LibsndfileError, ValueError):
            continue
        data = memory.getvalue()
        return ogg.with_checksums(data, serial=7) if container == "OGG" else data
    return None


def with_ffmpeg(muxer: str, codec: str, *, video: bool) -> bytes | None:
    """A file of that kind, or None where PyAV is missing or does not write it."""
    try:
        import av
    except ImportError:
        return None
    memory = io.BytesIO()
    try:
        with av.open(memory, "w", format=muxer, options={"fflags": "+bitexact"}) as container:
            sound = container.add_stream(codec, rate=48_000, layout="stereo")
            sound.bit_rate = 64_000
            sound.codec_context.options = {"strict": "-2", "flags": "+bitexact"}
            pictures = container.add_stream("mpeg4", rate=25) if video else None
            if pictures is not None:
                pictures.width = pictures.height = 32
                pictures.codec_context.options = {"flags": "+bitexact"}
                for shade in range(5):
                    pixels = np.full((32, 32, 3), shade * 40, np.uint8)
                    container.mux(pictures.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                container.mux(pictures.encode(None))
            planes = np.ascontiguousarray(signal(2, 48_000).T)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
            size = sound.codec_context.frame_size or 1024
            resampler = av.AudioResampler(sound.codec_context.format, "stereo", 48_000, size)
            for part in (*resampler.resample(frame), *resampler.resample(None)):
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
    except (av.error.FFmpegError, ValueError):
        return None
    return memory.getvalue()


def with_picture(size: int) -> bytes | None:
    """A film with some sound and a PNG picture of a few bytes that claims size × size pixels."""
    try:
        import av
    except ImportError:
        return None
    memory = io.BytesIO()
    with av.open(memory, "w", format="mov", options={"fflags": "+bitexact"}) as container:
        sound = container.add_stream("pcm_s16le", rate=8_000, layout="mono")
        pictures = container.add_stream("png", rate=25)
        pictures.width = pictures.height = 16
        pictures.pix_fmt = "rgb24"
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(pictures.encode(picture))
        container.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ones((1, 1_600), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8_000, 0, Fraction(1, 8_000)
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    data = bytearray(memory.getvalue())
    at = data.find(b"IHDR") + 4
    data[at : at + 8] = size.to_bytes(4, "big") * 2
    return bytes(data)


def audio_seeds() -> dict[str, bytes]:
    """File name → bytes."""
    seeds = {}
    for container, codecs in LIBSNDFILE.items():
        for codec in codecs.split():
            data = with_libsndfile(container, codec)
            if data is not None:
                seeds[f"{container}-{codec}.sf"] = data
    for suffix, muxer, codec, video in FFMPEG:
        data = with_ffmpeg(muxer, codec, video=video)
        if data is not None:
            seeds[f"{muxer}-{codec}{'-video' * video}.{suffix}"] = data
    return seeds


def table_seeds() -> dict[str, bytes]:
    """CSV files of thresholds and lists of names."""
    thresholds = 'mid,label,threshold\n/m/09x0r,Speech,0.3\n,"Subway, metro, underground",0.25\n,Dog,1e-2\n'
    names = ["a.wav", "folder/b c.flac", "[x]*?.ogg", "ü.mp3", "-", "./-n", "\udcff.wav", " ", "\t"]
    listed = "\n".join(names).encode("utf-8", "surrogateescape")
    return {
        "plain.csv": thresholds.encode(),
        "bom.csv": b"\xef\xbb\xbf" + thresholds.replace("\n", "\r\n").encode(),
        "names.txt": listed,
        "null.txt": listed.replace(b"\n", b"\0"),
    }


def model_header() -> ModelHeader:
    """The smallest architecture that the package has a graph for, with four classes."""
    config = ModelConfig("mn", 0.1, n_classes=4)
    return ModelHeader(
        "tiny", config, FrontEndConfig(), Vocabulary.from_names(["Dog", "Cat", "Rain, heavy", "é"])
    )


def safetensors_seed(folder: Path) -> Path:
    """A model with small random weights."""
    rng = np.random.default_rng(11)
    header = model_header()
    tensors = {
        key: np.abs(rng.normal(0, 0.1, shape)).astype(np.float32)
        for key, shape in state_shapes(header.config).items()
    }
    path = folder / "tiny.safetensors"
    save_weights(path, header, tensors)
    return path


def checkpoint_seed(folder: Path) -> Path:
    """The same network as `torch.save` would write it, counts of updates included."""
    rng = np.random.default_rng(13)
    tensors = {
        key: rng.random(shape, np.float32) if shape else np.array(1)
        for key, shape in state_shapes(model_header().config).items()
    }
    path = folder / "tiny.pt"
    path.write_bytes(torchfile.checkpoint(tensors))
    return path


def onnx_seed(folder: Path) -> Path | None:
    """A network of two layers that has the inputs, outputs and metadata of an exported one."""
    try:
        from onnx import TensorProto, helper, numpy_helper, save_model
    except ImportError:
        return None
    header = model_header()
    rng = np.random.default_rng(12)
    size, n_classes = header.config.embedding_size, header.config.n_classes
    widen = rng.standard_normal((128, size)).astype(np.float32)
    head = rng.standard_normal((size, n_classes)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["mel", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "widen"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "head"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("mel", TensorProto.FLOAT, ["batch", 1, 128, "n_frames"])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", n_classes]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", size]),
        ],
        [
            numpy_helper.from_array(np.array([1, 3], np.int64), "axes"),
            numpy_helper.from_array(widen, "widen"),
            numpy_helper.from_array(head, "head"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, header.to_metadata())
    path = folder / "tiny.onnx"
    save_model(model, path)
    return path


def write_seeds(folder: Path) -> None:
    """Write all seeds, those of audio into `audio/`, and so on."""
    for kind, seeds in (("audio", audio_seeds()), ("tables", table_seeds())):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            (folder / kind / name).write_bytes(data)
    (folder / "models").mkdir(exist_ok=True)
    safetensors_seed(folder / "models")
    checkpoint_seed(folder / "models")
    onnx_seed(folder / "models")
