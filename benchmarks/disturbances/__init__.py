"""Disturbances: killed tasks, full disks, flipped bits in stored files, and two processes on one folder."""
