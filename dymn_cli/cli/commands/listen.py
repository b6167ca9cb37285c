"""`dymn listen`: what sounds now?"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, flag, opt
from dymn_cli.cli.options.groups import Descendants, Exclude, ExecOptions, Label, ModelOptions, Precision
from dymn_cli.cli.options.panels import INPUT, OUTPUT, SELECT, TIME
from dymn_cli.cli.signals import stop_on_signals
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.errors import BackendUnavailableError, InputError, OutputError, UsageError
from dymn_cli.values import require_choice

if TYPE_CHECKING:
    from dymn_cli.cli.hooks import Hooks
    from dymn_cli.cli.views.live import LiveTable
    from dymn_cli.live.clips import ClipKeeper
    from dymn_cli.live.listener import Heard, Listener, LiveEvent, Totals, Update
    from dymn_cli.live.sources import LiveSource
    from dymn_cli.tagging.selection import Selection
    from dymn_cli.tagging.tagger import Tagger

__all__ = ["register"]

FORMATS = ("table", "tsv", "jsonl")
SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "tcp", "udp")
HELP = """Listen to live sound: events as they happen.

  dymn listen
  dymn listen rtsp://camera/audio -l Dog --save barks/
  ffmpeg -loglevel error -i INPUT -f wav - | dymn listen -

Every second, the last 10 s are scored. Shows a table on a terminal; in a pipe, a line per event when it
ends, flushed at once: source, channel, start_s, end_s, label, score, clock (UTC), and with --save the file.
Formats: table, tsv, jsonl, which also says when an event begins. --tags prints the best tags of each window
instead. Times are seconds since listening began.

Listens to the default microphone (pip install 'dymn[live]'), to mic:NAME, to an address of a stream (http,
https, rtsp, rtmp, tcp, udp; pip install 'dymn[media]'), or to a pipe. A stream or device that is gone is
connected again. DYMN_OFFLINE=1 forbids streams.

