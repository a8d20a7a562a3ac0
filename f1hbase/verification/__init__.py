"""What `f1hbase.verify` is made of: what should be there, what is counted, and how it is told."""
