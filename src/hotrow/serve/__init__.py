"""The server: what a folder holds, by HTTP, while others save there."""
