"""Beyond one machine: the stages of a batch run as a stage of Ray Data, and a Parquet data set of results.

    cluster   finds or starts Ray
    worker    what an actor does with sources, in worker processes of its own
    dataset   `tag_dataset`: recordings as rows in, tags and embeddings as rows out
    engine    `--engine ray`: sources in parts, long ones in stretches, each exactly once
    output    the data set: files by shard, what is in them, what failed

Ray (the extra `ray`) is loaded when one of these is used.
"""

from dymn_cli.scale.dataset import tag_dataset

__all__ = ["tag_dataset"]
