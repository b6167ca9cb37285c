"""Recordings and results that are not on this machine: whatever fsspec has a driver for.

    s3://bucket/night.flac   gs://…   az://…   hf://datasets/…   https://host/x.flac
    zip://night.flac::s3://bucket/2024.zip   tar://night.flac::2024.tar.gz

A name with a scheme is a URI, and stays the name of its source in results. `uri` keeps credentials out of
such names, `store` finds, describes, lists and writes what they lead to, `reading` opens it as a file that
fetches ranges of bytes. fsspec (the extra `remote`) and its drivers load when the first URI is met. Where and
as whom they log in is their own business: their settings, their environment variables, the machine's role.

Network access happens here and in `dymn_cli.store.download` alone; `DYMN_OFFLINE` forbids both.
"""
