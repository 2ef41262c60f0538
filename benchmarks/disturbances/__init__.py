"""What happens to work that is killed, to full disks, to stored files with a flipped bit, to folders of two processes."""
