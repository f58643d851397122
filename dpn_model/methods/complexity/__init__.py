"""Image complexity as a router: fixed thresholds choose every sample's kernel."""
