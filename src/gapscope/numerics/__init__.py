"""Mathematics: tensors and closures in, numbers out. No params, no files, no seeding of its own."""
