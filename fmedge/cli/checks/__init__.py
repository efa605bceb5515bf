"""What `fmedge doctor` looks at, one subject a file; nothing here changes anything."""
