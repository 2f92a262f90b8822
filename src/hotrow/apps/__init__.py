"""Programs you run. `hotrow --help` lists them."""
