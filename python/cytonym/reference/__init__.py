"""From labelled files to a reference: what is read, which cells are taken, what labels mean, the bundle folder."""
