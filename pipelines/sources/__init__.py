"""Where data comes from: one module a source type, all landing the same kind of batch.

Belongs here: reaching a source, reading it completely, writing what it said into a batch folder. Does not belong here: what the
values mean. Rows are judged by their contract when the batch is loaded, not while it is read.
"""
