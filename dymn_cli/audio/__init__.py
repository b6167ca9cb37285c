"""From a source to windows at 32 kHz: decode, resample, cut; memory does not grow with the length.

    open_audio ──▶ AudioReader.blocks ──▶ to_mono_32k / channels_32k ──▶ windows

This file imports nothing: soundfile, soxr and PyAV load with the modules that need them.
"""
