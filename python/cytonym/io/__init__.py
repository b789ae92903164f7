"""Readers and writers, one pair a file format. 10x files are features x barcodes; here they become cells x features."""
