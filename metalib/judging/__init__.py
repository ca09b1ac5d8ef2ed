"""What a number is worth: evaluation, audit, certificates, and the checks of exercises."""
