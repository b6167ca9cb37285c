"""One source in, one result out: `tagger.py` is the file to read first."""
