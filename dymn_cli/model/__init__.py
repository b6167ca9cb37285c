"""The architectures of the paper: DyMN and its static sibling MN."""
