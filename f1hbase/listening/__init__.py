"""What every HTTP server of f1hbase does about those who ask; knows no route and no store."""
