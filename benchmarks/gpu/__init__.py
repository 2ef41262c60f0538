"""The parts of ``rephase bench gpu_check``."""