Where the model is slower than the sound, windows are left out, and a warning says so. Ctrl-C stops: a
summary says what was heard.
"""


@dataclass(frozen=True, slots=True)
class ListenInput:
    """What is listened to."""

    source: Annotated[
        str, arg("SOURCE", "mic, mic:NAME or mic:NUMBER, the address of a stream, or - for a pipe.")
    ] = "mic"
    list_devices: Annotated[bool, flag("--list-devices", "Print the microphones, and exit.", INPUT)] = False
    reconnect: Annotated[
        float, opt("--reconnect", "S", "Give up a stream or device that is gone for S seconds.", INPUT)
    ] = 600.0
    raw: Annotated[
        str | None,
        opt("--raw", "CODING:RATE:CHANNELS", "Bare samples in a pipe, e.g. s16le:48000:1.", INPUT),
    ] = None
    channel: Annotated[str, opt("--channel", "mix|N", "Mean of all, or one (from 0).", INPUT)] = "mix"
    window: Annotated[float, opt("--window", "S", "Seconds per window.", TIME)] = 10.0
    hop: Annotated[float, opt("--hop", "S", "Seconds from one window to the next.", TIME)] = 1.0


@dataclass(frozen=True, slots=True)
class ListenSelect:
    """What is told of it."""

    tags: Annotated[bool, flag("--tags", "The tags of each window instead of events.", SELECT)] = False
    label: Label = field(default_factory=list)
    exclude: Exclude = field(default_factory=list)
    descendants: Descendants = False
    on: Annotated[
        float | None,
        opt("-t --on", "X", "An event reaches this score (default: 0.16); --tags: only such scores.", SELECT),
    ] = None
    off: Annotated[
        float | None,
        opt("--off", "X", "It ends when the score falls below X (default: 0.4 of --on).", SELECT),
    ] = None
    # More than in a file: the newest steps, which nothing follows yet, are less sure.
    max_gap: Annotated[float, opt("--max-gap", "S", "Join events up to S apart.", SELECT)] = 1.0
    top: Annotated[int, opt("-k --top", "N", "--tags and the table: the N best tags; 0 for all.", SELECT)] = 5


@dataclass(frozen=True, slots=True)
class ListenOutput:
    """Where it goes."""

    format: Annotated[
        str | None, opt("-f --format", "table|tsv|jsonl", "Default: table on a terminal, else tsv.", OUTPUT)
    ] = None
    header: Annotated[bool, flag("--header/--no-header", "Column names in tsv.", OUTPUT)] = False
    save: Annotated[str | None, opt("--save", "DIR", "Keep the sound of each event in DIR.", OUTPUT)] = None
    pre_roll: Annotated[float, opt("--pre-roll", "S", "--save: seconds before each event.", OUTPUT)] = 1.0
    max_length: Annotated[
        float, opt("--max-length", "S", "--save: of a longer event, the first S seconds.", OUTPUT)
    ] = 60.0
    clip_format: Annotated[str, opt("--clip-format", "wav|flac|...", "--save: of the files.", OUTPUT)] = "wav"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "listen", help=HELP)(listen)


def listen(
    source: ListenInput,
    model: ModelOptions,
    select: ListenSelect,
    output: ListenOutput,
    hook: ExecOptions,
    messages: Messages,
    *,
    precision: Precision = 4,
) -> None:
    """Listen until the sound ends, or Ctrl-C."""
    if source.list_devices:
        _list_devices()
        return
    form = output.format or ("table" if is_terminal(sys.stdout) else "tsv")
    require_choice("format", form, FORMATS)
    if select.tags and (output.save is not None or hook.exec_ is not None):
        raise UsageError("--save and --exec are for events, not for --tags")
    sound = _open_source(source)
    with ExitStack() as stack:
        _Session(sound, source, model, select, output, hook, messages, form, precision, stack).run()


def _open_source(source: ListenInput) -> LiveSource:
    from dymn_cli.live.sources import PipeSource, Reconnecting

    kind, _, detail = source.source.partition(":")
    if source.raw is not None and source.source != "-":
        raise UsageError("--raw is for a pipe", hint="... | dymn listen - --raw s16le:48000:1")
    if not 0 <= source.reconnect < float("inf"):
        raise UsageError(f"--reconnect {source.reconnect:g} is no time in seconds")
    if source.source == "-":
        if is_terminal(sys.stdin):
            hint = "pipe sound into it: ffmpeg ... -f wav - | dymn listen -"
            raise UsageError("standard input is a terminal", hint=hint)
        # Unbuffered: a read gives what is there, and none holds a lock when the program ends.
        return PipeSource(open(0, "rb", buffering=0, closefd=False), source.raw)
    if kind == "mic":
        from dymn_cli.live.microphone import microphone_blocks

        connect = partial(microphone_blocks, detail or None, source.channel, source.source)
        return Reconnecting(source.source, connect, give_up_s=source.reconnect)
    if kind.lower() in SCHEMES and detail.startswith("//"):
        return _open_stream(source.source, source.reconnect)
    raise UsageError(
        f"dymn listen {source.source}: neither mic, an address, nor - for a pipe",
        hint="for recordings: dymn events",
    )


def _open_stream(address: str, give_up_s: float) -> LiveSource:
    from dymn_cli.live.sources import Reconnecting, Sound
    from dymn_cli.store.download import OFFLINE, is_offline, shown

    if is_offline():
        raise InputError(f"{OFFLINE} is set, so no stream is opened", hint="unset it, or listen to a pipe")
    try:
        name = shown(address)  # without a password
    except ValueError as exc:
        raise UsageError(f"{address!r} is not an address: {exc}") from exc
    try:
        from dymn_cli.audio.network import stream_blocks
    except ImportError as exc:
        raise BackendUnavailableError("streams need PyAV", hint="pip install 'dymn[media]'") from exc

    def connect() -> Iterator[Sound]:
        for rate_hz, samples in stream_blocks(address, name):
            yield Sound(samples, rate_hz)

    return Reconnecting(name, connect, give_up_s=give_up_s)


def _list_devices() -> None:
    """Print number, name, channels, rate, and which one is the default, a line each."""
    from dymn_cli.cli.terminal.tables import print_bytes
    from dymn_cli.live.microphone import input_devices
    from dymn_cli.writers.to_tsv import tsv_line

    devices = input_devices()
    if not devices:
        raise InputError("no device here records sound")
    for device in devices:
        place = "default" if device.is_default else ""
        print_bytes(tsv_line((device.number, device.name, device.channels, device.rate_hz, place)))


class _Session:
    """One run of the command: opens what it needs, and writes what is heard."""

    def __init__(
        self, sound: LiveSource, source: ListenInput, model: ModelOptions, select: ListenSelect,
        output: ListenOutput, hook: ExecOptions, messages: Messages, form: str, precision: int,
        stack: ExitStack,
    ) -> None:  # fmt: skip
        from dymn_cli.cli.hooks import Hooks
        from dymn_cli.live.clips import ClipKeeper, ClipKeeping
        from dymn_cli.live.listener import Listener
        from dymn_cli.tagging.events import EventOptions
        from dymn_cli.tagging.options import TagOptions
        from dymn_cli.tagging.selection import Selection

        events = EventOptions(
            on=select.on,
            off=select.off,
            labels=tuple(select.label),
            exclude=tuple(select.exclude),
            descendants=select.descendants,
            max_gap_s=select.max_gap,
        )
        options = TagOptions(
            window_s=source.window,
            hop_s=source.hop,
            channel=source.channel,
            frame_scores=not select.tags,
            top=select.top,
            min_score=0.0 if not select.tags or select.on is None else select.on,
            labels=tuple(select.label),
            exclude=tuple(select.exclude),
            descendants=select.descendants,
        )
        keeping = ClipKeeping(
            before_s=output.pre_roll, max_length_s=output.max_length, format=output.clip_format.lstrip(".")
        )
        self._messages, self._form, self._precision = messages, form, precision
        self._is_events, self._channel, self._name = not select.tags, source.channel, sound.name
        self._source = sound
        self._files: dict[int, str] = {}
        self._hooks: Hooks | None = None
        if hook.exec_ is not None:
            self._hooks = Hooks(hook.exec_, hook.timeout_s, messages.warning, is_live=True)
        self._tagger: Tagger = stack.enter_context(model.open_tagger(options))
        self._tagger.require_tags()
        self._selection: Selection = Selection(options, self._tagger.vocabulary)
        self._keeper: ClipKeeper | None = None if output.save is None else ClipKeeper(output.save, keeping)
        self._listener: Listener = Listener(
            self._tagger,
            None if select.tags else events,
            name=sound.name,
            on_sound=None if self._keeper is None else self._keeper.hear,
            long_s=None if self._keeper is None else output.max_length,
        )
        self._table: LiveTable | None = None
        if form == "table":
            from dymn_cli.cli.views.live import LiveTable

            self._table = stack.enter_context(LiveTable(messages.stdout_console(), precision, "Ctrl-C stops"))
        elif form == "tsv" and output.header:
            self._write(self._header())

    def run(self) -> None:
        """Listen until the sound ends.

        Raises:
            KeyboardInterrupt: Ctrl-C has stopped it, in order.
        """
        from dymn_cli.live.reader import Reader

        try:
            with stop_on_signals(self._listener.stop) as signals, Reader(self._source) as reader:
                for update in self._listener.listen(reader):
                    self._show(update)
        finally:
            if self._hooks is not None:
                self._hooks.close(10.0)
            totals = self._listener.totals
            if totals.sound_s or sys.exc_info()[0] is None:  # else the error says enough
                self._messages.note(_summary(totals, self._keeper, self._hooks, self._is_events))
        if signal.SIGINT in signals:
            raise KeyboardInterrupt
        if signals:
            raise SystemExit(128 + signals[0])

    def _show(self, update: Update) -> None:
        from dymn_cli.live import lines
        from dymn_cli.live.listener import DropOut, Heard, LiveEvent
        from dymn_cli.live.sources import Notice

        if isinstance(update, LiveEvent):
            self._event(update)
        elif isinstance(update, Heard):
            self._heard(update)
        elif isinstance(update, Notice):
            self._messages.warning(f"{self._name}: {update.text}")
        elif isinstance(update, DropOut):
            if not update.is_told:
                self._messages.warning(f"{self._name}: {update.reason}; listening on")
            if self._form == "jsonl":
                self._write(lines.drop_out_json(self._name, update))
        else:
            lost = f", {update.lost_s:.1f} s of sound not heard" if update.lost_s else ""
            self._messages.warning(
                f"the model does not keep up: {update.n_skipped} windows left out{lost}",
                hint=f"up to {update.hop_s:g} s between windows; a larger --hop or a smaller model helps",
            )

    def _heard(self, heard: Heard) -> None:
        from dymn_cli.live import lines

        self._messages.detail(f"window to {heard.window.end_s:.1f} s, {heard.lag_s * 1000:.0f} ms after it")
        if self._table is not None:
            self._table.tags(heard, self._selection.tags(heard.window.scores))
        elif not self._is_events:
            line = lines.tags_json if self._form == "jsonl" else lines.tags_rows
            tags = self._selection.tags(heard.window.scores)
            self._write(line(self._name, self._channel, heard, tags, self._precision))

    def _event(self, live: LiveEvent) -> None:
        from dymn_cli.live import lines

        if live.phase != "begin" and self._keeper is not None and live.number not in self._files:
            self._files[live.number] = self._save(live)
        if live.phase == "long":
            return
        file = self._files.pop(live.number, "") if live.phase == "end" and self._keeper else None
        as_json = lines.event_json(live, self._precision, file)
        if self._table is not None:
            self._table.event(live)
        elif self._form == "jsonl":
            self._write(as_json)
        elif live.phase == "end":
            self._write(lines.event_row(live, self._precision, file))
        if live.phase == "end" and self._hooks is not None:
            self._hooks.submit(as_json)

    def _save(self, live: LiveEvent) -> str:
        assert self._keeper is not None
        try:
            return self._keeper.save(live.event, live.clock)
        except OutputError as error:  # listening goes on: the disk may have room again
            self._messages.warning(error.message, error.hint)
            return ""

    def _header(self) -> bytes:
        from dymn_cli.live import lines
        from dymn_cli.writers.to_tsv import tsv_line

        columns = lines.EVENT_COLUMNS if self._is_events else lines.TAG_COLUMNS
        return tsv_line((*columns, "file") if self._keeper is not None else columns)

    def _write(self, line: bytes) -> None:
        if not line:
            return
        try:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as exc:
            from dymn_cli.errors import os_error_text

            raise OutputError(os_error_text("standard output", exc)) from exc


def _summary(totals: Totals, keeper: ClipKeeper | None, hooks: Hooks | None, is_events: bool) -> str:
    from dymn_cli.values import counted

    parts = [f"heard {totals.sound_s:,.1f} s", counted(totals.n_windows, "window")]
    if is_events:
        parts.append(counted(totals.n_events, "event"))
    if keeper is not None:
        parts.append(counted(keeper.n_clips, "clip"))
    if hooks is not None:
        parts.append(f"{hooks.n_done} handed over, {hooks.n_failed + hooks.n_dropped} not")
    if totals.n_drop_outs:
        parts.append(counted(totals.n_drop_outs, "drop-out"))
    if totals.n_skipped:
        parts.append(f"{counted(totals.n_skipped, 'window')} left out")
    if totals.lost_s:
        parts.append(f"{totals.lost_s:.1f} s not heard")
    if totals.n_repaired:
        parts.append(f"{counted(totals.n_repaired, 'block')} with samples that are no numbers")
    return ", ".join(parts)
