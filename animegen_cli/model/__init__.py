"""The model core: noise, schedules, samplers, losses, networks and families. Knows no data set, no run and no command."""
