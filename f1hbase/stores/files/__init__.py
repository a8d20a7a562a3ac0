"""Landing zones: answers kept as objects in a folder or an object store, and what is known of them."""
