"""One page to look at and listen to what was found: a single HTML file that needs no network.

events ──▶ gather ──▶ Report ──▶ page ──▶ HTML
             │           ▲
      audio.clock   sound: spectrograms, links, embedded audio

model       what a page shows
gather      takes results one by one, counts all of them, keeps as many events as the page holds
locate      where the audio of a finished result lies
spectrogram the log-mel of a recording as small pictures, in bounded memory
sound       what of a recording goes into the page: pictures, a link or a copy
decisions   what a reviewer has decided, read back
page        the file: the template, style and scripts of static/, filled in

Only `page` knows HTML, and only `static/` knows how the page behaves.
"""
