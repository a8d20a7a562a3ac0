"""FastF1 as a source: laps with their tyres, weather, results and telemetry, through the genuine library."""
