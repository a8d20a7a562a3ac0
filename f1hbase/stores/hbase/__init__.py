"""HBase through its Thrift gateways: connection, calls, codec, tables, shell."""
