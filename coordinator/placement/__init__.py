"""Where heads and how many local steps are worth it: pilots in the emulator, and arithmetic on their figures."""
