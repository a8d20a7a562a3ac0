"""The sink: everything that knows Thrift and HBase."""
