"""What happens when: sources, Dagster definitions, checks, schedules, the command line. Holds no formula and no SQL longer than a line."""
