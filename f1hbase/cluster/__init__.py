"""Loading from a landing zone into HBase's own files (HFiles) by Spark: what outgrows one machine.

Spark is imported where it is started alone, so that whoever loads otherwise needs none. Knows no Thrift.
"""
