"""What libraries lack for the optimisation side: schedules with exact ends."""
