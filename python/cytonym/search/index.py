"""The reference cells nearest to each cell: vectors in one file, searched exactly or, where there are many, by faiss."""
