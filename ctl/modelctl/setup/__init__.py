"""
What `modelctl init` finds on a machine, and what it makes of that.

`places` names folders, `looking` counts what is in them, `disks` tells what they are on, `choosing`
decides.  Only the last one judges, and only the first three look; none of them writes.
"""
