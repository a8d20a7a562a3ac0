"""What every source asked over HTTP shares: rate limits, circuit breaker, kinds of failures."""
