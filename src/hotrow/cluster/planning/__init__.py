"""How many shards and machines a table needs, without any: bytes by arithmetic, steps in simulated time.

costs       what parts of a step cost, and how many of a batch's ids are distinct
events      simulated time: cores, links, processes
simulation  an owner, its shards and workers in it
plan        the fewest shards that hold so many rows and are quick enough
measuring   costs, measured on this machine
measured    those of the developers' machine
"""
