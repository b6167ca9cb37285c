"""Find recordings that sound alike, by their embeddings.

matrix        embeddings of a library: rows, what each row is, what made them
similarity    whitening, and the figure from 0 to 1
index         the rows nearest to a query, exactly, block by block
grouping      groups of near-duplicates
same_sound    whether two recordings hold the same sound
query         the embedding of a recording, made as those of the library were

from dymn_cli.search import Index

for match in Index.open("lib.npy").search("query.wav", top=20):
print(match.similarity, match.place.source)
"""

from dymn_cli.search.grouping import Group, Grouping, group_duplicates
from dymn_cli.search.index import Index, Match
from dymn_cli.search.matrix import Library, Place, open_library
from dymn_cli.search.same_sound import SameSound

__all__ = [
    "Group",
    "Grouping",
    "Index",
    "Library",
    "Match",
    "Place",
    "SameSound",
    "group_duplicates",
    "open_library",
]
