"""Many sources: analysed in parallel, results written in order, runs that can be resumed."""
