"""Work that is killed, disks that are full, stored files with a flipped bit, folders of two processes."""
