"""What reads uploaded files inside a jail: a process for each file, its text going out as it is found."""
