"""Every patch on the internals of other projects, each with a test that fails when that project moves."""
