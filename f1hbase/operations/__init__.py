"""What one does with what is loaded: status, estimates, checks, verification, rollback."""
