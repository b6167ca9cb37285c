"""Pictures of a recording: its spectrogram, and what was heard when."""
