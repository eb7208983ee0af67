"""What a machine makes of the engine: time, arithmetic, memory, and how near its limits that is. Shows nothing."""
