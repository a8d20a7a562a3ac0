"""One pure function a topic over messages: what turns them into the records of an endpoint."""
