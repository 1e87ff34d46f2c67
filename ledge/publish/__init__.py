"""Ways for a job's figures into its ClassAd."""
