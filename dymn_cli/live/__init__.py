"""Sound that is heard while it happens: from a pipe, a stream or a microphone, without an end.

    source ──▶ reader (thread, bounded queue) ──▶ listener (ring, windows, events) ──▶ updates
                                                     └▶ clips

Memory does not grow with time anywhere here.
"""
