"""The embedded marker model: names from a marker table and the sample's own structure, without any reference.

Steps follow part 2.2 of the project's annotation methods. `panel` joins table and sample, `scores` scores a cell
by itself, `embedding` finds neighbours, `chain` learns one level of types from a sample of cells, `labels` turns
posteriors into labels. Nothing here reads or writes files.

Every cell is a function of its own counts and of what was learnt: products are made row by row (`row_product`), so
the block in which a cell arrives, and the number of threads, cannot change a bit of its result.
"""
